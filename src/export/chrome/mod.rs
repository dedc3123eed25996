//! Chrome's JSON trace format: for `chrome://tracing` and any tool that reads it.
//!
//! States of threads are `X` slices, one row a thread, and `ph:"T"` states (Perfetto from v54 on
//! draws them natively, others ignore them); wake-ups are flows from the waker's stay on a
//! CPU to the woken thread's `runnable`; spans of the program's probe have rows of their own.
//! Times are us with three decimals, from the start of the run.
//!
//! JSON opens slowly and whole, so there is a budget: the longest waits first, with the
//! queueing after each and the stay of its waker, then the longest of the rest. What was left
//! out is said in `otherData` and on a row of its own. The format has no place for call
//! stacks, CPU tracks or counters with units: [`super::perfetto`] is the complete export.

mod choice;
mod json;

use super::common::Ids;
use super::common::Namer;
use super::common::Span;
use super::common::Spans;
use super::common::Survey;
use super::common::WaitKey;
use crate::analysis::Report;
use crate::model::Event;
use crate::model::Nanos;
use crate::model::ProbeEvent;
use crate::model::ProbeKind;
use crate::model::Segment;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::Visitor;
use crate::model::learn_words;
use crate::model::syscall_label;
use crate::model::walk_knowing;
use choice::Chooser;
use choice::Decision;
use json::Json;
use json::Micros;
use json::Quoted;
use std::fmt::Write as _;
use std::io;
use std::io::Write;

/// What to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// At most this many stretches of threads' lives (each a slice and a state).
    pub max_slices: u64,
    /// At most this many spans and instants of the program, in order of their end.
    pub max_spans: u64,
}

impl Default for Options {
    /// 300,000 slices and 100,000 spans: at most about 100 MB.
    fn default() -> Self {
        Self { max_slices: 300_000, max_spans: 100_000 }
    }
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Bytes.
    pub bytes: u64,
    /// Events of all kinds.
    pub events: u64,
    /// Stretches of threads' lives.
    pub slices: u64,
    /// Stretches left out.
    pub left_out: u64,
    /// Of them, waits.
    pub waits_left_out: u64,
    /// Time of those waits, ns.
    pub left_out_ns: u64,
    /// Wake-ups drawn as flows.
    pub flows: u64,
    /// Spans and instants of the program.
    pub spans: u64,
    /// Those left out.
    pub spans_left_out: u64,
}

/// Added to a thread's id for each of its rows of spans; beyond every id of [`Ids`].
const LANE: u64 = 1 << 30;

/// Rows of spans a thread can have: ids beyond 32 bits are 0 to the engines.
const LANES: u32 = 3;

/// Row and process for what is said of the whole run.
const RUN: u64 = 1_999_999_998;

/// Writes `trace` as a Chrome trace into `out`; the verdict of `report`, where there is one,
/// heads it.
///
/// # Errors
/// Those of `out`.
pub fn write(
    trace: &dyn Trace,
    report: Option<&Report>,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<Stats> {
    let words = learn_words(trace);
    let (survey, _, rows) = Survey::of(trace, words.clone());
    let ids = Ids::new(&rows);
    let waits = choice::waits_share(&survey, options.max_slices);
    let chooser =
        |others| Chooser::new(&ids, survey.waits.longest(waits), survey.others.longest(others));

    let mut marks = Marks { chooser: chooser(0), wakers: Vec::new(), forced: 0 };
    walk_knowing(trace, words.clone(), &mut marks);
    let others = choice::others_share(&survey, options.max_slices, waits, marks.forced);

    let mut writer = Slices {
        json: Json::new(out),
        ids: &ids,
        rows: &rows,
        namer: Namer::new(&survey.called),
        chooser: chooser(others),
        wakers: &marks.wakers,
        threads: Vec::new(),
        options: *options,
        stats: Stats::default(),
    };
    writer.names();
    walk_knowing(trace, words, &mut writer);
    let all_from = survey.waits.longest(waits).all_from();
    writer.finish(trace, report, all_from)
}

/// First pass: the stays on a CPU that flows start from must be written, however short.
struct Marks<'a> {
    chooser: Chooser<'a>,
    wakers: Vec<u64>,
    /// What chosen waits bring along.
    forced: u64,
}

