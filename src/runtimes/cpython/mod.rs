//! CPython 3.8 to 3.15, read from outside: who has the GIL, and where each thread is.

mod layout;
mod offsets;
mod tables;
mod unknown;
mod version;

pub use layout::ABSENT;
pub use layout::InstructionForm;
pub use layout::Layout;
pub use layout::LineForm;
pub use unknown::Unknown;
pub use version::Version;
