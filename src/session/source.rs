//! Picks the source for a recording and says what it is.

use crate::capture::CaptureError;
use crate::capture::Options;
use crate::capture::Source;
use crate::capture::doctor;
use crate::capture::kernel::KernelSource;
use crate::capture::perf::PerfSource;
use crate::capture::proc::ProcSource;
use crate::capture::sys::host;
use crate::cli::Run;
use crate::cli::TierChoice;
use crate::model::Info;
use crate::model::Text;
use anyhow::Result;
use std::os::unix::ffi::OsStrExt;

/// The source of the tier that was asked for; for `auto` the first that works.
pub fn open(choice: TierChoice, options: Options) -> Result<Box<dyn Source>> {
    let source = match choice {
        TierChoice::Kernel => kernel(options)?,
        TierChoice::Perf => perf(options)?,
        TierChoice::Proc => proc(options)?,
        TierChoice::Auto => {
            kernel(options).or_else(|_| perf(options)).or_else(|_| proc(options))?
        }
    };
    Ok(source)
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

/// What is recorded, where and how.
pub fn info(args: &Run, source: &dyn Source) -> Info {
    let (kernel, arch) = host::uname();
    Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: args.command.iter().map(|arg| Text::new(arg.as_bytes())).collect(),
        tier: source.tier(),
        sample_hz: args.recording.freq,
        kernel,
        arch,
        cpus_online: host::cpus_online(),
        cpus_allowed: host::cpus_allowed(),
        cpu_quota_millis: doctor::facts().cpu_quota_millis,
        clocks: host::clocks(),
        limits: source.limits(),
    }
}
