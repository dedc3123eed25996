//! Every rule on a drawn recording that it must find, and on one that nearly is and that it
//! must leave alone; and the verdicts.

#[path = "rules/python.rs"]
mod python;
mod scene;

use scene::play::contended;
use scene::play::*;
use scene::*;
use timesink::analysis::Report;
use timesink::analysis::Severity;
use timesink::analysis::replay::what_if;
use timesink::analysis::rules;
use timesink::model::*;

#[test]
fn a_lock_that_nobody_queues_for_is_left_alone() {
    let mut play = Play::new();
    play.thread(101, "worker-1");
    play.lock_loop(&[101], ["settle", "prepare"], 0x1000, [3 * MS, 7 * MS], 200 * MS);
    play.end(101);
    let report = report(&play.join(&[101]));
    silent(&report, "lock-bottleneck");
    assert_eq!(report.verdict.kind, "sleep-bound");
}

#[test]
fn the_decoy_is_named_and_costs_nothing() {
    let report = report(&decoy());
    let (a, b) = (id_of(&report, 0x1000), id_of(&report, 0x2000));
    assert!(report.objects[a as usize].wait_ns > 3 * report.objects[b as usize].wait_ns);
    assert_eq!((report.verdict.kind, report.verdict.object), ("lock-bound", Some(b)));
    assert!(report.verdict.headline.contains("`settle`"), "{}", report.verdict.headline);
    let note = fires(&report, "costless-wait");
    assert_eq!((note.severity, note.object), (Severity::Note, Some(a)));
    assert!(note.text.contains("`write_log`"), "{}", note.text);
    // And the lock that decides is not said to cost nothing.
    assert!(found(&report, "costless-wait").iter().all(|note| note.object != Some(b)));
}

/// Two threads that take two locks in opposite order; a third
/// thread may be there as well.
fn stuck(both: bool, third: bool) -> MemoryTrace {
    let mut play = Play::new();
    play.thread(101, "one");
    play.thread(102, "other");
    for (tid, word, name) in
        [(101, 0x1000, "first"), (102, if both { 0x1040 } else { 0x1000 }, "second")]
    {
        play.run(tid, MS, &["start_thread", name]);
        let lock = Call { arg0: word, ..LOCK };
        // The end of the process cuts the wait short: nobody let go of the word.
        let waker = Waker { call: None, arg0: 0, ..Scene::waker(MAIN, lock) };
        let stack = play.0.stack(&["start_thread", name, "__lll_lock_wait"]);
        play.0.wait_by(tid, 399 * MS, 0, Some(lock), Some(stack), Some(waker));
        play.end(tid);
    }
    if third {
        play.thread(103, "slow");
        play.sleep(103, 400 * MS, &["start_thread", "hold_both"]);
        play.end(103);
    }
    play.sleep(MAIN, 400 * MS, &["main", "nap"]);
    play.finish()
}

#[test]
fn a_deadlock_is_printed_as_a_cycle() {
    let report = report(&stuck(true, false));
    let finding = fires(&report, "deadlock");
    assert!(
        finding.text.contains("`one` (101)") && finding.text.contains("`second`"),
        "{}",
        finding.text
    );
    assert_eq!(report.verdict.kind, "deadlock");
    // Nobody was seen to take the locks, and the main thread may hold them.
    assert!(report.verdict.headline.contains("probably"), "{}", report.verdict.headline);
    assert!(!finding.text.contains("held by"), "{}", finding.text);
    silent(&report, "lock-bottleneck");
}

/// Waits for ever: the end of the process cuts it short, and nobody let go. It ends once it has a
/// CPU to do so, on a busy machine some ms later.
fn for_ever(play: &mut Play, tid: u32, call: Call, at: &[&str]) {
    let waker = Waker { call: None, arg0: 0, ..Scene::waker(MAIN, call) };
    let ns = 400 * MS - play.now(tid);
    let stack = play.0.stack(at);
    play.0.wait_by(tid, ns, 5 * MS, Some(call), Some(stack), Some(waker));
}

/// The worker waits for a lock; main, which took it after a wait if `seen`, waits for the worker.
/// A third may be there, which could hold the lock.
fn stuck_in_a_join(seen: bool, third: bool) -> MemoryTrace {
    let mut play = Play::new();
    play.crew(&[101, 103], "t");
    play.0.word(MAIN, 0x1000, "guard", None);
    if seen {
        play.until(MAIN, 5 * MS, LOCK, 103, &["main", "take", "__lll_lock_wait"]);
    }
    if !third {
        let gone = play.now(MAIN);
        play.run(103, gone + MS, &["start_thread", "brief"]);
        play.end(103);
    }
    play.run(101, 10 * MS, &["start_thread", "work"]);
    for_ever(&mut play, 101, LOCK, &["start_thread", "work", "__lll_lock_wait"]);
    let end = Call { arg0: 0x30_0000, arg2: 101, ..JOIN };
    play.run(MAIN, 10 * MS, &["main", "stop"]);
    for_ever(&mut play, MAIN, end, &["main", "stop", "pthread_join"]);
    if third {
        play.sleep(103, 400 * MS, &["start_thread", "nap"]);
        play.end(103);
    }
    play.end(101);
    play.finish()
}

#[test]
fn a_deadlock_of_a_lock_and_a_join_is_printed_as_a_cycle() {
    let proven = report(&stuck_in_a_join(true, true));
    let text = &fires(&proven, "deadlock").text;
    assert!(text.contains("`app` (100) waits in `stop` for the end of `t-101` (101)"), "{text}");
    assert!(
        text.contains("`t-101` (101) waits in `work` for lock `guard` held by `app`"),
        "{text}"
    );
    assert!(proven.verdict.headline.starts_with("2 threads are deadlocked"), "{text}");
    // Nobody saw who has the lock, but there is only one who can.
    let likely = report(&stuck_in_a_join(false, false));
    let text = &fires(&likely, "deadlock").text;
    assert!(text.contains("which nobody can hold but `app` (100)"), "{text}");
    assert!(likely.verdict.headline.contains("probably"), "{}", likely.verdict.headline);
    // Or it may be a third, who is only slow.
    silent(&report(&stuck_in_a_join(false, true)), "deadlock");
}

