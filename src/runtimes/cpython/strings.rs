//! The strings and bytes of Python: names of functions, files and types, tables of lines.

use crate::model::Text;

use super::super::memory::MemoryExt;
use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::Layout;

/// Code points read of a string. What is longer is cut off.
const LONGEST: u64 = 1024;
/// Bytes of the name of a type.
const LONGEST_TYPE: usize = 256;
/// Bytes of a table of lines. The largest of the standard library have 30 KB.
const LARGEST_TABLE: u64 = 1 << 20;

/// The bits of `state` that tell how a string is kept.
struct State {
    /// Bytes of a code point: 1, 2 or 4.
    kind: u32,
    /// The characters follow the header.
    compact: bool,
    /// All of them are ASCII.
    ascii: bool,
}

impl State {
    fn new(layout: &Layout, bits: u32) -> Self {
        let bits = bits >> layout.string_kind_shift;
        Self { kind: bits & 7, compact: bits >> 3 & 1 == 1, ascii: bits >> 4 & 1 == 1 }
    }
}

impl State {
    /// That of a string whose header is `bytes`, with its length; `None` for what is none.
    fn of(layout: &Layout, bytes: &[u8]) -> Option<(Self, u64)> {
        let length = u64_in(bytes, layout.string_length)?;
        let state = Self::new(layout, u32_in(bytes, layout.string_state)?);
        let sound =
            state.compact && matches!(state.kind, 1 | 2 | 4) && (!state.ascii || state.kind == 1);
        (sound && i64::try_from(length).is_ok()).then_some((state, length))
    }

    /// Where the characters begin.
    fn start(&self, layout: &Layout) -> u32 {
        if self.ascii { layout.string_ascii } else { layout.string_compact }
    }

    /// The text that characters are.
    fn text(&self, bytes: &[u8]) -> Option<Text> {
        if self.ascii {
            return bytes.is_ascii().then(|| Text::new(bytes));
        }
        let points = bytes.chunks_exact(self.kind as usize).map(|point| {
            let value = point.iter().rev().fold(0u32, |value, &byte| value << 8 | u32::from(byte));
            // Half a surrogate pair, which Python allows, is no character.
            char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
        });
        Some(Text::from(points.collect::<String>().as_str()))
    }
}

/// The string object at `address`, cut off at [`LONGEST`]. `None` for what is none.
pub(super) fn string(memory: &dyn super::Memory, layout: &Layout, address: u64) -> Option<Text> {
    let mut header = [0; 64];
    let header = header.get_mut(..layout.string_ascii as usize)?;
    memory.read(address, header).then_some(())?;
    let (state, length) = State::of(layout, header)?;
    let bytes = length.min(LONGEST) as usize * state.kind as usize;
    let start = address.checked_add(state.start(layout).into())?;
    state.text(&memory.bytes(start, bytes)?)
}

/// The string object whose first bytes are these, and whether it goes on behind them.
pub(super) fn string_in(layout: &Layout, bytes: &[u8]) -> Option<(Text, bool)> {
    let (state, length) = State::of(layout, bytes)?;
    let characters = bytes.get(state.start(layout) as usize..)?;
    let there = characters.len() / state.kind as usize;
    let taken = usize::try_from(length).map_or(there, |length| length.min(there));
    let text = state.text(&characters[..taken * state.kind as usize])?;
    Some((text, length > taken as u64))
}

/// The bytes object at `address`.
pub(super) fn bytes(memory: &dyn super::Memory, layout: &Layout, address: u64) -> Option<Vec<u8>> {
    let length = memory.u64(address.checked_add(layout.bytes_length.into())?)?;
    (length <= LARGEST_TABLE).then_some(())?;
    memory.bytes(address.checked_add(layout.bytes_data.into())?, length as usize)
}

/// The name of a type object: `module.name` for those written in C.
pub(super) fn type_name(memory: &dyn super::Memory, layout: &Layout, kind: u64) -> Option<Text> {
    let name = memory.u64(kind.checked_add(layout.type_name.into())?)?;
    memory.c_string(name, LONGEST_TYPE).filter(|name| !name.is_empty())
}
