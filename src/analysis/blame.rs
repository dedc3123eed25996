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
use std::iter::Peekable;

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

/// Stretches looked at in all, for waits of each class of [`HANDED`]: about a second of work at most.
const MOST_LOOKS: [u64; 2] = [3_000_000, 1_000_000];
/// Stretches looked at for one wait.
const MOST_LOOKS_EACH: u64 = 2_000_000;
/// Chains of waits deeper than this end in the thread reached.
const DEEPEST: usize = 64;

/// States of waits that another thread can end, those with a holder first.
const HANDED: [&[State]; 2] = [
    &[State::Lock, State::Gil, State::Join, State::Child],
    &[State::Condvar, State::Pipe, State::Network, State::Poll, State::Other],
];

/// Which of [`HANDED`] a state is in.
fn class(state: State) -> Option<usize> {
    HANDED.iter().position(|states| states.contains(&state))
}

/// Charges every wait that a thread can end; `gils` are those of the history.
pub fn blame(history: &History, gils: &BTreeMap<ObjectIndex, Gil>) -> Blame {
    let mut court = Court {
        history,
        sums: Sums::default(),
        left: MOST_LOOKS,
        class: 0,
        each: 0,
        chain: Vec::new(),
        hints: Vec::new(),
        gils,
    };
    court.hear();
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

/// A thread, its stays that are still to be looked at, and waits that may go on in the next one.
type Waiter<I> = (ThreadId, Peekable<I>, Vec<Stay>);

/// How long a part of the run is in which all threads together have some ten thousand stays, and
/// some each.
fn stretch(history: &History) -> Nanos {
    const STAYS: usize = 16_384;
    const STAYS_EACH: usize = 16;
    let threads = history.lives().count();
    let from = history.lives().map(|(_, life)| life.start).min().unwrap_or_default();
    let to = history.lives().map(|(_, life)| life.end).max().unwrap_or_default();
    let parts = history.size() / STAYS.max(STAYS_EACH * threads) + 1;
    Nanos((to - from).0 / parts as u64 + 1)
}

struct Court<'h> {
    history: &'h History,
    sums: Sums,
    /// What may still be looked at, for each class of waits,
    left: [u64; 2],
    /// and that of the one at hand.
    class: usize,
    each: u64,
    /// The threads whose waits are being followed.
    chain: Vec<ThreadId>,
    /// Where each thread was looked at last: waits come in order, and so do these.
    hints: Vec<usize>,
    gils: &'h BTreeMap<ObjectIndex, Gil>,
}

impl Court<'_> {
    /// Charges all waits, those of all threads in one stretch of the run after the other: what they
    /// look at of each other lies in the caches then.
    fn hear(&mut self) {
        let history = self.history;
        let mut waiters: Vec<Waiter<_>> = history
            .lives()
            .map(|(thread, _)| (thread, history.stays(thread, Nanos::ZERO).peekable(), Vec::new()))
            .collect();
        let stretch = stretch(history);
        loop {
            let next = |(_, stays, _): &mut Waiter<_>| stays.peek().map(|stay: &Stay| stay.off);
            let Some(from) = waiters.iter_mut().filter_map(next).min() else { break };
            let until = Nanos(from.0.saturating_add(stretch.0));
            waiters.retain_mut(|(thread, stays, tries)| {
                while let Some(stay) = stays.next_if(|stay| stay.off <= until) {
                    self.take(*thread, stay, tries);
                }
                let ended = stays.peek().is_none();
                if ended {
                    self.charge_all(*thread, tries);
                }
                !ended
            });
        }
    }

    /// Charges a wait, with the tries before it that it goes on for, unless it was given up too.
    fn take(&mut self, thread: ThreadId, stay: Stay, tries: &mut Vec<Stay>) {
        if stay.woken <= stay.off || class(self.history.state(stay.object)).is_none() {
            return;
        }
        if tries.last().is_some_and(|last| !tries_again(last, &stay)) {
            self.charge_all(thread, tries);
        }
        tries.push(stay);
        if !times_out(self.history.state(stay.object), &stay) {
            self.charge_all(thread, tries);
        }
    }

    /// Charges waits of which each but the last was given up and tried again: whoever ended the
    /// last one was waited for all the time.
    fn charge_all(&mut self, waiter: ThreadId, tries: &mut Vec<Stay>) {
        let Some(&Stay { object, ender, open, .. }) = tries.last() else { return };
        let Some(class) = class(self.history.state(object)) else { return };
        self.class = class;
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
        if self.left[self.class] == 0 {
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
            let left = &mut self.left[self.class];
            if *left == 0 || self.each >= MOST_LOOKS_EACH {
                self.sums.unexamined += to - piece.start;
                break;
            }
            (*left, self.each) = (*left - 1, self.each + 1);
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