impl Visitor for Marks<'_> {
    fn segment(&mut self, segment: &Segment) {
        let decision = self.chooser.decide(segment);
        self.forced += u64::from(decision.follows);
        if let Some(run) = decision.woken_by.filter(|_| decision.follows) {
            let word = run as usize / 64;
            if word >= self.wakers.len() {
                self.wakers.resize(word + 1, 0);
            }
            self.forced += 1 - (self.wakers[word] >> (run % 64) & 1);
            self.wakers[word] |= 1 << (run % 64);
        }
    }
}

/// Second pass: writes.
struct Slices<'a, 'o> {
    json: Json<'o>,
    ids: &'a Ids,
    rows: &'a Timelines,
    namer: Namer<'a>,
    chooser: Chooser<'a>,
    wakers: &'a [u64],
    threads: Vec<Row>,
    options: Options,
    stats: Stats,
}

#[derive(Default)]
struct Row {
    spans: Spans,
    lanes: u64,
}

impl Slices<'_, '_> {
    fn place(&self, thread: ThreadId) -> (u32, u32) {
        (self.ids.pid(self.rows.process_of(thread)), self.ids.tid(thread))
    }

    fn name(&mut self, what: &str, pid: u64, tid: u64, name: &str) {
        let name = Quoted(name);
        self.json.event(format_args!(
            "\"ph\":\"M\",\"name\":\"{what}\",\"pid\":{pid},\"tid\":{tid},\"args\":{{\"name\":{name}}}"
        ));
    }

    fn names(&mut self) {
        let rows = self.rows;
        self.name("process_name", RUN, RUN, "timesink");
        self.name("thread_name", RUN, RUN, "the run");
        for process in rows.processes() {
            let pid = u64::from(self.ids.pid(process.id));
            self.name("process_name", pid, pid, &process.name.to_string());
        }
        for thread in rows.threads() {
            let (pid, tid) = self.place(thread.id);
            self.name("thread_name", pid.into(), tid.into(), &thread.name.to_string());
        }
    }

    fn is_waker(&self, run: u32) -> bool {
        self.wakers.get(run as usize / 64).is_some_and(|word| word >> (run % 64) & 1 == 1)
    }

    fn written(&mut self, segment: &Segment, decision: Decision) -> bool {
        let waker = segment.state == State::Running && self.is_waker(decision.run);
        if decision.chosen || decision.follows || waker {
            return true;
        }
        self.stats.left_out += 1;
        if segment.state.is_wait() {
            self.stats.waits_left_out += 1;
            self.stats.left_out_ns += segment.duration().0;
        }
        false
    }

    /// The slice and the state of one stretch, cut to the run.
    fn stretch(&mut self, segment: &Segment, decision: Decision, start: Nanos, dur: Nanos) {
        let (pid, tid) = self.place(segment.thread);
        let (ts, dur) = (Micros(start), Micros(dur));
        let flow = match (segment.state, decision.woken_by) {
            (State::Running, _) if self.is_waker(decision.run) => {
                format!(",\"bind_id\":\"{:#x}\",\"flow_out\":true", decision.run)
            }
            (State::Runnable, Some(run)) if self.is_waker(run) => {
                self.stats.flows += 1;
                format!(",\"bind_id\":\"{run:#x}\",\"flow_in\":true")
            }
            _ => String::new(),
        };
        let (name, details) = self.describe(segment);
        let name = Quoted(&name);
        self.json.event(format_args!(
            "\"ph\":\"X\",\"name\":{name},\"cat\":\"{}\",\"pid\":{pid},\"tid\":{tid},\
             \"ts\":{ts},\"dur\":{dur}{flow}{details}",
            segment.state.name()
        ));
        let cpu = match (segment.state, segment.cpu) {
            (State::Running, Some(cpu)) => format!(",\"args\":{{\"cpu\":{cpu}}}"),
            _ => String::new(),
        };
        self.json.event(format_args!(
            "\"ph\":\"T\",\"name\":\"{}\",\"pid\":{pid},\"tid\":{tid},\"ts\":{ts},\"dur\":{dur}{cpu}",
            kernel_state(segment)
        ));
        self.stats.slices += 1;
    }

