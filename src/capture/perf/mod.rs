//! The `perf` tier: exact times on and off the CPU for ordinary users
//! (`perf_event_paranoid` <= 2, no capability), reasons by looking from outside.
//!
//! Per CPU one ring with two events on the waiting root (attached: on every thread, see `attach.rs`),
//! both inherited by all it starts and enabled by its exec: a dummy that carries the records of switches, forks, execs, exits and
//! mappings, and a CPU clock that samples. The rings are merged by time: a record younger
//! than 3 ms (`SETTLE`) waits for the next drain, so that its elder on another CPU is there first.

mod attach;
mod machine;
mod record;
mod sleepers;

use self::attach::Attachment;
use self::machine::Machine;
use self::machine::Output;
use self::record::Raw;
use self::record::What;
use self::sleepers::Sleepers;
use super::CaptureError;
use super::CaptureStats;
use super::Options;
use super::Progress;
use super::Source;
use super::Target;
use super::adopted::Bases;
use super::doctor;
use super::naming::Naming;
use super::naming::Outcome;
use super::observer::Observer;
use super::observer::Unseen;
use super::procfs;
use super::sys::perf_event::EventFd;
use super::sys::perf_event::Ring;
use super::sys::perf_event::Since;
use super::sys::perf_event::monotonic;
use super::sys::perf_event::page_size;
use crate::model::Books;
use crate::model::Event;
use crate::model::FastMap;
use crate::model::Lost;
use crate::model::LostKind;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Tid;
use crate::model::Tier;
use std::io;

/// A record is taken for settled after this time: a CPU needs microseconds from stamping a record
/// to finishing it. A virtual CPU that is halted in between for longer makes a `Gap`.
const SETTLE: Nanos = Nanos::from_millis(3);

/// Waits this long are worth a look, as long as looks stay within their budget; beyond it only
/// longer ones are, up to `LOOK_AFTER_MOST`, so that the budget covers most of the time.
const LOOK_AFTER: Nanos = Nanos(1_000_000);
const LOOK_AFTER_MOST: Nanos = Nanos::from_millis(50);

/// A program that switches is drained this often: the look at a wait comes that much later at
/// most. Measured on 3,150 waits of 2-9 ms in 5 s: 7.8 % of the time unknown at 4.4 % of one CPU with
/// 2 ms here and 1.5 ms above, 1.6 % at 5.3 % with 1 ms each.
const BUSY_PAUSE: Nanos = Nanos::from_millis(1);

/// Room in a ring, bytes, below which a record may have been refused: no record is larger.
const LARGEST_RECORD: usize = 1 << 16;

/// Pages of data per ring, most first: what is refused for the locked-memory limit is halved.
const RING_PAGES: [usize; 8] = [512, 256, 128, 64, 32, 16, 8, 4];

/// Fewer pages than this lose records under load (measured: 16 lost some, 64 none).
const ENOUGH_PAGES: usize = 64;

/// Most user stack in each CPU sample, bytes. A multiple of 8 below 64 KiB. With 8 KiB every sample
/// of a program was cut short whose callers keep a buffer of that size on the stack, as
/// `std::io::copy` does, and 99 % of those of a recursion 60 deep.
const STACK_BYTES: usize = 32 * 1024;

/// Samples that must find room in a ring together: what comes in 16 ms at the usual rate.
const SAMPLES_PER_RING: usize = 16;

/// Events and ring of one CPU.
struct Cpu {
    number: u16,
    ring: Ring,
    /// One for each thread that events were opened on. The first one's ring is that of all.
    sideband: Vec<EventFd>,
    sampling: Vec<EventFd>,
    /// Losses of the two that are told.
    told: [u64; 2],
    /// Time of the newest record read.
    newest: Nanos,
}

impl Cpu {
    /// Losses that were not told, by kind. A kernel that does not count says so by records.
    fn losses(&mut self) -> [(LostKind, u64); 2] {
        let sum = |events: &[EventFd]| events.iter().filter_map(EventFd::lost).sum::<u64>();
        let now = [sum(&self.sideband), sum(&self.sampling)];
        let told = std::mem::replace(&mut self.told, now);
        // The count of a thread that has ended may not be readable any more.
        let new = |kind: usize| now[kind].saturating_sub(told[kind]);
        [(LostKind::Intervals, new(0)), (LostKind::Samples, new(1))]
    }
}

