//! Asking: prepares a replay, checks it against the run, and answers changes.

use crate::analysis::fold::Fold;
use crate::analysis::gil::Gil;
use crate::analysis::gil::gils;
use crate::analysis::history::Ender;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::history::Stay;
use crate::analysis::names::stem;
use crate::analysis::objects::Rows;
use crate::analysis::replay::change::BadChange;
use crate::analysis::replay::change::Change;
use crate::analysis::replay::extract;
use crate::analysis::replay::extract::Input;
use crate::analysis::replay::extract::Reading;
use crate::analysis::replay::fit::MOST_STAYS;
use crate::analysis::replay::fit::unfit;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::resample::Lots;
use crate::analysis::replay::resolve;
use crate::analysis::replay::resolve::Catalog;
use crate::analysis::replay::resolve::Resolved;
use crate::analysis::replay::scenario::Scenario;
use crate::analysis::replay::sim;
use crate::analysis::replay::sim::Run;
use crate::analysis::replay::sim::Until;
use crate::analysis::replay::sites::Sites;
use crate::analysis::report::Object;
use crate::analysis::report::Target;
use crate::model::Nanos;
use crate::model::State;
use crate::model::Symbols;
use crate::model::ThreadId;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::learn_words;
use crate::model::walk_knowing;
use serde::Serialize;
use std::collections::BTreeMap;

/// What no replay of a trace can know, to be said with every answer.
pub const BLIND_SPOTS: &str = "caches and memory bandwidth, the cost of handing a lock on, \
    spinning, work that is batched or adapts, devices that get slower under load, and locks and \
    queues for which nobody ever waited";

/// The unchanged replay may be this far from the run.
pub const MOST_ERROR: f64 = 0.05;
/// So much competition for the CPUs is worth a note.
const MUCH_FOREIGN: f64 = 0.1;
/// Operations simulated for one interval, in all replicas.
const REPLICA_STEPS: usize = 20_000_000;
/// For the middle nine tenths.
pub const REPLICAS: usize = 20;
/// From fewer there is no interval.
pub const FEWEST_REPLICAS: usize = 5;

/// What a replay is prepared from.
pub struct Facts<'a> {
    /// The lives of all threads.
    pub history: &'a History,
    /// The GILs that they wait for.
    pub gils: &'a BTreeMap<ObjectIndex, Gil>,
    /// Their names and ends.
    pub timelines: &'a Timelines,
    /// Names of functions.
    pub symbols: &'a Symbols,
    /// The report's objects, by id.
    pub objects: &'a [Object],
    /// The id of each object of the history.
    pub ids: &'a [u32],
    /// CPUs that the command could use.
    pub cpus: f64,
    /// Whether the command ended by itself: neither killed nor cut off.
    pub ended: bool,
}

/// The unchanged replay against the run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Identity {
    /// How long the run took, ns.
    pub observed_ns: u64,
    /// How long its replay takes.
    pub replayed_ns: u64,
    /// Their difference, relative to the run; negative if the replay is faster.
    pub error: f64,
}

/// What a change would do.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Answer {
    /// The changes, as asked.
    pub changes: Vec<String>,
    /// What gets faster.
    pub target: Target,
    /// How well the unchanged run is replayed; `None` where that was not possible.
    pub identity: Option<Identity>,
    /// Time before over time after.
    pub speedup: f64,
    /// Its interval, low end; `None` where it is not known.
    pub low: Option<f64>,
    /// High end.
    pub high: Option<f64>,
    /// The replay of the changed run, ns (of the target).
    pub after_ns: u64,
    /// The report's object that is changed, if it is one.
    pub object: Option<u32>,
    /// What that is called.
    pub label: Option<String>,
    /// What was decided on the way.
    pub notes: Vec<String>,
    /// What cannot be seen.
    pub blind_spots: &'static str,
    /// Why there is no answer, if there is none.
    pub refused: Option<String>,
}

/// A run, ready to be replayed.
pub struct Replay<'a> {
    /// What is replayed.
    pub(super) model: Model,
    pub(super) catalog: Catalog<'a>,
    until: Until,
    target: Target,
    /// The unchanged replay.
    unchanged: Option<Run>,
    identity: Option<Identity>,
    refused: Option<String>,
}

/// A change that was tried once: its answer, to which an interval may be added.
pub struct Tried {
    /// The answer so far.
    pub answer: Answer,
    resolved: Resolved,
}

