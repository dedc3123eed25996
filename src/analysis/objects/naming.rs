//! Rows of the report: what each object is called, where it was waited for.

use super::Key;
use super::Tally;
use super::What;
use super::is_anonymous;
use super::kind::has_name;
use super::kind::kind;
use super::kind::named;
use super::names::Called;
use super::words::Sort;
use super::words::Words;
use crate::analysis::ends::Joined;
use crate::analysis::names;
use crate::analysis::report::Carried;
use crate::analysis::report::NotBlamed;
use crate::analysis::report::Object;
use crate::analysis::report::Site;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::Piped;
use crate::model::ProcessId;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::Thread;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use crate::model::syscall_label;
use std::collections::BTreeSet;

/// Rows that come with their call sites.
const MOST_WITH_SITES: usize = 200;
/// Call sites shown for each, and the stacks that they are folded from.
const MOST_SITES: usize = 8;
const MOST_STACKS: usize = 64;

/// What objects are called.
pub(super) struct Namer<'a> {
    pub timelines: &'a Timelines,
    pub symbols: &'a Symbols,
    pub labels: &'a FastMap<(u32, u64), ObjectInfo>,
    pub descriptors: &'a FastMap<(Pid, u32), ObjectInfo>,
    pub words: &'a Words,
    pub called: &'a Called,
    pub piped: &'a FastMap<(u32, u64), u64>,
    pub ends: Joined<'a>,
}

impl Namer<'_> {
    /// The row of an object.
    pub fn row(&self, id: u32, key: Key, tally: &Tally) -> Object {
        let mut sites: Vec<(StackId, u64, Nanos)> =
            tally.sites.iter().map(|(&stack, &(count, time))| (stack, count, time)).collect();
        sites.sort_by_key(|&(stack, _, time)| (std::cmp::Reverse(time), stack));
        let top = sites.first().and_then(|&(stack, ..)| names::call_site(self.symbols, stack));
        let sort = sites.first().map_or(Sort::Plain, |&(stack, ..)| {
            Sort::of(key.state, &names::frames(self.symbols, stack))
        });
        sites.truncate(if (id as usize) < MOST_WITH_SITES { MOST_STACKS } else { 0 });
        let (pid, address) = self.whereabouts(key, tally);
        Object {
            id,
            kind: sort.kind().filter(|_| key.is_word()).unwrap_or(kind(key)),
            label: self
                .word_label(key, tally, sort, top.as_deref())
                .unwrap_or_else(|| self.label(key, tally.others, top.as_deref())),
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
            carried: self.carried(key),
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

    fn whereabouts(&self, key: Key, tally: &Tally) -> (u32, u64) {
        let process = |thread: ThreadId| self.timelines.process_of(thread);
        let mut processes = tally.waiters.iter().map(process);
        let first = processes.next();
        let several = processes.any(|other| Some(other) != first);
        match key.what {
            What::Call(..) | What::Child(..) if several => (0, 0),
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

    /// What the program calls a word, else the variable that it lies in.
    fn symbol(&self, key: Key) -> Option<String> {
        let symbol = || match key.what {
            What::Word(process, address) => self.words.symbol(process, address),
            _ => None,
        };
        self.called.of(key.what, "").or_else(symbol)
    }

    /// What waited for it called in Python's library, where most of the waiting was.
    fn python_call(&self, tally: &Tally) -> Option<String> {
        let most = tally.sites.iter().max_by_key(|&(&stack, &(_, time))| (time, stack))?;
        names::python_call(&names::frames(self.symbols, *most.0))
    }

    /// What it alone is called.
    fn own_name(&self, key: Key) -> Option<String> {
        match key.what {
            What::Shared(device, inode, offset) => {
                let place = || self.words.label((device, inode, offset));
                self.symbol(key).or_else(|| Some(place()))
            }
            _ => self.symbol(key),
        }
    }

    /// How much went through it, if it is a pipe.
    fn carried(&self, key: Key) -> Option<Carried> {
        let What::Inode(FdKind::Pipe, device, inode) = key.what else { return None };
        let &buffers = self.piped.get(&(device, inode))?;
        Some(Carried { buffers, most_bytes: buffers.saturating_mul(Piped::BUFFER) })
    }

    /// The thread whose end is waited for.
    fn awaited(&self, key: Key) -> Option<u32> {
        let What::Thread(process, tid, _) = key.what else { return None };
        self.found(process, Tid(tid)).map(|thread| thread.id.0)
    }

    /// What to call a futex word: as the program does, by its variable or the memory that it is shared in, else by its
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
            What::Word(..) if let Some(name) = self.called.of(key.what, "`") => {
                Some(format!("{noun} {name}{at}"))
            }
            What::Word(..) if let Some(call) = self.python_call(tally) => {
                // A worker that waits for a job is in no function but that which is named anyway.
                let call = if at.starts_with(&format!(" in `{call}`")) { noun } else { &call };
                Some(format!("{call}{at}"))
            }
            What::Word(_, address) => {
                let symbol = self.symbol(key).unwrap_or_else(|| format!("{address:#x}"));
                Some(format!("{noun} {symbol}{at}"))
            }
            What::Shared(device, inode, offset) => {
                let process = |thread: ThreadId| self.timelines.process_of(thread);
                let processes: BTreeSet<ProcessId> = tally.waiters.iter().map(process).collect();
                let shared = match processes.len() {
                    0 | 1 => String::new(),
                    count => format!(" ({count} processes)"),
                };
                let place = || self.words.label((device, inode, offset));
                let place = self.called.of(key.what, "`").unwrap_or_else(place);
                Some(format!("{noun} {place}{shared}{at}"))
            }
            _ => None,
        }
    }

    /// What to call it: its own name, else what it is and where it is waited for.
    fn label(&self, key: Key, others: u64, site: Option<&str>) -> String {
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
            What::Child(_, pid) if others > 0 => {
                format!("{} children {}{at}", others + 1, self.child_name(Tid(pid)))
            }
            What::Child(_, pid) => format!("child {} ({pid}){at}", self.child_name(Tid(pid))),
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

    fn child_name(&self, tid: Tid) -> String {
        let found = self.timelines.processes().iter().rev().find(|p| Tid::from(p.pid) == tid);
        found.map_or_else(|| "process".to_owned(), |p| p.name.to_string())
    }
}
