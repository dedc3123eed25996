//! Processes that ran before the recording, as `/proc` has them: who they are, what they run, and
//! what they had done before. Serves every tier.
#![allow(clippy::disallowed_methods)] // the impure edge: it reads files of /proc

use super::CaptureError;
use super::naming::Job;
use super::procfs;
use crate::model::Books;
use crate::model::Event;
use crate::model::Exec;
use crate::model::FastMap;
use crate::model::Moved;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Tid;
use std::collections::BTreeMap;
use std::io;

/// The kernel's counts of found threads, as of when they were found: what came before is not ours.
#[derive(Debug, Default)]
pub struct Bases(FastMap<Tid, (Books, Option<Moved>)>);

impl Bases {
    /// Notes what a thread had when it was found, and had read and written.
    pub fn note(&mut self, tid: Tid, books: Books, moved: Option<Moved>) {
        self.0.insert(tid, (books, moved));
    }

    /// Takes off what a found thread had when it was found. `ended`: it will not be asked again.
    pub fn since_found(&mut self, tid: Tid, books: Books, ended: bool) -> Books {
        let since = self.since(tid, books);
        if ended {
            self.0.remove(&tid);
        }
        since
    }

    /// The same of a thread that lives.
    pub fn since(&self, tid: Tid, mut books: Books) -> Books {
        let Some((base, _)) = self.0.get(&tid) else { return books };
        let less = |now: &mut Option<u64>, then: Option<u64>| {
            *now = now.map(|now| now.saturating_sub(then.unwrap_or(0)));
        };
        less(&mut books.voluntary, base.voluntary);
        less(&mut books.involuntary, base.involuntary);
        less(&mut books.runs, base.runs);
        less(&mut books.runs_seen, base.runs_seen);
        books.cpu = books.cpu.map(|cpu| cpu - base.cpu.unwrap_or_default());
        books.queued = books.queued.map(|queued| queued - base.queued.unwrap_or_default());
        books
    }

    /// The same of what it read and wrote; to be asked before it is said to have ended.
    pub fn moved_since_found(&self, mut moved: Moved) -> Moved {
        if let Some((_, Some(base))) = self.0.get(&moved.tid) {
            moved.read_bytes = moved.read_bytes.saturating_sub(base.read_bytes);
            moved.written_bytes = moved.written_bytes.saturating_sub(base.written_bytes);
        }
        moved
    }
}

/// A process of the tree that is attached to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub pid: Pid,
    /// Its parent, whether that is in the tree or not.
    pub parent: Pid,
    /// Its threads, in order.
    pub tids: Vec<Tid>,
}

/// `roots` and all their descendants as of now, parents before their children.
pub fn tree(roots: &[Pid]) -> Vec<Member> {
    let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    let mut parents: BTreeMap<Pid, Pid> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid);
        let Some(pid) = pid else { continue };
        let stat = procfs::read_process(pid, "stat").and_then(|stat| procfs::parse_stat(&stat));
        let Some(stat) = stat else { continue };
        children.entry(stat.ppid).or_default().push(pid);
        parents.insert(pid, stat.ppid);
    }
    let mut members = Vec::new();
    let mut waiting: Vec<Pid> = roots.iter().rev().copied().collect();
    // Whoever was met is taken out: a root may be another root's descendant, and ids may be reused
    // while we read, which makes circles possible.
    while let Some(pid) = waiting.pop() {
        let Some(parent) = parents.remove(&pid) else { continue };
        // Below a root that is not reached through it is told with that one.
        if roots.contains(&pid) && has_root_above(&parents, parent, roots) {
            parents.insert(pid, parent);
            continue;
        }
        members.push(Member { pid, parent, tids: procfs::threads(pid) });
        waiting.extend(children.remove(&pid).unwrap_or_default());
    }
    members
}

/// Whether a root that is still to come is among the ancestors.
fn has_root_above(parents: &BTreeMap<Pid, Pid>, from: Pid, roots: &[Pid]) -> bool {
    let mut at = from;
    for _ in 0..parents.len() {
        let Some(&parent) = parents.get(&at) else { return false };
        if roots.contains(&at) {
            return true;
        }
        at = parent;
    }
    false
}

/// What a process runs and where its code lies, as of now: an exec since then has an event of
/// its own, which comes later.
pub fn tell_program(
    time: Nanos,
    pid: Pid,
    jobs: &mut dyn FnMut(Job),
    event: &mut dyn FnMut(Event),
) {
    if let Some(path) = procfs::exe(pid) {
        let (old_tid, argv) = (pid.into(), procfs::argv(pid));
        event(Event::Exec(Exec { time, pid, old_tid, path, argv }));
    }
    let maps = procfs::read_process(pid, "maps").unwrap_or_default();
    for mapping in procfs::parse_maps(pid, &maps) {
        jobs(Job::Map(mapping));
    }
}

/// That none of those who were named is there any more.
pub fn all_gone() -> CaptureError {
    CaptureError::Os {
        doing: "attaching to the processes".to_owned(),
        source: io::Error::other("all of them have ended; `ps -e` lists what runs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_count_from_when_a_thread_was_found() {
        let then = Books { runs: Some(5), cpu: Some(Nanos(100)), ..Books::default() };
        let now = Books { runs: Some(7), cpu: Some(Nanos(130)), ..Books::default() };
        let mut bases = Bases::default();
        let moved =
            |read_bytes| Moved { time: Nanos(9), tid: Tid(1), read_bytes, written_bytes: 5 };
        bases.note(Tid(1), then, Some(moved(70)));
        let since = bases.moved_since_found(moved(100));
        assert_eq!((since.read_bytes, since.written_bytes), (30, 0));
        let since = bases.since_found(Tid(1), now, true);
        assert_eq!((since.runs, since.cpu), (Some(2), Some(Nanos(30))));
        assert_eq!(bases.since_found(Tid(1), now, true), now, "another thread of that id");
    }

    #[test]
    fn a_tree_is_its_roots_with_all_below_each_once_and_parents_first() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let (own, sleeper) = (Pid(std::process::id()), Pid(child.id()));
        let found = tree(&[sleeper, own, own]);
        child.kill().expect("ours");
        child.wait().expect("ours");
        let place = |pid| found.iter().position(|member| member.pid == pid).expect("in the tree");
        assert!(place(own) < place(sleeper), "{found:?}");
        assert_eq!(found.iter().filter(|member| member.pid == sleeper).count(), 1);
        assert_eq!(found[place(sleeper)].parent, own);
        assert!(found[place(own)].tids.len() > 1, "a test has its thread");
        assert!(tree(&[Pid(u32::MAX)]).is_empty());
    }
}
