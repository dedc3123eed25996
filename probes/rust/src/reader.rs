//! The recorder's side: makes the file, drains all rings, frees those of dead threads.
//!
//! Everything in the file may have been written by a hostile target. Whatever it holds, a
//! drain ends, after reading each ring at most once, and never panics.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;

use crate::layout;
use crate::layout::{CONTROL_BYTES, HEADER_BYTES, Kind, RING_BYTES, RING_WORDS};
use crate::layout::{check, control, header};
use crate::sys;

/// What a thread of the target said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// When, ns of `CLOCK_MONOTONIC`. Never falls within a thread, never lies ahead.
    pub time: u64,
    /// What.
    pub what: What<'a>,
}

/// The kinds of [`Message`]. Strings are any bytes, bounded by the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What<'a> {
    /// A span was entered.
    Enter {
        /// Its id, unique in its process while it lives.
        span: u64,
        /// Its name.
        name: &'a [u8],
        /// Its module path or category.
        target: &'a [u8],
        /// Its fields, `key=value` separated by spaces.
        fields: &'a [u8],
    },
    /// A span was left.
    Leave {
        /// Its id.
        span: u64,
    },
    /// An event.
    Instant {
        /// Its message, or its name if it has none.
        name: &'a [u8],
        /// Its module path or category.
        target: &'a [u8],
        /// Its other fields.
        fields: &'a [u8],
    },
    /// What lies in a range of memory of the process is called something from now on.
    Named {
        /// Of what has the name, unique in its process while that lives. It has one range, the last.
        id: u64,
        /// Where the range starts.
        start: u64,
        /// Bytes of it.
        length: u64,
        /// The name.
        name: &'a [u8],
    },
    /// What had a name is gone.
    Gone {
        /// Its id.
        id: u64,
    },
}

/// The reading end of a shared file. Closes it for writers when dropped; the file itself is
/// its maker's to remove.
#[derive(Debug)]
pub struct Reader {
    file: File,
    slots: Vec<Slot>,
    control: Vec<u8>,
    ring: Vec<u8>,
    created: u64,
    looked: u64,
    unclaimed: u64,
    lost: u64,
    damaged: u64,
    fill: f64,
    is_broken: bool,
}

/// What the reader knows of a slot: its own words, never the file's.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    owner: u64,
    head: u64,
    lost: u64,
    time: u64,
}

/// One control block as read.
#[derive(Clone, Copy)]
struct Control<'a>(&'a [u8]);

impl Control<'_> {
    fn word(self, index: usize) -> u64 {
        word_at(self.0, index)
    }

    /// The word, if its check says that it was read whole; at any rate if nobody writes any more.
    fn checked(self, index: usize, is_final: bool) -> Option<u64> {
        let value = self.word(index);
        (is_final || self.word(index + 1) == check(value)).then_some(value)
    }
}

