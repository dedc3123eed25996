//! The report of drawn timelines: its sums, its verdict, its outputs.

mod scene;
mod support;

use scene::Scene;
use support::Drawing;
use support::events;
use timesink::analysis::Report;
use timesink::analysis::analyse;
use timesink::export;
use timesink::export::text::Layout;
use timesink::model::*;

fn report(rows: &[&str]) -> Report {
    let drawings: Vec<Drawing> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| Drawing { tid: 100 + i as u32, pid: 100, row })
        .collect();
    analyse(&MemoryTrace::new(events(&drawings)), None)
}

fn assert_sums(report: &Report) {
    let budget = &report.budget;
    assert_eq!(budget.states.0.total().0, budget.thread_ns);
    let threads: u64 = report.threads.iter().map(|t| t.end_ns - t.start_ns).sum();
    assert_eq!(threads, budget.thread_ns);
    for thread in &report.threads {
        assert_eq!(thread.states.0.total().0, thread.end_ns - thread.start_ns);
    }
    let processes: u64 = report.processes.iter().map(|p| p.states.0.total().0).sum();
    assert_eq!(processes, budget.thread_ns);
    let histogram: u64 = report.utilisation.histogram.iter().map(|bar| bar.ns).sum();
    assert_eq!(histogram, report.wall_ns);
    let waits: u64 = report.objects.iter().map(|object| object.wait_ns).sum();
    let off_cpu = budget.thread_ns - budget.states.0[State::Running].0;
    assert_eq!(waits, off_cpu, "every wait has an object");
}

#[test]
fn sums_hold_in_every_section() {
    let report = report(&["RRLLqRRRRSSSSqR", "  qRRLLLqRRPPqR", "    RRRRRRDDqR?R"]);
    assert_sums(&report);
}

#[test]
fn a_lock_that_takes_most_time_is_the_verdict() {
    let report = report(&["RLLLLLLLLLLLLRRR", " RLLLLLLLLLLLLRR", "  RLLLLLLLLLLLLR"]);
    assert_eq!(report.verdict.kind, "lock-bound");
    assert!(
        report.verdict.headline.starts_with("3 threads, 0.6 of 2 CPUs used: 80 %"),
        "{}",
        report.verdict.headline
    );
    let object = &report.objects[report.verdict.object.expect("names it") as usize];
    assert_eq!((object.kind, object.waiters, object.address), ("lock", 3, 0x1000));
    assert_sums(&report);
}

#[test]
fn one_running_thread_beside_idle_cpus_is_serial() {
    assert_eq!(report(&["RRRRRRRRRRRRSRRRR"]).verdict.kind, "serial");
}

#[test]
fn too_much_unknown_concludes_nothing() {
    assert_eq!(report(&["R??????????R"]).verdict.kind, "inconclusive");
}

#[test]
fn the_outputs_repeat_byte_for_byte_and_the_json_is_json() {
    let report = report(&["RRLLqRRRR", " qRLLqRRR"]);
    let write = || {
        let (mut json, mut text) = (Vec::new(), Vec::new());
        export::json::write(&report, &mut json).expect("to memory");
        export::text::write(&report, Layout { width: 80, color: false }, &mut text)
            .expect("to memory");
        (json, text)
    };
    assert_eq!(write(), write());
    let json: serde_json::Value = serde_json::from_slice(&write().0).expect("valid JSON");
    assert_eq!(json["schema"], "timesink.report/1");
    assert_eq!(json["budget"]["states"]["lock"], 4_000_000);
    let path = json["critical_path"].as_array().expect("a path");
    let sum: u64 = path.iter().map(|step| step["ns"].as_u64().expect("ns")).sum();
    assert_eq!(json["wall_ns"], sum, "the path is as long as the run");
}

#[test]
fn hostile_names_reach_no_terminal() {
    let mut all = events(&[Drawing { tid: 1, pid: 1, row: "RRSSqR" }]);
    all.push(Event::Rename(Rename {
        time: Nanos(1),
        tid: Tid(1),
        name: Text::new(b"\x1b[2J\xff\n".to_vec()),
    }));
    let report = analyse(&MemoryTrace::new(all), None);
    let mut text = Vec::new();
    export::text::write(&report, Layout { width: 80, color: false }, &mut text).expect("to memory");
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.contains("\\x1b[2J\\xff\\n") && !text.contains('\x1b'), "{text}");
}

