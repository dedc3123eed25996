//! Time by call stack: where threads ran, and where they waited.
//!
//! Totals are those of the timelines, to the nanosecond; stacks only say how a total is
//! shared among call sites. A wait that was looked at from outside gives its whole time to
//! the stack seen there. The rest of a (thread, call, object) is shared in proportion to its
//! time-proportional wait stacks. Time without any stack stays without one: nothing is
//! guessed. Memory grows with distinct stacks, calls and objects, never with events.

use crate::model::Call;
use crate::model::Event;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Nanos;
use crate::model::Segment;
use crate::model::StackId;
use crate::model::State;
use crate::model::States;
use crate::model::ThreadId;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::Visitor;
use crate::model::is_futex;
use crate::model::walk;

/// Which time to look at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StackKind {
    /// CPU samples by their weight.
    OnCpu,
    /// Everything but running: waits and the run queue.
    OffCpu,
    /// Whole lifetimes: running time, shared out by the samples, and all that is off-CPU.
    Wall,
    /// One state alone: where threads waited for locks, for the GIL, for the disk.
    In(State),
}

impl StackKind {
    /// The kinds that every recording is drawn in.
    pub const ALL: [Self; 3] = [Self::OnCpu, Self::OffCpu, Self::Wall];

    /// The name on the command line and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnCpu => "on-cpu",
            Self::OffCpu => "off-cpu",
            Self::Wall => "wall",
            Self::In(state) => state.name(),
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Time of a thread in a state at a stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StackTime {
    /// The thread.
    pub thread: ThreadId,
    /// The state.
    pub state: State,
    /// Where; `None` if no stack was taken.
    pub stack: Option<StackId>,
    /// How long, ns.
    pub time: Nanos,
}

/// Collects time by stack from a [`walk`].
#[derive(Debug, Default)]
pub struct StackFold {
    threads: Vec<PerThread>,
}

/// Gives the fold of a whole trace, with its timelines.
pub fn stacks_of(trace: &dyn Trace) -> (StackFold, Timelines) {
    let mut fold = StackFold::default();
    let timelines = walk(trace, &mut fold);
    (fold, timelines)
}

#[derive(Debug, Default)]
struct PerThread {
    running: Nanos,
    samples: u64,
    on_cpu: FastMap<Option<StackId>, Nanos>,
    /// Time whose very interval was looked at from outside, or that has no call to look up.
    known: FastMap<(State, Option<StackId>), Nanos>,
    calls: FastMap<CallKey, Sites>,
    /// Begin of the last interval that was looked at from outside.
    seen_off: Option<Nanos>,
}

/// One (call, object) of a thread.
#[derive(Debug, Default)]
struct Sites {
    times: States,
    weights: FastMap<Option<StackId>, Nanos>,
}

/// What a thread waited in, as far as that tells call sites apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum CallKey {
    /// Outside any call: a page fault.
    Fault,
    /// A call by number, with its futex word or descriptor.
    Call(u16, u64),
}

/// Objects told apart per thread; beyond, only the calls are. A server that opens a
/// descriptor or allocates a lock per request would otherwise grow with its requests.
const OBJECTS: usize = 4096;

impl PerThread {
    fn sites(&mut self, key: CallKey) -> &mut Sites {
        let full = self.calls.len() >= OBJECTS && !self.calls.contains_key(&key);
        let key = match key {
            CallKey::Call(number, _) if full => CallKey::Call(number, u64::MAX),
            key => key,
        };
        self.calls.entry(key).or_default()
    }
}

impl CallKey {
    fn of(call: &Call) -> Self {
        // Other first arguments (a timespec on the stack, say) do not name anything lasting.
        let futex = is_futex(call.number);
        let named = futex || call.fd != FdKind::None;
        Self::Call(call.number, if named { call.object() } else { 0 })
    }

    /// The key under which the wait stacks of a segment are found, if it can have any.
    fn of_segment(segment: &Segment) -> Option<Self> {
        let blocked = |interval: &&Interval| {
            matches!(interval.left, Left::Blocked { .. } | Left::Stopped | Left::Unknown)
        };
        let interval = segment.interval.filter(blocked)?;
        // As the stack has it: the call itself, whichever of its words it turned out to wait for.
        match interval.call.or(segment.call) {
            Some(call) => Some(Self::of(&call)),
            None => interval.marks.reason_seen.then_some(Self::Fault),
        }
    }
}

impl StackFold {
    fn thread(&mut self, id: ThreadId) -> &mut PerThread {
        let index = id.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize_with(index + 1, PerThread::default);
        }
        &mut self.threads[index]
    }

    /// CPU samples in the trace, with a stack or without.
    pub fn samples(&self) -> u64 {
        self.threads.iter().map(|thread| thread.samples).sum()
    }

    /// Time by thread, state and stack, in that order; no row is empty.
    ///
    /// Off-CPU rows of a thread and state sum to its timeline, wall rows of a thread to its
    /// lifetime. On-CPU rows are the samples' own weights, which come near its running time.
    pub fn rows(&self, kind: StackKind) -> Vec<StackTime> {
        let mut rows = Vec::new();
        for (index, thread) in self.threads.iter().enumerate() {
            let id = ThreadId(index as u32);
            let mut push = |state, stack, time: Nanos| {
                if !time.is_zero() {
                    rows.push(StackTime { thread: id, state, stack, time });
                }
            };
            match kind {
                StackKind::OnCpu => thread.sampled(&mut push),
                StackKind::OffCpu => thread.off_cpu(&mut push),
                StackKind::Wall => {
                    thread.running(&mut push);
                    thread.off_cpu(&mut push);
                }
                StackKind::In(State::Running) => thread.running(&mut push),
                StackKind::In(only) => thread.off_cpu(&mut |state, stack, time| {
                    if state == only {
                        push(state, stack, time);
                    }
                }),
            }
        }
        merge(rows)
    }
}

