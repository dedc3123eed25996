//! Tasks of asyncio in stacks: each function that holds up the loop stands under the task that called
//! it, on every interpreter here.

use crate::interpreters::interpreters;
use crate::program::Recorded;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::skip;
use crate::program::timesink;
use crate::report::number;
use crate::report::rows;
use crate::report::text;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const ROUNDS: u64 = 6;
const MS: u64 = 30;

/// Each function and the tasks that its stacks must have, innermost first; whether those that await
/// are told by versions before 3.14.
const STALLS: [(&str, &[&str]); 6] = [
    ("stall_named", &["task \"fetch-7\"", "task \"awaits fetch-7\" awaits", "task of main awaits"]),
    ("stall_computing", &["task \"größe\""]),
    ("stall_numbered", &["task of work"]),
    ("stall_gathered", &["task \"gathered\""]),
    ("stall_main", &["task of main"]),
    ("stall_callback", &[]),
];

/// What runs everything in a loop: asyncio's (below 3.11 without its class), or uvloop's.
const RUN: [&str; 3] = ["Handle._run", "_run", "uv_run"];

/// A stack with its time, ns: the functions, innermost first.
type Line = (Vec<String>, u64);

fn folded(run: &Recorded) -> Vec<Line> {
    let out = run.out().display().to_string();
    let (code, lines, complaint) = timesink(&["export", &out, "--to", "folded", "--of", "wall"]);
    assert_eq!(code, 0, "{complaint}");
    let lines = String::from_utf8(lines).expect("UTF-8");
    let line = |line: &str| {
        let (stack, ns) = line.rsplit_once(' ').expect("a number");
        let frames = stack.rsplit(';').map(str::to_owned).collect();
        (frames, ns.parse().expect("ns"))
    };
    lines.lines().map(line).collect()
}

fn is_task(frame: &str) -> bool {
    frame.starts_with("task \"") || frame.starts_with("task of ") || frame == "task"
}

/// How a program ran, and what it said of itself: how often each function was called.
fn record(tier: Tier, command: &[String], kind: &str) -> (Vec<Line>, Value, Recorded) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/stalls.py");
    let mut command = command.to_vec();
    command.extend([program.display().to_string(), ROUNDS.to_string(), MS.to_string()]);
    command.extend(Some(kind.to_owned()).filter(|kind| !kind.is_empty()));
    let run = Timesink::on(tier).env("PYTHONIOENCODING", "utf-8").record(&command);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    let said = serde_json::from_slice(&run.stdout).expect("what it counted");
    (folded(&run), said, run)
}

/// The time in a function with its tasks right, and with none; panics at a wrong one.
fn judge(lines: &[Line], function: &str, tasks: &[&str]) -> (u64, u64) {
    let (mut right, mut none) = (0, 0);
    // Code of modules that is gone after they were imported has left its place to that of functions,
    // whose names its frames may have then.
    let of_loop = |stack: &[String]| stack.iter().any(|frame| RUN.contains(&frame.as_str()));
    let has = |stack: &[String]| stack.iter().any(|frame| frame == function);
    for (stack, ns) in lines.iter().filter(|(stack, _)| has(stack) && of_loop(stack)) {
        let told: Vec<&str> =
            stack.iter().map(String::as_str).filter(|frame| is_task(frame)).collect();
        // Who awaits is told as far as is known; what is told must be so.
        let so = told.iter().zip(tasks).all(|(told, task)| told == task);
        let gathered = function == "stall_gathered"
            || function == "stall_computing"
            || function == "stall_numbered";
        let by_main = told.get(1).is_none_or(|by| *by == "task of main awaits");
        assert!(so && (told.len() <= tasks.len() || gathered && by_main), "{function}: {stack:?}");
        if told.is_empty() { none += ns } else { right += ns }
    }
    (right, none)
}

/// At the kernel tier each of them is named: none wrongly, none not at all.
#[test]
#[allow(clippy::print_stdout, reason = "the figures are for docs/ACCURACY.md")]
fn what_holds_up_a_loop_stands_under_its_task() {
    if !Tier::Kernel.available() {
        return skip("the kernel tier needs root");
    }
    for command in interpreters() {
        let (lines, said, run) = record(Tier::Kernel, &command, "");
        let mut shown = Vec::new();
        for (function, tasks) in STALLS {
            let (right, none) = judge(&lines, function, tasks);
            // Of the CPU that it used or the time that it slept, without the way back to a CPU.
            let measured = number(&said, &format!("/{function}")) * MS * 1_000_000;
            let named = if tasks.is_empty() { none } else { right };
            assert_eq!(right + none, named, "{command:?}: {function} without its task");
            assert!(named * 10 >= measured * 8, "{command:?}: {function}: {named} of {measured}");
            shown.push(format!("{function} {:.1} %", named as f64 / measured as f64 * 100.0));
        }
        println!("{}: {}", command.join(" "), shown.join(", "));
        let awaited = |(stack, _): &Line| {
            let all = STALLS[0].1;
            all.iter().all(|task| stack.iter().any(|frame| frame == task))
        };
        assert!(lines.iter().any(awaited), "{command:?}: who awaits is not told");
        finding(&run.report);
    }
}

