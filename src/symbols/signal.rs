//! Signal trampolines: where a signal handler returns to, and how to go on below it.
//!
//! Their call frame information is written with expressions that read memory, which framehop
//! does not evaluate, so a handler that waits would lose everything that it interrupted.

use std::ops::Range;

/// Ranges of addresses as linked, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trampolines(Vec<Range<u64>>);

/// Offsets from the stack pointer at the trampoline, which points to the `ucontext`, to the
/// registers that were saved there (x86-64): rbp, rsp, rip.
pub(super) const SAVED_FP: u64 = 120;
pub(super) const SAVED_SP: u64 = 160;
pub(super) const SAVED_IP: u64 = 168;

impl Trampolines {
    pub fn contains(&self, address: u64) -> bool {
        let after = self.0.partition_point(|r| r.start <= address);
        after > 0 && self.0[after - 1].contains(&address)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// Finds the functions that `.eh_frame`, linked at `address`, marks as signal frames.
pub(super) fn trampolines(eh_frame: &[u8], address: u64) -> Trampolines {
    let mut found = Vec::new();
    let mut signal_entry = None;
    let mut at = 0usize;
    while let Some(length) = u32_at(eh_frame, at) {
        let Some(next) = (at + 4).checked_add(length as usize) else { break };
        // 0 ends the section; the 64-bit form does not occur in practice.
        if length == 0 || length == u32::MAX || next > eh_frame.len() {
            break;
        }
        match u32_at(eh_frame, at + 4) {
            Some(0) if is_signal_entry(&eh_frame[at..next]) => signal_entry = Some(at),
            Some(0) | None => {}
            // The pointer back to the common entry counts from its own place.
            Some(back) if signal_entry == (at + 4).checked_sub(back as usize) => {
                found.extend(range(&eh_frame[at..next], address.wrapping_add(at as u64)));
            }
            Some(_) => {}
        }
        at = next;
    }
    found.sort_by_key(|r: &Range<u64>| r.start);
    Trampolines(found)
}

/// Whether a common entry describes signal frames: augmentation `zRS` with 4-byte pointers
/// relative to themselves, as glibc and the vdso are built.
fn is_signal_entry(entry: &[u8]) -> bool {
    // 8 bytes of head, version 1, "zRS\0", code and data alignment, return register, length.
    entry.get(8..13) == Some(b"\x01zRS\0") && entry.get(17) == Some(&0x1b)
}

fn range(entry: &[u8], address: u64) -> Option<Range<u64>> {
    let distance = i64::from(u32_at(entry, 8)?.cast_signed());
    let start = address.checked_add(8)?.checked_add_signed(distance)?;
    Some(start..start.checked_add(u64::from(u32_at(entry, 12)?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_frames_are_found_and_others_are_not() {
        let mut section = Vec::new();
        let mut entry = |body: &[u8]| {
            let at = section.len();
            section.extend(u32::try_from(body.len()).expect("small").to_le_bytes());
            section.extend(body);
            at
        };
        let plain = entry(b"\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b\0\0\0");
        let fde = |at: usize, entry: usize, pc: i32| {
            let mut body = u32::try_from(at + 4 - entry).expect("small").to_le_bytes().to_vec();
            body.extend(pc.to_le_bytes());
            body.extend(16u32.to_le_bytes());
            body
        };
        let second = entry(&fde(20, plain, 0x100));
        let signal = entry(b"\0\0\0\0\x01zRS\0\x01\x78\x10\x01\x1b\0\0");
        entry(&fde(56, signal, -0x100));
        assert_eq!((plain, second, signal), (0, 20, 36));
        let found = trampolines(&section, 0x1000);
        let start = 0x1000 + 56 + 8 - 0x100;
        assert_eq!((found.0.len(), found.0.first()), (1, Some(&(start..start + 16))));
        assert!(found.contains(start) && found.contains(start + 15));
        assert!(!found.contains(start + 16) && !found.contains(start - 1));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(0u8..32, 0..400)) {
            trampolines(&bytes, u64::MAX - 8);
        }
    }
}
