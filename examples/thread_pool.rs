//! A pool of workers on one queue, with fewer jobs than it could do: most workers idle.
//!
//! The report must show the workers' time in `condvar`, waited for in `next_job`, as idle and
//! not as a bottleneck: with 6 workers, a job of 20 ms every 10 ms keeps two of them busy. What
//! limits the run is the main thread, which sleeps between jobs in `submit_job`.
//!
//! Options: --workers 6  --jobs 100  --job-ms 20  --every-ms 10
mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;

use support::{Args, sleep_ms, spawn, timed, truth};

#[derive(Default)]
struct Queue {
    jobs: Mutex<(VecDeque<u64>, bool)>,
    changed: Condvar,
}

fn main() {
    let mut args = Args::parse(include_str!("thread_pool.rs"));
    let workers = args.number("workers", 6);
    let jobs = args.number("jobs", 100);
    let job_ms = args.number("job-ms", 20);
    let every_ms = args.number("every-ms", 10);
    args.finish();
    timesink_probe::init();

    let queue = Arc::new(Queue::default());
    let ((times, submit), wall) = timed(|| {
        let pool: Vec<_> = (0..workers)
            .map(|i| {
                let queue = Arc::clone(&queue);
                spawn(format!("pool-{i}"), move || worker(&queue, job_ms))
            })
            .collect();
        let ((), submit) = timed(|| (0..jobs).for_each(|job| submit_job(&queue, job, every_ms)));
        queue.jobs.lock().expect("no panic").1 = true;
        queue.changed.notify_all();
        let times: Vec<_> = pool.into_iter().map(|w| w.join().expect("no panic")).collect();
        (times, submit)
    });
    truth(&[
        ("idle_ns", times.iter().map(|t| t.0).sum()),
        ("work_ns", times.iter().map(|t| t.1).sum()),
        ("jobs", times.iter().map(|t| t.2).sum()),
        ("submit_ns", submit),
        ("wall_ns", wall),
    ]);
}

/// Time without a job, time with one, jobs done.
fn worker(queue: &Queue, job_ms: u64) -> (u64, u64, u64) {
    let (mut idle, mut busy, mut done) = (0, 0, 0);
    loop {
        let (job, time) = timed(|| next_job(queue));
        idle += time;
        let Some(job) = job else { return (idle, busy, done) };
        busy += timed(|| run_job(job, job_ms)).1;
        done += 1;
    }
}

#[inline(never)]
fn next_job(queue: &Queue) -> Option<u64> {
    let jobs = queue.jobs.lock().expect("no panic");
    let is_idle = |(jobs, is_over): &mut (VecDeque<u64>, bool)| jobs.is_empty() && !*is_over;
    let mut jobs = queue.changed.wait_while(jobs, is_idle).expect("no panic");
    jobs.0.pop_front()
}

#[inline(never)]
fn run_job(job: u64, ms: u64) {
    let _span = tracing::info_span!("run_job", job).entered();
    sleep_ms(ms);
}

#[inline(never)]
fn submit_job(queue: &Queue, job: u64, every_ms: u64) {
    let _span = tracing::info_span!("submit_job", job).entered();
    queue.jobs.lock().expect("no panic").0.push_back(job);
    queue.changed.notify_one();
    sleep_ms(every_ms);
}
