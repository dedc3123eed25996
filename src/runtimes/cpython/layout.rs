//! Where CPython keeps what is read: plain numbers, one set for each kind of build.
//!
//! For 3.8 to 3.12 the numbers are a table (`tables.rs`). From 3.13 on the interpreter carries
//! them itself, in the first bytes of `_PyRuntime` (`offsets.rs`), and only what those do not
//! tell (the inside of the GIL, the bits of a string's state) is from a table.
//!
//! # What was verified, and what was not
//!
//! x86-64 and glibc only. "Numbers" says what gave them; "read" that `tests/python_reader.rs` has
//! compared, for 13 waiting threads, every frame's name, file and line, the thread's two ids and
//! each first argument's `id()` and type with what the program says of itself, and under load the
//! holders of the GIL and the words of futexes waited in.
//!
//! | build | numbers | read |
//! |---|---|---|
//! | 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 (shared libraries, glibc 2.36) | gdb | yes |
//! | 3.13.0 (the same) | the build itself, gdb agrees | yes |
//! | 3.11.2 of Debian 12 (stripped, no library) | the table made from 3.11.7 | yes |
//! | 3.13.18, 3.14.10, 3.15.2 of Debian sid (stripped, glibc 2.43) | the build, headers agree | yes |
//! | 3.13.5 free-threaded (from Debian's source, glibc 2.36) | the build itself | yes, but for the GIL |
//!
//! From 3.12 on with a subinterpreter that has its own GIL, where Python offers them.
//!
//! Of asyncio's tasks (`asyncio.rs`) the same test has compared names, coroutines and who awaits them,
//! in ten kinds of steps, on each of these. Where a task's fields are is from gdb (3.8 to 3.13), and from
//! `.AsyncioDebug` (3.14, 3.15).
//!
//! Not read by this code:
//!
//! - free-threaded builds of 3.14 and 3.15: only their headers were read, for the copies of code
//!   (`frame_copy`, `code_copies`) and where the bits of a string's state are;
//! - debug builds (`--with-pydebug`), musl, 32 bits, other processors;
//! - other micro releases of 3.8 to 3.12. A build that differs in what `Reader::open` checks (its
//!   interpreters, its GIL, its first thread) is refused; one that differs in frames or code
//!   objects alone would have its stacks counted as torn, or without names.

use super::Unknown;
use super::Version;
use super::offsets;
use super::tables;

/// A field that this build does not have.
pub const ABSENT: u32 = u32::MAX;

/// How a frame says which instruction it is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum InstructionForm {
    /// 3.8 and 3.9: `int`, bytes from the first instruction; -1 before it.
    #[default]
    Bytes = 0,
    /// 3.10: `int`, code units (2 bytes) from the first instruction; -1 before it.
    Units = 1,
    /// 3.11 and later: the address of the code unit.
    Address = 2,
}

/// How a code object keeps its lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum LineForm {
    /// 3.8 and 3.9: pairs of steps (bytes of code, signed lines), `co_lnotab`.
    #[default]
    Steps = 0,
    /// 3.10: pairs of (bytes of code, signed lines or -128 for none), `co_linetable`.
    Ranges = 1,
    /// 3.11 and later: variable-length location entries, `co_linetable`.
    Locations = 2,
}

