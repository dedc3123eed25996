//! How long each thread was kept from a CPU by others than its own program.
//!
//! The replay lets threads of the program compete for CPUs anew, so the delays that they
//! caused each other are left out of the model. What others caused stays: the time from a
//! wake-up to a CPU that was free, and other processes on the machine.

use crate::analysis::history::History;
use crate::analysis::history::Stay;
use crate::model::Nanos;
use crate::model::ThreadId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Share of the run from which on it is crowded.
const CROWDED: f64 = 0.5;

/// The result, by thread and stay.
#[derive(Default)]
pub struct Load {
    /// For each thread and each of its stays: the part of the queueing that its own program
    /// did not cause, ns.
    pub kept: Vec<Vec<u32>>,
    /// CPUs that others took, on average, while the program wanted more than there were.
    pub foreign: f64,
    /// It wanted more CPUs than there were for most of the run: then what others took is
    /// said by `foreign`, and otherwise by `kept` alone.
    pub crowded: bool,
}

/// What a thread does next.
#[derive(Clone, Copy)]
enum Step {
    /// Its life begins.
    Start,
    /// Off the CPU.
    Off(Stay),
    /// Into the queue.
    Woken(Stay),
    /// Onto the CPU.
    On,
    /// Its life ends.
    End,
}

/// Sweeps over all lives at once, with one step of each at hand.
pub fn load(history: &History, window: (Nanos, Nanos), cpus: f64) -> Load {
    let mut stays: Vec<_> = history.lives().map(|(id, _)| history.stays(id, Nanos::ZERO)).collect();
    let many = stays.len();
    let mut kept: Vec<Vec<(u32, u32)>> = vec![Vec::new(); many];
    let mut steps = vec![Step::Start; many];
    // At one instant by thread, so that it is the same each time.
    let mut next: BinaryHeap<Reverse<(Nanos, usize)>> = history
        .lives()
        .enumerate()
        .filter(|(_, (_, life))| life.end > life.start)
        .map(|(thread, (_, life))| Reverse((life.start, thread)))
        .collect();
    let mut sweep = Sweep { cpus: cpus.max(1.0), ..Sweep::default() };
    let mut since = vec![(0.0, 0.0); many];
    while let Some(mut top) = next.peek_mut() {
        let Reverse((time, thread)) = *top;
        sweep.pass(time);
        let then = match steps[thread] {
            Step::Start => {
                sweep.running += 1;
                None
            }
            Step::Off(stay) => {
                sweep.running -= 1;
                Some((stay.woken, Step::Woken(stay)))
            }
            Step::Woken(stay) => {
                sweep.queued += 1;
                since[thread] = (sweep.unexplained, sweep.shared);
                Some((stay.on, Step::On))
            }
            Step::On => {
                sweep.queued -= 1;
                sweep.running += 1;
                let (plain, shared) = since[thread];
                let ns = |time: f64| time.clamp(0.0, f64::from(u32::MAX)) as u32;
                kept[thread].push((ns(sweep.unexplained - plain), ns(sweep.shared - shared)));
                None
            }
            Step::End => {
                sweep.running -= 1;
                PeekMut::pop(top);
                continue;
            }
        };
        let off = || stays[thread].next().map(|stay| (stay.off, Step::Off(stay)));
        let (at, step) = then.or_else(off).unwrap_or_else(|| {
            let end = history.life(ThreadId(thread as u32)).map_or(time, |life| life.end);
            (end, Step::End)
        });
        steps[thread] = step;
        *top = Reverse((at.max(time), thread));
    }
    let (start, end) = window;
    let overloaded = sweep.overload / ((end - start).0.max(1) as f64);
    let crowded = overloaded > CROWDED;
    let pick = |list: Vec<(u32, u32)>| -> Vec<u32> {
        list.into_iter().map(|(plain, shared)| if crowded { plain } else { shared }).collect()
    };
    Load {
        kept: kept.into_iter().map(pick).collect(),
        foreign: if crowded { sweep.taken / sweep.overload.max(1.0) } else { 0.0 },
        crowded,
    }
}

#[derive(Default)]
struct Sweep {
    cpus: f64,
    now: Nanos,
    running: i64,
    queued: i64,
    /// Time so far in which queued threads had a CPU to go to, were it not for others.
    unexplained: f64,
    /// The same, and of moments with more wanted than there is the part that others took.
    shared: f64,
    overload: f64,
    taken: f64,
}

impl Sweep {
    fn pass(&mut self, time: Nanos) {
        let length = (time - self.now).0 as f64;
        self.now = time;
        if self.queued <= 0 || length <= 0.0 {
            return;
        }
        if (self.running + self.queued) as f64 <= self.cpus {
            self.unexplained += length;
            self.shared += length;
        } else {
            let taken = (self.cpus - self.running as f64).max(0.0);
            self.shared += length * (taken / self.queued as f64).min(1.0);
            self.overload += length;
            self.taken += taken * length;
        }
    }
}
