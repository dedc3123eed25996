//! The reader over drawn memory, sound and hostile.

use std::cell::Cell;
use std::collections::BTreeMap;

mod tasks;

use super::*;
use crate::model::Tid;

const RUNTIME: u64 = 0x10_0000;
const INTERPRETER: u64 = 0x20_0000;
const GIL: u64 = 0x30_0000;
const CODE_TYPE: u64 = 0x40_0000;
const QUEUE_TYPE: u64 = 0x41_0000;
const CODES: u64 = 0x50_0000;
const THREADS: u64 = 0x60_0000;
const CHUNKS: u64 = 0x70_0000;
const OBJECTS: u64 = 0x80_0000;
const PTHREADS: u64 = 0x90_0000;

/// Memory that was drawn byte by byte; what was not cannot be read. Counts the reads, and may be
/// changed by one of them.
#[derive(Default)]
struct Drawn {
    bytes: BTreeMap<u64, u8>,
    reads: Cell<u64>,
    /// From this read on, the bytes behind it.
    later: Option<(u64, Vec<(u64, u64)>)>,
}

impl Drawn {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        self.bytes.extend(bytes.iter().enumerate().map(|(i, &byte)| (address + i as u64, byte)));
    }

    fn word(&mut self, address: u64, word: u64) {
        self.put(address, &word.to_le_bytes());
    }

    fn field(&mut self, object: u64, offset: u32, word: u64) {
        if offset != ABSENT {
            self.word(object + u64::from(offset), word);
        }
    }

    /// Zeros, without which a struct cannot be read whole.
    fn zeros(&mut self, address: u64, length: u32) {
        self.put(address, &vec![0; length as usize]);
    }
}

impl Memory for Drawn {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.reads.set(self.reads.get() + 1);
        for (index, byte) in buffer.iter_mut().enumerate() {
            let at = address.wrapping_add(index as u64);
            let Some(&found) = self.bytes.get(&at) else { return false };
            *byte = found;
        }
        if let Some((from, words)) = &self.later
            && self.reads.get() >= *from
        {
            for (index, byte) in buffer.iter_mut().enumerate() {
                let at = address.wrapping_add(index as u64);
                let covers = |(start, _): &&(u64, u64)| (*start..*start + 8).contains(&at);
                if let Some((start, word)) = words.iter().find(covers) {
                    *byte = word.to_le_bytes()[(at - start) as usize];
                }
            }
        }
        true
    }
}

fn version(minor: u8) -> Version {
    Version { minor, micro: None, pre_release: false }
}

fn place(minor: u8) -> Place {
    Place { runtime: RUNTIME, version_at: None, version: Some(version(minor)) }
}

fn ascii(drawn: &mut Drawn, layout: &Layout, at: u64, text: &str) {
    drawn.zeros(at, layout.string_ascii);
    drawn.field(at, layout.string_length, text.len() as u64);
    // Kind 1, compact, ASCII.
    drawn.put(at + u64::from(layout.string_state), &(0b11001u32 << 2).to_le_bytes());
    drawn.put(at + u64::from(layout.string_ascii), text.as_bytes());
}

fn bytes_object(drawn: &mut Drawn, layout: &Layout, at: u64, bytes: &[u8]) {
    drawn.zeros(at, layout.bytes_data);
    drawn.field(at, layout.bytes_length, bytes.len() as u64);
    drawn.put(at + u64::from(layout.bytes_data), bytes);
}

fn type_object(drawn: &mut Drawn, layout: &Layout, at: u64, name: &str) {
    drawn.field(at, layout.type_name, at + 0x400);
    let mut name = name.as_bytes().to_vec();
    // A read of a C string goes on to the end of its piece.
    name.resize(128, 0);
    drawn.put(at + 0x400, &name);
}

