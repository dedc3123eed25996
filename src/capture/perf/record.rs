//! Bytes of a perf ring to records. Layouts as `man perf_event_open` gives them for the
//! fields that `sys/perf_event.rs` asks for. Any bytes give a record or `None`.

use crate::model::Left;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Text;
use crate::model::Tid;
use crate::symbols::Mapping;
use crate::symbols::RawStack;
use crate::symbols::Registers;
use perf_event_open_sys::bindings;

/// One record, and where and when it was written.
#[derive(Debug)]
pub struct Raw {
    /// When.
    pub time: Nanos,
    /// The thread that was current.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// The CPU.
    pub cpu: u16,
    /// What.
    pub what: What,
}

/// What a record says.
#[derive(Debug)]
pub enum What {
    /// The thread got the CPU.
    In,
    /// The thread left the CPU.
    Out {
        /// It was ready to go on.
        preempted: bool,
    },
    /// A task was made. Boxed, like all that is rare: switches come a million times a second.
    Fork(Task),
    /// A task ended.
    Exit(Task),
    /// A thread changed its name, by exec or otherwise.
    Comm(Box<Comm>),
    /// A file was mapped executable.
    Map(Box<Mapping>),
    /// A CPU sample.
    Sample(Box<Sample>),
    /// Records of any kind did not fit into the ring before this one.
    Lost(u64),
    /// The kernel stopped sampling for a moment: it found it too dear.
    Throttled,
    /// No record of the kernel: a thread that ran already is seen from this time on.
    Found(Box<Found>),
}

/// What `/proc` said of a thread right after its events were opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The parent of its process.
    pub parent: Pid,
    /// How it had left the CPU; `None`: it ran, or was ready to.
    pub left: Option<Left>,
    /// When that was looked at. A switch before says better.
    pub looked: Nanos,
}

/// A task of a fork or exit record.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its process.
    pub pid: Pid,
    /// The process of the thread that made it.
    pub ppid: Pid,
    /// The task.
    pub tid: Tid,
    /// The thread that made it.
    pub ptid: Tid,
}

/// A new name.
#[derive(Debug)]
pub struct Comm {
    /// Whether an exec gave it.
    pub exec: bool,
    /// The name.
    pub name: Text,
    /// Program and arguments, when they could be read from `/proc` soon after an exec.
    pub command: Option<(Text, Vec<Text>)>,
}

/// A CPU sample.
#[derive(Debug)]
pub struct Sample {
    /// Whether it hit kernel code.
    pub kernel: bool,
    /// The stack.
    pub stack: RawStack,
}

/// Takes fields off the front of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
    fn word(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_ne_bytes)
    }
    fn half(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }
    /// The rest up to its first NUL.
    fn string(&self) -> Text {
        Text::from_c(self.0)
    }
}

/// Bytes of pid, tid, time and cpu behind every record but samples.
const TRAILER: usize = 24;

/// Reads one record. `None` for kinds we do not use and for bytes that are no record.
pub fn parse(kind: u32, misc: u16, body: &[u8]) -> Option<Raw> {
    if kind == bindings::PERF_RECORD_SAMPLE {
        return sample(misc, Fields(body));
    }
    let (body, trailer) = body.split_at_checked(body.len().checked_sub(TRAILER)?)?;
    let mut id = Fields(trailer);
    let (pid, tid) = (Pid(id.half()?), Tid(id.half()?));
    let (time, cpu) = (Nanos(id.word()?), id.half()? as u16);
    let mut fields = Fields(body);
    let flag = |bit: u32| u32::from(misc) & bit != 0;
    let mut at = (pid, tid);
    let what = match kind {
        bindings::PERF_RECORD_SWITCH if flag(bindings::PERF_RECORD_MISC_SWITCH_OUT) => {
            What::Out { preempted: flag(bindings::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) }
        }
        bindings::PERF_RECORD_SWITCH => What::In,
        bindings::PERF_RECORD_FORK => What::Fork(task(&mut fields)?),
        bindings::PERF_RECORD_EXIT => What::Exit(task(&mut fields)?),
        bindings::PERF_RECORD_COMM => {
            at = (Pid(fields.half()?), Tid(fields.half()?));
            let exec = flag(bindings::PERF_RECORD_MISC_COMM_EXEC);
            What::Comm(Box::new(Comm { exec, name: fields.string(), command: None }))
        }
        bindings::PERF_RECORD_MMAP2 => {
            let has_build_id = flag(bindings::PERF_RECORD_MISC_MMAP_BUILD_ID);
            What::Map(Box::new(mapping(fields, has_build_id)?))
        }
        bindings::PERF_RECORD_LOST => {
            fields.word()?;
            What::Lost(fields.word()?)
        }
        bindings::PERF_RECORD_THROTTLE => What::Throttled,
        _ => return None,
    };
    Some(Raw { time, tid: at.1, pid: at.0, cpu, what })
}

fn task(fields: &mut Fields<'_>) -> Option<Task> {
    let (pid, ppid) = (Pid(fields.half()?), Pid(fields.half()?));
    Some(Task { pid, ppid, tid: Tid(fields.half()?), ptid: Tid(fields.half()?) })
}

