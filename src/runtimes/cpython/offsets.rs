//! What an interpreter says of itself: `_Py_DebugOffsets`, the first bytes of `_PyRuntime` since
//! 3.13. A cookie, the version, whether it is free-threaded, then groups of 64-bit numbers, each
//! group headed by the size of the struct that it describes.

use super::ABSENT;
use super::InstructionForm;
use super::Layout;
use super::LineForm;
use super::Unknown;
use super::Version;
use super::tables;

const COOKIE: &[u8] = b"xdebugpy";

/// Largest struct believed: a free-threaded `_PyRuntime` has 330 KB.
const LARGEST: u64 = 4 << 20;

/// Largest part of an object that is read: frames and code objects have 264 bytes at most, a
/// thread state up to its last field here 264.
const LARGEST_PART: u32 = 1024;

/// The version that `start` tells, `None` where it holds no self-description.
pub(super) fn version(start: &[u8]) -> Result<Option<Version>, Unknown> {
    if !start.starts_with(COOKIE) {
        return Ok(None);
    }
    let hex = word(start, 1).ok_or(Unknown::Unreadable)?;
    Version::from_hex(hex).map(Some).ok_or(Unknown::Offset("version", hex))
}

fn word(start: &[u8], index: usize) -> Option<u64> {
    start.as_chunks::<8>().0.get(index).copied().map(u64::from_le_bytes)
}

/// Reads the groups, one after the other.
struct Groups<'a> {
    start: &'a [u8],
    next: usize,
}

impl Groups<'_> {
    fn word(&mut self) -> Result<u64, Unknown> {
        let word = word(self.start, self.next).ok_or(Unknown::Unreadable)?;
        self.next += 1;
        Ok(word)
    }

    fn skip(&mut self, words: usize) {
        self.next += words;
    }

    /// A group with its size in front. Its fields are believed when they lie in the struct and
    /// have the alignment of a pointer (or, where that is less, of what they are).
    fn group<const N: usize>(
        &mut self,
        what: &'static str,
        align: [u64; N],
    ) -> Result<(u32, [u32; N]), Unknown> {
        let size = self.word()?;
        if size == 0 || size > LARGEST {
            return Err(Unknown::Offset(what, size));
        }
        let mut fields = [ABSENT; N];
        for (field, align) in fields.iter_mut().zip(align) {
            let value = self.word()?;
            // 0: of no interest.
            if align != 0 && (value > size.saturating_sub(align) || value % align != 0) {
                return Err(Unknown::Offset(what, value));
            }
            *field = u32::try_from(value).unwrap_or(ABSENT);
        }
        Ok((size as u32, fields))
    }
}

/// The layout that a self-description of `version` tells.
pub(super) fn layout(start: &[u8], version: Version) -> Result<Layout, Unknown> {
    if version.pre_release || !(13..=15).contains(&version.minor) {
        return Err(Unknown::Version(version));
    }
    let minor = u32::from(version.minor);
    let free_threaded = match word(start, 2).ok_or(Unknown::Unreadable)? {
        flag @ (0 | 1) => flag == 1,
        other => return Err(Unknown::Offset("free-threaded flag", other)),
    };
    let mut groups = Groups { start, next: 3 };
    let mut layout = Layout {
        minor,
        free_threaded: u32::from(free_threaded),
        instruction_form: InstructionForm::Address,
        line_form: LineForm::Locations,
        runtime_gil: ABSENT,
        cframe_frame: ABSENT,
        frame_entry: ABSENT,
        pthread_tid: ABSENT,
        chunk_previous: 0,
        chunk_size: 8,
        owner_first_shim: 3,
        tag_bits: if minor >= 14 { 3 } else { 0 },
        // The count of uses of a string that is shared takes a byte there.
        string_kind_shift: if free_threaded && minor >= 14 { 8 } else { 2 },
        ..tables::tasks(minor, free_threaded)
    };
    states(&mut groups, &mut layout)?;
    frames_and_code(&mut groups, &mut layout)?;
    objects(&mut groups, &mut layout)?;
    Ok(layout)
}

