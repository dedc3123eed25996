//! What a rule may look at.

use super::gil_facts;
use super::gil_facts::GilFacts;
use super::python::Roles;
use super::queue;
use super::starved_pool;
use super::starved_pool::Pool;
use super::tally::Tally;
use super::tally::in_order;
use super::turns::Turns;
use super::turns::Walk;
use super::words;
use crate::analysis::Told;
use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::Life;
use crate::analysis::history::Stay;
use crate::analysis::names;
use crate::analysis::names::StackTask;
use crate::analysis::pools;
use crate::analysis::pools::Dealt;
use crate::analysis::report::ConcurrencyModel;
use crate::analysis::report::FrameRow;
use crate::analysis::report::Gain;
use crate::analysis::report::Object;
use crate::analysis::report::ProcessRow;
use crate::analysis::report::Report;
use crate::analysis::report::ThreadRow;
use crate::analysis::spinning;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::ThreadId;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What a rule may look at: the report with all but its findings, and sums that several
/// rules need, made once.
pub struct Evidence<'a> {
    /// The report, findings and verdict not yet filled.
    pub report: &'a Report,
    /// By thread id; empty if the recording was too long to be looked at in detail.
    pub lives: Vec<LifeFacts>,
    /// Waits that a thread ended, by object and thread.
    pub handed: BTreeMap<(u32, u32), u64>,
    /// Waits of a thread and their time, by object and thread.
    pub waited: BTreeMap<(u32, u32), (u64, u64)>,
    /// Part of the run during which at least one thread waited for a lock or GIL, ns.
    pub queued: BTreeMap<u32, u64>,
    /// The same, until the thread ran again.
    pub under_way: BTreeMap<u32, u64>,
    /// When a lock was last let go of while another thread waited for it, ns from the start.
    pub handed_last: BTreeMap<u32, u64>,
    /// Who came out of a wait for a lock last, when, by object: it took the lock then.
    pub took_last: BTreeMap<u32, (u64, u32)>,
    /// When a thread last let go of a lock for another that waited, by object and thread.
    pub let_go: BTreeMap<(u32, u32), u64>,
    /// Time on the path of whoever held a lock while another waited for it, by object, ns.
    pub held: BTreeMap<u32, u64>,
    /// Locks with more waits than were looked at: the two above say nothing about them.
    pub uncounted: BTreeSet<u32>,
    /// What is known of each GIL, by object.
    pub gils: BTreeMap<u32, GilFacts>,
    /// Where the path was spent: thread, state, own functions (innermost first), ns; longest first.
    pub spots: Vec<Spot>,
    /// Threads of each process, by their ids.
    of_process: BTreeMap<u32, Vec<&'a ThreadRow>>,
    /// Children of each process.
    children: BTreeMap<u32, Vec<&'a ProcessRow>>,
    /// Time on the path by thread, ns.
    on_path: FastMap<u32, u64>,
    /// Its pools, found when first asked for.
    pools: OnceCell<Vec<Pool<'a>>>,
    /// Its pools whose jobs were dealt out to other numbers of workers.
    pub dealt: Vec<Dealt>,
    /// The concurrency model of each process, once it is known.
    pub models: Vec<ConcurrencyModel>,
}

/// A place on the critical path.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Thread id.
    pub thread: u32,
    /// State.
    pub state: &'static str,
    /// Own functions, innermost first.
    pub chain: Vec<String>,
    /// All functions by their full names, innermost first, of the longest step there.
    pub frames: Vec<String>,
    /// Time on the path.
    pub ns: u64,
}

/// What one thread's life shows beyond its sums.
#[derive(Clone, Debug, Default)]
pub struct LifeFacts {
    /// Who made it.
    pub parent: Option<u32>,
    /// `sched_yield` and the like: how often.
    pub yields: u64,
    /// Waits on conditions that somebody ended.
    pub signals: u64,
    /// Those after which the next thing it did was to wait for a lock.
    pub into_lock: u64,
    /// The same by the lock's object id.
    pub into: BTreeMap<u32, u64>,
    /// CPU time of samples in functions that spin, ns, and the one with most.
    pub spun: Option<(String, u64)>,
    /// Where its samples are: own functions of the place with most, innermost first.
    pub hot: Option<(Vec<String>, u64)>,
    /// CPU time of all its samples, ns,
    pub sampled: u64,
    /// and of those in which it packs or unpacks objects of Python.
    pub pickled: u64,
    /// Between two polls.
    pub turns: Turns,
    /// Time in polls, and that of polls of which the timeout ran out, ns.
    pub polled: u64,
    /// See `polled`.
    pub polled_out: u64,
    /// What its stacks tell of its part in a Python program.
    pub python: Roles,
    /// It never came out of its last wait: object, state, since when (from the start of the run).
    pub stuck: Option<(u32, State, u64)>,
    /// Who ended that wait all the same, with the process as a rule.
    pub cut_by: Option<u32>,
}

