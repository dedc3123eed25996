//! An event loop that does something long.

use super::Evidence;
use super::Rule;
use super::evidence::LONG_TURN;
use super::turns::Cause;
use super::turns::TaskTurns;
use super::turns::Turns;
use super::words;
use crate::analysis::names::StackTask;
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
              stayed away from it for more than 10 ms at a time, and what they did there: of asyncio in which \
              task, and who awaits that.",
    matters: "while the loop is away every other connection, timer and task of it waits",
    try_this: "Move the long step off the loop (`run_in_executor`, `asyncio.to_thread`, `spawn_blocking`, a \
               worker thread), or cut it into pieces.",
    check,
};

/// A loop has turned at least so often.
const LEAST_TURNS: u64 = 30;
/// Causes told of.
const MOST_CAUSES: usize = 3;
/// Tasks told of.
const MOST_TASKS: usize = 3;
/// From here on it may be the story of the run.
const MAJOR: f64 = 0.10;
/// What a replay may promise beyond what can be.
const TOLERATED: f64 = 1.03;

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
    let asyncio = evidence.lives.get(thread.id as usize).is_some_and(|life| life.python.asyncio);
    // A program that polls now and then between other things is not a loop: most turns are short.
    let looping = turns.count >= LEAST_TURNS && turns.long <= turns.count / 2;
    let life = thread.states.0.total();
    let known = looping || tokio || asyncio && turns.count > 0;
    if turns.long < 2 || !known || Nanos(turns.long_ns).share_of(life) < 0.02 {
        return late(thread, turns, known);
    }
    let (state, _) = turns.states.iter().max_by_key(|&(_, time)| time)?;
    let object = turns.objects.iter().max_by_key(|&(_, ns)| ns).map(|(&id, _)| id);
    let object = object.filter(|_| state.is_wait()).and_then(|id| evidence.object(id));
    // Tokio's threads for blocking calls bear the name of its workers, and may block.
    let has = |site: &Site, part: &str| site.stack.iter().any(|at| at.name.contains(part));
    let pool = |site: &Site| has(site, "blocking::pool") && !has(site, "::scheduler::");
    if object.and_then(|object| object.sites.first()).is_some_and(pool) {
        return None;
    }
    let finding = blocked(evidence, thread, turns, object);
    let mut finding = finding.with_threads([thread.id]);
    if asyncio {
        advice(turns).clone_into(&mut finding.advice);
    }
    finding.object = object.map(|object| object.id);
    let of_object = object.and_then(|object| of_what_blocks(evidence, object));
    let sections = turns.causes.keys().map(|(_, chain)| chain);
    let of_cause = sections.filter_map(|chain| {
        evidence.section_gain(chain.iter().map(String::as_str)).filter(|g| evidence.is_real(g))
    });
    // A function that is in every turn, or the loop itself, gains more: not by what blocks.
    let possible = |gain: &Gain| gain.speedup <= without(evidence, turns) * TOLERATED;
    let gains = of_cause.chain(of_object).filter(possible);
    let best = gains.max_by(|a, b| a.speedup.total_cmp(&b.speedup));
    if best.is_some() {
        finding.severity = Severity::Bottleneck;
        finding = finding.with_gain(best);
    }
    Some(finding)
}

/// How much faster the run would be with no long turns at all, at most.
fn without(evidence: &Evidence, turns: &Turns) -> f64 {
    1.0 / (1.0 - evidence.of_wall(turns.long_ns)).max(0.01)
}

/// The finding about long turns.
fn blocked(
    evidence: &Evidence,
    thread: &ThreadRow,
    turns: &Turns,
    object: Option<&Object>,
) -> Finding {
    let kind = if thread.name.0.starts_with("tokio-") { "worker of tokio" } else { "event loop" };
    let times = words::count(turns.long, "time");
    let (name, away) = (thread.called(), Nanos(turns.long_ns));
    let longest = Nanos(turns.longest_ns);
    let mut causes: Vec<(&(State, Vec<String>), &Cause)> = turns.causes.iter().collect();
    causes.sort_by_key(|(_, cause)| std::cmp::Reverse(cause.ns));
    let told: Vec<String> =
        causes.iter().take(MOST_CAUSES).map(|(at, c)| of(at, c, object)).collect();
    let more = causes.len().saturating_sub(MOST_CAUSES);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let text = format!(
        "The {kind} `{name}` stayed away from its queue for more than {LONG_TURN} {times} in {} turns, {away} \
         in all and {longest} at the longest: {}{more}.{} {}{}",
        turns.count,
        told.join("; "),
        tasks(turns),
        split(turns),
        also_late(turns),
    );
    let share = evidence.of_wall(turns.long_ns);
    let few = |count: usize| told.iter().take(count).cloned().collect::<Vec<_>>().join(" and ");
    let rest = if told.len() > 2 { ", and by more" } else { "" };
    let mostly = few(2);
    let headline = format!(
        "the {kind} `{name}` was blocked {times}, {away} in all (longest {longest}): {mostly}{rest}; \
         whatever else was ready had to wait",
    );
    let finding = RULE
        .found(Severity::Cost, format!("the {kind} `{name}` was blocked"), text)
        .with_count("long turns", turns.long)
        .with_count("turns", turns.count)
        .with_time("in long turns", turns.long_ns)
        .with_time("longest", turns.longest_ns);
    let tells = share >= MAJOR;
    if tells { finding.claiming("blocked-event-loop", 6, share, headline) } else { finding }
}

