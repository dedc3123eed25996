//! Blame and path in the words of the report.

use crate::analysis::blame::Blame;
use crate::analysis::blame::Charges;
use crate::analysis::blame::Culprit;
use crate::analysis::functions::functions_of;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::idle::IdleCpus;
use crate::analysis::names;
use crate::analysis::path::Path;
use crate::analysis::path::Step;
use crate::analysis::report::Doing;
use crate::analysis::report::FunctionOnPath;
use crate::analysis::report::Holder;
use crate::analysis::report::NotBlamed;
use crate::analysis::report::Object;
use crate::analysis::report::OnPath;
use crate::analysis::report::PathPart;
use crate::analysis::report::PathStep;
use crate::analysis::report::PathSummary;
use crate::analysis::report::Shown;
use crate::analysis::report::StateTimes;
use crate::analysis::report::ThreadRow;
use crate::model::Function;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::State;
use crate::model::States;
use crate::model::Symbols;
use crate::model::ThreadId;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Holders of an object that come with a stack.
const MOST_HOLDERS: usize = 32;
/// What a holder did, in so many lines.
const MOST_DOING: usize = 8;
/// Steps of the path that come with a stack, longest first.
const MOST_STACKS: usize = 1_000;
/// Functions listed.
const MOST_FUNCTIONS: usize = 50;

/// What the report's rows are made from.
pub struct Explainer<'a> {
    /// Threads.
    pub threads: &'a [ThreadRow],
    /// Names of stacks.
    pub symbols: &'a Symbols,
    /// Lives.
    pub history: &'a History,
    /// The row of each object.
    pub ids: &'a [u32],
}

