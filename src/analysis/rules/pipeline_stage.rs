//! The stage of a pipeline that limits it.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::State;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

pub const RULE: Rule = Rule {
    id: "pipeline-stage",
    title: "the stage of a pipeline that limits the others",
    reports: "A thread or process that the stages before and after it wait for, at queues or pipes, while \
              it hardly waits itself.",
    matters: "a pipeline is as fast as its slowest stage: making another one faster gains nothing",
    try_this: "Make this stage faster, or run several of it side by side.",
    check,
};

/// A stage that waits this much for another one waits for it.
const WAITS: f64 = 0.15;
/// The slowest stage hardly waits.
const HARDLY: f64 = 0.25;
/// And the run goes through it.
const ON_PATH: f64 = 0.5;

/// The queues at which threads hand work on.
const QUEUES: [State; 3] = [State::Condvar, State::Pipe, State::Network];

fn check(evidence: &Evidence) -> Vec<Finding> {
    limiting(evidence).into_iter().collect()
}

/// Who waits for whom at queues: for each thread that is waited for, the threads that wait
/// and the queues they wait at.
fn waiting_for(evidence: &Evidence) -> BTreeMap<u32, (BTreeSet<u32>, BTreeSet<u32>)> {
    let mut found: BTreeMap<u32, (BTreeSet<u32>, BTreeSet<u32>)> = BTreeMap::new();
    for object in &evidence.report.objects {
        if !QUEUES.iter().any(|state| state.name() == object.state) {
            continue;
        }
        let Some(holder) = object.holders.first().filter(|h| h.blamed_ns > object.wait_ns / 2)
        else {
            continue;
        };
        for (thread, waits, ns) in evidence.waiters(object.id) {
            let life = evidence.thread(thread).map_or(0, |row| row.end_ns - row.start_ns);
            if thread != holder.thread && waits >= 5 && ns as f64 > life as f64 * WAITS {
                let entry = found.entry(holder.thread).or_default();
                entry.0.insert(thread);
                entry.1.insert(object.id);
            }
        }
    }
    found
}

fn limiting(evidence: &Evidence) -> Option<Finding> {
    let all = waiting_for(evidence);
    let (&stage, (waiters, queues)) = all
        .iter()
        .filter(|(_, (waiters, queues))| waiters.len() >= 2 && queues.len() >= 2)
        .max_by(|a, b| evidence.path_of(*a.0).total_cmp(&evidence.path_of(*b.0)))?;
    let row = evidence.thread(stage)?;
    let waits: f64 = QUEUES.iter().map(|&state| evidence.of_life(row, state)).sum();
    let path = evidence.path_of(stage);
    if waits > HARDLY || path < ON_PATH || in_a_pool(evidence, stage) {
        return None;
    }
    let spot = evidence.spots.iter().find(|s| s.thread == stage && !s.chain.is_empty());
    let doing = spot.map_or_else(String::new, |spot| {
        let state = State::from_name(spot.state).unwrap_or(State::Unknown);
        format!(", {}{}", words::doing(state), words::inside(&spot.chain))
    });
    let change = format!("thread:{}*", row.name);
    let gain = evidence.gain(&change).filter(|gain| evidence.is_real(gain));
    let names: Vec<String> = waiters.iter().map(|&id| evidence.called(id)).collect();
    let text = format!(
        "{} wait at {} for `{}`, which itself waits {} of its time{doing}. {} of the critical \
         path goes through it.",
        words::list(&names),
        words::count(queues.len() as u64, "queue"),
        row.called(),
        words::percent(waits),
        words::percent(path),
    );
    let outcome = gain.as_ref().map_or_else(
        || format!("{} of the run went through it", words::percent(path)),
        |gain| format!("twice as fast it makes the run {} faster", words::times(gain)),
    );
    let headline = format!(
        "{} wait for the slowest stage, `{}`{doing}: {outcome}",
        words::list(&names),
        row.called()
    );
    let severity = if gain.is_some() { Severity::Bottleneck } else { Severity::Cost };
    let mut finding = RULE
        .found(severity, format!("`{}` is the slowest stage", row.called()), text)
        .with_threads([stage])
        .with_share("of the path", path)
        .with_share("of its time it waits", waits)
        .with_gain(gain)
        .claiming("starved", 5, path, headline);
    finding.object = queues.first().copied();
    Some(finding)
}

/// Whether another process of the same parent does the same work: then it is one of several workers,
/// and no stage of its own.
fn in_a_pool(evidence: &Evidence, stage: u32) -> bool {
    let hot = |thread: u32| Some(&evidence.lives.get(thread as usize)?.hot.as_ref()?.0);
    let Some(row) = evidence.thread(stage).filter(|_| hot(stage).is_some()) else { return false };
    let process = evidence.report.processes.get(row.process as usize);
    let parent = process.and_then(|process| process.parent);
    let siblings = parent.map_or(&[][..], |parent| evidence.children_of(parent));
    let others = siblings.iter().filter(|other| other.id != row.process);
    let mut threads = others.flat_map(|other| evidence.threads_of(other.id));
    threads.any(|other| hot(other.id) == hot(stage))
}
