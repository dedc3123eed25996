//! The metrics that `cargo bench --bench accuracy` puts beside our verdicts, on drawn schedules:
//! what each is, and where it is led astray.

#[path = "../benches/accuracy/metrics.rs"]
mod metrics;
mod scene;

use metrics::Answer;
use metrics::METRICS;
use metrics::Shared;
use metrics::Stretch;
use metrics::heights;
use scene::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use timesink::analysis::analyse;
use timesink::model::*;

const MS: u64 = 1_000_000;
const MAIN: u32 = 100;

/// The stretches marked by any of `marks`, one thread a line, one ns a letter.
fn drawn(threads: &[&str], marks: &[char]) -> Vec<Stretch> {
    let mut found = Vec::new();
    for (thread, line) in (0..).zip(threads) {
        for (time, letter) in (0..).zip(line.chars()) {
            if marks.contains(&letter) {
                found.push(Stretch { thread, start: time, end: time + 1 });
            }
        }
    }
    found
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

#[test]
fn heights_share_each_instant_among_those_who_run() {
    let runs = drawn(&["####....####....", "....########....", "................"], &['#']);
    let heights = heights(&runs);
    assert!(near(heights[&0], 6.0) && near(heights[&1], 6.0), "{heights:?}");
    assert_eq!(heights.len(), 2, "who never ran has none");
    // Together they are as high as anybody ran for: the last four are nobody's.
    assert!(near(heights.values().sum(), 12.0));
    // Alone: all of it. Three at once: a third each.
    let crowd = heights_of(&["###", "###", "###"]);
    assert!(crowd.values().all(|&height| near(height, 1.0)), "{crowd:?}");
}

fn heights_of(threads: &[&str]) -> BTreeMap<u32, f64> {
    heights(&drawn(threads, &['#']))
}

#[test]
fn the_ready_count_as_active_where_they_are_asked_for() {
    let threads = ["####", "qq##", "..qq"];
    let running = Shared::of(drawn(&threads, &['#']).into_iter());
    let active = Shared::of(drawn(&threads, &['#', 'q']).into_iter());
    assert!(near(running.between(0, 2), 2.0) && near(active.between(0, 2), 1.0));
    assert!(near(running.between(2, 4), 1.0) && near(active.between(2, 4), 2.0 / 3.0));
    // Where nobody is, nothing is added; nor before, nor after.
    assert!(near(active.between(4, 100), 0.0) && near(active.between(0, 0), 0.0));
}

/// Threads that take a first-come lock again and again: asleep under it, asleep outside.
fn lock_loop(scene: &mut Scene, tids: &[u32], at: [&str; 2], word: u64, times: [u64; 2], end: u64) {
    let mut wants: BTreeSet<(u64, u32)> = tids.iter().map(|&t| (scene.now(t), t)).collect();
    let timer = Call { number: NANOSLEEP, ..Call::default() };
    let mut last: Option<(u64, u32)> = None;
    while let Some((now, tid)) = wants.pop_first() {
        if now >= Scene::BEGIN + end {
            continue;
        }
        let work = scene.stack(&["start_thread", at[0]]);
        scene.run(tid, 10_000, Some(work));
        if let Some((free, holder)) = last
            && free > scene.now(tid)
        {
            let stack = scene.stack(&["start_thread", at[0], "__lll_lock_wait"]);
            let wait = free - scene.now(tid);
            let waker = Scene::waker(holder, futex(word));
            scene.wait_by(tid, wait, 0, Some(futex(word)), Some(stack), Some(waker));
        }
        let inside = scene.stack(&["start_thread", at[0], "nap"]);
        scene.wait(tid, times[0], 0, timer, Some(inside));
        last = Some((scene.now(tid), tid));
        let outside = scene.stack(&["start_thread", at[1], "nap"]);
        scene.wait(tid, times[1], 0, timer, Some(outside));
        wants.insert((scene.now(tid), tid));
    }
}

/// Workload 20: loggers queue for long on A, workers for short on B, and B decides.
fn decoy() -> MemoryTrace {
    let mut scene = Scene::default();
    scene.root(MAIN, b"/usr/bin/app", &["app"]);
    let (loggers, workers) = ([111, 112, 113, 114, 115, 116, 117, 118], [101, 102, 103, 104]);
    for tid in loggers.into_iter().chain(workers) {
        let name = if tid > 110 { "logger" } else { "worker" };
        scene.thread(tid, MAIN, format!("{name}-{tid}").as_bytes());
    }
    lock_loop(&mut scene, &loggers, ["write_log", "rest"], 0x1000, [10 * MS, 50_000], 300 * MS);
    lock_loop(&mut scene, &workers, ["settle", "prepare"], 0x2000, [3 * MS, 7 * MS], 300 * MS);
    for tid in workers {
        scene.end(tid, MAIN, None);
        if let Some(wait) = scene.now(tid).checked_sub(scene.now(MAIN)).filter(|&wait| wait > 0) {
            let call = Call { arg0: 0x30_0000 + u64::from(tid), arg1: 0x109, ..futex(0) };
            let stack = scene.stack(&["main", "pthread_join"]);
            let waker = Some(Scene::waker(tid, call));
            scene.wait_by(MAIN, wait, 0, Some(call), Some(stack), waker);
        }
    }
    scene.end(MAIN, MAIN, Some(0));
    scene.build(&["app"])
}

fn of<'a>(all: &'a [Answer], metric: &str) -> &'a Answer {
    all.iter().find(|answer| answer.metric == metric).expect("one of the metrics")
}

