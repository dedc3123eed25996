//! A cgroup's CPU quota.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "throttled",
    title: "the CPU quota of the cgroup was used up",
    reports: "Runs in a cgroup with a CPU quota that used nearly all of it while threads were ready to run.",
    matters: "once a period's quota is gone every thread stands still until the next period, up to 100 ms",
    try_this: "Raise the quota (`cpu.max`, the container's CPU limit), or use no more threads than the quota \
               has CPUs.",
    check,
};

/// The cut of the budget that says how long the quota kept threads waiting.
pub const THROTTLED: &str = "runnable: throttled by the CPU quota of the cgroup";

/// This much of the quota is all of it.
const ALL: f64 = 0.85;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let report = evidence.report;
    let Some(quota) = report.host.cpu_quota else { return Vec::new() };
    let quota = quota.0 as f64 / 1000.0;
    let used = report.utilisation.mean_cpus / quota.max(0.001);
    let queued = report.budget.states.0[State::Runnable];
    let path = evidence.on_path(State::Runnable);
    let smaller = quota < f64::from(report.host.cpus_allowed);
    let stalls = Nanos(evidence.detail(THROTTLED));
    // The kernel's count decides; without one, a quota that was used up.
    let held_up = if stalls.is_zero() { used >= ALL && path >= 0.1 } else { path >= 0.05 };
    if !smaller || !held_up {
        return Vec::new();
    }
    let told = if stalls.is_zero() {
        String::new()
    } else {
        format!(" (the kernel counts {stalls} of standing still, summed over CPUs)")
    };
    let text = format!(
        "The cgroup allows {quota:.2} CPUs and the program used {:.2}; threads were ready but without a CPU \
         for {queued}{told}.",
        report.utilisation.mean_cpus,
    );
    let headline = format!(
        "the cgroup's quota of {quota:.2} CPUs was used up: {} of the run went by ready to run but not \
         allowed to",
        words::percent(path)
    );
    vec![
        RULE.found(Severity::Cost, "the CPU quota was used up".to_owned(), text)
            .with_share("of the quota used", used)
            .with_time("ready, without a CPU", queued.0)
            // What the kernel counted is no guess: it explains the queue better than who ran meanwhile.
            .claiming("cpu-saturated", if stalls.is_zero() { 4 } else { 6 }, path, headline),
    ]
}
