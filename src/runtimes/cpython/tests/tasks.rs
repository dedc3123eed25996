//! Tasks of asyncio in drawn programs.

use super::*;

const TYPES: u64 = 0xa0_0000;
const DICTS: u64 = 0xb0_0000;
const THINGS: u64 = 0xc0_0000;
const HANDLE: u64 = 0xd0_0000;
const TASKS: u64 = 0xe0_0000;
const METHOD: u64 = 0xf0_0000;
const CURRENT: u64 = 0xf8_0000;
/// `Handle._callback`.
const CALLBACK: u64 = 32;
/// The frame that is `Handle._run`: the middle one of three.
const RUN: u64 = 2;

/// Changes a program: where the step and its task are.
type Edit = fn(&mut Drawn, &Layout, u64, u64);

/// A type with this name, always at the same place.
fn kind(drawn: &mut Drawn, layout: &Layout, name: &str, base: u64) -> u64 {
    const NAMES: [&str; 14] = [
        "module",
        "type",
        "function",
        "member_descriptor",
        "builtin_function_or_method",
        "TaskStepMethWrapper",
        "_asyncio.Task",
        "_asyncio.Future",
        "str",
        "int",
        "OwnTask",
        "cell",
        "dict",
        "Task",
    ];
    let number = NAMES.iter().position(|known| *known == name).expect("listed");
    let at = TYPES + number as u64 * 0x1000;
    type_object(drawn, layout, at, name);
    drawn.word(at + 256, base);
    at
}

fn object(drawn: &mut Drawn, layout: &Layout, at: u64, name: &str) -> u64 {
    let kind = kind(drawn, layout, name, 0);
    drawn.field(at, layout.object_type, kind);
    at
}

fn dict(drawn: &mut Drawn, layout: &Layout, at: u64, entries: &[(&str, u64)]) -> u64 {
    let table = at + 0x100;
    drawn.word(at + 32, table);
    drawn.zeros(table, 48);
    let (count, width, key, start) = if layout.minor >= 11 {
        drawn.put(table + 9, &[3, 1]);
        (24, 16, 0, 32 + 8)
    } else {
        drawn.word(table + 8, 8);
        (32, 24, 8, 40 + 8)
    };
    drawn.word(table + count, entries.len() as u64 + 1);
    // An entry that was deleted.
    drawn.zeros(table + start, width);
    for (entry, (name, value)) in (1..).zip(entries) {
        let string = at + 0x1000 + entry * 0x100;
        drawn.zeros(string, 0x80);
        ascii(drawn, layout, string, name);
        let entry = table + start + entry * u64::from(width);
        drawn.zeros(entry, width);
        drawn.word(entry + key, string);
        drawn.word(entry + key + 8, *value);
    }
    at
}

/// A program whose thread is in a coroutine that `Handle._run` called.
fn asyncio_program(minor: u8) -> (Drawn, Layout) {
    let layout = tables::layout(version(minor)).expect("in the table");
    let mut drawn = program(&layout, 1, 3);
    let d = &mut drawn;
    let module = |d: &mut Drawn, n: u64, entries: &[(&str, u64)]| {
        let names = dict(d, &layout, DICTS + n * 0x1_0000, entries);
        let at = object(d, &layout, THINGS + n * 0x1000, "module");
        d.word(at + 16, names);
        at
    };
    let run = object(d, &layout, THINGS + 0x1_0000, "function");
    d.field(run, layout.function_code, CODES + RUN * 0x1000);
    ascii(d, &layout, OBJECTS + 0x9000, "_run");
    d.field(CODES + RUN * 0x1000, layout.code_name, OBJECTS + 0x9000);
    let slot = object(d, &layout, THINGS + 0x1_1000, "member_descriptor");
    d.word(slot + 40, slot + 0x100);
    d.word(slot + 0x100 + 16, CALLBACK);
    let len = object(d, &layout, THINGS + 0x1_2000, "builtin_function_or_method");
    let class = object(d, &layout, THINGS + 0x1_3000, "type");
    let names = [("__doc__", len), ("_run", run), ("_callback", slot)];
    let names = dict(d, &layout, DICTS, &names);
    d.word(class + 264, names);
    let events = module(d, 1, &[("Handle", class)]);
    let builtins = module(d, 2, &[("abs", class), ("len", len)]);
    let current = object(d, &layout, CURRENT, "dict");
    dict(d, &layout, current, &[]);
    let own = module(d, 4, &[("_current_tasks", current)]);
    let modules = [
        ("sys", class),
        ("builtins", builtins),
        ("asyncio.tasks", own),
        ("asyncio.events", events),
    ];
    let modules = dict(d, &layout, DICTS + 0x3_0000, &modules);
    d.field(INTERPRETER, layout.interpreter_modules, modules);
    d.field(CHUNKS + 0x100 + RUN * 0x180, layout.frame_locals, HANDLE);
    (drawn, layout)
}

