//! The `proc` tier: nothing but `/proc`, for where everything else is forbidden.
//!
//! Polls all threads of the tree in [`Source::drain`] (the caller drains about every 10 ms), at
//! most every 4 ms and so rarely that polling takes no more than
//! 3 % of one CPU. How long a thread ran, queued and waited in each period is
//! exact (`schedstat`); what it waited in is what the poll saw (`syscall`); times are those of
//! polls and marked so. See `ledger.rs` for how a period is divided.

mod ledger;
mod tree;

use self::ledger::Seen;
use self::ledger::Why;
use self::tree::Exited;
use self::tree::Tree;
use super::CaptureError;
use super::CaptureStats;
use super::Options;
use super::Progress;
use super::Source;
use super::Target;
use super::adopted;
use super::doctor;
use super::naming::Job;
use super::naming::Naming;
use super::naming::Outcome;
use super::observer;
use super::observer::Observer;
use super::procfs;
use super::procfs::CallText;
use super::sys::perf_event::monotonic;
use super::sys::perf_event::thread_cpu;
use crate::model::Event;
use crate::model::Exec;
use crate::model::Left;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Rename;
use crate::model::Tid;
use crate::model::Tier;

/// Polls are no closer than this.
const SHORTEST_PERIOD: Nanos = Nanos::from_millis(4);

/// Polling may use one part in this many of one CPU.
const CPU_SHARE: u64 = 33;

/// Waits this long are worth a look at their stack.
const LOOK_AFTER: Nanos = Nanos::from_millis(3);

/// Recorder of the `proc` tier.
pub struct ProcSource {
    options: Options,
    naming: Option<Naming>,
    observer: Observer,
    tree: Tree,
    batch: Vec<Event>,
    /// No poll before that.
    due: Nanos,
    /// CPU time of the last polls, latest first.
    costs: [Nanos; 4],
    /// The recording ends because the command did: what is found dead now has just died.
    ending: bool,
    /// CPUs of the machine.
    cpus: usize,
    polls: u64,
    began: Nanos,
}

impl ProcSource {
    /// Checks that the tier can record here. Nothing runs yet.
    pub fn new(options: Options) -> Result<Self, CaptureError> {
        let own = Pid(std::process::id());
        let readable = procfs::read_process(own, "schedstat").is_some();
        if !readable {
            return Err(CaptureError::NotAllowed {
                tier: "proc",
                reason: "/proc/PID/schedstat cannot be read".to_owned(),
                remedy: "`mount -t proc proc /proc`, on a kernel with CONFIG_SCHED_INFO".to_owned(),
            });
        }
        Ok(Self {
            options,
            naming: None,
            observer: Observer::new(options.wait_stacks),
            tree: Tree::new(Pid(0)),
            batch: Vec::new(),
            due: Nanos::ZERO,
            costs: [Nanos::ZERO; 4],
            ending: false,
            cpus: doctor::online_cpus().len(),
            polls: 0,
            began: Nanos::ZERO,
        })
    }

    /// Looks at every thread once.
    fn poll(&mut self, now: Nanos) {
        let before = thread_cpu();
        self.polls += 1;
        if !self.tree.root_runs(now, &mut self.batch) {
            return;
        }
        for tid in self.tree.tids() {
            self.visit(tid);
        }
        for tid in self.tree.discover(now, &mut self.batch) {
            self.visit(tid);
        }
        self.say_execs(now);
        self.look(now);
        self.tree.polled(now);
        self.costs.rotate_right(1);
        self.costs[0] = thread_cpu() - before;
        // The cheapest of the last polls: what a new program costs once (its maps, its name) must
        // not blind the recorder for a tenth of a second after.
        let usual = self.costs.into_iter().min().unwrap_or_default();
        self.due = now + SHORTEST_PERIOD.max(Nanos(usual.0.saturating_mul(CPU_SHARE)));
    }

