//! `report.json`: the report, field for field (schema in `docs/FORMAT.md`).

use crate::analysis::Report;
use std::io;
use std::io::Write;

/// Writes the report as indented JSON with a final newline.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    out.write_all(b"\n")
}
