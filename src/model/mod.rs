//! The domain: time, ids, events, thread states, timelines, stacks. Pure.
//!
//! Nothing here knows files, clocks, threads, terminals or the kernel's interfaces;
//! the compiler and `tests/architecture.rs` see to it.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod call;
mod damage;
mod event;
mod ids;
mod map;
mod stack;
mod state;
mod text;
mod time;
mod trace;

pub use call::*;
pub use damage::*;
pub use event::*;
pub use ids::*;
pub use map::*;
pub use stack::*;
pub use state::*;
pub use text::*;
pub use time::*;
pub use trace::*;
