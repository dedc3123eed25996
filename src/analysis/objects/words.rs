//! Futex words: what they are called, which of them are one, and what they are the word of.

use super::Key;
use super::Objects;
use super::What;
use crate::analysis::report::FrameRow;
use crate::analysis::retries::Retried;
use crate::model::FastMap;
use crate::model::ProcessId;
use crate::model::State;
use crate::model::Text;
use crate::model::Timelines;
use crate::model::WordInfo;
use std::collections::BTreeSet;

/// A place in memory that processes share: device, inode, offset.
pub type Place = (u32, u64, u64);

/// Words beyond this many go without a name: more than a recorder looks up.
const MOST: usize = 100_000;

/// What is known of words.
#[derive(Default)]
pub struct Words {
    known: FastMap<(ProcessId, u64), Known>,
    paths: FastMap<Place, Text>,
    /// GILs of processes: a word of one is known by its address, whichever of them was asked for.
    gils: BTreeSet<(ProcessId, u64)>,
}

#[derive(Default)]
struct Known {
    symbol: Text,
    place: Option<Place>,
}

impl Objects {
    /// Remembers what a futex word is.
    pub fn describe_word(&mut self, timelines: &Timelines, info: &WordInfo) {
        if let Some(process) = timelines.live_process(info.pid) {
            self.words.describe(process, info);
        }
    }

    /// Some waits on a lock were parts of those before them.
    pub fn retried(&mut self, process: ProcessId, address: u64, retried: Retried) {
        let key = Key { state: State::Lock, what: What::Word(process, address) };
        if let Some(&index) = self.index.get(&key) {
            let tally = &mut self.tallies[index].1;
            tally.waits = tally.waits.saturating_sub(retried.waits).max(1);
            tally.longest = tally.longest.max(retried.longest);
        }
    }
}

impl Words {
    /// Remembers what a word of a process is.
    pub fn describe(&mut self, process: ProcessId, info: &WordInfo) {
        if self.known.len() >= MOST {
            return;
        }
        let known = self.known.entry((process, info.address)).or_default();
        if !info.symbol.is_empty() {
            known.symbol = info.symbol.clone();
        }
        self.gils.extend(info.gil.map(|gil| (process, gil)));
        if let Some(backing) = &info.backing {
            let place = (backing.device, backing.inode, backing.offset);
            known.place = Some(place);
            // A process may know it by no name, or by one that is gone.
            let path = self.paths.entry(place).or_default();
            if path.is_empty() {
                *path = backing.path.clone();
            }
        }
    }

    /// The variable that a word lies in.
    pub fn symbol(&self, process: ProcessId, address: u64) -> Option<String> {
        let known = self.known.get(&(process, address))?;
        (!known.symbol.is_empty()).then(|| known.symbol.to_string())
    }

    /// The address of the GIL that a word of one is a part of.
    pub fn gil(&self, process: ProcessId, address: u64) -> Option<u64> {
        /// Bytes of a GIL at most (`struct _gil_runtime_state`, free-threaded).
        const LARGEST: u64 = 216;
        let &(owner, gil) = self.gils.range(..=(process, address)).next_back()?;
        (owner == process && address - gil < LARGEST).then_some(gil)
    }

    /// The shared memory that a word lies in.
    pub fn place(&self, process: ProcessId, address: u64) -> Option<Place> {
        self.known.get(&(process, address))?.place
    }

    /// What a place is called: `/dev/shm/sem.queue+0x0`, or that it is shared.
    pub fn label(&self, place: Place) -> String {
        match self.paths.get(&place).filter(|path| !path.is_empty()) {
            Some(path) => format!("{path}+{:#x}", place.2),
            None if place.2 == 0 => "in shared memory".to_owned(),
            None => format!("in shared memory+{:#x}", place.2),
        }
    }
}

/// What a word is part of, as far as the functions on its stacks tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// `sem_wait`.
    Semaphore,
    /// `pthread_barrier_wait`, Rust's `Barrier`.
    Barrier,
    /// A lock that has readers and writers.
    ReadWrite,
    /// What the state of its waiters says.
    Plain,
}

