//! From a trace to a report: folds over events. Pure: no files, formats, terminals, colours.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod report;
mod stacks;

pub use report::*;
pub use stacks::*;