#[test]
fn one_inode_number_on_two_devices_is_two_objects() {
    let mut drawn = events(&[Drawing { tid: 100, pid: 100, row: "RDDRDDDR" }]);
    let mut waits = drawn.iter_mut().filter_map(|event| match event {
        Event::Interval(Interval { call: Some(call), .. }) => Some(call),
        _ => None,
    });
    for device in [1, 2] {
        let call = waits.next().expect("two waits for the disk");
        *call = Call { fd: FdKind::File, device, inode: 77, ..*call };
    }
    drop(waits);
    let report = analyse(&MemoryTrace::new(drawn), None);
    let disks: Vec<u64> =
        report.objects.iter().filter(|o| o.address == 77).map(|o| o.wait_ns).collect();
    assert_eq!(disks.len(), 2, "{:?}", report.objects);
    assert_sums(&report);
}

const US: u64 = 1_000;

/// Thread 101 waits for a lock, is woken by `first_ended_by`, runs for 3 us from 530 us on, and
/// waits for `word`. `sleeps`: how long 102 sleeps on the same lock from the beginning on, and who
/// wakes it.
fn two_waits(sleeps: Option<(u64, u32)>, word: u64, first_ended_by: (u32, u16)) -> Scene {
    const FUTEX: u16 = scene::FUTEX;
    let mut scene = Scene::default();
    scene.root(100, b"/bin/app", &["app"]);
    for tid in [101, 102, 103, 104] {
        scene.thread(tid, 100, b"worker");
    }
    let lock = scene::futex(0x1000);
    scene.run(101, 10 * US, None);
    if let Some((ns, by)) = sleeps {
        scene.wait(102, ns, 0, lock, None);
        scene.ended_by(by, FUTEX, 0x1000);
    }
    scene.wait(101, 500 * US, 20 * US, lock, None);
    let (by, call) = first_ended_by;
    scene.ended_by(by, call, 0x1000);
    scene.run(101, 3 * US, None);
    scene.wait(101, 400 * US, 20 * US, scene::futex(word), None);
    scene.ended_by(103, FUTEX, word);
    for tid in [101, 102, 103, 104, 100] {
        let left = Scene::BEGIN + 5_000 * US - scene.now(tid);
        scene.run(tid, left, None);
        scene.end(tid, 100, (tid == 100).then_some(0));
    }
    scene
}

fn waits_of(scene: Scene) -> (u64, u64) {
    let report = analyse(&scene.build(&["app"]), None);
    assert_sums(&report);
    let locks = report.objects.iter().filter(|object| object.kind == "lock");
    let of_101 = 900 * US;
    let found: Vec<(u64, u64)> = locks.map(|lock| (lock.waits, lock.wait_ns)).collect();
    let (waits, time) = found.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (waits, time - of_101)
}

#[test]
fn a_waiter_that_found_the_lock_taken_again_waited_once() {
    let freed = (103, scene::FUTEX);
    // Another thread slept there all the while: had 101 had the lock, it would have woken it.
    let (slept, by) = (700 * US, 103);
    assert_eq!(waits_of(two_waits(Some((slept, by)), 0x1000, freed)), (2, slept));
}

#[test]
fn waits_that_may_be_two_are_two() {
    let freed = (103, scene::FUTEX);
    // Nobody else slept there: 101 may have had the lock and freed it.
    assert_eq!(waits_of(two_waits(None, 0x1000, freed)).0, 2);
    // The other one slept to the middle of the run only, in which 101 woke it: it had the lock.
    assert_eq!(waits_of(two_waits(Some((531 * US, 101)), 0x1000, freed)).0, 3);
    // Another one sleeps all the while, but 101 woke one that had come before it.
    let mut queue = two_waits(Some((700 * US, 103)), 0x1000, freed);
    let (since, until) = (Scene::BEGIN, Scene::BEGIN + 531 * US);
    queue.wait_from(104, since, until - since, scene::futex(0x1000));
    queue.ended_by(101, scene::FUTEX, 0x1000);
    assert_eq!(waits_of(queue).0, 4);
    // It had gone before that.
    assert_eq!(waits_of(two_waits(Some((400 * US, 103)), 0x1000, freed)).0, 3);
    // Another lock.
    assert_eq!(waits_of(two_waits(Some((700 * US, 103)), 0x2000, freed)).0, 3);
    // 101 was not woken by an unlock: it had given up and came back.
    assert_eq!(waits_of(two_waits(Some((700 * US, 103)), 0x1000, (103, scene::READ))).0, 3);
}

#[test]
fn where_intervals_were_lost_waits_are_counted_as_they_came() {
    let scene = two_waits(Some((700 * US, 103)), 0x1000, (103, scene::FUTEX));
    let mut trace = scene.build(&["app"]);
    let (from, to) = (Nanos(Scene::BEGIN), Nanos(Scene::BEGIN + 1));
    let (what, cpu) = (LostKind::Intervals, None);
    trace.events.push(Event::Lost(Lost { from, to, what, cpu, count: 1 }));
    let report = analyse(&trace, None);
    let lock = report.objects.iter().find(|object| object.kind == "lock").expect("a lock");
    assert_eq!(lock.waits, 3);
}
