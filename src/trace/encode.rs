//! Events into the body of a chunk, each against the one before it in the same chunk.

use super::bytes::Out;
#[allow(clippy::wildcard_imports)] // the constants of one format, which only codecs see
use super::flags::*;
use super::layout::ChunkKind;
use super::recent::CHANGED;
use super::recent::Recent;
use super::recent::SampleMemory;
use super::recent::ThreadMemory;
use crate::model::Books;
use crate::model::Call;
use crate::model::Event;
use crate::model::Exit;
use crate::model::ExitKind;
use crate::model::FastMap;
use crate::model::Gap;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Marks;
use crate::model::Nanos;
use crate::model::Observation;
use crate::model::ProbeEvent;
use crate::model::ProbeKind;
use crate::model::Sample;
use crate::model::Text;
use crate::model::Tid;
use crate::model::WaitStack;
use crate::model::Waker;
use crate::model::WordInfo;

/// The kind of chunk an event goes into.
pub(super) fn kind_of(event: &Event) -> ChunkKind {
    match event {
        Event::Interval(_) | Event::Gap(_) => ChunkKind::Intervals,
        Event::Start(_)
        | Event::Exec(_)
        | Event::Rename(_)
        | Event::Exit(_)
        | Event::Object(_)
        | Event::Word(_)
        | Event::Named(_)
        | Event::Moved(_)
        | Event::Piped(_)
        | Event::Runtime(_)
        | Event::Lost(_) => ChunkKind::Lifecycle,
        Event::Sample(_) | Event::WaitStack(_) | Event::Observation(_) => ChunkKind::Samples,
        Event::Probe(_) => ChunkKind::Probe,
    }
}

/// Encodes the events of one chunk, which come in order of time.
#[derive(Default)]
pub(super) struct EventEncoder {
    pub(super) out: Out,
    time: u64,
    threads: FastMap<Tid, u32>,
    memory: Vec<ThreadMemory>,
    samples: SampleMemory,
    tid: u32,
    span: u64,
}

impl EventEncoder {
    /// For a chunk whose first event is at `min`.
    pub(super) fn new(min: Nanos) -> Self {
        Self { time: min.0, ..Self::default() }
    }

    /// How many threads the chunk's intervals belong to.
    pub(super) fn threads(&self) -> usize {
        self.memory.len()
    }

    pub(super) fn push(&mut self, event: &Event) {
        match event {
            Event::Interval(e) => self.interval(e),
            Event::Gap(e) => self.gap(e),
            Event::Sample(e) => self.sample(e),
            Event::WaitStack(e) => self.wait_stack(e),
            Event::Observation(e) => self.observation(e),
            Event::Probe(e) => self.probe(e),
            Event::Start(_)
            | Event::Exec(_)
            | Event::Rename(_)
            | Event::Exit(_)
            | Event::Object(_)
            | Event::Word(_)
            | Event::Named(_)
            | Event::Moved(_)
            | Event::Piped(_)
            | Event::Runtime(_)
            | Event::Lost(_) => self.lifecycle(event),
        }
    }

    fn time(&mut self, time: Nanos) {
        self.out.varint(time.0.wrapping_sub(self.time));
        self.time = time.0;
    }

    fn tid(&mut self, tid: u32) {
        self.out.delta(tid.into(), self.tid.into());
        self.tid = tid;
    }

    /// Flags, thread and time, which begin intervals and gaps alike. `flags` gets
    /// [`NEW_THREAD`] here; returns where the thread is remembered.
    fn head(&mut self, flags: &mut u16, tid: Tid, time: Nanos) -> (usize, usize) {
        let at = self.out.bytes.len();
        self.out.bytes.extend_from_slice(&[0, 0]);
        let next = self.memory.len() as u32;
        let slot = *self.threads.entry(tid).or_insert(next);
        if slot == next {
            *flags |= NEW_THREAD;
            self.memory.push(ThreadMemory::new(tid, time.0));
            self.out.varint(tid.0.into());
        } else {
            self.out.varint(slot.into());
        }
        self.time(time);
        (slot as usize, at)
    }

    fn set_flags(&mut self, at: usize, flags: u16) {
        self.out.bytes[at..at + 2].copy_from_slice(&flags.to_le_bytes());
    }

