//! A made-up machine: four CPUs, a run queue and programs that wait for locks, pipes,
//! sockets, timers and files. What its recorder says is consistent, as a real one's is: a CPU
//! runs one thread at a time, a wait ends when it was woken, sequence numbers count up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use timesink::model::Books;
use timesink::model::Call;
use timesink::model::Clocks;
use timesink::model::Context;
use timesink::model::Definition;
use timesink::model::Event;
use timesink::model::Exec;
use timesink::model::Exit;
use timesink::model::ExitKind;
use timesink::model::FdKind;
use timesink::model::Frame;
use timesink::model::FrameId;
use timesink::model::Info;
use timesink::model::Interval;
use timesink::model::Left;
use timesink::model::Line;
use timesink::model::Marks;
use timesink::model::Module;
use timesink::model::ModuleId;
use timesink::model::Nanos;
use timesink::model::Pid;
use timesink::model::Record;
use timesink::model::Sample;
use timesink::model::Stack;
use timesink::model::StackId;
use timesink::model::Start;
use timesink::model::StartKind;
use timesink::model::Summary;
use timesink::model::Text;
use timesink::model::Tid;
use timesink::model::Tier;
use timesink::model::WaitStack;
use timesink::model::Waker;

const CPUS: usize = 4;
const PROCESSES: u32 = 8;
const THREADS_EACH: u32 = 8;
const FIRST_PID: u32 = 1000;
/// One sample in this time and CPU: 997 Hz.
const SAMPLE_EVERY: u64 = 1_003_009;
const STACKS: u32 = 6_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    SliceEnds(usize),
    Wakes(usize),
    Sample(usize),
}

#[derive(Clone, Copy)]
struct Thread {
    tid: u32,
    off: u64,
    woken: Option<u64>,
    left: Left,
    call: Option<Call>,
    waker: Option<Waker>,
    taker: Option<u32>,
    cpu: usize,
    sequence: u32,
    /// Blocked time since the last stack of a wait.
    owed: u64,
}

/// The machine.
pub struct Machine {
    random: u64,
    now: u64,
    threads: Vec<Thread>,
    running: [Option<usize>; CPUS],
    ready: VecDeque<usize>,
    coming: BinaryHeap<Reverse<(u64, Happening)>>,
    clocks: Clocks,
}

fn futex(arg0: u64, arg1: u64, arg2: u32) -> Call {
    Call { number: 202, arg0, arg1, arg2, ..Call::default() }
}

impl Machine {
    /// As it is before anything runs.
    pub fn new() -> Self {
        let clocks = Clocks {
            monotonic: Nanos(1_000_000_000_000),
            realtime: Nanos(1_700_000_000_000_000_000),
            boottime: Nanos(1_000_000_000_000),
        };
        Self {
            random: 0x9e37_79b9_7f4a_7c15,
            now: clocks.monotonic.0,
            threads: Vec::new(),
            running: [None; CPUS],
            ready: VecDeque::new(),
            coming: BinaryHeap::new(),
            clocks,
        }
    }

    /// What its recorder says first.
    pub fn info(&self) -> Info {
        Info {
            tier: Tier::Kernel,
            cpus_online: CPUS as u32,
            cpus_allowed: CPUS as u32,
            clocks: self.clocks,
            ..Info::synthetic()
        }
    }

