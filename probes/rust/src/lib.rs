//! In-process probe for Rust programs: `tracing` spans and events on the recorder's clock.
//!
//! A program that runs under `timesink run` finds a shared-memory file named in the environment
//! variable [`ENVIRONMENT`]; each of its threads writes what its spans do into a ring of its own
//! there, without locks and without ever waiting. The recorder drains the rings and puts spans
//! under their threads in every trace. Without a recorder the layer switches itself off.
//!
//! ```
//! timesink_probe::init();
//! let span = tracing::info_span!("settle", account = 7).entered();
//! tracing::info!(entries = 3, "booked");
//! drop(span);
//! ```
//!
//! Beside other layers, add [`layer`] to the stack, with a filter if only some spans matter:
//!
//! ```
//! use tracing_subscriber::prelude::*;
//! let subscriber = tracing_subscriber::registry().with(timesink_probe::layer());
//! tracing::subscriber::with_default(subscriber, || tracing::info!("one layer among others"));
//! ```
//!
//! A task of an async program is a span around its future: `.instrument(span)`, from the crate
//! `tracing`, enters it at each poll on whichever thread polls, and so shows when and where the task ran.
//!
//! [`Named`] gives a lock the name that reports call it by, where it has no better one than its address:
//!
//! ```
//! use std::sync::Mutex;
//! let accounts = timesink_probe::Named::new("accounts", Mutex::new(0));
//! *accounts.lock().unwrap() += 1;
//! ```
//!
//! # What it does not do
//!
//! - Processes in another PID namespace than the recorder's (containers inside the recording)
//!   are not recorded: their thread ids would name other threads.
//! - Set-user-id programs ignore the variable: whoever starts them chose its value.
//! - A thread that writes faster than the recorder drains loses whole spans and events, never
//!   half of one, and every lost record is counted.
//!
//! Without the default feature `layer` only the file's layout and the recorder's [`Reader`] are
//! built.
#![deny(unsafe_code)]

pub mod layout;
mod reader;
#[allow(unsafe_code)]
mod sys;

#[cfg(feature = "layer")]
mod layer;
#[cfg(feature = "layer")]
mod named;
#[cfg(feature = "layer")]
mod ring;
#[cfg(feature = "layer")]
mod writer;

#[cfg(feature = "layer")]
pub use layer::ProbeLayer;
#[cfg(feature = "layer")]
pub use layer::init;
#[cfg(feature = "layer")]
pub use layer::layer;
#[cfg(feature = "layer")]
pub use named::Named;
pub use reader::Message;
pub use reader::Reader;
pub use reader::What;
pub use sys::monotonic_ns;
pub use sys::pin_to_cpu;
pub use sys::thread_cpu_ns;

/// The environment variable that names the shared file: an absolute path.
pub const ENVIRONMENT: &str = "TIMESINK_PROBE";

/// Inode number of the PID namespace of this process, 0 where /proc does not tell.
fn pid_namespace() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let name = link.to_string_lossy();
    name.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
}
