//! The report: what every output says. Field for field the schema `timesink.report/1`.
//!
//! Times are integer nanoseconds; instants are counted from the start of the run. A section
//! that a tier or this version cannot fill is there and empty, with the reason in
//! `health.warnings`; `None` (`null`) means "not measured at this tier".

mod finding;
mod path;

pub use finding::*;
pub use path::*;

use crate::model::State;
use crate::model::States;
use crate::model::Text;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;

/// Name and version of the schema.
pub const SCHEMA: &str = "timesink.report/1";

/// The whole report.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Version of timesink that analysed.
    pub version: String,
    /// The command and its arguments.
    pub command: Vec<Shown>,
    /// How the command ended; `None` if it had not when the recording did.
    pub exit: Option<ExitStatus>,
    /// When the run began: ns since 1970 by the real-time clock.
    pub started: u64,
    /// From the root's exec to its exit.
    pub wall_ns: u64,
    /// Capture tier.
    pub tier: &'static str,
    /// CPU time that one sample stands for, ns; `None` without samples.
    pub sample_period_ns: Option<u64>,
    /// CPU time that all samples stand for, ns: what shares of [`FunctionRow`]s are of.
    pub sampled_ns: u64,
    /// The machine.
    pub host: Host,
    /// How far the report can be trusted.
    pub health: Health,
    /// What recording cost.
    pub cost: Cost,
    /// All threads' time by state.
    pub budget: Budget,
    /// Processes, in order of start.
    pub processes: Vec<ProcessRow>,
    /// Threads, in order of start.
    pub threads: Vec<ThreadRow>,
    /// What was waited for, longest total wait first.
    pub objects: Vec<Object>,
    /// CPUs in use over the run.
    pub utilisation: Utilisation,
    /// Functions by CPU time of their samples, largest first.
    pub functions: Vec<FunctionRow>,
    /// Tasks of asyncio by the time of their stacks, most first.
    pub tasks: Vec<TaskRow>,
    /// What the path below is of, if not of the whole run.
    pub focus: Option<Focus>,
    /// The longest steps of the critical path, in order of time.
    pub critical_path: Vec<PathStep>,
    /// The whole of it, summed up.
    pub path: PathSummary,
    /// See `docs/FORMAT.md`.
    pub whatif: Vec<WhatIf>,
    /// See `docs/FORMAT.md`.
    pub findings: Vec<Finding>,
    /// The answer in one sentence.
    pub verdict: Verdict,
}

/// Bytes from outside, escaped for display (see [`Text`]).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Shown(pub String);

impl From<&Text> for Shown {
    fn from(text: &Text) -> Self {
        Self(text.to_string())
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u32),
    /// This signal ended it.
    Signal(u32),
}

impl ExitStatus {
    /// From a status word as `wait` gives it.
    pub fn from_status(status: u32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

/// The machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// CPUs online.
    pub cpus_online: u32,
    /// CPUs the command could use.
    pub cpus_allowed: u32,
    /// CPU quota of its cgroup, in CPUs; `None` without one.
    pub cpu_quota: Option<Cpus>,
    /// CPU time that a hypervisor took while the recording ran, over all CPUs, ns; `None` where
    /// the kernel does not say or the recorder did not finish.
    pub stolen_ns: Option<u64>,
    /// Time in which the CPUs of the machine had work, what was stolen included, ns.
    pub busy_ns: Option<u64>,
}

/// A quota in CPUs, kept in thousandths so that reports stay byte-identical.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpus(pub u64);

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

/// How far the report can be trusted.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Health {
    /// Intervals analysed.
    pub records: u64,
    /// Records that never arrived.
    pub lost_records: u64,
    /// Intervals whose end was reconstructed, a few us early.
    pub recovered_records: u64,
    /// Thread time whose reason was not seen, ns.
    pub unknown_ns: u64,
    /// The same as a share of all thread time.
    pub unknown_share: f64,
    /// What became of the stacks.
    pub stacks: Stacks,
    /// Threads whose run count was checked against the kernel's, and how many differ.
    pub run_counts: RunCounts,
    /// Sentences.
    pub warnings: Vec<String>,
}

