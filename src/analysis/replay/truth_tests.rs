//! Predictions against the truth: made-up programs, changed and played again, and the laws of
//! queues.

use super::world::Act;
use super::world::Act::*;
use super::world::World;
use super::*;
use crate::analysis::schedule::Schedule;
use crate::model::*;
use proptest::prelude::*;

fn asked(trace: &MemoryTrace, change: &str) -> Answer {
    what_if(trace, &[change.to_owned()]).unwrap_or_else(|error| panic!("{change}: {error}"))
}

/// The replay must predict what playing the changed program takes.
#[track_caller]
fn predicts(before: &World, change: &str, after: &World, tolerance: f64) {
    let (trace, took) = before.play();
    let answer = asked(&trace, change);
    assert_eq!(answer.refused, None, "{change}");
    let error = answer.identity.expect("replayed").error;
    assert!(error.abs() < 0.01, "identity is off by {error}");
    let truth = took as f64 / after.takes() as f64;
    let off = answer.speedup / truth - 1.0;
    assert!(off.abs() < tolerance, "{change}: {} for {truth}: {answer:?}", answer.speedup);
    let (low, high) = answer.low.zip(answer.high).expect("an interval");
    assert!(low <= answer.speedup && answer.speedup <= high);
}

/// `threads` that hold one lock and stay outside, `rounds` times in all.
fn lock_loop(threads: usize, rounds: usize, hold: u64, outside: u64) -> World {
    let round = [Lock(0), Sleep(hold, "hold_lock"), Unlock(0), Sleep(outside, "stay_outside")];
    World::of(vec![round.repeat(rounds / threads); threads])
}

/// Saturation law: a lock gives `min(1/C, N/(C+P))`.
#[test]
fn a_lock_follows_the_saturation_law() {
    for (threads, hold, outside) in [(4, 3_000, 7_000), (8, 3_000, 7_000), (2, 6_000, 4_000)] {
        let world = |hold, outside| lock_loop(threads, 304, hold, outside);
        let before = world(hold, outside);
        predicts(&before, "lock:0x100000*0.5", &world(hold / 2, outside), 0.02);
        predicts(&before, "section:hold_lock*0.1", &world(hold / 10, outside), 0.02);
        predicts(&before, "section:stay_outside*0.5", &world(hold, outside / 2), 0.02);
        predicts(&before, "threads=3", &lock_loop(3, 304, hold, outside), 0.03);
        predicts(&before, "threads=16", &lock_loop(16, 304, hold, outside), 0.03);
        let rate = |c: f64, p: f64| (1.0 / c).min(threads as f64 / (c + p));
        let (c, p) = (hold as f64, outside as f64);
        let answer = asked(&before.play().0, "lock:0x100000*0.5");
        let law = rate(c / 2.0, p) / rate(c, p);
        assert!((answer.speedup / law - 1.0).abs() < 0.03, "{} for {law}", answer.speedup);
    }
}

/// Threads that compute and take two locks now and then for a moment, as `git pack-objects` does: of
/// holds for which nobody waited nothing is seen, and what is concluded of them may be that each waits
/// for the other's lock.
#[test]
fn locks_that_hardly_anybody_waits_for_do_not_stop_a_replay() {
    let mut random = 1_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    let mut thread = || {
        let mut acts = Vec::new();
        for _ in 0..400 {
            let lock = below(2) as usize;
            let hold = if below(50) == 0 { 2_000 } else { 20 };
            acts.extend([Lock(lock), Run(hold, "hold_lock"), Unlock(lock)]);
            acts.push(Run(30 + below(3_000), "compress"));
        }
        acts
    };
    let before = World::of(vec![thread(), thread()]);
    let twice = before.map(|_, act| match act {
        Run(time, "compress") => Run(time / 2, "compress"),
        other => other,
    });
    predicts(&before, "section:compress*0.5", &twice, 0.05);
}

