//! Sleeping that the run waits for.

use super::Evidence;
use super::Rule;
use super::on_path::MAJOR;
use super::on_path::OnPath;
use super::on_path::outcome;
use super::words;
use crate::analysis::report::Finding;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "sleep-in-path",
    title: "the run waits for a timer",
    reports: "Sleeps (nanosleep, timed polls) on the critical path, and the function that sleeps.",
    matters: "nothing makes the run faster than that sleep lets it be",
    try_this: "Wait for the event itself instead of for a time, sleep for less, or do other work meanwhile.",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    slept(evidence).into_iter().chain(timed(evidence)).collect()
}

/// A loop that has nothing to do until one of its own timers runs out.
fn timed(evidence: &Evidence) -> Option<Finding> {
    let polled = OnPath::of(evidence, &[State::Poll])?;
    if polled.share < MAJOR || !polled.polls_run_out(evidence) {
        return None;
    }
    let part = words::percent(polled.share);
    let asyncio = polled
        .threads
        .iter()
        .any(|&id| evidence.lives.get(id as usize).is_some_and(|life| life.python.asyncio));
    let (what, timers) = if asyncio {
        ("event loop", "`asyncio.sleep`, `call_later`, timeouts")
    } else {
        ("thread that polls", "timeouts of its polls")
    };
    let text = format!(
        "For {part} of the critical path ({}) {} had nothing to do and polled until the timeout ran out: it \
         waited for timers of its own ({timers}), and for nobody outside.",
        polled.time,
        polled.who(evidence),
    );
    let headline = format!(
        "{part} of the run the {what} {} waited for timers of its own ({timers})",
        polled.who(evidence),
    );
    let title = "the run waits for timers of its loop".to_owned();
    let finding = polled.found(&RULE, evidence, "", title, text);
    Some(finding.claiming("sleep-bound", 1, polled.share, headline))
}

fn slept(evidence: &Evidence) -> Vec<Finding> {
    let Some(slept) = OnPath::of(evidence, &[State::Sleep]) else { return Vec::new() };
    let place = slept.place();
    let part = words::percent(slept.share);
    let text = format!("{part} of the critical path ({}) is spent asleep{place}.", slept.time);
    let gain = evidence.gain_where(State::Sleep, &slept.chain);
    let change = gain.map_or_else(String::new, |gain| gain.change);
    let title = "the run waits for a timer".to_owned();
    let finding = slept.found(&RULE, evidence, &change, title, text);
    let alone = evidence.report.threads.len() == 1;
    let who = if alone { "it".to_owned() } else { slept.who(evidence) };
    let headline = if slept.share > 0.9 {
        format!("the run is spent asleep: {who} slept{place} for {part} of it{}", outcome(&finding))
    } else {
        format!("{part} of the run {who} slept{place}{}", outcome(&finding))
    };
    let tells = slept.share >= MAJOR;
    vec![if tells { finding.claiming("sleep-bound", 1, slept.share, headline) } else { finding }]
}
