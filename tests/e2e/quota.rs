//! A CPU quota of the cgroup, and how long it held the program up.

use crate::program::Tier;
use crate::program::Timesink;
use crate::program::alone;
use crate::program::is_root;
use crate::program::skip;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::number;
use crate::report::rows;
use crate::report::text;
use std::fs;
use std::path::PathBuf;

/// A cgroup of our own (version 1 or 2) with a third of a CPU, gone at the end of the test.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let name = format!("timesink-test-{}", std::process::id());
        let first = PathBuf::from("/sys/fs/cgroup/cpu").join(&name);
        let second = PathBuf::from("/sys/fs/cgroup").join(&name);
        for (path, file, quota) in
            [(first, "cpu.cfs_quota_us", "30000"), (second, "cpu.max", "30000 100000")]
        {
            if fs::create_dir(&path).is_ok() {
                let group = Self(path);
                if fs::write(group.0.join(file), quota).is_ok() {
                    return Some(group);
                }
            }
        }
        None
    }

    fn tasks(&self) -> PathBuf {
        let first = self.0.join("tasks");
        if first.exists() { first } else { self.0.join("cgroup.procs") }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_used_up_cpu_quota_is_told_with_what_the_kernel_counted() {
    if !is_root() {
        return skip("a cgroup of our own needs root");
    }
    let Some(group) = Group::new() else {
        return skip("no cgroup with a CPU controller can be made here");
    };
    // The count is the same on every tier; one of them is slow enough with a third of a CPU.
    for tier in Tier::here().take(1) {
        let _alone = alone();
        let recording = Timesink::on(tier);
        let burn = truth_program("burn.c");
        // The shell is in the group before timesink starts, so all of it is.
        let script = format!("echo $$ > {} && exec \"$0\" \"$@\"", group.tasks().display());
        let mut inner = recording.prepare(&[burn.to_str().expect("UTF-8"), "2", "150"]);
        inner.stdin(std::process::Stdio::null());
        let mut outer = std::process::Command::new("sh");
        outer.arg("-c").arg(script).arg(inner.get_program()).args(inner.get_args());
        let output = outer.env_remove("SUDO_UID").output().expect("sh starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{tier:?}: {err}");
        let report = fs::read(recording.place().join("out/report.json")).expect("written");
        let report = serde_json::from_slice(&report).expect("JSON");
        assert_adds_up(&report);
        assert_eq!(report["host"]["cpu_quota"], 0.3, "{tier:?}");
        let cut = rows(&report, "/budget/detail")
            .iter()
            .find(|cut| text(cut, "/name").contains("throttled"))
            .unwrap_or_else(|| panic!("{tier:?}: {}", report["budget"]));
        assert_eq!(cut["quality"], "estimated");
        // 300 ms of work on 0.3 CPUs: it stood still for most of a second.
        let wall = number(&report, "/wall_ns");
        assert!(number(cut, "/ns") * 10 > wall, "{tier:?}: {cut} of {wall}");
    }
}
