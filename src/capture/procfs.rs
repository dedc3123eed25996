//! Files of `/proc`, read and parsed. Names in them are chosen by the programs they describe,
//! so every parser takes any bytes and gives `None` for what it cannot make sense of.
#![allow(clippy::disallowed_methods)] // the impure edge reads files and clocks

use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Text;
use crate::model::Tid;
use crate::symbols::Image;
use crate::symbols::Mapping;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// What we use of `/proc/PID/task/TID/stat`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Name, at most 15 bytes, any bytes.
    pub comm: Text,
    /// State letter: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`.
    pub state: u8,
    /// Parent process.
    pub ppid: Pid,
    /// Start, in clock ticks since boot.
    pub start_ticks: u64,
    /// Size of the address space, bytes.
    pub vsize: u64,
    /// CPU it last ran on.
    pub cpu: u16,
}

/// `/proc/PID/task/TID/schedstat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SchedStat {
    /// CPU time, ns. For a thread on a CPU as of the last tick.
    pub run: u64,
    /// Time ready and waiting for a CPU, ns. Complete up to the last time it got one.
    pub queue: u64,
    /// How often it got a CPU.
    pub runs: u64,
}

/// `/proc/PID/task/TID/syscall`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallText {
    /// On a CPU or ready to be.
    Running,
    /// Blocked.
    Blocked {
        /// System call number and arguments; `None` outside any call.
        call: Option<(u16, [u64; 6])>,
        /// Stack pointer.
        sp: u64,
        /// Instruction pointer.
        pc: u64,
    },
}

/// Parses a `stat` line. The name may hold spaces, parentheses and newlines: it ends at the
/// last `)`.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&b| b == b'(')?;
    let close = bytes.iter().rposition(|&b| b == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    // Field 22 of the line; `ppid` was field 4.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    let vsize = fields.next()?.parse().ok()?;
    // Field 39; kernels without it are not a reason to refuse the rest.
    let cpu = fields.nth(15).and_then(|f| f.parse().ok()).unwrap_or(0);
    Some(Stat { comm: Text::new(comm), state, ppid: Pid(ppid), start_ticks, vsize, cpu })
}

/// Parses a `schedstat` line.
pub fn parse_schedstat(bytes: &[u8]) -> Option<SchedStat> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut fields = text.split_ascii_whitespace().map(|f| f.parse::<u64>().ok());
    Some(SchedStat { run: fields.next()??, queue: fields.next()??, runs: fields.next()?? })
}

/// Parses a `syscall` line.
pub fn parse_syscall(bytes: &[u8]) -> Option<CallText> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    if text == "running" {
        return Some(CallText::Running);
    }
    let mut fields = text.split_ascii_whitespace();
    let number: i64 = fields.next()?.parse().ok()?;
    let mut hex = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let call = if number < 0 {
        None
    } else {
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = hex()?;
        }
        Some((u16::try_from(number).ok()?, args))
    };
    Some(CallText::Blocked { call, sp: hex()?, pc: hex()? })
}

/// The value of `name` (with its colon) in a `status` file.
pub fn status_field<'a>(bytes: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = bytes.split(|&b| b == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// Voluntary and involuntary switches of a `status` file.
pub fn parse_switches(bytes: &[u8]) -> Option<(u64, u64)> {
    let number = |name| status_field(bytes, name)?.parse().ok();
    Some((number("voluntary_ctxt_switches:")?, number("nonvoluntary_ctxt_switches:")?))
}

/// Time that the CPUs of this machine spent since it booted, summed over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// With work of any kind, what was stolen included.
    pub busy: Nanos,
    /// Taken by the hypervisor.
    pub stolen: Nanos,
}