/// Parts of function names and of source paths.
const SORTS: &[(Sort, State, &[&str])] = &[
    (Sort::Semaphore, State::Condvar, &["sem_wait", "sem_timedwait", "sem_clockwait"]),
    (
        Sort::Barrier,
        State::Join,
        &["pthread_barrier_wait", "Barrier::wait", "sync/barrier.rs", "poison/barrier.rs"],
    ),
    (
        Sort::ReadWrite,
        State::Lock,
        &["pthread_rwlock_", "read_contended", "write_contended", "sync/rwlock/futex.rs"],
    ),
];

impl Sort {
    /// By the stack of a wait in `state`.
    pub fn of(state: State, frames: &[FrameRow]) -> Self {
        let file = |frame: &FrameRow| frame.file.clone().unwrap_or_default();
        let has = |part: &&str| {
            // `sem_wait_test+0x1130` is a place in a stripped file, whatever that is called.
            let named = |frame: &FrameRow| frame.name.contains(part) && !frame.name.contains("+0x");
            frames.iter().any(|frame| named(frame) || file(frame).ends_with(part))
        };
        let found = SORTS.iter().find(|(_, of, parts)| *of == state && parts.iter().any(has));
        found.map_or(Self::Plain, |found| found.0)
    }

    /// The kind of object, where it is none by the state of its waiters.
    pub fn kind(self) -> Option<&'static str> {
        match self {
            Self::Semaphore => Some("semaphore"),
            Self::Barrier => Some("barrier"),
            Self::ReadWrite => Some("lock"),
            Self::Plain => None,
        }
    }

    /// What its label begins with.
    pub fn noun(self, state: State, kind: &'static str) -> &'static str {
        match self {
            Self::ReadWrite => "rwlock",
            Self::Plain if state == State::Join => "join of a thread or barrier",
            Self::Semaphore | Self::Barrier | Self::Plain => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_gil_is_known_once_one_is() {
        let mut words = Words::default();
        let asked = WordInfo::new(crate::model::Nanos(1), crate::model::Pid(7), 0x5020);
        words.describe(ProcessId(2), &WordInfo { gil: Some(0x5000), ..asked });
        let of = |process, address| words.gil(ProcessId(process), address);
        assert_eq!([of(2, 0x5020), of(2, 0x5024), of(2, 0x50d0)], [Some(0x5000); 3]);
        // Before it, behind it, and in processes before and after.
        assert_eq!([of(2, 0x4ff8), of(2, 0x50d8), of(1, 0x5020), of(3, 0x5020)], [None; 4]);
    }

    #[test]
    fn functions_on_the_stack_tell_what_a_word_is_part_of() {
        let frame = |name: &str, file: Option<&str>| FrameRow {
            name: name.to_owned(),
            module: None,
            file: file.map(str::to_owned),
            line: None,
        };
        for (state, name, file, sort) in [
            (State::Condvar, "__new_sem_wait_slow64.constprop.0", None, Sort::Semaphore),
            (State::Condvar, "sem_timedwait@GLIBC_2.2.5", None, Sort::Semaphore),
            (State::Condvar, "sem_wait_test+0x1130", None, Sort::Plain),
            (State::Join, "pthread_barrier_wait", None, Sort::Barrier),
            (State::Join, "wait", Some("/rustc/1/library/std/src/sync/barrier.rs"), Sort::Barrier),
            (State::Join, "pthread_join", None, Sort::Plain),
            (State::Lock, "__pthread_rwlock_wrlock_full64", None, Sort::ReadWrite),
            (
                State::Lock,
                "std::sys::sync::rwlock::futex::RwLock::read_contended",
                None,
                Sort::ReadWrite,
            ),
            // A mutex in a function of a barrier is a mutex.
            (State::Lock, "std::sync::barrier::Barrier::wait", None, Sort::Plain),
            (State::Gil, "sem_wait", None, Sort::Plain),
        ] {
            assert_eq!(Sort::of(state, &[frame("main", None), frame(name, file)]), sort, "{name}");
        }
    }
}