/// A turn of an event loop that is longer than this holds up what else is ready.
pub const LONG_TURN: Nanos = Nanos::from_millis(10);
/// With more of the path in steps that are not listed, the listed ones are not the path.
const MOST_FOLDED: f64 = 0.05;

impl<'a> Evidence<'a> {
    /// Gathers what a recording told, unless it was too long to be looked at in detail.
    pub fn gather(report: &'a Report, told: &Told, symbols: &Symbols) -> Self {
        let mut evidence = Self {
            report,
            lives: vec![LifeFacts::default(); report.threads.len()],
            handed: BTreeMap::new(),
            waited: BTreeMap::new(),
            queued: BTreeMap::new(),
            under_way: BTreeMap::new(),
            handed_last: BTreeMap::new(),
            took_last: BTreeMap::new(),
            let_go: BTreeMap::new(),
            held: BTreeMap::new(),
            uncounted: BTreeSet::new(),
            gils: BTreeMap::new(),
            spots: spots(report),
            of_process: BTreeMap::new(),
            children: BTreeMap::new(),
            on_path: report.path.threads.iter().map(|on| (on.id, on.ns)).collect(),
            pools: OnceCell::new(),
            dealt: Vec::new(),
            models: Vec::new(),
        };
        for thread in &report.threads {
            evidence.of_process.entry(thread.process).or_default().push(thread);
        }
        for process in &report.processes {
            if let Some(parent) = process.parent {
                evidence.children.entry(parent).or_default().push(process);
            }
        }
        let Told { history, ids, gils } = told;
        if history.is_whole() {
            let mut tally = Tally::new(history.window.0);
            let mut own = Own::new(symbols);
            for (thread, life) in history.lives() {
                evidence.take_life(history, ids, thread, &mut tally, &mut own);
                evidence.take_samples(thread, life, &mut own);
            }
            evidence.take_tally(tally);
            evidence.gils = gil_facts::gather(history, gils, ids, &mut own);
            evidence.dealt = pools::dealt(&evidence, told, symbols);
        }
        evidence
    }

    fn take_tally(&mut self, tally: Tally) {
        self.waited = in_order(tally.waited);
        for (key, helped) in in_order(tally.helped) {
            self.handed.insert(key, helped.waits);
            if let Some(at) = helped.let_go {
                self.let_go.insert(key, at);
            }
        }
        for (id, object) in (0..).zip(tally.objects) {
            if let Some(at) = object.handed_last {
                self.handed_last.insert(id, at);
            }
            if let Some(took) = object.took_last {
                self.took_last.insert(id, took);
            }
            let mut waits = object.queue;
            if object.uncounted {
                self.uncounted.insert(id);
            } else if !waits.is_empty() {
                queue::by_begin(&mut waits);
                self.queued.insert(id, queue::union(&waits, |wait| wait.woken));
                self.under_way.insert(id, queue::union(&waits, |wait| wait.on));
                self.held.insert(id, queue::held_on_path(waits, &self.report.critical_path));
            }
        }
    }

