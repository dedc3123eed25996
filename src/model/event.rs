//! Everything a recording can say, one payload struct per kind.

use super::{Call, Nanos, Pid, StackId, Text, Tid};

/// What a recorder delivers: something that happened, or a definition it refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Something that happened.
    Event(Event),
    /// A module, frame or stack that events refer to by id. Comes before or after its use.
    Definition(super::Definition),
}

/// Something that happened to a thread of the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A finished stay off the CPU.
    Interval(Interval),
    /// Intervals of a thread that were lost, exactly located.
    Gap(Gap),
    /// A thread or process began.
    Start(Start),
    /// A process replaced its program.
    Exec(Exec),
    /// A thread got a name.
    Rename(Rename),
    /// A thread ended, or the recording did while it lived.
    Exit(Exit),
    /// A look at a running thread.
    Sample(Sample),
    /// The stack of a wait, with the blocked time it stands for.
    WaitStack(WaitStack),
    /// A look from outside at a sleeping thread.
    Observation(Observation),
    /// What a descriptor or address of a process refers to.
    Object(ObjectInfo),
    /// What a futex word of a process is called, and what it is part of.
    Word(WordInfo),
    /// What the program itself calls a part of its memory.
    Named(NameInfo),
    /// What a thread read and wrote.
    Moved(Moved),
    /// How much went through a pipe.
    Piped(Piped),
    /// What interprets the program of a process.
    Runtime(RuntimeInfo),
    /// Records that never arrived.
    Lost(Lost),
    /// Something the program itself said through a probe.
    Probe(ProbeEvent),
}

impl Event {
    /// When this became known: the order of events in a trace. For an
    /// [`Interval`] that is its end.
    pub fn time(&self) -> Nanos {
        match self {
            Self::Interval(e) => e.on,
            Self::Gap(e) => e.to,
            Self::Start(e) => e.time,
            Self::Exec(e) => e.time,
            Self::Rename(e) => e.time,
            Self::Exit(e) => e.time,
            Self::Sample(e) => e.time,
            Self::WaitStack(e) => e.time,
            Self::Observation(e) => e.time,
            Self::Object(e) => e.time,
            Self::Word(e) => e.time,
            Self::Named(e) => e.time,
            Self::Moved(e) => e.time,
            Self::Piped(e) => e.time,
            Self::Runtime(e) => e.time,
            Self::Lost(e) => e.to,
            Self::Probe(e) => e.time,
        }
    }

    /// The thread it is about, where it is about one.
    pub fn tid(&self) -> Option<Tid> {
        match self {
            Self::Interval(e) => Some(e.tid),
            Self::Gap(e) => Some(e.tid),
            Self::Start(e) => Some(e.tid),
            Self::Exec(e) => Some(e.pid.into()),
            Self::Rename(e) => Some(e.tid),
            Self::Exit(e) => Some(e.tid),
            Self::Sample(e) => Some(e.tid),
            Self::WaitStack(e) => Some(e.tid),
            Self::Observation(e) => Some(e.tid),
            Self::Probe(e) => Some(e.tid),
            Self::Moved(e) => Some(e.tid),
            Self::Object(_)
            | Self::Word(_)
            | Self::Named(_)
            | Self::Piped(_)
            | Self::Runtime(_)
            | Self::Lost(_) => None,
        }
    }
}

/// One stay off the CPU: left at `off`, made ready at `woken`, back at `on`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The thread.
    pub tid: Tid,
    /// When it left the CPU (or was forked, for [`Left::New`]).
    pub off: Nanos,
    /// When it was made ready; `None` if it never stopped being ready, or if that was not seen.
    pub woken: Option<Nanos>,
    /// When it was back on a CPU; for an `open` interval, the end of the recording.
    pub on: Nanos,
    /// How it left.
    pub left: Left,
    /// The system call it was in; `None` outside any (page fault, interrupt) or when `reason_seen` is false.
    pub call: Option<Call>,
    /// Who made it ready, where that was seen.
    pub waker: Option<Waker>,
    /// Who took the CPU it left: 0 for the idle task, `None` if not seen.
    pub taker: Option<Tid>,
    /// CPU it left.
    pub cpu_off: u16,
    /// CPU it came back on.
    pub cpu_on: u16,
    /// Number of this interval within its thread, from 0; `None` where the tier does not count.
    pub sequence: Option<u32>,
    /// What is known less well than usual.
    pub marks: Marks,
}