/// Tasks in steps, one of each loop.
fn set_current(drawn: &mut Drawn, layout: &Layout, tasks: &[u64]) {
    let entries: Vec<(&str, u64)> = tasks.iter().map(|&task| ("a loop", task)).collect();
    dict(drawn, layout, CURRENT, &entries);
}

/// Makes a frame that of a task's coroutine: as far out as `n` says.
fn runs(drawn: &mut Drawn, layout: &Layout, task: u64, n: u64) {
    let frame = CHUNKS + 0x100 + n * 0x180;
    let inside = frame.wrapping_sub(layout.coroutine_frame.into());
    let coroutine = if layout.minor >= 11 { inside } else { task + 0x400 };
    drawn.field(task, layout.task_coroutine, coroutine);
    if layout.minor < 11 {
        drawn.word(coroutine + 16, frame);
    }
    if layout.minor < 12 {
        drawn.field(coroutine, layout.coroutine_code, CODES + n * 0x1000);
    }
}

/// A task with a name, whose coroutine runs code number `n`.
fn task(drawn: &mut Drawn, layout: &Layout, n: u64, name: &str) -> u64 {
    let at = object(drawn, layout, TASKS + n * 0x1000, "_asyncio.Task");
    drawn.word(at + 24, 0);
    drawn.field(at, layout.task_coroutine, at + 0x400);
    drawn.field(at + 0x400, layout.coroutine_code, CODES + n * 0x1000);
    drawn.field(at, layout.task_name, at + 0x800);
    drawn.zeros(at + 0x800, 0x100);
    ascii(drawn, layout, at + 0x800, name);
    object(drawn, layout, at + 0x800, "str");
    at
}

/// What steps a task for the first time, or when what it awaited is there.
fn step(drawn: &mut Drawn, layout: &Layout, at: u64, task: u64, wakes: bool) -> u64 {
    let name = if wakes { "builtin_function_or_method" } else { "TaskStepMethWrapper" };
    object(drawn, layout, at, name);
    drawn.word(at + 16, if wakes { METHOD } else { task });
    drawn.word(at + 24, if wakes { task } else { 0 });
    let mut name = b"task_wakeup".to_vec();
    name.resize(64, 0);
    drawn.word(METHOD, METHOD + 0x40);
    drawn.put(METHOD + 0x40, &name);
    at
}

/// The tasks that the thread is in, each with its code's number.
fn told(drawn: &Drawn, minor: u8) -> Vec<(Option<String>, u64)> {
    let mut reader = Reader::open(drawn, &place(minor)).expect("sound");
    let asyncio = reader.asyncio(drawn).expect("it was imported");
    assert_eq!((asyncio.run, asyncio.callback), (CODES + RUN * 0x1000, CALLBACK as u32));
    let stack = reader.snapshot(drawn).remove(0).1.expect("nothing moves");
    let words = asyncio.take(drawn, reader.layout(), THREADS, &stack.frames);
    let tasks = Tasks::default().called(drawn, reader.layout(), &asyncio, &words, &stack.frames);
    let tasks = tasks.map(|(_, tasks)| tasks).unwrap_or_default();
    let code = |task: &Task| (task.code.expect("known") - CODES) / 0x1000;
    tasks.iter().map(|t| (t.name.as_ref().map(ToString::to_string), code(t))).collect()
}

