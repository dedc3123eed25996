//! The report of drawn timelines: its sums, its verdict, its outputs.

mod support;

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
    let steps = json["critical_path"].as_array().expect("a list");
    let path: u64 = steps.iter().filter_map(|step| step["ns"].as_u64()).sum();
    assert_eq!(json["wall_ns"], path);
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
