//! The impure edge: recorders behind one trait. Knows the kernel; knows nothing of
//! the trace file, of analysis or of output.

mod adopted;
pub mod cgroup;
pub mod doctor;
pub mod kernel;
pub mod naming;
pub mod observer;
pub mod perf;
pub mod probe_ring;
pub mod proc;
mod procfs;
pub mod python;
pub mod running;
pub mod stolen;
pub mod sys;

use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::StackCounts;
use crate::model::Tier;

/// A source of events. Knows the kernel, knows nothing of analysis or output.
pub trait Source {
    /// Which tier it is.
    fn tier(&self) -> Tier;
    /// What it cannot see here and why, in sentences (for [`Info::limits`](crate::model::Info)).
    fn limits(&self) -> Vec<String>;
    /// Begins to record the tree of `target`, which waits to exec until this returns.
    fn start(&mut self, target: &Target) -> Result<(), CaptureError>;
    /// Begins to record processes that already run, with all their threads and descendants, and
    /// tells `sink` who they are.
    fn attach(&mut self, roots: &[Pid], sink: &mut dyn FnMut(Record)) -> Result<(), CaptureError>;
    /// Whether nothing of what is recorded lives any more, as far as the source knows.
    fn is_over(&mut self) -> bool {
        false
    }
    /// Delivers what has arrived. Losses are events too, never silence.
    fn drain(&mut self, sink: &mut dyn FnMut(Record)) -> Result<Progress, CaptureError>;
    /// When the next [`Source::drain`] should be at the latest; `None`: as the caller likes.
    fn due(&self) -> Option<Nanos> {
        None
    }
    /// Ends the recording: closes what is open, delivers the rest.
    fn stop(&mut self, sink: &mut dyn FnMut(Record)) -> Result<CaptureStats, CaptureError>;
}

/// What to record.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The process that will exec the command. It is single-threaded and waits.
    pub pid: Pid,
}

/// What every recorder is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// CPU samples per second and CPU; 0 for none.
    pub sample_hz: u32,
    /// Whether to take stacks of waits.
    pub wait_stacks: bool,
}

/// What one [`Source::drain`] did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Records delivered.
    pub records: u64,
    /// How full the fullest kernel buffer was, 0.0..=1.0: drain sooner when it rises.
    pub fill: f64,
}

/// What a recorder knows when it is done.
#[derive(Clone, Debug, Default)]
pub struct CaptureStats {
    /// What became of the stacks.
    pub stacks: StackCounts,
    /// Estimate of the time added to the target, ns, and how it was made.
    pub target_overhead: Option<(Nanos, String)>,
    /// Anything a reader of the report must know, in sentences.
    pub warnings: Vec<String>,
}

/// Why a recorder cannot start or go on. Each message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The tier needs what this process may not do here.
    #[error("the {tier} tier cannot record here: {reason}; {remedy}")]
    NotAllowed {
        /// The tier's name.
        tier: &'static str,
        /// What was refused.
        reason: String,
        /// What to type.
        remedy: String,
    },
    /// The kernel lacks something.
    #[error("the {tier} tier cannot record here: {reason}; try --tier {instead}")]
    NotSupported {
        /// The tier's name.
        tier: &'static str,
        /// What is missing.
        reason: String,
        /// The next lower tier.
        instead: &'static str,
    },
    /// Something failed that should not.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
}
