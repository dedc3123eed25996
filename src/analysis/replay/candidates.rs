//! What is tried without being asked.

use crate::analysis::replay::whatif::Facts;
use crate::analysis::report::WhatIf;

/// The changes that are worth trying, tried.
pub fn candidates(_facts: &Facts) -> Vec<WhatIf> {
    Vec::new()
}
