//! Thread and process ids that are unique within an export.
//!
//! The kernel reuses ids, and both engines then draw two threads as one. The first owner of
//! an id keeps it; each later one is shown with [`REUSED`] added once more, so that the last
//! seven digits are still the kernel's.

use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::ProcessId;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use std::collections::BTreeSet;

/// Added to an id for each earlier owner; larger than any id of a kernel (`PID_MAX_LIMIT` is 2^22).
pub const REUSED: u32 = 10_000_000;

/// Ids to show, all positive and below 2^31.
pub struct Ids {
    threads: Vec<u32>,
    processes: Vec<u32>,
    /// The last owner of each kernel id, and for each thread the owner before it.
    last: FastMap<u32, ThreadId>,
    before: Vec<Option<ThreadId>>,
    starts: Vec<Nanos>,
}

impl Ids {
    /// Ids for all rows of a finished trace.
    pub fn new(timelines: &Timelines) -> Self {
        let mut taken = BTreeSet::new();
        let mut threads = Vec::with_capacity(timelines.threads().len());
        let mut processes = vec![0; timelines.processes().len()];
        for thread in timelines.threads() {
            let id = unused(thread.tid.0, &mut taken);
            threads.push(id);
            let process = &timelines.processes()[thread.process.0 as usize];
            let slot = &mut processes[thread.process.0 as usize];
            if *slot == 0 && thread.tid == Tid::from(process.pid) && process.pid.0 != 0 {
                *slot = id;
            }
        }
        for (slot, process) in processes.iter_mut().zip(timelines.processes()) {
            if *slot == 0 {
                *slot = unused(process.pid.0, &mut taken);
            }
        }
        let mut last = FastMap::default();
        let before =
            timelines.threads().iter().map(|thread| last.insert(thread.tid.0, thread.id)).collect();
        let starts = timelines.threads().iter().map(|thread| thread.start).collect();
        Self { threads, processes, last, before, starts }
    }

    /// The thread that had this kernel id then. A thread still wakes others for a moment
    /// after its exit event, so its end is not looked at.
    pub fn owner(&self, tid: Tid, time: Nanos) -> Option<ThreadId> {
        let mut owner = *self.last.get(&tid.0)?;
        while self.starts[owner.0 as usize] > time {
            owner = self.before[owner.0 as usize]?;
        }
        Some(owner)
    }

    /// The id to show for a thread.
    pub fn tid(&self, thread: ThreadId) -> u32 {
        self.threads[thread.0 as usize]
    }

    /// The id to show for a process: that of its leader.
    pub fn pid(&self, process: ProcessId) -> u32 {
        self.processes[process.0 as usize]
    }
}

/// The first free id for `id`; 0 (the idle task in every format) and impossible ones move up.
fn unused(id: u32, taken: &mut BTreeSet<u32>) -> u32 {
    let mut shown = if id == 0 { REUSED } else { id % (1 << 30) };
    while !taken.insert(shown) {
        shown = (shown + REUSED) % (1 << 30);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_owners_of_an_id_are_told_apart() {
        let mut taken = BTreeSet::new();
        let shown: Vec<u32> =
            [77, 77, 0, 77, u32::MAX].map(|id| unused(id, &mut taken)).into_iter().collect();
        assert_eq!(shown, [77, 10_000_077, 10_000_000, 20_000_077, (1 << 30) - 1]);
    }
}
