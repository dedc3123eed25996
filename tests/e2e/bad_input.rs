//! Files that are no traces, disks that are full, names that attack, recorders that die:
//! one clear sentence, never a panic, and the command goes on.

use crate::program::TIMESINK;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::alone;
use crate::program::installed;
use crate::program::is_root;
use crate::program::skip;
use crate::program::timesink;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::number;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Every command that reads a trace.
const READERS: [&[&str]; 8] = [
    &["report"],
    &["report", "--format", "json"],
    &["report", "--format", "html"],
    &["flamegraph", "--of", "wall"],
    &["flamegraph", "--of", "off-cpu"],
    &["export", "--to", "perfetto"],
    &["export", "--to", "chrome"],
    &["export", "--to", "folded"],
];

/// Reads a file with every command; gives (exit code, standard error) of each.
fn read_with_all(file: &Path) -> Vec<(i32, String)> {
    let file = file.to_str().expect("UTF-8");
    READERS
        .iter()
        .map(|reader| {
            let mut arguments = reader.to_vec();
            arguments.push(file);
            let (code, _, err) = timesink(&arguments);
            assert!(!err.contains("panicked"), "{arguments:?}: {err}");
            (code, err)
        })
        .collect()
}

fn trace_of(command: &[&str]) -> (tempfile::TempDir, Vec<u8>) {
    let run = Timesink::new().record(command);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    let bytes = fs::read(run.out().join("trace.timesink")).expect("a trace");
    (run.place, bytes)
}

#[test]
fn what_is_no_trace_is_refused_in_one_sentence() {
    let place = tempfile::tempdir().expect("a place");
    let zeroes = vec![0; 100_000];
    let cases: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("text", b"hello, world\n"),
        ("zeroes", &zeroes),
        ("elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        ("almost", b"timesink"),
    ];
    for (name, content) in cases {
        let file = place.path().join(name);
        fs::write(&file, content).expect("ours");
        for (code, err) in read_with_all(&file) {
            assert_eq!(code, 125, "{name}: {err}");
            assert_eq!(err.lines().count(), 1, "{name}: {err}");
            assert!(err.contains(name), "the file is named: {err}");
        }
    }
    for missing in [place.path().join("missing"), place.path().to_owned()] {
        for (code, err) in read_with_all(&missing) {
            assert_eq!(code, 125, "{err}");
            assert!(!err.is_empty() && err.lines().count() <= 2, "{err}");
        }
    }
}

fn warned(report: &serde_json::Value) -> bool {
    report["health"]["warnings"].as_array().is_some_and(|all| !all.is_empty())
}

/// A damaged trace may have lost the chunk that its first threads began in, and in a short
/// recording that is the only one: then nothing is reported, and a warning says so. Gives
/// whether there was something to add up.
fn adds_up_or_says_why_it_is_empty(report: &serde_json::Value) -> bool {
    let empty = report["threads"].as_array().is_some_and(Vec::is_empty);
    if empty {
        assert!(warned(report), "empty without a word: {report}");
        assert_eq!(number(report, "/budget/thread_ns"), 0);
    } else {
        assert_adds_up(report);
    }
    !empty
}

#[test]
fn a_cut_off_trace_gives_its_good_prefix_and_says_so() {
    let (place, bytes) =
        trace_of(&["sh", "-c", "i=0; while [ $i -lt 60 ]; do /bin/true; i=$((i+1)); done"]);
    let file = place.path().join("cut.timesink");
    let mut whole = 0;
    for part in 0..24 {
        let length = bytes.len() * part / 24;
        fs::write(&file, &bytes[..length]).expect("ours");
        let (code, json, err) =
            timesink(&["report", "--format", "json", file.to_str().expect("UTF-8")]);
        assert!(!err.contains("panicked"), "{length}: {err}");
        if code == 0 {
            let report: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            whole += usize::from(adds_up_or_says_why_it_is_empty(&report));
            assert!(warned(&report), "{length} of {} bytes: {}", bytes.len(), report["health"]);
        } else {
            assert_eq!(code, 125, "{length}: {err}");
            assert_eq!(err.lines().count(), 1, "{length}: {err}");
        }
    }
    assert!(whole > 0, "no prefix told anything");
    fs::write(&file, &bytes[..bytes.len() - 3]).expect("ours");
    for (code, err) in read_with_all(&file) {
        assert_eq!(code, 0, "all but the last chunk is good: {err}");
    }
}

