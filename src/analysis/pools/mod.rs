//! How large a pool should be: its jobs are taken from the lives of its workers and dealt out again
//! to fewer and to more of them ([decision 14](../../../docs/decisions/0014-dealing-jobs.md)).

mod arrivals;
mod crew;
mod cut;
mod deal;

use super::Told;
use super::rules::Evidence;
use crate::model::Nanos;
use crate::model::State;
use crate::model::Symbols;
use crate::model::ThreadId;
use arrivals::Origins;
use crew::Crew;
use crew::Waits;
use cut::Cut;
use cut::Stretch;
use deal::Arrival;
use deal::Job;
use deal::MOST_JOBS;
use deal::MOST_WORKERS;
use deal::Work;
use deal::deal;

/// A pool whose jobs were dealt out again.
#[derive(Clone, PartialEq, Debug)]
pub struct Dealt {
    /// What its workers are called.
    pub name: String,
    /// They, by thread id.
    pub workers: Vec<u32>,
    /// Each of them is a process.
    pub processes: bool,
    /// Jobs that were told from each other.
    pub jobs: usize,
    /// For how much of the time from its first job to its last all workers were busy.
    pub all_busy: f64,
    /// The run with other numbers of workers, fewest first.
    pub sizes: Vec<Size>,
}

/// A run with so many workers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Size {
    /// So many.
    pub workers: usize,
    /// Time of the run before over after, if each job came as late as it can have come,
    pub low: f64,
    /// between the two,
    pub speedup: f64,
    /// and if it came as early as it can have come.
    pub high: f64,
}

/// Fewer jobs than this are no work for a pool.
const FEWEST_JOBS: usize = 8;
/// The run dealt out as it was must end when it did, within this.
const MOST_ERROR: f64 = 0.05;
/// An answer is no nearer than this: so much do two runs of one program differ.
const LEAST_ERROR: f64 = 0.05;
/// So much of a gain may not come, or come besides: more workers take time to start, what the jobs work
/// with may bear fewer at once, and what is recorded may have been slower than it mostly is.
const UNSEEN: f64 = 0.25;
/// With more of the jobs' time in locks, more workers would wait for them.
const MOST_LOCKS: f64 = 0.05;
/// With more stays off the CPU than this its workers' jobs are not cut out: each takes up to 130 bytes.
const MOST_STAYS: usize = 500_000;
/// Pools looked at: each costs some ten dealings.
const MOST_POOLS: usize = 8;

/// The pools of a run whose jobs could be told and dealt.
pub fn dealt(evidence: &Evidence, told: &Told, symbols: &Symbols) -> Vec<Dealt> {
    // Without who woke whom, and without the end of the whole run, nothing follows from a job.
    if !told.history.is_whole() || !evidence.path_tells() || evidence.report.focus.is_some() {
        return Vec::new();
    }
    let mut at = Waits::new(symbols);
    let mut crews = crew::crews(evidence, told, &mut at);
    crews.truncate(MOST_POOLS);
    // Whoever hands jobs to several pools may do so at once to one of them, and one by one to another.
    let feeds: Vec<_> = crews.iter().map(|crew| crew.feeders.clone()).collect();
    for (index, crew) in crews.iter_mut().enumerate() {
        let others = feeds.iter().enumerate().filter(|&(other, _)| other != index);
        crew.at_once &= others.into_iter().all(|(_, feeders)| feeders.is_disjoint(&crew.feeders));
    }
    crews.iter().filter_map(|crew| dealt_one(evidence, told, crew, &mut at)).collect()
}

fn dealt_one(evidence: &Evidence, told: &Told, crew: &Crew, at: &mut Waits) -> Option<Dealt> {
    let stays = |&worker| told.history.stays(worker, Nanos::ZERO).take(MOST_STAYS).count();
    let stays: usize = crew.workers.iter().map(stays).sum();
    if crew.workers.len() > MOST_WORKERS || stays >= MOST_STAYS {
        return None;
    }
    let whole = cut::stretches(told, crew, at);
    if whole.len() > MOST_JOBS {
        return None;
    }
    let cut = cut::by_likeness(&whole);
    let busy: Nanos = whole.iter().map(Stretch::time).sum();
    let locks: Nanos = whole.iter().map(|one| one.locks).sum();
    let most = (MOST_JOBS, FEWEST_JOBS);
    if !(most.1..=most.0).contains(&cut.jobs.len()) || locks.share_of(busy) > MOST_LOCKS {
        return None;
    }
    let (late, early) = works(evidence, told, crew, &cut.jobs)?;
    if is_crowded(&whole) {
        return None;
    }
    let late = if cut.sure { late } else { works(evidence, told, crew, &whole)?.0 };
    let now = crew.workers.len();
    let run = evidence.report.wall_ns as f64;
    let before = (fitting(&late, now, run)?, fitting(&early, now, run)?);
    let size = |workers: usize| {
        let late = before.0 / deal(&late, workers)?;
        let early = before.1 / deal(&early, workers)?;
        let error = [before.0, before.1].map(|end| (end / run - 1.0).abs().max(LEAST_ERROR));
        Some(Size {
            workers,
            low: widened(late.min(early), 1.0 - UNSEEN) / (1.0 + error[0]),
            speedup: (late * early).sqrt(),
            high: widened(early.max(late), 1.0 + UNSEEN) * (1.0 + error[1]),
        })
    };
    let counts = counts(now, cut.jobs.len(), evidence.cpus().round() as usize);
    Some(Dealt {
        name: crew.name.clone(),
        workers: crew.workers.iter().map(|worker| worker.0).collect(),
        processes: crew.processes,
        jobs: cut.jobs.len(),
        all_busy: all_busy(&cut, now),
        sizes: counts.into_iter().filter_map(size).collect(),
    })
}

