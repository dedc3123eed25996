//! What is known of language runtimes, read from outside through a [`Memory`]. Pure.
//!
//! Nothing here stops, writes to or trusts the program that is read: its memory is torn, old and
//! hostile. Every loop has a limit, every length is bounded before anything is allocated, and
//! what does not hold together is counted and dropped, never guessed.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod cpython;
mod memory;

pub use memory::Memory;
pub use memory::MemoryExt;
pub use memory::Piece;
