//! timesink: run any program and be told where its time went.
#![deny(unsafe_code)]

pub mod analysis;
pub mod capture;
pub mod cli;
pub mod export;
pub mod model;
pub mod symbols;
pub mod trace;
