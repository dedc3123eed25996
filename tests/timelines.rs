//! Drawn timelines: what goes in as a picture must come out as the same picture; and the
//! promise that times add up, over random schedules.

mod support;

use proptest::prelude::*;
use support::Collected;
use support::Drawing;
use support::events;
use support::redraw;
use timesink::model::*;

/// Feeds drawings and checks that the timelines redraw them.
fn check(rows: &[&str]) {
    let drawings: Vec<Drawing> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| Drawing { tid: 100 + i as u32, pid: 100, row })
        .collect();
    let trace = MemoryTrace::new(events(&drawings));
    let mut collected = Collected::default();
    let timelines = walk(&trace, &mut collected);
    let ticks = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut drawn: Vec<String> = Vec::new();
    for i in 0..rows.len() {
        let thread = timelines.threads().iter().find(|t| t.tid.0 == 100 + i as u32);
        drawn.push(redraw(&collected, thread.expect("drawn").id, ticks));
    }
    assert_eq!(drawn, rows);
    assert_adds_up(&timelines, &collected);
}

/// P1: no hole, no overlap, states sum to the lifetime.
fn assert_adds_up(timelines: &Timelines, collected: &Collected) {
    for thread in timelines.threads() {
        let mut cursor = thread.start;
        for &(_, _, start, end) in collected.segments.iter().filter(|s| s.0 == thread.id) {
            assert_eq!(start, cursor, "hole or overlap in {:?}", thread.tid);
            assert!(end > start, "empty segment");
            cursor = end;
        }
        assert_eq!(cursor, thread.end.expect("finished"), "{:?} ends where it ended", thread.tid);
        assert_eq!(thread.states.total(), thread.lifetime());
    }
}

#[test]
fn a_wait_is_split_at_its_wakeup() {
    check(&["RRRLLqRRRR", "qqRRSSSqR"]);
}

/// Calls of the waits of thread 1, which waits for any of several words three times; ended by a
/// thread of its own process, by one of another, and by nobody seen.
#[derive(Default)]
struct Calls(Vec<(u16, u64)>);

impl Visitor for Calls {
    fn segment(&mut self, segment: &Segment) {
        if segment.thread == ThreadId(0) && segment.state == State::Condvar {
            self.0.extend(segment.call.map(|call| (call.number, call.arg0)));
        }
    }
}

#[test]
fn a_wait_for_any_of_several_words_is_for_the_word_that_was_let_go_of() {
    let (waitv, futex, wait) = (449, 202, 455);
    let start = |tid: u32, pid: u32| {
        let (parent_tid, parent_pid, how) = (Tid(0), Pid(0), StartKind::Found);
        let (time, tid, pid) = (Nanos(0), Tid(tid), Pid(pid));
        Event::Start(Start { time, tid, pid, parent_tid, parent_pid, how })
    };
    let list = Call { number: waitv, arg0: 0x7000, arg1: 3, ..Call::default() };
    let waited = |off: u64, by: Option<(u32, u64)>| {
        let stay = Interval::blocked(Tid(1), Nanos(off), Nanos(off + 8), Nanos(off + 9), None);
        let waker = by.map(|(tid, arg0)| Waker {
            tid: Tid(tid),
            in_tree: true,
            context: Context::Task,
            call: Some(futex),
            arg0,
        });
        let marks = Marks { reason_seen: true, ..Marks::default() };
        Event::Interval(Interval { call: Some(list), waker, marks, sequence: None, ..stay })
    };
    let trace = MemoryTrace::new(vec![
        start(1, 1),
        start(2, 1),
        start(3, 3),
        waited(10, Some((2, 0x1008))),
        waited(20, Some((3, 0x2008))),
        waited(30, None),
    ]);
    let mut calls = Calls::default();
    walk(&trace, &mut calls);
    assert_eq!(calls.0, [(wait, 0x1008), (waitv, 0x7000), (waitv, 0x7000)]);
}

#[test]
fn preemption_is_runnable_and_faults_have_no_call() {
    check(&["RRqqRRFFqRRR"]);
}

#[test]
fn every_kind_of_wait() {
    check(&["RLqRCqRSqRPqRDqRFqR"]);
}

#[test]
fn a_loss_is_unknown_and_exactly_as_wide() {
    check(&["RRLLq??RRSSqR"]);
}

