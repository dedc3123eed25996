//! Frames that were taken by a program in the kernel, in the context of the very thread: nothing
//! can have moved while it looked. They come as addresses; what they mean is found here.

use super::super::memory::MemoryExt;
use super::ABSENT;
use super::Frame;
use super::InstructionForm;
use super::Layout;
use super::Memory;
use super::frames::plausible;

/// One link of the chain of frames as it lay in memory, the interpreter's own ones included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// The code object, tag bits included.
    pub code: u64,
    /// The instruction, in the form of the build.
    pub instruction: u64,
    /// Which copy of the code is run, where there are copies.
    pub copy: u32,
    /// Who owns the frame, where that is told.
    pub owner: u8,
    /// Whether C code called it, where that is told.
    pub entry: u8,
    /// Low bits of its address, without the three that are 0.
    pub place: u16,
}

impl Layout {
    /// The functions in a chain of frames, innermost first. What is none ends it.
    pub fn frames_taken(&self, memory: &dyn Memory, taken: &[Taken]) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::with_capacity(taken.len());
        for link in taken {
            if self.frame_owner != ABSENT && u32::from(link.owner) >= self.owner_first_shim {
                if let Some(last) = frames.last_mut() {
                    last.entry = true;
                }
                continue;
            }
            let code = link.code & !u64::from(self.tag_bits);
            if !plausible(code) {
                break;
            }
            let entry = match self.frame_entry {
                ABSENT => self.frame_owner == ABSENT,
                _ => link.entry != 0,
            };
            let instruction = self.instruction_taken(memory, code, link);
            let address = u64::from(link.place) << 3;
            frames.push(Frame { address, code, instruction, entry, first_local: 0 });
        }
        if let Some(outermost) = frames.last_mut() {
            outermost.entry = true;
        }
        frames
    }

    fn instruction_taken(&self, memory: &dyn Memory, code: u64, link: &Taken) -> Option<u32> {
        let int = (link.instruction as u32).cast_signed();
        let units = match self.instruction_form {
            InstructionForm::Bytes => i64::from(int) >> 1,
            InstructionForm::Units => i64::from(int),
            InstructionForm::Address => {
                let start = if self.frame_copy == ABSENT || link.copy == 0 {
                    code.wrapping_add(self.code_instructions.into())
                } else {
                    let array = memory.u64(code.wrapping_add(self.code_copies.into()))?;
                    memory.u64(array.checked_add(8 + 8 * u64::from(link.copy))?)?
                };
                link.instruction.wrapping_sub(start).cast_signed() >> 1
            }
        };
        u32::try_from(units).ok().filter(|&units| units < 1 << 27)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl Memory for Nothing {
        fn read(&self, _: u64, _: &mut [u8]) -> bool {
            false
        }
    }

    fn layout() -> Layout {
        Layout {
            frame_owner: 70,
            owner_first_shim: 3,
            frame_entry: ABSENT,
            frame_copy: ABSENT,
            instruction_form: InstructionForm::Address,
            code_instructions: 192,
            ..Layout::default()
        }
    }

    fn link(code: u64, unit: u64, owner: u8) -> Taken {
        Taken { code, instruction: code + 192 + 2 * unit, owner, ..Taken::default() }
    }

    #[test]
    fn shims_are_where_c_code_called_and_the_outermost_function_was_called_by_it() {
        let chain = [link(0x1000, 7, 0), link(0x2000, 0, 3), link(0x3000, 1, 0)];
        let found = layout().frames_taken(&Nothing, &chain);
        let shown: Vec<(u64, Option<u32>, bool)> =
            found.iter().map(|f| (f.code, f.instruction, f.entry)).collect();
        assert_eq!(shown, [(0x1000, Some(7), true), (0x3000, Some(1), true)]);
        assert!(layout().frames_taken(&Nothing, &[link(3, 0, 0)]).is_empty());
    }

    #[test]
    fn an_instruction_before_the_first_or_far_away_is_none() {
        let before = Taken { instruction: 0x1000, ..link(0x1000, 0, 0) };
        let far = Taken { instruction: u64::MAX / 4, ..link(0x1000, 0, 0) };
        let found = layout().frames_taken(&Nothing, &[before, far]);
        assert_eq!(found.iter().map(|f| f.instruction).collect::<Vec<_>>(), [None, None]);
    }
}
