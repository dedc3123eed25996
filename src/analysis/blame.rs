//! Who was to blame for a wait: what the thread that ended it was doing meanwhile.
//!
//! ```text
//!  waiter  ....lock.....|                 blame of the 12 ticks:
//!  holder  ##qq###--disk|# releases         holder running 5, runnable 2, disk 5
//! ```
//!
//! Blame *moves*: where the holder itself waited for a third thread, that stretch is that
//! thread's, and so on down the chain. So the blame of a wait sums to the wait, to the
//! nanosecond, and the blame of an object to the time waited for it. Several owners one
//! after the other share it the same way: the last one waited for the one before. A lock that is
//! waited for with a time limit, again and again, is one wait: who ended the last try is to blame for
//! all. Of Python's GIL it is known who had it when (`gil`), so those are to blame.

use crate::analysis::gil::Gil;
use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::history::Stay;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// Who or what a stretch of waiting is charged to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Culprit {
    /// A thread, in a state (its own wait for an object included, where that was nobody's fault).
    Thread(ThreadId, State, Option<ObjectIndex>),
    /// It timed out, or a device answered.
    Interrupt,
    /// A packet from outside, or the end of a disk request.
    Softirq,
    /// A task that is not part of the recording.
    Stranger,
    /// Not seen.
    Unseen,
    /// The wait had not ended when the recording did.
    Open,
}

/// What is charged for the waits for one object.
#[derive(Clone, Debug, Default)]
pub struct Charges {
    /// By culprit; sums to the time waited for the object.
    pub culprits: BTreeMap<Culprit, Nanos>,
    /// Where the culprits were: CPU samples and stacks of waits, with their weight.
    pub sites: BTreeMap<(ThreadId, StackId), Nanos>,
    /// Waits that each thread ended.
    pub ended: BTreeMap<ThreadId, u64>,
}

/// The charges for all objects that threads hand to each other.
#[derive(Debug, Default)]
pub struct Blame {
    /// By object.
    pub objects: BTreeMap<ObjectIndex, Charges>,
    /// Waiting time that was charged without looking at what its culprit did, because there
    /// was too much of it to look at.
    pub unexamined: Nanos,
}

/// Stretches looked at in all: about two seconds of work at most.
const MOST_LOOKS: u64 = 4_000_000;
/// Stretches looked at for one wait.
const MOST_LOOKS_EACH: u64 = 2_000_000;
/// Chains of waits deeper than this end in the thread reached.
const DEEPEST: usize = 64;

/// States of waits that another thread can end, those with a holder first.
const HANDED: [&[State]; 2] = [
    &[State::Lock, State::Gil, State::Join, State::Child],
    &[State::Condvar, State::Pipe, State::Network, State::Poll, State::Other],
];

/// Charges every wait that a thread can end; `gils` are those of the history.
pub fn blame(history: &History, gils: &BTreeMap<ObjectIndex, Gil>) -> Blame {
    let mut court = Court {
        history,
        sums: Sums::default(),
        looks: 0,
        each: 0,
        chain: Vec::new(),
        hints: Vec::new(),
        gils,
    };
    for states in HANDED {
        for (thread, _) in history.lives() {
            let mut tries: Vec<Stay> = Vec::new();
            for stay in history.stays(thread, Nanos::ZERO) {
                if stay.woken <= stay.off || !states.contains(&history.state(stay.object)) {
                    continue;
                }
                if tries.last().is_some_and(|last| !tries_again(last, &stay)) {
                    court.charge_all(thread, &mut tries);
                }
                tries.push(stay);
                if !times_out(history.state(stay.object), &stay) {
                    court.charge_all(thread, &mut tries);
                }
            }
            court.charge_all(thread, &mut tries);
        }
    }
    court.sums.blame()
}

