//! A thread that unwinds and names stacks, so that draining kernel buffers never waits for it.
//!
//! Jobs go in by a channel and records come out by another, both in order. The queue of jobs is
//! bounded in bytes by shedding stacks, never by waiting: the caller drains kernel buffers, and
//! a stack less is better than an interval lost. Should naming panic, its thread goes on without
//! it: events are delivered without stacks, and the counts say so.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SendError;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

mod backend;

use self::backend::Backend;
use self::backend::Names;
use super::CaptureError;
use super::python::Found;
use super::python::PythonFrames;
use super::sys::perf_event::thread_cpu;
use crate::model::Event;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::StackCounts;
use crate::model::StackId;
use crate::symbols::Image;
use crate::symbols::Mapping;
use crate::symbols::RawStack;

/// Bytes of stacks that may wait: 4,000 dumps of 4 KB.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Frames are named this often, so that a recorder that is killed leaves a file with most names.
const NAME_EVERY: Duration = Duration::from_secs(1);
/// Frames named at a time; the thread unwinds again in between.
const NAMES_AT_A_TIME: usize = 2000;
/// Records handed over at a time.
const RECORDS_AT_A_TIME: usize = 256;

/// Work for the naming thread, in the order it happened.
#[derive(Debug)]
pub enum Job {
    /// See [`Namer::exec`](crate::symbols::Namer::exec).
    Exec(Image),
    /// See [`Namer::fork`](crate::symbols::Namer::fork).
    Fork {
        /// The parent process.
        parent: Pid,
        /// The new process.
        child: Pid,
    },
    /// See [`Namer::map`](crate::symbols::Namer::map).
    Map(Mapping),
    /// See [`Namer::exit`](crate::symbols::Namer::exit).
    Exit(Pid),
    /// Unwind `raw`, put its id into the `stack` field of `event` (a `Sample`, `WaitStack`
    /// or `Observation`) and deliver that.
    Stack {
        /// The stack.
        raw: RawStack,
        /// Python frames that were taken with it.
        python: PythonFrames,
        /// The event it belongs to.
        event: Event,
    },
}

impl Job {
    /// Memory that a waiting stack takes; other jobs are few and small.
    fn bytes(&self) -> usize {
        match self {
            Self::Stack { raw, python, .. } => {
                let addresses = 8 * (raw.chain.len() + raw.kernel.len());
                size_of::<Self>() + raw.bytes.len() + addresses + python.bytes()
            }
            Self::Exec(_) | Self::Fork { .. } | Self::Map(_) | Self::Exit(_) => 0,
        }
    }
}

/// What naming came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What became of the stacks, including those that were given up.
    pub counts: StackCounts,
    /// What could not be named and why, in sentences.
    pub warnings: Vec<String>,
}

/// Handle to the thread. Its queue is bounded in bytes: when full, stacks are given up (the
/// event is delivered without one and counted as failed); other jobs always go through.
pub struct Naming {
    jobs: Sender<Job>,
    records: Receiver<Vec<Record>>,
    pythons: Receiver<Found>,
    thread: JoinHandle<()>,
    queued: Arc<AtomicUsize>,
    /// CPU time that stacks of looks took, ns.
    looks: Arc<AtomicU64>,
    outcome: Arc<Mutex<Outcome>>,
    /// Events whose stacks were given up here.
    without: Vec<Record>,
    shed: u64,
}

impl Naming {
    /// Starts the thread.
    pub fn start() -> Result<Self, CaptureError> {
        Self::start_with(|| Box::<Names>::default())
    }

    fn start_with(
        backend: impl FnOnce() -> Box<dyn Backend> + Send + 'static,
    ) -> Result<Self, CaptureError> {
        let (jobs, todo) = channel();
        let (done, records) = channel();
        let (found, pythons) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let looks = Arc::new(AtomicU64::new(0));
        let (taken, result) = (Arc::clone(&queued), Arc::clone(&outcome));
        let cost = Arc::clone(&looks);
        let thread = std::thread::Builder::new()
            .name("timesink-names".to_owned())
            .spawn(move || Thread::new(backend, done, taken, cost, found).run(&todo, &result))
            .map_err(|source| CaptureError::Os {
                doing: "starting the thread that names stacks".to_owned(),
                source,
            })?;
        let (without, shed) = (Vec::new(), 0);
        Ok(Self { jobs, records, pythons, thread, queued, looks, outcome, without, shed })
    }

