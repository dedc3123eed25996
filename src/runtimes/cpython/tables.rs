//! The numbers of 3.8 to 3.12, which say nothing of themselves, and those that later versions
//! leave out. From gdb on builds with debug information (see `layout.rs`).

use super::ABSENT;
use super::InstructionForm;
use super::Layout;
use super::LineForm;
use super::Unknown;
use super::Version;

/// `tid` in glibc's `struct pthread` on x86-64.
const PTHREAD_TID: u32 = 720;

/// The GIL: `struct _gil_runtime_state` has not changed from 3.8 to 3.15; in free-threaded
/// builds `enabled` precedes the rest. All offsets of sub-ranges are those of both layouts of
/// glibc's condition variable (before and since 2.41), whose size is the same.
pub(super) fn gil(free_threaded: bool) -> Layout {
    let shift = if free_threaded { 8 } else { 0 };
    Layout {
        gil_bytes: 208 + shift,
        gil_enabled: if free_threaded { 0 } else { ABSENT },
        gil_interval: shift,
        gil_last_holder: 8 + shift,
        gil_locked: 16 + shift,
        gil_switch_number: 24 + shift,
        gil_cond: 32 + shift,
        gil_mutex: 80 + shift,
        gil_switch_cond: 120 + shift,
        gil_switch_mutex: 168 + shift,
        ..Layout::default()
    }
}

/// From 3.13 on, what builds do not tell of functions and of asyncio's tasks (of those
/// `.AsyncioDebug` of 3.14 and 3.15 does, and agrees); with the GIL.
pub(super) fn tasks(minor: u32, free_threaded: bool) -> Layout {
    let (name, coroutine, awaiter, awaiters) = match minor {
        _ if free_threaded => (ABSENT, ABSENT, ABSENT, ABSENT),
        13 => (128, 120, ABSENT, ABSENT),
        _ => (136, 128, 96, 109),
    };
    let thread = match minor {
        13 => ABSENT,
        14 => 872,
        _ => 1032,
    };
    Layout {
        function_code: 48,
        coroutine_code: 72,
        coroutine_frame: 72,
        thread_task: if free_threaded { ABSENT } else { thread },
        task_name: name,
        task_coroutine: coroutine,
        task_awaiter: awaiter,
        task_awaiters: awaiters,
        ..gil(free_threaded)
    }
}

/// What every build has in common, as 3.8 has it where versions differ.
fn oldest() -> Layout {
    Layout {
        minor: 8,
        runtime_interpreters: 32,
        runtime_gil: 1152,
        interpreter_next: 0,
        interpreter_threads: 8,
        interpreter_id: 16,
        interpreter_gil: ABSENT,
        interpreter_modules: 56,
        thread_bytes: 184,
        thread_next: 8,
        thread_interpreter: 16,
        thread_frame: 24,
        cframe_frame: ABSENT,
        thread_pthread: 176,
        thread_native: ABSENT,
        thread_chunk: ABSENT,
        pthread_tid: PTHREAD_TID,
        chunk_previous: ABSENT,
        chunk_size: ABSENT,
        frame_bytes: 368,
        frame_previous: 24,
        frame_code: 32,
        frame_instruction: 104,
        instruction_form: InstructionForm::Bytes,
        frame_owner: ABSENT,
        owner_first_shim: ABSENT,
        frame_entry: ABSENT,
        frame_locals: 360,
        frame_copy: ABSENT,
        code_bytes: 128,
        code_filename: 104,
        code_name: 112,
        code_qualname: ABSENT,
        code_first_line: 40,
        code_lines: 120,
        line_form: LineForm::Steps,
        code_instructions: ABSENT,
        code_copies: ABSENT,
        function_code: 16,
        coroutine_code: 32,
        coroutine_frame: 16,
        thread_task: ABSENT,
        task_name: 120,
        task_coroutine: 112,
        task_awaiter: ABSENT,
        task_awaiters: ABSENT,
        object_type: 8,
        type_name: 24,
        bytes_length: 16,
        bytes_data: 32,
        string_length: 16,
        string_state: 32,
        string_kind_shift: 2,
        string_ascii: 48,
        string_compact: 72,
        ..gil(false)
    }
}

fn of_3_9() -> Layout {
    Layout {
        minor: 9,
        runtime_gil: 352,
        interpreter_id: 24,
        interpreter_modules: 856,
        task_name: 160,
        task_coroutine: 152,
        ..oldest()
    }
}

fn of_3_10() -> Layout {
    Layout {
        minor: 10,
        frame_bytes: 360,
        frame_instruction: 96,
        instruction_form: InstructionForm::Units,
        frame_locals: 352,
        line_form: LineForm::Ranges,
        function_code: 48,
        coroutine_code: 24,
        task_name: 168,
        task_coroutine: 160,
        ..of_3_9()
    }
}

fn of_3_11() -> Layout {
    Layout {
        minor: 11,
        runtime_interpreters: 40,
        runtime_gil: 360,
        interpreter_threads: 16,
        interpreter_id: 48,
        interpreter_modules: 888,
        thread_bytes: 304,
        thread_frame: 56,
        cframe_frame: 8,
        thread_pthread: 152,
        thread_native: 160,
        thread_chunk: 296,
        chunk_previous: 0,
        chunk_size: 8,
        frame_bytes: 80,
        frame_previous: 48,
        frame_code: 32,
        frame_instruction: 56,
        instruction_form: InstructionForm::Address,
        frame_owner: 69,
        owner_first_shim: 3,
        frame_entry: 68,
        frame_locals: 72,
        code_bytes: 144,
        code_filename: 112,
        code_name: 120,
        code_qualname: 128,
        code_first_line: 72,
        code_lines: 136,
        line_form: LineForm::Locations,
        code_instructions: 184,
        coroutine_code: 16,
        coroutine_frame: 80,
        task_name: 144,
        task_coroutine: 136,
        ..of_3_10()
    }
}

fn of_3_12() -> Layout {
    Layout {
        minor: 12,
        runtime_gil: ABSENT,
        interpreter_threads: 72,
        interpreter_id: 8,
        interpreter_gil: 384,
        interpreter_modules: 944,
        thread_bytes: 240,
        cframe_frame: 0,
        thread_pthread: 136,
        thread_native: 144,
        thread_chunk: 232,
        frame_previous: 8,
        frame_code: 0,
        frame_owner: 70,
        frame_entry: ABSENT,
        code_first_line: 68,
        code_instructions: 192,
        coroutine_code: 72,
        coroutine_frame: 72,
        string_ascii: 40,
        string_compact: 56,
        ..of_3_11()
    }
}

/// The layout of a version that does not describe itself.
pub(super) fn layout(version: Version) -> Result<Layout, Unknown> {
    match version.minor {
        _ if version.pre_release => Err(Unknown::Version(version)),
        8 => Ok(oldest()),
        9 => Ok(of_3_9()),
        10 => Ok(of_3_10()),
        11 => Ok(of_3_11()),
        12 => Ok(of_3_12()),
        13..=15 => Err(Unknown::NoCookie(version)),
        _ => Err(Unknown::Version(version)),
    }
}
