//! Waits and holds of drawn threads.

use super::*;
use crate::analysis::fold::Fold;
use crate::model::Call;
use crate::model::Context;
use crate::model::Event;
use crate::model::Interval;
use crate::model::MemoryTrace;
use crate::model::Pid;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use crate::model::Waker;
use crate::model::WordInfo;
use crate::model::learn_words;
use crate::model::walk_knowing;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const WORD: u64 = 0x5000;
const SLEEPS: Call = call(230, 0, 0);
const TRIES: Call = call(202, WORD, 0x89);

/// No call: it only waits for a CPU.
const QUEUES: Call = call(0, 0, 0);

const fn call(number: u16, arg0: u64, arg1: u64) -> Call {
    let fd = crate::model::FdKind::None;
    Call { number, arg0, arg1, arg2: 0, fd, device: 0, inode: 0 }
}

/// Thread, from, to, in which call, and who ended it: nobody is a timer.
type Off = (u32, u64, u64, Call, Option<u32>);

/// The history of three threads of one process, 1 to 3.
fn history(offs: &[Off]) -> History {
    let start = |tid, how| {
        Event::Start(Start {
            time: Nanos::ZERO,
            tid: Tid(tid),
            pid: Pid(1),
            parent_tid: Tid(if tid == 1 { 9 } else { 1 }),
            parent_pid: Pid(if tid == 1 { 9 } else { 1 }),
            how,
        })
    };
    let mut events = vec![start(1, StartKind::Root)];
    events.extend([2, 3].map(|tid| start(tid, StartKind::Thread)));
    events.push(Event::Word(WordInfo {
        time: Nanos::ZERO,
        pid: Pid(1),
        address: WORD,
        symbol: Text::from(""),
        backing: None,
        gil: Some(WORD),
    }));
    for &(tid, from, to, call, by) in offs {
        let (from, to) = (Nanos(from), Nanos(to));
        let mut interval = Interval::blocked(Tid(tid), from, to, to, Some(call));
        let context = if by.is_some() { Context::Task } else { Context::Hardirq };
        interval.waker = Some(Waker {
            tid: Tid(by.unwrap_or(0)),
            in_tree: by.is_some(),
            context,
            call: by.map(|_| call.number),
            arg0: call.arg0,
        });
        if call == QUEUES {
            (interval.woken, interval.left) = (None, crate::model::Left::Preempted);
        }
        events.push(Event::Interval(interval));
    }
    let trace = MemoryTrace::new(events);
    let mut fold = Fold::default();
    let timelines = walk_knowing(&trace, learn_words(&trace), &mut fold);
    fold.history.window = timelines.window();
    fold.history
}

/// The waits of one thread.
fn of(history: &History, thread: u32) -> Vec<GilWait> {
    waits(history).into_iter().filter(|wait| wait.thread == ThreadId(thread)).collect()
}

/// The second thread tries for 5 ms, asks, tries again and gets it; the first one waits until that
/// is so, and then for its own turn.
fn handed_over() -> History {
    history(&[
        (2, 0, 5 * MS, TRIES, None),
        (2, 5 * MS + 10 * US, 6 * MS, TRIES, Some(1)),
        (1, 6 * MS + 5 * US, 6 * MS + 50 * US, TRIES, Some(2)),
        (1, 6 * MS + 60 * US, 9 * MS, TRIES, Some(2)),
        (2, 9 * MS + 10 * US, 12 * MS, SLEEPS, None),
        (1, 13 * MS, 14 * MS, SLEEPS, None),
    ])
}

#[test]
fn all_tries_are_one_wait_and_the_last_one_tells_who_held_it() {
    let history = handed_over();
    let waits = of(&history, 1);
    let [wait] = waits.as_slice() else { panic!("{waits:?}") };
    assert_eq!((wait.asked, wait.woken, wait.by), (Nanos(0), Nanos(6 * MS), Some(ThreadId(0))));
    assert_eq!((wait.vain.len(), wait.vain[0].from, wait.vain[0].to), (1, Nanos(0), Nanos(5 * MS)));
    // That another took it is told to the first on its way to asking again.
    let waits = of(&history, 0);
    let [wait] = waits.as_slice() else { panic!("{waits:?}") };
    assert_eq!((wait.asked.0, wait.woken.0), (6 * MS + 5 * US, 9 * MS));
    assert!(wait.vain.is_empty() && wait.after.is_none());
}

