//! What was waited for: every wait folded into its object.

mod kind;
pub mod names;
mod naming;
mod same;
mod tally;
mod words;

use crate::analysis::ends::Ends;
use crate::analysis::ends::Joined;
use crate::analysis::ends::keep;
use crate::analysis::report::Object;
use crate::model::Call;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Interval;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::Piped;
use crate::model::Process;
use crate::model::ProcessId;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::ThreadId;
use crate::model::Timelines;
use names::Names;
use naming::Namer;
use std::collections::BTreeMap;
use tally::Tally;
use words::Words;

/// What identifies the thing that a wait was for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The state its waiters were in.
    pub state: State,
    /// What in particular.
    pub what: What,
}

/// See [`Key`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum What {
    /// A futex word of a process.
    Word(ProcessId, u64),
    /// A futex word in memory that processes share: device, inode, offset.
    Shared(u32, u64, u64),
    /// The end of a thread of a process, by its tid, and the futex word that tells it.
    Thread(ProcessId, u32, u64),
    /// An inode behind a descriptor, with its device.
    Inode(FdKind, u32, u64),
    /// A descriptor whose inode is not known.
    Descriptor(ProcessId, u64, FdKind),
    /// A child, by the pid that was waited for (0: any).
    Child(ProcessId, u32),
    /// A system call without an object of its own.
    Call(ProcessId, u16),
    /// Something outside any call: memory, a CPU, or not seen.
    Process(ProcessId),
    /// The run queue.
    Cpus,
    /// Objects past the bound of memory, summed by state.
    Rest,
}

/// Objects beyond this many are summed up by state: a trace with a million sockets must not
/// need memory for each. Far above what a report can show.
const MOST_OBJECTS: usize = 100_000;

impl Key {
    /// The object of a wait.
    pub fn of(state: State, process: ProcessId, call: Option<Call>) -> Self {
        let what = match (state, call) {
            (State::Runnable, _) => What::Cpus,
            (State::PageFault | State::Unknown | State::Stopped, _) | (_, None) => {
                What::Process(process)
            }
            (State::Child, Some(call)) => What::Child(process, child_pid(&call)),
            (State::Join, Some(call)) if is_end_of_thread(&call) => {
                What::Thread(process, call.arg2, call.arg0)
            }
            // Its first argument is a list of words.
            (_, Some(call)) if call.number == FUTEX_WAITV => What::Call(process, call.number),
            (State::Lock | State::Gil | State::Condvar | State::Join, Some(call))
                if call.fd == FdKind::None =>
            {
                What::Word(process, call.object())
            }
            (_, Some(call)) if call.fd == FdKind::None => What::Call(process, call.number),
            (_, Some(call)) if call.inode != 0 => What::Inode(call.fd, call.device, call.inode),
            (_, Some(call)) => What::Descriptor(process, call.arg0 & 0xffff_ffff, call.fd),
        };
        Self { state, what }
    }

    /// Whether it is a futex word.
    fn is_word(self) -> bool {
        matches!(self.what, What::Word(..) | What::Shared(..))
    }
}

/// System calls on `x86_64`.
const FUTEX_WAITV: u16 = 449;

/// Whether a call waits for the kernel to clear a thread's id, which is how the C library joins:
/// not private to the process, as its other words are, while the word is that id.
fn is_end_of_thread(call: &Call) -> bool {
    const FUTEX: u16 = 202;
    const FUTEX_WAIT: u64 = 0;
    const FUTEX_WAIT_BITSET: u64 = 9;
    const FUTEX_CLOCK_REALTIME: u64 = 256;
    call.number == FUTEX
        && matches!(call.arg1 & !FUTEX_CLOCK_REALTIME, FUTEX_WAIT | FUTEX_WAIT_BITSET)
        && call.arg2 != 0
}

fn is_anonymous(fd: FdKind) -> bool {
    matches!(
        fd,
        FdKind::Eventfd
            | FdKind::Epoll
            | FdKind::Timerfd
            | FdKind::Signalfd
            | FdKind::Inotify
            | FdKind::Pidfd
            | FdKind::Anon
    )
}

/// System calls on `x86_64`, and waitid's way to name one child.
const WAIT4: u16 = 61;
const WAITID: u16 = 247;
const P_PID: u64 = 1;

