//! Threads that wait for each other's locks and never come back.

use super::CERTAIN;
use super::Evidence;
use super::LIKELY;
use super::Rule;
use super::evidence::LifeFacts;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

pub const RULE: Rule = Rule {
    id: "deadlock",
    title: "threads that wait for each other for ever",
    reports: "Two or more threads of one process, each of which waits for the next until they were no \
              more: for a lock that it holds, for its end, or for what only it ever wrote to a pipe. \
              The cycle is printed; it is called probable where not every link of it was seen.",
    matters: "they can never go on; only ending the process frees them",
    try_this: "Take the locks in the same order everywhere, or take them together (`std::lock`, \
               `try_lock` and back off).",
    check,
};

/// Shorter than this, and the end of the process only cut a wait short.
const LEAST: u64 = 50_000_000;

/// A thread that never came out of its last wait.
#[derive(Clone, Copy)]
struct Stuck {
    thread: u32,
    object: u32,
    state: State,
    since: u64,
    end: u64,
}

/// Whom a stuck thread waits for.
#[derive(Clone, Copy)]
struct Link {
    to: u32,
    /// It was seen, and not only concluded.
    seen: bool,
    /// What it has to do with a lock that is waited for.
    holds: &'static str,
}

impl Link {
    fn seen(to: u32) -> Self {
        Self { to, seen: true, holds: "held by" }
    }
}

/// Threads that wait for each other.
struct Group {
    stuck: Vec<Stuck>,
    /// Each waits for the next, the last for the first; empty where that is not known.
    links: Vec<Link>,
}

impl Group {
    fn proven(&self) -> bool {
        !self.links.is_empty() && self.links.iter().all(|link| link.seen)
    }
}

fn check(evidence: &Evidence) -> Vec<Finding> {
    groups(evidence).iter().filter_map(|group| cycle(evidence, group)).collect()
}

/// The objects of all deadlocks.
pub fn locks(evidence: &Evidence) -> BTreeSet<u32> {
    groups(evidence).into_iter().flat_map(|group| group.stuck).map(|stuck| stuck.object).collect()
}

/// Threads that wait for each other, by process.
fn groups(evidence: &Evidence) -> Vec<Group> {
    let mut by_process: BTreeMap<u32, Vec<Stuck>> = BTreeMap::new();
    for (thread, life) in (0..).zip(&evidence.lives) {
        let Some((object, state, since)) = life.stuck else { continue };
        let Some(row) = evidence.thread(thread) else { continue };
        let linked = matches!(state, State::Lock | State::Join | State::Pipe);
        let long = row.end_ns.saturating_sub(since) >= LEAST;
        // A queue that still moved is a queue.
        let moved = evidence.handed_last.get(&object).is_some_and(|&last| last > since);
        if linked && long && !moved {
            let stuck = Stuck { thread, object, state, since, end: row.end_ns };
            by_process.entry(row.process).or_default().push(stuck);
        }
    }
    let found = by_process.into_iter().filter_map(|(process, stuck)| {
        let seen = |one: &Stuck| known(evidence, one).filter(|link| link.seen);
        let any =
            |one: &Stuck| known(evidence, one).or_else(|| left(evidence, process, &stuck, one));
        ring(&stuck, &seen)
            .or_else(|| likely(evidence, process, &stuck))
            .or_else(|| ring(&stuck, &any))
    });
    found.collect()
}

/// A cycle of stuck threads.
fn ring(stuck: &[Stuck], link: &dyn Fn(&Stuck) -> Option<Link>) -> Option<Group> {
    for first in stuck {
        let (mut ring, mut links) = (vec![*first], Vec::new());
        while let Some(next) = link(&ring[ring.len() - 1]).filter(|_| ring.len() <= stuck.len()) {
            links.push(next);
            if next.to == first.thread && ring.len() >= 2 {
                return Some(Group { stuck: ring, links });
            }
            let Some(other) = stuck.iter().find(|other| other.thread == next.to) else { break };
            ring.push(*other);
        }
    }
    None
}

/// Whom a stuck thread waits for, if that is known.
fn known(evidence: &Evidence, one: &Stuck) -> Option<Link> {
    let object = evidence.object(one.object)?;
    let found = match one.state {
        State::Lock => evidence.owner(one.object).map(Link::seen),
        State::Join => object.awaits.map(Link::seen),
        // Whoever wrote to it so far, if that was always the same.
        _ => {
            let ended = evidence.handed.range((one.object, 0)..=(one.object, u32::MAX));
            let mut wrote = ended
                .map(|(&(_, by), &count)| (by, count))
                .filter(|&(by, count)| count > cuts(evidence, one.object, by));
            let only = wrote.next().filter(|_| wrote.next().is_none());
            only.map(|(to, _)| Link { seen: false, ..Link::seen(to) })
        }
    };
    found.filter(|link| link.to != one.thread)
}

