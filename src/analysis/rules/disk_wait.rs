//! Waiting for files and disks.

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
    id: "disk-wait",
    title: "the run waits for files or the disk",
    reports: "Waits for files and disks (fsync, synchronous writes, cold reads) on the critical path, with \
              their number and length.",
    matters: "each of them is a round trip to the device, which no CPU shortens",
    try_this: "Sync once for many writes (group commit), read ahead, write larger pieces, or let another \
               thread wait.",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(waited) = OnPath::of(evidence, &[State::Disk]) else { return Vec::new() };
    let Some(object) = waited.object else { return Vec::new() };
    let place = waited.place();
    let part = words::percent(waited.share);
    let each = Nanos(object.wait_ns / object.waits.max(1));
    let text = format!(
        "{part} of the critical path ({}) is waiting for files or the disk, most of it for {} ({} waits, \
         {each} on average){}.",
        waited.time,
        object.label,
        object.waits,
        words::inside(&waited.chain),
    );
    let title = "the run waits for files or the disk".to_owned();
    let finding = waited.found(&RULE, evidence, "disk*", title, text);
    let headline = format!(
        "{part} of the run {} waited for files or the disk{place}, {each} at a time{}",
        waited.who(evidence),
        outcome(&finding)
    );
    let tells = waited.share >= MAJOR;
    vec![if tells { finding.claiming("disk-bound", 1, waited.share, headline) } else { finding }]
}
