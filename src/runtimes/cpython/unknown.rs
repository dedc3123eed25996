//! Why an interpreter cannot be read.

use std::fmt;

use super::Version;

/// Why an interpreter cannot be read. Its `Display` is a sentence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// Neither the symbol nor the section of `_PyRuntime` was found.
    NoRuntime,
    /// `_PyRuntime` lies where nothing can be read.
    Unreadable,
    /// Nothing tells which version it is.
    NoVersion,
    /// A version that was never looked at.
    Version(Version),
    /// Its version is one that describes itself, but the description is not there.
    NoCookie(Version),
    /// Two sources tell different versions.
    Disagreement(Version, Version),
    /// A number that the interpreter says of itself makes no sense.
    Offset(&'static str, u64),
    /// There is no interpreter in it: it has not begun, or has ended.
    NotRunning,
    /// What lies at the places that the layout names is not what should lie there.
    Implausible(&'static str),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuntime => f.write_str("no symbol or section of _PyRuntime was found"),
            Self::Unreadable => f.write_str("the memory of _PyRuntime cannot be read"),
            Self::NoVersion => f.write_str("nothing tells the version of this Python"),
            Self::Version(version) => {
                write!(f, "the layout of Python {version} is not known (known: 3.8 to 3.15)")
            }
            Self::NoCookie(version) => {
                write!(f, "Python {version} should describe its own layout, but does not")
            }
            Self::Disagreement(one, other) => {
                write!(f, "one source says that this is Python {one}, another one {other}")
            }
            Self::Offset(what, value) => {
                write!(f, "the interpreter says that its {what} is {value}, which cannot be")
            }
            Self::NotRunning => f.write_str("no interpreter runs in it (yet, or any more)"),
            Self::Implausible(what) => {
                write!(f, "the layout does not fit this build: {what}")
            }
        }
    }
}

impl std::error::Error for Unknown {}
