//! Random but possible schedules, for tests: threads that run, block, wake each other, are
//! preempted, fork and end, as a recorder would tell it. Losses included.

use crate::model::*;
use proptest::prelude::*;

/// One step of the made-up clock, ns.
const TICK: u64 = 1_000;

/// What a schedule is grown from.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    seed: u64,
    steps: u32,
    threads: u32,
    losses: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Now {
    Running,
    /// Off the CPU since then, not woken yet, in this call.
    Blocked(u64, Call),
    /// Off since, woken at, how, by whom; waiting for a CPU.
    Ready(u64, Option<u64>, Left, Option<Call>, Option<Waker>),
    Dead,
}

struct Maker {
    random: u64,
    now: u64,
    threads: Vec<Now>,
    events: Vec<Event>,
    losses: bool,
}

const ROOT: u32 = 100;

impl Schedule {
    /// Any schedule of up to six threads and some hundred steps.
    pub fn any() -> impl Strategy<Value = Self> {
        (any::<u64>(), 1u32..300, 1u32..6, any::<bool>())
            .prop_map(|(seed, steps, threads, losses)| Self { seed, steps, threads, losses })
    }

    /// The recording of it.
    pub fn trace(&self) -> MemoryTrace {
        let mut maker = Maker {
            random: self.seed,
            now: 1,
            threads: Vec::new(),
            events: Vec::new(),
            losses: self.losses,
        };
        maker.start(None);
        for _ in 0..self.steps {
            maker.now += maker.below(4);
            maker.step(self.threads as usize);
        }
        maker.finish();
        MemoryTrace::new(maker.events)
    }
}

impl Maker {
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    fn time(&self) -> Nanos {
        Nanos(self.now * TICK)
    }

    fn tid(thread: usize) -> Tid {
        Tid(ROOT + thread as u32)
    }

    fn start(&mut self, parent: Option<usize>) {
        let thread = self.threads.len();
        self.events.push(Event::Start(Start {
            time: self.time(),
            tid: Self::tid(thread),
            pid: Pid(ROOT),
            parent_tid: parent.map_or(Tid(1), Self::tid),
            parent_pid: Pid(ROOT),
            how: if parent.is_some() { StartKind::Thread } else { StartKind::Root },
        }));
        self.threads.push(match parent {
            Some(_) => Now::Ready(self.now, None, Left::New, None, None),
            None => Now::Running,
        });
    }

    fn pick(&mut self, which: impl Fn(&Now) -> bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.threads.len()).filter(|&i| which(&self.threads[i])).collect();
        (!all.is_empty()).then(|| all[self.below(all.len() as u64) as usize])
    }

    fn step(&mut self, most: usize) {
        let running = |now: &Now| matches!(now, Now::Running);
        let blocked = |now: &Now| matches!(now, Now::Blocked(..));
        match self.below(12) {
            0..3 => {
                if let Some(thread) = self.pick(running) {
                    self.threads[thread] = Now::Blocked(self.now, self.any_call());
                }
            }
            3..6 => {
                // A waker that does not run then: what a damaged or impossible record says.
                let odd = self.losses && self.below(4) == 0;
                let waker = self.pick(|now| if odd { *now != Now::Dead } else { running(now) });
                let sleeper = self.pick(blocked);
                if let Some(sleeper) = sleeper {
                    self.wake(waker, sleeper);
                }
            }
            6 => {
                if let Some(thread) = self.pick(running) {
                    self.threads[thread] = Now::Ready(self.now, None, Left::Preempted, None, None);
                }
            }
            7 if self.threads.len() < most => {
                if let Some(parent) = self.pick(running) {
                    self.start(Some(parent));
                }
            }
            8 => {
                if let Some(thread) = self.pick(running).filter(|&thread| thread != 0) {
                    self.threads[thread] = Now::Dead;
                    self.exit(thread, ExitKind::Thread);
                }
            }
            _ => {
                if let Some(thread) = self.pick(|now| matches!(now, Now::Ready(..))) {
                    self.run(thread, false);
                }
            }
        }
    }

    fn any_call(&mut self) -> Call {
        let word = 0x1000 + 8 * self.below(3);
        let (number, arg0, arg1, arg2, fd) = match self.below(5) {
            0 | 1 => (202, word, 0x80, 2, FdKind::None),
            2 => (202, word + 0x100, 0x189, 0, FdKind::None),
            3 => (230, 0, 0, 0, FdKind::None),
            _ => (0, 3, 0, 0, FdKind::File),
        };
        Call { number, arg0, arg1, arg2, fd, inode: 0, device: 0 }
    }

    fn wake(&mut self, waker: Option<usize>, sleeper: usize) {
        let Now::Blocked(off, call) = self.threads[sleeper] else { return };
        let by_thread = waker.filter(|_| call.number == 202);
        let waker = if let Some(thread) = by_thread {
            Waker {
                tid: Self::tid(thread),
                in_tree: true,
                context: Context::Task,
                call: Some(202),
                arg0: call.arg0,
            }
        } else {
            let context = [Context::Hardirq, Context::Softirq][self.below(2) as usize];
            Waker { tid: Tid(0), in_tree: false, context, call: None, arg0: 0 }
        };
        let left = Left::Blocked { uninterruptible: false };
        self.threads[sleeper] = Now::Ready(off, Some(self.now), left, Some(call), Some(waker));
    }

    fn run(&mut self, thread: usize, open: bool) {
        let Now::Ready(off, woken, left, call, waker) = self.threads[thread] else { return };
        self.threads[thread] = Now::Running;
        self.interval(thread, off, woken, left, call, waker, open);
    }

    #[allow(clippy::too_many_arguments)] // all that an interval is made of
    fn interval(
        &mut self,
        thread: usize,
        off: u64,
        woken: Option<u64>,
        left: Left,
        call: Option<Call>,
        waker: Option<Waker>,
        open: bool,
    ) {
        let tid = Self::tid(thread);
        let off = Nanos(off * TICK);
        if self.losses && self.below(20) == 0 {
            let to = self.time();
            self.events.push(Event::Gap(Gap { tid, from: off, to, count: 1, sequence: None }));
            return;
        }
        let mut interval = Interval::blocked(tid, off, self.time(), self.time(), call);
        interval.woken = woken.map(|woken| Nanos(woken * TICK));
        interval.left = left;
        interval.waker = waker;
        interval.marks.open = open;
        interval.marks.reason_seen = !self.losses || self.below(9) > 0;
        self.events.push(Event::Interval(interval));
    }

    fn exit(&mut self, thread: usize, how: ExitKind) {
        self.events.push(Event::Exit(Exit {
            time: self.time(),
            tid: Self::tid(thread),
            pid: Pid(ROOT),
            how,
            books: Books::default(),
        }));
    }

    /// The root comes back to a CPU and ends; what still waits then is open.
    fn finish(&mut self) {
        self.now += 1;
        self.wake(None, 0);
        self.run(0, false);
        self.now += 1 + self.below(3);
        for thread in 1..self.threads.len() {
            match self.threads[thread] {
                Now::Blocked(off, call) => {
                    let left = Left::Blocked { uninterruptible: false };
                    self.interval(thread, off, None, left, Some(call), None, true);
                }
                Now::Ready(..) => self.run(thread, true),
                Now::Running | Now::Dead => {}
            }
        }
        self.exit(0, ExitKind::Process { status: Some(0) });
    }
}
