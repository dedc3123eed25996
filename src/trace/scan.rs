//! One pass over a file: where its chunks are, and what is damaged. Checks every checksum, so
//! that the damage is known before the first event is shown.

use super::decode_v1;
use super::layout::CHUNK_HEADER;
use super::layout::CHUNK_MAGIC;
use super::layout::ChunkHeader;
use super::layout::ChunkKind;
use super::layout::FILE_HEADER;
use super::layout::FLAG_LATE;
use super::layout::FLAG_NUMBERED;
use super::store::Store;
use crate::model::Damage;
use crate::model::Lost;
use crate::model::LostKind;
use crate::model::Nanos;
use std::io;

/// A chunk whose header and checksum are right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) kind: ChunkKind,
    pub(super) header: ChunkHeader,
    /// Where its header is.
    pub(super) offset: u64,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of the file.
    pub(super) places: Vec<Place>,
    pub(super) damage: Vec<Damage>,
    /// Events that stand for chunks that are lost.
    pub(super) lost: Vec<Lost>,
}

/// Damaged places that are listed one by one; more of them tell nobody anything.
const MOST_DAMAGE: usize = 50;

struct Scan<'a> {
    store: &'a Store,
    index: Index,
    unknown: u64,
    /// Before which place something of unknown kind and time is missing.
    holes: Vec<usize>,
    /// Bytes that may still be looked through a second time: keeps the whole scan linear in
    /// the file for headers that were made to overlap.
    again: u64,
    body: Vec<u8>,
    /// What was last read to look for a header, and where that lies: many damaged places may lie
    /// in it.
    window: (u64, Vec<u8>),
    /// How many more places are damaged than are listed, and the first of them.
    more: (u64, u64),
}

/// Finds the chunks of a file.
pub(super) fn scan(store: &Store) -> io::Result<Index> {
    let mut scan = Scan {
        store,
        index: Index::default(),
        unknown: 0,
        holes: Vec::new(),
        again: store.len(),
        body: Vec::new(),
        window: (0, Vec::new()),
        more: (0, u64::MAX),
    };
    let mut at = FILE_HEADER as u64;
    while at < store.len() {
        at = scan.step(at)?;
    }
    Ok(scan.finish())
}

