//! What one span (made, entered, left, closed) and one event cost, in ns.
//!
//! `span_cost none|idle|recording [SPANS]`: without a subscriber, with `timesink_probe::init()`
//! but no recorder, or with a recorder that drains all the while.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program, not a pure module")]

use std::time::Duration;
use std::time::Instant;

use timesink_probe::Reader;
use tracing_subscriber::prelude::*;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_else(|| "recording".to_owned());
    let spans: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    match mode.as_str() {
        "idle" => timesink_probe::init(),
        "recording" => record()?,
        _ => {}
    }
    // The first use registers the callsite and claims the ring.
    span(0);
    for what in ["span", "span_with_field", "enter", "event"] {
        let entered = tracing::info_span!("entered");
        let start = Instant::now();
        for i in 0..spans {
            match what {
                "span" => drop(tracing::info_span!("plain").entered()),
                "span_with_field" => span(i),
                "enter" => drop(entered.enter()),
                _ => tracing::info!(i, "event"),
            }
        }
        let ns = start.elapsed().as_nanos() / u128::from(spans.max(1));
        println!("mode={mode} {what}_ns={ns}");
    }
    Ok(())
}

#[inline(never)]
fn span(i: u32) {
    let _span = tracing::info_span!("settle", i).entered();
}

/// A recorder in a thread of this process.
fn record() -> std::io::Result<()> {
    let path = std::path::Path::new("/dev/shm").join(format!("span-cost-{}", std::process::id()));
    let mut reader = Reader::create(&path, 4)?;
    let layer = timesink_probe::ProbeLayer::open(&path);
    std::fs::remove_file(&path)?;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer?));
    std::thread::spawn(move || {
        let mut records = 0_u64;
        loop {
            reader.drain(|_| records += 1);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    Ok(())
}
