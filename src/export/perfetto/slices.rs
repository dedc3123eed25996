//! What each thread waited in, what the program said of itself, and what a CPU sample saw.

use super::counters::Counter;
use super::proto::Proto;
use super::samples::Samples;
use super::tracks;
use super::writer::Interner;
use super::writer::Writer;
use super::writer::field;
use super::writer::interned;
use crate::export::common::Ids;
use crate::export::common::Namer;
use crate::export::common::Selection;
use crate::export::common::Span;
use crate::export::common::Spans;
use crate::export::common::WaitKey;
use crate::model::Call;
use crate::model::Context;
use crate::model::Event;
use crate::model::Nanos;
use crate::model::ProbeEvent;
use crate::model::ProbeKind;
use crate::model::Segment;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::Text;
use crate::model::ThreadId;
use crate::model::Timelines;
use crate::model::Visitor;
use crate::model::WaitStack;
use crate::model::Waker;
use crate::model::syscall_label;

/// Functions of a stack that a slice's details show, innermost ones first to be kept.
const SHOWN_FRAMES: usize = 32;

/// Writes slices, counters and samples in one pass.
pub struct Slices<'a, 'w, 'o> {
    pub(super) out: &'w mut Writer<'o>,
    pub(super) ids: &'a Ids,
    pub(super) rows: &'a Timelines,
    pub(super) namer: Namer<'a>,
    pub(super) symbols: &'a Symbols,
    pub(super) selection: Selection,
    pub(super) running: Counter,
    pub(super) ready: Counter,
    pub(super) samples: Samples<'a>,
    pub(super) threads: Vec<Row>,
    pub(super) names: Interner<WaitKey>,
    pub(super) states: Interner<u8>,
    pub(super) keys: Interner<&'static str>,
    pub(super) values: Interner<Value>,
    /// Waits drawn.
    pub(super) waits: u64,
    /// Waits left out.
    pub(super) left_out: u64,
    /// Time of those, ns.
    pub(super) left_out_ns: Nanos,
    /// Spans of the program.
    pub(super) spans: u64,
}

/// What is not written yet of a thread.
#[derive(Default)]
pub(super) struct Row {
    wait: Option<PendingWait>,
    /// A stack that came before its wait: those of page faults do.
    early: Option<(Nanos, StackId)>,
    spans: Spans,
    /// Rows for spans that are declared.
    lanes: u32,
}

/// A wait, held back until its stack can have come.
#[derive(Clone, Copy)]
struct PendingWait {
    start: Nanos,
    end: Nanos,
    state: State,
    call: Option<Call>,
    off: Option<Nanos>,
    waker: Option<Waker>,
    stack: Option<StackId>,
}

/// Texts of details, by what they are of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Call(u16),
    Thread(ThreadId),
    Stack(StackId),
    Foreign(Context),
}

