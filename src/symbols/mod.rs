//! From addresses to names: address spaces, unwinding of dumped stacks, symbols.
//!
//! [`Namer`] is the one entry. It is told what processes map, in order, and given raw
//! stacks; it gives back ids of stacks and the definitions behind them.
//!
//! Limits, all of which show in the counts or in the names and never as an invented frame
//! without evidence on the stack:
//!
//! - Stack bytes are unwound on x86-64 only; elsewhere the kernel's frame-pointer chain is used.
//! - Only the stack and frame pointers are followed. Call frame information that needs another
//!   register, or memory other than a signal's saved registers, falls back to frame pointers.
//! - A frame pointer that could not be read is looked for on the stack (see `unwind`); the slot
//!   must lie below a return address, and lead to the outermost function.
//! - Code without a symbol is called by its function's first address, `gzip+0x42e0`, as its call
//!   frame information has it; where there is none of that, by the address itself.
//! - While names are looked up, blazesym maps the file. One that is cut short in that moment
//!   (overwritten in place, which no linker or package manager does) ends the recorder.
//! - Frames and stacks met stay in memory, about 100 bytes for each distinct one.

mod callsite;
mod demangle;
mod elf;
mod extent;
mod files;
mod intern;
mod jit;
mod module;
mod namer;
mod resolve;
mod script;
mod signal;
mod space;
mod unwind;
mod variable;
mod way_out;

use crate::model::Pid;
use crate::model::Text;

pub use namer::Namer;
pub use script::Interpreter;
pub use script::ScriptFrame;

/// A new program image, as the kernel knows it right after exec.
#[derive(Clone, Debug)]
pub struct Image {
    /// The process.
    pub pid: Pid,
    /// Path of the program, from the process's root.
    pub path: Text,
    /// Device and inode of the program (0, 0 if not seen).
    pub identity: (u64, u64),
    /// Auxiliary vector entries `AT_PHDR`, `AT_ENTRY`, `AT_BASE` (load address of the
    /// interpreter) and `AT_SYSINFO_EHDR` (vdso); 0 where not seen.
    pub at_phdr: u64,
    /// See `at_phdr`.
    pub at_entry: u64,
    /// See `at_phdr`.
    pub at_base: u64,
    /// See `at_phdr`.
    pub at_sysinfo_ehdr: u64,
}

/// An executable mapping of a file.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The process.
    pub pid: Pid,
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset in the file of `start`.
    pub file_offset: u64,
    /// Path of the file, from the process's root.
    pub path: Text,
    /// Device and inode (0, 0 if not seen).
    pub identity: (u64, u64),
    /// Build id, empty if not seen.
    pub build_id: Vec<u8>,
}

/// A stack as it was taken: registers, stack bytes, and what the kernel walked.
#[derive(Clone, Debug, Default)]
pub struct RawStack {
    /// The process.
    pub pid: Pid,
    /// User-space registers; `None` for a stack without a user part.
    pub registers: Option<Registers>,
    /// Bytes of the user stack from `sp` upwards; may be empty.
    pub bytes: Vec<u8>,
    /// User addresses by frame pointers as the kernel walked them, innermost first; may be empty.
    pub chain: Vec<u64>,
    /// Kernel addresses, innermost first; may be empty.
    pub kernel: Vec<u64>,
}

/// User-space registers that unwinding starts from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer; `None` when taken from outside, where it cannot be read.
    pub fp: Option<u64>,
}
