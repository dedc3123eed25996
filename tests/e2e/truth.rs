//! Programs that measure what they wait for, against what the report says about them.

use crate::program::Recorded;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::is_root;
use crate::program::skip;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::assert_no_run_missed;
use crate::report::number;
use crate::report::rows;
use crate::report::states;
use crate::report::text;
use std::cell::Cell;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// A program was recorded on a tier, and adds up.
struct Case {
    tier: Tier,
    run: Recorded,
}

/// Records a truth program on every tier there is here.
fn on_each_tier(source: &str, arguments: &[&str], examine: impl Fn(&Case)) {
    for tier in Tier::here() {
        let mut command = vec![truth_program(source).into_os_string()];
        command.extend(arguments.iter().map(Into::into));
        let run = Timesink::on(tier).record(&command);
        assert_eq!(run.code(), 0, "{source} on {tier:?}:\n{}", run.stderr);
        assert_adds_up(&run.report);
        assert_eq!(text(&run.report, "/tier"), tier.name());
        let case = Case { tier, run };
        case.assert_books();
        examine(&case);
    }
}

impl Case {
    fn state(&self, name: &str) -> u64 {
        states(&self.run.report["budget"])[name]
    }

    /// Three points of all thread time, as explain.md has it; more where states are polled.
    /// Where states are polled a run begins and ends at a poll, some 4 ms apart.
    fn tolerance(&self) -> u64 {
        let (percent, polls) = if self.tier.name() == "proc" { (8, 8_000_000) } else { (3, 0) };
        number(&self.run.report, "/budget/thread_ns") * percent / 100 + polls
    }

    /// The time in `state` is what the program measured. Its own measurement also holds the
    /// way back to a CPU and the call's own work. Where a reason can be missed it may be
    /// `unknown`, but never another one.
    fn assert_state(&self, state: &str, measured: u64) {
        let found = self.state(state);
        let beside = self.state("runnable") + self.state("running");
        let missed = if self.tier == Tier::Kernel { 0 } else { self.state("unknown") };
        let context = format!(
            "{:?}: {state} {found} ns, measured {measured} ns, of {}\n{}",
            self.tier, self.run.report["budget"], self.run.stderr
        );
        assert!(found <= measured + self.tolerance(), "too much: {context}");
        assert!(found + beside + missed + self.tolerance() >= measured, "too little: {context}");
    }

    fn assert_measured(&self, states: &[&str]) {
        for state in states {
            self.assert_state(state, self.run.measured(state));
        }
        if self.tier == Tier::Kernel {
            let unknown = self.state("unknown");
            assert!(unknown * 100 <= number(&self.run.report, "/budget/thread_ns"), "{unknown}");
        }
    }

    /// The kernel's own counts of runs and switches.
    fn assert_books(&self) {
        if self.tier != Tier::Kernel {
            return;
        }
        let report = &self.run.report;
        assert_eq!(number(report, "/health/lost_records"), 0, "{}", self.run.stderr);
        assert_no_run_missed(report);
    }

    /// Switches of all threads, against rusage as the program read it last thing.
    fn assert_switches(&self) {
        if self.tier.name() == "proc" {
            return;
        }
        for kind in ["voluntary", "involuntary"] {
            let sum = |thread| number(thread, &format!("/switches/{kind}"));
            let seen: u64 = rows(&self.run.report, "/threads").iter().map(sum).sum();
            let kernel = self.run.measured(kind);
            let before = self.run.measured(&format!("{kind}_before_main"));
            // Ours count from the exec, the kernel's from the fork: on a busy machine there are some between.
            let least = kernel.saturating_sub(before);
            assert!(
                (least.saturating_sub(2)..=kernel + 2).contains(&seen),
                "{:?}: {kind} switches: seen {seen}, by rusage {kernel}, {before} before main",
                self.tier
            );
        }
    }

    /// The object of this kind that was waited for longest.
    fn top_object(&self, kind: &str) -> &serde_json::Value {
        let objects = rows(&self.run.report, "/objects");
        let found = objects.iter().find(|object| text(object, "/kind") == kind);
        found.unwrap_or_else(|| panic!("no object `{kind}`: {}", self.run.report["objects"]))
    }
}

/// A file that the disk tests may write: below the build directory, which is on a disk.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Whether files in this directory are on a disk, so that a flush takes time.
fn on_disk(directory: &Path) -> bool {
    let asked = Command::new("stat").args(["-f", "-c", "%T"]).arg(directory).output();
    let kind = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let disk = kind.as_ref().is_ok_and(|kind| kind != "tmpfs" && kind != "ramfs");
    if !disk {
        skip(&format!("{} is not on a disk: {kind:?}", directory.display()));
    }
    disk
}