    /// Reads one thread and tells what it did since the last poll.
    fn visit(&mut self, tid: Tid) {
        let Some(thread) = self.tree.threads.get_mut(&tid) else { return };
        let now = monotonic();
        let Some(books) = thread.read_books() else { return self.end(tid, None) };
        if thread.ledger.is_still(books) {
            return thread.ledger.still(now);
        }
        let pid = thread.pid;
        let text = procfs::read_task(pid, tid, "syscall").and_then(|b| procfs::parse_syscall(&b));
        let stat = procfs::read_task(pid, tid, "stat").and_then(|b| procfs::parse_stat(&b));
        let Some(stat) = stat else { return self.end(tid, None) };
        if matches!(stat.state, b'Z' | b'X') {
            // A leader among living threads may be on its way through an exec that another
            // thread called: it looks dead until that thread has taken over its id.
            let leads = Tid::from(pid) == tid;
            if leads && !std::mem::replace(&mut thread.dying, true) && self.tree.lives(pid) {
                return;
            }
            let Some(thread) = self.tree.threads.get(&tid) else { return };
            // Dead, not reaped: its books are complete now.
            let books = thread.read_books();
            return self.end(tid, books);
        }
        let mut seen = seen(&mut self.observer, pid, tid, stat.state, text);
        // What was read while the thread moved on may be of two waits: that is no reason.
        let moved = thread.read_books().is_none_or(|after| after.runs != books.runs);
        if let (Seen::Waiting(why), true) = (&mut seen, moved) {
            *why = Why { call: None, reason_seen: false, ..*why };
        }
        thread.moved = true;
        thread.dying = false;
        thread.looks = 0;
        thread.vsize = stat.vsize;
        if thread.comm != stat.comm {
            thread.comm = stat.comm.clone();
            self.batch.push(Event::Rename(Rename { time: now, tid, name: stat.comm }));
        }
        let batch = &mut self.batch;
        thread.ledger.poll(now, books, seen, stat.cpu, &mut |i| batch.push(Event::Interval(i)));
    }

    /// A thread is gone.
    fn end(&mut self, tid: Tid, books: Option<procfs::SchedStat>) {
        let now = monotonic();
        let exited = self.tree.end(tid, now, books, self.ending, &mut self.batch);
        if let (Exited::Process(pid), Some(naming)) = (exited, &mut self.naming) {
            naming.send(Job::Exit(pid));
        }
    }

    /// Tells of processes that run another program than at the last poll.
    fn say_execs(&mut self, now: Nanos) {
        for change in self.tree.changed_programs() {
            let pid = change.pid;
            let Some(naming) = &mut self.naming else { continue };
            if change.forked {
                naming.send(Job::Fork { parent: change.parent, child: pid });
            }
            let Some(path) = change.exec else { continue };
            let time = self.tree.root_exec(pid).unwrap_or(now);
            let argv = procfs::argv(pid);
            let tid = pid.into();
            self.batch.push(Event::Exec(Exec { time, pid, old_tid: tid, path, argv }));
            if let Some(stat) =
                procfs::read_task(pid, tid, "stat").and_then(|t| procfs::parse_stat(&t))
            {
                self.batch.push(Event::Rename(Rename { time, tid, name: stat.comm }));
            }
            if let Some(image) = procfs::image(pid) {
                naming.send(Job::Exec(image));
            }
            self.tree.forget_maps(pid);
        }
    }

    /// Takes stacks and objects of waits that are long enough.
    fn look(&mut self, now: Nanos) {
        if let Some(naming) = &self.naming {
            self.observer.charge(naming.cost_of_looks());
        }
        self.observer.set_spare(self.tree.awake() < self.cpus);
        for (tid, pid) in self.tree.sleepers(now, LOOK_AFTER) {
            if !self.observer.may_look(now) {
                break;
            }
            if let Some(thread) = self.tree.threads.get_mut(&tid) {
                thread.looks += 1;
            }
            let Ok(look) = self.observer.look(pid, tid) else { continue };
            if let (Some(naming), true) = (&mut self.naming, look.stack.is_some()) {
                for mapping in self.tree.new_maps(pid) {
                    naming.send(Job::Map(mapping));
                }
            }
            look.deliver(self.naming.as_mut(), &mut |event| self.batch.push(event));
        }
    }

