//! Which release of CPython it is.

use std::fmt;

/// A release of CPython 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// 11 of 3.11.7.
    pub minor: u8,
    /// 7 of 3.11.7; `None` where only a file name tells the version.
    pub micro: Option<u8>,
    /// True for alphas, betas and release candidates.
    pub pre_release: bool,
}

/// Level of a final release in `PY_VERSION_HEX`.
const FINAL: u64 = 0xf;

impl Version {
    /// From `PY_VERSION_HEX`: the value of the symbol `Py_Version` (3.11 and later) and the
    /// second word of `_PyRuntime` (3.13 and later). `0x030b07f0` is 3.11.7.
    pub fn from_hex(hex: u64) -> Option<Self> {
        let [0, 0, 0, 0, 3, minor, micro, level] = hex.to_be_bytes() else { return None };
        let pre_release = u64::from(level >> 4) != FINAL;
        Some(Self { minor, micro: Some(micro), pre_release })
    }

    /// From what `Py_GetVersion` returns: `3.11.7 (main, ...) [GCC ...]`.
    pub fn from_text(text: &str) -> Option<Self> {
        let (minor, rest) = number(text.strip_prefix("3.")?)?;
        let (micro, rest) = number(rest.strip_prefix('.')?)?;
        let pre_release = rest.starts_with(['a', 'b', 'r']);
        Some(Self { minor, micro: Some(micro), pre_release })
    }

    /// From the name of a program or library: `python3.9`, `libpython3.9.so.1.0`,
    /// `libpython3.13t.so`. `python3` says too little.
    pub fn from_file_name(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let name = name.strip_prefix("lib").unwrap_or(name);
        let (minor, rest) = number(name.strip_prefix("python3.")?)?;
        // Builds with and without debugging, the free-threaded one, and the parts of a library.
        let rest = rest.trim_start_matches(['d', 'm', 't', 'u']);
        let known = rest.is_empty() || rest.starts_with('.') || rest.starts_with('-');
        known.then_some(Self { minor, micro: None, pre_release: false })
    }
}

fn number(text: &str) -> Option<(u8, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.minor)?;
        if let Some(micro) = self.micro {
            write!(f, ".{micro}")?;
        }
        if self.pre_release { f.write_str(" (a pre-release)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_each_source() {
        let found = |minor, micro| Some(Version { minor, micro, pre_release: false });
        assert_eq!(Version::from_hex(0x030b_07f0), found(11, Some(7)));
        assert!(Version::from_hex(0x030e_00a4).is_some_and(|version| version.pre_release));
        for hex in [0, 0x020b_07f0, 0x1_030b_07f0, u64::MAX] {
            assert_eq!(Version::from_hex(hex), None, "{hex:#x}");
        }
        assert_eq!(Version::from_text("3.10.13 (main) [GCC 12.2.0]"), found(10, Some(13)));
        assert!(Version::from_text("3.14.0rc2 (main)").is_some_and(|version| version.pre_release));
        for (name, minor) in [
            ("/usr/bin/python3.9", 9),
            ("/usr/lib/x86_64-linux-gnu/libpython3.12.so.1.0", 12),
            ("libpython3.13t.so", 13),
            ("python3.8-dbg", 8),
        ] {
            assert_eq!(Version::from_file_name(name), found(minor, None), "{name}");
        }
        for name in ["python3", "/usr/bin/python", "libpython3.so", "python3.9x", "python3.999", ""]
        {
            assert_eq!(Version::from_file_name(name), None, "{name}");
        }
    }
}
