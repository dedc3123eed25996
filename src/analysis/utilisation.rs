//! How many threads of the tree were on a CPU, over the run.

use crate::analysis::report::Running;
use crate::analysis::report::Utilisation;
use crate::model::Nanos;
use crate::model::Run;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Sweeps over runs in order of their start.
pub struct Sweep {
    now: Nanos,
    start: Nanos,
    end: Nanos,
    ends: BinaryHeap<Reverse<Nanos>>,
    histogram: Vec<Nanos>,
}

impl Sweep {
    /// A sweep over the run from `start` to `end`.
    pub fn new(start: Nanos, end: Nanos) -> Self {
        Self { now: start, start, end, ends: BinaryHeap::new(), histogram: Vec::new() }
    }

    /// Takes the next run, in order of start.
    pub fn add(&mut self, run: &Run) {
        let start = run.start.max(self.start);
        let end = run.end.min(self.end);
        if end <= start {
            return;
        }
        self.advance(start);
        self.ends.push(Reverse(end));
    }

    fn advance(&mut self, to: Nanos) {
        while let Some(&Reverse(end)) = self.ends.peek().filter(|end| end.0 <= to) {
            self.count(end);
            self.ends.pop();
        }
        self.count(to);
    }

    fn count(&mut self, until: Nanos) {
        let running = self.ends.len();
        if running >= self.histogram.len() {
            self.histogram.resize(running + 1, Nanos::ZERO);
        }
        self.histogram[running] += until - self.now;
        self.now = self.now.max(until);
    }

    /// The histogram, zero included; sums to the length of the run.
    pub fn finish(mut self) -> Utilisation {
        let end = self.end;
        self.advance(end);
        let times = (0u128..).zip(&self.histogram);
        let busy: u128 = times.map(|(n, time)| n * u128::from(time.0)).sum();
        let busy = u64::try_from(busy).unwrap_or(u64::MAX);
        let wall = end - self.start;
        Utilisation {
            mean_cpus: Nanos(busy).share_of(wall),
            histogram: (0u32..)
                .zip(self.histogram)
                .filter(|(n, time)| *n == 0 || !time.is_zero())
                .map(|(running_threads, time)| Running { running_threads, ns: time.0 })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ThreadId;

    fn run(thread: u32, start: u64, end: u64) -> Run {
        Run {
            thread: ThreadId(thread),
            start: Nanos(start),
            end: Nanos(end),
            cpu: None,
            woken: None,
            waker: None,
            left: None,
            then: None,
            taker: None,
        }
    }

    /// ```text
    /// thread 0  ...#####...
    /// thread 1  .....####..
    /// running   00011222100
    /// ```
    #[test]
    fn the_histogram_sums_to_the_run() {
        let mut sweep = Sweep::new(Nanos(0), Nanos(11));
        sweep.add(&run(0, 3, 8));
        sweep.add(&run(1, 5, 9));
        let found = sweep.finish();
        let bars: Vec<(u32, u64)> =
            found.histogram.iter().map(|bar| (bar.running_threads, bar.ns)).collect();
        assert_eq!(bars, [(0, 5), (1, 3), (2, 3)]);
        assert!((found.mean_cpus - 9.0 / 11.0).abs() < 1e-12);
    }
}
