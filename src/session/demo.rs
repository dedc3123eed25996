//! The bundled examples: listed, built where needed, and handed to `run`.

use crate::cli::Cli;
use crate::cli::Command as Subcommand;
use crate::cli::Demo;
use crate::cli::Run;
use crate::session::terminal::say;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Parser;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Each example and its source, whose header says what it shows.
const EXAMPLES: &[(&str, &str)] = &[
    ("serial", include_str!("../../examples/serial.rs")),
    ("threads_cpu", include_str!("../../examples/threads_cpu.rs")),
    ("threads_io", include_str!("../../examples/threads_io.rs")),
    ("lock_contention", include_str!("../../examples/lock_contention.rs")),
    ("thread_pool", include_str!("../../examples/thread_pool.rs")),
    ("producer_consumer", include_str!("../../examples/producer_consumer.rs")),
    ("processes", include_str!("../../examples/processes.rs")),
    ("subprocess", include_str!("../../examples/subprocess.rs")),
    ("async_io", include_str!("../../examples/async_io.rs")),
    ("context_switch", include_str!("../../examples/context_switch.rs")),
];

/// Prints the examples with the first line of their headers.
pub fn list() -> Result<u8> {
    let mut out = std::io::stdout().lock();
    for (name, source) in EXAMPLES {
        writeln!(out, "{name:<18} {}", summary(source))?;
    }
    writeln!(out, "\nRun and explain one: timesink demo lock_contention")?;
    Ok(0)
}

fn summary(source: &str) -> &str {
    source.lines().find_map(|line| line.strip_prefix("//! ")).unwrap_or_default()
}

/// Builds the example if it can be built, and gives the `run` of it.
pub fn prepare(demo: &Demo) -> Result<Run> {
    if !EXAMPLES.iter().any(|(name, _)| *name == demo.name) {
        let names: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        bail!("there is no example `{}`; there are: {}", demo.name, names.join(", "));
    }
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let binary = build(&demo.name, &program)?;
    let mut words: Vec<OsString> =
        vec!["timesink".into(), "run".into(), "--".into(), binary.into()];
    words.extend(demo.args.iter().cloned());
    match Cli::try_parse_from(words)?.command {
        Subcommand::Run(run) => Ok(run),
        _ => bail!("`run` was not understood"),
    }
}

/// The example's binary beside ours (`target/release/timesink` -> `target/release/examples/NAME`).
fn build(name: &str, program: &Path) -> Result<PathBuf> {
    let directory = program.parent().unwrap_or(Path::new("."));
    let binary = directory.join("examples").join(name);
    if let Some(workspace) = workspace_of(directory) {
        say(&format!("timesink: building the example {name}"));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace).args(["build", "--quiet", "--example", name]);
        if directory.file_name().is_some_and(|profile| profile == "release") {
            cargo.arg("--release");
        }
        let built = cargo.status();
        if !built.as_ref().is_ok_and(std::process::ExitStatus::success) {
            let why = built.map_or_else(|error| error.to_string(), |status| status.to_string());
            bail!("the example could not be built ({why}); try `cargo build --release --examples`");
        }
    }
    if !binary.exists() {
        bail!(
            "the example {name} is not at {}; in a checkout of timesink type `cargo demo {name}`",
            binary.display()
        );
    }
    Ok(binary)
}

/// The checkout this binary was built in.
fn workspace_of(directory: &Path) -> Option<&Path> {
    directory.ancestors().skip(1).find(|parent| {
        parent.join("Cargo.toml").exists() && parent.join("examples/lock_contention.rs").exists()
    })
}
