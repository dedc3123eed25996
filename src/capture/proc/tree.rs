//! Which threads and processes there are, found by looking.
#![allow(clippy::disallowed_methods)] // the impure edge reads files and clocks

use super::ledger::Ledger;
use crate::capture::adopted::Bases;
use crate::capture::adopted::Member;
use crate::capture::procfs;
use crate::capture::procfs::SchedStat;
use crate::capture::procfs::Stat;
use crate::capture::sys::perf_event::boottime;
use crate::capture::sys::perf_event::clock_ticks;
use crate::capture::sys::perf_event::monotonic;
use crate::model::Books;
use crate::model::Event;
use crate::model::Exit;
use crate::model::ExitKind;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Rename;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use crate::symbols::Mapping;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Threads whose books stay open between polls; the limit on descriptors is often 1024.
const OPEN_FILES: usize = 256;

/// Ended threads remembered, so that a zombie is not found again.
const ENDED: usize = 65_536;

/// One thread.
pub struct Thread {
    /// Its process.
    pub pid: Pid,
    /// What was told of it.
    pub ledger: Ledger,
    /// Its name.
    pub comm: Text,
    /// Size of its address space when it last moved, bytes.
    pub vsize: u64,
    /// It ran since the last search for new threads.
    pub moved: bool,
    /// Looks from outside during the present wait.
    pub looks: u32,
    /// It was a zombie at the last poll.
    pub dying: bool,
    tid: Tid,
    start: Nanos,
    start_ticks: u64,
    /// Its `schedstat`, open: reading is then one system call, and never another thread's.
    file: Option<File>,
}

impl Thread {
    /// The kernel's books; `None` once it is reaped.
    pub fn read_books(&self) -> Option<SchedStat> {
        let Some(file) = &self.file else {
            return procfs::parse_schedstat(&procfs::read_task(self.pid, self.tid, "schedstat")?);
        };
        let mut line = [0; 80];
        let len = file.read_at(&mut line, 0).ok()?;
        procfs::parse_schedstat(&line[..len])
    }
}

/// What identifies a running program: an exec changes at least one. The auxiliary vector holds
/// random addresses, so it changes even when a program starts itself again.
#[derive(Clone, PartialEq, Eq, Default)]
struct Program {
    exe: Option<Text>,
    auxv: Vec<u8>,
}

impl Program {
    fn read(pid: Pid) -> Self {
        let auxv = procfs::read_process(pid, "auxv").unwrap_or_default();
        Self { exe: procfs::exe(pid), auxv }
    }
}

struct Process {
    parent: Pid,
    threads: u32,
    program: Program,
    /// Not yet told to the naming thread.
    new: bool,
    /// Address-space size when its mappings were last read.
    mapped: u64,
    /// Executable mappings already told.
    maps: Vec<(u64, u64)>,
}

/// A process that is new or runs another program.
pub struct Change {
    /// The process.
    pub pid: Pid,
    /// Its parent.
    pub parent: Pid,
    /// It is new.
    pub forked: bool,
    /// The program it runs now, if another.
    pub exec: Option<Text>,
}

/// What ended with a thread.
pub enum Exited {
    /// It alone, or nothing.
    Thread,
    /// Its process.
    Process(Pid),
}

/// The root before its exec.
struct Held {
    program: Program,
    comm: Text,
    books: SchedStat,
    at: Nanos,
}

/// The recorded tree.
pub struct Tree {
    root: Pid,
    held: Option<Held>,
    /// When the root's exec was, at the earliest.
    exec_at: Option<Nanos>,
    /// Living threads, in order.
    pub threads: BTreeMap<Tid, Thread>,
    processes: BTreeMap<Pid, Process>,
    /// Start ticks of ended threads.
    ended: FastMap<Tid, u64>,
    bases: Bases,
    last_poll: Nanos,
}

impl Tree {
    /// An empty tree.
    pub fn new(root: Pid) -> Self {
        Self {
            root,
            held: None,
            exec_at: None,
            threads: BTreeMap::new(),
            processes: BTreeMap::new(),
            ended: FastMap::default(),
            bases: Bases::default(),
            last_poll: Nanos::ZERO,
        }
    }

    /// Notes what the root is before its exec. `None` if it is not there.
    pub fn hold_root(&mut self, now: Nanos) -> Option<()> {
        let stat = stat(self.root, self.root.into())?;
        let books = books(self.root, self.root.into())?;
        self.last_poll = now;
        self.held =
            Some(Held { program: Program::read(self.root), comm: stat.comm, books, at: now });
        Some(())
    }

