//! Who waits how for a GIL, and whom for.

use super::evidence::Own;
use crate::analysis::gil::Gil;
use crate::analysis::gil::GilHold;
use crate::analysis::gil::GilWait;
use crate::analysis::gil::Try;
use crate::analysis::history::History;
use crate::analysis::history::ObjectIndex;
use crate::analysis::names;
use crate::analysis::report::FrameRow;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// What is known of one GIL.
#[derive(Clone, Debug, Default)]
pub struct GilFacts {
    /// Waits that ended.
    pub waits: u64,
    /// Those in which the holder did not let go before the waiter asked it to.
    pub forced: u64,
    /// How long waiters try before they ask: the switch interval, ns; 0 if nobody had to.
    pub interval_ns: u64,
    /// By thread that waited.
    pub waiters: BTreeMap<u32, Waiter>,
    /// By thread that answered late.
    pub hogs: BTreeMap<u32, Hog>,
}

/// A thread that waits.
#[derive(Clone, Debug, Default)]
pub struct Waiter {
    /// Its waits.
    pub waits: u64,
    /// Their time, ns.
    pub ns: u64,
    /// Those that came right after a wait for something else,
    pub returns: u64,
    /// and their time.
    pub returns_ns: u64,
    /// Who held it meanwhile, ns.
    pub behind: BTreeMap<u32, u64>,
}

/// A thread that went on long after it was asked to let go.
#[derive(Clone, Debug, Default)]
pub struct Hog {
    /// How often.
    pub times: u64,
    /// How long it ran on, ns,
    pub ns: u64,
    /// and at the longest.
    pub longest_ns: u64,
    /// What it ran: own functions, innermost first, and the one in C that it called.
    pub places: BTreeMap<(Vec<String>, Option<String>), u64>,
}

/// A holder that was asked lets go at its next check, in some microseconds. What runs on for
/// longer than another switch interval does not check.
const LATE: Nanos = Nanos(5_000_000);

/// Gathers what is to be said of each GIL, by its row in the report.
pub fn gather(
    history: &History,
    gils: &BTreeMap<ObjectIndex, Gil>,
    ids: &[u32],
    own: &mut Own,
) -> BTreeMap<u32, GilFacts> {
    let id = |object: ObjectIndex| ids.get(object as usize).copied().filter(|&id| id != u32::MAX);
    let known = gils.iter().filter_map(|(&object, gil)| Some((id(object)?, gil)));
    known.map(|(id, gil)| (id, of_one(history, gil, own))).collect()
}

fn of_one(history: &History, gil: &Gil, own: &mut Own) -> GilFacts {
    let Gil { waits, holds } = gil;
    let mut facts = GilFacts::default();
    let mut tries: Vec<u64> = Vec::new();
    // When the holder was first asked to let go, by hold.
    let mut asked: BTreeMap<usize, Nanos> = BTreeMap::new();
    for wait in waits.iter().filter(|wait| !wait.open) {
        facts.waits += 1;
        facts.forced += u64::from(!wait.vain.is_empty());
        tries.extend(wait.vain.iter().map(|one| (one.to - one.from).0));
        let one = facts.waiters.entry(wait.thread.0).or_default();
        one.waits += 1;
        one.ns += wait.time().0;
        if wait.after.is_some() {
            one.returns += 1;
            one.returns_ns += wait.time().0;
        }
        for (index, hold) in meanwhile(holds, wait) {
            let common = hold.end.min(wait.woken) - hold.start.max(wait.asked);
            *one.behind.entry(hold.thread.0).or_default() += common.0;
            let within = |one: &&Try| one.from >= hold.start && one.on < hold.end;
            if let Some(one) = wait.vain.iter().find(within) {
                let first = asked.entry(index).or_insert(one.on);
                *first = one.on.min(*first);
            }
        }
    }
    tries.sort_unstable();
    facts.interval_ns = tries.get(tries.len() / 2).copied().unwrap_or(0);
    for (index, at) in asked {
        facts.answered(history, &holds[index], at, own);
    }
    facts
}

/// Holds of others that overlap with a wait.
fn meanwhile<'h>(
    holds: &'h [GilHold],
    wait: &'h GilWait,
) -> impl Iterator<Item = (usize, &'h GilHold)> {
    let first = holds.partition_point(|hold| hold.end <= wait.asked);
    let until = move |(_, hold): &(usize, &GilHold)| hold.start < wait.woken;
    let later = holds.iter().enumerate().skip(first).take_while(until);
    later.filter(|(_, hold)| hold.thread != wait.thread)
}

impl GilFacts {
    /// The holder was asked at that time, and let go at the end of its hold.
    fn answered(&mut self, history: &History, hold: &GilHold, at: Nanos, own: &mut Own) {
        let ran = ran(history, hold.thread, at, hold.end);
        if ran <= LATE {
            return;
        }
        let hog = self.hogs.entry(hold.thread.0).or_default();
        hog.times += 1;
        hog.ns += ran.0;
        hog.longest_ns = hog.longest_ns.max(ran.0);
        let Some(life) = history.life(hold.thread) else { return };
        for look in life.samples_in(at, hold.end) {
            let place = (own.place(look.stack), in_c(&own.frames(look.stack)));
            *hog.places.entry(place).or_default() += u64::from(look.weight);
        }
    }
}

/// How long a thread was on a CPU between two instants.
fn ran(history: &History, thread: ThreadId, from: Nanos, to: Nanos) -> Nanos {
    let pieces = history.pieces(thread, from, to);
    pieces.filter(|piece| piece.state == State::Running).map(|piece| piece.duration()).sum()
}

/// Parts of names of what the interpreter does to call a function in C.
const CALLS: [&str; 7] = ["_Py", "Py", "cfunction_", "method_", "builtin_exec", "[", "vectorcall"];

/// The function in C that the innermost function of Python called.
fn in_c(stack: &[FrameRow]) -> Option<String> {
    let python = stack.iter().rposition(names::is_python)?;
    let mut called = stack[python + 1..].iter();
    let first = called.find(|frame| !CALLS.iter().any(|part| frame.name.starts_with(part)))?;
    Some(names::short(&first.name))
}
