//! The little of an ELF file that unwinding needs, read piece by piece.
//!
//! Files of traced programs are hostile input and may shrink while they are read, so nothing
//! is mapped: every piece is a bounded `read_at` into memory of our own. Any bytes give an
//! [`Elf`] or `None`, never a panic.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::model::Text;

/// Larger unwind sections than this are not read. The largest seen is that of Chromium, 20 MB.
const MAX_UNWIND_BYTES: u64 = 64 << 20;
/// Program headers looked at. Real files have about 15.
const MAX_SEGMENTS: u16 = 128;
/// Section headers looked at. Real executables have 30 to 50.
const MAX_SECTIONS: u16 = 4096;
/// `SHF_COMPRESSED`.
const COMPRESSED: u64 = 0x800;
/// What compressed sections of a file may claim to be together.
const MAX_INFLATED: u64 = 2 << 30;
/// Bytes of section names read.
const MAX_NAMES: u64 = 1 << 20;

/// Where the bytes of a module come from.
pub(super) enum Source {
    /// A file that stays open, so that deleting it does not matter.
    File(File),
    /// A copy in memory: the vdso.
    Memory(Vec<u8>),
}

impl Source {
    /// Reads exactly `range`, or nothing.
    fn read(&self, range: Range<u64>) -> Option<Vec<u8>> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        match self {
            Self::File(file) => {
                // The file's size bounds the allocation, whatever a header claims.
                (range.end <= file.metadata().ok()?.len()).then_some(())?;
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, range.start).ok()?;
                Some(bytes)
            }
            Self::Memory(bytes) => {
                let start = usize::try_from(range.start).ok()?;
                Some(bytes.get(start..start.checked_add(length)?)?.to_vec())
            }
        }
    }

    /// Reads exactly `length` bytes, or nothing.
    pub fn at(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        self.read(offset..offset.checked_add(length)?)
    }
}

/// A loaded segment (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset in the file.
    pub offset: u64,
    /// Address as linked.
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes in memory: more, where variables start as zeros (`.bss`).
    pub memory: u64,
    /// Whether it holds code.
    pub executable: bool,
}

/// A section's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
}

/// A table of symbols and the table of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SymbolTable {
    pub symbols: Section,
    pub strings: Section,
}

/// What is known of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// Machine number (62: x86-64).
    pub machine: u16,
    /// Whether it loads at any address (`ET_DYN`).
    pub relocatable: bool,
    /// Entry point as linked.
    pub entry: u64,
    /// Where the program headers are loaded, as linked.
    pub headers_address: Option<u64>,
    /// Loaded segments in file order.
    pub segments: Vec<Segment>,
    /// Path of the interpreter (the dynamic loader).
    pub interpreter: Option<Text>,
    /// Build id, empty without one.
    pub build_id: Vec<u8>,
    /// Bytes of debug information once decompressed.
    pub debug_bytes: u64,
    /// Whether its sections could be looked over and claim no absurd sizes. Others are not given
    /// to blazesym: it reserves what a compressed section claims to be, and a failed allocation
    /// would end the recording.
    pub sound: bool,
    eh_frame: Option<Section>,
    eh_frame_header: Option<Section>,
    /// Where `.PyRuntime` is linked to: the section of CPython's one variable.
    pub python_runtime: Option<u64>,
    /// All symbols (`.symtab`), unless the file is stripped,
    symbols: Option<SymbolTable>,
    /// and those that other files may use (`.dynsym`).
    dynamic_symbols: Option<SymbolTable>,
}

/// The unwind sections of a file.
pub(super) struct UnwindSections {
    /// Lowest loaded address as linked.
    pub base: u64,
    /// End of the highest executable segment as linked.
    pub end: u64,
    /// `.eh_frame` and its address as linked.
    pub eh_frame: (Vec<u8>, Range<u64>),
    /// `.eh_frame_hdr` and its address as linked.
    pub eh_frame_header: Option<(Vec<u8>, Range<u64>)>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

impl Elf {
    /// Reads the headers. `None` for what is not a 64-bit little-endian ELF file.
    pub fn read(source: &Source) -> Option<Self> {
        let header = source.at(0, 64)?;
        // Magic, 64 bits, little endian.
        (header.get(..6)? == [0x7f, b'E', b'L', b'F', 2, 1]).then_some(())?;
        let mut elf = Self {
            relocatable: u16_at(&header, 16)? == 3,
            machine: u16_at(&header, 18)?,
            entry: u64_at(&header, 24)?,
            ..Self::default()
        };
        let (table, count) = (u64_at(&header, 32)?, u16_at(&header, 56)?.min(MAX_SEGMENTS));
        (u16_at(&header, 54)? == 56).then_some(())?;
        let headers = source.at(table, u64::from(count) * 56)?;
        for header in headers.chunks_exact(56) {
            elf.add_segment(source, header)?;
        }
        if elf.headers_address.is_none() {
            // Static non-PIE programs have no PT_PHDR; the table lies in the first segment.
            elf.headers_address = elf.address_of(table, false);
        }
        // A file without section headers still has its segments.
        let sections = elf.read_sections(source, &header);
        elf.sound = sections.is_some() || u64_at(&header, 40)? == 0;
        Some(elf)
    }

