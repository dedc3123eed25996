//! What all examples share: arguments, work that takes a known time, the line of truth.
#![allow(dead_code, reason = "each example uses a part of it")]

use std::thread::JoinHandle;
use std::time::Duration;

pub use timesink_probe::monotonic_ns as now_ns;

/// Options given as `--name value`, or `--name` for a switch.
pub struct Args(Vec<String>);

impl Args {
    /// Reads the command line. `--help` prints the header of the example's `source`.
    pub fn parse(source: &str) -> Self {
        let given: Vec<_> = std::env::args().skip(1).collect();
        if given.iter().any(|arg| arg == "--help" || arg == "-h") {
            let header = source.lines().map_while(|line| line.strip_prefix("//!"));
            header.for_each(|line| say(line.trim_start()));
            std::process::exit(0);
        }
        Self(given)
    }
    /// The number after `--name`.
    pub fn number(&mut self, name: &str, default: u64) -> u64 {
        let text = self.text(name, &default.to_string());
        text.parse().unwrap_or_else(|_| fail(&format!("--{name} takes a number, not `{text}`")))
    }
    /// The word after `--name`.
    pub fn text(&mut self, name: &str, default: &str) -> String {
        let Some(at) = self.take(name) else { return default.to_owned() };
        if at < self.0.len() { self.0.remove(at) } else { fail(&format!("--{name} takes a value")) }
    }
    /// Whether `--name` was given.
    pub fn flag(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }
    /// Removes `--name`; where it stood.
    fn take(&mut self, name: &str) -> Option<usize> {
        let at = self.0.iter().position(|arg| arg.strip_prefix("--") == Some(name))?;
        self.0.remove(at);
        Some(at)
    }
    /// Refuses what nobody asked for.
    pub fn finish(self) {
        self.0.first().inspect(|arg| fail(&format!("`{arg}` is not an option; see --help")));
    }
}

/// Sleeps.
pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Uses CPU time: `ms` of this thread's own, however long that takes on a busy machine.
pub fn burn_ms(ms: u64) {
    let end = timesink_probe::thread_cpu_ns() + ms * 1_000_000;
    let mut x = 1_u64;
    while timesink_probe::thread_cpu_ns() < end {
        for _ in 0..5_000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Runs `f`; its result, and the ns that passed.
pub fn timed<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let start = now_ns();
    (f(), now_ns() - start)
}

/// Starts a thread of that name.
pub fn spawn<T: Send + 'static>(
    name: String,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::Builder::new().name(name).spawn(f).expect("a thread can be started")
}

/// Prints what the program measured itself, for comparison with the report.
pub fn truth(values: &[(&str, u64)]) {
    let pairs: Vec<_> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    say(&pairs.join(" "));
}

#[allow(clippy::print_stdout, reason = "programs talk on standard output")]
fn say(line: &str) {
    println!("{line}");
}

#[allow(clippy::print_stderr, reason = "programs complain on standard error")]
fn fail(why: &str) -> ! {
    eprintln!("error: {why}");
    std::process::exit(2);
}
