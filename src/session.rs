//! The only wiring: arguments -> source -> trace file -> analysis -> exports.

mod attach;
mod demo;
mod output_dir;
mod outputs;
mod python_probe;
mod record;
mod recorder;
mod source;
mod terminal;
mod whatif;

use crate::analysis::Question;
use crate::analysis::StackKind;
use crate::analysis::analyse;
use crate::analysis::analyse_focused;
use crate::analysis::rules;
use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::Export;
use crate::cli::ExportFormat;
use crate::cli::Flamegraph;
use crate::cli::Of;
use crate::cli::ReportArgs;
use crate::cli::ReportFormat;
use crate::cli::Run;
use crate::export;
use crate::model::Trace;
use crate::trace::TraceFile;
use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// Exit code when timesink itself fails before the command starts, or in any other command.
pub const EXIT_FAILED: u8 = 125;

/// Does what the command line says. Gives the exit code.
pub fn dispatch(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Run(args) => run(args, None),
        Command::Attach(args) => attach::attach(&args),
        Command::Report(args) => report(&args),
        Command::Flamegraph(args) => flamegraph(&args),
        Command::Export(args) => convert(&args),
        Command::Explain(args) => explain_rule(args.rule.as_deref()),
        Command::Whatif(args) => whatif::answer(&args),
        Command::Doctor => doctor_report(),
        Command::Examples => demo::list(),
        Command::Demo(args) => {
            let (args, script) = demo::prepare(&args)?;
            run(args, script.as_ref())
        }
    }
}

/// Records and explains a command, or an example that is a `script`.
fn run(mut args: Run, script: Option<&demo::Script>) -> Result<u8> {
    let user = record::user(args.recording.user.as_deref())?;
    let name = script.map_or(args.command[0].as_os_str(), |script| script.name.as_ref());
    let mut directory = output_dir::OutputDir::create(args.output.as_deref(), name, user.as_ref())?;
    if let Some(script) = script {
        script.bring(&mut directory, &mut args)?;
    }
    let python_path = if args.recording.python_probe {
        Some(python_probe::bring(&mut directory).inspect_err(|_| directory.discard())?)
    } else {
        None
    };
    let recorded = record::record(&args, user.as_ref(), python_path.as_deref(), &directory);
    if python_path.is_some() {
        python_probe::remove(&directory);
    }
    let recorded = match recorded {
        Ok(recorded) => recorded,
        Err(failure) => {
            directory.discard();
            return failure.exit_code();
        }
    };
    if !args.recording.record_only {
        // The command has run: whatever goes wrong from here on, its exit code is the answer.
        if let Err(error) = outputs::explain(&directory) {
            terminal::say(&format!("timesink: {error:#}"));
        }
    }
    Ok(recorded.exit_code())
}

fn report(args: &ReportArgs) -> Result<u8> {
    not_the_trace(&args.trace, args.output.as_deref())?;
    let (trace, bytes) = open(&args.trace)?;
    let question = Question {
        thread: args.thread.clone(),
        process: args.process,
        from: args.from,
        to: args.to,
    };
    let report = analyse_focused(&trace, Some(bytes), &question)?;
    to_output(args.output.as_deref(), &mut |out| match args.format {
        ReportFormat::Text => {
            let layout = terminal::layout(args.output.is_none() && terminal::stdout_is_terminal());
            export::text::write(&report, layout, out)
        }
        ReportFormat::Json => export::json::write(&report, out),
        ReportFormat::Html => export::html::write(&report, &trace, out),
    })
}

fn flamegraph(args: &Flamegraph) -> Result<u8> {
    not_the_trace(&args.trace, args.output.as_deref())?;
    let (trace, _) = open(&args.trace)?;
    let kind = stacks_of(args.of);
    to_output(args.output.as_deref(), &mut |out| export::flamegraph::write(&trace, kind, out))
}

