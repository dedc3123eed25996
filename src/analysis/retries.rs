//! Waits that are a part of the wait before: a waiter that was woken, found the lock taken
//! again and went back to sleep had one wait, not two.
//!
//! From the outside that looks like a waiter that got the lock, freed it, and came back for
//! more. It is told apart where there is proof, in no other place. The word of a mutex says 2
//! while anyone sleeps on it, so whoever frees it wakes a sleeper. If, between the two waits,
//!
//! ```text
//!   thread A  ...waits]     runs     [waits...      woken by another one's unlock
//!   thread C  [...........waits.................    asleep on the same word all the while
//! ```
//!
//! A woke nobody on this word though C slept there, then A freed nothing in between; and as it
//! waits for the lock again, it did not hold it. It goes back to sleep at once, after spinning for a
//! moment at most: a run that is longer is no retry, whatever its lock does. Where nobody else slept there, A may have had it,
//! and the waits are counted as they came.

use crate::model::Context;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::ProcessId;
use crate::model::Segment;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Tid;
use std::collections::VecDeque;

/// Locks that are watched; the waits on others are counted as they come.
const MOST_LOCKS: usize = 4096;
/// Gaps and waits remembered of each: what is forgotten proves nothing.
const MOST_KEPT: usize = 64;

/// Longest run of a thread that only looks at the word, spins, and sleeps again.
const MOMENT: Nanos = Nanos(100_000);

/// The number of the futex call, and its operations.
const FUTEX: u16 = 202;
const WAIT: u64 = 0;
const WAIT_BITSET: u64 = 9;
const PRIVATE: u64 = 128;
/// What the word of a mutex says while someone sleeps.
const CONTENDED: u32 = 2;

type Word = (ProcessId, u64);

/// A thread's run between two of its waits on a lock.
#[derive(Clone, Copy, Debug)]
struct Gap {
    tid: Tid,
    thread: ThreadId,
    from: Nanos,
    to: Nanos,
    /// The latest `to` of it and of all before it.
    reach: Nanos,
    /// The wait before it, and for how long.
    before: (Nanos, Nanos),
    /// For how long was waited after it.
    after: Nanos,
    /// Another thread slept through it.
    proved: bool,
    /// Someone was woken in it, by this thread or by one that was not seen.
    refuted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    thread: ThreadId,
    off: Nanos,
    woken: Nanos,
    /// The latest `woken` of it and of all before it.
    reach: Nanos,
    waker: Option<Tid>,
}

/// A thread that was woken by an unlock and is back on a CPU.
#[derive(Clone, Copy, Debug)]
struct Back {
    since: Nanos,
    /// When its wait began, and how long it was.
    wait: (Nanos, Nanos),
}

#[derive(Debug, Default)]
struct Lock {
    gaps: VecDeque<Gap>,
    waits: VecDeque<Wait>,
    back: FastMap<ThreadId, Back>,
    /// Of each thread: when the last wait of those that are one began, and the time of all.
    joined: FastMap<ThreadId, (Nanos, Nanos)>,
    found: Retried,
}

/// What is known of the waits on one lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Waits that were parts of the one before.
    pub waits: u64,
    /// The longest wait of those that have such parts, with all of them.
    pub longest: Nanos,
}

impl Lock {
    /// Nothing more will be learnt about the oldest gap.
    fn settle(&mut self) {
        let Some(gap) = self.gaps.pop_front().filter(Gap::is_retry) else { return };
        let (began, waited) = gap.before;
        let before = match self.joined.get(&gap.thread) {
            Some(&(last, all)) if last == began => all,
            _ => waited,
        };
        let all = before + gap.after;
        self.joined.insert(gap.thread, (gap.to, all));
        self.found.waits += 1;
        self.found.longest = self.found.longest.max(all);
    }
}

/// Finds waits that are parts of others.
#[derive(Debug, Default)]
pub struct Retries {
    locks: FastMap<Word, Lock>,
}

impl Retries {
    /// Takes the next wait of a thread. Those of one thread come in order.
    pub fn wait(&mut self, segment: &Segment) {
        let Some((word, wait, on)) = on_mutex(segment) else { return };
        if self.locks.len() >= MOST_LOCKS && !self.locks.contains_key(&word) {
            return;
        }
        let lock = self.locks.entry(word).or_default();
        // A wait says nothing of gaps that were over before it began.
        let begin = wait.off.min(wait.woken);
        for gap in lock.gaps.iter_mut().rev().take_while(|gap| gap.reach >= begin) {
            gap.learn(&wait);
        }
        let tid = segment.interval.map_or(Tid(0), |interval| interval.tid);
        let back = lock.back.remove(&wait.thread);
        // To look at the word takes some time: a run of none at all is no evidence of anything.
        let looked = |back: &Back| wait.off > back.since && wait.off - back.since <= MOMENT;
        if let Some(Back { since: from, wait: before }) = back.filter(looked) {
            let (thread, to, after) = (wait.thread, wait.off, wait.length());
            let reach = lock.gaps.back().map_or(to, |last| last.reach.max(to));
            let (proved, refuted) = (false, false);
            let mut gap = Gap { tid, thread, from, to, reach, before, after, proved, refuted };
            let since = lock.waits.iter().rev().take_while(|wait| wait.reach >= from);
            since.for_each(|wait| gap.learn(wait));
            lock.gaps.push_back(gap);
        }
        if woken_by_unlock(segment, word.1) {
            lock.back.insert(wait.thread, Back { since: on, wait: (wait.off, wait.length()) });
        }
        let reach = lock.waits.back().map_or(wait.woken, |last| last.reach.max(wait.woken));
        lock.waits.push_back(Wait { reach, ..wait });
        if lock.waits.len() > MOST_KEPT {
            lock.waits.pop_front();
        }
        if lock.gaps.len() > MOST_KEPT {
            lock.settle();
        }
    }

