//! Every thread's life, compact and in memory, to be looked at in any order.
//!
//! Sums need one walk over a trace; blame, the critical path and the replay ask what a thread
//! did at some time in the past. A [`History`] keeps 24 bytes for each stay off the CPU and
//! nothing for the runs between them:
//!
//! ```text
//!          off        woken   on          off  woken=on
//!  running | waiting   | queued | running  | waiting |  running
//!          '--- one Stay -------'          '- a Stay-'
//! ```
//!
//! It is bounded: past [`MOST_STAYS`] nothing more is kept and [`History::is_whole`] says so;
//! those who ask must then answer nothing rather than half.

mod stays;

use crate::model::Context;
use crate::model::Event;
use crate::model::FastMap;
use crate::model::Gap;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Nanos;
use crate::model::ProcessId;
use crate::model::Sample;
use crate::model::Segment;
use crate::model::StackId;
use crate::model::Start;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::WaitStack;
use crate::model::Waker;
use crate::model::is_futex;
use crate::model::syscall_name;
pub use stays::Ender;
pub use stays::Left as Reason;
pub use stays::Stay;
use stays::Stays;

/// Stays kept of one trace: 290 MB. A trace of ten million intervals fits.
pub const MOST_STAYS: usize = 12_000_000;
/// Samples and stacks of waits kept: 16 bytes each.
const MOST_LOOKS: usize = 4_000_000;

/// Number of an object in the order of its first wait.
pub type ObjectIndex = u32;

/// A look at a thread: when, where, and the time it stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Samples: when it was taken. Stacks of waits: when that wait began.
    pub time: Nanos,
    /// The stack.
    pub stack: StackId,
    /// Time it stands for, ns, at most four seconds.
    pub weight: u32,
}

/// One thread's life.
#[derive(Default)]
pub struct Life {
    /// Its first instant,
    pub start: Nanos,
    /// and its last within the run.
    pub end: Nanos,
    /// Its process.
    pub process: Option<ProcessId>,
    /// The thread that made it, where that was seen.
    pub parent: Option<ThreadId>,
    /// CPU samples, in order of time.
    pub samples: Vec<Look>,
    /// Stacks of waits, in order of when they became known.
    pub wait_stacks: Vec<Look>,
    stays: Stays,
    /// `off` of the interval that the last stay came from.
    last_interval: Option<Nanos>,
}

/// A stretch of a life in one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// From here,
    pub start: Nanos,
    /// to here; never empty.
    pub end: Nanos,
    /// The state.
    pub state: State,
    /// The stay it is part of; `None` while running.
    pub stay: Option<Stay>,
}

impl Piece {
    /// Its length.
    pub fn duration(&self) -> Nanos {
        self.end - self.start
    }
    /// What was waited for; `None` while running or queued.
    pub fn object(&self) -> Option<ObjectIndex> {
        self.stay.filter(|_| self.state.is_wait()).map(|stay| stay.object)
    }
}

/// The lives of all threads.
#[derive(Default)]
pub struct History {
    lives: Vec<Life>,
    /// State of each object's waiters.
    states: Vec<State>,
    /// For each object the one that stands for it, once that is known.
    same: Vec<ObjectIndex>,
    ids: FastMap<Tid, ThreadId>,
    /// Who had an id before its present owner.
    earlier: FastMap<Tid, ThreadId>,
    kept: usize,
    looks: usize,
    /// The run, from the root's exec to its exit.
    pub window: (Nanos, Nanos),
}

impl History {
    /// Whether every stay was kept.
    pub fn is_whole(&self) -> bool {
        self.kept <= MOST_STAYS
    }

