//! One file per format. Exporters write into a `dyn Write`: they know no files, no clock and
//! no terminal, so the same trace gives the same bytes (promise P8).
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod chrome;
mod colors;
mod common;
pub mod flamegraph;
pub mod folded;
pub mod html;
pub mod json;
mod paths;
pub mod perfetto;
pub mod text;

pub use colors::state_color;

/// A count in groups of three digits: `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_come_in_groups_of_three() {
        for (n, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::grouped(n), shown);
        }
    }
}
