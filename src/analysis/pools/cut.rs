//! Cuts the lives of workers into jobs.
//!
//! ```text
//!  worker   ..queue..[ job ][ job ][   two jobs   ]..queue..[ job ]
//!                         ^      ^                ^
//!                         '------'----------------'- it wakes the thread that waits for results, or
//!                                                    the one that waits for room in the queue
//! ```
//!
//! Where the queue is not empty a worker takes the next job without a wait, and nothing is seen
//! of it but what it wakes. A stretch may be several jobs then. If those that are seen from both
//! ends all wait as often, the others are cut after as many waits.

use super::crew::Crew;
use super::crew::Waits;
use crate::analysis::Told;
use crate::analysis::history::Ender;
use crate::analysis::history::Stay;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// How a stretch began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Began {
    /// After a wait for a job, which ended then, by that thread.
    Waited(Nanos, Ender),
    /// With the worker, which that thread made.
    Born(Option<ThreadId>),
    /// Right after another one.
    Next,
}

/// A stretch of a worker's life between two of its waits for a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Stretch {
    /// The worker.
    pub worker: ThreadId,
    /// When,
    pub start: Nanos,
    /// and until.
    pub end: Nanos,
    /// How it began.
    pub began: Began,
    /// Time in waits, but for locks and the GIL.
    pub wait: Nanos,
    /// Time on a CPU or ready for one,
    pub cpu: Nanos,
    /// and of that, ready.
    pub ready: Nanos,
    /// Time in waits for locks.
    pub locks: Nanos,
    /// Where its long waits ended, with what it waited and computed up to then.
    waits: Vec<(Nanos, Nanos, Nanos)>,
}

impl Stretch {
    /// Its length.
    pub fn time(&self) -> Nanos {
        self.end - self.start
    }
}

/// A wait of at least this part of the middle stretch is a part of what a job does.
const LONG_WAIT: u64 = 50;
/// What is shorter than this part of the mean is none: the way from one wait for a job to the next.
const NO_JOB: u64 = 50;

/// The stretches of all workers, in the order in which they began.
pub fn stretches(told: &Told, crew: &Crew, at: &mut Waits) -> Vec<Stretch> {
    let mut marks = marks(told, crew);
    let mut all: Vec<Stretch> = Vec::new();
    for &worker in &crew.workers {
        let marks = marks.remove(&worker).unwrap_or_default();
        all.extend(of_worker(told, crew, worker, &marks, at));
    }
    all = without_tiny(all);
    let mut times: Vec<u64> = all.iter().map(|one| one.time().0).collect();
    times.sort_unstable();
    let long = times.get(times.len() / 2).copied().unwrap_or(0) / LONG_WAIT;
    for one in &mut all {
        one.keep_long(long);
    }
    all.sort_by_key(|one| (one.start, one.worker));
    all
}

/// Without stretches that are too short for a job. One that a job follows at once is its beginning: it
/// took the job, and woke who waits for that.
fn without_tiny(all: Vec<Stretch>) -> Vec<Stretch> {
    let mean = all.iter().map(Stretch::time).sum::<Nanos>().0 / all.len().max(1) as u64;
    let mut kept: Vec<Stretch> = Vec::new();
    let mut tiny: Option<Stretch> = None;
    for mut one in all {
        if let Some(before) = tiny.take()
            && before.worker == one.worker
            && one.began == Began::Next
        {
            one.start = before.start;
            one.began = before.began;
            one.cpu += before.cpu;
        }
        if one.time().0 > mean / NO_JOB {
            kept.push(one);
        } else {
            tiny = Some(one);
        }
    }
    kept
}

