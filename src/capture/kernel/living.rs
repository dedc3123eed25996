//! Which processes of the tree live, so that a recording of running ones knows when it is over.
#![allow(clippy::disallowed_methods)] // the impure edge: it reads files of /proc

use crate::capture::procfs;
use crate::model::Pid;
use std::collections::BTreeSet;

/// Ids of processes that began and did not end.
#[derive(Debug, Default)]
pub struct Living {
    pids: BTreeSet<Pid>,
    /// Exits may be missing: only `/proc` can tell.
    in_doubt: bool,
}

impl Living {
    /// A process began, or was found.
    pub fn begin(&mut self, pid: Pid) {
        self.pids.insert(pid);
    }

    /// The last thread of a process ended.
    pub fn end(&mut self, pid: Pid) {
        self.pids.remove(&pid);
    }

    /// Records of starts and exits were lost.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Whether nobody lives any more.
    pub fn is_over(&mut self) -> bool {
        if self.in_doubt {
            self.pids.retain(|&pid| procfs::lives(pid));
        }
        self.pids.is_empty()
    }

    /// Those that live.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.pids.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_the_last_has_ended_or_is_not_in_proc() {
        let (own, gone) = (Pid(std::process::id()), Pid(u32::MAX));
        let mut living = Living::default();
        assert!(living.is_over());
        living.begin(own);
        living.begin(gone);
        living.end(own);
        assert!(!living.is_over(), "an exit that will come");
        living.doubt();
        assert!(living.is_over(), "an exit that was lost");
        living.begin(own);
        assert!(!living.is_over());
    }
}
