//! From events to timelines: every thread in exactly one state at any time.
//!
//! ```text
//!            fork      run        off     woken     on            exit
//!  events     |         |          |        |        |              |
//!  thread     |runnable |  running |  lock  |runnable|   running    |
//!             ^ Start   ^ Interval(New)     ^ Interval ends here    ^ Exit
//! ```
//!
//! A thread's lifetime is tiled from its start by a cursor that only moves forward: what an
//! interval leaves open before it is `running`, what a loss leaves open is `unknown`. So the
//! states of a thread sum to its lifetime whatever the events say (promise P1).

use super::Call;
use super::Context;
use super::Event;
use super::Exec;
use super::Exit;
use super::ExitKind;
use super::Interval;
use super::Left;
use super::Nanos;
use super::Observation;
use super::Pid;
use super::Process;
use super::ProcessId;
use super::Rename;
use super::StackId;
use super::Start;
use super::StartKind;
use super::State;
use super::Text;
use super::Thread;
use super::ThreadId;
use super::Tid;
use super::Wait;
use super::Words;
use super::classify;
use super::holes::Holes;
use super::map::FastMap;

/// A stretch of a thread's life in one state.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The thread.
    pub thread: ThreadId,
    /// Its process.
    pub process: ProcessId,
    /// From here,
    pub start: Nanos,
    /// to here; never empty.
    pub end: Nanos,
    /// The state.
    pub state: State,
    /// Running: the CPU. Runnable: the CPU it then got. `None` where not seen.
    pub cpu: Option<u16>,
    /// The stay off the CPU this is part of; `None` for running and for losses.
    pub interval: Option<&'a Interval>,
    /// What it waited in, as recorded or as seen from outside. Where that was any of several futex
    /// words, it is the one that was let go of, if that was seen.
    pub call: Option<Call>,
    /// Its stack, where it was looked at from outside.
    pub site: Option<StackId>,
}

impl Segment<'_> {
    /// Its length, ns.
    pub fn duration(&self) -> Nanos {
        self.end - self.start
    }
}

/// Receives the segments of all threads. Those of one thread come in order and without
/// holes; those of different threads come as they become known.
pub type Visit<'v> = &'v mut dyn FnMut(&Segment);

/// What is remembered of a thread between its events.
#[derive(Clone, Debug)]
struct Progress {
    /// All before this is tiled.
    cursor: Nanos,
    /// CPU it runs on since the cursor.
    cpu: Option<u16>,
    /// Sequence number that its next interval must have.
    next_sequence: u32,
    /// The last look at it from outside.
    seen: Option<Observation>,
}

/// The state machine over a whole trace.
#[derive(Default)]
pub struct Timelines {
    threads: Vec<Thread>,
    processes: Vec<Process>,
    progress: Vec<Progress>,
    live: FastMap<Tid, ThreadId>,
    /// The last thread of each id that ended.
    ended: FastMap<Tid, ThreadId>,
    live_processes: FastMap<Pid, ProcessId>,
    words: Words,
    root: Option<ProcessId>,
    start: Option<Nanos>,
    end: Option<Nanos>,
    last: Nanos,
    holes: Holes,
}

impl Timelines {
    /// Timelines that know what futex words are from stacks seen in an earlier pass.
    pub fn new(words: Words) -> Self {
        Self { words, ..Self::default() }
    }

    /// All threads so far, by [`ThreadId`].
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// All processes so far, by [`ProcessId`].
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The living thread with this kernel id.
    pub fn thread_of(&self, tid: Tid) -> Option<ThreadId> {
        self.live.get(&tid).copied()
    }

    /// The thread of that id: the living one, else the last that bore it. For those that are told
    /// of after they ended, as a waker whose wait ended a moment later.
    pub fn last_thread_of(&self, tid: Tid) -> Option<ThreadId> {
        self.thread_of(tid).or_else(|| self.ended.get(&tid).copied())
    }

    /// The process of a thread.
    pub fn process_of(&self, thread: ThreadId) -> ProcessId {
        self.threads[thread.0 as usize].process
    }

    /// The living process with this kernel id.
    pub fn live_process(&self, pid: Pid) -> Option<ProcessId> {
        self.live_processes.get(&pid).copied()
    }

