//! A lock that decides how long the run takes.

use super::Evidence;
use super::Rule;
use super::deadlock;
use super::words;
use super::words::Held;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;

pub const RULE: Rule = Rule {
    id: "lock-bottleneck",
    title: "a lock that the run waits for",
    reports: "A lock under which a large part of the critical path lies: who held it, in which \
              function, doing what, and how much shorter the run would be with half the hold. It is \
              called a bottleneck only if replay gains at least 3 % and is sure of it.",
    matters: "while one thread holds it the others stand still, however many CPUs there are",
    try_this: "Hold it for less: move what needs no protection out of the critical section, above \
               all sleeps and I/O; then split the lock (one for each shard), or let readers share it.",
    check,
};

/// Less of the path than this under a lock is not worth a finding.
const LEAST_SHARE: f64 = 0.08;
/// From here on it may be the story of the run.
const MAJOR: f64 = 0.25;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let dead = deadlock::locks(evidence);
    let locks = evidence.report.objects.iter();
    let locks = locks.filter(|object| object.kind == "lock" && !dead.contains(&object.id));
    let mut found: Vec<(f64, Finding)> = locks.filter_map(|lock| judge(evidence, lock)).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn judge(evidence: &Evidence, lock: &Object) -> Option<(f64, Finding)> {
    let share = evidence.path_under(lock.id);
    let gain = evidence.lock_gain(lock.id);
    let real = gain.as_ref().is_some_and(|gain| evidence.is_real(gain))
        && evidence.keeps_the_run_up(lock.id);
    if !real && (share < LEAST_SHARE || gain.as_ref().is_some_and(|gain| gain.low.is_some())) {
        return None;
    }
    let held = Held::of(lock);
    let site = words::site_of(lock);
    let doing = held.sentence();
    let holder = lock.holders.first();
    let who = words::count(lock.waiters, "thread");
    let there = held.brief().map_or_else(String::new, |doing| format!(" ({doing})"));
    let queue = words::they(lock.waiters, "thread", "queue");
    let name = words::called(lock);
    let one = if name.is_empty() { "one lock".to_owned() } else { format!("the lock{name}") };
    let queue = format!("{queue} for {one} held in {site}{there}");
    let unknown = words::why_not_known(evidence, &format!("lock:{}", lock.id));
    let under = words::percent(share);
    let outcome = match &gain {
        Some(gain) if real => words::lock_change(gain),
        _ => format!(
            "{under} of the run went through its holder (the gain of a fix is not known: {unknown})"
        ),
    };
    let meanwhile = match (holder, doing) {
        (Some(one), Some(doing)) if lock.holders.len() == 1 => {
            format!(" Its holder was always `{}`, {doing}.", one.name)
        }
        (Some(one), Some(doing)) => format!(
            " It went round {} threads, `{}` held the others up most; its holders were {doing}.",
            lock.holders.len(),
            one.name
        ),
        _ => String::new(),
    };
    let text = format!(
        "{who} waited {} in {} (longest {}) for the lock{name} taken in {}.{meanwhile} {under} of the \
         critical path ran under it{}.",
        Nanos(lock.wait_ns),
        words::count(lock.waits, "wait"),
        Nanos(lock.max_wait_ns),
        words::site_of(lock),
        if real {
            String::new()
        } else {
            format!("; what a fix would gain is not known: {unknown}")
        },
    );
    let severity = if real { Severity::Bottleneck } else { Severity::Cost };
    let title = format!("lock{name} held in {site}");
    let weight = gain.as_ref().map_or(share, |gain| gain.speedup);
    let finding = RULE
        .found(severity, title, text)
        .about(lock.id)
        .with_threads(evidence.waiters(lock.id).map(|(thread, ..)| thread))
        .with_time("waited", lock.wait_ns)
        .with_count("waits", lock.waits)
        .with_share("of the path under it", share)
        .with_gain(gain.filter(|_| real));
    let finding = if real || share >= MAJOR {
        finding.claiming("lock-bound", 5, share, format!("{queue}: {outcome}"))
    } else {
        finding
    };
    Some((weight, finding))
}