    fn interval(&mut self, e: &Interval) {
        let mut flags = left_code(e.left) << LEFT_SHIFT;
        let (slot, at) = self.head(&mut flags, e.tid, e.on);
        let Self { out, memory, .. } = self;
        let thread = &mut memory[slot];
        out.delta(e.off.0, thread.on);
        thread.on = e.on.0;
        if let Some(woken) = e.woken {
            flags |= WOKEN;
            out.delta(e.on.0, woken.0);
        }
        flags |= put_call(out, &mut thread.call, e.call.as_ref()) << CALL_SHIFT;
        flags |= put_waker(out, &mut thread.waker, e.waker.as_ref()) << WAKER_SHIFT;
        flags |= put_taker(out, &mut thread.taker, e.taker) << TAKER_SHIFT;
        if (e.cpu_off, e.cpu_on) != (thread.cpu_off, thread.cpu_on) {
            flags |= CPUS;
            out.varint(e.cpu_off.into());
            out.varint(e.cpu_on.into());
            (thread.cpu_off, thread.cpu_on) = (e.cpu_off, e.cpu_on);
        }
        flags |= put_sequence(out, &mut thread.sequence, e.sequence) << SEQUENCE_SHIFT;
        let marks = marks_code(e.marks);
        if marks != thread.marks {
            flags |= MARKS;
            out.byte(marks);
            thread.marks = marks;
        }
        self.set_flags(at, flags);
    }

    fn gap(&mut self, e: &Gap) {
        let mut flags = GAP;
        let (slot, at) = self.head(&mut flags, e.tid, e.to);
        let Self { out, memory, .. } = self;
        let thread = &mut memory[slot];
        out.delta(e.from.0, thread.on);
        thread.on = e.to.0;
        out.varint(e.count);
        flags |= put_sequence(out, &mut thread.sequence, e.sequence) << SEQUENCE_SHIFT;
        self.set_flags(at, flags);
    }

    fn sample(&mut self, e: &Sample) {
        let mut flags = SAMPLE | if e.kernel { IN_KERNEL } else { 0 };
        let at = self.sample_head(e.time, e.tid);
        flags |= self.stack(e.stack.map(|stack| stack.0));
        flags |= self.weight(e.weight);
        if e.cpu != self.samples.cpu {
            flags |= HAS_CPU;
            self.out.varint(e.cpu.into());
            self.samples.cpu = e.cpu;
        }
        self.out.bytes[at] = flags;
    }

    fn wait_stack(&mut self, e: &WaitStack) {
        let mut flags = WAIT_STACK;
        let at = self.sample_head(e.time, e.tid);
        self.out.delta(e.time.0, e.off.0);
        flags |= self.stack(e.stack.map(|stack| stack.0));
        flags |= self.weight(e.weight);
        let call = put_call(&mut self.out, &mut self.samples.call, e.call.as_ref());
        self.out.bytes[at] = flags | (call as u8) << SAMPLE_CALL_SHIFT;
    }

    fn observation(&mut self, e: &Observation) {
        let mut flags = OBSERVATION;
        let at = self.sample_head(e.time, e.tid);
        flags |= self.stack(e.stack.map(|stack| stack.0));
        if e.uninterruptible {
            flags |= IN_KERNEL;
        }
        if e.call.is_some() {
            flags |= CALL_READ;
        }
        let call = e.call.flatten();
        let call = put_call(&mut self.out, &mut self.samples.call, call.as_ref());
        self.out.bytes[at] = flags | (call as u8) << SAMPLE_CALL_SHIFT;
    }

    fn sample_head(&mut self, time: Nanos, tid: Tid) -> usize {
        let at = self.out.bytes.len();
        self.out.byte(0);
        self.time(time);
        self.out.delta(tid.0.into(), self.samples.tid.into());
        self.samples.tid = tid.0;
        at
    }

    fn stack(&mut self, stack: Option<u32>) -> u8 {
        let Some(stack) = stack else { return 0 };
        self.out.delta(stack.into(), self.samples.stack.into());
        self.samples.stack = stack;
        HAS_STACK
    }

    fn weight(&mut self, weight: Nanos) -> u8 {
        if weight.0 == self.samples.weight {
            return 0;
        }
        self.out.varint(weight.0);
        self.samples.weight = weight.0;
        HAS_WEIGHT
    }