/// Walks a trace and answers changes, all of them together.
pub fn what_if(trace: &dyn Trace, changes: &[String]) -> Result<Answer, BadChange> {
    let parsed: Vec<Change> = changes.iter().map(|c| Change::parse(c)).collect::<Result<_, _>>()?;
    let mut answer = with_facts(trace, |facts| Replay::prepare(facts).answer(&parsed))?;
    answer.changes = changes.to_vec();
    Ok(answer)
}

/// Walks a trace and asks something of its facts.
pub fn with_facts<T>(trace: &dyn Trace, ask: impl FnOnce(&Facts) -> T) -> T {
    let mut fold = Fold::default();
    let timelines = walk_knowing(trace, learn_words(trace), &mut fold);
    let Fold { objects, mut history, .. } = fold;
    let Rows { objects, ids, same } = objects.rows(&timelines, trace.symbols());
    history.window = timelines.window();
    history.unify(same);
    let gils = gils(&history);
    ask(&Facts {
        history: &history,
        gils: &gils,
        timelines: &timelines,
        symbols: trace.symbols(),
        objects: &objects,
        ids: &ids,
        cpus: cpus(trace),
        ended: ended(trace, &timelines),
    })
}

/// CPUs that the command could use.
pub fn cpus(trace: &dyn Trace) -> f64 {
    let info = trace.info();
    let allowed = f64::from(info.cpus_allowed.max(1));
    info.cpu_quota_millis.map_or(allowed, |quota| allowed.min(quota as f64 / 1_000.0)).max(0.05)
}

/// Whether the command ended by itself.
pub fn ended(trace: &dyn Trace, timelines: &Timelines) -> bool {
    const SIGNALS: u32 = 0x7f;
    let root = timelines.root().and_then(|root| timelines.processes().get(root.0 as usize));
    let status = trace.summary().and_then(|summary| summary.root?.1);
    let status = status.or(root.and_then(|root| root.status));
    root.is_some_and(|root| !root.alive) && status.unwrap_or(0) & SIGNALS == 0
}

impl<'a> Replay<'a> {
    /// Makes the model of a run and replays it unchanged.
    pub fn prepare(facts: &Facts<'a>) -> Self {
        Self::prepare_if(facts, MOST_STAYS)
    }

    /// The same, but refused where the run has more stays than that.
    pub fn prepare_if(facts: &Facts<'a>, most: usize) -> Self {
        let mut sites = Sites::new(facts.symbols);
        let root = root_thread(facts);
        let (groups, names) = groups(facts.timelines);
        let input = Input {
            history: facts.history,
            window: facts.timelines.window(),
            root,
            cpus: facts.cpus,
            ended: ends(facts, root),
            groups: groups.clone(),
            gils: facts.gils,
        };
        let unfit = unfit(facts, most);
        let mut refused = None;
        let mut model = Model::default();
        let (mut until, mut text) = target(&model, &names, &groups, facts.ended);
        let (mut unchanged, mut identity) = (None, None);
        // Queues as queues; where that does not come out, each hand-off as it was seen; then the same
        // without locks that hardly anybody waited for, of whose holds little was seen.
        for reading in Reading::ALL {
            if unfit.is_some() {
                break;
            }
            // Nothing would be read otherwise than the time before, or it takes too long.
            let same = !reading.anonymous && model.queues.is_empty()
                || reading.few_locks
                    && (model.locks.is_empty() || facts.history.size() > FEW_STAYS);
            if refused.is_some() && same {
                continue;
            }
            model = extract::extract(&input, &mut sites, reading);
            (until, text) = target(&model, &names, &groups, facts.ended);
            (unchanged, refused) = check(&model, &until);
            identity = unchanged.as_ref().map(|run| compare(&model, run));
            if refused.is_none() {
                break;
            }
        }
        let catalog =
            Catalog { objects: facts.objects, ids: facts.ids, threads: names, groups, sites };
        let refused = unfit.or(refused);
        let target = text;
        Self { model, catalog, until, target, unchanged, identity, refused }
    }

    /// Why nothing is claimed, if nothing is.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// How long each lock was held, ns, by object id; nothing where nothing is claimed.
    pub fn held(&self) -> BTreeMap<u32, u64> {
        let mut held: BTreeMap<u32, u64> = BTreeMap::new();
        for lock in self.model.locks.iter().filter(|_| self.refused.is_none()) {
            if let Some(&id) = self.catalog.ids.get(lock.object as usize) {
                let sum = held.entry(id).or_default();
                *sum = sum.saturating_add(lock.held);
            }
        }
        held
    }

