//! Threads that are made for a moment's work.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "thread-churn",
    title: "a thread made for each small task",
    reports: "Processes that make many threads which live shortly and run less than a millisecond each.",
    matters: "making and ending a thread costs some ten microseconds and a cold start, often more than its \
              task",
    try_this: "Use a pool of threads that stay.",
    check,
};

const MANY: usize = 50;
const SHORT: u64 = 20_000_000;
const LITTLE: u64 = 1_000_000;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    for process in &evidence.report.processes {
        let short = |thread: &&ThreadRow| {
            let leader = thread.tid == process.pid;
            !leader && !thread.alive && thread.end_ns - thread.start_ns < SHORT
        };
        let threads: Vec<&ThreadRow> = evidence.threads_of(process.id).filter(short).collect();
        let ran: u64 = threads.iter().map(|t| t.states.0[State::Running].0).sum();
        let each = ran / threads.len().max(1) as u64;
        if threads.len() < MANY || each > LITTLE {
            continue;
        }
        let text = format!(
            "`{}` made {} threads that lived less than {} each and ran {} on average.",
            process.name,
            threads.len(),
            Nanos(SHORT),
            Nanos(each),
        );
        let title = format!("{} for small tasks", words::count(threads.len() as u64, "thread"));
        found.push(
            RULE.found(Severity::Cost, title, text)
                .with_threads(threads.iter().map(|thread| thread.id))
                .with_count("short-lived threads", threads.len() as u64)
                .with_time("running, each", each),
        );
    }
    found
}