/// Largest trace, bytes, that is analysed to be exported with its critical path: a few seconds.
const MOST_ANALYSED: u64 = 64 << 20;

fn convert(args: &Export) -> Result<u8> {
    not_the_trace(&args.trace, args.output.as_deref())?;
    let (trace, bytes) = open(&args.trace)?;
    if matches!(args.to, ExportFormat::Perfetto) && bytes > MOST_ANALYSED {
        terminal::say(
            "timesink: note: the critical path is left out, as the trace is large; the \
             trace.pftrace that `timesink run` writes has it",
        );
    }
    to_output(args.output.as_deref(), &mut |out| match args.to {
        ExportFormat::Perfetto => {
            let report = (bytes <= MOST_ANALYSED).then(|| analyse(&trace, Some(bytes)));
            outputs::perfetto(&trace, report.as_ref(), out)
        }
        ExportFormat::Chrome => outputs::chrome(&trace, None, out),
        ExportFormat::Folded => export::folded::write(&trace, stacks_of(args.of), out),
    })
}

fn stacks_of(of: Of) -> StackKind {
    match of {
        Of::OnCpu => StackKind::OnCpu,
        Of::OffCpu => StackKind::OffCpu,
        Of::Wall => StackKind::Wall,
        Of::State(state) => StackKind::In(state),
    }
}

/// Prints what a rule is about, or the list of rules.
fn explain_rule(id: Option<&str>) -> Result<u8> {
    let Some(id) = id else {
        let list = rules::listed();
        let text = format!("Rules (`timesink explain RULE` says more):\n\n{list}");
        return to_output(None, &mut |out| out.write_all(text.as_bytes()));
    };
    let Some(rule) = rules::rule(id) else {
        bail!("there is no rule `{id}`; these are the rules:\n\n{}", rules::listed());
    };
    to_output(None, &mut |out| out.write_all(rules::explained(rule).as_bytes()))
}

fn doctor_report() -> Result<u8> {
    let text = source::diagnosis();
    to_output(None, &mut |out| out.write_all(text.as_bytes()))
}

/// Opens a trace file, or the one in a directory that `run` made. Gives its size too.
fn open(path: &Path) -> Result<(TraceFile, u64)> {
    let file = trace_path(path)?;
    let bytes = std::fs::metadata(&file).map_or(0, |meta| meta.len());
    // Its message already says what the system said: no chain of causes behind it.
    let trace = TraceFile::open(&file).map_err(|error| anyhow!("{error}"))?;
    for damage in trace.damage() {
        terminal::say(&format!("timesink: note: {damage}"));
    }
    Ok((trace, bytes))
}

/// Refuses an output that is the trace itself.
fn not_the_trace(trace: &Path, output: Option<&Path>) -> Result<()> {
    let (trace, Some(output)) = (trace_path(trace)?, output) else { return Ok(()) };
    if let (Ok(a), Ok(b)) = (trace.canonicalize(), output.canonicalize())
        && a == b
    {
        bail!("-o {} is the trace itself; name another file", output.display());
    }
    Ok(())
}

fn trace_path(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let inside = path.join(output_dir::TRACE);
    if !inside.try_exists().with_context(|| format!("cannot look into {}", path.display()))? {
        bail!(
            "{} holds no {}: give a trace file, or a directory that `timesink run` made",
            path.display(),
            output_dir::TRACE
        );
    }
    Ok(inside)
}

/// Writes to a file, or to standard output. A reader that went away is no error.
fn to_output(
    path: Option<&Path>,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<u8> {
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(if let Some(path) = path {
        let file =
            output_dir::private().truncate(true).create(true).open(path).with_context(|| {
                format!("cannot write {}: give another file with -o", path.display())
            })?;
        Box::new(file)
    } else {
        Box::new(io::stdout().lock())
    });
    let result = write(&mut out).and_then(|()| out.flush());
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        other => {
            other.context("the output could not be written whole")?;
            Ok(0)
        }
    }
}