/// Parses the first line of `/proc/stat`, whose times are in `tick`s.
pub fn parse_cpu_times(bytes: &[u8], tick: Nanos) -> Option<CpuTimes> {
    let line = bytes.split(|&b| b == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = text.split_ascii_whitespace().map_while(|f| f.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests' time is in the first two.
    let &[user, nice, system, _, _, irq, softirq, steal, ..] = ticks.as_slice() else {
        return None;
    };
    let busy = [user, nice, system, irq, softirq, steal].into_iter().fold(0, u64::saturating_add);
    let time = |ticks: u64| Nanos(ticks.saturating_mul(tick.0));
    Some(CpuTimes { busy: time(busy), stolen: time(steal) })
}

/// Executable mappings of files in a `maps` file; lines that make no sense are left out.
pub fn parse_maps(pid: Pid, bytes: &[u8]) -> Vec<Mapping> {
    bytes.split(|&b| b == b'\n').filter_map(|line| parse_mapping(pid, line)).collect()
}

fn parse_mapping(pid: Pid, line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        let (field, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        std::str::from_utf8(field).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    let file_offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let device = libc::makedev(hex(major)? as u32, hex(minor)? as u32);
    let inode = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    let named = path.starts_with(b"/") || path == b"[vdso]";
    if !permissions.contains('x') || !named {
        return None;
    }
    Some(Mapping {
        pid,
        start: hex(start)?,
        end: hex(end)?,
        file_offset,
        path: Text::new(path),
        identity: if inode == 0 { (0, 0) } else { (device, inode) },
        build_id: Vec::new(),
    })
}

/// The entries of an `auxv` file that an [`Image`] carries: `AT_PHDR`, `AT_ENTRY`, `AT_BASE`,
/// `AT_SYSINFO_EHDR`.
pub fn parse_auxv(bytes: &[u8]) -> [u64; 4] {
    let mut found = [0; 4];
    for pair in bytes.chunks_exact(16) {
        let word = |at: usize| pair[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        let slot = match word(0) {
            libc::AT_PHDR => 0,
            libc::AT_ENTRY => 1,
            libc::AT_BASE => 2,
            libc::AT_SYSINFO_EHDR => 3,
            _ => continue,
        };
        found[slot] = word(8);
    }
    found
}

/// Arguments of a `cmdline` file.
pub fn parse_cmdline(bytes: &[u8]) -> Vec<Text> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { bytes.split(|&b| b == 0).map(Text::new).collect() }
}

/// A file of a thread, if it can be read.
pub fn read_task(pid: Pid, tid: Tid, file: &str) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{}/task/{}/{file}", pid.0, tid.0)).ok()
}

/// A file of a process, if it can be read.
pub fn read_process(pid: Pid, file: &str) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{}/{file}", pid.0)).ok()
}

/// Where a link leads, as the bytes it holds.
pub fn link(path: impl AsRef<Path>) -> Option<Text> {
    let target = std::fs::read_link(path).ok()?;
    Some(Text::new(target.into_os_string().into_vec()))
}

/// Path of the program a process runs; `None` for a zombie or where it may not be read.
pub fn exe(pid: Pid) -> Option<Text> {
    link(format!("/proc/{}/exe", pid.0))
}

/// The arguments of a process: empty for a zombie.
pub fn argv(pid: Pid) -> Vec<Text> {
    read_process(pid, "cmdline").map(|bytes| parse_cmdline(&bytes)).unwrap_or_default()
}

/// What a process runs, for the naming of its stacks.
pub fn image(pid: Pid) -> Option<Image> {
    let [at_phdr, at_entry, at_base, at_sysinfo_ehdr] = parse_auxv(&read_process(pid, "auxv")?);
    Some(Image {
        pid,
        path: exe(pid)?,
        identity: (0, 0),
        at_phdr,
        at_entry,
        at_base,
        at_sysinfo_ehdr,
    })
}

/// Threads of a process, in ascending order; empty if it is gone.
pub fn threads(pid: Pid) -> Vec<Tid> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{}/task", pid.0)) else {
        return Vec::new();
    };
    let mut tids: Vec<Tid> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Tid))
        .collect();
    tids.sort_unstable();
    tids
}

/// Whether a process still runs. A leader may end before its threads: then it is no zombie yet.
pub fn lives(pid: Pid) -> bool {
    let stat = read_task(pid, Tid::from(pid), "stat").and_then(|stat| parse_stat(&stat));
    stat.is_some_and(|stat| !matches!(stat.state, b'Z' | b'X') || threads(pid).len() > 1)
}

/// How often a thread got a CPU; `None` if it is gone or that is not counted here.
pub fn runs(pid: Pid, tid: Tid) -> Option<u64> {
    let text = read_task(pid, tid, "schedstat")?;
    parse_schedstat(&text).map(|books| books.runs)
}