    /// The command's own process, once it was seen.
    pub fn root(&self) -> Option<ProcessId> {
        self.root
    }

    /// The stretch that everything is cut to: the root's exec to its exit. Before
    /// [`Timelines::finish`], what is known of it.
    pub fn window(&self) -> (Nanos, Nanos) {
        let start = self.start.unwrap_or(Nanos::ZERO);
        (start, self.end.unwrap_or(self.last).max(start))
    }

    /// Takes the next event, in time order. Gives the thread that the event is about.
    pub fn feed(&mut self, event: &Event, visit: Visit) -> Option<ThreadId> {
        self.last = self.last.max(event.time());
        match event {
            Event::Start(start) => self.on_start(start, visit),
            Event::Interval(interval) => Some(self.on_interval(interval, visit)),
            Event::Gap(gap) => {
                let thread = self.known(gap.tid, gap.from.min(gap.to));
                self.run_until(thread, gap.from, visit);
                self.tile(thread, gap.to, State::Unknown, visit);
                let progress = &mut self.progress[thread.0 as usize];
                progress.next_sequence = match gap.sequence {
                    Some(last) => last.wrapping_add(1),
                    None => progress.next_sequence.wrapping_add(gap.count as u32),
                };
                Some(thread)
            }
            Event::Exec(exec) => Some(self.on_exec(exec, visit)),
            Event::Rename(rename) => {
                let thread = self.thread_of(rename.tid)?;
                self.rename(thread, rename);
                Some(thread)
            }
            Event::Exit(exit) => self.on_exit(exit, visit),
            Event::Observation(seen) => {
                let thread = self.thread_of(seen.tid)?;
                self.progress[thread.0 as usize].seen = Some(*seen);
                Some(thread)
            }
            Event::Moved(moved) => {
                let thread = self.thread_of(moved.tid)?;
                self.threads[thread.0 as usize].moved = Some(*moved);
                Some(thread)
            }
            Event::Lost(lost) => {
                if lost.what == super::LostKind::File {
                    self.holes.add(lost.from, lost.to);
                }
                None
            }
            Event::Runtime(runtime) => {
                if let Some(process) = self.live_process(runtime.pid) {
                    self.processes[process.0 as usize].runtime = Some(runtime.clone());
                }
                None
            }
            Event::Sample(_)
            | Event::WaitStack(_)
            | Event::Probe(_)
            | Event::Object(_)
            | Event::Piped(_)
            | Event::Word(_)
            | Event::Named(_) => self.thread_of(event.tid()?),
        }
    }

    /// Closes what is open at the end of the recording. `complete` says that the recorder
    /// closed open intervals itself, so a thread without one was running; otherwise what
    /// it did since its last event is unknown.
    pub fn finish(&mut self, recording_end: Option<Nanos>, complete: bool, visit: Visit) {
        // A summary that claims an end before the last event is not believed.
        let end = self.end.unwrap_or(recording_end.unwrap_or(self.last).max(self.last));
        self.end = Some(end);
        self.last = self.last.max(end);
        let mut open: Vec<ThreadId> =
            self.threads.iter().filter(|t| t.end.is_none()).map(|t| t.id).collect();
        open.sort_unstable();
        for id in open {
            if complete {
                self.run_until(id, end, visit);
            } else {
                self.tile(id, end, State::Unknown, visit);
            }
            let thread = &mut self.threads[id.0 as usize];
            thread.end = Some(end.max(thread.start));
            thread.alive = true;
        }
        for process in &mut self.processes {
            process.alive = process.end.is_none();
            process.end.get_or_insert(end.max(process.start));
        }
    }

    fn on_start(&mut self, start: &Start, visit: Visit) -> Option<ThreadId> {
        if self.end.is_some_and(|end| start.time >= end) {
            return None;
        }
        self.start.get_or_insert(start.time);
        let process = self.process_for(start);
        if start.how == StartKind::Root {
            self.root = Some(process);
            self.start = Some(start.time);
        }
        if let Some(stale) = self.thread_of(start.tid) {
            // The id is in use again, so an exit was lost: since when it was gone, nobody knows.
            self.tile(stale, start.time, State::Unknown, visit);
            self.end_thread(stale, start.time, visit);
        }
        let parent = self.thread_of(start.parent_tid);
        let id = self.add_thread(start.tid, process, start.time, start.how);
        if let Some(parent) = parent {
            // As the kernel has it: a new thread is called like the one that made it.
            self.threads[id.0 as usize].name = self.threads[parent.0 as usize].name.clone();
        }
        Some(id)
    }

