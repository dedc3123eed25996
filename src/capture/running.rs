//! Processes that already run: whether one can be recorded, and what it is called.
#![allow(clippy::disallowed_methods)] // the impure edge: it reads files of /proc

use super::procfs;
use super::sys::host;
use crate::model::Pid;
use crate::model::Text;
use crate::model::Tid;
use std::os::unix::fs::MetadataExt as _;

/// A process to attach to.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its id.
    pub pid: Pid,
    /// Its command line; its name where it has none.
    pub command: Vec<Text>,
}

/// Why a process cannot be attached to, and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CannotAttach {
    /// Nothing has this id.
    #[error("there is no process {0}; `ps -e` lists those that run")]
    NoSuch(u32),
    /// It is a thread's id.
    #[error(
        "{0} is a thread, not a process; attach to its process, {1}, to record all its threads"
    )]
    Thread(u32, u32),
    /// A zombie.
    #[error("process {0} has ended and only waits to be collected; there is nothing to record")]
    Ended(u32),
    /// A thread of the kernel's own.
    #[error("process {0} is a kernel thread; only programs can be recorded")]
    Kernel(u32),
    /// Somebody else's.
    #[error("process {0} belongs to another user; record it as that user or with sudo")]
    NotYours(u32),
    /// Ourselves.
    #[error("process {0} is this timesink; name the process that you want explained")]
    Own(u32),
}

/// Looks at a process.
pub fn find(pid: u32) -> Result<Running, CannotAttach> {
    let process = Pid(pid);
    let about = std::fs::metadata(format!("/proc/{pid}")).ok();
    let (about, status) =
        about.zip(procfs::read_process(process, "status")).ok_or(CannotAttach::NoSuch(pid))?;
    let group = procfs::status_field(&status, "Tgid:").and_then(|text| text.parse().ok());
    match group {
        Some(group) if group != pid => return Err(CannotAttach::Thread(pid, group)),
        _ if pid == std::process::id() => return Err(CannotAttach::Own(pid)),
        _ => {}
    }
    let stat = procfs::read_task(process, Tid(pid), "stat");
    let stat = stat.and_then(|stat| procfs::parse_stat(&stat)).ok_or(CannotAttach::NoSuch(pid))?;
    if matches!(stat.state, b'Z' | b'X') && procfs::threads(process).len() < 2 {
        return Err(CannotAttach::Ended(pid));
    }
    if stat.vsize == 0 && stat.state != b'Z' {
        return Err(CannotAttach::Kernel(pid));
    }
    let own = host::effective_uid();
    if own != 0 && about.uid() != own {
        return Err(CannotAttach::NotYours(pid));
    }
    let mut command = procfs::argv(process);
    if command.is_empty() {
        command.push(stat.comm);
    }
    Ok(Running { pid: process, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_run_can_be_attached_to() {
        let own = std::process::id();
        assert_eq!(find(own).err(), Some(CannotAttach::Own(own)));
        assert_eq!(find(u32::MAX).err(), Some(CannotAttach::NoSuch(u32::MAX)));
        let link = std::fs::read_link("/proc/thread-self").expect("own thread");
        let tid = link.file_name().and_then(|name| name.to_str()).expect("a number");
        let tid = tid.parse().expect("a number");
        assert_eq!(find(tid).err(), Some(CannotAttach::Thread(tid, own)), "a test has its thread");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let found = find(child.id());
        child.kill().expect("ours");
        let found = found.expect("it runs");
        assert_eq!(found.pid, Pid(child.id()));
        while find(child.id()) != Err(CannotAttach::Ended(child.id())) {
            std::thread::yield_now();
        }
        child.wait().expect("ours");
    }

    impl PartialEq for Running {
        fn eq(&self, other: &Self) -> bool {
            self.pid == other.pid
        }
    }
}
