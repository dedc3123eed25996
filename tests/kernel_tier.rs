//! The kernel tier on real processes. Needs root (or `CAP_BPF` and `CAP_PERFMON`) and BTF.
// Tests do I/O, and what is skipped must be said.
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout)]

#[path = "kernel_tier/support.rs"]
mod support;
#[path = "kernel_tier/workload.rs"]
mod workload;

use std::collections::BTreeMap;
use support::Recording;
use support::options;
use support::record;
use timesink::capture::kernel::Tuning;
use timesink::model::Event;
use timesink::model::ExitKind;
use timesink::model::FdKind;
use timesink::model::Interval;
use timesink::model::Left;
use timesink::model::LostKind;
use timesink::model::StartKind;
use timesink::model::Tid;

const NANOSLEEP: u16 = 35;
const CLOCK_NANOSLEEP: u16 = 230;
const FUTEX: u16 = 202;
const READ: u16 = 0;

macro_rules! recording {
    ($workload:expr, $options:expr, $tuning:expr) => {
        match record($workload, $options, $tuning) {
            Some(recording) => recording,
            None => return,
        }
    };
}

/// What must hold of every recording that lost nothing.
fn check(recording: &Recording) {
    let mut by_thread: BTreeMap<Tid, Vec<Interval>> = BTreeMap::new();
    let mut started = BTreeMap::new();
    for event in &recording.events {
        match event {
            Event::Interval(interval) => by_thread.entry(interval.tid).or_default().push(*interval),
            Event::Start(start) => {
                assert!(started.insert(start.tid, *start).is_none(), "{start:?} began twice");
            }
            Event::Gap(gap) => panic!("nothing may be lost here: {gap:?}"),
            Event::Lost(lost) => panic!("nothing may be lost here: {lost:?}"),
            _ => {}
        }
    }
    for start in started.values().filter(|start| start.how != StartKind::Root) {
        assert!(started.contains_key(&start.parent_tid), "of the tree: {start:?}");
    }
    for (tid, intervals) in &mut by_thread {
        assert!(started.contains_key(tid), "{tid:?} is not of the tree");
        intervals.sort_by_key(|interval| (interval.off, interval.on));
        for (number, interval) in intervals.iter().enumerate() {
            assert_eq!(interval.sequence, Some(number as u32), "no holes in {tid:?}");
            assert!(interval.off <= interval.on, "{interval:?}");
            let woken = interval.woken.unwrap_or(interval.on);
            assert!(interval.off <= woken && woken <= interval.on, "{interval:?}");
        }
        for pair in intervals.windows(2) {
            assert!(pair[0].on <= pair[1].off, "overlap in {tid:?}: {pair:?}");
        }
    }
    for event in &recording.events {
        let Event::Exit(exit) = event else { continue };
        let none = Vec::new();
        let intervals = by_thread.get(&exit.tid).unwrap_or(&none);
        assert_eq!(exit.books.runs, exit.books.runs_seen, "switch-ins of {exit:?}");
        let Some(runs) = exit.books.runs else { panic!("the scheduler counts") };
        if started[&exit.tid].how != StartKind::Root {
            // Each switch-in ends an interval, from the one that begins with the fork.
            let finished = intervals.iter().filter(|i| !i.marks.open).count() as u64;
            assert_eq!(finished, runs, "intervals of {exit:?}");
        }
    }
}

fn blocked_in(recording: &Recording, call: u16) -> Vec<Interval> {
    recording
        .intervals()
        .filter(|i| i.call.is_some_and(|c| c.number == call))
        .filter(|i| matches!(i.left, Left::Blocked { .. }))
        .collect()
}

#[test]
fn sleeps_last_as_long_as_the_program_measures() {
    let recording = recording!("sleeps", options(), Tuning::default());
    check(&recording);
    let sleeps: Vec<Interval> = recording
        .intervals()
        .filter(|i| i.call.is_some_and(|c| [NANOSLEEP, CLOCK_NANOSLEEP].contains(&c.number)))
        .filter(|i| matches!(i.left, Left::Blocked { .. }))
        .collect();
    let measured = recording.reported("slept");
    assert_eq!(sleeps.len(), measured.len());
    for (interval, outer) in sleeps.iter().zip(measured) {
        // The program reads its clock around the call: it cannot have slept longer than that.
        let inner = (interval.on - interval.off).0;
        assert!(inner <= outer, "{inner} within {outer}");
        assert!(interval.woken.is_some(), "{interval:?}");
        let waker = interval.waker.expect("a timer");
        assert_ne!(waker.context, timesink::model::Context::Task, "{waker:?}");
    }
    let total: u64 = sleeps.iter().map(|i| (i.on - i.off).0).sum();
    let outer: u64 = recording.reported("slept").iter().sum();
    assert!(total * 100 >= outer * 95, "{total} of {outer}");
}

