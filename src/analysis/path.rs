//! The critical path: the one chain of causes that is as long as the run.
//!
//! ```text
//!  main    ####.....join.....###     path:  main  ###
//!  worker    ##..lock..######                worker        ######   (it ended the join)
//!  holder  ########^                         holder ########        (it released the lock)
//!                  '- released the lock
//! ```
//!
//! Walked backwards from the end: a thread's own time belongs to the path; where a wait was
//! ended by another thread, the path goes on in that thread, at that instant, and stays
//! there (*last arriver*). A wait that no thread ended (a timer, a device, the outside) is
//! itself on the path. Every instant of the run is covered exactly once.
//!
//! The *bounded* path of one thread comes back to it where a wait began: why did *this* take
//! so long, rather than what did the run wait for last.

use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::history::Piece;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::State;
use crate::model::States;
use crate::model::ThreadId;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

/// A stretch of the path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Step {
    /// From here,
    pub start: Nanos,
    /// to here.
    pub end: Nanos,
    /// The thread it goes through.
    pub thread: ThreadId,
    /// What that thread was in.
    pub state: State,
    /// What it waited for.
    pub object: Option<ObjectIndex>,
    /// The lock that somebody waited for meanwhile and that this thread then released.
    pub under: Option<ObjectIndex>,
}

/// What a stretch of the path was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Part {
    /// The state.
    pub state: State,
    /// What was waited for.
    pub object: Option<ObjectIndex>,
    /// The lock that was held (see [`Step::under`]).
    pub under: Option<ObjectIndex>,
}

/// Steps kept one by one; shorter ones are only summed up.
pub const MOST_STEPS: usize = 10_000;
/// Chains of waits deeper than this are not followed: the wait itself stands for them.
const DEEPEST: usize = 64;

/// A path, summed up.
#[derive(Debug, Default)]
pub struct Path {
    /// The longest steps, in order of time.
    pub steps: Vec<Step>,
    /// Time of the steps that are not listed, by state.
    pub folded: States,
    /// All of it by thread and by what that thread was in.
    pub sums: BTreeMap<(ThreadId, Part), Nanos>,
    /// CPU samples of running threads on the path, by stack.
    pub samples: BTreeMap<StackId, Nanos>,
}

impl Path {
    /// Its length: that of the run.
    pub fn length(&self) -> Nanos {
        self.sums.values().copied().sum()
    }
}

/// The thread at whose end the run ended: the root's, the main one if several.
pub fn last_thread(history: &History, root: Option<ThreadId>) -> Option<ThreadId> {
    let process = root.and_then(|root| history.life(root)).and_then(|life| life.process);
    let in_root = history.lives().filter(|(_, life)| process.is_none() || life.process == process);
    in_root.max_by_key(|&(id, life)| (life.end, Some(id) == root, Reverse(id))).map(|(id, _)| id)
}

/// The last-arriver path from `thread` at `to` back to `from`.
pub fn critical_path(history: &History, thread: ThreadId, from: Nanos, to: Nanos) -> Path {
    let mut sink = Sink::new(history);
    last_arriver(history, thread, from, to, &mut |step| sink.add(step));
    sink.finish()
}

/// The bounded path of one thread between two instants.
pub fn bounded_path(history: &History, thread: ThreadId, from: Nanos, to: Nanos) -> Path {
    let mut sink = Sink::new(history);
    let mut walk = Bounded { history, visit: &mut |step| sink.add(step), chain: vec![thread] };
    walk.cover(thread, from, to, None);
    sink.finish()
}

/// Walks backwards and gives each step, the latest first.
fn last_arriver(
    history: &History,
    thread: ThreadId,
    from: Nanos,
    to: Nanos,
    visit: &mut dyn FnMut(Step),
) {
    let near = vec![0; history.lives().count()];
    let mut walk =
        LastArriver { history, thread, now: to, from, jumps: 0, held: vec![], near, visit };
    while walk.now > from {
        while walk.held.last().is_some_and(|&(since, _)| since >= walk.now) {
            walk.held.pop();
        }
        match walk.piece() {
            Some(piece) => walk.go_back(&piece),
            None => walk.leave_life(),
        }
    }
}