/// The reader holds a lock, which it took after a wait if `seen`, and waits at a pipe for the
/// writer, who waits for the lock. It may be that another wrote to the pipe as well.
fn stuck_at_a_pipe(seen: bool, other: bool) -> MemoryTrace {
    let mut play = Play::new();
    play.crew(&[101, 102, 103], "t");
    let pipe = on(READ, 5, FdKind::Pipe, 77);
    if seen {
        play.until(101, 5 * MS, LOCK, MAIN, &["start_thread", "read_all", "__lll_lock_wait"]);
    }
    for (writer, wrote) in [(102, true), (103, other)] {
        if wrote {
            let stack = play.0.stack(&["start_thread", "read_all", "__GI___libc_read"]);
            play.0.wait(101, 2 * MS, 0, pipe, Some(stack));
            play.0.ended_by(writer, 1, 6);
        }
    }
    play.run(102, 20 * MS, &["start_thread", "write_all"]);
    for_ever(&mut play, 101, pipe, &["start_thread", "read_all", "__GI___libc_read"]);
    for_ever(&mut play, 102, LOCK, &["start_thread", "write_all", "__lll_lock_wait"]);
    let join = |tid: u32| Call { arg0: 0x30_0000, arg2: tid, ..JOIN };
    if seen || other {
        play.sleep(103, 400 * MS, &["start_thread", "nap"]);
    } else {
        for_ever(&mut play, 103, join(101), &["start_thread", "wait_for_it", "pthread_join"]);
    }
    for_ever(&mut play, MAIN, join(102), &["main", "pthread_join"]);
    play.end_all(&[101, 102, 103]);
    play.finish()
}

#[test]
fn a_deadlock_of_a_lock_and_a_pipe_is_printed_as_a_cycle() {
    let found = report(&stuck_at_a_pipe(true, false));
    let text = &fires(&found, "deadlock").text;
    assert!(
        text.contains("`t-101` (101) waits in `read_all` for `t-102` (102), who alone wrote to it"),
        "{text}"
    );
    assert!(text.contains("`t-102` (102) waits in `write_all` for lock 0x1000 held by"), "{text}");
    assert!(found.verdict.headline.contains("probably"), "{}", found.verdict.headline);
    silent(&report(&stuck_at_a_pipe(true, true)), "deadlock");
    // Nobody saw who has the lock; but whoever it is waits, in the end, for who wants it.
    let found = report(&stuck_at_a_pipe(false, false));
    let text = &fires(&found, "deadlock").text;
    let held = "for lock 0x1000 held, by all that is known, by `t-101` (101)";
    assert!(text.contains(held), "{text}");
    silent(&report(&stuck_at_a_pipe(false, true)), "deadlock");
}

#[test]
fn a_lock_with_a_name_is_called_by_it_everywhere() {
    let named = |symbol: &str| {
        let mut play = Play::new();
        let tids = [101, 102, 103, 104];
        play.crew(&tids, "worker");
        if !symbol.is_empty() {
            play.0.word(MAIN, 0x1000, symbol, None);
        }
        play.lock_loop(&tids, ["settle", "prepare"], 0x1000, [3 * MS, 7 * MS], 300 * MS);
        play.end_all(&tids);
        report(&play.join(&tids))
    };
    let report = named("lock_b");
    let headline = &report.verdict.headline;
    assert!(headline.contains("queue for the lock `lock_b` held in `settle`"), "{headline}");
    let finding = fires(&report, "lock-bottleneck");
    assert_eq!(finding.title, "lock `lock_b` held in `settle`");
    assert!(finding.text.contains("the lock `lock_b` taken in `settle`"), "{}", finding.text);
    let label = &report.objects[finding.object.expect("the lock") as usize].label;
    assert!(label.starts_with("lock lock_b in `settle`"), "{label}");
    assert!(
        fires(&report, "model").text.contains("one lock `lock_b`, and"),
        "{:?}",
        report.findings
    );
    let headline = named("").verdict.headline;
    assert!(headline.contains("queue for one lock held in `settle`"), "{headline}");
}

#[test]
fn a_lock_that_the_program_names_is_called_so_before_its_variable() {
    let mut play = Play::new();
    let tids = [101, 102, 103, 104];
    play.crew(&tids, "worker");
    play.0.word(MAIN, 0x1000, "lock_b", None);
    // The word lies inside of what has the name.
    play.0.named(MAIN, 0xff8, 24, "accounts");
    play.lock_loop(&tids, ["settle", "prepare"], 0x1000, [3 * MS, 7 * MS], 300 * MS);
    play.end_all(&tids);
    let report = report(&play.join(&tids));
    let headline = &report.verdict.headline;
    assert!(headline.contains("queue for the lock `accounts` held in `settle`"), "{headline}");
    let finding = fires(&report, "lock-bottleneck");
    assert_eq!(finding.title, "lock `accounts` held in `settle`");
    let label = &report.objects[finding.object.expect("the lock") as usize].label;
    assert!(label.starts_with("lock `accounts` in `settle`"), "{label}");
}

#[test]
fn two_that_wait_for_one_lock_or_for_a_slow_third_are_no_deadlock() {
    silent(&report(&stuck(false, false)), "deadlock");
    silent(&report(&stuck(true, true)), "deadlock");
}

