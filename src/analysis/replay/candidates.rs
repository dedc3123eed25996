//! What is tried without being asked.

use crate::analysis::replay::change::Change;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::resolve::service;
use crate::analysis::replay::whatif::Answer;
use crate::analysis::replay::whatif::FEWEST_REPLICAS;
use crate::analysis::replay::whatif::Facts;
use crate::analysis::replay::whatif::REPLICAS;
use crate::analysis::replay::whatif::Replay;
use crate::analysis::replay::whatif::Tried;
use crate::analysis::report::Object;
use crate::analysis::report::WhatIf;
use crate::analysis::rules::LEAST_GAIN;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Operations simulated for one report, replicas included. Counted and not timed, so that a
/// trace gives the same report each time. About 125 ns each in a debug build (opt-level 1): 3 s
/// at most on one core; an optimised build has not been measured.
const STEPS: usize = 24_000_000;
/// Preparing a replay took 0.7 to 1.2 us for each stay in that build: with more stays than this
/// that alone takes too long for a report.
const MOST_STAYS: usize = 2_000_000;
/// Tried of each sort.
const LOCKS: usize = 4;
const FUNCTIONS: usize = 6;
/// A lock that was waited for for less of the run than this is not tried.
const LEAST_WAIT: f64 = 0.005;
/// What a batch of replicas costs besides the changes: the run unchanged. Drawing is cheap.
const ASIDE: usize = 1;
/// A function in less than this share of all service time is not tried, nor one that all is in.
const LEAST_SHARE: f64 = 0.03;
const WHOLE_SHARE: f64 = 0.97;

/// What a report says of a replay.
pub struct Replayed {
    /// Changes that were tried.
    pub whatif: Vec<WhatIf>,
    /// How long each lock was held, ns, by object id.
    pub held: BTreeMap<u32, u64>,
}

/// The changes that are worth trying, tried, and what the replay knows besides.
pub fn replayed(facts: &Facts) -> Replayed {
    let replay = Replay::prepare_if(facts, MOST_STAYS);
    Replayed { whatif: candidates(&replay, facts), held: replay.held() }
}

/// The changes that are worth trying, tried, the most useful first. Where the run cannot be
/// replayed, or not as often as there is to try, one row says why.
fn candidates(replay: &Replay, facts: &Facts) -> Vec<WhatIf> {
    let window = facts.timelines.window();
    let mut texts = locks(facts.objects, (window.1 - window.0).0);
    if let Some(reason) = replay.refused() {
        return vec![left_out(replay, texts.into_iter().next(), reason.to_owned())];
    }
    texts.extend(functions(replay));
    texts.extend(kinds(facts.objects, facts.cpus));
    texts.extend(stragglers(replay));
    texts.extend(busiest(replay).filter(|text| !texts.contains(text)));
    if texts.is_empty() {
        let reason = "nobody waited for long, and no function of the program took enough of \
            the time to try it";
        return vec![left_out(replay, None, reason.to_owned())];
    }
    // The run unchanged was simulated once already.
    let affordable = (STEPS / replay.steps()).saturating_sub(1);
    tried(replay, texts, affordable)
}

/// Tries changes in order with so many simulations.
fn tried(replay: &Replay, texts: Vec<String>, affordable: usize) -> Vec<WhatIf> {
    let mut left = affordable;
    let mut all: Vec<(String, Tried)> = Vec::new();
    let mut gains = 0;
    let many = texts.len();
    let mut rest = texts.into_iter();
    let mut next = None;
    for text in rest.by_ref() {
        // One for the change itself; and what gains has its interval to come.
        let reserved = if gains > 0 { (gains + ASIDE) * FEWEST_REPLICAS } else { 0 };
        if left < reserved + 1 {
            next = Some(text);
            break;
        }
        left -= 1;
        let tried = Change::parse(&text).ok().and_then(|change| replay.attempt(&[change]).ok());
        if let Some(tried) = tried {
            gains += usize::from(does_gain(&tried));
            all.push((text, tried));
        }
    }
    let untried = rest.len() + usize::from(next.is_some());
    left -= with_intervals(replay, &mut all, left, does_gain);
    // What is left serves to say what does not gain: a lock that keeps nobody up.
    with_intervals(replay, &mut all, left, |tried| !does_gain(tried));
    let mut rows: Vec<WhatIf> =
        all.into_iter().map(|(text, tried)| row(text, &tried.answer)).collect();
    rows.sort_by(|a, b| b.speedup.total_cmp(&a.speedup).then_with(|| a.change.cmp(&b.change)));
    if untried > 0 {
        let reason = format!(
            "{untried} of {many} changes were not tried: the run has {} operations, too many to \
             replay it more often here; `timesink whatif` tries one by itself, and so does a \
             shorter recording",
            replay.steps()
        );
        rows.push(left_out(replay, next, reason));
    }
    rows
}

/// What gains that much gets an interval before anything else is tried.
fn does_gain(tried: &Tried) -> bool {
    tried.answer.refused.is_none() && tried.answer.speedup >= LEAST_GAIN
}

