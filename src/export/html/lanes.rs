//! What each thread did over time, thinned out to a bounded number of items.
//!
//! One length decides: stretches at least that long are kept one by one; shorter ones are
//! joined with their neighbours into mixtures of about that length, which keep the time in
//! each state but not its order. The length starts at zero and doubles whenever there are
//! too many items, so memory stays bounded in one pass over any trace, and a small trace is
//! kept whole. Every lane's items sum to the thread's life, state by state.

use crate::analysis::Object;
use crate::analysis::Report;
use crate::analysis::StateTimes;
use crate::model::Call;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Segment;
use crate::model::State;
use crate::model::States;
use crate::model::ThreadId;
use crate::model::is_futex;
use crate::model::syscall_label;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// `sizeof(struct _gil_runtime_state)` of a free-threaded build, the larger one.
const MOST_GIL_BYTES: u64 = 216;
/// Items on the page, a mixture counted by its states: some 4 MB, drawn without a pause.
const ITEMS: usize = 150_000;
/// Items that a lane may come to, however coarse: a mixture on either side of a long stretch.
const PER_LANE: usize = 2 * State::ALL.len() + 1;
/// Lanes on the page.
const LANES: usize = 500;
/// Different texts on what was waited for.
const DETAILS: usize = 2000;

/// Collects lanes for the threads of a report.
pub(super) struct LaneFold<'r> {
    objects: BTreeMap<(u32, u64), &'r Object>,
    pids: BTreeMap<ThreadId, u32>,
    lanes: Vec<Lane>,
    items: usize,
    shortest: u64,
    limit: usize,
    details: Vec<String>,
    known: FastMap<(u16, u8, u32), i64>,
}

/// The lanes as the page takes them.
#[derive(Serialize)]
pub(super) struct LaneView {
    threads: Vec<ThreadLane>,
    /// Shorter stretches are in mixtures; 0: there are none.
    shortest_ns: u64,
    /// Texts on what was waited for.
    details: Vec<String>,
    hidden: Hidden,
}

/// One lane: `state, ns, detail` (-1: none), or `-n` and n times `state, ns` for a mixture.
#[derive(Serialize)]
struct ThreadLane {
    id: u32,
    items: Vec<i64>,
}

/// Threads without a lane.
#[derive(Serialize, Default)]
struct Hidden {
    threads: u64,
    thread_ns: u64,
    states: StateTimes,
}

#[derive(Clone, Default)]
struct Lane(Vec<Item>);

#[derive(Clone)]
enum Item {
    One(State, u64, i64),
    Mix(Vec<(State, u64)>),
}

impl Item {
    fn length(&self) -> u64 {
        match self {
            Self::One(_, time, _) => *time,
            Self::Mix(parts) => parts.iter().map(|part| part.1).sum(),
        }
    }

    fn join(&mut self, other: &Self) {
        let mut parts = match std::mem::replace(self, Self::Mix(Vec::new())) {
            Self::One(state, time, _) => vec![(state, time)],
            Self::Mix(parts) => parts,
        };
        let mut add = |state, time| match parts.binary_search_by_key(&state, |part| part.0) {
            Ok(at) => parts[at].1 += time,
            Err(at) => parts.insert(at, (state, time)),
        };
        match other {
            Self::One(state, time, _) => add(*state, *time),
            Self::Mix(others) => others.iter().for_each(|&(state, time)| add(state, time)),
        }
        *self = Self::Mix(parts);
    }
}

impl Lane {
    /// Adds an item behind the others, or joins it with the last if both are short.
    fn push(&mut self, item: Item, shortest: u64) {
        let joins = item.length() < shortest;
        match self.0.last_mut() {
            Some(last) if joins && last.length() < shortest => last.join(&item),
            _ => self.0.push(item),
        }
    }

    /// What it takes of the page, a stretch being 1.
    fn weight(&self) -> usize {
        let weight = |item: &Item| match item {
            Item::One(..) => 1,
            Item::Mix(parts) => parts.len(),
        };
        self.0.iter().map(weight).sum()
    }

    fn coarsen(&mut self, shortest: u64) {
        let items = std::mem::take(&mut self.0);
        for item in items {
            self.push(item, shortest);
        }
    }

