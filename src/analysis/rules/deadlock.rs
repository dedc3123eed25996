//! Threads that wait for each other's locks and never come back.

use super::CERTAIN;
use super::Evidence;
use super::LIKELY;
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
              of until they were no more. The cycle is printed where its holders were seen; else it \
              is called probable.",
    matters: "they can never go on; only ending the process frees them",
    try_this: "Take the locks in the same order everywhere, or take them together (`std::lock`, \
               `try_lock` and back off).",
    check,
};

/// Shorter than this, and the end of the process only cut a wait short.
const LEAST: u64 = 50_000_000;

#[derive(Clone, Copy)]
struct Stuck {
    thread: u32,
    lock: u32,
    since: u64,
    end: u64,
}

/// Threads that wait for each other.
struct Group {
    stuck: Vec<Stuck>,
    /// Each holds the lock that the one before it waits for, the first that of the last.
    proven: bool,
}

fn check(evidence: &Evidence) -> Vec<Finding> {
    groups(evidence).iter().filter_map(|group| cycle(evidence, group)).collect()
}

/// The locks of all deadlocks.
pub fn locks(evidence: &Evidence) -> BTreeSet<u32> {
    groups(evidence).into_iter().flat_map(|group| group.stuck).map(|stuck| stuck.lock).collect()
}

/// Threads that wait for each other, by process.
fn groups(evidence: &Evidence) -> Vec<Group> {
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
    let found = by_process.into_iter().filter_map(|(process, stuck)| {
        proven(evidence, &stuck).or_else(|| likely(evidence, process, stuck))
    });
    found.collect()
}

/// A cycle of which each present holder was seen to take its lock.
fn proven(evidence: &Evidence, stuck: &[Stuck]) -> Option<Group> {
    let next = |one: &Stuck| {
        let owner = evidence.owner(one.lock)?;
        stuck.iter().find(|other| other.thread == owner && other.thread != one.thread)
    };
    for first in stuck {
        let mut ring = vec![*first];
        let mut now = first;
        while let Some(other) = next(now).filter(|_| ring.len() <= stuck.len()) {
            if other.thread == first.thread {
                return Some(Group { stuck: ring, proven: true });
            }
            ring.push(*other);
            now = other;
        }
    }
    None
}

/// All that are stuck, if no other thread is there that could hold their locks.
fn likely(evidence: &Evidence, process: u32, stuck: Vec<Stuck>) -> Option<Group> {
    let locks: BTreeSet<u32> = stuck.iter().map(|s| s.lock).collect();
    let first = stuck.iter().map(|s| s.since).min()?;
    let among = |thread: &ThreadRow| stuck.iter().any(|s| s.thread == thread.id);
    // Another worker may be the one who holds the locks and is only slow. So may the main thread,
    // but it is always there: the cycle is called likely then, and no more.
    let mut others = evidence
        .threads_of(process)
        .filter(|thread| thread.tid != thread.pid && thread.end_ns > first && !among(thread));
    // One lock that several wait for has a holder somewhere: not a cycle among these.
    let closed = stuck.len() >= 2 && locks.len() >= 2 && others.next().is_none();
    closed.then_some(Group { stuck, proven: false })
}

fn cycle(evidence: &Evidence, group: &Group) -> Option<Finding> {
    let Group { stuck, proven } = group;
    let who = |s: &Stuck| {
        let row = evidence.thread(s.thread)?;
        Some(format!("`{}` ({})", row.name, row.tid))
    };
    let edges: Vec<String> = stuck
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let site = words::site_of(evidence.object(s.lock)?);
            if !proven {
                return Some(format!("{} waits in {site}", who(s)?));
            }
            let holder = who(&stuck[(i + 1) % stuck.len()])?;
            let lock = format!("lock {:#x}", evidence.object(s.lock)?.address);
            Some(format!("{} waits in {site} for {lock} held by {holder}", who(s)?))
        })
        .collect::<Option<_>>()?;
    let first = stuck.iter().map(|s| s.since).min()?;
    let last = stuck.iter().map(|s| s.since).max()?;
    let end = stuck.iter().map(|s| s.end).max()?;
    let share = evidence.of_wall(end.saturating_sub(first));
    let sure = if *proven {
        "Each holder was seen to take its lock and was not seen to let go of it since."
    } else {
        "Who holds the locks was not seen: that it is these threads is likely, not proven. Another \
         that does not go on, the main one for instance, may hold them."
    };
    let edges = edges.join("; ");
    let stood = Nanos(end.saturating_sub(last));
    let text = format!("{edges}. None of them got any further for the last {stood}. {sure}");
    let n = words::count(stuck.len() as u64, "thread");
    let (headline, title, rank) = if *proven {
        (format!("{n} are deadlocked: {edges}"), format!("deadlock of {n}"), CERTAIN)
    } else {
        let title = format!("probably a deadlock of {n}");
        (format!("{n} are probably deadlocked, waiting for each other: {edges}"), title, LIKELY)
    };
    let known = if *proven { stuck.len() as u64 } else { 0 };
    let found = RULE.found(Severity::Cost, title, text);
    Some(
        found
            .about(stuck[0].lock)
            .with_threads(stuck.iter().map(|s| s.thread))
            .with_time("stuck for", end.saturating_sub(first))
            .with_count("holders known", known)
            .claiming("deadlock", rank, share, headline),
    )
}