/// The pid that wait4 or waitid was asked for; 0 for any child and for vfork.
fn child_pid(call: &Call) -> u32 {
    match call.number {
        WAIT4 if (call.arg0 as i32) > 0 => call.arg0 as u32,
        WAITID if call.arg0 == P_PID => call.arg1 as u32,
        _ => 0,
    }
}

/// What becomes of all objects.
pub struct Rows {
    /// The rows of the report.
    pub objects: Vec<Object>,
    /// For each object the id of its row; `u32::MAX` if it has none.
    pub ids: Vec<u32>,
    /// For each object the number of the one that stands for it: what looks like several may
    /// be one.
    pub same: Vec<u32>,
}

/// All objects of a trace.
#[derive(Default)]
pub struct Objects {
    index: FastMap<Key, usize>,
    tallies: Vec<(Key, Tally)>,
    /// The number of the run queue, which every second wait is for.
    cpus: Option<usize>,
    labels: FastMap<(u32, u64), ObjectInfo>,
    descriptors: FastMap<(Pid, u32), ObjectInfo>,
    words: Words,
    /// What the program itself calls its words.
    pub names: Names,
    /// Buffers that went through each pipe.
    piped: FastMap<(u32, u64), u64>,
    /// Who is at which end of what.
    pub ends: Ends,
}

impl Objects {
    /// Counts a wait, and its stack if it was looked at. Gives the object's number here.
    pub fn add(&mut self, key: Key, thread: ThreadId, time: Nanos, site: Option<StackId>) -> u32 {
        let index = self.number(key);
        let tally = &mut self.tallies[index].1;
        tally.add(thread, time);
        if let Some(stack) = site {
            tally.add_site(stack, time);
        }
        index as u32
    }

    /// Counts the stack of a wait.
    pub fn add_stack(&mut self, key: Key, stack: StackId, weight: Nanos) {
        let index = self.number(key);
        self.tallies[index].1.add_site(stack, weight);
    }

    /// Remembers what an inode or descriptor is called.
    pub fn describe(&mut self, info: &ObjectInfo) {
        if info.inode != 0 {
            keep(&mut self.labels, (info.device, info.inode), info);
        }
        keep(&mut self.descriptors, (info.pid, info.descriptor), info);
    }

    /// Takes note of how much went through a pipe: it only grows.
    pub fn piped(&mut self, piped: &Piped) {
        if self.piped.len() < MOST_OBJECTS {
            let buffers = self.piped.entry((piped.device, piped.inode)).or_default();
            *buffers = piped.buffers.max(*buffers);
        }
    }

    /// Takes note of who ended a wait.
    pub fn woken(&mut self, timelines: &Timelines, interval: &Interval) {
        self.ends.woken(timelines, interval, &self.descriptors);
    }

    fn number(&mut self, key: Key) -> usize {
        if key.what == What::Cpus {
            let cpus = self.cpus.unwrap_or_else(|| self.find(key));
            self.cpus = Some(cpus);
            return cpus;
        }
        self.find(key)
    }

    fn find(&mut self, key: Key) -> usize {
        let key = if self.tallies.len() >= MOST_OBJECTS && !self.index.contains_key(&key) {
            Key { state: key.state, what: What::Rest }
        } else {
            key
        };
        let next = self.tallies.len();
        let index = *self.index.entry(key).or_insert(next);
        if index == next {
            self.tallies.push((key, Tally::default()));
        }
        index
    }

    /// The rows of the report, longest total wait first.
    pub fn rows(self, timelines: &Timelines, symbols: &Symbols) -> Rows {
        let Self { mut tallies, labels, descriptors, words, names, piped, ends, .. } = self;
        let ends = ends.join(&labels, timelines);
        let one_key = |key| one_word(one_inode(key, &labels, &ends), &words);
        let children = children(timelines);
        let called = |key| called(key, timelines, &children);
        let counted: Vec<Key> = tallies.iter().map(|(key, _)| *key).collect();
        let same = same::unify(&mut tallies, symbols, &one_key, &called);
        let keys: Vec<Key> = tallies.iter().map(|(key, _)| *key).collect();
        tallies.retain(|(_, tally)| tally.waits > 0);
        tallies.sort_by(|(a, x), (b, y)| y.time.cmp(&x.time).then(a.cmp(b)));
        let (labels, descriptors) = (&labels, &descriptors);
        let ones = same.iter().map(|&one| keys[one as usize]);
        let called = names.called(&counted, ones);
        let namer = Namer {
            timelines,
            symbols,
            labels,
            descriptors,
            words: &words,
            called: &called,
            piped: &piped,
            ends,
        };
        fold_rest(&mut tallies);
        let ids = row_ids(&keys, &tallies);
        let rows = tallies.into_iter().enumerate();
        let mut rows: Vec<Object> =
            rows.map(|(id, (key, tally))| namer.row(id as u32, key, &tally)).collect();
        tell_apart(&mut rows);
        Rows { objects: rows, ids, same }
    }
}

