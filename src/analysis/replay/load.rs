//! How long each thread was kept from a CPU by others than its own program.
//!
//! The replay lets threads of the program compete for CPUs anew, so the delays that they
//! caused each other are left out of the model. What others caused stays: the time from a
//! wake-up to a CPU that was free, and other processes on the machine.

use crate::analysis::history::History;
use crate::model::Nanos;

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

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Off the CPU.
    Off,
    /// Into the queue; its thread.
    Woken(u32),
    /// Onto the CPU; its thread.
    On(u32),
    /// First or last instant of a life.
    Start,
    End,
}

/// Sweeps over all lives.
pub fn load(history: &History, window: (Nanos, Nanos), cpus: f64) -> Load {
    let mut steps: Vec<(Nanos, Step)> = Vec::with_capacity(history.size() * 3 + 64);
    let mut kept: Vec<Vec<(u32, u32)>> = Vec::new();
    for (id, life) in history.lives() {
        kept.push(Vec::new());
        if life.end <= life.start {
            continue;
        }
        steps.push((life.start, Step::Start));
        for stay in history.stays(id, Nanos::ZERO) {
            steps.push((stay.off, Step::Off));
            steps.push((stay.woken, Step::Woken(id.0)));
            steps.push((stay.on, Step::On(id.0)));
        }
        steps.push((life.end, Step::End));
    }
    // Stable: the steps of one thread at one instant stay in their order.
    steps.sort_by_key(|step| step.0);
    let mut sweep = Sweep { cpus: cpus.max(1.0), ..Sweep::default() };
    sweep.since.resize(kept.len(), (0.0, 0.0));
    for (time, step) in steps {
        sweep.pass(time);
        match step {
            Step::Off | Step::End => sweep.running -= 1,
            Step::Start => sweep.running += 1,
            Step::Woken(thread) => {
                sweep.queued += 1;
                sweep.since[thread as usize] = (sweep.unexplained, sweep.shared);
            }
            Step::On(thread) => {
                sweep.queued -= 1;
                sweep.running += 1;
                let (plain, shared) = sweep.since[thread as usize];
                let ns = |time: f64| time.clamp(0.0, f64::from(u32::MAX)) as u32;
                kept[thread as usize]
                    .push((ns(sweep.unexplained - plain), ns(sweep.shared - shared)));
            }
        }
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
    since: Vec<(f64, f64)>,
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