impl Slices<'_, '_, '_> {
    fn row(&mut self, thread: ThreadId) -> &mut Row {
        let index = thread.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize_with(index + 1, Row::default);
        }
        &mut self.threads[index]
    }

    fn wait(&mut self, segment: &Segment, start: Nanos, end: Nanos) {
        if !self.selection.takes(segment.duration()) {
            self.left_out += 1;
            self.left_out_ns += end - start;
            return;
        }
        let off = segment.interval.map(|interval| interval.off);
        let row = self.row(segment.thread);
        let early = row.early.filter(|early| Some(early.0) == off).map(|early| early.1);
        let wait = PendingWait {
            start,
            end,
            state: segment.state,
            call: segment.call,
            off,
            waker: segment.interval.and_then(|interval| interval.waker),
            stack: early.or(segment.site),
        };
        let before = row.wait.replace(wait);
        self.write_wait(segment.thread, before);
    }

    fn write_wait(&mut self, thread: ThreadId, wait: Option<PendingWait>) {
        let Some(wait) = wait else { return };
        self.waits += 1;
        let process = self.rows.process_of(thread);
        let pid = self.rows.processes()[process.0 as usize].pid.0;
        let key = WaitKey::new(wait.state, wait.call, process, pid);
        let name = self.names.iid(self.out, interned::EVENT_NAMES, key, || self.namer.name(&key));
        let category = self
            .states
            .iid(self.out, interned::CATEGORIES, wait.state as u8, || wait.state.name().to_owned());
        let details = self.details(&wait);
        let track = tracks::thread(thread);
        self.out.sequenced(Some(wait.start), |packet| {
            packet.nest(field::TRACK_EVENT, |event| {
                event.int(3, category);
                event.int(9, 1);
                event.int(10, name);
                event.int(11, track);
                event.0.extend_from_slice(&details.0);
            });
        });
        end_slice(self.out, wait.end, track);
    }

    /// Call, waker and stack, as annotations.
    fn details(&mut self, wait: &PendingWait) -> Proto {
        let mut details = Proto::default();
        if let Some(call) = wait.call {
            let value = self.value(Value::Call(call.number), || syscall_label(call.number));
            self.annotate(&mut details, "system call", value);
        }
        if let Some(waker) = wait.waker {
            let value = self.waker(&waker, wait.end);
            self.annotate(&mut details, "woken by", value);
        }
        if let Some(stack) = wait.stack {
            let symbols = self.symbols;
            let value = self.value(Value::Stack(stack), || shown_stack(symbols, stack));
            self.annotate(&mut details, "stack (outermost first)", value);
        }
        details
    }

    fn waker(&mut self, waker: &Waker, at: Nanos) -> u64 {
        let real = waker.in_tree && waker.context != Context::Hardirq;
        if let Some(thread) = self.ids.owner(waker.tid, at).filter(|_| real) {
            let row = &self.rows.threads()[thread.0 as usize];
            let tid = self.ids.tid(thread);
            return self.value(Value::Thread(thread), || format!("{} [{tid}]", row.name));
        }
        self.value(Value::Foreign(waker.context), || {
            match waker.context {
                Context::Task => "another process",
                Context::Softirq => "an interrupt (network, disk or timer)",
                Context::Hardirq => "an interrupt (timer or device)",
            }
            .to_owned()
        })
    }

    fn value(&mut self, key: Value, text: impl FnOnce() -> String) -> u64 {
        self.values.iid(self.out, interned::ANNOTATION_VALUES, key, text)
    }

    fn annotate(&mut self, details: &mut Proto, key: &'static str, value: u64) {
        let name = self.keys.iid(self.out, interned::ANNOTATION_NAMES, key, || key.to_owned());
        details.nest(4, |annotation| {
            annotation.int(1, name);
            annotation.int(17, value);
        });
    }

    fn wait_stack(&mut self, thread: ThreadId, taken: &WaitStack) {
        let Some(stack) = taken.stack else { return };
        let row = self.row(thread);
        match &mut row.wait {
            Some(wait) if wait.off == Some(taken.off) => wait.stack = Some(stack),
            _ => row.early = Some((taken.off, stack)),
        }
    }

    fn probe(&mut self, thread: ThreadId, event: &ProbeEvent) {
        let mut done = Vec::new();
        match &event.what {
            ProbeKind::Enter { span, name, target, fields } => {
                self.row(thread).spans.enter(event.time, *span, name, target, fields);
            }
            ProbeKind::Leave { span } => {
                self.row(thread).spans.leave(event.time, *span, &mut |span| done.push(span));
            }
            ProbeKind::Instant { name, target, fields } => {
                self.lane(thread, 0);
                let track = tracks::lane(thread, 0);
                instant(self.out, event.time, track, &name.to_string(), |event| {
                    texts(event, &[("target", target), ("fields", fields)]);
                });
            }
        }
        for span in &done {
            self.write_span(thread, span);
        }
    }

    fn write_span(&mut self, thread: ThreadId, span: &Span) {
        self.spans += 1;
        let lane = span.lane.min(tracks::LANES - 1);
        self.lane(thread, lane);
        let track = tracks::lane(thread, lane);
        self.out.sequenced(Some(span.start), |packet| {
            packet.nest(field::TRACK_EVENT, |event| {
                event.text(22, "program");
                event.int(9, 1);
                event.int(11, track);
                event.text(23, &span.name.to_string());
                texts(event, &[("target", &span.target), ("fields", &span.fields)]);
            });
        });
        end_slice(self.out, span.end, track);
    }

    /// Declares the rows for spans of a thread, up to this one.
    fn lane(&mut self, thread: ThreadId, lane: u32) {
        while self.row(thread).lanes <= lane {
            let next = self.row(thread).lanes;
            tracks::declare_lane(self.out, thread, next);
            self.row(thread).lanes += 1;
        }
    }

    /// Writes what was held back, and the counters.
    pub(super) fn finish(mut self) -> (u64, u64, Nanos, u64, u64) {
        for index in 0..self.threads.len() {
            let thread = ThreadId(index as u32);
            let end = self.rows.threads()[index].end.unwrap_or(self.rows.window().1);
            let mut row = std::mem::take(&mut self.threads[index]);
            self.threads[index].lanes = row.lanes;
            self.write_wait(thread, row.wait);
            let mut done = Vec::new();
            row.spans.finish(end, &mut |span| done.push(span));
            for span in &done {
                self.write_span(thread, span);
            }
        }
        self.running.write(self.out);
        self.ready.write(self.out);
        (self.waits, self.left_out, self.left_out_ns, self.spans, self.samples.count)
    }
}

