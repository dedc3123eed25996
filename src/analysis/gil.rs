//! Waits for Python's GIL, put together from the tries that they consist of, and who held it.
//!
//! A thread that wants the GIL waits for its condition, 5 ms at a time. After a try in which the
//! GIL did not change hands it asks the holder to let go, and tries again. A holder that was asked lets go
//! at its next check, and waits until another has taken it before it asks for it again:
//!
//! ```text
//!  waiter  | try --- timed out | asks, try --- woken | runs
//!  holder    runs                  runs -----'| waits for it to be taken | try ...
//!                              '- the answer -'
//! ```
//!
//! All of a waiter's tries are one wait. Whoever ended the last one held the GIL till then.
//!
//! Who had it when is concluded from the waits of all threads, those for other things included. A
//! thread that comes out of a wait for the GIL has it until it lets go of it for somebody or waits
//! for anything; one that lets go of it without having waited took it while it was free:
//!
//! ```text
//!  A  ########|wait wait wait|######      lets go, tries again every 5 ms, gets it
//!  B  wait wait |####|disk |wait wait     woken by A's letting go, leaves it for the disk
//!     AAAAAAAAABBBBBB       AAAAAAAA      who had it
//! ```
//!
//! Between a letting go and the moment when the next one runs it is the next one's. A GIL that
//! nobody waits for is nobody's business: who has it then is a guess, by who runs.

use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::history::Stay;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// Between two tries, or being told that another took it and the first try, a thread runs for no
/// longer than this.
const RETRY: Nanos = Nanos(100_000);

/// One wait of a thread for the GIL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GilWait {
    /// Whose.
    pub thread: ThreadId,
    /// For which: there is one for each interpreter.
    pub object: ObjectIndex,
    /// It began to wait.
    pub asked: Nanos,
    /// It was let go of,
    pub woken: Nanos,
    /// and it ran again.
    pub had: Nanos,
    /// Numbers of the first stay and of the one after the last, in the thread's life.
    pub stays: (usize, usize),
    /// The tries that nobody ended.
    pub vain: Vec<Try>,
    /// Who let go of it.
    pub by: Option<ThreadId>,
    /// It did not end within the recording.
    pub open: bool,
    /// The wait for something else that the thread came from just before.
    pub after: Option<Nanos>,
}

/// A try to get it that nobody ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Try {
    /// From here,
    pub from: Nanos,
    /// to here.
    pub to: Nanos,
    /// Here the thread ran again, and asked the holder to let go, if it had not got it.
    pub on: Nanos,
}

impl GilWait {
    /// How long it took until it was let go of.
    pub fn time(&self) -> Nanos {
        self.woken - self.asked
    }

    /// Its last try was in vain, and then it had it all the same: its holder, who was asked to let go,
    /// did so before the next try, and so woke nobody.
    pub fn got_by_asking(&self) -> bool {
        !self.open && self.vain.last().is_some_and(|one| one.to == self.woken)
    }
}

fn is_wait(stay: &Stay) -> bool {
    stay.woken > stay.off
}

/// The GIL of one interpreter.
#[derive(Clone, Debug, Default)]
pub struct Gil {
    /// The waits of all threads for it, thread by thread, each in order.
    pub waits: Vec<GilWait>,
    /// Who had it, in order; no two at once.
    pub holds: Vec<GilHold>,
}

/// The GILs of all interpreters.
pub fn gils(history: &History) -> BTreeMap<ObjectIndex, Gil> {
    let mut gils: BTreeMap<ObjectIndex, Gil> = BTreeMap::new();
    for wait in waits(history) {
        gils.entry(wait.object).or_default().waits.push(wait);
    }
    for gil in gils.values_mut() {
        gil.holds = holds(history, &gil.waits);
    }
    gils
}

impl Gil {
    /// Who had it between two instants of which somebody waited for it: stretches in order, without
    /// gaps. What they do not cover is not known.
    pub fn within(
        &self,
        from: Nanos,
        to: Nanos,
    ) -> impl Iterator<Item = (ThreadId, Nanos, Nanos)> + '_ {
        let first = self.holds.partition_point(|hold| hold.end <= from);
        let mut now = from;
        self.holds[first..].iter().map_while(move |hold| {
            let start = now;
            now = hold.end.min(to);
            (start < now).then_some((hold.thread, start, now))
        })
    }
}

/// The waits of all threads for a GIL, thread by thread, each in order.
fn waits(history: &History) -> Vec<GilWait> {
    if !history.has(State::Gil) {
        return Vec::new();
    }
    let mut let_go: BTreeMap<ThreadId, Vec<Nanos>> = BTreeMap::new();
    for (id, _) in history.lives() {
        for stay in history.stays(id, Nanos::ZERO) {
            if let Ender::Thread(by) = stay.ender
                && history.state(stay.object) == State::Gil
                && is_wait(&stay)
            {
                let_go.entry(by).or_default().push(stay.woken);
            }
        }
    }
    for times in let_go.values_mut() {
        times.sort_unstable();
    }
    let none = Vec::new();
    let of = |(id, _)| waits_of(history, id, let_go.get(&id).unwrap_or(&none));
    history.lives().flat_map(of).collect()
}

