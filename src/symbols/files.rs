//! Opening the files of traced processes: alive or gone, in their own root or in ours.
#![allow(clippy::disallowed_methods)] // this module's purpose is to open files

use std::ffi::OsStr;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::model::Pid;
use crate::model::Text;

use super::elf::Elf;
use super::elf::Source;

/// What tells one content of a file from another: device, inode, size, modification time (ns).
pub(super) type FileKey = (u64, u64, u64, i128);

/// `O_NONBLOCK | O_NOCTTY`: a path from a traced process may be a FIFO or a terminal by now.
const SAFE_OPEN: i32 = 0o4000 | 0o400;

pub(super) fn key_of(meta: &Metadata) -> FileKey {
    let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    (meta.dev(), meta.ino(), meta.size(), modified)
}

/// A mapped file, as far as it was described.
pub(super) struct Wanted<'a> {
    pub pid: Pid,
    pub path: &'a Text,
    /// Device and inode, (0, 0) if not known.
    pub identity: (u64, u64),
    /// Build id, empty if not known.
    pub build_id: &'a [u8],
    /// Addresses of the mapping, for `/proc/PID/map_files`.
    pub range: Option<(u64, u64)>,
    /// Whether it is the program of the process.
    pub program: bool,
}

/// A file that was opened and is the one that was mapped.
pub(super) struct Opened {
    pub key: FileKey,
    pub source: Source,
    pub elf: Option<Elf>,
    /// Its path, if it is not the one that was asked for: a script's interpreter.
    pub path: Option<Text>,
}

/// Opens a regular file, without ever waiting.
pub(super) fn open_regular(path: &Path) -> Option<(File, Metadata)> {
    // Looked at before opening: opening a device can have effects.
    std::fs::metadata(path).ok()?.is_file().then_some(())?;
    let file = OpenOptions::new().read(true).custom_flags(SAFE_OPEN).open(path).ok()?;
    let meta = file.metadata().ok()?;
    meta.is_file().then_some((file, meta))
}

/// Opens a mapped file by the first way that leads to the very file.
pub(super) fn open(wanted: &Wanted<'_>) -> Option<Opened> {
    let pid = wanted.pid.0;
    let path = Path::new(OsStr::from_bytes(wanted.path.as_bytes()));
    let mut ways: Vec<PathBuf> = Vec::with_capacity(4);
    if let Some((start, end)) = wanted.range {
        // Needs CAP_CHECKPOINT_RESTORE, and leads to the file even if it was deleted.
        ways.push(format!("/proc/{pid}/map_files/{start:x}-{end:x}").into());
    }
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    if wanted.program && is_still_program(wanted) {
        ways.push(exe.clone());
    }
    if let Ok(relative) = path.strip_prefix("/") {
        // The process may live in another mount namespace, or in a chroot.
        ways.push(Path::new(&format!("/proc/{pid}/root")).join(relative));
        ways.push(path.to_owned());
    }
    ways.iter().find_map(|way| {
        let (file, meta) = open_regular(way)?;
        let source = Source::File(file);
        let elf = Elf::read(&source);
        let key = key_of(&meta);
        is_same(wanted, &meta, elf.as_ref()).then(|| Opened {
            key,
            source,
            elf,
            path: (*way == exe).then(|| program_path(wanted, key)).flatten(),
        })
    })
}

/// The path of a running program, where the given one leads to another file.
fn program_path(wanted: &Wanted<'_>, key: FileKey) -> Option<Text> {
    let pid = wanted.pid.0;
    let path = Path::new(OsStr::from_bytes(wanted.path.as_bytes()));
    let inside = Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").ok()?);
    // A script: it exists, and is not what runs. (A deleted program keeps its given path.)
    let other = std::fs::metadata(inside).is_ok_and(|m| key_of(&m) != key);
    let link = other.then(|| std::fs::read_link(format!("/proc/{pid}/exe")).ok()).flatten()?;
    let link = link.as_os_str().as_bytes();
    Some(Text::new(link.strip_suffix(b" (deleted)").unwrap_or(link)))
}

/// Whether `/proc/PID/exe` may be used: by now the process may have gone on to another program,
/// which only the inode, or else the name, can tell.
fn is_still_program(wanted: &Wanted<'_>) -> bool {
    if wanted.identity.1 != 0 || wanted.path.is_empty() {
        return true;
    }
    let target = std::fs::read_link(format!("/proc/{}/exe", wanted.pid.0)).unwrap_or_default();
    let target = target.as_os_str().as_bytes();
    target.strip_suffix(b" (deleted)").unwrap_or(target) == wanted.path.as_bytes()
}

/// Whether an opened file is the mapped one and not a successor under its name.
fn is_same(wanted: &Wanted<'_>, meta: &Metadata, elf: Option<&Elf>) -> bool {
    if !wanted.build_id.is_empty() {
        return elf.is_some_and(|elf| elf.build_id == wanted.build_id);
    }
    // Only the inode: btrfs and overlayfs show another device number in mappings than in stat.
    wanted.identity.1 == 0 || wanted.identity.1 == meta.ino()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_under_the_same_name_is_refused() {
        let path = std::env::current_exe().expect("a running test has a file");
        let text = Text::new(path.as_os_str().as_bytes());
        let inode = std::fs::metadata(&path).expect("it exists").ino();
        let mut wanted = Wanted {
            pid: Pid(u32::MAX),
            path: &text,
            identity: (0, inode),
            build_id: &[],
            range: None,
            program: false,
        };
        assert!(open(&wanted).is_some());
        wanted.identity = (0, inode + 1);
        assert!(open(&wanted).is_none());
        wanted.build_id = b"another";
        wanted.identity = (0, inode);
        assert!(open(&wanted).is_none());
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        assert!(open_regular(Path::new("/dev/null")).is_none());
        assert!(open_regular(Path::new("/proc")).is_none());
    }
}
