//! The bundled Python examples: each runs alone and recorded, and what the report says agrees
//! with what the example measured of itself.

use crate::interpreters::interpreters;
use crate::program::Recorded;
use crate::program::TIMESINK;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::alone;
use crate::program::timesink;
use crate::report::assert_adds_up;
use crate::report::is_quiet;
use crate::report::number;
use crate::report::rows;
use crate::report::states;
use crate::report::text;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The interpreter itself: what is on the path may be a script that looks for one.
static PYTHON: LazyLock<Option<String>> = LazyLock::new(|| {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    Some(String::from_utf8(asked.ok()?.stdout).ok()?.trim().to_owned())
});

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python")
}

/// The `key=number` words that an example ends with.
fn numbers(said: &[u8]) -> BTreeMap<String, u64> {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().last().unwrap_or_default();
    let pair = |word: &str| {
        let (key, value) = word.split_once('=')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    last.split(' ').map(|word| pair(word).unwrap_or_else(|| panic!("`{word}` in {said}"))).collect()
}

/// A recorded example, and what it said.
struct Example {
    run: Recorded,
    said: BTreeMap<String, u64>,
}

/// Runs an example alone, then recorded on the best tier there is; `None` without Python.
fn example(name: &str, arguments: &str) -> Option<Example> {
    let Some(python) = PYTHON.as_deref() else {
        crate::program::skip("python3 is not installed");
        return None;
    };
    let file = directory().join(name).with_extension("py").display().to_string();
    let mut command = vec![python, &file];
    command.extend(arguments.split_whitespace());
    let bare = {
        let _alone = alone();
        Command::new(command[0]).args(&command[1..]).output().expect("python starts")
    };
    let complaint = String::from_utf8_lossy(&bare.stderr);
    assert!(bare.status.success() && complaint.is_empty(), "{name}: {}\n{complaint}", bare.status);
    let tier = Tier::here().next()?;
    let run = Timesink::on(tier).record(&command);
    assert_eq!(run.code(), 0, "{name} on {tier:?}:\n{}", run.stderr);
    assert_adds_up(&run.report);
    let said = numbers(&run.stdout);
    assert!(numbers(&bare.stdout).keys().eq(said.keys()), "{name} says the same of itself");
    Some(Example { run, said })
}

impl Example {
    /// Time in a state: of all threads.
    fn state(&self, name: &str) -> u64 {
        states(&self.run.report["budget"])[name]
    }

    /// The same in the threads that this holds of.
    fn state_of(&self, name: &str, holds: impl Fn(&Value) -> bool) -> u64 {
        let threads = rows(&self.run.report, "/threads").iter();
        threads.filter(|thread| holds(thread)).map(|thread| states(thread)[name]).sum()
    }

    fn processes(&self) -> &[Value] {
        rows(&self.run.report, "/processes")
    }

    /// The id of the process that was started first.
    fn main_process(&self) -> u64 {
        let main = self.processes().iter().find(|process| process["parent"].is_null());
        number(main.expect("a first process"), "/id")
    }

    /// Whether it was recorded by the tier that sees everything.
    fn by_kernel(&self) -> bool {
        text(&self.run.report, "/tier") == "kernel"
    }

    fn finding(&self, rule: &str) -> Option<&Value> {
        let findings = rows(&self.run.report, "/findings").iter();
        findings.into_iter().find(|finding| text(finding, "/rule") == rule)
    }

    /// The number that proves a finding.
    fn proof(&self, rule: &str, what: &str) -> u64 {
        let finding = self.finding(rule).unwrap_or_else(|| panic!("{rule}: {}", self.verdict()));
        let proofs = rows(finding, "/evidence").iter();
        let proof = proofs.into_iter().find(|proof| text(proof, "/what") == what);
        proof.and_then(|proof| proof["value"].as_f64()).unwrap_or_else(|| panic!("{finding}"))
            as u64
    }

    fn verdict(&self) -> String {
        let verdict = &self.run.report["verdict"];
        format!("{}: {}", text(verdict, "/kind"), text(verdict, "/headline"))
    }

    /// Threads were kept from a CPU for longer than this part of what the program measured.
    fn is_crowded(&self, of: &str) -> bool {
        self.said["queue_ns"] * 3 > self.said[of]
    }

    /// What the program measured from call to return is this state, the way back to a CPU and
    /// the call's own work: never less than the state, and never more than all of these, but for
    /// some percent of all thread time.
    fn assert_state(&self, state: &str, key: &str) {
        let (found, measured) = (self.state(state), self.said[key]);
        let slack = number(&self.run.report, "/budget/thread_ns") / 25;
        // The way back to Python leads through the GIL.
        let beside = ["runnable", "running", "gil", "unknown"].map(|beside| self.state(beside));
        let beside: u64 = beside.iter().sum();
        let context = || {
            format!(
                "{state} is {found} ns, {key}={measured}, of {}\n{}",
                self.run.report["budget"], self.run.stderr
            )
        };
        assert!(found <= measured + slack, "too much: {}", context());
        assert!(found + beside + slack >= measured, "too little: {}", context());
    }

    /// CPU time is what the kernel told the program, within some percent and the start of
    /// interpreters, which the program does not count. The kernel counts the work of switching
    /// too, and the recorder's part in it: a program that switches all the time was seen to have
    /// 3 us for each switch that the report does not call running.
    fn assert_running(&self, key: &str) {
        let (found, measured) = (self.state("running"), self.said[key]);
        let count = |thread: &Value, kind| thread["switches"][kind].as_u64().unwrap_or_default();
        let switches: u64 = rows(&self.run.report, "/threads")
            .iter()
            .map(|thread| count(thread, "voluntary") + count(thread, "involuntary"))
            .sum();
        assert!(
            (found + switches * 5_000) * 100 >= measured * 95,
            "running {found} ns, {switches} switches, {key}={measured}"
        );
    }
}

#[test]
fn serial_has_its_three_phases() {
    let Some(example) = example("serial", "--load-ms 200 --cpu-ms 200 --store-ms 200") else {
        return;
    };
    example.assert_state("sleep", "sleep_ns");
    example.assert_state("disk", "disk_ns");
    example.assert_running("cpu_ns");
    assert_eq!(rows(&example.run.report, "/threads").len(), 1);
}

#[test]
#[allow(clippy::print_stdout, reason = "what a test did not judge is said")]
fn threads_that_compute_run_for_as_long_as_they_say() {
    let Some(example) = example("threads_cpu", "--threads 3 --cpu-ms 150") else { return };
    example.assert_running("threads_cpu_ns");
    let said = &example.said;
    assert_eq!(said["threads_wall_ns"] - said["threads_cpu_ns"], said["gil_or_queue_ns"]);
    assert_eq!(rows(&example.run.report, "/threads").len(), 4);
    // Whatever the report calls it, the threads did not run then.
    let worker = |row: &Value| number(row, "/tid") != number(row, "/pid");
    let wait: u64 = ["gil", "condvar", "lock", "runnable", "unknown"]
        .map(|state| example.state_of(state, worker))
        .iter()
        .sum();
    let slack = number(&example.run.report, "/budget/thread_ns") / 10;
    assert!(wait.abs_diff(said["gil_or_queue_ns"]) <= slack, "{wait} of {said:?}");
    if !example.by_kernel() || said["gil_ns"] == 0 || example.is_crowded("gil_ns") {
        return;
    }
    if !is_quiet(&example.run.report) {
        return println!("not judged: other programs had the CPUs");
    }
    assert!(example.state("gil").abs_diff(said["gil_ns"]) <= slack, "{said:?}");
    let verdict = example.verdict();
    assert!(verdict.starts_with("gil-bound"), "{verdict}");
    let finding = example.finding("gil-bound").expect("a finding");
    assert!(text(finding, "/text").contains("`compute`"), "{finding}");
    let gain = finding["gain"]["speedup"].as_f64();
    let cpus = example.run.report["host"]["cpus_allowed"].as_f64().expect("a number").min(3.0);
    // The start of the interpreter gains nothing. A replay that comes to a standstill, as one in six
    // did, says so and promises nothing.
    assert!(gain.is_none_or(|gain| gain > cpus * 0.6 && gain < cpus * 1.15), "{finding}");
}

#[test]
fn threads_that_flush_wait_for_the_disk() {
    let Some(example) = example("threads_io", "--threads 2 --run-ms 400") else { return };
    example.assert_state("disk", "disk_ns");
}

#[test]
fn a_thread_pool_sleeps_in_its_jobs() {
    let Some(example) = example("thread_pool", "--workers 3 --jobs 12 --job-ms 60") else {
        return;
    };
    example.assert_state("sleep", "sleep_ns");
    // Idle and waiting for results: semaphores, which a program cannot tell from queues.
    example.assert_state("condvar", "result_wait_ns");
    assert!(example.said["queued_ns"] > example.said["sleep_ns"], "{:?}", example.said);
    if example.by_kernel() {
        let verdict = example.verdict();
        assert!(verdict.starts_with("sleep-bound") && verdict.contains("`job`"), "{verdict}");
        let model = &example.run.report["processes"][0]["model"];
        assert_eq!(
            (text(model, "/kind"), number(model, "/workers")),
            ("thread-pool", 3),
            "{model}"
        );
    }
}

#[test]
fn a_process_pool_runs_in_its_workers_however_they_start() {
    for start in ["fork", "spawn"] {
        let arguments = format!("--workers 2 --jobs 6 --cpu-ms 60 --start {start}");
        let Some(example) = example("process_pool", &arguments) else { return };
        let main = example.main_process();
        let workers = example.state_of("running", |row| number(row, "/process") != main);
        assert!(workers * 100 >= example.said["jobs_cpu_ns"] * 95, "{workers} {:?}", example.said);
        assert!(example.processes().len() > 2, "{start}: {:?}", example.said);
    }
}

#[test]
fn processes_at_a_queue_sleep_and_wait_as_they_say() {
    for start in ["fork", "spawn"] {
        let arguments = format!("--workers 2 --jobs 10 --job-ms 30 --every-ms 25 --start {start}");
        let Some(example) = example("processes_queue", &arguments) else { return };
        example.assert_state("sleep", "sleep_ns");
        // For the queue's semaphore, or for its pipe with the semaphore held.
        let main = example.main_process();
        let wait = ["pipe", "condvar"]
            .map(|state| example.state_of(state, |row| number(row, "/process") != main));
        let (wait, thread) = (wait.iter().sum::<u64>(), example.said["job_wait_ns"]);
        let slack = number(&example.run.report, "/budget/thread_ns") / 10;
        assert!(wait + slack >= thread, "{start}: {wait} ns of {:?}", example.said);
    }
}

#[test]
fn a_producer_waits_for_the_slower_consumer() {
    let Some(example) = example("producer_consumer", "--items 30 --make-ms 4 --use-ms 16") else {
        return;
    };
    example.assert_state("sleep", "sleep_ns");
    let (put, get) = (example.said["put_wait_ns"], example.said["get_wait_ns"]);
    assert!(put > get && example.state("condvar") >= put * 9 / 10, "{:?}", example.said);
}

#[test]
fn no_update_is_lost_under_a_lock() {
    let Some(example) = example("lock_race", "--threads 3 --updates 150000") else { return };
    let said = &example.said;
    assert_eq!((said["locked"], said["apart"]), (said["expected"], said["expected"]));
    // It is a race: usually thousands are lost, but nobody can promise one.
    assert_eq!(said["unlocked"] + said["lost"], said["expected"]);
    assert!(said["locked_ns"] > said["apart_ns"], "{said:?}");
    example.assert_running("cpu_ns");
    // Which threads share a GIL: they are not said to compete for CPUs, whoever else has them.
    assert!(example.finding("oversubscription").is_none(), "{}", example.verdict());
    let quiet = is_quiet(&example.run.report);
    if example.by_kernel() && quiet && said["lock_wait_ns"] > said["wall_ns"] / 2 {
        let on_locks = ["lock-handover", "lock-bottleneck"];
        let found = on_locks.iter().find_map(|rule| example.finding(rule));
        let found = found.unwrap_or_else(|| panic!("{}", example.verdict()));
        assert!(text(found, "/text").contains("`locked`"), "{found}");
    }
}

#[test]
fn a_child_is_waited_for_at_its_pipe_and_at_its_end() {
    let arguments = "--questions 10 --answer-ms 25 --commands 3 --command-ms 60";
    let Some(example) = example("subprocess_pipe", arguments) else { return };
    example.assert_state("pipe", "pipe_ns");
    example.assert_state("child", "child_ns");
    let sleeping = example.state("sleep");
    assert!(sleeping * 100 >= example.said["child_sleep_ns"] * 95, "{sleeping}");
    assert_eq!(example.processes().len(), 1 + 1 + 3);
}

#[test]
fn a_web_server_waits_for_its_remote_service() {
    let arguments = "--workers 3 --clients 4 --requests 60 --remote-ms 40";
    let Some(example) = example("web_thread_pool", arguments) else { return };
    assert_eq!((example.said["requests"], example.said["answered"]), (60, 60));
    example.assert_state("network", "network_ns");
    let disk = example.state("disk");
    let measured = example.said["disk_ns"] + example.said["commit_ns"];
    let slack = number(&example.run.report, "/budget/thread_ns") / 25;
    assert!(disk <= measured + slack, "{disk} ns of disk, {:?}", example.said);
    assert_eq!(example.processes().len(), 3);
}

#[test]
fn a_loop_that_fetches_waits_in_its_poll() {
    let Some(example) = example("asyncio_fetch", "--requests 30 --at-once 6 --delay-ms 60") else {
        return;
    };
    example.assert_state("poll", "poll_ns");
    let said = &example.said;
    assert!(said["latency_ns"] > 4 * said["wall_ns"], "the waits overlap: {said:?}");
    assert_eq!(rows(&example.run.report, "/threads").len(), 1);
}

#[test]
fn a_blocked_loop_sleeps_and_runs_where_it_should_poll() {
    let Some(example) =
        example("asyncio_blocked", "--blocks 4 --sleep-ms 50 --compute-ms 50 --every-ms 30")
    else {
        return;
    };
    example.assert_state("sleep", "sleep_ns");
    example.assert_state("poll", "poll_ns");
    example.assert_running("loop_cpu_ns");
    let said = &example.said;
    assert!(said["late"] >= said["blocks"] && said["late"] < said["ticks"], "{said:?}");
    assert!(said["lag_max_ns"] >= 40_000_000, "{said:?}");
    // Each block is found, and nothing else: not even where others had the CPUs.
    assert_eq!(example.proof("blocked-event-loop", "long turns"), said["blocks"]);
    let held = example.proof("blocked-event-loop", "in long turns");
    let measured = said["sleep_ns"] + said["crunch_ns"];
    assert!(held + measured / 20 >= measured && held <= measured * 3 / 2, "{held} {said:?}");
    if example.by_kernel() {
        let text = text(example.finding("blocked-event-loop").expect("it"), "/text");
        for place in
            ["4 times asleep in `nap` (asyncio_blocked.py:", "4 times running in `crunch` ("]
        {
            assert!(text.contains(place), "{text}");
        }
        assert!(example.verdict().starts_with("blocked-event-loop"), "{}", example.verdict());
    }
}

#[test]
fn a_convoy_measures_how_late_its_io_is() {
    let Some(example) = example("gil_convoy", "--requests 40 --burners 2") else { return };
    let said = &example.said;
    assert!(said["loaded_ns"] > said["alone_ns"], "{said:?}");
    assert_eq!(said["loaded_ns"] - said["alone_ns"], said["io_gil_ns"]);
    if example.by_kernel() && example.state("gil") > 0 && !example.is_crowded("gil_ns") {
        let waited = example.proof("gil-convoy", "waited");
        // The thread waits before its first request too, and after its last one.
        let most = said["loaded_ns"] + number(&example.run.report, "/wall_ns") / 8;
        assert!(waited <= most && waited * 3 >= said["io_gil_ns"], "{waited} {said:?}");
        let verdict = example.verdict();
        assert!(verdict.starts_with("gil-convoy") && verdict.contains("`burn`"), "{verdict}");
    }
    example.assert_running("burners_cpu_ns");
    assert_eq!(example.processes().len(), 2);
}

#[test]
fn choose_runs_each_case_in_processes_of_its_own() {
    let Some(example) = example("choose", "--workers 3 --cpu-ms 50 --requests 4 --delay-ms 15")
    else {
        return;
    };
    let text = String::from_utf8_lossy(&example.run.stdout).into_owned();
    for way in ["threads", "processes", "asyncio"] {
        assert!(example.said[&format!("cpu_{way}_cpu_ns")] >= 3 * 50_000_000, "{text}");
        assert!(example.said[&format!("io_{way}_wall_ns")] >= 4 * 15_000_000, "{text}");
        assert!(text.contains(&format!("cpu: {way}")), "{text}");
    }
    // This program, six cases, and the workers of two of them.
    assert!(example.processes().len() >= 1 + 6 + 2, "{}", example.processes().len());
}

#[test]
fn every_example_is_listed_and_explains_itself() {
    let (code, out, err) = timesink(&["examples"]);
    assert_eq!(code, 0, "{err}");
    let list = String::from_utf8_lossy(&out);
    let readme = include_str!("../../examples/README.md");
    let mut count = 0;
    for entry in std::fs::read_dir(directory()).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "py") {
            continue;
        }
        count += 1;
        let source = std::fs::read_to_string(&path).expect("text");
        let name = path.file_stem().expect("a name").to_str().expect("text");
        let first = source.lines().next().and_then(|line| line.strip_prefix("\"\"\""));
        let first = first.unwrap_or_else(|| panic!("{name} begins with what it does"));
        assert!(first.ends_with('.'), "{name}: {first}");
        let listed = list.lines().find(|line| line.starts_with(&format!("python/{name} ")));
        assert!(listed.is_some_and(|line| line.ends_with(first)), "{name}: {list}");
        assert!(readme.contains(&format!("| `python/{name}` |")), "{name} is in the README");
        assert!(source.contains("report must"), "{name} says what to look for");
        assert!(source.contains(&format!("timesink run -- python3 {name}.py")), "{name}");
        assert!(source.lines().all(|line| line.chars().count() <= 100), "{name}: long lines");
    }
    assert!(count == 14 && list.matches("\npython/").count() == count, "{list}");
}

