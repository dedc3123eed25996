//! One thread, one thing after another: load (waits), compute (CPU), store (waits).
//!
//! The report must show a single thread whose time is `sleep` in `load` and `store` and `running`
//! in `compute`, on at most one CPU: a second one would not help.
//!
//! Options: --load-ms 300  --compute-ms 500  --store-ms 200
mod support;

use support::{Args, burn_ms, sleep_ms, timed, truth};

fn main() {
    let mut args = Args::parse(include_str!("serial.rs"));
    let load_ms = args.number("load-ms", 300);
    let compute_ms = args.number("compute-ms", 500);
    let store_ms = args.number("store-ms", 200);
    args.finish();
    timesink_probe::init();

    let ((load, compute, store), wall) = timed(|| {
        let ((), load) = timed(|| load(load_ms));
        let ((), compute) = timed(|| compute(compute_ms));
        let ((), store) = timed(|| store(store_ms));
        (load, compute, store)
    });
    let cpu = timesink_probe::thread_cpu_ns();
    truth(&[
        ("load_ns", load),
        ("compute_ns", compute),
        ("store_ns", store),
        ("cpu_ns", cpu),
        ("wall_ns", wall),
    ]);
}

#[inline(never)]
fn load(ms: u64) {
    let _span = tracing::info_span!("load").entered();
    sleep_ms(ms);
}

#[inline(never)]
fn compute(ms: u64) {
    let _span = tracing::info_span!("compute").entered();
    burn_ms(ms);
}

#[inline(never)]
fn store(ms: u64) {
    let _span = tracing::info_span!("store").entered();
    sleep_ms(ms);
}