    fn add_segment(&mut self, source: &Source, header: &[u8]) -> Option<()> {
        let (kind, flags) = (u32_at(header, 0)?, u32_at(header, 4)?);
        let (offset, address) = (u64_at(header, 8)?, u64_at(header, 16)?);
        let size = u64_at(header, 32)?;
        match kind {
            1 => {
                let executable = flags & 1 != 0;
                let memory = u64_at(header, 40)?.max(size);
                self.segments.push(Segment { offset, address, size, memory, executable });
            }
            3 => self.interpreter = source.at(offset, size.min(4096)).map(|b| Text::from_c(&b)),
            4 if self.build_id.is_empty() => {
                let notes = source.at(offset, size.min(64 << 10)).unwrap_or_default();
                self.build_id = build_id(&notes).unwrap_or_default();
            }
            6 => self.headers_address = Some(address),
            0x6474_e550 => self.eh_frame_header = Some(Section { address, offset, size }),
            _ => {}
        }
        Some(())
    }

    fn read_sections(&mut self, source: &Source, header: &[u8]) -> Option<()> {
        let (table, count) = (u64_at(header, 40)?, u16_at(header, 60)?);
        (u16_at(header, 58)? == 64 && (1..=MAX_SECTIONS).contains(&count)).then_some(())?;
        let headers = source.at(table, u64::from(count) * 64)?;
        let mut inflated = 0u64;
        let section = |at: &[u8]| {
            Some(Section {
                address: u64_at(at, 16)?,
                offset: u64_at(at, 24)?,
                size: u64_at(at, 32)?,
            })
        };
        let names = section(headers.chunks_exact(64).nth(u16_at(header, 62)?.into())?)?;
        let names = source.at(names.offset, names.size.min(MAX_NAMES))?;
        for at in headers.chunks_exact(64) {
            let rest = names.get(u32_at(at, 0)? as usize..).unwrap_or_default();
            let name = rest.split(|&b| b == 0).next().unwrap_or_default();
            // Type 8 has no bytes in the file (a separate debug file keeps such headers).
            let stored = u32_at(at, 4)? != 8;
            match name {
                b".eh_frame" if stored => self.eh_frame = section(at),
                b".eh_frame_hdr" if stored => self.eh_frame_header = section(at),
                b".PyRuntime" => self.python_runtime = Some(section(at)?.address),
                _ if name.starts_with(b".debug_") || name.starts_with(b".zdebug_") => {
                    self.debug_bytes = self.debug_bytes.saturating_add(section(at)?.size);
                }
                _ => {}
            }
            let place = section(at)?;
            let strings = || section(headers.chunks_exact(64).nth(u32_at(at, 40)? as usize)?);
            let table = || strings().map(|strings| SymbolTable { symbols: place, strings });
            match u32_at(at, 4)? {
                2 => self.symbols = table(),
                11 => self.dynamic_symbols = table(),
                _ => {}
            }
            let claimed = if u64_at(at, 8)? & COMPRESSED != 0 {
                u64_at(&source.at(place.offset, 24)?, 8)?
            } else if name.starts_with(b".zdebug_") {
                // "ZLIB" and the size, most significant byte first.
                u64::from_be_bytes(number(&source.at(place.offset, 12)?, 4)?)
            } else {
                0
            };
            inflated = inflated.saturating_add(claimed);
        }
        self.debug_bytes = self.debug_bytes.saturating_add(inflated);
        (inflated <= MAX_INFLATED).then_some(())
    }

