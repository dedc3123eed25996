//! Processes and threads that come, go and change: none is lost, none is counted twice.

use crate::program::Recorded;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::assert_no_run_missed;
use crate::report::number;
use crate::report::rows;
use crate::report::text;

fn record(tier: Tier, command: &[&str]) -> Recorded {
    let run = Timesink::on(tier).record(command);
    assert_eq!(run.code(), 0, "{command:?} on {tier:?}:\n{}", run.stderr);
    assert_adds_up(&run.report);
    run
}

/// Tiers that hear of every process; `proc` only sees those that live long enough.
fn exact_tiers() -> impl Iterator<Item = Tier> {
    Tier::here().filter(|tier| tier.name() != "proc")
}

fn built(source: &str) -> String {
    truth_program(source).into_os_string().into_string().expect("UTF-8")
}

#[test]
fn a_chain_of_execs_is_one_process_with_all_its_programs() {
    let program = built("execs.c");
    for tier in Tier::here() {
        let run = record(tier, &[&program, "4"]);
        assert_eq!(rows(&run.report, "/processes").len(), 1, "{tier:?}");
        assert_eq!(rows(&run.report, "/threads").len(), 1, "{tier:?}");
        let process = &rows(&run.report, "/processes")[0];
        assert_eq!(number(process, "/pid"), run.measured("pid"));
        if tier.name() != "proc" {
            assert_eq!(rows(process, "/execs").len(), 5, "{tier:?}: {process}");
        }
    }
}

#[test]
fn exec_from_another_thread_continues_the_leader() {
    let program = built("execs.c");
    for tier in Tier::here() {
        let run = record(tier, &[&program, "3", "thread"]);
        assert_eq!(rows(&run.report, "/processes").len(), 1, "{tier:?}");
        let threads = rows(&run.report, "/threads");
        let leaders: Vec<_> =
            threads.iter().filter(|row| number(row, "/tid") == number(row, "/pid")).collect();
        assert_eq!(leaders.len(), 1, "{tier:?}: one row for the leader: {threads:?}");
        if tier.name() != "proc" {
            assert_eq!(number(leaders[0], "/end_ns"), number(&run.report, "/wall_ns"), "{tier:?}");
            assert_eq!(threads.len(), 4, "{tier:?}: {threads:?}");
            let execs = &rows(&run.report, "/processes")[0]["execs"];
            assert_eq!(execs.as_array().map(Vec::len), Some(4), "{tier:?}: {execs}");
        }
    }
}

#[test]
fn a_storm_of_short_processes_is_seen_whole() {
    let script = "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done";
    for tier in Tier::here() {
        let run = record(tier, &["sh", "-c", script]);
        if tier.name() == "proc" {
            continue;
        }
        let processes = rows(&run.report, "/processes");
        assert_eq!(processes.len(), 501, "{tier:?}");
        let named = processes.iter().filter(|row| text(row, "/name") == "true").count();
        assert_eq!(named, 500, "{tier:?}");
        if tier == Tier::Kernel {
            for process in processes {
                assert_eq!(process["exit"]["code"], 0, "{process}");
                assert_eq!(process["alive"], false, "{process}");
            }
        }
    }
}

#[test]
fn threads_that_end_at_once_are_all_there() {
    let program = built("quick.c");
    for tier in exact_tiers() {
        let run = record(tier, &[&program, "2000"]);
        let threads = rows(&run.report, "/threads").len() as u64;
        assert_eq!(threads, run.measured("threads"), "{tier:?}");
    }
}

#[test]
fn thread_ids_that_are_used_again_are_other_threads() {
    // More threads than there are ids: every id comes twice.
    let most: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u64::MAX);
    if most > 40_000 {
        crate::program::skip("pid_max is too large to use thread ids up");
        return;
    }
    if !Tier::Kernel.available() {
        return;
    }
    let run = record(Tier::Kernel, &[&built("quick.c"), &(most + 500).to_string()]);
    let threads = rows(&run.report, "/threads");
    assert_eq!(threads.len() as u64, run.measured("threads"));
    let mut tids: Vec<u64> = threads.iter().map(|row| number(row, "/tid")).collect();
    tids.sort_unstable();
    tids.dedup();
    assert!(tids.len() < threads.len(), "ids were used again");
    assert_no_run_missed(&run.report);
}

#[test]
fn a_process_that_outlives_the_command_is_cut_at_its_end() {
    for tier in exact_tiers() {
        let run = record(tier, &["sh", "-c", "sleep 1.5 >/dev/null 2>&1 & sleep 0.2"]);
        let wall = number(&run.report, "/wall_ns");
        assert!(wall < 1_400_000_000, "{tier:?}: the run ends with the command: {wall}");
        let left: Vec<_> =
            rows(&run.report, "/processes").iter().filter(|row| row["alive"] == true).collect();
        assert_eq!(left.len(), 1, "{tier:?}: {}", run.report["processes"]);
        assert_eq!(number(left[0], "/end_ns"), wall, "{tier:?}");
        assert!(left[0]["exit"].is_null(), "{tier:?}");
    }
}

#[test]
fn parents_of_processes_are_known() {
    for tier in exact_tiers() {
        let run = record(tier, &["sh", "-c", "sh -c 'sleep 0.05; true'; true"]);
        let processes = rows(&run.report, "/processes");
        assert_eq!(processes.len(), 3, "{tier:?}: {}", run.report["processes"]);
        assert!(processes[0]["parent"].is_null());
        assert_eq!(number(&processes[1], "/parent"), 0, "{tier:?}");
        assert_eq!(number(&processes[2], "/parent"), 1, "{tier:?}");
    }
}
