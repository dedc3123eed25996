//! The simulator: streams of operations compete for CPUs and locks, wait for each other, and
//! end at some time.
//!
//! CPUs are shared evenly among all threads that want one, as the kernel's fair scheduler
//! does in the limit of short turns: with more threads than CPUs each runs at CPUs/threads of
//! full speed. So one virtual clock serves all, and an event costs a heap operation. A GIL is handed
//! on by a rule of its own, in `turns`.

mod turns;

use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::model::Op;
use crate::analysis::replay::scenario::Scenario;
use std::cmp::Ordering;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;

/// When a simulation stops.
#[derive(Clone, Debug)]
pub enum Until {
    /// The root's main thread has done everything.
    Root,
    /// One of these streams has done everything.
    FirstOf(Vec<usize>),
}

/// How it went.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Time from begin to end, ns.
    pub time: f64,
    /// Service time as recorded, ns, that each stream has got done.
    pub done: Vec<f64>,
    /// Operations done in all.
    pub steps: u64,
}

/// Why there is no end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standstill;

/// An instant. Never NaN: made of finite sums.
#[derive(Clone, Copy, PartialEq)]
struct At(f64);
impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not started yet.
    Unborn,
    /// At work, or waiting; the operation at `pc` is not done.
    Alive,
    /// Woken for the lock it waits for.
    Contending,
    Dead,
}

struct Thread {
    pc: usize,
    phase: Phase,
    /// Product of the factors of all locks held.
    held: f64,
    done: f64,
    /// Which part of each sharded lock is held.
    parts: Vec<(u32, u32)>,
    takes: u64,
    joiners: Vec<usize>,
    /// Its entry among the computing threads, by its number: until when.
    entry: Option<(f64, u64)>,
    /// Was made to let go of a GIL amid an operation: what is left of that.
    left: Option<f64>,
    /// Since when it waits for a GIL.
    asked: f64,
    /// Does not hear that its GIL is wanted.
    deaf: bool,
}

impl Thread {
    fn unborn() -> Self {
        Self {
            pc: 0,
            phase: Phase::Unborn,
            held: 1.0,
            done: 0.0,
            parts: Vec::new(),
            takes: 0,
            joiners: Vec::new(),
            entry: None,
            left: None,
            asked: 0.0,
            deaf: false,
        }
    }
}

/// What happens at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A thread goes on.
    Thread(usize),
    /// A try to get a GIL ends: lock, part, and how often that had changed hands.
    Try(u32, u32, u64),
}

#[derive(Default, Clone)]
struct LockState {
    owner: Option<usize>,
    waiting: VecDeque<usize>,
    /// How often it changed hands.
    changes: u64,
    /// Its owner is to let go of it.
    wanted: bool,
}

#[derive(Default, Clone)]
struct Tokens {
    count: u64,
    waiting: VecDeque<usize>,
}

const FREE: u32 = u32::MAX;
const POSTED: u32 = u32::MAX - 1;

struct Sim<'a> {
    model: &'a Model,
    scenario: &'a Scenario,
    now: f64,
    threads: Vec<Thread>,
    timers: BinaryHeap<Reverse<(At, u64, Due)>>,
    /// Computing threads by the virtual time at which they are through; and entries of such that
    /// were interrupted since.
    computing: BinaryHeap<Reverse<(At, u64, usize)>>,
    /// How many compute.
    busy: usize,
    virtual_now: f64,
    sequence: u64,
    locks: Vec<Vec<LockState>>,
    edges: Vec<u32>,
    meetings: Vec<Vec<usize>>,
    queues: Vec<Tokens>,
    ready: Vec<usize>,
    steps: u64,
}

/// Runs a model under a scenario.
pub fn run(model: &Model, scenario: &Scenario, until: &Until) -> Result<Run, Standstill> {
    let mut sim = Sim::new(model, scenario);
    sim.begin();
    loop {
        if sim.settle(until) {
            let done = sim.threads.iter().map(|thread| thread.done).collect();
            return Ok(Run { time: sim.now, done, steps: sim.steps });
        }
        if !sim.advance() {
            return Err(Standstill);
        }
    }
}

