//! What `aya` has no wrapper for: task storage by pidfd, and the clock of all events.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;

const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;

/// The part of `union bpf_attr` that map element commands read.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the element of `map` at `key`. For task storage the key is a pidfd.
///
/// `key` and `value` must be as long as the map's keys and values.
pub fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: `attr` outlives the call and has the size given; the kernel only reads the
    // buffers it points to, whose lengths the caller matched to the map.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const attr, size_of::<ElementAttr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `CLOCK_MONOTONIC` in ns.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sets the niceness of the calling thread and gives the old one.
pub fn set_niceness(value: i32) -> i32 {
    // SAFETY: both calls take plain integers; who 0 is the calling thread.
    unsafe {
        let old = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, value);
        old
    }
}
