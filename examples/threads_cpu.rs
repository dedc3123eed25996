//! Threads that only compute: as many CPUs as there are threads would be used.
//!
//! The report must show `running` in `crunch`, and `runnable` for what the threads waited for
//! a CPU where there are fewer of those than threads; next to nothing else but the main thread
//! in `join`.
//!
//! Options: --threads 4  --cpu-ms 400 (per thread)  --chunks 4 (spans per thread)
mod support;

use support::{Args, burn_ms, spawn, timed, truth};

fn main() {
    let mut args = Args::parse(include_str!("threads_cpu.rs"));
    let threads = args.number("threads", 4);
    let cpu_ms = args.number("cpu-ms", 400);
    let chunks = args.number("chunks", 4).max(1);
    args.finish();
    timesink_probe::init();

    let (times, wall) = timed(|| {
        let workers: Vec<_> = (0..threads)
            .map(|i| spawn(format!("cruncher-{i}"), move || worker(chunks, cpu_ms)))
            .collect();
        workers.into_iter().map(|w| w.join().expect("it computes")).collect::<Vec<_>>()
    });
    truth(&[
        ("cpu_ns", times.iter().map(|(cpu, _)| cpu).sum()),
        ("threads_wall_ns", times.iter().map(|(_, wall)| wall).sum()),
        ("threads", threads),
        ("wall_ns", wall),
    ]);
}

/// CPU time and wall time of this thread.
fn worker(chunks: u64, cpu_ms: u64) -> (u64, u64) {
    let ((), wall) = timed(|| {
        for chunk in 0..chunks {
            // The first chunks take the remainder, so that the sum is what was asked for.
            crunch(chunk, cpu_ms / chunks + u64::from(chunk < cpu_ms % chunks));
        }
    });
    (timesink_probe::thread_cpu_ns(), wall)
}

#[inline(never)]
fn crunch(chunk: u64, ms: u64) {
    let _span = tracing::info_span!("crunch", chunk).entered();
    burn_ms(ms);
}
