//! The whole program, run as a user runs it: on every tier there is here, as root and as an
//! ordinary user, on programs that measure themselves, on real programs and on bad input.
//!
//! A test that needs what the machine lacks prints `skipped: why`; with `TIMESINK_NO_SKIP` set
//! it fails instead.
// Tests start programs, read files and wait for deadlines: they are the impure edge.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod attach;
mod bad_input;
mod gil;
#[path = "../python/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of the reader, which use all of it")]
mod interpreters;
mod labels;
mod musl;
mod passing;
mod pools;
mod processes;
mod program;
mod python;
mod quota;
mod real;
mod report;
mod tasks;
mod terminal;
mod truth;
mod words;
