//! What recording costs the program that is recorded: alternating runs without and with a
//! tracer, ours and the ones people have. Prints the tables of `docs/PERFORMANCE.md`.
//!
//! ```text
//! cargo bench --bench overhead -- [--pairs N] [--only WORKLOAD,...] [--tools TOOL,...]
//! ```
//!
//! CPU times are those of the workload alone: `benches/programs/measure.c` runs it below
//! the tracer and reads its rusage. Needs root for most tools; what cannot run is left out
//! with a word why. Never asserts a time: machines differ, a reader judges.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // a bench is a command: the tables are its output

mod bench;
mod ours;
mod peers;
mod stats;

use bench::Bench;
use bench::Usage;
use bench::WORKLOADS;
use bench::Workload;
use ours::Books;
use stats::Estimate;

/// A run under a tool: what the workload used, and what the tool said about itself.
pub struct Traced {
    /// The workload.
    pub usage: Usage,
    /// Books of our own recorder.
    pub books: Option<Books>,
    /// Anything a reader of the table must know, such as losses.
    pub note: Option<String>,
}

/// A tracer.
pub struct Tool {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is in the table.
    pub title: &'static str,
    /// Why it cannot be used here.
    pub missing: fn() -> Option<&'static str>,
    /// Runs a workload under it.
    pub run: fn(&Bench, &Workload) -> Result<Traced, String>,
}

struct Arguments {
    pairs: Option<usize>,
    only: Vec<String>,
    tools: Vec<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { pairs: None, only: Vec::new(), tools: Vec::new() };
    let list = |text: Option<String>| -> Vec<String> {
        text.unwrap_or_default().split(',').map(str::to_owned).collect()
    };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--pairs" => found.pairs = rest.next().and_then(|text| text.parse().ok()),
            "--only" => found.only = list(rest.next()),
            "--tools" => found.tools = list(rest.next()),
            "--bench" => {}
            other => {
                return Err(format!(
                    "unknown argument {other}; known: --pairs N, --only WORKLOAD,..., --tools TOOL,..."
                ));
            }
        }
    }
    Ok(found)
}

fn wanted(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|item| item == name)
}

fn main() {
    // `cargo test` starts benches too, without this argument: there is nothing to check.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Err(error) = all() {
        eprintln!("overhead: {error}");
        std::process::exit(1);
    }
}

fn all() -> Result<(), String> {
    let arguments = arguments()?;
    let bench = Bench::new()?;
    let mut tools = Vec::new();
    for tool in ours::TOOLS.iter().chain(peers::TOOLS) {
        if !wanted(&arguments.tools, tool.name) {
            continue;
        }
        match (tool.missing)() {
            Some(why) => println!("skipped: {}: {why}\n", tool.title),
            None => tools.push(tool),
        }
    }
    println!("{}\n", bench::machine());
    for workload in WORKLOADS.iter().filter(|w| wanted(&arguments.only, w.name)) {
        if let Some(why) = Bench::missing(workload) {
            println!("skipped: {}: {why}\n", workload.title);
            continue;
        }
        let pairs = arguments.pairs.unwrap_or(workload.pairs);
        measure(&bench, workload, &tools, pairs)?;
    }
    Ok(())
}

/// The pairs of one tool on one workload.
#[derive(Default)]
struct Series {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    books: Vec<Books>,
    notes: Vec<String>,
    failure: Option<String>,
}

fn measure(
    bench: &Bench,
    workload: &Workload,
    tools: &[&Tool],
    pairs: usize,
) -> Result<(), String> {
    let mut series: Vec<Series> = tools.iter().map(|_| Series::default()).collect();
    let mut bare = Vec::new();
    // Round robin, each run under a tool right after one without: load that changes slowly
    // meets both sides of a pair and every tool alike.
    for round in 0..=pairs {
        for (tool, series) in tools.iter().zip(&mut series) {
            if series.failure.is_some() {
                continue;
            }
            let without = bench.run_bare(workload)?;
            match (tool.run)(bench, workload) {
                // The first round only warms caches up.
                Ok(_) if round == 0 => {}
                Ok(traced) => {
                    series.cpu.push(traced.usage.cpu_ns() / without.cpu_ns());
                    series.wall.push(traced.usage.wall_ns / without.wall_ns);
                    series.books.extend(traced.books);
                    series.notes.extend(traced.note);
                    bare.push(without);
                }
                Err(error) => series.failure = Some(error),
            }
        }
    }
    print_table(workload, tools, &series, &bare);
    Ok(())
}

fn print_table(workload: &Workload, tools: &[&Tool], series: &[Series], bare: &[Usage]) {
    let rate = Estimate::of(bare.iter().map(|u| u.switches / u.wall_ns * 1e9));
    let cpu = Estimate::of(bare.iter().map(|u| u.cpu_ns() / 1e6));
    println!("### {}\n", workload.title);
    if let (Some(rate), Some(cpu)) = (rate, cpu) {
        println!(
            "Untraced: {:.0} switches/s, {:.0} ms of CPU time [{:.0}, {:.0}]. Load average: {}.\n",
            rate.median,
            cpu.median,
            cpu.low,
            cpu.high,
            bench::load()
        );
    }
    println!("| tool | pairs | CPU time | wall time | lost | remarks |");
    println!("|---|---|---|---|---|---|");
    for (tool, series) in tools.iter().zip(series) {
        if let Some(failure) = &series.failure {
            println!("| {} | - | - | - | - | failed: {failure} |", tool.title);
            continue;
        }
        let show = |values: &[f64]| {
            Estimate::of(values.iter().copied()).map_or_else(
                || "-".to_owned(),
                |e| format!("{:.2} [{:.2}, {:.2}]", e.median, e.low, e.high),
            )
        };
        let lost = if series.books.is_empty() {
            "-".to_owned()
        } else {
            series.books.iter().map(|books| books.lost).sum::<u64>().to_string()
        };
        let mut notes = series.notes.clone();
        notes.sort();
        notes.dedup();
        notes.truncate(1);
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            tool.title,
            series.cpu.len(),
            show(&series.cpu),
            show(&series.wall),
            lost,
            notes.join("; ")
        );
    }
    println!();
    ours::print_books(
        &tools.iter().zip(series).map(|(tool, s)| (tool.title, &s.books[..])).collect::<Vec<_>>(),
    );
}