#[test]
fn demo_leaves_the_example_beside_its_report() {
    if PYTHON.is_none() {
        crate::program::skip("python3 is not installed");
        return;
    }
    let place = tempfile::tempdir().expect("a place");
    let demo = |name: &str, path: Option<&str>| {
        let _alone = alone();
        let mut command = Command::new(TIMESINK);
        command.args(["demo", name, "--items", "5"]).current_dir(place.path());
        path.map(|path| command.env("PATH", path));
        command.output().expect("timesink starts")
    };
    let run = demo("python/producer_consumer", None);
    let complaint = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{complaint}");
    assert_eq!(numbers(&run.stdout)["items"], 5);
    let out = place.path().join("timesink-out/latest");
    let name = std::fs::read_link(&out).expect("a link").display().to_string();
    assert!(name.starts_with("producer_consumer-"), "{name}");
    let brought = std::fs::read(out.join("producer_consumer.py")).expect("the example");
    assert_eq!(brought, std::fs::read(directory().join("producer_consumer.py")).expect("ours"));
    let report = std::fs::read(out.join("report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert!(text(&report, "/command/1").ends_with("/producer_consumer.py"), "{report}");

    let unknown = demo("python/no_such", None);
    let complaint = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success() && complaint.contains("python/choose"), "{complaint}");
    let without = demo("python/serial", Some("/nonexistent"));
    let complaint = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && complaint.contains("need python3"), "{complaint}");
    let left = std::fs::read_dir(place.path().join("timesink-out")).expect("it").count();
    assert_eq!(left, 2, "one run and the link to it");
}