impl Explainer<'_> {
    fn id(&self, object: ObjectIndex) -> Option<u32> {
        self.ids.get(object as usize).copied().filter(|&id| id != u32::MAX)
    }

    /// Fills in who was to blame, and how much of the waiting left CPUs idle.
    pub fn blame(&self, blame: &Blame, idle: &IdleCpus, objects: &mut [Object]) {
        let mut by_row: BTreeMap<u32, Charges> = BTreeMap::new();
        for (&object, charges) in &blame.objects {
            let Some(id) = self.id(object) else { continue };
            let row = by_row.entry(id).or_default();
            for (&culprit, &time) in &charges.culprits {
                *row.culprits.entry(culprit).or_default() += time;
            }
            for (&site, &time) in &charges.sites {
                *row.sites.entry(site).or_default() += time;
            }
        }
        let idle_of = self.idle(idle, objects.len());
        for (object, row) in (0..).zip(objects) {
            row.idle_cpu_ns = Some(idle_of[object as usize].0.min(row.wait_ns));
            let charges = by_row.remove(&object).unwrap_or_default();
            (row.holders, row.not_blamed) = self.holders(&charges);
            let charged: u64 = charges.culprits.values().map(|time| time.0).sum();
            row.not_blamed.not_handed_ns = row.wait_ns.saturating_sub(charged);
        }
    }

    fn idle(&self, idle: &IdleCpus, rows: usize) -> Vec<Nanos> {
        let mut by_row = vec![Nanos::ZERO; rows];
        for (thread, _) in self.history.lives() {
            for stay in self.history.stays(thread, Nanos::ZERO) {
                if stay.woken > stay.off
                    && let Some(id) = self.id(stay.object)
                    && let Some(time) = by_row.get_mut(id as usize)
                {
                    *time += idle.within(stay.off, stay.woken);
                }
            }
        }
        by_row
    }

    fn holders(&self, charges: &Charges) -> (Vec<Holder>, NotBlamed) {
        let mut others = NotBlamed::default();
        let mut doing: BTreeMap<ThreadId, Vec<Doing>> = BTreeMap::new();
        for (&culprit, &Nanos(ns)) in &charges.culprits {
            match culprit {
                Culprit::Thread(thread, state, object) => {
                    let object = object.and_then(|object| self.id(object));
                    let did = Doing { state: state.name(), object, ns };
                    doing.entry(thread).or_default().push(did);
                }
                Culprit::Interrupt => others.interrupt_ns += ns,
                Culprit::Softirq => others.softirq_ns += ns,
                Culprit::Stranger => others.outside_ns += ns,
                Culprit::Unseen => others.unseen_ns += ns,
                Culprit::Open => others.unfinished_ns += ns,
            }
        }
        let mut holders: Vec<(u64, ThreadId, Vec<Doing>)> = doing
            .into_iter()
            .map(|(thread, doing)| (doing.iter().map(|did| did.ns).sum(), thread, doing))
            .collect();
        holders.sort_by_key(|&(time, thread, _)| (Reverse(time), thread));
        let rows = holders
            .into_iter()
            .enumerate()
            .map(|(rank, (blamed_ns, thread, doing))| {
                let listed = rank < MOST_HOLDERS;
                let stack = if listed { self.heaviest(charges, thread) } else { None };
                Holder {
                    thread: thread.0,
                    name: self.name(thread),
                    blamed_ns,
                    doing: condensed(doing),
                    stack: stack.map_or_else(Vec::new, |id| names::frames(self.symbols, id)),
                }
            })
            .collect();
        (rows, others)
    }

    fn name(&self, thread: ThreadId) -> Shown {
        let row = self.threads.get(thread.0 as usize);
        row.map_or_else(Shown::default, |row| Shown(row.called()))
    }

    fn heaviest(&self, charges: &Charges, thread: ThreadId) -> Option<StackId> {
        // Stacks of the same functions count together, whatever their return addresses.
        let mut by_names: BTreeMap<Vec<String>, (Nanos, StackId)> = BTreeMap::new();
        let of = charges.sites.range((thread, StackId(0))..=(thread, StackId(u32::MAX)));
        for (&(_, stack), &time) in of {
            let names = self.symbols.functions(stack).iter().map(Function::name).collect();
            by_names.entry(names).or_insert((Nanos::ZERO, stack)).0 += time;
        }
        by_names.into_values().max().map(|(_, stack)| stack)
    }

    /// The steps of the path, and its sums.
    pub fn path(&self, path: &Path, last: ThreadId) -> (Vec<PathStep>, PathSummary) {
        let mut longest: Vec<&Step> = path.steps.iter().collect();
        longest.sort_by_key(|step| (Reverse(step.end - step.start), step.start));
        let least = longest.get(MOST_STACKS).map_or(Nanos::ZERO, |step| step.end - step.start);
        let steps = path.steps.iter().map(|step| self.step(step, least)).collect();
        (steps, self.path_summary(path, last))
    }

    fn step(&self, step: &Step, least: Nanos) -> PathStep {
        let time = step.end - step.start;
        let stack = if time > least { self.stack_of(step) } else { None };
        PathStep {
            thread: step.thread.0,
            state: step.state.name(),
            object: step.object.and_then(|object| self.id(object)),
            under: step.under.and_then(|object| self.id(object)),
            start_ns: (step.start - self.history.window.0).0,
            ns: time.0,
            stack: stack.map_or_else(Vec::new, |stack| names::frames(self.symbols, stack)),
        }
    }

    /// Where a step was spent: the stack of its wait, or that of most of its samples.
    fn stack_of(&self, step: &Step) -> Option<StackId> {
        let life = self.history.life(step.thread)?;
        if step.state == State::Running {
            let mut weights: BTreeMap<StackId, u64> = BTreeMap::new();
            for look in life.samples_in(step.start, step.end) {
                *weights.entry(look.stack).or_default() += u64::from(look.weight);
            }
            return weights.into_iter().max_by_key(|&(id, weight)| (weight, id)).map(|(id, _)| id);
        }
        let piece = self.history.piece_before(step.thread, step.end)?;
        life.wait_stack(piece.stay.filter(|_| piece.state.is_wait())?.off)
    }

    fn path_summary(&self, path: &Path, last: ThreadId) -> PathSummary {
        let mut states = States::default();
        let mut parts: BTreeMap<PathPart, u64> = BTreeMap::new();
        let mut threads: BTreeMap<u32, u64> = BTreeMap::new();
        let mut objects: BTreeMap<u32, u64> = BTreeMap::new();
        let mut held: BTreeMap<u32, u64> = BTreeMap::new();
        for (&(thread, part), &Nanos(ns)) in &path.sums {
            states[part.state] += Nanos(ns);
            *threads.entry(thread.0).or_default() += ns;
            let object = part.object.and_then(|object| self.id(object));
            let under = part.under.and_then(|object| self.id(object));
            if let Some(id) = object {
                *objects.entry(id).or_default() += ns;
            }
            if let Some(id) = under {
                *held.entry(id).or_default() += ns;
            }
            let part = PathPart { state: part.state.name(), object, under, ns: 0 };
            *parts.entry(part).or_default() += ns;
        }
        let mut parts: Vec<PathPart> =
            parts.into_iter().map(|(part, ns)| PathPart { ns, ..part }).collect();
        parts.sort_by_key(|part| (Reverse(part.ns), *part));
        let functions = functions_of(&path.samples, self.symbols)
            .into_iter()
            .take(MOST_FUNCTIONS)
            .map(|(frame, own, total)| FunctionOnPath { frame, self_ns: own.0, total_ns: total.0 })
            .collect();
        PathSummary {
            thread: Some(last.0),
            ns: path.length().0,
            states: StateTimes(states),
            folded: StateTimes(path.folded),
            parts,
            threads: most_first(threads),
            objects: most_first(objects),
            held: most_first(held),
            functions,
        }
    }
}

fn most_first(times: BTreeMap<u32, u64>) -> Vec<OnPath> {
    let mut rows: Vec<OnPath> = times.into_iter().map(|(id, ns)| OnPath { id, ns }).collect();
    rows.sort_by_key(|row| (Reverse(row.ns), row.id));
    rows
}

/// The longest of what a holder did; the rest is summed up by state, so that all of it stays.
fn condensed(mut doing: Vec<Doing>) -> Vec<Doing> {
    doing.sort_by_key(|did| (Reverse(did.ns), did.state, did.object));
    let mut rest: BTreeMap<&'static str, u64> = BTreeMap::new();
    for did in doing.drain(MOST_DOING.min(doing.len())..) {
        *rest.entry(did.state).or_default() += did.ns;
    }
    doing.extend(rest.into_iter().map(|(state, ns)| Doing { state, object: None, ns }));
    doing
}
