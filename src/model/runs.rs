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

impl Run {
    /// Order of runs: by start, then by thread.
    fn key(&self) -> (Nanos, ThreadId, Nanos) {
        (self.start, self.thread, self.end)
    }
}

/// How late a run may become known and still be sorted in a small buffer.
const WINDOW: Nanos = Nanos::from_millis(50);

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
        late.sort_unstable_by_key(Run::key);
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
        sorter: Sorter {
            waiting: Vec::new(),
            due: Nanos::ZERO,
            late: late.late.into_iter().peekable(),
            visit,
        },
    };
    let timelines = walk_knowing(trace, words, &mut merge);
    let Merge { runs, sorter } = &mut merge;
    runs.flush(timelines.window().1, &mut |run, known_at| sorter.add(run, known_at));
    sorter.give(Nanos::MAX);
    timelines
}

/// Merges runs that are known at once with those that are known late.
struct Merge<'v> {
    runs: Runs,
    sorter: Sorter<'v>,
}

impl Visitor for Merge<'_> {
    fn segment(&mut self, segment: &Segment) {
        let Self { runs, sorter } = self;
        runs.segment(segment, &mut |run, known_at| sorter.add(run, known_at));
    }
    fn event(&mut self, _: &Timelines, _: Option<ThreadId>, event: &Event) {
        self.runs.now = self.runs.now.max(event.time());
    }
}

/// Sorts runs in batches. A heap costs several times as much: a run is large, and at a
/// million switches a second many thousand wait in a window.
struct Sorter<'v> {
    waiting: Vec<Run>,
    /// When the next batch is sorted.
    due: Nanos,
    late: std::iter::Peekable<std::vec::IntoIter<Run>>,
    visit: &'v mut dyn FnMut(&Run),
}

impl Sorter<'_> {
    fn add(&mut self, run: Run, known_at: Nanos) {
        if known_at - run.start <= WINDOW {
            self.waiting.push(run);
        }
        if known_at >= self.due {
            self.give(known_at - WINDOW);
            self.due = known_at + WINDOW;
        }
    }

    /// Gives away all runs that began before `settled`, in order.
    fn give(&mut self, settled: Nanos) {
        // Keys move in the sort, not the runs they stand for.
        let mut order: Vec<_> = (0..).zip(&self.waiting).map(|(i, run)| (run.key(), i)).collect();
        order.sort_unstable();
        let ready = order.partition_point(|((start, ..), _)| *start < settled);
        for &(key, index) in &order[..ready] {
            while let Some(late) = self.late.next_if(|late| late.key() < key) {
                (self.visit)(&late);
            }
            (self.visit)(&self.waiting[index as usize]);
        }
        while let Some(late) = self.late.next_if(|late| late.start < settled) {
            (self.visit)(&late);
        }
        let kept: Vec<Run> =
            order[ready..].iter().map(|&(_, i): &(_, u32)| self.waiting[i as usize]).collect();
        self.waiting = kept;
    }
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
