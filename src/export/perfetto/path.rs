//! The critical path as a track of its own: slices that follow each other without a hole and are
//! together as long as the run.

use super::slices;
use super::tracks;
use super::writer::Writer;
use super::writer::field;
use crate::analysis::FrameRow;
use crate::analysis::PathStep;
use crate::analysis::Report;
use crate::model::Nanos;

/// Functions of a step that its details show, the innermost ones.
const SHOWN_FRAMES: usize = 16;

/// Writes the path of a whole run that began at `start`. A report lists the longest steps only:
/// what lies between two of them is one slice that says so.
pub fn write(out: &mut Writer, report: &Report, start: Nanos) {
    if report.path.thread.is_none() || report.focus.is_some() {
        return;
    }
    tracks::declare_path(out);
    let mut now = 0;
    for step in &report.critical_path {
        unlisted(out, start, now, step.start_ns);
        listed(out, report, start, step);
        now = step.start_ns + step.ns;
    }
    unlisted(out, start, now, report.path.ns);
}

fn listed(out: &mut Writer, report: &Report, start: Nanos, step: &PathStep) {
    let thread = report.threads.get(step.thread as usize);
    let name = thread.map_or_else(String::new, |thread| format!("{}: ", thread.called()));
    let label = |id: Option<u32>| {
        let object = id.and_then(|id| report.objects.get(id as usize));
        object.map(|object| object.label.as_str())
    };
    let object = label(step.object);
    let what = object.map_or_else(String::new, |label| format!(": {label}"));
    out.sequenced(Some(start + Nanos(step.start_ns)), |packet| {
        packet.nest(field::TRACK_EVENT, |event| {
            event.int(9, 1);
            event.int(11, tracks::PATH);
            event.text(22, step.state);
            event.text(23, &format!("{name}{}{what}", step.state));
            if let Some(thread) = thread {
                slices::text(event, "thread", &format!("{} [{}]", thread.called(), thread.tid));
            }
            if let Some(lock) = label(step.under) {
                slices::text(event, "others waited meanwhile for", lock);
            }
            if !step.stack.is_empty() {
                slices::text(event, "stack (outermost first)", &shown(&step.stack));
            }
        });
    });
    slices::end_slice(out, start + Nanos(step.start_ns + step.ns), tracks::PATH);
}

fn unlisted(out: &mut Writer, start: Nanos, from: u64, to: u64) {
    if from >= to {
        return;
    }
    out.sequenced(Some(start + Nanos(from)), |packet| {
        packet.nest(field::TRACK_EVENT, |event| {
            event.int(9, 1);
            event.int(11, tracks::PATH);
            event.text(23, "steps too short to be kept one by one");
        });
    });
    slices::end_slice(out, start + Nanos(to), tracks::PATH);
}

fn shown(stack: &[FrameRow]) -> String {
    let skipped = stack.len().saturating_sub(SHOWN_FRAMES);
    let names: Vec<&str> = stack[skipped..].iter().map(|frame| frame.name.as_str()).collect();
    let more = if skipped > 0 { "... > " } else { "" };
    format!("{more}{}", names.join(" > "))
}
