//! One file per output format. Exporters write into `dyn Write`, know no clock, no terminal
//! and no file, and give the same bytes for the same trace.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod colors;
pub mod flamegraph;
pub mod folded;
pub mod html;
mod paths;

pub use colors::state_color;