/// Threads of an interpreter that wait for its lock for `waits` ms of every 10.
fn interpreter(waits: u64) -> MemoryTrace {
    let mut play = Play::new();
    let gil = Call { arg0: 0x5000, arg1: 0x89, ..LOCK };
    for (tid, other, first) in [(101, 102, true), (102, 101, false)] {
        play.thread(tid, &format!("py-{tid}"));
        if !first {
            play.run(tid, (10 - waits) * MS, &["start_thread", "crunch"]);
        }
        while play.now(tid) < 200 * MS {
            let until = play.now(tid) + waits * MS;
            play.until(tid, until, gil, other, &["start_thread", "crunch", "take_gil"]);
            play.run(tid, (10 - waits) * MS, &["start_thread", "crunch"]);
        }
        play.end(tid);
    }
    play.join(&[101, 102])
}

#[test]
fn threads_that_take_turns_under_the_gil() {
    let report = report(&interpreter(5));
    assert!(fires(&report, "gil-bound").text.contains("`crunch`"));
    assert_eq!(report.verdict.kind, "gil-bound");
}

#[test]
fn waiting_briefly_for_the_gil_is_normal() {
    let mut play = Play::new();
    let gil = Call { arg0: 0x5000, arg1: 0x89, ..LOCK };
    play.thread(101, "py-1");
    play.until(101, 2 * MS, gil, MAIN, &["start_thread", "crunch", "take_gil"]);
    play.run(101, 100 * MS, &["start_thread", "crunch"]);
    play.end(101);
    let report = report(&play.join(&[101]));
    silent(&report, "gil-bound");
}

/// Waiters woken together; they go on to a lock, or not.
fn herd(into_lock: bool) -> MemoryTrace {
    let mut play = Play::new();
    let tids = [101, 102, 103];
    play.crew(&tids, "waiter");
    play.thread(110, "beside");
    let beside = Call { arg0: 0x7000, ..LOCK };
    play.until(110, 190 * MS, beside, MAIN, &["start_thread", "aside", "__lll_lock_wait"]);
    play.end(110);
    for round in 1..=20_u64 {
        play.sleep(MAIN, 10 * MS, &["main", "gather"]);
        let news = round * 10 * MS;
        for &tid in &tids {
            play.until(tid, news, QUEUE, MAIN, &["start_thread", "hear", "pthread_cond_wait"]);
            if into_lock {
                play.until(
                    tid,
                    news + MS,
                    LOCK,
                    MAIN,
                    &["start_thread", "hear", "__lll_lock_wait"],
                );
            }
            play.run(tid, MS / 2, &["start_thread", "hear"]);
        }
    }
    play.end_all(&tids);
    play.join(&tids)
}

#[test]
fn a_herd_is_told_from_a_plain_broadcast() {
    let finding = report(&herd(true));
    assert!(fires(&finding, "thundering-herd").text.contains("60 of 60"));
    // Not the one that another thread waits for longest.
    assert_eq!(fires(&finding, "thundering-herd").object, Some(id_of(&finding, 0x1000)));
    assert!(id_of(&finding, 0x7000) < id_of(&finding, 0x1000));
    silent(&report(&herd(false)), "thundering-herd");
}

/// One thread hands a lock on to itself most of the time; the other gets it every `n`th time.
fn unfair(n: u64) -> MemoryTrace {
    let mut play = Play::new();
    let all = [101, 102, 103];
    play.crew(&all, "greedy");
    let at = ["start_thread", "grab", "__lll_lock_wait"];
    for round in 1..=60_u64 {
        // 101 and 103 pass it to each other.
        let (from, to) = if round % 2 == 0 { (101, 103) } else { (103, 101) };
        let time = round * 5 * MS;
        play.until(to, time, LOCK, from, &at);
        if round % n == 0 {
            play.until(102, time, LOCK, from, &at);
            play.until(from, time + 5 * MS, LOCK, 102, &at);
        }
    }
    let end = 305 * MS;
    play.until(102, end, LOCK, 101, &at);
    play.end_all(&all);
    play.join(&all)
}

#[test]
fn starvation_is_told_from_a_fair_queue() {
    let unjust = report(&unfair(30));
    let finding = fires(&unjust, "starvation");
    assert_eq!(finding.threads, [2], "{}", finding.text);
    assert_eq!(unjust.verdict.kind, "lock-bound");
    let claim = finding.claim.as_ref().expect("the run went through it");
    assert!(claim.headline.contains("keeps the lock"), "{}", claim.headline);
    // First come, first served: all wait, and all get it.
    let mut play = Play::new();
    let tids = [101, 102, 103, 104];
    play.crew(&tids, "polite");
    play.lock_loop(&tids, ["grab", "rest"], 0x1000, [5 * MS, 0], 400 * MS);
    play.end_all(&tids);
    let fair = report(&play.join(&tids));
    assert_eq!(fires(&fair, "lock-bottleneck").threads.len(), 4);
    silent(&fair, "starvation");
    silent(&report(&contended()), "starvation");
}

/// A holder that is off the CPU for `ready` of the 10 ms that another waits for its lock.
fn holder_without_cpu(ready: u64) -> MemoryTrace {
    let mut play = Play::new();
    play.thread(101, "holder");
    play.thread(102, "waiter");
    for round in 0..10_u64 {
        play.run(101, (10 - ready) * MS, &["start_thread", "hold_it"]);
        play.0.off_ready(101, ready * MS, Left::Preempted, Some(FOREIGN));
        let free = (round + 1) * 10 * MS;
        play.until(102, free, LOCK, 101, &["start_thread", "want_it", "__lll_lock_wait"]);
    }
    play.end(101);
    play.end(102);
    play.join(&[101, 102])
}

#[test]
fn a_holder_without_a_cpu_is_told_from_a_busy_one() {
    let report_of = |ready| report(&holder_without_cpu(ready));
    assert!(fires(&report_of(8), "preempted-holder").text.contains("`holder`"));
    silent(&report_of(2), "preempted-holder");
    silent(&report_of(8), "costless-wait");
}

