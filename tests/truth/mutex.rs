//! The same with Rust's own mutex: threads hold it for 3 ms and stay outside for 7 ms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

static WAITED: AtomicU64 = AtomicU64::new(0);
static SLEPT: AtomicU64 = AtomicU64::new(0);
static LEDGER: Mutex<u64> = Mutex::new(0);

fn sleep(ms: u64) {
    let from = Instant::now();
    thread::sleep(Duration::from_millis(ms));
    SLEPT.fetch_add(from.elapsed().as_nanos() as u64, Ordering::Relaxed);
}

#[inline(never)]
fn settle() {
    let from = Instant::now();
    let mut ledger = LEDGER.lock().unwrap();
    WAITED.fetch_add(from.elapsed().as_nanos() as u64, Ordering::Relaxed);
    *ledger += 1;
    sleep(3);
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(60);
    let workers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..rounds {
                    settle();
                    sleep(7);
                }
            })
        })
        .collect();
    let from = Instant::now();
    for worker in workers {
        worker.join().unwrap();
    }
    println!("join={}", from.elapsed().as_nanos());
    println!("lock={}", WAITED.load(Ordering::Relaxed));
    println!("sleep={}", SLEPT.load(Ordering::Relaxed));
}
