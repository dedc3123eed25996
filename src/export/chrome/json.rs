//! One event at a time into a `dyn Write`, without building a tree.

use crate::model::Nanos;
use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::io::Write;

/// Bytes gathered before they go out.
const BUFFER: usize = 1 << 16;

/// Writes the file. The first error stops all further output and is told at the end.
pub struct Json<'o> {
    out: &'o mut dyn Write,
    buffer: String,
    error: Option<io::Error>,
    bytes: u64,
    /// Events written.
    pub events: u64,
}

impl<'o> Json<'o> {
    /// Opens the file's object.
    pub fn new(out: &'o mut dyn Write) -> Self {
        let buffer = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[".to_owned();
        Self { out, buffer, error: None, bytes: 0, events: 0 }
    }

    /// One event: the members of its object, without braces.
    pub fn event(&mut self, members: fmt::Arguments) {
        self.buffer.push_str(if self.events > 0 { ",\n{" } else { "\n{" });
        self.events += 1;
        // Writing into a String cannot fail.
        let _ = self.buffer.write_fmt(members);
        self.buffer.push('}');
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// Closes the file with `otherData`, and gives its size or the first error there was.
    pub fn finish(mut self, other: &[(&str, String)]) -> io::Result<u64> {
        self.buffer.push_str("\n],\"otherData\":{");
        for (nth, (key, value)) in other.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            let _ = write!(self.buffer, "{comma}\n{}:{}", Quoted(key), Quoted(value));
        }
        self.buffer.push_str("}}\n");
        self.flush();
        self.error.map_or(Ok(self.bytes), Err)
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            self.bytes += self.buffer.len() as u64;
            self.error = self.out.write_all(self.buffer.as_bytes()).err();
        }
        self.buffer.clear();
    }
}

/// A JSON string.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut chars = self.0.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' => f.write_str("\\\"")?,
                // Perfetto v52 takes the quote after `\\\\` for an escaped one, and the file for
                // cut off. Both forms are the same to JSON.
                '\\' if chars.peek().is_none() => f.write_str("\\u005c")?,
                '\\' => f.write_str("\\\\")?,
                c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A time in the format's unit, us, without losing ns.
pub struct Micros(pub Nanos);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.0 / 1000, self.0.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_times_survive() {
        let text = "a\"b\\c\n<script>\u{1f600}\\";
        let quoted = Quoted(text).to_string();
        assert!(quoted.ends_with("\\u005c\""), "{quoted}");
        assert_eq!(serde_json::from_str::<String>(&quoted).expect("valid JSON"), text);
        assert_eq!(Micros(Nanos(1_234_005)).to_string(), "1234.005");
    }

    #[test]
    fn an_empty_file_is_closed() {
        let mut out = Vec::new();
        let bytes = Json::new(&mut out).finish(&[("a", "b".to_owned())]).expect("memory");
        assert_eq!(bytes, out.len() as u64);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(value["otherData"]["a"], "b");
    }
}
