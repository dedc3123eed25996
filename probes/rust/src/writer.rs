//! One process's side of the shared file: finds it, gives each thread a ring, survives forks.

use std::cell::RefCell;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::layout;
use crate::layout::{Kind, LEAVE, LEAVE_WORDS, Packed, control, header};
use crate::ring::Producer;
use crate::sys;

/// The shared file as this process sees it.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Tells this writer's rings from another's in the thread-local list.
    id: u32,
    path: PathBuf,
    words: &'static [AtomicU64],
    slots: u32,
    fork_mark: &'static AtomicU64,
}

/// What a thread knows about its ring in one file.
struct Thread {
    writer: u32,
    generation: u64,
    producer: Option<Producer>,
    /// Events until the next look for a free slot, while it has none.
    retry: u32,
    /// Spans whose enter is in the ring; room for their leaves is kept free.
    open: Vec<u64>,
    /// Spans whose enter was lost: their leaves are lost with them.
    dropped: Vec<u64>,
}

thread_local! {
    static THREADS: RefCell<Vec<Thread>> = const { RefCell::new(Vec::new()) };
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Writer {
    /// The writer for the recorder that started this program; `None` if there is none, or if its file
    /// cannot be used here.
    #[expect(clippy::disallowed_methods, reason = "the variable is how the recorder reaches us")]
    pub(crate) fn of_recorder() -> Option<Arc<Self>> {
        let path = std::env::var_os(crate::ENVIRONMENT).filter(|path| !path.is_empty())?;
        if sys::is_privileged_start() {
            return None;
        }
        Self::shared(Path::new(&path)).ok()
    }

    /// The writer of this process for the file at `path`. One and the same for all layers:
    /// two rings of one thread would look to the reader as if an exec had left the older one.
    pub(crate) fn shared(path: &Path) -> io::Result<Arc<Self>> {
        static OPEN: Mutex<Vec<(u64, u64, Arc<Writer>)>> = Mutex::new(Vec::new());
        let about = std::fs::metadata(path)?;
        // The mapping keeps the inode alive, so its number is never another file's.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.iter().find(|(dev, ino, _)| (*dev, *ino) == (about.dev(), about.ino()));
        if let Some((.., writer)) = found {
            return Ok(Arc::clone(writer));
        }
        let writer = Arc::new(Self::open(path)?);
        open.push((about.dev(), about.ino(), Arc::clone(&writer)));
        Ok(writer)
    }

    /// Maps the file a recorder made.
    fn open(path: &Path) -> io::Result<Self> {
        static IDS: AtomicU32 = AtomicU32::new(0);
        let fork_mark = sys::fork_mark().ok_or_else(|| {
            refused("this kernel cannot mark forked processes (needs Linux 4.14)")
        })?;
        let file = open_file(path)?;
        let length = file.metadata()?.len();
        if length < layout::file_bytes(0) as u64 {
            return Err(refused("not a timesink probe file: too short"));
        }
        let head = sys::map_shared(&file, layout::HEADER_BYTES)?;
        let word = |i: usize| head[i].load(Acquire);
        if word(header::MAGIC) != layout::MAGIC {
            return Err(refused("not a timesink probe file"));
        }
        if word(header::VERSION) != layout::VERSION {
            return Err(refused("a probe file of another version of timesink"));
        }
        let slots = word(header::SLOTS).min(u64::from(layout::SLOTS_MAX)) as u32;
        let bytes = layout::file_bytes(slots);
        if word(header::RING) != layout::RING_BYTES as u64 || length < bytes as u64 {
            return Err(refused("a damaged timesink probe file"));
        }
        if word(header::CLOSED) != 0 {
            return Err(refused("the recording has ended"));
        }
        if word(header::NAMESPACE) != crate::pid_namespace() {
            return Err(refused("the recorder runs in another PID namespace"));
        }
        let words = sys::map_shared(&file, bytes)?;
        let id = IDS.fetch_add(1, Relaxed);
        Ok(Self { id, path: path.to_owned(), words, slots, fork_mark })
    }

    /// Writes that `span` was entered; `packed` is its enter record.
    pub(crate) fn enter(&self, span: u64, packed: &Packed) {
        self.with_thread(|thread, time| {
            let spare = LEAVE_WORDS * (thread.open.len() as u64 + 1);
            let pushed = thread
                .producer
                .as_mut()
                .map(|ring| ring.push(packed.first, time, &packed.rest, spare));
            match pushed {
                Some(true) => thread.open.push(span),
                _ => thread.dropped.push(span),
            }
            pushed
        });
    }

    /// Writes that `span` was left, if its enter was written by this thread of this process.
    pub(crate) fn leave(&self, span: u64) {
        self.with_thread(|thread, time| {
            if let Some(at) = thread.open.iter().rposition(|&open| open == span) {
                thread.open.remove(at);
                // Room was kept for it when the span was entered.
                return thread.producer.as_mut().map(|ring| ring.push(LEAVE, time, &[span], 0));
            }
            // Entered by the parent before the fork: nothing of this ring's, nothing lost.
            let at = thread.dropped.iter().rposition(|&open| open == span);
            let Some(at) = at else { return Some(true) };
            thread.dropped.remove(at);
            thread.producer.is_some().then_some(false)
        });
    }

    /// Writes an event.
    pub(crate) fn instant(&self, packed: &Packed) {
        self.with_thread(|thread, time| {
            let spare = LEAVE_WORDS * thread.open.len() as u64;
            let ring = thread.producer.as_mut()?;
            Some(ring.push(packed.first, time, &packed.rest, spare))
        });
    }

    /// Writes about a name: whether that was done, or will never be asked for (the recorder is gone, or
    /// knows no names). Not counted if not: [`Named`](crate::Named) tries again.
    pub(crate) fn try_name(&self, packed: &Packed) -> bool {
        if !self.takes_names() {
            return true;
        }
        let written = THREADS.try_with(|threads| {
            let mut threads = threads.try_borrow_mut().ok()?;
            let thread = self.thread_of(&mut threads);
            let spare = LEAVE_WORDS * thread.open.len() as u64;
            let ring = thread.producer.as_mut()?;
            Some(ring.push(packed.first, sys::monotonic_ns(), &packed.rest, spare))
        });
        matches!(written, Ok(Some(true)))
    }

    /// Writes that a name has ended. Nobody is left to try again: counted if lost.
    pub(crate) fn gone(&self, packed: &Packed) {
        if self.takes_names() {
            self.instant(packed);
        }
    }

    fn takes_names(&self) -> bool {
        let is_closed = self.words[header::CLOSED].load(Relaxed) != 0;
        !is_closed && self.words[header::KINDS].load(Relaxed) >= Kind::Gone as u64
    }

    /// Runs `write` with this thread's ring and the time. It says whether its record was
    /// written; `None` if there is no ring. Losses are counted here.
    fn with_thread(&self, write: impl FnOnce(&mut Thread, u64) -> Option<bool>) {
        let written = THREADS.try_with(|threads| {
            // Taken already: a signal handler interrupted this very function.
            let mut threads = threads.try_borrow_mut().ok()?;
            let thread = self.thread_of(&mut threads);
            let written = write(thread, sys::monotonic_ns())?;
            if !written && let Some(ring) = &mut thread.producer {
                ring.count_lost();
            }
            Some(())
        });
        if !matches!(written, Ok(Some(()))) {
            self.words[header::UNCLAIMED].fetch_add(1, Relaxed);
        }
    }

    fn thread_of<'a>(&self, threads: &'a mut Vec<Thread>) -> &'a mut Thread {
        let generation = self.generation();
        let at = threads.iter().position(|thread| thread.writer == self.id).unwrap_or_else(|| {
            threads.push(Thread::new(self.id, generation));
            threads.len() - 1
        });
        let thread = &mut threads[at];
        if thread.generation != generation {
            // A forked child: the ring and the open spans are its parent's.
            thread.producer = None;
            *thread = Thread::new(self.id, generation);
        }
        if thread.producer.as_ref().is_some_and(|ring| !ring.is_mine()) {
            thread.producer = None;
            thread.open.clear();
        }
        if thread.producer.is_none() {
            thread.retry = match thread.retry {
                0 => {
                    thread.producer = self.claim();
                    RETRY
                }
                left => left - 1,
            };
        }
        thread
    }

    /// A number that no two processes with a copy of this memory share.
    fn generation(&self) -> u64 {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let seen = self.fork_mark.load(Relaxed);
        if seen != 0 {
            return seen;
        }
        let fresh = GENERATIONS.fetch_add(1, Relaxed);
        self.fork_mark
            .compare_exchange(0, fresh, Relaxed, Relaxed)
            .map_or_else(|now| now, |_| fresh)
    }

    /// Takes a free slot for the calling thread, with memory behind its ring.
    fn claim(&self) -> Option<Producer> {
        // A child may have been forked into a namespace of its own.
        let namespace = self.words[header::NAMESPACE].load(Relaxed);
        let is_closed = self.words[header::CLOSED].load(Relaxed) != 0;
        if is_closed || self.slots == 0 || namespace != crate::pid_namespace() {
            return None;
        }
        let tid = sys::thread_id();
        let owner = u64::from(std::process::id()) << 32 | u64::from(tid);
        let first = tid % self.slots;
        for slot in (first..self.slots).chain(0..first) {
            let control = self.part(layout::control_offset(slot), layout::CONTROL_BYTES);
            let free = control[control::OWNER].load(Relaxed) == 0;
            if !free || control[control::OWNER].compare_exchange(0, owner, AcqRel, Relaxed).is_err()
            {
                continue;
            }
            control[control::CLAIMED].store(sys::monotonic_ns(), Relaxed);
            let offset = layout::ring_offset(self.slots, slot);
            let data = self.part(offset, layout::RING_BYTES);
            if self.populate(data, offset).is_ok() {
                return Some(Producer::new(control, data, owner));
            }
            control[control::OWNER].store(0, Release);
            return None;
        }
        None
    }

    fn populate(&self, data: &'static [AtomicU64], offset: usize) -> io::Result<()> {
        match sys::populate(data) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                sys::allocate(&open_file(&self.path)?, offset, layout::RING_BYTES)
            }
            result => result,
        }
    }

    fn part(&self, offset: usize, bytes: usize) -> &'static [AtomicU64] {
        &self.words[offset / 8..(offset + bytes) / 8]
    }
}

