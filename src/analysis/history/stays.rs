//! A thread's stays off the CPU, packed into 24 bytes each.

use crate::model::Nanos;
use crate::model::ThreadId;

/// One stay off the CPU: waited from `off` to `woken`, queued from `woken` to `on`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stay {
    /// It left the CPU.
    pub off: Nanos,
    /// The wait ended; equal to `off` if it was only queued.
    pub woken: Nanos,
    /// It was back on a CPU.
    pub on: Nanos,
    /// What it waited for.
    pub object: u32,
    /// Who ended the wait.
    pub ender: Ender,
    /// The ender let go of the very futex word that was waited for.
    pub released: bool,
    /// Still off the CPU when the recording ended.
    pub open: bool,
    /// How it left the CPU.
    pub left: Left,
}

/// Who or what ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ender {
    /// Not seen.
    Unseen,
    /// A thread of the recording.
    Thread(ThreadId),
    /// A hard interrupt: a timer or a device.
    Interrupt,
    /// A soft interrupt: a packet from outside, the end of a disk request.
    Softirq,
    /// A task outside the recording: another process or the kernel's own.
    Stranger,
}

/// How a thread left the CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Left {
    /// Not seen.
    Unseen,
    /// It went to sleep.
    Blocked,
    /// It was ready and another task got the CPU.
    Preempted {
        /// Whether it was seen who got it.
        taker_seen: bool,
    },
    /// `sched_yield`.
    Yielded,
    /// Just forked.
    New,
    /// Stopped, traced or frozen.
    Stopped,
}

#[derive(Clone, Copy)]
struct Packed {
    off: u64,
    wait: u32,
    queue: u32,
    object: u32,
    /// Bits 0..24 the thread, 24..27 the kind of ender, 27 released, 28 open, 29..32 how it left.
    rest: u32,
}

/// Stands in `wait` and `queue` for more than fits; the truth is in `long`.
const LONG: u32 = u32::MAX;
/// Stays are kept in blocks, so that growing never copies and never doubles the memory.
const BLOCK: usize = 1024;
const THREAD_BITS: u32 = 24;
const THREADS: u32 = (1 << THREAD_BITS) - 1;

/// The stays of one thread, in order.
#[derive(Default)]
pub struct Stays {
    blocks: Vec<Vec<Packed>>,
    len: usize,
    /// Index, wait and queue of stays of four seconds and more.
    long: Vec<(usize, Nanos, Nanos)>,
}

impl Stays {
    /// Adds the next stay.
    pub fn push(&mut self, stay: &Stay) {
        if self.len.is_multiple_of(BLOCK) {
            // A thread's first block grows; the later ones come whole.
            let room = if self.len == 0 { 4 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(room));
        }
        let (wait, queue) = (stay.woken - stay.off, stay.on - stay.woken);
        let packed = Packed {
            off: stay.off.0,
            wait: short(wait),
            queue: short(queue),
            object: stay.object,
            rest: pack(stay),
        };
        if packed.wait == LONG || packed.queue == LONG {
            self.long.push((self.len, wait, queue));
        }
        self.blocks.last_mut().expect("a block was made above").push(packed);
        self.len += 1;
    }

    /// Adds queueing to the last stay.
    pub fn queue_last(&mut self, queue: Nanos) {
        let Some(index) = self.len.checked_sub(1) else { return };
        let stay = self.get(index);
        let (wait, queue) = (stay.woken - stay.off, stay.on + queue - stay.woken);
        let Some(last) = self.blocks.last_mut().and_then(|block| block.last_mut()) else { return };
        last.queue = short(queue);
        if last.wait == LONG || last.queue == LONG {
            if self.long.last().is_some_and(|long| long.0 == index) {
                self.long.pop();
            }
            self.long.push((index, wait, queue));
        }
    }

    /// The stay with this index.
    pub fn get(&self, index: usize) -> Stay {
        self.unpacked(index, &self.blocks[index / BLOCK][index % BLOCK])
    }