#[test]
fn flipped_bytes_never_panic_and_what_is_reported_adds_up() {
    let (place, bytes) = trace_of(&["sh", "-c", "sleep 0.05; true"]);
    let file = place.path().join("flipped.timesink");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut whole = 0;
    for round in 0..120 {
        let mut bad = bytes.clone();
        for _ in 0..=round % 4 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % bad.len();
            bad[at] ^= 1 << (random >> 29 & 7);
        }
        fs::write(&file, &bad).expect("ours");
        let reader = READERS[round % READERS.len()];
        let mut arguments = reader.to_vec();
        arguments.push(file.to_str().expect("UTF-8"));
        let (code, out, err) = timesink(&arguments);
        assert!(code == 0 || code == 125, "round {round} {reader:?}: {code} {err}");
        assert!(!err.contains("panicked"), "round {round}: {err}");
        if code == 0 && reader.contains(&"json") && reader[0] == "report" {
            let report = serde_json::from_slice(&out).expect("JSON");
            whole += usize::from(adds_up_or_says_why_it_is_empty(&report));
        }
    }
    assert!(whole > 0, "no damaged trace told anything");
}

#[test]
fn an_unwritable_output_is_said() {
    let (place, _) = trace_of(&["true"]);
    let out = place.path().join("out");
    let out = out.to_str().expect("UTF-8");
    let (code, _, err) = timesink(&["export", "--to", "chrome", out, "-o", "/nonexistent/x.json"]);
    assert!(code == 125 && err.contains("/nonexistent/x.json"), "{code} {err}");
    let (code, _, err) = timesink(&["report", out, "-o", "/dev/full"]);
    assert!(code == 125 && err.contains("space"), "{code} {err}");
    // A reader that goes away (`| head`) is no error.
    let status = Command::new("sh")
        .args([
            "-c",
            &format!(
                "set -o pipefail 2>/dev/null; {TIMESINK} export --to chrome {out} | head -c 10"
            ),
        ])
        .output()
        .expect("sh starts");
    assert!(status.stderr.is_empty(), "{}", String::from_utf8_lossy(&status.stderr));
}

#[test]
fn on_a_full_disk_the_command_goes_on_and_the_loss_is_said() {
    if !is_root() || !installed(&["unshare", "mount"]) {
        skip("a tiny disk needs root, unshare and mount");
        return;
    }
    let _alone = alone();
    for tier in [Tier::Kernel, Tier::Perf, Tier::Proc].into_iter().filter(|tier| tier.available()) {
        let place = tempfile::tempdir().expect("a place");
        let program = truth_program("pipes.c");
        let script = format!(
            "mount -t tmpfs -o size=24k none {0} && cd {0} && \
             {TIMESINK} run -o out --tier {1} -- {2} 300; code=$?; ls -l out >&2; exit $code",
            place.path().display(),
            tier.name(),
            program.display()
        );
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .env_remove("SUDO_UID")
            .stdin(Stdio::null())
            .output()
            .expect("unshare starts");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{tier:?}: {err}");
        assert!(out.contains("parent_pipe="), "the command ran to its end: {out}");
        assert!(!err.contains("panicked"), "{err}");
        assert!(err.contains("No space left") && err.contains("not written"), "{tier:?}: {err}");
    }
}

#[test]
fn under_a_limit_of_file_size_the_command_goes_on() {
    // The limit sends SIGXFSZ to whoever writes past it; timesink must not die of it.
    let _alone = alone();
    let place = tempfile::tempdir().expect("a place");
    let script = format!(
        "ulimit -f 4; exec {TIMESINK} run -o out -- {} 300",
        truth_program("pipes.c").display()
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path())
        .env_remove("SUDO_UID")
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{:?}: {err}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("parent_pipe="), "{err}");
    assert!(err.contains("File too large"), "{err}");
}

