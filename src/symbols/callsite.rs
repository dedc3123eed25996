//! What code says about the stack: what stands before a return address, and how large a
//! function's frame is.

use super::module::Modules;
use super::space::Region;

/// Whether the code before the return address `back`, which lies in `region`, is a call.
/// Code that cannot be read, because it was generated, may be one.
pub(super) fn is_call_before(modules: &Modules, region: &Region, back: u64) -> bool {
    let Some(source) = &modules.get(region.module).source else { return true };
    let start = region.offset_of(back).checked_sub(7);
    let code = start.and_then(|start| source.at(start, 7)).unwrap_or_default();
    code.try_into().is_ok_and(is_call)
}

/// e8, or ff /2 in its lengths.
fn is_call(code: [u8; 7]) -> bool {
    let indirect = |at: usize| code[at] == 0xff && code[at + 1] & 0x38 == 0x10;
    code[2] == 0xe8 || [0, 1, 3, 4, 5].into_iter().any(indirect)
}

/// How far above the stack pointer, while it calls others, a function keeps its caller's frame
/// pointer. `None` if the function that begins at `start`, as linked, in `region` does not set
/// up a frame pointer first thing.
pub(super) fn frame_size(modules: &Modules, region: &Region, start: u64) -> Option<u64> {
    let source = modules.get(region.module).source.as_ref()?;
    let code = source.at(region.offset_of(start.wrapping_add(region.bias)), 48)?;
    prologue(&code)
}

/// Adds up the pushes and the subtraction of a prologue with a frame pointer. Instructions
/// that move between registers, which compilers schedule in between, are stepped over.
fn prologue(code: &[u8]) -> Option<u64> {
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let code = code.strip_prefix(&[0x55])?;
    let movs: [&[u8]; 2] = [&[0x48, 0x89, 0xe5], &[0x48, 0x8b, 0xec]];
    let mut code = movs.iter().find_map(|mov| code.strip_prefix(*mov))?;
    let mut size = 0;
    loop {
        code = match *code {
            [0x50..=0x57, ref rest @ ..] | [0x41, 0x50..=0x57, ref rest @ ..] => {
                size += 8;
                rest
            }
            [0x48, 0x83, 0xec, more, ..] => return Some(size + u64::from(more)),
            [0x48, 0x81, 0xec, a, b, c, d, ..] => {
                return Some(size + u64::from(u32::from_le_bytes([a, b, c, d])));
            }
            // mov or xor of registers, with and without prefix.
            [0x40..=0x4f, 0x89 | 0x8b | 0x31, 0xc0..=0xff, ref rest @ ..]
            | [0x89 | 0x8b | 0x31, 0xc0..=0xff, ref rest @ ..] => rest,
            _ => return Some(size),
        };
    }
}

/// The first addresses of all functions, counted from `base`, out of the sorted table of
/// `.eh_frame_hdr`, which is linked at `address`.
pub(super) fn functions(header: &[u8], address: u64, base: u64) -> Option<Vec<u32>> {
    // Version 1; count as 4 bytes; table of 4-byte distances from here: what all linkers write.
    (header.first()? == &1 && header.get(2..4)? == [0x03, 0x3b]).then_some(())?;
    let count = u32::from_le_bytes(header.get(8..12)?.try_into().ok()?) as usize;
    let table = header.get(12..)?;
    let from_base = address.wrapping_sub(base);
    let entries = table.chunks_exact(8).take(count).map(|entry| {
        let distance = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        u32::try_from(from_base.wrapping_add_signed(distance.into())).unwrap_or(u32::MAX)
    });
    let functions: Vec<u32> = entries.collect();
    functions.is_sorted().then_some(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_other_code() {
        assert!(is_call([0x90, 0x90, 0xe8, 0xf0, 0xff, 0xff, 0xff]), "direct");
        assert!(is_call([0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0]), "call *%rax");
        assert!(is_call([0x90, 0xff, 0x15, 1, 2, 3, 4]), "call *disp(%rip)");
        assert!(!is_call([0x90, 0xff, 0x25, 1, 2, 3, 4]), "jmp *disp(%rip)");
        assert!(!is_call([0x90; 7]));
    }

    #[test]
    fn prologues_tell_the_size_of_a_frame() {
        // endbr64; push rbp; mov rbp,rsp; push r15; push rbx; mov ebx,edi; sub rsp,0x18
        let code = b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x41\x57\x53\x89\xfb\x48\x83\xec\x18\x90";
        assert_eq!(prologue(code), Some(8 + 8 + 0x18));
        let big = b"\x55\x48\x89\xe5\x48\x81\xec\x00\x01\x00\x00";
        assert_eq!(prologue(big), Some(0x100));
        assert_eq!(prologue(b"\x55\x53\x48\x83\xec\x18"), None);
        assert_eq!(prologue(b""), None);
    }

    #[test]
    fn the_table_of_functions_is_read() {
        let mut header = vec![1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 2, 0, 0, 0];
        for distance in [-0x80i32, 0, -0x40, 0] {
            header.extend(distance.to_le_bytes());
        }
        assert_eq!(functions(&header, 0x1100, 0x1000), Some(vec![0x80, 0xc0]));
        header[0] = 2;
        assert_eq!(functions(&header, 0x1100, 0x1000), None);
    }
}
