//! Switches that cost more than the work between them.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "chatty-switching",
    title: "so many switches that they cost as much as the work",
    reports: "Threads that block so often that they run less than twenty microseconds at a time, where \
              that happens tens of thousands of times a second.",
    matters: "each switch costs one to three microseconds and a cold cache: handing over more at a time \
              saves it",
    try_this: "Batch: hand over many items at once, buffer small reads and writes, or keep both ends in \
               one thread.",
    check,
};

/// Switches a second of the whole program.
const OFTEN: f64 = 20_000.0;
/// Running between two switches.
const SHORT: u64 = 20_000;
/// What a switch costs at least, ns.
const EACH: u64 = 1_500;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let threads = &evidence.report.threads;
    let switches: u64 = threads.iter().map(|t| t.switches.voluntary).sum();
    let ran = evidence.report.budget.states.0[State::Running].0;
    let rate = switches as f64 / (evidence.report.wall_ns.max(1) as f64 / 1e9);
    let each = ran / switches.max(1);
    if rate < OFTEN || each > SHORT || switches < 5_000 {
        return Vec::new();
    }
    let mut most: Vec<(u64, u32)> = threads.iter().map(|t| (t.switches.voluntary, t.id)).collect();
    most.sort_by_key(|&(n, id)| (std::cmp::Reverse(n), id));
    most.retain(|&(n, _)| n > switches / 10);
    let names: Vec<String> = most.iter().map(|&(_, id)| evidence.called(id)).collect();
    let cost = Nanos(switches * EACH);
    let text = format!(
        "Threads blocked {switches} times, {rate:.0} times a second, and ran {} between two of them; {} \
         most. At {} each the switches alone took about {cost} of {} of CPU time.",
        Nanos(each),
        words::list(&names),
        Nanos(EACH),
        Nanos(ran),
    );
    vec![
        RULE.found(Severity::Cost, format!("{rate:.0} switches a second"), text)
            .with_threads(most.into_iter().map(|(_, id)| id))
            .with_count("switches", switches)
            .with_time("running between two", each),
    ]
}
