//! Runs one workload and its changes in turn.

use crate::beside;
use crate::checks;
use crate::metrics;
use crate::metrics::Answer;
use crate::metrics::METRICS;
use crate::programs;
use crate::programs::Load;
use crate::programs::Recording;
use crate::stats::median;
use crate::table::Change;
use crate::table::Workload;
use std::collections::BTreeMap;
use timesink::trace::TraceFile;

/// A state over all rounds.
#[derive(Default)]
pub struct Times {
    /// Measured by the program, ns.
    pub measured: Vec<f64>,
    /// Found in the report, ns.
    pub found: Vec<f64>,
    /// Found less measured, in points of these threads' time.
    pub points: Vec<f64>,
    /// Points that both may differ by.
    pub slack: Vec<f64>,
}

/// A change over all rounds.
#[derive(Default)]
pub struct Gains {
    /// Seconds of the really modified program.
    pub real: Vec<f64>,
    /// Speedups that were promised.
    pub promised: Vec<f64>,
    /// The intervals of those that have one.
    pub intervals: Vec<(f64, f64)>,
    /// Why the last round promised nothing.
    pub refused: Option<String>,
}

/// A simple metric over all rounds.
#[derive(Clone, Default)]
pub struct Simple {
    /// What it named in the last.
    pub text: String,
    /// Rounds in which that was right,
    pub right: usize,
    /// and wrong; neither where nothing is to be named, and nothing that is innocent was.
    pub wrong: usize,
}

impl Simple {
    fn add(&mut self, workload: &Workload, answer: Answer) {
        let innocent = workload.innocent.iter().any(|&kind| kind == "*" || kind == answer.kind);
        let culprit = workload.verdict.culprit;
        if innocent || !culprit.is_empty() && !checks::says(&answer.words, culprit) {
            self.wrong += 1;
        } else if !culprit.is_empty() {
            self.right += 1;
        }
        self.text = answer.text;
    }
}

/// A workload over all rounds.
pub struct Series {
    /// Which.
    pub workload: &'static Workload,
    /// Seconds of the program alone.
    pub bare: Vec<f64>,
    /// For each state of the table.
    pub states: Vec<Times>,
    /// For each object of the table: its wait as a part of what was measured; NaN if missing.
    pub objects: Vec<Vec<f64>>,
    /// For each change of the table.
    pub gains: Vec<Gains>,
    /// Verdicts, with how many rounds gave them.
    pub verdicts: BTreeMap<String, usize>,
    /// Rounds whose verdict was of the right kind.
    pub right_kind: usize,
    /// Rounds whose verdict named what decides.
    pub right_culprit: usize,
    /// The sentence of the last round's verdict.
    pub headline: String,
    /// What simple metrics answer.
    pub metrics: Vec<Simple>,
    /// What py-spy says, if it was asked.
    pub beside: Option<Vec<String>>,
    /// The part of the CPUs that others used.
    pub foreign: Vec<f64>,
}

impl Series {
    /// Runs it.
    pub fn measure(workload: &'static Workload, rounds: usize) -> Self {
        let mut series = Self {
            workload,
            bare: Vec::new(),
            states: workload.states.iter().map(|_| Times::default()).collect(),
            objects: workload.objects.iter().map(|_| Vec::new()).collect(),
            gains: workload.changes.iter().map(|_| Gains::default()).collect(),
            verdicts: BTreeMap::new(),
            right_kind: 0,
            right_culprit: 0,
            headline: String::new(),
            metrics: vec![Simple::default(); METRICS.len()],
            beside: None,
            foreign: Vec::new(),
        };
        for _ in 0..rounds {
            let load = Load::now();
            series.bare.push(programs::bare(workload));
            let recording = programs::recorded(workload);
            for (change, gains) in workload.changes.iter().zip(&mut series.gains) {
                gains.real.extend(programs::modified(workload, change));
            }
            series.foreign.push(load.foreign());
            series.add(&recording);
        }
        series.beside = beside::said(workload);
        series
    }

    fn add(&mut self, recording: &Recording) {
        let Recording { truth, report, .. } = recording;
        for (state, times) in self.workload.states.iter().zip(&mut self.states) {
            let compared = checks::compare(state, report, truth);
            times.measured.push(compared.measured as f64);
            times.found.push(compared.found as f64);
            times.points.push(compared.points());
            times.slack.push(compared.slack());
        }
        for (object, shares) in self.workload.objects.iter().zip(&mut self.objects) {
            let row = checks::find(report, object.kind, object.function);
            let wait = row.and_then(|row| row["wait_ns"].as_f64()).unwrap_or(f64::NAN);
            shares.push(wait / truth.number(object.key).max(1) as f64);
        }
        for (change, gains) in self.workload.changes.iter().zip(&mut self.gains) {
            match checks::predicted(change, recording) {
                Ok(promise) => {
                    gains.promised.push(promise.speedup);
                    gains.intervals.extend(promise.interval);
                }
                Err(why) => gains.refused = Some(why),
            }
        }
        let kind = report["verdict"]["kind"].as_str().unwrap_or("none").to_owned();
        let headline = report["verdict"]["headline"].as_str();
        headline.unwrap_or_default().clone_into(&mut self.headline);
        *self.verdicts.entry(kind).or_default() += 1;
        self.right_kind += usize::from(checks::verdict(self.workload, report).is_empty());
        self.right_culprit += usize::from(checks::culprit(self.workload, report).is_empty());
        let file = TraceFile::open(&recording.trace()).expect("just recorded");
        for (simple, answer) in self.metrics.iter_mut().zip(metrics::all(&file)) {
            simple.add(self.workload, answer);
        }
    }

    /// The speedup of the really modified program; `None` if there is none.
    pub fn real(&self, index: usize) -> Option<f64> {
        let real = &self.gains[index].real;
        (!real.is_empty()).then(|| median(&self.bare) / median(real))
    }

    /// The promised speedup, if there is one.
    pub fn promised(&self, index: usize) -> Option<f64> {
        let promised = &self.gains[index].promised;
        (!promised.is_empty()).then(|| median(promised))
    }

    /// Whether the real speedup lies in the interval, between the median low and high end.
    pub fn covered(&self, index: usize) -> Option<bool> {
        let (real, intervals) = (self.real(index)?, &self.gains[index].intervals);
        let (low, high): (Vec<f64>, Vec<f64>) = intervals.iter().copied().unzip();
        (!intervals.is_empty()).then(|| (median(&low)..=median(&high)).contains(&real))
    }

    /// Its changes with what came of them.
    pub fn changes(&self) -> impl Iterator<Item = (usize, &'static Change)> {
        self.workload.changes.iter().enumerate()
    }
}
