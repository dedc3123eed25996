//! Who had Python's GIL when, from the waits for it alone.
//!
//! ```text
//!  A  hold.......|wait wait wait|hold.....      lets go, tries again every 5 ms, gets it
//!  B  wait wait |hold.....|wait wait wait       woken by A's letting go
//!     A A A A A A B B B B B A A A A A A
//! ```
//!
//! A thread that comes out of a wait for the GIL and does not go back into one at once has it, until
//! it lets go of it for somebody (a futex wake on its condition) or waits for it again. One that lets
//! go of it without having waited took it while it was free. Between a letting go and the moment
//! when the next one runs it is the next one's. A GIL that nobody waits for is nobody's business:
//! who took it then is not seen, and is not asked.

use super::history::Ender;
use super::history::History;
use super::history::ObjectIndex;
use super::history::Stay;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;

/// A thread that is back in a wait for the GIL after a run no longer than this never had it: it
/// asked its holder to let go, or was overtaken.
const AT_ONCE: Nanos = Nanos(50_000);
/// The same after a wait that was given up.
const RETRY: Nanos = Nanos::from_millis(1);

/// A stretch in which a thread had a GIL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hold {
    /// From here,
    pub from: Nanos,
    /// to here.
    pub to: Nanos,
    /// Its holder.
    pub thread: ThreadId,
}

/// The holds of each GIL, in order, without gaps between the first and the last.
#[derive(Debug, Default)]
pub struct Gils {
    holds: FastMap<ObjectIndex, Vec<Hold>>,
}

/// What happened to a GIL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Change {
    /// The thread waits for it: it does not have it.
    Waits,
    /// The thread let go of it for another one.
    Lets,
    /// The thread came out of its wait with it.
    Takes,
}

impl Gils {
    /// From the lives of all threads.
    pub fn of(history: &History) -> Self {
        if !history.has(State::Gil) {
            return Self::default();
        }
        let mut changes: FastMap<ObjectIndex, Vec<(Nanos, Change, ThreadId)>> = FastMap::default();
        for (thread, _) in history.lives() {
            let mut last: Option<Stay> = None;
            for stay in history.stays(thread, Nanos::ZERO) {
                if history.state(stay.object) != State::Gil || stay.woken <= stay.off {
                    continue;
                }
                let list = changes.entry(stay.object).or_default();
                if let Some(before) = last.filter(|before| has_it(before, &stay)) {
                    list.push((before.on, Change::Takes, thread));
                }
                list.push((stay.off, Change::Waits, thread));
                if let Ender::Thread(by) = stay.ender
                    && by != thread
                    && stay.released
                {
                    list.push((stay.woken, Change::Lets, by));
                }
                last = Some(stay);
            }
            if let Some(stay) = last.filter(|stay| !stay.open) {
                changes.entry(stay.object).or_default().push((stay.on, Change::Takes, thread));
            }
        }
        let holds = changes.into_iter().map(|(gil, mut list)| {
            list.sort_unstable();
            (gil, holds(&list))
        });
        Self { holds: holds.collect() }
    }

    /// Whether anything is known of it.
    pub fn knows(&self, gil: ObjectIndex) -> bool {
        self.holds.contains_key(&gil)
    }

    /// Who had it between two instants, in order. What is not covered is not known.
    pub fn within(
        &self,
        gil: ObjectIndex,
        from: Nanos,
        to: Nanos,
    ) -> impl Iterator<Item = Hold> + '_ {
        let all = self.holds.get(&gil).map_or(&[][..], Vec::as_slice);
        let first = all.partition_point(|hold| hold.to <= from);
        all[first..].iter().take_while(move |hold| hold.from < to).map(move |hold| Hold {
            from: hold.from.max(from),
            to: hold.to.min(to),
            thread: hold.thread,
        })
    }
}

/// Whether a thread had the GIL between two of its waits for it.
fn has_it(before: &Stay, next: &Stay) -> bool {
    let gave_up = before.ender == Ender::Interrupt;
    next.object != before.object || next.off - before.on > if gave_up { RETRY } else { AT_ONCE }
}

/// From what happened, in order of time.
fn holds(changes: &[(Nanos, Change, ThreadId)]) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    // Who has it, and since when it was to be had.
    let mut holder: Option<ThreadId> = None;
    let mut since = changes.first().map_or(Nanos::ZERO, |change| change.0);
    let mut close = |thread: ThreadId, since: &mut Nanos, to: Nanos| {
        if to > *since {
            holds.push(Hold { from: *since, to, thread });
        }
        *since = to;
    };
    for &(time, change, thread) in changes {
        match change {
            Change::Takes => {
                // Another one that has it still let go of it while nobody slept: some time before.
                if let Some(before) = holder.filter(|before| *before != thread) {
                    close(before, &mut since, time);
                }
                holder = Some(thread);
            }
            // Whoever lets go of it had it, whatever it looked like.
            Change::Lets => {
                close(thread, &mut since, time);
                holder = None;
            }
            Change::Waits if holder == Some(thread) => {
                close(thread, &mut since, time);
                holder = None;
            }
            Change::Waits => {}
        }
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ThreadId = ThreadId(0);
    const B: ThreadId = ThreadId(1);

    fn drawn(changes: &[(u64, Change, ThreadId)]) -> Vec<(u64, u64, u32)> {
        let changes: Vec<_> =
            changes.iter().map(|&(at, what, who)| (Nanos(at), what, who)).collect();
        holds(&changes).iter().map(|hold| (hold.from.0, hold.to.0, hold.thread.0)).collect()
    }

    /// The drawing at the top of this file.
    #[test]
    fn who_comes_out_of_a_wait_has_it_until_it_lets_go() {
        use Change::{Lets, Takes, Waits};
        let found = drawn(&[
            (0, Waits, B),
            (12, Lets, A),
            (13, Takes, B),
            (14, Waits, A),
            (22, Lets, B),
            (23, Waits, B),
            (24, Takes, A),
            (40, Lets, A),
        ]);
        assert_eq!(found, [(0, 12, 0), (12, 22, 1), (22, 40, 0)]);
    }

    #[test]
    fn a_taker_that_nobody_let_go_for_found_it_free() {
        use Change::{Takes, Waits};
        let found =
            drawn(&[(0, Waits, B), (5, Takes, B), (9, Waits, B), (11, Takes, A), (20, Waits, A)]);
        assert_eq!(found, [(0, 9, 1), (9, 20, 0)]);
        // It had it still when another one took it: handed over somewhere between.
        let found = drawn(&[(0, Takes, A), (8, Takes, B), (10, Waits, B)]);
        assert_eq!(found, [(0, 8, 0), (8, 10, 1)]);
    }
}