#[test]
fn writers_kept_out_are_told_from_both_sides_waiting() {
    let rwlock = |reader: u64| {
        let mut play = Play::new();
        play.thread(101, "writer");
        play.thread(102, "reader");
        let at = |which| ["start_thread", "update", which];
        play.until(101, 80 * MS, LOCK, 102, &at("__pthread_rwlock_wrlock"));
        if reader > 0 {
            play.until(102, reader * MS, LOCK, 101, &at("__pthread_rwlock_rdlock"));
        }
        play.run(102, 100 * MS, &["start_thread", "read_all"]);
        play.end(101);
        play.end(102);
        report(&play.join(&[101, 102]))
    };
    assert!(fires(&rwlock(0), "rwlock-starvation").title.contains("writers"));
    silent(&rwlock(60), "rwlock-starvation");
}

/// A loop that polls and now and then does something for `long` ms.
fn event_loop(long: u64) -> MemoryTrace {
    let mut play = Play::new();
    let poll = on(232, 5, FdKind::Epoll, 7);
    let stack = play.0.stack(&["main", "run_forever", "epoll_wait"]);
    for turn in 0..40_u64 {
        play.0.wait(MAIN, 5 * MS, 0, poll, Some(stack));
        if turn % 10 == 5 {
            play.sleep(MAIN, long * MS, &["main", "run_forever", "blocking_call"]);
        }
        play.run(MAIN, MS / 10, &["main", "run_forever"]);
    }
    play.finish()
}

#[test]
fn a_blocked_event_loop_is_told_from_a_quick_one() {
    let blocked = report(&event_loop(50));
    let finding = fires(&blocked, "blocked-event-loop");
    assert!(
        finding.text.contains("4 times") && finding.text.contains("asleep"),
        "{}",
        finding.text
    );
    assert_eq!(blocked.verdict.kind, "blocked-event-loop");
    assert_eq!(blocked.processes[0].model.kind.as_deref(), Some("event-loop"));
    silent(&report(&event_loop(5)), "blocked-event-loop");
}

/// Threads that run and are preempted in turn by each other, or by somebody else.
fn crowd(threads: u32, taker: Option<u32>) -> MemoryTrace {
    let mut play = Play::new();
    let tids: Vec<u32> = (101..101 + threads).collect();
    play.crew(&tids, "burner");
    for &tid in &tids {
        for _ in 0..10 {
            play.run(tid, 10 * MS, &["start_thread", "burn"]);
            play.0.off_ready(tid, 20 * MS, Left::Preempted, taker.or(Some(tid % threads + 101)));
        }
        play.end(tid);
    }
    play.join(&tids)
}

#[test]
fn own_and_foreign_crowds_are_told_apart() {
    let own = report(&crowd(6, None));
    assert!(fires(&own, "oversubscription").text.contains("6 threads"));
    assert_eq!(own.verdict.kind, "oversubscribed");
    silent(&own, "foreign-load");
    let foreign = report(&crowd(1, Some(FOREIGN)));
    fires(&foreign, "foreign-load");
    silent(&foreign, "oversubscription");
}

#[test]
fn all_cpus_busy_is_told_from_one() {
    let busy = |threads: &[u32]| {
        let mut play = Play::new();
        for &tid in threads {
            play.thread(tid, "worker");
            play.run(tid, 100 * MS, &["start_thread", "crunch"]);
            play.end(tid);
        }
        report(&play.join(threads))
    };
    let two = busy(&[101, 102]);
    assert!(fires(&two, "cpu-saturated").text.contains("`crunch`"));
    assert_eq!(two.verdict.kind, "cpu-saturated");
    silent(&two, "serial");
    let one = busy(&[101]);
    silent(&one, "cpu-saturated");
    assert!(fires(&one, "serial").text.contains("`crunch`"));
    assert_eq!(one.verdict.kind, "serial");
}

/// Rounds in which three threads take 10 ms and one `slow` ms.
fn barrier(slow: u64) -> MemoryTrace {
    barrier_kept(slow, 0)
}

/// The same; that one has no CPU for so many ms of a round.
fn barrier_kept(slow: u64, ready: u64) -> MemoryTrace {
    let mut play = Play::new();
    let tids = [101, 102, 103, 104];
    let meet = Call { arg0: 0x4000, ..LOCK };
    play.crew(&tids, "runner");
    for round in 1..=10_u64 {
        let (end, last) = (round * slow * MS, 104);
        for &tid in &tids {
            let work = if tid == last { slow } else { 10 };
            let name = if tid == last { "carry_heavy" } else { "carry_light" };
            if tid == last && ready > 0 {
                play.run(tid, MS, &["start_thread", "run", name]);
                play.0.off_ready(tid, ready * MS, Left::Preempted, Some(FOREIGN));
                play.run(tid, (work - ready - 1) * MS, &["start_thread", "run", name]);
            } else {
                play.sleep(tid, work * MS, &["start_thread", "run", name]);
            }
            if end > play.now(tid) {
                play.until(tid, end, meet, last, &["start_thread", "run", "pthread_barrier_wait"]);
            }
        }
    }
    play.end_all(&tids);
    play.join(&tids)
}

#[test]
fn a_slow_thread_at_a_barrier_is_told_from_an_even_one() {
    let uneven = report(&barrier(20));
    let finding = fires(&uneven, "straggler");
    assert_eq!(finding.threads, [4], "{}", finding.text);
    assert_eq!(uneven.verdict.kind, "imbalanced");
    assert!(uneven.verdict.headline.contains("`carry_heavy`"), "{}", uneven.verdict.headline);
    silent(&report(&barrier(10)), "straggler");
}

#[test]
fn who_is_late_at_a_barrier_for_want_of_a_cpu_has_not_too_much_work() {
    let kept = report(&barrier_kept(30, 28));
    assert_ne!(kept.verdict.kind, "imbalanced", "{}", kept.verdict.headline);
    let busy = report(&barrier_kept(30, 2));
    assert_eq!(busy.verdict.kind, "imbalanced", "{}", busy.verdict.headline);
}

