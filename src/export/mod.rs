//! One file per format. Exporters write into a `dyn Write`: they know no files, no clock and
//! no terminal, so the same trace gives the same bytes (promise P8).
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod colors;
pub mod flamegraph;
pub mod folded;
pub mod html;
pub mod json;
mod paths;
pub mod text;

pub use colors::state_color;
