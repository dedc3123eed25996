//! Perfetto traces (protobuf): <https://ui.perfetto.dev> opens them.
//!
//! | what | as |
//! |---|---|
//! | who was on which CPU, who woke whom | `sched_switch` and `sched_waking` of ftrace: native CPU and thread state tracks |
//! | what a thread waited in and for | slices on the thread's track; call, waker and stack as details |
//! | spans of the program's own probe | slices on rows below the thread |
//! | threads running, threads queueing for a CPU | counters |
//! | CPU samples | `PerfSample` with interned stacks: a flame graph in the UI |
//! | the critical path, where a report has it | a track: the threads it goes through, as long as the run; below each, what it was in |
//! | records lost | instants on a track of their own; `lost_events` on the CPU |
//!
//! Tasks outside the recorded tree appear as `(other or idle)`: from the moment one takes a
//! CPU until our next run there, nobody saw how long it ran. A CPU is blank where it was
//! idle or nobody saw who ran. A thread whose state was not seen is `Parked`, a state that no
//! user thread ever has. CPUs numbered beyond the machine's hold stays whose CPU was not
//! seen. Times are `CLOCK_MONOTONIC`; everything outside the run is cut.
//!
//! Ids and numbers of fields are those of Perfetto's `perfetto_trace.proto`, which are stable.

mod counters;
mod path;
mod proto;
mod samples;
mod sched;
mod slices;
mod tracks;
mod writer;

use crate::analysis::Report;
use crate::export::common::Ids;
use crate::export::common::Namer;
use crate::export::common::Survey;
use crate::model::Trace;
use crate::model::learn_words;
use crate::model::runs_in_order_after;
use crate::model::walk_knowing;
use counters::Counter;
use samples::Samples;
use sched::Sched;
use slices::Slices;
use std::io;
use std::io::Write;
use writer::Interner;
use writer::Writer;

/// What to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// At most this many waits are drawn as slices, the longest ones. Thread states, CPU
    /// tracks and counters always cover all.
    pub max_waits: u64,
}

impl Default for Options {
    /// A million waits: the UI opens such a trace within seconds.
    fn default() -> Self {
        Self { max_waits: 1_000_000 }
    }
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Bytes.
    pub bytes: u64,
    /// Stays on a CPU.
    pub runs: u64,
    /// Of them, those shown on a CPU beyond the machine's: theirs was not seen.
    pub cpu_not_seen: u64,
    /// Wake-ups.
    pub wakeups: u64,
    /// Waits drawn as slices.
    pub waits: u64,
    /// Waits not drawn as slices.
    pub waits_left_out: u64,
    /// Time of those, ns.
    pub left_out_ns: u64,
    /// Spans of the program.
    pub spans: u64,
    /// CPU samples.
    pub samples: u64,
}

/// Writes `trace` as a Perfetto trace into `out`; `report`, where there is one, gives it the
/// critical path, and the verdict that heads it.
///
/// # Errors
/// Those of `out`.
pub fn write(
    trace: &dyn Trace,
    report: Option<&Report>,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<Stats> {
    let words = learn_words(trace);
    let (survey, late, rows) = Survey::of(trace, words.clone());
    let ids = Ids::new(&rows);
    let mut out = Writer::new(out);
    tracks::preamble(&mut out, trace.info(), &rows, &ids);
    let mut stats = Stats::default();

    let unseen = (trace.info().cpus_online as usize).max(usize::from(survey.last_cpu) + 1);
    let mut sched = Sched::new(&mut out, &ids, &rows, &survey.lost, unseen);
    sched.extras(&survey.extras);
    runs_in_order_after(trace, words.clone(), late, &mut |run| sched.run(run));
    sched.finish();
    (stats.runs, stats.cpu_not_seen, stats.wakeups) = (sched.runs, sched.misplaced, sched.wakeups);
    let cpus: Vec<usize> = sched.cpus().collect();
    tracks::foreigners(&mut out, cpus.into_iter());

    let selection = survey.waits.longest(options.max_waits);
    let all_from = selection.all_from();
    let segments = survey.others.total();
    let mut slices = Slices {
        out: &mut out,
        ids: &ids,
        rows: &rows,
        namer: Namer::new(&survey.called),
        symbols: trace.symbols(),
        selection,
        running: Counter::new(tracks::RUNNING, "threads running", rows.window(), segments),
        ready: Counter::new(tracks::READY, "threads ready, no CPU free", rows.window(), segments),
        samples: Samples::new(trace.symbols()),
        threads: Vec::new(),
        names: Interner::default(),
        states: Interner::default(),
        keys: Interner::default(),
        values: Interner::default(),
        waits: 0,
        left_out: 0,
        left_out_ns: crate::model::Nanos::ZERO,
        spans: 0,
    };
    walk_knowing(trace, words, &mut slices);
    let left_out_ns;
    (stats.waits, stats.waits_left_out, left_out_ns, stats.spans, stats.samples) = slices.finish();
    stats.left_out_ns = left_out_ns.0;

    let left = tracks::LeftOut { waits: stats.waits_left_out, time: left_out_ns, all_from };
    tracks::whole_run(&mut out, trace.info(), &rows, report, &left, *options);
    if let Some(report) = report {
        path::write(&mut out, report, rows.window().0);
    }
    tracks::losses(&mut out, &survey, &rows);
    stats.bytes = out.finish()?;
    Ok(stats)
}