fn mapping(mut fields: Fields<'_>, has_build_id: bool) -> Option<Mapping> {
    let pid = Pid(fields.half()?);
    let _tid = fields.half()?;
    let start = fields.word()?;
    let end = start.checked_add(fields.word()?)?;
    let file_offset = fields.word()?;
    let id = fields.take(24)?;
    let _protection_and_flags = fields.word()?;
    let (identity, build_id) = if has_build_id {
        let len = usize::from(id[0]).min(20);
        ((0, 0), id[4..4 + len].to_vec())
    } else {
        let mut id = Fields(id);
        let (major, minor) = (id.half()?, id.half()?);
        ((libc::makedev(major, minor), id.word()?), Vec::new())
    };
    Some(Mapping { pid, start, end, file_offset, path: fields.string(), identity, build_id })
}

/// Addresses this high in a call chain are markers that say what follows (`PERF_CONTEXT_*`).
const CONTEXT_MARKERS: u64 = -4095_i64 as u64;
const CONTEXT_KERNEL: u64 = -128_i64 as u64;
const CONTEXT_USER: u64 = -512_i64 as u64;

fn sample(misc: u16, mut fields: Fields<'_>) -> Option<Raw> {
    let kernel = u32::from(misc) & bindings::PERF_RECORD_MISC_CPUMODE_MASK
        == bindings::PERF_RECORD_MISC_KERNEL;
    let _ip = fields.word()?;
    let (pid, tid) = (Pid(fields.half()?), Tid(fields.half()?));
    let time = Nanos(fields.word()?);
    let cpu = fields.word()? as u16;
    let mut stack = RawStack { pid, ..RawStack::default() };
    let mut context = if kernel { CONTEXT_KERNEL } else { CONTEXT_USER };
    for _ in 0..fields.word()? {
        match fields.word()? {
            marker if marker >= CONTEXT_MARKERS => context = marker,
            address if context == CONTEXT_KERNEL => stack.kernel.push(address),
            address if context == CONTEXT_USER => stack.chain.push(address),
            _ => {}
        }
    }
    // ABI 0: no user registers (a kernel thread, or on its way out of exec).
    if fields.word()? != 0 {
        let (fp, sp, ip) = (fields.word()?, fields.word()?, fields.word()?);
        stack.registers = Some(Registers { ip, sp, fp: Some(fp) });
    }
    let asked = usize::try_from(fields.word()?).ok()?;
    if asked != 0 {
        let bytes = fields.take(asked)?;
        let filled = usize::try_from(fields.word()?).ok()?.min(asked);
        stack.bytes = bytes[..filled].to_vec();
    }
    let what = What::Sample(Box::new(Sample { kernel, stack }));
    Some(Raw { time, tid, pid, cpu, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    fn pair(low: u32, high: u32) -> u64 {
        u64::from(high) << 32 | u64::from(low)
    }

    #[test]
    fn a_switch_is_its_trailer() {
        let body = words(&[pair(10, 11), 1_000, 3]);
        let misc = bindings::PERF_RECORD_MISC_SWITCH_OUT as u16;
        let raw = parse(bindings::PERF_RECORD_SWITCH, misc, &body).expect("whole record");
        assert_eq!((raw.pid, raw.tid, raw.time, raw.cpu), (Pid(10), Tid(11), Nanos(1_000), 3));
        assert!(matches!(raw.what, What::Out { preempted: false }));
        let raw = parse(bindings::PERF_RECORD_SWITCH, 0, &body).expect("whole record");
        assert!(matches!(raw.what, What::In));
    }

    #[test]
    fn a_sample_splits_its_chain_and_keeps_only_filled_stack() {
        let mut body = words(&[0x99, pair(1, 2), 50, 0]);
        body.extend(words(&[5, CONTEXT_KERNEL, 0xffff_8000, CONTEXT_USER, 0x40, 0x41]));
        body.extend(words(&[2, 0xb0, 0x50, 0x1b]));
        body.extend(words(&[16, 0x1111, 0x2222, 8]));
        let raw = parse(bindings::PERF_RECORD_SAMPLE, 2, &body).expect("whole record");
        let What::Sample(sample) = raw.what else { panic!("a sample") };
        assert_eq!(sample.stack.kernel, [0xffff_8000]);
        assert_eq!(sample.stack.chain, [0x40, 0x41]);
        assert_eq!(sample.stack.bytes, words(&[0x1111]));
        let registers = sample.stack.registers.expect("registers");
        assert_eq!((registers.ip, registers.sp, registers.fp), (0x1b, 0x50, Some(0xb0)));
    }

    #[test]
    fn cut_and_absurd_records_are_refused() {
        let mut body = words(&[0x99, pair(1, 2), 50, 0, 2, CONTEXT_USER, 0x40]);
        body.extend(words(&[2, 1, 2, 3, 16, 7, 7, 16]));
        for kind in 0..25 {
            for end in 0..body.len() {
                // Must not panic; a sample must be whole.
                let raw = parse(kind, 0xffff, &body[..end]);
                assert!(kind != bindings::PERF_RECORD_SAMPLE || raw.is_none(), "{end}");
            }
        }
        let absurd = words(&[0, 0, 0, 0, u64::MAX, 0, 0]);
        assert!(parse(bindings::PERF_RECORD_SAMPLE, 0, &absurd).is_none());
    }
}