    /// The executable segment that a mapping of `offset` shows.
    ///
    /// With lld, neighbouring segments share a page of the file: the one before also covers
    /// `offset`, but at another address. Only the *executable* segment whose own first page
    /// is `offset` gives the right bias; with the other one, unwinding ends after three
    /// frames and calls itself complete.
    fn segment_of(&self, offset: u64) -> Option<&Segment> {
        let mut code = self.segments.iter().filter(|s| s.executable);
        let covers = |s: &&Segment| {
            (s.offset & !0xfff) <= offset && offset < s.offset.saturating_add(s.size)
        };
        code.clone().find(|s| s.offset & !0xfff == offset & !0xfff).or_else(|| code.find(covers))
    }

    /// The address as linked of an offset in the file, for code or for any segment.
    fn address_of(&self, offset: u64, code: bool) -> Option<u64> {
        let in_segment =
            |s: &&Segment| s.executable >= code && offset >= s.offset && offset - s.offset < s.size;
        let segment = self.segments.iter().find(in_segment)?;
        Some(offset.wrapping_sub(segment.offset).wrapping_add(segment.address))
    }

    /// The offset in the file of an address of code as linked.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let covers =
            |s: &&Segment| s.executable && address >= s.address && address - s.address < s.size;
        let segment = self.segments.iter().find(covers)?;
        (address - segment.address).checked_add(segment.offset)
    }

    /// How far a mapping that shows `offset` at `start` lies from where the file was linked to.
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let segment = self.segment_of(offset)?;
        let linked = offset.wrapping_sub(segment.offset).wrapping_add(segment.address);
        Some(start.wrapping_sub(linked))
    }

    /// Pages of code once loaded at `bias`: first address, end, offset in the file.
    pub fn code(&self, bias: u64) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.segments.iter().filter(|s| s.executable).filter_map(move |s| {
            let start = s.address.wrapping_add(bias);
            let end = start.checked_add(s.size)?.checked_add(0xfff)? & !0xfff;
            Some((start & !0xfff, end, s.offset & !0xfff))
        })
    }

    /// Tables of symbols, the fullest first.
    pub fn symbol_tables(&self) -> impl Iterator<Item = &SymbolTable> {
        self.symbols.iter().chain(&self.dynamic_symbols)
    }

    /// Whether an address as linked is memory that the file's data is loaded into.
    pub fn has_data(&self, address: u64) -> bool {
        let covers = |s: &Segment| address >= s.address && address - s.address < s.memory;
        self.segments.iter().any(|s| !s.executable && covers(s))
    }

    /// Reads the sections that framehop unwinds with.
    pub fn unwind_sections(&self, source: &Source) -> Option<UnwindSections> {
        let range = |s: &Section| Some(s.address..s.address.checked_add(s.size)?);
        let header = self.eh_frame_header.filter(|h| h.size <= MAX_UNWIND_BYTES).and_then(|h| {
            let bytes = source.at(h.offset, h.size)?;
            Some((bytes, range(&h)?))
        });
        let frames = self.eh_frame.or_else(|| self.eh_frame_by_header(header.as_ref()?))?;
        (frames.size <= MAX_UNWIND_BYTES).then_some(())?;
        let bytes = source.at(frames.offset, frames.size)?;
        Some(UnwindSections {
            base: self.segments.iter().map(|s| s.address).min()?,
            end: self
                .segments
                .iter()
                .filter(|s| s.executable)
                .filter_map(|s| s.address.checked_add(s.size))
                .max()?,
            eh_frame: (bytes, range(&frames)?),
            eh_frame_header: header,
        })
    }

    /// Finds `.eh_frame` of a file without section headers, through the header's pointer to it.
    fn eh_frame_by_header(&self, header: &(Vec<u8>, Range<u64>)) -> Option<Section> {
        // Version 1 and a 4-byte pointer relative to itself: what every linker writes.
        (header.0.get(..2)? == [1, 0x1b]).then_some(())?;
        let distance = i64::from(i32::from_le_bytes(number(&header.0, 4)?));
        let address = header.1.start.checked_add(4)?.checked_add_signed(distance)?;
        let segment =
            self.segments.iter().find(|s| address >= s.address && address - s.address < s.size)?;
        let within = address - segment.address;
        let offset = segment.offset.checked_add(within)?;
        Some(Section { address, offset, size: segment.size - within })
    }
}

