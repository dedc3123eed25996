//! The critical path in words: what the run time was made of.

use super::Text;
use super::percent;
use crate::analysis::PathPart;
use crate::analysis::Report;
use crate::analysis::names;
use crate::model::Nanos;
use crate::model::State;
use std::io;

/// Parts shown; `report.json` has all.
const MOST_PARTS: usize = 8;
/// Parts below this are not worth a line.
const WORTH: f64 = 0.005;
const MOST_THREADS: usize = 6;

impl Text<'_> {
    pub(super) fn path(&mut self, report: &Report) -> io::Result<()> {
        let whole = Nanos(report.path.ns);
        if whole.is_zero() || !report.has_path() {
            return Ok(());
        }
        let (title, note) = heading(report);
        self.heading(&title, &note)?;
        let worth = report.path.parts.iter().filter(|part| Nanos(part.ns).share_of(whole) >= WORTH);
        for part in worth.take(MOST_PARTS) {
            let time = Nanos(part.ns);
            let lead = format!("  {:>9} {:>7}  ", time.to_string(), percent(time.share_of(whole)));
            self.wrapped(&lead, &describe(report, part))?;
        }
        let threads: Vec<String> = report
            .path
            .threads
            .iter()
            .take(MOST_THREADS)
            .filter(|on| Nanos(on.ns).share_of(whole) >= WORTH)
            .filter_map(|on| {
                let name = report.told_apart(on.id)?;
                Some(format!("{name} {}", percent(Nanos(on.ns).share_of(whole))))
            })
            .collect();
        self.wrapped("  through ", &threads.join(", "))
    }
}

fn heading(report: &Report) -> (String, String) {
    let length = Nanos(report.path.ns);
    let Some(focus) = &report.focus else {
        return (
            "What the run waited for".to_owned(),
            format!("critical path: the one chain of causes that is as long as the run, {length}"),
        );
    };
    let from = Nanos(focus.start_ns);
    let name = focus
        .thread
        .and_then(|id| report.threads.iter().find(|thread| thread.id == id))
        .map(|thread| format!("Why {} took its time", thread.name));
    (
        name.unwrap_or_else(|| "What this part of the run waited for".to_owned()),
        format!("{length} from {from} on, and who else's work that was"),
    )
}

/// "sleep: ... in `settle`, while another thread waited for lock ...".
fn describe(report: &Report, part: &PathPart) -> String {
    let label = |id: Option<u32>| {
        let object = id.and_then(|id| report.objects.get(id as usize))?;
        Some(object.label.as_str())
    };
    let what = match (part.state, label(part.object)) {
        ("running", _) => match hottest(report) {
            Some(function) if report.path.functions.len() > 1 => {
                format!("running, most often in `{function}`")
            }
            Some(function) => format!("running in `{function}`"),
            None => "running".to_owned(),
        },
        (state, Some(label)) => format!("{state}: {label}"),
        (state, None) => State::from_name(state).map_or(state, State::meaning).to_owned(),
    };
    match label(part.under) {
        // Where others waited for it is said with the lock itself.
        Some(lock) => {
            let lock = lock.split_once(" in `").map_or(lock, |(name, _)| name);
            format!("{what}, while others waited for {lock}")
        }
        None => what,
    }
}

/// The function with most samples on the path.
fn hottest(report: &Report) -> Option<String> {
    let own = report.path.functions.iter().filter(|row| names::is_own(&row.frame));
    let most = own.max_by_key(|row| row.total_ns.min(row.self_ns.saturating_mul(4)));
    most.or(report.path.functions.first()).map(|row| names::short(&row.frame.name))
}