impl Interval {
    /// A blocked interval with nothing else known: for tests and simple sources.
    pub fn blocked(tid: Tid, off: Nanos, woken: Nanos, on: Nanos, call: Option<Call>) -> Self {
        Self {
            tid,
            off,
            woken: Some(woken),
            on,
            left: Left::Blocked { uninterruptible: false },
            call,
            waker: None,
            taker: None,
            cpu_off: 0,
            cpu_on: 0,
            sequence: None,
            marks: Marks { reason_seen: true, ..Marks::default() },
        }
    }
}

/// How a thread left the CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Left {
    /// It went to sleep.
    Blocked {
        /// In a sleep that no signal ends (the kernel's `D`): disk, page fault, vfork.
        uninterruptible: bool,
    },
    /// It was ready to go on and another task got the CPU.
    Preempted,
    /// It called `sched_yield`.
    Yielded,
    /// It was stopped by a signal, traced or frozen.
    Stopped,
    /// It had just been forked and never run before.
    New,
    /// Not seen.
    Unknown,
}

/// Reservations about an [`Interval`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// Whether the recorder looked at what the thread was in; false at tiers that cannot.
    pub reason_seen: bool,
    /// Still off the CPU when the recording ended.
    pub open: bool,
    /// The return to the CPU was reconstructed from the scheduler's own books, a few us early.
    pub recovered: bool,
    /// Times are those of polls, not of the events themselves.
    pub sampled: bool,
}

/// Who made a thread ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waker {
    /// The task that was current; the real waker only in task context, or in a softirq that
    /// delivers that task's own loopback packet. 0 for the idle task.
    pub tid: Tid,
    /// Whether that task belongs to the recorded tree.
    pub in_tree: bool,
    /// Where the wake-up ran.
    pub context: Context,
    /// System call number the waking task was in, if in one.
    pub call: Option<u16>,
    /// That call's first argument (the futex word it released, the descriptor it wrote to).
    pub arg0: u64,
}

/// Where in the kernel a wake-up ran.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Context {
    /// In a task's own system call or fault: that task is the waker.
    Task = 0,
    /// In a soft interrupt: network or block completion.
    Softirq = 1,
    /// In a hard interrupt: a timer or device.
    Hardirq = 2,
}

/// Lost intervals of one thread: all of `from..to` is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The thread.
    pub tid: Tid,
    /// It left the CPU then, for the first interval that was lost.
    pub from: Nanos,
    /// It was back then, after the last one that was lost.
    pub to: Nanos,
    /// How many intervals.
    pub count: u64,
    /// Sequence number of the last lost interval, where the tier counts.
    pub sequence: Option<u32>,
}

/// A thread or process began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// When.
    pub time: Nanos,
    /// The new thread.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// The thread that made it (0: not seen).
    pub parent_tid: Tid,
    /// That thread's process (0: not seen).
    pub parent_pid: Pid,
    /// How it came into the recording.
    pub how: StartKind,
}

/// How a thread came into the recording.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum StartKind {
    /// It is the command itself; its time starts with its exec.
    Root = 0,
    /// A new process (fork, vfork).
    Process = 1,
    /// A new thread of its process.
    Thread = 2,
    /// It was already there when the recording began, or was found later by looking.
    Found = 3,
}

/// A process replaced its program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exec {
    /// When.
    pub time: Nanos,
    /// The process; from now on its only thread has this id too.
    pub pid: Pid,
    /// The id of the thread that called exec, before the call.
    pub old_tid: Tid,
    /// Path of the program.
    pub path: Text,
    /// Its arguments, as far as recorded.
    pub argv: Vec<Text>,
}

impl Exec {
    /// What to call the process, which the kernel calls `name` from then on: by the name that the
    /// program was started by, be it a script's or a link's. The kernel cuts that to 15 bytes; the
    /// path or an argument may have all of it.
    pub fn called(&self, name: &Text) -> Text {
        const KERNEL_NAME: usize = 15;
        let path = self.path.base_name();
        if name.is_empty() {
            return path;
        }
        let mut whole = std::iter::once(path).chain(self.argv.iter().map(Text::base_name));
        let cut = name.as_bytes().len() == KERNEL_NAME;
        let found = whole.find(|whole| cut && whole.as_bytes().starts_with(name.as_bytes()));
        found.unwrap_or_else(|| name.clone())
    }
}