#[test]
fn a_wait_that_ends_at_the_wakeup_has_no_queue() {
    check(&["RRLLRR"]);
}

#[test]
fn a_hole_in_the_sequence_that_nobody_reported_is_unknown() {
    let drawing = [Drawing { tid: 1, pid: 1, row: "RRLLqRRSSqRRR" }];
    let mut all = events(&drawing);
    all.retain(|e| !matches!(e, Event::Interval(i) if i.sequence == Some(0)));
    let mut collected = Collected::default();
    let timelines = walk(&MemoryTrace::new(all), &mut collected);
    assert_eq!(redraw(&collected, ThreadId(0), 13), "???????SSqRRR");
    assert_adds_up(&timelines, &collected);
}

#[test]
fn everything_is_cut_to_the_roots_life() {
    // The child outlives the root by four ticks.
    let drawings =
        [Drawing { tid: 1, pid: 1, row: "RRRRRR" }, Drawing { tid: 2, pid: 2, row: "  qRSSSSqR" }];
    let trace = MemoryTrace::new(events(&drawings));
    let mut collected = Collected::default();
    let timelines = walk(&trace, &mut collected);
    assert_eq!(redraw(&collected, ThreadId(1), 10), "  qRSS");
    assert!(timelines.processes()[1].alive);
    assert_eq!(timelines.processes()[1].status, None, "it did not exit within the run");
    assert!(timelines.threads()[1].alive);
    assert_adds_up(&timelines, &collected);
}

#[test]
fn a_reused_thread_id_is_a_new_thread() {
    let drawings = [
        Drawing { tid: 1, pid: 1, row: "RRRRRRRRRRRR" },
        Drawing { tid: 7, pid: 7, row: " qRRR" },
        Drawing { tid: 7, pid: 7, row: "       qRSSR" },
    ];
    let mut collected = Collected::default();
    let timelines = walk(&MemoryTrace::new(events(&drawings)), &mut collected);
    assert_eq!(timelines.threads().len(), 3);
    assert_eq!(redraw(&collected, ThreadId(1), 12), " qRRR");
    assert_eq!(redraw(&collected, ThreadId(2), 12), "       qRSSR");
    assert_adds_up(&timelines, &collected);
}

#[test]
fn exec_from_another_thread_ends_it_and_continues_the_leaders_row() {
    let mut all = events(&[
        Drawing { tid: 1, pid: 1, row: "RRRRRRRRRR" },
        Drawing { tid: 2, pid: 1, row: "  RRRRRRRR" },
    ]);
    let at = |tick: u64| Nanos(tick * support::TICK);
    // Thread 2 execs at tick 6; the kernel kills the leader first, at tick 5.
    all.retain(|e| !matches!(e, Event::Exit(_)));
    let exit = |tid, time, how| {
        Event::Exit(Exit { time, tid: Tid(tid), pid: Pid(1), how, books: Books::default() })
    };
    all.push(exit(1, at(5), ExitKind::Thread));
    all.push(Event::Exec(Exec {
        time: at(6),
        pid: Pid(1),
        old_tid: Tid(2),
        path: Text::from("/bin/new"),
        argv: vec![],
    }));
    all.push(exit(1, at(10), ExitKind::Process { status: Some(0) }));
    let mut collected = Collected::default();
    let timelines = walk(&MemoryTrace::new(all), &mut collected);
    let [leader, caller] = [&timelines.threads()[0], &timelines.threads()[1]];
    assert_eq!((leader.lifetime(), caller.end), (at(10), Some(at(6))));
    assert_eq!(leader.states[State::Other], at(1));
    assert_eq!(timelines.processes()[0].name.to_string(), "new");
    assert_adds_up(&timelines, &collected);
}

#[test]
fn a_recording_cut_short_ends_in_unknown() {
    let mut all = events(&[Drawing { tid: 1, pid: 1, row: "RRLLqRRRRRR" }]);
    all.retain(|e| !matches!(e, Event::Exit(_)));
    let late = Event::Sample(Sample {
        time: Nanos(9 * support::TICK),
        tid: Tid(1),
        cpu: 0,
        kernel: false,
        weight: Nanos(1),
        stack: None,
    });
    all.push(late);
    let mut trace = MemoryTrace::new(all);
    trace.summary = None;
    let mut collected = Collected::default();
    let timelines = walk(&trace, &mut collected);
    assert_eq!(redraw(&collected, ThreadId(0), 9), "RRLLq????");
    assert_adds_up(&timelines, &collected);
}

