//! Python's own library in frozen programs (`PyInstaller`), which keep no directories: `threading.py`,
//! `asyncio/events.py`. What functions there do is known by where the library's files are.

use crate::model::Text;

/// Stands before the names of such files.
const FROZEN: &str = "[frozen]/lib/python3/";

/// Files and packages of the library that wait, or run a program's work.
const NAMES: &[&str] = &[
    "asyncio",
    "concurrent",
    "contextlib.py",
    "http",
    "importlib",
    "logging",
    "multiprocessing",
    "pickle.py",
    "queue.py",
    "runpy.py",
    "sched.py",
    "selectors.py",
    "signal.py",
    "socket.py",
    "socketserver.py",
    "sqlite3",
    "ssl.py",
    "subprocess.py",
    "tempfile.py",
    "threading.py",
    "urllib",
];

/// The name of a file, with the directory that the library has elsewhere.
pub(super) fn placed(file: Text) -> Text {
    let bytes = file.as_bytes();
    let first = bytes.split(|&byte| byte == b'/').next().unwrap_or_default();
    let is_frozen = bytes.ends_with(b".py") && NAMES.iter().any(|name| name.as_bytes() == first);
    if is_frozen { Text::from(format!("{FROZEN}{file}").as_str()) } else { file }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_library_without_directories_are_placed() {
        let of = |file: &str| placed(Text::from(file)).to_string();
        assert_eq!(of("threading.py"), "[frozen]/lib/python3/threading.py");
        assert_eq!(of("asyncio/events.py"), "[frozen]/lib/python3/asyncio/events.py");
        for other in ["/usr/lib/python3.11/threading.py", "app.py", "my/threading.py", "threading"]
        {
            assert_eq!(of(other), other);
        }
    }
}