/// Where one build of CPython keeps what is read.
///
/// All offsets are bytes from the start of the struct named by the field's prefix; `_bytes` are
/// sizes in bytes. What the build does not have is [`ABSENT`]. Plain 32-bit numbers in a fixed
/// order, so that they can be handed to a program in the kernel as they are. Sources: see the
/// module's documentation for 3.8 to 3.12 and what is in no self-description, and
/// `Include/internal/pycore_debug_offsets.h` for the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Layout {
    /// 11 for 3.11.
    pub minor: u32,
    /// 1 for a free-threaded build, else 0.
    pub free_threaded: u32,

    /// `sizeof(_PyRuntimeState)`; 0 where it differs between builds of the minor version.
    pub runtime_bytes: u32,
    /// `_PyRuntime.interpreters.head`: pointer to the first interpreter.
    pub runtime_interpreters: u32,
    /// `_PyRuntime.ceval.gil`: the GIL itself. Absent from 3.12 on.
    pub runtime_gil: u32,

    /// `PyInterpreterState.next`.
    pub interpreter_next: u32,
    /// `PyInterpreterState.threads.head` (`tstate_head` in 3.8 to 3.10).
    pub interpreter_threads: u32,
    /// `PyInterpreterState.id`: 64 bits.
    pub interpreter_id: u32,
    /// `PyInterpreterState.ceval.gil`: pointer to the GIL. Absent below 3.12.
    pub interpreter_gil: u32,
    /// `PyInterpreterState.modules` (`imports.modules` from 3.12 on): pointer to `sys.modules`.
    pub interpreter_modules: u32,

    /// `sizeof(struct _gil_runtime_state)`: 208, free-threaded 216.
    pub gil_bytes: u32,
    /// `enabled`, 32 bits: 0 while a free-threaded build runs without the GIL. Else absent.
    pub gil_enabled: u32,
    /// `interval`: 64 bits, microseconds.
    pub gil_interval: u32,
    /// `last_holder`: pointer to the thread state that has or had it.
    pub gil_last_holder: u32,
    /// `locked`: 32 bits; -1 before it was initialised.
    pub gil_locked: u32,
    /// `switch_number`: 64 bits, how often it went to another thread.
    pub gil_switch_number: u32,
    /// `cond`: the condition variable that threads wait in for the GIL.
    pub gil_cond: u32,
    /// `mutex`.
    pub gil_mutex: u32,
    /// `switch_cond`: where a thread that was forced to release waits for the next one.
    pub gil_switch_cond: u32,
    /// `switch_mutex`.
    pub gil_switch_mutex: u32,

    /// Bytes of a thread state that hold all of the fields below.
    pub thread_bytes: u32,
    /// `PyThreadState.next`.
    pub thread_next: u32,
    /// `PyThreadState.interp`.
    pub thread_interpreter: u32,
    /// `frame` (3.8 to 3.10), `cframe` (3.11, 3.12) or `current_frame` (3.13 and later).
    pub thread_frame: u32,
    /// Offset in the struct behind `cframe` of the pointer to the frame. Absent where
    /// `thread_frame` is that pointer itself.
    pub cframe_frame: u32,
    /// `thread_id`: the address of the C library's struct, as `pthread_self` returns it.
    pub thread_pthread: u32,
    /// `native_thread_id`: 64 bits, the kernel's id of the thread. Absent below 3.11.
    pub thread_native: u32,
    /// `datastack_chunk`: the newest chunk of memory for frames. Absent below 3.11.
    pub thread_chunk: u32,
    /// The kernel's id (32 bits) in the C library's struct, for where `thread_native` is absent.
    /// glibc on x86-64.
    pub pthread_tid: u32,

    /// `_PyStackChunk.previous`. Absent where `thread_chunk` is.
    pub chunk_previous: u32,
    /// `_PyStackChunk.size`: 64 bits, bytes with this header.
    pub chunk_size: u32,

    /// Bytes of a frame that hold all of the fields below, the first local variable included.
    pub frame_bytes: u32,
    /// `f_back` or `previous`.
    pub frame_previous: u32,
    /// `f_code` or `f_executable`: the code object, with tag bits from 3.14 on (see `tag_bits`).
    pub frame_code: u32,
    /// `f_lasti`, `prev_instr` or `instr_ptr`.
    pub frame_instruction: u32,
    /// What that is.
    pub instruction_form: InstructionForm,
    /// `owner`, 8 bits. Absent below 3.11.
    pub frame_owner: u32,
    /// From this owner on, a frame is the interpreter's own and no Python function.
    pub owner_first_shim: u32,
    /// `is_entry`, 8 bits: 3.11 only.
    pub frame_entry: u32,
    /// `localsplus`: pointers to the local variables, tagged from 3.14 on.
    pub frame_locals: u32,
    /// `tlbc_index`, 32 bits: which copy of the code is run. Free-threaded 3.14 and later.
    pub frame_copy: u32,
    /// Low bits of a pointer in a frame that are no part of the address.
    pub tag_bits: u32,

    /// Bytes of a code object that hold all of the fields below.
    pub code_bytes: u32,
    /// `co_filename`.
    pub code_filename: u32,
    /// `co_name`.
    pub code_name: u32,
    /// `co_qualname`. Absent below 3.11.
    pub code_qualname: u32,
    /// `co_firstlineno`: 32 bits.
    pub code_first_line: u32,
    /// `co_lnotab` or `co_linetable`: a bytes object.
    pub code_lines: u32,
    /// What that is.
    pub line_form: LineForm,
    /// `co_code_adaptive`: the instructions themselves. Absent below 3.11.
    pub code_instructions: u32,
    /// `co_tlbc`: pointer to a count and the addresses of the copies of the code.
    /// Free-threaded 3.14 and later.
    pub code_copies: u32,

    /// `func_code` of a function.
    pub function_code: u32,
    /// The code object of a coroutine: `cr_code`, or from 3.12 on the one in its frame, with tag
    /// bits from 3.14 on.
    pub coroutine_code: u32,

    /// Its frame: inside of it, or (below 3.11) `cr_frame`, a pointer to it.
    pub coroutine_frame: u32,

    /// `asyncio_running_task` of a thread state: the task that the thread is in. Absent below 3.14.
    pub thread_task: u32,
    /// `task_name` of asyncio's `Task` written in C (`TaskObj`). Absent in free-threaded builds.
    pub task_name: u32,
    /// `task_coro`: pointer to its coroutine.
    pub task_coroutine: u32,
    /// `task_awaited_by`: who awaits it, or a set of them. Absent below 3.14.
    pub task_awaiter: u32,
    /// Bits of flags, 8 bits: whether that is a set. Absent below 3.14.
    pub task_awaiters: u32,

    /// `ob_type`.
    pub object_type: u32,
    /// `tp_name`: pointer to a C string.
    pub type_name: u32,
    /// `ob_size` of bytes: 64 bits.
    pub bytes_length: u32,
    /// `ob_sval`.
    pub bytes_data: u32,
    /// `length` of a string: 64 bits, code points.
    pub string_length: u32,
    /// `state`: 32 bits of bit fields.
    pub string_state: u32,
    /// Where `kind` (3 bits) begins in it; `compact` and `ascii` follow.
    pub string_kind_shift: u32,
    /// Where the characters of an ASCII string begin.
    pub string_ascii: u32,
    /// Where those of any other compact string begin.
    pub string_compact: u32,
}