#[test]
fn an_observation_gives_its_reason_to_the_interval_around_it() {
    let mut all = events(&[Drawing { tid: 1, pid: 1, row: "RRSSSqRRSSqR" }]);
    for event in &mut all {
        if let Event::Interval(interval) = event {
            interval.call = None;
            interval.marks.reason_seen = false;
            interval.woken = None;
        }
    }
    let call = Call { number: 230, ..Call::default() };
    all.push(Event::Observation(Observation {
        time: Nanos(3 * support::TICK),
        tid: Tid(1),
        call: Some(Some(call)),
        uninterruptible: false,
        stack: None,
    }));
    let mut collected = Collected::default();
    let timelines = walk(&MemoryTrace::new(all), &mut collected);
    assert_eq!(redraw(&collected, ThreadId(0), 12), "RRSSSSRR???R");
    assert_adds_up(&timelines, &collected);
}

#[test]
fn runs_come_in_order_of_start_with_how_they_began_and_ended() {
    // The second thread's first run is only known at its exit, long after the others.
    let long = format!("RR{}qR", "S".repeat(400));
    let short = format!("  q{}", "RLq".repeat(120));
    let drawings =
        [Drawing { tid: 1, pid: 1, row: &long }, Drawing { tid: 2, pid: 1, row: &short }];
    let trace = MemoryTrace::new(events(&drawings));
    let mut runs = Vec::new();
    let timelines = runs_in_order(&trace, &mut |run| runs.push(*run));
    assert!(runs.windows(2).all(|pair| pair[0].start <= pair[1].start), "ordered");
    let mut by_thread = [Nanos::ZERO; 2];
    for run in &runs {
        by_thread[run.thread.0 as usize] += run.end - run.start;
    }
    for thread in timelines.threads() {
        assert_eq!(by_thread[thread.id.0 as usize], thread.states[State::Running]);
    }
    assert_eq!(runs[0].then, Some(State::Sleep));
    assert_eq!(runs.last().map(|run| run.left), Some(None), "the last run ends in an exit");
    let second = runs.iter().filter(|run| run.thread == ThreadId(1)).nth(1).expect("many runs");
    assert_eq!(second.woken, Some(Nanos(5 * support::TICK)));
}

/// Arbitrary events, most of them nonsense: any order, any overlap.
fn any_event() -> impl Strategy<Value = Event> {
    let time = || (0u64..1_000).prop_map(Nanos);
    let tid = || (1u32..6).prop_map(Tid);
    prop_oneof![
        8 => (tid(), time(), time(), time(), any::<u8>(), any::<Option<u8>>()).prop_map(
            |(tid, a, b, c, kind, sequence)| {
                let mut times = [a, b, c];
                if kind & 1 == 0 {
                    times.sort();
                }
                let mut interval = Interval::blocked(tid, times[0], times[1], times[2], None);
                interval.left = match kind % 5 {
                    0 => Left::Preempted,
                    1 => Left::New,
                    2 => Left::Stopped,
                    3 => Left::Unknown,
                    _ => Left::Blocked { uninterruptible: kind & 64 != 0 },
                };
                interval.marks.reason_seen = kind & 32 != 0;
                interval.sequence = sequence.map(u32::from);
                Event::Interval(interval)
            }
        ),
        1 => (tid(), time(), time()).prop_map(|(tid, from, to)| Event::Gap(Gap {
            tid, from, to, count: 3, sequence: None
        })),
        2 => (tid(), 1u32..4, time(), 0u8..4).prop_map(|(tid, pid, time, how)| Event::Start(Start {
            time, tid, pid: Pid(pid), parent_tid: Tid(1), parent_pid: Pid(1),
            how: [StartKind::Root, StartKind::Process, StartKind::Thread, StartKind::Found][how as usize],
        })),
        1 => (tid(), 1u32..4, time(), any::<bool>()).prop_map(|(tid, pid, time, last)| Event::Exit(Exit {
            time, tid, pid: Pid(pid), books: Books::default(),
            how: if last { ExitKind::Process { status: Some(0) } } else { ExitKind::Thread },
        })),
        1 => (tid(), 1u32..4, time()).prop_map(|(old_tid, pid, time)| Event::Exec(Exec {
            time, pid: Pid(pid), old_tid, path: Text::from("/x"), argv: vec![],
        })),
        1 => (tid(), time()).prop_map(|(tid, time)| Event::Observation(Observation {
            time, tid, call: Some(None), uninterruptible: true, stack: None,
        })),
        1 => (time(), time()).prop_map(|(from, to)| Event::Lost(Lost {
            from, to, what: LostKind::File, cpu: None, count: 1,
        })),
    ]
}

