//! Compares what a report says with what the program measured. What is wrong comes back as text.

use crate::programs::Recording;
use crate::programs::Truth;
use crate::programs::whatif;
use crate::table::Change;
use crate::table::Object;
use crate::table::State;
use crate::table::Workload;
use serde_json::Value;

/// Parts of the answer that can be asserted each on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The program is what it should be.
    Facts,
    /// Time in states.
    States,
    /// What was waited for is one object with its site.
    Objects,
    /// The really modified programs do what the theory says.
    Theory,
    /// Who held it.
    Holders,
    /// And for how long.
    Holds,
    /// Kind of the verdict.
    Verdict,
    /// What the verdict points at.
    Culprit,
    /// Further findings.
    Findings,
    /// What must not be called a bottleneck.
    Innocent,
    /// Predictions, against the really modified programs.
    WhatIf,
}

impl Part {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Facts,
        Self::States,
        Self::Objects,
        Self::Theory,
        Self::Holders,
        Self::Holds,
        Self::Verdict,
        Self::Culprit,
        Self::Findings,
        Self::Innocent,
        Self::WhatIf,
    ];

    /// Whether others who use the CPUs can make it fail through no fault of ours. What the
    /// report says about the time that was spent holds under any load.
    pub fn bends_under_load(self, workload: &Workload) -> bool {
        match self {
            Self::Facts | Self::Theory | Self::WhatIf => true,
            Self::States | Self::Objects | Self::Holders | Self::Holds => false,
            _ => workload.needs_cpu,
        }
    }
}

fn rows<'a>(report: &'a Value, section: &str) -> &'a [Value] {
    report[section].as_array().map_or(&[], Vec::as_slice)
}

fn ns(row: &Value, path: &str) -> u64 {
    row.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

/// Facts that do not hold.
pub fn facts(workload: &Workload, truth: &Truth) -> Vec<String> {
    let wrong = |fact: &&crate::table::Fact| {
        let value = truth.number(fact.of) as f64 / truth.number(fact.by).max(1) as f64;
        let (low, high) = fact.within;
        (value < low || value > high).then(|| {
            format!("`{}`: {}/{} is {value:.3}, not {low}..{high}", fact.what, fact.of, fact.by)
        })
    };
    workload.facts.iter().filter_map(|fact| wrong(&fact)).collect()
}

/// A state as measured and as found.
pub struct Compared {
    /// What the report says, ns.
    pub found: u64,
    /// What the program measured, ns.
    pub measured: u64,
    /// All time of these threads, ns.
    pub of: u64,
    /// What both may differ by, because they begin and end at different moments, ns.
    beside: u64,
}

impl Compared {
    /// Found less measured, in percentage points of these threads' time.
    pub fn points(&self) -> f64 {
        (self.found as f64 - self.measured as f64) * 100.0 / self.of.max(1) as f64
    }

    /// Points that both may differ by; see [`excess`] for the direction.
    pub fn slack(&self) -> f64 {
        self.beside as f64 * 100.0 / self.of.max(1) as f64
    }
}

/// From the waking of a task, where the report begins to count it as ready, to its queueing,
/// where the scheduler's own count begins, at most. The kernel's own events `sched_waking` and
/// `sched_wakeup` lie 2 us apart where the CPU is awake; on a virtual machine whose idle CPUs
/// are woken by an interrupt from another, 14 to 16 us in the median and 22 us for one in ten.
pub const WAKE_NS: u64 = 25_000;

/// What is left of an error after what is allowed: a wait may be found shorter, and the way
/// to a CPU longer.
pub fn excess(state: &State, points: f64, slack: f64) -> f64 {
    let allowed = if state.name == "runnable" { slack } else { -slack };
    if (points > 0.0) != (allowed > 0.0) {
        return points;
    }
    if points > 0.0 { (points - allowed).max(0.0) } else { (points - allowed).min(0.0) }
}

/// The scheduler's count of all threads of a program, from its main function on.
const RUNNABLE: &str = "runnable";

/// Compares a state.
pub fn compare(state: &State, report: &Value, truth: &Truth) -> Compared {
    let named = |row: &&Value| row["name"].as_str().is_some_and(|n| n.starts_with(state.threads));
    let mut compared = Compared { found: 0, measured: truth.number(state.key), of: 0, beside: 0 };
    if state.key == RUNNABLE {
        // Some of it lies between the exec, where the report begins, and main.
        compared.beside += truth.number("runnable_before");
    }
    for row in rows(report, "threads").iter().filter(named) {
        compared.of += ns(row, "/end_ns") - ns(row, "/start_ns");
        compared.found += ns(row, &format!("/states/{}", state.name));
        compared.beside += match state.name {
            "running" => 0,
            "runnable" => ns(row, "/switches/voluntary") * WAKE_NS,
            // To the thread a wait ends when it has a CPU again, and holds the call's own work.
            _ => ns(row, "/states/runnable") + ns(row, "/states/running"),
        };
    }
    compared
}

/// States that are not what the program measured.
pub fn states(workload: &Workload, recording: &Recording) -> Vec<String> {
    let mut wrong = Vec::new();
    for state in workload.states {
        let compared = compare(state, &recording.report, &recording.truth);
        let (points, slack) = (compared.points(), compared.slack());
        if compared.of == 0 || excess(state, points, slack).abs() > state.points {
            wrong.push(format!(
                "{} of `{}`: found {} ns, measured {} ns ({points:+.2} points, of which \
                 {slack:.2} are allowed)",
                state.name, state.threads, compared.found, compared.measured
            ));
        }
    }
    wrong
}

/// The object of this kind that names the function and was waited for longest.
pub fn find<'a>(report: &'a Value, kind: &str, function: &str) -> Option<&'a Value> {
    // Where it was waited for; its holders may have been anywhere.
    let at = |row: &Value| mentions(&row["label"], function) || mentions(&row["sites"], function);
    let fits = |row: &&Value| row["kind"] == kind && at(row);
    rows(report, "objects").iter().filter(fits).max_by_key(|row| ns(row, "/wait_ns"))
}

