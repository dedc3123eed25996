//! What is summed up of an object while a trace is walked.

use crate::model::FastMap;
use crate::model::FastSet;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::ThreadId;

/// What is summed up of an object.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Number of waits.
    pub waits: u64,
    /// Time waited.
    pub time: Nanos,
    /// The longest wait.
    pub longest: Nanos,
    /// Who waited.
    pub waiters: FastSet<ThreadId>,
    /// The last one, which spares most look-ups in the set.
    last_waiter: Option<ThreadId>,
    /// Stacks: how often each was taken, and the time that it stands for.
    pub sites: FastMap<StackId, (u64, Nanos)>,
    /// Other objects that were summed up in this one.
    pub others: u64,
}

impl Tally {
    /// Counts a wait.
    pub fn add(&mut self, thread: ThreadId, time: Nanos) {
        self.waits += 1;
        self.time += time;
        self.longest = self.longest.max(time);
        if self.last_waiter != Some(thread) {
            self.last_waiter = Some(thread);
            self.waiters.insert(thread);
        }
    }

    /// Counts the stack of a wait.
    pub fn add_site(&mut self, stack: StackId, weight: Nanos) {
        self.add_sites(stack, 1, weight);
    }

    fn add_sites(&mut self, stack: StackId, count: u64, weight: Nanos) {
        let site = self.sites.entry(stack).or_default();
        site.0 += count;
        site.1 += weight;
    }

    /// Takes over what was summed up of another object.
    pub fn merge(&mut self, other: Self) {
        self.waits += other.waits;
        self.time += other.time;
        self.longest = self.longest.max(other.longest);
        self.waiters.extend(other.waiters);
        self.others += other.others + 1;
        // Sums: the order in which they are added does not show.
        other
            .sites
            .into_iter()
            .for_each(|(stack, (count, time))| self.add_sites(stack, count, time));
    }
}
