//! Variables: what the symbol table of a file calls an address of data.
//!
//! The table is read anew for each address, piece by piece, and nothing of it is kept: few
//! addresses are asked about, and the table of a large program would be most of the recorder.

use super::demangle;
use super::elf::Elf;
use super::elf::Source;
use super::elf::SymbolTable;
use super::elf::u16_at;
use super::elf::u32_at;
use super::elf::u64_at;

/// Bytes of a symbol.
const ENTRY: u64 = 24;
/// Symbols read at a time.
const AT_A_TIME: u64 = 8192;
/// Symbols looked at. Chromium has 2 million.
const MOST: u64 = 4 << 20;
/// Longest name read. What is longer is cut off.
const LONGEST_NAME: u64 = 1024;
/// Largest lock of the C library (a read-write lock has 56 bytes): in a variable that is no
/// larger, the offset says no more than the name.
const LARGEST_LOCK: u64 = 64;
/// `STT_OBJECT`.
const OBJECT: u8 = 1;

/// A variable that covers an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Found {
    size: u64,
    /// Local, rather than global.
    local: bool,
    name: u32,
    start: u64,
}

/// What to call an address as linked: the smallest variable around it, and the offset in it
/// where that is larger than a lock. `None` where no symbol covers it.
pub(super) fn name_of(elf: &Elf, source: &Source, address: u64) -> Option<String> {
    let (found, table) = elf.symbol_tables().find_map(|table| {
        let found = smallest_around(table, source, address)?;
        Some((found, table))
    })?;
    let strings = &table.strings;
    let at = u64::from(found.name);
    let length = strings.size.checked_sub(at)?.min(LONGEST_NAME);
    let bytes = source.at(strings.offset.checked_add(at)?, length)?;
    let raw = bytes.split(|&byte| byte == 0).next().filter(|name| !name.is_empty())?;
    let name = demangled(&String::from_utf8_lossy(raw));
    let offset = address - found.start;
    Some(if offset == 0 || found.size <= LARGEST_LOCK {
        name
    } else {
        format!("{name}[..]+{offset:#x}")
    })
}

fn smallest_around(table: &SymbolTable, source: &Source, address: u64) -> Option<Found> {
    let count = (table.symbols.size / ENTRY).min(MOST);
    let mut best: Option<Found> = None;
    for first in (0..count).step_by(AT_A_TIME as usize) {
        let some = (count - first).min(AT_A_TIME) * ENTRY;
        let bytes = source.at(table.symbols.offset.checked_add(first * ENTRY)?, some)?;
        let around = bytes.chunks_exact(ENTRY as usize).filter_map(|at| variable(at, address));
        best = best.into_iter().chain(around).min();
    }
    best
}

/// The symbol, if it is a variable of this file that covers the address.
fn variable(entry: &[u8], address: u64) -> Option<Found> {
    let info = *entry.get(4)?;
    let (start, size) = (u64_at(entry, 8)?, u64_at(entry, 16)?);
    // Section 0: defined elsewhere.
    let defined = info & 15 == OBJECT && u16_at(entry, 6)? != 0;
    (defined && address >= start && address - start < size).then_some(())?;
    Some(Found { size, local: info >> 4 == 0, name: u32_at(entry, 0)?, start })
}

/// The name as in the source: of Rust without its hash, of C without its version.
fn demangled(raw: &str) -> String {
    let raw = raw.split('@').next().unwrap_or(raw);
    demangle::demangled(raw).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (raw, name) in [
            ("lock_a", "lock_a"),
            ("environ@@GLIBC_2.2.5", "environ"),
            ("_ZN3app5CACHE17h0123456789abcdefE", "app::CACHE"),
        ] {
            assert_eq!(demangled(raw), name);
        }
    }

    /// A table of symbols at 0 and their names behind it.
    fn file(symbols: &[(&str, u8, u64, u64)]) -> (Elf, Source) {
        let (mut table, mut names) = (Vec::new(), vec![0]);
        for (name, info, start, size) in symbols {
            table.extend((names.len() as u32).to_le_bytes());
            table.extend([*info, 0, 1, 0]);
            table.extend(start.to_le_bytes());
            table.extend(size.to_le_bytes());
            names.extend(name.bytes());
            names.push(0);
        }
        let elf = Elf::with_symbols(table.len() as u64, names.len() as u64);
        table.extend(names);
        (elf, Source::Memory(table))
    }

    const GLOBAL: u8 = 0x11;
    const LOCAL: u8 = 0x01;
    const FUNCTION: u8 = 0x12;

    #[test]
    fn the_smallest_variable_around_an_address_names_it() {
        let (elf, source) = file(&[
            ("whole", GLOBAL, 0x1000, 0x100),
            ("alias", LOCAL, 0x1040, 40),
            ("lock", GLOBAL, 0x1040, 40),
            ("run", FUNCTION, 0x1080, 8),
            ("empty", GLOBAL, 0x1090, 0),
        ]);
        let name = |address| name_of(&elf, &source, address);
        assert_eq!(name(0x1040).as_deref(), Some("lock"));
        assert_eq!(name(0x1060).as_deref(), Some("lock"), "in a lock, at another field");
        assert_eq!(name(0x1000).as_deref(), Some("whole"));
        assert_eq!(name(0x1080).as_deref(), Some("whole[..]+0x80"));
        assert_eq!(name(0x1090).as_deref(), Some("whole[..]+0x90"));
        assert_eq!((name(0xfff), name(0x1100)), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_read(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            symbols in proptest::num::u64::ANY,
            strings in proptest::num::u64::ANY,
            address in proptest::num::u64::ANY,
        ) {
            name_of(&Elf::with_symbols(symbols, strings), &Source::Memory(bytes.clone()), address);
            let few = Elf::with_symbols(symbols % 200, strings % 200);
            name_of(&few, &Source::Memory(bytes), address);
        }
    }
}