/// What became of the stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Stacks {
    /// Taken.
    pub taken: u64,
    /// Reached the outermost function.
    pub complete: u64,
    /// Ended early and are marked so.
    pub truncated: u64,
    /// Could not be read.
    pub failed: u64,
}

/// The check of our run counts against the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RunCounts {
    /// Threads checked.
    pub checked: u64,
    /// Runs by the kernel's count, over those threads.
    pub kernel: u64,
    /// Runs seen or recovered.
    pub seen: u64,
    /// Threads where the two differ.
    pub differing: u64,
}

/// What recording cost.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cost {
    /// CPU time of the recorder while recording, ns.
    pub collector_cpu_ns: u64,
    /// Its largest resident set, bytes.
    pub collector_memory_bytes: u64,
    /// Estimate of what the recording added to the command's time, ns.
    pub target_overhead_estimate_ns: Option<u64>,
    /// How that was estimated.
    pub method: String,
    /// Size of the trace file; `None` if it is not in a file.
    pub trace_bytes: Option<u64>,
}

/// Time in each state, as a map in the order of the budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateTimes(pub States);

impl Serialize for StateTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(State::ALL.len()))?;
        for (state, time) in self.0.iter() {
            map.serialize_entry(state.name(), &time.0)?;
        }
        map.end()
    }
}

/// A finer cut, outside the sum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Detail {
    /// What, e.g. `runnable after preemption by another process`.
    pub name: String,
    /// How much, ns.
    pub ns: u64,
    /// How it is known.
    pub quality: Quality,
}

/// How a detail is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// From the events themselves.
    Exact,
    /// From samples.
    Sampled,
    /// From counters that measure something near it.
    Estimated,
}

/// All threads' time by state.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Budget {
    /// Sum of all threads' lifetimes, ns; equals the sum over `states`.
    pub thread_ns: u64,
    /// By state.
    pub states: StateTimes,
    /// Finer cuts, outside the sum.
    pub detail: Vec<Detail>,
}

/// One process.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ProcessRow {
    /// Its id here.
    pub id: u32,
    /// Process id in the kernel.
    pub pid: u32,
    /// Parent's process id in the kernel, 0 if not seen.
    pub ppid: u32,
    /// Its parent's id here.
    pub parent: Option<u32>,
    /// Name of its program.
    pub name: Shown,
    /// Its arguments.
    pub argv: Vec<Shown>,
    /// Its execs.
    pub execs: Vec<ExecRow>,
    /// Start, ns from the start of the run.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
    /// Whether it outlived the run.
    pub alive: bool,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// Its threads' time by state.
    pub states: StateTimes,
    /// What its threads read and wrote, summed over those of which it is known.
    pub io: Option<Moved>,
    /// What interprets its program, where that was seen: `CPython 3.13, free-threaded: no GIL`.
    pub runtime: Option<Shown>,
    /// Whether that lets threads run at once, as far as is known.
    #[serde(skip)]
    pub free_threaded: bool,
    /// Its concurrency model.
    pub model: ConcurrencyModel,
}

/// One exec.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExecRow {
    /// When, ns from the start of the run.
    pub at_ns: u64,
    /// Path of the program.
    pub path: Shown,
}

/// A process's concurrency model, with the evidence.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ConcurrencyModel {
    /// `single-thread`, `threads`, ...; `None` where this version does not judge.
    pub kind: Option<String>,
    /// Language runtime, if one was recognised.
    pub runtime: Option<String>,
    /// Number of workers.
    pub workers: Option<u32>,
    /// Why.
    pub evidence: Vec<String>,
}

