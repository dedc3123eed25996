//! Workload 16: a task that sleeps on its worker thread instead of awaiting.
//!
//! One of two workers is blocked for `rounds` times `block`; the run takes that and the awaited
//! pauses between. Arguments: `rounds= block= pause=` (ms).
#[path = "ground.rs"]
mod ground;

use ground::Options;
use ground::now;
use ground::say;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[inline(never)]
fn block_a_worker(ms: f64) -> u64 {
    // Not its last call: that would be a jump, and this function would stand in no stack.
    std::hint::black_box(ground::service(ms))
}

static OVER: AtomicBool = AtomicBool::new(false);

async fn tick() -> u64 {
    let mut ticks = 0;
    while !OVER.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        ticks += 1;
    }
    ticks
}

async fn work(rounds: u64, block: f64, pause: f64) -> u64 {
    let mut slept = 0;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_secs_f64(pause / 1e3)).await;
        slept += block_a_worker(block);
    }
    OVER.store(true, Ordering::Relaxed);
    slept
}

fn main() {
    let began = now();
    let mut options = Options::of_program();
    let (rounds, block) = (options.take("rounds", 15.0) as u64, options.take("block", 50.0));
    let (pause, workers) = (options.take("pause", 20.0), options.take("workers", 2.0) as usize);
    options.end();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("tokio-worker")
        .enable_time()
        .build()
        .expect("a runtime");
    let (slept, ticks) = runtime.block_on(async {
        let ticker = tokio::spawn(tick());
        let slept = tokio::spawn(work(rounds, block, pause)).await.expect("no panic");
        (slept, ticker.await.expect("no panic"))
    });
    say("tokio-worker.sleep", slept);
    say("ticks", ticks);
    say("wall", now() - began);
    say("rounds", rounds);
}
