//! When this program left CPUs unused that it could have had.

use crate::analysis::history::History;
use crate::model::Nanos;

/// Steps that the run is cut into.
const STEPS: u64 = 1 << 16;

/// The time at which an allowed CPU was not used by this program, summed from the start.
pub struct IdleCpus {
    start: Nanos,
    /// Length of a step, ns, at least 1.
    step: u64,
    /// Idle time before each step, ns; one more entry than steps.
    before: Vec<u64>,
}

impl IdleCpus {
    /// For a run on `cpus` CPUs.
    pub fn new(history: &History, cpus: u32) -> Self {
        let (start, end) = history.window;
        let wall = (end - start).0;
        let step = wall.div_ceil(STEPS).max(1);
        let mut busy = vec![0_u64; wall.div_ceil(step) as usize];
        for (thread, _) in history.lives() {
            for (from, to) in
                history.runs_from(thread, history.first_stay(thread, start, 0), start, end)
            {
                add(&mut busy, step, (from - start).0, (to - start).0);
            }
        }
        let mut sum = 0;
        let mut before = vec![0];
        for busy in busy {
            // Part of the step in which at least one CPU was free, taking it as even within.
            let all = u64::from(cpus.max(1)).saturating_mul(step);
            let free = all.saturating_sub(busy).min(step);
            sum = u64::saturating_add(sum, free);
            before.push(sum);
        }
        Self { start, step, before }
    }

    /// Time between two instants during which a CPU was unused, ns; estimated within steps.
    pub fn within(&self, from: Nanos, to: Nanos) -> Nanos {
        Nanos(self.until(to).saturating_sub(self.until(from)).min((to - from).0))
    }

    fn until(&self, time: Nanos) -> u64 {
        let at = (time - self.start).0;
        let last = self.before.len() - 1;
        let step = ((at / self.step) as usize).min(last);
        let next = (step + 1).min(last);
        let part = at.saturating_sub((step as u64).saturating_mul(self.step)).min(self.step);
        let free = self.before[next] - self.before[step];
        // Only a run of days has steps so long that this needs more than 64 bits.
        let within = match free.checked_mul(part) {
            Some(product) => product / self.step,
            None => (u128::from(free) * u128::from(part) / u128::from(self.step)) as u64,
        };
        self.before[step] + within
    }
}

/// Adds a stretch of running to the steps it covers.
fn add(busy: &mut [u64], step: u64, from: u64, to: u64) {
    let mut now = from;
    while now < to {
        let index = (now / step) as usize;
        let end = (now / step + 1).saturating_mul(step).min(to);
        let Some(slot) = busy.get_mut(index) else { return };
        *slot = slot.saturating_add(end - now);
        now = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A damaged file may say that a run took five hundred years, on four billion CPUs.
    #[test]
    fn times_that_cannot_be_do_not_overflow() {
        let mut history = History::default();
        history.window = (Nanos::ZERO, Nanos(u64::MAX));
        let idle = IdleCpus::new(&history, u32::MAX);
        let half = Nanos(u64::MAX / 2);
        assert!(idle.within(Nanos::ZERO, half) > Nanos(u64::MAX / 3));
        assert_eq!(idle.within(half, half), Nanos::ZERO);
        let mut busy = vec![u64::MAX - 1; 4];
        add(&mut busy, 1 << 62, 0, u64::MAX);
        assert_eq!(busy, [u64::MAX; 4]);
    }
}