impl<'a> Sim<'a> {
    fn new(model: &'a Model, scenario: &'a Scenario) -> Self {
        let parts = |lock: usize| scenario.lock(lock).shards.max(1) as usize;
        Self {
            model,
            scenario,
            now: 0.0,
            threads: model.streams.iter().map(|_| Thread::unborn()).collect(),
            timers: BinaryHeap::new(),
            computing: BinaryHeap::new(),
            busy: 0,
            virtual_now: 0.0,
            sequence: 0,
            locks: (0..model.locks.len()).map(|l| vec![LockState::default(); parts(l)]).collect(),
            edges: vec![FREE; model.edges as usize],
            meetings: vec![Vec::new(); model.meetings.len()],
            queues: vec![Tokens::default(); model.queues.len()],
            ready: Vec::new(),
            steps: 0,
        }
    }

    fn begin(&mut self) {
        for (index, stream) in self.model.streams.iter().enumerate() {
            let Some(at) = stream.starts_at else { continue };
            self.threads[index].phase = Phase::Alive;
            if at == 0 {
                self.ready.push(index);
            } else {
                self.at(at as f64, index);
            }
        }
        self.ready.reverse();
    }

    fn at(&mut self, time: f64, thread: usize) {
        self.due(time, Due::Thread(thread));
    }

    fn due(&mut self, time: f64, what: Due) {
        self.sequence += 1;
        self.timers.push(Reverse((At(time), self.sequence, what)));
    }

    /// Lets all ready threads go on until each waits. True when the run is over.
    fn settle(&mut self, until: &Until) -> bool {
        while let Some(thread) = self.ready.pop() {
            if self.threads[thread].phase == Phase::Contending {
                self.contend(thread);
                continue;
            }
            while self.step(thread) {}
            if self.is_end(thread, until) {
                return true;
            }
        }
        false
    }

    fn is_end(&self, thread: usize, until: &Until) -> bool {
        let one = &self.threads[thread];
        match until {
            Until::Root => thread == self.model.root && one.phase == Phase::Dead,
            Until::FirstOf(list) => {
                let op = self.model.streams[thread].ops.get(one.pc);
                op.is_none_or(|op| op.kind == Kind::Forever) && list.contains(&thread)
            }
        }
    }

    /// On to the next event. False if there is none.
    fn advance(&mut self) -> bool {
        let speed = self.speed();
        let through =
            self.next_through().map(|(at, _)| self.now + (at - self.virtual_now).max(0.0) / speed);
        let timer = self.timers.peek().map(|Reverse((at, ..))| at.0);
        let computed = match (through, timer) {
            (None, None) => return false,
            (Some(through), Some(timer)) => through <= timer,
            (through, _) => through.is_some(),
        };
        let time = if computed { through } else { timer }.unwrap_or(self.now).max(self.now);
        if computed {
            let Some((at, thread)) = self.next_through() else { return false };
            self.virtual_now = self.virtual_now.max(at);
            self.now = time;
            self.stop_computing(thread);
            self.computing.pop();
            self.pass(thread);
            self.ready.push(thread);
            return true;
        }
        let Some(Reverse((_, _, due))) = self.timers.pop() else { return false };
        self.virtual_now += (time - self.now) * speed;
        self.now = time;
        match due {
            Due::Thread(thread) => {
                if self.threads[thread].phase != Phase::Contending {
                    self.pass(thread);
                }
                self.ready.push(thread);
            }
            Due::Try(lock, part, changes) => self.try_ends(lock, part, changes),
        }
        true
    }

    /// The computing thread that is through first, and when.
    fn next_through(&mut self) -> Option<(f64, usize)> {
        while let Some(&Reverse((at, number, thread))) = self.computing.peek() {
            if self.threads[thread].entry.is_some_and(|(_, own)| own == number) {
                return Some((at.0, thread));
            }
            self.computing.pop();
        }
        None
    }

    /// What was left to compute.
    fn stop_computing(&mut self, thread: usize) -> Option<f64> {
        let (until, _) = self.threads[thread].entry.take()?;
        self.busy -= 1;
        Some((until - self.virtual_now).max(0.0))
    }

    /// How fast each computing thread goes.
    fn speed(&self) -> f64 {
        let wanted = self.busy as f64;
        let cpus = self.scenario.cpus.unwrap_or(self.model.cpus);
        if wanted <= cpus && !self.model.crowded {
            return 1.0;
        }
        // What others take, they take of CPUs that this program does not use, if they can.
        let left = self.model.cpus - self.model.foreign;
        let free = if cpus < self.model.cpus { cpus.min(left) } else { cpus - self.model.foreign };
        (free.max(0.05) / wanted).min(1.0)
    }