/// When each worker ended a wait of one who is told of jobs.
fn marks(told: &Told, crew: &Crew) -> BTreeMap<ThreadId, Vec<Nanos>> {
    let mut marks: BTreeMap<ThreadId, Vec<Nanos>> = BTreeMap::new();
    let states = [State::Condvar, State::Pipe, State::Poll, State::Network];
    for &thread in &crew.told {
        for stay in told.history.stays(thread, Nanos::ZERO) {
            if let Ender::Thread(by) = stay.ender
                && states.contains(&told.history.state(stay.object))
                && crew.has(by)
            {
                marks.entry(by).or_default().push(stay.woken);
            }
        }
    }
    for times in marks.values_mut() {
        times.sort_unstable();
    }
    marks
}

fn of_worker(
    told: &Told,
    crew: &Crew,
    worker: ThreadId,
    marks: &[Nanos],
    at: &mut Waits,
) -> Vec<Stretch> {
    let Some(life) = told.history.life(worker) else { return Vec::new() };
    let mut found = Vec::new();
    let mut open = Stretch::new(worker, life.start, Began::Born(life.parent));
    let mut ran_since = life.start;
    let mut marks = marks.iter().copied().peekable();
    for stay in told.history.stays(worker, Nanos::ZERO) {
        // Marks are set while the worker runs.
        while let Some(mark) = marks.next_if(|&mark| mark <= stay.off) {
            open.cpu += mark.max(ran_since) - ran_since;
            ran_since = mark.max(ran_since);
            let next = Stretch::new(worker, ran_since, Began::Next);
            found.push(std::mem::replace(&mut open, next).ended(ran_since));
        }
        open.cpu += stay.off.max(ran_since) - ran_since;
        ran_since = stay.on;
        if crew.is_idle(told, life, &stay, at) {
            let next = Stretch::new(worker, stay.woken, Began::Waited(stay.woken, stay.ender));
            let done = std::mem::replace(&mut open, next).ended(stay.off);
            // What a worker process does before it first waits for a job is to start.
            if !matches!(done.began, Began::Born(_)) || !crew.processes {
                found.push(done);
            }
            open.cpu += stay.on - stay.woken;
            open.ready += stay.on - stay.woken;
        } else {
            open.take(told, &stay);
        }
    }
    open.cpu += life.end.max(ran_since) - ran_since;
    found.push(open.ended(life.end));
    found
}

impl Stretch {
    fn new(worker: ThreadId, start: Nanos, began: Began) -> Self {
        let (wait, cpu, ready, locks) = Default::default();
        Self { worker, start, end: start, began, wait, cpu, ready, locks, waits: Vec::new() }
    }

    fn ended(mut self, end: Nanos) -> Self {
        self.end = end.max(self.start);
        self
    }

    fn take(&mut self, told: &Told, stay: &Stay) {
        let waited = stay.woken - stay.off;
        self.cpu += stay.on - stay.woken;
        self.ready += stay.on - stay.woken;
        match told.history.state(stay.object) {
            State::Gil => return,
            State::Lock => self.locks += waited,
            _ => self.wait += waited,
        }
        self.waits.push((stay.on, self.wait, self.cpu));
    }

    /// Drops short waits from the list.
    fn keep_long(&mut self, long: u64) {
        let mut before = Nanos::ZERO;
        self.waits.retain(|&(_, wait, _)| {
            let one = wait - before;
            before = wait;
            one.0 > long
        });
    }

    fn parts(&self, each: usize) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        let (mut start, mut wait, mut cpu, mut began) =
            (self.start, Nanos::ZERO, Nanos::ZERO, self.began);
        let cuts = self.waits.chunks(each).map(|chunk| chunk[chunk.len() - 1]);
        let many = self.waits.len() / each;
        for (index, (at, waited, computed)) in cuts.enumerate() {
            let last = index + 1 == many;
            let (end, waited, computed) =
                if last { (self.end, self.wait, self.cpu) } else { (at, waited, computed) };
            let mut part = Self::new(self.worker, start, began).ended(end);
            (part.wait, part.cpu) = (waited - wait, computed - cpu);
            parts.push(part);
            (start, wait, cpu, began) = (end, waited, computed, Began::Next);
        }
        parts
    }
}

