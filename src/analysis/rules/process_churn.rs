//! Processes that are made for a moment's work.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeMap;

pub const RULE: Rule = Rule {
    id: "process-churn",
    title: "a process made for each small task",
    reports: "Parents that start dozens of processes which run a few milliseconds each, and what part of \
              the run goes through them.",
    matters: "fork, exec, loading and ending cost about a millisecond each time, often more than the task",
    try_this: "Do it in the process itself (shell built-ins, a library), or start one process for many tasks.",
    check,
};

const MANY: usize = 20;
/// A task of less than that is small.
const LITTLE: u64 = 5_000_000;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut by_parent: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, process) in evidence.report.processes.iter().enumerate() {
        if let Some(parent) = process.parent {
            by_parent.entry(parent).or_default().push(index);
        }
    }
    let mut found = Vec::new();
    for (parent, children) in by_parent {
        let rows: Vec<_> = children.iter().map(|&i| &evidence.report.processes[i]).collect();
        let ran: u64 = rows.iter().map(|p| p.states.0[State::Running].0).sum();
        let lived: u64 = rows.iter().map(|p| p.end_ns - p.start_ns).sum();
        let each = ran / rows.len().max(1) as u64;
        let Some(parent) = evidence.report.processes.get(parent as usize) else { continue };
        // Children that mostly wait are not there for a moment's work.
        let busy: u64 = ran + rows.iter().map(|p| p.states.0[State::Runnable].0).sum::<u64>();
        if rows.len() < MANY || each > LITTLE || busy < lived.div_ceil(2) {
            continue;
        }
        let on_path: f64 = rows
            .iter()
            .flat_map(|child| evidence.threads_of(child.id))
            .map(|thread| evidence.path_of(thread.id))
            .sum();
        let text = format!(
            "`{}` started {} processes that ran {} each on average; {} of the critical path goes through \
             them.",
            parent.name,
            rows.len(),
            Nanos(each),
            words::percent(on_path),
        );
        let headline = format!(
            "`{}` starts a process for each small task: {} of the run goes through {} of them, which ran \
             {} each",
            parent.name,
            words::percent(on_path),
            rows.len(),
            Nanos(each),
        );
        let churn = RULE
            .found(Severity::Cost, format!("{} small processes", rows.len()), text)
            .with_count("processes", rows.len() as u64)
            .with_time("running, each", each)
            .with_share("of the path", on_path);
        let tells = on_path >= 0.3;
        found.push(if tells { churn.claiming("child-bound", 2, on_path, headline) } else { churn });
    }
    found
}
