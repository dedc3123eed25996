//! What was waited for: every wait folded into its object.

mod kind;
mod same;
mod tally;
mod words;

use crate::analysis::ends::Ends;
use crate::analysis::ends::Joined;
use crate::analysis::ends::keep;
use crate::analysis::names;
use crate::analysis::report::NotBlamed;
use crate::analysis::report::Object;
use crate::analysis::report::Site;
use crate::model::Call;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Interval;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::ProcessId;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::Thread;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use crate::model::syscall_label;
use kind::has_name;
use kind::kind;
use kind::named;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use tally::Tally;
use words::Sort;
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
                What::Word(process, call.arg0)
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
        let Self { mut tallies, labels, descriptors, words, ends, .. } = self;
        let ends = ends.join(&labels, timelines);
        let one_key = |key| one_word(one_inode(key, &labels, &ends), &words);
        let same = same::unify(&mut tallies, symbols, &one_key);
        let keys: Vec<Key> = tallies.iter().map(|(key, _)| *key).collect();
        tallies.retain(|(_, tally)| tally.waits > 0);
        tallies.sort_by(|(a, x), (b, y)| y.time.cmp(&x.time).then(a.cmp(b)));
        let (labels, descriptors) = (&labels, &descriptors);
        let namer = Namer { timelines, symbols, labels, descriptors, words: &words, ends };
        fold_rest(&mut tallies);
        let ids = row_ids(&keys, &tallies);
        let rows = tallies.into_iter().enumerate();
        let mut rows: Vec<Object> =
            rows.map(|(id, (key, tally))| namer.row(id as u32, key, &tally)).collect();
        tell_apart(&mut rows);
        Rows { objects: rows, ids, same }
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

