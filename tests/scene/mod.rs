//! Made-up recordings for tests of outputs: threads, waits, stacks, and names of all kinds.
#![allow(dead_code, unused_imports, missing_docs)] // each test uses a part of it

pub mod play;
mod report;

pub use report::report_of;

use std::collections::BTreeMap;
use timesink::model::*;

pub const FUTEX: u16 = 202;
pub const READ: u16 = 0;
pub const NANOSLEEP: u16 = 230;
pub const WAIT4: u16 = 61;
pub const POLL: u16 = 7;
/// What one CPU sample at 997 Hz stands for.
const SAMPLE: u64 = 1_003_009;

/// A recording in the making. Times are absolute; the run begins at [`Scene::BEGIN`].
#[derive(Default)]
pub struct Scene {
    events: Vec<Event>,
    symbols: Symbols,
    frames: BTreeMap<String, FrameId>,
    stacks: BTreeMap<(Option<StackId>, FrameId), StackId>,
    now: BTreeMap<u32, u64>,
    cpu: BTreeMap<u32, u16>,
    sampled: BTreeMap<u32, u64>,
}

/// A generator that repeats: splitmix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

pub fn futex(word: u64) -> Call {
    Call { number: FUTEX, arg0: word, arg1: 0x80, arg2: 2, ..Call::default() }
}

pub fn on(number: u16, descriptor: u64, fd: FdKind, inode: u64) -> Call {
    Call { number, arg0: descriptor, fd, inode, ..Call::default() }
}

impl Scene {
    /// When the runs begin: not zero, so that absolute and relative times cannot be confused.
    pub const BEGIN: u64 = 7_000_000_000;

    /// A stack of named functions, outermost first. `k:name` is a kernel function, `py:name` one of
    /// the program in Python, `FILE.py:name` one of that file, `task "name"` a task of asyncio.
    pub fn stack(&mut self, functions: &[&str]) -> StackId {
        let mut parent = None;
        for name in functions {
            let frame = self.frame(name);
            let next = StackId(self.symbols.stacks.len() as u32);
            let id = *self.stacks.entry((parent, frame)).or_insert(next);
            if id == next {
                self.symbols.stacks.push(Stack { parent, frame });
            }
            parent = Some(id);
        }
        parent.expect("a stack has a frame")
    }

    fn frame(&mut self, name: &str) -> FrameId {
        if self.symbols.modules.is_empty() {
            for path in ["/usr/bin/app", KERNEL] {
                self.symbols.modules.push(Module { path: Text::from(path), build_id: vec![] });
            }
        }
        let next = FrameId(self.symbols.frames.len() as u32);
        let id = *self.frames.entry(name.to_owned()).or_insert(next);
        if id == next {
            let python =
                name.split_once(".py:").map(|(file, function)| (format!("{file}.py"), function));
            let python =
                python.or_else(|| Some(("/srv/app.py".to_owned(), name.strip_prefix("py:")?)));
            let task = ["task \"", "task of "].iter().any(|task| name.starts_with(task));
            let python = python.or_else(|| task.then(|| (TASK_MODULE.to_owned(), name)));
            let mut file = "src/app.rs".to_owned();
            let (module, function) = match (name.strip_prefix("k:"), python) {
                (Some(function), _) => (ModuleId(1), function),
                (None, Some((path, function))) => {
                    file.clone_from(&path);
                    let path = Text::from(path.as_str());
                    self.symbols.modules.push(Module { path, build_id: vec![] });
                    (ModuleId(self.symbols.modules.len() as u32 - 1), function)
                }
                (None, None) => (ModuleId(0), name),
            };
            let line =
                Line { function: function.to_owned(), file: Some(file), line: Some(10 + id.0) };
            let address = 0x1000 + 16 * u64::from(id.0);
            self.symbols.frames.push(Frame { module: Some(module), address, lines: vec![line] });
        }
        id
    }