/// Recorder of the `perf` tier.
pub struct PerfSource {
    options: Options,
    /// Whether samples may cover the kernel.
    kernel: bool,
    /// Open while recording: closing an event ends it.
    cpus: Vec<Cpu>,
    pages: usize,
    warnings: Vec<String>,
    naming: Option<Naming>,
    observer: Observer,
    machine: Machine,
    /// Of running processes, until all are known to be seen.
    attachment: Option<Attachment>,
    bases: Bases,
    sleepers: Sleepers,
    /// Waits this long are looked at now.
    look_after: Nanos,
    /// When to drain again.
    due: Option<Nanos>,
    /// Read, not yet settled.
    pending: Vec<Raw>,
    /// Events of the present batch, to be sorted.
    batch: Vec<Event>,
    scratch: Vec<u8>,
}

impl PerfSource {
    /// Checks that the tier can record here. Nothing runs yet.
    pub fn new(options: Options) -> Result<Self, CaptureError> {
        let own = std::process::id();
        EventFd::sideband(own, first_cpu(), Since::Exec).map_err(|error| refusal(&error))?;
        let kernel =
            EventFd::sampling(own, first_cpu(), Since::Exec, period(options), stack_bytes(4), true)
                .is_ok();
        Ok(Self {
            options,
            kernel,
            cpus: Vec::new(),
            pages: 0,
            warnings: Vec::new(),
            naming: None,
            observer: Observer::new(options.wait_stacks),
            machine: Machine::new(Pid(0), period(options)),
            attachment: None,
            bases: Bases::default(),
            sleepers: Sleepers::default(),
            look_after: LOOK_AFTER,
            due: None,
            pending: Vec::new(),
            batch: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Opens the events of a thread on every CPU with the largest rings that are granted.
    fn open_rings(&mut self, tid: Tid, since: Since) -> io::Result<()> {
        let cpus = doctor::online_cpus();
        let mut result = Ok(());
        for pages in RING_PAGES {
            result = self.open(tid, &cpus, since, pages);
            match &result {
                // The limit on locked memory is EPERM; memory itself ENOMEM.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) => {}
                _ => break,
            }
        }
        result?;
        self.machine.counted = self.cpus.iter().all(|cpu| cpu.sideband[0].lost().is_some());
        if self.pages < ENOUGH_PAGES {
            self.warnings.push(format!(
                "only {} pages of buffer per CPU fit into the locked-memory limit, so records may be \
                 lost: `sudo sysctl kernel.perf_event_mlock_kb=516` or `ulimit -l unlimited`",
                self.pages
            ));
        }
        Ok(())
    }

    /// Opens the events of every CPU with rings of `pages` each.
    fn open(&mut self, tid: Tid, cpus: &[u16], since: Since, pages: usize) -> io::Result<()> {
        self.cpus.clear();
        self.warnings.clear();
        for &number in cpus {
            let sideband = match EventFd::sideband(tid.0, number, since) {
                // Went offline since we read the list.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                other => other?,
            };
            let ring = Ring::map(&sideband, pages)?;
            let sampling = (self.options.sample_hz > 0).then(|| {
                let (period, bytes) = (period(self.options), stack_bytes(pages));
                let event = EventFd::sampling(tid.0, number, since, period, bytes, self.kernel)?;
                event.redirect(&sideband).map(|()| event)
            });
            let sampling = sampling.and_then(|opened: io::Result<EventFd>| {
                let failed = |error| format!("CPU {number} has no CPU samples: {error}");
                opened.map_err(|error| self.warnings.push(failed(error))).ok()
            });
            let (sideband, sampling) = (vec![sideband], sampling.into_iter().collect());
            let newest = monotonic();
            self.cpus.push(Cpu { number, ring, sideband, sampling, told: [0; 2], newest });
        }
        self.pages = pages;
        Ok(())
    }

    /// Takes what is in the rings. Returns how full the fullest was. Losses are asked for where a
    /// ring was about full, and when `ending`.
    fn read(&mut self, ending: bool) -> f64 {
        let (pending, scratch) = (&mut self.pending, &mut self.scratch);
        let settled = pending.len();
        let mut fill = 0.0_f64;
        for cpu in &mut self.cpus {
            let newest = &mut cpu.newest;
            let taken = cpu.ring.read(scratch, &mut |kind, misc, body| {
                let Some(mut raw) = record::parse(kind, misc, body) else { return };
                if let What::Comm(comm) = &mut raw.what
                    && comm.exec
                {
                    // Now or never: the process may be gone by the time this is settled.
                    comm.command = procfs::exe(raw.pid).map(|exe| (exe, procfs::argv(raw.pid)));
                }
                *newest = raw.time.max(*newest);
                pending.push(raw);
            });
            fill = fill.max(taken.fill);
            // Asking the kernel for its counts may interrupt the CPU that the target runs on.
            if taken.room >= LARGEST_RECORD && !ending {
                continue;
            }
            // A full ring refuses all after its newest record, until we freed it just now.
            let (from, to) = (cpu.newest, monotonic());
            for (what, count) in cpu.losses().into_iter().filter(|&(_, count)| count > 0) {
                let lost = Lost { from, to, what, cpu: Some(cpu.number), count };
                self.batch.push(Event::Lost(lost));
                self.machine.lose(&lost);
            }
        }
        // Stable: records of one CPU with the same time stay in their order.
        pending[settled..].sort_by_key(|raw| raw.time);
        pending[settled..].iter().for_each(|raw| self.sleepers.feed(raw));
        if let Some(attachment) = &mut self.attachment {
            pending[settled..].iter().for_each(|raw| attachment.hear(raw));
        }
        pending.sort_by_key(|raw| raw.time);
        fill
    }

    /// Runs the records before `until` through the machine.
    fn settle(&mut self, until: Nanos) {
        let ready = self.pending.partition_point(|raw| raw.time < until);
        let (machine, batch, naming) = (&mut self.machine, &mut self.batch, &mut self.naming);
        for raw in self.pending.drain(..ready) {
            machine.apply(raw, &mut |output| route(output, batch, naming));
        }
    }

    /// Looks at threads that have slept for a while.
    fn observe(&mut self, now: Nanos) {
        self.observer.set_spare(self.sleepers.awake() < self.cpus.len());
        let (sleepers, mut next) = self.sleepers.due(now, self.look_after);
        self.look_after = LOOK_AFTER.max(Nanos(self.look_after.0 / 16 * 15));
        for sleeper in sleepers {
            if !self.observer.may_look(monotonic()) {
                self.look_after = LOOK_AFTER_MOST.min(Nanos(self.look_after.0 / 4 * 5));
                next = None;
                break;
            }
            let look = self.observer.look(sleeper.pid, sleeper.tid);
            self.sleepers.looked(sleeper.tid, monotonic());
            match look {
                Ok(look) => look.deliver(self.naming.as_mut(), &mut |e| self.batch.push(e)),
                Err(Unseen::Gone) => self.sleepers.forget(sleeper.tid),
                Err(Unseen::Moved | Unseen::Refused) => {}
            }
        }
        if let Some(naming) = &self.naming {
            self.observer.charge(naming.cost_of_looks());
        }
        self.due = next;
    }

    /// Delivers the batch in time order, and what the naming thread has finished.
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

fn route(output: Output, batch: &mut Vec<Event>, naming: &mut Option<Naming>) {
    match (output, naming) {
        (Output::Event(event), _) => batch.push(event),
        (Output::Job(job), Some(naming)) => naming.send(job),
        (Output::Job(_), None) => {}
    }
}

fn period(options: Options) -> Nanos {
    Nanos(1_000_000_000 / u64::from(options.sample_hz.max(1)))
}

/// The user stack in each sample, bytes, where rings have so many pages.
fn stack_bytes(pages: usize) -> u32 {
    let share = pages * page_size() / SAMPLES_PER_RING;
    (share.min(STACK_BYTES) & !7) as u32
}

fn first_cpu() -> u16 {
    doctor::online_cpus().first().copied().unwrap_or(0)
}

/// Why the kernel refuses, and what to type.
fn refusal(error: &io::Error) -> CaptureError {
    refusal_at(error, doctor::sysctl("kernel/perf_event_paranoid"))
}

/// As [`refusal`], where `perf_event_paranoid` is `paranoid` (`None`: not readable).
pub(super) fn refusal_at(error: &io::Error, paranoid: Option<i64>) -> CaptureError {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL | libc::E2BIG) => {
            CaptureError::NotSupported {
                tier: "perf",
                reason: format!("this kernel's perf events do not do what it needs ({error})"),
                instead: "proc",
            }
        }
        Some(libc::EACCES | libc::EPERM) => {
            let (reason, remedy) = match paranoid {
                Some(level) if level > 2 => (
                    format!("perf_event_paranoid is {level} here, which refuses ordinary users"),
                    "run `sudo sysctl kernel.perf_event_paranoid=2`",
                ),
                level => (
                    format!(
                        "perf_event_open is refused though perf_event_paranoid is {}: a container \
                         or sandbox filters it",
                        level.map_or_else(|| "not readable".to_owned(), |level| level.to_string())
                    ),
                    "start the container with `--security-opt seccomp=unconfined`",
                ),
            };
            CaptureError::NotAllowed { tier: "perf", reason, remedy: remedy.to_owned() }
        }
        _ => CaptureError::Os {
            doing: "opening a perf event".to_owned(),
            source: io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)),
        },
    }
}

