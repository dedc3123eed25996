//! Reading another process from outside: its memory, and what its descriptors are.

use crate::model::FdKind;
use crate::model::Pid;
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
    fn directories_and_files_are_told_apart() {
        assert_eq!(file_kind("/").map(|k| k.0), Some(FdKind::Directory));
        assert_eq!(file_kind("/dev/null").map(|k| k.0), Some(FdKind::Char));
        assert_eq!(file_kind("/proc/self/exe").map(|k| k.0), Some(FdKind::File));
        assert_eq!(file_kind("/no/such"), None);
    }
}