    /// And last.
    pub fn summary(&self) -> Summary {
        let passed = Nanos(self.now) - self.clocks.monotonic;
        Summary {
            clocks: Clocks {
                monotonic: Nanos(self.now),
                realtime: self.clocks.realtime + passed,
                boottime: self.clocks.boottime + passed,
            },
            root: Some((Pid(FIRST_PID), Some(0))),
            ..Summary::default()
        }
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// One of its process's stacks; a few of them come often, most rarely.
    fn stack_of(&mut self, thread: usize) -> StackId {
        let each = u64::from(STACKS / PROCESSES);
        let most = self.chance(each) + 1;
        StackId((thread as u32 / THREADS_EACH) * (STACKS / PROCESSES) + self.chance(most) as u32)
    }

    /// Runs until `intervals` waits have ended.
    pub fn run(&mut self, intervals: u64, sink: &mut dyn FnMut(Record)) {
        self.define(sink);
        self.start(sink);
        for cpu in 0..CPUS {
            self.dispatch(cpu, sink);
            self.coming.push(Reverse((self.now + SAMPLE_EVERY, Happening::Sample(cpu))));
        }
        let mut done = 0;
        while done < intervals {
            let Some(Reverse((time, happening))) = self.coming.pop() else { break };
            self.now = time;
            match happening {
                Happening::SliceEnds(cpu) => {
                    self.leave(cpu);
                    done += u64::from(self.dispatch(cpu, sink));
                }
                Happening::Wakes(thread) => {
                    self.wake(thread);
                    if let Some(cpu) = self.running.iter().position(Option::is_none) {
                        done += u64::from(self.dispatch(cpu, sink));
                    }
                }
                Happening::Sample(cpu) => {
                    self.sample(cpu, sink);
                    self.coming.push(Reverse((self.now + SAMPLE_EVERY, happening)));
                }
            }
        }
        self.now += 1_000;
        self.end(sink);
    }

    fn define(&mut self, sink: &mut dyn FnMut(Record)) {
        for module in 0..20 {
            sink(Record::Definition(Definition::Module(Module {
                path: Text::from(format!("/usr/lib/libmade{module}.so.1").as_str()),
                build_id: vec![module; 20],
            })));
        }
        for frame in 0..3_000_u32 {
            let function = format!("made::up::module_{}::function_{frame}", frame % 37);
            sink(Record::Definition(Definition::Frame(Frame {
                module: Some(ModuleId(frame % 20)),
                address: u64::from(frame) * 64,
                lines: vec![Line {
                    function,
                    file: Some(format!("src/module_{}.rs", frame % 37)),
                    line: Some(frame % 900 + 1),
                }],
            })));
        }
        for stack in 0..STACKS {
            // A tree some fifteen deep: each hangs below one at half to four fifths of its number.
            let parent =
                (stack >= 10).then(|| StackId(stack * (50 + self.chance(30) as u32) / 100));
            sink(Record::Definition(Definition::Stack(Stack {
                parent,
                frame: FrameId(self.chance(3_000) as u32),
            })));
        }
    }

    fn start(&mut self, sink: &mut dyn FnMut(Record)) {
        for index in 0..PROCESSES * THREADS_EACH {
            let pid = FIRST_PID + index / THREADS_EACH * 100;
            let tid = pid + index % THREADS_EACH;
            let how = match (index, tid == pid) {
                (0, _) => StartKind::Root,
                (_, true) => StartKind::Process,
                _ => StartKind::Thread,
            };
            let (parent_pid, parent_tid) = match how {
                StartKind::Root => (0, 0),
                StartKind::Process => (FIRST_PID, FIRST_PID),
                _ => (pid, pid),
            };
            sink(Record::Event(Event::Start(Start {
                time: Nanos(self.now),
                tid: Tid(tid),
                pid: Pid(pid),
                parent_tid: Tid(parent_tid),
                parent_pid: Pid(parent_pid),
                how,
            })));
            if tid == pid {
                sink(Record::Event(Event::Exec(Exec {
                    time: Nanos(self.now),
                    pid: Pid(pid),
                    old_tid: Tid(tid),
                    path: Text::from(format!("/usr/bin/made-{}", index / THREADS_EACH).as_str()),
                    argv: vec![Text::from("made"), Text::from("--up")],
                })));
            }
            self.threads.push(Thread {
                tid,
                off: self.now,
                woken: None,
                left: Left::New,
                call: None,
                waker: None,
                taker: None,
                cpu: index as usize % CPUS,
                sequence: 0,
                owed: 0,
            });
            self.ready.push_back(index as usize);
        }
        // The root runs from its exec on: it left no CPU to come back to.
        self.running[0] = self.ready.pop_front();
        let slice = self.now + 1_500;
        self.coming.push(Reverse((slice, Happening::SliceEnds(0))));
    }

    /// The thread on `cpu` goes: preempted now and then, else to wait for something.
    fn leave(&mut self, cpu: usize) {
        let Some(index) = self.running[cpu].take() else { return };
        let preempted = self.chance(20) == 0;
        let process = u64::from(index as u32 / THREADS_EACH);
        let pick = self.chance(100);
        let (call, wait) = match pick {
            0..35 => (futex(0x7f00_0000 + process * 0x1000 + pick / 9 * 64, 0x80, 2), 12_000),
            35..50 => (futex(0x7f80_0000 + process * 0x1000, 0x189, 0), 40_000),
            50..70 => (descriptor(0, 5, FdKind::Pipe, 9_000 + process), 15_000),
            70..85 => (descriptor(0, 7 + pick % 4, FdKind::SocketInet, 20_000 + pick), 60_000),
            85..92 => (Call { number: 230, ..Call::default() }, 100_000),
            92..97 => (descriptor(232, 4, FdKind::Epoll, 700 + process), 50_000),
            _ => (descriptor(74, 9, FdKind::File, 555), 200_000),
        };
        let length = 500 + self.chance(2 * wait);
        let thread = &mut self.threads[index];
        (thread.off, thread.woken, thread.waker, thread.cpu) = (self.now, None, None, cpu);
        if preempted {
            (thread.left, thread.call) = (Left::Preempted, None);
            self.ready.push_back(index);
        } else {
            (thread.left, thread.call) =
                (Left::Blocked { uninterruptible: pick >= 97 }, Some(call));
            self.coming.push(Reverse((self.now + length, Happening::Wakes(index))));
        }
        let taker = self.ready.front().map_or(0, |&next| self.threads[next].tid);
        self.threads[index].taker = Some(taker);
    }

    fn wake(&mut self, index: usize) {
        let cpu = self.chance(CPUS as u64) as usize;
        let by = self.running[cpu].map_or(0, |waker| self.threads[waker].tid);
        let thread = &mut self.threads[index];
        thread.woken = Some(self.now);
        thread.waker = Some(Waker {
            tid: Tid(by),
            in_tree: by != 0,
            context: if by == 0 { Context::Hardirq } else { Context::Task },
            call: (by != 0).then_some(202),
            arg0: thread.call.map_or(0, |call| call.arg0),
        });
        self.ready.push_back(index);
    }

    /// Puts the next ready thread on a CPU. True if that ended an interval.
    fn dispatch(&mut self, cpu: usize, sink: &mut dyn FnMut(Record)) -> bool {
        if self.running[cpu].is_some() {
            return false;
        }
        let Some(index) = self.ready.pop_front() else { return false };
        let slice = 300 + self.chance(4_000);
        self.running[cpu] = Some(index);
        self.coming.push(Reverse((self.now + slice, Happening::SliceEnds(cpu))));
        let thread = &mut self.threads[index];
        sink(Record::Event(Event::Interval(interval(thread, self.now, cpu, false))));
        thread.sequence += 1;
        let blocked = thread.woken.map_or(0, |woken| woken - thread.off);
        thread.owed += blocked;
        if thread.owed >= 1_000_000 && blocked > 0 {
            let weight = Nanos(thread.owed / 1_000_000 * 1_000_000);
            thread.owed -= weight.0;
            let (tid, off, call) = (Tid(thread.tid), Nanos(thread.off), thread.call);
            let stack = Some(self.stack_of(index));
            let time = Nanos(self.now);
            sink(Record::Event(Event::WaitStack(WaitStack {
                time,
                tid,
                off,
                call,
                weight,
                stack,
            })));
        }
        true
    }

    fn sample(&mut self, cpu: usize, sink: &mut dyn FnMut(Record)) {
        let Some(index) = self.running[cpu] else { return };
        let stack = Some(self.stack_of(index));
        sink(Record::Event(Event::Sample(Sample {
            time: Nanos(self.now),
            tid: Tid(self.threads[index].tid),
            cpu: cpu as u16,
            kernel: self.now.is_multiple_of(3),
            weight: Nanos(SAMPLE_EVERY),
            stack,
        })));
    }

    /// Closes what is open and ends every thread, the root last.
    fn end(&mut self, sink: &mut dyn FnMut(Record)) {
        for index in (0..self.threads.len()).rev() {
            let thread = &self.threads[index];
            if !self.running.contains(&Some(index)) {
                let open = interval(thread, self.now, thread.cpu, true);
                sink(Record::Event(Event::Interval(open)));
            }
            let pid = FIRST_PID + index as u32 / THREADS_EACH * 100;
            let leader = thread.tid == pid;
            sink(Record::Event(Event::Exit(Exit {
                time: Nanos(self.now),
                tid: Tid(thread.tid),
                pid: Pid(pid),
                how: if leader { ExitKind::Alive } else { ExitKind::Thread },
                books: Books::default(),
            })));
        }
    }
}

fn descriptor(number: u16, fd: u64, kind: FdKind, inode: u64) -> Call {
    Call { number, arg0: fd, arg2: 64, fd: kind, inode, ..Call::default() }
}

fn interval(thread: &Thread, on: u64, cpu: usize, open: bool) -> Interval {
    Interval {
        tid: Tid(thread.tid),
        off: Nanos(thread.off),
        woken: thread.woken.map(Nanos),
        on: Nanos(on),
        left: thread.left,
        call: thread.call,
        waker: thread.waker,
        taker: thread.taker.map(Tid),
        cpu_off: thread.cpu as u16,
        cpu_on: cpu as u16,
        sequence: Some(thread.sequence),
        marks: Marks { reason_seen: true, open, ..Marks::default() },
    }
}
