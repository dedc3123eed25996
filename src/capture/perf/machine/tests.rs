//! Drawn timelines: one line per thread, read from left to right, 10 ns a column.

use super::*;

const ROOT: Pid = Pid(10);

fn raw(time: u64, tid: u32, what: What) -> Raw {
    Raw { time: Nanos(time), tid: Tid(tid), pid: ROOT, cpu: 0, what }
}

fn exec(time: u64, tid: u32) -> Raw {
    let comm = Comm { exec: true, name: Text::from("prog"), command: None };
    raw(time, tid, What::Comm(Box::new(comm)))
}

fn fork(time: u64, pid: u32, tid: u32, ptid: u32) -> Raw {
    let task = Task { pid: Pid(pid), ppid: ROOT, tid: Tid(tid), ptid: Tid(ptid) };
    raw(time, ptid, What::Fork(task))
}

fn exit(time: u64, tid: u32) -> Raw {
    let task = Task { pid: ROOT, ppid: Pid(1), tid: Tid(tid), ptid: Tid(1) };
    raw(time, tid, What::Exit(task))
}

/// Records of one thread: `i` in, `b` out blocked, `p` out preempted, `x` exit, `e` exec.
fn drawn(tid: u32, line: &str) -> Vec<Raw> {
    line.chars()
        .enumerate()
        .filter_map(|(column, letter)| {
            let time = column as u64 * 10;
            Some(match letter {
                'i' => raw(time, tid, What::In),
                'b' => raw(time, tid, What::Out { preempted: false }),
                'p' => raw(time, tid, What::Out { preempted: true }),
                'x' => exit(time, tid),
                'e' => exec(time, tid),
                _ => return None,
            })
        })
        .collect()
}

fn events(records: Vec<Raw>) -> Vec<Event> {
    let mut machine = Machine::new(ROOT, Nanos(1));
    let mut events = Vec::new();
    let mut take = |output| {
        if let Output::Event(event) = output {
            events.push(event);
        }
    };
    for record in records {
        machine.apply(record, &mut take);
    }
    machine.finish(Nanos(1_000), &|_, _, _| Books::default(), &mut take);
    events
}

/// `off..on how` of every interval and `gap from..to` of every gap.
fn told(records: Vec<Raw>) -> Vec<String> {
    let line = |event: Event| match event {
        Event::Interval(e) => {
            let open = if e.marks.open { " open" } else { "" };
            let how = match e.left {
                Left::Blocked { .. } => "blocked",
                Left::Preempted => "preempted",
                Left::New => "new",
                _ => "other",
            };
            Some(format!("{} {}..{} {how}{open}", e.tid.0, e.off.0, e.on.0))
        }
        Event::Gap(e) => Some(format!("{} {}..{} gap", e.tid.0, e.from.0, e.to.0)),
        Event::Exit(e) => Some(format!("{} {} {:?}", e.tid.0, e.time.0, e.how)),
        _ => None,
    };
    events(records).into_iter().filter_map(line).collect()
}

#[test]
fn stays_off_the_cpu_are_exact() {
    assert_eq!(
        told(drawn(10, "e b  i p i  x")),
        ["10 20..50 blocked", "10 70..90 preempted", "10 120 Process { status: None }"]
    );
}

#[test]
fn nothing_before_the_exec_counts() {
    assert_eq!(
        told(drawn(10, "b i e b i x")).first().map(String::as_str),
        Some("10 60..80 blocked")
    );
    assert!(events(drawn(10, "b i b")).is_empty());
}

#[test]
fn a_lost_in_or_out_becomes_a_gap_exactly_there() {
    assert_eq!(told(drawn(10, "e b  b i x"))[..2], ["10 20..50 gap", "10 50..70 blocked"]);
    assert_eq!(told(drawn(10, "e bi  i x"))[..2], ["10 20..30 blocked", "10 30..60 gap"]);
    // Its last return was lost.
    assert_eq!(told(drawn(10, "e b  x"))[0], "10 20..50 gap");
}

#[test]
fn what_is_open_at_the_end_is_closed_there() {
    assert_eq!(told(drawn(10, "e b")), ["10 20..1000 blocked open", "10 1000 Alive"]);
}

#[test]
fn fork_to_first_run_is_new_and_the_last_thread_ends_the_process() {
    let mut records = drawn(10, "e");
    records.push(fork(20, 10, 11, 10));
    records.extend(drawn(11, "     i b i"));
    records.push(exit(80, 10));
    records.push(exit(90, 11));
    assert_eq!(
        told(records),
        ["11 20..50 new", "11 70..90 blocked", "10 80 Thread", "11 90 Process { status: None }"]
    );
}

