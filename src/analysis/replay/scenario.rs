//! A change, resolved to what it does to each operation.

use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::NONE;
use crate::analysis::replay::model::Op;
use crate::analysis::replay::sites::Shares;

/// What becomes of a lock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LockChange {
    /// All that is done while it is held takes this much of its time.
    pub factor: f64,
    /// It keeps nobody out.
    pub free: bool,
    /// It is split into this many.
    pub shards: u32,
}

const SAME: LockChange = LockChange { factor: 1.0, free: false, shards: 1 };

/// All changes at once. The default changes nothing.
#[derive(Clone, Default, Debug)]
pub struct Scenario {
    /// That many CPUs.
    pub cpus: Option<f64>,
    threads: Vec<f64>,
    objects: Vec<f64>,
    sections: Vec<(Shares, f64)>,
    locks: Vec<LockChange>,
}

fn grown<T: Copy>(list: &mut Vec<T>, index: usize, plain: T) -> &mut T {
    if index >= list.len() {
        list.resize(index + 1, plain);
    }
    &mut list[index]
}

impl Scenario {
    /// Scales all that a stream does itself.
    pub fn scale_thread(&mut self, stream: usize, factor: f64) {
        *grown(&mut self.threads, stream, 1.0) *= factor;
    }

    /// Scales the delays at an object.
    pub fn scale_object(&mut self, object: u32, factor: f64) {
        *grown(&mut self.objects, object as usize, 1.0) *= factor;
    }

    /// Scales what is done in a function.
    pub fn scale_section(&mut self, shares: Shares, factor: f64) {
        self.sections.push((shares, factor));
    }

    /// Changes a lock.
    pub fn lock_mut(&mut self, lock: usize) -> &mut LockChange {
        grown(&mut self.locks, lock, SAME)
    }

    /// What becomes of a lock.
    pub fn lock(&self, lock: usize) -> LockChange {
        self.locks.get(lock).copied().unwrap_or(SAME)
    }

    /// A clone of a stream is changed as its original is.
    pub fn copy_thread(&mut self, from: usize, to: usize) {
        if let Some(&factor) = self.threads.get(from) {
            *grown(&mut self.threads, to, 1.0) = factor;
        }
    }

    /// How much of its recorded time an operation takes; `held` comes from the locks held.
    pub fn factor(&self, stream: usize, op: &Op, held: f64) -> f64 {
        if op.kind == Kind::Kept {
            let gone = op.what != NONE && self.lock(op.what as usize).free;
            return if gone { 0.0 } else { 1.0 };
        }
        let mut factor = held * self.threads.get(stream).copied().unwrap_or(1.0);
        if op.kind == Kind::Delay {
            factor *= self.objects.get(op.what as usize).copied().unwrap_or(1.0);
        }
        for (shares, by) in &self.sections {
            factor *= 1.0 - shares.of(op.site) * (1.0 - by);
        }
        factor
    }
}
