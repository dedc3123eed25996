//! A lock whose holder has no CPU.

use super::Evidence;
use super::Rule;
use super::words;
use super::words::Held;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;

pub const RULE: Rule = Rule {
    id: "preempted-holder",
    title: "the holder of a lock had no CPU (preempted holder, priority inversion)",
    reports: "Locks whose waiters waited mostly for a holder that was ready to run and got no CPU.",
    matters: "the others wait for the scheduler, not for the work under the lock: shorter work would \
              not help",
    try_this: "Give the holder a CPU: fewer runnable threads than CPUs, no low priority for threads that \
               take locks, or a mutex with priority inheritance.",
    check,
};

/// This share of the wait is the scheduler's.
const MOSTLY: f64 = 0.5;
const LEAST_SHARE: f64 = 0.02;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let locks = evidence.report.objects.iter().filter(|object| object.kind == "lock");
    locks.filter_map(|lock| judge(evidence, lock)).take(2).collect()
}

fn judge(evidence: &Evidence, lock: &Object) -> Option<Finding> {
    let waited = evidence.of_wall(lock.wait_ns);
    let held = Held::of(lock);
    if held.runnable < MOSTLY || waited < LEAST_SHARE {
        return None;
    }
    let holder = lock.holders.first()?;
    let (name, place) = (words::called(lock), words::site_of(lock));
    let text = format!(
        "{} waited {} for the lock{name} held in {place}; for {} of that its holder (mostly `{}`) was ready \
         to run and had no CPU.",
        words::count(lock.waiters, "thread"),
        Nanos(lock.wait_ns),
        words::percent(held.runnable),
        holder.name,
    );
    let headline = format!(
        "{} for {} held in {place} by `{}`, which was ready but had no CPU for {} of that \
         time: the scheduler decides, not the work under the lock",
        words::they(lock.waiters, "thread", "wait"),
        if name.is_empty() { "a lock".to_owned() } else { format!("the lock{name}") },
        holder.name,
        words::percent(held.runnable),
    );
    let share = waited.min(1.0);
    let finding = RULE
        .found(Severity::Cost, "the holder of a lock had no CPU".to_owned(), text)
        .about(lock.id)
        .with_threads([holder.thread])
        .with_time("waited", lock.wait_ns)
        .with_share("of it for the holder to get a CPU", held.runnable);
    Some(if share >= 0.25 { finding.claiming("lock-bound", 4, share, headline) } else { finding })
}
