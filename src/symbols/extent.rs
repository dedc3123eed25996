//! Where functions begin that no symbol names: stripped code keeps its call frame information,
//! and with it the extent of every function.

use gimli::BaseAddresses;
use gimli::CieOrFde;
use gimli::EhFrame;
use gimli::EhFrameOffset;
use gimli::LittleEndian;
use gimli::UnwindSection;

use super::elf::Elf;
use super::elf::Source;
use super::elf::UnwindSections;

/// The first address of the function that covers each of `addresses`, all as linked.
///
/// `None` where no entry of `.eh_frame` covers the address, as in hand-written assembly, and
/// for files without the sorted table of `.eh_frame_hdr`, which every linker writes.
pub(super) fn starts(elf: &Elf, source: &Source, addresses: &[u64]) -> Vec<Option<u64>> {
    let sections = elf.unwind_sections(source);
    let found = sections.as_ref().and_then(|sections| look_up(sections, addresses));
    found.unwrap_or_else(|| vec![None; addresses.len()])
}

/// Bytes of `.eh_frame` that are looked through for what they do not cover. Larger ones are of programs
/// that are built with it throughout.
const MOST_BYTES: usize = 1 << 20;

/// What the entries of `.eh_frame` cover, in order; `None` for what is not known to have holes.
pub(super) fn covered(sections: &UnwindSections) -> Option<Vec<(u64, u64)>> {
    let (bytes, range) = &sections.eh_frame;
    (bytes.len() <= MOST_BYTES).then_some(())?;
    let frames = EhFrame::new(bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(range.start);
    let mut covered = Vec::new();
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().ok()? {
        if let CieOrFde::Fde(entry) = entry {
            let entry = entry.parse(EhFrame::cie_from_offset).ok()?;
            covered.push((entry.initial_address(), entry.end_address()));
        }
    }
    covered.sort_unstable();
    Some(covered)
}

fn look_up(sections: &UnwindSections, addresses: &[u64]) -> Option<Vec<Option<u64>>> {
    let (header, header_range) = sections.eh_frame_header.as_ref()?;
    let (frames, frames_range) = &sections.eh_frame;
    let table = table(header)?;
    let frames = EhFrame::new(frames, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(frames_range.start);
    let word = |entry: &[u8], at: usize| {
        let distance = i32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?);
        header_range.start.checked_add_signed(distance.into())
    };
    let start = |&address: &u64| {
        let after = table.partition_point(|entry| word(entry, 0).is_some_and(|f| f <= address));
        let at = word(table.get(after.checked_sub(1)?)?, 4)?.checked_sub(frames_range.start)?;
        let at = EhFrameOffset(usize::try_from(at).ok()?);
        let entry = frames.fde_from_offset(&bases, at, EhFrame::cie_from_offset).ok()?;
        entry.contains(address).then(|| entry.initial_address())
    };
    Some(addresses.iter().map(start).collect())
}

/// The sorted table of `.eh_frame_hdr`: a function's address and that of its entry, both as
/// 4-byte distances from the section, which is how all linkers write it.
fn table(header: &[u8]) -> Option<&[[u8; 8]]> {
    (header.first()? == &1 && header.get(2..4)? == [0x03, 0x3b]).then_some(())?;
    let count = u32::from_le_bytes(header.get(8..12)?.try_into().ok()?) as usize;
    header.get(12..)?.as_chunks::<8>().0.get(..count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One common entry and functions at 0x1000..0x1010 and 0x1040..0x1080, as `ld` lays them out.
    fn sections() -> UnwindSections {
        let (frames_at, header_at) = (0x3000u64, 0x2000u64);
        let mut frames = Vec::new();
        let mut entry = |body: &[u8]| {
            let at = frames.len();
            frames.extend(u32::try_from(body.len()).expect("small").to_le_bytes());
            frames.extend(body);
            at
        };
        let common = entry(b"\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b\0\0\0");
        let mut table = Vec::new();
        let mut at = 20;
        for (start, length) in [(0x1000i64, 0x10u32), (0x1040, 0x40)] {
            let mut body = u32::try_from(at + 4 - common).expect("small").to_le_bytes().to_vec();
            let here = frames_at.cast_signed() + i64::try_from(at).expect("small") + 8;
            body.extend(i32::try_from(start - here).expect("near").to_le_bytes());
            body.extend(length.to_le_bytes());
            body.extend([0; 4]);
            assert_eq!(entry(&body), at);
            let from_header = |to: i64| i32::try_from(to - header_at.cast_signed()).expect("near");
            table.extend(from_header(start).to_le_bytes());
            let entry_at = frames_at.cast_signed() + i64::try_from(at).expect("small");
            table.extend(from_header(entry_at).to_le_bytes());
            at += 4 + body.len();
        }
        let mut header = vec![1, 0x1b, 3, 0x3b];
        header.extend(0x0ffcu32.to_le_bytes());
        header.extend(2u32.to_le_bytes());
        header.extend(table);
        let range = |at: u64, bytes: &[u8]| at..at + bytes.len() as u64;
        UnwindSections {
            base: 0,
            end: 0x2000,
            eh_frame_header: Some((header.clone(), range(header_at, &header))),
            eh_frame: (frames.clone(), range(frames_at, &frames)),
        }
    }

    #[test]
    fn an_address_is_folded_to_the_function_that_covers_it_and_no_other() {
        let asked = [0xfff, 0x1000, 0x100f, 0x1010, 0x103f, 0x1040, 0x107f, 0x1080];
        let found = look_up(&sections(), &asked).expect("it has a table");
        let (first, second) = (Some(0x1000), Some(0x1040));
        assert_eq!(found, [None, first, first, None, None, second, second, None]);
        let bare = UnwindSections { eh_frame_header: None, ..sections() };
        assert_eq!(look_up(&bare, &asked), None);
    }

    proptest::proptest! {
        #[test]
        fn any_damage_gives_starts_before_their_addresses(
            edits in proptest::collection::vec((0usize..160, proptest::num::u8::ANY), 0..12),
            addresses in proptest::collection::vec(0u64..0x4000, 1..8),
        ) {
            let mut damaged = sections();
            for (at, value) in edits {
                let header = damaged.eh_frame_header.as_mut().map(|h| &mut h.0);
                let header = header.expect("made with one");
                let split = header.len();
                let byte = header.get_mut(at).or_else(|| damaged.eh_frame.0.get_mut(at - split));
                if let Some(byte) = byte { *byte = value; }
            }
            for (found, address) in look_up(&damaged, &addresses).into_iter().flatten().zip(&addresses) {
                assert!(found.is_none_or(|start| start <= *address));
            }
        }
    }
}