#[test]
fn exec_of_another_thread_goes_on_under_the_leaders_id() {
    let mut records = drawn(10, "e");
    records.push(fork(20, 10, 11, 10));
    records.extend(drawn(11, "    i"));
    records.push(exit(50, 10));
    records.extend(drawn(10, "      e b i x"));
    let events = events(records);
    let exec = events.iter().rev().find_map(|e| match e {
        Event::Exec(exec) => Some((exec.pid, exec.old_tid)),
        _ => None,
    });
    assert_eq!(exec, Some((Pid(10), Tid(11))));
    let ends: Vec<Tid> = events
        .iter()
        .filter_map(|e| if let Event::Exit(exit) = e { Some(exit.tid) } else { None })
        .collect();
    assert_eq!(ends, [Tid(10), Tid(10)]);
}

#[test]
fn a_reused_id_ends_its_former_owner() {
    let mut records = drawn(10, "e");
    records.push(fork(20, 20, 20, 10));
    records.push(fork(60, 10, 20, 10));
    let told = told(records);
    assert_eq!(told[..2], ["20 20..60 gap", "20 60 Process { status: None }"]);
}

#[test]
fn the_first_mapping_names_the_program_and_stale_arguments_are_dropped() {
    let mapping = |path: &str| Mapping {
        pid: ROOT,
        start: 1,
        end: 2,
        file_offset: 0,
        path: Text::from(path),
        identity: (0, 0),
        build_id: Vec::new(),
    };
    for (seen, argv) in [("/bin/a", 1), ("/bin/b", 0)] {
        let command = Some((Text::from(seen), vec![Text::from("a")]));
        let comm = Comm { exec: true, name: Text::from("a"), command };
        let records = vec![
            raw(10, 10, What::Comm(Box::new(comm))),
            raw(11, 10, What::Map(Box::new(mapping("/bin/a")))),
            raw(12, 10, What::Map(Box::new(mapping("/lib/ld.so")))),
        ];
        let execs: Vec<Exec> = events(records)
            .into_iter()
            .filter_map(|e| if let Event::Exec(exec) = e { Some(exec) } else { None })
            .collect();
        assert_eq!(execs.len(), 1);
        assert_eq!((execs[0].path.clone(), execs[0].argv.len()), (Text::from("/bin/a"), argv));
    }
}

/// As `told`, with records lost on CPU 0 in `from..to`.
fn told_with_loss(line: &str, from: u64, to: u64) -> Vec<String> {
    let mut machine = Machine::new(ROOT, Nanos(1));
    let lost =
        |what, cpu| Lost { from: Nanos(from), to: Nanos(to), what, cpu: Some(cpu), count: 1 };
    machine.lose(&lost(LostKind::Intervals, 0));
    machine.lose(&lost(LostKind::Samples, 0));
    let mut told = Vec::new();
    let mut take = |output| match output {
        Output::Event(Event::Gap(e)) => told.push(format!("gap {}..{}", e.from.0, e.to.0)),
        Output::Event(Event::Interval(e)) => told.push(format!("{}..{}", e.off.0, e.on.0)),
        _ => {}
    };
    for record in drawn(10, line) {
        machine.apply(record, &mut take);
    }
    machine.finish(Nanos(1_000), &|_, _, _| Books::default(), &mut take);
    told
}

#[test]
fn what_a_loss_touches_is_unknown_and_nothing_else() {
    // A wait across the loss may have been two.
    assert_eq!(told_with_loss("e b  i b i x", 30, 40), ["gap 20..50", "70..90"]);
    // Running across it may have had a wait in it.
    assert_eq!(told_with_loss("e  b i    b i x", 60, 70), ["30..50", "gap 60..70", "100..120"]);
    // Nothing is known of a thread that is gone though its exit was never seen.
    assert_eq!(told_with_loss("e b i", 500, 600), ["20..40", "gap 40..1000"]);
    assert_eq!(told_with_loss("e b i b", 50, 70), ["20..40", "gap 50..60", "gap 60..1000"]);
}

#[test]
fn running_elsewhere_is_not_touched_by_a_loss() {
    let mut machine = Machine::new(ROOT, Nanos(1));
    let (from, to, cpu) = (Nanos(0), Nanos(900), Some(7));
    machine.lose(&Lost { from, to, what: LostKind::Intervals, cpu, count: 1 });
    let mut gaps = 0;
    for record in drawn(10, "e        b i x") {
        machine
            .apply(record, &mut |o| gaps += u32::from(matches!(o, Output::Event(Event::Gap(_)))));
    }
    assert_eq!(gaps, 1, "the wait may hide a visit to CPU 7; the running on CPU 0 hides none");
}

fn found(time: u64, tid: u32, left: Option<Left>, looked: u64) -> Raw {
    let found = Found { parent: Pid(1), left, looked: Nanos(looked) };
    raw(time, tid, What::Found(Box::new(found)))
}

