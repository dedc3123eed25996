//! The rows of a recording: its threads and processes.

use super::Books;
use super::Exec;
use super::Moved;
use super::Nanos;
use super::Pid;
use super::ProcessId;
use super::RuntimeInfo;
use super::StartKind;
use super::States;
use super::Text;
use super::ThreadId;
use super::Tid;

/// One thread of the recording.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its number here.
    pub id: ThreadId,
    /// Its number in the kernel; may repeat.
    pub tid: Tid,
    /// Its process.
    pub process: ProcessId,
    /// Its last name.
    pub name: Text,
    /// How it came into the recording.
    pub how: StartKind,
    /// Fork (root: exec; found: when it was found).
    pub start: Nanos,
    /// Exit, or the end of the run; `None` while it lives.
    pub end: Option<Nanos>,
    /// Whether it outlived the run.
    pub alive: bool,
    /// Time in each state; sums to `end - start`.
    pub states: States,
    /// Switches away that it asked for (it blocked).
    pub voluntary: u64,
    /// Switches away that it did not ask for (preempted), yields included as the kernel counts them.
    pub involuntary: u64,
    /// How often it came back on another CPU.
    pub migrations: u64,
    /// Intervals whose end was reconstructed.
    pub recovered: u64,
    /// The kernel's own counts.
    pub books: Books,
    /// What it read and wrote, where that was counted.
    pub moved: Option<Moved>,
}

impl Thread {
    pub(super) fn new(
        id: ThreadId,
        tid: Tid,
        process: ProcessId,
        start: Nanos,
        how: StartKind,
    ) -> Self {
        Self {
            id,
            tid,
            process,
            name: Text::default(),
            how,
            start,
            end: None,
            alive: false,
            states: States::default(),
            voluntary: 0,
            involuntary: 0,
            migrations: 0,
            recovered: 0,
            books: Books::default(),
            moved: None,
        }
    }

    /// Length of its life within the run, ns.
    pub fn lifetime(&self) -> Nanos {
        self.end.unwrap_or(self.start) - self.start
    }
}

/// One process of the recording.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number here.
    pub id: ProcessId,
    /// Its number in the kernel; may repeat.
    pub pid: Pid,
    /// Its parent in the recording.
    pub parent: Option<ProcessId>,
    /// Its parent in the kernel (0: not seen).
    pub ppid: Pid,
    /// Name of its program, from the last exec; its parent's before the first.
    pub name: Text,
    /// Arguments of the last exec; its parent's before the first.
    pub argv: Vec<Text>,
    /// What interprets its program, where that was seen: of the last exec.
    pub runtime: Option<RuntimeInfo>,
    /// Every exec, in order.
    pub execs: Vec<Exec>,
    /// Fork (root: exec).
    pub start: Nanos,
    /// Exit of its last thread, or the end of the run; `None` while it lives.
    pub end: Option<Nanos>,
    /// Whether it outlived the run.
    pub alive: bool,
    /// Status word as `wait` gives it.
    pub status: Option<u32>,
}

impl Process {
    pub(super) fn new(id: ProcessId, pid: Pid, start: Nanos) -> Self {
        Self {
            id,
            pid,
            parent: None,
            ppid: Pid(0),
            name: Text::default(),
            argv: Vec::new(),
            runtime: None,
            execs: Vec::new(),
            start,
            end: None,
            alive: false,
            status: None,
        }
    }

    pub(super) fn exec(&mut self, exec: &Exec) {
        self.name = exec.path.base_name();
        self.argv.clone_from(&exec.argv);
        self.execs.push(exec.clone());
        self.runtime = None;
    }
}
