//! Names of generated code: the `perf-PID.map` files that JIT compilers write.

use std::io::Read;
use std::path::PathBuf;

use crate::model::Pid;

use super::files;

/// Larger map files are read up to here.
const MAX_BYTES: u64 = 16 << 20;

/// A map of generated code: start, end, name; sorted by start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PerfMap(Vec<(u64, u64, String)>);

/// Where a process's map may be. It is named by the id that the process has in its own namespace.
fn paths(pid: Pid) -> Vec<PathBuf> {
    #[allow(clippy::disallowed_methods)] // a small file of /proc
    let status = std::fs::read(format!("/proc/{}/status", pid.0)).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let ids = status.lines().find_map(|line| line.strip_prefix("NStgid:"));
    let inner = ids.and_then(|ids| ids.split_ascii_whitespace().last()?.parse().ok());
    let inner: u32 = inner.unwrap_or(pid.0);
    vec![
        format!("/proc/{}/root/tmp/perf-{inner}.map", pid.0).into(),
        format!("/tmp/perf-{}.map", pid.0).into(),
    ]
}

impl PerfMap {
    /// Whether a process has one.
    pub fn exists(pid: Pid) -> bool {
        paths(pid).iter().any(|path| files::open_regular(path).is_some())
    }

    /// Reads the map of a process.
    pub fn of(pid: Pid) -> Option<Self> {
        let (file, _) = paths(pid).iter().find_map(|path| files::open_regular(path))?;
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&text)))
    }

    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let mut fields = line.splitn(3, ' ');
            let mut hex = || u64::from_str_radix(fields.next()?.trim_start_matches("0x"), 16).ok();
            let (start, size) = (hex()?, hex()?);
            Some((start, start.checked_add(size)?, fields.next()?.trim().to_owned()))
        };
        let mut entries: Vec<_> = text.lines().filter_map(entry).collect();
        // Stable: of code that was generated twice at one place, the newer stays behind.
        entries.sort_by_key(|e| e.0);
        Self(entries)
    }

    /// The name of the code at an address.
    pub fn find(&self, address: u64) -> Option<&str> {
        let after = self.0.partition_point(|e| e.0 <= address);
        let entry = self.0.get(after.checked_sub(1)?)?;
        (address < entry.1).then_some(entry.2.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_code_at_a_place_names_it() {
        let map = PerfMap::parse("1000 10 old name\n0x2000 20 b\nrubbish\n1000 10 new name\n");
        assert_eq!(map.find(0x100f), Some("new name"));
        assert_eq!(map.find(0x1010), None);
        assert_eq!(map.find(0x2000), Some("b"));
        assert_eq!(map.find(0xfff), None);
    }
}
