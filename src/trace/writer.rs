//! Records into a file, chunk by chunk, in bounded memory.

use super::buffer::Buffer;
use super::buffer::CUT_BYTES;
use super::buffer::CUT_RECORDS;
use super::buffer::Cut;
use super::buffer::text_of;
use super::bytes::Out;
use super::bytes::RECORD_LIMIT;
use super::decode_v1::DefinitionMemory;
use super::encode::EventEncoder;
use super::encode::kind_of;
use super::encode_meta;
use super::layout::CHUNK_VERSION;
use super::layout::ChunkHeader;
use super::layout::ChunkKind;
use super::layout::FLAG_LATE;
use super::layout::FLAG_NUMBERED;
use super::layout::MAX_THREADS;
use super::layout::file_header;
use crate::model::Clocks;
use crate::model::Definition;
use crate::model::Event;
use crate::model::Info;
use crate::model::Nanos;
use crate::model::Record;
use crate::model::Summary;
use std::fs::File;
use std::io;
use std::io::Write;
use zstd::bulk::Compressor;

/// Level 1: a recorder must cost little, and higher levels gain a few percent.
const LEVEL: i32 = 1;

/// Why records were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file takes no more. What it holds stays readable; records are counted from now on.
    #[error(
        "the trace file takes no more: {source}; the {kept} records before are in it and readable, \
         the rest of the recording is counted but not kept; make room, or use `-o DIR` on another disk"
    )]
    Output {
        /// Records that are in the file.
        kept: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file was cut short earlier: repeated by [`Writer::finish`].
    #[error(
        "the trace file is cut short: {kept} records are in it, {not_kept} came after it took no more"
    )]
    CutShort {
        /// Records that are in the file.
        kept: u64,
        /// Records that are not.
        not_kept: u64,
    },
    /// One record is larger than a chunk can be; it is counted and left out, the others go on.
    #[error("a record of {bytes} bytes was left out of the trace file, which takes up to {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size there is.
        limit: usize,
    },
}

/// Writes a trace file.
///
/// Holds what is not written yet: at most about 100,000 events of a kind, 13 MB when only
/// intervals come. Call [`Writer::mark`] about once a second: a recorder that is killed
/// leaves everything up to the last one.
pub struct Writer<W: Write> {
    out: W,
    compressor: Compressor<'static>,
    info: Info,
    info_repeated: bool,
    definitions: Definitions,
    buffers: [Buffer; 4],
    bytes_written: u64,
    kept: u64,
    not_kept: u64,
    failed: bool,
    trim: fn(&mut W, u64) -> io::Result<()>,
}

/// The chunk of definitions being filled: they keep their order, so they are encoded at once.
#[derive(Default)]
struct Definitions {
    out: Out,
    memory: DefinitionMemory,
    records: u32,
    /// Definitions taken so far, by kind: the ids of the next ones.
    next: [u64; 3],
}

impl Writer<File> {
    /// Writes into an empty file. If the file system refuses a chunk half-way, the half is
    /// cut off again.
    pub fn to_file(file: File, info: &Info) -> Result<Self, WriteError> {
        Self::with_trim(file, info, |file, len| file.set_len(len))
    }
}

impl<W: Write> Writer<W> {
    /// Begins a trace: writes the file header and what is recorded.
    pub fn new(out: W, info: &Info) -> Result<Self, WriteError> {
        Self::with_trim(out, info, |_, _| Ok(()))
    }

    fn with_trim(
        out: W,
        info: &Info,
        trim: fn(&mut W, u64) -> io::Result<()>,
    ) -> Result<Self, WriteError> {
        let compressor =
            Compressor::new(LEVEL).map_err(|source| WriteError::Output { kept: 0, source })?;
        let kinds =
            [ChunkKind::Lifecycle, ChunkKind::Intervals, ChunkKind::Samples, ChunkKind::Probe];
        let mut writer = Self {
            out,
            compressor,
            info: info.clone(),
            info_repeated: false,
            definitions: Definitions::default(),
            buffers: kinds.map(Buffer::new),
            bytes_written: 0,
            kept: 0,
            not_kept: 0,
            failed: false,
            trim,
        };
        writer.write(&file_header(), 0)?;
        writer.write_info()?;
        Ok(writer)
    }

