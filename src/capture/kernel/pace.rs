//! When `sys_exit` is worth its price. A program there takes the fast way out of every system call
//! of the machine; all it is needed for, where stacks come by interrupt, are executable mappings.

/// So long after an exec its loader may still be mapping libraries.
const LOADING_NS: u64 = 100_000_000;
/// Rates are taken over at least this long.
const STRETCH_NS: u64 = 20_000_000;

/// Decides from the pace of the tree; times are `CLOCK_MONOTONIC` in ns.
#[derive(Debug)]
pub struct Pace {
    limit: u64,
    since: u64,
    intervals: u64,
    exec: u64,
    off_since: Option<u64>,
    off_ns: u64,
}

impl Pace {
    /// `limit`: finished intervals per second from which mappings are not watched.
    pub fn new(limit: u64, now: u64) -> Self {
        Self { limit, since: now, intervals: 0, exec: now, off_since: None, off_ns: 0 }
    }

    /// Whether mappings are to be watched, after a drain that found this. Half the limit brings
    /// the watch back, so that a rate at the limit does not patch the kernel's code all the time.
    pub fn watch(&mut self, now: u64, intervals: u64, execs: u64) -> bool {
        self.intervals += intervals;
        if execs > 0 {
            self.exec = now;
        }
        let past = now.saturating_sub(self.since);
        let loading = now.saturating_sub(self.exec) < LOADING_NS;
        let mut watched = self.off_since.is_none();
        if past >= STRETCH_NS {
            let per_second = u128::from(self.intervals) * 1_000_000_000 / u128::from(past);
            let limit = u128::from(self.limit);
            watched = per_second < if watched { limit } else { limit / 2 };
            (self.since, self.intervals) = (now, 0);
        }
        watched |= loading;
        match (watched, self.off_since) {
            (false, None) => self.off_since = Some(now),
            (true, Some(since)) => {
                self.off_ns += now.saturating_sub(since);
                self.off_since = None;
            }
            _ => {}
        }
        watched
    }

    /// For how long they were not, in ns, until `now`.
    pub fn unwatched_ns(&self, now: u64) -> u64 {
        self.off_ns + self.off_since.map_or(0, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_busy_tree_is_not_watched_until_it_calms_down_or_execs() {
        let mut pace = Pace::new(100_000, 0);
        assert!(pace.watch(50 * MS, 50_000, 0), "its loader may be at work");
        assert!(!pace.watch(150 * MS, 50_000, 0), "500,000 per second");
        assert!(!pace.watch(155 * MS, 0, 0), "too short to tell");
        assert!(!pace.watch(250 * MS, 6_000, 0), "above half the limit");
        assert!(pace.watch(350 * MS, 4_000, 0), "below it");
        assert_eq!(pace.unwatched_ns(999 * MS), 200 * MS);
        assert!(pace.watch(450 * MS, 9_000, 0), "not yet at the limit");
        assert!(!pace.watch(550 * MS, 90_000, 0));
        assert!(pace.watch(551 * MS, 900, 1), "an exec");
        assert!(pace.watch(600 * MS, 90_000, 0), "and what follows it");
        assert!(!pace.watch(700 * MS, 90_000, 0));
        assert_eq!(pace.unwatched_ns(710 * MS), 211 * MS);
    }
}
