//! From the words of a change to what it changes here.

use crate::analysis::names::stem;
use crate::analysis::replay::change::BadChange;
use crate::analysis::replay::change::Change;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::scenario::Scenario;
use crate::analysis::replay::sites::Sites;
use crate::analysis::replay::workers;
use crate::analysis::replay::workers::Work;
use crate::analysis::report::Object;
use std::collections::BTreeMap;

/// What changes can name.
pub struct Catalog<'a> {
    /// The report's objects.
    pub objects: &'a [Object],
    /// Number in the report of each object of the history.
    pub ids: &'a [u32],
    /// Names of the threads, by stream.
    pub threads: Vec<String>,
    /// Groups of similar threads, by stream.
    pub groups: Vec<u32>,
    /// The sites.
    pub sites: Sites<'a>,
}

/// A change of the number of workers, with who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crew {
    /// The streams.
    pub workers: Vec<usize>,
    /// How many there shall be.
    pub count: usize,
    /// How work is given to them.
    pub work: Work,
}

/// Changes, resolved.
#[derive(Clone, Default, Debug)]
pub struct Resolved {
    /// What becomes of each operation.
    pub scenario: Scenario,
    /// Another number of workers.
    pub crew: Option<Crew>,
    /// The report's object that is changed, if it is one.
    pub object: Option<u32>,
    /// What was decided on the way.
    pub notes: Vec<String>,
}

impl Resolved {
    /// The model with another number of workers, where that is asked for.
    pub fn model(&self, model: &Model) -> Result<Option<(Model, Vec<usize>)>, String> {
        let Some(crew) = &self.crew else { return Ok(None) };
        workers::with_workers(model, &crew.workers, crew.count, crew.work).map(Some)
    }
}

/// Names shown in a message.
const MOST_NAMES: usize = 12;

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.take(MOST_NAMES + 1).collect();
    if names.is_empty() {
        return "there is none".to_owned();
    }
    let more = if names.len() > MOST_NAMES { "\n  ..." } else { "" };
    let shown: Vec<&str> = names.iter().take(MOST_NAMES).map(String::as_str).collect();
    format!("there is\n  {}{more}", shown.join("\n  "))
}

