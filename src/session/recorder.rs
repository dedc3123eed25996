//! Drains a source into the trace file until a recording is over, and finishes the file.

use crate::capture::CaptureError;
use crate::capture::CaptureStats;
use crate::capture::Progress;
use crate::capture::Source;
use crate::capture::cgroup::Counters;
use crate::capture::cgroup::CpuGroups;
use crate::capture::probe_ring::ProbeRing;
use crate::capture::stolen::CpuCount;
use crate::capture::sys::host;
use crate::capture::sys::perf_event::monotonic;
use crate::capture::sys::signals;
use crate::capture::sys::spawn::Change;
use crate::capture::sys::spawn::Waiter;
use crate::model::Clocks;
use crate::model::Event;
use crate::model::ExitKind;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Summary;
use crate::model::Tier;
use crate::session::terminal::say;
use crate::trace::WriteError;
use crate::trace::Writer;
use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;
use std::time::Instant;

/// Time between marks: what a killed recorder may lose.
const MARK: Duration = Duration::from_secs(1);

/// A recording that runs.
pub struct Recorder {
    source: Box<dyn Source>,
    kept: Kept,
    probe: Option<ProbeRing>,
    warnings: Vec<String>,
    marked: Instant,
    groups: CpuGroups,
    throttled_before: Counters,
    stolen_before: CpuCount,
}

/// How a recording ended, for its summary.
pub struct Ending {
    /// The process it was made for, and its status word.
    pub root: Option<(Pid, Option<u32>)>,
    /// When.
    pub clocks: Clocks,
}

/// The trace file, and what went through it that its summary needs.
pub struct Kept {
    writer: Writer<File>,
    failed: Option<WriteError>,
    /// Time of the latest event.
    pub last: Nanos,
    /// Processes whose end is to be known, and how they ended.
    pub statuses: BTreeMap<Pid, Option<u32>>,
}

impl Kept {
    fn record(&mut self, record: &Record) {
        if let Record::Event(event) = record {
            self.last = self.last.max(event.time());
            if let Event::Exit(exit) = event
                && let ExitKind::Process { status } = exit.how
                && let Some(known) = self.statuses.get_mut(&exit.pid)
            {
                *known = status;
            }
        }
        if let Err(error) = self.writer.record(record) {
            self.fail(error);
        }
    }

    /// Says the first failure to write, once; the command goes on.
    fn fail(&mut self, error: WriteError) {
        if self.failed.is_none() {
            say(&format!("timesink: {error}"));
            self.failed = Some(error);
        }
    }
}

impl Recorder {
    /// Of what `source` sees and `probe` says, into `writer`; `groups` limit who is recorded.
    pub fn new(
        source: Box<dyn Source>,
        writer: Writer<File>,
        probe: Option<ProbeRing>,
        groups: CpuGroups,
    ) -> Self {
        let kept = Kept { writer, failed: None, last: Nanos::ZERO, statuses: BTreeMap::new() };
        Self {
            source,
            kept,
            probe,
            warnings: Vec::new(),
            marked: Instant::now(),
            throttled_before: groups.counters(),
            stolen_before: CpuCount::now(),
            groups,
        }
    }

    /// Attaches the source to processes that run.
    pub fn attach(&mut self, roots: &[Pid]) -> Result<(), CaptureError> {
        self.kept.statuses = roots.iter().map(|&root| (root, None)).collect();
        let kept = &mut self.kept;
        self.source.attach(roots, &mut |record| kept.record(&record))
    }

    /// Drains until all processes have ended, `limit` is over, or a signal says that it is enough.
    pub fn until_over(&mut self, limit: Option<Duration>) {
        let began = Instant::now();
        loop {
            let pause = self.turn();
            if self.source.is_over() || signals::take_pending().count() > 0 {
                return;
            }
            let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
            if left == Some(Duration::ZERO) {
                return;
            }
            let pause = Duration::from_millis(u64::from(pause.unsigned_abs()));
            std::thread::sleep(left.map_or(pause, |left| left.min(pause)));
        }
    }