/// Most holds were seen, and what was not is concluded: the report has their time.
#[test]
fn a_report_says_how_long_locks_were_held() {
    for (threads, hold, outside) in [(4, 3_000, 7_000), (3, 1_000, 9_000)] {
        let world = lock_loop(threads, 304, hold, outside);
        let report = crate::analysis::analyse(&world.play().0, None);
        let lock = report.objects.iter().find(|object| object.kind == "lock").expect("a lock");
        let rounds = (304 / threads * threads) as u64;
        // A sleep ends 55 us late.
        let truth = (rounds * (hold + 55) * 1_000) as f64;
        let off = lock.hold_ns.expect("known") as f64 / truth - 1.0;
        assert!(off.abs() < 0.02, "{:?} of {truth}", lock.hold_ns);
        let others = report.objects.iter().filter(|object| object.kind != "lock");
        assert!(others.clone().count() > 0 && others.clone().all(|o| o.hold_ns.is_none()));
    }
}

#[test]
fn a_free_lock_keeps_nobody_out_and_a_sharded_one_fewer() {
    let before = lock_loop(4, 304, 3_000, 7_000);
    let free = before.map(|_, act| match act {
        Lock(_) | Unlock(_) => Run(1, "free"),
        other => other,
    });
    predicts(&before, "lock:0x100000=free", &free, 0.02);
    let sharded = asked(&before.play().0, "lock:0x100000/8").speedup;
    let best = asked(&before.play().0, "lock:0x100000=free").speedup;
    assert!(1.05 < sharded && sharded <= best + 0.001, "{sharded}, {best}");
}

/// A lock that is hardly ever waited for: most holds are never seen.
#[test]
fn holds_that_nobody_waited_for_are_found() {
    let world = |hold, outside| lock_loop(3, 300, hold, outside);
    // Out of step: outside differs by thread.
    let skew = |world: World| {
        world.map(|thread, act| match act {
            Sleep(us, "stay_outside") => Sleep(us + 610 * thread as u64, "stay_outside"),
            other => other,
        })
    };
    let before = skew(world(1_000, 9_000));
    predicts(&before, "section:hold_lock*5", &skew(world(5_000, 9_000)), 0.03);
}

/// Computing under the lock: its places are known from CPU samples only.
#[test]
fn holds_that_compute_are_known_by_their_samples() {
    let world = |hold, outside| {
        let round = [Lock(0), Run(hold, "count"), Unlock(0), Run(outside, "look")];
        World::of(vec![round.repeat(60); 4])
    };
    predicts(&world(3_000, 5_000), "lock:0x100000*0.5", &world(1_500, 5_000), 0.05);
    predicts(&world(3_000, 5_000), "section:look*0.5", &world(3_000, 2_500), 0.05);
}

/// One stage hands to the next through a queue without bound: a D/D/1 queue.
#[test]
fn a_pipeline_is_as_fast_as_its_slowest_stage() {
    let world = |first, second| {
        World::of(vec![
            [Sleep(first, "make"), Signal(0)].repeat(100),
            [Wait(0), Sleep(second, "use_up")].repeat(100),
        ])
    };
    let before = world(5_000, 2_000);
    predicts(&before, "section:make*0.5", &world(2_500, 2_000), 0.02);
    predicts(&before, "section:make*0.2", &world(1_000, 2_000), 0.02);
    predicts(&before, "section:use_up*0.5", &world(5_000, 1_000), 0.02);
    predicts(&before, "thread:worker-2*4", &world(5_000, 8_000), 0.02);
}

/// Workers that take jobs from one queue, which the main thread fills before it joins them.
#[test]
fn a_pool_takes_its_jobs_from_one_queue() {
    let pool = |workers: usize| {
        let job = [Wait(0), Sleep(10_000, "job")];
        let mut world = World::of(vec![job.repeat(48 / workers); workers]);
        let (spawns, joins) = world.0[0].split_at(workers);
        let give = [Sleep(100, "give"), Signal(0)].repeat(48);
        world.0[0] = [spawns, &give, joins].concat();
        world
    };
    let before = pool(4);
    predicts(&before, "threads=4", &before, 0.001);
    predicts(&before, "threads=8", &pool(8), 0.05);
    predicts(&before, "threads=2", &pool(2), 0.05);
}

