//! Python threads that take turns.

use super::Evidence;
use super::Rule;
use super::lock_handover;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "gil-bound",
    title: "Python threads that take turns under the GIL",
    reports: "For how much of the run at least one thread waited for Python's global interpreter \
              lock, and which threads ran meanwhile.",
    matters: "threads of one interpreter cannot run Python code at once, whatever the number of CPUs",
    try_this: "Use processes (`ProcessPoolExecutor`), a free-threaded build, or move the hot loop into \
               code that lets go of the GIL.",
    check,
};

/// A queue at the GIL for less of the run than this is the normal switching of threads.
const LEAST: f64 = 0.10;
const MAJOR: f64 = 0.25;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let gils = evidence.report.objects.iter().filter(|object| object.kind == "gil");
    gils.filter_map(|gil| judge(evidence, gil)).collect()
}

fn judge(evidence: &Evidence, gil: &Object) -> Option<Finding> {
    let queued = evidence.queued.get(&gil.id).copied()?;
    let share = evidence.of_wall(queued);
    let gain = evidence.gain("nogil");
    let real = gain.as_ref().is_some_and(|gain| evidence.is_real(gain));
    if share < LEAST && !real {
        return None;
    }
    let ran = runners(evidence, gil);
    let hot = ran.first().and_then(|&(id, _)| evidence.lives.get(id as usize)?.hot.clone());
    let at = hot.map_or_else(String::new, |(at, _)| format!(", mostly{}", words::inside(&at)));
    let ran_names = words::threads(evidence, ran.iter().map(|&(id, _)| id));
    let meanwhile = if ran.is_empty() {
        String::new()
    } else {
        format!(" {ran_names} ran Python code meanwhile{at}.")
    };
    let part = words::percent(share);
    let waiters = words::count(gil.waiters, "thread");
    let text = format!(
        "{waiters} waited {} for the GIL, and for {part} of the run at least one was waiting.\
         {meanwhile}{}",
        Nanos(gil.wait_ns),
        letting_go(evidence, gil),
    );
    let outcome = match &gain {
        Some(gain) if real => format!("without it the run would be {} faster", words::times(gain)),
        _ => format!(
            "what its absence would gain is not known: {}",
            words::why_not_known(evidence, "nogil")
        ),
    };
    let takers = words::they(takers(evidence, gil), "thread", "take");
    let headline = format!(
        "{takers} turns under Python's GIL: for {part} of the run one of them had to wait for \
         it while {ran_names} ran; {outcome}"
    );
    let severity = if real { Severity::Bottleneck } else { Severity::Cost };
    let mut finding = RULE.found(severity, "threads wait for Python's GIL".to_owned(), text);
    if let Some(gain) = gain.as_ref().filter(|_| real) {
        finding.advice = format!(
            "Use processes (`ProcessPoolExecutor`) or a free-threaded build: by replay the run is {} faster \
             then, less what the start of processes and the way of arguments and results to them take. Or \
             move the hot loop into code that lets go of the GIL.",
            words::times(gain),
        );
    }
    let finding = finding
        .about(gil.id)
        .with_threads(evidence.waiters(gil.id).map(|(thread, ..)| thread))
        .with_time("waited", gil.wait_ns)
        .with_share("of the run somebody waited", share)
        .with_gain(gain.filter(|_| real));
    // A lock that is handed over all the time takes the GIL along.
    let locks = evidence.report.objects.iter().filter(|o| o.kind == "lock" && o.pid == gil.pid);
    let along = locks.into_iter().any(|lock| lock_handover::share(evidence, lock) > share);
    let tells = (real || share >= MAJOR) && !along;
    Some(if tells { finding.claiming("gil-bound", 6, share, headline) } else { finding })
}

/// How its holders let go of it.
fn letting_go(evidence: &Evidence, gil: &Object) -> String {
    let facts = evidence.gils.get(&gil.id).filter(|facts| facts.waits > 0);
    let Some(facts) = facts else { return String::new() };
    let forced = Nanos(facts.forced).share_of(Nanos(facts.waits));
    format!(
        " In {} of {} waits the holder went on for longer than the switch interval and had to be asked; in \
         the others it let go before, because it had to wait for something itself.",
        words::percent(forced),
        facts.waits,
    )
}

/// Threads that wait for it as a matter of course, and not now and then.
fn takers(evidence: &Evidence, gil: &Object) -> u64 {
    let most = evidence.waiters(gil.id).map(|(_, _, ns)| ns).max().unwrap_or(0);
    evidence.waiters(gil.id).filter(|&(_, _, ns)| ns >= most.div_ceil(20)).count() as u64
}

/// Threads of the interpreter that used most CPU time.
fn runners(evidence: &Evidence, gil: &Object) -> Vec<(u32, u64)> {
    let rows = evidence.report.threads.iter().filter(|thread| thread.pid == gil.pid);
    let mut ran: Vec<(u32, u64)> =
        rows.map(|thread| (thread.id, thread.states.0[State::Running].0)).collect();
    ran.sort_by_key(|&(id, ns)| (std::cmp::Reverse(ns), id));
    let most = ran.first().map_or(0, |&(_, ns)| ns);
    ran.retain(|&(_, ns)| ns >= most.div_ceil(5) && ns > 0);
    ran
}
