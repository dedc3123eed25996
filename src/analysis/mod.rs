//! From a trace to a report: folds over events. Pure: no files, formats, terminals, colours.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod fold;
mod functions;
pub mod history;
pub mod names;
mod objects;
pub mod replay;
mod report;
mod rows;
#[cfg(test)]
mod schedule;
mod stacks;
mod utilisation;
mod verdict;

pub use report::*;
pub use stacks::*;

use crate::model::Nanos;
use crate::model::State;
use crate::model::States;
use crate::model::Trace;
use crate::model::learn_words;
use crate::model::runs_in_order_after;
use crate::model::walk_knowing;
use fold::Fold;
use utilisation::Sweep;

/// Analyses a trace. `trace_bytes` is the size of its file, if it is in one.
///
/// Reads the trace three times (futex words; everything; runs in order) and keeps memory
/// for threads, objects and distinct stacks, not for events.
pub fn analyse(trace: &dyn Trace, trace_bytes: Option<u64>) -> Report {
    let words = learn_words(trace);
    let mut fold = Fold::default();
    let timelines = walk_knowing(trace, words.clone(), &mut fold);
    let (start, end) = timelines.window();

    let mut late = std::mem::take(&mut fold.late);
    late.finish(&timelines);
    let mut sweep = Sweep::new(start, end);
    runs_in_order_after(trace, words, late, &mut |run| sweep.add(run));

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
        host: rows::host(info),
        health: rows::health(trace, &timelines, &fold, &budget),
        cost: rows::cost(trace, &fold, trace_bytes),
        budget: Budget {
            thread_ns: budget.total().0,
            states: StateTimes(budget),
            detail: fold.details(budget[State::Running]),
        },
        processes: rows::processes(trace, &timelines),
        threads: rows::threads(&timelines),
        objects: Vec::new(),
        utilisation: sweep.finish(),
        functions: fold.functions.rows(trace.symbols()),
        critical_path: Vec::new(),
        whatif: Vec::new(),
        findings: Vec::new(),
        verdict: Verdict {
            kind: "inconclusive",
            headline: String::new(),
            object: None,
            confidence: Confidence { level: "low", value: 0.0 },
        },
    };
    let ids = fold.objects.ids();
    report.objects = fold.objects.rows(&timelines, trace.symbols());
    report.whatif = replay::candidates(&replay::Facts {
        history: &fold.history,
        timelines: &timelines,
        symbols: trace.symbols(),
        objects: &report.objects,
        ids: &ids,
        cpus: replay::cpus(trace),
        ended: replay::ended(trace, &timelines),
    });
    report.verdict = verdict::verdict(&report);
    debug_assert_eq!(Nanos(report.budget.thread_ns), budget.total());
    debug_assert!(State::ALL.len() == 16);
    report
}
