//! When locks were held, as far as the kernel could see it, and where it could not.
//!
//! The kernel sees only those who wait: a lock is known to be *got* at the end of a wait for
//! it, and to be let *go* when that wakes the next waiter. Everything else is concluded:
//!
//! ```text
//!   got ------ gone        held, seen whole
//!   got ------ asks again  let go in between, unseen: nobody waited then
//!   gone ----- gone        taken in between, unseen: it was free
//!   gone ----- asks again  free, or taken and let go: both unseen
//! ```
//!
//! What shows the way is the place in the code. A call site (stack of a wait or of a CPU
//! sample) that is met between *got* and *gone* more than between *gone* and *asks* lies inside
//! the locked section, always: wherever a thread is seen there, it holds the lock.

use crate::analysis::replay::model::NONE;
use crate::analysis::replay::sites::is_place;
use crate::model::Nanos;
use std::collections::BTreeMap;

/// Something seen of one thread and one lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It asked at the first instant and had it at the second.
    Got(Nanos, Nanos),
    /// It let go.
    Gone(Nanos),
}

impl Seen {
    fn begin(self) -> Nanos {
        match self {
            Self::Got(asked, _) => asked,
            Self::Gone(at) => at,
        }
    }
    fn end(self) -> Nanos {
        match self {
            Self::Got(_, at) | Self::Gone(at) => at,
        }
    }
}

/// A thread was seen at a site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// From here,
    pub start: Nanos,
    /// to here: a wait. The same instant: a sample of a running thread.
    pub end: Nanos,
    /// Where.
    pub site: u32,
    /// A wait for a condition lets go of the lock meanwhile.
    pub breaks: bool,
}

/// A lock was held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Begin of the wait that got it, if there was one.
    pub asked: Option<Nanos>,
    /// From here,
    pub start: Nanos,
    /// to here.
    pub end: Nanos,
}

/// One thread's dealings with one lock.
pub struct Dealings<'a> {
    /// In order of time.
    pub seen: Vec<Seen>,
    /// Its other waits and its samples, in order of time.
    pub marks: &'a [Mark],
    /// Its life.
    pub life: (Nanos, Nanos),
    /// Look at so many marks only at each end of a stretch.
    pub near: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Inside,
    Outside,
    Open,
}

/// What the whole lock's fully seen holds have in common.
struct Usual {
    inside: BTreeMap<u32, bool>,
    /// Length of a hold without any wait in it, or of one at all.
    hold: u64,
    /// From taking it to the first wait inside, and from the last one to letting go.
    lead: u64,
    tail: u64,
    /// Waits inside.
    waits: usize,
}

/// Half of the usual distance of two samples: how far one speaks for its surroundings.
const HALF_SAMPLE: u64 = 500_000;

/// The holds of one lock by each of its users.
pub fn holds(users: &[Dealings]) -> Vec<Vec<Hold>> {
    let usual = usual(users);
    users.iter().map(|user| of_user(user, &usual)).collect()
}

type Visit<'v> = &'v mut dyn FnMut(Option<Seen>, Option<Seen>, &[Mark]);

/// Calls `visit` for each stretch between two sightings with the marks in it.
fn stretches(user: &Dealings, visit: Visit) {
    let mut before = None;
    let mut at = 0;
    let mut edges = Vec::new();
    for next in user.seen.iter().copied().map(Some).chain([None]) {
        let from = before.map_or(user.life.0, Seen::end);
        let to = next.map_or(user.life.1, Seen::begin);
        let first = first_from(user.marks, at, from);
        at = first_from(user.marks, first, to);
        let marks = &user.marks[first..at];
        match user.near {
            Some(near) if marks.len() > 2 * near => {
                edges.clear();
                edges.extend_from_slice(&marks[..near]);
                edges.extend_from_slice(&marks[marks.len() - near..]);
                visit(before, next, &edges);
            }
            _ => visit(before, next, marks),
        }
        before = next;
    }
}

/// The first mark from this index on that begins at `time` or later. Steps that double: what is
/// looked for is near as a rule, and may be far.
fn first_from(marks: &[Mark], at: usize, time: Nanos) -> usize {
    let mut step = 1;
    let mut low = at;
    while marks.get(low + step - 1).is_some_and(|mark| mark.start < time) {
        low += step;
        step *= 2;
    }
    let high = (low + step - 1).min(marks.len());
    low + marks[low..high].partition_point(|mark| mark.start < time)
}

