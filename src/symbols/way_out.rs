//! Unwinding code that has no call frame information, by reading the code: from where a function
//! is to where it returns, each instruction says how it moves the stack pointer.
//!
//! musl is built without that information and without frame pointers, so no stack of an Alpine
//! program would reach the function that called the C library. What was compiled keeps one distance
//! between stack pointer and return address at each place, whichever way led there: any way to a
//! `ret` tells it. Code behind a call that does not return is none of the function's, so all ways
//! are followed, and what they say must lead to behind a call, and be one answer.

use iced_x86::Code;
use iced_x86::Decoder;
use iced_x86::DecoderOptions;
use iced_x86::FlowControl;
use iced_x86::Instruction;
use iced_x86::Mnemonic;
use iced_x86::OpKind;
use iced_x86::Register;
use std::collections::BTreeSet;

/// Instructions followed from one place.
const MOST_INSTRUCTIONS: usize = 3000;
/// Answers collected.
const MOST_WAYS: usize = 8;
/// The longest instruction.
const LONGEST: u64 = 15;
/// The largest frame believed.
const LARGEST: i64 = 1 << 20;

/// How a function will return: distances from the stack pointer as it is now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Way {
    /// Where its return address is.
    pub back: u64,
    /// Where its caller's frame pointer is, if it will be put back from the stack.
    pub frame_pointer: Option<u64>,
}

/// A place on the way, with the stack pointer and frame pointer there.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    depth: i64,
    frame_pointer: Option<u64>,
}

/// All ways from the code at `from` to a return, and whether the first one ends the thread instead, as
/// in what starts threads; `code` gives bytes from an address on.
pub(super) fn ways(from: u64, code: &dyn Fn(u64, u64) -> Option<Vec<u8>>) -> (Vec<Way>, bool) {
    let mut todo = vec![Place { at: from, depth: 0, frame_pointer: None }];
    let mut seen = BTreeSet::new();
    let mut ways = BTreeSet::new();
    let mut last = false;
    while let Some(mut place) = todo.pop() {
        while seen.len() < MOST_INSTRUCTIONS && ways.len() < MOST_WAYS && seen.insert(place.at) {
            let bytes = code(place.at, LONGEST).unwrap_or_default();
            let one = Decoder::with_ip(64, &bytes, place.at, DecoderOptions::NONE).decode();
            // Behind the call that ends the thread.
            if one.mnemonic() == Mnemonic::Hlt {
                last |= ways.is_empty();
                break;
            }
            match one.flow_control() {
                FlowControl::Return => {
                    if let Ok(back) = u64::try_from(place.depth) {
                        ways.insert(Way { back, frame_pointer: place.frame_pointer });
                    }
                    break;
                }
                FlowControl::UnconditionalBranch => place.at = one.near_branch_target(),
                FlowControl::ConditionalBranch => {
                    todo.push(Place { at: one.near_branch_target(), ..place });
                    place.at = one.next_ip();
                }
                FlowControl::Call | FlowControl::IndirectCall => place.at = one.next_ip(),
                FlowControl::Next => {
                    let Some(next) = after(&one, place) else { break };
                    place = next;
                }
                _ => break,
            }
        }
    }
    (ways.into_iter().collect(), last)
}

/// Behind an instruction; `None` where it puts something unknown into the stack pointer.
fn after(one: &Instruction, place: Place) -> Option<Place> {
    let Place { depth, mut frame_pointer, .. } = place;
    let moves = if one.is_stack_instruction() {
        (one.code() != Code::Leaveq).then_some(())?;
        i64::from(one.stack_pointer_increment())
    } else {
        moved(one)?
    };
    if one.mnemonic() == Mnemonic::Pop && one.op0_register() == Register::RBP {
        frame_pointer = u64::try_from(depth).ok();
    }
    let depth = depth + moves;
    (-LARGEST..=LARGEST).contains(&depth).then_some(Place {
        at: one.next_ip(),
        depth,
        frame_pointer,
    })
}

/// What arithmetic does to the stack pointer.
fn moved(one: &Instruction) -> Option<i64> {
    let writes = one.op_count() > 0
        && one.op0_kind() == OpKind::Register
        && one.op0_register().full_register() == Register::RSP;
    if !writes {
        return Some(0);
    }
    let by = || one.try_immediate(1).ok().map(u64::cast_signed);
    match one.mnemonic() {
        Mnemonic::Add => by(),
        Mnemonic::Sub => by().map(i64::wrapping_neg),
        Mnemonic::Lea
            if one.memory_base() == Register::RSP && one.memory_index() == Register::None =>
        {
            Some(one.memory_displacement64().cast_signed())
        }
        Mnemonic::Cmp | Mnemonic::Test => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &[u8]) -> Vec<Way> {
        let read = |at: u64, size: u64| {
            let from = usize::try_from(at).ok()?.checked_sub(0x1000)?;
            let to = code.len().min(from.checked_add(size as usize)?);
            code.get(from..to).map(<[u8]>::to_vec)
        };
        ways(0x1000, &read).0
    }

    fn way(back: u64, frame_pointer: Option<u64>) -> Way {
        Way { back, frame_pointer }
    }

    #[test]
    fn pops_and_additions_lead_to_the_return_address() {
        // ret
        assert_eq!(of(b"\xc3"), [way(0, None)]);
        // pop rdx; pop rcx; cmp rax,-4; add rsp,0x18; pop rbx; pop rbp; ret
        let code = b"\x5a\x59\x48\x83\xf8\xfc\x48\x83\xc4\x18\x5b\x5d\xc3";
        assert_eq!(of(code), [way(16 + 0x18 + 16, Some(16 + 0x18 + 8))]);
        // push rax; call +0; pop rax; lea rsp,[rsp+8]; ret
        assert_eq!(of(b"\x50\xe8\0\0\0\0\x58\x48\x8d\x64\x24\x08\xc3"), [way(8, None)]);
    }

    #[test]
    fn all_ways_are_followed_and_loops_end() {
        // je +3; pop rbx; ret; hlt; add rsp,16; ret: what differs is told as it is.
        let code = b"\x74\x03\x5b\xc3\xf4\x48\x83\xc4\x10\xc3";
        assert_eq!(of(code), [way(8, None), way(16, None)]);
        assert_eq!(of(b"\xeb\xfe"), []);
        // mov rsp,rbp; ret, leave; ret, jmp rax, nothing.
        for unknown in [&b"\x48\x89\xec\xc3"[..], b"\xc9\xc3", b"\xff\xe0", b""] {
            assert_eq!(of(unknown), [], "{unknown:x?}");
        }
    }

    #[test]
    fn what_ends_the_thread_behind_its_call_never_returns() {
        // Of musl's clone: mov edi,eax; xor eax,eax; mov al,60; syscall; hlt; and the parent's ret.
        let code = *b"\x89\xc7\x31\xc0\xb0\x3c\x0f\x05\xf4\xc3";
        let read = |at: u64, _| Some(code.get(at as usize..)?.to_vec());
        assert_eq!(ways(0, &read), (Vec::new(), true));
    }

    proptest::proptest! {
        #[test]
        fn any_code_ends(code in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            proptest::prop_assert!(of(&code).len() <= MOST_WAYS);
        }
    }
}
