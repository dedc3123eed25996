//! What would the run take if ...: the trace replayed with something changed.
//!
//! ```text
//!  history --extract--> model: each thread's operations, queue delays left out
//!     model --sim--> T0: must be what the run took, else nothing is claimed
//!     model + change --sim--> T1        speedup = T0 / T1
//! ```
//!
//! Delays in queues (for CPUs, locks, work) are not taken from the trace but come about
//! again, so that a change here shows there. What is not seen cannot change: caches, memory
//! bandwidth, spinning, locks that nobody ever waited for. See [`BLIND_SPOTS`].

mod candidates;
mod change;
mod emit;
mod extract;
mod fit;
mod handover;
mod holds;
mod load;
mod model;
mod random;
mod resample;
mod resolve;
mod scenario;
mod sim;
mod sites;
mod whatif;
mod workers;

#[cfg(test)]
mod gil_tests;
#[cfg(test)]
mod truth_tests;
#[cfg(test)]
pub(crate) mod world;

pub use candidates::Replayed;
pub use candidates::replayed;
pub use change::BadChange;
pub use change::Change;
pub use change::GRAMMAR;
pub use whatif::Answer;
pub use whatif::BLIND_SPOTS;
pub use whatif::Facts;
pub use whatif::Identity;
pub use whatif::Replay;
pub use whatif::cpus;
pub use whatif::ended;
pub use whatif::what_if;
pub use whatif::with_facts;