/// A wait for a lock with a time limit that ran out: who takes Python's GIL waits for it in pieces
/// of 5 ms, and so does `pthread_mutex_timedlock` in a loop.
fn times_out(state: State, stay: &Stay) -> bool {
    stay.ender == Ender::Interrupt && matches!(state, State::Lock | State::Gil)
}

/// Whether a wait goes on for what the one before it was given up for.
fn tries_again(last: &Stay, next: &Stay) -> bool {
    /// What lies between: a look at the lock, a request to its holder.
    const SHORT: Nanos = Nanos::from_millis(1);
    next.object == last.object && next.off - last.on <= SHORT
}

/// What [`Blame`] says, while it grows: kept by hash, as millions of stretches ask for it.
#[derive(Default)]
struct Sums {
    culprits: FastMap<(ObjectIndex, Culprit), Nanos>,
    sites: FastMap<(ObjectIndex, ThreadId, StackId), Nanos>,
    ended: FastMap<(ObjectIndex, ThreadId), u64>,
    unexamined: Nanos,
}

impl Sums {
    fn blame(self) -> Blame {
        let mut blame = Blame { unexamined: self.unexamined, ..Blame::default() };
        for ((object, culprit), time) in BTreeMap::from_iter(self.culprits) {
            blame.objects.entry(object).or_default().culprits.insert(culprit, time);
        }
        for ((object, thread, stack), time) in BTreeMap::from_iter(self.sites) {
            blame.objects.entry(object).or_default().sites.insert((thread, stack), time);
        }
        for ((object, thread), waits) in BTreeMap::from_iter(self.ended) {
            blame.objects.entry(object).or_default().ended.insert(thread, waits);
        }
        blame
    }
}

struct Court<'h> {
    history: &'h History,
    sums: Sums,
    looks: u64,
    each: u64,
    /// The threads whose waits are being followed.
    chain: Vec<ThreadId>,
    /// Where each thread was looked at last: waits come in order, and so do these.
    hints: Vec<usize>,
    gils: &'h BTreeMap<ObjectIndex, Gil>,
}

