//! The shared file: what lies where, and how a record is packed.
//!
//! ```text
//! byte 0          header, 8-byte words: magic, version, slots, bytes per ring, PID namespace of
//!                 the recorder, closed, records lost for want of a slot, highest kind read
//! 4096            one control block of 128 bytes per slot
//!                   first cache line, the writer's: owner, claimed, done, tail, tail check,
//!                                                   lost, lost check
//!                   second, the reader's:           head, head check
//! next 64 KiB     one ring of 256 KiB per slot
//! ```
//!
//! All words are native-endian `u64`s. A thread claims a slot by a compare-and-swap of `owner`
//! from 0 to `pid << 32 | tid`, so that a slot is never owned by nobody known; from then on it is
//! its only producer and the recorder its only consumer. `head` and `tail` count words and only
//! ever grow, across owners too. A record is written first and `tail` after it: a writer that
//! dies in between leaves nothing half visible.
//!
//! The recorder reads and writes with `pread` and `pwrite`, never through a mapping: a target
//! could cut the file short, and touching a mapping past the end is a `SIGBUS` in the recorder.
//! Such copies need not be atomic, so each word that one side changes while the other looks
//! (`tail`, `lost`, `head`) has a check word beside it, [`check`]; whoever sees a pair
//! that does not match keeps its last value and looks again later.
//!
//! A record is 2 words (first word, time in ns of `CLOCK_MONOTONIC`), the id of the span or name where
//! there is one, for a name the start of its range and the bytes of it, and the strings, padded with
//! zeros. The first word holds, from bit 0: length in words (16 bits), kind (8), bytes of name (16,
//! of which 8 are used), of target (8), of fields (16).
//!
//! A reader skips the rest of a ring at a kind that it does not know, so the header says which is the
//! highest one that it does: a writer keeps what is newer to itself. 0, as readers before names left
//! it, stands for [`Kind::Instant`].

/// First word of the file: `TSPROBE` and a byte that text does not hold.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TSPROBE\x01");
/// Version of this layout. A writer that knows another one stays silent.
pub const VERSION: u64 = 1;
/// Bytes before the control blocks.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a control block: two cache lines, one per side.
pub const CONTROL_BYTES: usize = 128;
/// Bytes of one ring: about 3,000 spans between two drains.
pub const RING_BYTES: usize = 256 * 1024;
/// Words of one ring.
pub const RING_WORDS: u64 = (RING_BYTES / 8) as u64;
/// Most slots a file may have.
pub const SLOTS_MAX: u32 = 4096;
/// Longest name or target, bytes; longer ones are cut and end in [`CUT`].
pub const NAME_MAX: usize = 120;
/// Longest fields, bytes; longer ones are cut and end in [`CUT`].
pub const FIELDS_MAX: usize = 400;
/// What a cut string ends in.
pub const CUT: &str = "…";
/// Words of the longest record.
pub const RECORD_WORDS_MAX: usize = 3 + (2 * NAME_MAX + FIELDS_MAX).div_ceil(8);
/// Words of a leave record.
pub const LEAVE_WORDS: u64 = 3;

/// Words of the header, by index.
pub mod header {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// [`VERSION`](super::VERSION).
    pub const VERSION: usize = 1;
    /// Number of slots.
    pub const SLOTS: usize = 2;
    /// Bytes per ring.
    pub const RING: usize = 3;
    /// Inode of the recorder's PID namespace.
    pub const NAMESPACE: usize = 4;
    /// Not 0 once nobody will drain any more.
    pub const CLOSED: usize = 5;
    /// Records lost by threads that had no slot.
    pub const UNCLAIMED: usize = 6;
    /// The highest [`Kind`](super::Kind) that the reader knows.
    pub const KINDS: usize = 7;
    /// Words in use.
    pub const WORDS: usize = 8;
}

/// Words of a control block, by index.
pub mod control {
    /// `pid << 32 | tid`; 0 while the slot is free.
    pub const OWNER: usize = 0;
    /// When it was claimed, ns.
    pub const CLAIMED: usize = 1;
    /// Not 0 once its thread has ended.
    pub const DONE: usize = 2;
    /// Words ever written.
    pub const TAIL: usize = 3;
    /// [`check`](super::check) of the tail.
    pub const TAIL_CHECK: usize = 4;
    /// Records ever dropped.
    pub const LOST: usize = 5;
    /// [`check`](super::check) of that.
    pub const LOST_CHECK: usize = 6;
    /// Words ever read.
    pub const HEAD: usize = 8;
    /// [`check`](super::check) of the head.
    pub const HEAD_CHECK: usize = 9;
    /// Words of the block.
    pub const WORDS: usize = super::CONTROL_BYTES / 8;
}

