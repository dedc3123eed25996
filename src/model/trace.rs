//! What a trace is to everyone who reads one.

use super::{Damage, Event, Nanos, Pid, Symbols, Text};

/// A recording: what was recorded, and its events in time order, as often as asked.
///
/// A handle, not a container: a trace may be larger than memory.
pub trait Trace {
    /// What was recorded, when, where and how.
    fn info(&self) -> &Info;
    /// What the recorder said when it finished; `None` if it never did.
    fn summary(&self) -> Option<&Summary>;
    /// Until when the recorder is known to have kept all it saw: its end, or the last time it
    /// said so before it was killed. `None` if it never did.
    fn recorded_until(&self) -> Option<Nanos> {
        self.summary().map(|summary| summary.clocks.monotonic)
    }
    /// Stacks, frames and modules.
    fn symbols(&self) -> &Symbols;
    /// What could not be read.
    fn damage(&self) -> &[Damage];
    /// Calls `visit` with every event in order of [`Event::time`].
    fn for_each(&self, visit: &mut dyn FnMut(&Event));
    /// The same without [`Event::Interval`] and [`Event::Gap`], which are nearly all of a
    /// trace: a file can skip them unread.
    fn for_each_but_intervals(&self, visit: &mut dyn FnMut(&Event)) {
        self.for_each(&mut |event| {
            if !matches!(event, Event::Interval(_) | Event::Gap(_)) {
                visit(event);
            }
        });
    }
}

/// What was recorded, when, where and how. Written first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// Version of timesink that recorded.
    pub version: String,
    /// The command and its arguments.
    pub command: Vec<Text>,
    /// How it was recorded.
    pub tier: Tier,
    /// CPU samples per second and CPU that were asked for.
    pub sample_hz: u32,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// CPUs online.
    pub cpus_online: u32,
    /// CPUs the command may use (affinity).
    pub cpus_allowed: u32,
    /// CPU quota of its cgroup in thousandths of a CPU, if any.
    pub cpu_quota_millis: Option<u64>,
    /// The clocks when the recording began.
    pub clocks: Clocks,
    /// What this tier cannot see here and why, in sentences.
    pub limits: Vec<String>,
}

/// The three clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC`, the clock of all events.
    pub monotonic: Nanos,
    /// `CLOCK_REALTIME`, ns since 1970.
    pub realtime: Nanos,
    /// `CLOCK_BOOTTIME`.
    pub boottime: Nanos,
}

/// How much the recorder could see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Tier {
    /// BPF in the kernel: everything.
    Kernel = 0,
    /// Perf events: exact switches, reasons by looking from outside.
    Perf = 1,
    /// `/proc` only: states by sampling.
    Proc = 2,
    /// Made by a program, not recorded: tests and examples.
    Synthetic = 3,
}

impl Tier {
    /// The name in reports and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Perf => "perf",
            Self::Proc => "proc",
            Self::Synthetic => "synthetic",
        }
    }
}

/// What the recorder said when it finished. Written last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The clocks when the recording ended.
    pub clocks: Clocks,
    /// The command's process, and its status word as `wait` gives it, if it ended.
    pub root: Option<(Pid, Option<u32>)>,
    /// CPU time the recorder used while recording, ns.
    pub collector_cpu: Nanos,
    /// Its largest resident set while the command ran, bytes.
    pub collector_memory: u64,
    /// Estimate of the time the recording added to the command, ns, and how it was made.
    pub target_overhead: Option<(Nanos, String)>,
    /// Stacks that were asked for, and what became of them.
    pub stacks: StackCounts,
    /// Anything a reader of the report must know, in sentences.
    pub warnings: Vec<String>,
    /// How the cgroup's CPU quota held the command up; `None` without a quota.
    pub throttled: Option<Throttled>,
    /// What a hypervisor took from the CPUs; `None` where the kernel does not say.
    pub stolen: Option<Stolen>,
}

/// CPU time that a hypervisor gave to others while the CPUs of this machine had work to do. The
/// kernel's clock of a thread's CPU time leaves it out; to a program it is time that it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stolen {
    /// Taken, ns, summed over the CPUs.
    pub stolen: Nanos,
    /// Time in which the CPUs had work, what was taken included, ns.
    pub busy: Nanos,
}

impl Stolen {
    /// The share that was taken of the time with work.
    pub fn share(self) -> f64 {
        self.stolen.share_of(self.busy)
    }

    /// Whether it is more than the 10 ms in which it is counted, and than 1 % of the time with work.
    pub fn is_noticeable(self) -> bool {
        self.stolen >= Nanos::from_millis(30) && self.share() >= 0.01
    }
}

/// How often and how long a cgroup stood still because its CPU quota was used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Throttled {
    /// Periods in which that happened.
    pub periods: u64,
    /// Time, ns, summed over CPUs.
    pub time: Nanos,
}

/// What became of the stacks that were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StackCounts {
    /// Taken.
    pub taken: u64,
    /// Reached the outermost function.
    pub complete: u64,
    /// Ended early, and are marked so.
    pub truncated: u64,
    /// Could not be read at all.
    pub failed: u64,
}

/// A trace held in memory: for tests, examples and small tools.
#[derive(Clone, PartialEq, Debug)]
pub struct MemoryTrace {
    /// See [`Trace::info`].
    pub info: Info,
    /// See [`Trace::summary`].
    pub summary: Option<Summary>,
    /// See [`Trace::symbols`].
    pub symbols: Symbols,
    /// The events; [`MemoryTrace::new`] puts them in order.
    pub events: Vec<Event>,
}

impl MemoryTrace {
    /// A complete synthetic trace of `events`, put into time order.
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by_key(Event::time);
        let end = events.last().map_or(Nanos::ZERO, Event::time);
        let summary = Summary {
            clocks: Clocks { monotonic: end, realtime: end, boottime: end },
            ..Summary::default()
        };
        Self {
            info: Info::synthetic(),
            summary: Some(summary),
            symbols: Symbols::default(),
            events,
        }
    }
}

impl Info {
    /// For traces that a program makes up: two CPUs, no command.
    pub fn synthetic() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: vec![Text::from("synthetic")],
            tier: Tier::Synthetic,
            sample_hz: 997,
            kernel: "none".to_owned(),
            arch: "x86_64".to_owned(),
            cpus_online: 2,
            cpus_allowed: 2,
            cpu_quota_millis: None,
            clocks: Clocks::default(),
            limits: Vec::new(),
        }
    }
}

impl Trace for MemoryTrace {
    fn info(&self) -> &Info {
        &self.info
    }
    fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
    fn symbols(&self) -> &Symbols {
        &self.symbols
    }
    fn damage(&self) -> &[Damage] {
        &[]
    }
    fn for_each(&self, visit: &mut dyn FnMut(&Event)) {
        self.events.iter().for_each(visit);
    }
}
