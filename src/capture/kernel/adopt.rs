//! Processes that ran before the recording: put into the tree, and told with all that a start, an
//! exec and the mappings would have told.

use super::KernelSource;
use super::convert;
use super::os;
use crate::capture::CaptureError;
use crate::capture::naming::Job;
use crate::capture::procfs;
use crate::model::Books;
use crate::model::Event;
use crate::model::Exec;
use crate::model::FastMap;
use crate::model::Moved;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Rename;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use std::collections::BTreeMap;
use std::io;
use timesink_bpf::layout::FoundEvent;

/// Walks over all tasks, at most. Each adds a generation of those that were forked during the
/// one before by threads not yet met: two or three are usual.
const MOST_WALKS: usize = 64;

/// The kernel's counts of found threads, as of when they were found: what came before is not ours.
#[derive(Debug, Default)]
pub struct Bases(FastMap<Tid, (Books, Option<Moved>)>);

impl Bases {
    /// Takes off what a found thread had when it was found. `ended`: it will not be asked again.
    pub fn since_found(&mut self, tid: Tid, mut books: Books, ended: bool) -> Books {
        let base = if ended { self.0.remove(&tid) } else { self.0.get(&tid).copied() };
        let Some((base, _)) = base else { return books };
        let less = |now: &mut Option<u64>, then: Option<u64>| {
            *now = now.map(|now| now.saturating_sub(then.unwrap_or(0)));
        };
        less(&mut books.voluntary, base.voluntary);
        less(&mut books.involuntary, base.involuntary);
        less(&mut books.runs, base.runs);
        less(&mut books.runs_seen, base.runs_seen);
        books.cpu = books.cpu.map(|cpu| cpu - base.cpu.unwrap_or_default());
        books.queued = books.queued.map(|queued| queued - base.queued.unwrap_or_default());
        books
    }

    /// The same of what it read and wrote; to be asked first.
    pub fn moved_since_found(&self, mut moved: Moved) -> Moved {
        if let Some((_, Some(base))) = self.0.get(&moved.tid) {
            moved.read_bytes = moved.read_bytes.saturating_sub(base.read_bytes);
            moved.written_bytes = moved.written_bytes.saturating_sub(base.written_bytes);
        }
        moved
    }
}

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
            let gone = io::Error::other("all of them have ended; `ps -e` lists what runs");
            return Err(os("attaching to the processes", gone));
        }
        for thread in &found {
            let tid = Tid(thread.h.tid);
            let moved = convert::moved(thread.h.time, tid.0, &thread.books);
            self.bases.0.insert(tid, (convert::books(&thread.books), moved));
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
                self.tell_program(time, pid, sink);
            }
            let name = Text::from_c(&thread.comm);
            sink(Record::Event(Event::Rename(Rename { time, tid, name })));
        }
    }

    /// What a process runs and where its code lies, as of now: an exec since then has an event of
    /// its own, which comes later.
    fn tell_program(&mut self, time: Nanos, pid: Pid, sink: &mut dyn FnMut(Record)) {
        if let Some(path) = procfs::exe(pid) {
            let (old_tid, argv) = (pid.into(), procfs::argv(pid));
            sink(Record::Event(Event::Exec(Exec { time, pid, old_tid, path, argv })));
        }
        let maps = procfs::read_process(pid, "maps").unwrap_or_default();
        for mapping in procfs::parse_maps(pid, &maps) {
            self.jobs.push(time.0, Job::Map(mapping));
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

    #[test]
    fn books_count_from_when_a_thread_was_found() {
        let then = Books { runs: Some(5), cpu: Some(Nanos(100)), ..Books::default() };
        let now = Books { runs: Some(7), cpu: Some(Nanos(130)), ..Books::default() };
        let mut bases = Bases::default();
        let moved =
            |read_bytes| Moved { time: Nanos(9), tid: Tid(1), read_bytes, written_bytes: 5 };
        bases.0.insert(Tid(1), (then, Some(moved(70))));
        let since = bases.moved_since_found(moved(100));
        assert_eq!((since.read_bytes, since.written_bytes), (30, 0));
        let since = bases.since_found(Tid(1), now, true);
        assert_eq!((since.runs, since.cpu), (Some(2), Some(Nanos(30))));
        assert_eq!(bases.since_found(Tid(1), now, true), now, "another thread of that id");
    }
}