// Both sides compute positions from these; a change of any needs a new VERSION.
const _: () = assert!(header::WORDS * 8 <= HEADER_BYTES);
const _: () = assert!(control::LOST_CHECK * 8 < 64 && control::HEAD * 8 == 64);
const _: () = assert!(control::HEAD_CHECK < control::WORDS && control::WORDS == 16);
const _: () = assert!(RING_BYTES == 262_144 && RING_WORDS.is_power_of_two());
const _: () = assert!(RECORD_WORDS_MAX == 83 && NAME_MAX < 256 && FIELDS_MAX < 65_536);

/// Offset of the control block of `slot`.
pub const fn control_offset(slot: u32) -> usize {
    HEADER_BYTES + slot as usize * CONTROL_BYTES
}

/// Offset of the ring of `slot` in a file of `slots`. Rings start on any page size up to 64 KiB.
pub const fn ring_offset(slots: u32, slot: u32) -> usize {
    control_offset(slots).next_multiple_of(64 * 1024) + slot as usize * RING_BYTES
}

/// Length of a file of `slots`.
pub const fn file_bytes(slots: u32) -> usize {
    ring_offset(slots, slots)
}

/// The word that stands beside `value` to show that both were written whole. 0 for 0, so that
/// a new file is consistent.
pub const fn check(value: u64) -> u64 {
    value.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A span was entered.
    Enter = 1,
    /// A span was left.
    Leave = 2,
    /// An event.
    Instant = 3,
    /// What lies in a range of memory got a name.
    Named = 4,
    /// What had a name is gone.
    Gone = 5,
}

impl Kind {
    /// The highest kind of this layout.
    pub const LAST: Self = Self::Gone;

    /// Words before the strings.
    const fn fixed(self) -> usize {
        match self {
            Self::Instant => 2,
            Self::Enter | Self::Leave | Self::Gone => 3,
            Self::Named => 5,
        }
    }
}

/// A record ready to be written but for its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// Its first word.
    pub first: u64,
    /// What follows the time.
    pub rest: Vec<u64>,
}

/// A record as read, strings borrowed from the reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unpacked<'a> {
    /// What it is.
    pub kind: Kind,
    /// When, ns.
    pub time: u64,
    /// The id of the span or of what has a name; 0 for an instant.
    pub span: u64,
    /// Start and bytes of the range that has a name; else 0.
    pub range: (u64, u64),
    /// Name; empty for a leave.
    pub name: &'a [u8],
    /// Target; empty for a leave.
    pub target: &'a [u8],
    /// Fields; empty for a leave.
    pub fields: &'a [u8],
}

/// `text` if it fits into `limit` bytes, else as much of it as leaves room for [`CUT`].
pub fn cut(text: &str, limit: usize) -> (&str, &'static str) {
    if text.len() <= limit {
        return (text, "");
    }
    (&text[..text.floor_char_boundary(limit - CUT.len())], CUT)
}

/// Packs an enter (`span` given) or an instant.
pub fn pack(span: Option<u64>, name: &str, target: &str, fields: &str) -> Packed {
    let parts = [cut(name, NAME_MAX), cut(target, NAME_MAX), cut(fields, FIELDS_MAX)];
    let kind = if span.is_some() { Kind::Enter } else { Kind::Instant };
    pack_parts(kind, span.as_slice(), parts)
}

/// Packs that what lies in the `length` bytes from `start` is called `name`. Under an `id` that had
/// another range before, it is there no more.
pub fn pack_named(id: u64, start: u64, length: u64, name: &str) -> Packed {
    pack_parts(Kind::Named, &[id, start, length], [cut(name, NAME_MAX), ("", ""), ("", "")])
}

/// Packs that what had a name is gone.
pub fn pack_gone(id: u64) -> Packed {
    pack_parts(Kind::Gone, &[id], [("", ""); 3])
}

