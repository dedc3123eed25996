//! Records processes that already run. They are never touched: no signal, no stop, no trace.

use crate::capture::Options;
use crate::capture::running;
use crate::capture::running::Running;
use crate::capture::sys::host;
use crate::capture::sys::signals;
use crate::cli::Attach;
use crate::model::Clocks;
use crate::model::Nanos;
use crate::model::Pid;
use crate::session::output_dir::OutputDir;
use crate::session::output_dir::TRACE;
use crate::session::outputs;
use crate::session::record;
use crate::session::recorder::Ending;
use crate::session::recorder::Kept;
use crate::session::recorder::Recorder;
use crate::session::source;
use crate::session::source::Bounds;
use crate::session::terminal::say;
use crate::trace::Writer;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Attaches, records, and explains.
pub fn attach(args: &Attach) -> Result<u8> {
    let targets: Vec<Running> =
        args.pids.iter().map(|&pid| running::find(pid)).collect::<Result<_, _>>()?;
    let Some(first) = targets.first() else { bail!("name at least one process id") };
    let command: Vec<OsString> =
        first.command.iter().map(|word| OsString::from_vec(word.as_bytes().to_vec())).collect();
    let user = record::user(None)?;
    // Before a directory is made: what cannot be recorded leaves none.
    let options = Options { sample_hz: args.freq, wait_stacks: !args.no_wait_stacks };
    let opened = source::to_attach(args.tier, options)?;
    let directory = OutputDir::create(args.output.as_deref(), &command[0], user.as_ref())?;
    if let Err(error) = record(args, &targets, &command, opened, &directory) {
        directory.discard();
        return Err(error);
    }
    if !args.record_only {
        outputs::explain(&directory)?;
    }
    Ok(0)
}

fn record(
    args: &Attach,
    targets: &[Running],
    command: &[OsString],
    opened: source::Opened,
    directory: &OutputDir,
) -> Result<()> {
    signals::collect_endings().context("signals cannot be handled")?;
    let file = directory
        .trace_in_the_making()
        .with_context(|| format!("{} cannot be written", directory.path().join(TRACE).display()))?;
    let roots: Vec<Pid> = targets.iter().map(|target| target.pid).collect();
    let bounds = Bounds::of(&roots);
    let info = source::info(command, args.freq, &opened, &bounds);
    let writer = Writer::to_file(file, &info).context("the trace file cannot be written")?;
    let mut recorder = Recorder::new(opened.source, writer, None, bounds.groups);
    recorder.attach(&roots)?;
    let used_before = host::own_usage().0;
    if let Err(error) = directory.started(&outputs::names()) {
        say(&format!("timesink: the trace keeps its temporary name: {error}"));
    }
    say(&format!("timesink: attached to {}; {}", named(&roots), until(args)));
    recorder.until_over(args.duration);
    recorder.finish(used_before, |kept| ending(kept, roots[0]));
    let _ = signals::restore_terminal();
    Ok(())
}

fn named(roots: &[Pid]) -> String {
    let ids: Vec<String> = roots.iter().map(|root| root.0.to_string()).collect();
    ids.join(", ")
}

fn until(args: &Attach) -> String {
    match args.duration {
        Some(limit) => format!("recording for {limit:?}, or until Ctrl-C"),
        None => "recording until it ends, or until Ctrl-C (which does not touch it)".to_owned(),
    }
}

/// The recording ends with its last event: the last exit, or what the source said of those who
/// lived when it stopped. Naming the last frames came after that.
fn ending(kept: &Kept, first: Pid) -> Ending {
    let now = host::clocks();
    let past = if kept.last == Nanos::ZERO { Nanos::ZERO } else { now.monotonic - kept.last };
    let clocks = Clocks {
        monotonic: now.monotonic - past,
        realtime: now.realtime - past,
        boottime: now.boottime - past,
    };
    let status = kept.statuses.get(&first).copied().flatten();
    Ending { root: status.map(|status| (first, Some(status))), clocks }
}