/// The waits of a thread that let go of the GIL, or told that it took it, at those times.
fn waits_of(history: &History, thread: ThreadId, let_go: &[Nanos]) -> Vec<GilWait> {
    let mut all: Vec<GilWait> = Vec::new();
    // The ends of the last try and of the last stay, if nothing but queues for a CPU was between.
    let mut going: Option<(Nanos, Nanos)> = None;
    let mut back = None;
    for (index, stay) in history.stays(thread, Nanos::ZERO).enumerate() {
        if !is_wait(&stay) {
            // Preempted on its way to the next try.
            going =
                going.filter(|(_, on)| stay.off <= *on + RETRY).map(|(tried, _)| (tried, stay.on));
            back = back.filter(|&on| stay.off <= on + RETRY).map(|_| stay.on);
            continue;
        }
        if history.state(stay.object) != State::Gil {
            (going, back) = (None, Some(stay.on));
            continue;
        }
        // Who had it meanwhile waits anew.
        let had = |since: Nanos| {
            let_go.get(let_go.partition_point(|&at| at < since)).is_some_and(|&at| at <= stay.off)
        };
        let again = going.is_some_and(|(tried, on)| stay.off <= on + RETRY && !had(tried));
        match all.last_mut() {
            Some(last) if again && last.object == stay.object => last.retried(&stay, index),
            _ => {
                let mut wait = GilWait {
                    thread,
                    object: stay.object,
                    asked: stay.off,
                    woken: stay.woken,
                    had: stay.on,
                    stays: (index, index),
                    vain: Vec::new(),
                    by: None,
                    open: false,
                    after: back.filter(|&on| stay.off <= on + RETRY),
                };
                wait.retried(&stay, index);
                all.push(wait);
            }
        }
        (going, back) = (Some((stay.on, stay.on)), None);
    }
    all
}

impl GilWait {
    fn retried(&mut self, stay: &Stay, index: usize) {
        (self.woken, self.had) = (stay.woken, stay.on);
        self.stays.1 = index + 1;
        self.open = stay.open;
        self.by = match stay.ender {
            Ender::Thread(by) if by != self.thread => Some(by),
            _ => None,
        };
        if stay.ender == Ender::Interrupt {
            self.vain.push(Try { from: stay.off, to: stay.woken, on: stay.on });
        }
    }
}

/// A stretch in which a thread had a GIL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GilHold {
    /// By whom.
    pub thread: ThreadId,
    /// When the wait that got it began, if there was one.
    pub asked: Option<Nanos>,
    /// From here,
    pub start: Nanos,
    /// to here.
    pub end: Nanos,
    /// It was seen to let go of it then, for another thread.
    pub let_go: bool,
}

/// A thread that runs for longer than this before it waits for the GIL, had it.
const AT_WORK: Nanos = Nanos(500_000);

/// Who held a GIL when: `waits` are those of all threads, for it alone.
///
/// A thread holds it while it runs or is ready to, from the wait that got it, or from the end of
/// a wait for something else, to its next wait for anything; or until it was seen to let go. What nobody
/// waited for was not seen: where two would hold it at once, the one that was seen to get it or to let
/// go of it does.
fn holds(history: &History, waits: &[GilWait]) -> Vec<GilHold> {
    let mut all = Vec::new();
    for (user, mut seen) in seen(history, waits) {
        seen.sort_unstable_by_key(|one| one.order());
        of_thread(history, user, &seen, &mut all);
    }
    apart(all)
}

/// With more users than this, who of them was at work is not looked at.
const FEW_USERS: usize = 16;

/// What was seen of each user. Where one got it by asking, another had let go of it then, and woke
/// nobody: the first who asks for it right after, or else the only one that was not waiting.
fn seen(history: &History, waits: &[GilWait]) -> BTreeMap<ThreadId, Vec<Seen>> {
    let mut seen: BTreeMap<ThreadId, Vec<Seen>> = BTreeMap::new();
    let mut asks: Vec<(Nanos, ThreadId)> = Vec::with_capacity(waits.len());
    for wait in waits {
        let own = seen.entry(wait.thread).or_default();
        if !wait.open {
            own.push(Seen::Got(wait.asked, wait.had));
        }
        if let Some(by) = wait.by {
            seen.entry(by).or_default().push(Seen::Gone(wait.woken));
        }
        asks.push((wait.asked, wait.thread));
    }
    asks.sort_unstable();
    let users: Vec<ThreadId> = seen.keys().copied().collect();
    for wait in waits.iter().filter(|wait| wait.got_by_asking()) {
        let first = asks.partition_point(|&(asked, _)| asked < wait.had);
        let soon = asks[first..].iter().take_while(|(asked, _)| *asked <= wait.had + RETRY);
        let asker = soon.map(|&(_, thread)| thread).find(|&thread| thread != wait.thread);
        let only = || {
            let others = users.iter().filter(|&&user| user != wait.thread);
            let mut at_work = others.filter(|&&user| is_at_work(history, user, wait.had));
            let first = at_work.next();
            first.filter(|_| at_work.next().is_none()).copied()
        };
        let few = users.len() <= FEW_USERS;
        if let Some(thread) = asker.or_else(|| few.then(only).flatten()) {
            seen.entry(thread).or_default().push(Seen::Gone(wait.had));
        }
    }
    seen
}