    /// The command itself.
    pub fn root(&mut self, pid: u32, path: &[u8], argv: &[&str]) {
        self.begin(pid, pid, (0, 0), Self::BEGIN, StartKind::Root);
        self.exec(pid, path, argv);
    }

    pub fn process(&mut self, pid: u32, parent: u32, path: &[u8], argv: &[&str]) {
        self.begin(pid, pid, (parent, parent), self.now[&parent], StartKind::Process);
        self.exec(pid, path, argv);
    }

    pub fn thread(&mut self, tid: u32, pid: u32, name: &[u8]) {
        let time = self.now[&pid];
        self.begin(tid, pid, (pid, pid), time, StartKind::Thread);
        let rename = Rename { time: Nanos(time), tid: Tid(tid), name: Text::new(name) };
        self.events.push(Event::Rename(rename));
    }

    fn exec(&mut self, pid: u32, path: &[u8], argv: &[&str]) {
        let argv = argv.iter().map(|&arg| Text::from(arg)).collect();
        let time = Nanos(self.now[&pid]);
        let path = Text::new(path);
        self.events.push(Event::Exec(Exec { time, pid: Pid(pid), old_tid: Tid(pid), path, argv }));
    }

    fn begin(&mut self, tid: u32, pid: u32, parent: (u32, u32), time: u64, how: StartKind) {
        self.now.insert(tid, time);
        self.events.push(Event::Start(Start {
            time: Nanos(time),
            tid: Tid(tid),
            pid: Pid(pid),
            parent_tid: Tid(parent.0),
            parent_pid: Pid(parent.1),
            how,
        }));
    }

    pub fn now(&self, tid: u32) -> u64 {
        self.now[&tid]
    }

    /// On a CPU for `ns`, sampled as a clock of 997 Hz would.
    pub fn run(&mut self, tid: u32, ns: u64, stack: Option<StackId>) {
        let start = self.now[&tid];
        let mut next = *self.sampled.get(&tid).unwrap_or(&(start + SAMPLE / 2));
        while next < start + ns {
            if next >= start {
                self.events.push(Event::Sample(Sample {
                    time: Nanos(next),
                    tid: Tid(tid),
                    cpu: self.cpu.get(&tid).copied().unwrap_or(0),
                    kernel: false,
                    weight: Nanos(SAMPLE),
                    stack,
                }));
            }
            next += SAMPLE;
        }
        self.sampled.insert(tid, next);
        self.now.insert(tid, start + ns);
    }

    /// Waits for `ns` in `call`, then `ready` ns for a CPU.
    pub fn wait(&mut self, tid: u32, ns: u64, ready: u64, call: Call, stack: Option<StackId>) {
        self.wait_by(tid, ns, ready, Some(call), stack, None);
    }

    /// The same, ended by a waker; without a call it waits for memory.
    pub fn wait_by(
        &mut self,
        tid: u32,
        ns: u64,
        ready: u64,
        call: Option<Call>,
        stack: Option<StackId>,
        waker: Option<Waker>,
    ) {
        let off = self.now[&tid];
        let (woken, back) = (off + ns, off + ns + ready);
        let mut interval = Interval::blocked(Tid(tid), Nanos(off), Nanos(woken), Nanos(back), call);
        interval.waker = waker;
        interval.left = Left::Blocked { uninterruptible: call.is_none() };
        self.events.push(Event::Interval(interval));
        if stack.is_some() {
            self.events.push(Event::WaitStack(WaitStack {
                time: Nanos(back),
                tid: Tid(tid),
                off: Nanos(off),
                call,
                weight: Nanos(ns),
                stack,
            }));
        }
        self.now.insert(tid, back);
    }

    /// A thread of the recording that lets go of what `call` waits for.
    pub fn waker(tid: u32, call: Call) -> Waker {
        Waker {
            tid: Tid(tid),
            in_tree: true,
            context: Context::Task,
            call: Some(call.number),
            arg0: call.arg0,
        }
    }

    /// Begins a wait at a time of its own.
    pub fn wait_from(&mut self, tid: u32, off: u64, ns: u64, call: Call) {
        self.now.insert(tid, off);
        self.wait(tid, ns, 0, call, None);
    }

