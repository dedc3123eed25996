//! From the programs' records to the model's events: plain functions, no state.

use crate::model::Books;
use crate::model::Call;
use crate::model::Context;
use crate::model::FdKind;
use crate::model::Gap;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Marks;
use crate::model::Moved;
use crate::model::Nanos;
use crate::model::Text;
use crate::model::Tid;
use crate::model::Waker;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use timesink_bpf::layout;

/// `sched_yield`: giving up the CPU while ready.
const SCHED_YIELD: u16 = 24;

/// A waking on another CPU may carry an earlier time than the switch it belongs to, by less than
/// this. One that is older is left over from a sleep that never came about.
const WAKE_RACE_NS: u64 = 50_000;

/// A finished interval.
pub fn interval(record: &layout::Interval) -> Interval {
    let left = left(record);
    let woken = woken(record, left);
    Interval {
        tid: Tid(record.tid),
        off: Nanos(record.off_ns),
        woken: woken.map(Nanos),
        on: Nanos(record.on_ns.max(record.off_ns)),
        left,
        call: call(record),
        waker: woken.and_then(|_| waker(record)),
        taker: (record.taker != layout::NO_TID).then_some(Tid(record.taker)),
        cpu_off: record.cpu_off,
        cpu_on: record.cpu_on,
        sequence: Some(record.seq),
        marks: Marks {
            reason_seen: left != Left::Unknown,
            open: false,
            recovered: record.flags & layout::INTERVAL_RECOVERED != 0,
            sampled: false,
        },
    }
}

/// An interval that was not finished when the recording ended at `end`.
pub fn open_interval(record: &layout::Interval, end: u64) -> Interval {
    let mut open = *record;
    open.on_ns = end.max(record.off_ns);
    open.cpu_on = record.cpu_off;
    let mut interval = interval(&open);
    interval.marks.open = true;
    interval
}

fn left(record: &layout::Interval) -> Left {
    match record.left {
        layout::LEFT_PREEMPTED if record.call == SCHED_YIELD => Left::Yielded,
        layout::LEFT_PREEMPTED => Left::Preempted,
        layout::LEFT_SLEEP => Left::Blocked { uninterruptible: false },
        layout::LEFT_DISK => Left::Blocked { uninterruptible: true },
        layout::LEFT_STOPPED => Left::Stopped,
        layout::LEFT_NEW => Left::New,
        _ => Left::Unknown,
    }
}

fn woken(record: &layout::Interval, left: Left) -> Option<u64> {
    if !matches!(left, Left::Blocked { .. } | Left::Stopped) || record.wake_ns == 0 {
        return None;
    }
    let on = record.on_ns.max(record.off_ns);
    (record.wake_ns + WAKE_RACE_NS >= record.off_ns)
        .then(|| record.wake_ns.clamp(record.off_ns, on))
}

fn waker(record: &layout::Interval) -> Option<Waker> {
    if record.waker_context & layout::WAKER_SEEN == 0 {
        return None;
    }
    let context = match record.waker_context & 3 {
        0 => Context::Task,
        1 => Context::Softirq,
        _ => Context::Hardirq,
    };
    Some(Waker {
        tid: Tid(record.waker),
        in_tree: record.waker_context & layout::WAKER_IN_TREE != 0,
        context,
        call: (record.waker_call != layout::NO_CALL).then_some(record.waker_call),
        arg0: record.waker_arg0,
    })
}

fn call(record: &layout::Interval) -> Option<Call> {
    (record.call != layout::NO_CALL).then(|| Call {
        number: record.call,
        arg0: record.arg0,
        arg1: record.arg1,
        arg2: record.arg2,
        fd: FdKind::from_code(record.fd_kind),
        device: record.dev,
        inode: record.inode,
    })
}

/// The call of a wait whose stack was owed.
pub fn wanted_call(want: &layout::Want) -> Option<Call> {
    (want.call != layout::NO_CALL).then(|| Call {
        number: want.call,
        arg0: want.arg0,
        arg1: want.arg1,
        arg2: want.arg2,
        fd: FdKind::from_code(want.fd_kind),
        device: want.dev,
        inode: want.inode,
    })
}

/// A gap that came as a record in the ring.
pub fn ring_gap(record: &layout::Interval) -> Gap {
    Gap {
        tid: Tid(record.tid),
        from: Nanos(record.off_ns),
        to: Nanos(record.on_ns),
        count: record.arg0,
        sequence: Some(record.seq),
    }
}

/// A gap that was still unreported when its thread ended.
pub fn last_gap(tid: u32, gap: &layout::Gap) -> Option<Gap> {
    (gap.count > 0).then_some(Gap {
        tid: Tid(tid),
        from: Nanos(gap.from),
        to: Nanos(gap.to),
        count: u64::from(gap.count),
        sequence: Some(gap.seq),
    })
}

/// The kernel's counts.
pub fn books(books: &layout::Books) -> Books {
    // A thread that exists has run: zero means that this kernel does not count.
    let counted = books.pcount > 0;
    Books {
        voluntary: Some(books.voluntary),
        involuntary: Some(books.involuntary),
        runs: counted.then_some(books.pcount),
        runs_seen: counted.then_some(books.runs_seen),
        cpu: Some(Nanos(books.cpu_ns)),
        queued: counted.then_some(Nanos(books.queued_ns)),
    }
}

