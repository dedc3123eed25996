//! Descriptors of every anonymous kind, and pidfds.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
}

/// A pidfd of the process with this id.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and makes a descriptor.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

/// Raises this process's limit on open descriptors to what it may be.
pub fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and read only by the second call.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// One descriptor each: eventfd, epoll, timerfd, signalfd, inotify, pidfd, in this order,
/// which is that of the kinds in [`FdKind`](crate::model::FdKind). `None` where the kernel refuses.
pub struct Samples(Vec<Option<OwnedFd>>);

impl Samples {
    /// Opens them.
    pub fn open() -> Self {
        let cloexec = libc::O_CLOEXEC;
        // SAFETY: each call takes plain integers, or the address of a signal set that outlives
        // it, and makes a descriptor or fails.
        let results = unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            [
                libc::eventfd(0, cloexec),
                libc::epoll_create1(cloexec),
                libc::timerfd_create(libc::CLOCK_MONOTONIC, cloexec),
                libc::signalfd(-1, &raw const none, cloexec),
                libc::inotify_init1(cloexec),
            ]
        };
        let mut samples: Vec<Option<OwnedFd>> =
            results.into_iter().map(|fd| owned(fd.into()).ok()).collect();
        samples.push(pidfd_open(std::process::id()).ok());
        Self(samples)
    }

    /// Their numbers, -1 where there is none.
    pub fn numbers(&self) -> [i32; 8] {
        let mut numbers = [-1; 8];
        for (number, fd) in numbers.iter_mut().zip(&self.0) {
            *number = fd.as_ref().map_or(-1, OwnedFd::as_raw_fd);
        }
        numbers
    }
}
