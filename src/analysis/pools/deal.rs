//! Deals a pool's jobs out again, to another number of workers.
//!
//! ```text
//!  2 workers  a aaaaccccc      jobs in the order in which they were taken; each goes to whoever is
//!             b bbbbbbbbddd    free first, no earlier than it came into the queue
//!
//!  4 workers  a aaaa           the waits of a job (disk, network, timer) take as long as they did;
//!             b bbbbbbbb       its CPU time is shared with the other jobs where there are more than
//!             c ccccc          CPUs
//!             d ddd
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

/// When a job comes into the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Then, whatever the pool does. Times in ns from the start of the run.
    At(u64),
    /// So long after the first jobs, so many of them in the order in which they were finished, are done:
    /// who hands it in waited for them.
    After(usize, u64),
}

/// A job.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Job {
    /// What it waits.
    pub wait: u64,
    /// What it computes.
    pub cpu: u64,
    /// Its arrival.
    pub arrives: Arrival,
    /// Its place in the order in which they were finished.
    pub rank: usize,
}

/// The jobs of a pool, in the order in which they were taken.
#[derive(Clone, PartialEq, Debug)]
pub struct Work {
    /// They.
    pub jobs: Vec<Job>,
    /// The end of the run.
    pub end: Arrival,
    /// CPUs that the jobs share.
    pub cpus: f64,
}

/// More jobs than this are not dealt: each costs a look at all workers.
pub const MOST_JOBS: usize = 20_000;
/// More workers than this are not thought of.
pub const MOST_WORKERS: usize = 256;

/// When the run ends with so many workers; `None` if it never does.
pub fn deal(work: &Work, workers: usize) -> Option<f64> {
    let mut table = Table::new(work);
    table.arrive();
    // Each job comes, has waited and is done. More than that are times too large to be told apart.
    for _ in 0..=4 * work.jobs.len() {
        table.take(workers);
        let Some(next) = table.next() else { return table.end() };
        table.advance(next);
    }
    None
}

struct Table<'w> {
    work: &'w Work,
    now: f64,
    /// Jobs that arrive at a time that is known.
    coming: BinaryHeap<Reverse<(u64, usize)>>,
    /// Those that wait for others to be done, by how many.
    behind: BTreeMap<usize, Vec<usize>>,
    ready: BinaryHeap<Reverse<usize>>,
    busy: Vec<Busy>,
    done: Vec<bool>,
    /// So many of the first are done, the last of them then.
    first: usize,
    first_at: f64,
}

struct Busy {
    job: usize,
    wait_ends: f64,
    cpu: f64,
}

impl<'w> Table<'w> {
    fn new(work: &'w Work) -> Self {
        let mut table = Self {
            work,
            now: 0.0,
            coming: BinaryHeap::new(),
            behind: BTreeMap::new(),
            ready: BinaryHeap::new(),
            busy: Vec::new(),
            done: vec![false; work.jobs.len()],
            first: 0,
            first_at: 0.0,
        };
        for (job, one) in work.jobs.iter().enumerate() {
            match one.arrives {
                Arrival::At(time) => table.coming.push(Reverse((time, job))),
                Arrival::After(count, _) => table.behind.entry(count).or_default().push(job),
            }
        }
        table
    }

    /// Those whose others are done know their time now.
    fn arrive(&mut self) {
        while let Some(entry) = self.behind.first_entry().filter(|e| *e.key() <= self.first) {
            for job in entry.remove() {
                if let Arrival::After(_, delay) = self.work.jobs[job].arrives {
                    let time = (self.first_at as u64).saturating_add(delay);
                    self.coming.push(Reverse((time, job)));
                }
            }
        }
    }

    fn take(&mut self, workers: usize) {
        while let Some(&Reverse((time, job))) = self.coming.peek() {
            if time as f64 > self.now {
                break;
            }
            self.coming.pop();
            self.ready.push(Reverse(job));
        }
        while self.busy.len() < workers
            && let Some(Reverse(job)) = self.ready.pop()
        {
            let one = &self.work.jobs[job];
            let wait_ends = self.now + one.wait as f64;
            self.busy.push(Busy { job, wait_ends, cpu: one.cpu as f64 });
        }
    }

    /// The share of a CPU that each computing job has.
    fn rate(&self) -> f64 {
        let computing = self.busy.iter().filter(|busy| busy.wait_ends <= self.now).count();
        (self.work.cpus / computing.max(1) as f64).min(1.0)
    }

    /// When something happens next.
    fn next(&self) -> Option<f64> {
        let rate = self.rate();
        let ends = self.busy.iter().map(|busy| {
            if busy.wait_ends > self.now { busy.wait_ends } else { self.now + busy.cpu / rate }
        });
        // What arrived already waits for a worker, not for its time.
        let coming = self.coming.peek().map(|&Reverse((time, _))| time as f64);
        ends.chain(coming).min_by(f64::total_cmp)
    }

    fn advance(&mut self, next: f64) {
        /// Rounding leaves less than this of a job, ns.
        const NOTHING: f64 = 0.5;
        let (rate, now) = (self.rate(), self.now);
        let mut finished = Vec::new();
        for busy in &mut self.busy {
            if busy.wait_ends <= now {
                busy.cpu -= (next - now) * rate;
            }
            if busy.wait_ends <= next && busy.cpu <= NOTHING {
                finished.push(busy.job);
            }
        }
        self.busy.retain(|busy| busy.wait_ends > next || busy.cpu > NOTHING);
        self.now = next;
        for job in finished {
            self.done[self.work.jobs[job].rank] = true;
        }
        while self.done.get(self.first) == Some(&true) {
            (self.first, self.first_at) = (self.first + 1, next);
        }
        self.arrive();
    }

    fn end(&self) -> Option<f64> {
        match self.work.end {
            Arrival::At(time) => Some(time as f64),
            Arrival::After(count, delay) => {
                (self.first >= count).then_some(self.first_at + delay as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests;
