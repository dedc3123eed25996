//! The concurrency model of each process, judged.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::concurrency;
use crate::analysis::report::ConcurrencyModel;
use crate::analysis::report::Finding;
use crate::analysis::report::ProcessRow;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;
use crate::model::States;

pub const RULE: Rule = Rule {
    id: "model",
    title: "how the work is divided, and whether that serves it",
    reports: "The concurrency model of each larger process (threads, a pool, an event loop, a pipeline, \
              processes, fork and join), with the evidence, and whether it used what it cost.",
    matters: "a model that serialises its work has the cost of concurrency and not its gain",
    try_this: "See what the finding says: the model itself may be the thing to change.",
    check,
};

/// Processes with less of all thread time than this are not judged.
const LEAST: f64 = 0.1;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let total = Nanos(evidence.report.budget.thread_ns);
    let mut processes: Vec<&ProcessRow> = evidence.report.processes.iter().collect();
    processes.retain(|p| p.states.0.total().share_of(total) >= LEAST || p.parent.is_none());
    processes.sort_by_key(|p| (std::cmp::Reverse(p.states.0.total()), p.id));
    processes.into_iter().take(3).filter_map(|p| judge(evidence, p)).collect()
}

fn judge(evidence: &Evidence, process: &ProcessRow) -> Option<Finding> {
    let model = evidence.models.get(process.id as usize)?;
    let ConcurrencyModel { kind, runtime, workers, evidence: reasons } = model;
    let kind = kind.as_deref()?;
    // A child is part of its parent's model.
    if kind == "single-thread" && process.parent.is_some() {
        return None;
    }
    let judgement = judgement(evidence, process, kind, workers.unwrap_or(1))?;
    // A build in which threads run at once is another thing to judge.
    let named = process.runtime.as_ref().map(|runtime| runtime.0.as_str());
    let runtime = named.filter(|_| process.free_threaded).or(runtime.as_deref());
    let runtime = runtime.map_or_else(String::new, |runtime| format!(" ({runtime})"));
    let name = &process.name;
    let better = better_for_python(evidence, process, kind).unwrap_or_default();
    let text = format!(
        "`{name}` is {}{runtime}: {}. {judgement}.{better}",
        article(kind),
        reasons.join("; ")
    );
    Some(
        RULE.found(Severity::Note, format!("`{name}`: {kind}{runtime}"), text)
            .with_threads(evidence.threads_of(process.id).map(|thread| thread.id)),
    )
}

fn article(kind: &str) -> String {
    match kind {
        "threads" => "a program of threads".to_owned(),
        "single-thread" => "a program of one thread".to_owned(),
        "fork-join" => "a fork-join program".to_owned(),
        "event-loop" => "an event loop".to_owned(),
        _ => format!("a {}", kind.replace('-', " ")),
    }
}

/// The lock, or GIL, that its threads shared for most of its life.
fn shared(evidence: &Evidence, process: &ProcessRow, life: u64) -> Option<String> {
    let busiest = evidence
        .queued
        .iter()
        .filter_map(|(&id, &ns)| Some((evidence.object(id)?, ns)))
        .filter(|(object, _)| object.pid == process.pid)
        // A queue that the run did not wait for says nothing about it.
        .filter(|(object, _)| object.kind == "gil" || evidence.path_under(object.id) > 0.3)
        .max_by_key(|&(_, ns)| ns);
    if let Some((object, ns)) = busiest
        && ns > life / 2
        && object.waiters >= 2
    {
        let n = words::count(object.waiters, "thread");
        let part = words::percent(Nanos(ns).share_of(Nanos(life)));
        let what = if object.kind == "gil" {
            "Python's GIL".to_owned()
        } else {
            format!("one lock{}", words::called(object))
        };
        return Some(format!(
            "Its {n} shared {what}, and for {part} of the time at least one had to wait for it: a \
             serial program with extra steps"
        ));
    }
    None
}

