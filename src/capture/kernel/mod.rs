//! The kernel tier: BPF programs keep a small state machine per thread and hand over one
//! record per finished off-CPU interval. What they do stands in `probes/bpf/README.md`.
#![allow(clippy::disallowed_methods)] // the impure edge: it reads the kernel's files

mod adopt;
mod btf;
mod calls;
mod convert;
mod drain;
mod living;
mod load;
mod pace;
mod pending;
mod python;

pub use load::Tuning;

use super::CaptureError;
use super::CaptureStats;
use super::Options;
use super::Progress;
use super::Source;
use super::Target;
use super::adopted::Bases;
use super::naming::Naming;
use super::observer::Observer;
use super::procfs;
use super::python::Found;
use super::sys::bpf::map_update;
use super::sys::bpf::monotonic_ns;
use super::sys::bpf::set_niceness;
use super::sys::descriptors::pidfd_open;
use crate::model::Event;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Tier;
use bytemuck::Zeroable as _;
use drain::Chains;
use living::Living;
use load::Loaded;
use pace::Pace;
use pending::Faults;
use pending::Jobs;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use timesink_bpf::layout;

/// The recorder prefers to be late for nobody: it must empty rings that a busy CPU fills in
/// 90 ms. It sleeps most of the time.
const NICENESS: i32 = -15;

/// Records by BPF. Needs root, or `CAP_BPF` and `CAP_PERFMON`, and a kernel with BTF.
pub struct KernelSource {
    options: Options,
    tuning: Tuning,
    loaded: Option<Loaded>,
    naming: Option<Naming>,
    limits: Vec<String>,
    /// Next slot to read in each CPU's ring.
    slots: Vec<u64>,
    /// Loss counters as last reported, per CPU.
    losses: Vec<[u64; 4]>,
    drained_ns: u64,
    jobs: Jobs,
    faults: Faults,
    chains: Chains,
    /// Processes that run Python.
    pythons: BTreeMap<Pid, Found>,
    living: Living,
    bases: Bases,
    niceness: Option<i32>,
    /// Where mappings can go unwatched.
    pace: Option<Pace>,
    started_ns: u64,
    warnings: Vec<String>,
}

impl KernelSource {
    /// Loads the programs, so that what is missing shows before the command starts.
    pub fn new(options: Options) -> Result<Self, CaptureError> {
        Self::with_tuning(options, Tuning::default())
    }

    /// As [`KernelSource::new`], with other sizes of rings.
    pub fn with_tuning(options: Options, tuning: Tuning) -> Result<Self, CaptureError> {
        let loaded = Loaded::new(options, &tuning)?;
        let cpus = loaded.cpu_count as usize;
        Ok(Self {
            options,
            tuning,
            limits: loaded.limits.clone(),
            loaded: Some(loaded),
            naming: None,
            slots: vec![0; cpus],
            losses: vec![[0; 4]; cpus],
            drained_ns: 0,
            jobs: Jobs::default(),
            faults: Faults::new(options.wait_stacks),
            chains: Chains::default(),
            pythons: BTreeMap::new(),
            living: Living::default(),
            bases: Bases::default(),
            niceness: None,
            pace: None,
            started_ns: 0,
            warnings: Vec::new(),
        })
    }

    /// Puts a thread into the tree: `pidfd` is its key in the task storage.
    fn seed(&self, pidfd: BorrowedFd<'_>, thread: &layout::Thread) -> Result<(), CaptureError> {
        let Some(loaded) = &self.loaded else { return Ok(()) };
        let key = pidfd.as_raw_fd().to_ne_bytes();
        map_update(loaded.threads.fd().as_fd(), &key, bytemuck::bytes_of(thread))
            .map_err(|source| os("adding a thread to the recorded tree", source))
    }

    /// Starts the naming thread and attaches the programs.
    fn begin(&mut self) -> Result<(), CaptureError> {
        self.naming = Some(Naming::start()?);
        self.drained_ns = monotonic_ns();
        if let Some(loaded) = &mut self.loaded {
            loaded.attach(self.options)?;
            let limit = self.tuning.busy_per_second;
            self.pace = loaded.may_unwatch().then(|| Pace::new(limit, self.drained_ns));
        }
        self.started_ns = self.drained_ns;
        self.niceness = Some(set_niceness(NICENESS));
        Ok(())
    }

