//! What one span (made, entered, left, closed) and one event cost, in ns of CPU time.
//!
//! `span_cost none|idle|recording [ROUNDS]`: without a subscriber, with `timesink_probe::init()`
//! but no recorder, or with a recorder. That drains between the rounds of 1,000, outside
//! the measured time, so that no record is lost: a lost one would be cheaper.
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::io;
use std::path::Path;

use timesink_probe::Reader;
use timesink_probe::thread_cpu_ns;
use tracing_subscriber::prelude::*;

const ROUND: u64 = 1_000;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_else(|| "recording".to_owned());
    let rounds: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(500);
    let mut reader = match mode.as_str() {
        "recording" => Some(record()?),
        "idle" => {
            timesink_probe::init();
            None
        }
        _ => None,
    };
    let entered = tracing::info_span!("entered");
    let cases: [(&str, &dyn Fn(u64)); 4] = [
        ("span", &|_| drop(tracing::info_span!("plain").entered())),
        ("span_with_field", &|i| drop(tracing::info_span!("settle", i).entered())),
        ("enter_and_exit", &|_| drop(entered.enter())),
        ("event", &|i| tracing::info!(i, "event")),
    ];
    for (what, run) in cases {
        // The median: other programs disturb the mean.
        let mut times: Vec<_> = (0..rounds.max(1)).map(|_| round(&mut reader, run)).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2] as f64 / ROUND as f64;
        let lost = reader.as_ref().map_or(0, |reader| reader.lost() + reader.damaged());
        println!("mode={mode} {what}_ns={middle:.1} lost={lost}");
    }
    Ok(())
}

fn round(reader: &mut Option<Reader>, run: &dyn Fn(u64)) -> u64 {
    let start = thread_cpu_ns();
    (0..ROUND).for_each(run);
    let time = thread_cpu_ns() - start;
    if let Some(reader) = reader {
        reader.drain(|message| _ = std::hint::black_box(message));
    }
    time
}

/// A recorder, and a global subscriber that writes to it.
fn record() -> io::Result<Reader> {
    let path = Path::new("/dev/shm").join(format!("span-cost-{}", std::process::id()));
    let reader = Reader::create(&path, 4)?;
    let layer = timesink_probe::ProbeLayer::open(&path);
    std::fs::remove_file(&path)?;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer?));
    Ok(reader)
}
