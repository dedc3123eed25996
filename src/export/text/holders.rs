//! Who was to blame for a wait, on one line under it.

use super::Text;
use super::percent;
use crate::analysis::Holder;
use crate::analysis::Object;
use crate::analysis::Report;
use crate::analysis::names;
use crate::model::Nanos;
use crate::model::State;
use std::io;

/// Holders named; `report.json` has all.
const MOST_NAMED: usize = 3;
/// Less blame than this is not worth a name.
const WORTH: f64 = 0.02;

impl Text<'_> {
    pub(super) fn holders(&mut self, report: &Report, object: &Object) -> io::Result<()> {
        let whole = Nanos(object.wait_ns);
        let share = |holder: &Holder| Nanos(holder.blamed_ns).share_of(whole);
        let worth: Vec<&Holder> =
            object.holders.iter().filter(|holder| share(holder) >= WORTH).collect();
        if worth.is_empty() {
            return Ok(());
        }
        let mut texts: Vec<String> = worth
            .iter()
            .take(MOST_NAMED)
            .map(|holder| {
                let name =
                    report.told_apart(holder.thread).unwrap_or_else(|| holder.name.to_string());
                format!("{name} {} ({})", percent(share(holder)), doing(holder))
            })
            .collect();
        let more = worth.len().saturating_sub(MOST_NAMED);
        if more > 0 {
            texts.push(format!("{more} more thread{}", if more == 1 { "" } else { "s" }));
        }
        let unseen = Nanos(object.not_blamed.unseen_ns).share_of(whole);
        if unseen >= WORTH {
            texts.push(format!("not seen {}", percent(unseen)));
        }
        let verb = if object.state == State::Lock.name() { "held by" } else { "meanwhile" };
        self.wrapped(&format!("{:>12}{verb} ", ""), &texts.join(", "))
    }
}

/// "asleep in `settle`".
fn doing(holder: &Holder) -> String {
    let most = holder.doing.first();
    let state = most.and_then(|doing| State::from_name(doing.state));
    let what = match state {
        Some(State::Running) => "running",
        Some(State::Runnable) => "waiting for a CPU",
        Some(State::Sleep) => "asleep",
        Some(State::Unknown) | None => "not seen doing what",
        Some(state) => state.meaning(),
    };
    let own = holder.stack.iter().rev().find(|frame| names::is_own(frame));
    match own.filter(|_| state != Some(State::Runnable)) {
        Some(frame) => format!("{what} in `{}`", names::short(&frame.name)),
        None => what.to_owned(),
    }
}
