//! Picks the source for a recording and says what it is.

use crate::capture::CaptureError;
use crate::capture::Options;
use crate::capture::Source;
use crate::capture::cgroup::CpuGroups;
use crate::capture::doctor;
use crate::capture::doctor::Choice;
use crate::capture::kernel::KernelSource;
use crate::capture::perf::PerfSource;
use crate::capture::proc::ProcSource;
use crate::capture::sys::host;
use crate::cli::TierChoice;
use crate::model::Info;
use crate::model::Pid;
use crate::model::Text;
use crate::model::Tier;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// A source, and what a reader must know of why it is not a better one.
pub struct Opened {
    /// The source.
    pub source: Box<dyn Source>,
    /// One sentence for each better tier that was not used, with its remedy.
    pub notes: Vec<String>,
}

/// The source of the tier that was asked for; for `auto` the best that works.
pub fn open(choice: TierChoice, options: Options) -> Result<Opened> {
    let asked = |name: &str| {
        vec![format!(
            "The {name} tier was asked for. What sees most: timesink with sudo and without --tier"
        )]
    };
    let (source, notes): (Result<Box<dyn Source>, CaptureError>, _) = match choice {
        TierChoice::Kernel => (kernel(options), Vec::new()),
        TierChoice::Perf => (perf(options), asked("perf")),
        TierChoice::Proc => (proc(options), asked("proc")),
        TierChoice::Auto => return best(options),
    };
    let source = source.map_err(|error| {
        anyhow!("{error}; or leave out --tier: then the best tier that works here is used")
    })?;
    Ok(Opened { source, notes })
}

/// The best tier that works, and why no better one does.
fn best(options: Options) -> Result<Opened> {
    let mut loaded = None;
    let diagnosis = doctor::diagnose_with(|| {
        loaded = Some(kernel(options)?);
        Ok(())
    });
    let Choice { tier, skipped: notes } = doctor::choose(&diagnosis);
    let source = match (tier, loaded) {
        (Some(Tier::Kernel), Some(source)) => source,
        (Some(Tier::Perf), _) => perf(options)?,
        (Some(_), _) => proc(options)?,
        (None, _) => bail!("no tier can record here. {}", notes.join(" ")),
    };
    Ok(Opened { source, notes })
}

/// What `timesink doctor` prints: the kernel tier is really loaded, where it may be.
pub fn diagnosis() -> String {
    let options = Options { sample_hz: 0, wait_stacks: true };
    doctor::diagnose_with(|| kernel(options).map(drop)).to_string()
}

fn kernel(options: Options) -> Result<Box<dyn Source>, CaptureError> {
    Ok(Box::new(KernelSource::new(options)?))
}

fn perf(options: Options) -> Result<Box<dyn Source>, CaptureError> {
    Ok(Box::new(PerfSource::new(options)?))
}

fn proc(options: Options) -> Result<Box<dyn Source>, CaptureError> {
    Ok(Box::new(ProcSource::new(options)?))
}

/// The same for processes that already run, as far as this user may look at them.
pub fn to_attach(choice: TierChoice, options: Options) -> Result<Opened> {
    let mut opened = open(choice, options)?;
    for note in &mut opened.notes {
        *note = note.replace("timesink run -- ...", "timesink attach PID");
    }
    opened.notes.extend(doctor::cannot_look(&doctor::facts()));
    opened.notes.push(
        "Attached to a running program: what happened before is not in the numbers, and processes \
         that left its tree before (daemons) are not recorded."
            .to_owned(),
    );
    Ok(opened)
}

/// What bounds the CPU time of those who are recorded.
pub struct Bounds {
    /// CPUs that they may run on.
    pub cpus: u32,
    /// Groups that limit them.
    pub groups: CpuGroups,
}

impl Bounds {
    /// Of this process, and so of the command that it starts.
    pub fn own() -> Self {
        Self { cpus: host::cpus_allowed(), groups: CpuGroups::own() }
    }

    /// Of processes that run already, whatever this one may do.
    pub fn of(pids: &[Pid]) -> Self {
        Self { cpus: host::cpus_allowed_to(pids), groups: CpuGroups::of(pids) }
    }
}

/// What is recorded, where and how.
pub fn info(command: &[OsString], sample_hz: u32, opened: &Opened, bounds: &Bounds) -> Info {
    let (kernel, arch) = host::uname();
    let source = &opened.source;
    let mut limits = opened.notes.clone();
    limits.extend(source.limits());
    Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command.iter().map(|arg| Text::new(arg.as_bytes())).collect(),
        tier: source.tier(),
        sample_hz,
        kernel,
        arch,
        cpus_online: host::cpus_online(),
        cpus_allowed: bounds.cpus,
        cpu_quota_millis: bounds.groups.quota_millis(),
        clocks: host::clocks(),
        limits,
    }
}