    /// How many stays off the CPU it has.
    pub fn size(&self) -> usize {
        self.kept
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// All threads with their lives.
    pub fn lives(&self) -> impl Iterator<Item = (ThreadId, &Life)> {
        (0..).map(ThreadId).zip(&self.lives)
    }

    /// A thread's life.
    pub fn life(&self, thread: ThreadId) -> Option<&Life> {
        self.lives.get(thread.0 as usize)
    }

    /// From now on each object goes by the number of the one that stands for it: what looked
    /// like many was one.
    pub fn unify(&mut self, same: Vec<ObjectIndex>) {
        self.same = same;
    }

    fn known(&self, mut stay: Stay) -> Stay {
        if let Some(&same) = self.same.get(stay.object as usize) {
            stay.object = same;
        }
        stay
    }

    /// The state of an object's waiters.
    pub fn state(&self, object: ObjectIndex) -> State {
        self.states.get(object as usize).copied().unwrap_or(State::Unknown)
    }

    /// Whether anything was waited for in that state: spares looking through all stays for it.
    pub fn has(&self, state: State) -> bool {
        self.states.contains(&state)
    }

    /// The stretch of a thread's life that ends at or contains `time`: `start < time <= end`.
    /// `None` before its first instant and after its last.
    pub fn piece_before(&self, thread: ThreadId, time: Nanos) -> Option<Piece> {
        self.piece_before_near(thread, time, &mut 0)
    }

    /// The same for those who look at a thread again and again: `near` is the stay found last.
    pub fn piece_before_near(
        &self,
        thread: ThreadId,
        time: Nanos,
        near: &mut usize,
    ) -> Option<Piece> {
        let life = self.life(thread)?;
        if time <= life.start || time > life.end {
            return None;
        }
        let index = life.stays.before_near(time, *near);
        *near = index.unwrap_or(0);
        Some(match index.map(|index| (index, life.stays.get(index))) {
            Some((_, stay)) if stay.on >= time => self.piece_of(self.known(stay), time),
            Some((index, stay)) => {
                running(stay.on, life.stays.try_get(index + 1).map_or(life.end, |next| next.off))
            }
            None => running(life.start, life.stays.try_get(0).map_or(life.end, |next| next.off)),
        })
    }

    /// The part of a stay that `time` falls into.
    fn piece_of(&self, stay: Stay, time: Nanos) -> Piece {
        if time > stay.woken {
            let state = State::Runnable;
            return Piece { start: stay.woken, end: stay.on, state, stay: Some(stay) };
        }
        let state = self.state(stay.object);
        Piece { start: stay.off, end: stay.woken, state, stay: Some(stay) }
    }

    /// The stretches of a thread's life between two instants, in order, cut to them.
    pub fn pieces(
        &self,
        thread: ThreadId,
        from: Nanos,
        to: Nanos,
    ) -> impl Iterator<Item = Piece> + '_ {
        let life = self.life(thread);
        let start = life.map_or(from, |life| life.start.max(from));
        let first = life.map_or(0, |life| life.stays.first_ending_after(start));
        self.pieces_from(thread, first, from, to)
    }

    /// The number of a thread's first stay that ends after `from`; quick near `hint`.
    pub fn first_stay(&self, thread: ThreadId, from: Nanos, hint: usize) -> usize {
        self.life(thread).map_or(0, |life| life.stays.first_ending_after_near(from, hint))
    }

