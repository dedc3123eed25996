//! Info, summary and definitions.

use super::super::bytes::In;
use super::super::bytes::Malformed;
#[allow(clippy::wildcard_imports)] // the constants of one format, which only codecs see
use super::super::flags::*;
use super::text;
use super::texts;
use crate::model::Clocks;
use crate::model::Definition;
use crate::model::Frame;
use crate::model::FrameId;
use crate::model::Info;
use crate::model::Line;
use crate::model::Module;
use crate::model::ModuleId;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Stack;
use crate::model::StackCounts;
use crate::model::StackId;
use crate::model::Stolen;
use crate::model::Summary;
use crate::model::Throttled;
use crate::model::Tier;

/// What a chunk of definitions remembers.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct DefinitionMemory {
    pub(in super::super) address: u64,
    pub(in super::super) module: u32,
    pub(in super::super) frame: u32,
    pub(in super::super) parent: u32,
}

/// The next definition. Whether its ids exist is for [`Symbols`](crate::model::Symbols) to say.
pub(in super::super) fn definition(
    input: &mut In,
    memory: &mut DefinitionMemory,
) -> Result<Definition, Malformed> {
    input.begin_record();
    let tag = input.byte()?;
    Ok(match tag & 3 {
        MODULE => {
            Definition::Module(Module { path: text(input)?, build_id: input.string()?.to_vec() })
        }
        FRAME => {
            let module = if tag & HAS_PARENT == 0 {
                None
            } else {
                memory.module = input.delta_u32(memory.module)?;
                Some(ModuleId(memory.module))
            };
            memory.address = input.delta(memory.address)?;
            let address = memory.address;
            Definition::Frame(Frame { module, address, lines: lines(input)? })
        }
        STACK => {
            let parent = if tag & HAS_PARENT == 0 {
                None
            } else {
                memory.parent = input.delta_u32(memory.parent)?;
                Some(StackId(memory.parent))
            };
            memory.frame = input.delta_u32(memory.frame)?;
            Definition::Stack(Stack { parent, frame: FrameId(memory.frame) })
        }
        _ => {
            memory.frame = input.delta_u32(memory.frame)?;
            Definition::Names { frame: FrameId(memory.frame), lines: lines(input)? }
        }
    })
}

fn lines(input: &mut In) -> Result<Vec<Line>, Malformed> {
    let count = input.varint()?;
    let mut lines = Vec::new();
    for _ in 0..count {
        input.spend(0)?;
        let flags = input.byte()?;
        lines.push(Line {
            function: input.utf8()?,
            file: if flags & HAS_FILE == 0 { None } else { Some(input.utf8()?) },
            line: if flags & HAS_LINE == 0 { None } else { Some(input.varint_u32()?) },
        });
    }
    Ok(lines)
}

/// What was recorded. Bytes after it are a later version's additions.
pub(in super::super) fn info(input: &mut In) -> Result<Info, Malformed> {
    Ok(Info {
        version: input.utf8()?,
        command: texts(input)?,
        tier: match input.byte()? {
            0 => Tier::Kernel,
            1 => Tier::Perf,
            2 => Tier::Proc,
            3 => Tier::Synthetic,
            _ => return Err(Malformed("a tier that this version does not know")),
        },
        sample_hz: input.varint_u32()?,
        kernel: input.utf8()?,
        arch: input.utf8()?,
        cpus_online: input.varint_u32()?,
        cpus_allowed: input.varint_u32()?,
        cpu_quota_millis: option(input, In::varint)?,
        clocks: clocks(input)?,
        limits: sentences(input)?,
    })
}

/// What the recorder said at its end. Bytes after it are a later version's additions.
pub(in super::super) fn summary(input: &mut In) -> Result<Summary, Malformed> {
    Ok(Summary {
        clocks: clocks(input)?,
        root: option(input, |input| {
            Ok((Pid(input.varint_u32()?), option(input, In::varint_u32)?))
        })?,
        collector_cpu: Nanos(input.varint()?),
        collector_memory: input.varint()?,
        target_overhead: option(input, |input| Ok((Nanos(input.varint()?), input.utf8()?)))?,
        stacks: StackCounts {
            taken: input.varint()?,
            complete: input.varint()?,
            truncated: input.varint()?,
            failed: input.varint()?,
        },
        warnings: sentences(input)?,
        throttled: if input.is_empty() { None } else { option(input, throttled)? },
        stolen: if input.is_empty() { None } else { option(input, stolen)? },
    })
}

fn throttled(input: &mut In) -> Result<Throttled, Malformed> {
    Ok(Throttled { periods: input.varint()?, time: Nanos(input.varint()?) })
}

fn stolen(input: &mut In) -> Result<Stolen, Malformed> {
    Ok(Stolen { stolen: Nanos(input.varint()?), busy: Nanos(input.varint()?) })
}

fn option<T>(
    input: &mut In,
    read: impl FnOnce(&mut In) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match input.byte()? {
        0 => Ok(None),
        1 => read(input).map(Some),
        _ => Err(Malformed("an optional field is neither absent nor present")),
    }
}

/// The three clocks: all that a mark says.
pub(in super::super) fn clocks(input: &mut In) -> Result<Clocks, Malformed> {
    Ok(Clocks {
        monotonic: Nanos(input.varint()?),
        realtime: Nanos(input.varint()?),
        boottime: Nanos(input.varint()?),
    })
}

fn sentences(input: &mut In) -> Result<Vec<String>, Malformed> {
    let count = input.varint()?;
    let mut sentences = Vec::new();
    for _ in 0..count {
        sentences.push(input.utf8()?);
    }
    Ok(sentences)
}