/// Finds the GNU build id among notes.
fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = notes;
    while !rest.is_empty() {
        let name_size = u32_at(rest, 0)? as usize;
        let size = u32_at(rest, 4)? as usize;
        let name_end = 12usize.checked_add(name_size)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(size)?;
        if u32_at(rest, 8)? == 3 && rest.get(12..name_end)? == b"GNU\0" {
            // SHA-1 has 20 bytes; more than 64 is no build id.
            return (size <= 64).then(|| rest.get(start..end).map(<[u8]>::to_vec)).flatten();
        }
        rest = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

#[cfg(test)]
impl Elf {
    /// With a table of symbols at offset 0, and their names behind it.
    pub fn with_symbols(symbols: u64, strings: u64) -> Self {
        let section = |offset, size| Section { address: 0, offset, size };
        let table =
            SymbolTable { symbols: section(0, symbols), strings: section(symbols, strings) };
        Self { symbols: Some(table), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(segments: Vec<Segment>) -> Elf {
        Elf { segments, ..Elf::default() }
    }

    fn segment(offset: u64, address: u64, size: u64, executable: bool) -> Segment {
        Segment { offset, address, size, memory: size + 0x10, executable }
    }

    #[test]
    fn segments_that_share_a_page_are_told_apart() {
        // As lld links: read-only data ends at 0x5d4, code begins in the same page of the file.
        let elf = with(vec![
            segment(0, 0, 0x5d4, false),
            segment(0x5e0, 0x15e0, 0x200, true),
            segment(0x7e0, 0x27e0, 0x100, false),
        ]);
        // Behind what the file has of its data come the variables that start as zeros.
        assert!(elf.has_data(0x27e0) && elf.has_data(0x28e0) && !elf.has_data(0x28f0));
        assert!(!elf.has_data(0x15e0), "code is no data");
        assert_eq!(elf.bias(0x7000_1000, 0), Some(0x7000_0000));
        assert_eq!(elf.address_of(0x5e8, true), Some(0x15e8));
        assert_eq!(elf.offset_of(0x15e8), Some(0x5e8));
        assert_eq!((elf.offset_of(0x15df), elf.offset_of(0x27e0)), (None, None), "no code");
        assert_eq!(elf.code(0x7000_0000).collect::<Vec<_>>(), [(0x7000_1000, 0x7000_2000, 0)]);
    }

    #[test]
    fn own_executable_has_code_build_id_and_unwind_sections() {
        let path = std::env::current_exe().expect("a running test has a file");
        #[allow(clippy::disallowed_methods)] // a test reads its own file
        let source = Source::File(File::open(path).expect("it can be read"));
        let elf = Elf::read(&source).expect("it is ELF");
        assert!(elf.relocatable && elf.interpreter.is_some() && elf.debug_bytes > 0);
        let sections = elf.unwind_sections(&source).expect("it has .eh_frame");
        assert!(sections.eh_frame_header.is_some() && sections.end > sections.base);
        // Without section headers, the header's pointer finds the same place.
        let found = elf.eh_frame_by_header(&sections.eh_frame_header.expect("just seen"));
        assert_eq!(found.expect("found").offset, elf.eh_frame.expect("it has .eh_frame").offset);
    }

    #[test]
    fn a_section_that_claims_to_be_huge_is_not_trusted() {
        let mut file = vec![0u8; 64 + 2 * 64 + 32];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        let mut set = |at: usize, value: u64, size: usize| {
            file[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        set(40, 64, 8); // section headers
        set(54, 56, 2);
        set(58, 64, 2);
        set(60, 2, 2);
        set(128 + 8, COMPRESSED, 8);
        set(128 + 24, 192, 8);
        set(128 + 32, 32, 8);
        set(192 + 8, 1 << 20, 8);
        let read = |file: &[u8]| Elf::read(&Source::Memory(file.to_vec())).expect("it is ELF");
        let sound = read(&file);
        assert_eq!((sound.sound, sound.debug_bytes), (true, 1 << 20));
        file[192 + 8..192 + 16].copy_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(!read(&file).sound);
        // More sections than are looked over.
        file[60..62].copy_from_slice(&5000u16.to_le_bytes());
        assert!(!read(&file).sound);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_elf_or_none(
            mut bytes in proptest::collection::vec(0u8..8, 64..600),
            edits in proptest::collection::vec((0usize..600, proptest::num::u8::ANY), 0..40),
        ) {
            bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
            bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
            bytes[58..60].copy_from_slice(&64u16.to_le_bytes());
            bytes[33..40].fill(0);
            bytes[41..48].fill(0);
            for (at, value) in edits {
                if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            }
            let source = Source::Memory(bytes);
            if let Some(elf) = Elf::read(&source) {
                let _ = elf.unwind_sections(&source);
                let _ = elf.bias(0x1000, 0);
                let _ = elf.code(0x1000).count();
            }
        }
    }
}
