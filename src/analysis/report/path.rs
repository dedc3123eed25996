//! Who was to blame, and what the run waited for.

use super::FrameRow;
use super::Shown;
use super::StateTimes;
use serde::Serialize;

/// A thread that others waited for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Holder {
    /// Thread id here.
    pub thread: u32,
    /// Its name.
    pub name: Shown,
    /// Wait it is to blame for, ns.
    pub blamed_ns: u64,
    /// The same by what it was in meanwhile, most first; sums to `blamed_ns`.
    pub doing: Vec<Doing>,
    /// Where it mostly was, outermost first; empty if never seen.
    pub stack: Vec<FrameRow>,
}

/// Time in a state, for an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Doing {
    /// The state.
    pub state: &'static str,
    /// What was waited for, by object id.
    pub object: Option<u32>,
    /// How long, ns.
    pub ns: u64,
}

/// Waiting that no thread of the recording is to blame for, ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NotBlamed {
    /// A timer or device interrupt ended it.
    pub interrupt_ns: u64,
    /// A packet from outside or the end of a disk request did.
    pub softirq_ns: u64,
    /// A task outside the recording did: another process, or the kernel's own.
    pub outside_ns: u64,
    /// Who ended it was not seen.
    pub unseen_ns: u64,
    /// It had not ended when the recording did.
    pub unfinished_ns: u64,
    /// It was for something that threads do not hand to each other.
    pub not_handed_ns: u64,
}

impl NotBlamed {
    /// All of it, ns.
    pub fn total(&self) -> u64 {
        self.interrupt_ns
            + self.softirq_ns
            + self.outside_ns
            + self.unseen_ns
            + self.unfinished_ns
            + self.not_handed_ns
    }
}

/// A step of the critical path.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PathStep {
    /// Thread id here.
    pub thread: u32,
    /// State.
    pub state: &'static str,
    /// Object id.
    pub object: Option<u32>,
    /// The lock this thread held while another waited for it, by object id.
    pub under: Option<u32>,
    /// Start, ns from the start of the run.
    pub start_ns: u64,
    /// Length.
    pub ns: u64,
    /// Where; empty where no stack was taken, and past the 1,000 longest steps.
    pub stack: Vec<FrameRow>,
}

/// The critical path, summed up.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct PathSummary {
    /// The thread at whose end the run ended; `None` without a path.
    pub thread: Option<u32>,
    /// Its length, ns: that of the run.
    pub ns: u64,
    /// By state; sums to `ns`.
    pub states: StateTimes,
    /// The part that `critical_path` does not list, by state.
    pub folded: StateTimes,
    /// By what was waited for and which lock was held, most first; sums to `ns`.
    pub parts: Vec<PathPart>,
    /// By thread, most first; sums to `ns`.
    pub threads: Vec<OnPath>,
    /// Waits on the path by object id, most first.
    pub objects: Vec<OnPath>,
    /// Time on the path of threads that held a lock another waited for, by object id of the lock.
    pub held: Vec<OnPath>,
    /// CPU samples on the path by function, ns: where it ran.
    pub functions: Vec<FunctionOnPath>,
}

/// What a share of the path was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct PathPart {
    /// The state.
    pub state: &'static str,
    /// What was waited for, by object id.
    pub object: Option<u32>,
    /// The lock that was held and waited for, by object id.
    pub under: Option<u32>,
    /// Time, ns.
    pub ns: u64,
}

/// Which part of a recording the path is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Focus {
    /// Thread id here, for the bounded path of one thread; `None` for the whole program.
    pub thread: Option<u32>,
    /// From here, ns from the start of the run,
    pub start_ns: u64,
    /// to here.
    pub end_ns: u64,
}

/// A share of the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct OnPath {
    /// Thread or object id.
    pub id: u32,
    /// Time, ns.
    pub ns: u64,
}

/// A function that ran on the path.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FunctionOnPath {
    /// The function, innermost of its samples.
    pub frame: FrameRow,
    /// CPU time of samples on the path with it innermost, ns.
    pub self_ns: u64,
    /// With it anywhere.
    pub total_ns: u64,
}
