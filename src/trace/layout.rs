//! The file header and the header of a chunk: fixed sizes, little-endian.

use crate::model::Nanos;

/// The first bytes of every trace file.
pub(super) const FILE_MAGIC: [u8; 8] = *b"TIMESINK";
/// The newest version of the file format this reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;
/// Length of the file header.
pub(super) const FILE_HEADER: usize = 16;

/// The first bytes of every chunk. Not ASCII and not UTF-8, so that no text holds it by chance.
pub(super) const CHUNK_MAGIC: [u8; 8] = *b"\xf5TSchnk\xfe";
/// Version of the chunk header and of the bodies in it.
pub(super) const CHUNK_VERSION: u8 = 1;
/// Length of a chunk's header.
pub(super) const CHUNK_HEADER: usize = 56;

/// Most bytes of a body, decompressed: a chunk that says more is a bomb.
pub(super) const MAX_RAW: usize = 16 << 20;
/// Most bytes of a body as stored; zstd adds less than this to what it cannot compress.
pub(super) const MAX_STORED: usize = MAX_RAW + (1 << 17);
/// Most records in a chunk. The writer cuts at half of it.
pub(super) const MAX_RECORDS: u32 = 1 << 16;
/// Most threads in one chunk of intervals, since the reader remembers the last interval of each.
pub(super) const MAX_THREADS: usize = 1 << 12;

/// Flag: every interval in the chunk is numbered, so a loss is found thread by thread.
pub(super) const FLAG_NUMBERED: u16 = 1;
/// Flag: the records came too late for the chunk of their time.
pub(super) const FLAG_LATE: u16 = 2;

/// What a chunk holds. Append-only: a number once given keeps its meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum ChunkKind {
    /// What was recorded, when, where and how.
    Info = 1,
    /// Modules, frames, stacks and names.
    Definitions = 2,
    /// Stays off the CPU, and gaps.
    Intervals = 3,
    /// Starts, execs, renames, exits, objects, losses.
    Lifecycle = 4,
    /// Samples, stacks of waits, observations.
    Samples = 5,
    /// Events of in-process probes.
    Probe = 6,
    /// What the recorder said when it finished.
    Summary = 7,
    /// All until then is in the file.
    Mark = 8,
}

impl ChunkKind {
    const ALL: [Self; 8] = [
        Self::Info,
        Self::Definitions,
        Self::Intervals,
        Self::Lifecycle,
        Self::Samples,
        Self::Probe,
        Self::Summary,
        Self::Mark,
    ];

    /// The kind with this number; `None` for one of a newer timesink.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == code)
    }

    /// What its records are, for messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Definitions => "definitions",
            Self::Intervals => "intervals",
            Self::Lifecycle => "starts and exits",
            Self::Samples => "samples",
            Self::Probe => "probe events",
            Self::Summary => "summary",
            Self::Mark => "mark of time",
        }
    }

    /// Whether it holds events, which are merged by time.
    pub(super) const fn has_events(self) -> bool {
        matches!(self, Self::Intervals | Self::Lifecycle | Self::Samples | Self::Probe)
    }
}

/// The 16 bytes at the start of a file.
pub(super) fn file_header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header
}

/// A chunk's header, as drawn in the [module's documentation](super).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChunkHeader {
    pub(super) version: u8,
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) records: u32,
    pub(super) min: Nanos,
    pub(super) max: Nanos,
    pub(super) begin: Nanos,
    pub(super) stored: u32,
    pub(super) raw: u32,
    pub(super) body_crc: u32,
}

impl ChunkHeader {
    pub(super) fn to_bytes(self) -> [u8; CHUNK_HEADER] {
        let mut bytes = [0; CHUNK_HEADER];
        bytes[..8].copy_from_slice(&CHUNK_MAGIC);
        bytes[8] = self.version;
        bytes[9] = self.kind;
        bytes[10..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.min.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.max.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.begin.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.stored.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.raw.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if this is no header, or a damaged one: nothing in it can be believed then.
    pub(super) fn parse(bytes: &[u8; CHUNK_HEADER]) -> Option<Self> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != CHUNK_MAGIC || crc32fast::hash(&bytes[..52]) != u32_at(52) {
            return None;
        }
        Some(Self {
            version: bytes[8],
            kind: bytes[9],
            flags: u16::from_le_bytes([bytes[10], bytes[11]]),
            records: u32_at(12),
            min: Nanos(u64_at(16)),
            max: Nanos(u64_at(24)),
            begin: Nanos(u64_at(32)),
            stored: u32_at(40),
            raw: u32_at(44),
            body_crc: u32_at(48),
        })
    }

    /// Why a header whose checksum is right is not believed all the same, or is not ours.
    pub(super) fn refuse(&self) -> Option<&'static str> {
        if self.raw as usize > MAX_RAW || self.stored as usize > MAX_STORED {
            return Some("it claims to be larger than any chunk is");
        }
        if self.records > MAX_RECORDS {
            return Some("it claims more records than any chunk has");
        }
        (self.min > self.max).then_some("it claims to end before it begins")
    }
}
