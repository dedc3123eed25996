//! Just enough of protobuf's wire format to write it.

/// A growing message.
#[derive(Default, Debug)]
pub struct Proto(pub Vec<u8>);

impl Proto {
    /// A bare varint, as packed fields hold them.
    pub fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire: u32) {
        self.raw(u64::from(field << 3 | wire));
    }

    /// An integer, bool or enum.
    pub fn int(&mut self, field: u32, value: u64) {
        self.tag(field, 0);
        self.raw(value);
    }

    /// A double.
    pub fn double(&mut self, field: u32, value: f64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes, a string, or a message or packed field made elsewhere.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, 2);
        self.raw(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A string.
    pub fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A message, written in place.
    pub fn nest(&mut self, field: u32, fill: impl FnOnce(&mut Self)) {
        self.tag(field, 2);
        let at = self.0.len();
        self.0.push(0);
        fill(self);
        let length = self.0.len() - at - 1;
        if length < 0x80 {
            self.0[at] = length as u8;
            return;
        }
        // Rarely long: only then its body moves, to make room for a longer length.
        let mut prefix = Self::default();
        prefix.raw(length as u64);
        self.0.splice(at..=at, prefix.0);
    }
}

#[cfg(test)]
mod tests {
    use super::Proto;

    #[test]
    fn writes_the_wire_format() {
        let mut message = Proto::default();
        message.int(1, 300);
        message.nest(2, |inner| inner.text(3, "hi"));
        message.double(4, 1.0);
        let expected = [8, 0xac, 2, 18, 4, 26, 2, b'h', b'i', 33, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        assert_eq!(message.0, expected);
    }

    #[test]
    fn long_messages_get_a_long_length() {
        let mut message = Proto::default();
        message.nest(1, |inner| inner.bytes(1, &[7; 200]));
        assert_eq!(message.0[..6], [10, 0xcb, 1, 10, 0xc8, 1]);
        assert_eq!(message.0.len(), 206);
    }
}