    /// The operation at hand is done.
    fn pass(&mut self, thread: usize) {
        let one = &mut self.threads[thread];
        if let Some(op) = self.model.streams[thread].ops.get(one.pc)
            && matches!(op.kind, Kind::Compute | Kind::Delay)
        {
            one.done += f64::from(op.ns);
        }
        one.pc += 1;
        self.steps += 1;
    }

    /// Begins or does one operation. False when the thread has to wait for something.
    fn step(&mut self, thread: usize) -> bool {
        let pc = self.threads[thread].pc;
        let Some(&op) = self.model.streams[thread].ops.get(pc) else {
            self.die(thread);
            return false;
        };
        let done = match op.kind {
            Kind::Compute | Kind::Delay | Kind::Kept => return self.spend(thread, op),
            Kind::Acquire => self.acquire(thread, op.what),
            Kind::Release => self.release(thread, op.what),
            Kind::Deaf => {
                self.threads[thread].deaf = true;
                true
            }
            Kind::Wait => self.wait(thread, op.what),
            Kind::Post => self.post(op.what),
            Kind::Take => self.take(thread, op.what),
            Kind::Put => self.put(op.what),
            Kind::Meet => self.meet(thread, op.what),
            Kind::Spawn => self.spawn(op.what),
            Kind::Join => self.join(thread, op.what),
            Kind::Forever => false,
        };
        if done {
            self.pass(thread);
        } else {
            self.without_gil(thread, op);
        }
        done
    }

    /// A thread that has to wait where it did not in the recording, lets go of the GIL: Python's
    /// own waits do.
    fn without_gil(&mut self, thread: usize, op: Op) {
        let is_gil = |lock: u32| self.model.locks.get(lock as usize).is_some_and(|lock| lock.gil);
        if op.kind == Kind::Acquire && is_gil(op.what) {
            return;
        }
        let held = self.threads[thread].parts.iter().map(|&(lock, _)| lock);
        if let Some(gil) = held.rev().find(|&lock| is_gil(lock)) {
            self.release(thread, gil);
        }
    }

    fn spend(&mut self, thread: usize, op: Op) -> bool {
        let one = &mut self.threads[thread];
        let whole = || f64::from(op.ns) * self.scenario.factor(thread, &op, one.held);
        let time = one.left.take().unwrap_or_else(whole);
        if time <= 0.0 {
            self.pass(thread);
            return true;
        }
        if op.kind == Kind::Kept && self.is_free(op.what) {
            self.pass(thread);
            return true;
        }
        if op.kind != Kind::Compute {
            self.at(self.now + time, thread);
            return false;
        }
        if let Some(gil) = self.wanted_of(thread) {
            self.yields(thread, gil, time);
            return false;
        }
        self.sequence += 1;
        let through = self.virtual_now + time;
        self.threads[thread].entry = Some((through, self.sequence));
        self.computing.push(Reverse((At(through), self.sequence, thread)));
        self.busy += 1;
        false
    }

    /// After a wait that blocked: the wake-up takes its time.
    fn wake(&mut self, thread: usize) {
        let pc = self.threads[thread].pc;
        if self.threads[thread].left.is_some() {
            self.ready.push(thread);
            return;
        }
        let latency = self.model.streams[thread].ops.get(pc).map_or(0, |op| op.ns);
        if latency == 0 {
            self.pass(thread);
            self.ready.push(thread);
        } else {
            self.at(self.now + f64::from(latency), thread);
        }
    }

    fn acquire(&mut self, thread: usize, lock: u32) -> bool {
        let change = self.scenario.lock(lock as usize);
        let one = &mut self.threads[thread];
        // Having it already: a recursive lock, or a hold that was concluded wrongly.
        if change.free || one.parts.iter().any(|held| held.0 == lock) {
            return true;
        }
        one.takes += 1;
        let part = part(thread, one.takes, change.shards.max(1));
        one.parts.push((lock, part));
        let state = &mut self.locks[lock as usize][part as usize];
        if state.owner.is_none() {
            state.owner = Some(thread);
            state.changes += 1;
            state.wanted = false;
            one.held *= change.factor;
            return true;
        }
        self.queue_up(thread, lock, part);
        false
    }

