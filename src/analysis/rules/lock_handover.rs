//! A lock that changes hands more often than is good.

use super::Evidence;
use super::Rule;
use super::deadlock;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;

pub const RULE: Rule = Rule {
    id: "lock-handover",
    title: "a lock handed over so often that the hand-over is the cost",
    reports: "A lock for which threads wait hundreds or thousands of times a second, each time for a moment: \
              how much of the run at least one of them was on its way to it, from asking to running with it.",
    matters: "each hand-over costs a wake-up and two switches, more than a short section does: one thread \
              alone would be faster",
    try_this: "Take it less often: count or collect apart in each thread and merge now and then, hand over \
               batches, or let one thread do the shared part.",
    check,
};

/// Waits a second from which on it is often: fewer take so much of the run only where those who were
/// let in had to wait for a CPU, behind the one that let them in.
const OFTEN: f64 = 100.0;
const LEAST_WAITS: u64 = 100;
/// The longest average wait that is a moment.
const MOMENT: Nanos = Nanos(500_000);
const LEAST_SHARE: f64 = 0.10;
/// From here on it may be the story of the run.
const MAJOR: f64 = 0.25;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let dead = deadlock::locks(evidence);
    let locks = evidence.report.objects.iter().filter(|object| object.kind == "lock");
    let locks = locks.filter(|lock| !dead.contains(&lock.id));
    locks.filter_map(|lock| judge(evidence, lock)).take(2).collect()
}

/// The part of the run in which a lock was handed over all the time; 0 if it was not.
pub fn share(evidence: &Evidence, lock: &Object) -> f64 {
    let under_way = evidence.under_way.get(&lock.id).copied().unwrap_or(0);
    let often = lock.waits as f64 / (under_way.max(1) as f64 / 1e9) >= OFTEN;
    let short = Nanos(lock.wait_ns / lock.waits.max(1)) <= MOMENT;
    let many = lock.waits >= LEAST_WAITS && lock.waiters >= 2;
    if often && short && many { evidence.of_wall(under_way) } else { 0.0 }
}

fn judge(evidence: &Evidence, lock: &Object) -> Option<Finding> {
    let share = share(evidence, lock);
    if share < LEAST_SHARE {
        return None;
    }
    let site = words::site_of(lock);
    let name = words::called(lock);
    let each = Nanos(lock.wait_ns / lock.waits.max(1));
    let part = words::percent(share);
    let who = words::count(lock.waiters, "thread");
    let text = format!(
        "{who} had to wait {} times for the lock{name} taken in {site}, {each} on average before it was let \
         go of, and for {part} of the run at least one was on its way from asking for it to running with it.",
        lock.waits,
    );
    let one = if name.is_empty() { "one lock".to_owned() } else { format!("the lock{name}") };
    let headline = format!(
        "{who} take turns at {one} in {site}: it was waited for {} times, and for {part} of the run somebody was \
         on the way to it; handing it over costs more than what it protects",
        lock.waits,
    );
    let finding = RULE
        .found(Severity::Cost, format!("lock{name} in {site} is handed over all the time"), text)
        .about(lock.id)
        .with_threads(evidence.waiters(lock.id).map(|(thread, ..)| thread))
        .with_count("waits", lock.waits)
        .with_time("waited", lock.wait_ns)
        .with_share("of the run somebody was on the way to it", share);
    Some(if share >= MAJOR { finding.claiming("lock-bound", 5, share, headline) } else { finding })
}