    fn encode(&self) -> Vec<i64> {
        let mut flat = Vec::with_capacity(3 * self.0.len());
        for item in &self.0 {
            match item {
                Item::One(state, time, detail) => {
                    flat.extend([*state as i64, *time as i64, *detail]);
                }
                // Joined stretches of one state are one stretch.
                Item::Mix(parts) if parts.len() == 1 => {
                    flat.extend([parts[0].0 as i64, parts[0].1 as i64, -1]);
                }
                Item::Mix(parts) => {
                    flat.push(-(parts.len() as i64));
                    flat.extend(parts.iter().flat_map(|&(state, ns)| [state as i64, ns as i64]));
                }
            }
        }
        flat
    }
}

impl<'r> LaneFold<'r> {
    pub fn new(report: &'r Report) -> Self {
        Self {
            objects: report.objects.iter().map(|o| ((o.pid, o.address), o)).collect(),
            pids: report.threads.iter().map(|t| (ThreadId(t.id), t.pid)).collect(),
            lanes: Vec::new(),
            items: 0,
            shortest: 0,
            limit: ITEMS,
            details: Vec::new(),
            known: FastMap::default(),
        }
    }

    pub fn segment(&mut self, segment: &Segment) {
        let index = segment.thread.0 as usize;
        if index >= self.lanes.len() {
            self.lanes.resize(index + 1, Lane::default());
        }
        let length = segment.duration().0;
        // A text for a stretch that loses it at once would only cost time.
        let detail = match segment.call {
            Some(call) if length >= self.shortest => self.detail(segment, &call),
            _ => -1,
        };
        let lane = &mut self.lanes[index];
        let before = lane.0.len();
        lane.push(Item::One(segment.state, length, detail), self.shortest);
        self.items += lane.0.len() - before;
        // Each lane keeps a few items whatever the length; leave room for them.
        let limit = 2 * self.limit + PER_LANE * self.lanes.len();
        if self.items > limit {
            self.coarsen(limit);
        }
    }

    /// Doubles the length until at most `limit` items are left, or it can no more.
    fn coarsen(&mut self, limit: usize) {
        while self.items > limit && self.shortest < 1 << 62 {
            self.shortest = (2 * self.shortest).max(1024);
            self.lanes.iter_mut().for_each(|lane| lane.coarsen(self.shortest));
            self.items = self.lanes.iter().map(Lane::weight).sum();
        }
    }

    /// The number of the text on what a segment's thread waited for.
    fn detail(&mut self, segment: &Segment, call: &Call) -> i64 {
        let futex = is_futex(call.number);
        let address = if futex { call.object() } else { call.inode };
        let pid = self.pids.get(&segment.thread).copied().unwrap_or(0);
        let named = |pid| (address != 0).then(|| self.objects.get(&(pid, address))).flatten();
        let object = named(pid).or_else(|| named(0)).or_else(|| {
            // A GIL goes by its first address, and is waited for in words behind that.
            let (_, nearest) = self.objects.range(..=(pid, address)).next_back()?;
            let near = nearest.pid == pid && address - nearest.address < MOST_GIL_BYTES;
            (segment.state == State::Gil && nearest.kind == "gil" && near).then_some(nearest)
        });
        let object = object.copied();
        let full = self.details.len() >= DETAILS;
        let object_id = object.filter(|_| !full).map_or(u32::MAX, |object| object.id);
        let details = &mut self.details;
        *self.known.entry((call.number, call.fd as u8, object_id)).or_insert_with(|| {
            let mut text = syscall_label(call.number);
            if call.fd != FdKind::None {
                text = format!("{text} on a {}", call.fd);
            }
            if let Some(object) = object.filter(|_| !full) {
                text = format!("{}, in {text}", object.label);
            }
            details.push(text);
            details.len() as i64 - 1
        })
    }

