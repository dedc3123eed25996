//! The CPU quota of a cgroup, and how long it kept us waiting.
//!
//! Version 2: `cpu.max` and `cpu.stat` (`throttled_usec`) in each directory on the way to the root.
//! Version 1: `cpu.cfs_quota_us`, `cpu.cfs_period_us` and `cpu.stat` (`throttled_time`, ns) in the
//! hierarchy of the `cpu` controller. (Kernel documentation: admin-guide/cgroup-v2.rst,
//! scheduler/sched-bwc.rst.)

use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Throttled;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The cgroups that limit a process's CPU time, its own first.
#[derive(Clone, Debug, Default)]
pub struct CpuGroups(Vec<PathBuf>);

/// What each group had counted at one time.
#[derive(Clone, Debug, Default)]
pub struct Counters(Vec<Option<Throttled>>);

impl CpuGroups {
    /// Those of this process, and so of the command that it starts.
    pub fn own() -> Self {
        Self::named("self")
    }

    /// Those that limit all of these processes: of one its own, of several those they share.
    pub fn of(pids: &[Pid]) -> Self {
        let mut all = pids.iter().map(|pid| Self::named(&pid.0.to_string()));
        let mut shared = all.next().unwrap_or_default();
        for other in all {
            shared.0.retain(|group| other.0.contains(group));
        }
        shared
    }

    fn named(process: &str) -> Self {
        let own = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self(groups(&own, &mounts))
    }

    /// The tightest quota, in thousandths of a CPU.
    pub fn quota_millis(&self) -> Option<u64> {
        self.0.iter().filter_map(|group| quota(group)).min()
    }

    /// What they have counted since they exist.
    pub fn counters(&self) -> Counters {
        Counters(self.0.iter().map(|group| stat(group)).collect())
    }

    /// How often and how long they were throttled since then: of the one that was longest, as a
    /// group that stands still because of its parent counts nothing itself. `None` if none is
    /// limited.
    pub fn throttled_since(&self, before: &Counters) -> Option<Throttled> {
        let counted = self.0.iter().zip(&before.0).filter_map(|(group, before)| {
            let (before, now) = ((*before)?, stat(group)?);
            let since = Throttled {
                periods: now.periods.saturating_sub(before.periods),
                time: now.time - before.time,
            };
            // A quota may have been taken away meanwhile: what it did remains.
            (since.periods > 0 || quota(group).is_some()).then_some(since)
        });
        counted.max_by_key(|since| since.time)
    }
}

/// Directories of the cgroups on the way to the root.
fn groups(own: &str, mounts: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let kind = match controllers {
            "" => "cgroup2",
            _ if controllers.split(',').any(|one| one == "cpu") => "cgroup",
            _ => continue,
        };
        let Some(root) = mount_point(mounts, kind) else { continue };
        let mut at = root.join(path.trim_start_matches('/'));
        while at.starts_with(&root) {
            found.push(at.clone());
            if !at.pop() {
                break;
            }
        }
    }
    found
}

/// Where a hierarchy is mounted: version 2, or version 1 with the `cpu` controller.
fn mount_point(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let same = after.next()? == kind;
        let options = after.nth(1)?;
        let has_cpu = kind == "cgroup2" || options.split(',').any(|option| option == "cpu");
        (same && has_cpu).then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

fn quota(group: &Path) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(group.join("cpu.max")) {
        return share(&text);
    }
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    share(&format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?))
}

/// `50000 100000` is 500 thousandths; `max 100000` and `-1 100000` are none.
fn share(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    quota.saturating_mul(1000).checked_div(period)
}

fn stat(group: &Path) -> Option<Throttled> {
    parse_stat(&fs::read_to_string(group.join("cpu.stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Throttled> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse::<u64>().ok()
    };
    let micros = field("throttled_usec").map(Nanos::from_micros);
    Some(Throttled {
        periods: field("nr_throttled")?,
        time: micros.or(field("throttled_time").map(Nanos))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_either_version() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/m\n1:cpu,cpuacct:/a/b\n0::/c\n";
        let found: Vec<String> =
            groups(own, mounts).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            found,
            [
                "/sys/fs/cgroup/cpu/a/b",
                "/sys/fs/cgroup/cpu/a",
                "/sys/fs/cgroup/cpu/",
                "/sys/fs/cgroup/unified/c",
                "/sys/fs/cgroup/unified/"
            ]
            .map(|path| path.trim_end_matches('/'))
        );
        assert!(groups("nonsense\n", mounts).is_empty());
    }

    #[test]
    fn quotas_and_counters_are_read_in_either_version() {
        for (text, expected) in
            [("50000 100000\n", Some(500)), ("max 100000\n", None), ("-1 100000", None), ("", None)]
        {
            assert_eq!(share(text), expected, "{text}");
        }
        let second = "usage_usec 5\nnr_periods 9\nnr_throttled 7\nthrottled_usec 120\n";
        let first = "nr_periods 9\nnr_throttled 7\nthrottled_time 120000\n";
        let expected = Some(Throttled { periods: 7, time: Nanos(120_000) });
        assert_eq!((parse_stat(first), parse_stat(second)), (expected, expected));
        assert_eq!(parse_stat("nr_periods 1\n"), None);
    }

    #[test]
    fn what_a_group_counted_before_is_not_taken_off_another_one() {
        let root = tempfile::tempdir().expect("a directory");
        let (parent, child) = (root.path().join("a"), root.path().join("a/b"));
        fs::create_dir_all(&child).expect("writable");
        let set = |group: &Path, quota: &str, periods: u64, micros: u64| {
            fs::write(group.join("cpu.max"), quota).expect("writable");
            let stat = format!("nr_throttled {periods}\nthrottled_usec {micros}\n");
            fs::write(group.join("cpu.stat"), stat).expect("writable");
        };
        let groups = CpuGroups(vec![child.clone(), parent.clone(), root.path().to_owned()]);
        set(&parent, "50000 100000", 90, 9_000);
        set(&child, "20000 100000", 3, 100);
        let before = groups.counters();
        set(&parent, "50000 100000", 91, 9_010);
        set(&child, "20000 100000", 10, 800);
        let expected = Throttled { periods: 7, time: Nanos::from_micros(700) };
        assert_eq!(groups.throttled_since(&before), Some(expected));
        set(&child, "max 100000", 10, 800);
        assert_eq!(groups.throttled_since(&before), Some(expected), "a quota that was taken away");
        let after = groups.counters();
        set(&parent, "max 100000", 91, 9_010);
        assert_eq!(groups.throttled_since(&after), None, "nothing is limited");
    }

    #[test]
    fn another_process_is_asked_for_its_own_groups() {
        let own = Pid(std::process::id());
        assert_eq!(CpuGroups::of(&[own]).0, CpuGroups::own().0);
        assert_eq!(CpuGroups::of(&[own, own]).0, CpuGroups::own().0);
        assert!(CpuGroups::of(&[own, Pid(u32::MAX)]).0.is_empty());
    }
}
