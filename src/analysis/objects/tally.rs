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
    pub waiters: Waiters,
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
        self.waiters.insert(thread);
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
        self.waiters.merge(other.waiters);
        self.others += other.others + 1;
        // Sums: the order in which they are added does not show.
        other
            .sites
            .into_iter()
            .for_each(|(stack, (count, time))| self.add_sites(stack, count, time));
    }
}

/// A set of threads that is asked for a member ten million times: the first ones of a run, which
/// are all of most programs, are bits.
#[derive(Clone, Debug, Default)]
pub struct Waiters {
    first: u128,
    later: FastSet<ThreadId>,
}

impl Waiters {
    fn insert(&mut self, thread: ThreadId) {
        if thread.0 < u128::BITS {
            self.first |= 1 << thread.0;
        } else {
            self.later.insert(thread);
        }
    }

    fn merge(&mut self, other: Self) {
        self.first |= other.first;
        self.later.extend(other.later);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.first.count_ones() as usize + self.later.len()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = ThreadId> + '_ {
        let first = (0..u128::BITS).filter(|&id| self.first >> id & 1 == 1).map(ThreadId);
        first.chain(self.later.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waiter_counts_once_whatever_its_number() {
        let (mut few, mut many) = (Waiters::default(), Waiters::default());
        for id in [0, 127, 0, 127] {
            few.insert(ThreadId(id));
        }
        for id in [127, 128, 9_000, 128] {
            many.insert(ThreadId(id));
        }
        few.merge(many);
        let mut ids: Vec<u32> = few.iter().map(|thread| thread.0).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 127, 128, 9_000]);
        assert_eq!(few.len(), 4);
    }
}