    /// Takes one record. It is in the file after the next [`Writer::flush`] at the latest.
    ///
    /// # Errors
    /// [`WriteError::Output`] once, when the file takes no more: after that, records are only
    /// counted. [`WriteError::TooLarge`] for a record that fits no chunk.
    pub fn record(&mut self, record: &Record) -> Result<(), WriteError> {
        if self.failed {
            self.not_kept += 1;
            return Ok(());
        }
        let weight = encode_meta::weight(record);
        if weight > RECORD_LIMIT {
            self.not_kept += 1;
            return Err(WriteError::TooLarge { bytes: weight, limit: RECORD_LIMIT });
        }
        match record {
            Record::Event(event) => {
                let kind = kind_of(event);
                let Some(at) = self.buffers.iter().position(|buffer| buffer.kind == kind) else {
                    return Ok(());
                };
                if self.buffers[at].push(event.clone(), text_of(weight)) {
                    let cuts = self.buffers[at].cut();
                    self.write_cuts(kind, &cuts)?;
                }
                Ok(())
            }
            Record::Definition(definition) => self.define(definition),
        }
    }

    /// Writes all records taken so far.
    ///
    /// # Errors
    /// As [`Writer::record`].
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.failed {
            return Ok(());
        }
        self.write_definitions()?;
        for at in 0..self.buffers.len() {
            let cuts = self.buffers[at].cut_all();
            self.write_cuts(self.buffers[at].kind, &cuts)?;
        }
        // A second copy of what alone makes the rest readable, away from the first.
        if !self.info_repeated && self.kept > 0 {
            self.info_repeated = true;
            self.write_info()?;
        }
        self.out.flush().map_err(|source| self.fail(source, 0))
    }

    /// Writes all records taken so far, and that nothing from before `until` is missing: where the
    /// recorder is killed, the recording ends there and not with its last event.
    ///
    /// # Errors
    /// As [`Writer::record`].
    pub fn mark(&mut self, until: Clocks) -> Result<(), WriteError> {
        if self.failed {
            return Ok(());
        }
        self.flush()?;
        let mut out = Out::default();
        encode_meta::clocks(&mut out, until);
        let header = Plan { kind: ChunkKind::Mark, at: until.monotonic }.header(1);
        self.write_chunk(&header, &out.bytes)?;
        self.out.flush().map_err(|source| self.fail(source, 0))
    }

    /// Writes everything, then the recorder's summary, which marks the trace as complete.
    ///
    /// # Errors
    /// As [`Writer::record`], and [`WriteError::CutShort`] if that failed before.
    pub fn finish(&mut self, summary: &Summary) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::CutShort { kept: self.kept, not_kept: self.not_kept });
        }
        self.flush()?;
        let mut out = Out::default();
        encode_meta::summary(&mut out, summary);
        let at = summary.clocks.monotonic;
        self.write_chunk(&Plan { kind: ChunkKind::Summary, at }.header(1), &out.bytes)?;
        self.out.flush().map_err(|source| self.fail(source, 0))
    }

    /// Bytes that the output took so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Records that are in the file; those not flushed yet are not counted.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Records that will not be in the file, because it took no more or they were too large.
    pub fn not_kept(&self) -> u64 {
        self.not_kept
    }

    /// The output. What was not flushed is lost.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn write_info(&mut self) -> Result<(), WriteError> {
        let mut out = Out::default();
        encode_meta::info(&mut out, &self.info);
        let at = self.info.clocks.monotonic;
        self.write_chunk(&Plan { kind: ChunkKind::Info, at }.header(1), &out.bytes)
    }

    fn define(&mut self, definition: &Definition) -> Result<(), WriteError> {
        let chunk = &mut self.definitions;
        if chunk.records == 0 {
            // So that a lost chunk does not shift the ids of all later ones.
            chunk.next.iter().for_each(|&id| chunk.out.varint(id));
        }
        encode_meta::definition(&mut chunk.out, &mut chunk.memory, definition);
        chunk.records += 1;
        match definition {
            Definition::Module(_) => chunk.next[0] += 1,
            Definition::Frame(_) => chunk.next[1] += 1,
            Definition::Stack(_) => chunk.next[2] += 1,
            Definition::Names { .. } => {}
        }
        if chunk.records as usize >= CUT_RECORDS || chunk.out.bytes.len() >= CUT_BYTES {
            return self.write_definitions();
        }
        Ok(())
    }

    fn write_definitions(&mut self) -> Result<(), WriteError> {
        let empty = Definitions { next: self.definitions.next, ..Definitions::default() };
        let chunk = std::mem::replace(&mut self.definitions, empty);
        if chunk.records == 0 {
            return Ok(());
        }
        let at = self.info.clocks.monotonic;
        let header = Plan { kind: ChunkKind::Definitions, at }.header(chunk.records);
        self.write_chunk(&header, &chunk.out.bytes)
    }

    fn write_cuts(&mut self, kind: ChunkKind, cuts: &[Cut]) -> Result<(), WriteError> {
        let mut left: u64 = cuts.iter().map(|cut| cut.events.len() as u64).sum();
        for cut in cuts {
            let mut events = cut.events.as_slice();
            while !events.is_empty() {
                let (header, body) = encode_chunk(kind, cut.late, events);
                if let Err(error) = self.write_chunk(&header, &body) {
                    // That chunk's own records were counted as it failed.
                    self.not_kept += left - u64::from(header.records);
                    return Err(error);
                }
                left -= u64::from(header.records);
                events = &events[header.records as usize..];
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self, header: &ChunkHeader, body: &[u8]) -> Result<(), WriteError> {
        let records = match ChunkKind::from_code(header.kind) {
            Some(ChunkKind::Info | ChunkKind::Summary | ChunkKind::Mark) => 0,
            _ => u64::from(header.records),
        };
        let stored = self.compressor.compress(body).map_err(|error| self.fail(error, records))?;
        let header = ChunkHeader {
            stored: stored.len() as u32,
            raw: body.len() as u32,
            body_crc: crc32fast::hash(&stored),
            ..*header
        };
        let mut chunk = Vec::with_capacity(stored.len() + 64);
        chunk.extend_from_slice(&header.to_bytes());
        chunk.extend_from_slice(&stored);
        self.write(&chunk, records)
    }

    fn write(&mut self, bytes: &[u8], records: u64) -> Result<(), WriteError> {
        if let Err(source) = self.out.write_all(bytes) {
            return Err(self.fail(source, records));
        }
        self.bytes_written += bytes.len() as u64;
        self.kept += records;
        Ok(())
    }

    /// From here on records are only counted. Those in hand and those waiting are lost too.
    fn fail(&mut self, source: io::Error, in_hand: u64) -> WriteError {
        self.failed = true;
        let waiting: usize = self.buffers.iter().map(Buffer::len).sum();
        self.not_kept += in_hand + waiting as u64 + u64::from(self.definitions.records);
        self.definitions = Definitions::default();
        for buffer in &mut self.buffers {
            *buffer = Buffer::new(buffer.kind);
        }
        // If this fails too, the reader stops at the half chunk all the same.
        let _ = (self.trim)(&mut self.out, self.bytes_written);
        WriteError::Output { kept: self.kept, source }
    }
}

/// A chunk without events: everything in it is of one instant.
struct Plan {
    kind: ChunkKind,
    at: Nanos,
}

impl Plan {
    fn header(&self, records: u32) -> ChunkHeader {
        ChunkHeader {
            version: CHUNK_VERSION,
            kind: self.kind as u8,
            flags: 0,
            records,
            min: self.at,
            max: self.at,
            begin: self.at,
            stored: 0,
            raw: 0,
            body_crc: 0,
        }
    }
}

/// Encodes as many of `events` as fit one chunk, at least one.
fn encode_chunk(kind: ChunkKind, late: bool, events: &[Event]) -> (ChunkHeader, Vec<u8>) {
    let min = events.first().map_or(Nanos::ZERO, Event::time);
    let mut encoder = EventEncoder::new(min);
    let mut header = Plan { kind, at: min }.header(0);
    let mut numbered = true;
    for event in events {
        encoder.push(event);
        header.records += 1;
        header.max = event.time();
        let (begin, sequence) = match event {
            Event::Interval(e) => (e.off, e.sequence),
            Event::Gap(e) => (e.from, e.sequence),
            other => (other.time(), None),
        };
        header.begin = header.begin.min(begin);
        numbered &= sequence.is_some();
        let full = header.records as usize >= CUT_RECORDS
            || encoder.out.bytes.len() >= CUT_BYTES
            || encoder.threads() >= MAX_THREADS;
        if full {
            break;
        }
    }
    if numbered {
        header.flags |= FLAG_NUMBERED;
    }
    if late {
        header.flags |= FLAG_LATE;
    }
    (header, encoder.out.bytes)
}

#[cfg(test)]
mod tests {
    use super::Write;
    use super::Writer;
    use super::io;
    use crate::model::Damage;
    use crate::model::Event;
    use crate::model::Info;
    use crate::model::Interval;
    use crate::model::Nanos;
    use crate::model::Record;
    use crate::model::Tid;
    use crate::model::Trace;
    use crate::trace::TraceFile;

    /// Takes `room` bytes and then refuses, a chunk half-way if it must.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_half_written_chunk_is_cut_off() {
        let disk = Disk { bytes: Vec::new(), room: 1000 };
        let trim = |disk: &mut Disk, len: u64| {
            disk.bytes.truncate(len as usize);
            Ok(())
        };
        let mut writer = Writer::with_trim(disk, &Info::synthetic(), trim).expect("room");
        for n in 0..200 {
            let at = Nanos(n * n * 7919);
            let event = Event::Interval(Interval::blocked(Tid(1), at, at, at, None));
            writer.record(&Record::Event(event)).expect("it waits");
            let _ = writer.flush();
        }
        assert!(writer.failed);
        let written = writer.bytes_written();
        let kept = writer.kept();
        let bytes = writer.into_inner().bytes;
        assert_eq!(bytes.len() as u64, written);
        let trace = TraceFile::from_bytes(bytes).expect("a trace");
        assert_eq!(trace.damage(), [Damage::Unfinished], "nothing is cut in the middle");
        let mut found = 0;
        trace.for_each(&mut |_| found += 1);
        assert_eq!(found, kept);
    }

    /// Three million switches a second, or none of them moving in time: the buffer stays bounded.
    #[test]
    fn memory_stays_bounded_at_any_rate() {
        for step in [0, 333, 100_000] {
            let mut writer = Writer::new(std::io::sink(), &Info::synthetic()).expect("a sink");
            let mut most = 0;
            for n in 0..300_000_u64 {
                // Every seventh is a second late.
                let late = if n % 7 == 0 { 1_000_000_000 } else { 0 };
                let at = Nanos(2_000_000_000 + n * step - late);
                let event = Event::Interval(Interval::blocked(Tid(1), at, at, at, None));
                writer.record(&Record::Event(event)).expect("a sink");
                most = most.max(writer.buffers.iter().map(super::Buffer::memory).sum());
            }
            assert!(most < 40 << 20, "{most} bytes waited at {step} ns");
        }
    }
}
