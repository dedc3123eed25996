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

/// Where a table has its entries.
struct Entries {
    start: u64,
    count: u64,
    /// Bytes of one.
    width: u64,
    /// Where the pointer to its key is; that to its value follows.
    key: u32,
}

impl Entries {
    /// Of a table that holds its values too, as those of modules and classes do.
    fn read(memory: &dyn Memory, layout: &Layout, table: u64) -> Option<Self> {
        let (hashed, strings) = ((24, 8), (16, 0));
        let (start, count, (width, key)) = if layout.minor >= 11 {
            let header = memory.bytes(table, 32)?;
            let (index_bits, kind) = (*header.get(9)?, *header.get(10)?);
            let form = match kind {
                0 => hashed,
                1 => strings,
                // Shared by many, with the values elsewhere.
                _ => return None,
            };
            (1u64.checked_shl(index_bits.into())?.checked_add(32)?, u64_in(&header, 24)?, form)
        } else {
            let header = memory.bytes(table, 40)?;
            let size = u64_in(&header, 8)?;
            let index = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 4,
            };
            (size.checked_mul(index)?.checked_add(40)?, u64_in(&header, 32)?, hashed)
        };
        let start = table.checked_add(start)?;
        (count <= MOST).then_some(Self { start, count, width, key })
    }
}

/// The value of a key that is ASCII.
pub(super) fn get(memory: &dyn Memory, layout: &Layout, dict: u64, key: &str) -> Option<u64> {
    let table = memory.u64(dict.checked_add(KEYS)?).filter(|&table| plausible(table))?;
    let entries = Entries::read(memory, layout, table)?;
    let bytes = memory.bytes(entries.start, (entries.count * entries.width) as usize)?;
    let pairs: Vec<(u64, u64)> = bytes
        .chunks_exact(entries.width as usize)
        .filter_map(|entry| Some((u64_in(entry, entries.key)?, u64_in(entry, entries.key + 8)?)))
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