/// Says all that the probe could change: paths, modules (but for its own, which import insists on),
/// stacks, errors of threads, children.
const NOSY: &str = "
import sys
before = sorted(set(sys.modules) - {'sitecustomize'})
import multiprocessing, os, subprocess, threading, traceback
sys.stderr = sys.stdout

def show(name):
    print(name, threading.current_thread().name, sorted(vars(threading.current_thread())))
    traceback.print_stack(file=sys.stdout)
    raise ValueError(name)

def in_thread(name):
    thread = threading.Thread(target=show, args=(name,), name=name)
    thread.start()
    thread.join()
    return thread

if __name__ == '__main__':
    print([path for path in sys.path if path], before)
    print(getattr(sys.modules.get('sitecustomize'), 'HIDDEN', None))
    in_thread('first')
    in_thread('a name of more than fifteen letters \u{e9}\u{e9}')
    print(open('/proc/self/comm').read(), threading.main_thread().name, flush=True)
    child = os.fork()
    if child == 0:
        in_thread('forked')
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    for how in ('fork', 'spawn'):
        process = multiprocessing.get_context(how).Process(target=in_thread, args=(how,))
        process.start()
        process.join()
        print(how, process.exitcode, flush=True)
    subprocess.run([sys.executable, '-c', 'import sys; print(sys.path)'], check=True)
