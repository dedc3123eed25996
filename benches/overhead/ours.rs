//! timesink on its tiers, and what it says a recording cost.

use crate::Tool;
use crate::Traced;
use crate::bench;
use crate::bench::Bench;
use crate::bench::Workload;
use crate::stats::Estimate;
use serde_json::Value;
use std::fs;
use std::process::Command;

const TIMESINK: &str = env!("CARGO_BIN_EXE_timesink");

fn needs_root() -> Option<&'static str> {
    (!bench::is_root()).then_some("needs root")
}

fn needs_nothing() -> Option<&'static str> {
    None
}

/// Ours.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "kernel",
        title: "timesink, kernel tier (wait stacks, samples)",
        missing: needs_root,
        run: |bench, workload| record(bench, workload, &["--tier", "kernel"]),
    },
    Tool {
        name: "kernel-no-stacks",
        title: "timesink, kernel tier, no wait stacks",
        missing: needs_root,
        run: |bench, workload| record(bench, workload, &["--tier", "kernel", "--no-wait-stacks"]),
    },
    Tool {
        name: "kernel-bare",
        title: "timesink, kernel tier, no wait stacks, no samples",
        missing: needs_root,
        run: |bench, workload| {
            record(bench, workload, &["--tier", "kernel", "--no-wait-stacks", "--freq", "0"])
        },
    },
    Tool {
        name: "perf-tier",
        title: "timesink, perf tier",
        missing: needs_nothing,
        run: |bench, workload| record(bench, workload, &["--tier", "perf"]),
    },
    Tool {
        name: "proc-tier",
        title: "timesink, proc tier",
        missing: needs_nothing,
        run: |bench, workload| record(bench, workload, &["--tier", "proc"]),
    },
];

/// What a recording cost, as the report says.
#[derive(Clone, Copy)]
pub struct Books {
    /// Intervals.
    pub records: u64,
    /// Records that never arrived.
    pub lost: u64,
    /// Threads whose run count differs from the kernel's.
    pub differing: u64,
    /// CPU time of the recorder.
    pub collector_ns: u64,
    /// Largest resident set of the recorder.
    pub memory: u64,
    /// Size of the trace file.
    pub bytes: u64,
}

fn record(bench: &Bench, workload: &Workload, options: &[&str]) -> Result<Traced, String> {
    let out = bench.file("ours");
    let _ = fs::remove_dir_all(&out);
    let mut command = Command::new(TIMESINK);
    command.args(["run", "--record-only", "-o"]).arg(&out).args(options).arg("--");
    command.args(bench.command(workload, false)).env_remove("SUDO_UID");
    bench::run(&mut command)?;
    let usage = bench.usage()?;
    let output = Command::new(TIMESINK)
        .args(["report", "--format", "json"])
        .arg(&out)
        .output()
        .map_err(|error| error.to_string())?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let books = Books {
        records: number("/health/records"),
        lost: number("/health/lost_records"),
        differing: number("/health/run_counts/differing"),
        collector_ns: number("/cost/collector_cpu_ns"),
        memory: number("/cost/collector_memory_bytes"),
        bytes: number("/cost/trace_bytes"),
    };
    let note = (books.differing > 0).then(|| "run counts differ from the kernel's".to_owned());
    Ok(Traced { usage, books: Some(books), note })
}

/// Prints what our recorder used itself.
pub fn print_books(series: &[(&str, &[Books])]) {
    let ours: Vec<_> = series.iter().filter(|(_, books)| !books.is_empty()).collect();
    if ours.is_empty() {
        return;
    }
    println!(
        "| recorder | records | its CPU time, ms | per million records, s | bytes per record | memory, MB |"
    );
    println!("|---|---|---|---|---|---|");
    for (title, books) in ours {
        let median = |value: fn(&Books) -> f64| {
            Estimate::of(books.iter().map(value)).map_or(f64::NAN, |estimate| estimate.median)
        };
        let memory = books.iter().map(|b| b.memory).max().unwrap_or_default();
        println!(
            "| {title} | {:.0} | {:.0} | {:.2} | {:.1} | {:.0} |",
            median(|b| b.records as f64),
            median(|b| b.collector_ns as f64 / 1e6),
            median(|b| b.collector_ns as f64 / 1e3 / b.records.max(1) as f64),
            median(|b| b.bytes as f64 / b.records.max(1) as f64),
            memory as f64 / 1e6,
        );
    }
    println!();
}