#[test]
fn a_slow_thread_at_a_join_is_told_from_an_even_one() {
    let lives = |last: u64| {
        let mut play = Play::new();
        for (tid, life) in [(101, 50), (102, 52), (103, last)] {
            play.thread(tid, &format!("part-{tid}"));
            play.sleep(tid, life * MS, &["start_thread", "convert"]);
            play.end(tid);
        }
        report(&play.join(&[101, 102, 103]))
    };
    assert_eq!(fires(&lives(120), "straggler").threads, [3]);
    silent(&lives(60), "straggler");
}

/// Three stages; the middle one is always at work, or all wait for each other alike.
fn pipeline(middle: u64) -> MemoryTrace {
    let mut play = Play::new();
    for (tid, name) in [(101, "stage-1"), (102, "stage-2"), (103, "stage-3")] {
        play.thread(tid, name);
    }
    let take = Call { arg0: 0x2100, ..QUEUE };
    for round in 1..=30_u64 {
        let end = round * 5 * MS;
        play.sleep(102, middle * MS, &["start_thread", "stage_two"]);
        if middle < 5 {
            play.until(
                102,
                end,
                Call { arg0: 0x2200, ..QUEUE },
                101,
                &["start_thread", "take", "pthread_cond_wait"],
            );
        }
        play.sleep(101, 2 * MS, &["start_thread", "stage_one"]);
        play.until(101, end, QUEUE, 102, &["start_thread", "put", "pthread_cond_wait"]);
        play.sleep(103, MS, &["start_thread", "stage_three"]);
        play.until(103, end, take, 102, &["start_thread", "take", "pthread_cond_wait"]);
    }
    play.end_all(&[101, 102, 103]);
    play.join(&[101, 102, 103])
}

#[test]
fn the_slowest_stage_of_a_pipeline() {
    let report_of = |middle| report(&pipeline(middle));
    let slow = report_of(5);
    let finding = fires(&slow, "pipeline-stage");
    assert_eq!(finding.threads, [2], "{}", finding.text);
    assert_eq!(slow.verdict.kind, "starved");
    assert_eq!(slow.processes[0].model.kind.as_deref(), Some("pipeline"));
    silent(&report_of(1), "pipeline-stage");
}

/// `n` workers that have work for `work` of every 10 ms, handed out by main.
fn pool(n: u32, work: u64) -> MemoryTrace {
    let mut play = Play::new();
    let tids: Vec<u32> = (101..101 + n).collect();
    play.crew(&tids, "pool");
    for round in 1..=20_u64 {
        play.sleep(MAIN, 10 * MS, &["main", "make_work"]);
        for &tid in &tids {
            play.until(
                tid,
                round * 10 * MS,
                QUEUE,
                MAIN,
                &["start_thread", "next_job", "pthread_cond_wait"],
            );
            play.sleep(tid, work * MS, &["start_thread", "job"]);
        }
    }
    play.end_all(&tids);
    play.join(&tids)
}

#[test]
fn a_starved_pool_is_told_from_a_busy_one() {
    let starved = report(&pool(4, 2));
    assert!(fires(&starved, "starved-pool").text.contains("`make_work`"));
    assert_eq!(starved.processes[0].model.kind.as_deref(), Some("thread-pool"));
    silent(&report(&pool(4, 8)), "starved-pool");
}

#[test]
fn a_pool_too_large_for_its_work() {
    assert!(fires(&report(&pool(8, 1)), "pool-size").text.contains("8 workers"));
    silent(&report(&pool(8, 8)), "pool-size");
}

#[test]
fn many_short_threads_are_told_from_few() {
    let made = |n: u32, each: u64| {
        let mut play = Play::new();
        for tid in 101..101 + n {
            play.thread(tid, "task");
            play.run(tid, each, &["start_thread", "task"]);
            play.end(tid);
            let ns = each + MS / 10;
            play.run(MAIN, ns, &["main"]);
        }
        report(&play.finish())
    };
    assert!(fires(&made(60, MS / 5), "thread-churn").text.contains("60 threads"));
    silent(&made(10, MS / 5), "thread-churn");
    silent(&made(60, 5 * MS), "thread-churn");
}

#[test]
fn spinning_is_told_from_working() {
    let waits_in = |function: &str| {
        let mut play = Play::new();
        play.thread(101, "spinner");
        play.thread(102, "worker");
        play.run(101, 100 * MS, &["start_thread", function]);
        play.run(102, 100 * MS, &["start_thread", "work_alone"]);
        play.end(101);
        play.end(102);
        play.join(&[101, 102])
    };
    let faster = |trace: &MemoryTrace| {
        what_if(trace, &["section:work_alone*0.5".to_owned()]).expect("known").refused
    };
    let trace = waits_in("spin_on_flag");
    let why = faster(&trace).expect("the spinner would not stop sooner in a replay");
    assert!(why.contains("`spinner` waits by running in `spin_on_flag` (50 %"), "{why}");
    assert_eq!(faster(&waits_in("compute")), None);
    let spun = report(&trace);
    let finding = fires(&spun, "spin-wait");
    assert!(finding.text.contains("`work_alone`"), "{}", finding.text);
    assert_eq!(spun.verdict.kind, "serial");
    silent(&report(&waits_in("compute")), "spin-wait");
}

#[test]
fn thousands_of_yields_are_told_from_a_few() {
    let yields = |n: u32| {
        let mut play = Play::new();
        for _ in 0..n {
            play.run(MAIN, 10_000, &["main", "wait_for_it"]);
            play.0.off_ready(MAIN, 10_000, Left::Yielded, None);
        }
        play.run(MAIN, 20 * MS, &["main", "wait_for_it"]);
        report(&play.finish())
    };
    assert!(fires(&yields(2000), "spin-wait").title.contains("sched_yield"));
    silent(&yields(100), "spin-wait");
}

