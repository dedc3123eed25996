//! What an exporter must know of a whole trace before it writes the first byte.

use super::Histogram;
use super::names::Called;
use crate::model::Both;
use crate::model::Event;
use crate::model::Gap;
use crate::model::LateRuns;
use crate::model::Lost;
use crate::model::Nanos;
use crate::model::Segment;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::Visitor;
use crate::model::Waker;
use crate::model::Words;
use crate::model::is_futex;
use crate::model::walk_knowing;

/// A change of state that no stay on a CPU tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Found off the CPU without having been on one before.
    Blocked {
        /// The thread.
        thread: ThreadId,
        /// From then on.
        at: Nanos,
        /// In this state.
        state: State,
    },
    /// Ready, but its next stay on a CPU does not tell since when.
    Ready {
        /// The thread.
        thread: ThreadId,
        /// From then on.
        at: Nanos,
        /// Who woke it.
        waker: Option<Waker>,
        /// The thread that started it, for a new one.
        parent: Option<ThreadId>,
    },
}

/// One pass over a trace: counts, sizes, names.
#[derive(Default)]
pub struct Survey {
    /// Lengths of waits.
    pub waits: Histogram,
    /// Lengths of stays on a CPU and in its queue.
    pub others: Histogram,
    /// What is waited for is called.
    pub called: Called,
    /// Reports of losses.
    pub lost: Vec<Lost>,
    /// Losses of one thread each.
    pub gaps: Vec<(ThreadId, Gap)>,
    /// See [`Extra`].
    pub extras: Vec<Extra>,
    /// The highest CPU number seen.
    pub last_cpu: u16,
    threads: Vec<Seen>,
}

/// What the last segment of a thread was.
#[derive(Clone, Copy, Default)]
struct Seen {
    state: Option<State>,
    ready: Option<(Nanos, Option<Waker>)>,
    parent: Option<ThreadId>,
}

impl Survey {
    /// Looks at the whole trace, and in the same walk finds the runs that become known late.
    pub fn of(trace: &dyn Trace, words: Words) -> (Self, LateRuns, Timelines) {
        let (mut survey, mut late) = (Self::default(), LateRuns::default());
        let timelines = walk_knowing(trace, words, &mut Both(&mut survey, &mut late));
        late.finish(&timelines);
        for index in 0..survey.threads.len() {
            survey.settle_ready(index);
        }
        (survey, late, timelines)
    }

    fn seen(&mut self, thread: ThreadId) -> &mut Seen {
        let index = thread.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize(index + 1, Seen::default());
        }
        &mut self.threads[index]
    }

    /// A thread that got ready and then did anything but run.
    fn settle_ready(&mut self, index: usize) {
        if let Some((at, waker)) = self.threads[index].ready.take() {
            let thread = ThreadId(index as u32);
            self.extras.push(Extra::Ready { thread, at, waker, parent: None });
        }
    }
}

impl Visitor for Survey {
    fn segment(&mut self, segment: &Segment) {
        let (thread, at) = (segment.thread, segment.start);
        let seen = *self.seen(thread);
        let interval = segment.interval;
        if segment.state.is_wait()
            && let Some(call) = segment.call.filter(|call| is_futex(call.number))
        {
            self.called.names.waited(segment.process, call.object(), at);
        }
        let waker = interval.and_then(|interval| interval.waker);
        let left = interval.map_or(0, |interval| interval.cpu_off);
        self.last_cpu = self.last_cpu.max(segment.cpu.unwrap_or(0)).max(left);
        match (segment.state, seen.state) {
            (State::Running, _) => self.seen(thread).ready = None,
            (State::Runnable, None) => {
                let parent = seen.parent;
                self.extras.push(Extra::Ready { thread, at, waker, parent });
            }
            (State::Runnable, Some(before)) if before.is_wait() => {
                self.seen(thread).ready = Some((at, waker));
            }
            (state, before) if state.is_wait() && before != Some(State::Running) => {
                self.settle_ready(thread.0 as usize);
                self.extras.push(Extra::Blocked { thread, at, state });
            }
            _ => {}
        }
        self.seen(thread).state = Some(segment.state);
        if segment.state.is_wait() {
            self.waits.add(segment.duration());
        } else {
            self.others.add(segment.duration());
        }
    }

    fn event(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        self.called.names.take(timelines, thread, event);
        match (event, thread) {
            (Event::Start(start), Some(thread)) => {
                self.seen(thread).parent = timelines.thread_of(start.parent_tid);
            }
            (Event::Gap(gap), Some(thread)) => self.gaps.push((thread, *gap)),
            (Event::Lost(lost), _) => self.lost.push(*lost),
            (Event::Object(object), _) => {
                let key = (object.pid.0, object.descriptor, object.inode);
                self.called.descriptors.insert(key, object.label.clone());
            }
            (Event::Word(word), _) if !word.symbol.is_empty() => {
                if let Some(process) = timelines.live_process(word.pid) {
                    self.called.symbols.insert((process, word.address), word.symbol.clone());
                }
            }
            _ => {}
        }
    }
}