";

#[test]
fn the_probe_changes_nothing_that_a_program_says() {
    let Some(python) = PYTHON.as_deref() else {
        crate::program::skip("python3 is not installed");
        return;
    };
    let place = tempfile::tempdir().expect("a place");
    let file = place.path().join("nosy.py");
    std::fs::write(&file, NOSY).expect("written");
    let hidden = place.path().join("theirs");
    std::fs::create_dir(&hidden).expect("made");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for theirs in [None, Some("HIDDEN = 'seen'\n"), Some("raise OSError('theirs')\n")] {
        let mut bare = Command::new(python);
        let mut recorder = Timesink::on(Tier::Proc).option("--python-probe");
        if let Some(text) = theirs {
            std::fs::write(hidden.join("sitecustomize.py"), text).expect("written");
            bare.env("PYTHONPATH", &hidden);
            recorder = recorder.env("PYTHONPATH", &hidden);
        }
        let bare = {
            let _alone = alone();
            // Some versions warn of forks, with the process's id.
            bare.arg(&file).env("PYTHONWARNINGS", "ignore").output().expect("python")
        };
        assert!(bare.status.success(), "{}", said(&bare.stderr));
        let run = recorder
            .env("PYTHONWARNINGS", "ignore")
            .record(&[python, file.to_str().expect("UTF-8")]);
        assert_eq!(said(&run.stdout), said(&bare.stdout), "{theirs:?}: {}", run.stderr);
        assert!(run.stderr.starts_with(&said(&bare.stderr)), "{theirs:?}: {}", run.stderr);
        assert_eq!(said(&bare.stdout).contains("seen"), theirs.is_some_and(|t| t.contains("seen")));
        assert!(!run.out().join("sitecustomize.py").exists(), "it is taken away");
    }
}