    fn lifecycle(&mut self, event: &Event) {
        let (tag, detail) = lifecycle_tag(event);
        self.out.byte(tag | detail << DETAIL_SHIFT);
        self.time(event.time());
        match event {
            Event::Start(e) => {
                self.tid(e.tid.0);
                self.tid(e.pid.0);
                self.tid(e.parent_tid.0);
                self.tid(e.parent_pid.0);
            }
            Event::Exec(e) => {
                self.tid(e.pid.0);
                self.tid(e.old_tid.0);
                self.out.string(e.path.as_bytes());
                put_texts(&mut self.out, &e.argv);
            }
            Event::Rename(e) => {
                self.tid(e.tid.0);
                self.out.string(e.name.as_bytes());
            }
            Event::Exit(e) => self.exit(e),
            Event::Object(e) => {
                self.tid(e.pid.0);
                self.out.varint(e.descriptor.into());
                self.out.byte(e.kind as u8);
                self.out.varint(e.inode);
                self.out.varint(e.device.into());
                self.out.string(e.label.as_bytes());
            }
            Event::Word(e) => self.word(e),
            Event::Named(e) => {
                self.tid(e.pid.0);
                for value in [e.id, e.start, e.length] {
                    self.out.varint(value);
                }
                self.out.string(e.name.as_bytes());
            }
            Event::Moved(e) => {
                self.tid(e.tid.0);
                self.out.varint(e.read_bytes);
                self.out.varint(e.written_bytes);
            }
            Event::Piped(e) => {
                self.out.varint(e.inode);
                self.out.varint(e.device.into());
                self.out.varint(e.buffers);
            }
            Event::Runtime(e) => {
                self.tid(e.pid.0);
                self.out.string(e.name.as_bytes());
            }
            Event::Lost(e) => {
                self.out.delta(e.to.0, e.from.0);
                self.out.byte(e.what as u8);
                self.out.varint(e.count);
                if let Some(cpu) = e.cpu {
                    self.out.varint(cpu.into());
                }
            }
            // Not of this chunk: `kind_of` and `push` sent them elsewhere.
            _ => {}
        }
    }

    fn word(&mut self, e: &WordInfo) {
        self.tid(e.pid.0);
        self.out.varint(e.address);
        self.out.string(e.symbol.as_bytes());
        if let Some(backing) = &e.backing {
            self.out.varint(backing.inode);
            self.out.varint(backing.device.into());
            self.out.varint(backing.offset);
            self.out.string(backing.path.as_bytes());
        }
        if let Some(gil) = e.gil {
            self.out.varint(gil);
        }
    }

    fn exit(&mut self, e: &Exit) {
        self.tid(e.tid.0);
        self.tid(e.pid.0);
        if let ExitKind::Process { status } = e.how {
            // 0 says "not known": only a parent or the kernel tier learns a status.
            self.out.varint(status.map_or(0, |status| u64::from(status) + 1));
        }
        let books = books_fields(&e.books);
        let mask = books.iter().rev().fold(0, |mask, field| mask << 1 | u8::from(field.is_some()));
        self.out.byte(mask);
        for value in books.into_iter().flatten() {
            self.out.varint(value);
        }
    }

    fn probe(&mut self, e: &ProbeEvent) {
        let tag = match e.what {
            ProbeKind::Enter { .. } => ENTER,
            ProbeKind::Leave { .. } => LEAVE,
            ProbeKind::Instant { .. } => INSTANT,
        };
        self.out.byte(tag);
        self.time(e.time);
        self.tid(e.tid.0);
        if let ProbeKind::Enter { span, .. } | ProbeKind::Leave { span } = e.what {
            self.out.delta(span, self.span);
            self.span = span;
        }
        if let ProbeKind::Enter { name, target, fields, .. }
        | ProbeKind::Instant { name, target, fields } = &e.what
        {
            for text in [name, target, fields] {
                self.out.string(text.as_bytes());
            }
        }
    }
}

fn lifecycle_tag(event: &Event) -> (u8, u8) {
    match event {
        Event::Start(e) => (START, e.how as u8),
        Event::Rename(_) => (RENAME, 0),
        Event::Exit(e) => match e.how {
            ExitKind::Thread => (EXIT, EXIT_THREAD),
            ExitKind::Process { .. } => (EXIT, EXIT_PROCESS),
            ExitKind::Alive => (EXIT, EXIT_ALIVE),
        },
        Event::Object(_) => (OBJECT, 0),
        Event::Word(e) => (WORD, u8::from(e.backing.is_some()) | u8::from(e.gil.is_some()) << 1),
        Event::Named(_) => (NAMED, 0),
        Event::Moved(_) => (MOVED, 0),
        Event::Piped(_) => (PIPED, 0),
        Event::Runtime(e) => (RUNTIME, e.free_threaded.into()),
        Event::Lost(e) => (LOST, e.cpu.is_some().into()),
        _ => (EXEC, 0),
    }
}

