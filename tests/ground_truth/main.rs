//! Programs whose answer is known, because they measure it themselves or because it follows
//! from what they were told to do. Each is recorded, and what timesink says is compared:
//! times in states, what was waited for, the verdict, and the gains that the replay promises,
//! those against the really modified program.
//!
//! `table.rs` says what is known of a workload, `rows.rs` is the table, `switches.rs` says
//! what is asserted by now. `cargo bench --bench accuracy` writes `docs/ACCURACY.md` from it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests start programs and wait

mod checks;
#[path = "../e2e/program.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod program;
mod programs;
mod rows;
mod switches;
mod table;

use checks::Part;
use programs::Load;
use programs::Recording;
use rows::WORKLOADS;
use std::io::Write;
use table::Change;
use table::Workload;

/// Part of the CPUs that others may use before a failure is put down to them.
const QUIET: f64 = 0.1;

/// With more than that, others decide how long a run takes, and what a verdict should be.
const CROWDED: f64 = 0.75;

/// Attempts on a machine that is not quiet.
const ATTEMPTS: usize = 2;

/// A prediction of more is a promise; a real gain of less is none.
const HELPS: f64 = 1.03;

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs of the workload and of its modified versions.
struct Evidence {
    recording: Recording,
    changes: Vec<(&'static Change, f64)>,
}

fn gather(workload: &'static Workload) -> Evidence {
    let recording = programs::recorded(workload);
    let before = programs::bare(workload);
    let speedup =
        |change: &'static Change| Some((change, before / programs::modified(workload, change)?));
    let changes = workload.changes.iter().filter(|change| !change.slow).filter_map(speedup);
    Evidence { changes: changes.collect(), recording }
}

fn evaluate(part: Part, workload: &Workload, evidence: &Evidence) -> Vec<String> {
    let Evidence { recording, changes } = evidence;
    match part {
        Part::Facts => checks::facts(workload, &recording.truth),
        Part::States => checks::states(workload, recording),
        Part::Objects => checks::objects(workload, recording),
        Part::Theory => changes.iter().filter_map(|&(change, real)| astray(change, real)).collect(),
        Part::Holders => checks::holders(workload, recording),
        Part::Holds => checks::holds(workload, recording),
        Part::Verdict => checks::verdict(workload, &recording.report),
        Part::Culprit => checks::culprit(workload, &recording.report),
        Part::Findings => checks::findings(workload, &recording.report),
        Part::Innocent => checks::innocent(workload, &recording.report),
        Part::WhatIf => predictions(workload, evidence),
    }
}

fn astray(change: &Change, real: f64) -> Option<String> {
    let off = (real / change.theory - 1.0) * 100.0;
    (off.abs() > change.percent).then(|| {
        format!("{}: really {real:.2}x, in theory {:.2}x ({off:+.1} %)", change.name, change.theory)
    })
}

/// Predictions that single runs of the modified programs contradict. One run is not a
/// median: the tolerance is that of the design and 5 points for it.
fn predictions(workload: &Workload, evidence: &Evidence) -> Vec<String> {
    let allowed = checks::allowed(workload) + 5.0;
    let mut wrong = Vec::new();
    for &(change, real) in &evidence.changes {
        match checks::predicted(change, &evidence.recording) {
            Err(why) => wrong.push(why),
            Ok(promise) => {
                let promised = promise.speedup;
                let off = (promised / real - 1.0) * 100.0;
                // What is dealt is promised with an interval that means it.
                let within = |(low, high): (f64, f64)| low * 0.95 <= real && real <= high * 1.05;
                let kept = match promise.interval.filter(|_| checks::is_dealt(change)) {
                    Some(interval) => within(interval),
                    None => off.abs() <= allowed,
                };
                if !kept {
                    let name = change.name;
                    let within = promise.interval;
                    wrong.push(format!(
                        "{name}: promised {promised:.2}x {within:.2?}, really {real:.2}x"
                    ));
                }
                if promised >= HELPS && change.theory < HELPS {
                    wrong.push(format!("{}: promised {promised:.2}x, helps not", change.name));
                }
            }
        }
    }
    wrong
}

fn holds(id: &str) {
    let workload = WORKLOADS.iter().find(|workload| workload.id == id).expect("in the table");
    if !programs::possible(workload) {
        return;
    }
    for attempt in 1..=ATTEMPTS {
        let load = Load::now();
        let evidence = gather(workload);
        let foreign = load.foreign();
        let mut wrong = Vec::new();
        for part in Part::ALL {
            let found = evaluate(part, workload, &evidence);
            if switches::on(id, part) {
                wrong.extend(found.into_iter().map(|text| (part, text)));
            } else if !found.is_empty() {
                say(&format!("{id}: not asserted yet: {part:?}: {}", found.join("; ")));
            }
        }
        if wrong.is_empty() {
            return;
        }
        let busy = format!("others used {:.0} % of the CPUs", foreign * 100.0);
        say(&format!("{id}: attempt {attempt}: {busy}: {wrong:#?}"));
        if foreign > QUIET && attempt < ATTEMPTS {
            continue;
        }
        let judged = |part: &Part| matches!(part, Part::Verdict | Part::Culprit);
        let excused = wrong
            .iter()
            .all(|(part, _)| part.bends_under_load(workload) || foreign > CROWDED && judged(part));
        // What computes has the CPUs that the host of a virtual machine gives it, and a guest does
        // not see how few those may be: two processes gained 1.29x here while nothing else ran.
        if excused && (foreign > QUIET || workload.needs_cpu) {
            // What the report says was compared with what the program measured, and agrees; only
            // what theory says of a machine of one's own was not. That is no test left out.
            return say(&format!("{id}: theory, or verdict, not compared: {busy}"));
        }
        panic!("{id}, {}: {busy}: {wrong:#?}", workload.title);
    }
}

#[test]
fn a_quarter_of_a_wait_in_the_wrong_state_is_noticed() {
    let workload = WORKLOADS.iter().find(|workload| workload.id == "3").expect("in the table");
    if !programs::possible(workload) {
        return;
    }
    let mut recording = programs::recorded(workload);
    assert_eq!(checks::states(workload, &recording), Vec::<String>::new());
    let right = recording.report.clone();
    for (from, to) in [("lock", "sleep"), ("lock", "runnable"), ("join", "lock")] {
        recording.report = right.clone();
        for thread in recording.report["threads"].as_array_mut().expect("threads") {
            let states = &mut thread["states"];
            let moved = states[from].as_u64().expect("ns") / 4;
            states[from] = (states[from].as_u64().expect("ns") - moved).into();
            states[to] = (states[to].as_u64().expect("ns") + moved).into();
        }
        let noticed = checks::states(workload, &recording);
        assert!(!noticed.is_empty(), "a quarter of {from} as {to} went unnoticed");
    }
}

macro_rules! workloads {
    ($($name:ident $id:literal)*) => {
        $(#[test] fn $name() { holds($id); })*

        #[test]
        fn every_workload_is_tested() {
            let tested = [$($id),*];
            let known: Vec<&str> = WORKLOADS.iter().map(|workload| workload.id).collect();
            assert_eq!(tested.as_slice(), known);
        }
    };
}

workloads! {
    w01_four_threads_and_a_lock "1"
    w01_processes_and_a_lock "1p"
    w01_std_mutex "1s"
    w02_two_threads_do_not_meet "2"
    w02_one_thread_alone "2s"
    w03_starvation "3"
    w04_pipeline "4"
    w05_barrier "5"
    w06_serial_part "6"
    w07_burners "7"
    w08_two_python_threads "8"
    w09_gil_convoy "9"
    w10_flushes "10"
    w11_cold_pages "11"
    w12_children "12"
    w13_herd "13"
    w14_spinning "14"
    w15_blocked_asyncio_loop "15"
    w16_blocked_tokio_worker "16"
    w17_preempted_holder "17"
    w18_ping_pong "18"
    w19_parking_lot "19"
    w20_decoy "20"
    w21_small_pool "21"
    w21_pool_under_a_lock "21l"
}
