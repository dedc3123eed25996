//! A thread that mostly waits for others, and pays a switch interval each time it comes back.

use super::Evidence;
use super::Rule;
use super::gil_facts::GilFacts;
use super::gil_facts::Waiter;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "gil-convoy",
    title: "a thread that does I/O behind threads that compute, at the GIL",
    reports: "Threads that compute little and wait for the GIL for much of their lives, after I/O as a \
              rule: how long each return to Python takes them, and which threads compute meanwhile, in \
              which function.",
    matters: "a thread that computes keeps the GIL for a switch interval (5 ms): each answer, however quick, \
              is picked up that late",
    try_this: "Compute in processes (`ProcessPoolExecutor`), not in threads beside I/O; or shorten the \
               interval (`sys.setswitchinterval(0.0005)`), which costs the computing threads a little; \
               or use a free-threaded build.",
    check,
};

/// A victim waits for the GIL for so much of its life,
const LEAST_WAIT: f64 = 0.2;
/// and runs for no more than this part of that.
const MOST_RUN: f64 = 0.25;
const LEAST_WAITS: u64 = 10;
/// Python's own switch interval, ns.
const INTERVAL: u64 = 5_000_000;
/// From here on it may be the story of the run.
const MAJOR: f64 = 0.25;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let gils = evidence.gils.iter();
    let gils = gils.filter_map(|(&id, facts)| Some((evidence.object(id)?, facts)));
    let mut found: Vec<(u64, Finding)> = gils
        .flat_map(|(gil, facts)| {
            let one =
                |(&thread, waiter)| judge(evidence, gil, facts, evidence.thread(thread)?, waiter);
            facts.waiters.iter().filter_map(one).collect::<Vec<_>>()
        })
        .collect();
    found.sort_by_key(|&(ns, _)| std::cmp::Reverse(ns));
    found.into_iter().map(|(_, finding)| finding).take(4).collect()
}

fn judge(
    evidence: &Evidence,
    gil: &Object,
    facts: &GilFacts,
    thread: &ThreadRow,
    waiter: &Waiter,
) -> Option<(u64, Finding)> {
    let life = thread.states.0.total();
    let waited = Nanos(waiter.ns).share_of(life);
    let ran = thread.states.0[State::Running].0;
    // A thread that computes uses its turns up.
    let interval = if facts.interval_ns > 0 { facts.interval_ns } else { INTERVAL };
    let long = ran > waiter.waits * interval / 3 || ran as f64 > waiter.ns as f64 * MOST_RUN;
    if waited < LEAST_WAIT || waiter.waits < LEAST_WAITS || long {
        return None;
    }
    let mut behind: Vec<(u32, u64)> = waiter.behind.iter().map(|(&id, &ns)| (id, ns)).collect();
    behind.sort_by_key(|&(id, ns)| (std::cmp::Reverse(ns), id));
    let most = behind.first().map_or(0, |&(_, ns)| ns);
    behind.retain(|&(_, ns)| ns * 5 >= most && ns > 0);
    let first = behind.first()?.0;
    let hot = evidence.lives.get(first as usize).and_then(|life| life.hot.clone());
    let computing = hot.map_or_else(String::new, |(at, _)| words::inside(&at));
    let who = words::threads(evidence, behind.iter().map(|&(id, _)| id));
    let each = Nanos(waiter.ns / waiter.waits);
    let n = behind.len() as u64;
    let part = words::percent(waited);
    let name = thread.called();
    let interval = law(facts.interval_ns, n);
    let text = format!(
        "`{name}` ({}) computes little ({} of its life) and waited {} for the GIL, {part} of its life: {} \
         times, {each} on average, {} of them right after a wait for something else. Meanwhile {who} ran \
         Python code{computing}.{interval}",
        thread.tid,
        words::percent(Nanos(ran).share_of(life)),
        Nanos(waiter.ns),
        waiter.waits,
        waiter.returns,
    );
    let headline = format!(
        "convoy at Python's GIL: `{name}` does I/O and waits {part} of its life for the GIL, {each} each time \
         it comes back, behind {who} computing{computing}"
    );
    let share = evidence.of_wall(waiter.ns);
    // Behind one that does not check, a convoy is not the cause.
    let hogged: u64 = facts.hogs.values().map(|hog| hog.ns).sum();
    let rank = if hogged > waiter.ns / 3 { 6 } else { 7 };
    let gain = evidence.gain("nogil").filter(|gain| evidence.is_real(gain));
    let severity = if gain.is_some() { Severity::Bottleneck } else { Severity::Cost };
    let finding = RULE
        .found(severity, format!("`{name}` is in a convoy behind {who}"), text)
        .about(gil.id)
        .with_threads([thread.id].into_iter().chain(behind.iter().map(|&(id, _)| id)))
        .with_time("waited", waiter.ns)
        .with_count("waits", waiter.waits)
        .with_share("of its life", waited)
        .with_gain(gain);
    let tells = share >= MAJOR;
    let finding =
        if tells { finding.claiming("gil-convoy", rank, share, headline) } else { finding };
    Some((waiter.ns, finding))
}

/// What a return costs behind so many threads that compute.
fn law(interval: u64, n: u64) -> String {
    if interval == 0 {
        return String::new();
    }
    format!(
        " A thread that computes keeps it until it was asked after the switch interval ({}), so behind {} a \
         return is due about {} late.",
        Nanos(interval),
        words::count(n, "such thread"),
        Nanos(interval * n),
    )
}
