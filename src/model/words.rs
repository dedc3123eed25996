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
    votes: FastMap<(u32, u64), Votes>,
}

/// The votes on one word, and the state that they call for: it is asked for with every wait.
#[derive(Clone, Debug)]
struct Votes {
    by_state: [Nanos; State::ALL.len()],
    /// The one with the most; the first in the order of the budget if equal.
    winner: State,
}

impl Words {
    /// Counts a stack that calls for `state`, standing for `weight` of blocked time.
    pub fn vote(&mut self, process: ProcessId, address: u64, state: State, weight: Nanos) {
        // The extra stack of a first wait stands for no time, but it is all that is known.
        self.add(process, address, state, weight + Nanos(1));
    }

    /// Takes what is known of a word, against any number of stacks.
    pub fn know(&mut self, process: ProcessId, address: u64, state: State) {
        const CERTAIN: Nanos = Nanos(1 << 62);
        self.add(process, address, state, CERTAIN);
    }

    fn add(&mut self, process: ProcessId, address: u64, state: State, weight: Nanos) {
        let none = || Votes { by_state: Default::default(), winner: state };
        let votes = self.votes.entry((process.0, address)).or_insert_with(none);
        votes.by_state[state as usize] += weight;
        let (sum, most) = (votes.by_state[state as usize], votes.by_state[votes.winner as usize]);
        if sum > most || sum == most && state < votes.winner {
            votes.winner = state;
        }
    }

    /// The state with the most votes; the first in the order of the budget if equal.
    pub fn state(&self, process: ProcessId, address: u64) -> Option<State> {
        self.votes.get(&(process.0, address)).map(|votes| votes.winner)
    }
}
