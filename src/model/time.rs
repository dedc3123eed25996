//! Nanoseconds, the only unit of time in the crate.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// An instant on `CLOCK_MONOTONIC`, or a span of time, in nanoseconds.
///
/// Subtraction and addition saturate: a clock that steps back in a damaged
/// trace makes a span of zero, never a panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The start of the clock, and the empty span.
    pub const ZERO: Self = Self(0);
    /// Later than anything that was recorded.
    pub const MAX: Self = Self(u64::MAX);

    /// From whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// From whole microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Self(us.saturating_mul(1_000))
    }

    /// As seconds, for display and ratios only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// This span as a share of `whole` in `0.0..=1.0`; zero of nothing is zero.
    pub fn share_of(self, whole: Self) -> f64 {
        if whole.0 == 0 { 0.0 } else { self.0 as f64 / whole.0 as f64 }
    }

    /// True for the empty span.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// No span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoTime;

impl fmt::Display for NoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time: give a number with ns, us, ms, s or m, like 1.5s or 300ms")
    }
}

impl std::error::Error for NoTime {}

impl FromStr for Nanos {
    type Err = NoTime;
    /// `1.5s`, `300ms`, `20us`, `7ns`, `2m`; a bare number is in seconds.
    fn from_str(text: &str) -> Result<Self, NoTime> {
        let text = text.trim();
        let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let scale = match text[at..].trim() {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" | "" => 1e9,
            "m" | "min" => 60e9,
            _ => return Err(NoTime),
        };
        let number: f64 = text[..at].trim().parse().map_err(|_| NoTime)?;
        let ns = number * scale;
        // Beyond 2^53 ns, a hundred days, whole nanoseconds are not exact any more.
        if ns.is_finite() && (0.0..9e15).contains(&ns) {
            Ok(Self(ns.round() as u64))
        } else {
            Err(NoTime)
        }
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Nanos {
    /// Three significant digits and a unit a person would choose: `1.23 ms`, `45.6 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1_000 => return write!(f, "{} ns", self.0),
            1_000..1_000_000 => (ns / 1e3, "us"),
            1_000_000..1_000_000_000 => (ns / 1e6, "ms"),
            _ => (ns / 1e9, "s"),
        };
        let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        write!(f, "{value:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::Nanos;

    #[test]
    fn shows_three_digits_and_a_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_230, "1.23 us"),
            (45_600_000, "45.6 ms"),
            (999_940_000, "1000 ms"),
            (123_000_000_000, "123 s"),
        ] {
            assert_eq!(Nanos(ns).to_string(), text);
        }
    }

    #[test]
    fn reads_what_people_type() {
        for (text, ns) in [
            ("1.5s", 1_500_000_000),
            ("300 ms", 300_000_000),
            ("20us", 20_000),
            ("7ns", 7),
            ("2m", 120_000_000_000),
            ("0.25", 250_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Nanos(ns)), "{text}");
        }
        for text in ["", "s", "-1s", "1h", "1e99", "nans", "1..2s"] {
            assert!(text.parse::<Nanos>().is_err(), "{text}");
        }
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert_eq!(Nanos(3) - Nanos(5), Nanos::ZERO);
        assert_eq!(Nanos::MAX + Nanos(1), Nanos::MAX);
    }
}
