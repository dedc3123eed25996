//! From a history to a model: what each wait was, and who had to do what to end it.

mod gils;

use crate::analysis::gil::Gil;
use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::history::Stay;
use crate::analysis::replay::emit;
use crate::analysis::replay::handover::Begin;
use crate::analysis::replay::holds;
use crate::analysis::replay::holds::Dealings;
use crate::analysis::replay::holds::Hold;
use crate::analysis::replay::holds::Mark;
use crate::analysis::replay::holds::Seen;
use crate::analysis::replay::load;
use crate::analysis::replay::load::Load;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Lock;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::model::NONE;
use crate::analysis::replay::sites;
use crate::analysis::replay::sites::Sites;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What a model is made from.
pub struct Input<'a> {
    /// The lives.
    pub history: &'a History,
    /// The run, from the root's exec to its exit.
    pub window: (Nanos, Nanos),
    /// The root's main thread.
    pub root: ThreadId,
    /// CPUs that the program may use.
    pub cpus: f64,
    /// By thread: whether it ended by itself.
    pub ended: Vec<bool>,
    /// By thread: its group of similar threads.
    pub groups: Vec<u32>,
    /// The GILs of the history.
    pub gils: &'a BTreeMap<ObjectIndex, Gil>,
}

/// A thread that woke up this soon after the end of another was waiting for that end.
const EXIT_SLACK: Nanos = Nanos(2_000_000);
/// Woken for a lock and asking again within this: someone else was faster.
const RETRY: Nanos = Nanos(50_000);
/// Marks looked at in full, for all locks and their users. With more only those near a sighting
/// are: a hold that nobody ever waited for may be missed then.
const MOST_LOOKS: usize = 10_000_000;
const NEAR: usize = 16;
/// Wakes of one release, or of one round of a barrier, come within this.
const ONE_WAKE: Nanos = Nanos(20_000);
const ONE_ROUND: Nanos = Nanos(2_000_000);

/// What becomes of a stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Queued only.
    Queue,
    /// Away for as long as it was.
    Delay,
    /// Never ended.
    Forever,
    /// Waits for a lock; `Model::locks` number.
    Lock(u32),
    /// One of the other kinds that wait, with its number.
    Waits(Kind, u32),
}

/// Something that a thread does at an instant of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Note {
    /// When.
    pub time: Nanos,
    /// What.
    pub kind: Kind,
    /// Which.
    pub what: u32,
}

/// A wait that got a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Got {
    /// Which.
    pub lock: u32,
    /// When it was had.
    pub had: Nanos,
    /// It was made to let go of it before, and waited for no more than its next turn.
    pub again: bool,
    /// How long it had no CPU between its tries to get it, ns.
    pub late: u32,
}

/// What is found out before any operation is written.
pub struct Plan {
    /// By thread and stay.
    pub roles: Vec<Vec<Role>>,
    /// By thread, in order.
    pub notes: Vec<Vec<Note>>,
    /// By thread: the waits that got a lock, by their first instant.
    pub gots: Vec<BTreeMap<Nanos, Got>>,
    /// By thread and stay.
    pub sites: Vec<Vec<u32>>,
    /// Queue delays that others caused.
    pub load: Load,
}

struct Extract<'a> {
    input: &'a Input<'a>,
    model: Model,
    plan: Plan,
    lock_of: BTreeMap<ObjectIndex, u32>,
    queue_of: BTreeMap<ObjectIndex, u32>,
    /// By lock and thread; in order once all are there.
    gone: BTreeMap<(u32, u32), Vec<Nanos>>,
    /// Waits at barriers: object, woken, waker, waiter and its stay.
    meets: Vec<(ObjectIndex, Nanos, u32, u32, usize)>,
    shared: BTreeSet<ObjectIndex>,
    /// Locks that were hardly waited for: when they were held is a guess, the hand-over was seen.
    slight: BTreeSet<ObjectIndex>,
}

/// How a history is read, where it can be read in several ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// What is handed over through a queue is for whoever of similar threads is there to take it.
    pub anonymous: bool,
    /// Locks that were hardly waited for are none: each wait for one is for who ended it.
    pub few_locks: bool,
}