#[test]
fn sleeps_in_every_dress_are_sleep() {
    on_each_tier("sleeps.c", &[], |case| {
        case.assert_measured(&["sleep"]);
        case.assert_switches();
    });
}

#[test]
fn a_pthread_mutex_is_one_lock_with_its_waits() {
    on_each_tier("mutex.c", &[], |case| {
        case.assert_measured(&["lock", "sleep", "join"]);
        case.assert_switches();
        if case.tier == Tier::Kernel {
            let lock = case.top_object("lock");
            let share = number(lock, "/wait_ns") as f64 / case.state("lock") as f64;
            assert!(share > 0.98, "one lock, not several: {lock}");
            assert_eq!(number(lock, "/waiters"), 4, "{lock}");
            let site = lock["sites"][0]["stack"].to_string();
            assert!(site.contains("take_the_lock"), "its call site: {lock}");
        }
    });
}

#[test]
fn a_mutex_that_nobody_waits_for_is_not_blamed() {
    // Two threads with 3 ms inside and 7 ms outside can avoid each other: what little they
    // wait they measure themselves.
    on_each_tier("mutex.c", &["2", "60"], |case| case.assert_measured(&["lock", "sleep"]));
}

#[test]
fn a_rust_mutex_is_a_lock_with_its_call_site() {
    on_each_tier("mutex.rs", &[], |case| {
        case.assert_measured(&["lock", "sleep", "join"]);
        if case.tier == Tier::Kernel {
            let lock = case.top_object("lock");
            assert!(lock["sites"][0]["stack"].to_string().contains("settle"), "{lock}");
        }
    });
}

#[test]
fn conditions_and_barriers_are_told_apart() {
    on_each_tier("condvar.c", &[], |case| {
        case.assert_measured(&["condvar", "join", "sleep"]);
        case.assert_switches();
    });
}

#[test]
fn pipes_are_pipe_on_both_sides() {
    on_each_tier("pipes.c", &[], |case| {
        let (parent, child) = (case.run.measured("parent_pipe"), case.run.measured("child_pipe"));
        case.assert_state("pipe", parent + child);
        case.assert_measured(&["sleep", "child"]);
        assert_eq!(rows(&case.run.report, "/processes").len(), 2);
    });
}

#[test]
fn flushes_are_disk() {
    for tier in Tier::here() {
        let command = Timesink::on(tier);
        if !on_disk(command.place()) {
            return;
        }
        let file = command.place().join("data");
        let run = command.record(&[truth_program("fsync.c"), file]);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        assert_adds_up(&run.report);
        let case = Case { tier, run };
        case.assert_books();
        case.assert_measured(&["disk"]);
        case.assert_switches();
    }
}

#[test]
fn cold_pages_are_page_faults() {
    let file = scratch("faults.data");
    if !on_disk(file.parent().expect("a directory")) {
        return;
    }
    for tier in Tier::here().filter(|tier| !tier.as_nobody()) {
        let run = Timesink::on(tier).record(&[truth_program("faults.c"), file.clone()]);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        assert_adds_up(&run.report);
        let case = Case { tier, run };
        case.assert_books();
        case.assert_measured(&["page_fault"]);
        case.assert_switches();
        let faults = case.run.measured("faults");
        if tier == Tier::Kernel && faults > 0 {
            let waits = number(case.top_object("memory"), "/waits");
            assert!(waits.abs_diff(faults) * 20 <= faults, "{waits} waits, {faults} faults");
            // Its sites share all of its time; each share is rounded down.
            let object = case.top_object("memory");
            let sites = rows(object, "/sites");
            let time: u64 = sites.iter().map(|site| number(site, "/wait_ns")).sum();
            let missing = number(object, "/wait_ns").checked_sub(time);
            assert!(missing.is_some_and(|ns| ns <= sites.len() as u64), "{time} of {object}");
            assert!(sites[0]["stack"].to_string().contains("\"main\""), "{object}");
        }
    }
    let _ = std::fs::remove_file(file);
}

#[test]
fn stacks_with_large_frames_are_whole() {
    on_each_tier("frames.c", &[], |case| {
        if case.tier.name() == "proc" {
            return; // takes no samples
        }
        let stacks = &case.run.report["health"]["stacks"];
        let (taken, cut) = (number(stacks, "/taken"), number(stacks, "/truncated"));
        assert!(taken > 100 && cut * 50 <= taken, "{:?}: {stacks}", case.tier);
    });
}

