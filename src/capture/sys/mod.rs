//! The only home of `unsafe`: one file per kernel interface, each block with its reason.
#![allow(unsafe_code)]

pub mod bpf;
pub mod descriptors;
pub mod host;
pub mod perf_event;
pub mod process_vm;
pub mod shared;
pub mod signals;
pub mod spawn;
