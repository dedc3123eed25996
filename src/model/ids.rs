//! Identifiers. Kernel ids may repeat within a recording, ours never do.

/// A thread id of the kernel, as seen in the recorder's pid namespace. May be reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tid(pub u32);

/// A process id (thread group id) of the kernel. May be reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Pid(pub u32);

/// One thread of the recording, numbered from 0 in order of appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadId(pub u32);

/// One process of the recording, numbered from 0 in order of appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub u32);

/// A call stack: an index into [`Symbols::stacks`](crate::model::Symbols), which starts at 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StackId(pub u32);

/// A frame: an index into [`Symbols::frames`](crate::model::Symbols).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrameId(pub u32);

/// A binary or library: an index into [`Symbols::modules`](crate::model::Symbols).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModuleId(pub u32);

impl From<Pid> for Tid {
    /// The leader's thread id equals the process id.
    fn from(pid: Pid) -> Self {
        Self(pid.0)
    }
}
