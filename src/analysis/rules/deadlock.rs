//! Threads that wait for each other's locks and never come back.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

pub const RULE: Rule = Rule {
    id: "deadlock",
    title: "threads that wait for each other for ever",
    reports: "Two or more threads of one process whose last wait was for a lock that nobody let go \
              of until they were no more. The cycle is printed.",
    matters: "they can never go on; only ending the process frees them",
    try_this: "Take the locks in the same order everywhere, or take them together (`std::lock`, \
               `try_lock` and back off).",
    check,
};

/// Shorter than this, and the end of the process only cut a wait short.
const LEAST: u64 = 50_000_000;

struct Stuck {
    thread: u32,
    lock: u32,
    since: u64,
    end: u64,
}

fn check(evidence: &Evidence) -> Vec<Finding> {
    groups(evidence).iter().filter_map(|stuck| cycle(evidence, stuck)).collect()
}

/// The locks of all deadlocks.
pub fn locks(evidence: &Evidence) -> BTreeSet<u32> {
    groups(evidence).into_iter().flatten().map(|stuck| stuck.lock).collect()
}

/// Threads that wait for each other, by process.
fn groups(evidence: &Evidence) -> Vec<Vec<Stuck>> {
    let mut by_process: BTreeMap<u32, Vec<Stuck>> = BTreeMap::new();
    for (thread, life) in (0..).zip(&evidence.lives) {
        let Some((lock, State::Lock, since)) = life.stuck else { continue };
        let Some(row) = evidence.thread(thread) else { continue };
        let long = row.end_ns.saturating_sub(since) >= LEAST;
        // A queue that still moved is a queue.
        let moved = evidence.handed_last.get(&lock).is_some_and(|&last| last > since);
        if long && !moved {
            let stuck = Stuck { thread, lock, since, end: row.end_ns };
            by_process.entry(row.process).or_default().push(stuck);
        }
    }
    let closed = by_process.into_iter().filter(|(process, stuck)| {
        let locks: BTreeSet<u32> = stuck.iter().map(|s| s.lock).collect();
        let first = stuck.iter().map(|s| s.since).min().unwrap_or(0);
        let among = |thread: &ThreadRow| stuck.iter().any(|s| s.thread == thread.id);
        // Another worker may be the one who holds the locks and is only slow.
        let mut others = evidence
            .threads_of(*process)
            .filter(|thread| thread.tid != thread.pid && thread.end_ns > first && !among(thread));
        // One lock that several wait for has a holder somewhere: not a cycle among these.
        stuck.len() >= 2 && locks.len() >= 2 && others.next().is_none()
    });
    closed.map(|(_, stuck)| stuck).collect()
}

fn cycle(evidence: &Evidence, stuck: &[Stuck]) -> Option<Finding> {
    let locks: BTreeSet<u32> = stuck.iter().map(|s| s.lock).collect();
    let edges: Vec<String> = stuck
        .iter()
        .map(|s| {
            let object = evidence.object(s.lock)?;
            let name = evidence.thread(s.thread)?;
            Some(format!("`{}` ({}) waits in {}", name.name, name.tid, words::site_of(object)))
        })
        .collect::<Option<_>>()?;
    let known = stuck
        .iter()
        .filter(|s| {
            let others = stuck.iter().filter(|o| o.thread != s.thread);
            others.into_iter().any(|o| evidence.handed.contains_key(&(s.lock, o.thread)))
        })
        .count();
    let pair = stuck.len() == 2 && locks.len() == 2;
    let sure = match (known == stuck.len(), pair) {
        (true, _) => "Each of these locks was last let go of by another thread of the cycle.",
        (false, true) => {
            "Who holds the locks was not seen, for nobody ever had to wait for them before: that \
             it is these two is the only way that both can be stuck without a third thread."
        }
        (false, false) => "Who holds which lock was not seen: the cycle is likely, not proven.",
    };
    let first = stuck.iter().map(|s| s.since).min()?;
    let end = stuck.iter().map(|s| s.end).max()?;
    let share = evidence.of_wall(end.saturating_sub(first));
    let circle = if pair { "each for the lock that the other holds" } else { "for each other" };
    let text = format!(
        "{}; none of them got any further for the last {}. {sure}",
        edges.join(", "),
        Nanos(end - stuck.iter().map(|s| s.since).max()?)
    );
    let n = words::count(stuck.len() as u64, "thread");
    let headline = format!("{n} are deadlocked, {circle}: {}", edges.join(", "));
    let found = RULE.found(Severity::Cost, format!("deadlock of {n}"), text);
    Some(
        found
            .about(stuck[0].lock)
            .with_threads(stuck.iter().map(|s| s.thread))
            .with_time("stuck for", end - first)
            .with_count("holders known", known as u64)
            .claiming("deadlock", 9, share, headline),
    )
}
