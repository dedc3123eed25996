//! Which parts of the answer are asserted, for each workload. All others are evaluated and
//! printed: what holds then belongs on these lists.

use crate::checks::Part;
use crate::checks::Part::Facts;
use crate::checks::Part::Objects;
use crate::checks::Part::States;
use crate::checks::Part::Theory;

/// For every workload.
const ALWAYS: &[Part] = &[Facts, States, Theory];

/// Beyond that.
const BESIDES: &[(&str, &[Part])] = &[
    ("1", &[Objects]),
    ("1p", &[]),
    ("1s", &[Objects]),
    ("2", &[]),
    ("2s", &[]),
    ("3", &[Objects]),
    ("4", &[]),
    ("5", &[]),
    ("6", &[]),
    ("7", &[]),
    ("8", &[]),
    ("9", &[]),
    ("10", &[]),
    ("11", &[]),
    ("12", &[]),
    ("13", &[]),
    ("14", &[]),
    ("15", &[]),
    ("16", &[Objects]),
    ("17", &[Objects]),
    ("18", &[Objects]),
    ("19", &[]),
    ("20", &[Objects]),
];

/// Whether this part is asserted for this workload.
pub fn on(id: &str, part: Part) -> bool {
    let row = BESIDES.iter().find(|(named, _)| *named == id);
    let (_, parts) = row.unwrap_or_else(|| panic!("{id} has no row of switches"));
    ALWAYS.contains(&part) || parts.contains(&part)
}