#[test]
fn chatter_is_told_from_real_waits() {
    let chat = |run: u64| {
        let mut play = Play::new();
        play.thread(101, "left");
        let pipe = on(READ, 3, FdKind::Pipe, 12);
        let stack = play.0.stack(&["start_thread", "pass", "read"]);
        for _ in 0..6000 {
            play.run(101, run, &["start_thread", "pass"]);
            play.0.wait_by(101, 8_000, 0, Some(pipe), Some(stack), Some(Scene::waker(MAIN, pipe)));
        }
        play.end(101);
        report(&play.join(&[101]))
    };
    assert!(fires(&chat(4_000), "chatty-switching").text.contains("times a second"));
    silent(&chat(100_000), "chatty-switching");
}

/// One thread that runs for a third and waits in a call for the rest, ended by nobody's task.
fn waiting(call: Option<Call>, context: Context, share: u64) -> Report {
    let mut play = Play::new();
    let stack = play.0.stack(&["main", "fetch", "read"]);
    let waker = Waker { tid: Tid(0), in_tree: false, context, call: None, arg0: 0 };
    for _ in 0..20 {
        play.run(MAIN, (100 - share) * MS / 10, &["main", "fetch"]);
        play.0.wait_by(MAIN, share * MS / 10, 0, call, Some(stack), Some(waker));
    }
    report(&play.finish())
}

#[test]
fn waits_on_the_path_are_told_by_what_they_are_for() {
    let file = on(READ, 4, FdKind::File, 31);
    let socket = on(READ, 9, FdKind::SocketInet, 51);
    let pipe = on(READ, 0, FdKind::Pipe, 12);
    let poll = on(232, 5, FdKind::Epoll, 7);
    for (call, context, rule, kind) in [
        (Some(TIMER), Context::Hardirq, "sleep-in-path", "sleep-bound"),
        (Some(file), Context::Softirq, "disk-wait", "disk-bound"),
        (None, Context::Softirq, "page-faults", "disk-bound"),
        (Some(socket), Context::Softirq, "network-peer", "network-bound"),
        (Some(pipe), Context::Task, "pipe-wait", "pipe-bound"),
        (Some(poll), Context::Softirq, "idle", "idle"),
    ] {
        let much = waiting(call, context, 90);
        let finding = fires(&much, rule);
        assert!(finding.text.contains("`fetch`"), "{rule}: {}", finding.text);
        assert_eq!(much.verdict.kind, kind, "{}", much.verdict.headline);
        silent(&waiting(call, context, 3), rule);
    }
}

/// Children of main that run for `each` one after the other, or all at once.
fn children(n: u32, each: u64, at_once: bool) -> MemoryTrace {
    children_of(&vec![each; n as usize], at_once)
}

/// Children of main that run for so long.
fn children_of(times: &[u64], at_once: bool) -> MemoryTrace {
    let mut play = Play::new();
    let first = play.0.now(MAIN);
    for (pid, &each) in (200..).zip(times) {
        play.0.process(pid, MAIN, b"/bin/true", &["true"]);
        play.run(pid, each, &["main", "child_work"]);
        play.0.end(pid, pid, Some(0));
        if !at_once {
            let call = on(WAIT4, u64::from(pid), FdKind::None, 0);
            let end = play.now(pid);
            play.until(MAIN, end, call, pid, &["main", "wait4"]);
        }
    }
    if at_once {
        let call = on(WAIT4, 200, FdKind::None, 0);
        let longest = times.iter().max().copied().unwrap_or_default();
        play.until(MAIN, first - Scene::BEGIN + longest, call, 200, &["main", "wait4"]);
    }
    play.finish()
}

#[test]
fn children_one_after_the_other_are_told_from_many_at_once() {
    assert!(fires(&report(&children(5, 20 * MS, false)), "child-wait").text.contains("5 children"));
    silent(&report(&children(5, 20 * MS, true)), "child-wait");
}

/// ```text
/// main   wwwwwwwwwwwwwwwwwwwwwwwwwwwww     to start them together would gain a tenth at most
/// true   rr        (200)
/// true     rrrrrrrrrrrrrrrrrrrrrrrrrrr     (201)
/// ```
#[test]
fn one_long_child_among_short_ones_is_no_row_of_children() {
    let report = report(&children_of(&[2 * MS, 200 * MS, MS], false));
    let finding = fires(&report, "child-wait");
    assert!(finding.text.contains("nearly all of it for one: `true` [201]"), "{}", finding.text);
    assert!(!finding.advice.contains("together"), "{}", finding.advice);
    assert_eq!(finding.severity, Severity::Note);
}

#[test]
fn small_processes_are_told_from_large_ones() {
    let churn = report(&children(30, MS, false));
    fires(&churn, "process-churn");
    assert_eq!(churn.verdict.kind, "child-bound");
    silent(&report(&children(30, 20 * MS, false)), "process-churn");
    silent(&report(&children(5, MS, false)), "process-churn");
}

#[test]
fn a_used_up_quota_is_told_from_a_wide_one() {
    let quota = |millis: Option<u64>| {
        let mut trace = crowd(2, Some(FOREIGN));
        trace.info.cpu_quota_millis = millis;
        report(&trace)
    };
    fires(&quota(Some(700)), "throttled");
    silent(&quota(Some(1900)), "throttled");
    silent(&quota(None), "throttled");
}

