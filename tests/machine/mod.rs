//! Made-up recordings with a known truth.
#![allow(dead_code)] // each test uses a part

use timesink::model::*;

/// A small generator of numbers: the same every time for one seed.
pub struct Dice(pub u64);

impl Dice {
    /// 0..n
    pub fn roll(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

pub fn call(number: u16, arg0: u64, fd: FdKind, inode: u64) -> Call {
    Call { number, arg0, fd, inode, ..Call::default() }
}

pub fn start(time: u64, tid: u32, pid: u32, parent: (u32, u32), how: StartKind) -> Event {
    let (parent_tid, parent_pid) = (Tid(parent.0), Pid(parent.1));
    Event::Start(Start {
        time: Nanos(time),
        tid: Tid(tid),
        pid: Pid(pid),
        parent_tid,
        parent_pid,
        how,
    })
}

pub fn exit(time: u64, tid: u32, pid: u32, how: ExitKind) -> Event {
    Event::Exit(Exit {
        time: Nanos(time),
        tid: Tid(tid),
        pid: Pid(pid),
        how,
        books: Books::default(),
    })
}

pub fn rename(time: u64, tid: u32, name: &[u8]) -> Event {
    Event::Rename(Rename { time: Nanos(time), tid: Tid(tid), name: Text::new(name) })
}

#[derive(Clone, Copy, PartialEq)]
enum Now {
    Running(u16),
    Ready,
    Asleep,
    Gone,
}

struct Task {
    tid: u32,
    pid: u32,
    now: Now,
    stay: Interval,
    sequence: u32,
}

/// A scheduler of `cpus` CPUs that records itself.
pub struct Machine {
    dice: Dice,
    time: u64,
    cpus: Vec<Option<usize>>,
    tasks: Vec<Task>,
    pub events: Vec<Event>,
    reuse: Vec<u32>,
    next_tid: u32,
}

const ROOT: u32 = 100;

impl Machine {
    pub fn new(seed: u64, cpus: usize) -> Self {
        let mut machine = Self {
            dice: Dice(seed),
            time: 1_000_000_007,
            cpus: vec![None; cpus],
            tasks: Vec::new(),
            events: Vec::new(),
            reuse: Vec::new(),
            next_tid: ROOT + 1,
        };
        machine.events.push(start(machine.time, ROOT, ROOT, (0, 0), StartKind::Root));
        machine.events.push(Event::Exec(Exec {
            time: Nanos(machine.time),
            pid: Pid(ROOT),
            old_tid: Tid(ROOT),
            path: Text::from("/usr/bin/drawn"),
            argv: vec![Text::from("drawn"), Text::new(b"\xff\x1b[0m".to_vec())],
        }));
        let stay = Interval::blocked(Tid(ROOT), Nanos(0), Nanos(0), Nanos(0), None);
        let root = Task { tid: ROOT, pid: ROOT, now: Now::Running(0), stay, sequence: 0 };
        machine.tasks.push(root);
        machine.cpus[0] = Some(0);
        machine.found();
        machine
    }

    /// A thread that slept before the recording began.
    fn found(&mut self) {
        self.next_tid += 1;
        let (tid, at) = (self.next_tid, Nanos(self.time));
        self.events.push(start(self.time, tid, ROOT, (0, 0), StartKind::Found));
        let mut stay = Interval::blocked(Tid(tid), at, at, at, None);
        stay.woken = None;
        stay.call = Some(call(232, 4, FdKind::Epoll, 0));
        self.tasks.push(Task { tid, pid: ROOT, now: Now::Asleep, stay, sequence: 0 });
    }

    /// `steps` things happen, then the root exits.
    pub fn run(mut self, steps: u64) -> Vec<Event> {
        for _ in 0..steps {
            self.time += 1 + self.dice.roll(90_000);
            match self.dice.roll(20) {
                0 => self.fork(),
                1 => self.end_one(),
                2..=8 => self.leave(),
                9..=14 => self.wake(),
                15 => self.say(),
                16 => self.sample(),
                _ => self.arrive(),
            }
        }
        self.close();
        self.events
    }

    fn pick(&mut self, which: impl Fn(&Task) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.tasks.len()).filter(|&i| which(&self.tasks[i])).collect();
        (!fit.is_empty()).then(|| fit[self.dice.roll(fit.len() as u64) as usize])
    }

    fn fork(&mut self) {
        let Some(by) = self.pick(|t| matches!(t.now, Now::Running(_))) else { return };
        if self.tasks.iter().filter(|t| t.now != Now::Gone).count() > 9 {
            return;
        }
        let tid = self.reuse.pop().unwrap_or_else(|| {
            self.next_tid += 1;
            self.next_tid
        });
        let parent = (self.tasks[by].tid, self.tasks[by].pid);
        let process = self.dice.roll(3) == 0;
        let pid = if process { tid } else { parent.1 };
        let how = if process { StartKind::Process } else { StartKind::Thread };
        self.events.push(start(self.time, tid, pid, parent, how));
        let names: [&[u8]; 4] = [b"worker", b"\"quoted\\", b"<b>\xf0\x9f\x98\x80", b"\n\0\xff"];
        let name = names[self.dice.roll(4) as usize];
        self.events.push(rename(self.time, tid, name));
        let at = Nanos(self.time);
        let mut stay = Interval::blocked(Tid(tid), at, at, at, None);
        (stay.left, stay.woken) = (Left::New, None);
        self.tasks.push(Task { tid, pid, now: Now::Ready, stay, sequence: 0 });
    }

    fn arrive(&mut self) {
        let Some(cpu) = self.cpus.iter().position(Option::is_none) else { return };
        if let Some(task) = self.pick(|t| t.now == Now::Ready) {
            self.put(task, cpu);
        }
    }

    fn put(&mut self, task: usize, cpu: usize) {
        let (time, tasks) = (self.time, &mut self.tasks);
        let task_ref = &mut tasks[task];
        task_ref.stay.on = Nanos(time);
        task_ref.stay.cpu_on = cpu as u16;
        task_ref.stay.sequence = Some(task_ref.sequence);
        task_ref.sequence += 1;
        task_ref.now = Now::Running(cpu as u16);
        self.cpus[cpu] = Some(task);
        let lose = self.dice.roll(40) == 0;
        let stay = self.tasks[task].stay;
        if lose && stay.left != Left::New {
            self.events.push(Event::Gap(Gap {
                tid: stay.tid,
                from: stay.off,
                to: stay.on,
                count: 1,
                sequence: stay.sequence,
            }));
            self.events.push(Event::Lost(Lost {
                from: stay.off,
                to: stay.on,
                what: LostKind::Intervals,
                cpu: Some(stay.cpu_on),
                count: 1,
            }));
        } else {
            self.events.push(Event::Interval(stay));
        }
    }

    fn free(&mut self, cpu: usize) -> Option<Tid> {
        self.cpus[cpu] = None;
        match self.dice.roll(3) {
            0 => Some(Tid(0)),
            1 => Some(Tid(999_999)),
            _ => {
                let next = self.pick(|t| t.now == Now::Ready);
                next.map(|next| {
                    self.put(next, cpu);
                    Tid(self.tasks[next].tid)
                })
            }
        }
    }

    fn leave(&mut self) {
        let Some(task) = self.pick(|t| matches!(t.now, Now::Running(_))) else { return };
        let Now::Running(cpu) = self.tasks[task].now else { return };
        let (tid, at) = (Tid(self.tasks[task].tid), Nanos(self.time));
        let choices = [
            call(202, 0x7f00_1000, FdKind::None, 0),
            call(0, 3, FdKind::Pipe, 123),
            call(230, 1, FdKind::None, 0),
            call(45, 5, FdKind::SocketInet, 77),
        ];
        let chosen = choices[self.dice.roll(4) as usize];
        let (left, now) = match self.dice.roll(8) {
            0 => (Left::Preempted, Now::Ready),
            1 => (Left::Yielded, Now::Ready),
            2 => (Left::Stopped, Now::Asleep),
            3 => (Left::Blocked { uninterruptible: true }, Now::Asleep),
            4 => (Left::Unknown, Now::Asleep),
            _ => (Left::Blocked { uninterruptible: false }, Now::Asleep),
        };
        let mut stay = Interval::blocked(tid, at, at, at, Some(chosen));
        (stay.left, stay.woken, stay.cpu_off) = (left, None, cpu);
        stay.marks.reason_seen = left != Left::Unknown;
        self.tasks[task].now = Now::Gone; // not a candidate to take its own CPU
        stay.taker = self.free(usize::from(cpu));
        if now == Now::Asleep && self.dice.roll(15) == 0 {
            stay.woken = Some(Nanos(self.time - 1)); // the race of capture: woken at once
            self.tasks[task].now = Now::Ready;
        } else {
            self.tasks[task].now = now;
        }
        self.tasks[task].stay = stay;
    }

    fn wake(&mut self) {
        let Some(task) = self.pick(|t| t.now == Now::Asleep) else { return };
        let by = self.pick(|t| matches!(t.now, Now::Running(_)));
        let running = by.map(|by| self.tasks[by].tid);
        let (context, tid) = match (self.dice.roll(4), running) {
            (0, _) => (Context::Hardirq, 0),
            (1, _) => (Context::Task, 999_999),
            (2, Some(tid)) => (Context::Softirq, tid),
            (_, Some(tid)) => (Context::Task, tid),
            (_, None) => (Context::Softirq, 0),
        };
        let in_tree = tid != 0 && tid != 999_999;
        let stay = &mut self.tasks[task].stay;
        if stay.left == Left::Unknown {
            self.tasks[task].now = Now::Ready; // nobody sees how such a stay ends
            return;
        }
        stay.woken = Some(Nanos(self.time));
        stay.waker = Some(Waker { tid: Tid(tid), in_tree, context, call: None, arg0: 0 });
        self.tasks[task].now = Now::Ready;
    }

    fn end_one(&mut self) {
        let Some(task) = self.pick(|t| t.tid != ROOT && matches!(t.now, Now::Running(_))) else {
            return;
        };
        let Now::Running(cpu) = self.tasks[task].now else { return };
        let (tid, pid) = (self.tasks[task].tid, self.tasks[task].pid);
        let alone = !self.tasks.iter().any(|t| t.pid == pid && t.tid != tid && t.now != Now::Gone);
        if !alone && tid == pid {
            return;
        }
        self.tasks[task].now = Now::Gone;
        let how = if alone { ExitKind::Process { status: Some(0) } } else { ExitKind::Thread };
        self.events.push(exit(self.time, tid, pid, how));
        self.cpus[usize::from(cpu)] = None;
        if alone || tid != pid {
            self.reuse.push(tid);
        }
    }

    fn say(&mut self) {
        let Some(task) = self.pick(|t| matches!(t.now, Now::Running(_))) else { return };
        let text = |s: &str| Text::from(s);
        let span = self.dice.roll(3);
        let what = match self.dice.roll(5) {
            0 | 1 => ProbeKind::Enter {
                span,
                name: text(["request", "parse", "store"][span as usize]),
                target: text("app::web"),
                fields: text("id=7"),
            },
            2 | 3 => ProbeKind::Leave { span },
            _ => ProbeKind::Instant { name: text("tick"), target: text("app"), fields: text("") },
        };
        let tid = Tid(self.tasks[task].tid);
        self.events.push(Event::Probe(ProbeEvent { time: Nanos(self.time), tid, what }));
    }

    fn sample(&mut self) {
        let Some(task) = self.pick(|t| matches!(t.now, Now::Running(_))) else { return };
        let Now::Running(cpu) = self.tasks[task].now else { return };
        let stack = Some(StackId(self.dice.roll(2) as u32));
        let (time, tid) = (Nanos(self.time), Tid(self.tasks[task].tid));
        let weight = Nanos::from_millis(1);
        self.events.push(Event::Sample(Sample { time, tid, cpu, kernel: false, weight, stack }));
    }

    fn close(&mut self) {
        self.time += 50;
        let Some(root) = self.pick(|t| t.tid == ROOT) else { return };
        if let Now::Ready | Now::Asleep = self.tasks[root].now {
            self.tasks[root].stay.woken = self.tasks[root].stay.woken.or(Some(Nanos(self.time)));
            self.time += 10;
            let cpu = self.cpus.len();
            self.cpus.push(None);
            self.put(root, cpu);
            self.time += 1000;
        }
        let end = Nanos(self.time);
        for task in &mut self.tasks {
            if let Now::Ready | Now::Asleep = task.now {
                task.stay.on = end;
                task.stay.marks.open = true;
                task.stay.sequence = Some(task.sequence);
                self.events.push(Event::Interval(task.stay));
            }
        }
        self.events.push(exit(self.time, ROOT, ROOT, ExitKind::Process { status: Some(0) }));
    }
}

/// Two stacks: `main > work > inner (inlined)` and `main`.
pub fn symbols() -> Symbols {
    let line = |function: &str| Line {
        function: function.to_owned(),
        file: Some("src/main.rs".to_owned()),
        line: Some(7),
    };
    let mut symbols = Symbols::default();
    let path = Text::from("/usr/bin/drawn");
    for definition in [
        Definition::Module(Module { path, build_id: vec![0xab, 0xcd] }),
        Definition::Frame(Frame {
            module: Some(ModuleId(0)),
            address: 16,
            lines: vec![line("main")],
        }),
        Definition::Frame(Frame {
            module: Some(ModuleId(0)),
            address: 32,
            lines: vec![line("work"), line("inner")],
        }),
        Definition::Stack(Stack { parent: None, frame: FrameId(0) }),
        Definition::Stack(Stack { parent: Some(StackId(0)), frame: FrameId(1) }),
    ] {
        symbols.define(definition).expect("defined before use");
    }
    symbols
}

/// The trace of a random machine.
pub fn drawn(seed: u64, cpus: usize, steps: u64) -> MemoryTrace {
    let mut trace = MemoryTrace::new(Machine::new(seed, cpus).run(steps));
    trace.symbols = symbols();
    trace
}
