//! What the records of one recording mean: per thread on or off a CPU, per process its
//! threads. Pure: takes records in time order, gives events and naming jobs.
//!
//! ```text
//!            fork                in              out               in           exit
//!   thread    |----New(runnable)--|-----on CPU----|--Off(one Interval)--|--on CPU--|
//! ```
//! Two ins or two outs in a row mean that a record between them was lost: the stretch is a
//! `Gap` and thereby unknown, never guessed. So is a wait during which any CPU lost records,
//! though its ends were seen: the thread may have come and gone in between.

use super::record::Comm;
use super::record::Found;
use super::record::Raw;
use super::record::Task;
use super::record::What;
use crate::capture::naming::Job;
use crate::capture::python::PythonFrames;
use crate::model::Books;
use crate::model::Event;
use crate::model::Exec;
use crate::model::Exit;
use crate::model::ExitKind;
use crate::model::FastMap;
use crate::model::Gap;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Lost;
use crate::model::LostKind;
use crate::model::Marks;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Rename;
use crate::model::Sample;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use crate::symbols::Image;
use crate::symbols::Mapping;

/// What the machine gives.
#[derive(Debug)]
pub enum Output {
    /// An event, complete.
    Event(Event),
    /// Work for the naming thread.
    Job(Job),
}

/// Where a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// On this CPU since then.
    On { since: Nanos, cpu: u16 },
    /// Off since then.
    Off { since: Nanos, left: Left, cpu: u16 },
    /// Found then, before any switch of it was seen: the first one tells. Without one, what
    /// `/proc` said holds.
    Found { since: Nanos, left: Option<Left>, looked: Nanos, cpu: u16 },
}

impl Place {
    fn since(self) -> Nanos {
        match self {
            Self::On { since, .. } | Self::Off { since, .. } | Self::Found { since, .. } => since,
        }
    }

    /// The same, but nothing before `time` counts.
    fn from(mut self, time: Nanos) -> Self {
        match &mut self {
            Self::On { since, .. } | Self::Off { since, .. } | Self::Found { since, .. } => {
                *since = time;
            }
        }
        self
    }
}

/// A stretch in which a CPU lost records of switches.
#[derive(Clone, Copy, Debug)]
struct Loss {
    cpu: u16,
    from: Nanos,
    to: Nanos,
}

#[derive(Debug)]
struct Thread {
    pid: Pid,
    place: Place,
    /// How often it was seen getting a CPU,
    runs: u64,
    /// since then: what the kernel had counted before is taken off.
    counted: Nanos,
}

#[derive(Debug, Default)]
struct Process {
    /// As far as it is known: a found process's matters.
    parent: Pid,
    /// An exec whose program is not known yet (its first executable mapping follows), and what the
    /// kernel calls the process from then on.
    exec: Option<Box<(Exec, Text)>>,
}

/// State of the recorded tree.
#[derive(Debug)]
pub struct Machine {
    /// The command; 0 if there is none.
    root: Pid,
    started: bool,
    /// What is applied before [`Machine::begin`] only says where threads are.
    priming: bool,
    period: Nanos,
    threads: FastMap<Tid, Thread>,
    processes: FastMap<Pid, Process>,
    /// Time of the last record of each CPU's ring: losses lie between two of them.
    rings: FastMap<u16, Nanos>,
    losses: Vec<Loss>,
    /// Losses come through [`Machine::lose`], as they are counted; records of them are ignored.
    pub counted: bool,
    /// Records lost of any kind.
    pub lost: u64,
    /// Times the kernel paused sampling.
    pub throttled: u64,
}

impl Machine {
    /// For the tree of `root`, whose time starts with its exec; samples stand for `period` each.
    pub fn new(root: Pid, period: Nanos) -> Self {
        Self {
            root,
            started: false,
            priming: false,
            period,
            threads: FastMap::default(),
            processes: FastMap::default(),
            rings: FastMap::default(),
            losses: Vec::new(),
            counted: false,
            lost: 0,
            throttled: 0,
        }
    }

    /// For processes that already run. Until [`Machine::begin`] its events are of no use.
    pub fn attached(period: Nanos) -> Self {
        Self { started: true, priming: true, ..Self::new(Pid(0), period) }
    }

