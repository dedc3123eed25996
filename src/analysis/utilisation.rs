//! How many threads of the tree were on a CPU, over the run.

use crate::analysis::history::History;
use crate::analysis::report::Running;
use crate::analysis::report::Utilisation;
use crate::model::Nanos;
use crate::model::Run;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Stretches of running sorted at a time: some hundred kilobytes, which stay in a cache.
const AT_A_TIME: usize = 8192;

/// From the lives of all threads; `None` if they are not whole.
///
/// Each thread's life is in order and the threads are not, so the run is cut into slices of
/// time, and the few thousand comings and goings of a slice are sorted.
pub fn utilisation(history: &History) -> Option<Utilisation> {
    // A slice looks at every thread: with many of them, fewer slices.
    let slices = history.size() / AT_A_TIME.max(history.lives().count());
    history.is_whole().then(|| in_slices(history, slices as u64))
}

fn in_slices(history: &History, slices: u64) -> Utilisation {
    let (start, end) = history.window;
    // A change and its time share a number of 64 bits.
    let length = (end - start).0.div_ceil(slices.max(1)).clamp(1, 1 << 62);
    let mut hints = vec![0; history.lives().count()];
    let mut changes: Vec<u64> = Vec::new();
    let mut count = Count::new(start, end);
    let mut from = start;
    while from < end {
        let to = Nanos(from.0.saturating_add(length)).min(end);
        for ((thread, life), hint) in history.lives().zip(&mut hints) {
            if life.start >= to || life.end <= from {
                continue;
            }
            let begin = from.max(life.start);
            *hint = history.first_stay(thread, begin, *hint);
            for (start, end) in history.runs_from(thread, *hint, begin, to) {
                changes.push((start - from).0 << 1 | 1);
                changes.push((end - from).0 << 1);
            }
        }
        // Who goes at an instant sorts before who comes at it; nobody ran for no time.
        changes.sort_unstable();
        for change in changes.drain(..) {
            count.until(from + Nanos(change >> 1));
            count.running = if change & 1 == 1 { count.running + 1 } else { count.running - 1 };
        }
        from = to;
    }
    count.finish()
}

/// Time by the number of threads that ran.
struct Count {
    start: Nanos,
    now: Nanos,
    end: Nanos,
    running: usize,
    histogram: Vec<Nanos>,
}

impl Count {
    fn new(start: Nanos, end: Nanos) -> Self {
        Self { start, now: start, end, running: 0, histogram: Vec::new() }
    }

    fn until(&mut self, time: Nanos) {
        if self.running >= self.histogram.len() {
            self.histogram.resize(self.running + 1, Nanos::ZERO);
        }
        self.histogram[self.running] += time - self.now;
        self.now = self.now.max(time);
    }

    /// The histogram, zero included; sums to the length of the run.
    fn finish(mut self) -> Utilisation {
        self.until(self.end);
        let times = (0u128..).zip(&self.histogram);
        let busy: u128 = times.map(|(n, time)| n * u128::from(time.0)).sum();
        let busy = u64::try_from(busy).unwrap_or(u64::MAX);
        Utilisation {
            mean_cpus: Nanos(busy).share_of(self.end - self.start),
            histogram: (0u32..)
                .zip(self.histogram)
                .filter(|(n, time)| *n == 0 || !time.is_zero())
                .map(|(running_threads, time)| Running { running_threads, ns: time.0 })
                .collect(),
        }
    }
}

/// Sweeps over runs in order of their start, for recordings that are too long to keep lives of.
pub struct Sweep {
    count: Count,
    ends: BinaryHeap<Reverse<Nanos>>,
}

impl Sweep {
    /// A sweep over the run from `start` to `end`.
    pub fn new(start: Nanos, end: Nanos) -> Self {
        Self { count: Count::new(start, end), ends: BinaryHeap::new() }
    }

    /// Takes the next run, in order of start.
    pub fn add(&mut self, run: &Run) {
        let start = run.start.max(self.count.start);
        let end = run.end.min(self.count.end);
        if end <= start {
            return;
        }
        self.advance(start);
        self.ends.push(Reverse(end));
        self.count.running = self.ends.len();
    }

    fn advance(&mut self, to: Nanos) {
        while let Some(&Reverse(end)) = self.ends.peek().filter(|end| end.0 <= to) {
            self.count.until(end);
            self.ends.pop();
            self.count.running = self.ends.len();
        }
        self.count.until(to);
    }

    /// See [`utilisation`].
    pub fn finish(mut self) -> Utilisation {
        self.advance(self.count.end);
        self.count.finish()
    }
}

#[cfg(test)]
mod tests;
