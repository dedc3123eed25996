//! Stays on a CPU in order of their beginning, across all threads.
//!
//! Intervals become known when they end, so a thread's run is only known once its *next*
//! stay off the CPU has ended: for an idle worker that may be the end of the recording.
//! Two passes keep memory bounded all the same: the first remembers the few runs that
//! become known late, the second merges them with the many that are known at once.

use super::Event;
use super::Interval;
use super::Left;
use super::Nanos;
use super::Segment;
use super::State;
use super::ThreadId;
use super::Tid;
use super::Timelines;
use super::Trace;
use super::Visitor;
use super::Waker;
use super::Words;
use super::learn_words;
use super::walk_knowing;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A stay of a thread on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The thread.
    pub thread: ThreadId,
    /// From here,
    pub start: Nanos,
    /// to here.
    pub end: Nanos,
    /// Where; `None` if not seen.
    pub cpu: Option<u16>,
    /// When it was made ready before, if it had been blocked and that was seen.
    pub woken: Option<Nanos>,
    /// By whom.
    pub waker: Option<Waker>,
    /// How it left; `None` if it exited, was cut by a loss, or ran to the end.
    pub left: Option<Left>,
    /// What it then waited in ([`State::Runnable`] after preemption).
    pub then: Option<State>,
    /// Who took the CPU, 0 for idle.
    pub taker: Option<Tid>,
}

impl Ord for Run {
    /// Reversed, so that a max-heap gives the earliest first; ties by thread.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.start, other.thread, other.end).cmp(&(self.start, self.thread, self.end))
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How late a run may become known and still be merged from a small heap.
const WINDOW: Nanos = Nanos::from_millis(100);

/// Gives every run of the trace to `visit`, in order of start. Returns the timelines.
pub fn runs_in_order(trace: &dyn Trace, visit: &mut dyn FnMut(&Run)) -> Timelines {
    let words = learn_words(trace);
    let mut late = LateRuns::default();
    let timelines = walk_knowing(trace, words.clone(), &mut late);
    late.finish(&timelines);
    runs_in_order_after(trace, words, late, visit)
}

/// The runs that become known late. A visitor of the first pass; those who make that pass
/// anyway hand events and segments on to it, and call [`runs_in_order_after`] then.
#[derive(Default)]
pub struct LateRuns {
    runs: Runs,
    late: Vec<Run>,
}

impl LateRuns {
    /// Closes what is open. To be called once after the walk.
    pub fn finish(&mut self, timelines: &Timelines) {
        let late = &mut self.late;
        self.runs.flush(timelines.window().1, &mut |run, known_at| keep_late(late, run, known_at));
        late.sort_unstable_by(|a, b| b.cmp(a));
    }
}

impl Visitor for LateRuns {
    fn segment(&mut self, segment: &Segment) {
        let late = &mut self.late;
        self.runs.segment(segment, &mut |run, known_at| keep_late(late, run, known_at));
    }
    fn event(&mut self, _: &Timelines, _: Option<ThreadId>, event: &Event) {
        self.runs.now = self.runs.now.max(event.time());
    }
}

fn keep_late(late: &mut Vec<Run>, run: Run, known_at: Nanos) {
    if known_at - run.start > WINDOW {
        late.push(run);
    }
}

/// The second pass of [`runs_in_order`].
pub fn runs_in_order_after(
    trace: &dyn Trace,
    words: Words,
    late: LateRuns,
    visit: &mut dyn FnMut(&Run),
) -> Timelines {
    let mut merge = Merge {
        runs: Runs::default(),
        waiting: BinaryHeap::new(),
        late: late.late.into_iter().peekable(),
        visit,
    };
    let timelines = walk_knowing(trace, words, &mut merge);
    let Merge { runs, waiting, late, visit } = &mut merge;
    runs.flush(timelines.window().1, &mut |run, known_at| {
        merge_run(waiting, late, visit, run, known_at);
    });
    give(waiting, late, Nanos::MAX, visit);
    timelines
}

/// Merges runs that are known at once with those that are known late.
struct Merge<'v> {
    runs: Runs,
    waiting: BinaryHeap<Run>,
    late: Late,
    visit: &'v mut dyn FnMut(&Run),
}

