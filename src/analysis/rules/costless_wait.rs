//! Long waits that cost nothing.

use super::Evidence;
use super::Rule;
use super::deadlock;
use super::words;
use super::words::Held;
use crate::analysis::names;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;

pub const RULE: Rule = Rule {
    id: "costless-wait",
    title: "a long wait that costs nothing",
    reports: "Locks, conditions and queues that were waited for long and that the run would gain \
              nothing from: replay says so, or hardly any of the critical path went through them, \
              or all CPUs were busy meanwhile.",
    matters: "by waiting time it would top the list, and work on it would be wasted",
    try_this: "Leave it alone.",
    check,
};

/// This share of all thread time makes a wait look important.
const LOOKS_BIG: f64 = 0.10;
/// Hardly any of the path.
const HARDLY: f64 = 0.08;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let kinds = ["lock", "condvar", "semaphore"];
    let dead = deadlock::locks(evidence);
    let handed = evidence.report.objects.iter();
    let handed = handed.filter(|o| kinds.contains(&o.kind) && !dead.contains(&o.id));
    let mut found: Vec<Finding> = handed.filter_map(|object| judge(evidence, object)).collect();
    found.truncate(3);
    found
}

fn judge(evidence: &Evidence, object: &Object) -> Option<Finding> {
    let total = Nanos(evidence.report.budget.thread_ns);
    let share = Nanos(object.wait_ns).share_of(total);
    // A holder without a CPU has a rule of its own.
    let other = Held::of(object).runnable >= 0.5;
    if share < LOOKS_BIG || other {
        return None;
    }
    let reason = reason(evidence, object)?;
    let site = words::site_of(object);
    let what = if object.kind == "condvar" { "condition" } else { object.kind };
    let stack = object.sites.first().map_or(&[][..], |site| &site.stack);
    let place = match names::python_call(stack).map(|call| format!("`{call}`")) {
        Some(call) if call == site => format!("in {site}"),
        Some(call) => format!("in {call}, called by {site}"),
        None => format!("for the {what}{} in {site}", words::called(object)),
    };
    let text = format!(
        "{} waited {} {place}, {} of all thread time, and still there is nothing to gain by it: {reason}.",
        words::count(object.waiters, "thread"),
        Nanos(object.wait_ns),
        words::percent(share),
    );
    let title = format!("the long wait {place} costs nothing");
    Some(
        RULE.found(Severity::Note, title, text)
            .about(object.id)
            .with_time("waited", object.wait_ns)
            .with_share("of all thread time", share)
            .with_share("of the path", evidence.path_under(object.id)),
    )
}

fn reason(evidence: &Evidence, object: &Object) -> Option<String> {
    if object.kind == "lock"
        && let Some(gain) = evidence.lock_gain(object.id)
    {
        let none = gain.speedup < super::LEAST_GAIN && gain.high.is_some_and(|high| high < 1.05);
        return none.then(|| format!("replay with a shorter hold gains {}", words::times(&gain)));
    }
    if let Some(idle) = object.idle_cpu_ns
        && idle < object.wait_ns.div_ceil(20)
    {
        return Some("all CPUs were busy with other threads meanwhile".to_owned());
    }
    // At other tiers nobody knows whom the run waited for.
    let path = evidence.path_tells() && evidence.report.path.thread.is_some();
    let under = evidence.path_under(object.id);
    let on = evidence.report.path.objects.iter().find(|on| on.id == object.id);
    let waited = on.map_or(0.0, |on| evidence.of_wall(on.ns));
    let holders = holders_on_path(evidence, object);
    if !path || !evidence.is_counted(object.id) || under > HARDLY || waited > HARDLY {
        return None;
    }
    match object.kind {
        "lock" => Some(format!(
            "only {} of the critical path ran under it; the run did not wait for these threads",
            words::percent(under)
        )),
        "condvar" | "semaphore" if holders > 0.5 => Some(
            "its threads waited for work that the run was still making, and had nothing else to do"
                .to_owned(),
        ),
        _ => None,
    }
}

/// How much of the path went through those who ended the waits.
fn holders_on_path(evidence: &Evidence, object: &Object) -> f64 {
    let most = object.holders.iter().take_while(|h| h.blamed_ns >= object.wait_ns.div_ceil(5));
    most.map(|holder| evidence.path_of(holder.thread)).sum()
}