proptest! {
    /// Whatever the events say, every thread is in exactly one state at any time.
    #[test]
    fn any_events_add_up(events in prop::collection::vec(any_event(), 0..60), whole in any::<bool>()) {
        let mut trace = MemoryTrace::new(events);
        if !whole {
            trace.summary = None;
        }
        let mut collected = Collected::default();
        let timelines = walk(&trace, &mut collected);
        assert_adds_up(&timelines, &collected);
        let mut last = Nanos::ZERO;
        let mut running = Nanos::ZERO;
        runs_in_order(&trace, &mut |run| {
            assert!(run.start >= last);
            last = run.start;
            running += run.end - run.start;
        });
        let budget: Nanos = timelines.threads().iter().map(|t| t.states[State::Running]).sum();
        prop_assert_eq!(running, budget);
    }
}

#[test]
fn a_new_thread_is_called_like_the_one_that_made_it() {
    let start = |time, tid, parent, how| {
        Event::Start(Start {
            time: Nanos(time),
            tid: Tid(tid),
            pid: Pid(1),
            parent_tid: Tid(parent),
            parent_pid: Pid(1),
            how,
        })
    };
    let events = vec![
        start(0, 1, 0, StartKind::Root),
        Event::Rename(Rename { time: Nanos(1), tid: Tid(1), name: Text::from("python3") }),
        start(2, 2, 1, StartKind::Thread),
        Event::Rename(Rename { time: Nanos(3), tid: Tid(2), name: Text::from("worker") }),
        start(4, 3, 2, StartKind::Thread),
    ];
    let timelines = walk(&MemoryTrace::new(events), &mut Collected::default());
    let names: Vec<String> = timelines.threads().iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["python3", "worker", "worker"]);
}

#[test]
fn a_process_is_called_by_what_it_was_started_as() {
    let called = |path: &str, argv: &[&str], name: &str, later: Option<&str>| {
        let (time, tid, pid) = (Nanos(5), Tid(1), Pid(1));
        let (parent_tid, parent_pid, how) = (Tid(0), Pid(0), StartKind::Root);
        let argv = argv.iter().copied().map(Text::from).collect();
        let mut events = vec![
            Event::Start(Start { time, tid, pid, parent_tid, parent_pid, how }),
            Event::Exec(Exec { time, pid, old_tid: tid, path: Text::from(path), argv }),
            Event::Rename(Rename { time, tid, name: Text::from(name) }),
        ];
        let rename = |name| Event::Rename(Rename { time: Nanos(9), tid, name: Text::from(name) });
        events.extend(later.map(rename));
        let timelines = walk(&MemoryTrace::new(events), &mut Collected::default());
        let process = timelines.processes()[0].name.to_string();
        (process, timelines.threads()[0].name.to_string())
    };
    let both = |name: &str| (name.to_owned(), name.to_owned());
    // A link, a script, and names that the kernel cuts.
    let link = called("/usr/bin/redis-check-rdb", &["redis-server"], "redis-server", None);
    assert_eq!(link, both("redis-server"));
    let script =
        called("/bin/bash", &["/bin/sh", "./nightly_backup_all.sh"], "nightly_backup_", None);
    assert_eq!(script, both("nightly_backup_all.sh"));
    let long = called("/opt/averylongprogramname", &[], "averylongprogra", None);
    assert_eq!(long, both("averylongprogramname"));
    // What it calls itself later is its thread's name.
    let later = called("/usr/bin/worker", &[], "worker", Some("worker-main"));
    assert_eq!(later, ("worker".to_owned(), "worker-main".to_owned()));
}
