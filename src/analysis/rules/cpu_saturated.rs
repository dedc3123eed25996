//! All CPUs work.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "cpu-saturated",
    title: "all allowed CPUs were busy",
    reports: "Runs that use at least nine tenths of the CPUs they may use, and the function with most of \
              that time.",
    matters: "waits cost nothing then: only less work, or more CPUs, makes the run shorter",
    try_this: "Make the function with most samples cheaper (see on-cpu.svg), or allow more CPUs.",
    check,
};

const SATURATED: f64 = 0.9;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let report = evidence.report;
    let used = report.utilisation.mean_cpus / evidence.cpus();
    if used < SATURATED {
        return Vec::new();
    }
    let path = words::spot_of(evidence, State::Running);
    let hot = path.map_or_else(String::new, |(chain, _)| words::inside(&chain));
    let gain = evidence.gain("cpus=").filter(|gain| evidence.is_real(gain));
    let cpus = words::cpus_of(&report.host);
    let text = format!(
        "{:.2} of {cpus} were in use on average. Most of the critical path ran{hot}.",
        report.utilisation.mean_cpus
    );
    let outcome = gain.as_ref().map_or_else(
        || "only less work or more CPUs makes the run shorter".to_owned(),
        |gain| format!("with `{}` it would be {} faster", gain.change, words::times(gain)),
    );
    let headline = format!(
        "all CPUs were busy ({} of {cpus}){}: {outcome}",
        words::percent(used),
        if hot.is_empty() { String::new() } else { format!(", mostly{hot}") }
    );
    vec![
        RULE.found(Severity::Cost, "all allowed CPUs were busy".to_owned(), text)
            .with_share("of the CPUs used", used)
            .with_gain(gain)
            .claiming("cpu-saturated", 3, used, headline),
    ]
}
