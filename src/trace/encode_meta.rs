//! Info, summary and definitions into the body of a chunk.

use super::bytes::ELEMENT;
use super::bytes::Out;
use super::decode_v1::DefinitionMemory;
use super::encode::put_texts;
#[allow(clippy::wildcard_imports)] // the constants of one format, which only codecs see
use super::flags::*;
use crate::model::Clocks;
use crate::model::Definition;
use crate::model::Event;
use crate::model::Info;
use crate::model::Line;
use crate::model::ProbeKind;
use crate::model::Record;
use crate::model::Summary;
use crate::model::Text;

/// Encodes one definition against those before it in the same chunk.
pub(super) fn definition(out: &mut Out, memory: &mut DefinitionMemory, definition: &Definition) {
    let at = out.bytes.len();
    out.byte(0);
    out.bytes[at] = match definition {
        Definition::Module(module) => {
            out.string(module.path.as_bytes());
            out.string(&module.build_id);
            MODULE
        }
        Definition::Frame(frame) => {
            if let Some(module) = frame.module {
                out.delta(module.0.into(), memory.module.into());
                memory.module = module.0;
            }
            out.delta(frame.address, memory.address);
            memory.address = frame.address;
            lines(out, &frame.lines);
            FRAME | if frame.module.is_some() { HAS_PARENT } else { 0 }
        }
        Definition::Stack(stack) => {
            if let Some(parent) = stack.parent {
                out.delta(parent.0.into(), memory.parent.into());
                memory.parent = parent.0;
            }
            out.delta(stack.frame.0.into(), memory.frame.into());
            memory.frame = stack.frame.0;
            STACK | if stack.parent.is_some() { HAS_PARENT } else { 0 }
        }
        Definition::Names { frame, lines: names } => {
            out.delta(frame.0.into(), memory.frame.into());
            memory.frame = frame.0;
            lines(out, names);
            NAMES
        }
    };
}

fn lines(out: &mut Out, lines: &[Line]) {
    out.varint(lines.len() as u64);
    for line in lines {
        let file = if line.file.is_some() { HAS_FILE } else { 0 };
        out.byte(file | if line.line.is_some() { HAS_LINE } else { 0 });
        out.string(line.function.as_bytes());
        if let Some(file) = &line.file {
            out.string(file.as_bytes());
        }
        if let Some(line) = line.line {
            out.varint(line.into());
        }
    }
}

/// Encodes what was recorded.
pub(super) fn info(out: &mut Out, info: &Info) {
    out.string(info.version.as_bytes());
    put_texts(out, &info.command);
    out.byte(info.tier as u8);
    out.varint(info.sample_hz.into());
    out.string(info.kernel.as_bytes());
    out.string(info.arch.as_bytes());
    out.varint(info.cpus_online.into());
    out.varint(info.cpus_allowed.into());
    out.byte(info.cpu_quota_millis.is_some().into());
    if let Some(quota) = info.cpu_quota_millis {
        out.varint(quota);
    }
    clocks(out, info.clocks);
    sentences(out, &info.limits);
}

/// Encodes what the recorder says at its end.
pub(super) fn summary(out: &mut Out, summary: &Summary) {
    clocks(out, summary.clocks);
    out.byte(summary.root.is_some().into());
    if let Some((pid, status)) = summary.root {
        out.varint(pid.0.into());
        out.byte(status.is_some().into());
        if let Some(status) = status {
            out.varint(status.into());
        }
    }
    out.varint(summary.collector_cpu.0);
    out.varint(summary.collector_memory);
    out.byte(summary.target_overhead.is_some().into());
    if let Some((time, method)) = &summary.target_overhead {
        out.varint(time.0);
        out.string(method.as_bytes());
    }
    let stacks = summary.stacks;
    for count in [stacks.taken, stacks.complete, stacks.truncated, stacks.failed] {
        out.varint(count);
    }
    sentences(out, &summary.warnings);
    out.byte(summary.throttled.is_some().into());
    if let Some(throttled) = summary.throttled {
        out.varint(throttled.periods);
        out.varint(throttled.time.0);
    }
    out.byte(summary.stolen.is_some().into());
    if let Some(stolen) = summary.stolen {
        out.varint(stolen.stolen.0);
        out.varint(stolen.busy.0);
    }
}

/// Encodes the three clocks: all that a mark says.
pub(super) fn clocks(out: &mut Out, clocks: Clocks) {
    for clock in [clocks.monotonic, clocks.realtime, clocks.boottime] {
        out.varint(clock.0);
    }
}

fn sentences(out: &mut Out, sentences: &[String]) {
    out.varint(sentences.len() as u64);
    for sentence in sentences {
        out.string(sentence.as_bytes());
    }
}

/// What a record counts against [`RECORD_LIMIT`](super::bytes::RECORD_LIMIT): the same sum
/// that the decoder makes.
pub(super) fn weight(record: &Record) -> usize {
    let text = |text: &Text| text.as_bytes().len() + ELEMENT;
    let line = |line: &Line| {
        let file = line.file.as_ref().map_or(0, |file| file.len() + ELEMENT);
        2 * ELEMENT + line.function.len() + file
    };
    match record {
        Record::Definition(Definition::Module(module)) => {
            text(&module.path) + module.build_id.len() + ELEMENT
        }
        Record::Definition(Definition::Frame(frame)) => frame.lines.iter().map(line).sum(),
        Record::Definition(Definition::Names { lines, .. }) => lines.iter().map(line).sum(),
        Record::Event(Event::Exec(exec)) => {
            text(&exec.path) + exec.argv.iter().map(text).sum::<usize>()
        }
        Record::Event(Event::Rename(rename)) => text(&rename.name),
        Record::Event(Event::Object(object)) => text(&object.label),
        Record::Event(Event::Named(named)) => text(&named.name),
        Record::Event(Event::Runtime(runtime)) => text(&runtime.name),
        Record::Event(Event::Word(word)) => {
            text(&word.symbol) + word.backing.as_ref().map_or(0, |backing| text(&backing.path))
        }
        Record::Event(Event::Probe(probe)) => match &probe.what {
            ProbeKind::Enter { name, target, fields, .. }
            | ProbeKind::Instant { name, target, fields } => {
                text(name) + text(target) + text(fields)
            }
            ProbeKind::Leave { .. } => 0,
        },
        Record::Definition(Definition::Stack(_)) | Record::Event(_) => 0,
    }
}