/// Whether a thread lives then and waits for nothing.
fn is_at_work(history: &History, thread: ThreadId, at: Nanos) -> bool {
    let lives = history.life(thread).is_some_and(|life| life.start < at && at < life.end);
    let stay = history.stays(thread, at).next();
    lives && stay.is_none_or(|stay| at < stay.off || stay.woken <= at)
}

#[derive(Clone, Copy)]
enum Seen {
    Got(Nanos, Nanos),
    Gone(Nanos),
}

impl Seen {
    /// What one lets go of at the instant in which it asks again, it let go of before.
    fn order(self) -> (Nanos, u8) {
        match self {
            Self::Got(asked, _) => (asked, 1),
            Self::Gone(at) => (at, 0),
        }
    }
}

fn of_thread(history: &History, thread: ThreadId, seen: &[Seen], all: &mut Vec<GilHold>) {
    let Some(life) = history.life(thread) else { return };
    let mut rest = seen;
    let mut from = life.start;
    let others = history.stays(thread, Nanos::ZERO).filter(|stay| {
        let state = history.state(stay.object);
        is_wait(stay) && !matches!(state, State::Gil | State::PageFault)
    });
    for (off, on) in others.map(|stay| (stay.off, stay.on)).chain([(life.end, life.end)]) {
        let many = rest.partition_point(|one| one.order().0 <= off);
        let (mine, later) = rest.split_at(many);
        rest = later;
        stretch(thread, (from, off), mine, all);
        from = on;
    }
}

/// Between two waits for something else.
fn stretch(thread: ThreadId, (from, to): (Nanos, Nanos), seen: &[Seen], all: &mut Vec<GilHold>) {
    // Had since: by which wait.
    let mut had = Some((None, from));
    // Let go of at that time, and not seen to be taken since.
    let mut gone = None;
    for &one in seen {
        match one {
            Seen::Gone(at) => {
                // Taken in between, unseen: it was free.
                let middle = gone.map(|since| (None, Nanos(u64::midpoint(since, at.0))));
                if let Some((asked, start)) = had.take().or(middle) {
                    all.push(GilHold { thread, asked, start, end: at, let_go: true });
                }
                gone = Some(at.0);
            }
            Seen::Got(asked, at) => {
                // Who asks has not got it. A short run was the way to asking.
                if let Some((by, start)) = had.take()
                    && (by.is_some() || asked - start > AT_WORK)
                {
                    let end = asked.max(start);
                    all.push(GilHold { thread, asked: by, start, end, let_go: false });
                }
                had = Some((Some(asked), at));
                gone = None;
            }
        }
    }
    if let Some((asked, start)) = had
        && (to > start || asked.is_some())
    {
        all.push(GilHold { thread, asked, start, end: to.max(start), let_go: false });
    }
}

/// No two at once. Who had it before another was seen to get it, and goes on for longer, has it again
/// afterwards if anybody waits for it then: a thread that was made to let go may be back unseen.
fn apart(mut all: Vec<GilHold>) -> Vec<GilHold> {
    all.sort_unstable_by_key(|hold| (hold.start, hold.end, hold.thread));
    let mut kept: Vec<GilHold> = Vec::with_capacity(all.len());
    // What is left of the last one that was interrupted.
    let mut left: Option<GilHold> = None;
    for mut hold in all {
        if let (Some(rest), Some(last)) = (left, kept.last()) {
            let rest = GilHold { asked: None, start: last.end.max(rest.start), ..rest };
            let waits = hold.asked.is_some_and(|asked| asked < rest.end);
            if waits && hold.thread != rest.thread && rest.start < rest.end.min(hold.start) {
                kept.push(rest);
            }
            left = left.filter(|rest| rest.end > hold.start && rest.thread != hold.thread);
        }
        if let Some(last) = kept.last_mut().filter(|last| last.end > hold.start) {
            if hold.asked.is_some() || hold.let_go && !last.let_go {
                left = Some(*last).filter(|last| last.end > hold.end).or(left);
                (last.end, last.let_go) = (hold.start, false);
            } else if hold.end > last.end {
                hold.start = last.end;
            } else {
                continue;
            }
        }
        kept.push(hold);
    }
    kept
}

#[cfg(test)]
mod tests;
