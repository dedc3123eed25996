//! The frames of one thread, from the innermost outwards.

use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::ABSENT;
use super::InstructionForm;
use super::Layout;
use super::Memory;
use super::MemoryExt;
use super::Unread;

/// Frames followed; of a deeper stack the outermost ones are missing.
pub const MOST_FRAMES: usize = 256;

/// Shims stand between frames at most: the chain may have twice the links.
const MOST_LINKS: usize = 2 * MOST_FRAMES;

/// Bytes read together at most. A chunk has 16 KB, unless a frame is larger.
pub(super) const LARGEST_WINDOW: u64 = 32 << 10;

/// Code units of a function at most.
const MOST_UNITS: i64 = 1 << 27;

/// First address that no program has, with five levels of page tables.
const END_OF_USER: u64 = 1 << 56;

/// A Python function that a thread is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// Address of the frame; its low 19 bits for one that was taken in the kernel.
    pub address: u64,
    /// Address of its code object.
    pub code: u64,
    /// Where it is: code units (of 2 bytes) behind the first instruction; `None` before that.
    pub instruction: Option<u32>,
    /// Whether C code called it: a native frame of the interpreter's loop ends with it.
    pub entry: bool,
    /// Address of its first local variable, which is `self` in a method; 0 while that is unset.
    /// In 3.11 and later a variable that inner functions use too is found through its cell.
    pub first_local: u64,
}

impl Frame {
    /// Bits of an address that are known of every frame.
    const KNOWN: u64 = (1 << 19) - 1;

    /// Whether it is the frame at `address`, as far as is known.
    pub(super) fn lies_at(&self, address: u64) -> bool {
        self.address == address || self.address == address & Self::KNOWN
    }
}

/// Whether something could be the address of an object.
pub(super) fn plausible(address: u64) -> bool {
    address.is_multiple_of(8) && (0x1000..END_OF_USER).contains(&address)
}

/// Bytes of the target's memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Window<'a> {
    pub start: u64,
    pub bytes: std::borrow::Cow<'a, [u8]>,
}

impl Window<'_> {
    pub fn get(&self, address: u64, length: u32) -> Option<&[u8]> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..at.checked_add(length as usize)?)
    }
}

/// Follows the frames of one thread.
pub(super) struct Walk<'a> {
    pub memory: &'a dyn Memory,
    pub layout: &'a Layout,
    /// The newest chunk up to the innermost frame, where frames lie in chunks.
    pub window: Window<'a>,
    /// The chunk before that of the window, with its size once read; 0 for none.
    pub older: (u64, Option<u64>),
    /// Frames outside of chunks.
    pub aside: Aside<'a>,
}

/// Frames that lie outside of chunks: those of generators and shims, and all of them below 3.11.
#[derive(Debug)]
pub(super) struct Aside<'a> {
    /// What was read beforehand, because the last time it was used, in this order.
    pieces: Vec<(u64, Option<&'a [u8]>)>,
    next: usize,
    /// What was used this time.
    pub used: Vec<u64>,
}

impl<'a> Aside<'a> {
    pub fn new(pieces: Vec<(u64, Option<&'a [u8]>)>) -> Self {
        Self { used: Vec::with_capacity(pieces.len()), pieces, next: 0 }
    }

    /// The frame at an address, if it was read.
    fn get(&mut self, address: u64) -> Option<&'a [u8]> {
        let rest = self.pieces.get(self.next..)?;
        self.next += rest.iter().position(|(at, _)| *at == address)? + 1;
        self.pieces[self.next - 1].1
    }
}

/// The frames found, and whether the outermost ones are missing.
pub(super) type Found = (Vec<Frame>, bool);