/// The fields of [`Books`] in the order of their bits.
fn books_fields(books: &Books) -> [Option<u64>; 6] {
    let Books { voluntary, involuntary, runs, runs_seen, cpu, queued } = *books;
    [voluntary, involuntary, runs, runs_seen, cpu.map(|n| n.0), queued.map(|n| n.0)]
}

/// A count and that many strings.
pub(super) fn put_texts(out: &mut Out, texts: &[Text]) {
    out.varint(texts.len() as u64);
    for text in texts {
        out.string(text.as_bytes());
    }
}

fn left_code(left: Left) -> u16 {
    match left {
        Left::Blocked { uninterruptible: false } => 0,
        Left::Blocked { uninterruptible: true } => 1,
        Left::Preempted => 2,
        Left::Yielded => 3,
        Left::Stopped => 4,
        Left::New => 5,
        Left::Unknown => 6,
    }
}

fn marks_code(marks: Marks) -> u8 {
    let Marks { reason_seen, open, recovered, sampled } = marks;
    u8::from(reason_seen) * MARK_REASON_SEEN
        + u8::from(open) * MARK_OPEN
        + u8::from(recovered) * MARK_RECOVERED
        + u8::from(sampled) * MARK_SAMPLED
}

fn put_call(out: &mut Out, recent: &mut Recent<Call>, call: Option<&Call>) -> u16 {
    let code = recent.code(call);
    let (CHANGED, Some(call)) = (code, call) else { return code };
    let old = recent.before;
    let at = out.bytes.len();
    let mut mask = 0;
    out.byte(0);
    if call.number != old.number {
        mask |= CALL_NUMBER;
        out.varint(call.number.into());
    }
    if call.arg0 != old.arg0 {
        mask |= CALL_ARG0;
        out.delta(call.arg0, old.arg0);
    }
    if call.arg1 != old.arg1 {
        mask |= CALL_ARG1;
        out.delta(call.arg1, old.arg1);
    }
    if call.arg2 != old.arg2 {
        mask |= CALL_ARG2;
        out.varint(call.arg2.into());
    }
    if call.fd != old.fd {
        mask |= CALL_FD;
        out.byte(call.fd as u8);
    }
    if call.inode != old.inode {
        mask |= CALL_INODE;
        out.delta(call.inode, old.inode);
    }
    if call.device != old.device {
        mask |= CALL_DEVICE;
        out.varint(call.device.into());
    }
    out.bytes[at] = mask;
    code
}

fn put_waker(out: &mut Out, recent: &mut Recent<Waker>, waker: Option<&Waker>) -> u16 {
    let code = recent.code(waker);
    let (CHANGED, Some(waker)) = (code, waker) else { return code };
    let old = recent.before;
    let at = out.bytes.len();
    let mut mask = (waker.context as u8) << WAKER_CONTEXT_SHIFT;
    out.byte(0);
    if waker.in_tree {
        mask |= WAKER_IN_TREE;
    }
    if waker.tid != old.tid {
        mask |= WAKER_TID;
        out.delta(waker.tid.0.into(), old.tid.0.into());
    }
    if let Some(call) = waker.call {
        mask |= WAKER_IN_CALL;
        if waker.call != old.call {
            mask |= WAKER_CALL;
            out.varint(call.into());
        }
    }
    if waker.arg0 != old.arg0 {
        mask |= WAKER_ARG0;
        out.delta(waker.arg0, old.arg0);
    }
    out.bytes[at] = mask;
    code
}

fn put_taker(out: &mut Out, last: &mut u32, taker: Option<Tid>) -> u16 {
    match taker {
        None => TAKER_ABSENT,
        Some(Tid(tid)) if tid == *last => TAKER_LAST,
        Some(Tid(0)) => TAKER_IDLE,
        Some(Tid(tid)) => {
            out.delta(tid.into(), (*last).into());
            *last = tid;
            TAKER_OTHER
        }
    }
}

fn put_sequence(out: &mut Out, last: &mut u32, sequence: Option<u32>) -> u16 {
    let Some(sequence) = sequence else { return SEQUENCE_ABSENT };
    let next = last.wrapping_add(1);
    *last = sequence;
    if sequence == next {
        return SEQUENCE_NEXT;
    }
    out.delta(sequence.into(), next.into());
    SEQUENCE_OTHER
}