    /// Whether the root's exec has happened; its time begins with the last poll before.
    pub fn root_runs(&mut self, now: Nanos, batch: &mut Vec<Event>) -> bool {
        let Some(held) = &mut self.held else { return true };
        let stat = stat(self.root, self.root.into());
        let same = stat.as_ref().is_some_and(|s| s.comm == held.comm && s.state != b'Z')
            && Program::read(self.root) == held.program;
        if same {
            // Its books up to now are those of waiting for us.
            held.books = books(self.root, self.root.into()).unwrap_or(held.books);
            held.at = now;
            self.last_poll = now;
            return false;
        }
        let Some(held) = self.held.take() else { return true };
        let (pid, tid, time) = (self.root, Tid::from(self.root), held.at);
        self.exec_at = Some(time);
        let (parent_tid, parent_pid, how) = (Tid(0), Pid(0), StartKind::Root);
        batch.push(Event::Start(Start { time, tid, pid, parent_tid, parent_pid, how }));
        let ledger = Ledger::continued(tid, time, held.books);
        let ticks = stat.as_ref().map_or(0, |s| s.start_ticks);
        self.insert(pid, tid, ledger, time, ticks, stat.map(|s| s.comm), batch);
        let process = self.process(pid, Pid(0), held.program);
        process.new = false;
        true
    }

    /// Adds processes that ran before the recording, which begins at `now` for them.
    pub fn adopt(&mut self, members: &[Member], now: Nanos, batch: &mut Vec<Event>) {
        self.last_poll = now;
        for Member { pid, parent, tids } in members {
            for &tid in tids {
                let (Some(stat), Some(books)) = (stat(*pid, tid), books(*pid, tid)) else {
                    continue;
                };
                if self.threads.contains_key(&tid) || matches!(stat.state, b'Z' | b'X') {
                    continue;
                }
                self.bases.note(tid, procfs::books(*pid, tid, None), None);
                let (parent_tid, parent_pid, how) = (Tid(0), *parent, StartKind::Found);
                let (time, pid) = (now, *pid);
                batch.push(Event::Start(Start { time, tid, pid, parent_tid, parent_pid, how }));
                self.process(pid, parent_pid, Program::read(pid)).new = false;
                let ledger = Ledger::continued(tid, now, books);
                self.insert(pid, tid, ledger, now, stat.start_ticks, Some(stat.comm), batch);
            }
        }
    }

