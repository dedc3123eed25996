//! What a record has in common with those before it: shared by encoder and decoder, so that
//! both remember the same.

use crate::model::Call;
use crate::model::Context;
use crate::model::Tid;
use crate::model::Waker;

/// The last two different values. A thread that works with two locks in turn, or a queue with
/// a lock and a condition, finds both here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent<T> {
    pub(super) last: T,
    pub(super) before: T,
}

/// How a value that may be absent is written, in two bits.
pub(super) const ABSENT: u16 = 0;
pub(super) const LAST: u16 = 1;
pub(super) const BEFORE: u16 = 2;
pub(super) const CHANGED: u16 = 3;

impl<T: Copy + PartialEq> Recent<T> {
    pub(super) fn new(value: T) -> Self {
        Self { last: value, before: value }
    }

    /// The code for `value`. After [`CHANGED`] the differences to `before` are to be written.
    pub(super) fn code(&mut self, value: Option<&T>) -> u16 {
        let Some(value) = value else { return ABSENT };
        if *value == self.last {
            return LAST;
        }
        if *value == self.before {
            std::mem::swap(&mut self.last, &mut self.before);
            return BEFORE;
        }
        self.push(*value);
        CHANGED
    }

    /// The value that [`ABSENT`], [`LAST`] or [`BEFORE`] stand for; `Err` for [`CHANGED`]:
    /// the caller reads it and gives it to [`Recent::push`].
    pub(super) fn value(&mut self, code: u16) -> Result<Option<T>, ()> {
        match code & 3 {
            ABSENT => Ok(None),
            LAST => Ok(Some(self.last)),
            BEFORE => {
                std::mem::swap(&mut self.last, &mut self.before);
                Ok(Some(self.last))
            }
            _ => Err(()),
        }
    }

    pub(super) fn push(&mut self, value: T) {
        self.before = self.last;
        self.last = value;
    }
}

/// The waker every thread starts from.
pub(super) const NO_WAKER: Waker =
    Waker { tid: Tid(0), in_tree: false, context: Context::Task, call: None, arg0: 0 };

/// What a chunk of intervals remembers of one thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadMemory {
    pub(super) tid: Tid,
    pub(super) on: u64,
    pub(super) call: Recent<Call>,
    pub(super) waker: Recent<Waker>,
    pub(super) taker: u32,
    pub(super) cpu_off: u16,
    pub(super) cpu_on: u16,
    pub(super) sequence: u32,
    pub(super) marks: u8,
}

impl ThreadMemory {
    /// A thread first met at `on`. Its first number is 0, one after `u32::MAX`.
    pub(super) fn new(tid: Tid, on: u64) -> Self {
        Self {
            tid,
            on,
            call: Recent::new(Call::default()),
            waker: Recent::new(NO_WAKER),
            taker: 0,
            cpu_off: 0,
            cpu_on: 0,
            sequence: u32::MAX,
            marks: 1,
        }
    }
}

/// What a chunk of samples remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleMemory {
    pub(super) tid: u32,
    pub(super) stack: u32,
    pub(super) cpu: u16,
    pub(super) weight: u64,
    pub(super) call: Recent<Call>,
}

impl Default for SampleMemory {
    fn default() -> Self {
        Self { tid: 0, stack: 0, cpu: 0, weight: 0, call: Recent::new(Call::default()) }
    }
}
