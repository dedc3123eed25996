//! CPU samples folded into functions.

use crate::analysis::names;
use crate::analysis::report::FrameRow;
use crate::analysis::report::FunctionRow;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::Sample;
use crate::model::StackId;
use crate::model::Symbols;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// CPU time by stack.
#[derive(Default)]
pub struct Functions {
    stacks: FastMap<StackId, Nanos>,
    /// Time of all samples.
    pub sampled: Nanos,
    /// Time of samples in the kernel.
    pub in_kernel: Nanos,
}

/// Rows of a report.
const MOST_ROWS: usize = 200;

impl Functions {
    /// Counts a sample.
    pub fn add(&mut self, sample: &Sample) {
        self.sampled += sample.weight;
        if sample.kernel {
            self.in_kernel += sample.weight;
        }
        if let Some(stack) = sample.stack {
            *self.stacks.entry(stack).or_default() += sample.weight;
        }
    }

    /// Functions by their own time, then by time of what they call.
    pub fn rows(self, symbols: &Symbols) -> Vec<FunctionRow> {
        let stacks: BTreeMap<StackId, Nanos> = self.stacks.into_iter().collect();
        let mut rows: Vec<FunctionRow> = functions_of(&stacks, symbols)
            .into_iter()
            .map(|(frame, own, total)| FunctionRow { frame, self_ns: own.0, total_ns: total.0 })
            .collect();
        rows.truncate(MOST_ROWS);
        rows
    }
}

/// Functions of weighed stacks: their own time, then that with what they call, largest first.
pub fn functions_of(
    stacks: &BTreeMap<StackId, Nanos>,
    symbols: &Symbols,
) -> Vec<(FrameRow, Nanos, Nanos)> {
    let mut totals: BTreeMap<FrameRow, (Nanos, Nanos)> = BTreeMap::new();
    for (&stack, &time) in stacks {
        let frames: Vec<FrameRow> = names::frames(symbols, stack).into_iter().map(whole).collect();
        if let Some(innermost) = frames.last() {
            totals.entry(innermost.clone()).or_default().0 += time;
        }
        // A recursive function counts once for each sample.
        for frame in frames.into_iter().collect::<BTreeSet<_>>() {
            totals.entry(frame).or_default().1 += time;
        }
    }
    let mut rows: Vec<(FrameRow, Nanos, Nanos)> =
        totals.into_iter().map(|(frame, (own, total))| (frame, own, total)).collect();
    rows.sort_by(|a, b| (b.1, b.2).cmp(&(a.1, a.2)).then_with(|| a.0.cmp(&b.0)));
    rows
}

/// A function as a whole: its samples lie on many lines.
fn whole(frame: FrameRow) -> FrameRow {
    FrameRow { line: None, ..frame }
}
