//! What every report must satisfy, to the nanosecond.

use serde_json::Value;
use std::collections::BTreeMap;

/// The sixteen states, in the order of the budget.
pub const STATES: [&str; 16] = [
    "running",
    "runnable",
    "lock",
    "gil",
    "condvar",
    "join",
    "sleep",
    "disk",
    "network",
    "pipe",
    "poll",
    "child",
    "page_fault",
    "stopped",
    "other",
    "unknown",
];

/// Rows that the table of objects is cut at.
const MOST_OBJECTS: usize = 1_000;

/// A number in a report.
pub fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).unwrap_or_else(|| panic!("no {path} in {value}"));
    found.as_u64().unwrap_or_else(|| panic!("{path} is {found}, not a whole number of ns"))
}

/// An array in a report.
pub fn rows<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    let found = value.pointer(path).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("no array {path}"))
}

/// A text in a report.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    let found = value.pointer(path).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text {path} in {value}"))
}

/// The states of a row: all sixteen, in order, nothing else.
pub fn states(row: &Value) -> BTreeMap<&'static str, u64> {
    let map = row.pointer("/states").and_then(Value::as_object).expect("states");
    assert_eq!(map.len(), STATES.len(), "sixteen states: {map:?}");
    STATES.iter().map(|&state| (state, number(row, &format!("/states/{state}")))).collect()
}

fn total(states: &BTreeMap<&'static str, u64>) -> u64 {
    states.values().sum()
}

/// P1: every sum of the report holds, in ns.
pub fn assert_adds_up(report: &Value) {
    assert_eq!(report["schema"], "timesink.report/1", "no report");
    let wall = number(report, "/wall_ns");
    let (by_process, budget) = assert_threads(report, wall);
    for process in rows(report, "/processes") {
        let id = number(process, "/id");
        let threads = by_process.get(&id).cloned().unwrap_or_default();
        for (state, ns) in states(process) {
            let sum = threads.get(state).copied().unwrap_or_default();
            assert_eq!(ns, sum, "{state} of process {id} is the sum of its threads'");
        }
    }
    let thread_ns = number(report, "/budget/thread_ns");
    assert_eq!(states(&report["budget"]), budget, "the budget is the sum of the threads");
    assert_eq!(total(&budget), thread_ns, "the budget's states sum to its time");
    assert_eq!(number(report, "/health/unknown_ns"), budget["unknown"]);
    assert_histogram(report, wall, budget["running"]);
    let objects = rows(report, "/objects");
    if objects.len() < MOST_OBJECTS {
        let waited: u64 = objects.iter().map(|object| number(object, "/wait_ns")).sum();
        assert_eq!(waited, thread_ns - budget["running"], "every wait has an object");
    }
}

/// No run of a thread was missed, by the kernel's own count.
///
/// That count may be too small: a task that is preempted between announcing its sleep and
/// sleeping is not queued in the scheduler's books, and its next run is not counted. Seen
/// under `perf bench sched messaging`: 135 runs by `sched_info.pcount`, 59 + 88 switches by
/// rusage, and the 148 runs that these make seen. So only fewer than it is an error here.
pub fn assert_no_run_missed(report: &Value) {
    let counts = &report["health"]["run_counts"];
    assert!(number(counts, "/checked") > 0, "{counts}");
    let (seen, kernel) = (number(counts, "/seen"), number(counts, "/kernel"));
    assert!(seen >= kernel, "runs were missed: {}", report["health"]);
    assert!(seen - kernel <= 2 + kernel / 20, "runs were invented: {}", report["health"]);
}

type Times = BTreeMap<&'static str, u64>;

fn assert_threads(report: &Value, wall: u64) -> (BTreeMap<u64, Times>, Times) {
    let mut by_process: BTreeMap<u64, Times> = BTreeMap::new();
    let mut budget: Times = STATES.iter().map(|&state| (state, 0)).collect();
    for (index, thread) in rows(report, "/threads").iter().enumerate() {
        assert_eq!(number(thread, "/id"), index as u64, "ids are unique and in order");
        let (start, end) = (number(thread, "/start_ns"), number(thread, "/end_ns"));
        assert!(start <= end && end <= wall, "thread {index}: {start}..{end} in 0..{wall}");
        let states = states(thread);
        assert_eq!(total(&states), end - start, "states of thread {thread} sum to its life");
        let process = by_process.entry(number(thread, "/process")).or_default();
        for (state, ns) in states {
            *process.entry(state).or_default() += ns;
            *budget.entry(state).or_default() += ns;
        }
    }
    assert!(!by_process.is_empty(), "no thread at all");
    (by_process, budget)
}

fn assert_histogram(report: &Value, wall: u64, running: u64) {
    let bars = rows(report, "/utilisation/histogram");
    let time: u64 = bars.iter().map(|bar| number(bar, "/ns")).sum();
    assert_eq!(time, wall, "the histogram covers the run");
    let cpu: u64 =
        bars.iter().map(|bar| number(bar, "/ns") * number(bar, "/running_threads")).sum();
    assert_eq!(cpu, running, "the histogram's CPU time is the budget's");
}

#[test]
fn one_nanosecond_astray_is_noticed() {
    let run = crate::program::Timesink::new().record(&["sh", "-c", "sleep 0.02; /bin/true"]);
    assert_adds_up(&run.report);
    for path in [
        "/threads/0/states/sleep",
        "/threads/0/end_ns",
        "/processes/0/states/running",
        "/budget/thread_ns",
        "/budget/states/child",
        "/utilisation/histogram/0/ns",
        "/objects/0/wait_ns",
        "/health/unknown_ns",
    ] {
        let mut wrong = run.report.clone();
        let value = wrong.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"));
        *value = (value.as_u64().expect("ns") + 1).into();
        let noticed = std::panic::catch_unwind(|| assert_adds_up(&wrong)).is_err();
        assert!(noticed, "{path}: one more went unnoticed");
    }
}

/// Whether other programs left the CPUs to this one: who was kept from a CPU by them for more than a
/// twentieth of its time shows what they do, not what it is.
pub fn is_quiet(report: &Value) -> bool {
    let cuts = rows(report, "/budget/detail").iter();
    let by_others = cuts.filter(|cut| text(cut, "/name").ends_with("by other processes"));
    let lost: u64 = by_others.map(|cut| number(cut, "/ns")).sum();
    lost * 20 <= number(report, "/budget/thread_ns")
}