    fn take_life(
        &mut self,
        history: &History,
        ids: &[u32],
        thread: ThreadId,
        tally: &mut Tally,
        own: &mut Own,
    ) {
        let Some(life) = history.life(thread) else { return };
        let tokio = self.name_of(thread.0).starts_with("tokio-");
        let mut facts = LifeFacts { parent: life.parent.map(|p| p.0), ..LifeFacts::default() };
        let mut walk = Walk::new(life, tokio);
        for stay in history.stays(thread, Nanos::ZERO) {
            let state = history.state(stay.object);
            let id = ids.get(stay.object as usize).copied().filter(|&id| id != u32::MAX);
            walk.take(&stay, state, id, &mut facts, own);
            if let Some(id) = id.filter(|_| state.is_wait() && stay.woken > stay.off) {
                tally.take(thread, &stay, state, id);
            }
        }
        for look in life.samples.iter().chain(&life.wait_stacks) {
            facts.python.add(own.roles(look.stack));
        }
        facts.stuck = walk.stuck(ids, history);
        facts.cut_by = match walk.last().filter(|_| facts.stuck.is_some()) {
            Some(Stay { ender: Ender::Thread(by), .. }) => Some(by.0),
            _ => None,
        };
        if let Some(slot) = self.lives.get_mut(thread.0 as usize) {
            *slot = facts;
        }
    }

    fn take_samples(&mut self, thread: ThreadId, life: &Life, own: &mut Own) {
        let mut by_place: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        let mut spun: BTreeMap<String, u64> = BTreeMap::new();
        let (mut sampled, mut pickled) = (0, 0);
        for look in &life.samples {
            sampled += u64::from(look.weight);
            pickled += if own.roles(look.stack).pickles { u64::from(look.weight) } else { 0 };
            let place = own.place(look.stack);
            if place.is_empty() {
                continue;
            }
            if let Some(name) = own.spins_in(look.stack) {
                *spun.entry(name).or_default() += u64::from(look.weight);
            }
            *by_place.entry(place).or_default() += u64::from(look.weight);
        }
        if let Some(facts) = self.lives.get_mut(thread.0 as usize) {
            (facts.sampled, facts.pickled) = (sampled, pickled);
            facts.hot = by_place.into_iter().max_by_key(|(_, ns)| *ns);
            facts.spun = spun.into_iter().max_by_key(|(_, ns)| *ns);
        }
    }

