//! Bodies of file version 1 into events. The mirror of `encode.rs` as long as that is the
//! version we write; a later version gets a decoder of its own beside this one, which stays.

use super::bytes::In;
use super::bytes::Malformed;
#[allow(clippy::wildcard_imports)] // the constants of one format, which only codecs see
use super::flags::*;
use super::layout::CHUNK_VERSION;
use super::layout::ChunkHeader;
use super::layout::ChunkKind;
use super::layout::MAX_THREADS;
use super::recent::Recent;
use super::recent::SampleMemory;
use super::recent::ThreadMemory;
use crate::model::Call;
use crate::model::Context;
use crate::model::Event;
use crate::model::FdKind;
use crate::model::Gap;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Marks;
use crate::model::Nanos;
use crate::model::Observation;
use crate::model::Sample;
use crate::model::StackId;
use crate::model::Text;
use crate::model::Tid;
use crate::model::WaitStack;
use crate::model::Waker;

mod lifecycle;
mod meta;

pub(super) use meta::DefinitionMemory;
pub(super) use meta::clocks;
pub(super) use meta::definition;
pub(super) use meta::info;
pub(super) use meta::summary;

/// Whether chunks of this version can be decoded here.
pub(super) fn can_decode(version: u8) -> bool {
    version == CHUNK_VERSION
}

/// The events of one chunk, decoded one at a time.
pub(super) struct Events {
    kind: ChunkKind,
    input: In,
    left: u32,
    time: u64,
    max: u64,
    memory: Vec<ThreadMemory>,
    samples: SampleMemory,
    tid: u32,
    span: u64,
}

impl Events {
    /// Over the decompressed body of a chunk of events.
    pub(super) fn new(kind: ChunkKind, header: &ChunkHeader, body: Vec<u8>) -> Self {
        Self {
            kind,
            input: In::new(body),
            left: header.records,
            time: header.min.0,
            max: header.max.0,
            memory: Vec::new(),
            samples: SampleMemory::default(),
            tid: 0,
            span: 0,
        }
    }

    /// Records not decoded yet.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Puts the next event in the place of the last one: never earlier than that, nor outside the
    /// chunk's range. False if there is none.
    pub(super) fn advance(&mut self, event: &mut Event) -> Result<bool, Malformed> {
        if self.left == 0 {
            return Ok(false);
        }
        match self.kind {
            // Nearly all of a trace, and large: written where it is wanted, not passed along.
            ChunkKind::Intervals => self.interval_or_gap(event)?,
            ChunkKind::Samples => *event = self.sample()?,
            ChunkKind::Lifecycle => *event = self.lifecycle()?,
            ChunkKind::Probe => *event = self.probe()?,
            ChunkKind::Info | ChunkKind::Definitions | ChunkKind::Summary | ChunkKind::Mark => {
                return Err(Malformed("it holds no events"));
            }
        }
        self.left -= 1;
        Ok(true)
    }

    fn time(&mut self) -> Result<Nanos, Malformed> {
        let time = self.time.checked_add(self.input.varint()?);
        self.time = time
            .filter(|&time| time <= self.max)
            .ok_or(Malformed("an event is later than its chunk"))?;
        Ok(Nanos(self.time))
    }

    fn tid(&mut self) -> Result<u32, Malformed> {
        self.tid = self.input.delta_u32(self.tid)?;
        Ok(self.tid)
    }

    fn interval_or_gap(&mut self, event: &mut Event) -> Result<(), Malformed> {
        let flags = self.input.u16()?;
        let number = self.input.varint_u32()?;
        let on = self.time()?;
        let slot = if flags & NEW_THREAD == 0 {
            number as usize
        } else {
            if self.memory.len() == MAX_THREADS {
                return Err(Malformed("too many threads in a chunk"));
            }
            self.memory.push(ThreadMemory::new(Tid(number), on.0));
            self.memory.len() - 1
        };
        let thread = self.memory.get_mut(slot).ok_or(Malformed("a thread was never named"))?;
        let input = &mut self.input;
        let off = Nanos(input.delta(thread.on)?);
        thread.on = on.0;
        if flags & GAP != 0 {
            let count = input.varint()?;
            let sequence = sequence(input, &mut thread.sequence, flags)?;
            *event = Event::Gap(Gap { tid: thread.tid, from: off, to: on, count, sequence });
            return Ok(());
        }
        let woken = if flags & WOKEN == 0 {
            None
        } else {
            // Written as a distance back from `on`.
            Some(Nanos(on.0.wrapping_sub(input.delta(0)?)))
        };
        let call = call(input, &mut thread.call, flags >> CALL_SHIFT)?;
        let waker = waker(input, &mut thread.waker, flags >> WAKER_SHIFT)?;
        let taker = match flags >> TAKER_SHIFT & 3 {
            TAKER_ABSENT => None,
            TAKER_LAST => Some(Tid(thread.taker)),
            TAKER_IDLE => Some(Tid(0)),
            _ => {
                thread.taker = input.delta_u32(thread.taker)?;
                Some(Tid(thread.taker))
            }
        };
        if flags & CPUS != 0 {
            thread.cpu_off = input.varint_u16()?;
            thread.cpu_on = input.varint_u16()?;
        }
        let sequence = sequence(input, &mut thread.sequence, flags)?;
        if flags & MARKS != 0 {
            thread.marks = input.byte()?;
        }
        *event = Event::Interval(Interval {
            tid: thread.tid,
            off,
            woken,
            on,
            left: left(flags >> LEFT_SHIFT & 7)?,
            call,
            waker,
            taker,
            cpu_off: thread.cpu_off,
            cpu_on: thread.cpu_on,
            sequence,
            marks: marks(thread.marks),
        });
        Ok(())
    }

