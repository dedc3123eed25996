//! Medians with an interval that assumes nothing about the distribution.

/// A median and its interval.
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower end of the 95 % interval of the median.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Of some values; `None` without any.
    ///
    /// The interval is that of order statistics: the chance that the true median lies outside
    /// of the k-th smallest and largest value is 2 P(Binomial(n, 1/2) < k).
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let middle = n.checked_sub(1)? / 2;
        let median = f64::midpoint(values[middle], values[n / 2]);
        let mut k = 0;
        let (mut outside, mut ways) = (0.0, 1.0);
        // Below six values no interval reaches 95 %: then it is the whole range.
        while k < middle {
            outside += 2.0 * ways / 2f64.powi(n as i32);
            if outside > 0.05 {
                break;
            }
            ways = ways * (n - k) as f64 / (k + 1) as f64;
            k += 1;
        }
        let k = k.saturating_sub(1);
        Some(Self { median, low: values[k], high: values[n - 1 - k] })
    }
}