struct LastArriver<'h> {
    history: &'h History,
    thread: ThreadId,
    now: Nanos,
    from: Nanos,
    /// Jumps since time last moved: threads may have woken each other at one instant.
    jumps: usize,
    /// Locks that were waited for, from an instant on, until the path came into their holder; by
    /// that instant.
    held: Vec<(Nanos, ObjectIndex)>,
    /// The stay in which each thread was found last.
    near: Vec<usize>,
    visit: &'h mut dyn FnMut(Step),
}

impl LastArriver<'_> {
    /// What the present thread did until now.
    fn piece(&mut self) -> Option<Piece> {
        let near = self.near.get_mut(self.thread.0 as usize)?;
        self.history.piece_before_near(self.thread, self.now, near)
    }

    fn go_back(&mut self, piece: &Piece) {
        let history = self.history;
        let waker = ended_by(piece, self.thread)
            .filter(|_| piece.end == self.now && self.jumps <= DEEPEST)
            .and_then(|waker| Some((waker, history.life(waker)?)));
        let Some((waker, life)) = waker else {
            return self.step(piece.state, piece.object(), piece.start);
        };
        if piece.state == State::Lock
            && let Some(object) = piece.object()
        {
            let lock = (piece.start, object);
            self.held.insert(self.held.partition_point(|held| *held < lock), lock);
        }
        // The wake-up by a thread that ends comes a little after its last instant.
        let last = life.end.max(piece.start);
        if last < self.now {
            self.step(piece.state, piece.object(), last);
        }
        self.thread = waker;
        self.jumps += 1;
    }

    /// Before a thread was born its maker is on the path.
    fn leave_life(&mut self) {
        let life = self.history.life(self.thread);
        let born = life.filter(|life| self.now <= life.start);
        if let Some(parent) = born.and_then(|life| life.parent).filter(|_| self.jumps <= DEEPEST) {
            self.thread = parent;
            self.jumps += 1;
        } else {
            // Before anything that is known, or after its end.
            let start = life.filter(|_| born.is_none()).map_or(self.from, |life| life.end);
            self.step(State::Unknown, None, start);
        }
    }

    /// The path goes through the present thread from `start` to now.
    fn step(&mut self, state: State, object: Option<ObjectIndex>, start: Nanos) {
        let start = start.max(self.from);
        let step = Step { start, end: self.now, thread: self.thread, state, object, under: None };
        give_in_parts(step, &self.held, self.visit);
        self.now = start;
        self.jumps = 0;
    }
}

/// The thread that ended a wait, if one did.
fn ended_by(piece: &Piece, thread: ThreadId) -> Option<ThreadId> {
    let stay = piece.stay.filter(|_| piece.state.is_wait())?;
    match stay.ender {
        Ender::Thread(waker) if waker != thread && !stay.open => Some(waker),
        _ => None,
    }
}

/// Gives a step, cut where a lock began to be waited for, so that each part is under one lock.
fn give_in_parts(step: Step, held: &[(Nanos, ObjectIndex)], visit: &mut dyn FnMut(Step)) {
    let mut end = step.end;
    // The lock whose wait began last is the innermost: the earlier ones wait for it too.
    for &(since, lock) in held.iter().rev() {
        if since >= end {
            continue;
        }
        let start = since.max(step.start);
        visit(Step { start, end, under: Some(lock), ..step });
        end = start;
        if end <= step.start {
            return;
        }
    }
    if end > step.start {
        visit(Step { end, under: None, ..step });
    }
}

struct Bounded<'h> {
    history: &'h History,
    visit: &'h mut dyn FnMut(Step),
    /// The threads whose waits are being followed.
    chain: Vec<ThreadId>,
}

