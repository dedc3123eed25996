//! A pool with more workers than it uses, or with fewer than its work could use.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::names::stem;
use crate::analysis::pools::Dealt;
use crate::analysis::pools::Size;
use crate::analysis::report::Finding;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "pool-size",
    title: "a pool of another size than its work needs",
    reports: "What a run may gain by more workers in a pool, and with how few it would take as long: its \
              jobs are taken from the lives of its workers and dealt out again to other numbers of them. \
              Also how many workers were busy on average, where most were idle; and pools of CPU-bound \
              workers larger than the number of CPUs.",
    matters: "jobs queue for too few workers; idle ones cost memory and wake-ups, too many busy ones only \
              take turns",
    try_this: "Size the pool by what keeps its queue empty, or by the number of CPUs for CPU-bound work, and \
               measure: what the jobs work with may bear fewer of them at once.",
    check,
};

fn check(evidence: &Evidence) -> Vec<Finding> {
    let of_one = |dealt: &Dealt| {
        let found: Vec<Finding> =
            [too_small(dealt), too_large(dealt)].into_iter().flatten().collect();
        (dealt.workers.clone(), found)
    };
    let told: Vec<(Vec<u32>, Vec<Finding>)> = evidence.dealt.iter().map(of_one).collect();
    // What dealing says is more than the mean.
    let said = |finding: &Finding| {
        told.iter().any(|(workers, found)| {
            !found.is_empty() && finding.threads.iter().all(|id| workers.contains(id))
        })
    };
    let by_mean: Vec<Finding> = by_mean(evidence).into_iter().filter(|one| !said(one)).collect();
    let mut found: Vec<Finding> = told.into_iter().flat_map(|(_, found)| found).collect();
    found.extend(by_mean);
    found
}

/// So near to the most that can be gained is as good.
const AS_GOOD: f64 = 0.97;
/// A run that takes at most 2 % longer takes as long; the low end of a gain allows for as much besides.
const AS_LONG: f64 = 0.93;
/// A pool whose workers were all busy for less than this does not look too small.
const BUSY: f64 = 0.5;

/// The fewest workers with which the run gains all but all there is to gain.
fn enough(dealt: &Dealt) -> Option<&Size> {
    let most = dealt.sizes.iter().map(|size| size.speedup).max_by(f64::total_cmp)?;
    dealt.sizes.iter().find(|size| size.speedup >= most * AS_GOOD)
}

/// What dealing says is told with its range and promised as no gain: narrow ranges were missed too often
/// on a busy machine (decision 14), so it claims no verdict either.
fn too_small(dealt: &Dealt) -> Option<Finding> {
    let now = dealt.workers.len();
    let enough = enough(dealt).filter(|size| size.workers > now)?;
    let twice = dealt.sizes.iter().find(|size| size.workers == now * 2);
    let size = twice.filter(|size| size.workers < enough.workers).unwrap_or(enough);
    if size.speedup < super::LEAST_GAIN || dealt.all_busy < BUSY {
        return None;
    }
    // New processes take time to start, which no job of the run shows.
    let likely = size.low >= super::LEAST_GAIN && !dealt.processes;
    let low = if dealt.processes { 1.0 } else { size.low.max(1.0) };
    let share = words::percent(dealt.all_busy);
    let busy = match now {
        1 => format!("The one worker of `{}` was busy", dealt.name),
        _ => format!("All {now} workers of `{}` were busy", dealt.name),
    };
    let why = match (likely, dealt.processes) {
        (true, _) => "if what the jobs work with bears more of them at once",
        (_, true) => "or not at all, if the new processes take as long to start as they save",
        _ => {
            "how much is not seen: the jobs may have been handed in one by one, or what looks like several \
             jobs may have been one"
        }
    };
    let text = format!(
        "{busy} for {share} of the time from the first job to the last ({} jobs). Its jobs dealt out again to \
         {} workers, the run may be {low:.2}x to {:.2}x as fast, {why}. This is an estimate: try it and measure.",
        dealt.jobs, size.workers, size.high
    );
    let (severity, title) = if likely {
        (Severity::Cost, format!("the pool `{}` looks too small", dealt.name))
    } else {
        (Severity::Note, format!("the pool `{}` may be too small", dealt.name))
    };
    Some(
        RULE.found(severity, title, text)
            .with_threads(dealt.workers.iter().copied())
            .with_share("of its time all workers busy", dealt.all_busy)
            .with_count("workers", now as u64)
            .with_count("jobs", dealt.jobs as u64)
            .with_count("workers dealt to", size.workers as u64)
            .with("times as fast, at least", low, "ratio")
            .with("times as fast, at most", size.high, "ratio"),
    )
}

/// With half as many or fewer the run takes as long, even if each job came as late as it can have.
fn too_large(dealt: &Dealt) -> Option<Finding> {
    let now = dealt.workers.len();
    let would_do = dealt.sizes.iter().find(|size| size.low >= AS_LONG)?;
    if now < 4 || would_do.workers * 2 > now {
        return None;
    }
    let text = format!(
        "By dealing its {} jobs out again, {} of the {now} workers of `{}` would do: the run would take about \
         as long. The others cost memory (a stack, or a whole process, each) and wake-ups.",
        dealt.jobs, would_do.workers, dealt.name
    );
    let title = format!("the pool `{}` is larger than its work", dealt.name);
    Some(
        RULE.found(Severity::Note, title, text)
            .with_threads(dealt.workers.iter().copied())
            .with_count("workers", now as u64)
            .with_count("workers that would do", would_do.workers as u64)
            .with_count("jobs", dealt.jobs as u64),
    )
}

fn by_mean(evidence: &Evidence) -> Vec<Finding> {
    evidence
        .pools()
        .iter()
        .filter_map(|pool| {
            let n = pool.workers.len();
            let busy = n as f64 * (1.0 - pool.waiting);
            let name = stem(&pool.workers[0].name.0);
            let running = |worker: &&&ThreadRow| {
                let ready = evidence.of_life(worker, State::Running)
                    + evidence.of_life(worker, State::Runnable);
                ready > 0.8
            };
            let crowd = pool.workers.iter().filter(running).count();
            let (title, judgement) = if n >= 4 && busy * 3.0 < n as f64 {
                let enough = busy.ceil().max(1.0);
                (
                    format!("the pool `{name}` is larger than its work"),
                    format!("{enough:.0} would do"),
                )
            } else if crowd as f64 > evidence.cpus() * 1.5 {
                let cpus = evidence.cpus();
                (
                    format!("the pool `{name}` is larger than the CPUs"),
                    format!("only {cpus:.0} can run at once"),
                )
            } else {
                return None;
            };
            let text = format!(
                "{n} workers `{name}`, of which {busy:.1} were busy on average: {judgement}."
            );
            Some(
                RULE.found(Severity::Note, title, text)
                    .about(pool.object.id)
                    .with_threads(pool.workers.iter().map(|worker| worker.id))
                    .with("workers busy on average", busy, "count")
                    .with_count("workers", n as u64),
            )
        })
        .collect()
}