impl Layout {
    /// For the interpreter whose `_PyRuntime` begins with the bytes `start` (1 KiB is enough;
    /// fewer where the struct is shorter). `version` is what else tells of it: the symbol
    /// `Py_Version`, or the file name.
    pub fn new(start: &[u8], version: Option<Version>) -> Result<Self, Unknown> {
        if let Some(own) = offsets::version(start)? {
            let other = version.filter(|v| v.minor != own.minor);
            return match other {
                Some(other) => Err(Unknown::Disagreement(own, other)),
                None => offsets::layout(start, own),
            };
        }
        let version = version.ok_or(Unknown::NoVersion)?;
        tables::layout(version)
    }

    /// Whether threads that wait for the interpreter's locks sleep on a word on their own stack, with the
    /// address of the lock before it (`struct wait_entry` of `Python/parking_lot.c`). Locks of programs
    /// are such since 3.14, and in free-threaded builds since 3.13.
    pub fn parks(&self) -> bool {
        self.minor >= 14 || self.minor == 13 && self.free_threaded == 1
    }

    /// Bytes of the table of a dictionary before its index (`PyDictKeysObject`).
    pub fn table_head(&self) -> u32 {
        if self.minor <= 10 { 40 } else { 32 }
    }

    /// Whether frames lie in chunks of memory that can be read at once (3.11 and later).
    pub fn has_chunks(&self) -> bool {
        self.thread_chunk != ABSENT
    }
}
