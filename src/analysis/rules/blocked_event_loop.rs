//! An event loop that does something long.

use super::Evidence;
use super::Rule;
use super::evidence::LONG_TURN;
use super::evidence::Turns;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Gain;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::analysis::report::Site;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "blocked-event-loop",
    title: "an event loop held up by something long",
    reports: "Threads that poll for work in a loop (epoll, asyncio, node; parks of tokio's workers) and \
              stayed away from it for more than 10 ms at a time, and what they did there.",
    matters: "while the loop is away every other connection, timer and task of it waits",
    try_this: "Move the long step off the loop (`run_in_executor`, `asyncio.to_thread`, `spawn_blocking`, a \
               worker thread), or cut it into pieces.",
    check,
};

/// A loop has turned at least so often.
const LEAST_TURNS: u64 = 10;
/// From here on it may be the story of the run.
const MAJOR: f64 = 0.10;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut found: Vec<Finding> = (0..)
        .zip(&evidence.lives)
        .filter_map(|(thread, life)| judge(evidence, evidence.thread(thread)?, &life.turns))
        .collect();
    let share = |f: &Finding| f.claim.as_ref().map_or(0.0, |claim| claim.share);
    found.sort_by(|a, b| share(b).total_cmp(&share(a)));
    found
}

fn judge(evidence: &Evidence, thread: &ThreadRow, turns: &Turns) -> Option<Finding> {
    let tokio = thread.name.0.starts_with("tokio-");
    // A program that polls now and then between other things is not a loop: most turns are short.
    let looping = turns.count >= LEAST_TURNS && turns.long <= turns.count / 2;
    let away = Nanos(turns.long_ns);
    let life = thread.states.0.total();
    if turns.long < 2 || !(looping || tokio) || away.share_of(life) < 0.02 {
        return None;
    }
    // Time in which it had no CPU is not the loop's doing.
    let (state, time) = turns.states.iter().max_by_key(|&(_, time)| time)?;
    if state == State::Runnable {
        return None;
    }
    let object = turns.objects.iter().max_by_key(|&(_, ns)| ns).map(|(&id, _)| id);
    let object = object.filter(|_| state.is_wait()).and_then(|id| evidence.object(id));
    // Tokio's threads for blocking calls bear the name of its workers, and may block.
    let has = |site: &Site, part: &str| site.stack.iter().any(|at| at.name.contains(part));
    let pool = |site: &Site| has(site, "blocking::pool") && !has(site, "::scheduler::");
    if object.and_then(|object| object.sites.first()).is_some_and(pool) {
        return None;
    }
    let at = if let Some(object) = object {
        format!(" ({})", object.label)
    } else {
        let hot = evidence.lives.get(thread.id as usize).and_then(|life| life.hot.clone());
        hot.map_or_else(String::new, |(at, _)| words::inside(&at))
    };
    let kind = if tokio { "worker of tokio" } else { "event loop" };
    let times = words::count(turns.long, "time");
    let text = format!(
        "The {kind} `{}` stayed away from its queue for more than {LONG_TURN} {times} in {} turns, {away} \
         in all and {} at the longest, mostly {}{at} ({}).",
        thread.name,
        turns.count,
        Nanos(turns.longest_ns),
        words::doing(state),
        time,
    );
    let share = evidence.of_wall(turns.long_ns);
    let headline = format!(
        "the {kind} `{}` was blocked {times}, {away} in all (longest {}), mostly {}{at}: whatever else \
         was ready had to wait",
        thread.name,
        Nanos(turns.longest_ns),
        words::doing(state),
    );
    let mut finding = RULE
        .found(Severity::Cost, format!("the {kind} `{}` was blocked", thread.name), text)
        .with_threads([thread.id])
        .with_count("long turns", turns.long)
        .with_count("turns", turns.count)
        .with_time("in long turns", turns.long_ns)
        .with_time("longest", turns.longest_ns);
    finding.object = object.map(|object| object.id);
    if let Some(gain) = object.and_then(|object| of_what_blocks(evidence, object)) {
        finding.severity = Severity::Bottleneck;
        finding = finding.with_gain(Some(gain));
    }
    let tells = share >= MAJOR;
    Some(if tells { finding.claiming("blocked-event-loop", 6, share, headline) } else { finding })
}

/// What it gains to halve the function that blocks, if that is real.
fn of_what_blocks(evidence: &Evidence, object: &Object) -> Option<Gain> {
    let stack = &object.sites.first()?.stack;
    let gain = evidence.section_gain(stack.iter().rev().map(|at| at.name.as_str()));
    gain.filter(|gain| evidence.is_real(gain))
}