#[test]
fn pipes_and_futexes_are_named_with_their_wakers() {
    let recording = recording!("pipe_and_futex", options(), Tuning::default());
    check(&recording);
    let reads = blocked_in(&recording, READ);
    let on_pipe: Vec<_> = reads
        .iter()
        .filter_map(|i| i.call.map(|c| (c, i.waker)))
        .filter(|(c, _)| c.fd == FdKind::Pipe)
        .collect();
    assert!(on_pipe.len() >= 50, "{} of {} reads", on_pipe.len(), reads.len());
    for (call, waker) in &on_pipe {
        let inode = recording.reported("pipe_inode");
        assert!(inode.contains(&call.inode), "{call:?} is one of {inode:?}");
        assert_eq!(u64::from(call.device), recording.reported("pipe_device")[0], "{call:?}");
        let waker = waker.expect("the other end");
        assert!(waker.in_tree, "{waker:?}");
        assert_eq!(waker.call, Some(1), "write");
    }
    let word = recording.reported("futex_word")[0];
    let on_futex: Vec<_> = blocked_in(&recording, FUTEX)
        .into_iter()
        .filter(|i| i.call.is_some_and(|c| c.arg0 == word))
        .collect();
    assert!(on_futex.len() >= 50, "{}", on_futex.len());
    for interval in &on_futex {
        assert_eq!(
            interval.call.expect("filtered").arg1 & 0x7f & !0x80,
            0,
            "FUTEX_WAIT: {interval:?}"
        );
        let waker = interval.waker.expect("the other thread");
        assert_eq!((waker.call, waker.arg0), (Some(FUTEX), word));
    }
    // Each pipe that was waited for has its description; a run may never wait at one of the two.
    let described: Vec<u64> = recording
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Object(o) if o.kind == FdKind::Pipe => Some(o.inode),
            _ => None,
        })
        .collect();
    let named = on_pipe.iter().all(|(call, _)| described.contains(&call.inode));
    assert!(named, "the pipe is described");
}

#[test]
fn kinds_of_descriptors_are_told_apart() {
    let recording = recording!("descriptors", options(), Tuning::default());
    check(&recording);
    let kinds: Vec<FdKind> = recording.intervals().filter_map(|i| i.call).map(|c| c.fd).collect();
    for kind in [
        FdKind::Eventfd,
        FdKind::Epoll,
        FdKind::Timerfd,
        FdKind::SocketUnix,
        FdKind::SocketInet,
        FdKind::Tty,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} among {kinds:?}");
    }
    let labels: Vec<String> = recording
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Object(object) => Some(object.label.to_string()),
            _ => None,
        })
        .collect();
    let port = recording.reported("port")[0];
    let tcp = format!("127.0.0.1:{port}");
    assert!(
        labels.iter().any(|l| l.starts_with("tcp ") && l.contains(&tcp)),
        "{tcp} in {labels:?}"
    );
}

