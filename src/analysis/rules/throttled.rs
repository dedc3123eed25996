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
    if !smaller || used < ALL || path < 0.1 {
        return Vec::new();
    }
    let stalls = Nanos(evidence.detail("runnable: throttled"));
    let told = if stalls.is_zero() { String::new() } else { format!(", {stalls} of it throttled") };
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
            .claiming("cpu-saturated", 4, used.min(1.0), headline),
    ]
}
