//! Variables by name: where a file defines what a program is to be asked for.

use std::fs::File;

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
/// Symbols looked at in a table.
const MOST: u64 = 1 << 20;
/// Bytes of names read of a table.
const MOST_NAMES: u64 = 32 << 20;

/// A program or library, asked for variables by name.
pub struct ObjectFile {
    source: Source,
    elf: Elf,
}

impl ObjectFile {
    /// `None` for what is not a 64-bit little-endian ELF file.
    pub fn read(file: File) -> Option<Self> {
        let source = Source::File(file);
        let elf = Elf::read(&source)?;
        Some(Self { source, elf })
    }

    /// Where variables (or functions) are linked to; `None` for each that the file does not
    /// define. What other files may use is looked for first: that table is small.
    pub fn variables<const N: usize>(&self, names: [&str; N]) -> [Option<u64>; N] {
        let mut found = [None; N];
        let mut tables: Vec<&SymbolTable> = self.elf.symbol_tables().collect();
        tables.reverse();
        for table in tables {
            if found.iter().any(Option::is_none) {
                self.look(table, &names, &mut found);
            }
        }
        found
    }

    fn look(&self, table: &SymbolTable, names: &[&str], found: &mut [Option<u64>]) -> Option<()> {
        let strings = self.source.at(table.strings.offset, table.strings.size.min(MOST_NAMES))?;
        let count = (table.symbols.size / ENTRY).min(MOST);
        for first in (0..count).step_by(AT_A_TIME as usize) {
            let some = (count - first).min(AT_A_TIME) * ENTRY;
            let bytes = self.source.at(table.symbols.offset.checked_add(first * ENTRY)?, some)?;
            for symbol in bytes.chunks_exact(ENTRY as usize) {
                // Section 0: defined elsewhere.
                if u16_at(symbol, 6)? == 0 {
                    continue;
                }
                let Some(name) = strings.get(u32_at(symbol, 0)? as usize..) else { continue };
                for (wanted, found) in names.iter().zip(&mut *found) {
                    let rest = name.strip_prefix(wanted.as_bytes());
                    if rest.is_some_and(|rest| rest.first() == Some(&0)) && found.is_none() {
                        *found = Some(u64_at(symbol, 8)?);
                    }
                }
            }
        }
        Some(())
    }

    /// Where the section `.PyRuntime` is linked to.
    pub fn python_runtime_section(&self) -> Option<u64> {
        self.elf.python_runtime
    }

    /// How far an executable mapping that shows `offset` at `start` lies from where the file
    /// was linked to.
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        self.elf.bias(start, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_by_their_whole_name() {
        let path = std::env::current_exe().expect("a running test has a file");
        #[allow(clippy::disallowed_methods)] // a test reads its own file
        let file = ObjectFile::read(File::open(path).expect("it can be read")).expect("ELF");
        let [start, none, imported] = file.variables(["_start", "_star", "__libc_start_main"]);
        assert_eq!(start, Some(file.elf.entry));
        assert_eq!((none, imported, file.python_runtime_section()), (None, None, None));
    }
}