    fn describe(&self, segment: &Segment) -> (String, String) {
        if !segment.state.is_wait() {
            let cpu = segment.cpu.map(|cpu| format!(",\"args\":{{\"cpu\":{cpu}}}"));
            return (segment.state.name().to_owned(), cpu.unwrap_or_default());
        }
        let process = self.rows.process_of(segment.thread);
        let pid = self.rows.processes()[process.0 as usize].pid.0;
        let name = self.namer.name(&WaitKey::new(segment.state, segment.call, process, pid));
        let call = segment.call.map(|call| {
            let label = syscall_label(call.number);
            format!(",\"args\":{{\"system call\":{}}}", Quoted(&label))
        });
        (name, call.unwrap_or_default())
    }

    fn row(&mut self, thread: ThreadId) -> &mut Row {
        let index = thread.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize_with(index + 1, Row::default);
        }
        &mut self.threads[index]
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
                let (name, target) = (name.to_string(), target.to_string());
                let fields = fields.to_string();
                let Some((pid, tid)) = self.lane(thread, 0) else { return };
                let ts = Micros(event.time - self.rows.window().0);
                let (name, target, fields) = (Quoted(&name), Quoted(&target), Quoted(&fields));
                self.json.event(format_args!(
                    "\"ph\":\"i\",\"s\":\"t\",\"name\":{name},\"cat\":\"program\",\"pid\":{pid},\"tid\":{tid},\
                     \"ts\":{ts},\"args\":{{\"target\":{target},\"fields\":{fields}}}"
                ));
            }
        }
        for span in &done {
            self.span(thread, span);
        }
    }

    /// The row for a span, named on first use; `None` when the budget is spent.
    fn lane(&mut self, thread: ThreadId, lane: u32) -> Option<(u32, u64)> {
        if self.stats.spans >= self.options.max_spans || lane >= LANES {
            self.stats.spans_left_out += 1;
            return None;
        }
        self.stats.spans += 1;
        let (pid, tid) = self.place(thread);
        let row = u64::from(lane) + 1;
        while self.row(thread).lanes < row {
            self.row(thread).lanes += 1;
            let name = format!("{}: spans", self.rows.threads()[thread.0 as usize].name);
            let tid = u64::from(tid) + LANE * self.row(thread).lanes;
            self.name("thread_name", pid.into(), tid, &name);
        }
        Some((pid, u64::from(tid) + LANE * row))
    }

    fn span(&mut self, thread: ThreadId, span: &Span) {
        let Some((pid, tid)) = self.lane(thread, span.lane) else { return };
        let from = self.rows.window().0;
        let (ts, dur) = (Micros(span.start - from), Micros(span.end - span.start));
        let (name, target) = (span.name.to_string(), span.target.to_string());
        let fields = span.fields.to_string();
        let (name, target, fields) = (Quoted(&name), Quoted(&target), Quoted(&fields));
        self.json.event(format_args!(
            "\"ph\":\"X\",\"name\":{name},\"cat\":\"program\",\"pid\":{pid},\"tid\":{tid},\
             \"ts\":{ts},\"dur\":{dur},\"args\":{{\"target\":{target},\"fields\":{fields}}}"
        ));
    }

    fn finish(
        mut self,
        trace: &dyn Trace,
        report: Option<&Report>,
        all_from: Nanos,
    ) -> io::Result<Stats> {
        let (start, end) = self.rows.window();
        for index in 0..self.threads.len() {
            let thread = ThreadId(index as u32);
            let until = self.rows.threads()[index].end.unwrap_or(end);
            let mut done = Vec::new();
            let mut spans = std::mem::take(&mut self.threads[index].spans);
            spans.finish(until, &mut |span| done.push(span));
            for span in &done {
                self.span(thread, span);
            }
        }
        let left_out = self.left_out(all_from);
        let info = trace.info();
        let command: Vec<String> = info.command.iter().map(ToString::to_string).collect();
        let command = command.join(" ");
        let title = report.map_or(command.as_str(), |report| report.verdict.headline.as_str());
        let (title, dropped) = (Quoted(title), Quoted(&left_out));
        let dur = Micros(end - start);
        self.json.event(format_args!(
            "\"ph\":\"X\",\"name\":{title},\"pid\":{RUN},\"tid\":{RUN},\"ts\":0.000,\"dur\":{dur},\
             \"args\":{{\"left out\":{dropped}}}"
        ));
        if self.stats.left_out + self.stats.spans_left_out > 0 {
            self.json.event(format_args!(
                "\"ph\":\"i\",\"s\":\"t\",\"name\":{dropped},\"pid\":{RUN},\"tid\":{RUN},\"ts\":0.000"
            ));
        }
        self.stats.events = self.json.events;
        self.stats.bytes = self.json.finish(&[
            ("recorded by", format!("timesink {}", info.version)),
            ("command", command),
            ("tier", info.tier.name().to_owned()),
            ("clock", format!("CLOCK_MONOTONIC; 0 here is {} ns there", start.0)),
            ("left out", left_out),
        ])?;
        Ok(self.stats)
    }

    fn left_out(&self, all_from: Nanos) -> String {
        let stats = &self.stats;
        if stats.left_out + stats.spans_left_out == 0 {
            return "nothing".to_owned();
        }
        let mut text = format!(
            "{} stretches of threads' lives, {} of them waits ({} in all; all waits from {} on \
             are drawn; the limit is {} slices); the Perfetto export has all thread states",
            stats.left_out,
            stats.waits_left_out,
            Nanos(stats.left_out_ns),
            all_from,
            self.options.max_slices
        );
        if stats.spans_left_out > 0 {
            let _ = write!(
                text,
                "; {} spans and instants of the program (the limit is {})",
                stats.spans_left_out, self.options.max_spans
            );
        }
        text
    }
}

impl Visitor for Slices<'_, '_> {
    fn segment(&mut self, segment: &Segment) {
        let decision = self.chooser.decide(segment);
        let (from, to) = self.rows.window();
        let (start, end) = (segment.start.max(from), segment.end.min(to));
        if self.written(segment, decision) && start < end {
            self.stretch(segment, decision, start - from, end - start);
        }
    }

    fn event(&mut self, _: &Timelines, thread: Option<ThreadId>, event: &Event) {
        let (from, to) = self.rows.window();
        if let (Some(thread), Event::Probe(probe)) = (thread, event)
            && (from..=to).contains(&probe.time)
        {
            self.probe(thread, probe);
        }
    }
}

/// The kernel's letter for a state.
fn kernel_state(segment: &Segment) -> &'static str {
    use crate::model::Left;
    let left = segment.interval.map(|interval| interval.left);
    match (segment.state, left) {
        (State::Running, _) => "Running",
        (State::Runnable, Some(Left::Preempted)) => "R+",
        (State::Runnable, _) => "R",
        (State::Stopped, _) => "T",
        (_, Some(Left::Blocked { uninterruptible: true })) => "D",
        (_, Some(Left::Blocked { .. })) => "S",
        _ => "P",
    }
}