    /// Who ended the wait that was drawn last, in which call on which descriptor.
    pub fn ended_by(&mut self, tid: u32, call: u16, descriptor: u64) {
        let last = self.events.iter_mut().rev().find_map(|event| match event {
            Event::Interval(interval) => Some(interval),
            _ => None,
        });
        let waker = Waker {
            tid: Tid(tid),
            in_tree: true,
            context: Context::Task,
            call: Some(call),
            arg0: descriptor,
        };
        last.expect("a wait was drawn").waker = Some(waker);
    }

    /// What a descriptor is called, as of now.
    pub fn object(&mut self, pid: u32, descriptor: u32, kind: FdKind, inode: u64, label: &str) {
        let (time, pid, label) = (Nanos(self.now[&pid]), Pid(pid), Text::from(label));
        self.events.push(Event::Object(ObjectInfo {
            time,
            pid,
            descriptor,
            kind,
            device: 0,
            inode,
            label,
        }));
    }

    /// What a futex word of a process is, as of now: its variable, or what it is shared in.
    pub fn word(&mut self, pid: u32, address: u64, symbol: &str, backing: Option<Backing>) {
        let (time, pid, symbol) = (Nanos(self.now[&pid]), Pid(pid), Text::from(symbol));
        self.events.push(Event::Word(WordInfo { time, pid, address, symbol, backing, gil: None }));
    }

    /// What a process calls `length` bytes of its memory from now on.
    pub fn named(&mut self, pid: u32, start: u64, length: u64, name: &str) {
        let (time, pid, name) = (Nanos(self.now[&pid]), Pid(pid), Text::from(name));
        self.events.push(Event::Named(NameInfo { time, pid, id: start, start, length, name }));
    }

    /// Off the CPU for `ns`, for a reason nobody saw.
    pub fn unseen(&mut self, tid: u32, ns: u64) {
        let off = Nanos(self.now[&tid]);
        let back = off + Nanos(ns);
        let mut interval = Interval::blocked(Tid(tid), off, back, back, None);
        interval.marks.reason_seen = false;
        self.events.push(Event::Interval(interval));
        self.now.insert(tid, back.0);
    }

    pub fn preempted(&mut self, tid: u32, ns: u64) {
        self.off_ready(tid, ns, Left::Preempted, None);
    }

    /// Off the CPU for `ns` and ready all the time: `taker` had it.
    pub fn off_ready(&mut self, tid: u32, ns: u64, left: Left, taker: Option<u32>) {
        let off = Nanos(self.now[&tid]);
        let back = off + Nanos(ns);
        let mut interval = Interval::blocked(Tid(tid), off, back, back, None);
        interval.left = left;
        interval.taker = taker.map(Tid);
        interval.woken = None;
        self.events.push(Event::Interval(interval));
        self.now.insert(tid, back.0);
    }

    pub fn end(&mut self, tid: u32, pid: u32, status: Option<u32>) {
        let how =
            status.map_or(ExitKind::Thread, |status| ExitKind::Process { status: Some(status) });
        let time = Nanos(self.now[&tid]);
        let books = Books::default();
        self.events.push(Event::Exit(Exit { time, tid: Tid(tid), pid: Pid(pid), how, books }));
    }

    pub fn build(self, command: &[&str]) -> MemoryTrace {
        let mut trace = MemoryTrace::new(self.events);
        trace.symbols = self.symbols;
        trace.info.command = command.iter().map(|&arg| Text::from(arg)).collect();
        trace
    }
}

/// Names that try to break out of every format there is.
pub const HOSTILE: [&[u8]; 4] = [
    b"</script><script>alert(1)</script>",
    b"a\x1b[31m;\n\xff\"'&<b>",
    b"<!--\xe2\x80\xa8{{data}}]]>",
    b"<img src=x onerror=alert(1)>",
];