impl Scan<'_> {
    /// Looks at the chunk at `at`; returns where the next one is, at least one byte on.
    fn step(&mut self, at: u64) -> io::Result<u64> {
        let end = self.store.len();
        let left = end - at;
        if left < CHUNK_HEADER as u64 {
            self.index.damage.push(Damage::Truncated { bytes: left });
            return Ok(end);
        }
        let Some(header) = self.header(at)? else {
            self.corrupt(at, "no chunk begins here, or its header is damaged".to_owned());
            self.holes.push(self.index.places.len());
            return Ok(self.find(at + 1)?.unwrap_or(end));
        };
        if let Some(why) = header.refuse() {
            self.corrupt(at, why.to_owned());
            self.holes.push(self.index.places.len());
            return Ok(self.find(at + 1)?.unwrap_or(end));
        }
        let body_at = at + CHUNK_HEADER as u64;
        let next = body_at + u64::from(header.stored);
        if next > end {
            // Cut off, unless chunks follow: then bytes are missing in the middle.
            let Some(found) = self.find(body_at)? else {
                self.index.damage.push(Damage::Truncated { bytes: left });
                return Ok(end);
            };
            self.lose(at, &header, "a part of it is missing");
            return Ok(found);
        }
        self.body.resize(header.stored as usize, 0);
        self.store.read(body_at, &mut self.body)?;
        if crc32fast::hash(&self.body) == header.body_crc {
            self.keep(at, &header);
            return Ok(next);
        }
        self.lose(at, &header, "its checksum is wrong");
        if next == end || self.again < u64::from(header.stored) || self.is_header(next)? {
            return Ok(next);
        }
        self.again -= u64::from(header.stored);
        Ok(self.find(body_at)?.unwrap_or(end))
    }

    fn keep(&mut self, offset: u64, header: &ChunkHeader) {
        let kind = ChunkKind::from_code(header.kind);
        match kind.filter(|_| decode_v1::can_decode(header.version)) {
            Some(kind) => self.index.places.push(Place { kind, header: *header, offset }),
            None => self.unknown += 1,
        }
    }

    fn corrupt(&mut self, offset: u64, what: String) {
        if self.index.damage.len() < MOST_DAMAGE {
            self.index.damage.push(Damage::Corrupt { offset, what });
        } else {
            self.more.0 += 1;
            self.more.1 = self.more.1.min(offset);
        }
    }

    fn lose(&mut self, offset: u64, header: &ChunkHeader, why: &str) {
        let Some(kind) = ChunkKind::from_code(header.kind) else {
            self.corrupt(offset, why.to_owned());
            return;
        };
        self.corrupt(offset, format!("{why} ({} {})", header.records, kind.name()));
        self.index.lost.extend(lost(kind, header, header.min, header.records));
    }

    fn header(&self, at: u64) -> io::Result<Option<ChunkHeader>> {
        let mut bytes = [0; CHUNK_HEADER];
        self.store.read(at, &mut bytes)?;
        Ok(ChunkHeader::parse(&bytes))
    }

    fn is_header(&self, at: u64) -> io::Result<bool> {
        let fits = self.store.len() - at >= CHUNK_HEADER as u64;
        Ok(fits && self.header(at)?.is_some())
    }

    /// The next believable header at or after `at`.
    fn find(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        const WINDOW: usize = 1 << 16;
        while self.store.len().saturating_sub(at) >= CHUNK_HEADER as u64 {
            let (begin, bytes) = &self.window;
            let skipped = at.checked_sub(*begin).and_then(|skipped| usize::try_from(skipped).ok());
            let held = skipped.and_then(|skipped| bytes.get(skipped..)).unwrap_or_default();
            if held.len() < CHUNK_MAGIC.len() {
                self.window = (at, self.store.read_some(at, WINDOW)?);
                #[cfg(test)]
                READS.with(|reads| reads.set(reads.get() + 1));
                continue;
            }
            let mut starts = held.windows(CHUNK_MAGIC.len());
            let Some(start) = starts.position(|bytes| bytes == CHUNK_MAGIC) else {
                // A magic may lie across the border.
                at += (held.len() + 1 - CHUNK_MAGIC.len()) as u64;
                continue;
            };
            at += start as u64;
            if self.is_header(at)? {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    fn finish(mut self) -> Index {
        self.fill_holes();
        if let (more @ 1.., offset) = self.more {
            let what = format!("{more} damaged places from there on");
            self.index.damage.push(Damage::Corrupt { offset, what });
        }
        if self.unknown > 0 {
            self.index.damage.push(Damage::UnknownChunks { count: self.unknown });
        }
        if !self.index.places.iter().any(|place| place.kind == ChunkKind::Summary) {
            self.index.damage.push(Damage::Unfinished);
        }
        self.index
    }

    /// Where a header is damaged, nobody knows what is missing: the time between the intervals
    /// before and after it counts as lost. How many records is not known: at least one.
    fn fill_holes(&mut self) {
        let timely = |place: &&Place| {
            place.kind == ChunkKind::Intervals && place.header.flags & FLAG_LATE == 0
        };
        let events = || self.index.places.iter().filter(|place| place.kind.has_events());
        let first = events().map(|place| place.header.min).min();
        let last = events().map(|place| place.header.max).max();
        let places = &self.index.places;
        let mut lost = Vec::new();
        // Holes are in the order of the file, so that one walk along the places does for all.
        let (mut from, mut passed, mut next) = (None, 0, 0);
        for &hole in &self.holes {
            let before = places[passed..hole].iter().filter(timely);
            from = from.max(before.map(|place| place.header.max).max());
            passed = hole;
            next = next.max(hole);
            next += places[next..].iter().take_while(|place| !timely(place)).count();
            let to = places.get(next).map(|place| place.header.min).or(last);
            if let (Some(from), Some(to)) = (from.or(first), to)
                && from < to
            {
                lost.push(Lost { from, to, what: LostKind::File, cpu: None, count: 1 });
            }
        }
        self.index.lost.append(&mut lost);
    }
}

/// The event that stands for `records` of a chunk from `from` to its end.
pub(super) fn lost(
    kind: ChunkKind,
    header: &ChunkHeader,
    from: Nanos,
    records: u32,
) -> Option<Lost> {
    let what = match kind {
        ChunkKind::Intervals => LostKind::File,
        ChunkKind::Lifecycle => LostKind::Lifecycle,
        ChunkKind::Samples => LostKind::Samples,
        ChunkKind::Probe => LostKind::Probe,
        ChunkKind::Info | ChunkKind::Definitions | ChunkKind::Summary | ChunkKind::Mark => {
            return None;
        }
    };
    // Numbered intervals show themselves where one is missing. Others leave no trace, and the
    // oldest of them began before the chunk's first was over.
    let unnumbered = kind == ChunkKind::Intervals && header.flags & FLAG_NUMBERED == 0;
    let from = if unnumbered { from.min(header.begin) } else { from };
    Some(Lost { from, to: header.max, what, cpu: None, count: records.into() })
}

#[cfg(test)]
thread_local! {
    /// Windows read by this thread.
    static READS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers with right checksums that are refused, one behind the other: the bytes around them
    /// are read once and not once for each.
    #[test]
    fn forged_headers_do_not_make_a_scan_read_a_file_again_and_again() {
        let mut header = [0; CHUNK_HEADER];
        header[..8].copy_from_slice(&CHUNK_MAGIC);
        header[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = crc32fast::hash(&header[..52]);
        header[52..].copy_from_slice(&crc.to_le_bytes());
        let parsed = ChunkHeader::parse(&header).expect("its checksum is right");
        assert!(parsed.refuse().is_some());
        let count = 20_000;
        let file = [vec![0; FILE_HEADER], header.repeat(count)].concat();
        let windows = file.len() as u64 / (1 << 16) + 2;
        let before = READS.with(std::cell::Cell::get);
        let index = scan(&Store::Bytes(file)).expect("memory");
        assert_eq!(index.damage.len(), MOST_DAMAGE + 2, "and how many more, and no summary");
        let read = READS.with(std::cell::Cell::get) - before;
        assert!(read <= windows, "{read} windows of {windows}");
    }
}