/// Code object number `n`: `function_n` of `file.py`, first line 10 n, next line with each unit.
fn code(drawn: &mut Drawn, layout: &Layout, n: u64) -> u64 {
    let at = CODES + n * 0x1000;
    drawn.zeros(at, layout.code_bytes);
    drawn.field(at, layout.object_type, CODE_TYPE);
    let (name, file, lines) = (at + 0x400, at + 0x600, at + 0x800);
    ascii(drawn, layout, name, &format!("function_{n}"));
    ascii(drawn, layout, file, "file.py");
    let table: Vec<u8> = match layout.line_form {
        LineForm::Steps => [2, 1].repeat(8),
        LineForm::Ranges => [&[2, 0], [2, 1].repeat(8).as_slice()].concat(),
        LineForm::Locations => [&[0xd0, 0, 0], [0xd8, 0, 0].repeat(8).as_slice()].concat(),
    };
    bytes_object(drawn, layout, lines, &table);
    drawn.field(at, layout.code_filename, file);
    drawn.field(at, layout.code_name, name);
    drawn.field(at, layout.code_qualname, name);
    drawn.field(at, layout.code_lines, lines);
    drawn.put(at + u64::from(layout.code_first_line), &(n as u32 * 10).to_le_bytes());
    at
}

/// An interpreter whose thread `t` is in `depth` functions, each of its own code; the outermost
/// is `function_1`. Every frame is at its third unit, with a queue as first local variable.
fn program(layout: &Layout, threads: u64, depth: u64) -> Drawn {
    let mut drawn = Drawn::default();
    drawn.zeros(RUNTIME, 2048);
    drawn.field(RUNTIME, layout.runtime_interpreters, INTERPRETER);
    let gil = match layout.runtime_gil {
        ABSENT => GIL,
        offset => RUNTIME + u64::from(offset),
    };
    drawn.zeros(INTERPRETER, 512);
    drawn.field(INTERPRETER, layout.interpreter_threads, THREADS);
    drawn.field(INTERPRETER, layout.interpreter_gil, GIL);
    drawn.zeros(gil, layout.gil_bytes);
    drawn.field(gil, layout.gil_interval, 5000);
    drawn.field(gil, layout.gil_last_holder, THREADS);
    drawn.field(gil, layout.gil_locked, 1);
    drawn.field(gil, layout.gil_switch_number, 7);
    type_object(&mut drawn, layout, CODE_TYPE, "code");
    type_object(&mut drawn, layout, QUEUE_TYPE, "Queue");
    drawn.field(OBJECTS, layout.object_type, QUEUE_TYPE);
    for n in 1..=depth {
        code(&mut drawn, layout, n);
    }
    for t in 0..threads {
        thread(&mut drawn, layout, t, threads, depth);
    }
    drawn
}

fn thread(drawn: &mut Drawn, layout: &Layout, t: u64, threads: u64, depth: u64) {
    let (at, chunk) = (THREADS + t * 0x1000, CHUNKS + t * 0x8000);
    drawn.zeros(at, layout.thread_bytes);
    drawn.field(at, layout.thread_next, if t + 1 == threads { 0 } else { at + 0x1000 });
    drawn.field(at, layout.thread_interpreter, INTERPRETER);
    let pthread = PTHREADS + t * 0x1000;
    drawn.zeros(pthread, 1024);
    drawn.word(pthread, pthread);
    drawn.word(pthread + 16, pthread);
    drawn.field(pthread, layout.pthread_tid, 100 + t);
    drawn.field(at, layout.thread_pthread, pthread);
    drawn.field(at, layout.thread_native, 100 + t);
    drawn.field(at, layout.thread_chunk, chunk);
    let frame_at = |n: u64| chunk + 0x100 + n * 0x180;
    match layout.cframe_frame {
        ABSENT => drawn.field(at, layout.thread_frame, frame_at(depth)),
        offset => {
            drawn.field(at, layout.thread_frame, at + 0x800);
            drawn.field(at + 0x800, offset, frame_at(depth));
        }
    }
    // All of the chunk up to the innermost frame can be read.
    drawn.zeros(chunk, 0x100 + (depth + 1) as u32 * 0x180 + layout.frame_bytes);
    drawn.word(chunk + 8, 0x8000);
    for n in 1..=depth {
        let (frame, code) = (frame_at(n), CODES + n * 0x1000);
        let instruction = match layout.instruction_form {
            InstructionForm::Bytes => 4,
            InstructionForm::Units => 2,
            InstructionForm::Address => code + u64::from(layout.code_instructions) + 4,
        };
        drawn.field(frame, layout.frame_instruction, instruction);
        drawn.field(frame, layout.frame_previous, if n == 1 { 0 } else { frame_at(n - 1) });
        drawn.field(frame, layout.frame_code, code);
        drawn.field(frame, layout.frame_locals, OBJECTS);
    }
}

