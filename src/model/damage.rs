//! What could not be read of a trace file: typed, so that it reaches every output.

use std::fmt;

/// A stretch of a trace file that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The file ends in the middle of a chunk: all before it was read.
    Truncated {
        /// Bytes after the last whole chunk.
        bytes: u64,
    },
    /// The file ends without the recorder's closing chunk: it was killed, or the disk was full.
    Unfinished,
    /// A chunk's checksum or content is wrong; the others were read.
    Corrupt {
        /// Offset of the chunk in the file.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Chunks of kinds this version does not know were skipped.
    UnknownChunks {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { bytes } => {
                write!(
                    f,
                    "the file ends in the middle of a chunk: its last {bytes} bytes were not read"
                )
            }
            Self::Unfinished => f.write_str(
                "the recording was cut off before its end: what was written until then is shown",
            ),
            Self::Corrupt { offset, what } => {
                write!(f, "the chunk at byte {offset} is damaged and was skipped: {what}")
            }
            Self::UnknownChunks { count } => write!(
                f,
                "{count} chunks of a newer timesink were skipped: a newer version shows more"
            ),
        }
    }
}
