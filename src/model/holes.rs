//! Stretches of time of which a file has nothing.

use super::Nanos;

/// Holes from an instant to an instant, in the order of their ends. As those within others tell
/// nothing more and are dropped, that is the order of their beginnings too.
#[derive(Debug, Default)]
pub struct Holes(Vec<(Nanos, Nanos)>);

impl Holes {
    /// Adds one. They come in the order of their ends: mostly it is put last.
    pub fn add(&mut self, from: Nanos, to: Nanos) {
        let at = self.0.partition_point(|hole| hole.1 < to);
        if self.0.get(at).is_some_and(|hole| hole.0 <= from) {
            return;
        }
        let within = self.0[..at].iter().rev().take_while(|hole| hole.0 >= from).count();
        // One with the same end but a later beginning comes next.
        let same = self.0[at..].iter().take_while(|hole| hole.1 == to).count();
        self.0.splice(at - within..at + same, [(from, to)]);
    }

    /// Whether a part of a stretch is in a hole. Looks at a few of them only.
    pub fn hide(&self, from: Nanos, to: Nanos) -> bool {
        // Of those that end after its beginning, the first also begins first.
        let next = self.0.partition_point(|hole| hole.1 <= from);
        self.0.get(next).is_some_and(|hole| hole.0 < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In whatever order they come and however they overlap, each counts.
        #[test]
        fn every_hole_hides_what_it_touches(
            holes in prop::collection::vec((0u64..40, 0u64..40), 0..12),
            asked in prop::collection::vec((0u64..42, 0u64..42), 12),
        ) {
            let mut kept = Holes::default();
            for &(from, to) in &holes {
                kept.add(Nanos(from), Nanos(to));
            }
            for (from, to) in asked {
                let expected = holes.iter().any(|hole| hole.0 < to && hole.1 > from);
                prop_assert_eq!(kept.hide(Nanos(from), Nanos(to)), expected);
            }
        }
    }

    #[test]
    fn holes_within_others_are_not_kept() {
        let mut holes = Holes::default();
        for at in 0..1_000 {
            holes.add(Nanos(5), Nanos(10 + at));
        }
        assert_eq!(holes.0, [(Nanos(5), Nanos(1_009))]);
    }
}