    /// Operations of the model: what one simulation costs.
    pub fn steps(&self) -> usize {
        self.model.len().max(1)
    }

    /// What changes would do, all together, with an interval: from runs with service times
    /// drawn anew, fewer of them for long runs.
    pub fn answer(&self, changes: &[Change]) -> Result<Answer, BadChange> {
        let mut tried = [self.attempt(changes)?];
        let affordable = REPLICA_STEPS / (2 * self.steps());
        self.intervals(tried.iter_mut(), affordable.clamp(FEWEST_REPLICAS, REPLICAS));
        let [tried] = tried;
        Ok(tried.answer)
    }

    /// What changes would do, all together: one simulation, and no interval.
    pub fn attempt(&self, changes: &[Change]) -> Result<Tried, BadChange> {
        let refusal =
            |reason| Tried { answer: self.refusal(Some(reason)), resolved: Resolved::default() };
        let before = match (&self.refused, &self.unchanged) {
            (None, Some(before)) => before,
            (reason, _) => {
                return Ok(refusal(reason.clone().unwrap_or_else(|| STANDSTILL.to_owned())));
            }
        };
        let resolved = self.catalog.resolve(changes, &self.model)?;
        let (before, after) = match self.once(&self.model, before, &resolved) {
            Ok(both) => both,
            Err(reason) => return Ok(refusal(reason)),
        };
        let mut answer = self.refusal(None);
        answer.speedup = before / after.max(1.0);
        answer.after_ns = after as u64;
        answer.object = resolved.object;
        let row = resolved.object.and_then(|id| self.catalog.objects.get(id as usize));
        answer.label = row.map(|row| row.label.clone());
        answer.notes.clone_from(&resolved.notes);
        if self.model.foreign > MUCH_FOREIGN {
            answer.notes.push(format!(
                "other processes wanted the CPUs too (and took {:.1} of them): what \
                 is said of computing is rough",
                self.model.foreign
            ));
        }
        Ok(Tried { answer, resolved })
    }

    /// The intervals of changes that were tried: `count` replicas with other luck, drawn once
    /// for all of them. That costs
    /// (changes + 1) * `count` simulations.
    pub fn intervals<'t>(&self, tried: impl Iterator<Item = &'t mut Tried>, count: usize) {
        let mut tried: Vec<&mut Tried> =
            tried.filter(|tried| tried.answer.refused.is_none()).collect();
        if tried.is_empty() || count == 0 {
            return;
        }
        let mut found: Vec<Vec<f64>> = vec![Vec::new(); tried.len()];
        let mut lots = Lots::of(&self.model);
        for seed in 0..count as u64 {
            let drawn = lots.draw(seed);
            let Ok(before) = sim::run(drawn, &Scenario::default(), &self.until) else { continue };
            for (one, found) in tried.iter().zip(&mut found) {
                let once = self.once(drawn, &before, &one.resolved);
                found.extend(once.ok().map(|(before, after)| before / after.max(1.0)));
            }
        }
        for (one, found) in tried.iter_mut().zip(found) {
            let error = self.identity.map_or(0.0, |identity| identity.error);
            one.answer.take_interval(found, count, error);
        }
    }

    /// An answer that says nothing.
    pub fn nothing(&self) -> Answer {
        self.refusal(None)
    }

    fn refusal(&self, refused: Option<String>) -> Answer {
        Answer {
            changes: Vec::new(),
            target: self.target.clone(),
            identity: self.identity,
            speedup: 1.0,
            low: None,
            high: None,
            after_ns: 0,
            object: None,
            label: None,
            notes: Vec::new(),
            blind_spots: BLIND_SPOTS,
            refused,
        }
    }

    /// Time of the target before and after: of the run, or of a unit of work.
    fn once(&self, model: &Model, before: &Run, resolved: &Resolved) -> Result<(f64, f64), String> {
        let Some((changed, crew)) = resolved.model(model)? else {
            let after = sim::run(model, &resolved.scenario, &self.until);
            let after = after.map_err(|_| STANDSTILL_CHANGED.to_owned())?;
            return Ok(self.times(before, &after, &self.until));
        };
        let mut scenario = resolved.scenario.clone();
        let old = resolved.crew.as_ref().map_or(&[][..], |crew| &crew.workers);
        for (index, &worker) in crew.iter().enumerate().skip(old.len()) {
            scenario.copy_thread(old[index % old.len()], worker);
        }
        let until = match &self.until {
            Until::Root => Until::Root,
            Until::FirstOf(_) => Until::FirstOf(crew),
        };
        let after = sim::run(&changed, &scenario, &until);
        let after = after.map_err(|_| STANDSTILL_CHANGED.to_owned())?;
        Ok(self.times(before, &after, &until))
    }

    fn times(&self, before: &Run, after: &Run, until: &Until) -> (f64, f64) {
        let per_work = |run: &Run, until: &Until| match until {
            Until::Root => run.time,
            Until::FirstOf(list) => {
                let done: f64 = list.iter().filter_map(|&w| run.done.get(w)).sum();
                run.time * self.model.observed as f64 / done.max(1.0)
            }
        };
        (per_work(before, &self.until), per_work(after, until))
    }
}

