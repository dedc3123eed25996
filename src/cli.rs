//! The command line: clap definitions and nothing else.

use crate::model::Nanos;
use crate::model::State;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Run a program and be told where its time went: running, waiting for a CPU, for a lock,
/// the disk, the network, a child, a timer. Needs no root and no change to the program.
#[derive(Parser, Debug)]
#[command(name = "timesink", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Record a command and all that it starts, then explain where the time went
    ///
    /// Leaves in one directory: trace.timesink (everything, to be analysed again), report.json,
    /// report.html, trace.pftrace (open in ui.perfetto.dev), trace.json (Chrome trace),
    /// on-cpu.svg, off-cpu.svg and wall.svg. The text report goes to stderr; the command's
    /// own input, output, signals and exit code pass through untouched.
    #[command(after_help = "Examples:\n  timesink run -- ./server --port 8080\n  \
        timesink run -o out -- sh -c 'make -j4 | tee log'\n  \
        sudo timesink run -- ./server     (sees most; the command still runs as you)")]
    Run(Run),
    /// Record processes that already run, with all their threads and descendants, then explain them
    ///
    /// Your own processes need no privilege; with sudo, any, and it sees most. Leaves the same files
    /// as `run`. The processes are not touched: Ctrl-C ends the recording, never them.
    #[command(after_help = "Examples:\n  timesink attach 1234 --for 10s\n  \
        sudo timesink attach $(pgrep -x nginx)     (Ctrl-C ends the recording)")]
    Attach(Attach),
    /// Print the report of a trace again: text, JSON or HTML
    Report(ReportArgs),
    /// Draw a flame graph of a trace: where it ran, or what it waited for
    Flamegraph(Flamegraph),
    /// Convert a trace for another viewer
    Export(Export),
    /// Say what a finding of a report means, why it matters and what to try
    ///
    /// Without a rule: the list of all rules.
    #[command(after_help = "Example:\n  timesink explain lock-bottleneck")]
    Explain(Explain),
    /// Say what the run of a trace would take if something were different
    ///
    /// Replays the trace with the change: threads compete anew for CPUs and locks and wait for
    /// each other as they did. Several changes are tried together. The run is first replayed
    /// without any change; where that is not within 5 % of the truth, nothing is claimed.
    #[command(after_help = WHATIF_HELP)]
    Whatif(WhatIfArgs),
    /// Say what timesink can see on this machine, why, and how to see more
    Doctor,
    /// List the bundled example programs
    Examples,
    /// Build and run a bundled example under the recorder, and explain it
    ///
    /// A Rust example is built in the checkout of timesink. A Python example is in this program:
    /// it is written into the directory of the run and run by the python3 of the PATH.
    #[command(after_help = "Examples:\n  timesink demo lock_contention --threads 8\n  \
        timesink demo python/gil_convoy --burners 4")]
    Demo(Demo),
}

/// `timesink run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Directory for the results [default: timesink-out/NAME-TIME]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)] // clap would show the doc as a heading
    pub recording: Recording,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// `timesink attach`.
#[derive(Args, Debug)]
pub struct Attach {
    /// Ids of the processes
    #[arg(required = true, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// How much to see: kernel (root: everything), perf or proc (ordinary users)
    #[arg(long, value_enum, default_value_t = TierChoice::Auto)]
    pub tier: TierChoice,
    /// End after this time, as 500ms, 10s, 5m or 1h [default: when all have ended]
    #[arg(long = "for", value_name = "DUR", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Directory for the results [default: timesink-out/NAME-TIME]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// CPU samples per second and CPU; 0 takes none
    #[arg(long, value_name = "HZ", default_value_t = 997, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub freq: u32,
    /// Take no stacks of waits (cheaper for programs that switch a million times a second)
    #[arg(long)]
    pub no_wait_stacks: bool,
    /// Only record: leave trace.timesink, print and convert nothing
    #[arg(long)]
    pub record_only: bool,
}

/// A time with its unit; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time; use ms, s, m or h, as in 10s")),
    };
    let seconds: f64 = number.parse().map_err(|_| "a number is needed, as in 10s".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds * scale).map_err(|e| e.to_string())?;
    if duration.is_zero() { Err("it must be longer than 0".to_owned()) } else { Ok(duration) }
}

/// How to record.
#[derive(Args, Debug)]
pub struct Recording {
    /// How much to see: kernel (root: everything), perf or proc (ordinary users)
    #[arg(long, value_enum, default_value_t = TierChoice::Auto)]
    pub tier: TierChoice,
    /// CPU samples per second and CPU; 0 takes none
    #[arg(long, value_name = "HZ", default_value_t = 997, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub freq: u32,
    /// Take no stacks of waits (cheaper for programs that switch a million times a second)
    #[arg(long)]
    pub no_wait_stacks: bool,
    /// Tell the kernel the names of Python's threads, so that the report has them (before 3.14)
    ///
    /// A `sitecustomize` found through PYTHONPATH: nothing is seen of interpreters started with
    /// -I or -E. One that is there already is loaded too.
    #[arg(long)]
    pub python_probe: bool,
    /// Run the command as this user [default: who called sudo, else yourself]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only record: leave trace.timesink, print and convert nothing
    #[arg(long)]
    pub record_only: bool,
}

