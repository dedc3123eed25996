//! The only home of `unsafe`: one file per kernel interface, each block with its reason.
#![allow(unsafe_code)]

pub mod perf_event;
pub mod process_vm;