/// "8 times asleep in `nap` (app.py:12) < `blocker`, 481 ms".
fn of((state, chain): &(State, Vec<String>), cause: &Cause, object: Option<&Object>) -> String {
    let outer = chain.get(1..).unwrap_or_default();
    let place = match (cause.site(), object) {
        (Some(site), _) if outer.is_empty() => format!(" in {site}"),
        (Some(site), _) => {
            let outer: Vec<String> = outer.iter().map(|name| format!("`{name}`")).collect();
            format!(" in {site} < {}", outer.join(" < "))
        }
        (None, Some(object)) if state.is_wait() => format!(" ({})", object.label),
        _ => words::inside(chain),
    };
    let times = words::count(cause.turns, "time");
    // All of it, and not what some turns had beside it.
    let whole = |&(_, &(turns, ns)): &(&String, &(u64, u64))| {
        turns == cause.turns && ns >= cause.ns - cause.ns / 10
    };
    let task = cause.tasks.iter().find(whole);
    let task = task.map_or_else(String::new, |(task, _)| format!(" in {task}"));
    format!("{times} {}{place}{task}, {}", words::doing(*state), Nanos(cause.ns))
}

/// " Task `fetch-7` (coroutine `fetch`, app.py:31; awaited by task `main`) held it up 12 times, 60.3 ms at
/// the longest."
fn tasks(turns: &Turns) -> String {
    let mut tasks: Vec<(&String, &TaskTurns)> = turns.tasks.iter().collect();
    tasks.sort_by_key(|(_, task)| std::cmp::Reverse(task.ns));
    let told = tasks.iter().take(MOST_TASKS).map(|(name, task)| {
        let mut letters = name.chars();
        let first = letters.next().unwrap_or_default().to_uppercase();
        let form = task.forms.iter().max_by_key(|&(_, ns)| ns);
        let form = form.map_or_else(String::new, |(form, _)| form_of(form));
        let (times, longest) = (words::count(task.turns, "time"), Nanos(task.longest_ns));
        format!(" {first}{}{form} held it up {times}, {longest} at the longest.", letters.as_str())
    });
    let rest = tasks.get(MOST_TASKS..).unwrap_or_default();
    let more = (!rest.is_empty()).then(|| {
        let ns = Nanos(rest.iter().map(|(_, task)| task.ns).sum());
        format!(" {} more did, for {ns} in all.", words::count(rest.len() as u64, "task"))
    });
    told.chain(more).collect()
}

/// " (coroutine `fetch`, app.py:31; awaited by task `main`)"
fn form_of(task: &StackTask) -> String {
    // One without a name is called by its coroutine.
    let coroutine = task.coroutine.as_ref().filter(|_| task.name.is_some());
    let coroutine = coroutine.map(|coroutine| format!("coroutine `{coroutine}`"));
    let place: Vec<String> = coroutine.into_iter().chain(task.place.clone()).collect();
    let place = (!place.is_empty()).then(|| place.join(", "));
    let awaited = (!task.awaiters.is_empty())
        .then(|| format!("awaited by {}", task.awaiters.join(", that by ")));
    let parts: Vec<String> = place.into_iter().chain(awaited).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

/// What all long turns consist of.
fn split(turns: &Turns) -> String {
    let all = turns.states.total();
    let (ran, ready) = (turns.states[State::Running], turns.states[State::Runnable]);
    format!(
        "In these turns it ran for {ran}, waited for {}, and was ready without a CPU for {ready}.",
        all - ran - ready,
    )
}

fn also_late(turns: &Turns) -> String {
    if turns.late == 0 {
        return String::new();
    }
    format!(
        " {} more took that long only because it had no CPU ({} in all).",
        words::count(turns.late, "turn"),
        Nanos(turns.late_ns),
    )
}

/// A loop that did nothing long and was late all the same.
fn late(thread: &ThreadRow, turns: &Turns, known: bool) -> Option<Finding> {
    let waited = Nanos(turns.late_ns);
    let share = waited.share_of(thread.states.0.total());
    if !known || turns.late < 3 || share < 0.05 {
        return None;
    }
    let name = thread.called();
    let text = format!(
        "{} of {} turns of the event loop `{name}` took more than {LONG_TURN} only because it was ready and \
         had no CPU, {waited} in all. Nothing in it blocks.",
        turns.late, turns.count,
    );
    let title = format!("the event loop `{name}` is late because it has no CPU");
    let mut finding = RULE
        .found(Severity::Note, title, text)
        .with_threads([thread.id])
        .with_count("late turns", turns.late)
        .with_time("without a CPU", turns.late_ns);
    "Give the loop a CPU: fewer busy threads and processes beside it."
        .clone_into(&mut finding.advice);
    Some(finding)
}

/// What helps in asyncio against what blocks most.
fn advice(turns: &Turns) -> &'static str {
    let most = turns.causes.iter().max_by_key(|(_, cause)| cause.ns).map(|((state, _), _)| *state);
    match most {
        Some(State::Sleep) => {
            "Sleep with `await asyncio.sleep(...)`; what has to block goes to `asyncio.to_thread`."
        }
        Some(State::Running) => {
            "Compute in another process (`loop.run_in_executor` with a `ProcessPoolExecutor`): in a thread \
             it would compete with the loop for the GIL. Or cut it into pieces with `await asyncio.sleep(0)` \
             between them."
        }
        _ => {
            "Call it in a thread (`await asyncio.to_thread(...)`), or use a library that awaits: waiting lets \
             go of the GIL."
        }
    }
}

/// What it gains to halve the function that blocks, if that is real.
fn of_what_blocks(evidence: &Evidence, object: &Object) -> Option<Gain> {
    let stack = &object.sites.first()?.stack;
    let gain = evidence.section_gain(stack.iter().rev().map(|at| at.name.as_str()));
    gain.filter(|gain| evidence.is_real(gain))
}