/// For and against a site's being inside.
type Votes = BTreeMap<u32, (f64, f64)>;

/// The marks between *got* and *gone* are inside, those between *gone* and *asks* outside.
/// Each stretch has one vote, to share among its marks.
fn votes(users: &[Dealings]) -> Votes {
    let mut votes = Votes::new();
    let mut whole = false;
    for user in users {
        stretches(user, &mut |before, next, marks| {
            let inside = match (before, next) {
                (Some(Seen::Got(..)), Some(Seen::Gone(_))) => true,
                (Some(Seen::Gone(_)), Some(Seen::Got(..))) => false,
                _ => return,
            };
            // Part of that stretch it waited for a condition, without the lock.
            if inside && marks.iter().any(|mark| mark.breaks) {
                return;
            }
            whole |= inside;
            let places = marks.iter().filter(|mark| is_place(mark.site));
            let each = 1.0 / places.clone().count().max(1) as f64;
            for mark in places {
                let vote = votes.entry(mark.site).or_default();
                *(if inside { &mut vote.0 } else { &mut vote.1 }) += each;
            }
        });
    }
    if whole { votes } else { votes_at_edges(users) }
}

/// Where no hold was seen whole: the last mark before *gone* and the first after *got* are
/// inside, the last before *asks* and the first after *gone* outside.
fn votes_at_edges(users: &[Dealings]) -> Votes {
    let mut votes = Votes::new();
    for user in users {
        stretches(user, &mut |before, next, marks| {
            let mut places = marks.iter().filter(|mark| is_place(mark.site));
            let first = before.and_then(|seen| Some((seen, places.clone().next()?)));
            let last = next.and_then(|seen| Some((seen, places.next_back()?)));
            if let Some((seen, mark)) = first {
                let vote = votes.entry(mark.site).or_default();
                *(if matches!(seen, Seen::Got(..)) { &mut vote.0 } else { &mut vote.1 }) += 1.0;
            }
            if let Some((seen, mark)) = last {
                let vote = votes.entry(mark.site).or_default();
                *(if matches!(seen, Seen::Gone(_)) { &mut vote.0 } else { &mut vote.1 }) += 1.0;
            }
        });
    }
    votes
}

fn usual(users: &[Dealings]) -> Usual {
    let votes = votes(users);
    let inside = votes.iter().map(|(&site, &(yes, no))| (site, yes > no)).collect();
    let mut usual = Usual { inside, hold: 0, lead: 0, tail: 0, waits: 0 };
    let (mut all, mut leads, mut tails, mut waits) = (vec![], vec![], vec![], vec![]);
    for user in users {
        stretches(user, &mut |before, next, marks| {
            let (Some(Seen::Got(_, from)), Some(Seen::Gone(to))) = (before, next) else { return };
            let strange = |mark: &Mark| mark.breaks || usual.label(mark.site) == Label::Outside;
            if marks.iter().any(strange) {
                return;
            }
            all.push((to - from).0);
            let asleep = || marks.iter().filter(|mark| mark.end > mark.start && mark.site != NONE);
            waits.push(asleep().count() as u64);
            if let (Some(first), Some(last)) = (asleep().next(), asleep().next_back()) {
                leads.push((first.start - from).0);
                tails.push((to - last.end).0);
            }
        });
    }
    usual.hold = median(&mut all).unwrap_or(1_000);
    usual.lead = median(&mut leads).unwrap_or(0);
    usual.tail = median(&mut tails).unwrap_or(0);
    usual.waits = median(&mut waits).unwrap_or(0) as usize;
    usual
}

/// The middle one.
pub fn median(all: &mut [u64]) -> Option<u64> {
    let middle = all.len() / 2;
    (!all.is_empty()).then(|| *all.select_nth_unstable(middle).1)
}

impl Usual {
    fn label(&self, site: u32) -> Label {
        match self.inside.get(&site) {
            Some(true) => Label::Inside,
            Some(false) => Label::Outside,
            None => Label::Open,
        }
    }
}

fn of_user(user: &Dealings, usual: &Usual) -> Vec<Hold> {
    let mut cut =
        Cutter { usual, holds: Vec::new(), current: None, floor: user.life.0, certain: false };
    stretches(user, &mut |before, next, marks| {
        if let Some(Seen::Got(asked, at)) = before {
            cut.begin(at, Some(asked));
        }
        cut.certain = matches!(next, Some(Seen::Gone(_))) && !marks.iter().any(|mark| mark.breaks);
        for mark in marks {
            cut.mark(mark);
        }
        let end = next.map_or(user.life.1, Seen::begin);
        match next {
            Some(Seen::Gone(at)) => cut.gone(at, marks),
            // It was still held when the life, or the recording, ended.
            None if cut.current.is_some_and(|c| c.inside.is_none() && marks.is_empty()) => {
                cut.end(end);
            }
            _ => cut.leave(end),
        }
    });
    cut.holds
}