#[test]
fn switch_counts_agree_with_rusage_and_with_the_books() {
    let recording = recording!("yields", options(), Tuning::default());
    check(&recording);
    let voluntary = recording
        .intervals()
        .filter(|i| !matches!(i.left, Left::Preempted | Left::Yielded | Left::New | Left::Unknown));
    let involuntary =
        recording.intervals().filter(|i| matches!(i.left, Left::Preempted | Left::Yielded));
    // What the process did before its exec is in rusage and not in the recording.
    let (before_voluntary, before_involuntary) = recording.switches_before_exec;
    let seen = voluntary.count() as i64;
    let expected = recording.usage.ru_nvcsw - before_voluntary;
    assert!((seen - expected).abs() <= 2, "voluntary: {seen} seen, {expected} by rusage");
    let seen = involuntary.count() as i64;
    let expected = recording.usage.ru_nivcsw - before_involuntary;
    let exits = recording.events.iter().filter_map(|event| match event {
        Event::Exit(exit) => exit.books.involuntary,
        _ => None,
    });
    let (threads, booked) =
        exits.fold((0, -before_involuntary), |(n, sum), count| (n + 1, sum + count as i64));
    assert!((seen - booked).abs() <= 2, "involuntary: {seen} seen, {booked} by the books at exit");
    // rusage goes on after the exit event: a thread can be preempted in the rest of its exit.
    let after = expected - booked;
    assert!((0..=3 * threads).contains(&after), "{after} after the exits of {threads} threads");
    assert!(seen > 0, "sched_yield against a spinner is seen");
}

#[test]
fn a_tree_of_processes_is_followed_and_nothing_else() {
    let recording = recording!("tree", options(), Tuning::default());
    check(&recording);
    let roots = recording.starts(StartKind::Root);
    assert_eq!(roots, [Tid(recording.pid)]);
    let mut children = recording.reported("child");
    let mut seen: Vec<u64> =
        recording.starts(StartKind::Process).iter().map(|tid| u64::from(tid.0)).collect();
    children.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, children);
    let threads = recording.starts(StartKind::Thread);
    for tid in recording.reported("thread") {
        assert!(threads.contains(&Tid(tid as u32)), "{tid} of {threads:?}");
    }
    assert_eq!(recording.reported("thread").len(), 3);
    let exec = recording.events.iter().find_map(|event| match event {
        Event::Exec(exec) if exec.pid.0 == recording.pid => Some(exec),
        _ => None,
    });
    let exec = exec.expect("the command's exec");
    let own = std::env::current_exe().expect("known");
    assert_eq!(exec.path.to_string(), own.display().to_string());
    assert_eq!(exec.argv.len(), 5);
    let statuses: Vec<u32> = recording
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Exit(exit) => Some(exit.how),
            _ => None,
        })
        .filter_map(|how| if let ExitKind::Process { status } = how { status } else { None })
        .collect();
    assert!(statuses.contains(&(7 << 8)), "exit code 7 in {statuses:?}");
    assert!(statuses.contains(&9), "killed by 9 in {statuses:?}");
}

#[test]
fn a_full_ring_is_a_gap_exactly_located() {
    let tuning = Tuning { ring_records: 64, ..Tuning::default() };
    let quiet = timesink::capture::Options { sample_hz: 0, wait_stacks: false };
    let recording = recording!("ping_pong", quiet, tuning);
    let mut covered: BTreeMap<Tid, Vec<(u32, u32)>> = BTreeMap::new();
    let mut gaps = 0;
    let mut lost = 0;
    for event in &recording.events {
        match event {
            Event::Interval(i) => {
                let number = i.sequence.expect("counted");
                covered.entry(i.tid).or_default().push((number, number));
            }
            Event::Gap(gap) => {
                let last = gap.sequence.expect("counted");
                assert!(gap.from < gap.to && gap.count > 0, "{gap:?}");
                covered.entry(gap.tid).or_default().push((last + 1 - gap.count as u32, last));
                gaps += gap.count;
            }
            Event::Lost(loss) if loss.what == LostKind::Intervals => lost += loss.count,
            _ => {}
        }
    }
    assert!(gaps > 100, "the ring of 64 must overflow: {gaps}");
    assert_eq!(gaps, lost, "both counts of the loss");
    for (tid, ranges) in &mut covered {
        ranges.sort_unstable();
        let mut next = 0;
        for &(first, last) in ranges.iter() {
            assert_eq!(first, next, "every number of {tid:?} is an interval or in a gap");
            next = last + 1;
        }
    }
    for event in &recording.events {
        let Event::Exit(exit) = event else { continue };
        assert_eq!(exit.books.runs, exit.books.runs_seen, "lost, but seen: {exit:?}");
    }
}

