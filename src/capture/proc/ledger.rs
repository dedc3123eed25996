//! Turns polls of one thread into intervals that tile its time. Pure.
//!
//! Between two polls the kernel's books say exactly how long the thread ran (`run`) and how
//! long it was ready but had no CPU (`queue`); the rest it waited. Books do not say in which
//! order, so this does: what the thread was seen in at the first poll comes first, what it was
//! seen in at the second comes last.
//!
//! ```text
//!   seen       poll 1           poll 2       one period
//!   wait A, then wait B     |A...|queue|run|wait B........|   rest is B's: a sample stands for
//!   wait A, then running    |wait A....|queue|run.........|   the time before it
//!   running, then wait B    |queue|run......|wait B.......|
//!   running, then running   |queue|run..................|     or unknown|queue|run, see `LAG`
//! ```

use crate::capture::procfs::SchedStat;
use crate::model::Call;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Marks;
use crate::model::Nanos;
use crate::model::Tid;

/// The books of a running thread are as old as the last scheduler tick (10 ms at HZ=100, 4 ms at 250):
/// time missing between two sights of a running thread is that lag up to here, a wait beyond.
const LAG: u64 = 12_000_000;

/// What a thread waits in, as one poll saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Why {
    /// How it left the CPU.
    pub left: Left,
    /// The call; `None` outside any or where it could not be read.
    pub call: Option<Call>,
    /// Whether the call could be read.
    pub reason_seen: bool,
}

/// What one poll saw a thread doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// On a CPU or ready for one.
    Running,
    /// Asleep.
    Waiting(Why),
}

/// The books we keep of one thread.
#[derive(Clone, Debug)]
pub struct Ledger {
    tid: Tid,
    /// All before is told.
    at: Nanos,
    /// When it was last looked at: later than `at` while it stays on a CPU.
    polled: Nanos,
    /// The wait it is in since then.
    wait: Option<(Nanos, Why)>,
    /// CPU and queue time that is told, ns.
    told: SchedStat,
    /// The kernel's books at the last poll.
    last: SchedStat,
    /// It was never polled before: queue time is that of a new thread.
    fresh: bool,
    cpu: u16,
}

impl Ledger {
    /// A thread that began at `start` with empty books.
    pub fn born(tid: Tid, start: Nanos) -> Self {
        let (told, last) = (SchedStat::default(), SchedStat::default());
        Self { tid, at: start, polled: start, wait: None, told, last, fresh: true, cpu: 0 }
    }

    /// A thread whose time begins at `at`, when its books stood at `books`.
    pub fn continued(tid: Tid, at: Nanos, books: SchedStat) -> Self {
        Self { tid, at, polled: at, wait: None, told: books, last: books, fresh: false, cpu: 0 }
    }

    /// Since when it is in its present wait.
    pub fn waits_since(&self) -> Option<Nanos> {
        self.wait.map(|(since, _)| since)
    }

    /// Whether it cannot have moved since the last poll.
    pub fn is_still(&self, books: SchedStat) -> bool {
        self.wait.is_some() && books == self.last && !self.fresh
    }

    /// The thread did not move: its wait goes on.
    pub fn still(&mut self, now: Nanos) {
        self.at = self.at.max(now);
        self.polled = self.at;
    }

    /// A poll at `now` found these `books`.
    pub fn poll(
        &mut self,
        now: Nanos,
        books: SchedStat,
        seen: Seen,
        cpu: u16,
        out: &mut dyn FnMut(Interval),
    ) {
        let moved = books.runs != self.last.runs || self.fresh;
        let running = self.wait.is_none();
        self.last = books;
        self.polled = self.polled.max(now);
        // Still on the same CPU visit: its books will be complete when it leaves.
        if now <= self.at || running && !moved && seen == Seen::Running {
            return;
        }
        let (run, queue, rest) = self.divide(now, books);
        let start = self.at;
        match (self.wait, seen) {
            (Some((since, why)), Seen::Waiting(new)) if run == 0 && queue == 0 => {
                if !moved || why == new {
                    let why = if why.reason_seen { why } else { new };
                    self.wait = Some((since, why));
                } else {
                    out(self.interval(since, start, start, &why, cpu));
                    self.wait = Some((start, new));
                }
            }
            (Some((since, why)), Seen::Waiting(new)) => {
                out(self.interval(since, start, start + Nanos(queue), &why, cpu));
                self.wait = Some((start + Nanos(queue + run), new));
            }
            (Some((since, why)), Seen::Running) => {
                let woken = start + Nanos(rest);
                out(self.interval(since, woken, woken + Nanos(queue), &why, cpu));
                self.wait = None;
            }
            (None, Seen::Waiting(new)) => {
                self.queued(start, queue, cpu, out);
                self.wait = Some((start + Nanos(queue + run), new));
            }
            (None, Seen::Running) if rest <= LAG => {
                self.queued(start, queue, cpu, out);
                self.told.run += rest;
            }
            (None, Seen::Running) => out(self.unseen(start, rest, queue, cpu)),
        }
        self.told.run += run;
        self.told.queue += queue;
        // Books can only be late by so much: more means that another thread took over the id
        // (exec from a thread that is not the leader), whose past is not ours to tell.
        self.told.run = self.told.run.max(books.run.saturating_sub(LAG));
        self.told.queue = self.told.queue.max(books.queue.saturating_sub(LAG));
        self.at = now;
        self.fresh = false;
        self.cpu = cpu;
    }