#[test]
fn a_barrier_waits_for_the_slowest() {
    let world = |light: u64, heavy: u64| {
        let one = |us, name| [Sleep(us, name), Meet(0, 4)].repeat(50);
        World::of(vec![
            one(light, "light"),
            one(light, "light"),
            one(light, "light"),
            one(heavy, "heavy"),
        ])
    };
    let before = world(10_000, 20_000);
    predicts(&before, "section:heavy*0.5", &world(10_000, 10_000), 0.02);
    predicts(&before, "section:heavy*0.1", &world(10_000, 2_000), 0.02);
    predicts(&before, "section:light*0.5", &world(5_000, 20_000), 0.02);
    predicts(&before, "section:light*4", &world(40_000, 20_000), 0.02);
}

/// Threads that end at once meet at the lock of their memory map: none of them is killed.
#[test]
fn threads_that_end_together_are_not_killed() {
    let one = |us, name| [Sleep(us, name), Meet(0, 2)].repeat(50);
    let (mut trace, took) = World::of(vec![one(10_000, "light"), one(20_000, "heavy")]).play();
    let (first, second) = (Tid(101), Tid(102));
    let is_end = |event: &&Event| matches!(event, Event::Exit(exit) if exit.tid == second);
    let end = trace.events.iter().find(is_end).expect("it ends").time();
    let after = |us: u64| end + Nanos(us * 1_000);
    let madvise = Call { number: 28, ..Call::default() };
    let mut met = Interval::blocked(second, end, after(3), after(5), Some(madvise));
    let context = Context::Task;
    met.waker = Some(Waker { tid: first, in_tree: true, context, call: Some(28), arg0: 0 });
    for event in &mut trace.events {
        match event {
            Event::Exit(exit) => exit.time = after(if exit.tid.0 == 100 { 7 } else { 6 }),
            // Main, that joins it.
            Event::Interval(join) if join.on == end => {
                (join.woken, join.on) = (Some(after(6)), after(6));
            }
            _ => {}
        }
    }
    trace.events.push(Event::Interval(met));
    trace.events.sort_by_key(Event::time);
    let answer = asked(&trace, "section:heavy*0.5");
    assert_eq!(answer.refused, None);
    assert!((answer.speedup - 2.0).abs() < 0.02, "of {took}: {answer:?}");
}

#[test]
fn what_comes_before_and_what_is_shared() {
    let world = |alone: u64, shared: u64| {
        let mut world = World::of(vec![vec![Sleep(shared, "share")]; 2]);
        world.0[0].insert(0, Sleep(alone, "prepare"));
        world
    };
    let before = world(300_000, 350_000);
    predicts(&before, "section:prepare*0.5", &world(150_000, 350_000), 0.01);
    predicts(&before, "section:share*0.5", &world(300_000, 175_000), 0.01);
    predicts(&before, "sleep*0.5", &world(150_000, 175_000), 0.01);
}

/// A child that ended before it was joined is joined all the same.
#[test]
fn who_is_joined_late_may_become_the_last() {
    let world = |b: u64| World::of(vec![vec![Sleep(100_000, "a")], vec![Sleep(b, "b")]]);
    predicts(&world(50_000), "section:b*4", &world(200_000), 0.01);
}

/// The long wait that is worth nothing, and the short one that decides.
#[test]
fn long_waits_that_cost_nothing_gain_nothing() {
    let world = |a: u64, b: u64| {
        let log = [Lock(0), Sleep(a, "log"), Unlock(0)].repeat(400);
        let work = [Lock(1), Sleep(b, "settle"), Unlock(1), Sleep(7_000, "outside")].repeat(76);
        let mut world = World::of([vec![work; 4], vec![log; 8]].concat());
        // Main waits for the workers only.
        world.0[0].retain(|act| !matches!(act, Join(5..)));
        world
    };
    let before = world(10_000, 3_000);
    let (trace, _) = before.play();
    let answer = asked(&trace, "section:log*0.1");
    assert!((answer.speedup - 1.0).abs() < 0.005, "{answer:?}");
    predicts(&before, "section:settle*0.5", &world(10_000, 1_500), 0.02);
}

