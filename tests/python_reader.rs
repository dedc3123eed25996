//! Real interpreters, read from outside, against what the program says of itself.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests do I/O

mod python;

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use python::Python;
use serde_json::Value;
use timesink::model::Tid;
use timesink::runtimes::Memory;
use timesink::runtimes::cpython::Frame;
use timesink::runtimes::cpython::GilPart;
use timesink::runtimes::cpython::MOST_FRAMES;
use timesink::runtimes::cpython::Reader;
use timesink::runtimes::cpython::Stack;
use timesink::runtimes::cpython::Tasks;
use timesink::runtimes::cpython::Thread;

const PROGRAM: &str = include_str!("python/program.py");
const TASKS: &str = include_str!("python/tasks.py");

#[test]
fn every_interpreter_is_read_as_it_sees_itself() {
    let interpreters = python::interpreters();
    if interpreters.is_empty() {
        assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "no interpreter was found");
        println!("skipped: no interpreter was found");
    }
    for command in interpreters {
        let mut python = Python::start(&command, PROGRAM);
        let said: Value = serde_json::from_str(&python.line()).expect("JSON");
        let memory = python.memory();
        let mut reader = python.reader();
        let minor = u64::from(reader.layout().minor);
        assert_eq!(said["version"][1], minor, "{command:?}");
        waiting_threads(&memory, &mut reader, &said);
        interpreters_and_gils(&memory, &reader, &said);
        if reader.layout().free_threaded == 1 {
            println!("{command:?}: {} agrees, and has no GIL", said["version"]);
            continue;
        }
        python.go_on();
        assert_eq!(python.line(), "busy\n");
        let seen = the_gil_goes_round(&python, &mut reader);
        println!("{command:?}: {} agrees; {seen}", said["version"]);
        assert!(python.lives());
    }
}

/// A loop that stands still in one callback after the other: in which task, and who awaits that.
#[test]
fn tasks_are_called_what_they_call_themselves() {
    for command in python::interpreters() {
        let mut python = Python::start(&command, TASKS);
        let memory = python.memory();
        let (mut reader, mut tasks, mut met) = (None, Tasks::default(), 0);
        loop {
            let said: Value = serde_json::from_str(&python.line()).expect("JSON");
            if said["end"] == true {
                break;
            }
            let reader = reader.get_or_insert_with(|| python.reader());
            let asyncio = reader.asyncio(&memory).expect("it was imported");
            let (thread, stack) = reader.snapshot(&memory).remove(0);
            let stack = stack.unwrap_or_else(|why| panic!("{why:?}: {said}"));
            let layout = reader.layout();
            let words = asyncio.take(&memory, layout, thread.address, &stack.frames);
            let called = tasks.called(&memory, layout, &asyncio, &words, &stack.frames);
            let called = called.map(|(_, tasks)| tasks).unwrap_or_default();
            let codes: Vec<u64> = called.iter().filter_map(|task| task.code).collect();
            reader.learn(&memory, &codes);
            let shown = called.iter().map(|task| {
                let code = task.code.and_then(|code| reader.code(code));
                let code = code.unwrap_or_else(|| panic!("no code: {said}"));
                let bare = code.name.to_string();
                let bare = bare.rsplit('.').next().unwrap_or_default().to_owned();
                Value::from(vec![
                    task.name.as_ref().map(ToString::to_string).into(),
                    Value::from(bare),
                ])
            });
            assert_eq!(Value::from(shown.collect::<Vec<_>>()), said["tasks"], "{command:?}");
            met += 1;
            python.go_on();
        }
        assert!(met > 10, "{command:?}");
        println!("{command:?}: {met} callbacks agree");
    }
}

fn waiting_threads(memory: &dyn Memory, reader: &mut Reader, said: &Value) {
    let snapshot = reader.snapshot(memory);
    let said = said["threads"].as_array().expect("a list");
    // A thread has a state in each interpreter that it has been in.
    let main = reader.interpreters(memory).and_then(|all| all.last().map(|main| main.address));
    let of_main = snapshot.iter().filter(|(thread, _)| Some(thread.interpreter) == main);
    assert_eq!(of_main.count(), said.len() + 1, "all threads and the main one");
    for said in said {
        let tid = Tid(said["tid"].as_u64().expect("a number") as u32);
        let (thread, stack) =
            snapshot.iter().find(|(thread, _)| thread.tid == Some(tid)).expect("known by its id");
        assert_eq!(said["ident"], thread.pthread);
        let stack = stack.as_ref().unwrap_or_else(|why| panic!("{why:?}: {said}"));
        assert!(stack.still, "it waits");
        compare(memory, reader, stack, said["frames"].as_array().expect("a list"));
    }
    for said in said {
        let id = said["ident"].as_u64();
        let of = |(thread, _): &&(Thread, _)| Some(thread.pthread) == id;
        let (thread, _) = snapshot.iter().find(of).expect("it was found");
        let name = reader.thread_name(memory, thread).map(|name| name.to_string());
        // Later versions tell the kernel. Of a stack that was cut the outermost function is missing.
        let whole = said["frames"].as_array().is_some_and(|frames| frames.len() <= MOST_FRAMES);
        let known = said["name"].as_str().filter(|_| whole && reader.layout().minor <= 13);
        assert_eq!(name.as_deref(), known, "{said}");
    }
}

