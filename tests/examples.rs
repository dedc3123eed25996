//! Every example runs, ends well, and prints what it measured: the truth that reports are held to.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests are no pure module")]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use timesink::capture::probe_ring::ProbeRing;
use timesink::model::Event;
use timesink::model::Lost;
use timesink::model::ProbeKind;
use timesink::model::Record;

/// Built beside this test: `target/PROFILE/examples/NAME`.
fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("this program's path");
    path.pop();
    path.pop();
    let path = path.join("examples").join(name);
    // `cargo test` alone builds examples; `cargo test --test` does not.
    assert!(path.exists(), "{} is not built: run cargo build --examples", path.display());
    path
}

fn run(name: &str, args: &str) -> BTreeMap<String, u64> {
    truth(name, Command::new(binary(name)).args(args.split_whitespace()))
}

/// The pairs of the line that `command` prints.
fn truth(name: &str, command: &mut Command) -> BTreeMap<String, u64> {
    let output = command.output().unwrap_or_else(|error| panic!("{name} starts: {error}"));
    let said = String::from_utf8(output.stdout).expect("text");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}: {complaint}", output.status);
    let [line] = said.lines().collect::<Vec<_>>()[..] else { panic!("{name}: one line: {said}") };
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').expect("key=value");
        (key.to_owned(), value.parse().expect("a number"))
    };
    line.split(' ').map(pair).collect()
}

const MS: u64 = 1_000_000;

#[test]
fn serial_is_the_sum_of_its_phases() {
    let truth = run("serial", "--load-ms 5 --compute-ms 6 --store-ms 7");
    let phases = truth["load_ns"] + truth["compute_ns"] + truth["store_ns"];
    assert!(phases <= truth["wall_ns"]);
    assert!(truth["load_ns"] >= 5 * MS && truth["store_ns"] >= 7 * MS);
    assert!(truth["cpu_ns"] >= 6 * MS && truth["compute_ns"] >= 6 * MS);
}

#[test]
fn threads_cpu_uses_the_cpu_it_was_told_to() {
    let truth = run("threads_cpu", "--threads 3 --cpu-ms 7 --chunks 2");
    assert!(truth["cpu_ns"] >= 3 * 7 * MS);
    assert!(truth["threads_wall_ns"] <= 3 * truth["wall_ns"]);
}

#[test]
fn threads_io_times_its_three_kinds_of_call() {
    let truth = run("threads_io", "--threads 2 --blocks 2 --block-kb 4");
    let calls = truth["write_ns"] + truth["sync_ns"] + truth["read_ns"];
    assert!(truth["write_ns"] > 0 && truth["sync_ns"] > 0 && truth["read_ns"] > 0);
    assert!(calls <= 2 * truth["wall_ns"]);
}

#[test]
fn lock_contention_holds_the_lock_one_at_a_time() {
    let truth = run("lock_contention", "--threads 3 --rounds 4 --hold-ms 2 --outside-ms 1");
    assert_eq!(truth["rounds"], 12);
    assert!(truth["hold_ns"] >= 12 * 2 * MS && truth["prepare_ns"] >= 12 * MS);
    assert!(truth["hold_ns"] <= truth["wall_ns"], "holders exclude each other");
    assert!(truth["lock_wait_ns"] > 0);
    let all = truth["lock_wait_ns"] + truth["hold_ns"] + truth["prepare_ns"];
    assert!(all <= 3 * truth["wall_ns"]);
    let burnt = run("lock_contention", "--threads 1 --rounds 1 --hold-ms 1 --outside-ms 1 --burn");
    assert!(burnt["hold_ns"] >= MS);
}

#[test]
fn thread_pool_does_every_job_and_idles_for_the_rest() {
    let truth = run("thread_pool", "--workers 3 --jobs 5 --job-ms 2 --every-ms 3");
    assert_eq!(truth["jobs"], 5);
    assert!(truth["work_ns"] >= 10 * MS && truth["submit_ns"] >= 15 * MS);
    assert!(truth["idle_ns"] + truth["work_ns"] <= 3 * truth["wall_ns"]);
}

#[test]
fn producer_consumer_makes_the_producer_wait() {
    let truth = run("producer_consumer", "--items 12 --make-ms 1 --use-ms 4 --queue 2");
    assert!(truth["make_ns"] >= 12 * MS && truth["use_ns"] >= 48 * MS);
    assert!(truth["make_ns"] + truth["send_wait_ns"] <= truth["wall_ns"]);
    assert!(truth["use_ns"] + truth["receive_wait_ns"] <= truth["wall_ns"]);
    assert!(truth["send_wait_ns"] > 0);
}

#[test]
fn processes_wait_for_the_slowest_worker() {
    let truth = run("processes", "--workers 2 --rounds 3 --job-ms 2 --extra-ms 4");
    assert_eq!(truth["jobs"], 6);
    assert!(truth["work_ns"] >= 3 * (2 + 6) * MS);
    assert!(truth["pipe_wait_ns"] <= truth["wall_ns"]);
}

