//! The history against the timelines it was made from.

use super::*;
use crate::analysis::fold::Fold;
use crate::analysis::schedule::Schedule;
use crate::model::Both;
use crate::model::MemoryTrace;
use crate::model::Timelines;
use crate::model::Visitor;
use crate::model::walk;
use proptest::prelude::*;

/// Every segment of every thread, as the timelines give them.
#[derive(Default)]
struct Segments(Vec<Vec<(Nanos, Nanos, State)>>);

impl Visitor for Segments {
    fn segment(&mut self, segment: &Segment) {
        let index = segment.thread.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Vec::new());
        }
        let all = &mut self.0[index];
        let one = (segment.start, segment.end, segment.state);
        // Two stretches of running in a row (a loss between them was empty) are one.
        match all.last_mut() {
            Some(last) if last.2 == State::Running && one.2 == State::Running => last.1 = one.1,
            _ => all.push(one),
        }
    }
    fn event(&mut self, _: &Timelines, _: Option<ThreadId>, _: &Event) {}
}

/// Two threads whose starts were lost: the second wakes the first, and is known from its first
/// interval on.
#[test]
fn a_waker_whose_start_was_lost_is_found_by_its_intervals() {
    let (sleeper, waker) = (Tid(7), Tid(8));
    let wait =
        |tid, off, woken, on| Interval::blocked(tid, Nanos(off), Nanos(woken), Nanos(on), None);
    let woken_by = |tid, interval| Interval {
        waker: Some(Waker { tid, in_tree: true, context: Context::Task, call: None, arg0: 0 }),
        ..interval
    };
    let trace = MemoryTrace::new(vec![
        Event::Interval(woken_by(waker, wait(sleeper, 10, 20, 25))),
        Event::Interval(wait(waker, 30, 40, 50)),
        Event::Interval(woken_by(waker, wait(sleeper, 55, 60, 65))),
    ]);
    let mut fold = Fold::default();
    let timelines = walk(&trace, &mut fold);
    let found: Vec<Ender> =
        fold.history.stays(ThreadId(0), Nanos::ZERO).map(|stay| stay.ender).collect();
    assert_eq!(timelines.threads()[1].tid, waker);
    assert_eq!(found, [Ender::Unseen, Ender::Thread(ThreadId(1))]);
}

proptest! {
    /// Whatever the schedule, lives are retold exactly, whole, in parts, and from any instant.
    #[test]
    fn lives_are_retold_exactly(schedule in Schedule::any(), cuts in prop::collection::vec((0u64..400, 0u64..400), 8)) {
        let trace = schedule.trace();
        let (mut fold, mut segments) = (Fold::default(), Segments::default());
        let timelines = walk(&trace, &mut Both(&mut fold, &mut segments));
        let history = fold.history;
        for thread in timelines.threads() {
            let told: Vec<_> = history
                .pieces(thread.id, Nanos::ZERO, Nanos::MAX)
                .map(|piece| (piece.start, piece.end, piece.state))
                .collect();
            let expected = segments.0.get(thread.id.0 as usize).cloned().unwrap_or_default();
            prop_assert_eq!(told, expected);
            for &(from, to) in &cuts {
                let (from, to) = (Nanos(from.min(to) * 1000), Nanos(from.max(to) * 1000));
                let of_pieces = history.pieces(thread.id, from, to).filter(|p| p.state == State::Running);
                let first = history.first_stay(thread.id, from, 0);
                let runs: Vec<_> = history.runs_from(thread.id, first, from, to).collect();
                prop_assert_eq!(runs, of_pieces.map(|p| (p.start, p.end)).collect::<Vec<_>>());
                let cut: Nanos = history.pieces(thread.id, from, to).map(|p| p.duration()).sum();
                let end = thread.end.unwrap_or(thread.start);
                prop_assert_eq!(cut, end.min(to) - thread.start.max(from));
            }
            for piece in history.pieces(thread.id, Nanos::ZERO, Nanos::MAX) {
                let found = history.piece_before(thread.id, piece.end).expect("within its life");
                prop_assert_eq!((found.start, found.end, found.state), (piece.start, piece.end, piece.state));
                let inside = history.piece_before(thread.id, Nanos(piece.start.0 + 1));
                prop_assert_eq!(inside, Some(found));
            }
            prop_assert_eq!(history.piece_before(thread.id, thread.start), None);
        }
    }
}
