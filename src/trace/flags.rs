//! The bits in front of a record, format 1.

/// Interval: the thread is new in this chunk, its tid follows.
pub(super) const NEW_THREAD: u16 = 1;
/// Interval: `woken` follows.
pub(super) const WOKEN: u16 = 1 << 1;
/// Interval: both CPUs follow; otherwise they are those of the thread's last interval.
pub(super) const CPUS: u16 = 1 << 2;
/// Interval: marks follow; otherwise they are those of the thread's last interval.
pub(super) const MARKS: u16 = 1 << 3;
/// Interval: two bits, how the call is written (see [`super::recent`]).
pub(super) const CALL_SHIFT: u16 = 4;
/// Interval: two bits, how the waker is written.
pub(super) const WAKER_SHIFT: u16 = 6;
/// Interval: two bits, who took the CPU.
pub(super) const TAKER_SHIFT: u16 = 8;
/// Interval and gap: two bits, its number.
pub(super) const SEQUENCE_SHIFT: u16 = 10;
/// Interval: three bits, how the thread left the CPU.
pub(super) const LEFT_SHIFT: u16 = 12;
/// It is a gap, not an interval.
pub(super) const GAP: u16 = 1 << 15;

/// Taker: not seen.
pub(super) const TAKER_ABSENT: u16 = 0;
/// Taker: as for the thread's last interval that had one (0, the idle task, at first).
pub(super) const TAKER_LAST: u16 = 1;
/// Taker: the idle task.
pub(super) const TAKER_IDLE: u16 = 2;
/// Taker: a delta follows.
pub(super) const TAKER_OTHER: u16 = 3;

/// Number: none.
pub(super) const SEQUENCE_ABSENT: u16 = 0;
/// Number: one after the thread's last (modulo 2^32, from 0).
pub(super) const SEQUENCE_NEXT: u16 = 1;
/// Number: a delta follows.
pub(super) const SEQUENCE_OTHER: u16 = 2;

/// Marks: bits in their order in [`Marks`](crate::model::Marks).
pub(super) const MARK_REASON_SEEN: u8 = 1;
pub(super) const MARK_OPEN: u8 = 2;
pub(super) const MARK_RECOVERED: u8 = 4;
pub(super) const MARK_SAMPLED: u8 = 8;

/// Call: which fields differ from the call before.
pub(super) const CALL_NUMBER: u8 = 1;
pub(super) const CALL_ARG0: u8 = 2;
pub(super) const CALL_ARG1: u8 = 4;
pub(super) const CALL_ARG2: u8 = 8;
pub(super) const CALL_FD: u8 = 16;
pub(super) const CALL_INODE: u8 = 32;
pub(super) const CALL_DEVICE: u8 = 64;

/// Waker: its tid differs from the waker before.
pub(super) const WAKER_TID: u8 = 1;
/// Waker: its call differs.
pub(super) const WAKER_CALL: u8 = 2;
/// Waker: its argument differs.
pub(super) const WAKER_ARG0: u8 = 4;
/// Waker: it belongs to the tree.
pub(super) const WAKER_IN_TREE: u8 = 8;
/// Waker: it was in a call.
pub(super) const WAKER_IN_CALL: u8 = 16;
/// Waker: two bits, its context.
pub(super) const WAKER_CONTEXT_SHIFT: u8 = 5;

/// Chunk of samples: two bits, which kind of record.
pub(super) const SAMPLE: u8 = 0;
pub(super) const WAIT_STACK: u8 = 1;
pub(super) const OBSERVATION: u8 = 2;
/// Sample: in the kernel. Observation: uninterruptible.
pub(super) const IN_KERNEL: u8 = 1 << 2;
/// A stack follows.
pub(super) const HAS_STACK: u8 = 1 << 3;
/// A weight follows; otherwise it is the last one. Observation: the call could be read.
pub(super) const HAS_WEIGHT: u8 = 1 << 4;
pub(super) const CALL_READ: u8 = 1 << 4;
/// Sample: a CPU follows; otherwise it is the last one.
pub(super) const HAS_CPU: u8 = 1 << 5;
/// Wait stack and observation: two bits, how the call is written.
pub(super) const SAMPLE_CALL_SHIFT: u8 = 6;

/// Chunk of starts and exits: four bits, which kind of record.
pub(super) const START: u8 = 0;
pub(super) const EXEC: u8 = 1;
pub(super) const RENAME: u8 = 2;
pub(super) const EXIT: u8 = 3;
pub(super) const OBJECT: u8 = 4;
pub(super) const LOST: u8 = 5;
pub(super) const WORD: u8 = 6;
pub(super) const RUNTIME: u8 = 7;
pub(super) const PIPED: u8 = 8;
pub(super) const MOVED: u8 = 9;
pub(super) const NAMED: u8 = 10;
/// Four bits of detail: kind of start, kind of exit, whether a CPU or what is shared is known.
pub(super) const DETAIL_SHIFT: u8 = 4;

/// Exit: the thread alone, its whole process, or alive.
pub(super) const EXIT_THREAD: u8 = 0;
pub(super) const EXIT_PROCESS: u8 = 1;
pub(super) const EXIT_ALIVE: u8 = 2;

/// Chunk of probe events: which kind of record.
pub(super) const ENTER: u8 = 0;
pub(super) const LEAVE: u8 = 1;
pub(super) const INSTANT: u8 = 2;

/// Chunk of definitions: two bits, which kind of record.
pub(super) const MODULE: u8 = 0;
pub(super) const FRAME: u8 = 1;
pub(super) const STACK: u8 = 2;
pub(super) const NAMES: u8 = 3;
/// Frame: its module follows. Stack: its parent follows.
pub(super) const HAS_PARENT: u8 = 1 << 2;
/// Line: a file follows.
pub(super) const HAS_FILE: u8 = 1;
/// Line: a line number follows.
pub(super) const HAS_LINE: u8 = 2;
