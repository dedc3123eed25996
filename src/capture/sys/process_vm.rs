//! Reading another process from outside: its memory, and what its descriptors are.

use crate::model::FdKind;
use crate::model::Pid;
use crate::runtimes::Memory;
use crate::runtimes::Piece;
use std::ffi::CString;

use super::perf_event::page_size;

/// Up to `len` bytes of the memory of `pid` from `address` on: fewer where the mapping ends,
/// none where reading is refused.
pub fn read_memory(pid: Pid, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0_u8; len];
    let page = page_size() as u64;
    // The kernel stops at the first remote piece it cannot read whole, so pieces end at pages.
    let mut remote = Vec::with_capacity(len / page as usize + 2);
    let mut at = address;
    let end = address.saturating_add(len as u64);
    while at < end {
        let next = ((at / page + 1) * page).min(end);
        remote
            .push(libc::iovec { iov_base: at as *mut libc::c_void, iov_len: (next - at) as usize });
        at = next;
    }
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: `local` describes the writable bytes of `bytes`; the remote addresses are only
    // interpreted in the other process, where the kernel checks them.
    let read = unsafe {
        libc::process_vm_readv(
            pid.0 as libc::pid_t,
            &raw const local,
            1,
            remote.as_ptr(),
            remote.len() as libc::c_ulong,
            0,
        )
    };
    bytes.truncate(usize::try_from(read).unwrap_or(0));
    bytes
}

/// Pieces read with one call. The kernel takes 1024; the lists of them are on the stack.
const PIECES: usize = 128;

/// The memory of a process, for those that read what a runtime keeps in it.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory(pub Pid);

impl ProcessMemory {
    /// Reads pieces (at most [`PIECES`]) in order, until one that cannot be read whole; tells
    /// how many were.
    fn read_first(self, pieces: &mut [Piece<'_>]) -> usize {
        const NONE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let (mut local, mut remote) = ([NONE; PIECES], [NONE; PIECES]);
        let count = pieces.len().min(PIECES);
        for (piece, (local, remote)) in pieces.iter_mut().zip(local.iter_mut().zip(&mut remote)) {
            let iov_len = piece.buffer.len();
            *local = libc::iovec { iov_base: piece.buffer.as_mut_ptr().cast(), iov_len };
            *remote = libc::iovec { iov_base: piece.address as *mut libc::c_void, iov_len };
        }
        // SAFETY: the first `count` of `local` describe the writable, disjoint buffers of
        // `pieces`, which are borrowed for the call; the remote addresses are only interpreted
        // in the other process, where the kernel checks them.
        let read = unsafe {
            libc::process_vm_readv(
                self.0.0 as libc::pid_t,
                local.as_ptr(),
                count as libc::c_ulong,
                remote.as_ptr(),
                count as libc::c_ulong,
                0,
            )
        };
        let mut left = usize::try_from(read).unwrap_or(0);
        if read < 0 {
            return 0;
        }
        let whole = |piece: &&Piece<'_>| match left.checked_sub(piece.buffer.len()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        pieces.iter().take(count).take_while(whole).count()
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.read_first(&mut [Piece { address, buffer, read: false }]) == 1
    }

    fn read_many(&self, mut pieces: &mut [Piece<'_>]) {
        while !pieces.is_empty() {
            let read = self.read_first(pieces);
            for piece in &mut pieces[..read] {
                piece.read = true;
            }
            // The one that stopped it is passed over.
            let stopped = usize::from(read < pieces.len().min(PIECES));
            pieces = &mut pieces[read + stopped..];
        }
    }
}

/// Kind, device and inode of the file behind `path` (a `/proc/PID/fd/N` link, followed), without
/// asking a network file system: that could block for as long as its server is away.
pub fn file_kind(path: &str) -> Option<(FdKind, u32, u64)> {
    let path = CString::new(path).ok()?;
    // SAFETY: all-zero bytes are a valid statx.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string and `status` a writable statx.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_TYPE | libc::STATX_INO,
            &raw mut status,
        )
    };
    if result != 0 {
        return None;
    }
    let kind = match u32::from(status.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => FdKind::File,
        libc::S_IFDIR => FdKind::Directory,
        libc::S_IFBLK => FdKind::Block,
        libc::S_IFCHR => FdKind::Char,
        libc::S_IFIFO => FdKind::Pipe,
        libc::S_IFSOCK => FdKind::SocketOther,
        _ => FdKind::Unknown,
    };
    let device = status.stx_dev_major << 20 | status.stx_dev_minor;
    Some((kind, device, status.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_across_pages_and_ends_at_the_mapping() {
        let me = Pid(std::process::id());
        let data: Vec<u8> = (0..20_000_u32).map(|i| i as u8).collect();
        let read = read_memory(me, data.as_ptr() as u64 + 1, 10_000);
        assert_eq!(read, data[1..10_001]);
        assert!(read_memory(me, 8, 100).is_empty());
    }

    #[test]
    fn pieces_are_read_together_and_those_that_cannot_be_are_passed_over() {
        let memory = ProcessMemory(Pid(std::process::id()));
        let data: Vec<u8> = (0..4096_u32).map(|i| i as u8).collect();
        let start = data.as_ptr() as u64;
        let mut buffers = vec![[0u8; 8]; 300];
        let bad = [0, 7, 128, 299];
        let pieces = buffers.iter_mut().enumerate().map(|(index, buffer)| {
            let address = if bad.contains(&index) { 16 } else { start + index as u64 };
            Piece { address, buffer, read: false }
        });
        let mut pieces: Vec<Piece<'_>> = pieces.collect();
        memory.read_many(&mut pieces);
        for (index, piece) in pieces.iter().enumerate() {
            assert_eq!(piece.read, !bad.contains(&index), "{index}");
            assert!(!piece.read || *piece.buffer == data[index..index + 8], "{index}");
        }
        assert!(!memory.read(16, &mut [0; 8]) && memory.read(start, &mut [0; 8]));
        assert!(!ProcessMemory(Pid(u32::MAX)).read(start, &mut [0; 8]));
    }

    #[test]
    fn directories_and_files_are_told_apart() {
        assert_eq!(file_kind("/").map(|k| k.0), Some(FdKind::Directory));
        assert_eq!(file_kind("/dev/null").map(|k| k.0), Some(FdKind::Char));
        assert_eq!(file_kind("/proc/self/exe").map(|k| k.0), Some(FdKind::File));
        assert_eq!(file_kind("/no/such"), None);
    }
}
