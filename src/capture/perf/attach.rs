//! Attaching to processes that already run: an event per thread and CPU, inherited by all that these
//! threads start.
//!
//! ```text
//!   list, open all   list again: who is new?          begin
//!   |----------------|----------------|-- ... --|-----|------- recorded from here ------>
//!   a thread's records count from when its last event was open; they say where it is at `begin`
//! ```
//! A thread that is new in a later list was made either by a thread whose events it inherited: then
//! its first run left a record; or by one before its events were open: then it ran and left none,
//! and gets events of its own. Who has not run yet is asked again.

use super::Cpu;
use super::PerfSource;
use super::SETTLE;
use super::machine::Machine;
use super::machine::Output;
use super::period;
use super::record::Found;
use super::record::Raw;
use super::record::Task;
use super::record::What;
use super::refusal;
use super::stack_bytes;
use crate::capture::CaptureError;
use crate::capture::adopted;
use crate::capture::doctor;
use crate::capture::naming::Job;
use crate::capture::naming::Naming;
use crate::capture::procfs;
use crate::capture::procfs::Stat;
use crate::capture::sys::descriptors;
use crate::capture::sys::perf_event::EventFd;
use crate::capture::sys::perf_event::Since;
use crate::capture::sys::perf_event::monotonic;
use crate::model::Event;
use crate::model::FastSet;
use crate::model::Left;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Rename;
use crate::model::Start;
use crate::model::Tid;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// Lists of all threads, at most; those who were made during one are met by the next.
const MOST_LISTS: usize = 64;

/// Between two lists: a record that is being written is finished by then.
const PAUSE: Duration = Duration::from_millis(1);

/// When it is listed once more: who was being made at `begin` (copying the memory of a large
/// process takes a tenth of a second) has its events or never will.
const LAST_LIST: Nanos = Nanos::from_millis(500);

/// What is known of an attachment until its last list.
#[derive(Debug, Default)]
pub(super) struct Attachment {
    roots: Vec<Pid>,
    /// Threads with events of their own.
    opened: FastSet<Tid>,
    /// Threads that left a record of their own.
    heard: FastSet<Tid>,
    /// Unheard threads that had run at the last list.
    suspects: BTreeSet<Tid>,
    /// All that were met by the first list have their events.
    listed: bool,
    /// Descendants that may not be watched.
    left_out: BTreeSet<Pid>,
    /// When to list for the last time; `None`: that was.
    last: Option<Nanos>,
}

impl Attachment {
    /// Notes who wrote a record.
    pub(super) fn hear(&mut self, raw: &Raw) {
        if matches!(raw.what, What::In | What::Out { .. } | What::Sample(_)) {
            self.heard.insert(raw.tid);
        }
    }
}

/// What one list was good for.
enum Listed {
    /// Somebody new was found, or may be.
    Unsure,
    /// All have their events.
    Complete,
}

impl PerfSource {
    /// Opens events on `roots` with all their threads and descendants, and tells who they are.
    pub(super) fn adopt(&mut self, roots: &[Pid]) -> Result<(), CaptureError> {
        descriptors::raise_limit();
        self.machine = Machine::attached(period(self.options));
        self.naming = Some(Naming::start()?);
        self.attachment = Some(Attachment { roots: roots.to_vec(), ..Attachment::default() });
        self.open_first(roots)?;
        let mut complete = false;
        for _ in 0..MOST_LISTS {
            if matches!(self.list()?, Listed::Complete) {
                complete = true;
                break;
            }
            std::thread::sleep(PAUSE);
        }
        if !complete {
            self.warnings.push(
                "Threads were started faster than they could be found: some that already ran may \
                 not be in this recording."
                    .to_owned(),
            );
        }
        self.begin()
    }

    /// Opens the events of one thread that lives, with the rings that all others write into.
    fn open_first(&mut self, roots: &[Pid]) -> Result<(), CaptureError> {
        for member in adopted::tree(roots) {
            for tid in member.tids {
                match self.open_rings(tid, Since::Now) {
                    Ok(()) => {
                        self.add_found(member.pid, tid, member.parent);
                        return Ok(());
                    }
                    Err(error) if is_gone(&error) || self.leave_out(member.pid, &error) => {}
                    Err(error) => return Err(refused(member.pid, &error)),
                }
            }
        }
        Err(adopted::all_gone())
    }

