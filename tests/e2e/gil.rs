//! Waits for Python's GIL against what threads measured of themselves, on every interpreter here.

use crate::interpreters::interpreters;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::skip;
use crate::report::assert_adds_up;
use crate::report::is_quiet;
use crate::report::number;
use crate::report::rows;
use crate::report::states;
use crate::report::text;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// By how much of its life a thread's wait may differ from what it measured.
const MOST_OFF: f64 = 0.03;
/// For how much of the contended time the holder must be right, over all interpreters,
const LEAST_RIGHT: f64 = 0.97;
/// and on each: what the threads write down is itself uncertain by 0.2 ms at each end of a hold of 5.
const LEAST_RIGHT_ONCE: f64 = 0.94;

/// Those of this machine that have a GIL.
fn interpreters_with_gil() -> Vec<Vec<String>> {
    let mut found = interpreters();
    found.retain(|command| {
        let check = "import sys; sys.exit(not getattr(sys, '_is_gil_enabled', lambda: True)())";
        let (program, arguments) = command.split_first().expect("not empty");
        let status = Command::new(program).args(arguments).args(["-c", check]).status();
        status.is_ok_and(|status| status.success())
    });
    found
}

/// What one run came to.
struct Found {
    /// The largest difference of a thread's wait, as a share of its life.
    off: f64,
    /// The share of contended time with the right holder.
    /// `None` where other programs had the CPUs: then what threads write down tells no holder.
    right: Option<f64>,
}

fn gil_object(report: &Value) -> &Value {
    let gils: Vec<&Value> =
        rows(report, "/objects").iter().filter(|row| text(row, "/kind") == "gil").collect();
    assert_eq!(gils.len(), 1, "one GIL: {gils:?}");
    gils[0]
}

fn measure(command: &[String]) -> Found {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/gil.py");
    let mut command = command.to_vec();
    command.extend([program.display().to_string(), "1.5".to_owned(), "3".to_owned()]);
    let run = Timesink::on(Tier::Kernel).record(&command);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert_adds_up(&run.report);
    let said: Value = serde_json::from_slice(&run.stdout).expect("what it measured");
    let by_tid: BTreeMap<u64, &Value> =
        rows(&run.report, "/threads").iter().map(|row| (number(row, "/tid"), row)).collect();
    let mut off = 0.0_f64;
    for thread in rows(&said, "/threads") {
        let row = by_tid[&number(thread, "/tid")];
        let (found, measured) = (states(row)["gil"], number(thread, "/gil_ns"));
        let life = number(thread, "/wall_ns");
        off = off.max(found.abs_diff(measured) as f64 / life as f64);
    }
    // Shares of the threads as holders, measured and found.
    let mut measured: BTreeMap<u64, f64> = BTreeMap::new();
    for pair in rows(&said, "/pairs") {
        *measured.entry(number(pair, "/1")).or_default() += number(pair, "/2") as f64;
    }
    let tids: BTreeMap<u64, u64> =
        by_tid.iter().map(|(&tid, row)| (number(row, "/id"), tid)).collect();
    let mut found: BTreeMap<u64, f64> = BTreeMap::new();
    for holder in rows(gil_object(&run.report), "/holders") {
        let tid = tids[&number(holder, "/thread")];
        *found.entry(tid).or_default() += number(holder, "/blamed_ns") as f64;
    }
    // What a thread measures is the time without the GIL, with the way back to a CPU in it, which
    // is no wait for the GIL: the same in all threads.
    let waited = number(gil_object(&run.report), "/wait_ns") as f64;
    let all: f64 = measured.values().sum();
    let both = |(tid, time): (&u64, &f64)| {
        (time * waited / all).min(found.get(tid).copied().unwrap_or(0.0))
    };
    let right = measured.iter().map(both).sum::<f64>() / waited;
    Found { off, right: is_quiet(&run.report).then_some(right) }
}

/// Interpreters of one process that have a GIL each: each is an object, waited for by the threads of
/// its interpreter and held by them.
#[test]
fn each_interpreter_has_its_gil() {
    if !Tier::Kernel.available() {
        return skip("the kernel tier needs root");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/own_gils.py");
    let mut ran = false;
    for mut command in interpreters_with_gil() {
        command.extend([program.display().to_string(), "1.0".to_owned()]);
        let run = Timesink::on(Tier::Kernel).record(&command);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        let said: Value = serde_json::from_slice(&run.stdout).expect("the threads");
        let Some(said) = said.as_array() else { continue };
        ran = true;
        let tids: BTreeMap<u64, u64> = rows(&run.report, "/threads")
            .iter()
            .map(|row| (number(row, "/id"), number(row, "/tid")))
            .collect();
        let gils: Vec<&Value> = rows(&run.report, "/objects")
            .iter()
            .filter(|row| text(row, "/kind") == "gil" && number(row, "/wait_ns") > 100_000_000)
            .collect();
        assert_eq!(gils.len(), 2, "{command:?}: {gils:?}");
        assert_ne!(text(gils[0], "/label"), text(gils[1], "/label"));
        let mut seen = BTreeSet::new();
        for gil in gils {
            let blamed = |row: &&Value| number(row, "/blamed_ns") > 50_000_000;
            let holders = rows(gil, "/holders").iter().filter(blamed);
            let holders: BTreeSet<u64> = holders.map(|row| tids[&number(row, "/thread")]).collect();
            let of = |list: &Value| -> BTreeSet<u64> {
                list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
            };
            let which = said.iter().position(|list| of(list) == holders);
            seen.insert(which.unwrap_or_else(|| panic!("{command:?}: {holders:?} of {said:?}")));
        }
        assert_eq!(seen.len(), 2, "{command:?}");
    }
    if !ran {
        skip("no Python here has interpreters with a GIL of their own");
    }
}

/// On each interpreter: how long each thread waited, who had it meanwhile, and where.
#[test]
#[allow(clippy::print_stdout, reason = "the figures are for docs/ACCURACY.md")]
fn waits_for_the_gil_are_what_threads_measured() {
    if !Tier::Kernel.available() {
        return skip("the kernel tier needs root");
    }
    let all = interpreters_with_gil();
    if all.is_empty() {
        return skip("no python3 is installed");
    }
    let mut found = Vec::new();
    for command in all {
        let one = measure(&command);
        let off = one.off * 100.0;
        let right =
            one.right.map_or("not judged: other programs had the CPUs".to_owned(), |right| {
                format!("holder right {:.1} %", right * 100.0)
            });
        println!("{}: off by {off:.1} points, {right}", command.join(" "));
        found.push(one);
    }
    let off = found.iter().map(|one| one.off).fold(0.0, f64::max);
    assert!(off <= MOST_OFF, "a thread's wait is off by {off}");
    let judged: Vec<f64> = found.iter().filter_map(|one| one.right).collect();
    let worst = judged.iter().copied().fold(1.0, f64::min);
    assert!(worst >= LEAST_RIGHT_ONCE, "the holder is right for {worst}");
    let right = judged.iter().sum::<f64>() / judged.len().max(1) as f64;
    assert!(judged.is_empty() || right >= LEAST_RIGHT, "on average right for {right}");
}
