//! Workers without work, and work without workers.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::names::stem;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::State;

pub const RULE: Rule = Rule {
    id: "starved-pool",
    title: "workers that wait for work, or work that waits for workers",
    reports: "Groups of like-named threads that spend most of their lives at one queue while one thread \
              feeds them too slowly; and feeders that wait because the queue is full.",
    matters: "a starved pool is limited by its feeder, an overfed one by its workers: the other side's \
              speed is worth nothing",
    try_this: "Starved: make the feeder faster, or hand over larger pieces. Overfed: more or faster workers.",
    check,
};

const MOSTLY: f64 = 0.5;
const ON_PATH: f64 = 0.5;

/// Like-named threads that wait for the same condition.
pub struct Pool<'a> {
    /// What they wait for.
    pub object: &'a Object,
    /// They.
    pub workers: Vec<&'a ThreadRow>,
    /// Share of the workers' lives spent there.
    pub waiting: f64,
}

/// The pools of a run: at least two workers, several waits each.
pub fn pools<'a>(evidence: &Evidence<'a>) -> Vec<Pool<'a>> {
    let conditions = evidence.report.objects.iter().filter(|o| o.state == State::Condvar.name());
    conditions.filter_map(|object| pool(evidence, object)).collect()
}

fn pool<'a>(evidence: &Evidence<'a>, object: &'a Object) -> Option<Pool<'a>> {
    let waiters: Vec<(u32, u64, u64)> =
        evidence.waiters(object.id).filter(|&(_, waits, _)| waits >= 3).collect();
    let workers: Vec<&ThreadRow> =
        waiters.iter().filter_map(|&(thread, ..)| evidence.thread(thread)).collect();
    let first = workers.first()?;
    // Threads that take turns under the GIL wait on its condition, not for work.
    let mut frames = object.sites.iter().flat_map(|site| &site.stack);
    if frames.any(|frame| frame.name.contains("_gil")) {
        return None;
    }
    let alike = workers.iter().all(|w| stem(&w.name.0) == stem(&first.name.0));
    let life: u64 = workers.iter().map(|row| row.end_ns - row.start_ns).sum();
    let waited: u64 = waiters.iter().map(|&(_, _, ns)| ns).sum();
    let waiting = waited as f64 / life.max(1) as f64;
    (workers.len() >= 2 && alike).then_some(Pool { object, workers, waiting })
}

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        evidence.pools().iter().filter_map(|pool| starved(evidence, pool)).collect();
    found.extend(overfed(evidence));
    found
}

fn starved(evidence: &Evidence, pool: &Pool) -> Option<Finding> {
    let feeder = pool.object.holders.first()?;
    let fed = feeder.blamed_ns > pool.object.wait_ns / 2;
    let outside = pool.workers.iter().all(|worker| worker.id != feeder.thread);
    let path = evidence.path_of(feeder.thread);
    if pool.waiting < MOSTLY || !fed || !outside || path < ON_PATH {
        return None;
    }
    let n = words::count(pool.workers.len() as u64, "worker");
    let spot = evidence.spots.iter().find(|s| s.thread == feeder.thread && !s.chain.is_empty());
    let doing = spot.map_or_else(String::new, |spot| {
        let state = State::from_name(spot.state).unwrap_or(State::Unknown);
        format!(", {}{}", words::doing(state), words::inside(&spot.chain))
    });
    let name = stem(&pool.workers[0].name.0);
    let text = format!(
        "{n} (`{name}`) waited for {} of their time in {} for work that `{}` makes{doing}. {} of the \
         critical path goes through it.",
        words::percent(pool.waiting),
        words::site_of(pool.object),
        feeder.name,
        words::percent(path),
    );
    let headline = format!(
        "{n} wait {} of their time for `{}` to give them work{doing}",
        words::percent(pool.waiting),
        feeder.name
    );
    Some(
        RULE.found(Severity::Cost, format!("the pool `{name}` is starved"), text)
            .about(pool.object.id)
            .with_threads(pool.workers.iter().map(|w| w.id))
            .with_share("of the workers' time without work", pool.waiting)
            .with_share("of the path in the feeder", path)
            .claiming("starved", 0, path * pool.waiting, headline),
    )
}

/// A thread that waits at a condition which several like-named others signal: its queue is full.
fn overfed(evidence: &Evidence) -> Option<Finding> {
    let conditions = evidence.report.objects.iter().filter(|o| o.state == State::Condvar.name());
    conditions.into_iter().find_map(|object| {
        let feeders: Vec<(u32, u64, u64)> = evidence.waiters(object.id).collect();
        let &[(feeder, waits, ns)] = feeders.as_slice() else { return None };
        let row = evidence.thread(feeder)?;
        let share = ns as f64 / (row.end_ns - row.start_ns).max(1) as f64;
        let workers: Vec<&str> =
            object.holders.iter().map(|holder| holder.name.0.as_str()).take(64).collect();
        // One worker alone that keeps it waiting is a stage, not a pool.
        let second = object.holders.get(1).map_or(0, |holder| holder.blamed_ns);
        let shared = second * 7 > object.wait_ns;
        let alike = shared && workers.windows(2).all(|two| stem(two[0]) == stem(two[1]));
        if waits < 10 || share < MOSTLY || workers.len() < 2 || !alike {
            return None;
        }
        let name = stem(workers[0]);
        let text = format!(
            "`{}` waited for {} of its time in {} until one of {} (`{name}`) was free.",
            row.called(),
            words::percent(share),
            words::site_of(object),
            words::count(workers.len() as u64, "worker"),
        );
        let title = format!("the pool `{name}` is overfed");
        Some(
            RULE.found(Severity::Cost, title, text)
                .about(object.id)
                .with_threads([feeder])
                .with_share("of the feeder's time waiting", share),
        )
    })
}