impl Source for PerfSource {
    fn tier(&self) -> Tier {
        Tier::Perf
    }

    fn limits(&self) -> Vec<String> {
        let mut limits = vec![
            "The perf tier sees exactly when a thread left and regained a CPU, not why: reasons, \
             objects and call sites are known for waits longer than about 2 ms (more if the machine \
             is busy), by looking at the sleeping thread from outside; shorter ones are `unknown`"
                .to_owned(),
            "The perf tier does not see who woke a thread or when, so time between wake-up and \
             running counts as waiting; programs that change user by exec (sudo, su) end for it there"
                .to_owned(),
        ];
        if !self.kernel && self.options.sample_hz > 0 {
            limits.push(
                "CPU samples cover user code only: time in the kernel has no stacks. With kernel \
                 samples: `sudo sysctl kernel.perf_event_paranoid=1`"
                    .to_owned(),
            );
        }
        limits
    }

    fn start(&mut self, target: &Target) -> Result<(), CaptureError> {
        self.machine = Machine::new(target.pid, period(self.options));
        self.naming = Some(Naming::start()?);
        self.open_rings(target.pid.into(), Since::Exec).map_err(|error| refusal(&error))
    }

    fn attach(&mut self, roots: &[Pid], sink: &mut dyn FnMut(Record)) -> Result<(), CaptureError> {
        self.adopt(roots)?;
        self.deliver(sink);
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        // Exits may be among what was lost: then only `/proc` can tell.
        let lives = |pid| procfs::lives(pid);
        self.machine.is_empty() || self.machine.lost > 0 && !self.machine.pids().any(lives)
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Record)) -> Result<Progress, CaptureError> {
        let now = monotonic();
        let listed = self.list_again(now);
        let fill = self.read(false);
        // First of all: the threads may wake up any moment.
        self.observe(now);
        if !self.pending.is_empty() {
            let busy = now + BUSY_PAUSE;
            self.due = Some(self.due.map_or(busy, |due| due.min(busy)));
        }
        self.settle(now - SETTLE);
        let records = self.deliver(sink);
        listed.map(|()| Progress { records, fill })
    }

    fn due(&self) -> Option<Nanos> {
        self.due
    }

    fn stop(&mut self, sink: &mut dyn FnMut(Record)) -> Result<CaptureStats, CaptureError> {
        // Waits that are still open get their reason now or never.
        self.read(true);
        self.observe(monotonic());
        let runs = |(pid, tid)| Some((tid, procfs::runs(pid, tid)?));
        let before: FastMap<Tid, u64> = self.machine.tids().filter_map(runs).collect();
        let now = monotonic();
        self.read(true);
        // What happened after `now` is outside the recording.
        self.settle(now);
        self.pending.clear();
        let lost = self.machine.lost;
        let bases = &self.bases;
        let books = |pid: Pid, tid: Tid, runs: u64| -> Books {
            let after = procfs::books(pid, tid, None);
            // Ours is as of `now`: there is no telling whether they agree of who got a CPU around then.
            let still = after.runs.is_some() && after.runs == before.get(&tid).copied();
            bases.since(tid, Books { runs_seen: still.then_some(runs), ..after })
        };
        let (batch, naming) = (&mut self.batch, &mut self.naming);
        self.machine.finish(now, &books, &mut |output| route(output, batch, naming));
        self.deliver(sink);
        self.cpus.clear();
        let named = self.naming.take().map(|naming| naming.finish_with_warnings(sink));
        let Outcome { counts: stacks, warnings: naming } = named.unwrap_or_default();
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(naming);
        if lost > 0 {
            warnings.push(format!(
                "{lost} records did not fit into the kernel's buffers: waits around them are unknown \
                 time, and starts, ends and names of processes may be missing"
            ));
        }
        if self.machine.throttled > 0 {
            warnings.push(format!(
                "the kernel paused CPU samples {} times (kernel.perf_cpu_time_max_percent)",
                self.machine.throttled
            ));
        }
        warnings.extend(self.observer.warnings());
        Ok(CaptureStats { stacks, target_overhead: None, warnings })
    }
}
