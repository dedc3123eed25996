//! From a trace to a report: folds over events. Pure: no files, formats, terminals, colours.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod blame;
mod concurrency;
mod ends;
mod explain;
mod focus;
mod fold;
mod functions;
#[cfg(test)]
mod gain_tests;
mod gil;
pub mod history;
mod idle;
pub mod names;
mod objects;
mod path;
mod pools;
pub mod replay;
mod report;
mod retries;
mod roles;
mod rows;
pub mod rules;
#[cfg(test)]
#[path = "schedule_for_tests.rs"]
mod schedule;
mod spinning;
mod stacks;
mod tasks;
mod utilisation;
mod verdict;

pub use focus::NoSuchPart;
pub use focus::Question;
pub use objects::names::Names as NamedWords;
pub use report::*;
pub use stacks::*;

use crate::model::Nanos;
use crate::model::States;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::learn_words;
use crate::model::runs_in_order;
use crate::model::walk_knowing;
use explain::Explainer;
use fold::Fold;
use gil::Gil;
use history::History;
use history::MOST_STAYS;
use history::ObjectIndex;
use idle::IdleCpus;
use objects::Rows;
use rules::Evidence;
use std::collections::BTreeMap;
use utilisation::Sweep;

/// Analyses a trace. `trace_bytes` is the size of its file, if it is in one.
///
/// Reads the trace twice (futex words; everything); one that is too long to keep lives of three
/// times more, for its runs in order. Keeps memory for threads, objects and distinct stacks, and
/// for what looks back (critical path, holders, what-if) 24 bytes a stay off the CPU and 16 a
/// sample, up to the bounds of [`history`].
pub fn analyse(trace: &dyn Trace, trace_bytes: Option<u64>) -> Report {
    match analyse_focused(trace, trace_bytes, &Question::default()) {
        Ok(report) => report,
        Err(error) => unreachable!("the whole run is always there: {error}"),
    }
}

/// Analyses a trace; the critical path is that of one thread, or of a part of the run.
pub fn analyse_focused(
    trace: &dyn Trace,
    trace_bytes: Option<u64>,
    question: &Question,
) -> Result<Report, NoSuchPart> {
    let words = learn_words(trace);
    let mut fold = Fold::default();
    let timelines = walk_knowing(trace, words, &mut fold);
    let (start, end) = timelines.window();
    fold.history.window = (start, end);
    let utilisation = utilisation::utilisation(&fold.history).unwrap_or_else(|| {
        let mut sweep = Sweep::new(start, end);
        runs_in_order(trace, &mut |run| sweep.add(run));
        sweep.finish()
    });

    let mut budget = States::default();
    for thread in timelines.threads() {
        budget.add(&thread.states);
    }
    let info = trace.info();
    let mut report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: info.command.iter().map(Shown::from).collect(),
        exit: rows::exit(trace, &timelines),
        started: (info.clocks.realtime + (start - info.clocks.monotonic)).0,
        wall_ns: (end - start).0,
        tier: info.tier.name(),
        sample_period_ns: (info.sample_hz > 0).then(|| 1_000_000_000 / u64::from(info.sample_hz)),
        sampled_ns: fold.functions.sampled.0,
        host: rows::host(trace),
        health: rows::health(trace, &timelines, &fold, &budget),
        cost: rows::cost(trace, &fold, trace_bytes),
        budget: Budget {
            thread_ns: budget.total().0,
            states: StateTimes(budget),
            detail: rows::details(trace, &fold, &budget),
        },
        processes: rows::processes(trace, &timelines),
        threads: rows::threads(&timelines),
        objects: Vec::new(),
        utilisation,
        functions: std::mem::take(&mut fold.functions).rows(trace.symbols()),
        tasks: tasks::rows(&fold.history, trace.symbols()),
        focus: None,
        critical_path: Vec::new(),
        path: PathSummary::default(),
        whatif: Vec::new(),
        findings: Vec::new(),
        verdict: Verdict {
            kind: "inconclusive",
            headline: String::new(),
            object: None,
            confidence: Confidence { level: "low", value: 0.0 },
        },
    };
    let told = explain(&mut report, trace, &timelines, fold, question)?;
    judge(&mut report, &told, trace);
    debug_assert_eq!(Nanos(report.budget.thread_ns), budget.total());
    Ok(report)
}

/// Concurrency models, findings and the verdict, from all that stands in the report by now.
fn judge(report: &mut Report, told: &Told, trace: &dyn Trace) {
    let mut evidence = Evidence::gather(report, told, trace.symbols());
    evidence.models = concurrency::models(&evidence);
    let findings = rules::findings(&evidence);
    let models = evidence.models;
    report.findings = findings;
    for (process, model) in report.processes.iter_mut().zip(models) {
        process.model = model;
    }
    report.verdict = verdict::verdict(report);
}

/// What later parts of an analysis go by.
#[derive(Default)]
pub struct Told {
    /// The lives of the threads.
    pub history: History,
    /// The row of each of their objects; `u32::MAX` if it has none.
    pub ids: Vec<u32>,
    /// The GILs among them.
    pub gils: BTreeMap<ObjectIndex, Gil>,
}

/// What the lives of the threads tell: objects with their holders, and the critical path.
fn explain(
    report: &mut Report,
    trace: &dyn Trace,
    timelines: &Timelines,
    fold: Fold,
    question: &Question,
) -> Result<Told, NoSuchPart> {
    let lost = fold.lost_intervals() > 0;
    let Fold { mut objects, mut history, retries, .. } = fold;
    for ((process, address), retried) in retries.finish(lost) {
        objects.retried(process, address, retried);
    }
    let Rows { objects, ids, same } = objects.rows(timelines, trace.symbols());
    history.unify(same);
    rows::with_gil_after_all(&mut report.processes, &objects);
    report.objects = objects;
    let names: Vec<&str> = report.processes.iter().map(|row| row.name.0.as_str()).collect();
    roles::fill(&mut report.threads, &names, &history, trace.symbols());
    report.focus = focus::find(question, timelines)?;
    let gils = gil::gils(&history);
    let replayed = replay::replayed(&replay::Facts {
        history: &history,
        gils: &gils,
        timelines,
        symbols: trace.symbols(),
        objects: &report.objects,
        ids: &ids,
        cpus: replay::cpus(trace),
        ended: replay::ended(trace, timelines),
    });
    report.whatif = replayed.whatif;
    for row in &mut report.objects {
        row.hold_ns = replayed.held.get(&row.id).copied();
    }
    if !history.is_whole() {
        report.health.warnings.push(format!(
            "the recording has more than {MOST_STAYS} intervals: critical path, holders and \
             what-if were left out"
        ));
        return Ok(Told { history, ids, gils });
    }
    let explainer = Explainer {
        threads: &report.threads,
        symbols: trace.symbols(),
        history: &history,
        ids: &ids,
    };
    let blame = blame::blame(&history, &gils);
    if !blame.unexamined.is_zero() {
        report.health.warnings.push(format!(
            "what holders did meanwhile was not looked at for {} of waiting: there was too much \
             of it",
            blame.unexamined
        ));
    }
    let idle = IdleCpus::new(&history, (rules::cpus(&report.host).ceil() as u32).max(1));
    explainer.blame(&blame, &idle, &mut report.objects);
    if let Some((path, last)) = focus::path(report.focus.as_ref(), timelines, &history) {
        (report.critical_path, report.path) = explainer.path(&path, last);
    }
    Ok(Told { history, ids, gils })
}
