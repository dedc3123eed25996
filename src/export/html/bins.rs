//! Threads on a CPU over time, in bins that widen as the trace goes on.

use crate::model::Nanos;
use serde::Serialize;

/// More bins than any screen has columns, few enough to send.
const BINS: usize = 4096;
/// Width of the first bins, ns: nothing shorter can be told apart on a page.
const NARROWEST: u64 = 1024;

/// Time spent by all threads within each bin; the bins' sum is the exact total.
#[derive(Debug, Default)]
pub(super) struct Bins {
    origin: Option<Nanos>,
    width: u64,
    sums: Vec<u64>,
}

/// The bins as the page takes them.
#[derive(Serialize)]
#[allow(clippy::struct_field_names)] // the unit belongs to the name, as everywhere in the data
pub(super) struct CpuView {
    /// Begin of the first bin, ns of the run.
    start_ns: i64,
    /// Width of each.
    width_ns: u64,
    /// On-CPU time of all threads in each.
    running_ns: Vec<u64>,
}

impl Bins {
    /// Where the first bin begins, if nothing was added before.
    pub fn begin(&mut self, origin: Nanos) {
        self.origin.get_or_insert(origin);
    }

    /// A thread was on a CPU from `start` to `end`.
    pub fn add(&mut self, start: Nanos, end: Nanos) {
        let origin = *self.origin.get_or_insert(start);
        self.width = self.width.max(NARROWEST);
        // What lies before the origin (a thread found late) counts in the first bin.
        let mut from = (start - origin).0;
        let to = (end - origin).0.max(from);
        if let Some(early) = (end - start).0.checked_sub(to - from).filter(|&early| early > 0) {
            self.bin(0, early);
        }
        while to.div_ceil(self.width) > BINS as u64 {
            self.widen();
        }
        while from < to {
            let index = from / self.width;
            let until = ((index + 1) * self.width).min(to);
            self.bin(index as usize, until - from);
            from = until;
        }
    }

    fn bin(&mut self, index: usize, time: u64) {
        if index >= self.sums.len() {
            self.sums.resize(index + 1, 0);
        }
        self.sums[index] += time;
    }

    fn widen(&mut self) {
        self.width *= 2;
        self.sums = self.sums.chunks(2).map(|pair| pair.iter().sum()).collect();
    }

    pub fn view(self, run_start: Nanos) -> CpuView {
        let origin = self.origin.unwrap_or(run_start);
        CpuView {
            start_ns: origin.0 as i64 - run_start.0 as i64,
            width_ns: self.width.max(NARROWEST),
            running_ns: self.sums,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_keeps_every_nanosecond() {
        let mut bins = Bins::default();
        bins.begin(Nanos(1000));
        let mut total = 0;
        for i in 0..5000u64 {
            let start = 500 + i * i * 7;
            bins.add(Nanos(start), Nanos(start + 3000 + i));
            total += 3000 + i;
        }
        let view = bins.view(Nanos(1000));
        assert_eq!(view.running_ns.iter().sum::<u64>(), total);
        assert!(view.running_ns.len() <= BINS);
        assert!(view.width_ns.is_power_of_two());
    }

    #[test]
    fn a_bin_holds_what_ran_in_it() {
        let mut bins = Bins::default();
        bins.begin(Nanos(0));
        bins.add(Nanos(512), Nanos(1536));
        bins.add(Nanos(0), Nanos(1024));
        assert_eq!(bins.view(Nanos(0)).running_ns, [1536, 512]);
    }
}