/// Three threads and a child: they fight for a lock, sleep, read a file; hostile names throughout.
pub fn hostile() -> MemoryTrace {
    let mut scene = Scene::default();
    let lock = futex(0x7f00_1000);
    scene.root(100, b"/tmp/</script><script>alert(1)</script>", &["</script>", "<!--", "\u{2028}"]);
    let work = scene.stack(&["main", "</script><script>alert(2)</script>", "work<T; 3>"]);
    let kernel = scene.stack(&["main", "read_all 7", "k:vfs_read"]);
    let locked = scene.stack(&["main", "<img src=x onerror=alert(3)>", "__lll_lock_wait"]);
    for tid in 101..=102 {
        scene.thread(tid, 100, HOSTILE[tid as usize - 100]);
        scene.run(tid, 3_000_001, Some(work));
        scene.wait(tid, 41_000_003, 12_345, lock, Some(locked));
        scene.run(tid, 1_500_000, Some(kernel));
        scene.preempted(tid, 777_777);
        scene.wait(tid, 5_000_000, 1, on(READ, 3, FdKind::File, 99), None);
        scene.run(tid, 2_000_000, None);
        scene.unseen(tid, 1_000_000 + u64::from(tid));
        scene.end(tid, 100, None);
    }
    scene.run(100, 1_000_000, Some(work));
    scene.process(200, 100, b"/bin/\xff\xfe<b>", &["child"]);
    scene.run(200, 2_000_000, Some(kernel));
    scene.wait(200, 9_999_999, 50_000, on(NANOSLEEP, 0, FdKind::None, 0), Some(work));
    scene.end(200, 200, Some(0));
    scene.wait(100, 70_000_000, 30_000, on(WAIT4, 200, FdKind::None, 0), Some(work));
    scene.run(100, 999_999, Some(work));
    scene.end(100, 100, Some(3 << 8));
    scene.build(&["/tmp/</script><script>alert(1)</script>", "--x=<b>", "\u{2028}&amp;"])
}

/// Two workers and their main thread: one lock, held too long. What a newcomer sees first.
pub fn contended(millis: u64) -> MemoryTrace {
    let mut scene = Scene::default();
    let lock = futex(0x55d0_c0de_1000);
    scene.root(4100, b"/usr/bin/bank", &["bank", "--accounts", "2"]);
    let settle = scene.stack(&["main", "std::thread::scope", "bank::worker", "bank::settle"]);
    let hash = scene.stack(&[
        "main",
        "std::thread::scope",
        "bank::worker",
        "bank::settle",
        "bank::checksum",
    ]);
    let kernel = scene.stack(&[
        "main",
        "std::thread::scope",
        "bank::worker",
        "bank::log",
        "write",
        "k:vfs_write",
    ]);
    let mutex = "std::sys::sync::mutex::futex::Mutex::lock_contended";
    let waiting =
        scene.stack(&["main", "std::thread::scope", "bank::worker", "bank::settle", mutex]);
    let joining = scene.stack(&["main", "std::thread::scope", "std::thread::scoped::scope"]);
    let sleeping =
        scene.stack(&["main", "std::thread::scope", "bank::worker", "std::thread::sleep"]);
    scene.run(4100, 400_000, Some(settle));
    let end = Scene::BEGIN + millis * 1_000_000;
    let mut dice = Dice(1);
    for tid in [4101, 4102] {
        scene.thread(tid, 4100, format!("worker-{}", tid - 4100).as_bytes());
        scene.run(tid, 200_000 * u64::from(tid - 4100), Some(settle));
        while scene.now(tid) + 4_000_000 < end {
            let stack = [settle, hash, hash, kernel][dice.below(4) as usize];
            scene.run(tid, 300_000 + dice.below(900_000), Some(stack));
            match dice.below(8) {
                0 => scene.wait(
                    tid,
                    500_000 + dice.below(300_000),
                    40_000,
                    on(NANOSLEEP, 0, FdKind::None, 0),
                    Some(sleeping),
                ),
                1 => scene.preempted(tid, 20_000 + dice.below(400_000)),
                2 => scene.wait(tid, 90_000, 9_000, on(READ, 5, FdKind::File, 77), Some(kernel)),
                _ => scene.wait(tid, 800_000 + dice.below(1_200_000), 30_000, lock, Some(waiting)),
            }
        }
        scene.end(tid, 4100, None);
    }
    let until = scene.now(4101).max(scene.now(4102)) - scene.now(4100);
    scene.wait(4100, until, 20_000, futex(0x55d0_c0de_2000), Some(joining));
    scene.run(4100, 300_000, Some(settle));
    scene.end(4100, 4100, Some(0));
    scene.build(&["bank", "--accounts", "2"])
}

