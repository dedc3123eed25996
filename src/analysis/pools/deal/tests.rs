//! Drawn schedules: what a number of workers must take can be read off them.

use super::*;

const MS: u64 = 1_000_000;

/// Jobs in the order of their ends, which is that of their beginnings here.
fn work(jobs: &[(u64, u64, Arrival)]) -> Work {
    let job = |(rank, &(wait, cpu, arrives))| Job { wait: wait * MS, cpu: cpu * MS, arrives, rank };
    let jobs: Vec<Job> = jobs.iter().enumerate().map(job).collect();
    let end = Arrival::After(jobs.len(), 0);
    Work { jobs, end, cpus: 2.0 }
}

fn ms(work: &Work, workers: usize) -> u64 {
    (deal(work, workers).expect("it ends") / MS as f64).round() as u64
}

const THERE: Arrival = Arrival::At(0);

#[test]
fn waiting_jobs_take_turns_and_no_more_than_there_are() {
    let work = work(&[(10, 0, THERE); 12]);
    let times = [1, 2, 3, 4, 6, 8, 12, 100].map(|workers| ms(&work, workers));
    assert_eq!(times, [120, 60, 40, 30, 20, 20, 10, 10]);
}

#[test]
fn each_goes_to_whoever_is_free_first() {
    let uneven = [4, 8, 5, 3].map(|wait| (wait, 0, THERE));
    //  a 4, then c 5, to 9; b 8, then d 3, to 11
    assert_eq!(ms(&work(&uneven), 2), 11);
    assert_eq!(ms(&work(&uneven), 4), 8);
}

#[test]
fn computing_is_shared_among_the_cpus() {
    let computing = work(&[(0, 10, THERE); 8]);
    assert_eq!([1, 2, 4, 8].map(|n| ms(&computing, n)), [80, 40, 40, 40]);
    // Half of each waits: four keep two CPUs busy.
    let mixed = work(&[(10, 10, THERE); 8]);
    assert_eq!([1, 2].map(|n| ms(&mixed, n)), [160, 80]);
    assert!(ms(&mixed, 4) >= 40 && ms(&mixed, 8) >= 40);
}

/// Negative control: who is starved by a slow producer gains nothing by more workers.
#[test]
fn a_starved_pool_stays_as_slow() {
    let slow: Vec<_> = (0..10).map(|n| (8, 0, Arrival::At(n * 10 * MS))).collect();
    assert_eq!([1, 2, 8].map(|n| ms(&work(&slow), n)), [98, 98, 98]);
}

/// Negative control: one job is one job.
#[test]
fn a_long_job_bounds_the_run() {
    let mut jobs = vec![(100, 0, THERE)];
    jobs.extend([(5, 0, THERE); 20]);
    assert_eq!([1, 2, 4, 16].map(|n| ms(&work(&jobs), n)), [200, 100, 100, 100]);
}

/// Who hands in the next when one is done keeps as many under way as before.
#[test]
fn a_window_bounds_the_workers() {
    let of = |window: usize| {
        let job =
            |n: usize| (10, 0, if n < window { THERE } else { Arrival::After(n + 1 - window, 0) });
        work(&(0..12).map(job).collect::<Vec<_>>())
    };
    assert_eq!([1, 2, 4].map(|n| ms(&of(2), n)), [120, 60, 60]);
    assert_eq!([1, 2, 4, 8].map(|n| ms(&of(4), n)), [120, 60, 30, 30]);
}

/// Phases: the jobs of the second come when all of the first are done.
#[test]
fn phases_follow_each_other() {
    let mut jobs = vec![(10, 0, THERE); 4];
    jobs.extend([(10, 0, Arrival::After(4, 5 * MS)); 4]);
    let mut work = work(&jobs);
    work.end = Arrival::After(8, 7 * MS);
    assert_eq!([1, 2, 4].map(|n| ms(&work, n)), [92, 52, 32]);
}

#[test]
fn what_never_ends_is_said() {
    let mut work = work(&[(10, 0, Arrival::After(1, 0))]);
    assert_eq!(deal(&work, 4), None);
    work.jobs.clear();
    work.end = THERE;
    assert_eq!(ms(&work, 4), 0);
}
