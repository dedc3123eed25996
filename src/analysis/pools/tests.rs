//! Played pools: what is said of one is held against the same jobs played with another number of workers.

use crate::analysis::Finding;
use crate::analysis::Severity;
use crate::analysis::analyse;
use crate::analysis::replay::world::Act;
use crate::analysis::replay::world::World;

const QUEUE: usize = 0;
const DONE: usize = 1;

/// Workers that take jobs of so many us in turn.
fn crew(workers: usize, jobs: &[u64]) -> Vec<Vec<Act>> {
    let mut crew = vec![Vec::new(); workers];
    for (n, &us) in jobs.iter().enumerate() {
        crew[n % workers].extend([Act::Wait(QUEUE), Act::Sleep(us, "job"), Act::Signal(DONE)]);
    }
    crew
}

/// A main thread that starts them, does something when all wait for jobs, and joins them.
fn run_by(crew: Vec<Vec<Act>>, then: impl IntoIterator<Item = Act>) -> World {
    let count = crew.len();
    let main = (1..=count).map(Act::Spawn).chain([Act::Sleep(1_000, "begin")]);
    let main = main.chain(then).chain((1..=count).map(Act::Join)).collect();
    World(std::iter::once(main).chain(crew).collect())
}

/// All jobs are there at once, and waited for one after the other.
fn at_once(workers: usize, jobs: &[u64]) -> World {
    let hand_in = jobs.iter().map(|_| Act::Signal(QUEUE));
    let collect = jobs.iter().map(|_| Act::Wait(DONE));
    run_by(crew(workers, jobs), hand_in.chain(collect))
}

fn said(world: &World) -> Option<Finding> {
    let report = analyse(&world.play().0, None);
    report.findings.into_iter().find(|finding| finding.rule == "pool-size")
}

/// Main is as quick as can be: it may have handed in each job when another was done. So no gain is sure, and
/// the real one lies within what is said.
#[test]
fn twice_the_workers_take_what_was_said() {
    let jobs: Vec<u64> = (0..48).map(|n| 8_000 + n % 5 * 1_000).collect();
    let few = at_once(2, &jobs);
    let finding = said(&few).expect("it may be too small");
    assert_eq!((finding.severity, &finding.gain), (Severity::Note, &None), "{}", finding.text);
    let (_, range) = finding.text.split_once("4 workers, the run may be ").expect("a range");
    let ends: Vec<f64> = range
        .split('x')
        .take(2)
        .filter_map(|end| end.split(' ').next_back()?.parse().ok())
        .collect();
    let real = few.takes() as f64 / at_once(4, &jobs).takes() as f64;
    assert!(
        ends.len() == 2 && ends[0] <= real && real <= ends[1] * 1.02,
        "{real}: {}",
        finding.text
    );
}

/// A pool that waits for its producer, and could be smaller.
#[test]
fn more_workers_do_not_help_a_slow_producer() {
    let jobs = [6_000; 40];
    let hand_in = jobs.iter().flat_map(|_| [Act::Sleep(10_000, "make"), Act::Signal(QUEUE)]);
    let finding = said(&run_by(crew(4, &jobs), hand_in)).expect("it is too large");
    assert_eq!((finding.severity, &finding.gain), (Severity::Note, &None));
    assert!(finding.text.contains("1 of the 4 workers"), "{}", finding.text);
}

/// Where the next job is handed in when one is done, as many are under way as before.
#[test]
fn more_workers_do_not_help_a_window() {
    let jobs = [9_000; 40];
    let next = (0..38).flat_map(|_| [Act::Wait(DONE), Act::Signal(QUEUE)]);
    let all = [Act::Signal(QUEUE); 2].into_iter().chain(next);
    let finding = said(&run_by(crew(2, &jobs), all));
    assert!(finding.is_none_or(|found| found.severity == Severity::Note));
}

#[test]
fn more_workers_do_not_help_one_long_job() {
    let mut jobs = vec![5_000; 40];
    jobs[0] = 300_000;
    // The worker of the long job takes no other.
    let mut crew = crew(4, &jobs[1..]);
    crew.push([Act::Wait(QUEUE), Act::Sleep(jobs[0], "job"), Act::Signal(DONE)].into());
    let hand_in = jobs.iter().map(|_| Act::Signal(QUEUE));
    let collect = jobs.iter().map(|_| Act::Wait(DONE));
    let finding = said(&run_by(crew, hand_in.chain(collect)));
    assert!(finding.as_ref().is_none_or(|found| found.title.contains("larger")), "{finding:?}");
}

/// Jobs that wait for one lock take no less time when there are more of them.
#[test]
fn more_workers_do_not_help_under_a_lock() {
    let under = [Act::Lock(0), Act::Sleep(5_000, "hold"), Act::Unlock(0), Act::Sleep(3_000, "job")];
    let job = [&[Act::Wait(QUEUE)], under.as_slice(), &[Act::Signal(DONE)]].concat();
    let jobs = 15 * 3;
    let hand_in = (0..jobs).map(|_| Act::Signal(QUEUE));
    let collect = (0..jobs).map(|_| Act::Wait(DONE));
    let finding = said(&run_by(vec![job.repeat(15); 3], hand_in.chain(collect)));
    assert!(finding.is_none(), "{finding:?}");
}
