//! Facts about this machine and this process.

use crate::model::Clocks;
use crate::model::Nanos;
use crate::model::Pid;

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
    let mut set = no_cpus();
    if add_allowed(&mut set, 0) { count(&set) } else { cpus_online() }
}

/// CPUs that any thread of these processes may run on; the online count if none can be asked.
pub fn cpus_allowed_to(pids: &[Pid]) -> u32 {
    let mut set = no_cpus();
    let mut asked = false;
    for pid in pids {
        asked |= add_allowed(&mut set, pid.0);
        // Threads are pinned one by one: the first may have a CPU of its own.
        for task in std::fs::read_dir(format!("/proc/{}/task", pid.0)).into_iter().flatten() {
            let name = task.ok().and_then(|task| task.file_name().into_string().ok());
            if let Some(tid) = name.and_then(|name| name.parse().ok()) {
                asked |= add_allowed(&mut set, tid);
            }
        }
    }
    if asked { count(&set) } else { cpus_online() }
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is plain data; zeroes are the empty set.
    unsafe { std::mem::zeroed() }
}

fn count(set: &libc::cpu_set_t) -> u32 {
    // SAFETY: it only reads the set.
    unsafe { libc::CPU_COUNT(set) as u32 }
}

/// Adds the CPUs that a thread may run on (0: the calling one). False if it cannot be asked.
fn add_allowed(set: &mut libc::cpu_set_t, tid: u32) -> bool {
    let mut its = no_cpus();
    let Ok(tid) = libc::pid_t::try_from(tid) else { return false };
    // SAFETY: `its` has the size that is passed.
    let result =
        unsafe { libc::sched_getaffinity(tid, size_of::<libc::cpu_set_t>(), &raw mut its) };
    if result != 0 {
        return false;
    }
    for cpu in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: below the size of both sets.
        unsafe {
            if libc::CPU_ISSET(cpu, &its) {
                libc::CPU_SET(cpu, set);
            }
        }
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One thread of this process is pinned, and the process still has all the CPUs of the others.
    #[test]
    fn a_process_may_use_the_cpus_of_any_of_its_threads() {
        let own = Pid(std::process::id());
        assert_eq!(cpus_allowed_to(&[Pid(u32::MAX)]), cpus_online());
        let before = cpus_allowed();
        let pinned = std::thread::spawn(move || {
            let mut all = no_cpus();
            assert!(add_allowed(&mut all, 0));
            let first = (0..libc::CPU_SETSIZE as usize)
                // SAFETY: below the size of the set.
                .find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &all) })
                .expect("one CPU at least");
            let mut one = no_cpus();
            // SAFETY: below the size of the set, which has the size that is passed.
            let result = unsafe {
                libc::CPU_SET(first, &mut one);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one)
            };
            assert_eq!(result, 0);
            (cpus_allowed(), cpus_allowed_to(&[own]))
        });
        assert_eq!(pinned.join().expect("it ran"), (1, before));
    }
}
