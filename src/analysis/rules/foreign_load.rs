//! Other programs that took the CPUs.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "foreign-load",
    title: "other programs took the CPUs",
    reports: "How long threads were ready but other processes, not part of the recording, had taken \
              their CPU.",
    matters: "that part of the run is the machine's, not the program's: measured on a quiet machine it \
              would be gone",
    try_this: "Measure on a quiet machine, or give the program its own CPUs (`taskset`, a cpuset) and then \
               compare.",
    check,
};

const LEAST: f64 = 0.10;
const MAJOR: f64 = 0.3;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let states = &evidence.report.budget.states.0;
    let (queued, ran) = (states[State::Runnable], states[State::Running]);
    let lost = Nanos(evidence.detail("runnable: preempted by other processes"));
    // Woken threads queue for a CPU that this program does not use: others have it.
    let spare = evidence.full() < 0.2;
    let woken = evidence.detail("runnable: from wake-up") + evidence.detail("runnable: from fork");
    let others = lost + Nanos(if spare { woken } else { 0 });
    let own = Nanos(evidence.detail("runnable: preempted by this program"));
    let share = others.share_of(queued + ran);
    if share < LEAST || others < own {
        return Vec::new();
    }
    let path = evidence.on_path(State::Runnable);
    if path < LEAST {
        return Vec::new();
    }
    let text = format!(
        "Threads were ready and other processes had the CPUs for {others} ({lost} after losing one to \
         them), against {ran} in which they ran, on {:.2} CPUs. {} of the critical path was spent in \
         the run queue.",
        evidence.report.utilisation.mean_cpus,
        words::percent(path),
    );
    let headline = format!(
        "other programs on this machine took the CPUs: {} of the run went by ready to run but without a \
         CPU ({others} of thread time) while it used {:.2} of {}",
        words::percent(path),
        evidence.report.utilisation.mean_cpus,
        words::cpus_of(&evidence.report.host),
    );
    let finding = RULE
        .found(Severity::Cost, "other programs took the CPUs".to_owned(), text)
        .with_time("lost to other processes", others.0)
        .with_time("ran", ran.0)
        .with_share("of the path in the run queue", path);
    vec![if path >= MAJOR {
        finding.claiming("oversubscribed", 0, path, headline)
    } else {
        finding
    }]
}