impl Reading {
    /// All of them, the one that tells most first.
    pub const ALL: [Self; 4] = [
        Self { anonymous: true, few_locks: false },
        Self { anonymous: false, few_locks: false },
        Self { anonymous: true, few_locks: true },
        Self { anonymous: false, few_locks: true },
    ];
}

/// A lock waited for less often, and for less of the run, than this is none in the model.
const FEW: u64 = 10;
const SLIGHT: f64 = 0.001;
/// The same of all locks in a reading with few of them, whatever the number of their waits.
const HARDLY: f64 = 0.03;

/// The locks with so few and short waits.
fn slight(input: &Input, few_locks: bool) -> BTreeSet<ObjectIndex> {
    let mut sums: BTreeMap<ObjectIndex, (u64, u64)> = BTreeMap::new();
    for (id, _) in input.history.lives() {
        for stay in input.history.stays(id, Nanos::ZERO) {
            if input.history.state(stay.object) == State::Lock && stay.woken > stay.off {
                let (waits, ns) = sums.entry(stay.object).or_default();
                (*waits, *ns) = (*waits + 1, *ns + (stay.woken - stay.off).0);
            }
        }
    }
    let run = (input.window.1 - input.window.0).0 as f64;
    let few = |&(_, (waits, ns)): &(ObjectIndex, (u64, u64))| {
        let share = ns as f64 / run;
        (waits < FEW && share < SLIGHT) || (few_locks && share < HARDLY)
    };
    sums.into_iter().filter(few).map(|(object, _)| object).collect()
}

/// The model of a history, and the sites that it speaks of.
pub fn extract(input: &Input, sites: &mut Sites, reading: Reading) -> Model {
    let history = input.history;
    let threads = history.lives().count();
    let load = load::load(history, input.window, input.cpus);
    let (start, end) = input.window;
    let mut extract = Extract {
        input,
        model: Model {
            cpus: input.cpus.max(1.0),
            foreign: load.foreign,
            crowded: load.crowded,
            root: input.root.0 as usize,
            observed: (end - start).0,
            ..Model::default()
        },
        plan: Plan {
            roles: Vec::with_capacity(threads),
            notes: vec![Vec::new(); threads],
            gots: vec![BTreeMap::new(); threads],
            sites: sites::of_stays(history, sites),
            load,
        },
        lock_of: BTreeMap::new(),
        queue_of: BTreeMap::new(),
        gone: BTreeMap::new(),
        meets: Vec::new(),
        shared: if reading.anonymous { shared(input) } else { BTreeSet::new() },
        slight: slight(input, reading.few_locks),
    };
    extract.roles();
    extract.barriers();
    extract.locks(sites);
    extract.gils();
    extract.spawns();
    extract.implied_joins();
    for notes in &mut extract.plan.notes {
        notes.sort();
    }
    let Extract { mut model, plan, .. } = extract;
    emit::streams(input, &plan, &mut model, sites);
    model
}

/// Objects that several similar threads wait for: whoever of them is there takes the token.
fn shared(input: &Input) -> BTreeSet<ObjectIndex> {
    let mut waiter: BTreeMap<(ObjectIndex, u32), u32> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    let (mut takers, mut givers) = (BTreeSet::new(), BTreeSet::new());
    for (id, _) in input.history.lives() {
        for stay in input.history.stays(id, Nanos::ZERO) {
            let queue = matches!(
                input.history.state(stay.object),
                State::Condvar | State::Pipe | State::Network
            );
            if queue && stay.woken > stay.off && !stay.open {
                takers.insert((stay.object, id));
                if let Ender::Thread(giver) = stay.ender {
                    givers.insert((stay.object, giver));
                }
                let group = input.groups.get(id.0 as usize).copied().unwrap_or(0);
                if *waiter.entry((stay.object, group)).or_insert(id.0) != id.0 {
                    shared.insert(stay.object);
                }
            }
        }
    }
    // Who both gives and takes would starve itself, were another one faster.
    for (object, _) in takers.intersection(&givers) {
        shared.remove(object);
    }
    shared
}