    /// Lists the tree and opens events for who has none.
    fn list(&mut self) -> Result<Listed, CaptureError> {
        let Some(attachment) = &mut self.attachment else { return Ok(Listed::Complete) };
        let suspects = std::mem::take(&mut attachment.suspects);
        // Who is met by the first list ran before any event but one was open.
        let first = !std::mem::replace(&mut attachment.listed, true);
        let members = adopted::tree(&attachment.roots);
        let mut listed = Listed::Complete;
        let mut unheard: Vec<(Pid, Tid, Pid)> = Vec::new();
        for member in members.iter().filter(|member| !attachment.left_out.contains(&member.pid)) {
            let new = member.tids.iter().filter(|tid| !attachment.opened.contains(tid));
            unheard.extend(new.map(|&tid| (member.pid, tid, member.parent)));
        }
        // In this order: the record of a run that is counted here is in a ring when we read it.
        unheard.retain(|&(pid, tid, _)| {
            first || procfs::runs(pid, tid) != Some(0) || {
                listed = Listed::Unsure;
                false
            }
        });
        if !first {
            self.read(false);
        }
        for (pid, tid, parent) in unheard {
            let Some(attachment) = &mut self.attachment else { break };
            if attachment.heard.contains(&tid) {
                continue;
            }
            listed = Listed::Unsure;
            // Twice: a CPU that is halted in the middle of writing is late.
            if !first && !suspects.contains(&tid) {
                attachment.suspects.insert(tid);
                continue;
            }
            match self.open_more(tid) {
                Ok(()) => self.add_found(pid, tid, parent),
                Err(error) if is_gone(&error) || self.leave_out(pid, &error) => {}
                Err(error) => return Err(refused(pid, &error)),
            }
        }
        Ok(listed)
    }

    /// Goes on without a process that may not be watched and that nobody asked for by name, as the `sudo`
    /// below a shell; false for any other.
    fn leave_out(&mut self, pid: Pid, error: &io::Error) -> bool {
        let Some(attachment) = &mut self.attachment else { return false };
        let asked_for = attachment.roots.contains(&pid);
        if asked_for || !is_guarded(error) {
            return false;
        }
        if attachment.left_out.insert(pid) {
            let roots: Vec<String> =
                attachment.roots.iter().map(|root| root.0.to_string()).collect();
            self.warnings.push(format!(
                "Process {} is not in this recording: {MAY_NOT}. With it: `sudo timesink attach {}`",
                pid.0,
                roots.join(" "),
            ));
        }
        true
    }

    /// Opens the events of one more thread, into the rings that are there.
    fn open_more(&mut self, tid: Tid) -> io::Result<()> {
        let (period, bytes) = (period(self.options), stack_bytes(self.pages));
        let mut opened: Vec<(EventFd, Option<EventFd>)> = Vec::new();
        for Cpu { number, sideband, .. } in &self.cpus {
            let event = EventFd::sideband(tid.0, *number, Since::Now)?;
            event.redirect(&sideband[0])?;
            opened.push((event, None));
        }
        for (cpu, (_, sampling)) in self.cpus.iter().zip(&mut opened) {
            if cpu.sampling.is_empty() {
                continue;
            }
            let (number, kernel) = (cpu.number, self.kernel);
            let event = EventFd::sampling(tid.0, number, Since::Now, period, bytes, kernel)?;
            event.redirect(&cpu.sideband[0])?;
            *sampling = Some(event);
        }
        for (cpu, (sideband, sampling)) in self.cpus.iter_mut().zip(opened) {
            cpu.sideband.push(sideband);
            cpu.sampling.extend(sampling);
        }
        Ok(())
    }

    /// The events of a thread are open: from now on its records count.
    fn add_found(&mut self, pid: Pid, tid: Tid, parent: Pid) {
        let time = monotonic();
        let stat = stat(pid, tid);
        self.bases.note(tid, procfs::books(pid, tid, None), None);
        let looked = monotonic();
        let Some(attachment) = &mut self.attachment else { return };
        attachment.opened.insert(tid);
        // Gone meanwhile: its exit is in a ring, and this before it.
        let (state, cpu) = stat.map_or((b'R', 0), |stat| (stat.state, stat.cpu));
        let left = match state {
            b'S' | b'D' => Some(Left::Blocked { uninterruptible: state == b'D' }),
            b'T' | b't' => Some(Left::Stopped),
            _ => None,
        };
        let what = What::Found(Box::new(Found { parent, left, looked }));
        let raw = Raw { time, tid, pid, cpu, what };
        self.sleepers.feed(&raw);
        self.pending.push(raw);
    }