    /// All that live are there from `time` on: parents first, leaders before their threads.
    pub fn begin(&mut self, time: Nanos, out: &mut dyn FnMut(Start)) {
        self.priming = false;
        self.losses.clear();
        let mut living: Vec<(usize, Pid, Tid)> = Vec::new();
        self.threads.retain(|&tid, thread| {
            thread.place = thread.place.from(time);
            thread.runs = 0;
            living.push((depth(&self.processes, thread.pid), thread.pid, tid));
            true
        });
        living.sort_unstable_by_key(|&(depth, pid, tid)| (depth, pid, tid.0 != pid.0, tid));
        for (_, pid, tid) in living {
            let parent = self.processes.get(&pid).map(|process| process.parent);
            let (parent_tid, parent_pid) = (Tid(0), parent.unwrap_or_default());
            let how = StartKind::Found;
            out(Start { time, tid, pid, parent_tid, parent_pid, how });
        }
        // Whoever tells of these starts also tells which programs run then.
        self.processes.values_mut().for_each(|process| process.exec = None);
    }

    /// The kernel's count of a thread's runs was read then: from then on they are counted here.
    pub fn count_from(&mut self, tid: Tid, time: Nanos) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.counted = time;
        }
    }

    /// Whether no thread lives, as far as the records say.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// The threads that live, as far as is known.
    pub fn tids(&self) -> impl Iterator<Item = (Pid, Tid)> + '_ {
        self.threads.iter().map(|(&tid, thread)| (thread.pid, tid))
    }

    /// Processes that live, as far as the records say.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.processes.keys().copied()
    }

    /// Takes the next record.
    pub fn apply(&mut self, raw: Raw, out: &mut dyn FnMut(Output)) {
        let Raw { time, tid, pid, cpu, what } = raw;
        let before = self.rings.insert(cpu, time).unwrap_or(time);
        if !self.started && !self.starts(pid, &what) {
            return;
        }
        match what {
            What::In => self.switch_in(time, pid, tid, cpu, out),
            What::Out { preempted } => self.switch_out(time, pid, tid, cpu, preempted, out),
            What::Fork(task) => self.fork(time, task, cpu, out),
            What::Exit(task) => self.exit(time, task.tid, cpu, out),
            What::Found(found) => self.found((time, pid, tid, cpu), *found, out),
            What::Comm(comm) if comm.exec => self.exec(time, pid, cpu, *comm, out),
            What::Comm(comm) => out(rename(time, tid, comm.name)),
            What::Map(mapping) => self.map(*mapping, out),
            What::Sample(sample) => {
                if self.threads.contains_key(&tid) {
                    let event = Event::Sample(Sample {
                        time,
                        tid,
                        cpu,
                        kernel: sample.kernel,
                        weight: self.period,
                        stack: None,
                    });
                    out(Output::Job(Job::Stack {
                        raw: sample.stack,
                        python: PythonFrames::None,
                        event,
                    }));
                }
            }
            // The event's own counters are earlier and tell samples from switches.
            What::Lost(_) if self.counted => {}
            What::Lost(count) => {
                let what = LostKind::Intervals;
                let lost = Lost { from: before, to: time, what, cpu: Some(cpu), count };
                self.lose(&lost);
                out(Output::Event(Event::Lost(lost)));
            }
            What::Throttled => self.throttled += 1,
        }
    }

    /// Whether this record is the root's exec, before which nothing counts.
    fn starts(&mut self, pid: Pid, what: &What) -> bool {
        self.started = pid == self.root && matches!(what, What::Comm(comm) if comm.exec);
        self.started
    }

    /// Notes records that a CPU lost. Those of switches make what they touch unknown.
    pub fn lose(&mut self, lost: &Lost) {
        self.lost += lost.count;
        let Some(cpu) = lost.cpu.filter(|_| lost.what != LostKind::Samples) else { return };
        let (from, to) = (lost.from, lost.to);
        match self.losses.iter_mut().rev().find(|loss| loss.cpu == cpu) {
            Some(last) if from <= last.to => last.to = last.to.max(to),
            _ => self.losses.push(Loss { cpu, from, to }),
        }
    }

    /// Whether any CPU lost switches in `from..to`.
    fn holed(&self, from: Nanos, to: Nanos) -> bool {
        self.losses.iter().any(|loss| loss.from < to && from < loss.to)
    }

    /// Ends a stay on `cpu`: where that CPU lost records, the thread may have been off unseen. A
    /// stay elsewhere is certain, for it would have begun and ended in that CPU's ring.
    fn leave(&self, tid: Tid, cpu: u16, since: Nanos, time: Nanos, out: &mut dyn FnMut(Output)) {
        for loss in self.losses.iter().filter(|loss| loss.cpu == cpu) {
            let (from, to) = (loss.from.max(since), loss.to.min(time));
            if from < to {
                out(gap(tid, from, to));
            }
        }
    }

    /// Ends a stay off the CPU.
    fn back(&self, tid: Tid, place: Place, cpu: u16, time: Nanos, out: &mut dyn FnMut(Output)) {
        match place {
            Place::Off { since, .. } if self.holed(since, time) => out(gap(tid, since, time)),
            Place::Off { since, left, cpu: cpu_off } => {
                let interval = interval(tid, since, time, left, cpu_off, cpu, false);
                out(Output::Event(Event::Interval(interval)));
            }
            Place::Found { since, .. } if since >= time => {}
            Place::Found { since, .. } if self.holed(since, time) => out(gap(tid, since, time)),
            Place::Found { since, left, looked, cpu: cpu_off } => {
                // It was off since it was found; the look counts if it was off still.
                let ready = Left::Preempted;
                let left = if looked <= time { left.unwrap_or(ready) } else { Left::Unknown };
                let interval = interval(tid, since, time, left, cpu_off, cpu, false);
                out(Output::Event(Event::Interval(interval)));
            }
            // It never left, as far as we saw.
            Place::On { since, .. } if since < time => out(gap(tid, since, time)),
            Place::On { .. } => {}
        }
    }

    fn switch_in(
        &mut self,
        time: Nanos,
        pid: Pid,
        tid: Tid,
        cpu: u16,
        out: &mut dyn FnMut(Output),
    ) {
        let Some(thread) = self.known(time, pid, tid, cpu, out) else { return };
        thread.runs += u64::from(time >= thread.counted);
        let place = std::mem::replace(&mut thread.place, Place::On { since: time, cpu });
        self.back(tid, place, cpu, time, out);
    }

    fn switch_out(
        &mut self,
        time: Nanos,
        pid: Pid,
        tid: Tid,
        cpu: u16,
        preempted: bool,
        out: &mut dyn FnMut(Output),
    ) {
        let Some(thread) = self.known(time, pid, tid, cpu, out) else { return };
        let left =
            if preempted { Left::Preempted } else { Left::Blocked { uninterruptible: false } };
        let place = std::mem::replace(&mut thread.place, Place::Off { since: time, left, cpu });
        match place {
            Place::On { since, cpu } | Place::Found { since, cpu, .. } => {
                self.leave(tid, cpu, since, time, out);
            }
            // Back and gone again unseen in between.
            Place::Off { since, .. } => out(gap(tid, since, time)),
        }
    }

    /// The thread; one whose fork record was lost starts here.
    fn known(
        &mut self,
        time: Nanos,
        pid: Pid,
        tid: Tid,
        cpu: u16,
        out: &mut dyn FnMut(Output),
    ) -> Option<&mut Thread> {
        // The kernel's mark for a task that is already gone from the pid tables.
        if tid.0 == u32::MAX || pid.0 == u32::MAX {
            return None;
        }
        if !self.threads.contains_key(&tid) {
            let (parent_tid, parent_pid) = (Tid(0), Pid(0));
            let how = StartKind::Found;
            let start = Start { time, tid, pid, parent_tid, parent_pid, how };
            self.add(start, Place::On { since: time, cpu }, out);
        }
        self.threads.get_mut(&tid)
    }

    /// A thread that ran already is seen from now on, whatever was thought of it before.
    fn found(
        &mut self,
        (time, pid, tid, cpu): (Nanos, Pid, Tid, u16),
        found: Found,
        out: &mut dyn FnMut(Output),
    ) {
        let Found { parent, left, looked } = found;
        let place = Place::Found { since: time, left, looked, cpu };
        let Some(thread) = self.threads.get_mut(&tid) else {
            let (parent_tid, how) = (Tid(0), StartKind::Found);
            let start = Start { time, tid, pid, parent_tid, parent_pid: parent, how };
            return self.add(start, place, out);
        };
        let since = thread.place.since();
        thread.place = place;
        (thread.runs, thread.counted) = (0, looked);
        self.processes.entry(pid).or_default().parent = parent;
        if since < time {
            out(gap(tid, since, time));
        }
    }

    fn add(&mut self, start: Start, place: Place, out: &mut dyn FnMut(Output)) {
        let thread = Thread { pid: start.pid, place, runs: 0, counted: start.time };
        self.threads.insert(start.tid, thread);
        let process = self.processes.entry(start.pid).or_default();
        if start.parent_pid != start.pid {
            process.parent = start.parent_pid;
        }
        out(Output::Event(Event::Start(start)));
    }

    fn fork(&mut self, time: Nanos, task: Task, cpu: u16, out: &mut dyn FnMut(Output)) {
        let Task { pid, ppid: parent_pid, tid, ptid: parent_tid } = task;
        if let Some(old) = self.threads.get(&tid) {
            // Met in `/proc` a moment before its record was written.
            if self.priming && matches!(old.place, Place::Found { .. }) {
                return;
            }
            // The id is used again, so the exit of its former owner was lost.
            let since = old.place.since();
            if since < time {
                out(gap(tid, since, time));
            }
            self.end(time, tid, out);
        }
        let new_process = pid != parent_pid;
        let how = if new_process { StartKind::Process } else { StartKind::Thread };
        let place = Place::Off { since: time, left: Left::New, cpu };
        self.add(Start { time, tid, pid, parent_tid, parent_pid, how }, place, out);
        if new_process {
            out(Output::Job(Job::Fork { parent: parent_pid, child: pid }));
        }
    }

    fn exit(&mut self, time: Nanos, tid: Tid, cpu: u16, out: &mut dyn FnMut(Output)) {
        let Some(thread) = self.threads.get(&tid) else { return };
        match thread.place {
            Place::On { since, cpu } => self.leave(tid, cpu, since, time, out),
            Place::Found { since, left: None, .. } => self.leave(tid, cpu, since, time, out),
            Place::Off { since, .. } | Place::Found { since, .. } if since < time => {
                out(gap(tid, since, time));
            }
            Place::Off { .. } | Place::Found { .. } => {}
        }
        self.end(time, tid, out);
    }

    /// Takes a thread off the books.
    fn end(&mut self, time: Nanos, tid: Tid, out: &mut dyn FnMut(Output)) {
        let Some(thread) = self.threads.remove(&tid) else { return };
        let pid = thread.pid;
        // Counted afresh: an exec from another thread reorders who is known under which id.
        let last = !self.threads.values().any(|other| other.pid == pid);
        let how = if last { ExitKind::Process { status: None } } else { ExitKind::Thread };
        if last {
            self.settle_exec(pid, None, out);
            self.processes.remove(&pid);
        }
        let books = Books { runs_seen: Some(thread.runs), ..Books::default() };
        out(Output::Event(Event::Exit(Exit { time, tid, pid, how, books })));
        if last {
            out(Output::Job(Job::Exit(pid)));
        }
    }

    fn exec(&mut self, time: Nanos, pid: Pid, cpu: u16, comm: Comm, out: &mut dyn FnMut(Output)) {
        let leader = Tid::from(pid);
        let old_tid = self.caller_of_exec(pid);
        if let Some(thread) = self.threads.remove(&old_tid) {
            self.threads.insert(leader, thread);
        } else {
            let (parent_tid, parent_pid) = (Tid(0), Pid(0));
            let how = if pid == self.root { StartKind::Root } else { StartKind::Found };
            let start = Start { time, tid: leader, pid, parent_tid, parent_pid, how };
            self.add(start, Place::On { since: time, cpu }, out);
        }
        self.settle_exec(pid, None, out);
        let (path, argv) = comm.command.unwrap_or_default();
        let exec = Exec { time, pid, old_tid, path, argv };
        self.processes.entry(pid).or_default().exec = Some(Box::new((exec, comm.name)));
    }

    /// When another thread than the leader calls exec, all others end first, the leader
    /// too, and the caller goes on under the leader's id: it is the one that is left.
    fn caller_of_exec(&self, pid: Pid) -> Tid {
        let leader = Tid::from(pid);
        if self.threads.contains_key(&leader) {
            return leader;
        }
        let mut left: Vec<Tid> = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.pid == pid)
            .map(|(&tid, _)| tid)
            .collect();
        left.sort_unstable();
        left.first().copied().unwrap_or(leader)
    }

    fn map(&mut self, mapping: Mapping, out: &mut dyn FnMut(Output)) {
        self.settle_exec(mapping.pid, Some(&mapping.path), out);
        out(Output::Job(Job::Map(mapping)));
    }

    /// Delivers an exec that waited for its program. The kernel maps the program before
    /// anything else, so the first mapping names it without a race; what `/proc` said is kept
    /// only if it agrees: the process may have gone through another exec by then.
    fn settle_exec(&mut self, pid: Pid, path: Option<&Text>, out: &mut dyn FnMut(Output)) {
        let Some(waits) = self.processes.get_mut(&pid).and_then(|p| p.exec.take()) else {
            return;
        };
        let (mut exec, name) = *waits;
        if let Some(path) = path
            && exec.path != *path
        {
            exec.argv.clear();
            exec.path = path.clone();
        }
        // The mappings follow one by one, complete: the image itself needs no addresses.
        out(Output::Job(Job::Exec(Image {
            pid,
            path: exec.path.clone(),
            identity: (0, 0),
            at_phdr: 0,
            at_entry: 0,
            at_base: 0,
            at_sysinfo_ehdr: 0,
        })));
        let time = exec.time;
        out(Output::Event(Event::Exec(exec)));
        out(rename(time, pid.into(), name));
    }

    /// Ends the recording at `time`: closes what is open. `books` gives the kernel's counts
    /// for a thread that lives, given ours.
    pub fn finish(
        &mut self,
        time: Nanos,
        books: &dyn Fn(Pid, Tid, u64) -> Books,
        out: &mut dyn FnMut(Output),
    ) {
        let mut pids: Vec<Pid> = self.processes.keys().copied().collect();
        pids.sort_unstable();
        for pid in pids {
            self.settle_exec(pid, None, out);
        }
        let mut threads: Vec<(Tid, Thread)> = self.threads.drain().collect();
        threads.sort_unstable_by_key(|(tid, _)| *tid);
        for (tid, thread) in threads {
            let Thread { pid, place, runs, .. } = thread;
            let books = books(pid, tid, runs);
            let since = place.since();
            // Its exit may be among the lost records: then nobody knows what it did since.
            // Or it was cloned just before its maker's events were opened: then it ran unseen.
            let newborn = matches!(place, Place::Off { left: Left::New, .. });
            let unheard = newborn && books.runs != Some(0);
            let gone = (newborn || !self.losses.is_empty()) && books.runs.is_none();
            match place {
                _ if since >= time => {}
                _ if gone || unheard => out(gap(tid, since, time)),
                Place::On { since, cpu } | Place::Found { since, left: None, cpu, .. } => {
                    self.leave(tid, cpu, since, time, out);
                }
                _ if self.holed(since, time) => out(gap(tid, since, time)),
                Place::Off { left, cpu, .. } | Place::Found { left: Some(left), cpu, .. } => {
                    let open = interval(tid, since, time, left, cpu, cpu, true);
                    out(Output::Event(Event::Interval(open)));
                }
            }
            let how = if gone { ExitKind::Process { status: None } } else { ExitKind::Alive };
            out(Output::Event(Event::Exit(Exit { time, tid, pid, how, books })));
        }
        self.processes.clear();
    }
}

/// How many ancestors of a process are known. A circle is possible only in nonsense.
fn depth(processes: &FastMap<Pid, Process>, pid: Pid) -> usize {
    let parent = |&pid: &Pid| processes.get(&pid).map(|process| process.parent);
    std::iter::successors(Some(pid), parent).take(processes.len() + 1).count()
}

fn gap(tid: Tid, from: Nanos, to: Nanos) -> Output {
    Output::Event(Event::Gap(Gap { tid, from, to, count: 1, sequence: None }))
}

fn rename(time: Nanos, tid: Tid, name: Text) -> Output {
    Output::Event(Event::Rename(Rename { time, tid, name }))
}

fn interval(
    tid: Tid,
    off: Nanos,
    on: Nanos,
    left: Left,
    cpu_off: u16,
    cpu_on: u16,
    open: bool,
) -> Interval {
    Interval {
        tid,
        off,
        woken: None,
        on,
        left,
        call: None,
        waker: None,
        taker: None,
        cpu_off,
        cpu_on,
        sequence: None,
        marks: Marks { reason_seen: false, open, ..Marks::default() },
    }
}

#[cfg(test)]
mod tests;
