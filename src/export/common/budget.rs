//! The longest of very many, chosen in one pass with bounded memory.

use crate::model::Nanos;

/// Buckets per power of two: a bucket's width is at most 1/16 of its lower end.
const STEPS: usize = 16;

/// How many durations of each size there are.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 65 * STEPS], total: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, duration: Nanos) {
        self.counts[bucket(duration)] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The choice of the longest `budget` of what was counted.
    pub fn longest(&self, budget: u64) -> Selection {
        let mut left = budget;
        for (index, &count) in self.counts.iter().enumerate().rev() {
            if count > left {
                return Selection { edge: index, of: count, take: left, seen: 0 };
            }
            left -= count;
        }
        Selection { edge: 0, of: 1, take: 1, seen: 0 }
    }
}

/// Decides, one by one and in the same order each time, who is among the longest.
///
/// Where equals compete for the last places, every n-th of them gets one, so that what is
/// drawn covers the whole recording and not only its beginning.
#[derive(Clone)]
pub struct Selection {
    edge: usize,
    of: u64,
    take: u64,
    seen: u64,
}

impl Selection {
    /// Whether the next one, of this length, is chosen.
    pub fn takes(&mut self, duration: Nanos) -> bool {
        let index = bucket(duration);
        if index != self.edge {
            return index > self.edge;
        }
        let before = u128::from(self.seen) * u128::from(self.take) / u128::from(self.of);
        self.seen += 1;
        let after = u128::from(self.seen) * u128::from(self.take) / u128::from(self.of);
        after > before
    }

    /// The length from which on all are chosen, ns (rounded up to the bucket's edge).
    pub fn all_from(&self) -> Nanos {
        if self.take == self.of { Nanos::ZERO } else { lower_end(self.edge + 1) }
    }
}

fn bucket(duration: Nanos) -> usize {
    let ns = duration.0;
    if ns < STEPS as u64 {
        return ns as usize;
    }
    let power = ns.ilog2() as usize;
    let step = (ns >> (power - 4)) as usize & (STEPS - 1);
    (power - 3) * STEPS + step
}

fn lower_end(bucket: usize) -> Nanos {
    if bucket < STEPS {
        return Nanos(bucket as u64);
    }
    let power = bucket / STEPS + 3;
    let mantissa = (STEPS + bucket % STEPS) as u64;
    Nanos(mantissa.checked_shl(power as u32 - 4).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_ordered_and_know_their_lower_end() {
        for ns in (0..4096).chain([1 << 40, (1 << 40) + 12_345, u64::MAX]) {
            let index = bucket(Nanos(ns));
            assert!(lower_end(index) <= Nanos(ns), "{ns}");
            if ns < u64::MAX {
                assert!(lower_end(index + 1) > Nanos(ns), "{ns}");
            }
        }
    }

    #[test]
    fn takes_exactly_the_budget_longest_first_and_spread_out() {
        let lengths: Vec<u64> = (0..1000).map(|i| if i % 10 == 0 { 5_000 } else { 100 }).collect();
        let mut histogram = Histogram::default();
        for &ns in &lengths {
            histogram.add(Nanos(ns));
        }
        let mut selection = histogram.longest(400);
        let taken: Vec<usize> = (0..1000).filter(|&i| selection.takes(Nanos(lengths[i]))).collect();
        assert_eq!(taken.len(), 400);
        assert!((0..1000).step_by(10).all(|i| taken.contains(&i)), "all the long ones");
        let early = taken.iter().filter(|&&i| i < 500).count();
        assert!((195..=205).contains(&early), "{early} in the first half");
        let mut all = histogram.longest(1000);
        assert!(lengths.iter().all(|&ns| all.takes(Nanos(ns))));
        assert_eq!(all.all_from(), Nanos::ZERO);
    }
}
