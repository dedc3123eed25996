//! BPF arrays that the kernel's programs and we both see, by mmap.

use bytemuck::Pod;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A mapped BPF array.
pub struct SharedMap {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread; other
// processors write to it either way, which is why all access is by atomics or by copying slots
// that their protocol says are ours.
unsafe impl Send for SharedMap {}

impl SharedMap {
    /// Maps the first `length` bytes of an array made with `BPF_F_MMAPABLE`.
    pub fn new(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let page = 4096;
        let length = length.div_ceil(page) * page;
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is valid.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    #[allow(clippy::cast_ptr_alignment)] // checked in the first line
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.length, "inside the map");
        // SAFETY: inside the mapping and aligned (both just checked; mappings start at a page),
        // and any eight bytes are a valid u64; it lives as long as `self`.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// The u64 at `offset`, with what was written before it.
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Sets the u64 at `offset`, after what was read before.
    pub fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Copies the value at `offset`. Nobody may be writing to it: between a ring's tail and head.
    pub fn read<T: Pod>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= self.length, "inside the map");
        // SAFETY: inside the mapping (just checked); any bytes are a valid `T`; the read does
        // not need alignment.
        unsafe { self.start.as_ptr().add(offset).cast::<T>().read_unaligned() }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
