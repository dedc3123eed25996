//! Bytes from outside (names, arguments, paths), kept as they came and shown escaped.

use std::fmt;
use std::fmt::Write as _;

/// A name, argument or path as the kernel gave it: any bytes at all.
///
/// `Display` is safe for a terminal, a log line and every text format: control
/// characters, invalid UTF-8 and line separators come out as `\x1b`, `\n`, `\u{2028}`.
/// Formats with a syntax of their own (JSON, HTML, SVG) escape that on top.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Box<[u8]>);

impl Text {
    /// Keeps `bytes` as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into_boxed_slice())
    }

    /// From a fixed-size C buffer: everything before the first NUL.
    pub fn from_c(buffer: &[u8]) -> Self {
        let end = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
        Self::new(&buffer[..end])
    }

    /// The bytes as recorded.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The part behind the last `/`: a program's name from its path.
    pub fn base_name(&self) -> Self {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        Self::new(&self.0[start..])
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                push_escaped(&mut shown, c)?;
            }
            for byte in chunk.invalid() {
                write!(shown, "\\x{byte:02x}")?;
            }
        }
        f.pad(&shown)
    }
}

/// Appends `c`, or an escape where it would move a cursor, end a line or reorder text.
fn push_escaped(out: &mut String, c: char) -> fmt::Result {
    let hidden = c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        _ if hidden && (c as u32) < 0x80 => write!(out, "\\x{:02x}", c as u32)?,
        _ if hidden => out.extend(c.escape_unicode()),
        _ => out.push(c),
    }
    Ok(())
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn hostile_names_are_shown_escaped_and_kept_whole() {
        let raw = b"a\x1b[31m\n\xff<script>\xe2\x80\xae".to_vec();
        let text = Text::new(raw.clone());
        assert_eq!(text.to_string(), "a\\x1b[31m\\n\\xff<script>\\u{202e}");
        assert_eq!(text.as_bytes(), raw);
    }

    #[test]
    fn a_comm_ends_at_its_first_nul() {
        assert_eq!(Text::from_c(b"sh\0junk").to_string(), "sh");
        assert_eq!(Text::from("/usr/bin/env").base_name().to_string(), "env");
    }
}
