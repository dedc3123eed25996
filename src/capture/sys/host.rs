//! Facts about this machine and this process.

use crate::model::Clocks;
use crate::model::Nanos;

/// The three clocks, read as close together as it goes.
pub fn clocks() -> Clocks {
    Clocks {
        monotonic: clock(libc::CLOCK_MONOTONIC),
        realtime: clock(libc::CLOCK_REALTIME),
        boottime: clock(libc::CLOCK_BOOTTIME),
    }
}

/// One clock, ns.
fn clock(id: libc::clockid_t) -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; these clocks always exist.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// CPU time of this process so far, and its largest resident set in bytes.
pub fn own_usage() -> (Nanos, u64) {
    // SAFETY: rusage is plain data; zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let time = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
    (Nanos(time(usage.ru_utime) + time(usage.ru_stime)), usage.ru_maxrss as u64 * 1024)
}

/// Effective user id.
pub fn effective_uid() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() }
}

/// CPUs this process may run on; the online count if that cannot be asked.
pub fn cpus_allowed() -> u32 {
    // SAFETY: cpu_set_t is plain data; zeroes are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` has the size that is passed.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    // SAFETY: `set` was filled.
    if result == 0 { unsafe { libc::CPU_COUNT(&set) as u32 } } else { cpus_online() }
}

/// CPUs online.
pub fn cpus_online() -> u32 {
    // SAFETY: no preconditions.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// `uname -r` and `uname -m`.
pub fn uname() -> (String, String) {
    // SAFETY: utsname is plain data; zeroes are empty strings.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is a valid place for the answer.
    unsafe { libc::uname(&raw mut name) };
    (text(&name.release), text(&name.machine))
}

fn text(field: &[libc::c_char]) -> String {
    field.iter().take_while(|&&c| c != 0).map(|&c| char::from(c as u8)).collect()
}
