//! What a snapshot of a Python program costs, and whether what it tells can be.
//!
//! ```text
//! cargo bench --bench python_reader -- [--rounds N] [--snapshots N]
//! ```
//!
//! First ten threads with 200 frames that wait, then a program that changes its stacks as fast as
//! it can, with its own rule of who calls whom. Every interpreter found is read (see
//! `tests/python/mod.rs`). Never asserts a time.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout)] // a bench is a command: its output is the result

#[path = "../../tests/python/mod.rs"]
mod python;

use std::cell::Cell;
use std::time::Instant;

use python::Python;
use timesink::capture::sys::process_vm::ProcessMemory;
use timesink::runtimes::Memory;
use timesink::runtimes::Piece;
use timesink::runtimes::cpython::Reader;
use timesink::runtimes::cpython::Stack;

/// Counts the reads.
struct Counted {
    memory: ProcessMemory,
    calls: Cell<u64>,
}

impl Counted {
    fn count(&self) {
        self.calls.set(self.calls.get() + 1);
    }
}

impl Memory for Counted {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.count();
        self.memory.read(address, buffer)
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) {
        self.count();
        self.memory.read_many(pieces);
    }
}

fn main() {
    // `cargo test` starts benches too, without this argument: there is nothing to check.
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let number = |name: &str, usual: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(usual).max(1)
    };
    let interpreters = python::interpreters();
    println!(
        "| Python | threads | frames | reads | us p5 | p50 | p95 |\n|---|---|---|---|---|---|---|"
    );
    for command in &interpreters {
        waiting(command, number("--rounds", 5000));
    }
    println!();
    println!("| Python | snapshots | told | moved | refused | torn | no code | impossible |");
    println!("|---|---|---|---|---|---|---|---|");
    for command in &interpreters {
        changing(command, number("--snapshots", 100_000));
    }
}

fn waiting(command: &[String], rounds: usize) {
    let mut python = Python::start(command, include_str!("still.py"));
    python.line();
    let memory = Counted { memory: python.memory(), calls: Cell::new(0) };
    let mut reader = python.reader();
    // The first one reads the code objects.
    reader.snapshot(&memory);
    let before = memory.calls.get();
    let (mut threads, mut frames) = (0, 0);
    let mut times: Vec<f64> = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        let snapshot = reader.snapshot(&memory);
        times.push(begin.elapsed().as_secs_f64() * 1e6);
        threads = snapshot.len();
        frames = snapshot.iter().flat_map(|(_, stack)| stack).map(|s| s.frames.len()).sum();
    }
    times.sort_by(f64::total_cmp);
    python.go_on();
    let at = |part: usize| times[(rounds - 1) * part / 100];
    println!(
        "| {} | {threads} | {frames} | {} | {:.1} | {:.1} | {:.1} |",
        command.join(" "),
        (memory.calls.get() - before) / rounds as u64,
        at(5),
        at(50),
        at(95)
    );
}

fn changing(command: &[String], snapshots: usize) {
    let mut python = Python::start(command, include_str!("busy.py"));
    python.line();
    let memory = python.memory();
    let mut reader = python.reader();
    let (mut no_code, mut impossible) = (0_u64, 0_u64);
    for _ in 0..snapshots {
        for (_, stack) in reader.snapshot(&memory) {
            let Ok(stack) = stack else { continue };
            let (unnamed, broken) = examine(&reader, &stack);
            no_code += unnamed;
            impossible += u64::from(broken);
        }
    }
    let lives = python.lives();
    python.go_on();
    let counts = reader.counts();
    println!(
        "| {}{} | {snapshots} | {} | {} | {} | {} | {no_code} | {impossible} |",
        command.join(" "),
        if lives { "" } else { " (ENDED)" },
        counts.told,
        counts.moved,
        counts.refused,
        counts.torn
    );
}

/// How many frames have no code object any more, and whether a call is one that the program never
/// makes.
fn examine(reader: &Reader, stack: &Stack) -> (u64, bool) {
    let names: Vec<Option<String>> =
        stack.frames.iter().map(|f| Some(reader.code(f.code)?.name.to_string())).collect();
    let level = |name: &Option<String>| name.as_ref()?.strip_prefix("level_")?.parse::<u32>().ok();
    let broken = names.windows(2).any(|two| match (level(&two[0]), &two[1]) {
        (Some(0), Some(caller)) => caller != "burn",
        (Some(inner), Some(caller)) => *caller != format!("level_{}", inner - 1),
        _ => false,
    });
    (names.iter().filter(|name| name.is_none()).count() as u64, broken)
}