/// Jobs, and how they were told from each other.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Cut {
    /// In the order in which they began.
    pub jobs: Vec<Stretch>,
    /// Whether each of them was seen, or is like enough others that were.
    pub sure: bool,
}

/// Stretches that look like one job, from which others are cut, must be so many,
const FEWEST: usize = 4;
/// and so much of the time.
const SEEN_ENOUGH: f64 = 0.25;
/// So many of the stretches must be one or several of them.
const MOSTLY: f64 = 0.9;

/// Cuts what may hold several jobs: as those that hold one tell, else wherever it waited.
pub fn by_likeness(stretches: &[Stretch]) -> Cut {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for one in stretches.iter().filter(|one| !one.waits.is_empty()) {
        *counts.entry(one.waits.len()).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let often = |count: usize| count >= FEWEST && count * 10 >= all;
    let found = counts.iter().find(|&(_, &n)| often(n)).map(|(&waits, _)| waits);
    let fitting = |each: usize| -> usize {
        counts.iter().filter(|&(w, _)| w.is_multiple_of(each)).map(|(_, &n)| n).sum()
    };
    let found = found.filter(|&each| fitting(each) as f64 >= all as f64 * MOSTLY);
    let each = found.unwrap_or(1);
    let several = |one: &Stretch| one.waits.len() > each && one.waits.len().is_multiple_of(each);
    let like = |one: &&Stretch| one.waits.len() == each;
    let seen: Nanos = stretches.iter().filter(like).map(Stretch::time).sum();
    let seen = seen.share_of(stretches.iter().map(Stretch::time).sum());
    let sure = !stretches.iter().any(several) || found.is_some() && seen >= SEEN_ENOUGH;
    let mut jobs: Vec<Stretch> = stretches
        .iter()
        .flat_map(|one| if several(one) { one.parts(each) } else { vec![one.clone()] })
        .collect();
    jobs.sort_by_key(|one| (one.start, one.worker));
    Cut { jobs, sure }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A stretch that waited so many times for 10 ms.
    fn stretch(start: u64, waits: u64) -> Stretch {
        let (began, at) = (Began::Next, Nanos(start * MS));
        let mut one = Stretch::new(ThreadId(1), at, began).ended(Nanos((start + waits * 10) * MS));
        one.wait = Nanos(waits * 10 * MS);
        let ended = |n| (at + Nanos(n * 10 * MS), Nanos(n * 10 * MS), Nanos::ZERO);
        one.waits = (1..=waits).map(ended).collect();
        one
    }

    #[test]
    fn several_jobs_are_told_by_those_that_are_alone() {
        let of = |waits: &[u64]| -> Vec<Stretch> {
            let mut at = 0;
            let place = |&waits| (stretch(at, waits), at += waits * 10 + 1).0;
            waits.iter().map(place).collect()
        };
        let cut = by_likeness(&of(&[2, 2, 2, 2, 2, 4, 6]));
        assert_eq!((cut.jobs.len(), cut.sure), (10, true));
        assert!(cut.jobs.iter().all(|job| job.wait.0 == 20 * MS && job.time().0 == 20 * MS));
        // Each was seen by itself.
        assert_eq!(by_likeness(&of(&[3; 9])), Cut { jobs: of(&[3; 9]), sure: true });
        // One that waits often may be one long job: nothing is sure.
        let cut = by_likeness(&of(&[1, 1, 1, 1, 100]));
        assert_eq!((cut.jobs.len(), cut.sure), (104, false));
        let cut = by_likeness(&of(&[2, 3, 5, 7, 9, 11]));
        assert_eq!((cut.jobs.len(), cut.sure), (37, false));
    }

    /// The first moments of a job, up to where it wakes who waits for room, are a part of it.
    #[test]
    fn taking_a_job_is_no_job() {
        let mut took = stretch(5, 0);
        took.began = Began::Born(Some(ThreadId(0)));
        let all = without_tiny(vec![stretch(0, 0), took, stretch(5, 3), stretch(36, 3)]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].began, Began::Born(Some(ThreadId(0))));
    }
}
