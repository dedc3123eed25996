//! The path against a slow, obvious oracle, and its sums.

use super::*;
use crate::analysis::fold::Fold;
use crate::analysis::schedule::Schedule;
use crate::model::walk;
use proptest::prelude::*;

/// One tick of a schedule.
const TICK: u64 = 1_000;

/// The history of a schedule, its run and the thread at whose end that ends.
pub(crate) fn history_of(schedule: &Schedule) -> (History, Nanos, Nanos) {
    let mut fold = Fold::default();
    let timelines = walk(&schedule.trace(), &mut fold);
    let (start, end) = timelines.window();
    fold.history.window = (start, end);
    (fold.history, start, end)
}

/// The stay that covers the tick which ends at `time`, found by looking at all of them.
fn naive(history: &History, thread: ThreadId, time: u64) -> Option<Piece> {
    let mut all = history.pieces(thread, Nanos::ZERO, Nanos::MAX);
    all.find(|piece| piece.start.0 < time && time <= piece.end.0)
}

/// The path tick by tick, latest first: at each instant ask who the run waited for.
fn oracle(history: &History, mut thread: ThreadId, from: u64, to: u64) -> Vec<(ThreadId, State)> {
    let mut ticks = Vec::new();
    let mut now = to;
    while now > from {
        for _ in 0..=DEEPEST {
            match naive(history, thread, now) {
                None => match history.life(thread).and_then(|life| life.parent) {
                    Some(parent) => thread = parent,
                    None => break,
                },
                Some(piece) if piece.end.0 == now => {
                    let Some(waker) = ended_by(&piece, thread) else { break };
                    thread = waker;
                }
                Some(_) => break,
            }
        }
        let state = naive(history, thread, now).map_or(State::Unknown, |piece| piece.state);
        ticks.push((thread, state));
        now -= TICK;
    }
    ticks
}

proptest! {
    #[test]
    fn the_path_is_the_oracles_and_sums_to_the_run(schedule in Schedule::any()) {
        let (history, start, end) = history_of(&schedule);
        let thread = last_thread(&history, Some(ThreadId(0))).expect("a root");
        let path = critical_path(&history, thread, start, end);
        prop_assert_eq!(path.length(), end - start);
        let mut now = start;
        for step in &path.steps {
            prop_assert_eq!(step.start, now, "without holes");
            now = step.end;
        }
        prop_assert_eq!(now, end);
        let ticks: Vec<(ThreadId, State)> = path
            .steps
            .iter()
            .rev()
            .flat_map(|step| {
                let ticks = (step.end.0 - step.start.0) / TICK;
                std::iter::repeat_n((step.thread, step.state), ticks as usize)
            })
            .collect();
        prop_assert_eq!(ticks, oracle(&history, thread, start.0, end.0));
    }

    #[test]
    fn a_bounded_path_covers_what_was_asked(
        schedule in Schedule::any(), which in 0u32..6, a in 0u64..400, b in 0u64..400,
    ) {
        let (history, ..) = history_of(&schedule);
        let threads = history.lives().count() as u32;
        let (from, to) = (Nanos(a.min(b) * 700), Nanos(a.max(b) * 700));
        let path = bounded_path(&history, ThreadId(which % threads), from, to);
        prop_assert_eq!(path.length(), to - from);
        let mut now = from;
        for step in &path.steps {
            prop_assert_eq!(step.start, now, "without holes");
            now = step.end;
        }
    }
}
