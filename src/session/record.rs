//! Records one command: starts it held, lets the source see it from its first instruction, and
//! has it recorded until it ends.

use crate::capture::Options;
use crate::capture::Target;
use crate::capture::probe_ring::ProbeRing;
use crate::capture::sys::host;
use crate::capture::sys::signals;
use crate::capture::sys::spawn::Held;
use crate::capture::sys::spawn::User;
use crate::capture::sys::spawn::Waiter;
use crate::capture::sys::spawn::find_user;
use crate::cli::Run;
use crate::model::Pid;
use crate::session::EXIT_FAILED;
use crate::session::output_dir::OutputDir;
use crate::session::output_dir::TRACE;
use crate::session::outputs;
use crate::session::recorder::Ending;
use crate::session::recorder::Recorder;
use crate::session::source;
use crate::session::source::Bounds;
use crate::session::terminal::say;
use crate::trace::Writer;
use anyhow::Context;
use anyhow::Result;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// A finished recording.
pub struct Recorded {
    /// `None` if it could not be learnt.
    status: Option<u32>,
}

impl Recorded {
    /// The command's own exit code; 128+n after signal n; 125 if it could not be learnt.
    pub fn exit_code(&self) -> u8 {
        let Some(status) = self.status else { return EXIT_FAILED };
        match status & 0x7f {
            0 => (status >> 8) as u8,
            signal => 128 + signal as u8,
        }
    }
}

/// Why there is no recording.
pub enum Failure {
    /// The command cannot start.
    Command(io::Error, String),
    /// We cannot.
    Own(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Own(error)
    }
}

impl Failure {
    /// As a shell: 127 for not found, 126 for not executable, 125 for our own failures.
    pub fn exit_code(self) -> Result<u8> {
        let (error, command) = match self {
            Self::Own(error) => return Err(error),
            Self::Command(error, command) => (error, command),
        };
        match error.kind() {
            io::ErrorKind::NotFound if Path::new(&command).is_file() => {
                say(&format!(
                    "timesink: {command}: its interpreter (first line of the script, or the loader of the binary) does not exist"
                ));
                Ok(126)
            }
            io::ErrorKind::PermissionDenied if Path::new(&command).is_dir() => {
                say(&format!("timesink: {command}: is a directory; name the program in it"));
                Ok(126)
            }
            io::ErrorKind::NotFound => {
                say(&format!("timesink: {command}: no such command; check its path and spelling"));
                Ok(127)
            }
            io::ErrorKind::PermissionDenied => {
                say(&format!(
                    "timesink: {command}: not executable by this user; check `ls -l` of it"
                ));
                Ok(126)
            }
            _ => {
                say(&format!("timesink: {command}: {error}"));
                Ok(126)
            }
        }
    }
}

/// Who the command runs as: `--user`, else under sudo the invoking user, else (`None`) ourselves.
pub fn user(asked: Option<&str>) -> Result<Option<User>> {
    if let Some(name) = asked {
        let user = find_user(name).context("--user")?;
        if user.uid != host::effective_uid() && host::effective_uid() != 0 {
            anyhow::bail!("--user {name}: only root can run a command as another user; use sudo");
        }
        return Ok(Some(user));
    }
    let invoker = std::env::var("SUDO_UID").ok().filter(|_| host::effective_uid() == 0);
    match invoker.as_deref() {
        None | Some("0") => Ok(None),
        Some(uid) => Ok(Some(
            find_user(uid)
                .context("SUDO_UID names nobody; say who the command runs as with --user NAME")?,
        )),
    }
}

/// Records the command into `directory`.
pub fn record(
    args: &Run,
    user: Option<&User>,
    python_path: Option<&OsStr>,
    directory: &OutputDir,
) -> Result<Recorded, Failure> {
    let options =
        Options { sample_hz: args.recording.freq, wait_stacks: !args.recording.no_wait_stacks };
    signals::pass_through().context("signals cannot be handled")?;
    let opened = source::open(args.recording.tier, options)?;
    let file = directory
        .trace_in_the_making()
        .with_context(|| format!("{} cannot be written", directory.path().join(TRACE).display()))?;
    let bounds = Bounds::own();
    let mut info = source::info(&args.command, args.recording.freq, &opened, &bounds);
    let mut source = opened.source;
    let probe = match ProbeRing::create_for(user.map(|user| (user.uid, user.gid))) {
        Ok(probe) => Some(probe),
        Err(error) => {
            info.limits.push(format!("spans of in-process probes are not recorded: {error}"));
            None
        }
    };
    let writer = Writer::to_file(file, &info).context("the trace file cannot be written")?;
    let mut started = command(args, user, probe.as_ref());
    if let Some(path) = python_path {
        started.env("PYTHONPATH", path);
    }
    let held = Held::fork(started, user).context("the command's process cannot be made")?;
    let (pid, waiter) = (held.pid, Waiter::new(held.pid));
    source.start(&Target { pid: Pid(pid) }).map_err(anyhow::Error::from)?;
    let used_before = host::own_usage().0;
    held.release().map_err(|error| {
        let name = args.command[0].to_string_lossy().escape_debug().to_string();
        Failure::Command(why_not(&args.command[0], error), name)
    })?;
    if let Err(error) = directory.started(&outputs::names()) {
        say(&format!("timesink: the trace keeps its temporary name: {error}"));
    }
    let mut recorder = Recorder::new(source, writer, probe, bounds.groups);
    let status = recorder.until_end(&waiter, pid);
    recorder
        .finish(used_before, |_| Ending { root: Some((Pid(pid), status)), clocks: host::clocks() });
    // Only now: until the file is whole, a second Ctrl-C must not end us.
    let _ = signals::restore_terminal();
    Ok(Recorded { status })
}

/// A directory of PATH that may not be searched makes every missing command "permission
/// denied"; a shell says "not found" then, and so do we.
fn why_not(command: &OsStr, error: io::Error) -> io::Error {
    let by_path = !command.as_bytes().contains(&b'/');
    if !by_path || error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let exists = std::env::split_paths(&path).any(|directory| directory.join(command).exists());
    if exists { error } else { io::ErrorKind::NotFound.into() }
}

/// The command with its environment: the probe's ring, and a home that fits its user.
fn command(args: &Run, user: Option<&User>, probe: Option<&ProbeRing>) -> Command {
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    if let Some(probe) = probe {
        command.env(timesink_probe::ENVIRONMENT, probe.path());
    }
    if let Some(user) = user {
        command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
    }
    command
}