#[test]
fn subprocess_waits_for_each_child() {
    let truth = run("subprocess", "--children 2 --sleep-ms 10 --burn-ms 5");
    assert_eq!(truth["children"], 3);
    assert!(truth["sleep_children_ns"] >= 20 * MS && truth["copy_ns"] >= 5 * MS);
    assert!(truth["child_wait_ns"] <= truth["wall_ns"]);
}

#[test]
fn async_io_answers_after_the_timer() {
    let truth = run("async_io", "--clients 2 --requests 3 --delay-ms 2 --workers 2");
    assert_eq!(truth["requests"], 6);
    assert!(truth["latency_ns"] >= 6 * 2 * MS && truth["latency_ns"] <= 2 * truth["wall_ns"]);
}

#[test]
fn context_switch_hands_over_in_every_way() {
    for how in ["pipe", "futex", "condvar"] {
        let truth = run("context_switch", &format!("--how {how} --switches 99"));
        assert_eq!(truth["handovers"], 100, "{how}: there and back");
        assert!(truth["handover_ns"] * 100 <= truth["wall_ns"]);
        run("context_switch", &format!("--how {how} --switches 0"));
    }
}

#[test]
fn help_is_the_header_and_a_wrong_option_is_refused() {
    let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let mut count = 0;
    for source in sources.expect("the examples") {
        let path = source.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_str().expect("text");
        let help = Command::new(binary(name)).arg("--help").output().expect("it starts");
        let text = String::from_utf8(help.stdout).expect("text");
        assert!(help.status.success() && text.contains("The report must show"), "{name}: {text}");
        assert!(text.contains("Options: --"), "{name}: {text}");
        let wrong = Command::new(binary(name)).arg("--nonsense").output().expect("it starts");
        assert_eq!(wrong.status.code(), Some(2), "{name}");
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("--nonsense"), "{name}");
        count += 1;
    }
    assert_eq!(count, 10);
}

/// Enters of each span name, and how many leaves there were in all.
fn spans_of(name: &str, args: &str) -> (BTreeMap<String, u64>, u64) {
    let mut ring = ProbeRing::create_for(None).expect("a ring");
    let mut command = Command::new(binary(name));
    command.args(args.split_whitespace()).env(timesink_probe::ENVIRONMENT, ring.path());
    truth(name, &mut command);
    let (mut enters, mut leaves) = (BTreeMap::new(), 0);
    ring.drain(&mut |record| match record {
        Record::Event(Event::Probe(event)) => match event.what {
            ProbeKind::Enter { name, .. } => *enters.entry(name.to_string()).or_default() += 1,
            ProbeKind::Leave { .. } => leaves += 1,
            ProbeKind::Instant { .. } => {}
        },
        Record::Event(Event::Named(_)) => {}
        Record::Event(Event::Lost(Lost { count, .. })) => panic!("{name}: {count} lost"),
        record => panic!("{name}: not a probe's: {record:?}"),
    });
    (enters, leaves)
}

#[test]
fn spans_reach_a_recorder_from_every_thread_and_process() {
    let expect = |name, args: &str, spans: &[(&str, u64)]| {
        let (enters, leaves) = spans_of(name, args);
        for &(span, count) in spans {
            assert_eq!(enters.get(span), Some(&count), "{name}: {span} of {enters:?}");
        }
        assert_eq!(leaves, enters.values().sum::<u64>(), "{name}: every enter has its leave");
    };
    let rounds = "--threads 3 --rounds 4 --hold-ms 0 --outside-ms 0";
    expect("lock_contention", rounds, &[("settle", 12), ("prepare", 12)]);
    let jobs = "--workers 2 --rounds 3 --job-ms 0 --extra-ms 1";
    expect("processes", jobs, &[("start", 2), ("deal", 3), ("collect", 3), ("do_job", 6)]);
    let children = "--children 1 --sleep-ms 1 --burn-ms 1";
    expect("subprocess", children, &[("run_and_wait", 2), ("compute", 1)]);
    let jobs = "--jobs 3 --job-ms 0 --every-ms 0";
    expect("thread_pool", jobs, &[("run_job", 3), ("submit_job", 3)]);
}

#[test]
fn spans_reach_root_from_a_program_of_another_user() {
    const NOBODY: u32 = 65_534;
    if std::fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        let why = "skipped: only root can run programs as another user";
        assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "{why}");
        eprintln!("{why}");
        return;
    }
    // The build directory may be closed to others.
    let open = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
    let open = open.expect("a directory");
    let program = open.path().join("serial");
    std::fs::copy(binary("serial"), &program).expect("copied");
    let mut ring = ProbeRing::create_for(Some((NOBODY, NOBODY))).expect("a ring");
    let mut command = Command::new(&program);
    command.args(["--load-ms", "0", "--compute-ms", "0", "--store-ms", "0"]).current_dir("/");
    command.uid(NOBODY).gid(NOBODY).env(timesink_probe::ENVIRONMENT, ring.path());
    truth("serial", &mut command);
    let mut count = 0;
    ring.drain(&mut |_| count += 1);
    assert_eq!(count, 2 * 3);
}
