//! Folded stacks, the text that flame graph tools read: `process;thread;frame;... nanoseconds`.

use super::paths::Paths;
use crate::analysis::StackKind;
use crate::analysis::StackTime;
use crate::analysis::stacks_of;
use crate::model::Trace;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::io::Write;

/// Writes one line per distinct stack, sorted, with its time in ns.
///
/// Threads of equal process and thread name share lines, so that a pool of workers makes one
/// flame and runs can be compared. Off-CPU and wall lines end with the state, `[lock]`.
/// Kernel frames end with `_[k]`; time without a stack stands at `[no stack]`; `;` inside a
/// name is written `\x3b`.
pub fn write(trace: &dyn Trace, kind: StackKind, out: &mut dyn Write) -> io::Result<()> {
    let (fold, timelines) = stacks_of(trace);
    let mut paths = Paths::new(trace.symbols(), &timelines);
    for (stack, ns) in fold_lines(&mut paths, &fold.rows(kind), kind) {
        writeln!(out, "{stack} {ns}")?;
    }
    Ok(())
}

/// The lines without their values, and the values, ns.
pub(super) fn fold_lines(
    paths: &mut Paths,
    rows: &[StackTime],
    kind: StackKind,
) -> BTreeMap<String, u64> {
    let mut escaped: Vec<String> = Vec::new();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let path = paths.path(row, kind);
        for name in &paths.names()[escaped.len()..] {
            escaped.push(escape(name));
        }
        let mut line = String::new();
        for id in path {
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&escaped[id as usize]);
        }
        let time = lines.entry(line).or_default();
        *time = time.saturating_add(row.time.0);
    }
    lines
}

/// A name without what means something in a folded line: the separator, blanks at the ends,
/// a leading `#` (a comment to some tools), a last word of digits (a second value to some).
fn escape(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    let last_word = name.rfind(' ').filter(|&at| {
        let word = &name[at + 1..];
        !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.')
    });
    let ends = name.len() - name.trim_end().len();
    for (at, c) in name.char_indices() {
        let at_end = c.is_whitespace() && (at >= name.len() - ends || shown.is_empty());
        let hidden = c == ';' || c.is_control() || (c == '#' && at == 0) || Some(at) == last_word;
        if (hidden || at_end) && c.is_ascii() {
            let _ = write!(shown, "\\x{:02x}", c as u32);
        } else if at_end || hidden {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_cannot_break_a_line() {
        for (name, shown) in [
            ("main", "main"),
            ("<T as Into<[u8; 8]>>::into", "<T as Into<[u8\\x3b 8]>>::into"),
            ("two\nlines", "two\\x0alines"),
            ("# remark", "\\x23 remark"),
            ("worker 12", "worker\\x2012"),
            (" padded ", "\\x20padded\\x20"),
            ("tokio worker", "tokio worker"),
        ] {
            assert_eq!(escape(name), shown);
        }
    }
}
