//! Threads that wait by running.

use super::Evidence;
use super::Rule;
use super::evidence::LifeFacts;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "spin-wait",
    title: "threads that wait by running (spinning)",
    reports: "Threads with a large part of their samples in a function that spins, by its name, and \
              threads that call `sched_yield` thousands of times a second.",
    matters: "a spinning thread looks busy and does nothing; it takes the CPU from those it waits for",
    try_this: "Wait in a condition variable or futex after a short spin. With CPUs to spare this saves power, \
               not time.",
    check,
};

/// Of a thread's samples.
const MOSTLY: f64 = 0.2;
/// Yields a second.
const OFTEN: f64 = 2_000.0;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let rows = evidence.report.threads.iter();
    let mut found: Vec<Finding> = rows
        .zip(&evidence.lives)
        .filter_map(|(thread, life)| spins(evidence, thread, life))
        .collect();
    found.extend(yields(evidence));
    found
}

fn spins(evidence: &Evidence, thread: &ThreadRow, life: &LifeFacts) -> Option<Finding> {
    let (function, spun) = life.spun.as_ref()?;
    let running = thread.states.0[State::Running];
    let share = Nanos(*spun).share_of(Nanos(life.sampled));
    let time = Nanos((running.0 as f64 * share) as u64);
    if share < MOSTLY || evidence.of_wall(time.0) < 0.05 {
        return None;
    }
    let beside = busiest_other(evidence, thread);
    let for_whom = beside
        .as_ref()
        .map_or_else(String::new, |(name, place)| format!(" Meanwhile `{name}` was{place}."));
    let text = format!(
        "`{}` ran for {running}, {} of it in `{function}`, which waits by running.{for_whom} With a CPU to \
         spare, blocking instead would not make the run shorter.",
        thread.called(),
        words::percent(share),
    );
    let finding = RULE
        .found(Severity::Cost, format!("`{}` spins in `{function}`", thread.called()), text)
        .with_threads([thread.id])
        .with_time("spun", time.0)
        .with_share("of its samples", share);
    // Without those who spin one thread is left: the program is a serial one.
    let working = evidence
        .threads_of(thread.process)
        .filter(|other| other.id != thread.id && evidence.of_life(other, State::Running) > 0.1);
    let of_run = evidence.of_wall(time.0);
    let alone = of_run >= 0.2 && working.count() == 1;
    Some(match beside.filter(|_| alone) {
        Some((name, place)) => {
            let headline = format!(
                "one thread works at a time: `{}` spins in `{function}` for {} of the run and waits for \
                 `{name}`, which works alone{place}",
                thread.called(),
                words::percent(of_run)
            );
            finding.claiming("serial", 4, of_run, headline)
        }
        None => finding,
    })
}

/// The other thread of a process that ran most, and where.
fn busiest_other(evidence: &Evidence, thread: &ThreadRow) -> Option<(String, String)> {
    let others = evidence.threads_of(thread.process).filter(|other| other.id != thread.id);
    let busiest = others.max_by_key(|other| other.states.0[State::Running])?;
    let hot = evidence.lives.get(busiest.id as usize)?.hot.as_ref()?;
    Some((busiest.name.0.clone(), words::inside(&hot.0)))
}

fn yields(evidence: &Evidence) -> Option<Finding> {
    let total: u64 = evidence.lives.iter().map(|life| life.yields).sum();
    let rate = total as f64 / (evidence.report.wall_ns.max(1) as f64 / 1e9);
    let (most, life) = (0..).zip(&evidence.lives).max_by_key(|(_, life)| life.yields)?;
    if rate < OFTEN || total < 1000 {
        return None;
    }
    let queued = Nanos(evidence.detail("runnable: after sched_yield"));
    let threads: Vec<u32> = (0..)
        .zip(&evidence.lives)
        .filter(|(_, life)| life.yields > total / 20)
        .map(|(id, _)| id)
        .collect();
    let text = format!(
        "{} gave up the CPU and stayed ready {total} times ({rate:.0} a second), `{}` most often ({} \
         times), and then queued for {queued} in all.",
        words::count(threads.len() as u64, "thread"),
        evidence.called(most),
        life.yields,
    );
    let n = words::they(threads.len() as u64, "thread", "hand");
    let headline = format!(
        "{n} the CPU round with `sched_yield`, {rate:.0} times a second, and spent {queued} in the run queue \
         for it"
    );
    let finding = RULE
        .found(Severity::Cost, "threads wait by `sched_yield`".to_owned(), text)
        .with_threads(threads)
        .with_count("yields", total)
        .with_time("queued afterwards", queued.0);
    let states = &evidence.report.budget.states.0;
    let share = queued.share_of(states.total());
    Some(if share >= 0.25 {
        finding.claiming("oversubscribed", 3, share, headline)
    } else {
        finding
    })
}