fn opened(minor: u8, threads: u64, depth: u64) -> (Drawn, Reader) {
    let layout = tables::layout(version(minor)).expect("in the table");
    let drawn = program(&layout, threads, depth);
    let reader = Reader::open(&drawn, &place(minor)).expect("sound");
    (drawn, reader)
}

#[test]
fn a_drawn_program_is_read_in_every_layout() {
    for minor in 8..=12 {
        let (drawn, mut reader) = opened(minor, 3, 5);
        let snapshot = reader.snapshot(&drawn);
        assert_eq!(snapshot.len(), 3, "3.{minor}");
        for (t, (thread, stack)) in snapshot.iter().enumerate() {
            assert_eq!(thread.tid, Some(Tid(100 + t as u32)));
            let stack = stack.as_ref().expect("nothing moves");
            assert!(stack.still && !stack.truncated && stack.frames.len() == 5);
            for (frame, n) in stack.frames.iter().zip((1..=5).rev()) {
                let code = reader.code(frame.code).expect("met");
                assert_eq!(code.name.to_string(), format!("function_{n}"));
                assert_eq!(code.file.to_string(), "file.py");
                assert_eq!(code.line(frame.instruction), Some(n * 10 + 2), "3.{minor}");
                assert_eq!(code.line(None), Some(n * 10));
                let first = reader.first_local(&drawn, frame).expect("a queue");
                assert_eq!((first.address, first.kind.to_string().as_str()), (OBJECTS, "Queue"));
            }
        }
        let gils = reader.gils(&drawn);
        let state = reader.gil_state(&drawn, gils[0]).expect("in use");
        assert!(state.locked && state.enabled);
        assert_eq!((state.last_holder, state.switches, state.interval_us), (THREADS, 7, 5000));
        let threads: Vec<Thread> = snapshot.into_iter().map(|(thread, _)| thread).collect();
        let again = reader.stacks(&drawn, &threads);
        assert!(again.iter().all(Result::is_ok));
        assert_eq!(reader.counts(), Counts { told: 6, ..Counts::default() });
    }
}

#[test]
fn the_gil_is_known_by_its_parts() {
    let layout = tables::layout(version(11)).expect("in the table");
    for (offset, part) in [
        (0, Some(GilPart::Fields)),
        (31, Some(GilPart::Fields)),
        // The two words of glibc before and since 2.41.
        (32 + 40, Some(GilPart::Wait)),
        (32 + 32, Some(GilPart::Wait)),
        (80, Some(GilPart::Mutex)),
        (120 + 44, Some(GilPart::Handover)),
        (168, Some(GilPart::HandoverMutex)),
        (207, Some(GilPart::HandoverMutex)),
        (208, None),
    ] {
        assert_eq!(layout.gil_part(GIL, GIL + offset), part, "{offset}");
    }
    assert_eq!(layout.gil_part(GIL, GIL - 1), None);
    assert_eq!(layout.gil_range(GIL), GIL..GIL + 208);
    assert_eq!(layout.gil_part(u64::MAX - 8, u64::MAX), Some(GilPart::Fields));
    assert!(!layout.gil_range(u64::MAX - 8).is_empty());
}

#[test]
fn a_thread_that_moved_or_ended_is_not_told() {
    let (mut drawn, mut reader) = opened(12, 1, 3);
    let layout = *reader.layout();
    let thread = reader.threads(&drawn)[0];
    let top = CHUNKS + 0x100 + 3 * 0x180;
    let reads = |drawn: &Drawn, reader: &mut Reader| {
        let before = drawn.reads.get();
        assert!(reader.stacks(drawn, &[thread])[0].is_ok());
        drawn.reads.get() - before
    };
    // The first pass also reads the code objects; from the second one on only checks them.
    reads(&drawn, &mut reader);
    let count = reads(&drawn, &mut reader);
    let codes = 3;
    let from = |drawn: &Drawn| drawn.reads.get() + count - codes - 2;
    // Called on, or returned, while it was read.
    drawn.later = Some((from(&drawn), vec![(THREADS + 0x800, top - 0x180)]));
    assert_eq!(reader.stacks(&drawn, &[thread])[0], Err(Unread::Moved));
    // Another function's frame at the same place.
    let other = (top + u64::from(layout.frame_code), CODES + 0x1000);
    drawn.later = Some((from(&drawn), vec![other]));
    assert_eq!(reader.stacks(&drawn, &[thread])[0], Err(Unread::Moved));
    // The same function, further on.
    let instruction = CODES + 3 * 0x1000 + u64::from(layout.code_instructions) + 8;
    let other = (top + u64::from(layout.frame_instruction), instruction);
    drawn.later = Some((from(&drawn), vec![other]));
    assert!(reader.stacks(&drawn, &[thread])[0].as_ref().is_ok_and(|stack| !stack.still));
    // Its state is another thread's now.
    drawn.later = None;
    drawn.field(THREADS, layout.thread_pthread, PTHREADS + 8);
    assert_eq!(reader.stacks(&drawn, &[thread])[0], Err(Unread::Gone));
    let counts = reader.counts();
    assert_eq!((counts.told, counts.moved, counts.gone), (3, 2, 1));
}

