//! Who was on which CPU: a gap-free chain of switches per CPU, and who woke whom.
//!
//! Most of it goes out as `compact_sched` (structure of arrays, deltas). That form infers
//! who left a CPU from who came before, so the first switch of each CPU is a full event;
//! and it infers the waker from who was on the CPU then, so it serves only wake-ups by a
//! thread whose stay there is known. All others are full events that name their waker.

use super::proto::Proto;
use super::writer::Writer;
use crate::export::common::Extra;
use crate::export::common::Ids;
use crate::model::Context;
use crate::model::FastMap;
use crate::model::Left;
use crate::model::Lost;
use crate::model::Nanos;
use crate::model::Run;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use crate::model::Waker;

/// Task that stands for all others on CPU n, from here on: nobody else's name is shown.
pub const FOREIGN: u32 = 2_000_000_000;

/// Name of those tasks. Only who took a CPU from us is known, not how long it kept it
/// busy: until our next run there it may have been idle.
pub const FOREIGN_NAME: &str = "(other or idle)";

/// Process id of a waker outside the tree.
pub const FOREIGN_WAKER: u32 = FOREIGN - 1;

/// The kernel's default priority; what it really was is not recorded.
const PRIORITY: u64 = 120;

/// Events per bundle.
const BUNDLE: usize = 2048;

/// Task states as kernels from 4.14 on encode them.
mod task {
    pub const RUNNABLE: u64 = 0;
    pub const SLEEPING: u64 = 1;
    pub const UNINTERRUPTIBLE: u64 = 2;
    pub const STOPPED: u64 = 4;
    pub const DEAD: u64 = 0x10;
    /// "Parked", which no task of a user program ever is: the state was not seen.
    pub const NOT_SEEN: u64 = 0x40;
    pub const PREEMPTED: u64 = 0x100;
}

/// The idle task.
const IDLE: u32 = 0;

/// Turns runs into switches. Give it all runs in order of start, then [`Sched::finish`].
pub struct Sched<'a, 'w, 'o> {
    out: &'w mut Writer<'o>,
    ids: &'a Ids,
    timelines: &'a Timelines,
    window: (Nanos, Nanos),
    lost: &'a [Lost],
    cpus: Vec<Cpu>,
    /// First CPU number that stands for "not seen where".
    first_unseen: usize,
    threads: FastMap<u32, Stays>,
    /// Stays on a CPU written.
    pub runs: u64,
    /// Of them, those whose CPU was not seen, or was taken by another's stay.
    pub misplaced: u64,
    /// Wake-ups written.
    pub wakeups: u64,
}

/// One CPU's chain and what is not written of it yet.
#[derive(Default)]
struct Cpu {
    begun: bool,
    /// Who left last, not yet switched away from.
    out: Option<Departure>,
    switches: Vec<(Nanos, u64, u32)>,
    wakings: Vec<Waking>,
    events: Proto,
    full: usize,
    span: Option<(Nanos, Nanos)>,
}

#[derive(Clone, Copy)]
struct Departure {
    at: Nanos,
    thread: ThreadId,
    state: u64,
    taker: Option<Tid>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waking {
    at: Nanos,
    wakee: u32,
    target: u64,
    flags: u64,
}

/// The last two stays of a thread on a CPU: start, end, CPU.
#[derive(Clone, Copy, Default)]
struct Stays([(Nanos, Nanos, usize); 2]);

impl<'a, 'w, 'o> Sched<'a, 'w, 'o> {
    /// For the rows of `timelines`; CPUs from `first_unseen` on are free to mean "not seen".
    pub fn new(
        out: &'w mut Writer<'o>,
        ids: &'a Ids,
        timelines: &'a Timelines,
        lost: &'a [Lost],
        first_unseen: usize,
    ) -> Self {
        let window = timelines.window();
        Self {
            out,
            ids,
            timelines,
            window,
            lost,
            cpus: Vec::new(),
            first_unseen,
            threads: FastMap::default(),
            runs: 0,
            misplaced: 0,
            wakeups: 0,
        }
    }