/// Intervals for those `of` all, the first ones if not all can have one. What it cost.
fn with_intervals(
    replay: &Replay,
    all: &mut [(String, Tried)],
    left: usize,
    of: impl Fn(&Tried) -> bool,
) -> usize {
    let chosen = |tried: &Tried| tried.answer.refused.is_none() && of(tried);
    let most = (left / FEWEST_REPLICAS).saturating_sub(ASIDE);
    let wanted = all.iter().filter(|(_, tried)| chosen(tried)).count().min(most);
    if wanted == 0 {
        return 0;
    }
    let count = (left / (wanted + ASIDE)).min(REPLICAS);
    let few = all.iter_mut().map(|(_, tried)| tried).filter(|tried| chosen(tried)).take(wanted);
    replay.intervals(few, count);
    count * (wanted + ASIDE)
}

/// The row that stands for what was not tried.
fn left_out(replay: &Replay, change: Option<String>, reason: String) -> WhatIf {
    let answer = Answer { refused: Some(reason), ..replay.nothing() };
    row(change.unwrap_or_else(|| "cpus=unlimited".to_owned()), &answer)
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

/// The locks that were waited for longest: held half as long, and keeping nobody out. Where hardly
/// anybody waited, little was seen of when they were held.
fn locks(objects: &[Object], run: u64) -> Vec<String> {
    let long = |row: &&Object| row.kind == "lock" && row.wait_ns as f64 >= run as f64 * LEAST_WAIT;
    let locks = objects.iter().filter(long).take(LOCKS);
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
    for op in replay.model.streams.iter().flat_map(|stream| &stream.ops) {
        if matches!(op.kind, Kind::Compute | Kind::Delay) {
            *by_site.entry(op.site).or_default() += u64::from(op.ns);
        }
    }
    let all: u64 = by_site.values().sum();
    let sites = &replay.catalog.sites;
    let of_python = by_site.keys().any(|&site| sites.has_python(site));
    let mut functions: BTreeMap<String, Places> = BTreeMap::new();
    for (&site, &time) in &by_site {
        let names = if of_python { sites.python(site) } else { sites.own_functions(site) };
        for (depth, name) in names.into_iter().enumerate() {
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
        found.extend(half_of(replay, stream).filter(|_| most * 4 > middle * 5));
    }
    found.truncate(LOCKS);
    found
}

/// The thread that has most to do, if that is a good part of the run: the slowest stage of a
/// pipeline is one, and its functions may have no names.
fn busiest(replay: &Replay) -> Option<String> {
    const MUCH: u64 = 4;
    let streams = 0..replay.model.streams.len();
    let threads = streams.filter(|&stream| stream != replay.model.root);
    let (most, stream) = threads.map(|stream| (service(&replay.model, stream), stream)).max()?;
    half_of(replay, stream).filter(|_| most * MUCH > replay.model.observed)
}

/// A thread twice as fast, if its name is no other's.
fn half_of(replay: &Replay, stream: usize) -> Option<String> {
    let name = &replay.catalog.threads[stream];
    let alone = replay.catalog.threads.iter().filter(|other| *other == name).count() == 1;
    alone.then(|| format!("thread:{name}*0.5"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::replay::whatif::with_facts;
    use crate::analysis::replay::world::Act;
    use crate::analysis::replay::world::World;

    /// Two threads that share a lock for 6 ms of 10, with a budget of so many simulations.
    fn rows(affordable: usize) -> Vec<WhatIf> {
        let hold = [Act::Lock(0), Act::Sleep(6_000, "hold"), Act::Unlock(0)];
        let round = [hold.as_slice(), &[Act::Sleep(4_000, "rest")]].concat();
        let (trace, _) = World::of(vec![round.repeat(50); 2]).play();
        with_facts(&trace, |facts| {
            let replay = Replay::prepare(facts);
            assert_eq!(replay.refused(), None);
            let texts = ["thread:main*0.5", "section:hold*0.5", "sleep*0.5", "section:rest*0.5"];
            tried(&replay, texts.map(str::to_owned).to_vec(), affordable)
        })
    }

    /// What gains has its interval before more is tried, and what was left out is said.
    #[test]
    fn the_budget_goes_to_intervals_first() {
        let all = rows(1_000);
        assert!(all.iter().all(|row| row.refused.is_none() && row.low.is_some()), "{all:?}");
        assert_eq!(all.len(), 4);

        // Enough for two changes, and five replicas of the one that gains.
        let some = rows(12);
        assert_eq!(some.len(), 3, "{some:?}");
        assert!(some[0].speedup > 1.3 && some[0].low.is_some_and(|low| low > 1.0));
        assert!(some[1].change == "thread:main*0.5" && some[1].low.is_none());
        let reason = some[2].refused.as_deref().unwrap_or_default();
        assert!(reason.starts_with("2 of 4 changes were not tried"), "{reason}");
        assert_eq!(some[2].change, "sleep*0.5");

        let none = rows(0);
        assert!(none.len() == 1 && none[0].refused.is_some(), "{none:?}");
    }

    /// A thread that the run is long for is tried, whatever its functions are called; one that has
    /// little to do is not.
    #[test]
    fn the_busiest_thread_is_tried() {
        let tried = |ms: u64| {
            let busy = vec![Act::Run(ms * 1_000, "crunch")];
            let (trace, _) = World::of(vec![busy, vec![Act::Sleep(100_000, "nap")]]).play();
            with_facts(&trace, |facts| {
                let rows = candidates(&Replay::prepare(facts), facts);
                let found = rows.into_iter().find(|row| row.change == "thread:worker-1*0.5");
                found.map(|row| row.speedup)
            })
        };
        let gain = tried(300).expect("it is tried");
        assert!((1.9..2.1).contains(&gain), "{gain}");
        assert_eq!(tried(10), None);
    }
}
