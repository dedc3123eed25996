//! The sixteen exclusive states of a thread, and sums over them.

use super::Nanos;
use std::fmt;
use std::ops::{Index, IndexMut};

/// What a thread is in at one instant: exactly one of these, always.
///
/// A state names *what the thread waited in*. That a wait timed out, or was an idle
/// worker's, is a property of the wait and never changes its state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum State {
    /// On a CPU.
    Running,
    /// Ready, waiting for a CPU: woken, preempted, yielded, or new.
    Runnable,
    /// A mutex or rwlock.
    Lock,
    /// The global interpreter lock of `CPython`.
    Gil,
    /// A condition variable, semaphore or queue.
    Condvar,
    /// Another thread's end, or a barrier.
    Join,
    /// A timer: nanosleep, or poll/select without descriptors.
    Sleep,
    /// A file or block device.
    Disk,
    /// An IP socket.
    Network,
    /// A pipe, unix socket or eventfd.
    Pipe,
    /// poll, select or epoll over descriptors.
    Poll,
    /// A child process: wait4, vfork.
    Child,
    /// Memory that had to be brought in.
    PageFault,
    /// Stopped by a signal, traced or frozen.
    Stopped,
    /// Seen, but of no class above; listed by system call.
    Other,
    /// The reason was not seen.
    Unknown,
}

impl State {
    /// Every state, in the order of the budget.
    pub const ALL: [Self; 16] = [
        Self::Running,
        Self::Runnable,
        Self::Lock,
        Self::Gil,
        Self::Condvar,
        Self::Join,
        Self::Sleep,
        Self::Disk,
        Self::Network,
        Self::Pipe,
        Self::Poll,
        Self::Child,
        Self::PageFault,
        Self::Stopped,
        Self::Other,
        Self::Unknown,
    ];

    /// The name in every output. These sixteen and no other (see `docs/FORMAT.md`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Lock => "lock",
            Self::Gil => "gil",
            Self::Condvar => "condvar",
            Self::Join => "join",
            Self::Sleep => "sleep",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Pipe => "pipe",
            Self::Poll => "poll",
            Self::Child => "child",
            Self::PageFault => "page_fault",
            Self::Stopped => "stopped",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    /// What the state means, in the words of the text report.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Running => "on a CPU",
            Self::Runnable => "ready, waiting for a CPU",
            Self::Lock => "waiting for a lock",
            Self::Gil => "waiting for Python's GIL",
            Self::Condvar => "waiting for a condition, semaphore or queue",
            Self::Join => "waiting for a thread or barrier",
            Self::Sleep => "sleeping on a timer",
            Self::Disk => "waiting for a file or disk",
            Self::Network => "waiting for the network",
            Self::Pipe => "waiting for a pipe, unix socket or eventfd",
            Self::Poll => "waiting in poll, select or epoll",
            Self::Child => "waiting for a child process",
            Self::PageFault => "waiting for memory to be paged in",
            Self::Stopped => "stopped, traced or frozen",
            Self::Other => "waiting in another system call",
            Self::Unknown => "off the CPU, reason not seen",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// True off the CPU and not merely queued for one.
    pub const fn is_wait(self) -> bool {
        !matches!(self, Self::Running | Self::Runnable)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Time in each state, in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct States([Nanos; State::ALL.len()]);

impl States {
    /// The sum over all states: a thread's lifetime, or the budget.
    pub fn total(&self) -> Nanos {
        self.0.iter().copied().sum()
    }

    /// Time off the CPU and not queued for one.
    pub fn waiting(&self) -> Nanos {
        self.iter().filter(|(state, _)| state.is_wait()).map(|(_, time)| time).sum()
    }

    /// Each state with its time, in the order of the budget, zeroes included.
    pub fn iter(&self) -> impl Iterator<Item = (State, Nanos)> + '_ {
        State::ALL.into_iter().map(|state| (state, self[state]))
    }

    /// Adds another thread's times.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl Index<State> for States {
    type Output = Nanos;
    fn index(&self, state: State) -> &Nanos {
        &self.0[state as usize]
    }
}

impl IndexMut<State> for States {
    fn index_mut(&mut self, state: State) -> &mut Nanos {
        &mut self.0[state as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::{Nanos, State, States};

    #[test]
    fn names_are_unique_and_lead_back() {
        for (i, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, i, "ALL is in discriminant order");
            assert_eq!(State::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn sums_are_over_all_states() {
        let mut states = States::default();
        states[State::Lock] += Nanos(3);
        states[State::Running] += Nanos(4);
        let mut sum = states;
        sum.add(&states);
        assert_eq!(sum.total(), Nanos(14));
        assert_eq!(sum.waiting(), Nanos(6));
    }
}