/// The kernel's own counts of a thread that still exists, our own count beside them.
pub fn books(pid: Pid, tid: Tid, runs_seen: Option<u64>) -> crate::model::Books {
    let sched = read_task(pid, tid, "schedstat").and_then(|b| parse_schedstat(&b));
    let switches = read_task(pid, tid, "status").and_then(|b| parse_switches(&b));
    crate::model::Books {
        voluntary: switches.map(|s| s.0),
        involuntary: switches.map(|s| s.1),
        runs: sched.map(|s| s.runs),
        runs_seen,
        cpu: sched.map(|s| Nanos(s.run)),
        queued: sched.map(|s| Nanos(s.queue)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str =
        "S 7 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 4242 99000 5 18446744073709551615";

    #[test]
    fn names_with_anything_in_them_do_not_shift_the_fields() {
        for comm in ["sh", "a b", "x) R 1 (y", ")", "(", "", "a\nb", "R 1 2 3"] {
            let stat = parse_stat(format!("12 ({comm}) {TAIL}\n").as_bytes()).expect(comm);
            assert_eq!(stat.comm, Text::from(comm));
            assert_eq!((stat.state, stat.ppid), (b'S', Pid(7)));
            assert_eq!((stat.start_ticks, stat.vsize), (4242, 99_000));
        }
        let raw = [b"12 (\xff\xfe) ", TAIL.as_bytes()].concat();
        assert_eq!(parse_stat(&raw).expect("any bytes").comm.as_bytes(), b"\xff\xfe");
    }

    #[test]
    fn nonsense_is_refused_not_guessed() {
        for bad in ["", "12", "12 (", ")(", "12 (a)", "12 (a) S", "12 (a) S x", "12 (a) S 1 2 3"] {
            assert_eq!(parse_stat(bad.as_bytes()), None, "{bad}");
        }
        for bad in ["", "1", "1 2", "1 x 3", "-1 2 3", "99999999999999999999999 1 1"] {
            assert_eq!(parse_schedstat(bad.as_bytes()), None, "{bad}");
        }
        for bad in
            ["", "x", "1 0x1", "-1", "-1 0x1", "70000 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2", "1 2 3"]
        {
            assert_eq!(parse_syscall(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_syscall(b"\xff\xff"), None);
    }

    #[test]
    fn calls_are_read_with_arguments_and_registers() {
        assert_eq!(parse_syscall(b"running\n"), Some(CallText::Running));
        assert_eq!(
            parse_syscall(b"-1 0x10 0x20\n"),
            Some(CallText::Blocked { call: None, sp: 0x10, pc: 0x20 })
        );
        assert_eq!(
            parse_syscall(b"202 0x1 0x2 0x3 0x4 0x5 0x6 0x10 0x20\n"),
            Some(CallText::Blocked { call: Some((202, [1, 2, 3, 4, 5, 6])), sp: 0x10, pc: 0x20 })
        );
    }

    #[test]
    fn what_a_hypervisor_took_is_told_from_work_and_from_idling() {
        let tick = Nanos::from_millis(10);
        let line = b"cpu  100 1 20 5000 70 3 4 8 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let times = parse_cpu_times(line, tick).expect("a line");
        assert_eq!(times.stolen, Nanos::from_millis(80));
        assert_eq!(times.busy, Nanos::from_millis(1360));
        for bad in
            ["", "cpu", "cpu  1 2 3 4 5 6 7", "cpu0 1 2 3 4 5 6 7 8 9", "cpu  1 x 3 4 5 6 7 8"]
        {
            assert_eq!(parse_cpu_times(bad.as_bytes(), tick), None, "{bad}");
        }
    }

    #[test]
    fn maps_keep_executable_files_only() {
        let maps = b"1000-2000 r-xp 00000000 08:01 77 /bin/a b\n\
            2000-3000 r--p 00001000 08:01 77 /bin/a b\n\
            3000-4000 r-xp 00000000 00:00 0\n\
            4000-5000 r-xp 00000000 00:00 0                  [vdso]\n\
            garbage\n\xff-\xff r-xp 0 0:0 0 /x\n";
        let mappings = parse_maps(Pid(1), maps);
        let paths: Vec<String> = mappings.iter().map(|m| m.path.to_string()).collect();
        assert_eq!(paths, ["/bin/a b", "[vdso]"]);
        assert_eq!((mappings[0].start, mappings[0].end), (0x1000, 0x2000));
        assert_eq!(mappings[0].identity, (libc::makedev(8, 1), 77));
    }

    #[test]
    fn a_hostile_name_line_cannot_pose_as_another_field() {
        // The kernel escapes newlines here; a name that only contains the words does not match.
        let status = b"Name:\tvoluntary_ctxt_switches: 9\nvoluntary_ctxt_switches:\t5\n\
            nonvoluntary_ctxt_switches:\t6\n";
        assert_eq!(parse_switches(status), Some((5, 6)));
        assert_eq!(parse_switches(b"Name:\tx\n"), None);
    }

    #[test]
    fn arguments_may_be_empty() {
        assert_eq!(parse_cmdline(b"a\0\0b\0"), [Text::from("a"), Text::from(""), Text::from("b")]);
        assert!(parse_cmdline(b"").is_empty());
    }
}
