//! Waiting at pipes for somebody outside.

use super::Evidence;
use super::Rule;
use super::on_path::MAJOR;
use super::on_path::OnPath;
use super::words;
use crate::analysis::report::Finding;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "pipe-wait",
    title: "the run waits at a pipe or unix socket for somebody outside",
    reports: "Waits at pipes, unix sockets and eventfds on the critical path that no recorded thread ended.",
    matters: "whoever is at the other end decides how long the run takes",
    try_this: "Record the other end as well (start both under `timesink run -- sh -c '...'`).",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(waited) = OnPath::of(evidence, &[State::Pipe]) else { return Vec::new() };
    let Some(object) = waited.object else { return Vec::new() };
    let part = words::percent(waited.share);
    let place = waited.place();
    let text = format!(
        "{part} of the critical path ({}) is waiting for {}{}.{}",
        waited.time,
        object.label,
        words::inside(&waited.chain),
        words::carried(object),
    );
    let title = "the run waits for the other end of a pipe".to_owned();
    let finding = waited.found(&RULE, evidence, "", title, text);
    let headline = format!(
        "{part} of the run {} waited at a pipe or unix socket for somebody outside{place}",
        waited.who(evidence),
    );
    let tells = waited.share >= MAJOR;
    vec![if tells { finding.claiming("pipe-bound", 1, waited.share, headline) } else { finding }]
}