    /// A thread's row.
    pub fn thread(&self, id: u32) -> Option<&'a ThreadRow> {
        self.report.threads.get(id as usize)
    }

    /// A thread's name.
    pub fn name_of(&self, thread: u32) -> &'a str {
        self.thread(thread).map_or("", |row| row.name.0.as_str())
    }

    /// What to call a thread: its name, with its role where it has one.
    pub fn called(&self, thread: u32) -> String {
        self.thread(thread).map_or_else(String::new, ThreadRow::called)
    }

    /// An object.
    pub fn object(&self, id: u32) -> Option<&'a Object> {
        self.report.objects.get(id as usize)
    }

    /// A share of the run.
    pub fn of_wall(&self, ns: u64) -> f64 {
        Nanos(ns).share_of(Nanos(self.report.wall_ns))
    }

    /// The share of the path in a state; 0 without a path.
    pub fn on_path(&self, state: State) -> f64 {
        self.of_wall(self.report.path.states.0[state].0)
    }

    /// The share of the path in a thread.
    pub fn path_of(&self, thread: u32) -> f64 {
        self.on_path.get(&thread).map_or(0.0, |&ns| self.of_wall(ns))
    }

    /// The share of the path under a lock that another thread waited for, at least.
    pub fn path_under(&self, object: u32) -> f64 {
        let reached = self.report.path.held.iter().find(|on| on.id == object);
        let reached = reached.map_or(0, |on| on.ns);
        // The path knows of all its steps how it came into a holder, but of no holder that it was
        // in already; the lives know those, of the steps that are listed. Neither counts too much.
        self.of_wall(self.held.get(&object).copied().unwrap_or(0).max(reached))
    }

    /// Whether [`Self::path_under`] has all there is to know, and little is little.
    pub fn is_counted(&self, object: u32) -> bool {
        let path = &self.report.path;
        let folded = path.folded.0.total().share_of(Nanos(path.ns));
        folded <= MOST_FOLDED && !self.uncounted.contains(&object)
    }

    /// Whether there is a path and it says who the run waited for: where wakers were not
    /// seen, it ends in a wait for a thread that is not followed.
    pub fn path_tells(&self) -> bool {
        let blind: f64 = [State::Join, State::Lock, State::Child, State::Unknown]
            .into_iter()
            .map(|state| self.on_path(state))
            .sum();
        // Only the kernel tier sees who woke whom; one thread needs no waker.
        let followed = matches!(self.report.tier, "kernel" | "synthetic");
        let alone = self.report.threads.len() == 1;
        self.report.path.thread.is_some() && blind < 0.3 && (followed || alone)
    }

    /// What replay says about a change that begins so: the usable one that gains most.
    pub fn gain(&self, change: &str) -> Option<Gain> {
        let tried = self.report.whatif.iter();
        let usable = tried.filter(|w| w.refused.is_none() && w.change.starts_with(change));
        let best = usable.max_by(|a, b| a.speedup.total_cmp(&b.speedup))?;
        Some(Gain {
            change: best.change.clone(),
            speedup: best.speedup,
            low: best.low,
            high: best.high,
        })
    }

    /// What it gains to change the innermost of these functions (full names, innermost first) that
    /// was tried. Of functions that are always in each other's stacks only the outermost is.
    pub fn section_gain<'n>(&self, frames: impl IntoIterator<Item = &'n str>) -> Option<Gain> {
        let mut gains =
            frames.into_iter().filter_map(|name| self.gain(&format!("section:{name}*")));
        gains.next()
    }

    /// The same of the place on the path with most time in a state.
    pub fn gain_where(&self, state: State, chain: &[String]) -> Option<Gain> {
        let mut spots = self.spots.iter().filter(|spot| spot.state == state.name());
        let spot = spots.find(|spot| spot.chain == chain)?;
        self.section_gain(spot.frames.iter().map(String::as_str))
    }

    /// What halving the hold of a lock gains, else what it gains to be rid of it.
    pub fn lock_gain(&self, lock: u32) -> Option<Gain> {
        let half = self.gain(&format!("lock:{lock}*0.5"));
        half.or_else(|| self.gain(&format!("lock:{lock}*")))
            .or_else(|| self.gain(&format!("lock:{lock}=")))
    }

    /// Whether being kept out by a lock costs the run anything: not if it would end no sooner with a
    /// lock that keeps nobody out. Then it may be long that it is held, but not that it is a lock. A
    /// gain that may be less than one counts as is none.
    pub fn keeps_the_run_up(&self, lock: u32) -> bool {
        self.gain(&format!("lock:{lock}=")).is_none_or(|gain| {
            self.is_real(&gain) && gain.low.is_some_and(|low| low >= super::LEAST_GAIN)
        })
    }

    /// Whether a gain is large and sure enough to speak of a bottleneck: not without an interval.
    pub fn is_real(&self, gain: &Gain) -> bool {
        gain.speedup >= super::LEAST_GAIN
            && gain.low.is_some_and(|low| low > 1.0)
            && self.on_path(State::Unknown) <= super::MOST_UNKNOWN
    }

    /// CPUs that the command could use, its quota included.
    pub fn cpus(&self) -> f64 {
        words::cpus(&self.report.host)
    }

    /// A finer cut of the budget whose name begins so, ns.
    pub fn detail(&self, name: &str) -> u64 {
        let cuts = self.report.budget.detail.iter();
        cuts.filter(|cut| cut.name.starts_with(name)).map(|cut| cut.ns).sum()
    }

    /// For how much of the run all CPUs were taken by this program.
    pub fn full(&self) -> f64 {
        let bars = self.report.utilisation.histogram.iter();
        let full = bars.filter(|bar| f64::from(bar.running_threads) + 0.5 > self.cpus());
        self.of_wall(full.map(|bar| bar.ns).sum())
    }

    /// Threads of a process.
    pub fn threads_of(&self, process: u32) -> impl Iterator<Item = &'a ThreadRow> {
        self.of_process.get(&process).into_iter().flatten().copied()
    }

    /// Children of a process.
    pub fn children_of(&self, process: u32) -> &[&'a ProcessRow] {
        self.children.get(&process).map_or(&[], Vec::as_slice)
    }

    /// What a thread was seen to do in Python.
    pub fn roles(&self, thread: u32) -> Roles {
        self.lives.get(thread as usize).map_or_else(Roles::default, |life| life.python)
    }

    /// The pools of the run.
    pub fn pools(&self) -> &[Pool<'a>] {
        self.pools.get_or_init(|| starved_pool::pools(self))
    }

    /// A share of a thread's life.
    pub fn of_life(&self, thread: &ThreadRow, state: State) -> f64 {
        thread.states.0[state].share_of(thread.states.0.total())
    }

    /// The thread that holds a lock at the end, as far as was seen: it came out of a wait for it
    /// last and has not let go of it for another since.
    pub fn owner(&self, lock: u32) -> Option<u32> {
        let &(at, thread) = self.took_last.get(&lock)?;
        let gone = self.let_go.get(&(lock, thread)).is_some_and(|&last| last >= at);
        (!gone).then_some(thread)
    }

    /// Threads that waited for an object, with their waits and time.
    pub fn waiters(&self, object: u32) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        let all = self.waited.range((object, 0)..=(object, u32::MAX));
        all.map(|(&(_, thread), &(waits, ns))| (thread, waits, ns))
    }
}