/// Who can hold a lock whose holder was not seen: one of the other threads. If there is one only,
/// it does; and if all of them wait for the one that wants it, it does not matter which.
fn left(evidence: &Evidence, process: u32, stuck: &[Stuck], one: &Stuck) -> Option<Link> {
    let rest = evidence.threads_of(process).filter(|row| row.end_ns > one.since);
    let rest: Vec<u32> = rest.map(|row| row.id).filter(|&id| id != one.thread).collect();
    if one.state != State::Lock {
        return None;
    }
    if let [to] = *rest.as_slice() {
        return Some(Link { to, seen: false, holds: "which nobody can hold but" });
    }
    // The nearest, and of two the one that is not the main thread.
    let far = |&id: &u32| Some((steps(evidence, stuck, id, one.thread)?, Reverse(id)));
    let (_, Reverse(to)) = rest.iter().map(far).collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some(Link { to, seen: false, holds: "held, by all that is known, by" })
}

/// How many others a stuck thread waits for, one after the other, until it comes to that one.
fn steps(evidence: &Evidence, stuck: &[Stuck], from: u32, to: u32) -> Option<usize> {
    let mut now = from;
    for steps in 0..=stuck.len() {
        if now == to {
            return Some(steps);
        }
        let one = stuck.iter().find(|one| one.thread == now)?;
        now = known(evidence, one)?.to;
    }
    None
}

/// Waits for an object that a thread only cut short.
fn cuts(evidence: &Evidence, object: u32, by: u32) -> u64 {
    let cut = |life: &&LifeFacts| {
        life.cut_by == Some(by) && life.stuck.is_some_and(|(stuck, ..)| stuck == object)
    };
    evidence.lives.iter().filter(cut).count() as u64
}

/// All that are stuck at locks, if no other thread is there that could hold them.
fn likely(evidence: &Evidence, process: u32, stuck: &[Stuck]) -> Option<Group> {
    let at_locks = || stuck.iter().copied().filter(|one| one.state == State::Lock);
    let stuck: Vec<Stuck> = at_locks().collect();
    let locks: BTreeSet<u32> = stuck.iter().map(|s| s.object).collect();
    let first = stuck.iter().map(|s| s.since).min()?;
    let among = |thread: &ThreadRow| stuck.iter().any(|s| s.thread == thread.id);
    // Another worker may be the one who holds the locks and is only slow. So may the main thread,
    // but it is always there: the cycle is called likely then, and no more.
    let mut others = evidence
        .threads_of(process)
        .filter(|thread| thread.tid != thread.pid && thread.end_ns > first && !among(thread));
    // One lock that several wait for has a holder somewhere: not a cycle among these.
    let closed = stuck.len() >= 2 && locks.len() >= 2 && others.next().is_none();
    closed.then_some(Group { stuck, links: Vec::new() })
}

/// "`one` (101) waits in `first` for the lock `lock_b` held by `other` (102)".
fn edge(evidence: &Evidence, one: &Stuck, link: Option<&Link>) -> Option<String> {
    let who = |thread: u32| {
        let row = evidence.thread(thread)?;
        Some(format!("`{}` ({})", row.called(), row.tid))
    };
    let object = evidence.object(one.object)?;
    let waits = format!("{} waits in {}", who(one.thread)?, words::site_of(object));
    let Some(link) = link else { return Some(waits) };
    let to = who(link.to)?;
    Some(match one.state {
        State::Lock => {
            let name = object.name.as_ref().map(|name| format!("`{name}`"));
            let lock = name.unwrap_or_else(|| format!("{:#x}", object.address));
            format!("{waits} for lock {lock} {} {to}", link.holds)
        }
        State::Join => format!("{waits} for the end of {to}"),
        _ => format!("{waits} for {to}, who alone wrote to it, at {}", object.label),
    })
}

fn cycle(evidence: &Evidence, group: &Group) -> Option<Finding> {
    let Group { stuck, links } = group;
    let proven = group.proven();
    let edges = stuck.iter().enumerate().map(|(at, one)| edge(evidence, one, links.get(at)));
    let edges = edges.collect::<Option<Vec<String>>>()?.join("; ");
    let first = stuck.iter().map(|s| s.since).min()?;
    let last = stuck.iter().map(|s| s.since).max()?;
    let end = stuck.iter().map(|s| s.end).max()?;
    let share = evidence.of_wall(end.saturating_sub(first));
    let sure = if proven {
        "Each holder was seen to take its lock and was not seen to let go of it since."
    } else if links.is_empty() {
        "Who holds the locks was not seen: that it is these threads is likely, not proven. Another \
         that does not go on, the main one for instance, may hold them."
    } else {
        "Not every link was seen: that it is these threads is likely, not proven."
    };
    let stood = Nanos(end.saturating_sub(last));
    let text = format!("{edges}. None of them got any further for the last {stood}. {sure}");
    let n = words::count(stuck.len() as u64, "thread");
    let (headline, title, rank) = if proven {
        (format!("{n} are deadlocked: {edges}"), format!("deadlock of {n}"), CERTAIN)
    } else {
        let title = format!("probably a deadlock of {n}");
        (format!("{n} are probably deadlocked, waiting for each other: {edges}"), title, LIKELY)
    };
    let locks = stuck.iter().zip(links).filter(|(one, link)| one.state == State::Lock && link.seen);
    let known = locks.count() as u64;
    let found = RULE.found(Severity::Cost, title, text);
    Some(
        found
            .about(stuck[0].object)
            .with_threads(stuck.iter().map(|s| s.thread))
            .with_time("stuck for", end.saturating_sub(first))
            .with_count("holders known", known)
            .claiming("deadlock", rank, share, headline),
    )
}
