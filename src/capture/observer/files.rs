//! The three files of a thread that a look reads, kept open: opening each anew costs several
//! times what reading it does. A file stays that of its thread even if the id is used again.
#![allow(clippy::disallowed_methods)] // the impure edge reads files

use crate::model::FastMap;
use crate::model::Pid;
use crate::model::Tid;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Threads whose files stay open: three descriptors each of the usual 1024.
const MOST: usize = 128;

/// Longest text in them: a `stat` line has 52 numbers.
const LONGEST: usize = 1280;

/// Which file.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// Times the thread got a CPU, among others.
    SchedStat,
    /// Its state letter, among others.
    Stat,
    /// The system call it is in.
    Syscall,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::SchedStat => "schedstat",
            Self::Stat => "stat",
            Self::Syscall => "syscall",
        }
    }
}

/// Open files of threads.
#[derive(Debug, Default)]
pub struct Files {
    open: FastMap<(Pid, Tid), [Option<File>; 3]>,
}

/// The text of a file.
pub struct Content {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Content {
    /// The text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Files {
    /// Reads a file of a thread as it is now.
    pub fn read(&mut self, pid: Pid, tid: Tid, which: Which) -> io::Result<Content> {
        let full = self.open.len() >= MOST && !self.open.contains_key(&(pid, tid));
        if full && let Some(&other) = self.open.keys().next() {
            self.open.remove(&other);
        }
        let slot = &mut self.open.entry((pid, tid)).or_default()[which as usize];
        let kept = slot.is_some();
        let result = read(slot, pid, tid, which);
        match result {
            // Of a former owner of the id: the present one has another file.
            Err(_) if kept => {
                *slot = None;
                read(slot, pid, tid, which)
            }
            other => other,
        }
    }

    /// Closes the files of a thread.
    pub fn close(&mut self, pid: Pid, tid: Tid) {
        self.open.remove(&(pid, tid));
    }
}

fn read(slot: &mut Option<File>, pid: Pid, tid: Tid, which: Which) -> io::Result<Content> {
    let path = || format!("/proc/{}/task/{}/{}", pid.0, tid.0, which.name());
    let file = if let Some(file) = slot { file } else { slot.insert(File::open(path())?) };
    let mut content = Content { bytes: [0; LONGEST], len: 0 };
    content.len = file.read_at(&mut content.bytes, 0)?;
    Ok(content)
}
