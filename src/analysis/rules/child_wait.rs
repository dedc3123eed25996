//! Children that run one after the other.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::ProcessRow;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "child-wait",
    title: "a process that waits for its children, one after the other",
    reports: "Processes that spend most of their lives in wait while their children run, hardly ever two at \
              a time though CPUs are free.",
    matters: "children that do not need each other's results could run at once",
    try_this: "Start them together and wait for all (`xargs -P`, `make -j`, `&` and `wait`), or do the work in \
               one process.",
    check,
};

const MOSTLY: f64 = 0.5;
/// Of the lives of all children, from which one of them is what is waited for.
const NEARLY_ALL: f64 = 0.9;
const OF_ONE: &str =
    "Look at what that child did: what it waited for and where it ran stands in this report.";
/// Lives of children on top of each other, from which they ran at once.
const AT_ONCE: f64 = 1.3;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let all = evidence.report.processes.iter();
    let mut found: Vec<Finding> = all.filter_map(|parent| judge(evidence, parent)).collect();
    found.truncate(2);
    found
}

fn judge(evidence: &Evidence, parent: &ProcessRow) -> Option<Finding> {
    let waiting = parent.states.0[State::Child];
    let share = evidence.of_wall(waiting.0);
    if share < MOSTLY {
        return None;
    }
    let children = evidence.children_of(parent.id).iter().copied();
    let children: Vec<&ProcessRow> = children.filter(|p| p.end_ns > p.start_ns).collect();
    let lives: u64 = children.iter().map(|p| p.end_ns - p.start_ns).sum();
    let first = children.iter().map(|p| p.start_ns).min()?;
    let last = children.iter().map(|p| p.end_ns).max()?;
    let overlap = lives as f64 / (last - first).max(1) as f64;
    let longest = children.iter().max_by_key(|p| (p.end_ns - p.start_ns, p.id))?;
    let n = children.len() as u64;
    if overlap > AT_ONCE {
        return None;
    }
    let longest_life = longest.end_ns - longest.start_ns;
    // Then nothing is gained by starting them together.
    let one = longest_life as f64 >= NEARLY_ALL * lives as f64;
    let on_path: f64 = children
        .iter()
        .flat_map(|child| evidence.threads_of(child.id))
        .map(|thread| evidence.path_of(thread.id))
        .sum();
    let life = Nanos(longest_life);
    let text = match (n, one) {
        (1, _) => format!(
            "`{}` waited {waiting} for its child `{}` [{}], which lived {life}.",
            parent.name, longest.name, longest.pid
        ),
        (_, true) => format!(
            "`{}` waited {waiting} for {n} children, nearly all of it for one: `{}` [{}] lived {life}.",
            parent.name, longest.name, longest.pid
        ),
        (_, false) => format!(
            "`{}` waited {waiting} for {n} children, one after the other; the longest (`{}`) took {life}.",
            parent.name, longest.name
        ),
    };
    let mut states = crate::model::States::default();
    for child in &children {
        states.add(&child.states.0);
    }
    let most = states.iter().max_by_key(|&(_, time)| time).map_or(State::Unknown, |(s, _)| s);
    let headline = format!(
        "`{}` waits for {}: {} of the run goes through them, mostly {}",
        parent.name,
        if one {
            format!("its child `{}` [{}]", longest.name, longest.pid)
        } else {
            format!("{n} children, one after the other (`{}` ...)", longest.name)
        },
        words::percent(on_path),
        words::doing(most),
    );
    let severity = if one { Severity::Note } else { Severity::Cost };
    let mut finding = RULE
        .found(severity, format!("`{}` waits for its children", parent.name), text)
        .with_time("waited", waiting.0)
        .with_count("children", n)
        .with("children at once", overlap, "ratio");
    if one {
        OF_ONE.clone_into(&mut finding.advice);
    }
    // What the children did tells more than that they were waited for.
    let claim = |finding: Finding| finding.claiming("child-bound", 0, on_path.min(share), headline);
    Some(if one { finding } else { claim(finding) })
}