    /// The stays from this index on, in order.
    pub fn from(&self, first: usize) -> impl Iterator<Item = Stay> + '_ {
        Iter { stays: self, index: first, block: [].iter() }
    }

    #[inline]
    fn unpacked(&self, index: usize, packed: &Packed) -> Stay {
        let (mut wait, mut queue) = (Nanos(packed.wait.into()), Nanos(packed.queue.into()));
        if packed.wait == LONG || packed.queue == LONG {
            let at = self.long.partition_point(|long| long.0 < index);
            if let Some(&(found, w, q)) = self.long.get(at)
                && found == index
            {
                (wait, queue) = (w, q);
            }
        }
        let off = Nanos(packed.off);
        Stay {
            off,
            woken: off + wait,
            on: off + wait + queue,
            object: packed.object,
            ender: ender(packed.rest),
            released: packed.rest >> 27 & 1 == 1,
            open: packed.rest >> 28 & 1 == 1,
            left: left(packed.rest),
        }
    }

    /// When the stay with this index ended: for those who search.
    fn on(&self, index: usize) -> Nanos {
        let packed = &self.blocks[index / BLOCK][index % BLOCK];
        if packed.wait == LONG || packed.queue == LONG {
            return self.get(index).on;
        }
        Nanos(packed.off) + Nanos(packed.wait.into()) + Nanos(packed.queue.into())
    }

    /// The stay with this index, if there is one.
    pub fn try_get(&self, index: usize) -> Option<Stay> {
        (index < self.len).then(|| self.get(index))
    }

    /// Index of the last stay that began before `time`.
    pub fn before(&self, time: Nanos) -> Option<usize> {
        let block = self.blocks.partition_point(|block| block[0].off < time.0).checked_sub(1)?;
        let within = self.blocks[block].partition_point(|stay| stay.off < time.0);
        Some(block * BLOCK + within - 1)
    }

    /// The same, quick where the answer is near `hint`.
    pub fn before_near(&self, time: Nanos, hint: usize) -> Option<usize> {
        let began = |index: usize| self.blocks[index / BLOCK][index % BLOCK].off < time.0;
        self.count_near(hint, began).checked_sub(1)
    }

    /// Index of the first stay that ends after `time`; the number of stays if none does.
    pub fn first_ending_after(&self, time: Nanos) -> usize {
        match self.before(Nanos(time.0.saturating_add(1))) {
            Some(index) if self.on(index) > time => index,
            Some(index) => index + 1,
            None => 0,
        }
    }

    /// The same, quick where the answer is near `hint`.
    pub fn first_ending_after_near(&self, time: Nanos, hint: usize) -> usize {
        self.count_near(hint, |index| self.on(index) <= time)
    }

    /// For how many stays something holds that holds up to one of them and for none behind it.
    /// Looks from `hint` on in strides that double: neighbours lie in the same cache lines.
    fn count_near(&self, hint: usize, holds: impl Fn(usize) -> bool) -> usize {
        let hint = hint.min(self.len);
        let (mut low, mut high, mut stride) = (hint, hint, 1);
        if hint == 0 || holds(hint - 1) {
            while low + stride <= self.len && holds(low + stride - 1) {
                low += stride;
                stride *= 2;
            }
            high = (low + stride).min(self.len);
        } else {
            while high >= stride && !holds(high - stride) {
                high -= stride;
                stride *= 2;
            }
            low = high.saturating_sub(stride);
        }
        while low < high {
            let middle = low.midpoint(high);
            if holds(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// See [`Stays::from`].
struct Iter<'s> {
    stays: &'s Stays,
    index: usize,
    /// What is left of the block at hand.
    block: std::slice::Iter<'s, Packed>,
}

impl Iterator for Iter<'_> {
    type Item = Stay;

    #[inline]
    fn next(&mut self) -> Option<Stay> {
        if self.block.as_slice().is_empty() {
            let block = self.stays.blocks.get(self.index / BLOCK)?;
            self.block = block.get(self.index % BLOCK..)?.iter();
        }
        let stay = self.stays.unpacked(self.index, self.block.next()?);
        self.index += 1;
        Some(stay)
    }
}

fn short(time: Nanos) -> u32 {
    u32::try_from(time.0).unwrap_or(LONG)
}

fn pack(stay: &Stay) -> u32 {
    let (kind, thread) = match stay.ender {
        Ender::Thread(ThreadId(id)) if id <= THREADS => (1, id),
        // More threads than 16 million: the ender is forgotten, not confused with another.
        Ender::Unseen | Ender::Thread(_) => (0, 0),
        Ender::Interrupt => (2, 0),
        Ender::Softirq => (3, 0),
        Ender::Stranger => (4, 0),
    };
    let left = match stay.left {
        Left::Unseen => 0,
        Left::Blocked => 1,
        Left::Preempted { taker_seen: false } => 2,
        Left::Preempted { taker_seen: true } => 3,
        Left::Yielded => 4,
        Left::New => 5,
        Left::Stopped => 6,
    };
    thread
        | kind << THREAD_BITS
        | u32::from(stay.released) << 27
        | u32::from(stay.open) << 28
        | left << 29
}

fn ender(rest: u32) -> Ender {
    match rest >> THREAD_BITS & 7 {
        1 => Ender::Thread(ThreadId(rest & THREADS)),
        2 => Ender::Interrupt,
        3 => Ender::Softirq,
        4 => Ender::Stranger,
        _ => Ender::Unseen,
    }
}

fn left(rest: u32) -> Left {
    match rest >> 29 {
        1 => Left::Blocked,
        2 => Left::Preempted { taker_seen: false },
        3 => Left::Preempted { taker_seen: true },
        4 => Left::Yielded,
        5 => Left::New,
        6 => Left::Stopped,
        _ => Left::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stay(off: u64, woken: u64, on: u64) -> Stay {
        Stay {
            off: Nanos(off),
            woken: Nanos(woken),
            on: Nanos(on),
            object: 7,
            ender: Ender::Thread(ThreadId(5)),
            released: true,
            open: false,
            left: Left::Preempted { taker_seen: true },
        }
    }

    #[test]
    fn what_goes_in_comes_out_long_or_short() {
        let mut stays = Stays::default();
        let mut all = Vec::new();
        for i in 0..3000_u64 {
            let off = i * 20_000_000_000;
            let long = u64::from(i.is_multiple_of(7)) * 9_000_000_000;
            let mut one = stay(off, off + 100 + long, off + 150 + long);
            one.ender = [Ender::Unseen, Ender::Interrupt, Ender::Thread(ThreadId(i as u32))]
                [i as usize % 3];
            stays.push(&one);
            if i % 5 == 0 {
                stays.queue_last(Nanos(long + 3));
                one.on += Nanos(long + 3);
            }
            all.push(one);
        }
        for (i, one) in all.iter().enumerate() {
            assert_eq!(stays.get(i), *one);
            assert_eq!(stays.before(one.on), Some(i));
            assert_eq!(stays.first_ending_after(one.off), i);
            assert_eq!(stays.first_ending_after(one.on), i + 1);
            for hint in [0, i / 2, i, i + 1, i + 7, 9999] {
                assert_eq!(stays.first_ending_after_near(one.off, hint), i);
                assert_eq!(stays.first_ending_after_near(one.on, hint), i + 1);
                assert_eq!(stays.before_near(one.on, hint), Some(i));
                assert_eq!(stays.before_near(one.off, hint), i.checked_sub(1));
            }
        }
        let all_from = |first| all.iter().skip(first).copied();
        for first in [0, 1, 1023, 1024, 2500, 3000, 4000] {
            assert!(stays.from(first).eq(all_from(first)));
        }
        assert_eq!(stays.before(Nanos(0)), None);
        assert_eq!(stays.try_get(3000), None);
    }

    #[test]
    fn a_stay_takes_24_bytes() {
        assert_eq!(size_of::<Packed>(), 24);
    }
}