impl Court<'_> {
    /// Charges waits of which each but the last was given up and tried again: whoever ended the
    /// last one was waited for all the time.
    fn charge_all(&mut self, waiter: ThreadId, tries: &mut Vec<Stay>) {
        let Some(&Stay { ender, open, .. }) = tries.last() else { return };
        for stay in tries.drain(..) {
            self.charge(waiter, &Stay { ender, open, ..stay });
        }
    }

    fn charge(&mut self, waiter: ThreadId, stay: &Stay) {
        let object = stay.object;
        if let Some(gil) = self.gils.get(&object).filter(|_| !stay.open) {
            if let Ender::Thread(thread) = stay.ender {
                *self.sums.ended.entry((object, thread)).or_default() += 1;
            }
            self.chain.clear();
            self.chain.push(waiter);
            self.each = 0;
            return self.follow_gil(object, waiter, (object, gil), (stay.off, stay.woken));
        }
        let culprit = match stay.ender {
            _ if stay.open => Culprit::Open,
            Ender::Thread(thread) if thread != waiter => {
                *self.sums.ended.entry((object, thread)).or_default() += 1;
                self.chain.clear();
                self.chain.push(waiter);
                self.each = 0;
                self.follow(object, thread, stay.off, stay.woken);
                return;
            }
            Ender::Thread(_) | Ender::Unseen => Culprit::Unseen,
            Ender::Interrupt => Culprit::Interrupt,
            Ender::Softirq => Culprit::Softirq,
            Ender::Stranger => Culprit::Stranger,
        };
        self.add(object, culprit, stay.woken - stay.off);
    }

    /// Charges a wait of `waiter` for a GIL to those who had it, one after the other.
    fn follow_gil(
        &mut self,
        object: ObjectIndex,
        waiter: ThreadId,
        (number, gil): (ObjectIndex, &Gil),
        (from, to): (Nanos, Nanos),
    ) {
        let mut known = from;
        for (holder, start, end) in gil.within(from, to) {
            if holder == waiter {
                // Only its next hold is known, which begins when this wait ends.
                self.add(object, Culprit::Unseen, end - start);
            } else if self.stops_at(holder) {
                let culprit = Culprit::Thread(waiter, State::Gil, Some(number));
                self.add(object, culprit, end - start);
            } else {
                self.follow(object, holder, start, end);
            }
            known = end;
        }
        self.add(object, Culprit::Unseen, to - known);
    }

    fn add(&mut self, object: ObjectIndex, culprit: Culprit, time: Nanos) {
        if !time.is_zero() {
            *self.sums.culprits.entry((object, culprit)).or_default() += time;
        }
    }

    fn site(&mut self, object: ObjectIndex, thread: ThreadId, stack: StackId, time: Nanos) {
        *self.sums.sites.entry((object, thread, stack)).or_default() += time;
    }

    /// Charges `from..to` to what `thread` was doing then.
    fn follow(&mut self, object: ObjectIndex, thread: ThreadId, from: Nanos, to: Nanos) {
        let history = self.history;
        let Some(life) = history.life(thread) else {
            return self.add(object, Culprit::Unseen, to - from);
        };
        if self.looks > MOST_LOOKS {
            self.sums.unexamined += to - from;
            return self.add(object, Culprit::Thread(thread, State::Unknown, None), to - from);
        }
        self.chain.push(thread);
        // Before it was born its maker was busy with other things; after its last instant it
        // was ending.
        let born = life.start.max(from).min(to);
        if born > from {
            match life.parent.filter(|parent| !self.stops_at(*parent)) {
                Some(parent) => self.follow(object, parent, from, born),
                None => self.add(object, Culprit::Unseen, born - from),
            }
        }
        let mut covered = born;
        let first = self.first_stay(thread, born);
        for piece in history.pieces_from(thread, first, born, to) {
            (self.looks, self.each) = (self.looks + 1, self.each + 1);
            if self.looks > MOST_LOOKS || self.each > MOST_LOOKS_EACH {
                self.sums.unexamined += to - piece.start;
                break;
            }
            covered = piece.end;
            let next = match piece.stay.map(|stay| (stay.ender, stay.open)) {
                Some((Ender::Thread(next), false)) if piece.state.is_wait() => Some(next),
                _ => None,
            };
            let gils = self.gils;
            if let Some(gil) = piece.object().and_then(|number| gils.get_key_value(&number)) {
                let gil = (*gil.0, gil.1);
                self.follow_gil(object, thread, gil, (piece.start, piece.end));
                continue;
            }
            if let Some(next) = next.filter(|next| !self.stops_at(*next)) {
                self.follow(object, next, piece.start, piece.end);
                continue;
            }
            let culprit = Culprit::Thread(thread, piece.state, piece.object());
            self.add(object, culprit, piece.duration());
            if piece.state == State::Running {
                for look in life.samples_in(piece.start, piece.end) {
                    self.site(object, thread, look.stack, Nanos(look.weight.into()));
                }
            } else if let Some(stay) = piece.stay.filter(|_| piece.state.is_wait())
                && let Some(stack) = life.wait_stack(stay.off)
            {
                self.site(object, thread, stack, piece.duration());
            }
        }
        self.add(object, Culprit::Thread(thread, State::Unknown, None), to - covered);
        self.chain.pop();
    }

    fn first_stay(&mut self, thread: ThreadId, from: Nanos) -> usize {
        let index = thread.0 as usize;
        if index >= self.hints.len() {
            self.hints.resize(index + 1, 0);
        }
        self.hints[index] = self.history.first_stay(thread, from, self.hints[index]);
        self.hints[index]
    }

    /// Whether a chain of waits ends before this thread: it is in it already, or too long.
    fn stops_at(&self, thread: ThreadId) -> bool {
        self.chain.len() >= DEEPEST || self.chain.contains(&thread)
    }
}

#[cfg(test)]
mod tests;
