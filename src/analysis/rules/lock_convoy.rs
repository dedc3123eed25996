//! Threads that are woken only to queue for a lock.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::State;
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

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut by_process: BTreeMap<u32, (u64, u64, Vec<u32>)> = BTreeMap::new();
    for (thread, life) in (0..).zip(&evidence.lives) {
        let Some(row) = evidence.thread(thread).filter(|_| life.signals > 0) else { continue };
        let sums = by_process.entry(row.process).or_default();
        sums.0 += life.signals;
        sums.1 += life.into_lock;
        if life.into_lock * 2 > life.signals {
            sums.2.push(thread);
        }
    }
    let mut found = Vec::new();
    for (process, (signals, into_lock, threads)) in by_process {
        let share = into_lock as f64 / signals as f64;
        if signals < LEAST || share < 0.5 || threads.is_empty() {
            continue;
        }
        let Some(lock) = evidence.report.objects.iter().find(|object| {
            object.state == State::Lock.name()
                && evidence
                    .report
                    .processes
                    .get(process as usize)
                    .is_some_and(|p| p.pid == object.pid)
        }) else {
            continue;
        };
        let text = format!(
            "{into_lock} of {signals} wake-ups from a condition ({}) went straight into a wait for a \
             lock, taken in {}: {} are woken and cannot go on.",
            words::percent(share),
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