impl Visitor for Slices<'_, '_, '_> {
    fn segment(&mut self, segment: &Segment) {
        let (from, to) = self.rows.window();
        let (start, end) = (segment.start.max(from), segment.end.min(to));
        match segment.state {
            _ if start >= end => {}
            State::Running => self.running.add(start, end),
            State::Runnable => self.ready.add(start, end),
            _ => self.wait(segment, start, end),
        }
    }

    fn event(&mut self, _: &Timelines, thread: Option<ThreadId>, event: &Event) {
        let (from, to) = self.rows.window();
        let Some(thread) = thread.filter(|_| event.time() >= from && event.time() <= to) else {
            return;
        };
        match event {
            Event::WaitStack(taken) => self.wait_stack(thread, taken),
            Event::Probe(probe) => self.probe(thread, probe),
            Event::Sample(sample) => {
                let pid = self.ids.pid(self.rows.process_of(thread));
                self.samples.write(self.out, sample, pid, self.ids.tid(thread));
            }
            Event::Exec(exec) => {
                let name = format!("exec {}", exec.path);
                instant(self.out, exec.time, tracks::thread(thread), &name, |_| {});
            }
            _ => {}
        }
    }
}

/// Ends the innermost open slice of a track.
pub(super) fn end_slice(out: &mut Writer, at: Nanos, track: u64) {
    out.sequenced(Some(at), |packet| {
        packet.nest(field::TRACK_EVENT, |event| {
            event.int(9, 2);
            event.int(11, track);
        });
    });
}

/// Writes an event without a length.
pub(super) fn instant(
    out: &mut Writer,
    at: Nanos,
    track: u64,
    name: &str,
    details: impl FnOnce(&mut Proto),
) {
    out.sequenced(Some(at), |packet| {
        packet.nest(field::TRACK_EVENT, |event| {
            event.int(9, 3);
            event.int(11, track);
            event.text(23, name);
            details(event);
        });
    });
}

/// Annotations that hardly repeat, so not interned.
pub(super) fn texts(event: &mut Proto, details: &[(&str, &Text)]) {
    for (key, value) in details.iter().filter(|(_, value)| !value.is_empty()) {
        text(event, key, &value.to_string());
    }
}

/// One annotation.
pub(super) fn text(event: &mut Proto, key: &str, value: &str) {
    event.nest(4, |annotation| {
        annotation.text(10, key);
        annotation.text(6, value);
    });
}

fn shown_stack(symbols: &Symbols, stack: StackId) -> String {
    let functions = symbols.functions(stack);
    let skipped = functions.len().saturating_sub(SHOWN_FRAMES);
    let mut text = String::from(if skipped > 0 { "... > " } else { "" });
    for (nth, function) in functions[skipped..].iter().enumerate() {
        text.push_str(if nth > 0 { " > " } else { "" });
        text.push_str(&function.name());
    }
    text
}
