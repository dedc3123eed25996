//! The only file with `unsafe`: the mapping, the clock, the fork mark and CPU affinity.

use std::io;

/// Now, in ns of `CLOCK_MONOTONIC`: the clock of all timesink events.
pub fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CPU time that the calling thread has used, in ns.
pub fn thread_cpu_ns() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; both clocks exist on every Linux, so it is filled in.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Binds the calling thread (and those it starts later) to one CPU.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
    }
    // SAFETY: a `cpu_set_t` is an array of integers, for which zeros are a value (the empty set);
    // CPU_SET stays inside it, as checked above; the kernel reads `size_of` bytes of it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(feature = "layer")]
pub(crate) use writing::*;

#[cfg(feature = "layer")]
mod writing {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU64;

    /// The kernel's id of the calling thread.
    pub(crate) fn thread_id() -> u32 {
        // SAFETY: no arguments, cannot fail.
        unsafe { libc::gettid() as u32 }
    }

    /// Whether this program has more rights than whoever started it (set-user-id and the like),
    /// so that its environment is not to be trusted.
    pub(crate) fn is_privileged_start() -> bool {
        // SAFETY: reads the auxiliary vector, which lives as long as the process.
        unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
    }

    /// Maps the first `bytes` of `file`, shared and for good: threads keep references until
    /// the process ends.
    pub(crate) fn map_shared(file: &File, bytes: usize) -> io::Result<&'static [AtomicU64]> {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, rights, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is `bytes` long, page-aligned and never unmapped. Other processes
        // write to it too, which atomics allow. The caller checked that the file is that long;
        // should it be cut short later, the owner of the file has ended its own process.
        Ok(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), bytes / 8) })
    }

    /// Gives `words` (whole pages of a mapping) memory now: a full tmpfs then is an error here
    /// instead of a `SIGBUS` at the first write.
    pub(crate) fn populate(words: &'static [AtomicU64]) -> io::Result<()> {
        let (start, bytes) = (words.as_ptr().cast_mut().cast(), size_of_val(words));
        // SAFETY: the range lies in a shared mapping of ours; populating does not change it.
        let result = unsafe { libc::madvise(start, bytes, libc::MADV_POPULATE_WRITE) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The same through the file, for kernels before 5.14, which do not know the above.
    pub(crate) fn allocate(file: &File, offset: usize, bytes: usize) -> io::Result<()> {
        let (offset, bytes) = (offset as libc::off_t, bytes as libc::off_t);
        // SAFETY: the descriptor is open, the rest are numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), offset, bytes) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// A word that the kernel sets to 0 in every forked child, whoever called fork and however
    /// (`pthread_atfork` misses raw system calls). `None` where the kernel cannot (before 4.14).
    pub(crate) fn fork_mark() -> Option<&'static AtomicU64> {
        static MARK: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
        *MARK.get_or_init(|| {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new private page at an address of the kernel's choice.
            let page = unsafe { libc::mmap(ptr::null_mut(), 4096, rights, flags, -1, 0) };
            if page == libc::MAP_FAILED {
                return None;
            }
            // SAFETY: `page` is that page, all of it ours.
            if unsafe { libc::madvise(page, 4096, libc::MADV_WIPEONFORK) } != 0 {
                return None;
            }
            // SAFETY: mapped, aligned, zeroed, never unmapped, used as an atomic only.
            Some(unsafe { &*page.cast::<AtomicU64>() })
        })
    }
}

/// Runs `child` in a forked copy of this process and waits for it: whether it returned `true`.
#[cfg(all(test, feature = "layer"))]
pub(crate) fn in_fork(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `child`, which takes no lock another thread may have held at the
    // fork (the allocator's is made safe by glibc), and leaves by `_exit`, so that no
    // destructor or buffer of the parent runs twice.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(!child());
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes; `pid` is our child, or -1, which fails.
    pid > 0 && unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid && status == 0
}
