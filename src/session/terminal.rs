//! What the terminal is like, and the one way to say something on it.

use crate::export::text::Layout;
use std::io::IsTerminal;
use std::io::Write;

/// Says a line on stderr. If that is gone, nobody is there to hear it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The layout for a report, on a terminal or not. `NO_COLOR` is respected.
pub fn layout(on_terminal: bool) -> Layout {
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
    let color = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Layout { width: if on_terminal { width.clamp(60, 160) } else { 100 }, color }
}
