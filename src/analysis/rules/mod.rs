//! Findings: one rule per file, each with what it reports, why that matters and what to try.
//!
//! A rule looks at [`Evidence`] and at nothing else. Where the data for a judgement is absent,
//! it finds nothing: a rule never guesses. `timesink explain` and the table in the README are
//! made from [`RULES`].

mod blocked_event_loop;
mod chatty_switching;
mod child_wait;
mod costless_wait;
mod cpu_saturated;
mod deadlock;
mod disk_wait;
mod evidence;
mod foreign_load;
mod gil;
mod gil_convoy;
mod gil_facts;
mod gil_hog;
mod idle;
mod lock_bottleneck;
mod lock_convoy;
mod lock_handover;
mod model;
mod network_peer;
mod on_path;
mod oversubscription;
mod page_faults;
mod pickling;
mod pipe_wait;
mod pipeline_stage;
mod pool_size;
mod preempted_holder;
mod process_churn;
mod python;
mod queue;
mod rwlock_starvation;
mod serial;
mod sleep_in_path;
mod spin_wait;
mod starvation;
mod starved_pool;
mod straggler;
mod tally;
mod thread_churn;
mod throttled;
mod turns;

mod words;

pub use evidence::Evidence;
pub use python::Roles;
pub use throttled::THROTTLED;
pub use words::cpus;
pub use words::cpus_of;

use crate::analysis::report::Claim;
use crate::analysis::report::Finding;
use crate::analysis::report::Gain;
use crate::analysis::report::Proof;
use crate::analysis::report::Severity;
use std::cmp::Ordering;
use std::fmt::Write;

/// A rule.
pub struct Rule {
    /// What `timesink explain` calls it.
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it reports.
    pub reports: &'static str,
    /// Why it matters.
    pub matters: &'static str,
    /// What to try.
    pub try_this: &'static str,
    /// Finds what there is.
    pub check: fn(&Evidence) -> Vec<Finding>,
}

/// Every rule, in the order of the table in the README.
pub static RULES: &[Rule] = &[
    deadlock::RULE,
    lock_bottleneck::RULE,
    lock_handover::RULE,
    gil::RULE,
    gil_convoy::RULE,
    gil_hog::RULE,
    costless_wait::RULE,
    lock_convoy::RULE,
    starvation::RULE,
    preempted_holder::RULE,
    rwlock_starvation::RULE,
    blocked_event_loop::RULE,
    oversubscription::RULE,
    foreign_load::RULE,
    cpu_saturated::RULE,
    serial::RULE,
    straggler::RULE,
    pipeline_stage::RULE,
    starved_pool::RULE,
    pool_size::RULE,
    thread_churn::RULE,
    spin_wait::RULE,
    chatty_switching::RULE,
    sleep_in_path::RULE,
    disk_wait::RULE,
    page_faults::RULE,
    network_peer::RULE,
    pipe_wait::RULE,
    child_wait::RULE,
    process_churn::RULE,
    pickling::RULE,
    throttled::RULE,
    idle::RULE,
    model::RULE,
];

/// A gain below this is none.
pub const LEAST_GAIN: f64 = 1.03;
/// More of the path unknown than this, and nothing is called a bottleneck.
pub const MOST_UNKNOWN: f64 = 0.10;
/// Findings of one rule that a report has room for.
const MOST_OF_A_RULE: usize = 8;

/// All findings: what gains most first, then by severity and by the share of the run.
pub fn findings(evidence: &Evidence) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for rule in RULES {
        let mut of_rule = (rule.check)(evidence);
        of_rule.truncate(MOST_OF_A_RULE);
        found.extend(of_rule);
    }
    // The sort is stable: what weighs the same stays in the order of the rules.
    found.sort_by(|a, b| {
        let severity = a.severity.cmp(&b.severity);
        severity.then_with(|| b.weight().partial_cmp(&a.weight()).unwrap_or(Ordering::Equal))
    });
    found
}

