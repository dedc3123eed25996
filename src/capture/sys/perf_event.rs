//! `perf_event_open` for one task on one CPU, and the reader of its ring buffer.

use crate::model::Nanos;
use perf_event_open_sys::bindings;
use perf_event_open_sys::bindings::perf_event_attr;
use perf_event_open_sys::bindings::perf_event_mmap_page;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What follows every record that is not a sample, and heads the fields of a sample.
const ID_FIELDS: u64 =
    (bindings::PERF_SAMPLE_TID | bindings::PERF_SAMPLE_TIME | bindings::PERF_SAMPLE_CPU) as u64;

/// Fields of a CPU sample, in the order the kernel writes them (see `perf/record.rs`).
const SAMPLE_FIELDS: u64 = ID_FIELDS
    | (bindings::PERF_SAMPLE_IP
        | bindings::PERF_SAMPLE_CALLCHAIN
        | bindings::PERF_SAMPLE_REGS_USER
        | bindings::PERF_SAMPLE_STACK_USER) as u64;

/// Bits of `sample_regs_user` for bp, sp and ip on `x86_64` (`PERF_REG_X86_*` 6, 7, 8).
#[cfg(target_arch = "x86_64")]
const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// The same for x29, sp and pc on aarch64 (`PERF_REG_ARM64_*` 29, 31, 32).
#[cfg(not(target_arch = "x86_64"))]
const REGISTERS: u64 = 1 << 29 | 1 << 31 | 1 << 32;

/// `CLOCK_MONOTONIC`, the clock of all events.
pub fn monotonic() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// `CLOCK_BOOTTIME`: the clock of start times in `/proc/PID/stat`.
pub fn boottime() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec; CLOCK_BOOTTIME exists since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// CPU time of the calling thread, ns.
pub fn thread_cpu() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec; the clock is the calling thread's own.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: sysconf has no memory effects; _SC_PAGESIZE is always known.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Clock ticks per second of the times in `/proc/PID/stat`.
pub fn clock_ticks() -> u64 {
    // SAFETY: sysconf has no memory effects; _SC_CLK_TCK is always known.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|&t| t > 0).unwrap_or(100)
}

/// An open event.
#[derive(Debug)]
pub struct EventFd {
    file: File,
    counts_losses: bool,
}

/// From when on an event counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// The next exec of the task.
    Exec,
    /// At once: the task runs already.
    Now,
}

fn common(attr: &mut perf_event_attr, from: Since) {
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.type_ = bindings::PERF_TYPE_SOFTWARE;
    attr.set_disabled(u64::from(from == Since::Exec));
    attr.set_enable_on_exec(u64::from(from == Since::Exec));
    attr.set_inherit(1);
    attr.set_sample_id_all(1);
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    // We poll: a wake-up costs the target an interrupt. The kernel caps this at the ring's size.
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = 1 << 30;
    attr.set_exclude_hv(1);
}

fn open(attr: &mut perf_event_attr, pid: u32, cpu: u16) -> io::Result<EventFd> {
    // Counting what a full ring refused exists since Linux 6.0.
    attr.read_format = u64::from(bindings::PERF_FORMAT_LOST);
    open_as_is(attr, pid, cpu).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => {
            attr.read_format = 0;
            open_as_is(attr, pid, cpu)
        }
        _ => Err(error),
    })
}

