//! The writing half of one ring: a single producer that never waits.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::{RING_WORDS, check, control};

/// The ring of one thread while it owns the slot.
pub(crate) struct Producer {
    control: &'static [AtomicU64],
    data: &'static [AtomicU64],
    owner: u64,
    tail: u64,
    /// The reader's position as last seen: never ahead of the true one.
    head: u64,
    lost: u64,
}

impl Producer {
    /// Goes on where the slot's last owner ended.
    pub(crate) fn new(
        control: &'static [AtomicU64],
        data: &'static [AtomicU64],
        owner: u64,
    ) -> Self {
        let tail = control[control::TAIL].load(Acquire);
        let lost = control[control::LOST].load(Relaxed);
        // As full as can be, until the reader's word is seen to be whole.
        let head = tail.wrapping_sub(RING_WORDS);
        let this = Self { control, data, owner, tail, head, lost };
        // The last owner may have died between a word and its check.
        this.publish(control::TAIL, tail);
        this.publish(control::LOST, lost);
        this
    }

    /// Whether the slot is still this thread's: the reader takes it back when it believes the
    /// thread to be dead.
    pub(crate) fn is_mine(&self) -> bool {
        self.control[control::OWNER].load(Relaxed) == self.owner
    }

    /// Appends a record if it leaves `spare` words free after it.
    pub(crate) fn push(&mut self, first: u64, time: u64, rest: &[u64], spare: u64) -> bool {
        let length = rest.len() as u64 + 2;
        if !self.has_room(length + spare) {
            return false;
        }
        let words = [first, time].into_iter().chain(rest.iter().copied());
        for word in words {
            self.data[(self.tail % RING_WORDS) as usize].store(word, Relaxed);
            self.tail = self.tail.wrapping_add(1);
        }
        self.publish(control::TAIL, self.tail);
        true
    }

    /// Counts a record that had no room.
    pub(crate) fn count_lost(&mut self) {
        self.lost = self.lost.wrapping_add(1);
        self.publish(control::LOST, self.lost);
    }

    /// Says that its thread writes no more; the reader frees the slot after reading the rest.
    pub(crate) fn finish(&self) {
        if self.is_mine() {
            self.control[control::DONE].store(1, Release);
        }
    }

    fn has_room(&mut self, words: u64) -> bool {
        let free = |head: u64, tail: u64| RING_WORDS.saturating_sub(tail.wrapping_sub(head));
        if free(self.head, self.tail) >= words {
            return true;
        }
        let head = self.control[control::HEAD].load(Acquire);
        let whole = self.control[control::HEAD_CHECK].load(Acquire) == check(head);
        if whole && self.tail.wrapping_sub(head) <= self.tail.wrapping_sub(self.head) {
            self.head = head;
        }
        free(self.head, self.tail) >= words
    }

    /// Writes a word and its check. Release: the records before it are seen first.
    fn publish(&self, word: usize, value: u64) {
        self.control[word].store(value, Release);
        self.control[word + 1].store(check(value), Release);
    }
}