/// Many threads over a long time: pools that wait for work, in several processes.
pub fn crowd(threads: u32, seconds: u64) -> MemoryTrace {
    let mut scene = Scene::default();
    let mut dice = Dice(7);
    scene.root(1000, b"/opt/server", &["server", "--workers", "200"]);
    let end = Scene::BEGIN + seconds * 1_000_000_000;
    let pop = ["_start", "main", "server::pool::run", "server::queue::pop", "pthread_cond_wait"];
    let idle = scene.stack(&pop);
    let handler = |i| {
        let [handler, step, leaf] = [
            format!("server::handle_{}", i % 7),
            format!("server::step_{}", i % 5),
            format!("server::leaf_{i}"),
        ];
        scene.stack(&["_start", "main", "server::pool::run", &handler, &step, &leaf])
    };
    let stacks: Vec<StackId> = (0..40).map(handler).collect();
    for pid in [2000, 3000, 4000] {
        scene.process(pid, 1000, b"/opt/server-worker", &["server-worker"]);
    }
    for i in 0..threads {
        let pid = 1000 * (1 + i % 4);
        let tid = pid + 1 + i;
        scene.thread(tid, pid, format!("pool-{}", i / 4).as_bytes());
        while scene.now(tid) + 400_000_000 < end {
            scene.serve(tid, &mut dice, &stacks, idle);
        }
        scene.end(tid, pid, None);
    }
    for pid in [4000, 3000, 2000] {
        let left = end - scene.now(pid);
        scene.wait(pid, left, 1000, on(READ, 0, FdKind::Pipe, 12), Some(idle));
        scene.end(pid, pid, Some(0));
    }
    let left = end - scene.now(1000) + 2_000_000;
    scene.wait(1000, left, 1000, on(WAIT4, 0, FdKind::None, 0), Some(idle));
    scene.end(1000, 1000, Some(0));
    let mut trace = scene.build(&["server", "--workers", "200"]);
    (trace.info.cpus_online, trace.info.cpus_allowed) = (32, 32);
    trace
}

impl Scene {
    /// One request of a made-up server, and what it waits for afterwards.
    fn serve(&mut self, tid: u32, dice: &mut Dice, stacks: &[StackId], idle: StackId) {
        let stack = Some(stacks[dice.below(stacks.len() as u64) as usize]);
        self.run(tid, 200_000 + dice.below(12_000_000), stack);
        let socket = on(READ, 9, FdKind::SocketInet, 5000 + dice.below(9));
        let poll = Call { number: POLL, arg0: 0x7000, arg1: 2, ..Call::default() };
        match dice.below(10) {
            0..4 => {
                let queue = Call { arg1: 0x189, ..futex(0x9000) };
                self.wait(tid, 1_000_000 + dice.below(300_000_000), 200_000, queue, Some(idle));
            }
            4..6 => self.wait(tid, dice.below(20_000_000), 90_000, socket, stack),
            6 => self.wait(tid, dice.below(40_000_000), 50_000, poll, stack),
            7 => {
                let file = on(READ, 4, FdKind::File, 31);
                self.wait(tid, dice.below(9_000_000), 50_000, file, stack);
            }
            8 => self.preempted(tid, dice.below(4_000_000)),
            _ => self.unseen(tid, dice.below(3_000_000)),
        }
    }
}
