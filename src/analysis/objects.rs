//! What was waited for: every wait folded into its object.

use crate::analysis::names;
use crate::analysis::report::Object;
use crate::analysis::report::Site;
use crate::model::Call;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::ProcessId;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::Text;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use crate::model::syscall_label;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

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
    /// An inode behind a descriptor.
    Inode(FdKind, u64),
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
            (State::Lock | State::Gil | State::Condvar | State::Join, Some(call))
                if call.fd == FdKind::None =>
            {
                What::Word(process, call.arg0)
            }
            (_, Some(call)) if call.fd == FdKind::None => What::Call(process, call.number),
            // All anonymous files of a kernel share one inode: only their descriptor tells them apart.
            (_, Some(call)) if call.inode != 0 && !is_anonymous(call.fd) => {
                What::Inode(call.fd, call.inode)
            }
            (_, Some(call)) => What::Descriptor(process, call.arg0 & 0xffff_ffff, call.fd),
        };
        Self { state, what }
    }
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

/// What is summed up of an object.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Number of waits.
    pub waits: u64,
    /// Time waited.
    pub time: Nanos,
    /// The longest wait.
    pub longest: Nanos,
    /// Who waited.
    pub waiters: BTreeSet<ThreadId>,
    /// The last one, which spares most look-ups in the set.
    last_waiter: Option<ThreadId>,
    /// Stacks with the waits and the time they stand for.
    pub sites: BTreeMap<StackId, (u64, Nanos)>,
}

/// All objects of a trace.
#[derive(Default)]
pub struct Objects {
    index: FastMap<Key, usize>,
    tallies: Vec<(Key, Tally)>,
    labels: FastMap<u64, ObjectInfo>,
    descriptors: FastMap<(Pid, u32), ObjectInfo>,
}

impl Objects {
    /// Counts a wait, and its stack if it was looked at. Gives the object's number here.
    pub fn add(&mut self, key: Key, thread: ThreadId, time: Nanos, site: Option<StackId>) -> u32 {
        let index = self.number(key);
        let tally = &mut self.tallies[index].1;
        tally.waits += 1;
        tally.time += time;
        tally.longest = tally.longest.max(time);
        if tally.last_waiter != Some(thread) {
            tally.last_waiter = Some(thread);
            tally.waiters.insert(thread);
        }
        if let Some(stack) = site {
            Self::add_site(tally, stack, time);
        }
        index as u32
    }

    /// Counts the stack of a wait.
    pub fn add_stack(&mut self, key: Key, stack: StackId, weight: Nanos) {
        let index = self.number(key);
        Self::add_site(&mut self.tallies[index].1, stack, weight);
    }

    fn add_site(tally: &mut Tally, stack: StackId, weight: Nanos) {
        let site = tally.sites.entry(stack).or_default();
        site.0 += 1;
        site.1 += weight;
    }

    /// Remembers what an inode or descriptor is called.
    pub fn describe(&mut self, info: &ObjectInfo) {
        if info.inode != 0 && !is_anonymous(info.kind) {
            self.labels.insert(info.inode, info.clone());
        }
        self.descriptors.insert((info.pid, info.descriptor), info.clone());
    }

    fn number(&mut self, key: Key) -> usize {
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

    /// By number here, the id that [`Objects::rows`] gives an object.
    pub fn ids(&self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.tallies.len()).collect();
        order.sort_by(|&a, &b| {
            let ((a, x), (b, y)) = (&self.tallies[a], &self.tallies[b]);
            y.time.cmp(&x.time).then(a.cmp(b))
        });
        let mut ids = vec![0; order.len()];
        for (id, index) in (0..).zip(order) {
            ids[index] = id;
        }
        ids
    }

    /// The rows of the report, longest total wait first.
    pub fn rows(self, timelines: &Timelines, symbols: &Symbols) -> Vec<Object> {
        let Self { mut tallies, labels, descriptors, .. } = self;
        tallies.sort_by(|(a, x), (b, y)| y.time.cmp(&x.time).then(a.cmp(b)));
        let namer = Namer { timelines, symbols, labels: &labels, descriptors: &descriptors };
        fold_rest(&mut tallies);
        tallies
            .into_iter()
            .enumerate()
            .map(|(id, (key, tally))| namer.row(id as u32, key, &tally))
            .collect()
    }
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
        let Some((key, tally)) = tallies.pop() else { break };
        let sum = rest.entry(key.state).or_default();
        sum.waits += tally.waits;
        sum.time += tally.time;
        sum.longest = sum.longest.max(tally.longest);
        sum.waiters.extend(tally.waiters);
    }
    tallies.extend(rest.into_iter().map(|(state, sum)| (Key { state, what: What::Rest }, sum)));
}

struct Namer<'a> {
    timelines: &'a Timelines,
    symbols: &'a Symbols,
    labels: &'a FastMap<u64, ObjectInfo>,
    descriptors: &'a FastMap<(Pid, u32), ObjectInfo>,
}