    /// The process of a starting thread: its own, or a new one.
    fn process_for(&mut self, start: &Start) -> ProcessId {
        let joins = start.how == StartKind::Thread
            || (start.how == StartKind::Found && start.tid != Tid::from(start.pid));
        if let Some(id) = self.live_process(start.pid).filter(|_| joins) {
            return id;
        }
        let parent = self.live_process(start.parent_pid);
        let mut process =
            Process::new(ProcessId(self.processes.len() as u32), start.pid, start.time);
        process.ppid = start.parent_pid;
        process.parent = parent;
        if let Some(parent) = parent {
            // A fork is its parent's program until it execs.
            let parent = &self.processes[parent.0 as usize];
            process.name = parent.name.clone();
            process.argv.clone_from(&parent.argv);
            process.runtime.clone_from(&parent.runtime);
        }
        self.live_processes.insert(start.pid, process.id);
        let id = process.id;
        self.processes.push(process);
        id
    }

    fn add_thread(
        &mut self,
        tid: Tid,
        process: ProcessId,
        start: Nanos,
        how: StartKind,
    ) -> ThreadId {
        let id = ThreadId(self.threads.len() as u32);
        let mut thread = Thread::new(id, tid, process, start, how);
        thread.name = self.processes[process.0 as usize].name.clone();
        self.threads.push(thread);
        self.progress.push(Progress { cursor: start, cpu: None, next_sequence: 0, seen: None });
        self.live.insert(tid, id);
        id
    }

    /// The living thread of that id; one that was never announced (its start was lost) is
    /// made up from `since` on, in a process of its own kind.
    fn known(&mut self, tid: Tid, since: Nanos) -> ThreadId {
        if let Some(id) = self.thread_of(tid) {
            return id;
        }
        let pid = Pid(0);
        self.start.get_or_insert(since);
        let process = self.live_process(pid).unwrap_or_else(|| {
            let mut process = Process::new(ProcessId(self.processes.len() as u32), pid, since);
            process.name = Text::from("[start not seen]");
            self.live_processes.insert(pid, process.id);
            self.processes.push(process);
            ProcessId(self.processes.len() as u32 - 1)
        });
        self.add_thread(tid, process, since, StartKind::Found)
    }

    fn on_interval(&mut self, interval: &Interval, visit: Visit) -> ThreadId {
        let id = match self.thread_of(interval.tid) {
            Some(id) => id,
            // Intervals after the exit event exist (preempted inside do_exit): outside its life.
            None if let Some(&ended) = self.ended.get(&interval.tid) => return ended,
            None => self.known(interval.tid, interval.off.min(interval.on)),
        };
        self.check_sequence(id, interval, visit);
        self.run_until(id, interval.off, visit);
        let wait = self.describe(id, interval);
        // Damaged records may say anything: `max` before `min` cannot panic as `clamp` can.
        let woken = interval.woken.unwrap_or(interval.on).max(interval.off).min(interval.on);
        if matches!(interval.left, Left::Blocked { .. } | Left::Stopped | Left::Unknown) {
            self.emit(id, woken, &wait, visit);
        }
        let queued = Segment { state: State::Runnable, ..wait };
        self.emit(id, interval.on, &queued, visit);
        self.count(id, interval);
        self.progress[id.0 as usize].cpu = Some(interval.cpu_on);
        id
    }

    /// A hole in the sequence means lost records that nobody reported: what lies between is
    /// unknown, running included.
    fn check_sequence(&mut self, id: ThreadId, interval: &Interval, visit: Visit) {
        let Some(sequence) = interval.sequence else { return };
        let progress = &mut self.progress[id.0 as usize];
        let expected = progress.next_sequence;
        progress.next_sequence = sequence.wrapping_add(1);
        let first = self.threads[id.0 as usize].how == StartKind::Found && expected == 0;
        if sequence != expected && !first {
            self.tile(id, interval.off, State::Unknown, visit);
        }
    }

