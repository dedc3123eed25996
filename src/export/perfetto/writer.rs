//! Packets, interned strings and the output behind them.

use super::proto::Proto;
use crate::model::FastMap;
use crate::model::Nanos;
use std::hash::Hash;
use std::io;
use std::io::Write;

/// Field numbers of `TracePacket` and friends that several parts use.
pub mod field {
    pub const TIMESTAMP: u32 = 8;
    pub const SEQUENCE: u32 = 10;
    pub const TRACK_EVENT: u32 = 11;
    pub const INTERNED: u32 = 12;
    pub const SEQUENCE_FLAGS: u32 = 13;
    pub const TRACK_DESCRIPTOR: u32 = 60;
    pub const PERF_SAMPLE: u32 = 66;
}

/// Kinds of interned strings: fields of `InternedData`.
pub mod interned {
    pub const CATEGORIES: u32 = 1;
    pub const EVENT_NAMES: u32 = 2;
    pub const ANNOTATION_NAMES: u32 = 3;
    pub const ANNOTATION_VALUES: u32 = 29;
}

/// The one sequence all packets with interned data belong to.
const SEQUENCE_ID: u64 = 1;

/// Bytes gathered before they go out.
const BUFFER: usize = 1 << 16;

/// Writes packets. The first error stops all further output and is told at the end.
pub struct Writer<'o> {
    out: &'o mut dyn Write,
    buffer: Proto,
    error: Option<io::Error>,
    /// Bytes written so far.
    pub bytes: u64,
}

impl<'o> Writer<'o> {
    /// Into `out`.
    pub fn new(out: &'o mut dyn Write) -> Self {
        Self { out, buffer: Proto::default(), error: None, bytes: 0 }
    }

    /// A packet as `fill` writes it.
    pub fn packet(&mut self, fill: impl FnOnce(&mut Proto)) {
        self.buffer.nest(1, fill);
        if self.buffer.0.len() >= BUFFER {
            self.flush();
        }
    }

    /// A packet of the sequence that shares interned strings.
    pub fn sequenced(&mut self, time: Option<Nanos>, fill: impl FnOnce(&mut Proto)) {
        self.packet(|packet| {
            if let Some(time) = time {
                packet.int(field::TIMESTAMP, time.0);
            }
            packet.int(field::SEQUENCE, SEQUENCE_ID);
            packet.int(field::SEQUENCE_FLAGS, 2);
            fill(packet);
        });
    }

    /// The packet that opens the sequence.
    pub fn open_sequence(&mut self, fill: impl FnOnce(&mut Proto)) {
        self.packet(|packet| {
            packet.int(field::SEQUENCE, SEQUENCE_ID);
            packet.int(field::SEQUENCE_FLAGS, 1);
            fill(packet);
        });
    }

    /// Sends what is gathered and gives the first error there was.
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush();
        self.error.map_or(Ok(self.bytes), Err)
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            self.bytes += self.buffer.0.len() as u64;
            self.error = self.out.write_all(&self.buffer.0).err();
        }
        self.buffer.0.clear();
    }

    /// Defines an interned string.
    pub fn intern(&mut self, kind: u32, iid: u64, text: &str) {
        self.sequenced(None, |packet| {
            packet.nest(field::INTERNED, |data| {
                data.nest(kind, |string| {
                    string.int(1, iid);
                    string.text(2, text);
                });
            });
        });
    }
}

/// Numbers for keys, given out from 1 on.
pub struct Interner<K> {
    known: FastMap<K, u64>,
    last: u64,
}

impl<K> Default for Interner<K> {
    fn default() -> Self {
        Self { known: FastMap::default(), last: 0 }
    }
}

impl<K: Hash + Eq + Copy> Interner<K> {
    /// The number of `key`; a new one is defined first, with the text that `text` gives.
    pub fn iid(
        &mut self,
        out: &mut Writer,
        kind: u32,
        key: K,
        text: impl FnOnce() -> String,
    ) -> u64 {
        if let Some(&iid) = self.known.get(&key) {
            return iid;
        }
        self.last += 1;
        out.intern(kind, self.last, &text());
        self.known.insert(key, self.last);
        self.last
    }
}