impl Extract<'_> {
    fn note(&mut self, thread: u32, time: Nanos, kind: Kind, what: u32) {
        // A thread without a life does nothing.
        if let Some(notes) = self.plan.notes.get_mut(thread as usize) {
            notes.push(Note { time, kind, what });
        }
    }

    fn roles(&mut self) {
        let history = self.input.history;
        for (id, _) in history.lives() {
            let mut roles = Vec::new();
            for (index, stay) in history.stays(id, Nanos::ZERO).enumerate() {
                roles.push(self.role(id, index, &stay));
            }
            self.plan.roles.push(roles);
        }
    }

    fn role(&mut self, id: ThreadId, index: usize, stay: &Stay) -> Role {
        if stay.woken <= stay.off {
            return Role::Queue;
        }
        let state = self.input.history.state(stay.object);
        if stay.open {
            return match state {
                State::Sleep | State::Disk | State::PageFault => Role::Delay,
                _ => Role::Forever,
            };
        }
        // Its tries are put together later.
        if state == State::Gil {
            return if self.was_killed(id, stay) { Role::Forever } else { Role::Delay };
        }
        let Ender::Thread(waker) = stay.ender else { return Role::Delay };
        let Some(life) = self.input.history.life(waker) else { return Role::Delay };
        if waker == id || life.end <= life.start {
            return Role::Delay;
        }
        if self.was_killed(id, stay) {
            return Role::Forever;
        }
        match state {
            State::Lock if stay.released && !self.slight.contains(&stay.object) => {
                let next = self.lock_of.len() as u32;
                let lock = *self.lock_of.entry(stay.object).or_insert(next);
                self.gone.entry((lock, waker.0)).or_default().push(stay.woken);
                Role::Lock(lock)
            }
            _ if !stay.released && self.was_its_end(waker, stay.woken) => {
                Role::Waits(Kind::Join, waker.0)
            }
            State::Join if stay.released => {
                self.meets.push((stay.object, stay.woken, waker.0, id.0, index));
                Role::Delay
            }
            _ if self.shared.contains(&stay.object) => {
                let next = self.queue_of.len() as u32;
                let queue = *self.queue_of.entry(stay.object).or_insert(next);
                if queue == next {
                    self.model.queues.push(stay.object);
                }
                self.note(waker.0, stay.woken, Kind::Put, queue);
                Role::Waits(Kind::Take, queue)
            }
            _ => {
                let edge = self.model.edges;
                self.model.edges += 1;
                self.note(waker.0, stay.woken, Kind::Post, edge);
                Role::Waits(Kind::Wait, edge)
            }
        }
    }

    /// The last wait of a thread that did not end by itself.
    fn was_killed(&self, id: ThreadId, stay: &Stay) -> bool {
        !stay.released
            && self.input.ended.get(id.0 as usize) == Some(&false)
            && self.input.history.last_stay(id) == Some(*stay)
    }

    fn was_its_end(&self, waker: ThreadId, woken: Nanos) -> bool {
        let ended = self.input.ended.get(waker.0 as usize).copied().unwrap_or(false);
        let life = self.input.history.life(waker);
        ended
            && life.is_some_and(|life| life.end <= woken + EXIT_SLACK)
            && self.input.history.stays(waker, woken).next().is_none()
    }

    /// Rounds of barriers: those that one thread let go at once, and that thread.
    fn barriers(&mut self) {
        let mut meets = std::mem::take(&mut self.meets);
        meets.sort_unstable();
        let mut round: Option<(ObjectIndex, Nanos, u32)> = None;
        let mut members: BTreeSet<u32> = BTreeSet::new();
        for (object, woken, waker, waiter, index) in meets {
            let same = round.is_some_and(|(o, first, w)| {
                o == object && w == waker && woken <= first + ONE_ROUND
            }) && !members.contains(&waiter);
            if !same {
                round = Some((object, woken, waker));
                members = BTreeSet::from([waker]);
                self.model.meetings.push(1);
                let number = self.model.meetings.len() as u32 - 1;
                self.note(waker, woken, Kind::Meet, number);
            }
            members.insert(waiter);
            let number = self.model.meetings.len() - 1;
            self.model.meetings[number] += 1;
            self.plan.roles[waiter as usize][index] = Role::Waits(Kind::Meet, number as u32);
        }
    }

    fn locks(&mut self, sites: &mut Sites) {
        let history = self.input.history;
        let mut seen: Vec<BTreeMap<u32, Vec<Seen>>> = vec![BTreeMap::new(); self.lock_of.len()];
        let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); self.lock_of.len()];
        let mut retries = vec![0_usize; self.lock_of.len()];
        for times in self.gone.values_mut() {
            times.sort_unstable();
        }
        for (id, _) in history.lives() {
            self.gots(id, &mut seen, &mut latencies, &mut retries);
        }
        for (&(lock, thread), times) in &self.gone {
            let list = seen[lock as usize].entry(thread).or_default();
            list.extend(times.iter().map(|&time| Seen::Gone(time)));
        }
        let marks: Vec<Vec<Mark>> = history.lives().map(|(id, _)| self.marks(id, sites)).collect();
        // Each lock's holds are found by all marks of its users, unless that is too much.
        let users = seen.iter().flat_map(BTreeMap::keys);
        let looks: usize = users.filter_map(|&user| marks.get(user as usize)).map(Vec::len).sum();
        let near = (looks > MOST_LOOKS).then_some(NEAR);
        let objects: BTreeMap<u32, ObjectIndex> =
            self.lock_of.iter().map(|(&object, &lock)| (lock, object)).collect();
        for (lock, users) in seen.into_iter().enumerate() {
            let latency = holds::median(&mut latencies[lock]).unwrap_or(0);
            let waits = latencies[lock].len();
            self.model.locks.push(Lock {
                object: objects[&(lock as u32)],
                barging: retries[lock] * 20 > waits,
                latency: latency.min(u64::from(u32::MAX)) as u32,
                held: 0,
                gil: false,
                interval: 0,
            });
            self.lock(lock as u32, users, &marks, near);
        }
    }

    /// The waits of a thread that got it a lock; retried ones are one.
    fn gots(
        &mut self,
        id: ThreadId,
        seen: &mut [BTreeMap<u32, Vec<Seen>>],
        latencies: &mut [Vec<u64>],
        retries: &mut [usize],
    ) {
        let thread = id.0 as usize;
        let mut last: Option<(u32, Nanos, Nanos)> = None;
        for (index, stay) in self.input.history.stays(id, Nanos::ZERO).enumerate() {
            let role = self.plan.roles[thread][index];
            if let (Role::Queue, Some((_, _, on))) = (role, &mut last)
                && stay.off <= *on + RETRY
            {
                *on = stay.on; // preempted on its way to the lock
                continue;
            }
            let Role::Lock(lock) = role else {
                last = None;
                continue;
            };
            let between = |from: Nanos| {
                let gone = self.gone.get(&(lock, id.0));
                gone.is_some_and(|all| {
                    let first = all.partition_point(|&at| at < from);
                    all.get(first).is_some_and(|&at| at <= stay.off)
                })
            };
            let asked = match last {
                Some((before, asked, on))
                    if before == lock && stay.off <= on + RETRY && !between(on) =>
                {
                    retries[lock as usize] += 1;
                    seen[lock as usize].entry(id.0).or_default().pop();
                    asked
                }
                _ => stay.off,
            };
            let kept = self.plan.load.kept[thread].get(index).copied().unwrap_or(0);
            latencies[lock as usize].push(u64::from(kept));
            seen[lock as usize].entry(id.0).or_default().push(Seen::Got(asked, stay.on));
            last = Some((lock, asked, stay.on));
        }
    }

    /// Waits and samples of a thread that can tell whether a lock was held.
    fn marks(&self, id: ThreadId, sites: &mut Sites) -> Vec<Mark> {
        let Some(life) = self.input.history.life(id) else { return Vec::new() };
        let thread = id.0 as usize;
        let mut marks = Vec::new();
        for (index, stay) in self.input.history.stays(id, Nanos::ZERO).enumerate() {
            let role = self.plan.roles[thread][index];
            if role == Role::Queue {
                continue;
            }
            let breaks = self.input.history.state(stay.object) == State::Condvar;
            // Waits for other locks say nothing but that something was waited for.
            let lock = matches!(role, Role::Lock(_));
            let site = if lock { NONE } else { self.plan.sites[thread][index] };
            marks.push(Mark { start: stay.off, end: stay.woken, site, breaks });
        }
        marks.extend(life.samples.iter().map(|look| Mark {
            start: look.time,
            end: look.time,
            site: sites.of(look.stack),
            breaks: false,
        }));
        marks.sort_by_key(|mark| (mark.start, mark.end));
        marks
    }

    fn lock(
        &mut self,
        lock: u32,
        users: BTreeMap<u32, Vec<Seen>>,
        marks: &[Vec<Mark>],
        near: Option<usize>,
    ) {
        let mut threads = Vec::new();
        let mut dealings = Vec::new();
        for (thread, mut seen) in users {
            seen.sort_by_key(|one| match *one {
                Seen::Got(_, at) => (at, 0),
                Seen::Gone(at) => (at, 1),
            });
            seen.dedup_by(|next, last| match (*last, *next) {
                (Seen::Gone(last), Seen::Gone(next)) => next <= last + ONE_WAKE,
                _ => false,
            });
            let life = self.input.history.life(ThreadId(thread));
            let life = life.map_or((Nanos::ZERO, Nanos::ZERO), |life| (life.start, life.end));
            threads.push(thread);
            let marks = marks.get(thread as usize).map_or(&[][..], Vec::as_slice);
            dealings.push(Dealings { seen, marks, life, near });
        }
        let found = holds::holds(&dealings);
        for (thread, holds) in threads.into_iter().zip(found) {
            for hold in holds {
                let held = &mut self.model.locks[lock as usize].held;
                *held = held.saturating_add((hold.end - hold.start).0);
                self.hold(thread, lock, &hold);
            }
        }
    }

    fn hold(&mut self, thread: u32, lock: u32, hold: &Hold) {
        self.hold_begins(thread, lock, hold, Begin::Own, 0);
        self.note(thread, hold.end, Kind::Release, lock);
    }

    fn spawns(&mut self) {
        let all: Vec<(ThreadId, Option<ThreadId>, Nanos)> =
            self.input.history.lives().map(|(id, life)| (id, life.parent, life.start)).collect();
        for (id, parent, start) in all {
            let parent = parent.filter(|&parent| {
                let life = self.input.history.life(parent);
                life.is_some_and(|life| life.start <= start && start <= life.end)
            });
            if let Some(parent) = parent.filter(|_| id != self.input.root) {
                self.note(parent.0, start, Kind::Spawn, id.0);
            }
        }
    }

    /// Who joins one child joins its brothers and sisters too, though it needs not wait for
    /// those that have ended; and at the end of the run all that have ended are awaited.
    fn implied_joins(&mut self) {
        let history = self.input.history;
        let mut children: BTreeMap<ThreadId, Vec<(ThreadId, Nanos)>> = BTreeMap::new();
        for (id, life) in history.lives() {
            if let Some(parent) = life.parent
                && self.input.ended.get(id.0 as usize) == Some(&true)
            {
                children.entry(parent).or_default().push((id, life.end));
            }
        }
        for list in children.values_mut() {
            list.sort_by_key(|&(id, end)| (end, id));
        }
        let mut notes = Vec::new();
        for (id, life) in history.lives() {
            let mine = children.get(&id).map_or(&[][..], Vec::as_slice);
            let mut awaited = 0;
            for (index, stay) in history.stays(id, Nanos::ZERO).enumerate() {
                let role = self.plan.roles[id.0 as usize][index];
                if !matches!(role, Role::Waits(Kind::Join, _)) {
                    continue;
                }
                while let Some((child, _)) = mine.get(awaited).filter(|c| c.1 <= stay.off) {
                    notes.push((id.0, stay.off, child.0));
                    awaited += 1;
                }
            }
            let natural = self.input.ended.get(id.0 as usize) == Some(&true);
            if id == self.input.root && natural {
                let rest = mine[awaited..].iter().filter(|child| child.1 <= life.end);
                notes.extend(rest.map(|(child, _)| (id.0, life.end, child.0)));
            }
        }
        for (thread, time, child) in notes {
            self.note(thread, time, Kind::Join, child);
        }
    }
}