/// The processes by their parent and pid; of those that had one after the other, the last.
fn children(timelines: &Timelines) -> FastMap<(ProcessId, u32), ProcessId> {
    let of = |child: &Process| Some(((child.parent?, child.pid.0), child.id));
    timelines.processes().iter().filter_map(of).collect()
}

/// What an object is called that has no identity but its process: children by their program, calls by
/// what they are.
fn called(
    key: Key,
    timelines: &Timelines,
    children: &FastMap<(ProcessId, u32), ProcessId>,
) -> Option<String> {
    let name = |id: ProcessId| timelines.processes().get(id.0 as usize).map(|p| p.name.to_string());
    match key.what {
        What::Child(process, pid) if pid != 0 => {
            let child = *children.get(&(process, pid))?;
            Some(format!("child {} of {}", name(child)?, name(process)?))
        }
        What::Call(process, number) => Some(format!("call {number} of {}", name(process)?)),
        _ => None,
    }
}

/// Both ends of a connection are one object, and so is an inode whose kind was not always seen.
fn one_inode(key: Key, labels: &FastMap<(u32, u64), ObjectInfo>, ends: &Joined) -> Key {
    match key.what {
        What::Inode(kind, device, inode) => {
            let kind = labels.get(&(device, inode)).map_or(kind, |info| info.kind);
            let (device, inode) = ends.canonical((device, inode));
            Key { what: What::Inode(kind, device, inode), ..key }
        }
        _ => key,
    }
}

/// A word in memory that processes share is one object, wherever each of them has it.
fn one_word(key: Key, words: &Words) -> Key {
    if let (State::Gil, What::Word(process, address)) = (key.state, key.what)
        && let Some(gil) = words.gil(process, address)
    {
        return Key { what: What::Word(process, gil), ..key };
    }
    let place = match key.what {
        What::Word(process, address) | What::Thread(process, _, address) => {
            words.place(process, address)
        }
        _ => None,
    };
    place.map_or(key, |(device, inode, offset)| {
        let what = What::Shared(device, inode, offset);
        Key { what, ..key }
    })
}

/// Pipes between the same programs get their number, and the GILs of one process their address, to be
/// told apart.
fn tell_apart(rows: &mut [Object]) {
    let mut by_label: BTreeMap<&str, u32> = BTreeMap::new();
    for row in rows.iter() {
        *by_label.entry(&row.label).or_default() += 1;
    }
    let shared: Vec<bool> = rows.iter().map(|row| by_label[row.label.as_str()] > 1).collect();
    for (row, shared) in rows.iter_mut().zip(shared) {
        if shared && row.pid == 0 && row.address != 0 {
            row.label = format!("{} (inode {})", row.label, row.address);
        } else if shared && row.kind == "gil" {
            row.label = format!("{} at {:#x}", row.label, row.address);
        }
    }
}

/// The row of each object: its own, or the one that sums up the rest of its state.
fn row_ids(keys: &[Key], rows: &[(Key, Tally)]) -> Vec<u32> {
    let ids: FastMap<Key, u32> = (0..).zip(rows).map(|(id, (key, _))| (*key, id)).collect();
    let row = |key: &Key| {
        let rest = Key { state: key.state, what: What::Rest };
        ids.get(key).or_else(|| ids.get(&rest)).copied().unwrap_or(u32::MAX)
    };
    keys.iter().map(row).collect()
}

/// Rows of a report; the totals by state stand in the budget.
const MOST_ROWS: usize = 1_000;
/// Sums up by state what a report has no row for, so that its rows still sum to the time off
/// the CPU.
fn fold_rest(tallies: &mut Vec<(Key, Tally)>) {
    let mut rest: BTreeMap<State, Tally> = BTreeMap::new();
    while tallies.len() > MOST_ROWS {
        let Some((key, mut tally)) = tallies.pop() else { break };
        tally.sites.clear();
        rest.entry(key.state).or_default().merge(tally);
    }
    tallies.extend(rest.into_iter().map(|(state, sum)| (Key { state, what: What::Rest }, sum)));
}