    /// Hands over a job. Never blocks.
    pub fn send(&mut self, job: Job) {
        let bytes = job.bytes();
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        let refused = if bytes > 0 && before + bytes > MAX_QUEUED_BYTES {
            Some(job)
        } else {
            self.jobs.send(job).err().map(|SendError(job)| job)
        };
        if let Some(job) = refused {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            if let Job::Stack { event, .. } = job {
                self.shed += 1;
                self.without.push(Record::Event(event));
            }
        }
    }

    /// Processes that were found to run Python, or no longer do, since the last call.
    pub fn pythons(&self) -> Vec<Found> {
        self.pythons.try_iter().collect()
    }

    /// Delivers what is finished.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Record)) {
        self.records.try_iter().flatten().for_each(&mut *sink);
        self.without.drain(..).for_each(sink);
    }

    /// CPU time that unwinding the stacks of [`Event::Observation`]s took so far.
    pub fn cost_of_looks(&self) -> Nanos {
        Nanos(self.looks.load(Ordering::Relaxed))
    }

    /// Finishes all jobs, names all frames, delivers the rest and ends the thread.
    pub fn finish(self, sink: &mut dyn FnMut(Record)) -> StackCounts {
        self.finish_with_warnings(sink).counts
    }

    /// Like [`Naming::finish`], and tells what could not be named as well.
    pub fn finish_with_warnings(self, sink: &mut dyn FnMut(Record)) -> Outcome {
        // Without a sender the thread finishes its jobs and ends, which ends the records.
        drop(self.jobs);
        self.records.iter().flatten().for_each(&mut *sink);
        self.without.into_iter().for_each(sink);
        let panicked = self.thread.join().is_err();
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
        outcome.counts.taken += self.shed;
        outcome.counts.failed += self.shed;
        if self.shed > 0 {
            outcome.warnings.push(format!(
                "{} stacks were given up because they came faster than they can be unwound: \
                record with a lower --freq",
                self.shed
            ));
        }
        if panicked && !outcome.warnings.iter().any(|w| w == BROKEN) {
            outcome.warnings.push(BROKEN.to_owned());
        }
        outcome
    }
}

const BROKEN: &str = "naming stacks failed by a mistake in timesink: from then on events have no \
    stacks; please report it with the message above";

/// The thread's own state.
struct Thread {
    /// `None` after a panic.
    backend: Option<Box<dyn Backend>>,
    /// What the backend had come to when it was last asked.
    outcome: Outcome,
    done: Sender<Vec<Record>>,
    records: Vec<Record>,
    queued: Arc<AtomicUsize>,
    looks: Arc<AtomicU64>,
    pythons: Sender<Found>,
}

impl Thread {
    fn new(
        backend: impl FnOnce() -> Box<dyn Backend>,
        done: Sender<Vec<Record>>,
        queued: Arc<AtomicUsize>,
        looks: Arc<AtomicU64>,
        pythons: Sender<Found>,
    ) -> Self {
        let mut outcome = Outcome::default();
        let backend = catch_unwind(AssertUnwindSafe(backend)).ok();
        if backend.is_none() {
            outcome.warnings.push(BROKEN.to_owned());
        }
        Self { backend, outcome, done, records: Vec::new(), queued, looks, pythons }
    }