fn named(name: &str, code: u64) -> (Option<String>, u64) {
    (Some(name.to_owned()), code)
}

#[test]
fn a_step_leads_to_its_task_and_to_those_that_await_it() {
    for minor in 8..=12 {
        for wakes in [false, true] {
            let (mut drawn, layout) = asyncio_program(minor);
            let d = &mut drawn;
            let (inner, outer) = (task(d, &layout, 3, "inner"), task(d, &layout, 1, "Task-12"));
            let first = step(d, &layout, THINGS + 0x2_0000, inner, wakes);
            d.word(HANDLE + CALLBACK, first);
            assert_eq!(told(&drawn, minor), [named("inner", 3)], "3.{minor}");
            let awaits = step(&mut drawn, &layout, THINGS + 0x2_1000, outer, true);
            drawn.word(inner + 24, awaits);
            assert_eq!(told(&drawn, minor), [named("inner", 3), (None, 1)], "3.{minor}");
            // In a circle, which no program is.
            drawn.word(outer + 24, first);
            assert_eq!(told(&drawn, minor).len(), 4);
        }
    }
}

#[test]
fn a_task_that_is_in_a_step_is_told_where_its_coroutine_is_in_the_stack() {
    for minor in 8..=12 {
        let (mut drawn, layout) = asyncio_program(minor);
        let d = &mut drawn;
        // Another loop's handles are not known.
        let tasks = [task(d, &layout, 1, "one"), task(d, &layout, 3, "other")];
        d.field(CODES + RUN * 0x1000, layout.code_name, OBJECTS + 0x9000);
        d.field(CHUNKS + 0x100 + RUN * 0x180, layout.frame_locals, 0);
        set_current(d, &layout, &tasks[..1]);
        assert_eq!(told(d, minor), [], "3.{minor}: of another thread");
        runs(d, &layout, tasks[0], 3);
        let names = |told: Vec<(Option<String>, u64)>| -> Vec<String> {
            told.into_iter().filter_map(|(name, _)| name).collect()
        };
        assert_eq!(names(told(d, minor)), ["one"], "3.{minor}");
        set_current(d, &layout, &[tasks[1], tasks[0]]);
        assert_eq!(names(told(d, minor)), ["one"], "3.{minor}: one of two");
        runs(d, &layout, tasks[1], 1);
        set_current(d, &layout, &tasks[1..]);
        assert_eq!(names(told(d, minor)), ["other"], "3.{minor}");
    }
}

