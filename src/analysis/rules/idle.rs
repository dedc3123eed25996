//! A program that waits for work from outside.

use super::Evidence;
use super::Rule;
use super::on_path::OnPath;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "idle",
    title: "the program waits for work from outside",
    reports: "Runs whose critical path is mostly polling, or waiting to be signalled, with nobody in the \
              recording to do it, while hardly a CPU is used.",
    matters: "there is nothing to make faster: the program does what it is asked when it is asked",
    try_this: "Record it under load, or look at one request (`report --from --to`).",
    check,
};

const MOSTLY: f64 = 0.5;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let states = [State::Poll, State::Condvar, State::Stopped];
    let Some(waited) = OnPath::of(evidence, &states) else {
        return Vec::new();
    };
    if waited.share < MOSTLY || evidence.report.utilisation.mean_cpus > 0.3 {
        return Vec::new();
    }
    // A poll that its timeout ended waits for nobody outside: `sleep-in-path` has it.
    if waited.polls_run_out(evidence) {
        return Vec::new();
    }
    let place = waited.place();
    let part = words::percent(waited.share);
    let text = format!(
        "{part} of the critical path ({}) is waiting for something that no recorded thread did{place}.",
        waited.time
    );
    let headline = format!("idle: {part} of the run it waited for work from outside{place}");
    vec![
        RULE.found(Severity::Note, "the program was idle".to_owned(), text)
            .with_share("of the path", waited.share)
            .claiming("idle", 1, waited.share, headline),
    ]
}
