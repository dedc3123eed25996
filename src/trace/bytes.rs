//! Varints, zigzag deltas and interned strings: what every record is made of.

#[allow(clippy::disallowed_types)]
// look-ups only, of names that others choose: the default hasher resists them
use std::collections::HashMap;

/// Content that no writer makes. Carries what was being read, for [`Damage`](crate::model::Damage).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// Most bytes of one record once its strings are spelled out, [`ELEMENT`] added for each. The
/// kernel's own limit for the arguments of an exec is 6 MiB with their pointers, under 8 MiB here.
pub(super) const RECORD_LIMIT: usize = 14 << 20;

/// What each string or list element counts against [`RECORD_LIMIT`] besides its bytes.
pub(super) const ELEMENT: usize = 12;

/// The body of a chunk being written.
#[derive(Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    #[allow(clippy::disallowed_types)] // as above
    strings: HashMap<Box<[u8]>, u64>,
}

impl Out {
    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Seven bits a byte, lowest first, top bit set on all but the last.
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The difference modulo 2^64, small whichever sign it has.
    pub(super) fn delta(&mut self, value: u64, reference: u64) {
        let difference = value.wrapping_sub(reference) as i64;
        self.varint(((difference << 1) ^ (difference >> 63)) as u64);
    }

    /// A string: 0, length and bytes the first time in this chunk, its number (from 1) after that.
    pub(super) fn string(&mut self, string: &[u8]) {
        if let Some(&number) = self.strings.get(string) {
            self.varint(number);
            return;
        }
        self.strings.insert(string.into(), self.strings.len() as u64 + 1);
        self.varint(0);
        self.varint(string.len() as u64);
        self.bytes.extend_from_slice(string);
    }
}

/// The body of a chunk being read. Total: every read is checked.
#[derive(Default)]
pub(super) struct In {
    bytes: Vec<u8>,
    at: usize,
    /// Where the strings that were spelled out stand.
    strings: Vec<(u32, u32)>,
    /// What is left of [`RECORD_LIMIT`].
    budget: usize,
}

impl In {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0, strings: Vec::new(), budget: RECORD_LIMIT }
    }

    /// Begins a record: its strings are counted from here.
    pub(super) fn begin_record(&mut self) {
        self.budget = RECORD_LIMIT;
    }

    /// What the record spelled out since [`In::begin_record`].
    pub(super) fn record_weight(&self) -> usize {
        RECORD_LIMIT - self.budget
    }

    /// Counts one list element or string of `len` bytes against the record's limit. Without
    /// it a list of references to one long string would be a bomb.
    pub(super) fn spend(&mut self, len: usize) -> Result<(), Malformed> {
        let left = len.checked_add(ELEMENT).and_then(|cost| self.budget.checked_sub(cost));
        self.budget = left.ok_or(Malformed("a record is too large"))?;
        Ok(())
    }

    /// Whether all of it was read.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed("it ends inside a record"))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(Malformed("a number has more than 64 bits"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Malformed("a number has more than 64 bits"));
            }
        }
    }

    pub(super) fn varint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("a number has more than 32 bits"))
    }

    pub(super) fn varint_u16(&mut self) -> Result<u16, Malformed> {
        u16::try_from(self.varint()?).map_err(|_| Malformed("a number has more than 16 bits"))
    }

    #[inline]
    pub(super) fn delta(&mut self, reference: u64) -> Result<u64, Malformed> {
        let zigzag = self.varint()?;
        let difference = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        Ok(reference.wrapping_add(difference))
    }

    /// A delta between two values of 32 bits, as [`Out::delta`] of them widened wrote it.
    pub(super) fn delta_u32(&mut self, reference: u32) -> Result<u32, Malformed> {
        let value = self.delta(u64::from(reference))?;
        u32::try_from(value).map_err(|_| Malformed("a number has more than 32 bits"))
    }

    pub(super) fn string(&mut self) -> Result<&[u8], Malformed> {
        let number = self.varint()? as usize;
        let (start, len) = if number == 0 {
            let len = self.varint()?;
            let left = self.bytes.len() - self.at;
            if len > left as u64 {
                return Err(Malformed("a string is longer than its chunk"));
            }
            let range = (self.at as u32, len as u32);
            self.strings.push(range);
            self.at += len as usize;
            range
        } else {
            *self.strings.get(number - 1).ok_or(Malformed("a string was never spelled out"))?
        };
        self.spend(len as usize)?;
        Ok(&self.bytes[start as usize..start as usize + len as usize])
    }

    pub(super) fn utf8(&mut self) -> Result<String, Malformed> {
        let bytes = self.string()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{In, Malformed, Out};

    const EDGES: [u64; 9] = [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 1 << 63, u64::MAX - 1, u64::MAX];

    #[test]
    fn numbers_and_deltas_round_trip_at_the_edges() {
        let mut out = Out::default();
        for value in EDGES {
            out.varint(value);
            for reference in EDGES {
                out.delta(value, reference);
            }
        }
        let mut input = In::new(out.bytes);
        for value in EDGES {
            assert_eq!(input.varint(), Ok(value));
            for reference in EDGES {
                assert_eq!(input.delta(reference), Ok(value));
            }
        }
        assert!(input.byte().is_err());
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut bytes = vec![0xff; 9];
        bytes.push(2);
        let refused = Err(Malformed("a number has more than 64 bits"));
        assert_eq!(In::new(bytes).varint(), refused);
        assert_eq!(In::new(vec![0x80; 11]).varint(), refused);
    }

    #[test]
    fn a_repeated_string_costs_one_byte_and_cannot_become_a_bomb() {
        let mut out = Out::default();
        let long = vec![b'x'; 1 << 20];
        out.string(&long);
        let spelled = out.bytes.len();
        for _ in 0..15 {
            out.string(&long);
        }
        assert_eq!(out.bytes.len(), spelled + 15);
        let mut input = In::new(out.bytes);
        input.begin_record();
        let read = (0..16).take_while(|_| input.string().is_ok()).count();
        assert_eq!(read, 13, "14 MiB and their elements do not fit");
    }
}