#[test]
fn from_3_14_on_a_task_says_who_awaits_it() {
    let (mut drawn, mut layout) = asyncio_program(12);
    (layout.task_awaiter, layout.task_awaiters) = (96, 109);
    let asyncio = Asyncio::find(&drawn, &layout, INTERPRETER).expect("it was imported");
    let d = &mut drawn;
    let (inner, outer) = (task(d, &layout, 3, "inner"), task(d, &layout, 1, "outer"));
    let first = step(d, &layout, THINGS + 0x2_0000, inner, false);
    d.word(HANDLE + CALLBACK, first);
    let gather = task(d, &layout, 2, "not looked at");
    object(d, &layout, gather, "_asyncio.Future");
    for (task, awaiter) in [(inner, gather), (gather, outer), (outer, 0)] {
        d.word(task + 104, 0);
        d.word(task + 96, awaiter);
    }
    let frame = Frame {
        address: 0,
        code: asyncio.run,
        instruction: None,
        entry: false,
        first_local: HANDLE,
    };
    let told = |drawn: &Drawn| {
        let words = asyncio.take(drawn, &layout, THREADS, &[frame]);
        let tasks = Tasks::default().called(drawn, &layout, &asyncio, &words, &[frame]);
        let tasks = tasks.map(|(_, tasks)| tasks).unwrap_or_default();
        tasks.iter().map(|task| task.name.as_ref().expect("given").to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(&drawn), ["inner", "outer"]);
    // A set of several.
    drawn.put(gather + 109, &[1]);
    assert_eq!(told(&drawn), ["inner"]);
}

#[test]
fn what_is_no_step_of_a_task_has_no_name() {
    let (mut drawn, layout) = asyncio_program(11);
    let inner = task(&mut drawn, &layout, 3, "inner");
    let first = step(&mut drawn, &layout, THINGS + 0x2_0000, inner, true);
    drawn.word(HANDLE + CALLBACK, first);
    assert_eq!(told(&drawn, 11), [named("inner", 3)]);
    let changes: [(&str, Edit); 6] = [
        ("another method of the task", |d, _, _, _| d.put(METHOD + 0x40, b"cancel\0")),
        ("a function", |d, l, first, _| _ = object(d, l, first, "function")),
        ("of something else", |d, l, _, inner| _ = object(d, l, inner, "cell")),
        ("of a future", |d, l, _, inner| _ = object(d, l, inner, "_asyncio.Future")),
        ("a name that is none", |d, l, _, inner| _ = object(d, l, inner + 0x800, "cell")),
        ("nothing there", |d, _, first, _| d.word(first + 24, 0)),
    ];
    for (what, change) in changes {
        let mut drawn = Drawn { bytes: drawn.bytes.clone(), ..Drawn::default() };
        change(&mut drawn, &layout, first, inner);
        assert!(told(&drawn, 11).is_empty(), "{what}");
    }
    // A class made from asyncio's is a task, a number instead of a name one that was given none.
    let base = kind(&mut drawn, &layout, "_asyncio.Task", 0);
    let own = kind(&mut drawn, &layout, "OwnTask", base);
    drawn.field(inner, layout.object_type, own);
    assert_eq!(told(&drawn, 11), [named("inner", 3)]);
    object(&mut drawn, &layout, inner + 0x800, "int");
    assert_eq!(told(&drawn, 11), [(None, 3)]);
}

#[test]
fn names_are_cut_and_asyncios_own_are_none() {
    let (mut drawn, layout) = asyncio_program(12);
    let long = "x".repeat(200);
    for (name, shown) in [
        ("Task-", Some("Task-".to_owned())),
        ("Task-1", None),
        ("Task-1b", Some("Task-1b".to_owned())),
        ("", Some(String::new())),
        (&long, Some(format!("{}…", "x".repeat(NAME_BYTES - layout.string_ascii as usize)))),
    ] {
        let inner = task(&mut drawn, &layout, 3, name);
        let first = step(&mut drawn, &layout, THINGS + 0x2_0000, inner, false);
        drawn.word(HANDLE + CALLBACK, first);
        assert_eq!(told(&drawn, 12), [(shown, 3)], "{name}");
    }
}

#[test]
fn asyncio_is_not_found_before_it_is_there_or_where_it_was_replaced() {
    let (drawn, layout) = asyncio_program(11);
    let find = |drawn: &Drawn| Asyncio::find(drawn, &layout, INTERPRETER);
    assert!(find(&drawn).is_some());
    let without = Layout { task_name: ABSENT, ..layout };
    assert_eq!(Asyncio::find(&drawn, &without, INTERPRETER), None);
    for (object, offset, word) in [
        (INTERPRETER, layout.interpreter_modules, 0),
        // Fewer entries: the last, `asyncio.events`, is not there yet.
        (DICTS + 0x3_0100, 24, 4),
        // A table too long, or one of shared keys.
        (DICTS + 0x3_0100, 24, u64::MAX),
        (DICTS + 0x3_0100, 8, 2 << 16),
        (CODES + RUN * 0x1000, layout.code_name, CODES + 0x1400),
        (THINGS + 0x1_0000, layout.object_type, QUEUE_TYPE),
        (THINGS + 0x1_1100, 16, 4096),
    ] {
        let mut drawn = Drawn { bytes: drawn.bytes.clone(), ..Drawn::default() };
        drawn.field(object, offset, word);
        assert_eq!(find(&drawn), None, "{object:#x} {offset}");
    }
}
