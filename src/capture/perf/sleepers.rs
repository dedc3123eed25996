//! Which threads sleep right now and are worth a look from outside. Pure.
//!
//! Fed with records as they are read, before they are settled: a wait of a few milliseconds
//! would be over by then. What this says is a hint and no more: records of another CPU may be
//! missing still. The look itself checks that the thread sleeps, and is credited by its time to
//! the wait that the settled records find around it.

use super::record::Raw;
use super::record::What;
use crate::model::FastMap;
use crate::model::Left;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Tid;

/// Waits that were looked at are gone through this often, for those so long that they are due again.
const AGAIN: Nanos = Nanos::from_millis(100);

/// A thread that has been off the CPU for a while.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sleeper {
    /// When it left.
    pub since: Nanos,
    /// The thread.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
}

#[derive(Debug)]
struct Entry {
    pid: Pid,
    /// Time of its last switch.
    since: Nanos,
    /// That switch was out, and not by preemption.
    blocked: bool,
    /// It stands in `fresh`.
    listed: bool,
    /// Looks during this wait.
    looks: u32,
    /// When it was last looked at, in this wait or before.
    looked: Nanos,
}

/// The sleeping threads of the tree.
#[derive(Debug, Default)]
pub struct Sleepers {
    threads: FastMap<Tid, Entry>,
    /// How many of them are not blocked.
    awake: usize,
    /// Threads that fell asleep and were not looked at since, each once; others may stand there.
    fresh: Vec<Tid>,
    /// When those that were looked at were last gone through.
    again: Nanos,
}

impl Sleepers {
    /// Takes the next record. Those of one thread should come in time order; older ones are ignored.
    pub fn feed(&mut self, raw: &Raw) {
        let blocked = match &raw.what {
            What::In => false,
            What::Out { preempted } => !preempted,
            What::Found(found) => matches!(found.left, Some(Left::Blocked { .. })),
            What::Exit(task) => {
                self.forget(task.tid);
                return;
            }
            _ => return,
        };
        let (time, tid, pid) = (raw.time, raw.tid, raw.pid);
        let entry = self.threads.entry(tid).or_insert_with(|| {
            self.awake += 1;
            Entry { pid, since: time, blocked: false, listed: false, looks: 0, looked: Nanos::ZERO }
        });
        if time < entry.since {
            return;
        }
        match (entry.blocked, blocked) {
            (false, true) => self.awake -= 1,
            (true, false) => self.awake += 1,
            _ => {}
        }
        entry.since = time;
        entry.blocked = blocked;
        // The switches before this wait may have been read later than the look at it.
        entry.looks = u32::from(entry.looked > time);
        if blocked && entry.looks == 0 && !entry.listed {
            entry.listed = true;
            self.fresh.push(tid);
        }
    }

    /// Threads blocked for at least `least` at `now` that were not looked at in this wait, or
    /// not for ten times as long as at the last look. Longest waits first. And when the next
    /// thread that sleeps now will have slept for `least`.
    pub fn due(&mut self, now: Nanos, least: Nanos) -> (Vec<Sleeper>, Option<Nanos>) {
        let (mut due, mut next) = (Vec::new(), None);
        let threads = &mut self.threads;
        self.fresh.retain(|&tid| {
            let Some(entry) = threads.get_mut(&tid) else { return false };
            entry.listed = entry.blocked && entry.looks == 0;
            if entry.listed && now - entry.since >= least {
                due.push(Sleeper { since: entry.since, tid, pid: entry.pid });
            } else if entry.listed {
                let at = entry.since + least;
                next = Some(next.map_or(at, |next: Nanos| next.min(at)));
            }
            entry.listed
        });
        if now - self.again >= AGAIN {
            self.again = now;
            let again =
                threads.iter().filter(|(_, e)| e.blocked && e.looks > 0).filter(|(_, e)| {
                    // Seen at first, then not before 1 s, 10 s, 100 s: a deadlock stays described.
                    let wait = 1_000_000_000_u64.saturating_mul(10_u64.saturating_pow(e.looks - 1));
                    now - e.since >= Nanos(wait)
                });
            due.extend(again.map(|(&tid, e)| Sleeper { since: e.since, tid, pid: e.pid }));
        }
        due.sort_unstable();
        (due, next)
    }