    /// Processes that live.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.processes.keys().copied()
    }

    fn process(&mut self, pid: Pid, parent: Pid, program: Program) -> &mut Process {
        let maps = Vec::new();
        let process = Process { parent, threads: 0, program, new: true, mapped: 0, maps };
        let process = self.processes.entry(pid).or_insert(process);
        process.threads += 1;
        process
    }

    #[allow(clippy::too_many_arguments)] // one call site each for the root and for all others
    fn insert(
        &mut self,
        pid: Pid,
        tid: Tid,
        ledger: Ledger,
        start: Nanos,
        start_ticks: u64,
        comm: Option<Text>,
        batch: &mut Vec<Event>,
    ) {
        let keep = self.threads.len() < OPEN_FILES;
        let path = format!("/proc/{}/task/{}/schedstat", pid.0, tid.0);
        let file = keep.then(|| File::open(path).ok()).flatten();
        let comm = comm.unwrap_or_default();
        if !comm.is_empty() {
            batch.push(Event::Rename(Rename { time: start, tid, name: comm.clone() }));
        }
        let (vsize, moved, looks, dying) = (0, true, 0, false);
        let thread =
            Thread { pid, ledger, comm, vsize, moved, looks, dying, tid, start, start_ticks, file };
        self.threads.insert(tid, thread);
    }

    /// Whether `pid` has threads beside its leader.
    pub fn lives(&self, pid: Pid) -> bool {
        self.processes.get(&pid).is_some_and(|process| process.threads > 1)
    }

    /// Living threads, in order.
    pub fn tids(&self) -> Vec<Tid> {
        self.threads.keys().copied().collect()
    }

    /// Finds threads and children of those that ran: others cannot have made any. Gives the new
    /// ones.
    pub fn discover(&mut self, now: Nanos, batch: &mut Vec<Event>) -> Vec<Tid> {
        let mut found = Vec::new();
        let mut pids: Vec<Pid> =
            self.threads.values().filter(|thread| thread.moved).map(|t| t.pid).collect();
        pids.dedup();
        while let Some(pid) = pids.pop() {
            for tid in procfs::threads(pid) {
                if !self.threads.contains_key(&tid) && self.add(pid, tid, Tid(0), pid, now, batch) {
                    found.push(tid);
                }
            }
            let moved: Vec<Tid> = self
                .threads
                .iter()
                .filter(|(_, thread)| thread.pid == pid && thread.moved)
                .map(|(&tid, _)| tid)
                .collect();
            for tid in moved {
                for child in children(pid, tid) {
                    let leader = Tid::from(child);
                    if !self.threads.contains_key(&leader)
                        && !self.processes.contains_key(&child)
                        && self.add(child, leader, tid, pid, now, batch)
                    {
                        found.push(leader);
                        pids.push(child);
                    }
                }
            }
        }
        found
    }

    /// Adds a thread that was found. False if it is gone again, or was told already.
    fn add(
        &mut self,
        pid: Pid,
        tid: Tid,
        parent_tid: Tid,
        parent_pid: Pid,
        now: Nanos,
        batch: &mut Vec<Event>,
    ) -> bool {
        let Some(stat) = stat(pid, tid) else { return false };
        if self.ended.get(&tid) == Some(&stat.start_ticks) {
            return false;
        }
        let books = books(pid, tid).unwrap_or_default();
        let parent = if pid == parent_pid { Tid::from(pid) } else { parent_tid };
        let parent_start = self.threads.get(&parent).map_or(Nanos::ZERO, |t| t.start);
        let earliest = self.last_poll.max(parent_start);
        let time =
            start_time(stat.start_ticks, earliest, now - Nanos(books.run + books.queue), now);
        let how = StartKind::Found;
        batch.push(Event::Start(Start { time, tid, pid, parent_tid, parent_pid, how }));
        let program = self.inherited(pid, parent_pid);
        self.process(pid, parent_pid, program);
        let ledger = Ledger::born(tid, time);
        self.insert(pid, tid, ledger, time, stat.start_ticks, Some(stat.comm), batch);
        true
    }

    /// The program a new process began with: its parent's, before or after an exec of the parent
    /// that was not noticed yet.
    fn inherited(&self, pid: Pid, parent: Pid) -> Program {
        let known = self.processes.get(&parent).map(|p| p.program.clone()).unwrap_or_default();
        if pid == parent || known == Program::read(pid) {
            return known;
        }
        let present = Program::read(parent);
        if present.exe.is_some() { present } else { known }
    }

    /// Processes that are new or run another program, among those that ran. Ends the round.
    pub fn changed_programs(&mut self) -> Vec<Change> {
        let mut pids: Vec<Pid> = Vec::new();
        for thread in self.threads.values_mut() {
            if std::mem::take(&mut thread.moved) {
                pids.push(thread.pid);
            }
        }
        pids.sort_unstable();
        pids.dedup();
        let mut changes = Vec::new();
        for pid in pids {
            let Some(process) = self.processes.get_mut(&pid) else { continue };
            let program = Program::read(pid);
            // Without a link it is a zombie or may not be read: nothing is known of its program.
            let changed = program.exe.is_some() && program != process.program;
            let exec = changed.then(|| program.exe.clone()).flatten();
            let forked = std::mem::take(&mut process.new);
            if changed {
                process.program = program;
            }
            if forked || exec.is_some() {
                changes.push(Change { pid, parent: process.parent, forked, exec });
            }
        }
        changes
    }

    /// The time of the root's first exec, once.
    pub fn root_exec(&mut self, pid: Pid) -> Option<Nanos> {
        if pid == self.root { self.exec_at.take() } else { None }
    }

    /// Mappings of the old program are gone.
    pub fn forget_maps(&mut self, pid: Pid) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.mapped = 0;
            process.maps.clear();
        }
    }

    /// Executable mappings of `pid` that were not told, if its address space changed at all.
    pub fn new_maps(&mut self, pid: Pid) -> Vec<Mapping> {
        let Some(process) = self.processes.get_mut(&pid) else { return Vec::new() };
        let vsize = self.threads.values().filter(|t| t.pid == pid).map(|t| t.vsize).max();
        if vsize == Some(process.mapped) {
            return Vec::new();
        }
        process.mapped = vsize.unwrap_or(0);
        let maps = procfs::read_process(pid, "maps").unwrap_or_default();
        let mut new = procfs::parse_maps(pid, &maps);
        new.retain(|mapping| !process.maps.contains(&(mapping.start, mapping.end)));
        process.maps.extend(new.iter().map(|mapping| (mapping.start, mapping.end)));
        new
    }

    /// Threads due for a look from outside, longest waits first.
    pub fn sleepers(&self, now: Nanos, least: Nanos) -> Vec<(Tid, Pid)> {
        let mut sleepers: Vec<(Nanos, Tid, Pid)> = self
            .threads
            .iter()
            .filter_map(|(&tid, thread)| {
                let since = thread.ledger.waits_since()?;
                // Seen at 3 ms, then not before 1 s, 10 s, 100 s: a deadlock stays described.
                let due = match thread.looks {
                    0 => least,
                    n => Nanos(1_000_000_000_u64.saturating_mul(10_u64.saturating_pow(n - 1))),
                };
                (now - since >= due).then_some((since, tid, thread.pid))
            })
            .collect();
        sleepers.sort_unstable();
        sleepers.into_iter().map(|(_, tid, pid)| (tid, pid)).collect()
    }

    /// Threads that ran or wanted to when they were last looked at.
    pub fn awake(&self) -> usize {
        self.threads.values().filter(|thread| thread.ledger.waits_since().is_none()).count()
    }

    /// Ends a thread that was found dead at `now`.
    pub fn end(
        &mut self,
        tid: Tid,
        now: Nanos,
        books: Option<SchedStat>,
        just: bool,
        batch: &mut Vec<Event>,
    ) -> Exited {
        let Some(mut thread) = self.threads.remove(&tid) else { return Exited::Thread };
        let pid = thread.pid;
        let time = thread.ledger.end(now, books, just, &mut |i| batch.push(Event::Interval(i)));
        if self.ended.len() >= ENDED {
            self.ended.clear();
        }
        self.ended.insert(tid, thread.start_ticks);
        let last = self.processes.get_mut(&pid).is_none_or(|process| {
            process.threads = process.threads.saturating_sub(1);
            process.threads == 0
        });
        let how = if last { ExitKind::Process { status: None } } else { ExitKind::Thread };
        let books = if books.is_some() { procfs::books(pid, tid, None) } else { Books::default() };
        let books = self.bases.since_found(tid, books, true);
        batch.push(Event::Exit(Exit { time, tid, pid, how, books }));
        if last {
            self.processes.remove(&pid);
            return Exited::Process(pid);
        }
        Exited::Thread
    }

    /// A poll is done: what is not known by now began after it.
    pub fn polled(&mut self, now: Nanos) {
        self.last_poll = now;
    }

    /// Ends the recording.
    pub fn close(&mut self, now: Nanos, batch: &mut Vec<Event>) {
        for (tid, mut thread) in std::mem::take(&mut self.threads) {
            thread.ledger.close(now, &mut |i| batch.push(Event::Interval(i)));
            let (pid, how) = (thread.pid, ExitKind::Alive);
            let books = self.bases.since(tid, procfs::books(pid, tid, None));
            batch.push(Event::Exit(Exit { time: now, tid, pid, how, books }));
        }
        self.processes.clear();
    }
}