/// As `told`, of a machine that is attached and begins at 50: `left` is what a look at 15 saw of
/// thread 10, whose events are open since 10.
fn attached(left: Option<Left>, line: &str) -> Vec<String> {
    let mut machine = Machine::attached(Nanos(1));
    let mut told = Vec::new();
    let mut take = |output| match output {
        Output::Event(Event::Gap(e)) => told.push(format!("gap {}..{}", e.from.0, e.to.0)),
        Output::Event(Event::Interval(e)) => {
            told.push(format!("{}..{} {:?}", e.off.0, e.on.0, e.left));
        }
        _ => {}
    };
    let mut records = drawn(10, line);
    records.push(found(10, 10, left, 15));
    records.sort_by_key(|raw| raw.time);
    let after = records.partition_point(|raw| raw.time < Nanos(50));
    let later = records.split_off(after);
    for record in records {
        machine.apply(record, &mut |_| {});
    }
    let mut starts = Vec::new();
    machine.begin(Nanos(50), &mut |start| starts.push((start.time, start.tid, start.parent_pid)));
    assert_eq!(starts, [(Nanos(50), Tid(10), Pid(1))]);
    for record in later {
        machine.apply(record, &mut take);
    }
    machine.finish(Nanos(1_000), &|_, _, _| Books::default(), &mut take);
    told
}

#[test]
fn a_found_thread_is_where_its_first_switch_says_from_the_begin_on() {
    let asleep = Some(Left::Blocked { uninterruptible: false });
    let (blocked, open) = ("Blocked { uninterruptible: false }", "50..1000");
    // It slept, and still does; or it woke up.
    assert_eq!(attached(asleep, ""), [format!("{open} {blocked}")]);
    assert_eq!(attached(asleep, "        i"), [format!("50..80 {blocked}")]);
    // It was ready when looked at, so before its first run it waited for a CPU.
    assert_eq!(attached(None, "        i"), ["50..80 Preempted"]);
    // It ran: then it left, or never did.
    assert_eq!(attached(None, "        b i"), [format!("80..100 {blocked}")]);
    assert_eq!(attached(None, ""), [] as [&str; 0]);
    // What was seen between the look and the begin counts more; before the find, nothing.
    assert_eq!(attached(asleep, "   i    b i"), [format!("80..100 {blocked}")]);
    assert_eq!(attached(None, "i  p"), ["50..1000 Preempted"]);
}

#[test]
fn a_look_that_came_after_the_first_switch_says_nothing_of_before() {
    let mut machine = Machine::attached(Nanos(1));
    machine.begin(Nanos(0), &mut |_| {});
    let asleep = Some(Left::Blocked { uninterruptible: false });
    let mut told = Vec::new();
    for record in [found(10, 10, asleep, 90), raw(30, 10, What::In)] {
        machine.apply(record, &mut |output| {
            if let Output::Event(Event::Interval(e)) = output {
                told.push((e.off.0, e.on.0, e.left));
            }
        });
    }
    assert_eq!(told, [(10, 30, Left::Unknown)]);
}

#[test]
fn who_got_its_events_late_was_not_seen_before() {
    let mut records = drawn(10, "e");
    records.push(fork(20, 10, 11, 10));
    records.push(found(60, 11, None, 65));
    records.push(raw(80, 11, What::Out { preempted: false }));
    let told = told(records);
    assert_eq!(
        told,
        ["11 20..60 gap", "10 1000 Alive", "11 80..1000 blocked open", "11 1000 Alive"]
    );
}

#[test]
fn who_ran_without_a_record_was_not_seen() {
    for (runs, told) in [(None, "gap"), (Some(3), "gap"), (Some(0), "new")] {
        let mut machine = Machine::new(ROOT, Nanos(1));
        let mut drawn = Vec::new();
        let mut take = |output| match output {
            Output::Event(Event::Gap(e)) if e.tid == Tid(11) => drawn.push("gap"),
            Output::Event(Event::Interval(e)) if e.left == Left::New => drawn.push("new"),
            _ => {}
        };
        for record in [exec(0, 10), fork(20, 10, 11, 10)] {
            machine.apply(record, &mut take);
        }
        machine.finish(Nanos(1_000), &|_, _, _| Books { runs, ..Books::default() }, &mut take);
        assert_eq!(drawn, [told], "{runs:?}");
    }
}

#[test]
fn parents_and_leaders_are_told_first() {
    let mut machine = Machine::attached(Nanos(1));
    let member = |pid: u32, tid: u32, parent: u32| {
        let found = Found { parent: Pid(parent), left: None, looked: Nanos(1) };
        let what = What::Found(Box::new(found));
        Raw { time: Nanos(1), tid: Tid(tid), pid: Pid(pid), cpu: 0, what }
    };
    // Ids have wrapped: the child's is the lowest, a thread's lower than its leader's.
    for raw in [member(5, 5, 90), member(90, 7, 1), member(90, 90, 1)] {
        machine.apply(raw, &mut |_| {});
    }
    let mut order = Vec::new();
    machine.begin(Nanos(2), &mut |start| order.push(start.tid.0));
    assert_eq!(order, [90, 7, 5]);
}