    /// Notes that `tid` was looked at, at `time`, whatever came of it.
    pub fn looked(&mut self, tid: Tid, time: Nanos) {
        if let Some(entry) = self.threads.get_mut(&tid) {
            entry.looks += 1;
            entry.looked = time;
        }
    }

    /// `tid` is gone, though its exit was not seen.
    pub fn forget(&mut self, tid: Tid) {
        let gone = self.threads.remove(&tid);
        self.awake -= usize::from(gone.is_some_and(|entry| !entry.blocked));
    }

    /// Threads that run or want to.
    pub fn awake(&self) -> usize {
        self.awake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Nanos = Nanos::from_millis(2);

    fn at(sleepers: &mut Sleepers, ms: u64, tid: u32, what: What) {
        let time = Nanos::from_millis(ms);
        sleepers.feed(&Raw { time, tid: Tid(tid), pid: Pid(1), cpu: 0, what });
    }

    fn due(sleepers: &mut Sleepers, ms: u64) -> (Vec<u32>, Option<u64>) {
        let (due, next) = sleepers.due(Nanos::from_millis(ms), LEAST);
        (due.iter().map(|s| s.tid.0).collect(), next.map(|next| next.0 / 1_000_000))
    }

    const OUT: What = What::Out { preempted: false };

    #[test]
    fn a_wait_is_due_once_when_it_is_old_enough_and_the_longest_first() {
        let mut sleepers = Sleepers::default();
        at(&mut sleepers, 1000, 7, OUT);
        at(&mut sleepers, 1001, 6, OUT);
        assert_eq!(due(&mut sleepers, 1001), (vec![], Some(1002)));
        assert_eq!(due(&mut sleepers, 1002), (vec![7], Some(1003)));
        // Not looked at: over budget. Still due.
        assert_eq!(due(&mut sleepers, 1004), (vec![7, 6], None));
        sleepers.looked(Tid(7), Nanos::from_millis(1004));
        sleepers.looked(Tid(6), Nanos::from_millis(1004));
        assert_eq!(due(&mut sleepers, 1500), (vec![], None));
        // A deadlock is looked at again after a second, and then after ten.
        assert_eq!(due(&mut sleepers, 2100), (vec![7, 6], None));
        sleepers.looked(Tid(7), Nanos::from_millis(2100));
        sleepers.forget(Tid(6));
        assert_eq!(due(&mut sleepers, 5000), (vec![], None));
        assert_eq!(due(&mut sleepers, 11_000), (vec![7], None));
    }

    #[test]
    fn who_runs_was_preempted_or_is_gone_is_not_due() {
        let mut sleepers = Sleepers::default();
        at(&mut sleepers, 1, 7, OUT);
        at(&mut sleepers, 2, 7, What::In);
        at(&mut sleepers, 1, 8, What::Out { preempted: true });
        at(&mut sleepers, 1, 9, OUT);
        let task = crate::capture::perf::record::Task {
            pid: Pid(1),
            ppid: Pid(1),
            tid: Tid(9),
            ptid: Tid(1),
        };
        at(&mut sleepers, 2, 9, What::Exit(task));
        assert_eq!(due(&mut sleepers, 50), (vec![], None));
        assert_eq!(sleepers.awake(), 2);
        // A record of another CPU that comes late changes nothing.
        at(&mut sleepers, 1, 7, OUT);
        assert_eq!(due(&mut sleepers, 51), (vec![], None));
        at(&mut sleepers, 52, 7, OUT);
        assert_eq!(due(&mut sleepers, 60), (vec![7], None));
    }

    #[test]
    fn a_look_that_came_before_its_records_counts_for_its_wait() {
        let mut sleepers = Sleepers::default();
        at(&mut sleepers, 1, 7, OUT);
        sleepers.looked(Tid(7), Nanos::from_millis(6));
        at(&mut sleepers, 4, 7, What::In);
        at(&mut sleepers, 5, 7, OUT);
        assert_eq!(due(&mut sleepers, 20), (vec![], None));
        at(&mut sleepers, 21, 7, What::In);
        at(&mut sleepers, 22, 7, OUT);
        assert_eq!(due(&mut sleepers, 30), (vec![7], None));
    }
}
