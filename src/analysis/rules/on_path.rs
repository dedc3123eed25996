//! What rules about one kind of waiting on the critical path share.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeMap;

/// Less of the path than this is not worth a finding.
pub const LEAST: f64 = 0.05;
/// From here on it may be the story of the run.
pub const MAJOR: f64 = 0.25;

/// So much of the polling ended with its timeout.
const MOSTLY: f64 = 0.8;
/// With less of the time in one place, it was mostly there.
const AT_ONE_PLACE: f64 = 0.9;

/// Waiting of a kind on the critical path.
pub struct OnPath<'a> {
    /// Its share of the run.
    pub share: f64,
    /// Its time.
    pub time: Nanos,
    /// The object with most of it.
    pub object: Option<&'a Object>,
    /// A good part of it was spent elsewhere.
    elsewhere: bool,
    /// Own functions where most of it was spent, innermost first.
    pub chain: Vec<String>,
    /// Threads with most of it.
    pub threads: Vec<u32>,
}

impl<'a> OnPath<'a> {
    /// Looks at the path; `None` if there is too little of it, or no path that tells.
    pub fn of(evidence: &Evidence<'a>, states: &[State]) -> Option<Self> {
        let share: f64 = states.iter().map(|&state| evidence.on_path(state)).sum();
        if share < LEAST || !evidence.path_tells() {
            return None;
        }
        let path = &evidence.report.path;
        let time: Nanos = states.iter().map(|&state| path.states.0[state]).sum();
        let most = path.objects.iter().find_map(|on| {
            let object = evidence.object(on.id)?;
            states.iter().any(|state| state.name() == object.state).then_some(object)
        });
        let main = states.iter().copied().max_by_key(|&state| path.states.0[state])?;
        let (chain, there) = words::spot_of(evidence, main).unwrap_or_default();
        let mut threads: BTreeMap<u32, u64> = BTreeMap::new();
        for step in &evidence.report.critical_path {
            if states.iter().any(|state| state.name() == step.state) {
                *threads.entry(step.thread).or_default() += step.ns;
            }
        }
        let mut threads: Vec<(u64, u32)> = threads.into_iter().map(|(id, ns)| (ns, id)).collect();
        threads.sort_by_key(|&(ns, id)| (std::cmp::Reverse(ns), id));
        Some(Self {
            share,
            time,
            object: most,
            elsewhere: Nanos(there).share_of(time) < AT_ONE_PLACE,
            chain,
            threads: threads.into_iter().take(8).map(|(_, id)| id).collect(),
        })
    }

    /// " in `sleep_ms` < `serve`", ", mostly in" it; else the object's label.
    pub fn place(&self) -> String {
        match (words::inside(&self.chain), self.object) {
            (place, _) if !place.is_empty() && self.elsewhere => format!(", mostly{place}"),
            (place, _) if !place.is_empty() => place,
            (_, Some(object)) => format!(" ({})", object.label),
            _ => String::new(),
        }
    }

    /// "`worker`", or how many threads.
    pub fn who(&self, evidence: &Evidence) -> String {
        let names: Vec<String> = self.threads.iter().map(|&id| evidence.called(id)).collect();
        let mut distinct = names;
        distinct.dedup();
        match distinct.as_slice() {
            [one] => format!("`{one}`"),
            _ => "the threads on the path".to_owned(),
        }
    }

    /// Whether it is polls of which the timeout ran out: the threads waited for timers of their own.
    pub fn polls_run_out(&self, evidence: &Evidence) -> bool {
        let lives = self.threads.iter().filter_map(|&id| evidence.lives.get(id as usize));
        let (all, out) =
            lives.fold((0, 0), |(all, out), life| (all + life.polled, out + life.polled_out));
        all > 0 && Nanos(out).share_of(Nanos(all)) >= MOSTLY
    }

    /// A finding about it, a bottleneck where replay says so.
    pub fn found(
        &self,
        rule: &Rule,
        evidence: &Evidence,
        change: &str,
        title: String,
        text: String,
    ) -> Finding {
        let gain = evidence.gain(change).filter(|g| !change.is_empty() && evidence.is_real(g));
        let severity = if gain.is_some() { Severity::Bottleneck } else { Severity::Cost };
        let mut finding = rule
            .found(severity, title, text)
            .with_threads(self.threads.iter().copied())
            .with_time("on the path", self.time.0)
            .with_share("of the path", self.share)
            .with_gain(gain);
        finding.object = self.object.map(|object| object.id);
        finding
    }
}

/// "; `disk*0.5` makes the run 1.2x faster", or nothing.
pub fn outcome(finding: &Finding) -> String {
    finding.gain.as_ref().map_or_else(String::new, |gain| {
        format!("; with `{}` the run would be {} faster", gain.change, words::times(gain))
    })
}
