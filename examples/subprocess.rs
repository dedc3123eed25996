//! A program that runs other programs and waits for each: `sleep`, then itself.
//!
//! The report must show the parent in `child`, waiting in `run_and_wait`, and where that time went
//! in the children: asleep in `sleep`, on the CPU in the copy of this program.
//!
//! Options: --children 4  --sleep-ms 200  --burn-ms 300 (the copy's CPU time)
mod support;

use std::io;
use std::process::Command;

use support::{Args, burn_ms, timed, truth};

fn main() -> io::Result<()> {
    let mut args = Args::parse(include_str!("subprocess.rs"));
    let is_child = args.flag("child");
    let children = args.number("children", 4);
    let sleep_ms = args.number("sleep-ms", 200);
    let burn = args.number("burn-ms", 300);
    args.finish();
    timesink_probe::init();
    if is_child {
        compute(burn);
        return Ok(());
    }

    let (result, wall) = timed(|| -> io::Result<_> {
        let mut sleeps = 0;
        for _ in 0..children {
            let mut command = Command::new("sleep");
            command.arg(format!("{}.{:03}", sleep_ms / 1000, sleep_ms % 1000));
            let (result, time) = timed(|| run_and_wait(&mut command));
            result?;
            sleeps += time;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", "--burn-ms", &burn.to_string()]);
        let (result, copy) = timed(|| run_and_wait(&mut command));
        result?;
        Ok((sleeps, copy))
    });
    let (sleeps, copy) = result?;
    truth(&[
        ("sleep_children_ns", sleeps),
        ("copy_ns", copy),
        ("child_wait_ns", sleeps + copy),
        ("children", children + 1),
        ("wall_ns", wall),
    ]);
    Ok(())
}

#[inline(never)]
fn run_and_wait(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let _span = tracing::info_span!("run_and_wait", program).entered();
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program}: {status}"))) }
}

#[inline(never)]
fn compute(ms: u64) {
    let _span = tracing::info_span!("compute").entered();
    burn_ms(ms);
}