/// A loop that has no functions of Python, and tasks that are written in it: no task is wrong there either.
#[test]
fn tasks_of_uvloop_and_of_python_are_named() {
    if !Tier::Kernel.available() {
        return skip("the kernel tier needs root");
    }
    let has = |command: &[String], what: &str| {
        let run = Command::new(&command[0]).args(&command[1..]).args(["-c", what]).output();
        run.is_ok_and(|run| run.status.success())
    };
    for (kind, needs, percent) in [
        ("uvloop", "import uvloop", 80),
        // Their names are read a little later, when a task may be gone.
        ("python", "import sys; sys.exit(sys.version_info >= (3, 14))", 50),
    ] {
        let mut commands = interpreters();
        commands.retain(|command| has(command, needs));
        if commands.is_empty() {
            skip(&format!("no Python for which `{needs}` holds"));
        }
        for command in commands {
            let (lines, said, _) = record(Tier::Kernel, &command, kind);
            for (function, tasks) in STALLS {
                let (right, none) = judge(&lines, function, tasks);
                let measured = number(&said, &format!("/{function}")) * MS * 1_000_000;
                let told = if tasks.is_empty() { none } else { right };
                let enough = told * 100 >= measured * percent;
                assert!(enough, "{kind}, {command:?}: {function}: {told} of {measured}");
                assert!(!tasks.is_empty() || right == 0, "{kind}, {command:?}: {function}");
            }
        }
    }
}

/// Frozen programs keep no directories of their library's files: joins and names of threads are known all the same.
#[test]
fn a_frozen_library_is_known_by_its_files() {
    let Some(command) = interpreters().pop() else { return skip("no python3 is installed") };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/frozen.py");
    for tier in Tier::here().filter(|tier| !tier.as_nobody()) {
        let mut command = command.clone();
        command.push(program.display().to_string());
        let run = Timesink::on(tier).record(&command);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        let threads = rows(&run.report, "/threads");
        let first = threads.iter().find(|thread| thread["tid"] == thread["pid"]).expect("one");
        let of = |state: &str| number(first, &format!("/states/{state}"));
        assert!(of("join") > of("lock") + of("condvar"), "{tier:?}: {}", first["states"]);
        let named = threads.iter().any(|thread| text(thread, "/name") == "the worker");
        assert!(named || tier != Tier::Kernel, "{tier:?}: {threads:?}");
    }
}

fn finding(report: &Value) {
    let found = rows(report, "/findings");
    let found = found.iter().find(|finding| text(finding, "/rule") == "blocked-event-loop");
    let text = text(found.expect("the loop was blocked"), "/text");
    let tasks = ["fetch-7", "größe", "gathered"];
    let told =
        tasks.iter().filter(|task| text.contains(&format!("Task `{task}` (coroutine `work`")));
    assert!(told.count() >= 2 || text.contains("A task of `work`"), "{text}");
    assert!(text.contains("held it up") && text.contains("at the longest"), "{text}");
    let row = |name: &str| {
        let row = rows(report, "/tasks").iter().find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("{name}: {}", report["tasks"]));
        (number(row, "/running_ns"), number(row, "/waiting_ns"))
    };
    let least = ROUNDS * MS * 800_000;
    assert!(row("größe").0 >= least && row("fetch-7").1 >= least, "{}", report["tasks"]);
}

/// At the other tiers only sleeping threads are looked at, now and then: what is told is right.
#[test]
fn without_the_kernel_tier_no_task_is_named_wrongly() {
    for tier in [Tier::Perf, Tier::Proc] {
        if !tier.available() {
            continue;
        }
        let Some(command) = interpreters().pop() else { return skip("no python3 is installed") };
        let (lines, _, _) = record(tier, &command, "");
        let named = STALLS.map(|(function, tasks)| judge(&lines, function, tasks).0);
        assert!(named[0] > 0 && named[3] > 0, "{tier:?}: {named:?}");
    }
}

/// A loop that waits for an executor whose workers are all busy is not blocked: it waits for them, and the
/// run takes as long as their jobs do one after the other.
#[test]
fn a_loop_waits_for_the_jobs_that_queue_for_its_executor() {
    const ROUNDS: u64 = 3;
    const JOB_NS: u64 = 50_000_000;
    let found = interpreters();
    let Some(python) = found.first().filter(|_| Tier::Kernel.available()) else {
        return skip("no Python, or no kernel tier");
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/busy_executor.py");
    // Whose workers, and the jobs that each of them has behind each other in a round.
    for (which, worker, jobs) in [("one", "jobs_0", 8), ("default", "asyncio_", 5)] {
        let mut command = python.clone();
        command.extend([program.display().to_string(), which.to_owned(), ROUNDS.to_string()]);
        let run = Timesink::on(Tier::Kernel).record(&command);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        let has_job = |row: &Value| row["stack"].to_string().contains("\"job\"");
        let path = rows(&run.report, "/critical_path").iter();
        let asleep = path.filter(|step| text(step, "/state") == "sleep" && has_job(step));
        let asleep: u64 = asleep.map(|step| number(step, "/ns")).sum();
        let least = ROUNDS * jobs * JOB_NS;
        assert!(asleep * 10 >= least * 9, "{which}: {asleep} of {least} on the path");
        let object = |row: &&Value| text(row, "/kind") == "epoll";
        let epoll = rows(&run.report, "/objects").iter().find(object).expect("a loop");
        let workers = rows(epoll, "/holders").iter();
        let workers = workers.filter(|row| text(row, "/name").starts_with(worker) && has_job(row));
        let blamed: u64 = workers.map(|row| number(row, "/blamed_ns")).sum();
        assert!(blamed * 10 >= number(epoll, "/wait_ns") * 8, "{which}: {epoll}");
        // Workers without a job: what they wait for has no better name than where.
        let twice = |row: &&Value| text(row, "/label").contains("_worker in `_worker`");
        assert_eq!(rows(&run.report, "/objects").iter().find(twice), None, "{which}");
        let rules = rows(&run.report, "/findings").iter().map(|row| text(row, "/rule"));
        let rules: Vec<&str> = rules.collect();
        assert!(rules.contains(&"sleep-in-path"), "{which}: {rules:?}");
        assert!(!rules.contains(&"blocked-event-loop"), "{which}: {rules:?}");
    }
}