#[test]
fn the_one_who_came_back_from_elsewhere_is_known() {
    let history = history(&[
        (2, 0, MS, SLEEPS, None),
        (2, MS + 5 * US, 2 * MS, TRIES, Some(1)),
        (1, 3 * MS, 4 * MS, SLEEPS, None),
    ]);
    let waits = of(&history, 1);
    assert_eq!(waits[0].after, Some(Nanos(MS)));
}

/// Thread, from, to: who had the one GIL.
fn held(history: &History) -> Vec<(u32, u64, u64)> {
    let gils = gils(history);
    let gil = gils.values().next().expect("one");
    let found = gil.holds.iter().map(|h| (h.thread.0, h.start.0, h.end.0)).collect::<Vec<_>>();
    assert!(found.windows(2).all(|two| two[0].2 <= two[1].1), "one at a time: {found:?}");
    found
}

#[test]
fn it_is_held_from_getting_it_to_the_next_wait_and_by_one_at_a_time() {
    let history = handed_over();
    let found = held(&history);
    assert_eq!(
        found[..3],
        [(0, 0, 6 * MS), (1, 6 * MS, 9 * MS), (0, 9 * MS, 13 * MS)],
        "{found:?}"
    );
}

#[test]
fn until_the_next_one_runs_it_is_the_next_ones() {
    let history = handed_over();
    let gils = gils(&history);
    let gil = gils.values().next().expect("one");
    let within = |from: u64, to: u64| -> Vec<(u32, u64, u64)> {
        gil.within(Nanos(from), Nanos(to)).map(|(who, a, b)| (who.0, a.0, b.0)).collect()
    };
    assert_eq!(within(MS, 7 * MS), [(0, MS, 6 * MS), (1, 6 * MS, 7 * MS)]);
    // The first one left it for a sleep; the second comes back from its own later.
    assert_eq!(within(12 * MS, 12 * MS + 1), [(0, 12 * MS, 12 * MS + 1)]);
    assert_eq!(within(20 * MS, 21 * MS), []);
}

/// The first one leaves the GIL for a sleep while nobody wants it; the second takes it unseen, and
/// lets go of it for a third that waits since.
#[test]
fn a_holder_that_sleeps_has_left_it_and_whoever_lets_go_had_it() {
    let history = history(&[
        (2, 0, MS, TRIES, Some(1)),
        (1, MS, 2 * MS, TRIES, Some(2)),
        (2, 2 * MS, 4 * MS, SLEEPS, None),
        (1, 3 * MS, 20 * MS, SLEEPS, None),
        (3, 5 * MS, 9 * MS, TRIES, Some(2)),
        (2, 10 * MS, 11 * MS, SLEEPS, None),
    ]);
    let found = held(&history);
    assert!(found.contains(&(0, 2 * MS, 3 * MS)), "{found:?}");
    assert!(found.contains(&(1, 4 * MS, 9 * MS)), "{found:?}");
    assert!(found.iter().any(|one| (one.0, one.1) == (2, 9 * MS)), "{found:?}");
}

/// The first one got it by waiting and was not seen to let go: it computes on in C without it, while
/// the second, back from its sleep, lets go of it for a third.
#[test]
fn whoever_lets_go_of_it_had_it_whatever_it_looked_like() {
    let history = history(&[
        (2, 0, MS, TRIES, Some(1)),
        (1, MS, 2 * MS, TRIES, Some(2)),
        (2, 2 * MS, 4 * MS, SLEEPS, None),
        (3, 5 * MS, 9 * MS, TRIES, Some(2)),
        (1, 20 * MS, 21 * MS, SLEEPS, None),
    ]);
    let found = held(&history);
    assert!(found.contains(&(0, 2 * MS, 4 * MS)), "{found:?}");
    assert!(found.contains(&(1, 4 * MS, 9 * MS)), "{found:?}");
}

#[test]
fn a_taker_that_nobody_let_go_for_found_it_free() {
    let history = history(&[
        (2, 0, 5 * MS, TRIES, None),
        (1, 4 * MS, 8 * MS, SLEEPS, None),
        (1, 8 * MS + 10 * US, 11 * MS, TRIES, Some(2)),
    ]);
    let found = held(&history);
    assert_eq!(found[..2], [(0, 0, 4 * MS), (1, 5 * MS, 11 * MS)], "{found:?}");
}