#[test]
fn code_objects_are_asked_anew() {
    let (mut drawn, mut reader) = opened(11, 1, 2);
    let layout = *reader.layout();
    reader.snapshot(&drawn);
    let name = |reader: &Reader| reader.code(CODES + 0x1000).map(|code| code.name.to_string());
    assert_eq!(name(&reader).as_deref(), Some("function_1"));
    // The object was freed, and another one made at its address.
    ascii(&mut drawn, &layout, OBJECTS + 0x1000, "another");
    drawn.field(CODES + 0x1000, layout.code_qualname, OBJECTS + 0x1000);
    reader.snapshot(&drawn);
    assert_eq!(name(&reader).as_deref(), Some("another"));
    // Or something that is none.
    drawn.field(CODES + 0x1000, layout.object_type, QUEUE_TYPE);
    reader.snapshot(&drawn);
    assert_eq!(name(&reader), None);
}

#[test]
fn frames_of_generators_shims_and_older_chunks_are_followed() {
    let (mut drawn, mut reader) = opened(12, 1, 6);
    let layout = *reader.layout();
    let frame_at = |n: u64| CHUNKS + 0x100 + n * 0x180;
    let copy = |drawn: &mut Drawn, from: u64, to: u64| {
        for i in 0..u64::from(layout.frame_bytes) {
            let byte = drawn.bytes[&(from + i)];
            drawn.put(to + i, &[byte]);
        }
    };
    // Innermost: a generator's frame, far away. Its caller's is in the newest chunk, behind a shim
    // on the native stack; the outer three are in the chunk before.
    let (generator, shim, old) = (OBJECTS + 0x4000, OBJECTS + 0x5000, OBJECTS + 0x8000);
    copy(&mut drawn, frame_at(6), generator);
    drawn.put(generator + u64::from(layout.frame_owner), &[1]);
    drawn.field(THREADS + 0x800, layout.cframe_frame, generator);
    drawn.field(generator, layout.frame_previous, shim);
    drawn.zeros(shim, layout.frame_bytes);
    drawn.put(shim + u64::from(layout.frame_owner), &[3]);
    drawn.field(shim, layout.frame_previous, frame_at(5));
    drawn.zeros(old, 0x800);
    drawn.word(old + 8, 0x800);
    drawn.word(CHUNKS, old);
    for n in 1..=3 {
        copy(&mut drawn, frame_at(n), old + n * 0x100);
        let previous = if n == 1 { 0 } else { old + (n - 1) * 0x100 };
        drawn.field(old + n * 0x100, layout.frame_previous, previous);
    }
    drawn.field(frame_at(4), layout.frame_previous, old + 0x300);
    let stack = reader.snapshot(&drawn)[0].1.clone().expect("sound");
    let codes: Vec<u64> = stack.frames.iter().map(|frame| (frame.code - CODES) / 0x1000).collect();
    assert_eq!(codes, [6, 5, 4, 3, 2, 1]);
    let entries: Vec<bool> = stack.frames.iter().map(|frame| frame.entry).collect();
    assert_eq!(entries, [true, false, false, false, false, true]);
}

#[test]
fn a_chunk_with_a_gap_does_not_hide_its_frames() {
    let (mut drawn, mut reader) = opened(11, 2, 3);
    for at in 0x20..0x80 {
        drawn.bytes.remove(&(CHUNKS + at));
    }
    let snapshot = reader.snapshot(&drawn);
    let depth = |index: usize| snapshot[index].1.as_ref().map(|stack| stack.frames.len());
    assert_eq!((depth(0), depth(1)), (Ok(3), Ok(3)));
    // Where the innermost frame should be is not there at all.
    drawn.field(THREADS, reader.layout().thread_frame, 0xdead_0000);
    let snapshot = reader.snapshot(&drawn);
    assert!(snapshot[0].1.is_err() && snapshot[1].1.is_ok(), "{snapshot:?}");
}

