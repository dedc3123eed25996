//! On a terminal: Ctrl-C, Ctrl-Z and typing reach the command as they always do.

use crate::program::TIMESINK;
use crate::program::alone;
use crate::program::installed;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Types into a pseudo-terminal as `tests/e2e/typist.py` is told: pairs of what to wait for
/// and what to type then. Gives everything that appeared.
fn type_at(place: &Path, script: &[&str], command: &[&str]) -> String {
    let _alone = alone();
    let typist = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/typist.py");
    let output = Command::new("python3")
        .arg(typist)
        .args(script)
        .arg("--")
        .args(command)
        .current_dir(place)
        .env("TERM", "dumb")
        .env_remove("SUDO_UID")
        .stdin(Stdio::null())
        .output()
        .expect("python3 starts");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{seen}");
    seen
}

fn assert_report(place: &Path) {
    let json = fs::read(place.join("out/report.json")).expect("a report");
    assert_adds_up(&serde_json::from_slice(&json).expect("JSON"));
}

#[test]
fn ctrl_c_reaches_the_command_once_and_the_report_still_comes() {
    if !installed(&["python3"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a place");
    let program = truth_program("signals.c");
    let seen = type_at(
        place.path(),
        &["ready", "\\x03"],
        &[TIMESINK, "run", "-o", "out", "--", &program.to_string_lossy()],
    );
    assert!(seen.contains("INT=1\r\n"), "{seen}");
    assert!(seen.contains("QUIT=0\r\n"), "{seen}");
    assert!(seen.contains("exit 5"), "the command's own code: {seen}");
    assert!(seen.contains("Files in out"), "{seen}");
    assert_report(place.path());
}

#[test]
fn a_command_that_ctrl_c_ends_is_reported() {
    if !installed(&["python3"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a place");
    let seen = type_at(
        place.path(),
        &["ready", "\\x03"],
        &[TIMESINK, "run", "-o", "out", "--", "sh", "-c", "echo ready; exec sleep 20"],
    );
    assert!(seen.contains("exit 130"), "{seen}");
    assert_report(place.path());
}

#[test]
fn ctrl_z_and_fg_stop_and_continue_and_the_command_reads_the_terminal() {
    if !installed(&["python3", "bash"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a place");
    let run =
        format!("{TIMESINK} run -o out -- sh -c 'echo rea''dy; read line; echo got:$line'\\n");
    let seen = type_at(
        place.path(),
        &[
            "bash-",
            &run,
            "ready",
            "\\x1a",
            "Stopped",
            "fg\\n",
            "sh -c",
            "hello\\n",
            "got:hello",
            "",
            "Files in out",
            "exit 7\\n",
        ],
        &["bash", "--norc", "--noprofile", "-i"],
    );
    assert!(seen.contains("exit 7"), "the shell got its prompt back: {seen}");
    assert_report(place.path());
    let json = fs::read(place.path().join("out/report.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    // The typist waits 300 ms between the stop and `fg`.
    let stopped = report["budget"]["states"]["stopped"].as_u64().expect("ns");
    if report["tier"] == "kernel" {
        assert!(stopped > 100_000_000, "{}", report["budget"]);
    }
}

#[test]
fn the_terminal_is_still_one() {
    if !installed(&["python3"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a place");
    let look = "test -t 0 && test -t 1 && test -t 2 && tty; ps -o tpgid= -o pgid= -p $$ | \
        { read a b; test $a = $b && echo foreground; }";
    let seen = type_at(place.path(), &[], &[TIMESINK, "run", "-o", "out", "--", "sh", "-c", look]);
    assert!(seen.contains("/dev/pts/") && seen.contains("foreground"), "{seen}");
}