/// Pipes between the same programs get their number, to be told apart.
fn tell_apart(rows: &mut [Object]) {
    let mut by_label: BTreeMap<&str, u32> = BTreeMap::new();
    for row in rows.iter() {
        *by_label.entry(&row.label).or_default() += 1;
    }
    let shared: Vec<bool> = rows.iter().map(|row| by_label[row.label.as_str()] > 1).collect();
    for (row, shared) in rows.iter_mut().zip(shared) {
        if shared && row.pid == 0 && row.address != 0 {
            row.label = format!("{} (inode {})", row.label, row.address);
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
/// Rows that come with their call sites.
const MOST_WITH_SITES: usize = 200;
/// Call sites shown for each, and the stacks that they are folded from.
const MOST_SITES: usize = 8;
const MOST_STACKS: usize = 64;

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

struct Namer<'a> {
    timelines: &'a Timelines,
    symbols: &'a Symbols,
    labels: &'a FastMap<(u32, u64), ObjectInfo>,
    descriptors: &'a FastMap<(Pid, u32), ObjectInfo>,
    words: &'a Words,
    ends: Joined<'a>,
}

impl Namer<'_> {
    fn row(&self, id: u32, key: Key, tally: &Tally) -> Object {
        let mut sites: Vec<(StackId, u64, Nanos)> =
            tally.sites.iter().map(|(&stack, &(count, time))| (stack, count, time)).collect();
        sites.sort_by_key(|&(stack, _, time)| (std::cmp::Reverse(time), stack));
        let top = sites.first().and_then(|&(stack, ..)| names::call_site(self.symbols, stack));
        let sort = sites.first().map_or(Sort::Plain, |&(stack, ..)| {
            Sort::of(key.state, &names::frames(self.symbols, stack))
        });
        sites.truncate(if (id as usize) < MOST_WITH_SITES { MOST_STACKS } else { 0 });
        let (pid, address) = self.whereabouts(key);
        Object {
            id,
            kind: sort.kind().filter(|_| key.is_word()).unwrap_or(kind(key)),
            label: self
                .word_label(key, tally, sort, top.as_deref())
                .unwrap_or_else(|| self.label(key, top.as_deref())),
            symbol: self.symbol(key),
            name: self.own_name(key),
            awaits: self.awaited(key),
            pid,
            address,
            state: key.state.name(),
            waits: tally.waits,
            wait_ns: tally.time.0,
            max_wait_ns: tally.longest.0,
            waiters: tally.waiters.len() as u64,
            sites: self.sites(&sites, tally.time),
            idle_cpu_ns: None,
            holders: Vec::new(),
            not_blamed: NotBlamed::default(),
            hold_ns: None,
        }
    }

    /// Stacks with the same functions are one call site, whatever their return addresses.
    /// Their samples divide the object's exact time.
    fn sites(&self, stacks: &[(StackId, u64, Nanos)], exact: Nanos) -> Vec<Site> {
        let mut sites: Vec<Site> = Vec::new();
        for &(stack, count, time) in stacks {
            let frames = names::frames(self.symbols, stack);
            let same = |site: &&mut Site| {
                site.stack.len() == frames.len()
                    && site.stack.iter().zip(&frames).all(|(a, b)| a.name == b.name)
            };
            if let Some(site) = sites.iter_mut().find(same) {
                site.stacks += count;
                site.wait_ns = site.wait_ns.saturating_add(time.0);
            } else {
                sites.push(Site { stack: frames, stacks: count, wait_ns: time.0 });
            }
        }
        sites.sort_by_key(|site| std::cmp::Reverse(site.wait_ns));
        let sampled = sites.iter().map(|site| site.wait_ns).fold(0, u64::saturating_add);
        if sampled > 0 {
            for site in &mut sites {
                let scaled = u128::from(site.wait_ns) * u128::from(exact.0) / u128::from(sampled);
                site.wait_ns = scaled as u64;
            }
        }
        sites.truncate(MOST_SITES);
        sites
    }

    fn pid(&self, process: ProcessId) -> Pid {
        self.timelines.processes().get(process.0 as usize).map_or(Pid(0), |p| p.pid)
    }

    fn whereabouts(&self, key: Key) -> (u32, u64) {
        match key.what {
            What::Word(process, address) | What::Thread(process, _, address) => {
                (self.pid(process).0, address)
            }
            What::Inode(_, _, inode) | What::Shared(_, inode, _) => (0, inode),
            What::Descriptor(process, ..)
            | What::Child(process, _)
            | What::Call(process, _)
            | What::Process(process) => (self.pid(process).0, 0),
            What::Cpus | What::Rest => (0, 0),
        }
    }

    /// The variable that a word lies in.
    fn symbol(&self, key: Key) -> Option<String> {
        let What::Word(process, address) = key.what else { return None };
        self.words.symbol(process, address)
    }

    /// What waited for it called in Python's library, where most of the waiting was.
    fn python_call(&self, tally: &Tally) -> Option<String> {
        let most = tally.sites.iter().max_by_key(|&(&stack, &(_, time))| (time, stack))?;
        names::python_call(&names::frames(self.symbols, *most.0))
    }

    /// What it alone is called.
    fn own_name(&self, key: Key) -> Option<String> {
        match key.what {
            What::Shared(device, inode, offset) => Some(self.words.label((device, inode, offset))),
            _ => self.symbol(key),
        }
    }

    /// The thread whose end is waited for.
    fn awaited(&self, key: Key) -> Option<u32> {
        let What::Thread(process, tid, _) = key.what else { return None };
        self.found(process, Tid(tid)).map(|thread| thread.id.0)
    }

    /// What to call a futex word: by its variable or the memory that it is shared in, else by its
    /// address, and where it is waited for.
    fn word_label(
        &self,
        key: Key,
        tally: &Tally,
        sort: Sort,
        site: Option<&str>,
    ) -> Option<String> {
        let at = site.map(|site| format!(" in {site}")).unwrap_or_default();
        let noun = sort.noun(key.state, sort.kind().unwrap_or(kind(key)));
        match key.what {
            What::Word(process, _) if key.state == State::Gil => {
                let process = &self.timelines.processes()[process.0 as usize];
                Some(format!("GIL of {} [{}]", process.name, process.pid.0))
            }
            What::Word(..) if let Some(call) = self.python_call(tally) => {
                Some(format!("{call}{at}"))
            }
            What::Word(_, address) => {
                let symbol = self.symbol(key).unwrap_or_else(|| format!("{address:#x}"));
                Some(format!("{noun} {symbol}{at}"))
            }
            What::Shared(device, inode, offset) => {
                let process = |&thread: &ThreadId| self.timelines.process_of(thread);
                let processes: BTreeSet<ProcessId> = tally.waiters.iter().map(process).collect();
                let shared = match processes.len() {
                    0 | 1 => String::new(),
                    count => format!(" ({count} processes)"),
                };
                let place = self.words.label((device, inode, offset));
                Some(format!("{noun} {place}{shared}{at}"))
            }
            _ => None,
        }
    }

    /// What to call it: its own name, else what it is and where it is waited for.
    fn label(&self, key: Key, site: Option<&str>) -> String {
        let at = site.map(|site| format!(" in {site}")).unwrap_or_default();
        match key.what {
            What::Word(..) | What::Shared(..) => format!("{}{at}", kind(key)),
            What::Thread(process, tid, _) => format!("{}{at}", self.thread(process, Tid(tid))),
            What::Inode(fd, device, inode) => {
                let node = (device, inode);
                let name = match self.labels.get(&node) {
                    // Its number says nothing to a reader: that of its first descriptor does.
                    Some(info) if is_anonymous(fd) => format!("{fd} {}", info.descriptor),
                    Some(info) if !info.label.is_empty() => named(fd, &info.label, inode),
                    _ => format!("{fd} inode {inode}"),
                };
                let by_ends = self.ends.label(fd, node, &name, self.labels);
                by_ends.unwrap_or_else(|| format!("{name}{at}"))
            }
            What::Descriptor(process, number, fd) => {
                let known = self.descriptors.get(&(self.pid(process), number as u32));
                match known.filter(|info| has_name(info)) {
                    Some(info) => format!("{}{at}", named(fd, &info.label, info.inode)),
                    // All files of the kind may share one inode: the number tells them apart.
                    None => format!("{fd} {number} of {}{at}", self.ends.who_alone(process)),
                }
            }
            What::Child(process, 0) => format!("{}{at}", self.children(process)),
            What::Child(_, pid) => format!("child {}{at}", self.child(Tid(pid))),
            What::Call(_, number) => format!("{}{at}", syscall_label(number)),
            What::Process(process) => {
                let name = &self.timelines.processes()[process.0 as usize].name;
                match key.state {
                    State::PageFault => format!("memory of {name}{at}"),
                    State::Stopped => format!("{name} stopped{at}"),
                    State::Unknown => format!("{name}: reason not seen{at}"),
                    _ => format!("{name}: {}{at}", key.state.meaning()),
                }
            }
            What::Cpus => "a free CPU".to_owned(),
            What::Rest => format!("further objects ({})", key.state),
        }
    }

    fn found(&self, process: ProcessId, tid: Tid) -> Option<&Thread> {
        let mut threads = self.timelines.threads().iter().rev();
        threads.find(|thread| thread.tid == tid && thread.process == process)
    }

    fn thread(&self, process: ProcessId, tid: Tid) -> String {
        self.found(process, tid).map_or_else(
            || format!("thread {}", tid.0),
            |thread| format!("thread {} ({})", thread.name, tid.0),
        )
    }

    /// A wait for whichever child ends first, by those that there are.
    fn children(&self, process: ProcessId) -> String {
        let processes = self.timelines.processes().iter();
        let children: BTreeSet<ProcessId> =
            processes.filter(|p| p.parent == Some(process)).map(|p| p.id).collect();
        match children.len() {
            0 => "a child process".to_owned(),
            1 => format!("child {}", self.ends.who(&children)),
            _ => format!("any child: {}", self.ends.who(&children)),
        }
    }

    fn child(&self, tid: Tid) -> String {
        let found = self.timelines.processes().iter().rev().find(|p| Tid::from(p.pid) == tid);
        found.map_or_else(|| tid.0.to_string(), |p| format!("{} ({})", p.name, tid.0))
    }
}