/// Without an end of its own, a run is judged by what its workers get done.
#[test]
fn a_run_that_was_cut_off_is_judged_by_its_throughput() {
    let (mut trace, took) = lock_loop(4, 400, 3_000, 7_000).play();
    trace.events.retain(|event| event.time().0 < took / 2);
    for thread in 0..5 {
        let (tid, time) = (Tid(100 + thread), Nanos(took / 2));
        let how = ExitKind::Alive;
        trace.events.push(Event::Exit(Exit {
            time,
            tid,
            pid: Pid(100),
            how,
            books: Books::default(),
        }));
    }
    let trace = MemoryTrace { symbols: trace.symbols, ..MemoryTrace::new(trace.events) };
    let answer = asked(&trace, "section:hold_lock*0.5");
    assert_eq!((answer.refused.as_deref(), answer.target.kind), (None, "throughput"));
    assert!((answer.speedup / 1.43 - 1.0).abs() < 0.05, "{answer:?}");
}

/// Nothing changed is exactly nothing changed.
#[test]
fn factors_of_one_change_nothing_at_all() {
    let (trace, _) = lock_loop(4, 80, 3_000, 7_000).play();
    for change in [
        "lock:0x100000*1",
        "lock:0x100000/1",
        "section:hold_lock*1",
        "thread:worker*1",
        "sleep*1",
        "cpus=64",
        "threads=4",
    ] {
        let answer = asked(&trace, change);
        assert_eq!(answer.refused, None);
        let identity = answer.identity.expect("replayed");
        assert_eq!(answer.after_ns, identity.replayed_ns, "{change}");
        assert!((answer.speedup - 1.0).abs() < 1e-12, "{change}");
    }
}

#[test]
fn names_that_do_not_exist_list_those_that_do() {
    let (trace, _) = lock_loop(4, 80, 3_000, 7_000).play();
    for (change, listed) in [
        ("lock:9*0.5", "lock 0x100000"),
        ("section:nobody*0.5", "hold_lock"),
        ("thread:nobody*0.5", "worker-1"),
        ("io:99*0.5", "nanosleep"),
        ("disk*0.5", "was seen waiting"),
        ("nogil", "GIL"),
    ] {
        let error = what_if(&trace, &[change.to_owned()]).expect_err(change);
        assert!(error.0.contains(listed), "{change}: {error}");
    }
}

/// `threads` that compute `turns` times 3 ms, two of them at a time.
fn burners(threads: u32, turns: u64) -> MemoryTrace {
    const TURN: u64 = 3_000_000;
    let mut events = Vec::new();
    let rounds = u64::from(threads).div_ceil(2);
    let end = rounds * turns * TURN;
    let start = |thread: u32| Start {
        time: Nanos(u64::from(thread)),
        tid: Tid(100 + thread),
        pid: Pid(100),
        parent_tid: Tid(if thread == 0 { 1 } else { 100 }),
        parent_pid: Pid(100),
        how: if thread == 0 { StartKind::Root } else { StartKind::Thread },
    };
    let exit = |thread: u32, time: u64, how| {
        let (tid, time) = (Tid(100 + thread), Nanos(time));
        Event::Exit(Exit { time, tid, pid: Pid(100), how, books: Books::default() })
    };
    events.push(Event::Start(start(0)));
    for thread in 1..=threads {
        events.push(Event::Start(start(thread)));
        let phase = u64::from(thread - 1) / 2;
        let (tid, mut since) = (Tid(100 + thread), u64::from(thread));
        for turn in 0..turns {
            let on = ((turn * rounds + phase) * TURN).max(since);
            let mut queued = Interval::blocked(tid, Nanos(since), Nanos(since), Nanos(on), None);
            queued.woken = None;
            queued.left = if turn == 0 { Left::New } else { Left::Preempted };
            events.push(Event::Interval(queued));
            since = (turn * rounds + phase + 1) * TURN;
        }
        events.push(exit(thread, since, ExitKind::Thread));
    }
    let call =
        Call { number: 202, arg0: 0x4000, arg1: 0x109, arg2: 100 + threads, ..Call::default() };
    let mut join = Interval::blocked(Tid(100), Nanos(10), Nanos(end), Nanos(end), Some(call));
    let (tid, context) = (Tid(100 + threads), Context::Task);
    join.waker = Some(Waker { tid, in_tree: true, context, call: Some(60), arg0: 0 });
    events.push(Event::Interval(join));
    events.push(exit(0, end, ExitKind::Process { status: Some(0) }));
    MemoryTrace::new(events)
}

