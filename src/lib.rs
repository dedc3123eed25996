//! timesink: run any program and be told where its time went, with numbers that add up.
//!
//! A recorder ([`capture`]) delivers events; a trace file ([`trace`]) keeps them; timelines
//! ([`model`]) put every thread into exactly one [`State`](model::State) at any time;
//! [`analysis`] folds them into a [`Report`](analysis::Report); [`export`] writes it in each
//! format; [`runtimes`] knows where language runtimes keep what they do; [`session`] wires all
//! of it for the command line ([`cli`]). The rooms and what each may use are drawn in
//! `docs/ARCHITECTURE.md`.
//!
//! From a made-up trace to a report:
//!
//! ```
//! use timesink::analysis::analyse;
//! use timesink::model::*;
//!
//! let (tid, pid) = (Tid(1), Pid(1));
//! let (parent_tid, parent_pid) = (Tid(0), Pid(0));
//! let lock = Call { number: 202, arg0: 0x1000, arg1: 0x80, arg2: 2, ..Call::default() };
//! let trace = MemoryTrace::new(vec![
//!     Event::Start(Start { time: Nanos(0), tid, pid, parent_tid, parent_pid, how: StartKind::Root }),
//!     // Ran 100 ns, waited 700 for a lock and 50 for a CPU, then ran again.
//!     Event::Interval(Interval::blocked(tid, Nanos(100), Nanos(800), Nanos(850), Some(lock))),
//!     Event::Exit(Exit {
//!         time: Nanos(1_000),
//!         tid,
//!         pid,
//!         how: ExitKind::Process { status: Some(0) },
//!         books: Books::default(),
//!     }),
//! ]);
//! let report = analyse(&trace, None);
//! let states = report.budget.states.0;
//! assert_eq!(states[State::Running], Nanos(250));
//! assert_eq!(states[State::Lock], Nanos(700));
//! assert_eq!(states[State::Runnable], Nanos(50));
//! assert_eq!(states.total().0, report.wall_ns);
//! assert_eq!(report.verdict.kind, "lock-bound");
//! ```
#![deny(unsafe_code)]

// Scenes that unit tests share with the tests in `tests/` name the crate as those do.
#[cfg(test)]
extern crate self as timesink;

pub mod analysis;
pub mod capture;
pub mod cli;
pub mod export;
pub mod model;
pub mod runtimes;
pub mod session;
pub mod symbols;
pub mod trace;