/// The runtime, its interpreters and their threads.
fn states(groups: &mut Groups<'_>, layout: &mut Layout) -> Result<(), Unknown> {
    let (size, [_, head]) = groups.group("runtime", [0, 8])?;
    (layout.runtime_bytes, layout.runtime_interpreters) = (size, head);

    let (size, [id, next, threads]) = groups.group("interpreter", [8, 8, 8])?;
    layout.interpreter_id = id;
    layout.interpreter_next = next;
    layout.interpreter_threads = threads;
    // Main thread (3.14 and later), collector.
    groups.skip(if layout.minor >= 14 { 2 } else { 1 });
    let modules = groups.word()?;
    if modules > u64::from(size) - 8 || !modules.is_multiple_of(8) {
        return Err(Unknown::Offset("pointer to the modules", modules));
    }
    layout.interpreter_modules = modules as u32;
    // System dictionary, builtins.
    groups.skip(2);
    let (pointer, own) = (groups.word()?, groups.word()?);
    if pointer > u64::from(size) - 8 || !pointer.is_multiple_of(8) {
        return Err(Unknown::Offset("pointer to the GIL", pointer));
    }
    layout.interpreter_gil = pointer as u32;
    // Its inside is from a table: what is told of it must agree.
    let (_, locked, holder) = (groups.word()?, groups.word()?, groups.word()?);
    for (told, known) in [(locked, layout.gil_locked), (holder, layout.gil_last_holder)] {
        if told.wrapping_sub(own) != u64::from(known) {
            return Err(Unknown::Offset("GIL's field", told));
        }
    }
    // Generations of code objects and of copies of code.
    groups.skip(if layout.minor >= 14 { 2 } else { 0 });

    let (_, [_, next, interpreter, frame]) = groups.group("thread", [0, 8, 8, 8])?;
    layout.thread_next = next;
    layout.thread_interpreter = interpreter;
    layout.thread_frame = frame;
    // The outermost frame, and what the profiler of 3.15 keeps.
    groups.skip(if layout.minor >= 15 { 3 } else { 0 });
    let mut last = [0; 3];
    for field in &mut last {
        let value = groups.word()?;
        if value > u64::from(LARGEST_PART) - 8 || !value.is_multiple_of(8) {
            return Err(Unknown::Offset("thread", value));
        }
        *field = value as u32;
    }
    [layout.thread_pthread, layout.thread_native, layout.thread_chunk] = last;
    layout.thread_bytes =
        part("thread", &[next, interpreter, frame, last[0], last[1], last[2]], 8)?;
    // Status; the GIL's flags and the exceptions of 3.15.
    groups.skip(if layout.minor >= 15 { 6 } else { 1 });
    Ok(())
}

fn frames_and_code(groups: &mut Groups<'_>, layout: &mut Layout) -> Result<(), Unknown> {
    let (_, [previous, code, instruction, locals, owner]) =
        groups.group("frame", [8, 8, 8, 8, 1])?;
    layout.frame_previous = previous;
    layout.frame_code = code;
    layout.frame_instruction = instruction;
    layout.frame_locals = locals;
    layout.frame_owner = owner;
    layout.frame_copy = ABSENT;
    if layout.minor >= 14 {
        let (_stack, copy) = (groups.word()?, groups.word()?);
        if layout.free_threaded == 1 {
            layout.frame_copy = u32::try_from(copy).unwrap_or(ABSENT);
        }
    }
    let copy = Some(layout.frame_copy).filter(|&at| at != ABSENT).unwrap_or(0);
    layout.frame_bytes = part("frame", &[previous, code, instruction, locals, owner, copy], 8)?;

    let (_, [filename, name, qualname, lines, first_line, _, _, _, instructions]) =
        groups.group("code object", [8, 8, 8, 8, 4, 0, 0, 0, 2])?;
    layout.code_filename = filename;
    layout.code_name = name;
    layout.code_qualname = qualname;
    layout.code_lines = lines;
    layout.code_first_line = first_line;
    layout.code_instructions = instructions;
    layout.code_copies = ABSENT;
    if layout.minor >= 14 {
        let copies = groups.word()?;
        if layout.free_threaded == 1 {
            layout.code_copies = u32::try_from(copies).unwrap_or(ABSENT);
        }
    }
    let copies = Some(layout.code_copies).filter(|&at| at != ABSENT).unwrap_or(0);
    layout.code_bytes =
        part("code object", &[filename, name, qualname, lines, first_line, copies], 8)?;
    Ok(())
}