    fn release(&mut self, thread: usize, lock: u32) -> bool {
        let one = &mut self.threads[thread];
        let Some(at) = one.parts.iter().rposition(|held| held.0 == lock) else { return true };
        let (_, part) = one.parts.remove(at);
        // What is left, multiplied anew: dividing would not give back exactly 1.
        one.held =
            one.parts.iter().map(|held| self.scenario.lock(held.0 as usize).factor).product();
        let state = &mut self.locks[lock as usize][part as usize];
        if state.owner != Some(thread) {
            return true;
        }
        (state.owner, state.wanted) = (None, false);
        if self.model.locks[lock as usize].gil {
            one.deaf = false;
        }
        let Some(next) = state.waiting.pop_front() else { return true };
        if self.model.locks[lock as usize].barging {
            self.threads[next].phase = Phase::Contending;
            self.at(self.now + f64::from(self.model.locks[lock as usize].latency), next);
        } else {
            state.owner = Some(next);
            state.changes += 1;
            self.threads[next].held *= self.scenario.lock(lock as usize).factor;
            self.first_try(lock, part);
            self.wake(next);
        }
        true
    }

    /// A woken waiter tries its luck with a barging lock.
    fn contend(&mut self, thread: usize) {
        self.threads[thread].phase = Phase::Alive;
        let Some(&(lock, part)) = self.threads[thread].parts.last() else { return };
        let state = &mut self.locks[lock as usize][part as usize];
        if state.owner.is_some() {
            state.waiting.push_front(thread);
            return;
        }
        state.owner = Some(thread);
        self.threads[thread].held *= self.scenario.lock(lock as usize).factor;
        self.pass(thread);
        self.ready.push(thread);
    }

    fn wait(&mut self, thread: usize, edge: u32) -> bool {
        let state = &mut self.edges[edge as usize];
        if *state == POSTED {
            return true;
        }
        *state = thread as u32;
        false
    }

    fn post(&mut self, edge: u32) -> bool {
        let waiter = std::mem::replace(&mut self.edges[edge as usize], POSTED);
        if waiter < POSTED {
            self.wake(waiter as usize);
        }
        true
    }

    fn take(&mut self, thread: usize, queue: u32) -> bool {
        let tokens = &mut self.queues[queue as usize];
        if tokens.count > 0 {
            tokens.count -= 1;
            return true;
        }
        tokens.waiting.push_back(thread);
        false
    }

    fn put(&mut self, queue: u32) -> bool {
        let tokens = &mut self.queues[queue as usize];
        match tokens.waiting.pop_front() {
            Some(waiter) => self.wake(waiter),
            None => tokens.count += 1,
        }
        true
    }

    fn meet(&mut self, thread: usize, round: u32) -> bool {
        let here = &mut self.meetings[round as usize];
        if here.len() + 1 < self.model.meetings[round as usize] as usize {
            here.push(thread);
            return false;
        }
        for waiter in std::mem::take(here) {
            self.wake(waiter);
        }
        true
    }

    fn spawn(&mut self, stream: u32) -> bool {
        if let Some(child) = self.threads.get_mut(stream as usize)
            && child.phase == Phase::Unborn
        {
            child.phase = Phase::Alive;
            self.ready.push(stream as usize);
        }
        true
    }

    fn join(&mut self, thread: usize, stream: u32) -> bool {
        match self.threads.get_mut(stream as usize) {
            Some(child) if child.phase != Phase::Dead => {
                child.joiners.push(thread);
                false
            }
            _ => true,
        }
    }

    fn die(&mut self, thread: usize) {
        if self.threads[thread].phase == Phase::Dead {
            return;
        }
        self.threads[thread].phase = Phase::Dead;
        for joiner in std::mem::take(&mut self.threads[thread].joiners) {
            self.wake(joiner);
        }
    }
}

/// Which part of a sharded lock is asked for: as good as random, and always the same.
fn part(thread: usize, count: u64, parts: u32) -> u32 {
    if parts == 1 {
        return 0;
    }
    (super::random::mix((thread as u64) << 32 ^ count) % u64::from(parts)) as u32
}
