//! Small made-up programs for tests: played by an executor of its own, with as many CPUs as they
//! like, they give a trace, and changed and played again, the truth that a replay must predict.

use crate::model::*;
use std::collections::VecDeque;

/// One act of a program. Times in us; a name is the function it happens in.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Act {
    Run(u64, &'static str),
    Sleep(u64, &'static str),
    Lock(usize),
    Unlock(usize),
    Signal(usize),
    Wait(usize),
    /// At that barrier, for so many.
    Meet(usize, usize),
    Spawn(usize),
    Join(usize),
}

/// Programs by thread; thread 0 is the main one.
#[derive(Clone, Default, Debug)]
pub struct World(pub Vec<Vec<Act>>);

const TID: u32 = 100;
/// Each act takes this much on a CPU, ns.
const STEP: u64 = 1_000;
/// Timers fire late by this, ns, as on Linux.
const LATE: u64 = 55_000;
const FUTEX: u16 = 202;
const EXIT: u16 = 60;
const NANOSLEEP: u16 = 230;

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unborn,
    Ready(u64),
    Blocked(u64, Call),
    Done,
}

struct Player<'w> {
    world: &'w World,
    pc: Vec<usize>,
    states: Vec<State>,
    owners: Vec<Option<usize>>,
    queues: Vec<VecDeque<usize>>,
    tokens: Vec<u64>,
    waiting: Vec<VecDeque<usize>>,
    meeting: Vec<Vec<usize>>,
    joiners: Vec<Vec<usize>>,
    names: Vec<&'static str>,
    events: Vec<Event>,
}

fn word(kind: u64, index: usize, op: u64, value: u32) -> Call {
    Call {
        number: FUTEX,
        arg0: 0x10_0000 * kind + 0x40 * index as u64,
        arg1: op,
        arg2: value,
        ..Call::default()
    }
}

fn tid(thread: usize) -> Tid {
    Tid(TID + thread as u32)
}

impl World {
    /// Main starts all others and joins them.
    pub fn of(others: Vec<Vec<Act>>) -> Self {
        let count = others.len();
        let main = (1..=count).map(Act::Spawn).chain((1..=count).map(Act::Join)).collect();
        Self(std::iter::once(main).chain(others).collect())
    }

    /// The same with every act changed.
    pub fn map(&self, change: impl Fn(usize, Act) -> Act) -> Self {
        let acts = |(thread, acts): (usize, &Vec<Act>)| {
            acts.iter().map(|&act| change(thread, act)).collect()
        };
        Self(self.0.iter().enumerate().map(acts).collect())
    }

    /// How long it takes, ns.
    pub fn takes(&self) -> u64 {
        self.play().1
    }

    /// Its recording, and how long it takes.
    pub fn play(&self) -> (MemoryTrace, u64) {
        let many = self.0.len();
        let mut player = Player {
            world: self,
            pc: vec![0; many],
            states: vec![State::Unborn; many],
            owners: vec![None; 16],
            queues: vec![VecDeque::new(); 16],
            tokens: vec![0; 16],
            waiting: vec![VecDeque::new(); 16],
            meeting: vec![Vec::new(); 16],
            joiners: vec![Vec::new(); many],
            names: Vec::new(),
            events: Vec::new(),
        };
        player.start(0, 0);
        let mut end = 0;
        while let Some((now, thread)) = player.next() {
            player.act(thread, now);
            end = now;
            if player.states[0] == State::Done {
                break;
            }
        }
        let names = std::mem::take(&mut player.names);
        let mut trace = MemoryTrace::new(player.events);
        trace.info.cpus_allowed = 64;
        trace.symbols = symbols(&names);
        (trace, end)
    }
}

/// One stack for each function: called by `main` of one program.
fn symbols(names: &[&str]) -> Symbols {
    let mut symbols = Symbols::default();
    symbols.modules.push(Module { path: Text::from("/bin/app"), build_id: Vec::new() });
    for (index, name) in std::iter::once(&"entry").chain(names).enumerate() {
        let line = Line { function: (*name).to_owned(), file: None, line: None };
        symbols.frames.push(Frame {
            module: Some(ModuleId(0)),
            address: 0x10 * index as u64,
            lines: vec![line],
        });
        let parent = (index > 0).then_some(StackId(0));
        symbols.stacks.push(Stack { parent, frame: FrameId(index as u32) });
    }
    symbols
}

