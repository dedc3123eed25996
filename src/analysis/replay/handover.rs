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
    let tries = gil.waits.iter().flat_map(|wait| &wait.timeouts);
    let mut lengths: Vec<u64> = tries.map(|&(from, to)| (to - from).0).collect();
    median(&mut lengths).unwrap_or(USUAL_INTERVAL)
}

/// For each hold of a GIL, in their order: how it began and ended.
pub fn ways(history: &History, gil: &Gil) -> Vec<(Begin, End)> {
    let mut ways = vec![(Begin::Own, End::Own); gil.holds.len()];
    let mut vain: Vec<Nanos> =
        gil.waits.iter().flat_map(|wait| &wait.timeouts).map(|&(_, to)| to).collect();
    vain.sort_unstable();
    let got: BTreeMap<(Option<ThreadId>, Nanos), &GilWait> =
        gil.waits.iter().map(|wait| ((wait.by, wait.woken), wait)).collect();
    // The last hold of each thread, and when that began.
    let mut last: BTreeMap<ThreadId, (usize, Nanos)> = BTreeMap::new();
    for (index, next) in gil.holds.iter().enumerate() {
        let Some((before, began)) = last.insert(next.thread, (index, next.start)) else { continue };
        let hold = &gil.holds[before];
        let Some(wait) = got.get(&(Some(hold.thread), hold.end)).filter(|_| hold.let_go) else {
            continue;
        };
        let asked = vain.get(vain.partition_point(|&at| at < began));
        let Some(&asked) = asked.filter(|&&at| at <= hold.end) else { continue };
        let other = gil.holds[before + 1..].first().filter(|other| other.thread != hold.thread);
        let until = other.map_or(hold.end, |other| other.end);
        if !goes_on(history, hold, next, until) {
            continue;
        }
        if ran(history, hold.thread, asked, hold.end) <= PROMPT {
            (ways[before].1, ways[index].0) = (End::Made(until), Begin::Again);
        } else {
            ways[before].1 = End::Late(wait.asked.max(began));
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
