//! Threads that share one lock: each prepares on its own, then settles under the lock.
//!
//! The report must show one `lock`, `balance`, that all workers wait for, taken in `settle`. With 4 threads
//! that hold it for 3 ms and are outside for 2, it is busy all the time: at most 333 rounds a
//! second, and each thread waits for (4 * 3 - 3 - 2) / (4 * 3) = 58 % of its time. Times are slept,
//! so that the answer does not depend on how busy the CPUs are; --burn computes instead.
//!
//! Options: --threads 4  --rounds 100 (per thread)  --hold-ms 3  --outside-ms 2  --burn
mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use timesink_probe::Named;

use support::{Args, burn_ms, sleep_ms, spawn, timed, truth};

/// What one round, or a sum of rounds, took: ns.
#[derive(Default)]
struct Times {
    wait: u64,
    hold: u64,
    prepare: u64,
}

fn main() {
    let mut args = Args::parse(include_str!("lock_contention.rs"));
    let threads = args.number("threads", 4);
    let rounds = args.number("rounds", 100);
    let hold_ms = args.number("hold-ms", 3);
    let outside_ms = args.number("outside-ms", 2);
    let work = if args.flag("burn") { burn_ms } else { sleep_ms };
    args.finish();
    timesink_probe::init();

    let balance = Arc::new(Named::new("balance", Mutex::new(0)));
    let (times, wall) = timed(|| {
        let workers: Vec<_> = (0..threads)
            .map(|i| {
                let balance = Arc::clone(&balance);
                spawn(format!("clerk-{i}"), move || {
                    let mut times = Times::default();
                    for _ in 0..rounds {
                        times.prepare += timed(|| prepare(work, outside_ms)).1;
                        let (wait, hold) = settle(&balance, work, hold_ms);
                        times.wait += wait;
                        times.hold += hold;
                    }
                    times
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("no panic")).collect::<Vec<_>>()
    });
    truth(&[
        ("lock_wait_ns", times.iter().map(|t| t.wait).sum()),
        ("hold_ns", times.iter().map(|t| t.hold).sum()),
        ("prepare_ns", times.iter().map(|t| t.prepare).sum()),
        ("rounds", *balance.lock().expect("no panic")),
        ("wall_ns", wall),
    ]);
}

#[inline(never)]
fn prepare(work: fn(u64), ms: u64) {
    let _span = tracing::info_span!("prepare").entered();
    work(ms);
}

/// Time until the lock was ours, and time it was.
#[inline(never)]
fn settle(balance: &Mutex<u64>, work: fn(u64), ms: u64) -> (u64, u64) {
    let _span = tracing::info_span!("settle").entered();
    let asked = Instant::now();
    let mut balance = balance.lock().expect("no panic under the lock");
    let wait = asked.elapsed();
    *balance += 1;
    work(ms);
    let hold = asked.elapsed().saturating_sub(wait);
    (wait.as_nanos() as u64, hold.as_nanos() as u64)
}