type Push<'p> = &'p mut dyn FnMut(State, Option<StackId>, Nanos);

impl PerThread {
    fn sampled(&self, push: Push) {
        for (stack, weight) in sorted(&self.on_cpu) {
            push(State::Running, stack, weight);
        }
    }

    fn running(&self, push: Push) {
        share_out(State::Running, self.running, &sorted(&self.on_cpu), push);
    }

    fn off_cpu(&self, push: Push) {
        for ((state, stack), time) in sorted(&self.known) {
            push(state, stack, time);
        }
        let mut keys: Vec<&CallKey> = self.calls.keys().collect();
        keys.sort_unstable();
        for sites in keys.into_iter().filter_map(|key| self.calls.get(key)) {
            let weights = sorted(&sites.weights);
            for (state, time) in sites.times.iter() {
                share_out(state, time, &weights, push);
            }
        }
    }
}

impl Visitor for StackFold {
    fn segment(&mut self, segment: &Segment) {
        let time = segment.duration();
        let thread = self.thread(segment.thread);
        if segment.state == State::Running {
            thread.running += time;
        } else if let (None, Some(key)) = (segment.site, CallKey::of_segment(segment)) {
            thread.sites(key).times[segment.state] += time;
        } else {
            *thread.known.entry((segment.state, segment.site)).or_default() += time;
            if segment.site.is_some() {
                thread.seen_off = segment.interval.map(|interval| interval.off);
            }
        }
    }

    fn event(&mut self, _: &Timelines, thread: Option<ThreadId>, event: &Event) {
        let Some(id) = thread else { return };
        match event {
            Event::Sample(sample) => {
                let thread = self.thread(id);
                thread.samples += 1;
                *thread.on_cpu.entry(sample.stack).or_default() += sample.weight;
            }
            Event::WaitStack(wait) => {
                let thread = self.thread(id);
                // Its time was given to the stack seen from outside; counting it again would
                // pull the other waits of the group towards this one's site.
                if thread.seen_off != Some(wait.off) {
                    let key = wait.call.as_ref().map_or(CallKey::Fault, CallKey::of);
                    *thread.sites(key).weights.entry(wait.stack).or_default() += wait.weight;
                }
            }
            _ => {}
        }
    }
}

fn sorted<K: Ord + Copy>(map: &FastMap<K, Nanos>) -> Vec<(K, Nanos)> {
    let mut entries: Vec<(K, Nanos)> = map.iter().map(|(&key, &time)| (key, time)).collect();
    entries.sort_unstable();
    entries
}

/// Splits `total` over stacks in proportion to their weights; all to no stack if there is none.
fn share_out(state: State, total: Nanos, weights: &[(Option<StackId>, Nanos)], push: Push) {
    if weights.is_empty() {
        push(state, None, total);
        return;
    }
    let parts = distribute(total, &weights.iter().map(|&(_, weight)| weight).collect::<Vec<_>>());
    for (&(stack, _), part) in weights.iter().zip(parts) {
        push(state, stack, part);
    }
}

/// Parts of `total` in proportion to `weights`, which sum to it exactly: what rounding down
/// leaves over goes to the largest remainders, the earlier first. Weights that are all zero
/// count as equal.
pub fn distribute(total: Nanos, weights: &[Nanos]) -> Vec<Nanos> {
    let all_zero = weights.iter().all(|weight| weight.is_zero());
    let weight = |i: usize| if all_zero { 1 } else { u128::from(weights[i].0) };
    let sum: u128 = (0..weights.len()).map(weight).sum();
    if sum == 0 {
        return Vec::new();
    }
    let exact = |i: usize| u128::from(total.0) * weight(i);
    let mut parts: Vec<Nanos> =
        (0..weights.len()).map(|i| Nanos((exact(i) / sum) as u64)).collect();
    let left = total.0 - parts.iter().map(|part| part.0).sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(exact(i) % sum), i));
    for &i in order.iter().take(left as usize) {
        parts[i] += Nanos(1);
    }
    parts
}

/// Sorts rows and adds up those of the same thread, state and stack.
fn merge(mut rows: Vec<StackTime>) -> Vec<StackTime> {
    rows.sort_unstable();
    rows.dedup_by(|later, first| {
        let same =
            (later.thread, later.state, later.stack) == (first.thread, first.state, first.stack);
        if same {
            first.time += later.time;
        }
        same
    });
    rows
}

#[cfg(test)]
#[path = "stacks_tests.rs"]
mod tests;