    /// The same as [`History::pieces`] for those who know the first stay that ends after `from`,
    /// and after the thread's first instant.
    pub fn pieces_from(
        &self,
        thread: ThreadId,
        first: usize,
        from: Nanos,
        to: Nanos,
    ) -> impl Iterator<Item = Piece> + '_ {
        let life = self.life(thread);
        let end = life.map_or(Nanos::ZERO, |life| life.end.min(to));
        let mut now = life.map_or(end, |life| life.start.max(from));
        let mut stays = self.stays_from(thread, first);
        let mut next = stays.next();
        std::iter::from_fn(move || {
            let life = life.filter(|_| now < end)?;
            let piece = match next {
                Some(stay) if stay.off <= now => {
                    // `now` lies in the stay; what follows it is what it is part of.
                    let piece = self.piece_of(stay, Nanos(now.0 + 1));
                    if piece.end == stay.on {
                        next = stays.next();
                    }
                    piece
                }
                Some(stay) => running(now, stay.off),
                None => running(now, life.end),
            };
            let cut = Piece { start: now, end: piece.end.min(end), ..piece };
            now = cut.end;
            Some(cut)
        })
    }

    /// The stretches between two instants in which a thread ran, in order, cut to them. `first` as
    /// for [`History::pieces_from`].
    pub fn runs_from(
        &self,
        thread: ThreadId,
        first: usize,
        from: Nanos,
        to: Nanos,
    ) -> impl Iterator<Item = (Nanos, Nanos)> + '_ {
        let life = self.life(thread);
        let end = life.map_or(Nanos::ZERO, |life| life.end.min(to));
        let mut now = life.map_or(end, |life| life.start.max(from));
        let mut stays = self.stays_from(thread, first);
        std::iter::from_fn(move || {
            while now < end {
                let (off, on) = stays.next().map_or((end, end), |stay| (stay.off, stay.on));
                let run = (now, off.min(end));
                now = on;
                if run.0 < run.1 {
                    return Some(run);
                }
            }
            None
        })
    }

    /// A thread's stays off the CPU that end after `from`, in order.
    pub fn stays(&self, thread: ThreadId, from: Nanos) -> impl Iterator<Item = Stay> + '_ {
        let life = self.life(thread);
        self.stays_from(thread, life.map_or(0, |life| life.stays.first_ending_after(from)))
    }

    fn stays_from(&self, thread: ThreadId, first: usize) -> impl Iterator<Item = Stay> + '_ {
        let stays = self.life(thread).map(|life| life.stays.from(first));
        stays.into_iter().flatten().map(|stay| self.known(stay))
    }

    /// A thread's last stay off the CPU.
    pub fn last_stay(&self, thread: ThreadId) -> Option<Stay> {
        let life = self.life(thread)?;
        life.stays.try_get(life.stays.before(Nanos::MAX)?)
    }

    /// Takes the next segment of a thread. `object` is what it waited for.
    pub fn segment(&mut self, segment: &Segment, object: Option<(ObjectIndex, State)>) {
        let life = grown(&mut self.lives, segment.thread);
        if life.end.is_zero() && life.process.is_none() {
            life.start = segment.start;
        }
        life.process = Some(segment.process);
        life.end = segment.end;
        let Some((object, state)) = object else { return };
        let queued = segment.state == State::Runnable;
        let interval = segment.interval.map(|interval| interval.off);
        // The queue after a wait is part of the same stay.
        if queued && interval.is_some() && interval == life.last_interval {
            life.stays.queue_last(segment.duration());
            return;
        }
        life.last_interval = interval;
        if self.kept >= MOST_STAYS {
            self.kept = MOST_STAYS + 1;
            return;
        }
        let ender = segment.interval.map_or(Ender::Unseen, |interval| self.ender(interval, state));
        let index = object as usize;
        if index >= self.states.len() {
            self.states.resize(index + 1, State::Unknown);
        }
        self.states[index] = state;
        self.kept += 1;
        let life = &mut self.lives[segment.thread.0 as usize];
        life.stays.push(&Stay {
            off: segment.start,
            woken: if queued { segment.start } else { segment.end },
            on: segment.end,
            object,
            ender,
            released: released(segment),
            open: segment.interval.is_some_and(|interval| interval.marks.open),
            left: segment.interval.map_or(Reason::Unseen, reason),
        });
    }

    /// Who ended a wait: a thread where the waker is real, else the context it came from.
    fn ender(&self, interval: &Interval, state: State) -> Ender {
        let Some(waker) = interval.waker else { return Ender::Unseen };
        match waker.context {
            Context::Hardirq => Ender::Interrupt,
            Context::Softirq if !delivers_own_packet(&waker, state) => Ender::Softirq,
            Context::Task | Context::Softirq if waker.in_tree => {
                let woken = interval.woken.unwrap_or(interval.on);
                self.thread_at(waker.tid, woken).map_or(Ender::Unseen, Ender::Thread)
            }
            Context::Softirq => Ender::Softirq,
            // Kernel threads and other processes; the idle task never wakes in task context.
            Context::Task => Ender::Stranger,
        }
    }

    fn thread_at(&self, tid: Tid, time: Nanos) -> Option<ThreadId> {
        let now = self.ids.get(&tid).copied();
        let began = |id: &ThreadId| self.life(*id).is_none_or(|life| life.start <= time);
        now.filter(began).or_else(|| self.earlier.get(&tid).copied())
    }

    /// Takes the next event, after its segments; `thread` is the one it is about.
    pub fn event(&mut self, thread: Option<ThreadId>, event: &Event) {
        let Some(thread) = thread else { return };
        match event {
            Event::Start(start) => self.on_start(thread, start),
            Event::Sample(sample) => self.on_sample(thread, sample),
            Event::WaitStack(wait) => self.on_wait_stack(thread, wait),
            // A thread whose start was lost is met by its first interval or gap. Its wakes before
            // that are nobody's: its life is not known to go back so far.
            Event::Interval(Interval { tid, .. }) | Event::Gap(Gap { tid, .. })
                if self.ids.get(tid) != Some(&thread) =>
            {
                self.name(*tid, thread);
            }
            Event::Exec(exec) => self.name(exec.pid.into(), thread),
            _ => {}
        }
    }

    fn on_start(&mut self, thread: ThreadId, start: &Start) {
        let parent = self.thread_at(start.parent_tid, start.time).filter(|&id| id != thread);
        self.name(start.tid, thread);
        let life = grown(&mut self.lives, thread);
        life.parent = parent;
        if life.end.is_zero() {
            (life.start, life.end) = (start.time, start.time);
        }
    }

    fn name(&mut self, tid: Tid, thread: ThreadId) {
        if let Some(before) = self.ids.insert(tid, thread).filter(|&before| before != thread) {
            self.earlier.insert(tid, before);
        }
        grown(&mut self.lives, thread);
    }

    fn on_sample(&mut self, thread: ThreadId, sample: &Sample) {
        let Some(stack) = sample.stack.filter(|_| self.looks < MOST_LOOKS) else { return };
        self.looks += 1;
        let weight = sample.weight.0.min(u64::from(u32::MAX)) as u32;
        grown(&mut self.lives, thread).samples.push(Look { time: sample.time, stack, weight });
    }

    fn on_wait_stack(&mut self, thread: ThreadId, wait: &WaitStack) {
        let Some(stack) = wait.stack.filter(|_| self.looks < MOST_LOOKS) else { return };
        self.looks += 1;
        let weight = wait.weight.0.min(u64::from(u32::MAX)) as u32;
        grown(&mut self.lives, thread).wait_stacks.push(Look { time: wait.off, stack, weight });
    }
}

