//! Memory that had to be brought in.

use super::Evidence;
use super::Rule;
use super::on_path::MAJOR;
use super::on_path::OnPath;
use super::words;
use crate::analysis::report::Finding;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "page-faults",
    title: "the run waits for memory to be paged in",
    reports: "Page faults on the critical path that had to wait: cold mapped files, swap, or a contended \
              memory map.",
    matters: "each one is a read from the device in the middle of an ordinary memory access",
    try_this: "Read the file in large pieces or advise it (`madvise(MADV_WILLNEED)`, `MAP_POPULATE`); with \
               swap, use less memory.",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(waited) = OnPath::of(evidence, &[State::PageFault]) else { return Vec::new() };
    let place = words::inside(&waited.chain);
    let part = words::percent(waited.share);
    let faults = waited.object.map_or(0, |object| object.waits);
    let text = format!(
        "{part} of the critical path ({}) is waiting for memory to be paged in{place}; {} in all.",
        waited.time,
        words::count(faults, "wait"),
    );
    let title = "the run waits for memory to be paged in".to_owned();
    let finding = waited.found(&RULE, evidence, "", title, text).with_count("waits", faults);
    let headline = format!(
        "{part} of the run {} waited for memory to be paged in{place} ({})",
        waited.who(evidence),
        words::count(faults, "wait")
    );
    let tells = waited.share >= MAJOR;
    vec![if tells { finding.claiming("disk-bound", 1, waited.share, headline) } else { finding }]
}
