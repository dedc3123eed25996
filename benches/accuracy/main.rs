//! How right the answers are: the ground-truth workloads of `tests/ground_truth`, recorded in
//! turn with the really modified programs. Writes `docs/ACCURACY.md`.
//!
//! ```text
//! cargo bench --bench accuracy -- [--runs N] [--only ID,...] [-o FILE]
//! ```
//!
//! Each round runs a workload bare, recorded, and with every change really made; what is
//! written are medians over the rounds. Beside each verdict stands what simple metrics would
//! name on the same trace, and beside the Python programs what py-spy says, if it is installed. Needs root. With `--only` the document goes to
//! standard output. Never asserts: `tests/ground_truth` does.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // a bench is a command

mod beside;
#[path = "../../tests/ground_truth/checks.rs"]
#[allow(dead_code, reason = "shared with the test, which asserts more than is written")]
mod checks;
mod document;
mod measure;
mod metrics;
#[path = "../../tests/e2e/program.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod program;
#[path = "../../tests/ground_truth/programs.rs"]
mod programs;
#[path = "../../tests/ground_truth/rows.rs"]
mod rows;
mod stats;
#[path = "../../tests/ground_truth/table.rs"]
#[allow(dead_code, reason = "shared with the test, which asserts more than is written")]
mod table;

use measure::Series;
use rows::WORKLOADS;
use std::path::PathBuf;
use table::Workload;

struct Arguments {
    runs: usize,
    only: Vec<String>,
    output: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { runs: 10, only: Vec::new(), output: None };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--runs" => found.runs = value()?.parse().map_err(|_| "--runs needs a number")?,
            "--only" => found.only = value()?.split(',').map(str::to_owned).collect(),
            "-o" => found.output = Some(value()?.into()),
            "--bench" => {}
            other => {
                return Err(format!(
                    "unknown argument {other}; known: --runs N, --only ID,..., -o FILE"
                ));
            }
        }
    }
    Ok(found)
}

fn main() {
    // `cargo test` starts benches too, without this argument: there is nothing to check.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Err(error) = all() {
        eprintln!("accuracy: {error}");
        std::process::exit(1);
    }
}

fn all() -> Result<(), String> {
    let arguments = arguments()?;
    let wanted = |workload: &&Workload| {
        arguments.only.is_empty() || arguments.only.iter().any(|id| id == workload.id)
    };
    let mut all = Vec::new();
    for workload in WORKLOADS.iter().filter(wanted) {
        if programs::possible(workload) {
            eprintln!("{}: {}", workload.id, workload.title);
            all.push(Series::measure(workload, arguments.runs.max(1)));
        }
    }
    if all.is_empty() {
        return Err("nothing was measured".to_owned());
    }
    let text = document::write(&all, arguments.runs.max(1));
    let whole = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/ACCURACY.md");
    if let Some(path) = arguments.output.or_else(|| arguments.only.is_empty().then_some(whole)) {
        return std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
    }
    print!("{text}");
    Ok(())
}