impl Life {
    /// The CPU samples taken between two instants.
    pub fn samples_in(&self, from: Nanos, to: Nanos) -> &[Look] {
        let first = self.samples.partition_point(|look| look.time <= from);
        let later = &self.samples[first..];
        // Mostly a short stretch with few or none in it: not worth a second search.
        let within = later.iter().take_while(|look| look.time <= to).count();
        &later[..within]
    }

    /// The stack of the wait that began at `off`, if one was taken.
    pub fn wait_stack(&self, off: Nanos) -> Option<StackId> {
        // Stacks become known in the order of their waits, but for a few of page faults.
        let first = self.wait_stacks.partition_point(|look| look.time < off);
        self.wait_stacks.get(first).filter(|look| look.time == off).map(|look| look.stack)
    }
}

fn running(start: Nanos, end: Nanos) -> Piece {
    Piece { start, end, state: State::Running, stay: None }
}

fn grown(lives: &mut Vec<Life>, thread: ThreadId) -> &mut Life {
    let index = thread.0 as usize;
    if index >= lives.len() {
        lives.resize_with(index + 1, Life::default);
    }
    &mut lives[index]
}

/// Whether the waker let go of the very word that was waited for.
fn released(segment: &Segment) -> bool {
    let waker = segment.interval.and_then(|interval| interval.waker);
    let (Some(waker), Some(call)) = (waker, segment.call) else { return false };
    let word = call.futex_word().map(|word| word.address);
    word == Some(waker.arg0) && waker.call.is_some_and(is_futex)
}

/// In a soft interrupt the current task is only the waker if it was just sending: then its
/// own loopback packet is being delivered.
fn delivers_own_packet(waker: &Waker, state: State) -> bool {
    const SENDS: [&str; 7] =
        ["write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "connect"];
    matches!(state, State::Network | State::Poll)
        && waker.call.and_then(syscall_name).is_some_and(|name| SENDS.contains(&name))
}

fn reason(interval: &Interval) -> Reason {
    match interval.left {
        Left::Blocked { .. } => Reason::Blocked,
        Left::Stopped => Reason::Stopped,
        Left::Preempted => Reason::Preempted { taker_seen: interval.taker.is_some() },
        Left::Yielded => Reason::Yielded,
        Left::New => Reason::New,
        Left::Unknown => Reason::Unseen,
    }
}

#[cfg(test)]
mod tests;