/// A thread changed its name, or it became known what its program calls it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    /// When.
    pub time: Nanos,
    /// The thread.
    pub tid: Tid,
    /// Its new name (one of the kernel has at most 15 bytes).
    pub name: Text,
}

/// A thread ended, or the recording did while it lived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// When.
    pub time: Nanos,
    /// The thread.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// What became of it.
    pub how: ExitKind,
    /// The kernel's own books on it, to check ours against.
    pub books: Books,
}

/// What became of a thread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ExitKind {
    /// The thread ended and others of its process live on.
    Thread,
    /// The last thread of the process ended, with this status word as `wait` gives it.
    Process {
        /// Status word: exit code in bits 8..16, signal in bits 0..7; `None` where the tier
        /// cannot see it (only a parent may, and the root's is in [`Summary::root`](super::Summary)).
        status: Option<u32>,
    },
    /// It was alive when the recording ended; `books` are as of then.
    Alive,
}

/// The kernel's own counts for one thread; `None` where the tier cannot read them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Books {
    /// Voluntary context switches.
    pub voluntary: Option<u64>,
    /// Involuntary context switches.
    pub involuntary: Option<u64>,
    /// How often it got a CPU (`sched_info.pcount`).
    pub runs: Option<u64>,
    /// How often the recorder saw (or recovered) it getting one.
    pub runs_seen: Option<u64>,
    /// CPU time, ns.
    pub cpu: Option<Nanos>,
    /// Time ready and waiting for a CPU as the scheduler counts it, ns.
    pub queued: Option<Nanos>,
}

/// What a thread read and wrote, as of its end or that of the recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// When.
    pub time: Nanos,
    /// The thread.
    pub tid: Tid,
    /// Bytes that it read by `read` and its kin, from whatever: files, pipes, terminals, and sockets
    /// that are read that way (not by `recv`).
    pub read_bytes: u64,
    /// Bytes that it wrote likewise.
    pub written_bytes: u64,
}

/// How much went through a pipe, as of the end of a thread that waited at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piped {
    /// When.
    pub time: Nanos,
    /// Its device, as of its [`ObjectInfo`].
    pub device: u32,
    /// Its inode.
    pub inode: u64,
    /// Buffers of at most [`Piped::BUFFER`] bytes that were ever put into it.
    pub buffers: u64,
}

impl Piped {
    /// What a buffer of a pipe holds at most: a page.
    pub const BUFFER: u64 = 4096;
}

/// A look at a running thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When.
    pub time: Nanos,
    /// The thread.
    pub tid: Tid,
    /// Where it ran.
    pub cpu: u16,
    /// Whether it ran in the kernel then.
    pub kernel: bool,
    /// CPU time it stands for, ns.
    pub weight: Nanos,
    /// Its stack, kernel frames innermost; `None` if it could not be taken.
    pub stack: Option<StackId>,
}

/// The stack of a wait. Time-proportional: weights of a (call, object) add up, over many
/// waits, to its blocked time, without bias; totals come from the intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitStack {
    /// When the wait ended, with which the stack belongs (that of a page fault is taken at its begin).
    pub time: Nanos,
    /// The thread.
    pub tid: Tid,
    /// When that wait began (equal to the interval's `off`).
    pub off: Nanos,
    /// The call it waited in; `None` for a page fault.
    pub call: Option<Call>,
    /// Blocked time this stack stands for, ns; 0 for the extra stack of a (call, object)'s first wait.
    pub weight: Nanos,
    /// The stack; `None` if it could not be taken (its weight still counts, without a site).
    pub stack: Option<StackId>,
}

/// A look from outside at a thread that was not running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// When.
    pub time: Nanos,
    /// The thread.
    pub tid: Tid,
    /// `Some(None)`: blocked outside any system call; `None`: it could not be read.
    pub call: Option<Option<Call>>,
    /// Whether its sleep was uninterruptible.
    pub uninterruptible: bool,
    /// Its stack, if it could be read while it slept.
    pub stack: Option<StackId>,
}