impl Namer<'_> {
    fn row(&self, id: u32, key: Key, tally: &Tally) -> Object {
        let mut sites: Vec<(StackId, u64, Nanos)> =
            tally.sites.iter().map(|(&stack, &(waits, time))| (stack, waits, time)).collect();
        sites.sort_by_key(|&(stack, _, time)| (std::cmp::Reverse(time), stack));
        let top = sites.first().and_then(|&(stack, ..)| names::call_site(self.symbols, stack));
        sites.truncate(if (id as usize) < MOST_WITH_SITES { MOST_STACKS } else { 0 });
        let (pid, address) = self.whereabouts(key);
        Object {
            id,
            kind: kind(key),
            label: self.label(key, top.as_deref()),
            pid,
            address,
            state: key.state.name(),
            waits: tally.waits,
            wait_ns: tally.time.0,
            max_wait_ns: tally.longest.0,
            waiters: tally.waiters.len() as u64,
            idle_ns: None,
            sites: self.sites(&sites, tally.time),
            holders: Vec::new(),
            hold_ns: None,
        }
    }

    /// Stacks with the same functions are one call site, whatever their return addresses.
    /// Their samples divide the object's exact time.
    fn sites(&self, stacks: &[(StackId, u64, Nanos)], exact: Nanos) -> Vec<Site> {
        let mut sites: Vec<Site> = Vec::new();
        for &(stack, waits, time) in stacks {
            let frames = names::frames(self.symbols, stack);
            let same = |site: &&mut Site| {
                site.stack.len() == frames.len()
                    && site.stack.iter().zip(&frames).all(|(a, b)| a.name == b.name)
            };
            if let Some(site) = sites.iter_mut().find(same) {
                site.waits += waits;
                site.wait_ns += time.0;
            } else {
                sites.push(Site { stack: frames, waits, wait_ns: time.0 });
            }
        }
        sites.sort_by_key(|site| std::cmp::Reverse(site.wait_ns));
        let sampled: u64 = sites.iter().map(|site| site.wait_ns).sum();
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
            What::Word(process, address) => (self.pid(process).0, address),
            What::Inode(_, inode) => (0, inode),
            What::Descriptor(process, ..)
            | What::Child(process, _)
            | What::Call(process, _)
            | What::Process(process) => (self.pid(process).0, 0),
            What::Cpus | What::Rest => (0, 0),
        }
    }

    /// What to call it: its own name, else what it is and where it is waited for.
    fn label(&self, key: Key, site: Option<&str>) -> String {
        let at = site.map(|site| format!(" in {site}")).unwrap_or_default();
        match key.what {
            What::Word(_, address) if key.state == State::Join => {
                format!("join of a thread or barrier {address:#x}{at}")
            }
            What::Word(_, address) => format!("{} {address:#x}{at}", kind(key)),
            What::Inode(fd, inode) => match self.labels.get(&inode) {
                Some(info) if !info.label.is_empty() => {
                    format!("{}{at}", named(fd, &info.label, inode))
                }
                _ => format!("{fd} inode {inode}{at}"),
            },
            What::Descriptor(process, number, fd) => {
                let known = self.descriptors.get(&(self.pid(process), number as u32));
                match known {
                    Some(info) if !info.label.is_empty() => {
                        format!("{}{at}", named(fd, &info.label, info.inode))
                    }
                    _ => format!("{fd} {number}{at}"),
                }
            }
            What::Child(_, 0) => format!("a child process{at}"),
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

    fn child(&self, tid: Tid) -> String {
        let found = self.timelines.processes().iter().rev().find(|p| Tid::from(p.pid) == tid);
        found.map_or_else(|| tid.0.to_string(), |p| format!("{} ({})", p.name, tid.0))
    }
}

/// A described object: its kind and label, without saying `pipe pipe`.
fn named(fd: FdKind, label: &Text, inode: u64) -> String {
    let label = label.to_string();
    match label.strip_prefix(fd.name()) {
        Some("") => format!("{label} inode {inode}"),
        Some(_) => label,
        None => format!("{fd} {label}"),
    }
}

/// The kind of an object, for the report.
fn kind(key: Key) -> &'static str {
    match (key.state, key.what) {
        (_, What::Cpus) => "cpu",
        (State::Lock, _) => "lock",
        (State::Gil, _) => "gil",
        (State::Condvar, _) => "condvar",
        (State::Join, _) => "join",
        (State::Sleep, _) => "timer",
        (State::Child, _) => "child",
        (State::PageFault, _) => "memory",
        (State::Network, _) => "socket",
        (State::Pipe, _) => "pipe",
        (_, What::Inode(FdKind::Epoll, _) | What::Descriptor(_, _, FdKind::Epoll)) => "epoll",
        (State::Disk, What::Inode(..) | What::Descriptor(..)) => "file",
        (State::Disk, _) => "disk",
        (State::Unknown, _) => "unknown",
        _ => "call",
    }
}