/// Nothing in these bytes can steer a terminal.
fn assert_harmless_text(text: &str) {
    let bad = text.chars().find(|&c| c.is_control() && c != '\n' && c != '\t');
    assert!(bad.is_none(), "{bad:?} in {text:?}");
}

#[test]
fn hostile_names_are_shown_escaped_everywhere() {
    let recording = Timesink::new();
    let name = std::ffi::OsStr::from_bytes(b"evil\x1b[31m<script>alert(1)<\xff\n;&\"'");
    let program: PathBuf = recording.place().join(name);
    fs::copy(truth_program("hostile.c"), &program).expect("ours");
    let arguments =
        [program.as_os_str(), std::ffi::OsStr::from_bytes(b"\x1b]0;x\x07</script>\xfe")];
    let run = recording.record(&arguments);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert_harmless_text(&run.stderr);
    assert!(run.stderr.contains("\\x1b[31m<script>"), "{}", run.stderr);
    assert_adds_up(&run.report);
    let out = run.out();
    for file in
        ["report.json", "report.html", "trace.json", "on-cpu.svg", "off-cpu.svg", "wall.svg"]
    {
        let bytes = fs::read(out.join(file)).expect("written");
        let content = String::from_utf8(bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_harmless_text(&content.replace('\r', ""));
        if file.contains(".json") {
            let json: serde_json::Value = serde_json::from_str(&content).expect(file);
            assert!(json.is_object() || json.is_array());
        } else {
            assert!(!content.contains("<script>alert(1)"), "{file} holds live markup");
            assert!(!content.contains("<script>\\x1b"), "{file} holds live markup");
        }
    }
    let (code, folded, err) = timesink(&["export", "--to", "folded", out.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{err}");
    assert_harmless_text(&String::from_utf8(folded).expect("UTF-8"));
}

#[test]
fn a_command_that_cannot_start_is_named_escaped() {
    let run = Timesink::new().record(&[std::ffi::OsStr::from_bytes(b"no\x1b[31m\xff\nsuch")]);
    assert_eq!(run.code(), 127);
    assert_harmless_text(&run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

#[test]
fn when_the_recorder_is_killed_the_command_lives_and_the_trace_is_good_to_the_last_second() {
    for tier in Tier::here() {
        let _alone = alone();
        let recording = Timesink::on(tier);
        let mark = recording.place().join("mark");
        let begun = recording.place().join("begun");
        let script = format!(
            "echo begun > {}; i=0; while [ $i -lt 40 ]; do sleep 0.1; i=$((i+1)); done; \
             echo done > {}",
            begun.display(),
            mark.display()
        );
        let mut started = recording.prepare(&["sh", "-c", &script]);
        started.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let spawned = Instant::now();
        let mut child = started.spawn().expect("timesink starts");
        // On a busy machine the recorder takes seconds until it lets the command begin.
        assert!(comes(&begun, 3000), "{tier:?}: the command never began");
        std::thread::sleep(Duration::from_millis(2900));
        let longest = spawned.elapsed().as_nanos() as u64;
        child.kill().expect("ours");
        child.wait().expect("ours");
        let out = recording.place().join("out");
        let (code, json, err) = timesink(&["report", "--format", "json", &out.to_string_lossy()]);
        assert_eq!(code, 0, "{tier:?}: {err}");
        let report: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_adds_up(&report);
        let wall = number(&report, "/wall_ns");
        assert!((1_000_000_000..longest).contains(&wall), "{tier:?}: {wall} of {longest}");
        assert!(warned(&report), "{tier:?}: {}", report["health"]);
        assert!(comes(&mark, 400), "{tier:?}: the command ran to its end");
    }
}

/// Whether there is such a file, now or within as many looks, ten milliseconds apart.
fn comes(file: &Path, looks: u32) -> bool {
    (0..looks).any(|_| {
        let there = file.exists();
        if !there {
            std::thread::sleep(Duration::from_millis(10));
        }
        there
    })
}