/// Whether the model served the work; `None` where nothing can be said.
fn judgement(
    evidence: &Evidence,
    process: &ProcessRow,
    kind: &str,
    workers: u32,
) -> Option<String> {
    let life = process.end_ns - process.start_ns;
    if let Some(shared) = shared(evidence, process, life) {
        return Some(shared);
    }
    let cpu = process.states.0[State::Running].share_of(Nanos(life));
    // Whose waits were not seen may have waited for each other.
    let seen = process.states.0[State::Unknown].share_of(process.states.0.total()) < UNSEEN;
    let free = evidence.report.utilisation.mean_cpus < 0.7 * evidence.cpus();
    match kind {
        "single-thread" if cpu > 0.6 && free && evidence.cpus() >= 2.0 => Some(format!(
            "It ran {} of its life and could use only one of {}: threads or processes would serve it \
             better if its work divides",
            words::percent(cpu),
            words::cpus_of(&evidence.report.host),
        )),
        "pipeline" => Some("It is as fast as its slowest stage, and no faster".to_owned()),
        "process-pool" => {
            let children = evidence.children_of(process.id).iter();
            let work: Nanos = children
                .map(|child| child.states.0[State::Running] + child.states.0[State::Runnable])
                .sum();
            let wanted = work.share_of(Nanos(life));
            Some(format!("On average {wanted:.1} of {workers} children wanted a CPU"))
        }
        "event-loop" => {
            let tokio = evidence.threads_of(process.id).any(|t| t.name.0.starts_with("tokio-"));
            let turns = evidence
                .threads_of(process.id)
                .filter(|thread| tokio || concurrency::is_loop(evidence, thread))
                .filter_map(|thread| Some(&evidence.lives.get(thread.id as usize)?.turns));
            let (all, long) =
                turns.fold((0, 0), |(all, long), turns| (all + turns.count, long + turns.long));
            Some(format!("{long} of its {all} turns took longer than 10 ms"))
        }
        "single-thread" if cpu < 0.2 && process.states.0[State::Child].0 < life.div_ceil(2) => {
            Some("It mostly waits: one thread is enough unless its waits could overlap".to_owned())
        }
        "thread-pool" if seen => {
            let (n, busy) = workers_at_work(evidence, process)?;
            Some(format!("Of {n:.0} workers {busy:.1} had work on average"))
        }
        "threads" | "fork-join" if workers >= 2 && seen => {
            let waiting: Nanos = [State::Join, State::Condvar, State::Lock, State::Gil]
                .into_iter()
                .map(|state| process.states.0[state])
                .sum();
            let active = (process.states.0.total() - waiting).share_of(Nanos(life));
            Some(format!(
                "On average {active:.1} of {} were at work, not waiting for each other",
                words::count((workers + 1).into(), "thread")
            ))
        }
        _ => None,
    }
}

/// The part of the threads' time without a reason from which on nobody can say who was at work.
const UNSEEN: f64 = 0.1;

/// How many workers a pool of threads has, and how many had work on average.
fn workers_at_work(evidence: &Evidence, process: &ProcessRow) -> Option<(f64, f64)> {
    let taking = evidence.threads_of(process.id);
    let taking: Vec<&ThreadRow> =
        taking.filter(|t| t.tid != process.pid && evidence.roles(t.id).thread_pool).collect();
    if !taking.is_empty() {
        return Some(busy(&taking));
    }
    let pool = evidence.pools().iter().find(|pool| pool.object.pid == process.pid)?;
    let n = pool.workers.len() as f64;
    Some((n, n * (1.0 - pool.waiting)))
}

/// How many there are, and how many did not wait for jobs on average.
fn busy(workers: &[&ThreadRow]) -> (f64, f64) {
    let life: Nanos = workers.iter().map(|row| row.states.0.total()).sum();
    let waited: Nanos = workers.iter().map(|row| row.states.0[State::Condvar]).sum();
    let n = workers.len() as f64;
    (n, n * (life - waited).share_of(life))
}

/// Threads that cost more than a loop would.
const MANY: usize = 200;

/// Which other model of Python's would do with less.
fn better_for_python(evidence: &Evidence, process: &ProcessRow, kind: &str) -> Option<String> {
    let threads: Vec<&ThreadRow> = evidence.threads_of(process.id).collect();
    let python = threads.iter().any(|thread| evidence.roles(thread.id).any);
    let busy = |states: &States| {
        (states[State::Running] + states[State::Runnable]).share_of(states.total())
    };
    match kind {
        "threads" | "fork-join" | "thread-pool" if python && threads.len() >= MANY => {
            let busy = busy(&process.states.0);
            (busy < 0.1).then(|| {
                format!(
                    " {} threads that wait for {} of their lives could be tasks of one event loop (asyncio), \
                     with less memory and fewer switches.",
                    threads.len(),
                    words::percent(1.0 - busy),
                )
            })
        }
        "process-pool" if python => {
            let mut states = States::default();
            for child in evidence.children_of(process.id) {
                states.add(&child.states.0);
            }
            let asks: Nanos =
                [State::Network, State::Disk, State::Sleep].map(|s| states[s]).into_iter().sum();
            let share = asks.share_of(states.total());
            (share > 0.5 && busy(&states) < 0.2).then(|| {
                format!(
                    " They wait for I/O or timers for {} of their lives, which lets go of the GIL: threads or \
                     asyncio would do that without the cost of processes.",
                    words::percent(share)
                )
            })
        }
        _ => None,
    }
}
