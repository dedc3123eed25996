//! What the tasks of event loops took.

use super::Text;
use super::percent;
use crate::analysis::Report;
use crate::analysis::TaskRow;
use crate::analysis::names;
use crate::model::Nanos;
use std::io;

/// Tasks shown; `report.json` has more.
const MOST: usize = 10;

impl Text<'_> {
    /// Nothing where no loop was seen.
    pub(super) fn tasks(&mut self, report: &Report) -> io::Result<()> {
        if report.tasks.is_empty() {
            return Ok(());
        }
        let note = "by their stacks: on a CPU; waiting, and the loop with them; share of the thread's life";
        self.heading("Tasks of asyncio", note)?;
        for row in report.tasks.iter().take(MOST) {
            let (ran, waited) = (Nanos(row.running_ns), Nanos(row.waiting_ns));
            let life = report.thread(row.thread);
            let life = life.map_or(Nanos::ZERO, |thread| Nanos(thread.end_ns - thread.start_ns));
            let share = percent((ran + waited).share_of(life));
            let (ran, waited) = (ran.to_string(), waited.to_string());
            writeln!(self.out, "  {ran:>9} {waited:>9} {share:>7}  {}", called(row))?;
        }
        Ok(())
    }
}

/// "fetch-7  (fetch)".
fn called(row: &TaskRow) -> String {
    let coroutine = row.coroutine.as_deref().map(names::short);
    match (&row.name, coroutine) {
        (Some(name), Some(coroutine)) => format!("`{name}`  (coroutine `{coroutine}`)"),
        (Some(name), None) => format!("`{name}`"),
        (None, Some(coroutine)) => format!("all of `{coroutine}` without a name of their own"),
        (None, None) => "those of coroutines that are not known".to_owned(),
    }
}
