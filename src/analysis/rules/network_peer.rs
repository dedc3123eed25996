//! Waiting for another machine.

use super::Evidence;
use super::Rule;
use super::on_path::MAJOR;
use super::on_path::OnPath;
use super::on_path::outcome;
use super::words;
use crate::analysis::report::Finding;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "network-peer",
    title: "the run waits for the other end of a connection",
    reports: "Waits for sockets on the critical path that somebody outside the recording ended. A peer \
              inside it is followed instead.",
    matters: "only a faster answer, or fewer questions one after the other, makes the run shorter",
    try_this: "Ask several things at once (pipelining, concurrent requests), cache answers, keep connections \
               open; profile the peer.",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(waited) = OnPath::of(evidence, &[State::Network]) else { return Vec::new() };
    let Some(object) = waited.object else { return Vec::new() };
    let part = words::percent(waited.share);
    let each = Nanos(object.wait_ns / object.waits.max(1));
    let place = words::inside(&waited.chain);
    let text = format!(
        "{part} of the critical path ({}) is waiting for the other end of a connection, most of it {} ({} \
         waits, {each} on average){place}.",
        waited.time, object.label, object.waits,
    );
    let title = "the run waits for a network peer".to_owned();
    let finding = waited.found(&RULE, evidence, "network*", title, text);
    let headline = format!(
        "{part} of the run {} waited for the network{place}, {each} at a time{}",
        waited.who(evidence),
        outcome(&finding)
    );
    let tells = waited.share >= MAJOR;
    vec![if tells { finding.claiming("network-bound", 1, waited.share, headline) } else { finding }]
}
