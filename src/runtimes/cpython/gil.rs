//! The GIL: who has it, and what the words are that threads wait in for it.

use std::ops::Range;

use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::ABSENT;
use super::Layout;
use super::Memory;

/// What a word inside a GIL belongs to. The words themselves differ between versions of the C
/// library, so only the part is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GilPart {
    /// Its plain fields: no thread waits in them.
    Fields,
    /// The condition variable that threads wait in until it is free.
    Wait,
    /// The mutex of its fields.
    Mutex,
    /// Where a thread that was made to release it waits until another one has it.
    Handover,
    /// The mutex of that.
    HandoverMutex,
}

/// What the GIL says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GilState {
    /// False while a free-threaded build runs without it.
    pub enabled: bool,
    /// Whether a thread has it.
    pub locked: bool,
    /// Address of the thread state that has it, or had it last; 0 for none.
    pub last_holder: u64,
    /// How often it went from one thread to another.
    pub switches: u64,
    /// After how long a waiting thread asks for it (`sys.setswitchinterval`), microseconds.
    pub interval_us: u64,
}

impl GilState {
    /// From the bytes before its condition variable.
    pub(super) fn parse(layout: &Layout, bytes: &[u8]) -> Option<Self> {
        let locked = match u32_in(bytes, layout.gil_locked)?.cast_signed() {
            -1 => return None,
            locked => locked != 0,
        };
        let enabled = layout.gil_enabled == ABSENT || u32_in(bytes, layout.gil_enabled)? != 0;
        Some(Self {
            enabled,
            locked,
            last_holder: u64_in(bytes, layout.gil_last_holder)?,
            switches: u64_in(bytes, layout.gil_switch_number)?,
            interval_us: u64_in(bytes, layout.gil_interval)?,
        })
    }
}

impl Layout {
    /// The addresses of the GIL at `gil`.
    pub fn gil_range(&self, gil: u64) -> Range<u64> {
        gil..gil.saturating_add(self.gil_bytes.into())
    }

    /// What a word at `address` belongs to, when it is inside the GIL at `gil`.
    pub fn gil_part(&self, gil: u64, address: u64) -> Option<GilPart> {
        let offset = u32::try_from(address.checked_sub(gil)?).ok()?;
        (offset < self.gil_bytes).then_some(())?;
        let starts = [
            (self.gil_switch_mutex, GilPart::HandoverMutex),
            (self.gil_switch_cond, GilPart::Handover),
            (self.gil_mutex, GilPart::Mutex),
            (self.gil_cond, GilPart::Wait),
        ];
        let part = starts.iter().find(|(start, _)| offset >= *start);
        Some(part.map_or(GilPart::Fields, |(_, part)| *part))
    }

    /// Reads the GIL at `gil`. `None` where it cannot be read or is not in use yet.
    pub fn gil_state(&self, memory: &dyn Memory, gil: u64) -> Option<GilState> {
        let mut bytes = [0; 64];
        let bytes = bytes.get_mut(..self.gil_cond as usize)?;
        memory.read(gil, bytes).then_some(())?;
        GilState::parse(self, bytes)
    }
}