    /// The next stay on a CPU.
    pub fn run(&mut self, run: &Run) {
        let (start, end) = (run.start.max(self.window.0), run.end.min(self.window.1));
        if start >= end {
            return;
        }
        let cpu = self.place(run.cpu, start);
        self.runs += 1;
        self.wake(run, start, cpu);
        self.switch_in(cpu, start, run.thread);
        let state = self.state_after(run, end);
        self.cpus[cpu].out =
            Some(Departure { at: end, thread: run.thread, state, taker: run.taker });
        let stays = self.threads.entry(run.thread.0).or_default();
        stays.0 = [(start, end, cpu), stays.0[0]];
        if self.cpus[cpu].switches.len() + self.cpus[cpu].full >= BUNDLE {
            self.flush(cpu);
        }
    }

    /// Its CPU if that is known and free, else the first free number beyond the real ones.
    fn place(&mut self, cpu: Option<u16>, start: Nanos) -> usize {
        let free = |cpus: &[Cpu], n: usize| {
            cpus.get(n).and_then(|cpu| cpu.out).is_none_or(|out| out.at <= start)
        };
        let known = cpu.map(usize::from).filter(|&n| free(&self.cpus, n));
        self.misplaced += u64::from(known.is_none());
        let cpu = known
            .or_else(|| (self.first_unseen..self.cpus.len()).find(|&n| free(&self.cpus, n)))
            .unwrap_or(self.cpus.len().max(self.first_unseen));
        if cpu >= self.cpus.len() {
            self.cpus.resize_with(cpu + 1, Cpu::default);
        }
        cpu
    }

    fn switch_in(&mut self, cpu: usize, start: Nanos, thread: ThreadId) {
        let next = self.ids.tid(thread);
        let Some(out) = self.cpus[cpu].out.take() else {
            self.switch(cpu, start, IDLE, task::RUNNABLE, next);
            return;
        };
        let before = self.ids.tid(out.thread);
        if out.at == start {
            if before != next {
                self.switch(cpu, start, before, out.state, next);
            }
            return;
        }
        // The two ends of one switch, seen at slightly different times, hide nobody.
        let itself = self.timelines.threads()[thread.0 as usize].tid;
        let between = Self::taker(cpu, out.taker.filter(|&taker| taker != itself));
        self.switch(cpu, out.at, before, out.state, between);
        let state = if between == IDLE { task::RUNNABLE } else { task::NOT_SEEN };
        self.switch(cpu, start, between, state, next);
    }

    /// Who had the CPU after one of ours. Idle also stands for "not seen": both are blank.
    fn taker(cpu: usize, taker: Option<Tid>) -> u32 {
        match taker {
            None | Some(Tid(0)) => IDLE,
            Some(_) => FOREIGN + cpu as u32,
        }
    }

    fn switch(&mut self, cpu: usize, at: Nanos, prev: u32, state: u64, next: u32) {
        let slot = &mut self.cpus[cpu];
        slot.touch(at);
        if slot.begun {
            slot.switches.push((at, state, next));
            return;
        }
        slot.begun = true;
        slot.event(at, prev, 0, |event| {
            event.nest(4, |switch| {
                switch.int(2, u64::from(prev));
                switch.int(3, PRIORITY);
                switch.int(4, state);
                switch.int(6, u64::from(next));
                switch.int(7, PRIORITY);
            });
        });
    }

    /// The state a thread is left in when it goes off the CPU.
    fn state_after(&self, run: &Run, end: Nanos) -> u64 {
        let thread = &self.timelines.threads()[run.thread.0 as usize];
        match (run.left, run.then) {
            (None, None) if end < self.window.1 || !thread.alive => task::DEAD,
            (Some(Left::Preempted), _) => task::PREEMPTED,
            // Also where it was woken before it was off the CPU: it never stopped being ready.
            (None, None)
            | (Some(Left::Yielded | Left::New), _)
            | (Some(_), Some(State::Runnable)) => task::RUNNABLE,
            (Some(Left::Blocked { uninterruptible: false }), _) => task::SLEEPING,
            (Some(Left::Blocked { uninterruptible: true }), _) => task::UNINTERRUPTIBLE,
            (Some(Left::Stopped), _) => task::STOPPED,
            (None, Some(_)) | (Some(Left::Unknown), _) => task::NOT_SEEN,
        }
    }