#[test]
fn what_a_hypervisor_took_is_told_where_it_is_noticeable() {
    let taken = |stolen: u64, busy: u64| {
        let mut trace = crowd(2, Some(FOREIGN));
        let stolen = Stolen { stolen: Nanos(stolen * MS), busy: Nanos(busy * MS) };
        trace.summary.as_mut().expect("complete").stolen = Some(stolen);
        let report = report(&trace);
        assert_eq!(report.host.stolen_ns, Some(stolen.stolen.0));
        assert_eq!(report.host.busy_ns, Some(stolen.busy.0));
        let told = |warning: &&String| warning.contains("host of this virtual machine");
        report.health.warnings.iter().find(told).cloned()
    };
    let told = taken(120, 1000).expect("a warning");
    assert!(told.contains("took 12.0 %") && told.contains("120 ms of 1.00 s"), "{told}");
    assert_eq!(taken(9, 1000), None, "less than 1 %");
    assert_eq!(taken(20, 100), None, "as good as nothing: it is counted in 10 ms");
    assert_eq!(report(&crowd(2, None)).host.stolen_ns, None, "not known");
}

#[test]
fn a_model_is_judged() {
    let shared = report(&contended());
    let model = &shared.processes[0].model;
    assert_eq!((model.kind.as_deref(), model.workers), (Some("fork-join"), Some(4)));
    assert!(fires(&shared, "model").text.contains("serial program with extra steps"));
    let alone = report(&children(0, 0, false));
    assert_eq!(alone.processes[0].model.kind.as_deref(), Some("single-thread"));
    // The loggers' queue is none of the run's business.
    let decoy = report(&decoy());
    assert!(!fires(&decoy, "model").text.contains("97 %"), "{}", fires(&decoy, "model").text);
}

#[test]
fn without_wakers_no_rule_says_who_was_to_blame() {
    let mut play = Play::new();
    play.thread(101, "worker-1");
    let stack = play.0.stack(&["start_thread", "settle", "__lll_lock_wait"]);
    for _ in 0..20 {
        play.0.wait(101, 9 * MS, 0, LOCK, Some(stack));
        play.run(101, MS, &["start_thread", "settle"]);
    }
    play.end(101);
    let end = play.now(101);
    let join = play.0.stack(&["main", "pthread_join"]);
    play.0.wait(MAIN, end, 0, JOIN, Some(join));
    let report = report(&play.finish());
    for rule in ["lock-bottleneck", "costless-wait", "straggler", "serial", "pipeline-stage"] {
        silent(&report, rule);
    }
    assert_eq!(
        report.verdict.kind, "lock-bound",
        "the plain verdict stands: {}",
        report.verdict.headline
    );
}

#[test]
fn a_tier_without_wakers_does_not_speak_of_the_path() {
    let mut trace = contended();
    trace.info.tier = Tier::Proc;
    let report = report(&trace);
    silent(&report, "sleep-in-path");
    assert_eq!(report.verdict.confidence.level, "low");
}

#[test]
fn losses_lower_the_confidence() {
    let whole = report(&contended());
    let mut events = contended().events;
    events.push(Event::Lost(Lost {
        from: Nanos(Scene::BEGIN),
        to: Nanos(Scene::BEGIN + 100 * MS),
        what: LostKind::Intervals,
        count: 50,
        cpu: None,
    }));
    let damaged = report(&MemoryTrace::new(events));
    assert!(damaged.verdict.confidence.value < whole.verdict.confidence.value);
    assert_eq!(whole.verdict.confidence.level, "high");
}

/// The table in the README is the one that the rules give; `BLESS=1` writes it.
#[test]
fn the_table_in_the_readme_is_fresh() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).expect("README.md");
    let (begin, end) = ("<!-- rules -->\n", "<!-- end of rules -->");
    let (head, rest) = text.split_once(begin).expect("README.md marks the table of rules");
    let (old, tail) = rest.split_once(end).expect("and its end");
    let new = rules::table();
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(&path, format!("{head}{begin}{new}{end}{tail}")).expect("writable");
    } else {
        assert_eq!(old, new, "run `BLESS=1 cargo test --test rules` and look at the difference");
    }
}

#[test]
fn every_rule_explains_itself() {
    for rule in rules::RULES {
        let text = rules::explained(rule);
        assert!(text.lines().skip(1).all(|line| line.len() <= 90), "{text}");
        for part in ["What it reports", "Why it matters", "What to try"] {
            assert!(text.contains(part), "{}", rule.id);
        }
        assert!(rules::listed().contains(rule.id));
        let same = rules::RULES.iter().filter(|other| other.id == rule.id).count();
        assert_eq!(same, 1, "{} is there twice", rule.id);
        assert!(!text.contains("  \n") && rule.matters.len() < 160, "{}", rule.id);
    }
}

/// A lock that is held for so short and so often that no step under it is among the listed ones.
#[test]
fn a_lock_under_steps_too_short_to_be_listed_is_seen() {
    let us = 1000;
    let mut play = Play::new();
    for round in 0..10_400_u64 {
        let name = if round % 2 == 0 { "even" } else { "odd" };
        play.run(MAIN, 6 * us, &["main", name]);
        play.sleep(MAIN, 6 * us, &["main", name]);
    }
    play.crew(&[101, 102], "worker");
    let until = play.now(MAIN) + 120 * MS;
    play.lock_loop(&[101, 102], ["settle", "prepare"], 0x1000, [3 * us, us], until);
    play.end_all(&[101, 102]);
    let trace = play.join(&[101, 102]);
    let report = report(&trace);
    let lock = id_of(&report, 0x1000);
    let listed: u64 = report.critical_path.iter().filter(|s| s.thread != 0).map(|s| s.ns).sum();
    assert!(listed * 20 < report.wall_ns, "{listed} ns of the workers are listed");
    assert!(found(&report, "costless-wait").iter().all(|note| note.object != Some(lock)));
    let finding = fires(&report, "lock-bottleneck");
    let under = finding.evidence.iter().find(|proof| proof.what == "of the path under it");
    assert!(finding.object == Some(lock) && under.expect("a share").value > 0.2, "{under:?}");
}

