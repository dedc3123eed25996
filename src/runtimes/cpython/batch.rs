//! Several reads made together, into memory that is used again.

use std::ops::Range;

use super::super::memory::Piece;
use super::Memory;

/// Several reads made together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    used: usize,
    parts: Vec<(u64, Range<usize>, bool)>,
}

impl Batch {
    pub fn clear(&mut self) {
        self.used = 0;
        self.parts.clear();
    }

    /// Asks for `length` bytes at `address`; gives the number to ask for the result with.
    pub fn want(&mut self, address: u64, length: usize) -> usize {
        let start = self.used;
        self.used += length;
        self.parts.push((address, start..self.used, false));
        self.parts.len() - 1
    }

    /// Makes the reads that were asked for.
    pub fn read(&mut self, memory: &dyn Memory) {
        if self.bytes.len() < self.used {
            self.bytes.resize(self.used, 0);
        }
        let mut rest = self.bytes.as_mut_slice();
        let mut pieces = Vec::with_capacity(self.parts.len());
        for (address, range, _) in &self.parts {
            let (buffer, behind) = rest.split_at_mut(range.len());
            rest = behind;
            pieces.push(Piece { address: *address, buffer, read: false });
        }
        memory.read_many(&mut pieces);
        let read: Vec<bool> = pieces.into_iter().map(|piece| piece.read).collect();
        for (part, read) in self.parts.iter_mut().zip(read) {
            part.2 = read;
        }
    }

    /// What a read gave.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let (_, range, read) = self.parts.get(number)?;
        read.then(|| self.bytes.get(range.clone()))?
    }
}