    fn wake(&mut self, run: &Run, start: Nanos, target: usize) {
        let Some(woken) = run.woken else { return };
        let stays = self.threads.get(&run.thread.0).copied().unwrap_or_default();
        // Woken before it was off the CPU: it went out as ready, and nothing is to be told.
        let asleep_since = stays.0[0].1.max(self.window.0);
        if woken > asleep_since && woken <= start {
            self.waking(woken, run.thread, run.waker, None, target);
        }
    }

    fn waking(
        &mut self,
        at: Nanos,
        wakee: ThreadId,
        waker: Option<Waker>,
        parent: Option<ThreadId>,
        target: usize,
    ) {
        self.wakeups += 1;
        let wakee = self.ids.tid(wakee);
        let flags = match waker.map(|waker| waker.context) {
            Some(Context::Hardirq) => 0x08,
            Some(Context::Softirq) => 0x10,
            Some(Context::Task) | None => 0,
        };
        let ours = waker.filter(|waker| waker.in_tree && waker.context != Context::Hardirq);
        let owner = parent.or_else(|| self.ids.owner(ours?.tid, at));
        if let Some(cpu) = owner.and_then(|owner| self.whereabouts(owner, at)) {
            let slot = &mut self.cpus[cpu];
            slot.wakings.push(Waking { at, wakee, target: target as u64, flags });
            slot.touch(at);
            return;
        }
        if flags != 0 && self.cpus[target].out.is_some_and(|out| out.at < at) {
            // Only the compact form carries "in an interrupt". It names who was on the CPU,
            // so it serves where that was none of our threads.
            let slot = &mut self.cpus[target];
            slot.wakings.push(Waking { at, wakee, target: target as u64, flags });
            slot.touch(at);
            return;
        }
        let by = match (owner, waker) {
            (Some(owner), _) => self.ids.tid(owner),
            // Whoever an interrupt happens to interrupt has nothing to do with it.
            (None, Some(waker)) if waker.context == Context::Task && waker.tid.0 != 0 => {
                FOREIGN_WAKER
            }
            (None, _) => IDLE,
        };
        self.cpus[target].event(at, by, flags, |event| {
            event.nest(20, |waking| {
                waking.int(2, u64::from(wakee));
                waking.int(3, PRIORITY);
                waking.int(4, 1);
                waking.int(5, target as u64);
            });
        });
    }

    /// The CPU a thread was on then, if that is known and within its last stays.
    fn whereabouts(&self, thread: ThreadId, at: Nanos) -> Option<usize> {
        let stays = self.threads.get(&thread.0)?;
        let stay = stays.0.iter().find(|stay| stay.0 < at && at < stay.1)?;
        Some(stay.2)
    }

    /// States that no run tells of.
    pub fn extras(&mut self, extras: &[Extra]) {
        if extras.is_empty() {
            return;
        }
        if self.cpus.is_empty() {
            self.cpus.push(Cpu::default());
        }
        for extra in extras {
            match *extra {
                Extra::Ready { thread, at, waker, parent } if at <= self.window.1 => {
                    self.waking(at.max(self.window.0), thread, waker, parent, 0);
                }
                Extra::Blocked { thread, at, state } if at <= self.window.1 => {
                    self.blocked(at.max(self.window.0), thread, state);
                }
                _ => {}
            }
            if self.cpus[0].full >= BUNDLE {
                self.flush(0);
            }
        }
    }

    /// `GenericKernelTaskStateEvent`: the only way to give a task a state without a switch.
    fn blocked(&mut self, at: Nanos, thread: ThreadId, state: State) {
        let tid = self.ids.tid(thread);
        let code = match state {
            State::Stopped => 6,
            State::Disk | State::PageFault => 5,
            _ => 4,
        };
        self.out.packet(|packet| {
            packet.int(super::writer::field::TIMESTAMP, at.0);
            packet.nest(117, |event| {
                event.int(3, u64::from(tid));
                event.int(4, code);
            });
        });
    }