/// A gain of which so much comes. A loss is as it is: fewer workers are nothing new to the run.
fn widened(speedup: f64, share: f64) -> f64 {
    if speedup > 1.0 { 1.0 + (speedup - 1.0) * share } else { speedup }
}

/// Jobs that mostly compute, and often had to wait for a CPU: which CPUs others will leave is not known.
fn is_crowded(jobs: &[Stretch]) -> bool {
    const MOST_READY: f64 = 0.1;
    const MOSTLY_COMPUTE: f64 = 0.5;
    let sum = |of: fn(&Stretch) -> Nanos| -> Nanos { jobs.iter().map(of).sum() };
    let cpu = sum(|one| one.cpu);
    cpu.share_of(sum(Stretch::time)) > MOSTLY_COMPUTE
        && sum(|one| one.ready).share_of(cpu) > MOST_READY
}

/// When it ends, dealt to as many workers as there were, if that is when it did.
fn fitting(work: &Work, workers: usize, run: f64) -> Option<f64> {
    deal(work, workers).filter(|end| (end / run - 1.0).abs() <= MOST_ERROR)
}

/// The same jobs as late and as early as they can have come.
fn works(evidence: &Evidence, told: &Told, crew: &Crew, jobs: &[Stretch]) -> Option<(Work, Work)> {
    let last = ThreadId(evidence.report.path.thread?);
    let mut origins = Origins::new(told, crew, jobs);
    let (late, early) = origins.arrivals();
    let end = origins.origin(last, told.history.window.1);
    // Where the end of the run follows from no job, no job makes it earlier.
    if !origins.is_whole() || matches!(end, Arrival::At(_)) {
        return None;
    }
    let cpus = cpus_for(evidence, crew);
    let work = |arrivals: Vec<Arrival>| {
        let jobs = jobs.iter().zip(arrivals).zip(&origins.ranks);
        let job = |((one, arrives), &rank): ((&Stretch, _), _)| Job {
            wait: (one.wait + one.locks).0,
            cpu: one.cpu.0,
            arrives,
            rank,
        };
        Work { jobs: jobs.map(job).collect(), end, cpus }
    };
    Some((work(late), work(early)))
}

/// CPUs that the others of the run leave to the workers. Those that are threads of Python have one.
fn cpus_for(evidence: &Evidence, crew: &Crew) -> f64 {
    const LEAST: f64 = 0.1;
    let others = evidence.report.threads.iter().filter(|row| !crew.has(ThreadId(row.id)));
    let taken: Nanos = others.map(|row| row.states.0[State::Running]).sum();
    let left = evidence.cpus() - evidence.of_wall(taken.0);
    let left = if crew.one_computes { left.min(1.0) } else { left };
    left.max(LEAST)
}

/// Numbers of workers that are tried.
fn counts(now: usize, jobs: usize, cpus: usize) -> Vec<usize> {
    let most = jobs.min(MOST_WORKERS);
    let below = [1, 2, 3, now / 4, now / 3, now / 2, now * 3 / 4, cpus];
    let above = [now * 3 / 2, now * 2, now * 3, now * 4, now * 8, most];
    let mut all: Vec<usize> = below.into_iter().chain(above).chain([now + 1]).collect();
    all.retain(|&count| count > 0 && count != now && count <= most.max(now));
    all.sort_unstable();
    all.dedup();
    all
}

/// The share of the time from the first job to the last in which every worker had one.
fn all_busy(cut: &Cut, workers: usize) -> f64 {
    let mut turns: Vec<(Nanos, i32)> = Vec::new();
    for job in &cut.jobs {
        turns.push((job.start, 1));
        turns.push((job.end, -1));
    }
    turns.sort_unstable();
    let (mut busy, mut since, mut full) = (0, Nanos::ZERO, Nanos::ZERO);
    for &(time, by) in &turns {
        if busy >= workers as i32 {
            full += time - since;
        }
        (busy, since) = (busy + by, time);
    }
    let first = turns.first().map_or(Nanos::ZERO, |turn| turn.0);
    full.share_of(since - first)
}

#[cfg(test)]
mod tests;
