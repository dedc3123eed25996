use super::*;
use crate::analysis::fold::Fold;
use crate::analysis::schedule::Schedule;
use crate::model::ThreadId;
use crate::model::runs_in_order;
use crate::model::walk;
use proptest::prelude::*;

fn run(thread: u32, start: u64, end: u64) -> Run {
    Run {
        thread: ThreadId(thread),
        start: Nanos(start),
        end: Nanos(end),
        cpu: None,
        woken: None,
        waker: None,
        left: None,
        then: None,
        taker: None,
    }
}

/// ```text
/// thread 0  ...#####...
/// thread 1  .....####..
/// running   00011222100
/// ```
#[test]
fn the_histogram_sums_to_the_run() {
    let mut sweep = Sweep::new(Nanos(0), Nanos(11));
    sweep.add(&run(0, 3, 8));
    sweep.add(&run(1, 5, 9));
    let found = sweep.finish();
    let bars: Vec<(u32, u64)> =
        found.histogram.iter().map(|bar| (bar.running_threads, bar.ns)).collect();
    assert_eq!(bars, [(0, 5), (1, 3), (2, 3)]);
    assert!((found.mean_cpus - 9.0 / 11.0).abs() < 1e-12);
}

proptest! {
    /// Lives tell the same as the runs in order, however many slices they are looked at in.
    #[test]
    fn lives_and_runs_tell_the_same(schedule in Schedule::any(), slices in 0u64..40) {
        let trace = schedule.trace();
        let mut fold = Fold::default();
        let timelines = walk(&trace, &mut fold);
        fold.history.window = timelines.window();
        let mut sweep = Sweep::new(timelines.window().0, timelines.window().1);
        runs_in_order(&trace, &mut |run| sweep.add(run));
        let (lives, runs) = (in_slices(&fold.history, slices), sweep.finish());
        prop_assert_eq!(lives.mean_cpus.to_bits(), runs.mean_cpus.to_bits());
        let bars = |found: Utilisation| -> Vec<(u32, u64)> {
            found.histogram.iter().map(|bar| (bar.running_threads, bar.ns)).collect()
        };
        prop_assert_eq!(bars(lives), bars(runs));
    }
}
