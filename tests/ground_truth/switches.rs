//! Which parts of the answer are asserted, for each workload. All others are evaluated and
//! printed: what holds then belongs on these lists.

use crate::checks::Part;
use crate::checks::Part::Culprit;
use crate::checks::Part::Facts;
use crate::checks::Part::Findings;
use crate::checks::Part::Holders;
use crate::checks::Part::Holds;
use crate::checks::Part::Innocent;
use crate::checks::Part::Objects;
use crate::checks::Part::States;
use crate::checks::Part::Theory;
use crate::checks::Part::Verdict;
use crate::checks::Part::WhatIf;

/// For every workload.
const ALWAYS: &[Part] = &[Facts, States, Theory];

/// Beyond that.
const BESIDES: &[(&str, &[Part])] = &[
    ("1", &[Objects, Holders, Holds, Verdict, Culprit, Innocent]),
    ("1p", &[Objects, Verdict, Culprit, Innocent]),
    ("1s", &[Objects, Holders, Holds, Verdict, Culprit, Innocent]),
    ("2", &[Verdict, Innocent]),
    ("2s", &[Verdict, Innocent]),
    ("3", &[Objects, Holders, Holds, Verdict, Culprit, Findings]),
    ("4", &[Objects, Verdict, Culprit, Innocent]),
    ("5", &[Objects, Holders, Verdict, Culprit, Innocent]),
    ("6", &[Verdict, Innocent]),
    ("7", &[]),
    ("8", &[Verdict, Culprit]),
    ("9", &[Verdict, Culprit]),
    ("10", &[]),
    ("11", &[]),
    ("12", &[Verdict, Culprit, Innocent]),
    ("13", &[Verdict, Culprit, Findings, Innocent]),
    ("14", &[]),
    ("15", &[Verdict, Culprit]),
    ("16", &[Objects, Verdict, Culprit]),
    ("17", &[Objects, Verdict, Culprit, Findings]),
    ("18", &[Objects, Verdict, Culprit, Innocent]),
    ("19", &[Objects, Verdict, Culprit, Innocent]),
    ("20", &[Objects, Holds, Verdict, Culprit, Innocent, Findings]),
    ("21", &[Verdict, Culprit, Findings, WhatIf]),
    ("21l", &[Verdict, WhatIf]),
];

/// Whether this part is asserted for this workload.
pub fn on(id: &str, part: Part) -> bool {
    let row = BESIDES.iter().find(|(named, _)| *named == id);
    let (_, parts) = row.unwrap_or_else(|| panic!("{id} has no row of switches"));
    ALWAYS.contains(&part) || parts.contains(&part)
}
