//! The trace file.
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

pub use layout::ChunkKind;
pub use layout::FORMAT_VERSION;
pub use open::OpenError;
pub use reader::TraceFile;
pub use writer::WriteError;
pub use writer::Writer;