fn open_as_is(attr: &mut perf_event_attr, pid: u32, cpu: u16) -> io::Result<EventFd> {
    let flags = u64::from(bindings::PERF_FLAG_FD_CLOEXEC);
    let pid = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `attr` is a valid attribute of the size it states; the kernel only reads it
    // (and writes its `size` on E2BIG).
    let fd =
        unsafe { perf_event_open_sys::perf_event_open(attr, pid, i32::from(cpu), -1, flags as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(EventFd { file: File::from(fd), counts_losses: attr.read_format != 0 })
}

impl EventFd {
    /// Switches, forks, execs, exits, names and executable mappings of the thread `tid` and of all
    /// that it starts from now on while they are on `cpu`. Needs `perf_event_paranoid` <= 2 and
    /// nothing else.
    pub fn sideband(tid: u32, cpu: u16, from: Since) -> io::Result<Self> {
        let attempt = |build_id: bool| {
            let mut attr = perf_event_attr::default();
            common(&mut attr, from);
            attr.config = u64::from(bindings::PERF_COUNT_SW_DUMMY);
            attr.sample_type = ID_FIELDS;
            attr.set_exclude_kernel(1);
            attr.set_context_switch(1);
            attr.set_comm(1);
            attr.set_comm_exec(1);
            attr.set_mmap(1);
            attr.set_mmap2(1);
            attr.set_build_id(u64::from(build_id));
            attr.set_task(1);
            open(&mut attr, tid, cpu)
        };
        // Build ids in mapping records exist since Linux 5.12.
        attempt(true).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::E2BIG) => attempt(false),
            _ => Err(error),
        })
    }

    /// CPU samples every `period` of CPU time, with up to `stack_bytes` of user stack.
    /// With `kernel` also of time in the kernel (needs `perf_event_paranoid` <= 1).
    pub fn sampling(
        tid: u32,
        cpu: u16,
        from: Since,
        period: Nanos,
        stack_bytes: u32,
        kernel: bool,
    ) -> io::Result<Self> {
        let mut attr = perf_event_attr::default();
        common(&mut attr, from);
        attr.config = u64::from(bindings::PERF_COUNT_SW_CPU_CLOCK);
        attr.__bindgen_anon_1.sample_period = period.0;
        attr.sample_type = SAMPLE_FIELDS;
        attr.sample_regs_user = REGISTERS;
        attr.sample_stack_user = stack_bytes;
        attr.set_exclude_kernel(u64::from(!kernel));
        attr.set_exclude_callchain_kernel(u64::from(!kernel));
        open(&mut attr, tid, cpu)
    }

    /// How many records of this event, its inherited copies included, found the ring full so
    /// far. `None` where the kernel does not count.
    pub fn lost(&self) -> Option<u64> {
        if !self.counts_losses {
            return None;
        }
        let mut counts = [0; 16];
        (&self.file).read_exact(&mut counts).ok()?;
        counts[8..].try_into().ok().map(u64::from_ne_bytes)
    }

    /// Sends this event's records to the ring of `other` (same CPU, same clock).
    pub fn redirect(&self, other: &Self) -> io::Result<()> {
        // SAFETY: both descriptors are open perf events that `self` and `other` own.
        let result = unsafe {
            perf_event_open_sys::ioctls::SET_OUTPUT(self.file.as_raw_fd(), other.file.as_raw_fd())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// What a [`Ring::read`] found.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// How full the ring became before its space was freed, 0.0..=1.0.
    pub fill: f64,
    /// Bytes that were free then.
    pub room: usize,
}

/// The ring buffer of one event: the kernel writes, we read.
#[derive(Debug)]
pub struct Ring {
    base: NonNull<u8>,
    page: usize,
    size: usize,
}

// SAFETY: the mapping belongs to the value alone and is only read and freed through it; the
// page the kernel writes is accessed through atomics.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps `pages` (a power of two) of data for `event`.
    pub fn map(event: &EventFd, pages: usize) -> io::Result<Self> {
        let page = page_size();
        let size = pages * page;
        // SAFETY: a new shared mapping at an address of the kernel's choice: nothing is replaced.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size + page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, page, size })
    }

    /// The first page, which mmap has aligned to a page.
    #[allow(clippy::cast_ptr_alignment)]
    fn control(&self) -> *mut perf_event_mmap_page {
        self.base.as_ptr().cast()
    }

    fn head(&self) -> &AtomicU64 {
        let control = self.control();
        // SAFETY: the first page is a perf_event_mmap_page for as long as `self` lives, and
        // both sides access this aligned u64 atomically.
        unsafe { AtomicU64::from_ptr(&raw mut (*control).data_head) }
    }

    fn tail(&self) -> &AtomicU64 {
        let control = self.control();
        // SAFETY: as in `head`; only we write it.
        unsafe { AtomicU64::from_ptr(&raw mut (*control).data_tail) }
    }

    /// Copies `out.len()` bytes from position `at` of the endless stream.
    fn copy(&self, at: u64, out: &mut [u8]) {
        let start = (at % self.size as u64) as usize;
        let first = out.len().min(self.size - start);
        let (a, b) = out.split_at_mut(first);
        // SAFETY: `start + first <= size` and `b.len() <= start`, so both ranges lie inside the
        // data area; the kernel does not touch bytes between tail and head.
        unsafe {
            let data = self.base.as_ptr().add(self.page);
            std::ptr::copy_nonoverlapping(data.add(start), a.as_mut_ptr(), a.len());
            std::ptr::copy_nonoverlapping(data, b.as_mut_ptr(), b.len());
        }
    }

    /// Gives every record that is there to `visit` (type, misc, body without the header) and
    /// frees its space.
    pub fn read(&self, scratch: &mut Vec<u8>, visit: &mut dyn FnMut(u32, u16, &[u8])) -> Taken {
        let head = self.head().load(Ordering::Acquire);
        let first = self.tail().load(Ordering::Relaxed);
        let mut tail = first;
        while tail != head {
            let mut header = [0; 8];
            self.copy(tail, &mut header);
            let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let misc = u16::from_ne_bytes([header[4], header[5]]);
            let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            if size < 8 || (head.wrapping_sub(tail)) < size as u64 {
                // Not a record: the kernel never writes that. Give up what is there.
                tail = head;
                break;
            }
            scratch.resize(size - 8, 0);
            self.copy(tail.wrapping_add(8), scratch);
            visit(kind, misc, scratch);
            tail = tail.wrapping_add(size as u64);
        }
        // Release: our reads are done before the kernel may write there again.
        self.tail().store(tail, Ordering::Release);
        // What the kernel wrote or refused meanwhile found the old tail.
        let filled = self.head().load(Ordering::Acquire).wrapping_sub(first);
        let filled = filled.min(self.size as u64) as usize;
        Taken { fill: filled as f64 / self.size as f64, room: self.size - filled }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size + self.page) };
    }
}
