//! The trace file: records to bytes and back. Knows `model` and nothing else of the crate.
//!
//! ```text
//!              +--------+------+-------------+-----------+--    --+---------+
//!  file        | header | Info | Definitions | Intervals |  ...   | Summary |
//!              +--------+------+-------------+-----------+--    --+---------+
//!                            chunks: each can be read without the others
//!
//!  file header    0 "TIMESINK"   8 version u32   12 zero u32                        (16 bytes)
//!
//!  chunk header   0 magic F5 "TSchnk" FE          8 version u8   9 kind u8  10 flags u16
//!                12 records u32                  16 min u64 ns  24 max u64 ns
//!                32 begin u64 ns                 40 stored u32  44 raw u32
//!                48 crc of the stored body u32   52 crc of bytes 0..52 u32          (56 bytes)
//!
//!  body           one zstd frame of `stored` bytes, `raw` bytes when decompressed
//!
//!  kinds          1 Info (first)   2 Definitions   3 Intervals   4 Lifecycle
//!                 5 Samples        6 Probe         7 Summary (last)
//!  flags          1 every interval is numbered     2 late: older than chunks before it
//! ```
//!
//! `min` and `max` are the [times](crate::model::Event::time) of the first and last event;
//! `begin` is the earliest instant any of them speaks of. Inside a body each record is written
//! against the one before it, an interval against the last one of its thread: flags say what is
//! as it was, varints hold what is not. `docs/FORMAT.md` has every field and code.
//!
//! * [`Writer`] streams: it holds some ten thousand events, sorts them, and writes a chunk when
//!   enough are older than any that may still come in order, and all of them on
//!   [`Writer::flush`].
//! * [`TraceFile`] reads: it finds the chunks and checks them once, then merges them by time as
//!   often as asked. A chunk is decompressed when the merge reaches it and dropped behind it.
//!
//! The reader is total: any bytes give a trace (with its [`Damage`](crate::model::Damage)) or an
//! [`OpenError`]. A version bump comes with a decoder for the old version beside `decode_v1`.
//!
//! ```
//! use timesink::model::{Event, Info, Interval, Nanos, Record, Summary, Tid, Trace};
//! use timesink::trace::{TraceFile, Writer};
//!
//! let mut writer = Writer::new(Vec::new(), &Info::synthetic())?;
//! let wait = Interval::blocked(Tid(7), Nanos(10), Nanos(80), Nanos(90), None);
//! writer.record(&Record::Event(Event::Interval(wait)))?;
//! writer.finish(&Summary::default())?;
//!
//! let trace = TraceFile::from_bytes(writer.into_inner())?;
//! trace.for_each(&mut |event| assert_eq!(event, &Event::Interval(wait)));
//! assert!(trace.damage().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod buffer;
mod bytes;
mod decode_v1;
mod encode;
mod encode_meta;
mod flags;
mod layout;
mod merge;
mod open;
mod reader;
mod recent;
mod scan;
mod store;
mod table;
mod writer;

pub use layout::FORMAT_VERSION;
pub use open::OpenError;
pub use reader::TraceFile;
pub use writer::WriteError;
pub use writer::Writer;