impl Walk<'_> {
    /// The frames from the one at `first` outwards.
    pub fn frames(&mut self, first: u64) -> Result<Found, Unread> {
        let mut frames: Vec<Frame> = Vec::with_capacity(32);
        let mut at = first;
        for _ in 0..MOST_LINKS {
            if at == 0 {
                if let Some(outermost) = frames.last_mut() {
                    outermost.entry = true;
                }
                return Ok((frames, false));
            }
            if frames.len() == MOST_FRAMES {
                break;
            }
            at = self.step(at, &mut frames)?;
        }
        // So deep, or in a circle, which no stack is.
        let mut addresses: Vec<u64> = frames.iter().map(|frame| frame.address).collect();
        addresses.sort_unstable();
        let distinct = addresses.windows(2).all(|two| two[0] != two[1]);
        (distinct && frames.len() == MOST_FRAMES).then_some((frames, true)).ok_or(Unread::Torn)
    }

    /// Takes the frame at `at`; gives the address of the one that called it.
    fn step(&mut self, at: u64, frames: &mut Vec<Frame>) -> Result<u64, Unread> {
        if !plausible(at) {
            return Err(Unread::Torn);
        }
        let layout = self.layout;
        let mut aside = None;
        if self.window.get(at, layout.frame_bytes).is_none() {
            aside = self.aside.get(at);
            if aside.is_none() {
                self.move_to(at);
            }
        }
        let mut single = [0; 1024];
        let bytes = if let Some(bytes) = self.window.get(at, layout.frame_bytes) {
            bytes
        } else if let Some(bytes) = aside {
            self.aside.used.push(at);
            bytes
        } else {
            self.aside.used.push(at);
            let bytes = single.get_mut(..layout.frame_bytes as usize).ok_or(Unread::Refused)?;
            self.memory.read(at, bytes).then_some(&*bytes).ok_or(Unread::Refused)?
        };
        let previous = u64_in(bytes, layout.frame_previous).ok_or(Unread::Refused)?;
        match owner(layout, bytes) {
            Some(owner) if owner >= layout.owner_first_shim => {
                // The number of kinds of owners has never been larger.
                if owner > layout.owner_first_shim + 1 {
                    return Err(Unread::Torn);
                }
                if let Some(last) = frames.last_mut() {
                    last.entry = true;
                }
            }
            _ => frames.push(frame(self.memory, layout, at, bytes).ok_or(Unread::Torn)?),
        }
        Ok(previous)
    }

    /// Moves the window to the older chunk, if that has the frame at `at`.
    fn move_to(&mut self, at: u64) {
        let (chunk, size) = self.older;
        if !plausible(chunk) {
            return;
        }
        let size = size.or_else(|| self.memory.u64(chunk + u64::from(self.layout.chunk_size)));
        self.older.1 = Some(size.unwrap_or(0));
        let Some(offset) = at.checked_sub(chunk).filter(|offset| Some(*offset) < size) else {
            return;
        };
        let length = offset + u64::from(self.layout.frame_bytes);
        if length > LARGEST_WINDOW {
            return;
        }
        if let Some(bytes) = self.memory.bytes(chunk, length as usize) {
            let before = u64_in(&bytes, self.layout.chunk_previous).unwrap_or(0);
            self.older = (before, None);
            self.window = Window { start: chunk, bytes: bytes.into() };
        }
    }
}

fn owner(layout: &Layout, bytes: &[u8]) -> Option<u32> {
    if layout.frame_owner == ABSENT {
        return None;
    }
    bytes.get(layout.frame_owner as usize).map(|&owner| owner.into())
}

fn frame(memory: &dyn Memory, layout: &Layout, address: u64, bytes: &[u8]) -> Option<Frame> {
    let untagged = |at| u64_in(bytes, at).map(|pointer| pointer & !u64::from(layout.tag_bits));
    let code = untagged(layout.frame_code).filter(|&code| plausible(code))?;
    let instruction = match layout.instruction_form {
        InstructionForm::Bytes => i64::from(int(bytes, layout.frame_instruction)?) >> 1,
        InstructionForm::Units => i64::from(int(bytes, layout.frame_instruction)?),
        InstructionForm::Address => {
            let start = match layout.frame_copy {
                ABSENT => code.wrapping_add(layout.code_instructions.into()),
                copy => start_of_copy(memory, layout, code, u32_in(bytes, copy)?)?,
            };
            u64_in(bytes, layout.frame_instruction)?.wrapping_sub(start).cast_signed() >> 1
        }
    };
    let entry = match layout.frame_entry {
        // A native frame for each, until those that skip C code came with 3.11; from 3.12 on
        // the shims tell.
        ABSENT => layout.frame_owner == ABSENT,
        entry => *bytes.get(entry as usize)? != 0,
    };
    let first_local = untagged(layout.frame_locals)?;
    // One or a few units before the first one while a function begins; what is far off is none
    // of this code's instructions.
    (-16..MOST_UNITS).contains(&instruction).then_some(())?;
    let instruction = u32::try_from(instruction).ok();
    Some(Frame { address, code, instruction, entry, first_local })
}

fn int(bytes: &[u8], at: u32) -> Option<i32> {
    u32_in(bytes, at).map(u32::cast_signed)
}

/// Where the instructions are that a thread of a free-threaded build runs: each may have its own
/// copy. The array has its length in front.
fn start_of_copy(memory: &dyn Memory, layout: &Layout, code: u64, copy: u32) -> Option<u64> {
    let array = memory.u64(code.checked_add(layout.code_copies.into())?)?;
    let length = memory.u64(array)?;
    (u64::from(copy) < length).then_some(())?;
    memory.u64(array.checked_add(8 + 8 * u64::from(copy))?)
}