    /// Closes every chain at the end of the run.
    pub fn finish(&mut self) {
        for cpu in 0..self.cpus.len() {
            if let Some(out) = self.cpus[cpu].out.take() {
                let before = self.ids.tid(out.thread);
                let end = self.window.1;
                let next = if out.at < end { Self::taker(cpu, out.taker) } else { IDLE };
                self.switch(cpu, out.at, before, out.state, next);
                if next != IDLE {
                    self.switch(cpu, end, next, task::NOT_SEEN, IDLE);
                }
            }
            self.flush(cpu);
        }
    }

    /// CPUs on which something ran.
    pub fn cpus(&self) -> impl Iterator<Item = usize> + '_ {
        self.cpus.iter().enumerate().filter(|(_, cpu)| cpu.begun).map(|(n, _)| n)
    }

    fn flush(&mut self, cpu: usize) {
        let lost = self.cpus[cpu].lost(cpu, self.lost);
        let slot = &mut self.cpus[cpu];
        if slot.span.take().is_none() {
            return;
        }
        slot.wakings.sort_unstable();
        self.out.packet(|packet| {
            packet.nest(1, |bundle| {
                bundle.int(1, cpu as u64);
                bundle.0.extend_from_slice(&slot.events.0);
                if lost {
                    bundle.int(3, 1);
                }
                bundle.nest(4, |compact| slot.compact(compact));
            });
        });
        slot.switches.clear();
        slot.wakings.clear();
        slot.events.0.clear();
        slot.full = 0;
    }
}

impl Cpu {
    fn touch(&mut self, at: Nanos) {
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
    }

    /// A full event, fired in the task `pid`.
    fn event(&mut self, at: Nanos, pid: u32, flags: u64, fill: impl FnOnce(&mut Proto)) {
        self.touch(at);
        self.full += 1;
        self.events.nest(2, |event| {
            event.int(1, at.0);
            event.int(2, u64::from(pid));
            if flags != 0 {
                event.int(5, flags);
            }
            fill(event);
        });
    }

    /// Whether records of this CPU were lost in the time that is about to be written.
    fn lost(&self, cpu: usize, lost: &[Lost]) -> bool {
        let Some((first, last)) = self.span else { return false };
        lost.iter().any(|lost| {
            let here = lost.cpu.is_none_or(|n| usize::from(n) == cpu);
            here && lost.from <= last && lost.to >= first
        })
    }

    fn compact(&self, compact: &mut Proto) {
        // Names come with the process tree; the format asks for a table all the same.
        compact.text(5, "");
        deltas(compact, 1, self.switches.iter().map(|switch| switch.0));
        packed(compact, 2, self.switches.iter().map(|switch| switch.1));
        packed(compact, 3, self.switches.iter().map(|switch| u64::from(switch.2)));
        packed(compact, 4, self.switches.iter().map(|_| PRIORITY));
        packed(compact, 6, self.switches.iter().map(|_| 0));
        deltas(compact, 7, self.wakings.iter().map(|waking| waking.at));
        packed(compact, 8, self.wakings.iter().map(|waking| u64::from(waking.wakee)));
        packed(compact, 9, self.wakings.iter().map(|waking| waking.target));
        packed(compact, 10, self.wakings.iter().map(|_| PRIORITY));
        packed(compact, 11, self.wakings.iter().map(|_| 0));
        packed(compact, 12, self.wakings.iter().map(|waking| waking.flags));
    }
}

fn packed(out: &mut Proto, field: u32, values: impl Iterator<Item = u64>) {
    out.nest(field, |array| values.for_each(|value| array.raw(value)));
}

fn deltas(out: &mut Proto, field: u32, times: impl Iterator<Item = Nanos>) {
    let mut before = 0;
    packed(
        out,
        field,
        times.map(|time| {
            let delta = time.0 - before;
            before = time.0;
            delta
        }),
    );
}
