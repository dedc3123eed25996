//! The memory of another program, lent by the edge.

use crate::model::Text;

/// One of several reads that are made together.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// Where the bytes go; its length is how many.
    pub buffer: &'a mut [u8],
    /// Whether all of them were read.
    pub read: bool,
}

/// The memory of another program.
pub trait Memory {
    /// Fills `buffer` with the bytes from `address` on. False when not all of them can be read;
    /// the buffer then holds anything.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Makes several reads in their order, which costs less than one by one, and marks those
    /// that succeeded.
    fn read_many(&self, pieces: &mut [Piece<'_>]) {
        for piece in pieces {
            piece.read = self.read(piece.address, piece.buffer);
        }
    }
}

/// Bytes of a C string read at a time.
const CHUNK: usize = 64;

/// Reads of single values, for every [`Memory`].
pub trait MemoryExt: Memory {
    /// Little-endian 64 bits.
    fn u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// Little-endian 32 bits.
    fn u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    /// Exactly `length` bytes.
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes).then_some(bytes)
    }

    /// The bytes before the first NUL, at most `longest` of them: what is longer is cut off.
    fn c_string(&self, address: u64, longest: usize) -> Option<Text> {
        let mut found = Vec::new();
        let mut buffer = [0; CHUNK];
        while found.len() < longest {
            let at = address.checked_add(found.len() as u64)?;
            // No read crosses a multiple of its size, hence a page that may not be there.
            let length = (CHUNK - at as usize % CHUNK).min(longest - found.len());
            let some = &mut buffer[..length];
            self.read(at, some).then_some(())?;
            if let Some(end) = some.iter().position(|&byte| byte == 0) {
                found.extend_from_slice(&some[..end]);
                break;
            }
            found.extend_from_slice(some);
        }
        Some(Text::new(found))
    }
}

impl<M: Memory + ?Sized> MemoryExt for M {}

/// Little-endian 64 bits at an offset of what was read.
pub(super) fn u64_in(bytes: &[u8], at: u32) -> Option<u64> {
    let at = at as usize;
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// Little-endian 32 bits at an offset of what was read.
pub(super) fn u32_in(bytes: &[u8], at: u32) -> Option<u32> {
    let at = at as usize;
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}
