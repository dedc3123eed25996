//! What is tried without being asked.

use crate::analysis::replay::change::Change;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::resolve::service;
use crate::analysis::replay::whatif::Answer;
use crate::analysis::replay::whatif::Facts;
use crate::analysis::replay::whatif::Replay;
use crate::analysis::report::Object;
use crate::analysis::report::WhatIf;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Operations simulated for one report, replicas included: some seconds at most. Counted and
/// not timed, so that a trace gives the same report each time.
const STEPS: usize = 20_000_000;
/// Tried of each sort.
const LOCKS: usize = 4;
const FUNCTIONS: usize = 6;
/// Of the changes that help most, the interval is found.
const WITH_INTERVAL: usize = 6;
const REPLICAS: usize = 20;
/// A function in less than this share of all service time is not tried, nor one that all is in.
const LEAST_SHARE: f64 = 0.03;
const WHOLE_SHARE: f64 = 0.97;

/// The changes that are worth trying, tried, the most useful first. Where the run cannot be
/// replayed, one row says why.
pub fn candidates(facts: &Facts) -> Vec<WhatIf> {
    let replay = Replay::prepare(facts);
    let mut texts = locks(facts.objects);
    if let Some(reason) = replay.refused() {
        let change = texts.drain(..).next().unwrap_or_else(|| "cpus=unlimited".to_owned());
        let answer = Answer { refused: Some(reason.to_owned()), ..replay.nothing() };
        return vec![row(change, &answer)];
    }
    texts.extend(functions(&replay));
    texts.extend(kinds(facts.objects, facts.cpus));
    texts.extend(stragglers(&replay));
    let affordable = STEPS / replay.steps();
    let mut left = affordable;
    let mut rows: Vec<WhatIf> = Vec::new();
    for text in texts {
        // Two runs for each: before and after.
        if left < 2 {
            break;
        }
        left -= 2;
        if let Some(answer) = tried(&replay, &text, 0) {
            rows.push(row(text, &answer));
        }
    }
    sort(&mut rows);
    let replicas = (left / (2 * WITH_INTERVAL)).min(REPLICAS);
    if replicas >= 4 {
        for one in rows.iter_mut().take(WITH_INTERVAL).filter(|row| row.refused.is_none()) {
            if let Some(answer) = tried(&replay, &one.change, replicas) {
                *one = row(std::mem::take(&mut one.change), &answer);
            }
        }
    }
    rows
}

fn sort(rows: &mut [WhatIf]) {
    rows.sort_by(|a, b| b.speedup.total_cmp(&a.speedup).then_with(|| a.change.cmp(&b.change)));
}

fn tried(replay: &Replay, text: &str, replicas: usize) -> Option<Answer> {
    let change = Change::parse(text).ok()?;
    replay.answer(&[change], replicas).ok()
}

fn row(change: String, answer: &Answer) -> WhatIf {
    WhatIf {
        change,
        object: answer.object,
        speedup: answer.speedup,
        low: answer.low,
        high: answer.high,
        target: answer.target.clone(),
        refused: answer.refused.clone(),
    }
}

/// The locks that were waited for longest: held half as long, and keeping nobody out.
fn locks(objects: &[Object]) -> Vec<String> {
    let locks = objects.iter().filter(|row| row.kind == "lock").take(LOCKS);
    let mut all: Vec<String> = locks
        .flat_map(|row| [format!("lock:{}*0.5", row.id), format!("lock:{}=free", row.id)])
        .collect();
    if objects.iter().any(|row| row.kind == "gil") {
        all.push("nogil".to_owned());
    }
    all
}

/// Of a function: service time, sites, and how deep in its stacks it stands.
type Places = (u64, BTreeSet<u32>, usize);

/// The functions of the program that most service time was spent in, one for each set of
/// places: of those that call each other and nothing else, the outermost.
fn functions(replay: &Replay) -> Vec<String> {
    let mut by_site: BTreeMap<u32, u64> = BTreeMap::new();
    let mut all = 0;
    for op in replay.model.streams.iter().flat_map(|stream| &stream.ops) {
        if matches!(op.kind, Kind::Compute | Kind::Delay) {
            *by_site.entry(op.site).or_default() += u64::from(op.ns);
            all += u64::from(op.ns);
        }
    }
    let mut functions: BTreeMap<String, Places> = BTreeMap::new();
    for (&site, &time) in &by_site {
        for (depth, name) in replay.catalog.sites.own_functions(site).into_iter().enumerate() {
            let entry = functions.entry(name).or_insert((0, BTreeSet::new(), depth));
            // A recursive function counts once.
            if entry.1.insert(site) {
                entry.0 += time;
            }
            entry.2 = entry.2.min(depth);
        }
    }
    let share = |time: u64| time as f64 / all.max(1) as f64;
    let mut ranked: Vec<(String, Places)> = functions
        .into_iter()
        .filter(|(_, (time, ..))| (LEAST_SHARE..=WHOLE_SHARE).contains(&share(*time)))
        .collect();
    ranked.sort_by(|a, b| b.1.0.cmp(&a.1.0).then(a.1.2.cmp(&b.1.2)).then(a.0.cmp(&b.0)));
    let mut seen: BTreeSet<BTreeSet<u32>> = BTreeSet::new();
    ranked.retain(|(_, (_, sites, _))| seen.insert(sites.clone()));
    ranked.truncate(FUNCTIONS);
    ranked.into_iter().map(|(name, _)| format!("section:{name}*0.5")).collect()
}

/// Devices and CPUs, where there was any wait for them to speak of.
fn kinds(objects: &[Object], cpus: f64) -> Vec<String> {
    let all: u64 = objects.iter().map(|row| row.wait_ns).sum();
    let waited = |states: &[&str]| {
        let time: u64 =
            objects.iter().filter(|row| states.contains(&row.state)).map(|row| row.wait_ns).sum();
        time as f64 > all as f64 * LEAST_SHARE / 3.0
    };
    let mut found = Vec::new();
    if waited(&["disk", "page_fault"]) {
        found.push("disk*0.5".to_owned());
    }
    if waited(&["network"]) {
        found.push("network*0.5".to_owned());
    }
    if waited(&["runnable"]) {
        found.push(format!("cpus={}", (cpus.ceil() as u32).max(1) * 2));
        found.push("cpus=unlimited".to_owned());
    }
    found
}

/// The one of several similar threads that has by far the most to do.
fn stragglers(replay: &Replay) -> Vec<String> {
    let mut groups: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
    for (stream, &group) in replay.catalog.groups.iter().enumerate() {
        if stream < replay.model.streams.len() && stream != replay.model.root {
            groups.entry(group).or_default().push((service(&replay.model, stream), stream));
        }
    }
    let mut found = Vec::new();
    for mut group in groups.into_values().filter(|group| group.len() > 1) {
        group.sort_unstable();
        let middle = group[(group.len() - 1) / 2].0;
        let &(most, stream) = group.last().unwrap_or(&(0, 0));
        let name = &replay.catalog.threads[stream];
        let alone = replay.catalog.threads.iter().filter(|other| *other == name).count() == 1;
        if alone && most * 4 > middle * 5 {
            found.push(format!("thread:{name}*0.5"));
        }
    }
    found.truncate(LOCKS);
    found
}