/// `--tier`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum TierChoice {
    /// The best that works here
    Auto,
    /// BPF in the kernel: every wait with reason, object and waker
    Kernel,
    /// Perf events: exact switches; reasons of longer waits by looking from outside
    Perf,
    /// /proc only: states by sampling
    Proc,
}

/// `timesink report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// A trace file, or a directory made by `timesink run`
    pub trace: PathBuf,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// Why did this thread take so long: show the path of what it waited for, by its name or id
    #[arg(long, value_name = "NAME")]
    pub thread: Option<String>,
    /// Process of that thread, where several have one of that name
    #[arg(long, value_name = "PID", requires = "thread")]
    pub process: Option<u32>,
    /// Show the path from this time on, counted from the start: 1.5s, 300ms
    #[arg(long, value_name = "TIME")]
    pub from: Option<Nanos>,
    /// Show it up to this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<Nanos>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--format`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportFormat {
    /// For people
    Text,
    /// For programs (schema: docs/FORMAT.md)
    Json,
    /// For a browser, in one file
    Html,
}

/// `timesink flamegraph`.
#[derive(Args, Debug)]
pub struct Flamegraph {
    /// A trace file, or a directory made by `timesink run`
    pub trace: PathBuf,
    /// Which time to draw: on-cpu, off-cpu, wall (both), or a state alone: gil, lock, disk, ...
    #[arg(long, default_value = "wall", value_name = "TIME")]
    pub of: Of,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--of`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// Time on a CPU
    OnCpu,
    /// Time waiting, by what for
    OffCpu,
    /// Both: all of every thread's life
    Wall,
    /// One state alone
    State(State),
}

impl FromStr for Of {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let state = |state: &State| state.name() == text.replace('-', "_");
        match text {
            "on-cpu" => Ok(Self::OnCpu),
            "off-cpu" => Ok(Self::OffCpu),
            "wall" => Ok(Self::Wall),
            _ => State::ALL.into_iter().find(state).map(Self::State).ok_or_else(|| {
                let states = State::ALL.map(State::name).join(", ");
                format!("it is on-cpu, off-cpu, wall, or one of the states {states}")
            }),
        }
    }
}

/// `timesink export`.
#[derive(Args, Debug)]
pub struct Export {
    /// A trace file, or a directory made by `timesink run`
    pub trace: PathBuf,
    /// The format
    #[arg(long, value_enum)]
    pub to: ExportFormat,
    /// For folded stacks: which time
    #[arg(long, default_value = "wall", value_name = "TIME")]
    pub of: Of,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--to`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    /// Protobuf for <https://ui.perfetto.dev>: scheduling, wakers, samples, everything
    Perfetto,
    /// JSON for Chrome's tracing page and Perfetto: the longest waits first, within a budget
    Chrome,
    /// Folded stacks, one line each, for any flame graph tool
    Folded,
}

/// `timesink explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// The rule, as a report names it in brackets
    pub rule: Option<String>,
}

/// The grammar of changes, as the help shows it.
const WHATIF_HELP: &str = "Changes:
  lock:ID*0.5            what is done while the lock is held takes half its time
  lock:ID=free           the lock keeps nobody out; the work under it takes as long as before
  lock:ID/4              the lock is split into 4, each use takes one of them
  section:FUNCTION*0.5   running and waiting in a function, and what it calls, takes half
  thread:NAME*0.5        all that the threads of this name do themselves takes half
  io:ID*0.5 sleep:ID*0.5 the waits for one file, socket or timer take half
  disk*0.5 network*0.5 sleep*0.5   all waits of that kind
  cpus=8 cpus=unlimited  another number of CPUs
  threads=8 threads:NAME=8   another number of workers
  nogil                  Python's GIL keeps nobody out
ID is an object's id in the report, or its label or function where that is one alone.

Examples:
  timesink whatif timesink-out/latest --change 'lock:0*0.5'
  timesink whatif trace.timesink --change 'section:parse*0.5' --change cpus=8";

/// `timesink whatif`.
#[derive(Args, Debug)]
pub struct WhatIfArgs {
    /// A trace file, or a directory made by `timesink run`
    pub trace: PathBuf,
    /// What is different (see below); several are tried together
    #[arg(long = "change", value_name = "CHANGE", required = true)]
    pub changes: Vec<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = WhatIfFormat::Text)]
    pub format: WhatIfFormat,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--format` of `whatif`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhatIfFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `timesink demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Name of the example (`timesink examples` lists them)
    pub name: String,
    /// Arguments for the example
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flame_graphs_are_of_cpu_time_of_waits_or_of_a_state() {
        assert_eq!("wall".parse(), Ok(Of::Wall));
        assert_eq!("gil".parse(), Ok(Of::State(State::Gil)));
        assert_eq!("page-fault".parse(), Ok(Of::State(State::PageFault)));
        let error = "sleepy".parse::<Of>().expect_err("no such state");
        assert!(error.contains("sleep") && error.contains("on-cpu"), "{error}");
    }
}
