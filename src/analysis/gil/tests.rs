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

const fn call(number: u16, arg0: u64, arg1: u64) -> Call {
    let fd = crate::model::FdKind::None;
    Call { number, arg0, arg1, arg2: 0, fd, device: 0, inode: 0 }
}

/// Thread, from, to, in which call, and who ended it: nobody is a timer.
type Off = (u32, u64, u64, Call, Option<u32>);

/// The history of two threads of one process, 1 and 2.
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
    let mut events = vec![start(1, StartKind::Root), start(2, StartKind::Thread)];
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
    assert_eq!(wait.timeouts, [(Nanos(0), Nanos(5 * MS))]);
    // That another took it is told to the first on its way to asking again.
    let waits = of(&history, 0);
    let [wait] = waits.as_slice() else { panic!("{waits:?}") };
    assert_eq!((wait.asked.0, wait.woken.0), (6 * MS + 5 * US, 9 * MS));
    assert!(wait.timeouts.is_empty() && wait.after.is_none());
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

#[test]
fn it_is_held_from_getting_it_to_the_next_wait_and_by_one_at_a_time() {
    let history = handed_over();
    let waits = waits(&history);
    let found: Vec<(u32, u64, u64)> =
        holds(&history, &waits).iter().map(|h| (h.thread.0, h.start.0, h.end.0)).collect();
    assert_eq!(
        found[..3],
        [(0, 0, 6 * MS), (1, 6 * MS, 9 * MS), (0, 9 * MS, 13 * MS)],
        "{found:?}"
    );
    let apart = found.windows(2).all(|two| two[0].2 <= two[1].1);
    assert!(apart, "{found:?}");
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
    assert_eq!((waits[0].timeouts.len(), waits[1].timeouts.len()), (0, 1));
}