    /// For each lock, which of the waits on it were parts of the one before. None where
    /// intervals were lost: one that is missing may have told otherwise.
    pub fn finish(self, lost: bool) -> impl Iterator<Item = (Word, Retried)> {
        let found = self.locks.into_iter().filter(move |_| !lost).map(|(word, mut lock)| {
            while !lock.gaps.is_empty() {
                lock.settle();
            }
            (word, lock.found)
        });
        found.filter(|(_, found)| found.waits > 0)
    }
}

impl Wait {
    fn length(&self) -> Nanos {
        self.woken - self.off
    }
}

impl Gap {
    fn learn(&mut self, wait: &Wait) {
        if wait.thread == self.thread {
            return;
        }
        self.proved |= wait.off <= self.from && wait.woken >= self.to;
        let within = wait.woken >= self.from && wait.woken <= self.to;
        self.refuted |= within && wait.waker.is_none_or(|waker| waker == self.tid);
    }

    fn is_retry(&self) -> bool {
        self.proved && !self.refuted
    }
}

/// A wait on the word of a mutex that only this process uses, and when its thread was back.
fn on_mutex(segment: &Segment) -> Option<(Word, Wait, Nanos)> {
    let (interval, call) = (segment.interval?, segment.call?);
    let operation = call.arg1 & 127;
    let mutex = segment.state == State::Lock
        && call.number == FUTEX
        && matches!(operation, WAIT | WAIT_BITSET)
        && call.arg1 & PRIVATE != 0
        && call.arg2 == CONTENDED;
    mutex.then_some(())?;
    // One that never ended in the recording slept to its end, and was woken by nobody.
    let open = interval.marks.open && interval.woken.is_none();
    let waker = interval.waker.filter(|_| !open).map(|waker| waker.tid);
    let woken = interval.woken.unwrap_or(interval.on);
    let wait = Wait { thread: segment.thread, off: interval.off, woken, reach: woken, waker };
    Some(((segment.process, call.arg0), wait, interval.on))
}

/// Whether a wait ended because another thread of the tree freed the lock: not by a signal, nor
/// by its time being up.
fn woken_by_unlock(segment: &Segment, address: u64) -> bool {
    segment.interval.and_then(|interval| interval.waker).is_some_and(|waker| {
        waker.in_tree
            && waker.context == Context::Task
            && waker.call == Some(FUTEX)
            && waker.arg0 == address
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Call;
    use crate::model::FdKind;
    use crate::model::Interval;
    use crate::model::Waker;

    const LOCK: u64 = 0x1000;
    const OWNER: Tid = Tid(9);

    /// Waits for the lock in ticks of 10 us, each ended by its owner, in the order of their ends;
    /// each waiter is back on a CPU a tick later.
    fn found(waits: &[(u32, u64, u64)]) -> Vec<(Word, Retried)> {
        let mut retries = Retries::default();
        for &(thread, off, woken) in waits {
            let at = |tick| Nanos(tick * 10_000);
            let arg1 = WAIT | PRIVATE;
            let (fd, device, inode) = (FdKind::None, 0, 0);
            let call = Call { number: FUTEX, arg0: LOCK, arg1, arg2: CONTENDED, fd, device, inode };
            let waker = Waker {
                tid: OWNER,
                in_tree: true,
                context: Context::Task,
                call: Some(FUTEX),
                arg0: LOCK,
            };
            let stay = Interval::blocked(Tid(thread), at(off), at(woken), at(woken + 1), None);
            let interval = Interval { call: Some(call), waker: Some(waker), ..stay };
            retries.wait(&Segment {
                thread: ThreadId(thread),
                process: ProcessId(0),
                start: at(off),
                end: at(woken),
                state: State::Lock,
                cpu: None,
                interval: Some(&interval),
                call: interval.call,
                site: None,
            });
        }
        retries.finish(false).collect()
    }

    #[test]
    fn waits_in_which_nobody_was_woken_between_are_one_and_as_long_as_all() {
        // 1 is woken three times and finds the lock taken again; 2 sleeps all the while.
        let waits = [(1, 0, 10), (1, 12, 20), (1, 22, 30), (2, 0, 40)];
        let retried = Retried { waits: 2, longest: Nanos(260_000) };
        assert_eq!(found(&waits), [((ProcessId(0), LOCK), retried)]);
    }

    #[test]
    fn a_wait_after_something_else_is_a_wait_of_its_own() {
        // 20 ticks outside between the second and the third: two chains, the first is longer.
        let waits = [(1, 0, 10), (1, 12, 20), (1, 40, 44), (1, 46, 50), (2, 0, 60)];
        let retried = Retried { waits: 2, longest: Nanos(180_000) };
        assert_eq!(found(&waits), [((ProcessId(0), LOCK), retried)]);
        // Nobody else sleeps there: 1 may have had the lock in between.
        assert_eq!(found(&waits[..4]), []);
    }
}