    /// The lanes of the report's longest-lived threads.
    pub fn view(mut self, report: &Report) -> LaneView {
        let mut by_life: Vec<_> = report.threads.iter().collect();
        by_life
            .sort_by_key(|thread| (std::cmp::Reverse(thread.end_ns - thread.start_ns), thread.id));
        let shown: BTreeSet<u32> = by_life.iter().take(LANES).map(|thread| thread.id).collect();
        for (id, lane) in (0u32..).zip(&mut self.lanes) {
            if !shown.contains(&id) {
                *lane = Lane::default();
            }
        }
        self.items = self.lanes.iter().map(Lane::weight).sum();
        let limit = self.limit;
        self.coarsen(limit);
        let mut hidden = Hidden::default();
        let mut states = States::default();
        for thread in by_life.iter().skip(LANES) {
            hidden.threads += 1;
            hidden.thread_ns += thread.end_ns - thread.start_ns;
            states.add(&thread.states.0);
        }
        hidden.states = StateTimes(states);
        let lane = |id: &u32| {
            self.lanes.get(*id as usize).map(|lane| ThreadLane { id: *id, items: lane.encode() })
        };
        LaneView {
            threads: shown.iter().filter_map(lane).collect(),
            shortest_ns: self.shortest,
            details: self.details,
            hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Nanos;

    fn one(state: State, time: u64) -> Item {
        Item::One(state, time, 7)
    }

    fn total(lane: &Lane) -> u64 {
        lane.0.iter().map(Item::length).sum()
    }

    #[test]
    fn long_stretches_stay_and_short_ones_join() {
        let mut lane = Lane::default();
        for (state, time) in [
            (State::Running, 3),
            (State::Lock, 4),
            (State::Running, 5),
            (State::Sleep, 500),
            (State::Disk, 2),
        ] {
            lane.push(one(state, time), 100);
        }
        let sleep = State::Sleep as i64;
        let (running, lock, disk) = (State::Running as i64, State::Lock as i64, State::Disk as i64);
        assert_eq!(lane.encode(), [-2, running, 8, lock, 4, sleep, 500, 7, disk, 2, 7]);
        lane.coarsen(1000);
        assert_eq!(lane.encode(), [-4, running, 8, lock, 4, sleep, 500, disk, 2]);
    }

    #[test]
    fn a_lane_has_at_most_two_items_per_length_and_loses_no_time() {
        let mut lane = Lane::default();
        let mut sum = 0;
        for i in 0..10_000u64 {
            let time = 1 + i * i % 997;
            sum += time;
            lane.push(one(State::ALL[(i % 16) as usize], time), 0);
        }
        assert_eq!(lane.0.len(), 10_000);
        for shortest in [64, 1024, 16_384, 1 << 30] {
            lane.coarsen(shortest);
            assert_eq!(total(&lane), sum);
            assert!(lane.0.len() as u64 <= 2 * sum / shortest + 2, "{} items", lane.0.len());
        }
    }

    #[test]
    fn more_lanes_than_items_keep_what_is_long() {
        let mut fold = LaneFold { limit: 10, ..empty() };
        for thread in 0..1000u32 {
            for (state, time) in
                [(State::Running, 5_000), (State::Lock, 9_000_000), (State::Disk, 7)]
            {
                fold.segment(&segment(thread, state, time));
            }
        }
        assert!(fold.shortest < 9_000_000, "{}", fold.shortest);
        let kept = fold.lanes.iter().all(|lane| {
            lane.0.iter().any(|item| matches!(item, Item::One(State::Lock, 9_000_000, -1)))
        });
        assert!(kept);
    }

    fn empty() -> LaneFold<'static> {
        LaneFold {
            objects: BTreeMap::new(),
            pids: BTreeMap::new(),
            lanes: Vec::new(),
            items: 0,
            shortest: 0,
            limit: ITEMS,
            details: Vec::new(),
            known: FastMap::default(),
        }
    }

    fn segment(thread: u32, state: State, time: u64) -> Segment<'static> {
        Segment {
            process: crate::model::ProcessId(0),
            thread: ThreadId(thread),
            start: Nanos(0),
            end: Nanos(time),
            state,
            cpu: None,
            interval: None,
            call: None,
            site: None,
        }
    }

    #[test]
    fn joined_stretches_of_one_state_are_one() {
        let mut lane = Lane::default();
        lane.push(one(State::Running, 3), 100);
        lane.push(one(State::Running, 4), 100);
        assert_eq!(lane.encode(), [State::Running as i64, 7, -1]);
    }
}