/// Without any probe, from the program's memory; what tells the kernel by itself is not renamed.
#[test]
fn threads_are_called_what_the_program_calls_them() {
    let file = directory().join("thread_pool.py").display().to_string();
    let mut all = interpreters();
    all.truncate(if Tier::Kernel.available() { usize::MAX } else { 1 });
    if all.is_empty() {
        return crate::program::skip("no python3 is installed");
    }
    for tier in Tier::here().filter(|tier| !tier.as_nobody()) {
        for command in all.iter().take(if tier == Tier::Kernel { usize::MAX } else { 1 }) {
            let mut command = command.clone();
            let arguments = [&file, "--workers", "2", "--jobs", "8", "--job-ms", "60"];
            command.extend(arguments.map(str::to_owned));
            let run = Timesink::on(tier).record(&command);
            assert_eq!(run.code(), 0, "{tier:?}: {}", run.stderr);
            let names: Vec<&str> =
                rows(&run.report, "/threads").iter().map(|thread| text(thread, "/name")).collect();
            let pool = ["pool_0", "pool_1"].iter().all(|name| names.contains(name));
            assert!(pool, "{tier:?}, {command:?}: {names:?}");
            let first = rows(&run.report, "/threads").iter().find(|row| row["tid"] == row["pid"]);
            assert!(first.is_some_and(|row| !text(row, "/name").contains("Main")), "{names:?}");
        }
    }
}

