//! What Python's processes hand each other, against a program that knows what it sent.

use crate::interpreters::interpreters;
use crate::program::Recorded;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::skip;
use crate::report::number;
use crate::report::rows;
use crate::report::text;
use serde_json::Value;
use std::path::Path;

/// A run of `hands_over.py`; `None` where it cannot be had.
fn handed_over(how: &str, pieces: u64, size: u64) -> Option<Recorded> {
    let found = interpreters();
    let Some(python) = found.first().filter(|_| Tier::Kernel.available()) else {
        skip("no Python, or no kernel tier");
        return None;
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/hands_over.py");
    let mut command = python.clone();
    command.extend([program.display().to_string(), how.to_owned()]);
    command.extend([pieces.to_string(), size.to_string()]);
    let run = Timesink::on(Tier::Kernel).record(&command);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), (pieces * size).to_string());
    sums(&run.report);
    Some(run)
}

/// The bytes of a process are those of its threads.
fn sums(report: &Value) {
    for process in rows(report, "/processes") {
        for way in ["/io/read_bytes", "/io/written_bytes"] {
            let own = |row: &&Value| row["process"] == process["id"];
            let threads = rows(report, "/threads").iter().filter(own);
            let sum: u64 = threads.filter_map(|row| row.pointer(way)?.as_u64()).sum();
            assert_eq!(number(process, way), sum, "{way} of {process}");
        }
    }
}

/// Bytes of all processes but the first, the command itself.
fn of_others(report: &Value, way: &str) -> u64 {
    rows(report, "/processes").iter().skip(1).filter_map(|row| row.pointer(way)?.as_u64()).sum()
}

/// As much as was sent, and less than 2 % for the packing and its files.
fn assert_near(found: u64, sent: u64, what: &str) {
    let most = sent + sent / 50;
    assert!((sent..most).contains(&found), "{what}: {found} bytes of {sent} sent");
}

/// What the pipes that were most used carried at most.
fn pipes(report: &Value) -> Vec<u64> {
    let pipes = rows(report, "/objects").iter().filter(|row| text(row, "/kind") == "pipe");
    let most = pipes.filter_map(|row| row.pointer("/carried/most_bytes")?.as_u64());
    let mut most: Vec<u64> = most.collect();
    most.sort_by_key(|&most| std::cmp::Reverse(most));
    most
}

const MIB: u64 = 1 << 20;

#[test]
fn workers_take_and_give_what_a_pool_sends() {
    for how in ["pool", "executor"] {
        let Some(run) = handed_over(how, 40, MIB) else { return };
        let sent = 40 * MIB;
        assert_near(of_others(&run.report, "/io/read_bytes"), sent, how);
        assert_near(of_others(&run.report, "/io/written_bytes"), sent, how);
        // One pipe to the workers and one back. Whole pages hold nearly all of it.
        let pipes = pipes(&run.report);
        assert_near(pipes[0], sent, "pipe");
        assert_near(pipes[1], sent, "the other pipe");
    }
}

#[test]
fn a_queues_consumer_takes_what_was_put() {
    let Some(run) = handed_over("queue", 40, MIB) else { return };
    assert_near(of_others(&run.report, "/io/read_bytes"), 40 * MIB, "queue");
    assert_near(pipes(&run.report)[0], 40 * MIB, "pipe");
    // Small pieces: the thread's count is as good, a pipe's is a bound.
    let Some(run) = handed_over("queue", 2_000, 2_000) else { return };
    assert_near(of_others(&run.report, "/io/read_bytes"), 4_000_000, "queue");
    assert!(pipes(&run.report)[0] > 4_000_000, "{:?}", pipes(&run.report));
}

#[test]
fn a_managers_process_takes_what_it_keeps() {
    let Some(run) = handed_over("manager", 40, MIB) else { return };
    assert_near(of_others(&run.report, "/io/read_bytes"), 40 * MIB, "manager");
    let written = of_others(&run.report, "/io/written_bytes");
    assert!(written < MIB, "it only says that it has it: {written}");
}
