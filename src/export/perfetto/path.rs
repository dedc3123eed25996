//! The critical path as a track of its own. Its upper row are the threads that it goes through, one
//! after the other without a hole and together as long as the run; below each, what it was in.

use super::proto::Proto;
use super::slices;
use super::tracks;
use super::writer::Writer;
use super::writer::field;
use crate::analysis::FrameRow;
use crate::analysis::PathStep;
use crate::analysis::Report;
use crate::analysis::ThreadRow;
use crate::model::Nanos;

/// Functions of a step that its details show, the innermost ones.
const SHOWN_FRAMES: usize = 16;

/// Writes the path of a whole run that began at `start`. A report lists the longest steps only:
/// what lies between two of them is one slice that says so.
pub fn write(out: &mut Writer, report: &Report, start: Nanos) {
    if report.path.thread.is_none() || report.focus.is_some() || !report.has_path() {
        return;
    }
    tracks::declare_path(out);
    let mut now = 0;
    let on = |a: &PathStep, b: &PathStep| a.thread == b.thread && a.start_ns + a.ns == b.start_ns;
    for stretch in report.critical_path.chunk_by(on) {
        unlisted(out, start, now, stretch[0].start_ns);
        now = stretch.iter().map(|step| step.start_ns + step.ns).max().unwrap_or(now);
        let thread = report.thread(stretch[0].thread);
        let name = thread.map_or_else(String::new, ThreadRow::called);
        begin(out, start + Nanos(stretch[0].start_ns), &name, |event| {
            if let Some(thread) = thread {
                slices::text(event, "thread", &format!("{name} [{}]", thread.tid));
            }
        });
        for step in stretch {
            below(out, report, start, step);
        }
        slices::end_slice(out, start + Nanos(now), tracks::PATH);
    }
    unlisted(out, start, now, report.path.ns);
}

/// A step, below the slice of its thread.
fn below(out: &mut Writer, report: &Report, start: Nanos, step: &PathStep) {
    let label = |id: Option<u32>| {
        let object = id.and_then(|id| report.objects.get(id as usize));
        object.map(|object| object.label.as_str())
    };
    let object = label(step.object).map_or_else(String::new, |label| format!(": {label}"));
    let name = format!("{}{object}", step.state);
    begin(out, start + Nanos(step.start_ns), &name, |event| {
        event.text(22, step.state);
        if let Some(lock) = label(step.under) {
            slices::text(event, "others waited meanwhile for", lock);
        }
        if !step.stack.is_empty() {
            slices::text(event, "stack (outermost first)", &shown(&step.stack));
        }
    });
    slices::end_slice(out, start + Nanos(step.start_ns + step.ns), tracks::PATH);
}

fn unlisted(out: &mut Writer, start: Nanos, from: u64, to: u64) {
    if from < to {
        begin(out, start + Nanos(from), "steps too short to be kept one by one", |_| {});
        slices::end_slice(out, start + Nanos(to), tracks::PATH);
    }
}

fn begin(out: &mut Writer, at: Nanos, name: &str, details: impl FnOnce(&mut Proto)) {
    out.sequenced(Some(at), |packet| {
        packet.nest(field::TRACK_EVENT, |event| {
            event.int(9, 1);
            event.int(11, tracks::PATH);
            event.text(23, name);
            details(event);
        });
    });
}

fn shown(stack: &[FrameRow]) -> String {
    let skipped = stack.len().saturating_sub(SHOWN_FRAMES);
    let names: Vec<&str> = stack[skipped..].iter().map(|frame| frame.name.as_str()).collect();
    let more = if skipped > 0 { "... > " } else { "" };
    format!("{more}{}", names.join(" > "))
}