/// What a descriptor or inode that threads waited for is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    /// When that was looked up.
    pub time: Nanos,
    /// The process it was looked up in.
    pub pid: Pid,
    /// Descriptor number there.
    pub descriptor: u32,
    /// Its kind.
    pub kind: super::FdKind,
    /// Device of the inode, as in [`Call`].
    pub device: u32,
    /// Inode number, 0 if none; as in [`Call`].
    pub inode: u64,
    /// Path, or addresses of a socket (`tcp 127.0.0.1:80 -> 127.0.0.1:5000`).
    pub label: Text,
}

/// What a futex word is: the variable that it lies in, or the shared memory. Told of a word for
/// which one of them was found, once for each process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WordInfo {
    /// When that was looked up.
    pub time: Nanos,
    /// The process.
    pub pid: Pid,
    /// Address of the word there.
    pub address: u64,
    /// The variable: `lock_a`, or `table[..]+0x40` for a word inside a larger one. Empty: none.
    pub symbol: Text,
    /// For a word that processes share, what they share it in.
    pub backing: Option<Backing>,
    /// For a word of Python's global interpreter lock, the address of that.
    pub gil: Option<u64>,
}

impl WordInfo {
    /// A word of which nothing is known yet.
    pub fn new(time: Nanos, pid: Pid, address: u64) -> Self {
        Self { time, pid, address, symbol: Text::default(), backing: None, gil: None }
    }
}

/// A name that a process gives to a range of its memory, for the futex words in it, from now on: until
/// the same id has another range, another name lies over it, or the program ends. A fork takes its
/// parent's names along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameInfo {
    /// When it said so.
    pub time: Nanos,
    /// The process.
    pub pid: Pid,
    /// Of what has the name, unique in the process while that lives.
    pub id: u64,
    /// Where the range starts.
    pub start: u64,
    /// Bytes of it; 0 once what had the name is gone.
    pub length: u64,
    /// The name.
    pub name: Text,
}

/// What interprets the program of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeInfo {
    /// When that was found out.
    pub time: Nanos,
    /// The process.
    pub pid: Pid,
    /// The interpreter and its version: `CPython 3.13`.
    pub name: Text,
    /// It is a build whose threads may run without a lock that all share, and they do.
    pub free_threaded: bool,
}

/// A place in memory that several processes may have at different addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backing {
    /// Device of the inode, as in [`Call`].
    pub device: u32,
    /// Inode: of a file, or of the kernel's own for memory without a name.
    pub inode: u64,
    /// Offset in it.
    pub offset: u64,
    /// Path of the file; empty where it has none.
    pub path: Text,
}

/// Records that never arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Not before.
    pub from: Nanos,
    /// Not after.
    pub to: Nanos,
    /// Of which kind.
    pub what: LostKind,
    /// On which CPU, where known.
    pub cpu: Option<u16>,
    /// How many.
    pub count: u64,
}

/// Kinds of record that can be lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum LostKind {
    /// Off-CPU intervals. Those of a known thread come as [`Gap`]s as well.
    Intervals = 0,
    /// Starts, execs, exits: whole threads may be missing.
    Lifecycle = 1,
    /// CPU samples.
    Samples = 2,
    /// Stacks of waits.
    WaitStacks = 3,
    /// Events of in-process probes.
    Probe = 4,
    /// Stretches of the trace file itself.
    File = 5,
}

/// Something the program said through a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeEvent {
    /// When.
    pub time: Nanos,
    /// The thread that said it.
    pub tid: Tid,
    /// What.
    pub what: ProbeKind,
}

/// What a probe can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeKind {
    /// A span was entered on this thread.
    Enter {
        /// Id of the span, unique within the process while it lives.
        span: u64,
        /// Its name.
        name: Text,
        /// Its module path or category.
        target: Text,
        /// Its fields, `key=value` separated by spaces.
        fields: Text,
    },
    /// The span was left on this thread.
    Leave {
        /// Id of the span.
        span: u64,
    },
    /// Something happened at one instant.
    Instant {
        /// Message or name.
        name: Text,
        /// Module path or category.
        target: Text,
        /// Fields, `key=value` separated by spaces.
        fields: Text,
    },
}