/// A thread that waits for one of Python's newer locks sleeps on a word of its own: which lock it waits
/// for is told all the same.
#[test]
#[allow(clippy::print_stdout, reason = "where nothing of the kind can be had, that is said")]
fn locks_of_parked_threads_are_told_apart() {
    if !Tier::Kernel.available() {
        return crate::program::skip("the kernel tier needs root");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/locks.py");
    let mut ran = false;
    for mut command in interpreters() {
        command.push(program.display().to_string());
        let run = Timesink::on(Tier::Kernel).record(&command);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        let said: Value = serde_json::from_slice(&run.stdout).expect("the locks");
        if said.is_null() {
            continue;
        }
        ran = true;
        let runtime = text(&run.report, "/processes/0/runtime");
        assert_eq!(runtime.ends_with("no GIL"), said["free_threaded"] == true, "{runtime}");
        for lock in rows(&said, "/locks") {
            let (id, waited) = (number(lock, "/id"), number(lock, "/wait_ns"));
            // The lock is in the object, behind its header.
            let mut own = rows(&run.report, "/objects")
                .iter()
                .filter(|row| number(row, "/address").wrapping_sub(id) < 64);
            let row = own.next().unwrap_or_else(|| panic!("{command:?}: {}", run.stderr));
            assert_eq!(text(row, "/state"), "lock", "{command:?}: {row}");
            assert_eq!(number(row, "/waiters"), 3, "{command:?}: {row}");
            let found = number(row, "/wait_ns");
            assert!(found < waited && found > waited / 2, "{command:?}: {found} of {waited}");
        }
    }
    if !ran {
        // What no package of this system gives cannot be asked for: `TIMESINK_PYTHONS` names others.
        println!("no Python here parks threads that wait for locks");
    }
}

#[test]
fn the_probe_shows_the_names_of_threads() {
    let Some(python) = PYTHON.as_deref() else {
        crate::program::skip("python3 is not installed");
        return;
    };
    let file = directory().join("thread_pool.py").display().to_string();
    let command = [python, &file, "--workers", "2", "--jobs", "6", "--job-ms", "40"];
    for tier in Tier::here().filter(|tier| !tier.as_nobody()) {
        let run = Timesink::on(tier).option("--python-probe").record(&command);
        assert_eq!(run.code(), 0, "{tier:?}: {}", run.stderr);
        let names: Vec<&str> =
            rows(&run.report, "/threads").iter().map(|thread| text(thread, "/name")).collect();
        assert!(names.contains(&"pool_0") && names.contains(&"pool_1"), "{tier:?}: {names:?}");
        let compiled = run.out().join("__pycache__");
        assert!(!compiled.exists(), "what Python compiled is taken away");
    }
}
