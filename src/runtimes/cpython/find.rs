//! Where an interpreter is in a process.

use super::Version;

/// What is known of a file that a process has mapped. Addresses are those that the file was
/// linked to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Module<'a> {
    /// Its path.
    pub path: &'a str,
    /// How far it lies from where it was linked to, in this process.
    pub bias: u64,
    /// Where it defines `_PyRuntime`, of which everything else is found (`.dynsym` has it, even in stripped builds).
    pub runtime: Option<u64>,
    /// Where its section `.PyRuntime` is, which holds nothing else (since 3.11).
    pub section: Option<u64>,
    /// Where it defines `Py_Version`, the version as a number (since 3.11).
    pub version: Option<u64>,
}

/// Where an interpreter is in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// Address of `Py_Version` (64 bits), if there is one.
    pub version_at: Option<u64>,
    /// What the name of the file says.
    pub version: Option<Version>,
}

impl Place {
    /// In this module, if it has an interpreter.
    pub fn of(module: &Module<'_>) -> Option<Self> {
        let runtime = module.runtime.or(module.section)?;
        Some(Self {
            runtime: runtime.wrapping_add(module.bias),
            version_at: module.version.map(|linked| linked.wrapping_add(module.bias)),
            version: Version::from_file_name(module.path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_is_preferred_to_the_section() {
        let mut module = Module {
            path: "/usr/bin/python3.11",
            bias: 0x1000,
            runtime: Some(0x20),
            section: Some(0x30),
            version: Some(0x40),
        };
        let place = Place::of(&module).expect("found");
        assert_eq!((place.runtime, place.version_at), (0x1020, Some(0x1040)));
        assert_eq!(place.version.map(|version| version.minor), Some(11));
        module.runtime = None;
        assert_eq!(Place::of(&module).map(|place| place.runtime), Some(0x1030));
        module.section = None;
        assert_eq!(Place::of(&module), None);
    }
}