#[test]
fn what_is_open_at_the_end_is_reported() {
    let Some(mut live) = support::Live::start("blocked", options(), Tuning::default()) else {
        return;
    };
    live.until_reported("ready");
    let recording = live.stop_while_it_lives();
    let open: Vec<Interval> = recording.intervals().filter(|i| i.marks.open).collect();
    let futex = recording.reported("futex_word")[0];
    assert!(open.iter().any(|i| i.call.is_some_and(|c| c.arg0 == futex)), "{open:?}");
    assert!(open.iter().any(|i| i.call.is_some_and(|c| c.fd == FdKind::Pipe)), "{open:?}");
    let alive = recording
        .events
        .iter()
        .filter(|event| matches!(event, Event::Exit(exit) if exit.how == ExitKind::Alive));
    let started = recording.events.iter().filter(|event| matches!(event, Event::Start(_)));
    assert_eq!(alive.count(), started.count(), "every thread lives");
    let ends: Vec<_> = open.iter().map(|i| i.on).collect();
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "one end for all: {ends:?}");
    check(&recording);
}

/// Stacks of waits must weigh what the waits lasted, and be of the wait that they name.
fn check_stacks(recording: &Recording) {
    let mut waits: BTreeMap<Tid, Vec<Interval>> = BTreeMap::new();
    for interval in recording.intervals() {
        waits.entry(interval.tid).or_default().push(interval);
    }
    for intervals in waits.values_mut() {
        intervals.sort_by_key(|interval| interval.off);
    }
    let mut weight: BTreeMap<u16, u64> = BTreeMap::new();
    let mut placed = 0;
    for event in &recording.events {
        let Event::WaitStack(stack) = event else { continue };
        let Some(call) = stack.call else { continue };
        *weight.entry(call.number).or_default() += stack.weight.0;
        if stack.stack.is_none() {
            continue;
        }
        placed += 1;
        let of_thread = &waits[&stack.tid];
        let at = of_thread.partition_point(|interval| interval.off < stack.off);
        let wait = of_thread.get(at).filter(|wait| wait.off == stack.off);
        let wait = wait.unwrap_or_else(|| panic!("a wait of {stack:?}"));
        let waited = wait.call.expect("in a call");
        assert_eq!((call.number, call.arg0), (waited.number, waited.arg0), "{stack:?}");
        assert!(stack.time >= wait.on, "taken before it ended: {stack:?} {wait:?}");
        if let Some(next) = of_thread.get(at + 1).filter(|next| next.call != wait.call) {
            assert!(stack.time <= next.off, "taken in another wait: {stack:?} {next:?}");
        }
    }
    assert!(placed > 20, "{placed} stacks");
    for number in [CLOCK_NANOSLEEP, FUTEX] {
        let all = blocked_in(recording, number);
        let blocked: u64 = all.iter().map(|i| (i.woken.unwrap_or(i.on) - i.off).0).sum();
        let weight = weight.get(&number).copied().unwrap_or(0);
        // One point per ms and thread, at random within it: over 24 threads, some ms either way.
        let apart = weight.abs_diff(blocked);
        assert!(apart <= blocked / 5 + 15_000_000, "call {number}: {weight} for {blocked}");
    }
    let long = blocked_in(recording, CLOCK_NANOSLEEP);
    assert!(long.len() >= 11, "{} sleeps", long.len());
    for wait in long.iter().filter(|wait| (wait.on - wait.off).0 >= 2_000_000) {
        let has = recording.events.iter().any(|event| {
            matches!(event, Event::WaitStack(s)
                if s.tid == wait.tid && s.off == wait.off && s.stack.is_some())
        });
        assert!(has, "a long wait without its stack: {wait:?}");
    }
}

#[test]
fn stacks_of_waits_are_right_at_the_end_of_calls() {
    let tuning = Tuning { by_bell: false, busy_per_second: 0, ..Tuning::default() };
    let recording = recording!("waits", options(), tuning);
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
    check_stacks(&recording);
}

#[test]
fn stacks_of_waits_are_right_by_interrupt_and_the_missed_mappings_are_said() {
    let tuning = Tuning { busy_per_second: 0, ..Tuning::default() };
    let recording = recording!("waits", options(), tuning);
    check_stacks(&recording);
    if recording.warnings.is_empty() {
        let why = "skipped: no interrupt to take stacks in; they were taken at the end of calls";
        assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "{why}");
        eprintln!("{why}");
        return;
    }
    assert!(recording.warnings[0].contains("libraries"), "{:?}", recording.warnings);
}