fn word_at(bytes: &[u8], index: usize) -> u64 {
    bytes.as_chunks::<8>().0.get(index).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// Time between two looks for dead threads, ns: each costs a system call per ring in use.
const LOOK_EVERY: u64 = 50_000_000;

impl Reader {
    /// Makes the file, mode 0600, with rings for `slots` threads at a time (1 to
    /// [`SLOTS_MAX`](layout::SLOTS_MAX)). It is sparse: a ring takes memory once it is used.
    ///
    /// # Errors
    ///
    /// If something of that name exists, or the file cannot be made.
    pub fn create(path: &Path, slots: u32) -> io::Result<Self> {
        let slots = slots.clamp(1, layout::SLOTS_MAX);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Self::prepare(file, slots).inspect_err(|_| {
            // Nobody is left who would know of it.
            let _ = std::fs::remove_file(path);
        })
    }

    fn prepare(file: File, slots: u32) -> io::Result<Self> {
        file.set_len(layout::file_bytes(slots) as u64)?;
        // Written, not left sparse: a writer must not meet a full disk in the control blocks.
        file.write_all_at(&vec![0; layout::control_offset(slots)], 0)?;
        let mut words = [0_u64; header::WORDS];
        words[header::VERSION] = layout::VERSION;
        words[header::SLOTS] = u64::from(slots);
        words[header::RING] = RING_BYTES as u64;
        words[header::NAMESPACE] = crate::pid_namespace();
        words[header::KINDS] = Kind::LAST as u64;
        words[header::MAGIC] = layout::MAGIC;
        file.write_all_at(&words.map(u64::to_ne_bytes).concat(), 0)?;
        let created = sys::monotonic_ns();
        Ok(Self {
            file,
            slots: vec![Slot::default(); slots as usize],
            control: vec![0; slots as usize * CONTROL_BYTES],
            ring: Vec::new(),
            created,
            looked: created,
            unclaimed: 0,
            lost: 0,
            damaged: 0,
            fill: 0.0,
            is_broken: false,
        })
    }

    /// The file, for changing its owner.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Records that writers dropped so far: no room in their ring, or no ring.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How often what a ring held made no sense; the unread rest of it was skipped.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// How full the fullest ring was at the last drain, 0.0..=1.0.
    pub fn fill(&self) -> f64 {
        self.fill
    }

    /// Delivers all that has arrived, in order within each thread.
    pub fn drain(&mut self, mut deliver: impl FnMut(Message<'_>)) {
        self.fill = 0.0;
        if !self.is_broken && self.drain_all(&mut deliver).is_err() {
            // Cut short or unreadable: the target's doing, and nothing comes of it any more.
            self.is_broken = true;
            self.damaged += 1;
        }
    }

    fn drain_all(&mut self, deliver: &mut dyn FnMut(Message<'_>)) -> io::Result<()> {
        self.count_unclaimed()?;
        let mut blocks = std::mem::take(&mut self.control);
        let read = self.file.read_exact_at(&mut blocks, HEADER_BYTES as u64);
        // What the blocks speak of was written before them.
        fence(SeqCst);
        let result = read.and_then(|()| self.drain_slots(&blocks, deliver));
        self.control = blocks;
        result
    }

    fn drain_slots(
        &mut self,
        blocks: &[u8],
        deliver: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<()> {
        let over = self.finished(blocks);
        for (slot, block) in blocks.chunks_exact(CONTROL_BYTES).enumerate() {
            let seen = Control(block);
            let owner = seen.word(control::OWNER);
            if owner == 0 {
                continue;
            }
            let is_over = over.get(slot).copied().unwrap_or(false);
            let state = self.slots[slot];
            let is_same = seen.checked(control::TAIL, false) == Some(state.head)
                && seen.checked(control::LOST, false) == Some(state.lost);
            if is_same && owner == state.owner && !is_over {
                continue;
            }
            // Read again: the owner was claimed, or the thread had ended, before this.
            let mut again = [0; CONTROL_BYTES];
            self.file.read_exact_at(&mut again, layout::control_offset(slot as u32) as u64)?;
            fence(SeqCst);
            let seen = Control(&again);
            self.slots[slot].owner = seen.word(control::OWNER);
            // Two looks must agree before a slot is taken back: the first may have caught half
            // of a word, or a slot that changed hands.
            let is_over = is_over && seen.word(control::OWNER) == owner;
            self.drain_slot(slot, seen, is_over, deliver)?;
            if is_over {
                self.free(slot)?;
            }
        }
        Ok(())
    }

    fn drain_slot(
        &mut self,
        slot: usize,
        seen: Control<'_>,
        is_final: bool,
        deliver: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<()> {
        let state = self.slots[slot];
        if let Some(lost) = seen.checked(control::LOST, is_final) {
            // A count that falls is no count of ours.
            let more = lost.saturating_sub(state.lost);
            self.lost = self.lost.saturating_add(more);
            self.slots[slot].lost = lost;
        }
        let Some(tail) = seen.checked(control::TAIL, is_final) else { return Ok(()) };
        let waiting = tail.wrapping_sub(state.head);
        if waiting == 0 {
            return Ok(());
        }
        self.slots[slot].head = tail;
        if waiting > RING_WORDS {
            self.damaged += 1;
            return self.publish_head(slot, tail);
        }
        self.fill = self.fill.max(waiting as f64 / RING_WORDS as f64);
        self.read_ring(slot, state.head, waiting)?;
        let now = sys::monotonic_ns();
        let mut rest = self.ring.as_slice();
        let mut time = state.time.max(self.created);
        let (pid, tid) = ((state.owner >> 32) as u32, state.owner as u32);
        while !rest.is_empty() {
            let Some((record, length)) =
                layout::unpack(rest).filter(|(record, _)| (time..=now).contains(&record.time))
            else {
                self.damaged += 1;
                break;
            };
            time = record.time;
            deliver(Message { pid, tid, time, what: What::from(record) });
            rest = rest.get(length..).unwrap_or_default();
        }
        self.slots[slot].time = time;
        self.publish_head(slot, tail)
    }

    /// Puts `words` words from position `head` into the buffer, in order.
    fn read_ring(&mut self, slot: usize, head: u64, words: u64) -> io::Result<()> {
        let base = layout::ring_offset(self.slots.len() as u32, slot as u32) as u64;
        let start = head % RING_WORDS;
        let first = words.min(RING_WORDS - start) as usize * 8;
        self.ring.clear();
        self.ring.resize(words as usize * 8, 0);
        let (before, after) = self.ring.split_at_mut(first);
        self.file.read_exact_at(before, base + start * 8)?;
        self.file.read_exact_at(after, base)
    }

    fn publish_head(&self, slot: usize, head: u64) -> io::Result<()> {
        let words = [head, check(head)].map(u64::to_ne_bytes).concat();
        fence(SeqCst);
        self.write_control(slot, control::HEAD, &words)
    }

    fn write_control(&self, slot: usize, word: usize, bytes: &[u8]) -> io::Result<()> {
        let offset = layout::control_offset(slot as u32) + word * 8;
        self.file.write_all_at(bytes, offset as u64)
    }

    /// Which slots' threads write no more: they said so, are dead, or run another program.
    fn finished(&mut self, blocks: &[u8]) -> Vec<bool> {
        let blocks: Vec<_> = blocks.chunks_exact(CONTROL_BYTES).map(Control).collect();
        let mut over: Vec<_> = blocks.iter().map(|block| block.word(control::DONE) != 0).collect();
        let now = sys::monotonic_ns();
        if now.saturating_sub(self.looked) < LOOK_EVERY {
            return over;
        }
        self.looked = now;
        // The newest slot of each thread: an exec forgets the ring without a word, and the
        // new program claims another one under the same ids.
        let mut newest = BTreeMap::<u64, (u64, usize)>::new();
        for (slot, block) in blocks.iter().enumerate() {
            let (owner, claimed) = (block.word(control::OWNER), block.word(control::CLAIMED));
            // Claimed this moment: the time comes next.
            let age = if claimed == 0 { u64::MAX } else { claimed };
            let best = newest.entry(owner).or_insert((age, slot));
            *best = (*best).max((age, slot));
        }
        let can_look = Path::new(&format!("/proc/{}", std::process::id())).exists();
        for (slot, block) in blocks.iter().enumerate() {
            let owner = block.word(control::OWNER);
            if owner != 0 {
                let is_newest = newest.get(&owner).is_some_and(|&(_, best)| best == slot);
                over[slot] |= !is_newest || (can_look && is_dead(owner));
            }
        }
        over
    }

    /// Gives a slot back. The owner goes last: from then on it is another thread's.
    fn free(&mut self, slot: usize) -> io::Result<()> {
        self.write_control(slot, control::DONE, &[0; 8])?;
        self.write_control(slot, control::CLAIMED, &[0; 8])?;
        fence(SeqCst);
        self.write_control(slot, control::OWNER, &[0; 8])?;
        self.slots[slot].owner = 0;
        self.slots[slot].time = 0;
        Ok(())
    }

    /// Counts what threads without a ring lost. Many write that word, so it has no check:
    /// it counts once two looks agree.
    fn count_unclaimed(&mut self) -> io::Result<()> {
        let mut words = [[0; 8]; 2];
        for word in &mut words {
            self.file.read_exact_at(word, header::UNCLAIMED as u64 * 8)?;
        }
        let [first, second] = words.map(u64::from_ne_bytes);
        if first == second {
            let more = first.saturating_sub(self.unclaimed);
            self.lost = self.lost.saturating_add(more);
            self.unclaimed = first;
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A failure leaves writers to fill their rings once more, which harms nobody.
        let _ = self.file.write_all_at(&1_u64.to_ne_bytes(), header::CLOSED as u64 * 8);
    }
}

/// Whether that thread is known not to exist. Unsure is alive.
fn is_dead(owner: u64) -> bool {
    let path = format!("/proc/{}/task/{}", owner >> 32, owner as u32);
    Path::new(&path).try_exists().is_ok_and(|exists| !exists)
}

impl<'a> From<layout::Unpacked<'a>> for What<'a> {
    fn from(record: layout::Unpacked<'a>) -> Self {
        let layout::Unpacked { kind, span, range, name, target, fields, .. } = record;
        match kind {
            Kind::Enter => Self::Enter { span, name, target, fields },
            Kind::Leave => Self::Leave { span },
            Kind::Instant => Self::Instant { name, target, fields },
            Kind::Named => Self::Named { id: span, start: range.0, length: range.1, name },
            Kind::Gone => Self::Gone { id: span },
        }
    }
}
