//! Dictionaries whose keys are strings: those of modules and classes.

use super::super::memory::Piece;
use super::super::memory::u64_in;
use super::Layout;
use super::Memory;
use super::MemoryExt;
use super::frames::plausible;
use super::strings;

/// `ma_keys` of a dictionary: pointer to its table.
const KEYS: u64 = 32;

/// Entries looked through. A program with all of its modules loaded has some thousands.
const MOST: u64 = 16_384;

/// The table of a dictionary's keys.
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Entries.
    pub count: u64,
    stride: u32,
    /// Where in an entry the pointer to its key is; that to its value follows.
    key: u32,
    /// Objects of a class share it, and have their values elsewhere.
    pub shared: bool,
}

impl Table {
    /// At `keys`, if it has no more than `most` entries.
    pub fn read(memory: &dyn Memory, layout: &Layout, keys: u64, most: u64) -> Option<Self> {
        plausible(keys).then_some(())?;
        let head = memory.bytes(keys, 40)?;
        let (start, count, kind) = if layout.minor <= 10 {
            let slots = u64_in(&head, 8)?;
            let width = match slots {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 4,
            };
            (slots.checked_mul(width)?.checked_add(40)?, u64_in(&head, 32)?, 0)
        } else {
            // Kinds: any keys, strings only, strings with the values elsewhere.
            let (width, kind) = (*head.get(9)?, *head.get(10)?);
            (width < 32 && kind <= 2).then_some(())?;
            ((1u64 << width) + 32, u64_in(&head, 24)?, kind)
        };
        (count <= most).then_some(())?;
        let (stride, key) = if kind == 0 { (24, 8) } else { (16, 0) };
        let bytes = memory.bytes(keys.checked_add(start)?, count as usize * stride as usize)?;
        Some(Self { bytes, count, stride, key, shared: kind == 2 })
    }

    /// Key and value of an entry.
    pub fn get(&self, index: u64) -> Option<(u64, u64)> {
        let at = index as u32 * self.stride + self.key;
        Some((u64_in(&self.bytes, at)?, u64_in(&self.bytes, at + 8)?))
    }
}

/// The value of a key that is ASCII.
pub(super) fn get(memory: &dyn Memory, layout: &Layout, dict: u64, key: &str) -> Option<u64> {
    let keys = memory.u64(dict.checked_add(KEYS)?)?;
    let table = Table::read(memory, layout, keys, MOST).filter(|table| !table.shared)?;
    let pairs: Vec<(u64, u64)> = (0..table.count)
        .filter_map(|index| table.get(index))
        .filter(|&(key, value)| plausible(key) && plausible(value))
        .collect();
    // A shorter string is read beyond its end, and is another one by its length.
    let size = layout.string_ascii as usize + key.len();
    let mut buffer = vec![0; pairs.len() * size];
    let pieces = pairs.iter().zip(buffer.chunks_exact_mut(size));
    let mut pieces: Vec<Piece<'_>> =
        pieces.map(|(&(address, _), buffer)| Piece { address, buffer, read: false }).collect();
    memory.read_many(&mut pieces);
    let is = |piece: &Piece<'_>| {
        let told = strings::string_in(layout, piece.buffer);
        piece.read && told.is_some_and(|(text, more)| !more && text.as_bytes() == key.as_bytes())
    };
    pairs.iter().zip(&pieces).find(|(_, piece)| is(piece)).map(|((_, value), _)| *value)
}
