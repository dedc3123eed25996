//! CPython 3.8 to 3.15, read from outside: who has the GIL, and where each thread is.
//!
//! [`Place::of`] says whether a mapped file has an interpreter, [`Reader::open`] checks that its
//! [`Layout`] is known, and [`Reader::snapshot`] tells what each thread is in. Nothing stops the
//! program meanwhile. A thread without the GIL does not change its frames, so what is told of it is
//! exact. One that had it meanwhile is read twice, and told only if it was in the same functions
//! both times; else nothing is told, and that is counted. What goes unnoticed is a thread that
//! left a function and came back to the same place in the midst of both reads, by the same way.

mod asyncio;
mod attributes;
mod batch;
mod code;
mod dict;
mod find;
mod frames;
mod gil;
mod layout;
mod library;
mod lines;
mod offsets;
mod reader;
mod stacks;
mod states;
mod strings;
mod tables;
mod taken;
#[cfg(test)]
mod tests;
mod unknown;
mod version;

use super::Memory;
use super::MemoryExt;

pub use asyncio::Asyncio;
pub use asyncio::NAME_BYTES;
pub use asyncio::TASK_IS_CURRENT;
pub use asyncio::Task;
pub use asyncio::TaskWords;
pub use asyncio::Tasks;
pub use code::Code;
pub use find::Module;
pub use find::Place;
pub use frames::Frame;
pub use frames::MOST_FRAMES;
pub use gil::GilPart;
pub use gil::GilState;
pub use layout::ABSENT;
pub use layout::InstructionForm;
pub use layout::Layout;
pub use layout::LineForm;
pub use reader::Counts;
pub use reader::Object;
pub use reader::Reader;
pub use stacks::Stack;
pub use stacks::Unread;
pub use states::Interpreter;
pub use states::MOST_INTERPRETERS;
pub use states::MOST_THREADS;
pub use states::Thread;
pub use taken::Taken;
pub use unknown::Unknown;
pub use version::Version;