impl Answer {
    /// The middle nine tenths of `count` replicas, of which those found that came to an end;
    /// none if most did not. `error` is that of the unchanged replay.
    fn take_interval(&mut self, mut found: Vec<f64>, count: usize, error: f64) {
        let lost = count - found.len();
        if lost > 0 {
            let so = if lost * 2 > count { "there is no interval" } else { "the rest counts" };
            self.notes.push(format!(
                "{lost} of {count} replays with other service times came to a standstill: {so}"
            ));
        }
        if lost * 2 > count {
            return;
        }
        found.sort_by(f64::total_cmp);
        let edge = found.len() / REPLICAS;
        let (low, high) = (found.get(edge), found.iter().rev().nth(edge));
        // What the replay gets wrong of the whole run, it may get wrong of the gain.
        let doubt = error.abs() * (self.speedup - 1.0).abs();
        // Where it takes longer than the run did, the change may undo that and nothing else.
        let at_least = (self.speedup / (1.0 + error.max(0.0))).max(1.0);
        self.low = low.map(|low| (low.min(self.speedup) - doubt).min(at_least));
        self.high = high.map(|high| high.max(self.speedup) + doubt);
    }
}

/// Runs with more stays are not read again without their locks.
const FEW_STAYS: usize = 500_000;

const STANDSTILL: &str = "the replay of the unchanged run comes to a standstill: what its threads \
    waited for was not seen well enough";
const STANDSTILL_CHANGED: &str = "the changed run comes to a standstill: its threads would wait \
    for each other in an order that the trace does not tell";

/// The unchanged replay, and why it is not good enough.
fn check(model: &Model, until: &Until) -> (Option<Run>, Option<String>) {
    match sim::run(model, &Scenario::default(), until) {
        Ok(run) => {
            let found = compare(model, &run);
            let refused = (found.error.abs() > MOST_ERROR).then(|| too_far(&found));
            (Some(run), refused)
        }
        Err(sim::Standstill) => (None, Some(STANDSTILL.to_owned())),
    }
}

fn too_far(identity: &Identity) -> String {
    let way = if identity.error > 0.0 { "longer" } else { "shorter" };
    format!(
        "the replay of the unchanged run takes {:.1} % {way} than the run did, and more than \
         {:.0} % is too much to predict anything from",
        identity.error.abs() * 100.0,
        MOST_ERROR * 100.0
    )
}

fn compare(model: &Model, run: &Run) -> Identity {
    let observed = model.observed.max(1) as f64;
    Identity {
        observed_ns: model.observed,
        replayed_ns: run.time as u64,
        error: (run.time - observed) / observed,
    }
}

fn root_thread(facts: &Facts) -> ThreadId {
    let root = facts.timelines.root();
    let first = facts.timelines.threads().iter().find(|thread| Some(thread.process) == root);
    first.map_or(ThreadId(0), |thread| thread.id)
}

/// Which threads ended by themselves, and were not killed by the end of their process: those
/// are woken from whatever they wait for by the thread of it that ends it. Who is woken by the signal
/// of another process goes on, if only to its end.
fn ends(facts: &Facts, root: ThreadId) -> Vec<bool> {
    const DEATH: Nanos = Nanos(5_000_000);
    // No death ends a wait for a page or a disk. Nor one for the lock of the memory map, in which two
    // threads meet that end at once: that one is over before it is likely that a death comes.
    const MEETING: Nanos = Nanos(1_000_000);
    let is_deaf = |stay: Stay| match facts.history.state(stay.object) {
        State::PageFault | State::Disk => true,
        State::Other => stay.woken - stay.off < MEETING,
        _ => false,
    };
    let process_of = |id: ThreadId| facts.history.life(id).and_then(|life| life.process);
    let end_of = |id: ThreadId| facts.history.life(id).map_or(Nanos::ZERO, |life| life.end);
    let killed = |id: ThreadId| {
        let last = facts.history.last_stay(id);
        last.is_some_and(|stay| match stay.ender {
            _ if stay.open => true,
            Ender::Thread(killer) => {
                !stay.released
                    && !is_deaf(stay)
                    && killer != id
                    && process_of(killer) == process_of(id)
                    && stay.woken > stay.off
                    && end_of(id) <= stay.on + DEATH
                    && stay.on <= end_of(killer)
                    && end_of(killer) <= stay.on + DEATH
            }
            _ => false,
        })
    };
    let ended = |thread: &crate::model::Thread| {
        if thread.id == root { facts.ended } else { !thread.alive && !killed(thread.id) }
    };
    facts.timelines.threads().iter().map(ended).collect()
}