/// Each takes its first lock after a wait for main, then waits for the other's for ever.
/// `passed_on`: the first lets go of its own before, and a slow third has it.
fn seen_stuck(passed_on: bool) -> MemoryTrace {
    let mut play = Play::new();
    play.crew(&[101, 102, 103], "t");
    let lock = |word: u64| Call { arg0: word, ..LOCK };
    let wait = "__lll_lock_wait";
    play.until(101, 5 * MS, lock(0x1000), MAIN, &["start_thread", "first", wait]);
    play.until(102, 6 * MS, lock(0x1040), MAIN, &["start_thread", "second", wait]);
    play.run(101, 4 * MS, &["start_thread", "first"]);
    play.run(102, 4 * MS, &["start_thread", "second"]);
    if passed_on {
        play.until(103, 8 * MS, lock(0x1000), 101, &["start_thread", "third", wait]);
    }
    for (tid, word, name) in [(101, 0x1040, "first"), (102, 0x1000, "second")] {
        let ns = 400 * MS - play.now(tid);
        let waker = Waker { call: None, arg0: 0, ..Scene::waker(MAIN, lock(word)) };
        let stack = play.0.stack(&["start_thread", name, wait]);
        play.0.wait_by(tid, ns, 0, Some(lock(word)), Some(stack), Some(waker));
        play.end(tid);
    }
    let ns = 400 * MS - play.now(103);
    play.sleep(103, ns, &["start_thread", "third"]);
    play.end(103);
    play.sleep(MAIN, 400 * MS, &["main", "nap"]);
    play.finish()
}

#[test]
fn a_deadlock_whose_holders_were_seen_is_certain() {
    let held = report(&seen_stuck(false));
    let text = &fires(&held, "deadlock").text;
    assert!(
        text.contains("`t-101` (101) waits") && text.contains("held by `t-102` (102)"),
        "{text}"
    );
    assert!(text.contains("held by `t-101` (101)"), "{text}");
    assert_eq!(held.verdict.kind, "deadlock");
    assert!(!held.verdict.headline.contains("probably"), "{}", held.verdict.headline);
    // The third may be about to let go.
    silent(&report(&seen_stuck(true)), "deadlock");
}

#[test]
fn shares_are_of_the_quota_where_that_is_less() {
    let quota = |millis: Option<u64>| {
        let mut play = Play::new();
        play.run(MAIN, 100 * MS, &["main", "crunch"]);
        let mut trace = play.finish();
        trace.info.cpus_allowed = 8;
        trace.info.cpu_quota_millis = millis;
        report(&trace)
    };
    let tight = quota(Some(1000));
    let finding = fires(&tight, "cpu-saturated");
    assert!(finding.text.contains("of the 1 CPU of its quota"), "{}", finding.text);
    for finding in &tight.findings {
        assert!(!finding.text.contains("8 CPUs"), "{}", finding.text);
    }
    assert!(!tight.verdict.headline.contains("8 CPUs"), "{}", tight.verdict.headline);
    silent(&quota(None), "cpu-saturated");
}

#[test]
fn parked_words_stay_apart_without_a_function_of_the_program() {
    let parked = |own: &[&str]| {
        let mut play = Play::new();
        play.crew(&[101, 102], "worker");
        for (tid, word) in [(101, 0x9000), (102, 0x9100)] {
            let stack: Vec<&str> = own.iter().copied().chain(["parking_lot+0x10"]).collect();
            play.until(tid, 50 * MS, Call { arg0: word, ..LOCK }, MAIN, &stack);
        }
        play.end_all(&[101, 102]);
        let report = report(&play.join(&[101, 102]));
        report.objects.iter().filter(|object| [0x9000, 0x9100].contains(&object.address)).count()
    };
    assert_eq!(parked(&["start_thread", "settle"]), 1);
    assert_eq!(parked(&["app+0x5"]), 2);
}

#[test]
fn a_condition_of_musl_is_one_whatever_its_waiters_sleep_on() {
    let waited = |inner: &[&str]| {
        let mut play = Play::new();
        play.crew(&[101, 102], "worker");
        for (tid, word) in [(101, 0x9000), (102, 0x9100)] {
            let stack: Vec<&str> =
                ["start_thread", "settle"].iter().chain(inner).copied().collect();
            play.until(tid, 50 * MS, Call { arg0: word, ..LOCK }, MAIN, &stack);
        }
        play.end_all(&[101, 102]);
        let report = report(&play.join(&[101, 102]));
        let words = report.objects.into_iter().filter(|o| [0x9000, 0x9100].contains(&o.address));
        words.map(|object| (object.kind, object.waiters)).collect::<Vec<_>>()
    };
    let musl = ["pthread_cond_timedwait", "__timedwait_cp", "sccp"];
    assert_eq!(waited(&musl), [("condvar", 2)]);
    assert_eq!(waited(&musl[..1]), [("condvar", 1), ("condvar", 1)]);
    let gil = ["take_gil", musl[0], musl[1], musl[2]];
    assert_eq!(waited(&gil), [("gil", 2)]);
    assert_eq!(waited(&gil[..2]), [("gil", 1), ("gil", 1)]);
}

#[test]
fn threads_without_their_first_one_have_no_model() {
    let mut play = Play::new();
    play.crew(&[101, 102], "stray");
    for tid in [101, 102] {
        play.run(tid, 50 * MS, &["start_thread", "work"]);
        play.end(tid);
    }
    play.run(MAIN, 60 * MS, &["main", "work"]);
    let mut trace = play.finish();
    // They belong to a process whose main thread was not seen.
    for event in &mut trace.events {
        if let Event::Start(start) = event
            && start.tid != Tid(MAIN)
        {
            start.pid = Pid(600);
        }
    }
    let report = report(&trace);
    let stray = report.processes.iter().find(|process| process.pid == 600).expect("it is there");
    assert_eq!((stray.model.kind.as_deref(), stray.model.workers), (None, None));
    let alone = report.processes.iter().find(|process| process.pid == MAIN).expect("it is there");
    assert_eq!(alone.model.kind.as_deref(), Some("single-thread"));
}