/// What a thread read and wrote; `None` where this kernel does not count that.
pub fn moved(time: u64, tid: u32, books: &layout::Books) -> Option<Moved> {
    let layout::Books { read_bytes, written_bytes, .. } = *books;
    let counted = read_bytes != layout::BOOKS_UNCOUNTED;
    counted.then_some(Moved { time: Nanos(time), tid: Tid(tid), read_bytes, written_bytes })
}

/// A path from its components, innermost first, each ended by a NUL.
pub fn path(components: &[u8]) -> Text {
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    if components.is_empty() {
        return Text::default();
    }
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.rsplit(|&byte| byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    Text::new(path)
}

/// Arguments, each ended by a NUL; the last may be cut off.
pub fn arguments(bytes: &[u8]) -> Vec<Text> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|&byte| byte == 0).map(Text::new).collect()
}

/// A device number as `stat` shows it, from the kernel's own encoding.
pub fn device(kernel: u32) -> u64 {
    libc::makedev(kernel >> 20, kernel & 0xf_ffff)
}

/// What a descriptor is called: its path, or the addresses of a socket.
pub fn label(event: &layout::ObjectEvent, components: &[u8]) -> Text {
    let kind = FdKind::from_code(event.fd_kind as u8);
    if event.family == 0 {
        let path = path(components);
        return if path.is_empty() { Text::from(kind.name()) } else { path };
    }
    let protocol = match event.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("ip protocol {other}"),
    };
    let local = address(event.family, &event.local, event.local_port);
    let remote_port = u16::from_be(event.remote_port);
    if remote_port == 0 {
        return Text::from(format!("{protocol} {local}").as_str());
    }
    let remote = address(event.family, &event.remote, remote_port);
    Text::from(format!("{protocol} {local} -> {remote}").as_str())
}

fn address(family: u16, bytes: &[u8; 16], port: u16) -> SocketAddr {
    if i32::from(family) == libc::AF_INET6 {
        return SocketAddr::from((Ipv6Addr::from(*bytes).to_canonical(), port));
    }
    let [a, b, c, d, ..] = *bytes;
    SocketAddr::from((Ipv4Addr::new(a, b, c, d), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    fn slept() -> layout::Interval {
        layout::Interval {
            off_ns: 1_000_000,
            on_ns: 5_000_000,
            wake_ns: 4_000_000,
            left: layout::LEFT_SLEEP,
            call: 35,
            taker: layout::NO_TID,
            ..layout::Interval::zeroed()
        }
    }

    #[test]
    fn a_waking_shortly_before_the_switch_is_at_once_and_an_old_one_is_none() {
        let woken = |wake_ns| interval(&layout::Interval { wake_ns, ..slept() }).woken;
        assert_eq!(woken(4_000_000), Some(Nanos(4_000_000)));
        assert_eq!(woken(999_000), Some(Nanos(1_000_000)));
        assert_eq!(woken(900_000), None);
        assert_eq!(woken(0), None);
        assert_eq!(woken(6_000_000), Some(Nanos(5_000_000)), "never after the return");
    }

    #[test]
    fn preemption_has_no_waking_and_sched_yield_is_told_apart() {
        let preempted = layout::Interval { left: layout::LEFT_PREEMPTED, ..slept() };
        assert_eq!(interval(&preempted).left, Left::Preempted);
        assert_eq!(interval(&preempted).woken, None);
        let yielded = layout::Interval { call: SCHED_YIELD, ..preempted };
        assert_eq!(interval(&yielded).left, Left::Yielded);
    }

    #[test]
    fn an_unseen_waker_is_none_and_a_seen_one_keeps_its_context() {
        assert_eq!(interval(&slept()).waker, None);
        let context = layout::WAKER_SEEN | layout::WAKER_IN_TREE | 1;
        let record = layout::Interval { waker_context: context, waker: 7, ..slept() };
        let waker = interval(&record).waker.expect("seen");
        assert_eq!((waker.tid, waker.in_tree, waker.context), (Tid(7), true, Context::Softirq));
    }

    #[test]
    fn paths_are_turned_round_and_arguments_are_not() {
        assert_eq!(path(b"sleep\0bin\0usr\0").to_string(), "/usr/bin/sleep");
        assert!(path(b"").is_empty());
        let arguments: Vec<String> =
            arguments(b"sleep\0\x31\0").iter().map(Text::to_string).collect();
        assert_eq!(arguments, ["sleep", "1"]);
    }

    #[test]
    fn sockets_are_called_by_both_ends() {
        let mut event = layout::ObjectEvent::zeroed();
        event.fd_kind = FdKind::SocketInet as u32;
        event.family = libc::AF_INET as u16;
        event.protocol = 6;
        event.local = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        event.remote = event.local;
        event.local_port = 80;
        assert_eq!(label(&event, b"").to_string(), "tcp 127.0.0.1:80");
        event.remote_port = 5000u16.to_be();
        assert_eq!(label(&event, b"").to_string(), "tcp 127.0.0.1:80 -> 127.0.0.1:5000");
    }
}
