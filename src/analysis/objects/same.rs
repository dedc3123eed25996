//! Objects that look like several and are one.
//!
//! * A glibc condition variable has two futex words, for its two groups of waiters, four bytes
//!   apart, and its waiters alternate between them (`pthread_cond_t.__data.__g_signals[2]`).
//! * A connection has an inode at either end.
//! * A word in memory that processes share has an address in each of them.
//! * A parking lot (`parking_lot`, and what is built on it) lets each thread sleep on a word of
//!   its own and keeps the queues elsewhere: the words tell threads apart, not locks. What is
//!   waited for is known by where it is waited for: the function outside the library.
//! * A condition variable of musl, and so the GIL of a Python that is built with it, lets each wait sleep
//!   on a word of its own, on the stack of the thread (`struct waiter` of `pthread_cond_timedwait.c`). It is
//!   known the same way; a GIL by its process, as long as that has only one.
//! * A condition of Python's `threading`, and so its queues, events and futures, makes a lock for each
//!   wait. It is known the same way.
//! * Children of one name that are waited for one after the other at one place, and calls of which
//!   nothing is known but what they are, in processes of one name at one place: what is told of each
//!   is the same.

use super::Key;
use super::Tally;
use super::What;
use crate::analysis::names;
use crate::analysis::report::FrameRow;
use crate::model::FastMap;
use crate::model::ProcessId;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use std::collections::BTreeMap;

/// Sums up each object in the one that stands for it. Gives that one's number for each.
/// `one_key` gives the key that both ends of a connection share, and all addresses of a word;
/// `called` what an object without an identity is called but for its place.
pub fn unify(
    tallies: &mut [(Key, Tally)],
    symbols: &Symbols,
    one_key: &dyn Fn(Key) -> Key,
    called: &dyn Fn(Key) -> Option<String>,
) -> Vec<u32> {
    let mut same: Vec<u32> = (0..tallies.len() as u32).collect();
    let mut stacks = Stacks { symbols, known: FastMap::default() };
    let mut first: FastMap<Key, u32> = FastMap::default();
    for (index, (key, _)) in (0..).zip(&mut *tallies) {
        *key = one_key(*key);
        same[index as usize] = *first.entry(*key).or_insert(index);
    }
    let mut parked: BTreeMap<(State, ProcessId, String), u32> = BTreeMap::new();
    let mut alike: BTreeMap<(State, String, String), u32> = BTreeMap::new();
    for index in 0..tallies.len() {
        let (key, tally) = &tallies[index];
        let Some(site) = heaviest(tally) else { continue };
        if let Some(name) = called(*key) {
            let place = names::call_site(symbols, site).unwrap_or_default();
            same[index] = *alike.entry((key.state, name, place)).or_insert(index as u32);
            continue;
        }
        let (What::Word(..) | What::Shared(..)) = key.what else { continue };
        match (stacks.tells(site), key.what) {
            (Tells::Parked(caller), What::Word(process, _)) => {
                if key.state == State::Gil {
                    continue;
                }
                let slot = (key.state, process, caller);
                same[index] = *parked.entry(slot).or_insert(index as u32);
            }
            (Tells::MuslCondition(caller), What::Word(process, _)) => {
                let caller = if key.state == State::Gil { String::new() } else { caller };
                let slot = (key.state, process, caller);
                same[index] = *parked.entry(slot).or_insert(index as u32);
            }
            (Tells::GlibcCondition, what) => {
                let one = before(what).and_then(|what| first.get(&Key { what, ..*key }));
                same[index] = one.copied().unwrap_or(same[index]);
            }
            _ => {}
        }
    }
    for (_, &index) in parked.iter().filter(|((state, ..), _)| *state == State::Gil) {
        if let Some(other) = only_other_gil(tallies, &same, index) {
            same[index as usize] = other;
        }
    }
    for index in 0..same.len() {
        // What stands for one may itself be stood for: never in a ring, as each step leads to an
        // earlier object or to the first word of its condition variable.
        while same[same[index] as usize] != same[index] {
            same[index] = same[same[index] as usize];
        }
    }
    for (index, &one) in same.iter().enumerate() {
        if one as usize != index {
            let tally = std::mem::take(&mut tallies[index].1);
            tallies[one as usize].1.merge(tally);
        }
    }
    same
}

