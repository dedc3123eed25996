//! A thread that unwinds and names stacks, so that draining kernel buffers never waits for it.

use super::CaptureError;
use crate::model::Event;
use crate::model::Pid;
use crate::model::Record;
use crate::model::StackCounts;
use crate::symbols::Image;
use crate::symbols::Mapping;
use crate::symbols::RawStack;

/// Work for the naming thread, in the order it happened.
#[derive(Debug)]
pub enum Job {
    /// See [`Namer::exec`](crate::symbols::Namer::exec).
    Exec(Image),
    /// See [`Namer::fork`](crate::symbols::Namer::fork).
    Fork {
        /// The parent process.
        parent: Pid,
        /// The new process.
        child: Pid,
    },
    /// See [`Namer::map`](crate::symbols::Namer::map).
    Map(Mapping),
    /// See [`Namer::exit`](crate::symbols::Namer::exit).
    Exit(Pid),
    /// Unwind `raw`, put its id into the `stack` field of `event` (a `Sample`, `WaitStack`
    /// or `Observation`) and deliver that.
    Stack {
        /// The stack.
        raw: RawStack,
        /// The event it belongs to.
        event: Event,
    },
}

/// Handle to the thread. Its queue is bounded in bytes: when full, stacks are given up (the
/// event is delivered without one and counted as failed); other jobs always go through.
pub struct Naming {}

impl Naming {
    /// Starts the thread.
    pub fn start() -> Result<Self, CaptureError> {
        Ok(Self {})
    }
    /// Hands over a job. Never blocks.
    pub fn send(&mut self, _job: Job) {}
    /// Delivers what is finished.
    pub fn drain(&mut self, _sink: &mut dyn FnMut(Record)) {}
    /// Finishes all jobs, names all frames, delivers the rest and ends the thread.
    pub fn finish(self, _sink: &mut dyn FnMut(Record)) -> StackCounts {
        StackCounts::default()
    }
}
