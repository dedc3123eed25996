//! How the holds of a GIL began and ended: by the thread's own will, or because another wanted it.
//!
//! A thread that computes lets go of the GIL when it is asked to, and asks for it again at once. When
//! that happens is not its own doing but that of whoever asks, after an interval; so it is left
//! out of what the thread does, and comes about again in the simulator:
//!
//! ```text
//!  hog     takes it ####| asked, lets go, waits |####| asked, lets go |####| lets go for a sleep
//!  model   takes it ######################################################| lets go
//! ```
//!
//! A thread that hears late, because it computes in C, is `deaf`: it lets go where it did.

use crate::analysis::gil::Gil;
use crate::analysis::gil::GilHold;
use crate::analysis::gil::GilWait;
use crate::analysis::gil::Try;
use crate::analysis::history::History;
use crate::analysis::replay::holds::median;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// Python's interval where no try was seen to end without the GIL.
const USUAL_INTERVAL: u64 = 5_000_000;
/// Runs between two stays that are no more than the way to the next try.
const ON_THE_WAY: Nanos = Nanos(100_000);
/// Python code looks whether it is to let go at every loop and call; what runs on for longer than
/// this is not Python code.
const PROMPT: Nanos = Nanos(1_000_000);

/// How a hold begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// As it was seen.
    Own,
    /// It went on with one that it was made to let go of.
    Again,
    /// Asked for at that time, as soon as it had let go, and got unseen.
    AtOnce(Nanos),
}

/// How a hold ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// As it was seen.
    Own,
    /// It was made to let go, and goes on; another had it up to that time.
    Made(Nanos),
    /// It was made to, and did not hear of it from that time on.
    Late(Nanos),
}

/// How long a try to get the GIL takes.
pub fn interval(gil: &Gil) -> u64 {
    let tries = gil.waits.iter().flat_map(|wait| &wait.vain);
    let mut lengths: Vec<u64> = tries.map(|one| (one.to - one.from).0).collect();
    median(&mut lengths).unwrap_or(USUAL_INTERVAL)
}

/// Who was asked to let go of a GIL, and when.
struct Asked<'a> {
    /// When somebody asked: at the end of a try in vain during which it did not change hands.
    times: Vec<Nanos>,
    /// The waits by who ended them, and when.
    ended: BTreeMap<(ThreadId, Nanos), &'a GilWait>,
    /// Those that ended by asking, by their thread and when it had it.
    by_asking: BTreeMap<(ThreadId, Nanos), &'a GilWait>,
}

impl<'a> Asked<'a> {
    fn of(gil: &'a Gil) -> Self {
        let (mut ended, mut by_asking) = (BTreeMap::new(), BTreeMap::new());
        for wait in &gil.waits {
            if let Some(by) = wait.by {
                ended.insert((by, wait.woken), wait);
            } else if wait.got_by_asking() {
                by_asking.insert((wait.thread, wait.had), wait);
            }
        }
        let changes: Vec<Nanos> = gil
            .holds
            .windows(2)
            .filter(|two| two[0].thread != two[1].thread)
            // Who was not seen to take it, took it when it was free.
            .map(|two| two[1].asked.map_or(two[0].end, |_| two[1].start))
            .collect();
        let tries = gil.waits.iter().flat_map(|wait| &wait.vain);
        let stayed = |one: &&Try| {
            let next = changes.get(changes.partition_point(|&at| at <= one.from));
            next.is_none_or(|&at| at >= one.to)
        };
        let mut times: Vec<Nanos> = tries.filter(stayed).map(|one| one.on).collect();
        times.sort_unstable();
        Self { times, ended, by_asking }
    }

    /// When the holder of that hold, which began then, was asked to let go of it, and when the wait
    /// of who got it began; `None` where it was not.
    fn to_let_go(&self, gil: &Gil, index: usize, began: Nanos) -> Option<(Nanos, Nanos)> {
        let hold = &gil.holds[index];
        if hold.let_go
            && let Some(wait) = self.ended.get(&(hold.thread, hold.end))
        {
            let asked = *self.times.get(self.times.partition_point(|&at| at <= began))?;
            return (asked <= hold.end).then_some((asked, wait.asked));
        }
        let next = gil.holds.get(index + 1).filter(|next| next.start == hold.end)?;
        let wait = self.by_asking.get(&(next.thread, next.start))?;
        Some((wait.had, wait.asked))
    }
}

/// For each hold of a GIL, in their order: how it began and ended.
pub fn ways(history: &History, gil: &Gil) -> Vec<(Begin, End)> {
    let mut ways = vec![(Begin::Own, End::Own); gil.holds.len()];
    let asked = Asked::of(gil);
    // The last hold of each thread, and when that began.
    let mut last: BTreeMap<ThreadId, (usize, Nanos)> = BTreeMap::new();
    for (index, next) in gil.holds.iter().enumerate() {
        let Some((before, began)) = last.insert(next.thread, (index, next.start)) else { continue };
        let hold = &gil.holds[before];
        let Some((asked, wait)) = asked.to_let_go(gil, before, began) else { continue };
        // The others', one after the other.
        let others = gil.holds[before + 1..index].last();
        let until = others.map_or(hold.end, |other| other.end);
        if !goes_on(history, hold, next, until) {
            continue;
        }
        if ran(history, hold.thread, asked, hold.end) <= PROMPT {
            (ways[before].1, ways[index].0) = (End::Made(until), Begin::Again);
        } else {
            ways[before].1 = End::Late(wait.max(began));
            if next.asked.is_none() {
                ways[index].0 = Begin::AtOnce(hold.end);
            }
        }
        // What it got unseen it asked for at once, whenever it was thought to have got it.
        if next.asked.is_none() {
            last.insert(next.thread, (index, hold.end));
        }
    }
    ways
}

/// Whether a thread that let go wanted it again at once: it did nothing else, and did not run
/// while another had it, up to that time.
fn goes_on(history: &History, hold: &GilHold, next: &GilHold, until: Nanos) -> bool {
    ran(history, hold.thread, hold.end, next.asked.unwrap_or(until)) <= ON_THE_WAY
        && !waited(history, hold.thread, hold.end, next.asked.unwrap_or(next.end))
}

/// How long a thread ran between two instants.
fn ran(history: &History, thread: ThreadId, from: Nanos, to: Nanos) -> Nanos {
    let stays = history.stays(thread, from).take_while(|stay| stay.off < to);
    let off: Nanos = stays.map(|stay| stay.on.min(to) - stay.off.max(from)).sum();
    to - from - off
}

/// Whether it waited for anything but the GIL.
fn waited(history: &History, thread: ThreadId, from: Nanos, to: Nanos) -> bool {
    history.stays(thread, from).take_while(|stay| stay.off < to).any(|stay| {
        let state = history.state(stay.object);
        stay.woken > stay.off && !matches!(state, State::Gil | State::PageFault)
    })
}