/// The one other GIL of the process that the object at `index` is a GIL of.
fn only_other_gil(tallies: &[(Key, Tally)], same: &[u32], index: u32) -> Option<u32> {
    let of = |at: u32| match tallies[at as usize].0 {
        Key { state: State::Gil, what: What::Word(process, _) } => Some(process),
        _ => None,
    };
    let mut others =
        (0..).zip(same).filter(|&(at, &one)| one == at && at != index && of(at) == of(index));
    let (other, _) = others.next()?;
    others.next().is_none().then_some(other)
}

/// The first of the two words of a condition variable, given the second.
fn before(what: What) -> Option<What> {
    match what {
        What::Word(process, address) if address % 8 == 4 => Some(What::Word(process, address - 4)),
        What::Shared(device, inode, offset) if offset % 8 == 4 => {
            Some(What::Shared(device, inode, offset - 4))
        }
        _ => None,
    }
}

fn heaviest(tally: &Tally) -> Option<StackId> {
    let site = tally.sites.iter().max_by_key(|&(&stack, &(_, time))| (time, stack));
    site.map(|(&stack, _)| stack)
}

/// What a stack tells about its futex word.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Tells {
    Nothing,
    GlibcCondition,
    /// It is one wait's own word; the function that waits for the condition.
    MuslCondition(String),
    /// It is a thread's own word; the function that called the parking lot.
    Parked(String),
}

struct Stacks<'a> {
    symbols: &'a Symbols,
    known: FastMap<StackId, Tells>,
}

impl Stacks<'_> {
    fn tells(&mut self, stack: StackId) -> Tells {
        if let Some(known) = self.known.get(&stack) {
            return known.clone();
        }
        let frames = names::frames(self.symbols, stack);
        let has = |parts: &[&str]| {
            frames.iter().any(|frame| parts.iter().any(|part| frame.name.contains(part)))
        };
        let parks = frames.iter().any(|frame| {
            frame.name.contains("parking_lot")
                || frame.file.as_deref().is_some_and(|file| {
                    // What Python parks a thread for is known.
                    file.contains("/parking_lot") && !file.ends_with("/parking_lot.c")
                })
        });
        let told = if parks {
            // Without a function outside the library nobody knows that two words are for one lock.
            names::call_site(self.symbols, stack).map_or(Tells::Nothing, Tells::Parked)
        } else if let Some(call) = names::python_call(&frames) {
            // Each wait for a condition of Python has a lock of its own.
            let site = names::call_site(self.symbols, stack).unwrap_or_default();
            Tells::Parked(format!("{call} {site}"))
        } else if has(&["pthread_cond_"]) && frames.iter().any(is_musl) {
            names::call_site(self.symbols, stack).map_or(Tells::Nothing, Tells::MuslCondition)
        } else if has(&["pthread_cond_"]) {
            Tells::GlibcCondition
        } else {
            Tells::Nothing
        };
        self.known.insert(stack, told.clone());
        told
    }
}

/// Whether a function is musl's: of its library (glibc's is `libc.so.6`), or linked into the program.
fn is_musl(frame: &FrameRow) -> bool {
    let module = frame.module.as_deref().unwrap_or_default();
    let module = module.rsplit_once('/').map_or(module, |(_, base)| base);
    module == "libc.so"
        || module.starts_with("ld-musl")
        || module.starts_with("libc.musl")
        || matches!(frame.name.as_str(), "__timedwait" | "__timedwait_cp")
}
