//! Everything that is made from a finished trace file.

use crate::analysis::Report;
use crate::analysis::StackKind;
use crate::analysis::analyse;
use crate::export;
use crate::model::Trace;
use crate::session::output_dir::OutputDir;
use crate::session::output_dir::TRACE;
use crate::session::terminal;
use crate::session::terminal::say;
use crate::trace::TraceFile;
use anyhow::Context;
use anyhow::Result;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use std::io;
use std::io::BufWriter;
use std::io::Write;

/// A file of the results.
struct Product {
    name: &'static str,
    what: &'static str,
    write: fn(&TraceFile, &Report, &mut dyn Write) -> io::Result<()>,
}

/// In the order in which a reader wants them.
const PRODUCTS: &[Product] = &[
    Product {
        name: "report.html",
        what: "the report with timelines and flame graphs: open it in a browser",
        write: |trace, report, out| export::html::write(report, trace, out),
    },
    Product {
        name: "report.json",
        what: "the same for programs",
        write: |_, report, out| export::json::write(report, out),
    },
    Product {
        name: "on-cpu.svg",
        what: "flame graph of the time on a CPU",
        write: |trace, _, out| export::flamegraph::write(trace, StackKind::OnCpu, out),
    },
    Product {
        name: "off-cpu.svg",
        what: "flame graph of the waits",
        write: |trace, _, out| export::flamegraph::write(trace, StackKind::OffCpu, out),
    },
    Product {
        name: "wall.svg",
        what: "flame graph of both",
        write: |trace, _, out| export::flamegraph::write(trace, StackKind::Wall, out),
    },
    Product {
        name: "trace.pftrace",
        what: "open it in https://ui.perfetto.dev",
        write: |trace, report, out| perfetto(trace, Some(report), out),
    },
    Product {
        name: "trace.json",
        what: "Chrome trace, the longest waits",
        write: |trace, report, out| chrome(trace, Some(report), out),
    },
];

/// Names of all files but the trace.
pub fn names() -> Vec<&'static str> {
    PRODUCTS.iter().map(|product| product.name).collect()
}

/// Analyses the trace in `directory`, prints the report and writes the other files.
pub fn explain(directory: &OutputDir) -> Result<()> {
    let path = directory.path().join(TRACE);
    let trace = TraceFile::open(&path)?;
    let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
    let progress = progress();
    progress.set_message("analysing");
    let report = analyse(&trace, Some(bytes));
    progress.suspend(|| print(&report))?;
    let mut failures = Vec::new();
    for product in PRODUCTS {
        progress.set_message(product.name);
        if let Err(error) = make(product, directory, &trace, &report) {
            failures.push(format!("{}: {error:#}", product.name));
        }
    }
    progress.finish_and_clear();
    list(directory, &failures);
    Ok(())
}

fn make(
    product: &Product,
    directory: &OutputDir,
    trace: &TraceFile,
    report: &Report,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 18, directory.file(product.name)?);
    (product.write)(trace, report, &mut out)?;
    out.flush()?;
    Ok(())
}

fn print(report: &Report) -> Result<()> {
    let mut text = Vec::new();
    let layout = terminal::layout(terminal::stderr_is_terminal());
    export::text::write(report, layout, &mut text).context("the report cannot be laid out")?;
    let mut stderr = io::stderr().lock();
    stderr.write_all(b"\n")?;
    stderr.write_all(&text)?;
    Ok(())
}

fn list(directory: &OutputDir, failures: &[String]) {
    say(&format!("\nFiles in {}", directory.path().display()));
    for product in PRODUCTS {
        if !failures.iter().any(|failure| failure.starts_with(product.name)) {
            say(&format!("  {:<15} {}", product.name, product.what));
        }
    }
    say(&format!(
        "  {TRACE:<15} everything; read it again with `timesink report {}`",
        directory.path().display()
    ));
    for failure in failures {
        say(&format!("  not written: {failure}"));
    }
}

/// A spinner on a terminal; nothing when piped.
fn progress() -> ProgressBar {
    if !terminal::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} timesink: {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// The Perfetto trace; the verdict of `report`, where there is one, heads it.
pub fn perfetto(trace: &dyn Trace, report: Option<&Report>, out: &mut dyn Write) -> io::Result<()> {
    export::perfetto::write(trace, report, &export::perfetto::Options::default(), out)?;
    Ok(())
}

/// The Chrome trace, headed the same.
pub fn chrome(trace: &dyn Trace, report: Option<&Report>, out: &mut dyn Write) -> io::Result<()> {
    export::chrome::write(trace, report, &export::chrome::Options::default(), out)?;
    Ok(())
}