    fn deliver(&mut self, sink: &mut dyn FnMut(Record)) -> u64 {
        self.batch.sort_by_key(Event::time);
        let mut records = self.batch.len() as u64;
        for event in self.batch.drain(..) {
            sink(Record::Event(event));
        }
        if let Some(naming) = &mut self.naming {
            naming.drain(&mut |record| {
                records += 1;
                sink(record);
            });
            naming.pythons().iter().for_each(|found| self.observer.note_python(found));
        }
        records
    }
}

/// What a thread does, from its `syscall` and then its `stat`.
fn seen(observer: &mut Observer, pid: Pid, tid: Tid, state: u8, text: Option<CallText>) -> Seen {
    let left = match state {
        b'T' | b't' => {
            return Seen::Waiting(Why { left: Left::Stopped, call: None, reason_seen: true });
        }
        b'S' | b'D' => Left::Blocked { uninterruptible: state == b'D' },
        _ => return Seen::Running,
    };
    match text {
        Some(CallText::Running) => Seen::Running,
        Some(CallText::Blocked { call: None, .. }) => {
            Seen::Waiting(Why { left, call: None, reason_seen: true })
        }
        Some(CallText::Blocked { call: Some((number, args)), sp, .. })
            if observer::readable(sp) =>
        {
            let (call, _) = observer.describe(pid, tid, sp, (number, args));
            Seen::Waiting(Why { left, call: Some(call), reason_seen: true })
        }
        _ => Seen::Waiting(Why { left, call: None, reason_seen: false }),
    }
}

impl Source for ProcSource {
    fn tier(&self) -> Tier {
        Tier::Proc
    }

    fn limits(&self) -> Vec<String> {
        let mut limits = vec![
            "The proc tier polls about 100 times a second (less with many threads): how long a \
             thread ran, queued and waited is exact, what it waited in and in which order is \
             sampled, and threads that live shorter than a poll may be missing"
                .to_owned(),
            "The proc tier sees neither wakers nor processes whose parent ended before the next poll"
                .to_owned(),
        ];
        if self.options.sample_hz > 0 {
            limits.push("The proc tier has no CPU samples: running time has no stacks".to_owned());
        }
        limits
    }

    fn start(&mut self, target: &Target) -> Result<(), CaptureError> {
        self.naming = Some(Naming::start()?);
        let now = monotonic();
        self.began = now;
        self.tree = Tree::new(target.pid);
        self.tree.hold_root(now).ok_or_else(|| CaptureError::Os {
            doing: format!("reading /proc/{} of the command", target.pid.0),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    fn attach(&mut self, roots: &[Pid], sink: &mut dyn FnMut(Record)) -> Result<(), CaptureError> {
        let mut naming = Naming::start()?;
        // Who is started meanwhile is met by the first poll: all found are taken to have run.
        let now = monotonic();
        self.began = now;
        self.tree = Tree::new(Pid(0));
        self.tree.adopt(&adopted::tree(roots), now, &mut self.batch);
        for pid in self.tree.pids() {
            let mut jobs = |job| naming.send(job);
            adopted::tell_program(now, pid, &mut jobs, &mut |event| self.batch.push(event));
        }
        self.naming = Some(naming);
        if self.batch.is_empty() {
            return Err(adopted::all_gone());
        }
        self.deliver(sink);
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        self.tree.threads.is_empty()
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Record)) -> Result<Progress, CaptureError> {
        let now = monotonic();
        if now >= self.due {
            self.poll(now);
        }
        Ok(Progress { records: self.deliver(sink), fill: 0.0 })
    }

    fn stop(&mut self, sink: &mut dyn FnMut(Record)) -> Result<CaptureStats, CaptureError> {
        self.ending = true;
        self.poll(monotonic());
        let now = monotonic();
        self.tree.close(now, &mut self.batch);
        self.deliver(sink);
        let named = self.naming.take().map(|naming| naming.finish_with_warnings(sink));
        let Outcome { counts: stacks, mut warnings } = named.unwrap_or_default();
        warnings.extend(self.observer.warnings());
        let mean = Nanos((now - self.began).0 / self.polls.max(1));
        if mean > Nanos::from_millis(25) {
            warnings.push(format!(
                "polls were {mean} apart on average to keep the recorder's own cost down: reasons of \
                 waits shorter than that are unreliable"
            ));
        }
        Ok(CaptureStats { stacks, target_overhead: None, warnings })
    }
}
