//! What futex words are, from the stacks that were seen waiting on them.

use super::Nanos;
use super::ProcessId;
use super::State;
use super::map::FastMap;

/// For each futex word of each process: the state that stacks taken there call for.
///
/// Votes are weighed by the blocked time a stack stands for: a word that glibc reuses for
/// another purpose after a free keeps the meaning that explains most of the time.
#[derive(Clone, Debug, Default)]
pub struct Words {
    votes: FastMap<(u32, u64), [Nanos; State::ALL.len()]>,
}

impl Words {
    /// Counts a stack that calls for `state`, standing for `weight` of blocked time.
    pub fn vote(&mut self, process: ProcessId, address: u64, state: State, weight: Nanos) {
        let votes = self.votes.entry((process.0, address)).or_default();
        // The extra stack of a first wait stands for no time, but it is all that is known.
        votes[state as usize] += weight + Nanos(1);
    }

    /// Takes what is known of a word, against any number of stacks.
    pub fn know(&mut self, process: ProcessId, address: u64, state: State) {
        const CERTAIN: Nanos = Nanos(1 << 62);
        self.votes.entry((process.0, address)).or_default()[state as usize] += CERTAIN;
    }

    /// The state with the most votes; the first in the order of the budget if equal.
    pub fn state(&self, process: ProcessId, address: u64) -> Option<State> {
        let votes = self.votes.get(&(process.0, address))?;
        let most = votes.iter().max()?;
        State::ALL.into_iter().find(|&state| votes[state as usize] == *most && !most.is_zero())
    }
}