fn mentions(value: &Value, function: &str) -> bool {
    says(&value.to_string(), function)
}

/// Whether this word stands in a text.
pub fn says(text: &str, function: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !word(c)).any(|part| part == function)
}

/// Objects that are missing, or stand for only a part of the wait.
pub fn objects(workload: &Workload, recording: &Recording) -> Vec<String> {
    let wrong = |object: &Object| {
        let measured = recording.truth.number(object.key);
        let Some(row) = find(&recording.report, object.kind, object.function) else {
            return Some(format!("no {} at `{}`", object.kind, object.function));
        };
        let share = ns(row, "/wait_ns") as f64 / measured.max(1) as f64;
        (!(0.85..=1.05).contains(&share)).then(|| {
            format!("{} at `{}` is {share:.2} of {measured} ns", object.kind, object.function)
        })
    };
    workload.objects.iter().filter_map(wrong).collect()
}

/// Holders that are not named.
pub fn holders(workload: &Workload, recording: &Recording) -> Vec<String> {
    let wrong = |object: &Object| {
        let holder = object.holder?;
        let row = find(&recording.report, object.kind, object.function);
        let first = row.map(|row| &row["holders"][0]["name"]);
        let right = first.and_then(Value::as_str).is_some_and(|name| name.starts_with(holder));
        (!right).then(|| format!("{} is held by {first:?}, not `{holder}`", object.kind))
    };
    workload.objects.iter().filter_map(wrong).collect()
}

/// Locks that were held for another time than the program measured, by more than 5 %. Nothing is
/// claimed where the run could not be replayed.
pub fn holds(workload: &Workload, recording: &Recording) -> Vec<String> {
    let wrong = |object: &Object| {
        let row = find(&recording.report, object.kind, object.function);
        let found =
            row.and_then(|row| row["hold_ns"].as_u64()).filter(|_| !object.held.is_empty())?;
        let measured = recording.truth.number(object.held);
        let off = found as f64 / measured.max(1) as f64 - 1.0;
        (off.abs() > 0.05).then(|| {
            format!("{} at `{}` held {found} ns, not {measured}", object.kind, object.function)
        })
    };
    workload.objects.iter().filter_map(wrong).collect()
}

/// A verdict of the wrong kind.
pub fn verdict(workload: &Workload, report: &Value) -> Vec<String> {
    let found = report["verdict"]["kind"].as_str().unwrap_or("none");
    let right = workload.verdict.kinds.contains(&found);
    let wrong = (!right).then(|| format!("verdict {found}, not {:?}", workload.verdict.kinds));
    wrong.into_iter().collect()
}

/// A verdict that points elsewhere.
pub fn culprit(workload: &Workload, report: &Value) -> Vec<String> {
    let function = workload.verdict.culprit;
    let verdict = &report["verdict"];
    let object = verdict["object"].as_u64().and_then(|id| by_id(report, id));
    let named = object.is_some_and(|row| mentions(row, function))
        || mentions(&verdict["headline"], function)
        || report["findings"].get(0).is_some_and(|first| mentions(first, function));
    let wrong = function.is_empty() || named;
    let text = || format!("the verdict does not name `{function}`: {}", verdict["headline"]);
    (!wrong).then(text).into_iter().collect()
}

fn by_id(report: &Value, id: u64) -> Option<&Value> {
    rows(report, "objects").iter().find(|row| row["id"] == id)
}

