//! Which stretches of which threads are written: the budget, and who woke whom.
//!
//! Runs the same way over the same trace each time, so one pass can mark what another writes.

use crate::export::common::Ids;
use crate::export::common::Selection;
use crate::export::common::Survey;
use crate::model::Context;
use crate::model::Nanos;
use crate::model::Segment;
use crate::model::State;
use crate::model::ThreadId;

/// How many waits may be written: all if everything fits, else a third of the budget, since
/// each may bring along the queueing after it and its waker's stay on a CPU.
pub fn waits_share(survey: &Survey, budget: u64) -> u64 {
    let (waits, others) = (survey.waits.total(), survey.others.total());
    if waits + others <= budget { waits } else { waits.min(budget / 3) }
}

/// What that leaves for the longest of the rest, when the waits bring along `forced`.
pub fn others_share(survey: &Survey, budget: u64, waits: u64, forced: u64) -> u64 {
    let (all_waits, others) = (survey.waits.total(), survey.others.total());
    if all_waits + others <= budget { others } else { budget.saturating_sub(waits + forced) }
}

/// What becomes of one stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// Whether the budget has room for it on its own account.
    pub chosen: bool,
    /// Whether it follows a chosen wait: the queueing after it.
    pub follows: bool,
    /// For queueing: the stay on a CPU during which the waker woke it.
    pub woken_by: Option<u32>,
    /// For running: the number of this stay.
    pub run: u32,
}

/// Decides about every segment, in the order of a walk.
pub struct Chooser<'a> {
    ids: &'a Ids,
    waits: Selection,
    others: Selection,
    threads: Vec<Row>,
    next_run: u32,
}

/// What is known of a thread: its present and last stay on a CPU.
#[derive(Clone, Copy, Default)]
struct Row {
    wait_chosen: bool,
    /// Number and start of the stay that goes on, or of the last one.
    run: Option<(u32, Nanos)>,
    before: Option<(u32, Nanos)>,
    /// End of `before`.
    before_end: Nanos,
    /// The stay of `run` is over since then.
    ended: Option<Nanos>,
}

impl<'a> Chooser<'a> {
    /// With these choices.
    pub fn new(ids: &'a Ids, waits: Selection, others: Selection) -> Self {
        Self { ids, waits, others, threads: Vec::new(), next_run: 0 }
    }

    fn row(&mut self, thread: ThreadId) -> &mut Row {
        let index = thread.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize(index + 1, Row::default());
        }
        &mut self.threads[index]
    }

    /// The next segment.
    pub fn decide(&mut self, segment: &Segment) -> Decision {
        let mut decision = Decision::default();
        let thread = segment.thread;
        match segment.state {
            State::Running => {
                decision.chosen = self.others.takes(segment.duration());
                let numbered = self.row(thread).run;
                let (run, _) = numbered.unwrap_or_else(|| self.begin_run(thread, segment.start));
                decision.run = run;
                self.row(thread).ended = Some(segment.end);
            }
            State::Runnable => {
                decision.chosen = self.others.takes(segment.duration());
                decision.follows = std::mem::take(&mut self.row(thread).wait_chosen);
                decision.woken_by = self.waker(segment);
            }
            _ => {
                decision.chosen = self.waits.takes(segment.duration());
                self.row(thread).wait_chosen = decision.chosen;
            }
        }
        if segment.state != State::Running {
            // A stay on a CPU becomes known when it is over; its number is needed before.
            self.begin_run(thread, segment.end);
        }
        decision
    }

    fn begin_run(&mut self, thread: ThreadId, start: Nanos) -> (u32, Nanos) {
        let run = (self.next_run, start);
        self.next_run += 1;
        let row = self.row(thread);
        if let Some(end) = row.ended.take() {
            (row.before, row.before_end) = (row.run, end);
        }
        row.run = Some(run);
        run
    }

    /// The stay on a CPU in which the waker was when it ended the wait before `segment`.
    fn waker(&mut self, segment: &Segment) -> Option<u32> {
        let waker = segment.interval?.waker?;
        let woken = segment.start;
        if !waker.in_tree || waker.context == Context::Hardirq {
            return None;
        }
        let by = self.ids.owner(waker.tid, woken)?;
        if self.row(by).run.is_none() {
            // Its first stay on a CPU goes on since it began: nothing ended yet.
            self.begin_run(by, Nanos::ZERO);
        }
        let row = *self.row(by);
        let present =
            row.run.filter(|run| run.1 <= woken && row.ended.is_none_or(|end| woken < end));
        let last = row.before.filter(|run| run.1 <= woken && woken < row.before_end);
        present.or(last).map(|run| run.0)
    }
}