/// One thread.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ThreadRow {
    /// Its id here.
    pub id: u32,
    /// Thread id in the kernel.
    pub tid: u32,
    /// Process id in the kernel.
    pub pid: u32,
    /// Its process's id here.
    pub process: u32,
    /// Its name.
    pub name: Shown,
    /// What it does, where its name does not tell: the function that it was seen in most.
    pub role: Option<String>,
    /// Start, ns from the start of the run.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
    /// Whether it outlived the run.
    pub alive: bool,
    /// Time by state; sums to `end_ns - start_ns`.
    pub states: StateTimes,
    /// Finer cuts, outside the sum.
    pub detail: Vec<Detail>,
    /// Context switches.
    pub switches: Switches,
    /// How often it came back on another CPU.
    pub migrations: u64,
    /// What it read and wrote; `None` where that was not counted: the kernel tier does.
    pub io: Option<Moved>,
}

/// Bytes moved by `read(2)`, `write(2)` and their kin (`readv`, `pread`, `sendfile`), as the kernel counts
/// them: of files, cached or not, of pipes, terminals, and of sockets that are read and written that way.
/// Not by `send`, `recv`, `mmap`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Moved {
    /// Read.
    pub read_bytes: u64,
    /// Written.
    pub written_bytes: u64,
}

impl Moved {
    /// Of several threads together.
    pub fn sum(all: impl Iterator<Item = Self>) -> Option<Self> {
        all.reduce(|a, b| Self {
            read_bytes: a.read_bytes.saturating_add(b.read_bytes),
            written_bytes: a.written_bytes.saturating_add(b.written_bytes),
        })
    }
}

/// How much went through a pipe since it was made, as of the end of the last thread that waited at it
/// and had it open then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Carried {
    /// Buffers that were put into it. A write fills whole ones and begins a new one, unless what
    /// it has left over fits into the last one that is still there.
    pub buffers: u64,
    /// What they hold at most: 4 KiB each. Near the truth for large pieces; a pipe that carries many
    /// small ones carried less.
    pub most_bytes: u64,
}

impl ThreadRow {
    /// What to call it: its name, and its role where it has one.
    pub fn called(&self) -> String {
        match &self.role {
            Some(role) => format!("{} ({role})", self.name),
            None => self.name.to_string(),
        }
    }
}

impl Report {
    /// A thread's row.
    pub fn thread(&self, id: u32) -> Option<&ThreadRow> {
        self.threads.get(id as usize)
    }

    /// Whether the critical path says more than the threads' own rows. One thread alone is its own
    /// path; and who ended a wait is not seen at the perf and proc tiers, so that the path of a run
    /// would go through its last thread alone.
    pub fn has_path(&self) -> bool {
        let sees_wakers = !matches!(self.tier, "perf" | "proc");
        self.focus.is_some() || self.threads.len() > 1 && sees_wakers
    }

    /// What to call a thread among all others: with its id, where another one is called the same.
    pub fn told_apart(&self, id: u32) -> Option<String> {
        let thread = self.thread(id)?;
        let name = thread.called();
        let alone = self.threads.iter().filter(|other| other.called() == name).count() < 2;
        Some(if alone { name } else { format!("{name} [{}]", thread.tid) })
    }
}

/// Context switches of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Switches {
    /// It blocked.
    pub voluntary: u64,
    /// It was preempted or yielded.
    pub involuntary: u64,
}