/// More computing threads than CPUs: T = threads * work / CPUs.
#[test]
fn cpus_are_shared() {
    let trace = burners(6, 20);
    for (change, law) in [
        ("cpus=1", 0.5),
        ("cpus=2", 1.0),
        ("cpus=3", 1.5),
        ("cpus=6", 3.0),
        ("cpus=unlimited", 3.0),
        ("thread:x*1", 1.0),
        ("threads=2", 1.0),
        ("threads=1", 0.5),
        ("threads=12", 1.0),
    ] {
        let Ok(answer) = what_if(&trace, &[change.to_owned()]) else {
            assert_eq!(change, "thread:x*1", "no thread is called x");
            continue;
        };
        assert_eq!(answer.refused, None);
        assert!((answer.speedup / law - 1.0).abs() < 0.02, "{change}: {answer:?}");
    }
}

/// Two locks taken in turn by some, and work of many kinds.
fn any_world() -> impl Strategy<Value = World> {
    let act = (0usize..5, 500u64..4_000).prop_map(|(kind, us)| match kind {
        0 => vec![Lock(0), Sleep(us, "in_a"), Unlock(0)],
        1 => vec![Lock(1), Sleep(us, "in_b"), Unlock(1)],
        2 => vec![Sleep(us, "away")],
        3 => vec![Run(us, "count")],
        _ => vec![Signal(0), Sleep(us, "away"), Wait(0)],
    });
    let thread = prop::collection::vec(act, 5..30).prop_map(|acts: Vec<Vec<Act>>| acts.concat());
    prop::collection::vec(thread, 1..6).prop_map(World::of)
}

/// Programs of some dozen waits, with holds that nobody saw: that is too little to tell inside
/// from outside at times, and then the replay must say so. Not too often.
#[test]
fn most_programs_can_be_replayed() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let refused = (0..200).filter(|_| {
        let world = any_world().new_tree(&mut runner).expect("a world").current();
        asked(&world.play().0, "thread:worker*1").refused.is_some()
    });
    let refused = refused.count();
    assert!(refused <= 30, "{refused} of 200");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a program does: its replay takes what it took, or is refused.
    #[test]
    fn the_unchanged_run_is_replayed(world in any_world()) {
        let (trace, _) = world.play();
        let answer = asked(&trace, "thread:worker*1");
        let Some(identity) = answer.identity else {
            prop_assert!(answer.refused.is_some());
            return Ok(());
        };
        prop_assert_eq!(answer.refused.is_some(), identity.error.abs() > 0.05);
        if answer.refused.is_none() {
            prop_assert_eq!(answer.after_ns, identity.replayed_ns);
            prop_assert!((answer.speedup - 1.0).abs() < 1e-12);
        }
    }

    /// Any schedule, losses included: an answer or a refusal, finite, and the same each time.
    #[test]
    fn any_schedule_is_answered_or_refused(schedule in Schedule::any()) {
        let trace = schedule.trace();
        for change in ["sleep*1", "thread:x*0.5", "cpus=1", "threads=3", "lock:0x100000=free"] {
            let Ok(answer) = what_if(&trace, &[change.to_owned()]) else { continue };
            let again = what_if(&trace, &[change.to_owned()]).expect("as before");
            prop_assert_eq!(&answer, &again);
            let ends = answer.low.into_iter().chain(answer.high);
            for value in ends.chain([answer.speedup]) {
                prop_assert!(value.is_finite());
            }
            if change == "sleep*1" && answer.refused.is_none() {
                prop_assert!((answer.speedup - 1.0).abs() < 1e-12);
            }
        }
    }
}
