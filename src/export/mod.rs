//! From a trace or a report to a format. Pure: every exporter writes into a `dyn Write`,
//! knows no files, clocks or terminals, and gives the same bytes for the same trace.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod chrome;
mod common;
pub mod perfetto;