/// Something that was waited for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Object {
    /// Its id here.
    pub id: u32,
    /// `lock`, `gil`, `condvar`, `join`, `barrier`, `semaphore`, `pipe`, `socket`, `epoll`,
    /// `file`, `disk`, `timer`, `child`, `cpu`, `memory`, `call` or `unknown`.
    pub kind: &'static str,
    /// What to call it.
    pub label: String,
    /// The variable that its futex word lies in, where that has a symbol; else, where it lies in a
    /// file's data, `module+0xoffset`.
    pub symbol: Option<String>,
    /// What it alone is called, without its kind and call site: its symbol, or the shared memory.
    #[serde(skip)]
    pub name: Option<String>,
    /// The thread whose end is waited for, by id here.
    #[serde(skip)]
    pub awaits: Option<u32>,
    /// Process id it belongs to, 0 if to several.
    pub pid: u32,
    /// Futex word, or inode.
    pub address: u64,
    /// The state its waiters were in.
    pub state: &'static str,
    /// Number of waits.
    pub waits: u64,
    /// Time waited, ns.
    pub wait_ns: u64,
    /// The longest wait.
    pub max_wait_ns: u64,
    /// Number of distinct threads.
    pub waiters: u64,
    /// Where, most time first.
    pub sites: Vec<Site>,
    /// Part of `wait_ns` during which this program left an allowed CPU unused: waiting while
    /// all CPUs work costs nothing. Estimated in steps of the run's 65,536th part.
    pub idle_cpu_ns: Option<u64>,
    /// Who ended the waits and what they did meanwhile, most blamed first. For what threads hand to
    /// each other, these and `not_blamed` sum to `wait_ns`.
    pub holders: Vec<Holder>,
    /// Waiting that no thread of the recording is to blame for.
    pub not_blamed: NotBlamed,
    /// How long a lock was held, by all its holders together, as the replay concludes it from who
    /// waited and where; `None` for what is no lock, and where the run could not be replayed.
    pub hold_ns: Option<u64>,
    /// How much went through a pipe; `None` for what is none, and where that was not counted.
    pub carried: Option<Carried>,
}

/// A call site that waited.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Site {
    /// Outermost first.
    pub stack: Vec<FrameRow>,
    /// Stacks that were taken there: samples of the waits, not their number.
    pub stacks: u64,
    /// Its part of the object's time, ns, by time-proportional sampling.
    pub wait_ns: u64,
}

/// One function of a stack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct FrameRow {
    /// Its name, or `module+0xoffset`.
    pub name: String,
    /// Module path.
    pub module: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
}

/// CPUs in use over the run.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Utilisation {
    /// Mean number of threads on a CPU.
    pub mean_cpus: f64,
    /// How long how many threads were on a CPU; sums to `wall_ns`.
    pub histogram: Vec<Running>,
}

/// One bar of the histogram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Running {
    /// Threads on a CPU at once.
    pub running_threads: u32,
    /// For how long, ns.
    pub ns: u64,
}

/// A function by the CPU samples it appears in.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FunctionRow {
    /// The function.
    pub frame: FrameRow,
    /// CPU time of samples with it innermost, ns.
    pub self_ns: u64,
    /// CPU time of samples with it anywhere.
    pub total_ns: u64,
}

/// A task of asyncio, by the stacks that it appears in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TaskRow {
    /// The loop's thread, by id.
    pub thread: u32,
    /// Its name; `None` for all those of a coroutine that the program gave none.
    pub name: Option<String>,
    /// The function that it runs, where that is known.
    pub coroutine: Option<String>,
    /// CPU time of samples in it, ns.
    pub running_ns: u64,
    /// Time of stacks of waits in it, ns: it kept the loop waiting.
    pub waiting_ns: u64,
}

/// A change that was tried in replay.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WhatIf {
    /// In the grammar of `timesink whatif`.
    pub change: String,
    /// Object id, if it changes one.
    pub object: Option<u32>,
    /// Time before over time after.
    pub speedup: f64,
    /// Its interval, low end; `None` where it is not known.
    pub low: Option<f64>,
    /// High end.
    pub high: Option<f64>,
    /// What would get faster.
    pub target: Target,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

/// What a change makes faster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Target {
    /// `root-exit`: the run, to its end; `throughput`: what workers get done in a time; `span`.
    pub kind: &'static str,
    /// Of a throughput: the first of the workers.
    pub id: Option<u32>,
    /// In words.
    pub text: String,
}

/// The answer in one sentence.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// A kind of DESIGN: `lock-bound`, `cpu-saturated`, ...
    pub kind: &'static str,
    /// The sentence.
    pub headline: String,
    /// Object id it speaks of.
    pub object: Option<u32>,
    /// How sure.
    pub confidence: Confidence,
}

/// How sure a verdict is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Confidence {
    /// `high`, `medium` or `low`.
    pub level: &'static str,
    /// 0.0..=1.0.
    pub value: f64,
}