type Late = std::iter::Peekable<std::vec::IntoIter<Run>>;

impl Visitor for Merge<'_> {
    fn segment(&mut self, segment: &Segment) {
        let Self { runs, waiting, late, visit } = self;
        runs.segment(segment, &mut |run, known_at| merge_run(waiting, late, visit, run, known_at));
    }
    fn event(&mut self, _: &Timelines, _: Option<ThreadId>, event: &Event) {
        self.runs.now = self.runs.now.max(event.time());
    }
}

fn merge_run(
    waiting: &mut BinaryHeap<Run>,
    late: &mut Late,
    visit: &mut dyn FnMut(&Run),
    run: Run,
    known_at: Nanos,
) {
    if known_at - run.start <= WINDOW {
        waiting.push(run);
    }
    give(waiting, late, known_at - WINDOW, visit);
}

/// Gives away all runs that began before `settled`, merging the two sources.
fn give(
    waiting: &mut BinaryHeap<Run>,
    late: &mut Late,
    settled: Nanos,
    visit: &mut dyn FnMut(&Run),
) {
    loop {
        let early = waiting.peek().filter(|run| run.start < settled).copied();
        let other = late.peek().filter(|run| run.start < settled).copied();
        match (early, other) {
            (None, None) => return,
            // The heap's order is reversed: the greater is the earlier.
            (Some(a), Some(b)) if a < b => visit_next(late.next().unwrap_or(b), visit),
            (None, Some(b)) => visit_next(late.next().unwrap_or(b), visit),
            (Some(a), _) => visit_next(waiting.pop().unwrap_or(a), visit),
        }
    }
}

fn visit_next(run: Run, visit: &mut dyn FnMut(&Run)) {
    visit(&run);
}

/// Collects runs from segments: a run is complete when the thread's next wait is known.
#[derive(Default)]
struct Runs {
    threads: Vec<Pending>,
    now: Nanos,
}

#[derive(Clone, Copy, Default)]
struct Pending {
    run: Option<Run>,
    woken: Option<Nanos>,
    waker: Option<Waker>,
}

/// Receives a run, and the time at which it became known.
type Done<'d> = &'d mut dyn FnMut(Run, Nanos);

impl Runs {
    fn flush(&mut self, end: Nanos, done: Done) {
        self.now = self.now.max(end);
        for index in 0..self.threads.len() {
            self.complete(index, None, None, done);
        }
    }

    fn complete(
        &mut self,
        index: usize,
        interval: Option<&Interval>,
        then: Option<State>,
        done: Done,
    ) {
        if let Some(mut run) = self.threads[index].run.take() {
            // Where it left is where it was; what its return said may be older than a loss.
            run.cpu = interval.map(|interval| interval.cpu_off).or(run.cpu);
            run.left = interval.map(|interval| interval.left);
            run.taker = interval.and_then(|interval| interval.taker);
            run.then = then;
            done(run, self.now);
        }
    }

    fn segment(&mut self, segment: &Segment, done: Done) {
        let index = segment.thread.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize(index + 1, Pending::default());
        }
        let known_at = segment.interval.map_or(segment.end, |interval| interval.on);
        self.now = self.now.max(known_at);
        if segment.state != State::Running {
            self.complete(index, segment.interval, Some(segment.state), done);
            let pending = &mut self.threads[index];
            pending.woken = segment.interval.and_then(|interval| interval.woken);
            pending.waker = segment.interval.and_then(|interval| interval.waker);
            return;
        }
        self.complete(index, None, None, done);
        let Pending { woken, waker, .. } = std::mem::take(&mut self.threads[index]);
        self.threads[index].run = Some(Run {
            thread: segment.thread,
            start: segment.start,
            end: segment.end,
            cpu: segment.cpu,
            woken,
            waker,
            left: None,
            then: None,
            taker: None,
        });
    }
}