    fn sample(&mut self) -> Result<Event, Malformed> {
        let flags = self.input.byte()?;
        let time = self.time()?;
        let (input, memory) = (&mut self.input, &mut self.samples);
        memory.tid = input.delta_u32(memory.tid)?;
        let tid = Tid(memory.tid);
        let kind = flags & 3;
        let off = if kind == WAIT_STACK { time.0.wrapping_sub(input.delta(0)?) } else { 0 };
        let mut stack = None;
        if flags & HAS_STACK != 0 {
            memory.stack = input.delta_u32(memory.stack)?;
            stack = Some(StackId(memory.stack));
        }
        if kind != OBSERVATION && flags & HAS_WEIGHT != 0 {
            memory.weight = input.varint()?;
        }
        let weight = Nanos(memory.weight);
        let code = u16::from(flags >> SAMPLE_CALL_SHIFT);
        match kind {
            SAMPLE => {
                if flags & HAS_CPU != 0 {
                    memory.cpu = input.varint_u16()?;
                }
                let kernel = flags & IN_KERNEL != 0;
                Ok(Event::Sample(Sample { time, tid, cpu: memory.cpu, kernel, weight, stack }))
            }
            WAIT_STACK => {
                let call = call(input, &mut memory.call, code)?;
                let off = Nanos(off);
                Ok(Event::WaitStack(WaitStack { time, tid, off, call, weight, stack }))
            }
            OBSERVATION => {
                let call = call(input, &mut memory.call, code)?;
                Ok(Event::Observation(Observation {
                    time,
                    tid,
                    call: (flags & CALL_READ != 0).then_some(call),
                    uninterruptible: flags & IN_KERNEL != 0,
                    stack,
                }))
            }
            _ => Err(Malformed("a sample of an unknown kind")),
        }
    }
}

fn texts(input: &mut In) -> Result<Vec<Text>, Malformed> {
    let count = input.varint()?;
    // The count is not believed for the capacity; each string costs a byte at least.
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(input)?);
    }
    Ok(texts)
}

fn text(input: &mut In) -> Result<Text, Malformed> {
    Ok(Text::new(input.string()?))
}

fn left(code: u16) -> Result<Left, Malformed> {
    Ok(match code {
        0 => Left::Blocked { uninterruptible: false },
        1 => Left::Blocked { uninterruptible: true },
        2 => Left::Preempted,
        3 => Left::Yielded,
        4 => Left::Stopped,
        5 => Left::New,
        6 => Left::Unknown,
        _ => return Err(Malformed("a thread left the CPU in an unknown way")),
    })
}

fn marks(code: u8) -> Marks {
    Marks {
        reason_seen: code & MARK_REASON_SEEN != 0,
        open: code & MARK_OPEN != 0,
        recovered: code & MARK_RECOVERED != 0,
        sampled: code & MARK_SAMPLED != 0,
    }
}

fn call(input: &mut In, recent: &mut Recent<Call>, code: u16) -> Result<Option<Call>, Malformed> {
    if let Ok(known) = recent.value(code) {
        return Ok(known);
    }
    let mut call = recent.last;
    let mask = input.byte()?;
    if mask & CALL_NUMBER != 0 {
        call.number = input.varint_u16()?;
    }
    if mask & CALL_ARG0 != 0 {
        call.arg0 = input.delta(call.arg0)?;
    }
    if mask & CALL_ARG1 != 0 {
        call.arg1 = input.delta(call.arg1)?;
    }
    if mask & CALL_ARG2 != 0 {
        call.arg2 = input.varint_u32()?;
    }
    if mask & CALL_FD != 0 {
        call.fd = FdKind::from_code(input.byte()?);
    }
    if mask & CALL_INODE != 0 {
        call.inode = input.delta(call.inode)?;
    }
    if mask & CALL_DEVICE != 0 {
        call.device = input.varint_u32()?;
    }
    recent.push(call);
    Ok(Some(call))
}

fn waker(
    input: &mut In,
    recent: &mut Recent<Waker>,
    code: u16,
) -> Result<Option<Waker>, Malformed> {
    if let Ok(known) = recent.value(code) {
        return Ok(known);
    }
    let mut waker = recent.last;
    let mask = input.byte()?;
    waker.in_tree = mask & WAKER_IN_TREE != 0;
    waker.context = match mask >> WAKER_CONTEXT_SHIFT & 3 {
        0 => Context::Task,
        1 => Context::Softirq,
        2 => Context::Hardirq,
        _ => return Err(Malformed("a wake-up in an unknown context")),
    };
    if mask & WAKER_TID != 0 {
        waker.tid = Tid(input.delta_u32(waker.tid.0)?);
    }
    if mask & WAKER_CALL != 0 {
        waker.call = Some(input.varint_u16()?);
    }
    if mask & WAKER_IN_CALL == 0 {
        waker.call = None;
    }
    if mask & WAKER_ARG0 != 0 {
        waker.arg0 = input.delta(waker.arg0)?;
    }
    recent.push(waker);
    Ok(Some(waker))
}

fn sequence(input: &mut In, last: &mut u32, flags: u16) -> Result<Option<u32>, Malformed> {
    let next = last.wrapping_add(1);
    match flags >> SEQUENCE_SHIFT & 3 {
        SEQUENCE_ABSENT => return Ok(None),
        SEQUENCE_NEXT => *last = next,
        SEQUENCE_OTHER => *last = input.delta_u32(next)?,
        _ => return Err(Malformed("an interval is numbered in an unknown way")),
    }
    Ok(Some(*last))
}
