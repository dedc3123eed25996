//! Address spaces: which module's code lies where in a process.

use crate::model::Text;

use super::module::Index;

/// Executable memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub start: u64,
    pub end: u64,
    /// Offset in the module of `start`; `start` itself where there is no file.
    pub offset: u64,
    pub module: Index,
    /// How far it lies from where the module was linked to.
    pub bias: u64,
}

impl Region {
    /// The offset in the module of an address.
    pub fn offset_of(&self, address: u64) -> u64 {
        address.wrapping_sub(self.start).wrapping_add(self.offset)
    }

    /// The address as linked.
    pub fn linked(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }
}

/// Regions of a process, sorted and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    regions: Vec<Region>,
}

/// Regions kept per process. A process with more has its last ones unnamed.
const MAX_REGIONS: usize = 16_384;

impl Space {
    /// The region that covers an address.
    pub fn find(&self, address: u64) -> Option<&Region> {
        let after = self.regions.partition_point(|r| r.start <= address);
        self.regions.get(after.checked_sub(1)?).filter(|r| address < r.end)
    }

    /// Where modules lie: a region of each, one for every run of neighbours.
    pub fn modules(&self) -> impl Iterator<Item = &Region> {
        let new = |(i, r): &(usize, &Region)| {
            let before = i.checked_sub(1).map(|before| &self.regions[before]);
            before.is_none_or(|b| (b.module, b.bias) != (r.module, r.bias))
        };
        self.regions.iter().enumerate().filter(new).map(|(_, region)| region)
    }

    /// Whether exactly this is mapped already.
    pub fn has(&self, region: &Region) -> bool {
        self.find(region.start) == Some(region)
    }

    /// Maps a region over whatever was there.
    pub fn map(&mut self, region: Region) {
        if region.start >= region.end || self.regions.len() >= MAX_REGIONS {
            return;
        }
        let (start, end) = (region.start, region.end);
        let first = self.regions.partition_point(|r| r.end <= start);
        let last = self.regions.partition_point(|r| r.start < end);
        let mut new = Vec::with_capacity(3);
        if let Some(left) = self.regions.get(first).filter(|r| r.start < start) {
            new.push(Region { end: start, ..left.clone() });
        }
        new.push(region);
        let over = last.checked_sub(1).and_then(|last| self.regions.get(last));
        if let Some(right) = over.filter(|r| r.start < end && r.end > end) {
            new.push(Region { start: end, offset: right.offset_of(end), ..right.clone() });
        }
        self.regions.splice(first..last.max(first), new);
    }
}

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapsLine {
    pub start: u64,
    pub end: u64,
    pub executable: bool,
    /// Whether other processes see what is written there.
    pub shared: bool,
    pub offset: u64,
    pub identity: (u64, u64),
    /// Without the kernel's mark that there is no such file any more.
    pub path: Text,
    pub deleted: bool,
}

/// Reads the executable lines of `/proc/PID/maps`; what does not look like one is skipped.
pub(super) fn parse_maps(text: &[u8]) -> Vec<MapsLine> {
    lines_of_maps(text).filter(|line| line.executable).collect()
}

/// Reads the lines of `/proc/PID/maps`.
pub(super) fn lines_of_maps(text: &[u8]) -> impl Iterator<Item = MapsLine> {
    text.split(|&b| b == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<MapsLine> {
    // 7f00-7f10 r-xp 00000000 fd:01 1234          /path with spaces
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        rest = after;
        std::str::from_utf8(field).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?.as_bytes();
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let device = (hex(major)? << 20) | hex(minor)?;
    let inode = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    let kept = path.strip_suffix(b" (deleted)");
    let (start, end) = (hex(start)?, hex(end)?);
    Some(MapsLine {
        start,
        end,
        executable: permissions.get(2) == Some(&b'x'),
        shared: permissions.get(3) == Some(&b's'),
        offset,
        identity: (device, inode),
        path: Text::new(kept.unwrap_or(path)),
        deleted: kept.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, module: Index) -> Region {
        Region { start, end, offset: start & 0xff, module, bias: 0 }
    }

    #[test]
    fn a_new_mapping_cuts_what_it_covers() {
        let mut space = Space::default();
        space.map(region(0x10, 0x50, 0));
        space.map(region(0x60, 0x80, 1));
        space.map(region(0x20, 0x30, 2));
        space.map(region(0x40, 0x70, 3));
        let shown = |r: &Region| (r.start, r.end, r.offset, r.module);
        assert_eq!(
            space.regions.iter().map(shown).collect::<Vec<_>>(),
            [
                (0x10, 0x20, 0x10, 0),
                (0x20, 0x30, 0x20, 2),
                (0x30, 0x40, 0x30, 0),
                (0x40, 0x70, 0x40, 3),
                (0x70, 0x80, 0x70, 1),
            ]
        );
        assert_eq!(space.find(0x2f).map(|r| r.module), Some(2));
        assert_eq!(space.find(0x80), None);
        assert_eq!(space.find(0xf), None);
        space.map(region(0, 0x100, 4));
        assert_eq!(space.regions.len(), 1);
    }

    #[test]
    fn maps_lines_with_spaces_and_deleted_files() {
        let text =
            b"55-56 r--p 0 fd:01 7 /a\n7f00-7f10 r-xp 00001000 fd:01 1234    /a b (deleted)\n\
            8000-9000 r-xp 0 00:00 0    [vdso]\nnonsense\na000-b000 rwxp 0 00:00 0 \n";
        let lines = parse_maps(text);
        let paths: Vec<String> = lines.iter().map(|l| l.path.to_string()).collect();
        assert_eq!(paths, ["/a b", "[vdso]", ""]);
        assert_eq!((lines[0].start, lines[0].end, lines[0].offset), (0x7f00, 0x7f10, 0x1000));
        assert_eq!(lines[0].identity, ((0xfd << 20) | 1, 1234));
    }

    proptest::proptest! {
        /// The slow oracle: an array of who owns which address.
        #[test]
        fn regions_stay_sorted_disjoint_and_right(
            maps in proptest::collection::vec((0u64..60, 1u64..20), 0..30)
        ) {
            let mut space = Space::default();
            let mut oracle = [None; 100];
            for (module, &(start, length)) in maps.iter().enumerate() {
                space.map(Region { start, end: start + length, offset: 1000 + start, module, bias: 0 });
                for at in start..start + length { oracle[at as usize] = Some(module); }
            }
            for (at, owner) in oracle.iter().enumerate() {
                let found = space.find(at as u64);
                assert_eq!(found.map(|r| r.module), *owner);
                if let Some(region) = found { assert_eq!(region.offset_of(at as u64), 1000 + at as u64); }
            }
        }

        #[test]
        fn any_maps_text_is_read(text in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let lines = lines_of_maps(&text).filter(|line| line.executable).count();
            assert_eq!(lines, parse_maps(&text).len());
        }
    }
}
