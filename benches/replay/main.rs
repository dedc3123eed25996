//! How many stays off the CPU a what-if replays in a second: threads that share a lock, made up in
//! memory.
//!
//! ```text
//! cargo bench --bench replay -- [--rounds N]
//! ```
//!
//! First what a report tries by itself; then one question, with its interval: reading, extraction and all simulations. Never asserts a time.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // a bench is a command: its output is the result

use std::time::Instant;
use timesink::analysis::replay::Replay;
use timesink::analysis::replay::replayed;
use timesink::analysis::replay::what_if;
use timesink::analysis::replay::with_facts;
use timesink::model::Books;
use timesink::model::Call;
use timesink::model::Context;
use timesink::model::Event;
use timesink::model::Exit;
use timesink::model::ExitKind;
use timesink::model::Interval;
use timesink::model::MemoryTrace;
use timesink::model::Nanos;
use timesink::model::Pid;
use timesink::model::Rename;
use timesink::model::Start;
use timesink::model::StartKind;
use timesink::model::Text;
use timesink::model::Tid;
use timesink::model::Waker;

const THREADS: u64 = 8;
const HOLD: u64 = 1_000_000;
const SHORT: u64 = 20_000;
const FIRST: u32 = 100;

fn main() {
    // `cargo test` starts benches too, without this argument: there is nothing to check.
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let at = arguments.iter().position(|argument| argument == "--rounds");
    let rounds: u64 =
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(40_000).max(1);
    for (name, trace) in [("lock loop", lock_loop(rounds)), ("convoy", convoy(rounds))] {
        unasked(name, &trace);
    }
    let trace = lock_loop(rounds);
    let stays = rounds * THREADS * 3;
    println!("| question | stays | s | stays/s |\n|---|---|---|---|");
    for change in ["sleep*1", "cpus=1", "thread:worker*0.5"] {
        let begin = Instant::now();
        match what_if(&trace, &[change.to_owned()]) {
            Ok(answer) => {
                let took = begin.elapsed().as_secs_f64();
                let rate = stays as f64 / took;
                let refused = answer.refused.map(|reason| format!(" refused: {reason}"));
                let refused = refused.unwrap_or_default();
                println!("| `{change}` | {stays} | {took:.2} | {rate:.0} |{refused}");
            }
            Err(error) => println!("| `{change}` | {error} |"),
        }
    }
}

/// What a report tries without being asked: preparation, and all of it.
fn unasked(name: &str, trace: &MemoryTrace) {
    with_facts(trace, |facts| {
        let begin = Instant::now();
        let replay = Replay::prepare(facts);
        let prepared = begin.elapsed().as_secs_f64();
        let (stays, steps) = (facts.history.size(), replay.steps());
        let refused = replay.refused().unwrap_or("no");
        println!("{name}: {stays} stays, {steps} operations, refused: {refused}");
        println!("  prepared in {prepared:.2} s, peak {} MB", peak());
        drop(replay);
        let begin = Instant::now();
        let rows = replayed(facts).whatif;
        let known = rows.iter().filter(|row| row.low.is_some()).count();
        let took = begin.elapsed().as_secs_f64();
        println!("  {} rows, {known} intervals in {took:.2} s, peak {} MB", rows.len(), peak());
    });
}

/// The most memory that this process had, MB; 0 where the kernel does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Everyone asks again right after it had the lock: one wait looks like the retry of the last.
fn convoy(rounds: u64) -> MemoryTrace {
    let mut events = begin();
    for turn in 0..rounds * THREADS * 3 {
        let thread = turn % THREADS + 1;
        let before = if thread == 1 { THREADS } else { thread - 1 };
        let got = turn * SHORT;
        // Held from `got` for SHORT, then asked for again.
        let since = if turn < THREADS { 0 } else { got - (THREADS - 1) * SHORT };
        events.push(wait(thread, since, got.max(1), futex(), Some(before)));
    }
    let last = rounds * THREADS * 3 * SHORT;
    end(events, last + SHORT)
}

/// Each thread asks for the lock when the one before it gets it, and is outside the rest.
fn lock_loop(rounds: u64) -> MemoryTrace {
    let mut events = begin();
    let first = |thread: u64, round: u64| (round * THREADS + thread) * HOLD;
    for round in 0..rounds {
        for thread in 1..=THREADS {
            let got = first(thread, round);
            let before = if thread == 1 { THREADS } else { thread - 1 };
            events.push(wait(thread, got - HOLD / 2, got, futex(), Some(before)));
            events.push(wait(thread, got, got + HOLD, sleep(), None));
            let again = first(thread, round + 1) - HOLD / 2;
            events.push(wait(thread, got + HOLD, again, sleep(), None));
        }
    }
    end(events, first(THREADS + 2, rounds))
}

fn begin() -> Vec<Event> {
    let mut events = vec![start(0, 0)];
    for thread in 1..=THREADS {
        events.push(start(thread, 0));
        let name = Text::from("worker");
        events.push(Event::Rename(Rename { time: Nanos(0), tid: tid(thread), name }));
    }
    events
}

fn end(mut events: Vec<Event>, time: u64) -> MemoryTrace {
    for thread in (0..=THREADS).rev() {
        let how =
            if thread == 0 { ExitKind::Process { status: Some(0) } } else { ExitKind::Thread };
        let (time, tid, pid) = (Nanos(time), tid(thread), Pid(FIRST));
        events.push(Event::Exit(Exit { time, tid, pid, how, books: Books::default() }));
    }
    MemoryTrace::new(events)
}

fn tid(thread: u64) -> Tid {
    Tid(FIRST + thread as u32)
}

fn start(thread: u64, time: u64) -> Event {
    let (how, parent) =
        if thread == 0 { (StartKind::Root, Tid(1)) } else { (StartKind::Thread, tid(0)) };
    Event::Start(Start {
        time: Nanos(time),
        tid: tid(thread),
        pid: Pid(FIRST),
        parent_tid: parent,
        parent_pid: Pid(FIRST),
        how,
    })
}

fn futex() -> Call {
    Call { number: 202, arg0: 0x1000, arg1: 0x80, arg2: 2, ..Call::default() }
}

fn sleep() -> Call {
    Call { number: 230, ..Call::default() }
}

fn wait(thread: u64, from: u64, to: u64, call: Call, by: Option<u64>) -> Event {
    let mut interval =
        Interval::blocked(tid(thread), Nanos(from), Nanos(to), Nanos(to), Some(call));
    interval.waker = Some(Waker {
        tid: by.map_or(Tid(0), tid),
        in_tree: by.is_some(),
        context: if by.is_some() { Context::Task } else { Context::Hardirq },
        call: by.map(|_| 202),
        arg0: call.arg0,
    });
    Event::Interval(interval)
}
