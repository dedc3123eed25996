//! The kinds of objects, and names with and without them.

use super::Key;
use super::What;
use crate::model::FdKind;
use crate::model::ObjectInfo;
use crate::model::State;
use crate::model::Text;

/// The kind of an object, for the report.
pub fn kind(key: Key) -> &'static str {
    match (key.state, key.what) {
        (_, What::Cpus) => "cpu",
        (State::Condvar, What::Call(..)) => "call",
        (State::Lock, _) => "lock",
        (State::Gil, _) => "gil",
        (State::Condvar, _) => "condvar",
        (State::Join, _) => "join",
        (State::Sleep, _) => "timer",
        (State::Child, _) => "child",
        (State::PageFault, _) => "memory",
        (State::Network, _) => "socket",
        (State::Pipe, _) => "pipe",
        (_, What::Inode(FdKind::Epoll, ..) | What::Descriptor(_, _, FdKind::Epoll)) => "epoll",
        (State::Disk, What::Inode(..) | What::Descriptor(..)) => "file",
        (State::Disk, _) => "disk",
        (State::Unknown, _) => "unknown",
        _ => "call",
    }
}

/// Whether a description says more than the kind.
pub fn has_name(info: &ObjectInfo) -> bool {
    let label = info.label.as_bytes();
    !label.is_empty() && label != info.kind.name().as_bytes() && !label.starts_with(b"anon_inode:")
}

/// A described object: its kind and label, without saying `pipe pipe`.
pub fn named(fd: FdKind, label: &Text, inode: u64) -> String {
    let label = label.to_string();
    match label.strip_prefix(fd.name()) {
        Some("") => format!("{label} inode {inode}"),
        Some(rest) if rest == format!(":[{inode}]") => format!("{fd} inode {inode}"),
        Some(_) => label,
        None => format!("{fd} {label}"),
    }
}
