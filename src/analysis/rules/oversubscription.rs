//! More ready threads than CPUs.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeSet;

pub const RULE: Rule = Rule {
    id: "oversubscription",
    title: "more ready threads than CPUs",
    reports: "How long threads of this program were ready to run while others of the program had the \
              CPUs.",
    matters: "ready threads that wait gain nothing and cost switches and cache misses",
    try_this: "Use as many CPU-bound threads as there are CPUs (`nproc`, the cgroup's quota included); \
               more CPUs help as long as there are ready threads.",
    check,
};

/// This much of the path in the run queue makes it the story of the run.
const MAJOR: f64 = 0.25;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let report = evidence.report;
    let states = &report.budget.states.0;
    let (queued, ran) = (states[State::Runnable], states[State::Running]);
    let own = Nanos(evidence.detail("runnable: preempted by this program"));
    let used = report.utilisation.mean_cpus / evidence.cpus();
    let path = evidence.on_path(State::Runnable);
    let workers = report.threads.iter().filter(|thread| {
        let life = thread.states.0.total();
        let busy = thread.states.0[State::Running] + thread.states.0[State::Runnable];
        busy.share_of(life) >= 0.5 && thread.end_ns - thread.start_ns > report.wall_ns / 5
    });
    let workers: Vec<&ThreadRow> = workers.collect();
    let crowded = at_once(evidence, &workers) > evidence.cpus() && own.share_of(queued) >= 0.2;
    let workers: Vec<u32> = workers.into_iter().map(|thread| thread.id).collect();
    let full = used >= 0.9 && queued > ran;
    let queues = crowded && path >= 0.1;
    if !queues && !full {
        return Vec::new();
    }
    let gain = evidence.gain("cpus=").filter(|gain| evidence.is_real(gain));
    let cpus = words::cpus_of(&report.host);
    let n = workers.len() as u64;
    let others = evidence.detail("runnable: preempted by other processes");
    let beside = if others > queued.0 / 4 {
        format!(" ({} of it because other processes took the CPU)", Nanos(others))
    } else {
        String::new()
    };
    let text = format!(
        "{} wanted to run most of the time on {cpus}: they were ready but without a CPU for \
         {queued}{beside} and ran for {ran}.",
        words::count(n, "thread"),
    );
    let outcome = gain.as_ref().map_or_else(
        || "more CPUs or fewer threads, not faster locks, would shorten that".to_owned(),
        |gain| format!("with `{}` the run would be {} faster", gain.change, words::times(gain)),
    );
    let headline = format!(
        "{} compete for {cpus} and spent {} of their time ready but waiting for one{}: {outcome}",
        words::count(n, "thread"),
        words::percent(queued.share_of(states.total())),
        words::spot_of(evidence, State::Running)
            .map_or_else(String::new, |(chain, _)| format!(", running{}", words::inside(&chain))),
    );
    let severity = if gain.is_some() { Severity::Bottleneck } else { Severity::Cost };
    let share = path.max(used * queued.share_of(queued + ran));
    let finding = RULE
        .found(severity, format!("{n} busy threads for {cpus}"), text)
        .with_threads(workers)
        .with_time("ready, without a CPU", queued.0)
        .with_time("of it preempted by this program", own.0)
        .with_share("of the path in the run queue", path)
        .with_gain(gain);
    let tells = share >= MAJOR || full;
    vec![if tells { finding.claiming("oversubscribed", 4, share, headline) } else { finding }]
}

/// How many of these threads could run at once, had they a CPU each: of those that share a GIL, one.
fn at_once(evidence: &Evidence, threads: &[&ThreadRow]) -> f64 {
    let gils = evidence.report.objects.iter().filter(|o| o.kind == "gil" && o.waiters >= 2);
    let gils: BTreeSet<u32> = gils.map(|gil| gil.pid).collect();
    let (bound, free): (Vec<&ThreadRow>, Vec<&ThreadRow>) =
        threads.iter().copied().partition(|thread| gils.contains(&thread.pid));
    let bound: BTreeSet<u32> = bound.into_iter().map(|thread| thread.pid).collect();
    (bound.len() + free.len()) as f64
}
