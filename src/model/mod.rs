//! The domain: time, ids, events, thread states, timelines, stacks. Pure.
//!
//! Nothing here knows files, clocks, threads, terminals or the kernel's interfaces;
//! the compiler and `tests/architecture.rs` see to it.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod call;
mod classify;
mod damage;
mod event;
mod holes;
mod ids;
mod map;
mod runs;
mod stack;
mod stack_state;
mod state;
mod syscalls;
mod task_frame;
mod text;
mod thread;
mod time;
mod timeline;
mod trace;
mod walk;
mod words;

pub use call::*;
pub use classify::*;
pub use damage::*;
pub use event::*;
pub use ids::*;
pub use map::*;
pub use runs::*;
pub use stack::*;
pub use stack_state::*;
pub use state::*;
pub use syscalls::is_futex;
pub use syscalls::syscall_label;
pub use syscalls::syscall_name;
pub use task_frame::*;
pub use text::*;
pub use thread::*;
pub use time::*;
pub use timeline::*;
pub use trace::*;
pub use walk::*;
pub use words::*;