    /// All events are open: what was recorded so far says where the threads are, the recording
    /// begins now.
    fn begin(&mut self) -> Result<(), CaptureError> {
        let begin = monotonic();
        if let Some(attachment) = &mut self.attachment {
            attachment.last = Some(begin + LAST_LIST);
        }
        std::thread::sleep(Duration::from_nanos(SETTLE.0));
        self.read(false);
        let ready = self.pending.partition_point(|raw| raw.time < begin);
        let (machine, naming) = (&mut self.machine, &mut self.naming);
        let mut send = |job| naming.as_mut().map(|naming| naming.send(job)).unwrap_or_default();
        for raw in self.pending.drain(..ready) {
            machine.apply(raw, &mut |output| match output {
                Output::Event(_) | Output::Job(Job::Stack { .. }) => {}
                Output::Job(job) => send(job),
            });
        }
        self.batch.clear();
        for raw in self.ended_unheard(Some(begin)) {
            self.machine.apply(raw, &mut |_| {});
        }
        let (machine, naming) = (&mut self.machine, &mut self.naming);
        let mut send = |job| naming.as_mut().map(|naming| naming.send(job)).unwrap_or_default();
        let mut starts: Vec<Start> = Vec::new();
        machine.begin(begin, &mut |start| starts.push(start));
        if starts.is_empty() {
            return Err(adopted::all_gone());
        }
        let mut told = BTreeSet::new();
        for start in starts {
            let Start { time, tid, pid, .. } = start;
            machine.count_from(tid, monotonic());
            self.bases.note(tid, procfs::books(pid, tid, None), None);
            self.batch.push(Event::Start(start));
            if told.insert(pid) {
                adopted::tell_program(time, pid, &mut send, &mut |event| self.batch.push(event));
            }
            if let Some(stat) = stat(pid, tid) {
                self.batch.push(Event::Rename(Rename { time, tid, name: stat.comm }));
            }
        }
        Ok(())
    }

    /// Ends, at `time` or now, of threads that are gone without a record of it: a thread that was started while
    /// the events of its parent were being opened has inherited those of some CPUs, and may have
    /// ended on another.
    fn ended_unheard(&mut self, time: Option<Nanos>) -> Vec<Raw> {
        let gone: Vec<(Pid, Tid)> =
            self.machine.tids().filter(|&(pid, tid)| has_ended(pid, tid)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        // In this order: the record of an end that shows in `/proc` is in a ring when we read it.
        self.read(false);
        // After the last switch that it left.
        let time = time.unwrap_or_else(monotonic);
        self.pending.sort_by_key(|raw| raw.time);
        let told = |raw: &Raw| match &raw.what {
            What::Exit(task) => Some(task.tid),
            _ => None,
        };
        let told: FastSet<Tid> = self.pending.iter().filter_map(told).collect();
        let unheard = gone.into_iter().filter(|(_, tid)| !told.contains(tid));
        let end = |(pid, tid)| {
            let what = What::Exit(Task { pid, ppid: pid, tid, ptid: tid });
            Raw { time, tid, pid, cpu: 0, what }
        };
        unheard.map(end).collect()
    }

    /// Looks for the last time for those who were being made when the recording began.
    pub(super) fn list_again(&mut self, now: Nanos) -> Result<(), CaptureError> {
        let due = |attachment: &Attachment| attachment.last.is_some_and(|last| last <= now);
        if !self.attachment.as_ref().is_some_and(due) {
            return Ok(());
        }
        let listed = self.list();
        let ended = self.ended_unheard(None);
        self.pending.extend(ended);
        self.pending.sort_by_key(|raw| raw.time);
        // A suspect is asked a second time, at the next drain.
        let suspects = |attachment: &Attachment| !attachment.suspects.is_empty();
        if listed.is_err() || !self.attachment.as_ref().is_some_and(suspects) {
            self.attachment = None;
        }
        listed.map(drop)
    }
}

fn stat(pid: Pid, tid: Tid) -> Option<Stat> {
    procfs::read_task(pid, tid, "stat").and_then(|text| procfs::parse_stat(&text))
}

/// Whether `/proc` knows nothing of a thread any more, or only that it has ended.
fn has_ended(pid: Pid, tid: Tid) -> bool {
    stat(pid, tid).is_none_or(|stat| matches!(stat.state, b'Z' | b'X'))
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// Why a process may not be watched by who may watch others.
const MAY_NOT: &str = "it belongs to another user, has more rights than you, or guards its memory";

/// Whether it is the process that may not be watched: a paranoid kernel refuses all alike.
fn is_guarded(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
        && doctor::sysctl("kernel/perf_event_paranoid").is_none_or(|level| level <= 2)
}

/// Why a thread of `pid` may not be recorded, and what to type.
fn refused(pid: Pid, error: &io::Error) -> CaptureError {
    let (reason, remedy) = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => (
            "every thread takes two descriptors for each CPU, and there are no more".to_owned(),
            "raise the limit (`ulimit -Hn`), or use `--tier proc`".to_owned(),
        ),
        _ if is_guarded(error) => (
            format!("process {} may not be watched: {MAY_NOT}", pid.0),
            format!("`sudo timesink attach {}`", pid.0),
        ),
        _ => return refusal(error),
    };
    CaptureError::NotAllowed { tier: "perf", reason, remedy }
}
