//! What a name costs each use of a lock that nobody else wants: ns of CPU time to lock and unlock.
//!
//! `named_cost [ROUNDS]`, alone or under `timesink run`. Rounds of a plain lock and of a named one
//! alternate, so that what changes on the machine changes both.
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::PoisonError;

use timesink_probe::Named;
use timesink_probe::thread_cpu_ns;

const ROUND: u64 = 100_000;

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(501);
    let recorded = std::env::var_os(timesink_probe::ENVIRONMENT).is_some();
    let plain = Mutex::new(0_u64);
    let named = Named::new("cost", Mutex::new(0_u64));
    let use_plain = || add(black_box(&plain));
    let use_named = || add(black_box(&named));
    let mut times: Vec<[f64; 2]> =
        (0..rounds.max(1)).map(|_| [round(&use_plain), round(&use_named)]).collect();
    let mut column = |of: &dyn Fn(&[f64; 2]) -> f64, what: &str| {
        times.sort_by(|a, b| of(a).total_cmp(&of(b)));
        let at = |part: usize| of(&times[(times.len() - 1) * part / 4]);
        println!("recorded={recorded} {what}={:.3} quarters={:.3}..{:.3}", at(2), at(1), at(3));
    };
    column(&|[plain, _]| *plain, "plain_ns");
    column(&|[_, named]| *named, "named_ns");
    column(&|[plain, named]| named - plain, "difference_ns");
    column(&|[plain, named]| named / plain, "ratio");
}

fn add(lock: &Mutex<u64>) {
    *lock.lock().unwrap_or_else(PoisonError::into_inner) += 1;
}

/// One use of a lock, ns.
fn round(once: &impl Fn()) -> f64 {
    let start = thread_cpu_ns();
    for _ in 0..ROUND {
        once();
    }
    (thread_cpu_ns() - start) as f64 / ROUND as f64
}