fn compare(memory: &dyn Memory, reader: &Reader, stack: &Stack, said: &[Value]) {
    let followed = said.len().min(MOST_FRAMES);
    assert_eq!((stack.frames.len(), stack.truncated), (followed, said.len() > MOST_FRAMES));
    for (frame, said) in stack.frames.iter().zip(said) {
        let code = reader.code(frame.code).unwrap_or_else(|| panic!("no code: {said}"));
        assert_eq!(said[0], code.name.to_string(), "{said}");
        assert_eq!(said[1], String::from_utf8_lossy(code.file.as_bytes()).as_ref(), "{said}");
        assert_eq!(
            code.line(frame.instruction),
            said[2].as_u64().map(|line| line as u32),
            "{said}"
        );
        if let Some(first) = said[3].as_array() {
            same_object(memory, reader, frame, first);
        }
    }
    let name = |frame: &Frame| reader.code(frame.code).map(|code| code.name.to_string());
    let names: Vec<String> = stack.frames.iter().filter_map(name).collect();
    let sorts = names.iter().position(|name| name == "sorts");
    if let Some(at) = sorts.filter(|_| reader.layout().minor >= 11) {
        // The key function is called by C code, what it calls is not.
        let entries: Vec<bool> = stack.frames.iter().map(|frame| frame.entry).collect();
        assert!(entries[at - 1] && !entries[..at - 1].contains(&true), "{names:?} {entries:?}");
        assert_eq!(entries.last(), Some(&true), "{names:?} {entries:?}");
    }
}

fn same_object(memory: &dyn Memory, reader: &Reader, frame: &Frame, said: &[Value]) {
    let object = reader.first_local(memory, frame).unwrap_or_else(|| panic!("none: {said:?}"));
    assert_eq!(said[0], object.address, "{said:?} {object:?}");
    let kind = said[1].as_str().expect("a name");
    assert!(kind.is_empty() || kind == object.kind.to_string(), "{said:?} {object:?}");
}

fn interpreters_and_gils(memory: &dyn Memory, reader: &Reader, said: &Value) {
    let interpreters = reader.interpreters(memory).expect("readable");
    let more = usize::from(said["own_gil"] == true);
    assert_eq!(interpreters.len(), 1 + more);
    assert_eq!(interpreters.last().map(|it| it.id), Some(0), "the main one is the oldest");
    let gils = reader.gils(memory);
    assert_eq!(gils.len(), 1 + more);
    let main = interpreters.last().expect("one").gil;
    let state = reader.gil_state(memory, main).expect("in use");
    let interval = said["interval"].as_f64().expect("seconds") * 1e6;
    assert_eq!(state.interval_us, interval.round() as u64);
    let free = reader.layout().free_threaded == 1;
    assert!(state.enabled != free && (free || state.switches > 0), "{state:?}");
}

/// Three threads compute: each of them has the GIL at some time, and waits for it at others.
fn the_gil_goes_round(python: &Python, reader: &mut Reader) -> String {
    let memory = python.memory();
    let main = reader.interpreters(&memory).expect("readable").last().expect("one").gil;
    let layout = *reader.layout();
    let (mut holders, mut waits) = (BTreeSet::new(), BTreeSet::new());
    let mut parts = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end && (holders.len() < 3 || waits.len() < 3) {
        let threads = reader.threads(&memory);
        if let Some(state) = reader.gil_state(&memory, main).filter(|state| state.locked) {
            let holder = threads.iter().find(|thread| thread.address == state.last_holder);
            holders.insert(holder.expect("a thread of the list has it").tid);
        }
        for thread in &threads {
            let tid = thread.tid.expect("known");
            let path = format!("/proc/{}/task/{}/syscall", python.pid().0, tid.0);
            let call = std::fs::read_to_string(path).unwrap_or_default();
            let mut words = call.split(' ');
            let futex = words.next() == Some("202");
            let word = words.next().and_then(|word| word.strip_prefix("0x"));
            let word = word.and_then(|word| u64::from_str_radix(word, 16).ok());
            let Some(part) = word.filter(|_| futex).and_then(|at| layout.gil_part(main, at)) else {
                continue;
            };
            assert_ne!(part, GilPart::Fields, "no thread waits in a plain field");
            parts.insert(part);
            if part == GilPart::Wait {
                waits.insert(tid);
            }
        }
        for (_, stack) in reader.snapshot(&memory) {
            for frame in stack.iter().flat_map(|stack| &stack.frames) {
                assert!(reader.code(frame.code).is_some());
            }
        }
    }
    assert!(holders.len() >= 3, "{holders:?}");
    assert!(waits.len() >= 3, "{waits:?}");
    format!("waits in {parts:?}; {:?}", reader.counts())
}