impl Catalog<'_> {
    /// Resolves all changes together.
    pub fn resolve(&self, changes: &[Change], model: &Model) -> Result<Resolved, BadChange> {
        let mut resolved = Resolved::default();
        for change in changes {
            self.add(change, model, &mut resolved)?;
        }
        Ok(resolved)
    }

    fn add(&self, change: &Change, model: &Model, to: &mut Resolved) -> Result<(), BadChange> {
        match change {
            Change::Hold(name, by) => {
                let lock = self.lock(name, model, to)?;
                to.scenario.lock_mut(lock).factor *= by;
            }
            Change::Free(name) => {
                let lock = self.lock(name, model, to)?;
                to.scenario.lock_mut(lock).free = true;
            }
            Change::Shards(name, parts) => {
                let lock = self.lock(name, model, to)?;
                to.scenario.lock_mut(lock).shards = *parts;
            }
            Change::Section(name, by) => {
                let Some(shares) = self.sites.with_function(name) else {
                    return Err(self.no_function(name));
                };
                to.scenario.scale_section(shares, *by);
            }
            Change::Thread(name, by) => {
                let found: Vec<usize> = self.threads_named(name)?;
                for stream in found {
                    to.scenario.scale_thread(stream, *by);
                }
            }
            Change::Object(name, by) => {
                let object = self.object(name)?;
                to.object = Some(object);
                for (index, _) in self.ids.iter().enumerate().filter(|id| *id.1 == object) {
                    to.scenario.scale_object(index as u32, *by);
                }
            }
            Change::Kind(kind, by) => self.kind(kind, *by, to)?,
            Change::Cpus(count) => {
                to.scenario.cpus = Some(count.map_or(1e9, f64::from));
            }
            Change::Threads(name, count) => {
                let crew = self.crew(name.as_deref(), *count as usize, model)?;
                let how = match crew.work {
                    Work::Fixed => "the same work shared out anew",
                    Work::Endless => "each new one does what one of the old ones did",
                };
                let name = crew.workers.first().and_then(|&w| self.threads.get(w));
                let name = name.map_or("", String::as_str);
                let (old, new) = (crew.workers.len(), crew.count);
                to.notes.push(format!("{new} instead of {old} threads like `{name}`: {how}"));
                to.crew = Some(crew);
            }
            Change::NoGil => {
                let mut any = false;
                for (index, lock) in model.locks.iter().enumerate() {
                    if self.row(lock.object).is_some_and(|row| row.kind == "gil") {
                        to.scenario.lock_mut(index).free = true;
                        any = true;
                    }
                }
                if !any {
                    return Err(BadChange(
                        "`nogil`: no thread of this run was seen waiting for a GIL".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    fn row(&self, object: u32) -> Option<&Object> {
        let id = *self.ids.get(object as usize)?;
        self.objects.get(id as usize)
    }

    fn lock(&self, name: &str, model: &Model, to: &mut Resolved) -> Result<usize, BadChange> {
        let known: BTreeMap<u32, usize> = model
            .locks
            .iter()
            .enumerate()
            .filter_map(|(index, lock)| Some((*self.ids.get(lock.object as usize)?, index)))
            .collect();
        let rows = || known.keys().filter_map(|&id| self.objects.get(id as usize));
        let Some(id) = pick(name, rows()) else {
            let all = rows().map(|row| format!("{}  {}", row.id, row.label));
            return Err(BadChange(format!(
                "`{name}` is no lock, or not one alone; of locks that threads waited for {}",
                listed(all)
            )));
        };
        let index = known[&id];
        to.object = Some(id);
        Ok(index)
    }

    fn object(&self, name: &str) -> Result<u32, BadChange> {
        let waits = |row: &&Object| !matches!(row.kind, "lock" | "gil" | "cpu");
        pick(name, self.objects.iter().filter(waits)).ok_or_else(|| {
            let all = self.objects.iter().filter(waits);
            let all = all.map(|row| format!("{}  {}", row.id, row.label));
            BadChange(format!("`{name}` is no object, or not one alone; {}", listed(all)))
        })
    }

    fn no_function(&self, name: &str) -> BadChange {
        let all = self.sites.functions();
        let mut ranked: Vec<(&String, &u64)> = all.iter().collect();
        ranked.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
        let names = ranked.into_iter().map(|(name, _)| name.clone());
        BadChange(format!("no stack of this trace has a function `{name}`; {}", listed(names)))
    }

    /// The streams of a name: the whole one, or without the number at its end.
    fn threads_named(&self, name: &str) -> Result<Vec<usize>, BadChange> {
        let all = || self.threads.iter().enumerate();
        let of = |found: &dyn Fn(&str) -> bool| -> Vec<usize> {
            all().filter(|(_, thread)| found(thread)).map(|(index, _)| index).collect()
        };
        let whole = of(&|thread| thread == name);
        let found = if whole.is_empty() { of(&|thread| stem(thread) == stem(name)) } else { whole };
        if found.is_empty() {
            let mut names: Vec<String> = self.threads.clone();
            names.sort();
            names.dedup();
            return Err(BadChange(format!(
                "no thread is called `{name}`; {}",
                listed(names.into_iter())
            )));
        }
        Ok(found)
    }

    fn kind(&self, kind: &str, by: f64, to: &mut Resolved) -> Result<(), BadChange> {
        let state = |row: &Object| match kind {
            "disk" => matches!(row.state, "disk" | "page_fault"),
            _ => row.state == kind,
        };
        let mut any = false;
        for index in 0..self.ids.len() as u32 {
            if self.row(index).is_some_and(state) {
                to.scenario.scale_object(index, by);
                any = true;
            }
        }
        any.then_some(()).ok_or_else(|| {
            BadChange(format!("`{kind}`: no thread of this run was seen waiting for that"))
        })
    }

    fn crew(&self, name: Option<&str>, count: usize, model: &Model) -> Result<Crew, BadChange> {
        let mut workers = match name {
            Some(name) => self.threads_named(name)?,
            None => workers(model, &self.groups),
        };
        // A thread without a life has no stream.
        workers.retain(|&worker| worker < model.streams.len());
        if workers.is_empty() {
            return Err(BadChange("`threads=`: nothing was seen of these threads".to_owned()));
        }
        if workers.contains(&model.root) {
            return Err(BadChange(
                "`threads=`: this run has no workers, only its main thread".to_owned(),
            ));
        }
        let ended = workers.iter().all(|&worker| model.streams[worker].ended);
        let work = if ended { Work::Fixed } else { Work::Endless };
        Ok(Crew { workers, count, work })
    }
}

/// The workers: the group of similar threads that does most, those that end by themselves
/// first.
pub fn workers(model: &Model, groups_of: &[u32]) -> Vec<usize> {
    let mut groups: BTreeMap<u32, (bool, u64, Vec<usize>)> = BTreeMap::new();
    for (index, stream) in model.streams.iter().enumerate() {
        if index == model.root || stream.ops.is_empty() {
            continue;
        }
        let group = groups.entry(groups_of.get(index).copied().unwrap_or(0)).or_default();
        group.0 |= stream.ended;
        group.1 += service(model, index);
        group.2.push(index);
    }
    let best = groups.into_values().max_by_key(|(ended, service, list)| {
        (*ended, *service, std::cmp::Reverse(list.first().copied()))
    });
    best.map_or_else(|| vec![model.root], |(_, _, list)| list)
}

/// Service time of a stream, ns.
pub fn service(model: &Model, stream: usize) -> u64 {
    let ops = model.streams.get(stream).into_iter().flat_map(|stream| &stream.ops);
    ops.filter(|op| matches!(op.kind, Kind::Compute | Kind::Delay)).map(|op| u64::from(op.ns)).sum()
}

/// An object by its number, its label, its own name, or a word of its label, where that is one alone.
fn pick<'o>(name: &str, rows: impl Iterator<Item = &'o Object> + Clone) -> Option<u32> {
    if let Ok(id) = name.parse::<u32>() {
        return rows.clone().find(|row| row.id == id).map(|row| row.id);
    }
    let whole = |row: &&Object| row.label == name;
    let word = |row: &&Object| row.label.split(['`', ' ', '(', ')']).any(|word| word == name);
    let own = |row: &&Object| row.name.as_deref() == Some(name);
    let one = |mut found: Vec<u32>| if found.len() == 1 { found.pop() } else { None };
    one(rows.clone().filter(whole).map(|row| row.id).collect())
        .or_else(|| one(rows.clone().filter(own).map(|row| row.id).collect()))
        .or_else(|| one(rows.filter(word).map(|row| row.id).collect()))
}
