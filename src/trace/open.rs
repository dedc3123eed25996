//! Why something cannot be opened as a trace, said so that the next step is clear.

use super::layout::FILE_HEADER;
use super::layout::FILE_MAGIC;
use super::layout::FORMAT_VERSION;
use super::store::Store;
use std::io;

/// Why there is no trace to read. Each message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot read {name}: {source}; `timesink run -- COMMAND` records a trace")]
    Unreadable {
        /// What was opened.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory.
    #[error("{name} is a directory; name the trace in it, for instance {name}/trace.timesink")]
    Directory {
        /// What was opened.
        name: String,
    },
    /// It is a pipe, terminal or device.
    #[error("{name} is not a regular file, and a trace is read at many places; save it first")]
    NotAFile {
        /// What was opened.
        name: String,
    },
    /// It has no bytes.
    #[error(
        "{name} is empty: the recorder was stopped before it wrote anything; record again with `timesink run -- COMMAND`"
    )]
    Empty {
        /// What was opened.
        name: String,
    },
    /// It is something else.
    #[error("{name} is not a trace of timesink: {looks}")]
    NotATrace {
        /// What was opened.
        name: String,
        /// What it looks like, and what reads that.
        looks: &'static str,
    },
    /// A newer timesink wrote it.
    #[error(
        "{name} has trace format {found}, and this timesink ({}) reads formats up to {FORMAT_VERSION}; \
         update timesink, or read it with the version that recorded it",
        env!("CARGO_PKG_VERSION")
    )]
    FutureVersion {
        /// What was opened.
        name: String,
        /// The format's version in the file.
        found: u32,
    },
    /// Nothing says what was recorded.
    #[error(
        "{name} is a trace, but the part that says what was recorded is missing or damaged{detail}; copy the file again from where it was recorded, or record again"
    )]
    NoInfo {
        /// What was opened.
        name: String,
        /// What is known of the damage, beginning with ": ", or empty.
        detail: String,
    },
}

/// Checks the file header.
pub(super) fn check(name: &str, store: &Store) -> Result<(), OpenError> {
    let unreadable = |source| OpenError::Unreadable { name: name.to_owned(), source };
    let head = store.read_some(0, 512).map_err(unreadable)?;
    let name = name.to_owned();
    if head.is_empty() {
        return Err(OpenError::Empty { name });
    }
    if !head.starts_with(&FILE_MAGIC) {
        return Err(OpenError::NotATrace { name, looks: looks_like(&head) });
    }
    let Some(version) = head.get(8..12) else {
        return Err(OpenError::NoInfo { name, detail: ": it ends inside its first bytes".into() });
    };
    match u32::from_le_bytes([version[0], version[1], version[2], version[3]]) {
        0 => Err(OpenError::NotATrace {
            name,
            looks: "its header is damaged (format 0); copy it again",
        }),
        1..=FORMAT_VERSION if head.len() >= FILE_HEADER => Ok(()),
        1..=FORMAT_VERSION => {
            Err(OpenError::NoInfo { name, detail: ": it ends inside its first bytes".into() })
        }
        found => Err(OpenError::FutureVersion { name, found }),
    }
}

/// First bytes of files that people have lying beside a trace.
const KNOWN: &[(&[u8], &str)] = &[
    (b"PERFILE2", "it looks like perf.data; record the command with `timesink run -- COMMAND`"),
    (b"\x7fELF", "it looks like a program; record it with `timesink run -- FILE`"),
    (b"#!", "it looks like a script; record it with `timesink run -- FILE`"),
    (b"\x1f\x8b", "it looks like a gzip archive; unpack it first (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "it looks like a zstd archive; unpack it first (unzstd)"),
    (b"\xfd7zXZ\0", "it looks like an xz archive; unpack it first (unxz)"),
    (b"BZh", "it looks like a bzip2 archive; unpack it first (bunzip2)"),
    (b"PK\x03\x04", "it looks like a zip archive; unpack it first (unzip)"),
    (b"<?xml", "it looks like SVG or XML, such as a flame graph; open that in a browser"),
    (b"<svg", "it looks like SVG, such as a flame graph; open that in a browser"),
    (b"<!", "it looks like HTML, such as report.html; open that in a browser"),
    (b"<html", "it looks like HTML, such as report.html; open that in a browser"),
    (b"{", "it looks like JSON; of what `timesink run` leaves, name trace.timesink"),
    (b"[", "it looks like JSON; of what `timesink run` leaves, name trace.timesink"),
];

fn looks_like(head: &[u8]) -> &'static str {
    const NAME_IT: &str = "of what `timesink run` leaves, name trace.timesink";
    let text = head.trim_ascii_start();
    let known = KNOWN.iter().find(|(magic, _)| head.starts_with(magic) || text.starts_with(magic));
    if let Some((_, looks)) = known {
        return looks;
    }
    if head.get(257..262) == Some(b"ustar") {
        return "it looks like a tar archive; unpack it first (tar xf)";
    }
    // A Perfetto trace is a protobuf whose first field is number 1, length-delimited.
    if head[0] == 0x0a {
        return "it may be a Perfetto trace (open that at ui.perfetto.dev); \
                of what `timesink run` leaves, name trace.timesink";
    }
    if head.starts_with(&FILE_MAGIC[..head.len().min(FILE_MAGIC.len())]) {
        return "it ends inside its first bytes; record again with `timesink run -- COMMAND`";
    }
    if head.iter().all(|&byte| byte == 0) {
        return "it is all zeroes, as after a crash of the machine; record again";
    }
    if std::str::from_utf8(head).is_ok() {
        "it looks like text; of what `timesink run` leaves, name trace.timesink"
    } else {
        NAME_IT
    }
}
