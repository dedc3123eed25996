//! Who held a contended lock when, from the order in which its waits ended.

use crate::analysis::report::PathStep;

/// A wait for a lock, in ns from the start of the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wait {
    /// It ended.
    pub woken: u64,
    /// It began.
    pub off: u64,
    /// The thread ran again.
    pub on: u64,
    /// The thread that ended it.
    pub by: Option<u32>,
}

/// Waits in the order in which they began.
#[allow(clippy::stable_sort_primitive)] // they come thread after thread, each in order: it makes use of that
pub fn by_begin(waits: &mut [Wait]) {
    waits.sort_by_key(|wait| wait.off);
}

/// The length of what waits cover together, until each `ends`; they come [`by_begin`].
pub fn union(waits: &[Wait], ends: impl Fn(&Wait) -> u64) -> u64 {
    let (mut sum, mut until) = (0, 0);
    for wait in waits {
        let to = ends(wait);
        sum += to.saturating_sub(wait.off.max(until));
        until = until.max(to);
    }
    sum
}

/// How long the path went through whoever held the lock while somebody waited for it.
///
/// ```text
/// waits     A ....|        ended by H, then by K: H held it until the first end,
///           B ........|    K from there to the second
/// ```
///
/// A thread that lets go and takes it again before anybody else can is the holder all the
/// same: it is the next one to let go.
pub fn held_on_path(mut waits: Vec<Wait>, path: &[PathStep]) -> u64 {
    waits.sort(); // nearly in order, which this kind of sorting makes use of
    // For each end of a wait the earliest begin of those that had not ended before it.
    let mut first = vec![u64::MAX; waits.len() + 1];
    for (i, wait) in waits.iter().enumerate().rev() {
        first[i] = first[i + 1].min(wait.off);
    }
    let (mut sum, mut now, mut step) = (0, 0, 0);
    for (i, wait) in waits.iter().enumerate() {
        let from = first[i].max(now);
        now = now.max(wait.woken);
        let Some(by) = wait.by else { continue };
        while path.get(step).is_some_and(|s| s.start_ns + s.ns <= from) {
            step += 1;
        }
        let inside = path[step.min(path.len())..].iter().take_while(|s| s.start_ns < wait.woken);
        sum += inside
            .filter(|s| s.thread == by)
            .map(|s| (s.start_ns + s.ns).min(wait.woken).saturating_sub(s.start_ns.max(from)))
            .sum::<u64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(off: u64, woken: u64, by: u32) -> Wait {
        Wait { woken, off, on: woken, by: Some(by) }
    }

    fn step(thread: u32, start_ns: u64, end: u64) -> PathStep {
        let ns = end - start_ns;
        PathStep {
            thread,
            state: "running",
            object: None,
            under: None,
            start_ns,
            ns,
            stack: Vec::new(),
        }
    }

    #[test]
    fn waits_together_cover_what_any_of_them_does() {
        let mut waits = [wait(5, 9, 1), wait(0, 6, 1), wait(20, 21, 1)];
        by_begin(&mut waits);
        assert_eq!(union(&waits, |wait| wait.woken), 10);
        assert_eq!(union(&waits, |wait| wait.on + 1), 12);
        assert_eq!(union(&[], |wait| wait.woken), 0);
    }

    /// ```text
    /// A        .....|          1 lets go at 5
    /// B          ........|     2 at 10
    /// path  1111111222211
    /// ```
    #[test]
    fn the_path_is_under_the_lock_where_it_goes_through_the_holder() {
        let waits = vec![wait(0, 5, 1), wait(2, 10, 2)];
        let path = [step(1, 0, 7), step(2, 7, 11), step(1, 11, 13)];
        assert_eq!(held_on_path(waits.clone(), &path), 5 + 3);
        assert_eq!(held_on_path(waits, &[step(3, 0, 13)]), 0);
    }

    #[test]
    fn who_takes_it_again_holds_it_all_the_time() {
        // 1 lets go three times; 9 waits from the start to the last of them.
        let waits = vec![wait(0, 30, 1), wait(1, 10, 1), wait(11, 20, 1)];
        assert_eq!(held_on_path(waits, &[step(1, 0, 40)]), 30);
    }

    #[test]
    fn nobody_waits_nobody_holds_anybody_up() {
        assert_eq!(held_on_path(vec![wait(10, 12, 1)], &[step(1, 0, 100)]), 2);
        assert_eq!(held_on_path(Vec::new(), &[step(1, 0, 100)]), 0);
    }
}