/// What stacks say, each asked once.
pub struct Own<'a> {
    symbols: &'a Symbols,
    places: FastMap<StackId, Vec<String>>,
    sites: FastMap<StackId, Option<String>>,
    spins: FastMap<StackId, Option<String>>,
    roles: FastMap<StackId, Roles>,
    tasks: FastMap<StackId, Option<StackTask>>,
}

impl<'a> Own<'a> {
    fn new(symbols: &'a Symbols) -> Self {
        let (places, sites, spins, roles, tasks) = Default::default();
        Self { symbols, places, sites, spins, roles, tasks }
    }

    /// The innermost own functions.
    pub fn place(&mut self, stack: StackId) -> Vec<String> {
        const DEEPEST: usize = 3;
        let symbols = self.symbols;
        let find =
            || chain(&names::frames(symbols, stack)).into_iter().take(DEEPEST).collect::<Vec<_>>();
        self.places.entry(stack).or_insert_with(find).clone()
    }

    /// The innermost own function with its line.
    pub fn site(&mut self, stack: StackId) -> Option<String> {
        let symbols = self.symbols;
        self.sites.entry(stack).or_insert_with(|| names::call_site(symbols, stack)).clone()
    }

    /// The function in which it waits by running, if it does.
    pub fn spins_in(&mut self, stack: StackId) -> Option<String> {
        let symbols = self.symbols;
        let find = || spinning::spins_in(&names::frames(symbols, stack));
        self.spins.entry(stack).or_insert_with(find).clone()
    }

    /// The task of asyncio that it runs.
    pub fn task(&mut self, stack: StackId) -> Option<StackTask> {
        let symbols = self.symbols;
        let find = || names::task(&names::frames(symbols, stack));
        self.tasks.entry(stack).or_insert_with(find).clone()
    }

    /// What part in a Python program it shows.
    pub fn roles(&mut self, stack: StackId) -> Roles {
        let symbols = self.symbols;
        *self.roles.entry(stack).or_insert_with(|| Roles::of(&names::frames(symbols, stack)))
    }

    /// All functions, outermost first.
    pub fn frames(&self, stack: StackId) -> Vec<FrameRow> {
        names::frames(self.symbols, stack)
    }
}

/// The program's own functions of a stack, innermost first.
pub fn chain(stack: &[FrameRow]) -> Vec<String> {
    let own = stack.iter().rev().filter(|frame| names::is_own(frame));
    own.map(|frame| names::short(&frame.name)).collect()
}

fn spots(report: &Report) -> Vec<Spot> {
    type Place = (u32, &'static str, Vec<String>);
    let mut sums: BTreeMap<Place, (u64, u64, &[FrameRow])> = BTreeMap::new();
    for step in report.critical_path.iter().filter(|step| !step.stack.is_empty()) {
        let place = (step.thread, step.state, chain(&step.stack));
        let (ns, longest, stack) = sums.entry(place).or_default();
        *ns += step.ns;
        if step.ns > *longest {
            (*longest, *stack) = (step.ns, &step.stack);
        }
    }
    let spot = |((thread, state, chain), (ns, _, stack)): (Place, (u64, u64, &[FrameRow]))| {
        let frames = stack.iter().rev().map(|frame| frame.name.clone()).collect();
        Spot { thread, state, chain, frames, ns }
    };
    let mut spots: Vec<Spot> = sums.into_iter().map(spot).collect();
    spots.sort_by_key(|spot| std::cmp::Reverse(spot.ns));
    spots
}
