//! What a thread that has no name of its own does: the outermost function of the program in which
//! it was seen most.
//!
//! Where nobody gave them names, threads are called like their program, or by a number as Python does:
//! the function that a thread was started with tells what it is for: `Thread-3 (worker)`.

use super::history::History;
use super::history::Life;
use super::names;
use super::report::ThreadRow;
use crate::model::FastMap;
use crate::model::StackId;
use crate::model::Symbols;
use std::collections::BTreeMap;

/// Fills in the roles of threads that are called like their process, or by a number alone, and are not
/// its first one.
pub fn fill(rows: &mut [ThreadRow], process_names: &[&str], history: &History, symbols: &Symbols) {
    let mut known: FastMap<StackId, Option<String>> = FastMap::default();
    for (row, (_, life)) in rows.iter_mut().zip(history.lives()) {
        let process = process_names.get(row.process as usize).copied().unwrap_or_default();
        // A comm has 15 bytes.
        let alike = process.starts_with(row.name.0.as_str()) || row.name.0.starts_with(process);
        let numbered = names::stem(&row.name.0) == "Thread";
        if row.tid != row.pid && (alike || numbered) {
            row.role = role(life, symbols, &mut known);
        }
    }
}

fn role(
    life: &Life,
    symbols: &Symbols,
    known: &mut FastMap<StackId, Option<String>>,
) -> Option<String> {
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for look in life.samples.iter().chain(&life.wait_stacks) {
        let outermost = known.entry(look.stack).or_insert_with(|| outermost(symbols, look.stack));
        if let Some(function) = outermost {
            *times.entry(function.clone()).or_default() += u64::from(look.weight) + 1;
        }
    }
    times.into_iter().max_by_key(|(_, time)| *time).map(|(function, _)| function)
}

/// The outermost of the program's own functions in Python; in one that has none, as a worker of a
/// pool, the innermost of Python's library.
fn outermost(symbols: &Symbols, stack: StackId) -> Option<String> {
    let rows = names::frames(symbols, stack);
    let mut python = rows.iter().filter(|row| names::is_python(row));
    let own = python.clone().find(|row| names::is_own(row));
    own.or_else(|| python.next_back()).map(|row| names::short(&row.name))
}