/// Threads of one process whose names differ by a number only.
fn groups(timelines: &Timelines) -> (Vec<u32>, Vec<String>) {
    let mut known: BTreeMap<(u32, String), u32> = BTreeMap::new();
    let names: Vec<String> = timelines.threads().iter().map(|t| t.name.to_string()).collect();
    let groups = timelines.threads().iter().zip(&names).map(|(thread, name)| {
        let next = known.len() as u32;
        let first = timelines.processes().get(thread.process.0 as usize);
        let lead = first.is_some_and(|process| crate::model::Tid::from(process.pid) == thread.tid);
        // A main thread is like the main threads of other processes of that name.
        let process = if lead { u32::MAX } else { thread.process.0 };
        *known.entry((process, stem(name).into_owned())).or_insert(next)
    });
    (groups.collect(), names)
}

/// What is to get faster: the run, if it has an end of its own.
fn target(model: &Model, names: &[String], groups: &[u32], ended: bool) -> (Until, Target) {
    let root = model.streams.get(model.root);
    let sleeps = root.is_some_and(|root| {
        let longest = root.ops.iter().filter(|op| op.kind == Kind::Delay).map(|op| op.ns).max();
        u64::from(longest.unwrap_or(0)) * 2 > model.observed
    });
    let others = model.streams.iter().enumerate().any(|(i, s)| i != model.root && s.ops.len() > 8);
    if ended && !(sleeps && others) {
        let text = "the run, from the start of the command to its end".to_owned();
        return (Until::Root, Target { kind: "root-exit", id: None, text });
    }
    let workers = resolve::workers(model, groups);
    let most = workers.iter().map(|&w| resolve::service(model, w)).max().unwrap_or(0);
    let list: Vec<usize> =
        workers.into_iter().filter(|&w| resolve::service(model, w) * 2 >= most).collect();
    let name = list.first().and_then(|&w| names.get(w)).cloned().unwrap_or_default();
    let why = if ended { "its main thread only sleeps meanwhile" } else { "the run was cut off" };
    let text =
        format!("the work that {} threads like `{name}` get done in a time ({why})", list.len());
    let id = list.first().map(|&w| w as u32);
    (Until::FirstOf(list), Target { kind: "throughput", id, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::replay::world::Act;
    use crate::analysis::replay::world::World;

    /// The interval that 20 replicas around a gain give, with a replay that is off by so much.
    fn interval(speedup: f64, error: f64) -> (f64, f64) {
        let world = World::of(vec![vec![Act::Sleep(1_000_000, "nap")]]).play().0;
        let mut answer = with_facts(&world, |facts| Replay::prepare(facts).nothing());
        answer.speedup = speedup;
        let replicas = (0..20).map(|i| speedup + f64::from(i) * 0.001).collect();
        answer.take_interval(replicas, 20, error);
        answer.low.zip(answer.high).expect("an interval")
    }

    #[test]
    fn a_gain_that_only_undoes_what_the_replay_got_wrong_is_not_sure() {
        // The run took 764 ms, unchanged it is replayed in 793, and changed in 757.
        let (low, high) = interval(1.047, 0.038);
        assert!((1.008..1.01).contains(&low) && high > 1.06, "{low} {high}");
        assert!(interval(1.03, 0.04).0 <= 1.0, "all of it may be error");
        // A replay that is right, or too fast, says what it says.
        assert!(interval(1.047, 0.0).0 > 1.046);
        assert!(interval(1.047, -0.038).0 > 1.044);
        // What changes nothing is not said to harm.
        assert!((interval(1.0, 0.04).0 - 1.0).abs() < 1e-9);
        assert!(interval(1.4, 0.01).0 > 1.38);
    }
}
