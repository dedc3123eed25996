//! The few numbers that a table needs.

/// The median; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The value that is farthest from zero; 0 of nothing.
pub fn worst(values: &[f64]) -> f64 {
    values.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default()
}

/// Kendall's tau of pairs: how far both sides agree on the order. Pairs that differ by less
/// than `tie` on either side say nothing. `None` if none says anything.
pub fn kendall(pairs: &[(f64, f64)], tie: f64) -> Option<f64> {
    let (mut agree, mut differ) = (0.0, 0.0);
    for (index, (a, b)) in pairs.iter().enumerate() {
        for (c, d) in &pairs[index + 1..] {
            if (a - c).abs() < tie || (b - d).abs() < tie {
                continue;
            }
            if (a > c) == (b > d) { agree += 1.0 } else { differ += 1.0 }
        }
    }
    let all: f64 = agree + differ;
    (all > 0.0).then(|| (agree - differ) / all)
}