#[test]
fn what_is_deep_is_cut_and_what_is_circular_is_refused() {
    let (drawn, mut reader) = opened(9, 1, 300);
    let stack = reader.snapshot(&drawn)[0].1.clone().expect("sound");
    assert!(stack.truncated && stack.frames.len() == MOST_FRAMES);
    let (mut drawn, mut reader) = opened(11, 2, 4);
    let layout = *reader.layout();
    let outermost = CHUNKS + 0x100 + 0x180;
    drawn.field(outermost, layout.frame_previous, CHUNKS + 0x100 + 3 * 0x180);
    drawn.field(THREADS + 0x1000, layout.thread_next, THREADS);
    // It is the other one that has the GIL, and could have changed its stack meanwhile.
    drawn.field(RUNTIME + u64::from(layout.runtime_gil), layout.gil_last_holder, THREADS + 0x1000);
    let snapshot = reader.snapshot(&drawn);
    assert_eq!(snapshot.len(), 2, "a circle of threads ends");
    assert_eq!(snapshot[0].1, Err(Unread::Torn));
    assert!(snapshot[1].1.is_ok());
    drawn.field(INTERPRETER, layout.interpreter_next, INTERPRETER);
    assert_eq!(reader.interpreters(&drawn), None);
    assert!(reader.snapshot(&drawn).is_empty());
}

/// Object, field, word.
type Change = (u64, u32, u64);

#[test]
fn a_build_that_does_not_fit_is_refused_with_a_reason() {
    let layout = tables::layout(version(12)).expect("in the table");
    let open = |drawn: &Drawn| Reader::open(drawn, &place(12)).err();
    let sound = || program(&layout, 1, 1);
    assert_eq!(open(&sound()), None);
    assert_eq!(open(&Drawn::default()), Some(Unknown::Unreadable));
    let not_running: [Change; 4] = [
        (RUNTIME, layout.runtime_interpreters, 0),
        (INTERPRETER, layout.interpreter_threads, 0),
        (INTERPRETER, layout.interpreter_gil, 0),
        (GIL, layout.gil_locked, u64::from(u32::MAX)),
    ];
    for (object, field, word) in not_running {
        let mut drawn = sound();
        drawn.field(object, field, word);
        assert_eq!(open(&drawn), Some(Unknown::NotRunning), "{object:#x} {field}");
    }
    let wrong: [Change; 6] = [
        (RUNTIME, layout.runtime_interpreters, 12),
        (RUNTIME, layout.runtime_interpreters, 0xdead_0000),
        (INTERPRETER, layout.interpreter_gil, 0xdead_0000),
        (GIL, layout.gil_interval, 0),
        (GIL, layout.gil_locked, 2),
        (THREADS, layout.thread_interpreter, INTERPRETER + 8),
    ];
    for (object, field, word) in wrong {
        let mut drawn = sound();
        drawn.field(object, field, word);
        let why = open(&drawn).expect("refused");
        assert!(matches!(why, Unknown::Implausible(_)), "{object:#x} {field}: {why:?}");
        assert!(why.to_string().contains("does not fit"), "{why}");
    }
}

#[test]
fn strings_of_every_kind_are_read() {
    let layout = tables::layout(version(12)).expect("in the table");
    let mut drawn = Drawn::default();
    let mut put = |kind: u32, compact: bool, bits: &[u8], points: u64| {
        drawn.zeros(OBJECTS, 64);
        drawn.field(OBJECTS, layout.string_length, points);
        let state = kind | u32::from(compact) << 3;
        drawn.put(OBJECTS + u64::from(layout.string_state), &(state << 2).to_le_bytes());
        drawn.put(OBJECTS + u64::from(layout.string_compact), bits);
        strings::string(&drawn, &layout, OBJECTS).map(|text| text.to_string())
    };
    assert_eq!(put(1, true, &[0xe9, b'a'], 2).as_deref(), Some("\u{e9}a"));
    assert_eq!(put(2, true, &[0x16, 0x04, 0, 0xd8], 2).as_deref(), Some("\u{416}\u{fffd}"));
    assert_eq!(put(4, true, &[0x80, 0x02, 1, 0], 1).as_deref(), Some("\u{10280}"));
    assert_eq!(put(4, true, &[0xff; 4], 1).as_deref(), Some("\u{fffd}"));
    assert_eq!(put(3, true, &[0; 4], 1), None);
    assert_eq!(put(1, false, &[0; 4], 1), None, "kept elsewhere, as old versions could");
    assert_eq!(put(1, true, &[0; 4], u64::MAX), None);
}

