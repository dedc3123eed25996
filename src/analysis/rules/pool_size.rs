//! A pool with more workers than it uses.

use super::Evidence;
use super::Rule;
use crate::analysis::names::stem;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "pool-size",
    title: "a pool of another size than its work needs",
    reports: "How many of a pool's workers were busy on average, where most were idle; and pools of \
              CPU-bound workers larger than the number of CPUs.",
    matters: "idle workers cost memory and wake-ups; too many busy ones only take turns",
    try_this: "Size the pool by what is busy on average, or by the number of CPUs for CPU-bound work.",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    evidence
        .pools()
        .iter()
        .filter_map(|pool| {
            let n = pool.workers.len();
            let busy = n as f64 * (1.0 - pool.waiting);
            let name = stem(&pool.workers[0].name.0);
            let running = |worker: &&&ThreadRow| {
                let ready = evidence.of_life(worker, State::Running)
                    + evidence.of_life(worker, State::Runnable);
                ready > 0.8
            };
            let crowd = pool.workers.iter().filter(running).count();
            let (title, judgement) = if n >= 4 && busy * 3.0 < n as f64 {
                let enough = busy.ceil().max(1.0);
                (
                    format!("the pool `{name}` is larger than its work"),
                    format!("{enough:.0} would do"),
                )
            } else if crowd as f64 > evidence.cpus() * 1.5 {
                let cpus = evidence.cpus();
                (
                    format!("the pool `{name}` is larger than the CPUs"),
                    format!("only {cpus:.0} can run at once"),
                )
            } else {
                return None;
            };
            let text = format!(
                "{n} workers `{name}`, of which {busy:.1} were busy on average: {judgement}."
            );
            Some(
                RULE.found(Severity::Note, title, text)
                    .about(pool.object.id)
                    .with_threads(pool.workers.iter().map(|worker| worker.id))
                    .with("workers busy on average", busy, "count")
                    .with_count("workers", n as u64),
            )
        })
        .collect()
}