fn objects(groups: &mut Groups<'_>, layout: &mut Layout) -> Result<(), Unknown> {
    let newest = layout.minor >= 15;
    (_, [layout.object_type]) = groups.group("object", [8])?;
    (_, [layout.type_name, _, _]) = groups.group("type", [8, 0, 0])?;
    // Size and dictionary of an object's type, and types made by programs.
    groups.skip(if newest { 4 } else { 0 });
    // Tuples, lists, sets (3.14 and later), dictionaries, floats, integers.
    groups.skip(if layout.minor >= 14 { 18 } else { 14 });
    (_, [layout.bytes_length, layout.bytes_data]) = groups.group("bytes", [8, 1])?;
    let (size, [state, length]) = groups.group("string", [4, 8])?;
    (layout.string_state, layout.string_length) = (state, length);
    let ascii = groups.word()?;
    // Its length as UTF-8, and the pointer to that.
    let compact = if newest { groups.word()? } else { ascii.saturating_add(16) };
    if ascii < 16 || ascii >= compact || compact > u64::from(size) {
        return Err(Unknown::Offset("string", ascii));
    }
    (layout.string_ascii, layout.string_compact) = (ascii as u32, compact as u32);
    Ok(())
}

/// Bytes from the start of a struct that hold fields of up to `width` bytes.
fn part(what: &'static str, fields: &[u32], width: u32) -> Result<u32, Unknown> {
    let last = fields.iter().copied().max().unwrap_or(0);
    let end = last.saturating_add(width);
    if end > LARGEST_PART { Err(Unknown::Offset(what, last.into())) } else { Ok(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first words behind the cookie of three builds, as they were found in their files.
    const OF_3_13_0: &[u64] = &[
        0x30d_00f0, 0, 283_320, 608, 632, 194_968, 7272, 7264, 7344, 7400, 7656, 7640, 7648, 16,
        7752, 0, 7768, 7760, 304, 0, 8, 16, 72, 152, 160, 232, 32, 80, 8, 0, 56, 72, 70, 208, 112,
        120, 128, 136, 68, 52, 96, 104, 200, 16, 8, 416, 24, 88, 168, 32, 24, 16, 40, 24, 16, 48,
        32, 40, 24, 16, 32, 16, 24, 40, 16, 32, 64, 32, 16, 40, 240, 200,
    ];
    const OF_3_14_10: &[u64] = &[
        0x30e_0af0, 0, 316_616, 784, 808, 225_864, 7280, 7272, 7344, 7360, 7408, 7688, 7672, 7680,
        16, 7784, 0, 7800, 7792, 7992, 0, 832, 0, 8, 16, 72, 152, 160, 232, 32, 88, 8, 0, 56, 80,
        74, 64, 0, 216, 112, 120, 128, 136, 68, 52, 96, 104, 208, 0, 16, 8, 416, 24, 88, 168, 40,
        32, 16, 40, 24, 16, 200, 24, 40, 32, 48, 32, 40, 24, 16, 32, 16, 24, 40, 16, 32, 64, 32,
        16, 40, 264, 192,
    ];
    const OF_3_15_2: &[u64] = &[
        0x30f_02f0, 0, 346_568, 912, 936, 226_240, 7272, 7264, 7336, 7352, 7400, 7592, 7576, 7584,
        16, 7736, 0, 7752, 7744, 7944, 0, 888, 0, 8, 16, 72, 80, 88, 96, 176, 184, 256, 32, 36, 40,
        136, 288, 0, 88, 8, 0, 56, 80, 74, 64, 0, 216, 112, 120, 128, 136, 68, 52, 96, 104, 208, 0,
        16, 8, 424, 24, 88, 168, 32, 288, 944, 888, 40, 32, 16, 40, 24, 16, 200, 24, 40, 32, 48,
        32, 40, 24, 16, 32, 16, 24, 40, 16, 32, 64, 32, 16, 40, 56, 176, 112,
    ];

    fn bytes(words: &[u64]) -> Vec<u8> {
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        COOKIE.iter().copied().chain(words).collect()
    }

    #[test]
    fn builds_tell_where_they_keep_things() {
        let of_3_13 = Layout::new(&bytes(OF_3_13_0), None).expect("known");
        let known = tables::layout(Version { minor: 12, micro: None, pre_release: false });
        let expected = Layout {
            minor: 13,
            runtime_bytes: 283_320,
            runtime_interpreters: 632,
            interpreter_next: 7264,
            interpreter_threads: 7344,
            interpreter_id: 7272,
            interpreter_gil: 16,
            interpreter_modules: 7656,
            thread_frame: 72,
            cframe_frame: ABSENT,
            thread_pthread: 152,
            thread_native: 160,
            pthread_tid: ABSENT,
            code_instructions: 200,
            task_name: 128,
            task_coroutine: 120,
            ..known.expect("in the table")
        };
        assert_eq!(of_3_13, expected);
        let of_3_14 = Layout::new(&bytes(OF_3_14_10), None).expect("known");
        let expected = Layout {
            minor: 14,
            runtime_bytes: 316_616,
            runtime_interpreters: 808,
            interpreter_next: 7272,
            interpreter_id: 7280,
            interpreter_modules: 7688,
            frame_bytes: 88,
            frame_owner: 74,
            frame_locals: 80,
            tag_bits: 3,
            code_instructions: 208,
            task_name: 136,
            task_coroutine: 128,
            thread_task: 872,
            task_awaiter: 96,
            task_awaiters: 109,
            ..of_3_13
        };
        assert_eq!(of_3_14, expected);
        let of_3_15 = Layout::new(&bytes(OF_3_15_2), None).expect("known");
        let expected = Layout {
            minor: 15,
            runtime_bytes: 346_568,
            runtime_interpreters: 936,
            interpreter_next: 7264,
            interpreter_threads: 7336,
            interpreter_id: 7272,
            interpreter_modules: 7592,
            thread_bytes: 264,
            thread_pthread: 176,
            thread_native: 184,
            thread_chunk: 256,
            thread_task: 1032,
            ..of_3_14
        };
        assert_eq!(of_3_15, expected);
    }

    #[test]
    fn a_free_threaded_build_has_its_gil_and_strings_elsewhere() {
        let mut words = OF_3_14_10.to_vec();
        (words[1], words[17], words[18]) = (1, words[17] + 8, words[18] + 8);
        let layout = Layout::new(&bytes(&words), None).expect("known");
        assert_eq!((layout.gil_bytes, layout.gil_enabled, layout.gil_cond), (216, 0, 40));
        assert_eq!((layout.string_kind_shift, layout.frame_copy), (8, 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        let known = bytes(OF_3_14_10);
        for cut in 0..known.len() / 8 - 3 {
            assert!(Layout::new(&known[..cut * 8], None).is_err(), "{cut} words");
        }
        for (index, value) in [
            (0, 0x30e_00a1),
            (0, 0x310_00f0),
            (1, 2),
            (4, 1 << 40),
            (7, 225_864),
            (8, 7345),
            (14, 225_860),
            (17, 0),
            (26, 5),
            (32, 1 << 32),
            (39, 300),
            (79, 8),
        ] {
            let mut words = OF_3_14_10.to_vec();
            words[index] = value;
            let refused = Layout::new(&bytes(&words), None).expect_err("refused");
            assert!(!refused.to_string().is_empty(), "{index}: {refused}");
        }
        let version = |minor| Some(Version { minor, micro: None, pre_release: false });
        assert!(matches!(Layout::new(&known, version(13)), Err(Unknown::Disagreement(..))));
        assert_eq!(Layout::new(&[0; 64], None), Err(Unknown::NoVersion));
        for minor in [0, 7, 13, 14, 15, 16, 255] {
            assert!(Layout::new(&[0; 64], version(minor)).is_err(), "3.{minor}");
        }
        for minor in 8..=12 {
            assert_eq!(Layout::new(&[0; 64], version(minor)).map(|l| l.minor), Ok(minor.into()));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_numbers_are_a_layout_or_refused(
            edits in proptest::collection::vec((0usize..82, proptest::num::u64::ANY), 0..6),
            which in 0usize..3,
        ) {
            let mut words = [OF_3_13_0, OF_3_14_10, OF_3_15_2][which].to_vec();
            for (at, value) in edits {
                if let Some(word) = words.get_mut(at) { *word = value; }
            }
            if let Ok(layout) = Layout::new(&bytes(&words), None) {
                for bytes in [layout.thread_bytes, layout.frame_bytes, layout.code_bytes] {
                    proptest::prop_assert!((8..=LARGEST_PART).contains(&bytes));
                }
            }
        }
    }
}