fn stat(pid: Pid, tid: Tid) -> Option<Stat> {
    procfs::parse_stat(&procfs::read_task(pid, tid, "stat")?)
}

fn books(pid: Pid, tid: Tid) -> Option<SchedStat> {
    procfs::parse_schedstat(&procfs::read_task(pid, tid, "schedstat")?)
}

/// Children that this very thread made and that still are its own.
fn children(pid: Pid, tid: Tid) -> Vec<Pid> {
    let text = procfs::read_task(pid, tid, "children").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().map(Pid)).collect()
}

/// When a thread began: its start is known to one tick (10 ms, rounded down) of the boot clock.
/// It was not there at `earliest`; at `latest` it must have been, or it could not have run as
/// long as its books say.
fn start_time(ticks: u64, earliest: Nanos, latest: Nanos, now: Nanos) -> Nanos {
    let since_boot = Nanos(ticks.saturating_mul(1_000_000_000 / clock_ticks()));
    // The two clocks differ by the time the machine was suspended.
    let suspended = boottime() - monotonic();
    (since_boot - suspended).min(latest).max(earliest).min(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_never_before_it_could_be_nor_in_the_future() {
        let now = monotonic();
        let ms = Nanos::from_millis;
        let ticks =
            |at: Nanos| (at + (boottime() - monotonic())).0 / (1_000_000_000 / clock_ticks());
        let start = start_time(ticks(now - ms(50)), now - ms(200), now, now);
        assert!(now - start >= ms(50) && now - start <= ms(61), "{}", now - start);
        assert_eq!(start_time(ticks(now - ms(50)), now - ms(5), now, now), now - ms(5));
        assert_eq!(start_time(ticks(now), now - ms(200), now - ms(90), now), now - ms(90));
        assert_eq!(start_time(u64::MAX, now - ms(1), now, now), now);
    }

    #[test]
    fn own_threads_are_found_and_their_end_is_told_once() {
        let pid = Pid(std::process::id());
        let mut tree = Tree::new(pid);
        assert!(tree.hold_root(monotonic()).is_some());
        let mut batch = Vec::new();
        assert!(!tree.root_runs(monotonic(), &mut batch), "we did not exec");
        assert!(batch.is_empty());
        assert!(tree.add(pid, Tid(pid.0), Tid(0), Pid(0), monotonic(), &mut batch));
        let found = tree.discover(monotonic(), &mut batch);
        assert!(!found.is_empty(), "the test runs on a thread of its own");
        tree.end(found[0], monotonic(), None, false, &mut batch);
        assert!(matches!(batch.last(), Some(Event::Exit(e)) if e.how == ExitKind::Thread));
        assert!(!tree.discover(monotonic(), &mut batch).contains(&found[0]));
    }
}