    /// One drain, and a mark when it is time for one. Gives the milliseconds to the next.
    fn turn(&mut self) -> i32 {
        let clocks = host::clocks();
        let progress = self.drain();
        if self.marked.elapsed() >= MARK {
            self.marked = Instant::now();
            if let Err(error) = self.kept.writer.mark(clocks) {
                self.kept.fail(error);
            }
        }
        self.pause(progress)
    }

    /// Drains until the command ends. Nothing that goes wrong here ends the command.
    pub fn until_end(&mut self, waiter: &Waiter, pid: u32) -> Option<u32> {
        let mut pause = 1;
        loop {
            let change = waiter.wait(pause);
            for signal in signals::take_pending() {
                // It may have ended meanwhile: then there is nobody to tell.
                let _ = signals::send(pid, signal);
            }
            pause = self.turn();
            match change {
                Ok(Change::Ended(status)) => return Some(status),
                // Ctrl-Z: stop as the command did, so that the shell gets its prompt back.
                Ok(Change::Stopped) => {
                    let _ = signals::stop_self();
                }
                Ok(Change::Nothing) => {}
                Err(error) => {
                    self.warnings
                        .push(format!("the command's end could not be waited for: {error}"));
                    return None;
                }
            }
        }
    }

    fn drain(&mut self) -> Progress {
        let kept = &mut self.kept;
        let mut sink = |record: Record| kept.record(&record);
        if let Some(probe) = &mut self.probe {
            probe.drain(&mut sink);
        }
        match self.source.drain(&mut sink) {
            Ok(progress) => progress,
            Err(error) => {
                self.warn_once(&error);
                Progress::default()
            }
        }
    }

    /// Milliseconds until the next drain: sooner the fuller the kernel's buffers are. The
    /// tiers for ordinary users look at sleeping threads themselves, so they are never slow.
    fn pause(&self, progress: Progress) -> i32 {
        let pause = match progress.fill {
            fill if fill > 0.4 => 1,
            fill if fill > 0.1 => 5,
            _ if self.source.tier() == Tier::Kernel => 20,
            _ => 4,
        };
        let Some(due) = self.source.due() else { return pause };
        let left = (due - monotonic()).0.div_ceil(1_000_000);
        pause.min(i32::try_from(left).unwrap_or(pause)).max(1)
    }

    fn warn_once(&mut self, error: &CaptureError) {
        let text = format!("recording went on with losses: {error}");
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Stops the source and writes the summary; `ending` is asked last.
    pub fn finish(mut self, used_before: Nanos, ending: impl FnOnce(&Kept) -> Ending) {
        let stolen = self.stolen_before.since();
        // Before the stop: naming the last frames costs memory, but no longer beside the command.
        let memory = host::own_usage().1;
        let kept = &mut self.kept;
        let mut sink = |record: Record| kept.record(&record);
        let stats = self.source.stop(&mut sink);
        if let Some(probe) = &mut self.probe {
            probe.drain(&mut sink);
        }
        let stats = stats.unwrap_or_else(|error| {
            self.warnings.push(format!("the recording could not be ended cleanly: {error}"));
            CaptureStats::default()
        });
        let used = host::own_usage().0;
        let mut warnings = self.warnings;
        warnings.extend(stats.warnings);
        if let Some(error) = &self.kept.failed {
            warnings.push(format!("the trace file is not whole: {error}"));
        }
        let Ending { root, clocks } = ending(&self.kept);
        let summary = Summary {
            clocks,
            root,
            collector_cpu: used - used_before,
            collector_memory: memory,
            target_overhead: stats.target_overhead,
            stacks: stats.stacks,
            warnings,
            throttled: self.groups.throttled_since(&self.throttled_before),
            stolen,
        };
        if let Err(error) = self.kept.writer.finish(&summary) {
            self.kept.fail(error);
        }
    }
}
