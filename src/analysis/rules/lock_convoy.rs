//! Threads that are woken only to queue for a lock.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use std::cmp::Reverse;
use std::collections::BTreeMap;

pub const RULE: Rule = Rule {
    id: "thundering-herd",
    title: "threads woken together that queue for one lock (convoy, thundering herd)",
    reports: "Waits on a condition after which the thread went straight on to wait for a lock: \
              whoever signalled still held it, or woke more threads than could go on.",
    matters: "each wake-up buys a second sleep: two switches and a queue for nothing",
    try_this: "Signal after unlocking, and wake one (`notify_one`) where one can go on.",
    check,
};

/// Fewer wake-ups say nothing.
const LEAST: u64 = 20;

/// The threads of one process.
#[derive(Default)]
struct Woken {
    /// Waits on conditions that somebody ended.
    signals: u64,
    /// Those with a wait for a lock right behind them,
    into_lock: u64,
    /// by lock.
    locks: BTreeMap<u32, u64>,
    /// Threads that mostly did so.
    threads: Vec<u32>,
}

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut by_process: BTreeMap<u32, Woken> = BTreeMap::new();
    for (thread, life) in (0..).zip(&evidence.lives) {
        let Some(row) = evidence.thread(thread).filter(|_| life.signals > 0) else { continue };
        let sums = by_process.entry(row.process).or_default();
        sums.signals += life.signals;
        sums.into_lock += life.into_lock;
        for (&lock, &waits) in &life.into {
            *sums.locks.entry(lock).or_default() += waits;
        }
        if life.into_lock > life.signals / 2 {
            sums.threads.push(thread);
        }
    }
    let mut found = Vec::new();
    for Woken { signals, into_lock, locks, threads } in by_process.into_values() {
        let share = into_lock as f64 / signals as f64;
        if signals < LEAST || share < 0.5 || threads.is_empty() {
            continue;
        }
        let most = locks.into_iter().max_by_key(|&(lock, waits)| (waits, Reverse(lock)));
        let Some(lock) = most.and_then(|(lock, _)| evidence.object(lock)) else { continue };
        let text = format!(
            "{into_lock} of {signals} wake-ups from a condition ({}) went straight into a wait for a \
             lock,{} taken in {}: {} are woken and cannot go on.",
            words::percent(share),
            words::called(lock),
            words::site_of(lock),
            words::count(threads.len() as u64, "thread"),
        );
        let title = "woken threads queue for a lock".to_owned();
        found.push(
            RULE.found(Severity::Cost, title, text)
                .about(lock.id)
                .with_threads(threads)
                .with_count("wake-ups", signals)
                .with_share("of them into a lock", share),
        );
    }
    found
}
