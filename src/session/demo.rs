//! The bundled examples: listed, built or brought where needed, and handed to `run`.

use crate::cli::Cli;
use crate::cli::Command as Subcommand;
use crate::cli::Demo;
use crate::cli::Run;
use crate::session::output_dir::OutputDir;
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
use std::process::Stdio;

/// Each example and its source, whose header says what it shows.
const RUST: &[(&str, &str)] = &[
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

/// The same for those in Python.
const PYTHON: &[(&str, &str)] = &[
    ("python/serial", include_str!("../../examples/python/serial.py")),
    ("python/threads_cpu", include_str!("../../examples/python/threads_cpu.py")),
    ("python/threads_io", include_str!("../../examples/python/threads_io.py")),
    ("python/thread_pool", include_str!("../../examples/python/thread_pool.py")),
    ("python/process_pool", include_str!("../../examples/python/process_pool.py")),
    ("python/processes_queue", include_str!("../../examples/python/processes_queue.py")),
    ("python/producer_consumer", include_str!("../../examples/python/producer_consumer.py")),
    ("python/lock_race", include_str!("../../examples/python/lock_race.py")),
    ("python/subprocess_pipe", include_str!("../../examples/python/subprocess_pipe.py")),
    ("python/web_thread_pool", include_str!("../../examples/python/web_thread_pool.py")),
    ("python/asyncio_fetch", include_str!("../../examples/python/asyncio_fetch.py")),
    ("python/asyncio_blocked", include_str!("../../examples/python/asyncio_blocked.py")),
    ("python/gil_convoy", include_str!("../../examples/python/gil_convoy.py")),
    ("python/choose", include_str!("../../examples/python/choose.py")),
];

/// Prints the examples with the first line of their headers.
pub fn list() -> Result<u8> {
    let mut out = std::io::stdout().lock();
    for (name, source) in RUST.iter().chain(PYTHON) {
        writeln!(out, "{name:<25} {}", summary(source))?;
    }
    writeln!(out, "\nRun and explain one: timesink demo lock_contention")?;
    writeln!(out, "Those in Python need nothing but python3, 3.8 or newer.")?;
    Ok(0)
}

/// The first line of a header, in either language.
fn summary(source: &str) -> &str {
    let first = source.lines().next().unwrap_or_default();
    first.strip_prefix("//! ").or_else(|| first.strip_prefix("\"\"\"")).unwrap_or_default()
}

/// An example that is not built but run by an interpreter.
pub struct Script {
    /// Its name, without `python/`.
    pub name: &'static str,
    source: &'static str,
}

impl Script {
    /// Puts it into the directory of the run, and into the command behind the interpreter. A
    /// binary that was installed has no checkout at hand, and what was run stays with its results.
    pub fn bring(&self, directory: &mut OutputDir, run: &mut Run) -> Result<()> {
        let file = format!("{}.py", self.name);
        let path = directory.bring(&file, self.source).with_context(|| {
            format!("{file} cannot be written into {}", directory.path().display())
        });
        let path = path.inspect_err(|_| directory.discard())?;
        run.command.insert(1, path.into());
        Ok(())
    }
}

/// The `run` of an example: of its binary, built if it can be, or of an interpreter and a script.
pub fn prepare(demo: &Demo) -> Result<(Run, Option<Script>)> {
    let find = |list: &[(&'static str, &'static str)]| {
        list.iter().find(|(name, _)| *name == demo.name).copied()
    };
    let (program, script) = if let Some((name, source)) = find(PYTHON) {
        let name = name.trim_start_matches("python/");
        (interpreter()?, Some(Script { name, source }))
    } else if find(RUST).is_some() {
        let program = std::env::current_exe().context("this program cannot find itself")?;
        (build(&demo.name, &program)?, None)
    } else {
        let names: Vec<&str> = RUST.iter().chain(PYTHON).map(|(name, _)| *name).collect();
        bail!("there is no example `{}`; there are: {}", demo.name, names.join(", "));
    };
    let mut words: Vec<OsString> =
        vec!["timesink".into(), "run".into(), "--".into(), program.into()];
    words.extend(demo.args.iter().cloned());
    match Cli::try_parse_from(words)?.command {
        Subcommand::Run(run) => Ok((run, script)),
        _ => bail!("`run` was not understood"),
    }
}

/// The interpreter itself: `python3` may be a script that looks for one, whose time is no part
/// of the example.
fn interpreter() -> Result<PathBuf> {
    const MISSING: &str = "the Python examples need python3, 3.8 or newer, on the PATH";
    let asked = Command::new("python3")
        .args(["-I", "-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .output()
        .context(MISSING)?;
    let path = String::from_utf8(asked.stdout).unwrap_or_default();
    if !asked.status.success() || path.trim().is_empty() {
        bail!("{MISSING}: {}", String::from_utf8_lossy(&asked.stderr).trim());
    }
    Ok(path.trim().into())
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