impl Rule {
    /// A finding of this rule, to be filled in.
    fn found(&self, severity: Severity, title: String, text: String) -> Finding {
        Finding {
            rule: self.id,
            severity,
            title,
            text,
            object: None,
            threads: Vec::new(),
            evidence: Vec::new(),
            gain: None,
            advice: self.try_this.to_owned(),
            claim: None,
        }
    }
}

/// Claims of this rank stand whatever else there is: a deadlock is not outweighed.
pub const CERTAIN: u8 = 9;
/// Threads that never go on come before whatever a change would gain, even if not proven.
const LIKELY: u8 = CERTAIN - 1;
/// Claims from this rank on name a cause; those below it say in what the time went by.
const CAUSE: u8 = 3;

/// What speaks for a finding, in the order in which it counts: that it is certain, or likely, that
/// replay gains by it, that it names a cause and not only a state, its gain, how special it is,
/// and the share of the run it explains.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Weight(u8, bool, bool, f64, u8, f64);

impl Finding {
    /// What speaks for it.
    pub fn weight(&self) -> Weight {
        let gain = self.gain.as_ref().map_or(0.0, |gain| gain.speedup);
        let (rank, share) = self.claim.as_ref().map_or((0, -1.0), |c| (c.rank, c.share));
        let gains = self.severity == Severity::Bottleneck;
        Weight(rank.saturating_sub(LIKELY - 1), gains, rank >= CAUSE, gain, rank, share)
    }

    fn about(mut self, object: u32) -> Self {
        self.object = Some(object);
        self
    }

    fn with_threads(mut self, threads: impl IntoIterator<Item = u32>) -> Self {
        self.threads = threads.into_iter().take(64).collect();
        self
    }

    fn with_time(self, what: &'static str, ns: u64) -> Self {
        self.with(what, ns as f64, "ns")
    }

    fn with_share(self, what: &'static str, share: f64) -> Self {
        self.with(what, share, "share")
    }

    fn with_count(self, what: &'static str, count: u64) -> Self {
        self.with(what, count as f64, "count")
    }

    fn with(mut self, what: &'static str, value: f64, unit: &'static str) -> Self {
        self.evidence.push(Proof { what, value, unit });
        self
    }

    fn with_gain(mut self, gain: Option<Gain>) -> Self {
        self.gain = gain;
        self
    }

    fn claiming(mut self, kind: &'static str, rank: u8, share: f64, headline: String) -> Self {
        self.claim = Some(Claim { kind, headline, rank, share });
        self
    }
}

/// The rule with this id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// Columns of what `timesink explain` prints.
const WIDTH: usize = 88;

/// What `timesink explain` prints of a rule.
pub fn explained(rule: &Rule) -> String {
    let mut text = format!("{}: {}\n", rule.id, rule.title);
    for (head, paragraph) in [
        ("What it reports", rule.reports),
        ("Why it matters", rule.matters),
        ("What to try", rule.try_this),
    ] {
        let _ = write!(text, "\n{head}\n");
        let mut column = usize::MAX;
        for word in paragraph.split(' ') {
            if column.saturating_add(word.len()) > WIDTH {
                let indent = if column == usize::MAX { "  " } else { "\n  " };
                let _ = write!(text, "{indent}{word}");
                column = 3 + word.len();
            } else {
                let _ = write!(text, " {word}");
                column += 1 + word.len();
            }
        }
        text.push('\n');
    }
    text
}

/// The rules, one a line.
pub fn listed() -> String {
    let widest = RULES.iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    let mut list = String::new();
    for rule in RULES {
        let _ = writeln!(list, "  {:widest$}  {}", rule.id, rule.title);
    }
    list
}

/// The table of the README.
pub fn table() -> String {
    let mut table = "| rule | finds | why it matters |\n|---|---|---|\n".to_owned();
    for rule in RULES {
        let _ = writeln!(table, "| `{}` | {} | {} |", rule.id, rule.title, rule.matters);
    }
    table
}
