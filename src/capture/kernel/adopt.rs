//! Processes that ran before the recording: put into the tree, and told with all that a start, an
//! exec and the mappings would have told.

use super::KernelSource;
use super::convert;
use crate::capture::CaptureError;
use crate::capture::adopted;
use crate::model::Event;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Rename;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use std::collections::BTreeMap;
use timesink_bpf::layout::FoundEvent;

/// Walks over all tasks, at most. Each adds a generation of those that were forked during the
/// one before by threads not yet met: two or three are usual.
const MOST_WALKS: usize = 64;

impl KernelSource {
    /// Puts `roots` with their threads and descendants into the tree and tells who they are.
    pub(super) fn adopt(
        &mut self,
        roots: &[Pid],
        sink: &mut dyn FnMut(Record),
    ) -> Result<(), CaptureError> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        loaded.adopt_children_of(roots)?;
        let mut found = Vec::new();
        for walk in 0.. {
            let new = loaded.adopt()?;
            let events = new.chunks_exact(size_of::<FoundEvent>());
            found.extend(events.map(bytemuck::pod_read_unaligned::<FoundEvent>));
            if new.is_empty() {
                break;
            }
            if walk == MOST_WALKS {
                self.warnings.push(
                    "Processes were started faster than they could be found: some that already \
                     ran are not in this recording."
                        .to_owned(),
                );
                break;
            }
        }
        if found.is_empty() {
            return Err(adopted::all_gone());
        }
        for thread in &found {
            let tid = Tid(thread.h.tid);
            let moved = convert::moved(thread.h.time, tid.0, &thread.books);
            self.bases.note(tid, convert::books(&thread.books), moved);
            self.living.begin(Pid(thread.h.pid));
        }
        self.tell(in_order(found), sink);
        Ok(())
    }

    fn tell(&mut self, found: Vec<FoundEvent>, sink: &mut dyn FnMut(Record)) {
        for thread in found {
            let (time, tid, pid) = (Nanos(thread.h.time), Tid(thread.h.tid), Pid(thread.h.pid));
            sink(Record::Event(Event::Start(Start {
                time,
                tid,
                pid,
                parent_tid: Tid(thread.parent_tid),
                parent_pid: Pid(thread.parent_pid),
                how: StartKind::Found,
            })));
            if tid == Tid::from(pid) {
                let jobs = &mut self.jobs;
                let mut event = |event| sink(Record::Event(event));
                adopted::tell_program(time, pid, &mut |job| jobs.push(time.0, job), &mut event);
            }
            let name = Text::from_c(&thread.comm);
            sink(Record::Event(Event::Rename(Rename { time, tid, name })));
        }
    }
}

/// Parents before children and leaders before their threads, in time too: a start that comes
/// later only cuts what is known of a thread before it.
fn in_order(found: Vec<FoundEvent>) -> Vec<FoundEvent> {
    let mut processes: BTreeMap<u32, Vec<FoundEvent>> = BTreeMap::new();
    for thread in found {
        processes.entry(thread.h.pid).or_default().push(thread);
    }
    let mut ordered: Vec<FoundEvent> = Vec::new();
    while let Some(&first) = processes.keys().next() {
        // Up to the ancestor that was found; a circle is possible only in nonsense.
        let (mut top, mut steps) = (first, processes.len());
        while let Some(parent) = processes.get(&top).map(|threads| threads[0].parent_pid)
            && parent != top
            && processes.contains_key(&parent)
            && steps > 0
        {
            (top, steps) = (parent, steps - 1);
        }
        let mut threads = processes.remove(&top).unwrap_or_default();
        threads.sort_by_key(|thread| (thread.h.tid != thread.h.pid, thread.h.tid));
        let parent = threads.first().map_or(0, |thread| thread.parent_pid);
        let of_parent = |thread: &&FoundEvent| thread.h.pid == parent;
        let mut earliest =
            ordered.iter().filter(of_parent).map(|thread| thread.h.time).min().unwrap_or(0);
        for (index, mut thread) in threads.into_iter().enumerate() {
            thread.h.time = thread.h.time.max(earliest);
            if index == 0 {
                earliest = thread.h.time;
            }
            ordered.push(thread);
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    fn found(pid: u32, tid: u32, parent_pid: u32, time: u64) -> FoundEvent {
        let mut event = FoundEvent { parent_pid, ..FoundEvent::zeroed() };
        (event.h.pid, event.h.tid, event.h.time) = (pid, tid, time);
        event
    }

    #[test]
    fn parents_and_leaders_come_first_in_place_and_time() {
        // Ids have wrapped: the child's is the lowest, a thread's lower than its leader's.
        let all = vec![found(5, 5, 90, 1), found(90, 7, 1, 2), found(90, 90, 1, 9)];
        let order: Vec<(u32, u64)> =
            in_order(all).iter().map(|thread| (thread.h.tid, thread.h.time)).collect();
        assert_eq!(order, [(90, 9), (7, 9), (5, 9)]);
        let circle = vec![found(5, 5, 6, 1), found(6, 6, 5, 1)];
        assert_eq!(in_order(circle).len(), 2);
    }
}
