//! Turns of a loop: the stretches of a thread between two waits for work, and what made the long
//! ones long.

use super::evidence::LONG_TURN;
use super::evidence::LifeFacts;
use super::evidence::Own;
use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::Life;
use crate::analysis::history::Reason;
use crate::analysis::history::Stay;
use crate::analysis::names::StackTask;
use crate::model::Nanos;
use crate::model::State;
use crate::model::States;
use std::collections::BTreeMap;

/// A thread that goes from one wait to the next faster than this did nothing between.
const AT_ONCE: Nanos = Nanos(200_000);

/// Stretches of a thread between two waits for work.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// How many.
    pub count: u64,
    /// How many longer than [`LONG_TURN`] by what the thread itself did.
    pub long: u64,
    /// Their time, ns.
    pub long_ns: u64,
    /// The longest.
    pub longest_ns: u64,
    /// The long ones by state.
    pub states: States,
    /// What was waited for in them, by object id.
    pub objects: BTreeMap<u32, u64>,
    /// What took most of a long one.
    pub causes: BTreeMap<(State, Vec<String>), Cause>,
    /// The tasks of asyncio that took most of a long one, by what they are called.
    pub tasks: BTreeMap<String, TaskTurns>,
    /// How many were long only because the thread had no CPU,
    pub late: u64,
    /// and for how long they had none, ns.
    pub late_ns: u64,
}

/// What made turns long.
#[derive(Clone, Debug, Default)]
pub struct Cause {
    /// How many.
    pub turns: u64,
    /// Its time in them, ns.
    pub ns: u64,
    /// Where: function, file and line, by time.
    pub sites: BTreeMap<String, u64>,
    /// The tasks that did it: in how many of them, and the time, ns.
    pub tasks: BTreeMap<String, (u64, u64)>,
}

/// What a task made long.
#[derive(Clone, Debug, Default)]
pub struct TaskTurns {
    /// How many turns.
    pub turns: u64,
    /// Its time in them, ns.
    pub ns: u64,
    /// Most of that in one, ns.
    pub longest_ns: u64,
    /// What it runs and who awaits it, by time.
    pub forms: BTreeMap<StackTask, u64>,
}

/// Where time of a turn went.
#[derive(Default)]
struct Place {
    ns: u64,
    sites: BTreeMap<String, u64>,
    tasks: BTreeMap<StackTask, u64>,
}

impl Cause {
    /// The place with most of it: "`nap` (app.py:12)".
    pub fn site(&self) -> Option<&str> {
        self.sites.iter().max_by_key(|&(_, ns)| ns).map(|(site, _)| site.as_str())
    }
}

/// What is remembered from one stay to the next.
pub struct Walk<'l> {
    life: &'l Life,
    tokio: bool,
    /// When the thread last came out of a wait for work.
    awake: Option<Nanos>,
    /// Its states since then.
    turn: States,
    /// Its waits since then: when, how long, in which state, for what.
    waits: Vec<(Nanos, u64, State, Option<u32>)>,
    now: Nanos,
    /// A condition was just signalled.
    signalled: Option<Nanos>,
    last: Option<(Stay, State)>,
}

impl<'l> Walk<'l> {
    /// Begins with a life.
    pub fn new(life: &'l Life, tokio: bool) -> Self {
        Self {
            life,
            tokio,
            awake: None,
            turn: States::default(),
            waits: Vec::new(),
            now: life.start,
            signalled: None,
            last: None,
        }
    }

    /// The last wait.
    pub fn last(&self) -> Option<Stay> {
        self.last.map(|(stay, _)| stay)
    }

    /// Takes the next stay.
    pub fn take(
        &mut self,
        stay: &Stay,
        state: State,
        object: Option<u32>,
        facts: &mut LifeFacts,
        own: &mut Own,
    ) {
        let waits = state.is_wait() && stay.woken > stay.off;
        self.turn[State::Running] += stay.off - self.now;
        self.now = stay.on;
        facts.yields += u64::from(stay.left == Reason::Yielded);
        if waits {
            self.signals(stay, state, object, facts);
        }
        let time = (stay.woken - stay.off).0;
        if waits && state == State::Poll {
            facts.polled += time;
            facts.polled_out += if stay.ender == Ender::Interrupt { time } else { 0 };
        }
        let for_work = state == State::Poll || self.tokio && state == State::Condvar;
        if waits && for_work {
            if let Some(awake) = self.awake {
                self.close(awake, stay.off, &mut facts.turns, own);
            }
            self.awake = Some(stay.woken);
            self.turn = States::default();
            self.waits.clear();
        } else if waits {
            self.turn[state] += stay.woken - stay.off;
            // Before the first wait for work there is no turn that they could be in.
            if self.awake.is_some() {
                self.waits.push((stay.off, time, state, object));
            }
        }
        self.turn[State::Runnable] += stay.on - stay.woken;
    }

