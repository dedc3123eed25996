//! Threads that wait for the slowest.

use super::Evidence;
use super::Rule;
use super::words;
use super::words::Held;
use crate::analysis::names::stem;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeMap;

pub const RULE: Rule = Rule {
    id: "straggler",
    title: "threads that wait for the slowest one (imbalance)",
    reports: "Barriers whose waits are mostly for one thread, and threads of one parent of which one \
              works much longer than the others.",
    matters: "each round takes as long as its slowest thread: the others' speed is worth nothing",
    try_this: "Even out the work: smaller pieces that threads fetch when they are done, or a cheaper piece \
               for the slow one.",
    check,
};

const MAJOR: f64 = 0.25;
/// Who had no CPU for this share of the others' wait is slow by the scheduler, not by its work.
const NO_CPU: f64 = 0.5;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let joins = evidence.report.objects.iter().filter(|o| o.state == State::Join.name());
    let mut found: Vec<Finding> = joins.filter_map(|o| barrier(evidence, o)).take(2).collect();
    if found.is_empty() {
        found.extend(unequal(evidence));
    }
    found
}

/// A barrier: several threads wait there, again and again.
fn barrier(evidence: &Evidence, object: &Object) -> Option<Finding> {
    let meets = object.waiters >= 2 && object.waits >= 2 * object.waiters;
    let last = object.holders.first().filter(|_| meets)?;
    let blamed = Nanos(last.blamed_ns).share_of(Nanos(object.wait_ns));
    let path = evidence.path_of(last.thread);
    if blamed < 0.6 || path < 0.4 {
        return None;
    }
    let gain = gain(evidence, last.thread);
    let held = Held::of(object);
    let doing = held.sentence();
    let place = held.within.last().map_or_else(String::new, |f| format!(" in `{f}`"));
    let n = words::count(object.waiters, "thread");
    let text = format!(
        "{n} waited {} at the barrier{} in {}, {} of it for `{}`{}.",
        Nanos(object.wait_ns),
        words::called(object),
        words::site_of(object),
        words::percent(blamed),
        last.name,
        doing.map_or_else(String::new, |doing| format!(", meanwhile {doing}")),
    );
    let outcome = gain.as_ref().map_or_else(
        || format!("{} of the run went through it", words::percent(path)),
        |gain| format!("half its work makes the run {} faster", words::times(gain)),
    );
    let headline =
        format!("{n} wait at a barrier for `{}`, the slowest{place}: {outcome}", last.name);
    let found = finding(last.thread, &last.name.0, text, gain)
        .about(object.id)
        .with_time("waited", object.wait_ns)
        .with_share("of it for the slowest", blamed);
    let by_work = held.runnable < NO_CPU;
    Some(if by_work { found.claiming("imbalanced", 5, path, headline) } else { found })
}

fn finding(
    thread: u32,
    name: &str,
    text: String,
    gain: Option<crate::analysis::report::Gain>,
) -> Finding {
    let severity = if gain.is_some() { Severity::Bottleneck } else { Severity::Cost };
    RULE.found(severity, format!("the others wait for `{name}`"), text)
        .with_threads([thread])
        .with_gain(gain)
}

fn gain(evidence: &Evidence, thread: u32) -> Option<crate::analysis::report::Gain> {
    let change = format!("thread:{}*", evidence.name_of(thread));
    evidence.gain(&change).filter(|gain| evidence.is_real(gain))
}

/// Threads of one parent that end together in a join, one much later than the rest.
fn unequal(evidence: &Evidence) -> Option<Finding> {
    let mut groups: BTreeMap<(u32, u32), Vec<&ThreadRow>> = BTreeMap::new();
    for (id, life) in (0..).zip(&evidence.lives) {
        let (Some(row), Some(parent)) = (evidence.thread(id), life.parent) else { continue };
        if evidence.thread(parent).is_some_and(|p| p.process == row.process) {
            groups.entry((row.process, parent)).or_default().push(row);
        }
    }
    groups.into_values().find_map(|group| slowest(evidence, &group))
}

fn slowest(evidence: &Evidence, group: &[&ThreadRow]) -> Option<Finding> {
    let last = *group.iter().max_by_key(|row| row.end_ns)?;
    let others: Vec<&&ThreadRow> = group.iter().filter(|row| row.id != last.id).collect();
    let first = group.iter().map(|row| row.start_ns).min()?;
    // They were started together, do the same by their names, and ended before the last one.
    let together = group.iter().all(|row| row.start_ns - first < evidence.report.wall_ns / 10);
    let alike = group.iter().all(|row| stem(&row.name.0) == stem(&last.name.0));
    let mut ends: Vec<u64> = others.iter().map(|row| row.end_ns - first).collect();
    ends.sort_unstable();
    let middle = *ends.get(ends.len() / 2)?;
    let length = last.end_ns - first;
    let late = length.saturating_sub(*ends.last()?);
    let share = evidence.of_wall(late);
    let few = others.len() < 2 || !together || !alike || last.alive;
    if few
        || u128::from(length) * 2 < u128::from(middle) * 3
        || share < 0.1
        || evidence.path_of(last.id) < share / 2.0
    {
        return None;
    }
    let spot = evidence.spots.iter().find(|s| s.thread == last.id && !s.chain.is_empty());
    let place = spot.map_or_else(String::new, |spot| words::inside(&spot.chain));
    let text = format!(
        "Of {} started together `{}` worked {} and the one in the middle {}: for {} of the run only the \
         last one was left{place}.",
        words::count(group.len() as u64, "thread"),
        last.name,
        Nanos(length),
        Nanos(middle),
        words::percent(share),
    );
    let headline = format!(
        "the run waits for `{}`, the slowest of {}{place}: for {} of it the others were done",
        last.name,
        words::count(group.len() as u64, "thread"),
        words::percent(share),
    );
    let found = finding(last.id, &last.name.0, text, gain(evidence, last.id))
        .with_time("the slowest", length)
        .with_time("the one in the middle", middle);
    Some(if share >= MAJOR { found.claiming("imbalanced", 4, share, headline) } else { found })
}
