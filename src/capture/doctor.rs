//! Which tiers work here, why the others do not, and what to type.
#![allow(clippy::disallowed_methods)] // the impure edge reads files and clocks

use super::CaptureError;
use super::Options;
use super::cgroup::CpuGroups;
use super::perf::PerfSource;
use super::procfs;
use crate::model::Tier;
use std::fmt;
use std::fs;
use std::path::Path;

/// Bits of the capability sets in `/proc/self/status`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// What the machine and this process are like.
    pub facts: Facts,
    /// Every tier, best first.
    pub tiers: Vec<TierStatus>,
}

/// One tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TierStatus {
    /// Which.
    pub tier: Tier,
    /// Whether it can record here.
    pub state: Availability,
}

/// Whether a tier can record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Availability {
    /// It can.
    Available,
    /// It cannot.
    Refused {
        /// Why, as a clause.
        reason: String,
        /// The one thing to type, or `None` where nothing helps on this kernel.
        remedy: Option<String>,
    },
}

/// What the machine and this process are like. `None`: not readable here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Effective user id.
    pub euid: Option<u32>,
    /// `CAP_BPF` is effective.
    pub cap_bpf: bool,
    /// `CAP_PERFMON` is effective.
    pub cap_perfmon: bool,
    /// `CAP_SYS_ADMIN` is effective.
    pub cap_sys_admin: bool,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.perf_event_mlock_kb`.
    pub perf_event_mlock_kb: Option<i64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i64>,
    /// `kernel.yama.ptrace_scope`; `None` where Yama is not built in.
    pub ptrace_scope: Option<i64>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// The kernel's type information is there.
    pub btf: bool,
    /// The `hidepid` option of `/proc`.
    pub hidepid: Option<String>,
    /// CPUs online.
    pub cpus_online: u32,
    /// CPUs this process may use.
    pub cpus_allowed: u32,
    /// CPU quota of the cgroup, thousandths of a CPU.
    pub cpu_quota_millis: Option<u64>,
    /// What says that this is a container, if anything does.
    pub container: Option<String>,
}

/// A tier for `auto`, and why not a better one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The best tier there is; `None` if not even `/proc` can be read.
    pub tier: Option<Tier>,
    /// One sentence for each better tier that was skipped, with its remedy.
    pub skipped: Vec<String>,
}

/// Looks at this machine. `load` loads the real BPF programs and is only called when the
/// privileges allow it.
pub fn diagnose_with(load: impl FnOnce() -> Result<(), CaptureError>) -> Diagnosis {
    let options = Options { sample_hz: 0, wait_stacks: false };
    judge(facts(), load, || PerfSource::new(options).map(drop))
}

/// What `facts` and two attempts mean.
fn judge(
    facts: Facts,
    load: impl FnOnce() -> Result<(), CaptureError>,
    open: impl FnOnce() -> Result<(), CaptureError>,
) -> Diagnosis {
    let perf = open().map_or_else(|error| refusal(&error), |()| Availability::Available);
    let tiers = vec![
        TierStatus { tier: Tier::Kernel, state: kernel(&facts, load) },
        TierStatus { tier: Tier::Perf, state: perf },
        TierStatus { tier: Tier::Proc, state: proc(&facts) },
    ];
    Diagnosis { facts, tiers }
}

/// What a tier gives, as a clause.
fn gives(tier: Tier) -> &'static str {
    match tier {
        Tier::Kernel => {
            "it sees everything: every wait with its reason, its object, its call site and who ended it"
        }
        Tier::Perf => {
            "times on and off the CPU are exact; what a thread waited for is known for waits longer \
             than about 2 ms"
        }
        Tier::Proc => {
            "it looks at all threads about 100 times a second, so reasons and order of waits are sampled"
        }
        Tier::Synthetic => "made-up data",
    }
}

/// The best tier, in the order kernel, perf, proc.
pub fn choose(diagnosis: &Diagnosis) -> Choice {
    let mut skipped = Vec::new();
    for status in &diagnosis.tiers {
        match &status.state {
            Availability::Available => return Choice { tier: Some(status.tier), skipped },
            Availability::Refused { reason, remedy } => {
                let remedy =
                    remedy.as_ref().map_or_else(String::new, |r| format!(" To lift that: {r}"));
                skipped.push(format!(
                    "The {} tier was not used: {reason}.{remedy}",
                    status.tier.name()
                ));
            }
        }
    }
    Choice { tier: None, skipped }
}

/// Why this user may not look into processes that it did not start, if so.
pub fn cannot_look(facts: &Facts) -> Option<String> {
    let scope = facts.ptrace_scope.filter(|&scope| scope > 0)?;
    if facts.euid == Some(0) || facts.cap_sys_admin {
        return None;
    }
    Some(format!(
        "What running programs wait for cannot be seen by this user (kernel.yama.ptrace_scope is \
         {scope}): times are known, reasons and stacks of waits are not. To lift that: `sudo sysctl \
         kernel.yama.ptrace_scope=0`, or attach with sudo"
    ))
}

fn kernel(facts: &Facts, load: impl FnOnce() -> Result<(), CaptureError>) -> Availability {
    let refused = |reason: &str, remedy: Option<&str>| Availability::Refused {
        reason: reason.to_owned(),
        remedy: remedy.map(str::to_owned),
    };
    if !(facts.cap_sys_admin || facts.cap_bpf && facts.cap_perfmon) {
        let remedy = if facts.euid == Some(0) {
            // Root without capabilities is root of a container.
            "start the container with `--cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE`"
        } else {
            "`sudo timesink run -- ...`"
        };
        return refused("it needs root, or CAP_BPF and CAP_PERFMON", Some(remedy));
    }
    if !facts.btf {
        let reason = "this kernel carries no type information (/sys/kernel/btf/vmlinux is missing)";
        return refused(reason, None);
    }
    load().map_or_else(|error| refusal(&error), |()| Availability::Available)
}

fn proc(facts: &Facts) -> Availability {
    // Our own thread stands for those of a command that runs as the same user.
    let missing = ["stat", "schedstat", "syscall"]
        .into_iter()
        .find(|file| fs::read(format!("/proc/thread-self/{file}")).is_err());
    let Some(missing) = missing else { return Availability::Available };
    let hidden = facts.hidepid.as_ref().map_or_else(String::new, |h| format!(" (hidepid={h})"));
    Availability::Refused {
        reason: format!("/proc/thread-self/{missing} cannot be read{hidden}"),
        remedy: (!Path::new("/proc/self").exists())
            .then(|| "`mount -t proc proc /proc`".to_owned()),
    }
}

/// An error of a source, cut back into its parts.
fn refusal(error: &CaptureError) -> Availability {
    match error {
        CaptureError::NotAllowed { reason, remedy, .. } => {
            Availability::Refused { reason: reason.clone(), remedy: Some(remedy.clone()) }
        }
        CaptureError::NotSupported { reason, .. } => {
            Availability::Refused { reason: reason.clone(), remedy: None }
        }
        CaptureError::Os { .. } => {
            Availability::Refused { reason: error.to_string(), remedy: None }
        }
    }
}

/// Reads what the machine and this process are like.
pub fn facts() -> Facts {
    let status = fs::read("/proc/self/status").unwrap_or_default();
    let field = |name: &str| procfs::status_field(&status, name);
    let euid = field("Uid:").and_then(|uids| uids.split_ascii_whitespace().nth(1)?.parse().ok());
    let capabilities =
        field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    let allowed = field("Cpus_allowed_list:").map_or(0, |list| cpu_list(list).len());
    let online = online_cpus().len() as u32;
    Facts {
        kernel: read_line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        euid,
        cap_bpf: has(CAP_BPF),
        cap_perfmon: has(CAP_PERFMON),
        cap_sys_admin: has(CAP_SYS_ADMIN),
        perf_event_paranoid: sysctl("kernel/perf_event_paranoid"),
        perf_event_mlock_kb: sysctl("kernel/perf_event_mlock_kb"),
        kptr_restrict: sysctl("kernel/kptr_restrict"),
        ptrace_scope: sysctl("kernel/yama/ptrace_scope"),
        unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        hidepid: hidepid(&fs::read_to_string("/proc/self/mounts").unwrap_or_default()),
        cpus_online: online,
        // The list names CPUs that could exist; only those online count.
        cpus_allowed: (allowed as u32).min(online),
        cpu_quota_millis: CpuGroups::own().quota_millis(),
        container: container(),
    }
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A number below `/proc/sys`.
pub(super) fn sysctl(name: &str) -> Option<i64> {
    read_line(&format!("/proc/sys/{name}"))?.parse().ok()
}

/// CPUs that are online.
pub(super) fn online_cpus() -> Vec<u16> {
    let list = read_line("/sys/devices/system/cpu/online").map(|text| cpu_list(&text));
    list.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| vec![0])
}

/// `0-3,8` as numbers; parts that make no sense are left out.
fn cpu_list(text: &str) -> Vec<u16> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    text.split(',').filter_map(part).flatten().collect()
}

fn hidepid(mounts: &str) -> Option<String> {
    let mut options = mounts.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(1) == Some(&"/proc")).then(|| fields.get(3).copied()).flatten()
    });
    options.next_back()?.split(',').find_map(|o| o.strip_prefix("hidepid=")).map(str::to_owned)
}

fn container() -> Option<String> {
    for (file, what) in [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")] {
        if Path::new(file).exists() {
            return Some(format!("{what} ({file} exists)"));
        }
    }
    let kind = read_line("/run/systemd/container")?;
    Some(format!("{kind} (/run/systemd/container)"))
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = choose(self).tier;
        match used {
            Some(tier) => {
                let (name, gives) = (tier.name(), gives(tier));
                writeln!(f, "`timesink run` uses the {name} tier here: {gives}.")?;
                let whose = if self.facts.euid == Some(0) { "any" } else { "your own" };
                write!(f, "`timesink attach` does the same with {whose} processes that run")?;
                match cannot_look(&self.facts) {
                    Some(why) => writeln!(f, ". {why}.")?,
                    None => writeln!(f, ".")?,
                }
            }
            None => writeln!(f, "`timesink run` cannot record here: no tier works.")?,
        }
        writeln!(f, "\nTiers, the one that sees most first")?;
        for TierStatus { tier, state } in &self.tiers {
            let name = tier.name();
            match state {
                Availability::Available if used == Some(*tier) => {
                    writeln!(f, "  {name:<8} available, used")?;
                }
                Availability::Available => {
                    writeln!(f, "  {name:<8} available (--tier {name}): {}", gives(*tier))?;
                }
                Availability::Refused { reason, remedy } => {
                    writeln!(f, "  {name:<8} not here: {reason}")?;
                    let nothing = || "nothing on this kernel".to_owned();
                    let remedy = remedy.clone().unwrap_or_else(nothing);
                    writeln!(f, "  {:<8} to lift that: {remedy}", "")?;
                }
            }
        }
        writeln!(f, "\nWhat this machine and this user are like")?;
        self.facts.fmt(f)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<i64>| n.map_or_else(|| "not here".to_owned(), |n| n.to_string());
        let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
        let euid = self.euid.map(i64::from);
        let quota = self.cpu_quota_millis.map(|m| format!("{}.{:03} CPUs", m / 1000, m % 1000));
        let none = || "none".to_owned();
        for (name, value) in [
            ("kernel", self.kernel.clone()),
            ("effective user", number(euid)),
            ("CAP_BPF", yes(self.cap_bpf)),
            ("CAP_PERFMON", yes(self.cap_perfmon)),
            ("CAP_SYS_ADMIN", yes(self.cap_sys_admin)),
            ("kernel type info", yes(self.btf)),
            ("perf_event_paranoid", number(self.perf_event_paranoid)),
            ("perf_event_mlock_kb", number(self.perf_event_mlock_kb)),
            ("kptr_restrict", number(self.kptr_restrict)),
            ("ptrace_scope", number(self.ptrace_scope)),
            ("bpf without root", number(self.unprivileged_bpf_disabled.map(|n| i64::from(n == 0)))),
            ("hidepid", self.hidepid.clone().unwrap_or_else(none)),
            ("CPUs", format!("{} online, {} allowed", self.cpus_online, self.cpus_allowed)),
            ("CPU quota", quota.unwrap_or_else(none)),
            ("container", self.container.clone().unwrap_or_else(|| "no sign of one".to_owned())),
        ] {
            writeln!(f, "  {name:<20} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Availability {
        Availability::Refused { reason: "why".to_owned(), remedy: Some("`what`".to_owned()) }
    }

    fn diagnosis(states: [Availability; 3]) -> Diagnosis {
        let tiers = [Tier::Kernel, Tier::Perf, Tier::Proc];
        let tiers = tiers.into_iter().zip(states).map(|(tier, state)| TierStatus { tier, state });
        Diagnosis { facts: Facts::default(), tiers: tiers.collect() }
    }

    #[test]
    fn auto_takes_the_best_and_says_why_not_better() {
        use Availability::Available;
        let choice = choose(&diagnosis([refused(), Available, Available]));
        assert_eq!(choice.tier, Some(Tier::Perf));
        assert_eq!(choice.skipped, ["The kernel tier was not used: why. To lift that: `what`"]);
        assert_eq!(choose(&diagnosis([refused(), refused(), Available])).skipped.len(), 2);
        assert_eq!(choose(&diagnosis([refused(), refused(), refused()])).tier, None);
        assert!(choose(&diagnosis([Available, refused(), refused()])).skipped.is_empty());
    }

    #[test]
    fn the_load_is_tried_only_with_privileges_and_its_failure_is_said() {
        let load = || -> Result<(), CaptureError> {
            let (reason, remedy) = ("refused by the verifier".to_owned(), "report it".to_owned());
            Err(CaptureError::NotAllowed { tier: "kernel", reason, remedy })
        };
        let mut facts = Facts { btf: true, ..Facts::default() };
        let Availability::Refused { reason, .. } = kernel(&facts, load) else { panic!("refused") };
        assert!(reason.contains("CAP_BPF"), "{reason}");
        facts.cap_sys_admin = true;
        let Availability::Refused { reason, .. } = kernel(&facts, load) else { panic!("refused") };
        assert!(reason.contains("verifier"), "{reason}");
        assert_eq!(kernel(&facts, || Ok(())), Availability::Available);
        facts.btf = false;
        assert!(matches!(kernel(&facts, || Ok(())), Availability::Refused { remedy: None, .. }));
    }

    /// What a machine says whose `perf_event_open` fails with `errno` (0: works).
    fn said(euid: u32, paranoid: i64, errno: i32) -> Diagnosis {
        let facts = Facts {
            euid: Some(euid),
            cap_sys_admin: euid == 0,
            btf: true,
            perf_event_paranoid: Some(paranoid),
            ..Facts::default()
        };
        let error = std::io::Error::from_raw_os_error(errno);
        let refused = || crate::capture::perf::refusal_at(&error, Some(paranoid));
        judge(facts, || Ok(()), || if errno == 0 { Ok(()) } else { Err(refused()) })
    }

    #[test]
    fn what_debian_and_ubuntu_refuse_is_lifted_by_one_command() {
        for paranoid in [3, 4] {
            let diagnosis = said(1000, paranoid, libc::EACCES);
            let choice = choose(&diagnosis);
            assert_eq!(choice.tier, Some(Tier::Proc));
            let [kernel, perf] = &choice.skipped[..] else { panic!("{choice:?}") };
            assert!(
                kernel.contains("needs root") && kernel.ends_with("`sudo timesink run -- ...`")
            );
            assert!(perf.contains(&format!("perf_event_paranoid is {paranoid}")), "{perf}");
            assert!(perf.ends_with("run `sudo sysctl kernel.perf_event_paranoid=2`"), "{perf}");
            let text = diagnosis.to_string();
            assert!(text.starts_with("`timesink run` uses the proc tier here: "), "{text}");
            assert_eq!(text.matches("to lift that: ").count(), 2, "{text}");
        }
    }

    #[test]
    fn a_filter_is_not_blamed_on_the_sysctl_and_an_old_kernel_on_nobody() {
        let skipped = |errno| choose(&said(1000, 2, errno)).skipped.pop().expect("perf is skipped");
        let filtered = skipped(libc::EPERM);
        assert!(filtered.contains("container or sandbox") && filtered.contains("seccomp"));
        assert!(!filtered.contains("sysctl"), "{filtered}");
        let old = skipped(libc::ENOSYS);
        assert!(!old.contains("To lift that"), "{old}");
        assert!(said(1000, 2, libc::ENOSYS).to_string().contains("nothing on this kernel"));
    }

    #[test]
    fn the_first_line_says_what_run_will_do() {
        let root = said(0, 4, 0);
        assert!(root.to_string().starts_with("`timesink run` uses the kernel tier here: "));
        assert!(!root.to_string().contains("to lift that"));
        assert!(choose(&root).skipped.is_empty());
        let user = said(1000, 2, 0).to_string();
        assert!(user.starts_with("`timesink run` uses the perf tier here: "), "{user}");
        assert!(user.contains("available (--tier proc)"), "{user}");
        let nothing = diagnosis([refused(), refused(), refused()]).to_string();
        assert!(nothing.starts_with("`timesink run` cannot record here"), "{nothing}");
    }

    #[test]
    fn attach_is_told_apart_where_a_user_may_not_look_at_what_runs() {
        let mut user = said(1000, 2, 0);
        let text = user.to_string();
        assert!(text.contains("with your own processes that run.\n"), "{text}");
        user.facts.ptrace_scope = Some(1);
        let text = user.to_string();
        assert!(text.contains("`sudo sysctl kernel.yama.ptrace_scope=0`"), "{text}");
        user.facts.euid = Some(0);
        let text = user.to_string();
        assert!(text.contains("with any processes that run.\n"), "{text}");
    }

    #[test]
    fn lists_and_mounts_are_read() {
        assert_eq!(cpu_list("0-2,5,x,9-8"), [0, 1, 2, 5]);
        let mounts = "proc /proc proc rw,hidepid=2,gid=5 0 0\n";
        assert_eq!(hidepid(mounts).as_deref(), Some("2"));
        assert_eq!(hidepid("proc /proc proc rw 0 0"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let text = diagnose_with(|| Ok(())).to_string();
        for word in ["kernel", "perf", "proc", "perf_event_paranoid", "CPUs"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}