    fn signals(&mut self, stay: &Stay, state: State, object: Option<u32>, facts: &mut LifeFacts) {
        let at_once = self.signalled.is_some_and(|at| stay.off - at < AT_ONCE);
        if at_once && state == State::Lock {
            facts.into_lock += 1;
            if let Some(object) = object {
                *facts.into.entry(object).or_default() += 1;
            }
        }
        let ended = matches!(stay.ender, Ender::Thread(_));
        self.signalled = (state == State::Condvar && ended).then_some(stay.on);
        facts.signals += u64::from(self.signalled.is_some());
        self.last = Some((*stay, state));
    }

    fn close(&self, from: Nanos, to: Nanos, turns: &mut Turns, own: &mut Own) {
        turns.count += 1;
        let turn = to - from;
        if turn <= LONG_TURN {
            return;
        }
        // Time without a CPU is not the loop's doing.
        let ready = self.turn[State::Runnable];
        if turn - ready <= LONG_TURN {
            turns.late += 1;
            turns.late_ns += ready.0;
            return;
        }
        turns.long += 1;
        turns.long_ns += turn.0;
        turns.longest_ns = turns.longest_ns.max(turn.0);
        turns.states.add(&self.turn);
        for &(_, ns, _, object) in &self.waits {
            if let Some(object) = object {
                *turns.objects.entry(object).or_default() += ns;
            }
        }
        self.blame(from, to, turns, own);
    }

    /// Puts a long turn down to what took most of it.
    fn blame(&self, from: Nanos, to: Nanos, turns: &mut Turns, own: &mut Own) {
        let mut places: BTreeMap<(State, Vec<String>), Place> = BTreeMap::new();
        let mut add = |state, stack: Option<_>, ns| {
            let chain = stack.map_or_else(Vec::new, |stack| own.place(stack));
            let place = places.entry((state, chain)).or_default();
            place.ns += ns;
            if let Some(site) = stack.and_then(|stack| own.site(stack)) {
                *place.sites.entry(site).or_default() += ns;
            }
            if let Some(task) = stack.and_then(|stack| own.task(stack)) {
                *place.tasks.entry(task).or_default() += ns;
            }
        };
        let looks = self.life.samples_in(from, to);
        // Samples tell where, the kernel's books how long.
        let sampled: u64 = looks.iter().map(|look| u64::from(look.weight)).sum();
        let ran = self.turn[State::Running].0;
        for look in looks {
            let part = ran as f64 / sampled.max(1) as f64;
            add(State::Running, Some(look.stack), (f64::from(look.weight) * part) as u64);
        }
        if looks.is_empty() {
            add(State::Running, None, ran);
        }
        for &(off, ns, state, _) in &self.waits {
            add(state, self.life.wait_stack(off), ns);
        }
        let most = places.into_iter().max_by_key(|(_, place)| place.ns);
        let Some((at, place)) = most else { return };
        let cause = turns.causes.entry(at).or_default();
        cause.turns += 1;
        cause.ns += place.ns;
        for (site, ns) in place.sites {
            *cause.sites.entry(site).or_default() += ns;
        }
        if let Some((task, ns)) = place.tasks.into_iter().max_by_key(|(_, ns)| *ns) {
            let (turns_of_it, time) = cause.tasks.entry(task.called()).or_default();
            (*turns_of_it, *time) = (*turns_of_it + 1, *time + ns);
            let turn = turns.tasks.entry(task.called()).or_default();
            turn.turns += 1;
            turn.ns += ns;
            turn.longest_ns = turn.longest_ns.max(ns);
            *turn.forms.entry(task).or_default() += ns;
        }
    }

    /// Whether the last wait lasted until the thread was no more, and nobody let go of
    /// what it waited for.
    pub fn stuck(&self, ids: &[u32], history: &History) -> Option<(u32, State, u64)> {
        let (stay, state) = self.last?;
        // Killed, it still needs a CPU to end on.
        let to_the_end = self.life.end - stay.on < Nanos::from_millis(2);
        let id = ids.get(stay.object as usize).copied().filter(|&id| id != u32::MAX)?;
        let never = stay.open || !stay.released;
        (to_the_end && never).then(|| (id, state, (stay.off - history.window.0).0))
    }
}