fn pack_parts(kind: Kind, words: &[u64], parts: [(&str, &str); 3]) -> Packed {
    let mut bytes = Vec::with_capacity(8 * RECORD_WORDS_MAX);
    bytes.extend(words.iter().copied().flat_map(u64::to_ne_bytes));
    for (text, mark) in parts {
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(mark.as_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let rest: Vec<u64> =
        bytes.as_chunks().0.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect();
    let [name, target, fields] = parts.map(|(text, mark)| (text.len() + mark.len()) as u64);
    let first =
        (rest.len() as u64 + 2) | (kind as u64) << 16 | name << 24 | target << 40 | fields << 48;
    Packed { first, rest }
}

/// First word of a leave; its only further word is the span's id.
pub const LEAVE: u64 = LEAVE_WORDS | (Kind::Leave as u64) << 16;

/// The record at the start of `bytes`, and its length in bytes; `None` if that is no record.
pub fn unpack(bytes: &[u8]) -> Option<(Unpacked<'_>, usize)> {
    let (words, _) = bytes.as_chunks::<8>();
    let word = |i: usize| words.get(i).map(|word| u64::from_ne_bytes(*word));
    let first = word(0)?;
    let length = (first & 0xffff) as usize;
    let kind = match (first >> 16) & 0xff {
        1 => Kind::Enter,
        2 => Kind::Leave,
        3 => Kind::Instant,
        4 => Kind::Named,
        5 => Kind::Gone,
        _ => return None,
    };
    let fixed = kind.fixed();
    let sizes = [(first >> 24) & 0xffff, (first >> 40) & 0xff, first >> 48].map(|n| n as usize);
    let strings: usize = sizes.iter().sum();
    if length != fixed + strings.div_ceil(8) || length > RECORD_WORDS_MAX {
        return None;
    }
    let time = word(1)?;
    let span = if fixed > 2 { word(2)? } else { 0 };
    let range = if fixed > 3 { (word(3)?, word(4)?) } else { (0, 0) };
    let text = bytes.get(fixed * 8..length * 8)?;
    let (name, text) = text.split_at(sizes[0]);
    let (target, text) = text.split_at(sizes[1]);
    let fields = &text[..sizes[2]];
    Some((Unpacked { kind, time, span, range, name, target, fields }, length * 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CUT, FIELDS_MAX, Kind, NAME_MAX, RECORD_WORDS_MAX};
    use super::{pack, pack_gone, pack_named, unpack};

    fn bytes(packed: &super::Packed, time: u64) -> Vec<u8> {
        let words = [packed.first, time].into_iter().chain(packed.rest.iter().copied());
        words.flat_map(u64::to_ne_bytes).collect()
    }

    #[test]
    fn a_record_comes_back() {
        for span in [None, Some(77)] {
            let raw = bytes(&pack(span, "settle", "bank::books", "a=1 b=\"x y\""), 5);
            let (record, length) = unpack(&raw).expect("a record");
            assert_eq!(length, raw.len());
            assert_eq!(record.kind, if span.is_some() { Kind::Enter } else { Kind::Instant });
            assert_eq!((record.time, record.span), (5, span.unwrap_or(0)));
            assert_eq!(record.name, b"settle");
            assert_eq!(record.target, b"bank::books");
            assert_eq!(record.fields, b"a=1 b=\"x y\"");
        }
    }

    #[test]
    fn a_name_and_its_end_come_back() {
        let raw = bytes(&pack_named(7, 0x7fff_0010, 40, "accounts"), 5);
        let (record, length) = unpack(&raw).expect("a record");
        assert_eq!((length, record.kind, record.span), (raw.len(), Kind::Named, 7));
        assert_eq!((record.range, record.name), ((0x7fff_0010, 40), &b"accounts"[..]));
        let raw = bytes(&pack_gone(7), 6);
        let (record, length) = unpack(&raw).expect("a record");
        assert_eq!((length, record.kind, record.span), (raw.len(), Kind::Gone, 7));
        assert_eq!((record.time, record.range, record.name), (6, (0, 0), &b""[..]));
    }

    #[test]
    fn long_strings_are_cut_at_a_character_and_marked() {
        let long = "é".repeat(1000);
        let raw = bytes(&pack(Some(1), &long, &long, &long), 5);
        let (record, length) = unpack(&raw).expect("a record");
        assert!(length <= RECORD_WORDS_MAX * 8);
        for (text, limit) in
            [(record.name, NAME_MAX), (record.target, NAME_MAX), (record.fields, FIELDS_MAX)]
        {
            let text = std::str::from_utf8(text).expect("whole characters");
            assert!(text.ends_with(CUT) && text.len() <= limit && text.len() > limit - 5);
        }
        let exact = "x".repeat(NAME_MAX);
        let raw = bytes(&pack(None, &exact, "", ""), 5);
        assert_eq!(unpack(&raw).expect("a record").0.name, exact.as_bytes());
    }

    proptest! {
        #[test]
        fn any_words_are_a_record_that_fits_or_none(
            kind in 0_u64..7,
            sizes in (0_u64..300, 0_u64..256, 0_u64..600),
            off in prop_oneof![9 => Just(0), 1 => -2_i64..3],
            have in 0_usize..120,
        ) {
            let fixed = [3, 3, 3, 2, 5, 3, 3][kind as usize];
            let needed = fixed + (sizes.0 + sizes.1 + sizes.2).div_ceil(8);
            let length = needed.saturating_add_signed(off);
            let first = length | kind << 16 | sizes.0 << 24 | sizes.1 << 40 | sizes.2 << 48;
            let mut words = vec![u64::MAX; have];
            words.iter_mut().take(1).for_each(|word| *word = first);
            let raw: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
            let whole = off == 0 && (1..=Kind::LAST as u64).contains(&kind) && length as usize <= RECORD_WORDS_MAX;
            let found = unpack(&raw).map(|(_, length)| length / 8);
            prop_assert_eq!(found, (whole && length as usize <= have).then_some(length as usize));
        }
    }
}