/// A thread that gets it, lets go of it for a call that does not wait, and asks again, all within
/// some microseconds.
#[test]
fn who_had_it_meanwhile_waits_twice() {
    let history = history(&[
        (2, 0, MS, TRIES, Some(1)),
        (1, MS + 5 * US, MS + 40 * US, TRIES, Some(2)),
        (2, MS + 50 * US, 6 * MS + 50 * US, TRIES, None),
        (2, 6 * MS + 60 * US, 7 * MS, TRIES, Some(1)),
    ]);
    let waits = of(&history, 1);
    assert_eq!(waits.len(), 2, "{waits:?}");
    assert_eq!((waits[0].vain.len(), waits[1].vain.len()), (0, 1));
}

/// The second thread computes; the first sleeps, and gets it by asking or by being woken.
#[test]
fn who_goes_on_after_another_had_it_has_it_again() {
    let found = held(&history(&[
        (1, 0, MS, SLEEPS, None),
        (1, MS, 6 * MS, TRIES, None),
        (1, 6 * MS + 50 * US, 7 * MS, SLEEPS, None),
        (1, 7 * MS, 12 * MS, TRIES, None),
        (2, 12 * MS + 20 * US, 12 * MS + 30 * US, TRIES, Some(1)),
        // One more that may have let go first.
        (3, 0, 6 * MS - 50 * US, SLEEPS, None),
        (3, 6 * MS + 60 * US, 20 * MS, SLEEPS, None),
        (3, 20 * MS, 21 * MS, TRIES, Some(2)),
    ]));
    let hog: Vec<_> =
        found.iter().filter(|hold| hold.0 == 1).map(|hold| (hold.1, hold.2)).collect();
    let (first, second) = ((0, 6 * MS), (6 * MS + 50 * US, 12 * MS));
    assert_eq!(hog[..2], [first, second], "{found:?}");
}

/// It was let go of for nobody that was seen: by who asks for it at once.
#[test]
fn who_asks_right_after_another_got_it_had_let_go() {
    let found = held(&history(&[
        (1, 0, MS, SLEEPS, None),
        (1, MS, 6 * MS, TRIES, None),
        (2, 6 * MS + 20 * US, 6 * MS + 40 * US, TRIES, Some(1)),
        (1, 6 * MS + 60 * US, 7 * MS, SLEEPS, None),
        (1, 7 * MS, 12 * MS, TRIES, Some(2)),
        (1, 12 * MS + 60 * US, 13 * MS, SLEEPS, None),
        (1, 13 * MS, 18 * MS, TRIES, None),
        (2, 18 * MS + 20 * US, 18 * MS + 40 * US, TRIES, Some(1)),
    ]));
    let until = |end: u64| found.iter().any(|&(thread, _, to)| thread == 1 && to == end);
    assert!(until(6 * MS) && until(12 * MS) && until(18 * MS), "{found:?}");
}

/// The same, and preempted between letting go of it and asking.
#[test]
fn who_had_it_meanwhile_and_lost_its_cpu_waits_twice_too() {
    let history = history(&[
        (2, 0, MS, TRIES, Some(1)),
        (1, MS + 5 * US, MS + 40 * US, TRIES, Some(2)),
        (2, MS + 42 * US, 2 * MS, QUEUES, None),
        (2, 2 * MS + 50 * US, 7 * MS + 50 * US, TRIES, None),
        (2, 7 * MS + 60 * US, 8 * MS, TRIES, Some(1)),
    ]);
    let waits = of(&history, 1);
    assert_eq!(waits.len(), 2, "{waits:?}");
}

/// Nobody asks, and there is no other who could have had it.
#[test]
fn the_only_one_at_work_had_let_go() {
    let found = held(&history(&[
        (1, 0, MS, SLEEPS, None),
        (1, MS, 6 * MS, TRIES, Some(2)),
        (3, 0, 40 * MS, SLEEPS, None),
        (3, 40 * MS, 41 * MS, TRIES, Some(2)),
        (1, 6 * MS + 50 * US, 7 * MS, SLEEPS, None),
        (1, 7 * MS, 12 * MS, TRIES, None),
        (1, 12 * MS + 50 * US, 13 * MS, SLEEPS, None),
        (1, 13 * MS, 18 * MS, TRIES, None),
    ]));
    let until = |end: u64| found.iter().any(|&(thread, _, to)| thread == 1 && to == end);
    assert!(until(12 * MS) && until(18 * MS), "{found:?}");
}