    /// The waiting part of an interval, as a segment without bounds yet.
    fn describe<'a>(&self, id: ThreadId, interval: &'a Interval) -> Segment<'a> {
        let progress = &self.progress[id.0 as usize];
        let during = |seen: &Observation| seen.time >= interval.off && seen.time <= interval.on;
        let seen = progress.seen.filter(during);
        // A look belongs to the wait it was taken in: where the recorder knows the call
        // itself, one that saw another call saw another wait.
        let about = |call: Option<Call>| call.map(|call| (call.number, call.arg0));
        let same = |seen: &Observation| {
            !interval.marks.reason_seen || seen.call.map(about) == Some(about(interval.call))
        };
        let site = seen.filter(same).and_then(|seen| seen.stack);
        let (call, reason_seen, uninterruptible) = match (interval.left, seen) {
            (Left::Blocked { uninterruptible }, _) if interval.marks.reason_seen => {
                (interval.call, true, uninterruptible)
            }
            (_, Some(Observation { call: Some(call), uninterruptible, .. })) => {
                (call, true, uninterruptible)
            }
            _ => (None, false, false),
        };
        let state = match interval.left {
            Left::Stopped => State::Stopped,
            Left::Blocked { .. } | Left::Unknown if reason_seen => {
                self.classify(id, interval, call, uninterruptible)
            }
            _ => State::Unknown,
        };
        let process = self.process_of(id);
        Segment {
            thread: id,
            process,
            start: interval.off,
            end: interval.on,
            state,
            cpu: Some(interval.cpu_on),
            interval: Some(interval),
            call: call.map(|call| self.awaited(process, interval, call)),
            site,
        }
    }

    /// The call that a wait was in. One for any of several futex words is taken for one for the
    /// word that was let go of, if that is told by a thread that has the same words.
    fn awaited(&self, process: ProcessId, interval: &Interval, call: Call) -> Call {
        let one = || {
            let waker = interval.waker.filter(|waker| waker.context == Context::Task)?;
            let same = self.process_of(self.last_thread_of(waker.tid)?) == process;
            call.one_of_several(waker.call.filter(|_| same)?, waker.arg0)
        };
        one().unwrap_or(call)
    }

    fn classify(
        &self,
        id: ThreadId,
        interval: &Interval,
        call: Option<Call>,
        uninterruptible: bool,
    ) -> State {
        let process = self.process_of(id);
        let word = call.and_then(|call| self.words.state(process, call.object()));
        let value = call.map_or(0, |call| call.arg2);
        classify(&Wait {
            call,
            uninterruptible,
            woken_in: interval.waker.map(|waker| waker.context),
            word,
            value_is_thread: value != 0
                && self.thread_of(Tid(value)).is_some_and(|t| self.process_of(t) == process),
        })
    }

    fn count(&mut self, id: ThreadId, interval: &Interval) {
        let thread = &mut self.threads[id.0 as usize];
        match interval.left {
            // Still off the CPU: the kernel has counted the switch, and so do we.
            Left::Blocked { .. } | Left::Stopped => thread.voluntary += 1,
            Left::Preempted | Left::Yielded => thread.involuntary += 1,
            Left::New | Left::Unknown => {}
        }
        if interval.left != Left::New && !interval.marks.open && interval.cpu_on != interval.cpu_off
        {
            thread.migrations += 1;
        }
        thread.recovered += u64::from(interval.marks.recovered);
    }

    fn on_exec(&mut self, exec: &Exec, visit: Visit) -> ThreadId {
        let leader = Tid::from(exec.pid);
        if exec.old_tid != leader
            && let Some(caller) = self.thread_of(exec.old_tid)
        {
            self.end_thread(caller, exec.time, visit);
        }
        let id = self.revive(leader, exec.time, visit);
        let process = self.process_of(id);
        let name = exec.path.base_name();
        self.processes[process.0 as usize].exec(exec);
        self.threads[id.0 as usize].name = name;
        id
    }

    /// The leader's row, which an exec from another thread continues after the leader ended.
    fn revive(&mut self, leader: Tid, time: Nanos, visit: Visit) -> ThreadId {
        if let Some(id) = self.thread_of(leader) {
            return id;
        }
        let ended = self.ended.get(&leader).copied();
        let Some(id) =
            ended.filter(|&id| self.processes[self.process_of(id).0 as usize].end.is_none())
        else {
            return self.known(leader, time);
        };
        self.threads[id.0 as usize].end = None;
        self.live.insert(leader, id);
        self.tile(id, time, State::Other, visit);
        id
    }

    fn on_exit(&mut self, exit: &Exit, visit: Visit) -> Option<ThreadId> {
        let id = self.thread_of(exit.tid)?;
        self.threads[id.0 as usize].books = exit.books;
        let process = self.process_of(id);
        match exit.how {
            ExitKind::Alive => return Some(id),
            ExitKind::Thread => {}
            ExitKind::Process { status } => {
                let ended = &mut self.processes[process.0 as usize];
                if self.end.is_none_or(|end| exit.time <= end) {
                    ended.end = Some(exit.time);
                    ended.status = status;
                }
                self.live_processes.remove(&exit.pid);
            }
        }
        self.end_thread(id, exit.time, visit);
        if matches!(exit.how, ExitKind::Process { .. }) && self.root == Some(process) {
            self.end.get_or_insert(exit.time);
        }
        Some(id)
    }

    fn end_thread(&mut self, id: ThreadId, time: Nanos, visit: Visit) {
        self.run_until(id, time, visit);
        let end = self.end.map_or(time, |end| end.min(time));
        let cursor = self.progress[id.0 as usize].cursor;
        let thread = &mut self.threads[id.0 as usize];
        // Past the end of the run it did not exit for us: it outlived the command.
        thread.alive = self.end.is_some_and(|limit| time > limit);
        thread.end = Some(end.max(cursor));
        let tid = thread.tid;
        self.live.remove(&tid);
        self.ended.insert(tid, id);
    }

    fn rename(&mut self, id: ThreadId, rename: &Rename) {
        let thread = &mut self.threads[id.0 as usize];
        let process = &mut self.processes[thread.process.0 as usize];
        let lead = Tid::from(process.pid) == thread.tid;
        let exec = process.execs.last().filter(|exec| lead && exec.time == rename.time);
        thread.name = exec.map_or_else(|| rename.name.clone(), |exec| exec.called(&rename.name));
        if lead && (process.execs.is_empty() || exec.is_some()) {
            process.name.clone_from(&thread.name);
        }
    }

    /// On the CPU from the cursor to `until`, unless a hole in the file hides what it did.
    fn run_until(&mut self, id: ThreadId, until: Nanos, visit: Visit) {
        let progress = &self.progress[id.0 as usize];
        let (cursor, cpu) = (progress.cursor, progress.cpu);
        let state = if self.holes.hide(cursor, until) { State::Unknown } else { State::Running };
        let segment = Segment { state, cpu, ..self.blank(id) };
        self.emit(id, until, &segment, visit);
    }

    fn tile(&mut self, id: ThreadId, until: Nanos, state: State, visit: Visit) {
        let segment = Segment { state, ..self.blank(id) };
        self.emit(id, until, &segment, visit);
    }

    fn blank(&self, id: ThreadId) -> Segment<'static> {
        Segment {
            thread: id,
            process: self.process_of(id),
            start: Nanos::ZERO,
            end: Nanos::ZERO,
            state: State::Unknown,
            cpu: None,
            interval: None,
            call: None,
            site: None,
        }
    }

    /// Moves the cursor to `until` and gives the stretch it passed to `visit`.
    fn emit(&mut self, id: ThreadId, until: Nanos, like: &Segment, visit: Visit) {
        // Nothing is known beyond the present, whatever a damaged record claims.
        let until = self.end.map_or(until, |end| until.min(end)).min(self.last);
        let progress = &mut self.progress[id.0 as usize];
        if until <= progress.cursor {
            return;
        }
        let segment = Segment { start: progress.cursor, end: until, ..*like };
        progress.cursor = until;
        self.threads[id.0 as usize].states[segment.state] += segment.duration();
        visit(&segment);
    }
}
