//! Shared by the Rust workloads: `key=value` arguments, a clock, and slept service times.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // programs, whose output is their truth

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
pub fn now() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// Sleeps so many ms, if any, and gives how long that took.
pub fn service(ms: f64) -> u64 {
    let from = now();
    if ms > 0.0 {
        std::thread::sleep(Duration::from_secs_f64(ms / 1e3));
    }
    now() - from
}

/// A line of the truth.
pub fn say(key: &str, value: u64) {
    println!("{key}={value}");
}

/// The arguments of the program.
pub struct Options(BTreeMap<String, f64>);

impl Options {
    /// Those of this program.
    pub fn of_program() -> Self {
        let pairs = std::env::args().skip(1).map(|argument| {
            let (key, value) = argument.split_once('=').expect("key=value");
            (key.to_owned(), value.parse().expect("a number"))
        });
        Self(pairs.collect())
    }

    /// One of them, or its default.
    pub fn take(&mut self, key: &str, otherwise: f64) -> f64 {
        self.0.remove(key).unwrap_or(otherwise)
    }

    /// After the last: one that nobody asked for is a mistake in a table.
    pub fn end(self) {
        assert!(self.0.is_empty(), "unknown arguments {:?}", self.0);
    }
}
