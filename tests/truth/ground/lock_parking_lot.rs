//! Workload 19: workload 1 with `parking_lot`, whose waiters sleep on words of their own.
//!
//! The answers of workload 1, with one lock and not four. Arguments: `threads= rounds= hold=
//! outside=` (ms).
#[path = "ground.rs"]
mod ground;

use ground::Options;
use ground::now;
use ground::say;
use ground::service;
use parking_lot::Mutex;
use std::thread;

static ACCOUNT: Mutex<u64> = Mutex::new(0);

#[derive(Default)]
struct Times {
    lock: u64,
    held: u64,
    outside: u64,
}

#[inline(never)]
fn hold_lock(times: &mut Times, hold: f64) {
    let asked = now();
    let mut account = ACCOUNT.lock();
    times.lock += now() - asked;
    *account += 1;
    times.held += service(hold);
}

fn work(rounds: u64, hold: f64, outside: f64) -> Times {
    let mut times = Times::default();
    for _ in 0..rounds {
        hold_lock(&mut times, hold);
        times.outside += service(outside);
    }
    times
}

fn main() {
    let began = now();
    let mut options = Options::of_program();
    let (threads, rounds) = (options.take("threads", 4.0) as u64, options.take("rounds", 304.0));
    let (hold, outside) = (options.take("hold", 3.0), options.take("outside", 7.0));
    options.end();
    let share = rounds as u64 / threads;
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let worker = thread::Builder::new().name(format!("worker-{index}"));
            worker.spawn(move || work(share, hold, outside)).expect("a thread")
        })
        .collect();
    let from = now();
    let times: Vec<Times> = workers.into_iter().map(|w| w.join().expect("no panic")).collect();
    say("join", now() - from);
    let sum = |of: fn(&Times) -> u64| times.iter().map(of).sum::<u64>();
    say("lock", sum(|t| t.lock));
    say("held", sum(|t| t.held));
    say("sleep", sum(|t| t.held + t.outside));
    say("loops", sum(|t| t.lock + t.held + t.outside));
    say("wall", now() - began);
    say("rounds", share * threads);
}