    /// Run, queue and remaining time between the last poll and `now`. Never more than there is:
    /// what the books have too much (they lag, and then catch up) is told later.
    fn divide(&self, now: Nanos, books: SchedStat) -> (u64, u64, u64) {
        let period = (now - self.at).0;
        let run = books.run.saturating_sub(self.told.run).min(period);
        let queue = books.queue.saturating_sub(self.told.queue).min(period - run);
        (run, queue, period - run - queue)
    }

    /// The thread is found dead at `now`. Its end lies half-way between the earliest and the
    /// latest it can be, or is the latest if it has `just` ended. With `books` (a zombie has them, complete) its last time is divided as
    /// ever; without, what it did since the last poll is unknown. Returns its end.
    pub fn end(
        &mut self,
        now: Nanos,
        books: Option<SchedStat>,
        just: bool,
        out: &mut dyn FnMut(Interval),
    ) -> Nanos {
        let parts = if just { 1 } else { 2 };
        let (start, cpu) = (self.at, self.cpu);
        let Some(books) = books else {
            let polled = self.polled.max(start);
            if let Some((since, why)) = self.wait.take() {
                out(self.interval(since, polled, polled, &why, cpu));
            }
            let rest = (now - polled).0 / parts;
            if rest > 0 {
                out(self.unseen(polled, rest, 0, cpu));
            }
            self.at = polled + Nanos(rest);
            return self.at;
        };
        let (run, queue, rest) = self.divide(now, books);
        let rest = rest / parts;
        let woken = start + Nanos(rest);
        match self.wait.take() {
            Some((since, why)) => {
                out(self.interval(since, woken, woken + Nanos(queue), &why, cpu));
            }
            None if rest == 0 => self.queued(start, queue, cpu, out),
            None => out(self.unseen(start, rest, queue, cpu)),
        }
        self.at = start + Nanos(run + queue + rest);
        self.at
    }

    /// The recording ends at `now` while the thread lives.
    pub fn close(&mut self, now: Nanos, out: &mut dyn FnMut(Interval)) {
        if let Some((since, why)) = self.wait.take()
            && since < now
        {
            let mut open = self.interval(since, now, now, &why, self.cpu);
            open.woken = None;
            open.marks.open = true;
            out(open);
        }
        self.at = now;
    }

    /// Time in the queue right after `at`, of a thread that was ready all the time.
    fn queued(&self, at: Nanos, queue: u64, cpu: u16, out: &mut dyn FnMut(Interval)) {
        if queue == 0 {
            return;
        }
        let left = if self.fresh { Left::New } else { Left::Preempted };
        let why = Why { left, call: None, reason_seen: false };
        let mut interval = self.interval(at, at, at + Nanos(queue), &why, cpu);
        interval.woken = None;
        out(interval);
    }

    /// A wait between two sights of a running thread: nobody saw what it was.
    fn unseen(&self, at: Nanos, wait: u64, queue: u64, cpu: u16) -> Interval {
        let why = Why { left: Left::Unknown, call: None, reason_seen: false };
        let woken = at + Nanos(wait);
        self.interval(at, woken, woken + Nanos(queue), &why, cpu)
    }