/// Events of a thread without a slot between two looks for a free one: a look reads a
/// cache line per slot.
const RETRY: u32 = 64;

impl Thread {
    fn new(writer: u32, generation: u64) -> Self {
        let (open, dropped) = (Vec::new(), Vec::new());
        Self { writer, generation, producer: None, retry: 0, open, dropped }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let here = sys::fork_mark().map(|mark| mark.load(Relaxed));
        if let Some(ring) = &self.producer
            && here == Some(self.generation)
        {
            ring.finish();
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::Writer;
    use crate::Reader;
    use crate::What;
    use crate::layout::pack;
    use crate::layout::pack_named;
    use crate::sys;

    #[test]
    fn a_forked_child_takes_a_ring_of_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let mut reader = Reader::create(&path, 4).expect("a ring");
        let writer = Writer::open(&path).expect("a writer");
        let said = |name: &str| writer.instant(&pack(None, name, "test", ""));
        let span = |id| writer.enter(id, &pack(Some(id), "span", "test", ""));
        span(1);
        said("parent before");
        let child_went_well = sys::in_fork(|| {
            // Entered by the parent: not the child's to leave.
            writer.leave(1);
            span(2);
            said("child");
            writer.leave(2);
            // A grandchild of a raw fork, whose mark is wiped a second time.
            sys::in_fork(|| {
                said("grandchild");
                true
            })
        });
        assert!(child_went_well);
        said("parent after");
        writer.leave(1);

        let mut seen = Vec::new();
        let parent = std::process::id();
        reader.drain(|message| {
            let text = match message.what {
                What::Enter { span, .. } => format!("enter {span}"),
                What::Leave { span } => format!("leave {span}"),
                What::Instant { name, .. } => String::from_utf8_lossy(name).into_owned(),
                What::Named { .. } | What::Gone { .. } => panic!("nothing was named"),
            };
            seen.push((message.pid, message.tid, text));
        });
        let of = |mine: &dyn Fn(u32) -> bool| -> Vec<&str> {
            let texts = seen.iter().filter(|(pid, ..)| mine(*pid));
            texts.map(|(.., text)| text.as_str()).collect()
        };
        assert_eq!(
            of(&|pid| pid == parent),
            ["enter 1", "parent before", "parent after", "leave 1"]
        );
        let first = seen.iter().find(|(.., text)| text == "child").expect("the child spoke");
        assert_eq!(of(&|pid| pid == first.0), ["enter 2", "child", "leave 2"]);
        assert_eq!(seen.iter().filter(|(.., text)| text == "grandchild").count(), 1);
        for (pid, tid, text) in &seen {
            assert!(*pid == parent || pid == tid, "a child has one thread: {text}");
        }
        assert_eq!((reader.lost(), reader.damaged()), (0, 0));
    }

    #[test]
    fn every_span_that_is_entered_has_room_to_be_left() {
        const DEEP: u64 = 20_000;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let mut reader = Reader::create(&path, 1).expect("a ring");
        let writer = Writer::open(&path).expect("a writer");
        (1..=DEEP).for_each(|id| writer.enter(id, &pack(Some(id), "deep", "test", "")));
        (1..=DEEP).rev().for_each(|id| writer.leave(id));
        let (mut open, mut read) = (Vec::new(), 0);
        reader.drain(|message| {
            read += 1;
            match message.what {
                What::Enter { span, .. } => open.push(span),
                What::Leave { span } => assert_eq!(open.pop(), Some(span)),
                What::Instant { .. } | What::Named { .. } | What::Gone { .. } => {
                    panic!("there was none")
                }
            }
        });
        assert!(open.is_empty(), "{} never left", open.len());
        assert!(read > 0 && reader.lost() > 0 && reader.damaged() == 0);
        assert_eq!(read + reader.lost(), 2 * DEEP);
    }

    #[test]
    fn a_name_without_room_is_tried_again_and_not_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let mut reader = Reader::create(&path, 1).expect("a ring");
        let writer = Writer::open(&path).expect("a writer");
        let named = pack_named(1, 0x1000, 8, "accounts");
        let written = (0..1_000_000).take_while(|_| writer.try_name(&named)).count();
        assert!((1000..1_000_000).contains(&written) && !writer.try_name(&named));
        let mut read = 0;
        reader.drain(|_| read += 1);
        assert_eq!((read, reader.lost()), (written, 0));
        assert!(writer.try_name(&named));
        drop(reader);
        // Nobody listens any more: nothing to try again.
        assert!((0..100_000).all(|_| writer.try_name(&named)));
    }

    #[test]
    fn a_ring_that_an_exec_left_behind_is_freed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let mut reader = Reader::create(&path, 2).expect("a ring");
        let mut seen = 0;
        // A program that execs keeps its ids, forgets its ring and opens the file anew: to the
        // reader, what these writers of one thread do. The slots suffice for two of them.
        let programs: Vec<_> = (0..5)
            .map(|_| {
                let program = Writer::open(&path).expect("a writer");
                program.instant(&pack(None, "here", "test", ""));
                // Longer than between two looks of the reader.
                std::thread::sleep(std::time::Duration::from_millis(60));
                reader.drain(|_| seen += 1);
                program
            })
            .collect();
        assert_eq!((seen, reader.lost(), reader.damaged()), (programs.len(), 0, 0));
        // The newest keeps its ring.
        programs[4].instant(&pack(None, "still here", "test", ""));
        reader.drain(|_| seen += 1);
        assert_eq!((seen, reader.lost()), (6, 0));
    }
}
