//! How long a large trace takes to be read, and how much memory: a made-up recording of ten
//! million intervals, read by the commands a user types, each pinned to one CPU.
//!
//! ```text
//! cargo bench --bench scale -- [--intervals N] [--keep]
//! ```
//!
//! Prints the table of `docs/PERFORMANCE.md`. Never asserts a time.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // a bench is a command: the table is its output

mod machine;

use machine::Machine;
use std::error::Error;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;
use timesink::trace::Writer;

const TIMESINK: &str = env!("CARGO_BIN_EXE_timesink");

/// A reading, and what it should need at most for ten million intervals on one core.
struct Reading {
    title: &'static str,
    arguments: &'static [&'static str],
    target: &'static str,
}

const READINGS: &[Reading] = &[
    Reading {
        title: "`report --format json`",
        arguments: &["report", "--format", "json"],
        target: "10 s, 500 MB",
    },
    Reading {
        title: "`export --to perfetto`",
        arguments: &["export", "--to", "perfetto"],
        target: "10 s, 500 MB",
    },
    Reading {
        title: "`export --to chrome`",
        arguments: &["export", "--to", "chrome"],
        target: "stays in its budget",
    },
    Reading {
        title: "`export --to folded`",
        arguments: &["export", "--to", "folded"],
        target: "-",
    },
    Reading {
        title: "`report --format html`",
        arguments: &["report", "--format", "html"],
        target: "-",
    },
];

fn main() {
    // `cargo test` starts benches too, without this argument: there is nothing to check.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Err(error) = all() {
        eprintln!("scale: {error}");
        std::process::exit(1);
    }
}

fn all() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let intervals = match arguments.iter().position(|argument| argument == "--intervals") {
        Some(at) => arguments.get(at + 1).ok_or("--intervals N")?.parse()?,
        None => 10_000_000,
    };
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scale");
    fs::create_dir_all(&place)?;
    let measure = build_measure(&place)?;
    let trace = place.join("large.timesink");
    let began = Instant::now();
    let records = write(&trace, intervals)?;
    let bytes = fs::metadata(&trace)?.len();
    println!(
        "{intervals} intervals, {records} records in all, {:.1} MB ({:.1} bytes per interval), \
         made and written in {:.1} s. Load average {}.\n",
        bytes as f64 / 1e6,
        bytes as f64 / intervals as f64,
        began.elapsed().as_secs_f64(),
        fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default(),
    );
    println!("| reading, on one core | wall, s | CPU, s | peak memory, MB | output, MB | target |");
    println!("|---|---|---|---|---|---|");
    for reading in READINGS {
        println!("{}", read(reading, &measure, &trace, &place)?);
    }
    if !arguments.iter().any(|argument| argument == "--keep") {
        fs::remove_dir_all(&place)?;
    }
    Ok(())
}

fn build_measure(place: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs/measure.c");
    let program = place.join("measure");
    let built = Command::new("cc").args(["-O2", "-o"]).args([&program, &source]).status()?;
    if built.success() { Ok(program) } else { Err("measure.c does not compile".into()) }
}

/// Writes the made-up recording; gives the number of all its records.
fn write(path: &Path, intervals: u64) -> Result<u64, Box<dyn Error>> {
    let mut machine = Machine::new();
    let mut writer = Writer::to_file(File::create(path)?, &machine.info())?;
    let mut records = 0;
    let mut failed = None;
    machine.run(intervals, &mut |record| {
        records += 1;
        if let Err(error) = writer.record(&record) {
            failed.get_or_insert(error);
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    writer.finish(&machine.summary())?;
    Ok(records)
}

/// One row of the table.
fn read(
    reading: &Reading,
    measure: &Path,
    trace: &Path,
    place: &Path,
) -> Result<String, Box<dyn Error>> {
    let (usage, output) = (place.join("usage"), place.join("output"));
    let finished = Command::new(measure)
        .args(["-c", "0", "-o"])
        .arg(&usage)
        .arg(TIMESINK)
        .args(reading.arguments)
        .arg(trace)
        .arg("-o")
        .arg(&output)
        .stdin(Stdio::null())
        .output()?;
    if !finished.status.success() {
        let said = String::from_utf8_lossy(&finished.stderr).into_owned();
        return Ok(format!("| {} | failed: {} | | | | |", reading.title, said.trim()));
    }
    let line = fs::read_to_string(&usage)?;
    let fields: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let [user, system, wall, _, peak_kb] = fields[..] else {
        return Err(format!("usage is `{line}`").into());
    };
    Ok(format!(
        "| {} | {:.2} | {:.2} | {:.0} | {:.1} | {} |",
        reading.title,
        wall / 1e9,
        (user + system) / 1e9,
        peak_kb / 1e3,
        fs::metadata(&output)?.len() as f64 / 1e6,
        reading.target
    ))
}