#[test]
fn waiting_for_children_is_child_by_wait_vfork_and_spawn() {
    on_each_tier("children.c", &[], |case| {
        case.assert_measured(&["child"]);
        let processes = rows(&case.run.report, "/processes");
        assert!(processes.len() == 31 || case.tier.name() == "proc", "{}", processes.len());
        if case.tier == Tier::Kernel {
            let spawned = processes.iter().filter(|row| text(row, "/name") == "sleep").count();
            assert_eq!(spawned, 10, "posix_spawned children are named by their program");
        }
    });
}

#[test]
fn loopback_is_network() {
    on_each_tier("tcp.c", &[], |case| {
        case.assert_measured(&["network", "sleep"]);
        case.assert_switches();
    });
}

#[test]
fn poll_select_and_epoll_are_poll() {
    on_each_tier("polls.c", &[], |case| {
        case.assert_measured(&["poll"]);
        case.assert_switches();
    });
}

#[test]
fn a_stopped_process_is_stopped() {
    on_each_tier("stops.c", &[], |case| case.assert_measured(&["stopped", "sleep"]));
}

/// Time that the host of a virtual machine kept its CPUs, ns. A thread's own clock stands still
/// meanwhile (`CONFIG_PARAVIRT_TIME_ACCOUNTING`), while to the scheduler it runs.
fn stolen() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc is mounted");
    let ticks = stat.split_whitespace().nth(8).and_then(|word| word.parse::<u64>().ok());
    ticks.unwrap_or(0) * 10_000_000
}

#[test]
fn burning_threads_run_or_wait_for_a_cpu_and_nothing_else() {
    let before = Cell::new(stolen());
    on_each_tier("burn.c", &["6", "250"], |case| {
        let report = &case.run.report;
        let now = stolen();
        let stolen = now - before.replace(now);
        let measured = case.run.measured("running");
        let burners = rows(report, "/threads").iter().skip(1);
        let (mut running, mut either, mut life) = (0, 0, 0);
        for thread in burners {
            let states = states(thread);
            running += states["running"];
            either += states["running"] + states["runnable"];
            life += number(thread, "/end_ns") - number(thread, "/start_ns");
        }
        let percent = if case.tier.name() == "proc" { 12 } else { 1 };
        assert!(
            running.abs_diff(measured) * 100 <= measured * percent + 100 * stolen,
            "{:?}: running {running}, by the thread clock {measured}, stolen {stolen}",
            case.tier
        );
        let slack = if case.tier.name() == "proc" { 8 } else { 1 };
        assert!((life - either) * 100 <= life * slack, "{:?}: {}", case.tier, report["budget"]);
        case.assert_switches();
    });
}

#[test]
fn a_deadlock_at_the_end_is_lock() {
    on_each_tier("deadlock.c", &[], |case| {
        case.assert_measured(&["lock"]);
        if case.tier == Tier::Kernel {
            let blocked = rows(&case.run.report, "/threads").iter().skip(1);
            for thread in blocked {
                let life = number(thread, "/end_ns") - number(thread, "/start_ns");
                assert!(states(thread)["lock"] * 10 >= life * 9, "{thread}");
            }
        }
    });
}

#[test]
fn a_program_that_guards_its_memory_is_recorded_and_one_line_says_what_was_not_seen() {
    on_each_tier("guarded.c", &[], |case| {
        let report = &case.run.report;
        assert_eq!(rows(report, "/threads").len(), 4, "{:?}", case.tier);
        let told = rows(report, "/health/warnings").iter().filter_map(serde_json::Value::as_str);
        let told: Vec<&str> = told.filter(|line| line.contains("guards its memory")).collect();
        let (unknown, all) = (case.state("unknown"), number(report, "/budget/thread_ns"));
        if is_root() && !case.tier.as_nobody() {
            assert!(told.is_empty(), "{:?}: {told:?}", case.tier);
            let lock = case.top_object("lock");
            assert_eq!(text(lock, "/symbol"), "lock", "{:?}", case.tier);
            let stacked = case.tier.name() != "proc";
            assert!(!stacked || text(lock, "/label").contains("in `w`"), "{:?}: {lock}", case.tier);
            assert!(unknown * 4 < all, "{:?}: {unknown} of {all}", case.tier);
        } else {
            let [one] = told.as_slice() else { panic!("{:?}: {told:?}", case.tier) };
            assert!(one.contains("sudo"), "{one}");
            // Never a guess, and nothing is concluded from waits that were not seen.
            assert!(unknown * 10 > all * 9, "{:?}: {unknown} of {all}", case.tier);
            assert!(!report["findings"].to_string().contains("at work"), "{}", report["findings"]);
        }
    });
}