    /// Where those wait that the end of the recording finds asleep: their calls will not have
    /// returned, so their stacks can only be taken from outside. Within the budget of a burst.
    fn look_at_sleepers(&mut self, sink: &mut dyn FnMut(Record)) {
        if !self.options.wait_stacks {
            return;
        }
        let mut observer = Observer::new(true);
        self.pythons.values().for_each(|found| observer.note_python(found));
        let mut looks = Vec::new();
        'all: for pid in self.living.pids() {
            for tid in procfs::threads(pid) {
                if !observer.may_look(Nanos(monotonic_ns())) {
                    break 'all;
                }
                looks.extend(observer.look(pid, tid));
            }
        }
        // What they wait on was described by the programs, as it was then.
        let mut events = |event: Event| {
            if !matches!(event, Event::Object(_)) {
                sink(Record::Event(event));
            }
        };
        for look in looks {
            look.deliver(self.naming.as_mut(), &mut events);
        }
    }

    /// Watches mappings or not, as the tree's pace allows.
    fn keep_pace(&mut self, now: u64, intervals: u64, execs: u64) {
        let (Some(pace), Some(loaded)) = (&mut self.pace, &mut self.loaded) else { return };
        let watch = pace.watch(now, intervals, execs);
        if let Err(error) = loaded.watch_mappings(watch) {
            self.warnings.push(format!("New executable mappings were not watched: {error}."));
            self.pace = None;
        }
    }

    /// Says for how long mappings were not watched, if at all.
    fn warn_of_pace(&mut self, end: u64) {
        let Some(pace) = self.pace.take() else { return };
        let unwatched = pace.unwatched_ns(end) / 1_000_000;
        if unwatched > 0 {
            let all = end.saturating_sub(self.started_ns) / 1_000_000;
            self.warnings.push(format!(
                "To spare a program that switched more than {} times per second, libraries that \
                 it loaded later were not noted for {unwatched} of {all} ms: they are looked up in \
                 /proc now and then, so some of their functions may be without names.",
                self.tuning.busy_per_second
            ));
        }
    }

    fn drain_all(&mut self, sink: &mut dyn FnMut(Record)) -> Progress {
        // This order is what `Faults` and `Jobs` build on.
        let looked = monotonic_ns();
        let (lives, execs, life_fill) = self.drain_lifecycle(sink);
        let (intervals, interval_fill) = self.drain_intervals(sink);
        let (stacks, stack_fill) = self.drain_stacks(sink);
        self.drain_losses(sink);
        self.keep_pace(looked, intervals, execs);
        self.faults.settle(&mut self.jobs, sink);
        if let Some(naming) = &mut self.naming {
            self.jobs.send_until(looked, naming);
            naming.drain(sink);
            if let Some(loaded) = &mut self.loaded {
                for found in naming.pythons() {
                    loaded.take_python(&found);
                    self.pythons.insert(found.0, found);
                }
            }
        }
        let fill = life_fill.max(interval_fill).max(stack_fill).min(1.0);
        Progress { records: lives + intervals + stacks, fill }
    }
}

impl Source for KernelSource {
    fn tier(&self) -> Tier {
        Tier::Kernel
    }

    fn limits(&self) -> Vec<String> {
        self.limits.clone()
    }

    fn start(&mut self, target: &Target) -> Result<(), CaptureError> {
        let thread = layout::Thread {
            r: layout::Interval { tid: target.pid.0, ..layout::Interval::zeroed() },
            tgid: target.pid.0,
            flags: layout::THREAD_WAITING,
            ..layout::Thread::zeroed()
        };
        let pidfd = pidfd_open(target.pid.0)
            .map_err(|source| os("opening the command's process", source))?;
        self.seed(pidfd.as_fd(), &thread)?;
        self.living.begin(target.pid);
        self.begin()
    }

    fn attach(&mut self, roots: &[Pid], sink: &mut dyn FnMut(Record)) -> Result<(), CaptureError> {
        // First the programs: whom an adopted thread forks from then on is seen.
        self.begin()?;
        self.adopt(roots, sink)
    }

    fn is_over(&mut self) -> bool {
        self.living.is_over()
    }

    fn drain(&mut self, sink: &mut dyn FnMut(Record)) -> Result<Progress, CaptureError> {
        Ok(self.drain_all(sink))
    }

    fn stop(&mut self, sink: &mut dyn FnMut(Record)) -> Result<CaptureStats, CaptureError> {
        self.look_at_sleepers(sink);
        // The kernel goes on counting runs when nobody looks any more: its counts are read before.
        let counted = self.loaded.as_mut().and_then(|loaded| loaded.survey().ok());
        if let Some(loaded) = &mut self.loaded {
            loaded.detach();
        }
        let end = monotonic_ns();
        self.warn_of_pace(end);
        self.drain_all(sink);
        let survey = match &mut self.loaded {
            Some(loaded) => loaded.survey(),
            None => Ok(Vec::new()),
        };
        let mut warnings = std::mem::take(&mut self.warnings);
        match survey {
            Ok(survey) => self.close(&survey, &counted.unwrap_or_default(), end, sink),
            Err(error) => {
                warnings.push(format!("Waits that were still open are missing: {error}."));
            }
        }
        self.faults.settle(&mut self.jobs, sink);
        let mut stats = CaptureStats { warnings, ..CaptureStats::default() };
        if let Some(mut naming) = self.naming.take() {
            self.jobs.send_until(u64::MAX, &mut naming);
            let outcome = naming.finish_with_warnings(sink);
            stats.stacks = outcome.counts;
            stats.warnings.extend(outcome.warnings);
        }
        self.loaded = None;
        if let Some(niceness) = self.niceness.take() {
            set_niceness(niceness);
        }
        Ok(stats)
    }
}

fn os(doing: &str, source: io::Error) -> CaptureError {
    CaptureError::Os { doing: doing.to_owned(), source }
}