/// Memory that has something everywhere: words made from the address, most of them pointers into
/// a small region, so that lists go on for long.
struct Noise {
    seed: u64,
    reads: Cell<u64>,
}

impl Noise {
    fn word(&self, index: u64) -> u64 {
        let mixed = (index ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        match mixed >> 60 {
            0 => 0,
            1 => mixed,
            2 => mixed & 0xff,
            _ => 0x10_0000 + (mixed & 0xffff8),
        }
    }
}

impl Memory for Noise {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.reads.set(self.reads.get() + 1);
        for (i, byte) in buffer.iter_mut().enumerate() {
            let at = address.wrapping_add(i as u64);
            *byte = self.word(at / 8).to_le_bytes()[(at % 8) as usize];
        }
        // Some addresses are not there.
        !self.word(address ^ 0x5555).is_multiple_of(61)
    }
}

fn reader(layout: &Layout) -> Reader {
    Reader::unchecked(layout, RUNTIME)
}

fn exercise(memory: &dyn Memory, reader: &mut Reader) {
    let snapshot = reader.snapshot(memory);
    let mut threads = Vec::new();
    for (thread, stack) in snapshot {
        threads.push(thread);
        for frame in stack.iter().flat_map(|stack| &stack.frames).take(50) {
            reader.first_local(memory, frame);
            if let Some(code) = reader.code(frame.code) {
                code.line(frame.instruction);
            }
        }
    }
    for (_, stack) in reader.snapshot(memory) {
        let frames = stack.map(|stack| stack.frames).unwrap_or_default();
        let run = frames.first().map_or(0, |frame| frame.code);
        let asyncio = Asyncio { run, callback: 24, builtin: CODE_TYPE, current: OBJECTS };
        let words = asyncio.take(memory, reader.layout(), CODE_TYPE, &frames);
        Tasks::default().called(memory, reader.layout(), &asyncio, &words, &frames);
    }
    reader.asyncio(memory);
    reader.stacks(memory, &threads);
    for thread in &threads {
        reader.thread_name(memory, thread);
    }
    for object in (0..64).map(|number| 0x10_0000 + 8 * number) {
        attributes::attributes(memory, reader.layout(), object, ["_name", "_native_id"]);
        attributes::small_int(memory, reader.layout(), object);
    }
    for gil in reader.gils(memory) {
        reader.gil_state(memory, gil);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_memory_is_read_to_an_end(seed in proptest::num::u64::ANY, minor in 8u8..=12) {
        let noise = Noise { seed, reads: Cell::new(0) };
        Reader::open(&noise, &place(minor)).ok();
        let layout = tables::layout(version(minor)).expect("in the table");
        exercise(&noise, &mut reader(&layout));
        // Where attributes are in 3.13; the rest as before.
        exercise(&noise, &mut reader(&Layout { minor: 13, ..layout }));
        proptest::prop_assert!(noise.reads.get() < 2_000_000, "{} reads", noise.reads.get());
    }

    #[test]
    fn a_program_with_any_words_changed_is_read_to_an_end(
        minor in 8u8..=12,
        edits in proptest::collection::vec(
            (proptest::num::u32::ANY, 0u8..4, proptest::num::u64::ANY),
            1..40,
        ),
    ) {
        let layout = tables::layout(version(minor)).expect("in the table");
        let mut drawn = program(&layout, 3, 5);
        let addresses: Vec<u64> = drawn.bytes.keys().copied().filter(|at| at % 8 == 0).collect();
        for (at, how, word) in edits {
            let at = addresses[at as usize % addresses.len()];
            let other = addresses[word as usize % addresses.len()];
            let word = match how { 0 => word, 1 => word % 4096, _ => other };
            drawn.word(at, word);
        }
        if let Ok(mut reader) = Reader::open(&drawn, &place(minor)) {
            exercise(&drawn, &mut reader);
            proptest::prop_assert!(drawn.reads.get() < 100_000, "{} reads", drawn.reads.get());
        }
    }
}