impl Bounded<'_> {
    /// Covers `from..to` of `thread`; what it has no part in is `instead`'s, the wait that led here.
    fn cover(&mut self, thread: ThreadId, from: Nanos, to: Nanos, instead: Option<Step>) {
        let mut now = to;
        while now > from {
            let Some(piece) = self.history.piece_before(thread, now) else {
                let life = self.history.life(thread);
                let last = life.filter(|life| life.end < now).map_or(from, |life| life.end);
                let start = last.max(from);
                let blank = Step {
                    thread,
                    state: State::Unknown,
                    object: None,
                    start,
                    end: now,
                    under: None,
                };
                (self.visit)(instead.map_or(blank, |wait| Step { start, end: now, ..wait }));
                now = start;
                continue;
            };
            let start = piece.start.max(from);
            let (state, object) = (piece.state, piece.object());
            let own = Step { start, end: now, thread, state, object, under: None };
            let waker = ended_by(&piece, thread)
                .filter(|waker| self.chain.len() < DEEPEST && !self.chain.contains(waker));
            if let Some(waker) = waker {
                self.chain.push(waker);
                self.cover(waker, start, now, Some(own));
                self.chain.pop();
            } else {
                (self.visit)(own);
            }
            now = start;
        }
    }
}

/// Joins equal neighbours, sums up, and keeps the longest steps.
struct Sink<'h> {
    history: &'h History,
    path: Path,
    /// [`Path::sums`] and [`Path::samples`] while they grow: kept by hash, as every step asks for them.
    sums: FastMap<(ThreadId, Part), Nanos>,
    samples: FastMap<StackId, Nanos>,
    open: Option<Step>,
    /// The shortest of those kept comes out first.
    longest: BinaryHeap<Reverse<(Nanos, Reverse<Nanos>, Step)>>,
}

impl<'h> Sink<'h> {
    fn new(history: &'h History) -> Self {
        Self {
            history,
            path: Path::default(),
            sums: FastMap::default(),
            samples: FastMap::default(),
            open: None,
            longest: BinaryHeap::new(),
        }
    }

    /// Takes the next step, going backwards in time.
    fn add(&mut self, step: Step) {
        if step.end <= step.start {
            return;
        }
        if let Some(open) = &mut self.open
            && open.start == step.end
            && (open.thread, open.state, open.object, open.under)
                == (step.thread, step.state, step.object, step.under)
        {
            open.start = step.start;
            return;
        }
        let done = self.open.replace(step);
        self.keep(done);
    }

    fn keep(&mut self, step: Option<Step>) {
        let Some(step) = step else { return };
        let time = step.end - step.start;
        let part = Part { state: step.state, object: step.object, under: step.under };
        *self.sums.entry((step.thread, part)).or_default() += time;
        if step.state == State::Running
            && let Some(life) = self.history.life(step.thread)
        {
            for look in life.samples_in(step.start, step.end) {
                *self.samples.entry(look.stack).or_default() += Nanos(look.weight.into());
            }
        }
        let ranked = Reverse((time, Reverse(step.start), step));
        if self.longest.len() < MOST_STEPS {
            self.longest.push(ranked);
            return;
        }
        let mut folded = ranked;
        if let Some(mut shortest) = self.longest.peek_mut()
            && folded < *shortest
        {
            std::mem::swap(&mut *shortest, &mut folded);
        }
        let Reverse((time, _, step)) = folded;
        self.path.folded[step.state] += time;
    }

    fn finish(mut self) -> Path {
        let last = self.open.take();
        self.keep(last);
        self.path.steps = self.longest.into_iter().map(|Reverse((_, _, step))| step).collect();
        self.path.steps.sort_unstable();
        self.path.sums = self.sums.into_iter().collect();
        self.path.samples = self.samples.into_iter().collect();
        self.path
    }
}

#[cfg(test)]
pub(crate) mod tests;
