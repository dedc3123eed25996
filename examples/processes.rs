//! Worker processes over pipes: the parent deals out jobs and collects the answers.
//!
//! The report must show several processes: the parent in `pipe`, waiting for answers in
//! `collect`; each worker in `sleep` in `do_job` (or `running` with --burn) and in `pipe` for
//! the time the parent needs, which is little. One worker is slower than the others by
//! --extra-ms: the others wait for it once a round.
//!
//! Options: --workers 3  --rounds 40  --job-ms 15  --extra-ms 10  --burn
mod support;

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use support::{Args, burn_ms, sleep_ms, timed, truth};

struct Worker {
    process: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

fn main() -> io::Result<()> {
    let mut args = Args::parse(include_str!("processes.rs"));
    let is_worker = args.flag("worker");
    let workers = args.number("workers", 3);
    let rounds = args.number("rounds", 40);
    let job_ms = args.number("job-ms", 15);
    let extra_ms = args.number("extra-ms", 10);
    let burn = args.flag("burn");
    args.finish();
    timesink_probe::init();
    if is_worker {
        return serve(if burn { burn_ms } else { sleep_ms }, job_ms);
    }

    let (result, wall) = timed(|| -> io::Result<_> {
        let mut pool = (0..workers)
            .map(|i| start(job_ms + if i == 0 { extra_ms } else { 0 }, burn))
            .collect::<io::Result<Vec<_>>>()?;
        let (mut waited, mut worked) = (0, 0);
        for round in 0..rounds {
            deal(&mut pool, round)?;
            let (work, wait) = timed(|| collect(&mut pool));
            worked += work?;
            waited += wait;
        }
        for Worker { mut process, jobs, answers } in pool {
            // The end of its input is a worker's sign to end.
            drop((jobs, answers));
            process.wait()?;
        }
        Ok((waited, worked))
    });
    let (waited, worked) = result?;
    truth(&[
        ("pipe_wait_ns", waited),
        ("work_ns", worked),
        ("jobs", workers * rounds),
        ("wall_ns", wall),
    ]);
    Ok(())
}

#[inline(never)]
fn start(job_ms: u64, burn: bool) -> io::Result<Worker> {
    let _span = tracing::info_span!("start", job_ms).entered();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--worker", "--job-ms", &job_ms.to_string()]).args(burn.then_some("--burn"));
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let jobs = process.stdin.take().expect("it is piped");
    let answers = BufReader::new(process.stdout.take().expect("it is piped"));
    Ok(Worker { process, jobs, answers })
}

#[inline(never)]
fn deal(pool: &mut [Worker], round: u64) -> io::Result<()> {
    let _span = tracing::info_span!("deal", round).entered();
    pool.iter_mut().try_for_each(|worker| writeln!(worker.jobs, "{round}"))
}

/// The time that the workers say they worked.
#[inline(never)]
fn collect(pool: &mut [Worker]) -> io::Result<u64> {
    let _span = tracing::info_span!("collect").entered();
    let mut total = 0;
    for worker in pool {
        let mut line = String::new();
        worker.answers.read_line(&mut line)?;
        total += line.trim().parse::<u64>().map_err(io::Error::other)?;
    }
    Ok(total)
}

/// A worker: one line in, one line out.
fn serve(work: fn(u64), job_ms: u64) -> io::Result<()> {
    let mut answers = io::stdout();
    for job in io::stdin().lines() {
        let ((), time) = timed(|| do_job(&job.unwrap_or_default(), work, job_ms));
        writeln!(answers, "{time}")?;
        answers.flush()?;
    }
    Ok(())
}

#[inline(never)]
fn do_job(job: &str, work: fn(u64), ms: u64) {
    let _span = tracing::info_span!("do_job", job).entered();
    work(ms);
}