#[test]
fn waiting_is_led_astray_by_the_decoy_and_the_path_is_not() {
    let trace = decoy();
    let all = metrics::all(&trace);
    let named: Vec<&str> = all.iter().map(|answer| answer.metric).collect();
    assert_eq!(named, METRICS.map(|(metric, _)| metric));
    for metric in ["off-CPU time", "lock pressure"] {
        let answer = of(&all, metric);
        assert!(answer.words.contains("write_log"), "{answer:?}");
        assert!(!answer.words.contains("settle") && answer.kind == "lock", "{answer:?}");
    }
    assert!(of(&all, "path share").words.contains("settle"), "{all:?}");
    let report = analyse(&trace, None);
    assert!(report.verdict.headline.contains("settle"), "{}", report.verdict.headline);
}

/// One spins for as long as another works: half of the time is each one's.
fn spinning(stack_of_worker: &str) -> MemoryTrace {
    let mut scene = Scene::default();
    scene.root(MAIN, b"/usr/bin/app", &["app"]);
    scene.thread(101, MAIN, b"worker");
    scene.thread(102, MAIN, b"spinner");
    let work = scene.stack(&["start_thread", stack_of_worker]);
    let spin = scene.stack(&["start_thread", "spin"]);
    scene.run(101, 100 * MS, Some(work));
    scene.run(102, 150 * MS, Some(spin));
    for tid in [101, 102] {
        scene.end(tid, MAIN, None);
    }
    let call = Call { arg0: 0x30_0000, arg1: 0x109, ..futex(0) };
    scene.wait_by(MAIN, 150 * MS, 0, Some(call), None, Some(Scene::waker(102, call)));
    scene.end(MAIN, MAIN, Some(0));
    scene.build(&["app"])
}

#[test]
fn shares_of_the_active_take_spinning_for_work() {
    let all = metrics::all(&spinning("work"));
    let (cmetric, bottle) = (of(&all, "CMetric"), of(&all, "bottle graph"));
    assert!(cmetric.words.contains("spin") && cmetric.text.contains("67 %"), "{cmetric:?}");
    assert!(bottle.text.starts_with("`spinner` (67 %)"), "{bottle:?}");
    assert!(bottle.words.contains("spin") && !bottle.words.contains("work"), "{bottle:?}");
    // Nobody waited for a lock.
    assert_eq!(of(&all, "lock pressure").text, "nothing");
}