    fn run(mut self, todo: &Receiver<Job>, result: &Mutex<Outcome>) {
        let mut next_names = now() + NAME_EVERY;
        loop {
            // Whoever drains shall not wait for a full batch when there is nothing more to do.
            let job = todo.try_recv().or_else(|_| {
                self.hand_over();
                todo.recv_timeout(next_names.saturating_duration_since(now()))
            });
            match job {
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if now() >= next_names {
                self.name(Some(NAMES_AT_A_TIME));
                next_names = now() + NAME_EVERY;
            }
        }
        self.name(None);
        self.hand_over();
        self.update_outcome();
        *result.lock().unwrap_or_else(PoisonError::into_inner) = self.outcome;
    }

    fn work(&mut self, job: Job) {
        let bytes = job.bytes();
        match job {
            Job::Stack { raw, python, mut event } => {
                // Only whole results are delivered: after a panic, ids would no longer count up.
                let before = self.records.len();
                let began = matches!(event, Event::Observation(_)).then(thread_cpu);
                let id = self.attempt(|backend, records| {
                    backend.stack(&raw, &python, &mut |d| records.push(Record::Definition(d)))
                });
                if id.is_none() {
                    self.records.truncate(before);
                    self.outcome.counts.taken += 1;
                    self.outcome.counts.failed += 1;
                }
                if let Some(began) = began {
                    self.looks.fetch_add((thread_cpu() - began).0, Ordering::Relaxed);
                }
                self.word(raw.pid, &event);
                self.learn(raw.pid, &event);
                set_stack(&mut event, id.flatten());
                self.records.push(Record::Event(event));
            }
            Job::Exec(_) | Job::Fork { .. } | Job::Map(_) | Job::Exit(_) => {
                self.attempt(|backend, _| backend.note(&job));
            }
        }
        for found in self.attempt(|backend, _| backend.pythons()).unwrap_or_default() {
            // Nobody listens where no frames can be taken.
            let _ = self.pythons.send(found);
        }
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        if self.records.len() >= RECORDS_AT_A_TIME {
            self.hand_over();
        }
    }

    /// Says what the futex word of a wait is, the first time that it is met.
    fn word(&mut self, pid: Pid, event: &Event) {
        let (time, call) = match event {
            Event::WaitStack(e) => (e.time, e.call),
            Event::Observation(e) => (e.time, e.call.flatten()),
            _ => return,
        };
        let Some(word) = call.and_then(|call| call.futex_word()) else { return };
        let info = self.attempt(|backend, _| backend.word(time, pid, word)).flatten();
        self.records.extend(info.map(|info| Record::Event(Event::Word(info))));
    }

    /// Says what else became known of a thread that was seen, and of its process.
    fn learn(&mut self, pid: Pid, event: &Event) {
        let (time, tid) = (event.time(), event.tid());
        let learnt = self.attempt(|backend, _| backend.learnt(time, pid, tid));
        self.records.extend(learnt.into_iter().flatten().map(Record::Event));
    }

    /// Names frames; in batches, so that the records of one are on their way during the next.
    fn name(&mut self, limit: Option<usize>) {
        self.attempt(|backend, records| {
            backend.name(limit, &mut |d| records.push(Record::Definition(d)));
        });
        self.hand_over();
    }

    /// Does something with the backend, unless it panicked before; `None` if it does so now.
    fn attempt<T>(
        &mut self,
        what: impl FnOnce(&mut dyn Backend, &mut Vec<Record>) -> T,
    ) -> Option<T> {
        let backend = self.backend.as_mut()?;
        let records = &mut self.records;
        let done = catch_unwind(AssertUnwindSafe(|| what(backend.as_mut(), records))).ok();
        if done.is_none() {
            // Its state may be half changed: never asked again but for its counts, without
            // the stack that it was at.
            self.update_outcome();
            let counts = &mut self.outcome.counts;
            counts.taken = counts.complete + counts.truncated + counts.failed;
            self.backend = None;
            self.outcome.warnings.push(BROKEN.to_owned());
        }
        done
    }

    fn update_outcome(&mut self) {
        let Some(backend) = self.backend.as_ref() else { return };
        if let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| backend.outcome())) {
            self.outcome = outcome;
        }
    }

    fn hand_over(&mut self) {
        if !self.records.is_empty() {
            // Nobody listens any more: then nobody misses them.
            let _ = self.done.send(std::mem::take(&mut self.records));
        }
    }
}

#[allow(clippy::disallowed_methods)] // paces work; no time of a trace comes from here
fn now() -> Instant {
    Instant::now()
}

/// Puts a stack into the events that have one.
fn set_stack(event: &mut Event, id: Option<StackId>) {
    match event {
        Event::Sample(e) => e.stack = id,
        Event::WaitStack(e) => e.stack = id,
        Event::Observation(e) => e.stack = id,
        Event::Interval(_)
        | Event::Gap(_)
        | Event::Start(_)
        | Event::Exec(_)
        | Event::Rename(_)
        | Event::Exit(_)
        | Event::Object(_)
        | Event::Word(_)
        | Event::Named(_)
        | Event::Moved(_)
        | Event::Piped(_)
        | Event::Runtime(_)
        | Event::Lost(_)
        | Event::Probe(_) => {}
    }
}

#[cfg(test)]
mod tests;