/// What is known of a hold that has begun.
#[derive(Clone, Copy)]
struct Current {
    asked: Option<Nanos>,
    start: Nanos,
    /// Taken again after the wait for a condition.
    resumed: bool,
    /// The last mark inside.
    inside: Option<Mark>,
    waits: usize,
}

struct Cutter<'a> {
    usual: &'a Usual,
    holds: Vec<Hold>,
    current: Option<Current>,
    /// Nothing begins before this.
    floor: Nanos,
    /// What is between is held for sure: it was seen to be got, and to be let go.
    certain: bool,
}

impl Cutter<'_> {
    fn begin(&mut self, at: Nanos, asked: Option<Nanos>) {
        let start = at.max(self.floor);
        self.current = Some(Current { asked, start, resumed: false, inside: None, waits: 0 });
    }

    fn end(&mut self, at: Nanos) {
        if let Some(current) = self.current.take() {
            let end = at.max(current.start);
            if current.asked.is_none() && end == current.start {
                return;
            }
            self.holds.push(Hold { asked: current.asked, start: current.start, end });
            self.floor = end;
        }
    }

    /// It let go, unseen, before `limit`.
    fn leave(&mut self, limit: Nanos) {
        let Some(current) = self.current else { return };
        if current.resumed && current.inside.is_none() {
            // It has to wait for it, then, and that wait is seen.
            self.current = None;
            return;
        }
        let end = match current.inside {
            Some(mark) if mark.end > mark.start => mark.end + Nanos(self.usual.tail),
            Some(mark) => {
                let middle = Nanos(mark.end.0 + (limit.max(mark.end) - mark.end).0 / 2);
                middle.min(mark.end + Nanos(HALF_SAMPLE))
            }
            None => current.start + Nanos(self.usual.hold),
        };
        self.end(end.min(limit));
    }

    /// It was seen to let go.
    fn gone(&mut self, at: Nanos, marks: &[Mark]) {
        let unsure = |current: Current| current.resumed && current.inside.is_none();
        if self.current.is_none_or(unsure) {
            let usual = Nanos(at.0.saturating_sub(self.usual.hold));
            // It was taken before or after a wait, never amid one.
            let amid = marks.iter().rfind(|mark| mark.start < usual && usual < mark.end);
            let start = amid.map_or(usual, |wait| {
                let (before, after) = (usual - wait.start, wait.end - usual);
                let first = Nanos(wait.start.0.saturating_sub(self.usual.lead));
                if before <= after { first } else { wait.end }
            });
            self.begin(start, None);
        }
        self.end(at);
    }

    fn mark(&mut self, mark: &Mark) {
        if mark.breaks {
            // The condition's mutex is let go for the wait, and taken again after it.
            if self.current.is_some() {
                self.end(mark.start);
                self.begin(mark.end, None);
                self.current = self.current.map(|current| Current { resumed: true, ..current });
            }
            self.floor = self.floor.max(mark.end);
            return;
        }
        match self.usual.label(mark.site) {
            Label::Inside => self.inside(mark),
            Label::Outside => {
                self.leave(mark.start);
                self.floor = self.floor.max(mark.end);
            }
            Label::Open if self.certain || mark.end == mark.start => {}
            Label::Open => {
                self.leave(mark.start);
                // What is not known to be held is not held while another lock is waited for.
                if mark.site == NONE {
                    self.floor = self.floor.max(mark.end);
                }
            }
        }
    }

    fn inside(&mut self, mark: &Mark) {
        let asleep = mark.end > mark.start;
        let full =
            |current: &Current| self.usual.waits > 0 && current.waits >= self.usual.waits && asleep;
        if self.current.is_some_and(|current| full(&current)) {
            self.leave(mark.start);
        }
        let unsure = |current: Current| current.resumed && current.inside.is_none();
        if self.current.is_none_or(unsure) {
            let before = if asleep { self.usual.lead } else { self.half_way_back(mark.start) };
            self.begin(Nanos(mark.start.0.saturating_sub(before)), None);
        }
        if let Some(current) = &mut self.current {
            current.inside = Some(*mark);
            current.waits += usize::from(asleep);
        }
    }

    fn half_way_back(&self, at: Nanos) -> u64 {
        ((at.max(self.floor) - self.floor).0 / 2).min(HALF_SAMPLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn wait(from: u64, to: u64, site: u32) -> Mark {
        Mark { start: Nanos(from * MS), end: Nanos(to * MS), site, breaks: false }
    }
    fn got(from: u64, to: u64) -> Seen {
        Seen::Got(Nanos(from * MS), Nanos(to * MS))
    }
    fn gone(at: u64) -> Seen {
        Seen::Gone(Nanos(at * MS))
    }
    fn spans(holds: &[Hold]) -> Vec<(u64, u64)> {
        holds.iter().map(|hold| (hold.start.0 / MS, hold.end.0 / MS)).collect()
    }

    /// Inside is site 1 for 3 ms, outside site 2 for 7 ms. Holds that nobody waited for, or
    /// that nobody saw begin, or end, are found by their sites.
    #[test]
    fn holds_that_the_kernel_did_not_see_are_found_by_their_sites() {
        let marks = [
            wait(2, 5, 1),
            wait(5, 12, 2),
            wait(14, 17, 1),
            wait(17, 24, 2),
            wait(24, 27, 1), // never seen
            wait(27, 34, 2),
            wait(34, 37, 1), // only its end is seen
            wait(37, 44, 2),
            wait(46, 49, 1), // only its begin is seen
            wait(49, 56, 2),
        ];
        let seen = vec![got(0, 2), gone(5), got(12, 14), gone(17), gone(37), got(44, 46)];
        let user = Dealings { seen, marks: &marks, life: (Nanos(0), Nanos(60 * MS)), near: None };
        let found = holds(&[user]);
        assert_eq!(spans(&found[0]), [(2, 5), (14, 17), (24, 27), (34, 37), (46, 49)]);
        assert_eq!(found[0][0].asked, Some(Nanos(0)));
        assert_eq!(found[0][2].asked, None);
    }

    /// How long it was held is known of others only: it was not taken while its thread was away.
    #[test]
    fn a_lock_is_taken_before_a_wait_or_after_it() {
        let life = (Nanos(0), Nanos(60 * MS));
        let other = Dealings { seen: vec![got(0, 1), gone(11)], marks: &[], life, near: None };
        let marks = [wait(20, 31, 1), wait(40, 52, 1)];
        // Ten before each of these is in a wait: near its begin, and near its end.
        let user = Dealings { seen: vec![gone(33), gone(59)], marks: &marks, life, near: None };
        assert_eq!(spans(&holds(&[other, user])[1]), [(20, 33), (52, 59)]);
    }

    /// A condition's wait inside lets go of the lock.
    #[test]
    fn a_wait_for_a_condition_parts_a_hold() {
        let marks = [Mark { breaks: true, ..wait(3, 9, 7) }];
        let user = Dealings {
            seen: vec![got(0, 2), gone(10)],
            marks: &marks,
            life: (Nanos(0), Nanos(20 * MS)),
            near: None,
        };
        assert_eq!(spans(&holds(&[user])[0]), [(2, 3), (9, 10)]);
    }

    #[test]
    fn the_first_mark_from_a_time_is_found_from_any_index() {
        let marks: Vec<Mark> = [1, 1, 2, 4, 4, 4, 7, 9, 9, 12].map(|t| wait(t, t, 1)).to_vec();
        for at in 0..=marks.len() {
            for time in 0..14 {
                let scan = (at..marks.len()).find(|&i| marks[i].start >= Nanos(time * MS));
                let found = first_from(&marks, at, Nanos(time * MS));
                assert_eq!(found, scan.unwrap_or(marks.len()), "{at} {time}");
            }
        }
    }

    /// Far from any sighting nothing is looked at where there is too much; near it all is as ever.
    #[test]
    fn only_the_edges_of_a_long_stretch_are_looked_at() {
        let marks: Vec<Mark> = (0..100).map(|t| wait(t, t, 1)).collect();
        let seen = vec![gone(2)];
        let life = (Nanos(0), Nanos(100 * MS));
        let user = Dealings { seen, marks: &marks, life, near: Some(3) };
        let mut sizes = Vec::new();
        stretches(&user, &mut |_, _, marks| sizes.push((marks.len(), marks[0].start.0 / MS)));
        assert_eq!(sizes, [(2, 0), (6, 2)]);
    }
}
