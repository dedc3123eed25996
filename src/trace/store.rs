//! Where the bytes of a trace are. Positioned reads and no memory map: a file that is cut
//! while we read it must give an error, not a signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a file, or in memory.
#[derive(Debug)]
pub(super) enum Store {
    File { file: File, len: u64 },
    Bytes(Vec<u8>),
}

impl Store {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` from `at`, all of it or an error.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.read_exact_at(buffer, at),
            Self::Bytes(bytes) => {
                let start = usize::try_from(at).ok().filter(|&start| start <= bytes.len());
                let from = start.and_then(|start| bytes[start..].get(..buffer.len()));
                buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Up to `len` bytes from `at`: fewer at the end.
    pub(super) fn read_some(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let len = self.len().saturating_sub(at).min(len as u64) as usize;
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }
}