    fn interval(&self, off: Nanos, woken: Nanos, on: Nanos, why: &Why, cpu: u16) -> Interval {
        Interval {
            tid: self.tid,
            off,
            woken: Some(woken),
            on,
            left: why.left,
            call: why.call,
            waker: None,
            taker: None,
            cpu_off: self.cpu,
            cpu_on: cpu,
            sequence: None,
            marks: Marks { reason_seen: why.reason_seen, sampled: true, ..Marks::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn why(number: u16) -> Why {
        Why {
            left: Left::Blocked { uninterruptible: false },
            call: Some(Call { number, ..Call::default() }),
            reason_seen: true,
        }
    }

    /// Polls every 10 ms: run, queue (ms, of that period), runs, and the call it waits in.
    fn drawn(polls: &[(u64, u64, u64, Option<u16>)]) -> Vec<String> {
        let mut ledger = Ledger::continued(Tid(1), Nanos(0), SchedStat::default());
        let mut books = SchedStat::default();
        let mut told = Vec::new();
        let mut take = |i: Interval| {
            let call = i.call.map_or_else(|| format!("{:?}", i.left), |c| c.number.to_string());
            let woken = i.woken.map_or_else(|| "-".to_owned(), |w| (w.0 / MS).to_string());
            told.push(format!("{call} {}..{woken}..{}", i.off.0 / MS, i.on.0 / MS));
        };
        let mut now = Nanos(0);
        for &(run, queue, runs, call) in polls {
            now += Nanos(10 * MS);
            books.run += run * MS;
            books.queue += queue * MS;
            books.runs += runs;
            let seen = call.map_or(Seen::Running, |number| Seen::Waiting(why(number)));
            ledger.poll(now, books, seen, 0, &mut take);
        }
        ledger.close(now, &mut take);
        told
    }

    #[test]
    fn polls_of_one_wait_merge() {
        assert_eq!(
            drawn(&[(1, 0, 1, Some(7)), (0, 0, 0, Some(7)), (0, 0, 0, Some(7))]),
            ["7 1..-..30"]
        );
    }

    #[test]
    fn waits_in_different_calls_never_merge_and_an_unread_reason_stays_unread() {
        assert_eq!(
            drawn(&[(1, 0, 1, Some(7)), (0, 0, 1, Some(8))]),
            ["7 1..10..10", "8 10..-..20"]
        );
        let mut ledger = Ledger::continued(Tid(1), Nanos(0), SchedStat::default());
        let mut told = Vec::new();
        let unread = Why { call: None, reason_seen: false, ..why(7) };
        let mut books = SchedStat { runs: 1, ..SchedStat::default() };
        ledger.poll(Nanos(10), books, Seen::Waiting(unread), 0, &mut |i| told.push(i));
        books.runs += 1;
        ledger.poll(Nanos(20), books, Seen::Waiting(why(7)), 0, &mut |i| told.push(i));
        ledger.close(Nanos(30), &mut |i| told.push(i));
        let reasons: Vec<_> =
            told.iter().map(|i| (i.marks.reason_seen, i.call.is_some())).collect();
        assert_eq!(reasons, [(false, false), (true, true)], "{told:?}");
    }

    #[test]
    fn the_rest_of_a_period_is_of_the_wait_seen_at_its_end() {
        assert_eq!(
            drawn(&[(2, 0, 1, Some(7)), (3, 1, 1, Some(8))]),
            ["7 2..10..11", "8 14..-..20"]
        );
    }

    #[test]
    fn a_wait_goes_on_until_the_thread_runs() {
        assert_eq!(drawn(&[(2, 0, 1, Some(7)), (4, 1, 1, None)]), ["7 2..15..16"]);
    }

    #[test]
    fn a_thread_that_only_runs_has_no_intervals_however_its_books_lag() {
        assert_eq!(drawn(&[(6, 0, 1, None), (14, 0, 1, None), (8, 0, 1, None)]), [] as [&str; 0]);
        assert_eq!(drawn(&[(6, 4, 1, None)]), ["Preempted 0..-..4"]);
    }

    #[test]
    fn a_wait_nobody_saw_is_unknown() {
        let told = drawn(&[(10, 0, 1, None), (10, 0, 0, None), (0, 0, 0, None), (1, 0, 2, None)]);
        assert_eq!(told, ["Unknown 10..29..29"]);
    }

    #[test]
    fn the_end_of_a_thread_is_between_the_polls() {
        let mut ledger = Ledger::born(Tid(1), Nanos(0));
        let mut told = Vec::new();
        let books = SchedStat { run: 2 * MS, queue: 2 * MS, runs: 1 };
        let end = ledger.end(Nanos(10 * MS), Some(books), false, &mut |i| told.push(i));
        assert_eq!(end, Nanos(7 * MS));
        assert_eq!(
            (told[0].off, told[0].on, told[0].left),
            (Nanos(0), Nanos(5 * MS), Left::Unknown)
        );
    }

    proptest! {
        /// P1: whatever the polls say, intervals are in order and do not overlap, and the run
        /// time that is left between them is what the books say, as far as it fits.
        #[test]
        fn intervals_never_overlap(
            polls in proptest::collection::vec(
                (0..30_u64, 0..20_u64, 0..20_u64, 0..3_u64, 0..4_u16), 0..40
            ),
            alive in any::<bool>(),
        ) {
            let mut ledger = Ledger::born(Tid(1), Nanos(5));
            let (mut now, mut books) = (Nanos(5), SchedStat::default());
            let mut told = Vec::new();
            for (step, run, queue, runs, call) in polls {
                now += Nanos(step * MS);
                books.run += run * MS;
                books.queue += queue * MS;
                books.runs += runs;
                let seen = if call == 0 { Seen::Running } else { Seen::Waiting(why(call)) };
                ledger.poll(now, books, seen, 0, &mut |i| told.push(i));
            }
            let end = if alive {
                ledger.close(now, &mut |i| told.push(i));
                now
            } else {
                ledger.end(now + Nanos(MS), Some(books), false, &mut |i| told.push(i))
            };
            let mut at = Nanos(5);
            let mut off_cpu = 0;
            for i in &told {
                prop_assert!(at <= i.off && i.off <= i.on, "{told:?}");
                prop_assert!(i.woken.is_none_or(|w| i.off <= w && w <= i.on), "{told:?}");
                off_cpu += (i.on - i.off).0;
                at = i.on;
            }
            prop_assert!(at <= end, "{told:?} ends {end:?}");
            prop_assert!(off_cpu <= (end - Nanos(5)).0);
        }
    }
}
