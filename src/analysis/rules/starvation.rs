//! A lock that some threads hardly ever get.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use std::collections::BTreeMap;

pub const RULE: Rule = Rule {
    id: "starvation",
    title: "an unfair lock: some threads hardly ever get it",
    reports: "How often each thread let go of a contended lock, most against least, where threads \
              that wanted it waited for most of their lives.",
    matters: "the starved threads' work comes late or not at all, though the lock is busy all the time",
    try_this: "Use a fair lock (a ticket lock, `parking_lot`'s `unlock_fair`), or stay outside the lock \
               for a moment before taking it again.",
    check,
};

/// Most against least from which a lock is unfair.
const UNFAIR: u64 = 5;
/// Handed over less often than this, a lock tells nothing about fairness.
const LEAST: u64 = 20;
/// From this part of the path under the lock on, it may be the story of the run.
const MAJOR: f64 = 0.5;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let locks = evidence.report.objects.iter().filter(|object| object.kind == "lock");
    locks.filter_map(|lock| judge(evidence, lock)).take(2).collect()
}

fn judge(evidence: &Evidence, lock: &Object) -> Option<Finding> {
    if lock.waiters < 2 {
        return None;
    }
    let mut held: BTreeMap<u32, u64> = BTreeMap::new();
    for (&(_, thread), &count) in evidence.handed.range((lock.id, 0)..=(lock.id, u32::MAX)) {
        held.insert(thread, count);
    }
    let most = held.values().copied().max()?;
    if most < LEAST {
        return None;
    }
    let starved: Vec<(u32, u64)> = evidence
        .waiters(lock.id)
        .filter(|&(thread, _, ns)| {
            let life = evidence.thread(thread).map_or(0, |row| row.end_ns - row.start_ns);
            // It wanted the lock and nothing else.
            ns > life / 2 && held.get(&thread).copied().unwrap_or(0).saturating_mul(UNFAIR) <= most
        })
        .map(|(thread, _, ns)| (thread, ns))
        .collect();
    let &(worst, waited) = starved.iter().max_by_key(|&&(_, ns)| ns)?;
    let least = held.get(&worst).copied().unwrap_or(0);
    let luckiest = held.iter().max_by_key(|&(_, &count)| count).map(|(&thread, _)| thread)?;
    let text = format!(
        "`{}` handed the lock{} taken in {} on {most} times, `{}` {least} times in {} of waiting \
         (longest wait {}).",
        evidence.called(luckiest),
        words::called(lock),
        words::site_of(lock),
        evidence.called(worst),
        Nanos(waited),
        Nanos(lock.max_wait_ns),
    );
    let who = words::count(starved.len() as u64, "thread");
    let name = words::called(lock);
    let title = format!("{who} starved at one lock{name}");
    let share = evidence.path_under(lock.id);
    let finding = RULE
        .found(Severity::Cost, title, text)
        .about(lock.id)
        .with_threads(starved.iter().map(|&(thread, _)| thread))
        .with_count("most often", most)
        .with_count("least often", least)
        .with_share("of the path under it", share);
    // Had it been given to the others in turn, they might have shared the work; no replay knows
    // that, as it repeats what each thread did.
    let headline = format!(
        "one thread keeps the lock{name} to itself: `{}` let go of it {most} times in {} and had it \
         back before {who} that wanted it; {} of the run went through it",
        evidence.called(luckiest),
        words::site_of(lock),
        words::percent(share)
    );
    Some(if share >= MAJOR { finding.claiming("lock-bound", 4, share, headline) } else { finding })
}
