//! One thread runs, the CPUs beside it idle.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "serial",
    title: "one thread runs while CPUs idle",
    reports: "Runs in which the critical path is mostly running and two threads hardly ever run at once \
              though more CPUs are allowed.",
    matters: "the speed of that one thread is the speed of the program; the other CPUs do nothing",
    try_this: "Make the named function cheaper, or split its work over threads or processes.",
    check,
};

/// Of the path spent running.
const MAJOR: f64 = 0.4;
/// Of the time in which anything ran, two or more did.
const SELDOM: f64 = 0.15;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let report = evidence.report;
    let share = evidence.on_path(State::Running);
    let time = |least: u32| -> u64 {
        let bars = report.utilisation.histogram.iter();
        bars.filter(|bar| bar.running_threads >= least).map(|bar| bar.ns).sum()
    };
    let (any, several) = (time(1), time(2));
    let seldom = (several as f64) < any as f64 * SELDOM;
    if evidence.cpus() < 1.5 || share < MAJOR || !seldom || !evidence.path_tells() {
        return Vec::new();
    }
    let Some(most) = report.path.threads.first() else { return Vec::new() };
    // Who spins, or takes turns under the GIL, is a rule's of its own.
    let life = evidence.lives.get(most.id as usize);
    let spins = life
        .and_then(|life| life.spun.as_ref())
        .is_some_and(|(_, ns)| evidence.of_wall(*ns) > share / 2.0);
    let turns = evidence.queued.iter().any(|(&id, &ns)| {
        evidence.of_wall(ns) > 0.1 && evidence.object(id).is_some_and(|o| o.kind == "gil")
    });
    if spins || turns {
        return Vec::new();
    }
    let name = evidence.called(most.id);
    let part = evidence.path_of(most.id);
    let hot = words::spot_of(evidence, State::Running);
    let hot = hot.filter(|&(_, ns)| evidence.of_wall(ns) > 0.1);
    let place =
        hot.as_ref().map_or_else(String::new, |(at, _)| format!(", mostly{}", words::inside(at)));
    let gain = hot.and_then(|(chain, _)| evidence.gain_where(State::Running, &chain));
    let gain = gain.filter(|gain| evidence.is_real(gain));
    let alone = report.threads.len() == 1;
    let who = if alone {
        "one thread does all the work"
    } else {
        "hardly ever do two threads run at once"
    };
    let outcome = gain.as_ref().map_or_else(String::new, |gain| {
        format!("; with `{}` the run would be {} faster", gain.change, words::times(gain))
    });
    let cpus = words::cpus_of(&report.host);
    let headline = format!(
        "{who} on {cpus}: {} of the run is `{name}` running{place}{outcome}",
        words::percent(share.min(part).max(share * part))
    );
    let text = format!(
        "{:.2} of {cpus} were in use. `{name}` is {} of the critical path, {} of which is running{place}.",
        report.utilisation.mean_cpus,
        words::percent(part),
        words::percent(share),
    );
    let severity = if gain.is_some() { Severity::Bottleneck } else { Severity::Cost };
    vec![
        RULE.found(severity, format!("`{name}` runs alone"), text)
            .with_threads([most.id])
            .with_share("of the path running", share)
            .with_share("of the path in this thread", part)
            .with("CPUs in use", report.utilisation.mean_cpus, "count")
            .with_gain(gain)
            .claiming("serial", 1, share, headline),
    ]
}
