//! When each job came into the queue, and what had to be done before.
//!
//! A job that was waited for came when the wait ended. One that was taken without a wait was
//! there already: at the latest since the thread that hands jobs in last ran, at the earliest since
//! a worker last waited for one. These are the two ends between which the truth lies.
//!
//! Either instant is followed back along what caused it, as the critical path is, to the end of a
//! job: then it would come earlier with more workers. If it comes to none it stays where it is.

use super::crew::Crew;
use super::cut::Began;
use super::cut::Stretch;
use super::deal::Arrival;
use crate::analysis::Told;
use crate::analysis::history::Ender;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;

/// Steps back in all: threads that never waited for the pool may have waited often for others.
const MOST_STEPS: usize = 2_000_000;

/// A worker that woke somebody comes to its queue a little later: who was quick may have handed in the
/// next job by then.
const TAKEN: Nanos = Nanos::from_micros(20);

/// Looks for what came before.
pub struct Origins<'a> {
    told: &'a Told,
    crew: &'a Crew,
    jobs: &'a [Stretch],
    /// The jobs of each worker, by number.
    of: FastMap<ThreadId, Vec<usize>>,
    /// The place of each in the order of their ends.
    pub ranks: Vec<usize>,
    near: FastMap<ThreadId, usize>,
    steps: usize,
}

impl<'a> Origins<'a> {
    /// `jobs` in the order in which they began.
    pub fn new(told: &'a Told, crew: &'a Crew, jobs: &'a [Stretch]) -> Self {
        let mut of: FastMap<ThreadId, Vec<usize>> = FastMap::default();
        for (index, job) in jobs.iter().enumerate() {
            of.entry(job.worker).or_default().push(index);
        }
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|&index| (jobs[index].end, index));
        let mut ranks = vec![0; jobs.len()];
        for (rank, index) in order.into_iter().enumerate() {
            ranks[index] = rank;
        }
        Self { told, crew, jobs, of, ranks, near: FastMap::default(), steps: 0 }
    }

    /// Whether all was followed to its beginning.
    pub fn is_whole(&self) -> bool {
        self.steps <= MOST_STEPS
    }

    /// Arrivals at the latest and at the earliest.
    pub fn arrivals(&mut self) -> (Vec<Arrival>, Vec<Arrival>) {
        let (mut late, mut early) = (Vec::new(), Vec::new());
        let jobs = self.jobs;
        let mut there = self.at(self.told.history.window.0);
        for job in jobs {
            let seen = match job.began {
                Began::Waited(woken, Ender::Thread(by)) => Some(self.origin(by, woken)),
                Began::Waited(woken, _) => Some(self.at(woken)),
                Began::Born(Some(parent)) => Some(self.origin(parent, job.start)),
                Began::Born(None) => Some(self.at(job.start)),
                Began::Next => None,
            };
            there = seen.unwrap_or(there);
            early.push(there);
            late.push(match seen {
                Some(seen) => seen,
                None if self.crew.at_once => there,
                None => self.fed_last(job.end.min(job.start + TAKEN)).unwrap_or(there),
            });
        }
        (late, early)
    }

    fn at(&self, time: Nanos) -> Arrival {
        Arrival::At((time - self.told.history.window.0.min(time)).0)
    }

    /// The last instant until then at which one ran that hands jobs in.
    fn fed_last(&mut self, until: Nanos) -> Option<Arrival> {
        let history = &self.told.history;
        let ran = |feeder: &ThreadId| {
            let life = history.life(*feeder)?;
            if until <= life.start {
                return None;
            }
            let piece = history.piece_before(*feeder, until.min(life.end))?;
            let last = match piece.stay {
                None => piece.end.min(until),
                Some(stay) => stay.off,
            };
            Some((last, *feeder))
        };
        let (last, feeder) = self.crew.feeders.iter().filter_map(ran).max()?;
        Some(self.origin(feeder, last))
    }

    /// The job that had to be done for a thread to be where it was then.
    pub fn origin(&mut self, mut thread: ThreadId, since: Nanos) -> Arrival {
        let history = &self.told.history;
        let start = history.window.0;
        let mut now = since;
        while now > start {
            self.steps += 1;
            let Some(life) = history.life(thread).filter(|_| self.is_whole()) else { break };
            now = now.min(life.end);
            if let Some(job) = self.job_at(thread, now) {
                match self.before(job, now) {
                    Before::Done(job) => {
                        let delay = since - self.jobs[job].end.min(since);
                        return Arrival::After(self.ranks[job] + 1, delay.0);
                    }
                    Before::Thread(by, at) => (thread, now) = (by, at.min(now)),
                    Before::Nothing => break,
                }
                continue;
            }
            let near = self.near.entry(thread).or_default();
            let Some(piece) = history.piece_before_near(thread, now, near) else {
                let Some(parent) = life.parent.filter(|_| now <= life.start) else { break };
                thread = parent;
                continue;
            };
            match piece.stay {
                Some(stay)
                    if piece.state.is_wait() && piece.state != State::Gil && piece.end == now =>
                {
                    match stay.ender {
                        Ender::Thread(by) if by != thread && !stay.open => thread = by,
                        _ => now = piece.start,
                    }
                }
                _ => now = piece.start,
            }
        }
        self.at(since)
    }

    /// The job that a worker was in then, its end included.
    fn job_at(&self, thread: ThreadId, now: Nanos) -> Option<usize> {
        let of = self.of.get(&thread)?;
        let next = of.partition_point(|&job| self.jobs[job].start < now);
        let job = of[next.checked_sub(1)?];
        (now <= self.jobs[job].end).then_some(job)
    }

    fn before(&self, job: usize, now: Nanos) -> Before {
        let one = &self.jobs[job];
        if now == one.end {
            return Before::Done(job);
        }
        // In the middle of a job: what let it begin.
        match one.began {
            Began::Waited(woken, Ender::Thread(by)) => Before::Thread(by, woken),
            Began::Born(Some(parent)) => Before::Thread(parent, one.start),
            Began::Waited(..) | Began::Born(None) => Before::Nothing,
            Began::Next => {
                let of = &self.of[&one.worker];
                let at = of.partition_point(|&other| other < job);
                at.checked_sub(1).map_or(Before::Nothing, |before| Before::Done(of[before]))
            }
        }
    }
}

enum Before {
    Done(usize),
    Thread(ThreadId, Nanos),
    Nothing,
}
