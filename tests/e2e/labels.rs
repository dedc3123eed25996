//! What real programs' functions, pipes, sockets and threads are called.

use crate::program::Recorded;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::installed;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::number;
use crate::report::rows;
use crate::report::text;
use std::path::PathBuf;
use std::process::Command;

fn record(tier: Tier, command: &[&str]) -> Recorded {
    let run = Timesink::on(tier).record(command);
    assert_eq!(run.code(), 0, "{command:?} on {tier:?}:\n{}", run.stderr);
    assert_adds_up(&run.report);
    run
}

/// A truth program without its symbols.
fn stripped(source: &str) -> PathBuf {
    let whole = truth_program(source);
    let name = format!("{}_bare", whole.file_name().and_then(|n| n.to_str()).expect("a name"));
    let bare = whole.with_file_name(name);
    let fresh = bare.with_extension(std::process::id().to_string());
    let status = Command::new("strip").arg("-o").arg(&fresh).arg(&whole).status();
    assert!(status.expect("strip of binutils").success());
    std::fs::rename(&fresh, &bare).expect("ours");
    bare
}

#[test]
fn a_stripped_function_is_one_row_with_its_share() {
    let program = stripped("stripped.c");
    let name = program.file_name().and_then(|n| n.to_str()).expect("a name");
    for tier in Tier::here().filter(|tier| tier.name() != "proc") {
        let run = record(tier, &[program.to_str().expect("UTF-8")]);
        let functions = rows(&run.report, "/functions");
        let own = |row: &&serde_json::Value| number(row, "/self_ns") > 0;
        let ours = |row: &&serde_json::Value| text(row, "/frame/name").starts_with(name);
        let rows: Vec<_> = functions.iter().filter(own).filter(ours).collect();
        let all: u64 = functions.iter().map(|row| number(row, "/self_ns")).sum();
        let share = |row: &serde_json::Value| number(row, "/self_ns") as f64 / all as f64;
        // `burn` and the clock of the program itself take next to nothing.
        let hot: Vec<_> = rows.iter().filter(|row| share(row) > 0.02).collect();
        assert_eq!(hot.len(), 2, "{tier:?}: {functions:?}");
        let (heavy, light) = (run.measured("heavy") as f64, run.measured("light") as f64);
        // Some 1,200 samples: a tenth is eight standard deviations.
        for (row, part) in hot.iter().zip([heavy, light]) {
            let expected = part / (heavy + light);
            assert!((share(row) - expected).abs() < 0.1, "{tier:?}: {expected} {functions:?}");
            assert!(text(row, "/frame/name").starts_with(&format!("{name}+0x")));
        }
    }
}

#[test]
fn the_pipes_of_a_pipeline_are_called_by_their_ends() {
    if !installed(&["sh", "head", "gzip", "wc"]) || !Tier::Kernel.available() {
        return;
    }
    let run =
        record(Tier::Kernel, &["sh", "-c", "head -c 8000000 /dev/urandom | gzip -1 -c | wc -c"]);
    let objects = rows(&run.report, "/objects");
    let pipes: Vec<&str> = objects
        .iter()
        .filter(|object| text(object, "/kind") == "pipe")
        .map(|object| text(object, "/label"))
        .collect();
    for pipe in ["pipe: head -> gzip", "pipe: gzip -> wc"] {
        let found = pipes.iter().filter(|label| **label == pipe).count();
        assert_eq!(found, 1, "{pipe}: {pipes:?}");
    }
}

#[test]
fn a_loopback_connection_is_one_object() {
    if !Tier::Kernel.available() {
        return;
    }
    let program = truth_program("tcp.c");
    let run = record(Tier::Kernel, &[program.to_str().expect("UTF-8")]);
    let top = rows(&run.report, "/objects").iter().find(|o| text(o, "/kind") == "socket");
    let top = top.expect("a socket was waited for");
    let label = text(top, "/label");
    assert!(label.starts_with("tcp 127.0.0.1:"), "{label}");
    assert_eq!(label.matches("(tcp_c)").count(), 2, "{label}");
    assert!(label.contains(" <-> 127.0.0.1:"), "{label}");
    assert_eq!(number(top, "/waiters"), 2, "{top}");
}

#[test]
fn a_join_is_called_by_its_thread() {
    if !Tier::Kernel.available() {
        return;
    }
    let program = truth_program("burn.c");
    let run = record(Tier::Kernel, &[program.to_str().expect("UTF-8"), "1", "50"]);
    let worker = number(&rows(&run.report, "/threads")[1], "/tid");
    let objects = rows(&run.report, "/objects");
    let join = objects.iter().find(|object| text(object, "/kind") == "join").expect("it joined");
    let expected = format!("thread burn_c ({worker})");
    assert!(text(join, "/label").starts_with(&expected), "{expected}: {join}");
}