/// Findings that are missing.
pub fn findings(workload: &Workload, report: &Value) -> Vec<String> {
    let there = |names: &[&str]| {
        rows(report, "findings").iter().any(|finding| {
            let said = format!("{} {}", finding["rule"], finding["title"]).to_lowercase();
            names.iter().any(|name| said.contains(name))
        })
    };
    let missing = workload.findings.iter().filter(|names| !there(names));
    missing.map(|names| format!("no finding {names:?}")).collect()
}

/// Bottlenecks that are none.
pub fn innocent(workload: &Workload, report: &Value) -> Vec<String> {
    if workload.innocent.is_empty() {
        return Vec::new();
    }
    let all = rows(report, "findings");
    if all.is_empty() {
        return vec!["there are no findings at all".to_owned()];
    }
    let mut wrong = Vec::new();
    for finding in all.iter().filter(|finding| finding["severity"] == "bottleneck") {
        let object = finding["object"].as_u64().and_then(|id| by_id(report, id));
        let kind = object.and_then(|row| row["kind"].as_str()).unwrap_or_default();
        if workload.innocent.iter().any(|&name| name == "*" || name == kind) {
            wrong.push(format!("called a bottleneck: {}", finding["title"]));
        }
    }
    wrong
}

/// A change with the id of the lock that it names by a function.
pub fn resolved(change: &Change, report: &Value) -> Option<String> {
    let Some((kind, rest)) = change.name.split_once(":@") else {
        return Some(change.name.to_owned());
    };
    let (function, factor) = rest.split_once('*')?;
    let id = &find(report, kind, function)?["id"];
    Some(format!("{kind}:{id}*{factor}"))
}

/// A speedup with its interval.
#[derive(Clone, Copy)]
pub struct Promise {
    /// What is promised.
    pub speedup: f64,
    /// From, to; `None` where none is said.
    pub interval: Option<(f64, f64)>,
}

/// What the report says of so many workers (`workers:POOL=N`), and that it gains nothing where it says nothing.
fn dealt(change: &str, report: &Value) -> Promise {
    let (pool, workers) = change["workers:".len()..].split_once('=').expect("POOL=N");
    let number = |finding: &Value, name: &str| {
        let row = rows(finding, "evidence").iter().find(|row| row["what"] == name)?;
        row["value"].as_f64()
    };
    let about = |finding: &&Value| {
        finding["rule"] == "pool-size"
            && finding["severity"] == "cost"
            && mentions(&finding["title"], pool)
            && number(finding, "workers dealt to") == workers.parse().ok()
    };
    let range = rows(report, "findings").iter().find(about).and_then(|finding| {
        number(finding, "times as fast, at least").zip(number(finding, "times as fast, at most"))
    });
    let speedup = range.map_or(1.0, |(low, high)| (low * high).sqrt());
    Promise { speedup, interval: range }
}

/// Whether a pool's jobs are dealt out again for it, not the run replayed.
pub fn is_dealt(change: &Change) -> bool {
    change.name.starts_with("workers:")
}

/// The speedup that the replay predicts; what it said instead if it does not.
pub fn predicted(change: &Change, recording: &Recording) -> Result<Promise, String> {
    let name = resolved(change, &recording.report)
        .ok_or_else(|| format!("{}: there is no such object", change.name))?;
    if is_dealt(change) {
        return Ok(dealt(&name, &recording.report));
    }
    let answer = whatif(&recording.trace(), &name);
    let answer = answer.as_ref().unwrap_or(&recording.report["whatif"]);
    speedup(answer, &name).ok_or_else(|| match answer["refused"].as_str() {
        Some(why) => why.to_owned(),
        None => format!("{}: {answer}", change.name),
    })
}

/// The speedup in whatever row of an answer is about this change.
fn speedup(answer: &Value, change: &str) -> Option<Promise> {
    match answer {
        Value::Array(list) => list.iter().find_map(|row| speedup(row, change)),
        Value::Object(map) => {
            let about = map.get("change").is_none_or(|named| named == change);
            let refused = map.get("refused").is_some_and(|why| !why.is_null() && why != false);
            let number = |key: &str| map.get(key).and_then(Value::as_f64);
            let promise =
                |speedup| Promise { speedup, interval: number("low").zip(number("high")) };
            let own = number("speedup").filter(|_| about && !refused).map(promise);
            own.or_else(|| map.values().find_map(|part| speedup(part, change)))
        }
        _ => None,
    }
}

/// How far a prediction may be off, in percent: more where the program computes.
pub fn allowed(workload: &Workload) -> f64 {
    if workload.needs_cpu { 8.0 } else { 3.0 }
}