impl Player<'_> {
    fn next(&self) -> Option<(u64, usize)> {
        let ready = self.states.iter().enumerate().filter_map(|(thread, state)| match state {
            State::Ready(at) => Some((*at, thread)),
            _ => None,
        });
        ready.min()
    }

    fn start(&mut self, thread: usize, now: u64) {
        let how = if thread == 0 { StartKind::Root } else { StartKind::Thread };
        self.events.push(Event::Start(Start {
            time: Nanos(now),
            tid: tid(thread),
            pid: Pid(TID),
            parent_tid: if thread == 0 { Tid(1) } else { tid(0) },
            parent_pid: Pid(TID),
            how,
        }));
        let name = if thread == 0 { "main".to_owned() } else { format!("worker-{thread}") };
        let name = Text::from(name.as_str());
        self.events.push(Event::Rename(Rename { time: Nanos(now), tid: tid(thread), name }));
        self.states[thread] = State::Ready(now);
    }

    fn stack(&mut self, name: &'static str) -> StackId {
        let known = self.names.iter().position(|n| *n == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        StackId(known as u32 + 1)
    }

    fn block(&mut self, thread: usize, now: u64, call: Call) {
        self.states[thread] = State::Blocked(now, call);
    }

    fn wake(&mut self, thread: usize, by: usize, now: u64, released: bool) {
        let State::Blocked(since, call) = self.states[thread] else { panic!("not asleep") };
        let mut interval =
            Interval::blocked(tid(thread), Nanos(since), Nanos(now), Nanos(now), Some(call));
        interval.waker = Some(Waker {
            tid: tid(by),
            in_tree: true,
            context: Context::Task,
            call: Some(if released { FUTEX } else { EXIT }),
            arg0: if released { call.arg0 } else { 0 },
        });
        self.events.push(Event::Interval(interval));
        self.states[thread] = State::Ready(now);
        self.pc[thread] += 1;
    }

    fn act(&mut self, thread: usize, now: u64) {
        let Some(&act) = self.world.0[thread].get(self.pc[thread]) else {
            return self.end(thread, now);
        };
        let then = now + STEP;
        self.states[thread] = State::Ready(then);
        match act {
            Act::Run(us, name) => {
                let stack = Some(self.stack(name));
                for at in (500..us).step_by(1_000) {
                    let weight = Nanos::from_millis(1);
                    let time = Nanos(now + at * 1_000);
                    let (tid, kernel) = (tid(thread), false);
                    let sample = Sample { time, tid, cpu: 0, kernel, weight, stack };
                    self.events.push(Event::Sample(sample));
                }
                self.states[thread] = State::Ready(now + us * 1_000);
            }
            Act::Sleep(us, name) => self.sleep(thread, then, us * 1_000 + LATE, name),
            Act::Lock(lock) if self.owners[lock].is_some() => {
                self.queues[lock].push_back(thread);
                return self.block(thread, then, word(1, lock, 0x80, 2));
            }
            Act::Lock(lock) => self.owners[lock] = Some(thread),
            Act::Unlock(lock) => {
                let next = self.queues[lock].pop_front();
                self.owners[lock] = next;
                if let Some(next) = next {
                    self.wake(next, thread, now, true);
                }
            }
            Act::Signal(cond) => match self.waiting[cond].pop_front() {
                Some(waiter) => self.wake(waiter, thread, now, true),
                None => self.tokens[cond] += 1,
            },
            Act::Wait(cond) if self.tokens[cond] == 0 => {
                self.waiting[cond].push_back(thread);
                return self.block(thread, then, word(2, cond, 0x189, 0));
            }
            Act::Wait(cond) => self.tokens[cond] -= 1,
            Act::Meet(barrier, many) => {
                if self.meeting[barrier].len() + 1 < many {
                    self.meeting[barrier].push(thread);
                    return self.block(thread, then, word(3, barrier, 0x80, 0));
                }
                for waiter in std::mem::take(&mut self.meeting[barrier]) {
                    self.wake(waiter, thread, now, true);
                }
            }
            Act::Spawn(child) => self.start(child, now),
            Act::Join(child) if self.states[child] != State::Done => {
                self.joiners[child].push(thread);
                return self.block(thread, then, word(4, child, 0x109, tid(child).0));
            }
            Act::Join(_) => {}
        }
        self.pc[thread] += 1;
    }

    fn sleep(&mut self, thread: usize, now: u64, ns: u64, name: &'static str) {
        let call = Call { number: NANOSLEEP, ..Call::default() };
        let (from, to) = (Nanos(now), Nanos(now + ns));
        let mut interval = Interval::blocked(tid(thread), from, to, to, Some(call));
        let context = Context::Hardirq;
        interval.waker = Some(Waker { tid: Tid(0), in_tree: false, context, call: None, arg0: 0 });
        self.events.push(Event::Interval(interval));
        let stack = Some(self.stack(name));
        let (tid, call) = (tid(thread), Some(call));
        let wait = WaitStack { time: to, tid, off: from, call, weight: Nanos(ns), stack };
        self.events.push(Event::WaitStack(wait));
        self.states[thread] = State::Ready(to.0);
    }

    fn end(&mut self, thread: usize, now: u64) {
        self.states[thread] = State::Done;
        let how =
            if thread == 0 { ExitKind::Process { status: Some(0) } } else { ExitKind::Thread };
        let (tid, pid) = (tid(thread), Pid(TID));
        let exit = Exit { time: Nanos(now), tid, pid, how, books: Books::default() };
        self.events.push(Event::Exit(exit));
        for joiner in std::mem::take(&mut self.joiners[thread]) {
            self.wake(joiner, thread, now, false);
        }
    }
}
