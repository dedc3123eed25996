//! What the tasks of event loops took of their threads, by the stacks that were taken.

use super::history::History;
use super::names;
use super::names::StackTask;
use super::report::TaskRow;
use crate::model::FastMap;
use crate::model::StackId;
use crate::model::Symbols;
use std::collections::BTreeMap;

/// Rows at most.
const MOST: usize = 200;

/// Which task of which thread, by what makes a row.
type Key = (u32, Option<String>, Option<String>);

/// The tasks, those that took most first. Ones without a name share the row of their coroutine.
pub fn rows(history: &History, symbols: &Symbols) -> Vec<TaskRow> {
    let mut known: FastMap<StackId, Option<StackTask>> = FastMap::default();
    let mut times: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
    for (thread, life) in history.lives() {
        let looks = life.samples.iter().map(|look| (look, true));
        for (look, runs) in looks.chain(life.wait_stacks.iter().map(|look| (look, false))) {
            let task = known
                .entry(look.stack)
                .or_insert_with(|| names::task(&names::frames(symbols, look.stack)));
            let Some(task) = task else { continue };
            let key = (thread.0, task.name.clone(), task.coroutine.clone());
            let (running, waiting) = times.entry(key).or_default();
            *(if runs { running } else { waiting }) += u64::from(look.weight);
        }
    }
    let row = |((thread, name, coroutine), (running_ns, waiting_ns))| TaskRow {
        thread,
        name,
        coroutine,
        running_ns,
        waiting_ns,
    };
    let mut rows: Vec<TaskRow> = times.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.running_ns + row.waiting_ns));
    rows.truncate(MOST);
    rows
}
