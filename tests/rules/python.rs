//! Drawn Python programs: threads under the GIL, locks that go from hand to hand, event loops.

use super::*;

const GIL: Call = Call { arg0: 0x5000, arg1: 0x89, ..LOCK };
const TIMED_OUT: Waker =
    Waker { tid: Tid(0), in_tree: false, context: Context::Hardirq, call: None, arg0: 0 };
const RUN_ONCE: &str = "/usr/lib/python3.11/asyncio/base_events.py:BaseEventLoop._run_once";
const HANDLE_RUN: &str = "/usr/lib/python3.11/asyncio/events.py:Handle._run";

/// A try for the GIL that nobody ended.
fn try_gil(play: &mut Play, tid: u32, ns: u64, at: &str) {
    let stack = play.0.stack(&["start_thread", at, "take_gil"]);
    play.0.wait_by(tid, ns, 0, Some(GIL), Some(stack), Some(TIMED_OUT));
}

/// A thread that asks and gets answers at once beside one that computes, and lets go of the GIL so long
/// after it was asked: it ran meanwhile, or had no CPU.
fn convoy(late: u64, preempted: bool) -> MemoryTrace {
    let mut play = Play::new();
    play.crew(&[101, 102], "t");
    let socket = on(READ, 5, FdKind::SocketInet, 77);
    let (reads, sorts) =
        (["start_thread", "py:ask"], ["start_thread", "py:burn", "builtin_sorted"]);
    for _ in 0..40 {
        let stack = play.0.stack(&reads);
        play.0.wait(102, MS, 0, socket, Some(stack));
        let begin = play.now(102);
        try_gil(&mut play, 102, 5 * MS, "py:ask");
        let asked = play.now(102);
        let gone = asked + late;
        while play.now(102) + 5 * MS < gone {
            try_gil(&mut play, 102, 5 * MS, "py:ask");
        }
        play.until(102, gone, GIL, 101, &["start_thread", "py:ask", "take_gil"]);
        play.run(102, MS / 20, &reads);
        let back = play.now(102);
        let before = if preempted { asked } else { gone };
        let runs = before - play.now(101);
        play.run(101, runs, &sorts);
        if preempted {
            play.0.preempted(101, gone - before);
        }
        assert!(begin < gone);
        play.until(101, back, GIL, 102, &["start_thread", "py:burn", "take_gil"]);
    }
    play.end_all(&[101, 102]);
    play.join(&[101, 102])
}

#[test]
fn a_convoy_at_the_gil_names_the_victim_and_who_computes() {
    let report = report(&convoy(MS / 10, false));
    let finding = fires(&report, "gil-convoy");
    let text = &finding.text;
    assert!(text.contains("`t-102` (102)") && text.contains("`t-101` ran"), "{text}");
    assert!(text.contains("40 times, 5.10 ms on average") && text.contains("`burn`"), "{text}");
    assert_eq!(report.verdict.kind, "gil-convoy");
    // The one that computes is no victim.
    assert_eq!(found(&report, "gil-convoy").len(), 1);
    silent(&report, "gil-hog");
    let bound = &fires(&report, "gil-bound").text;
    assert!(bound.contains("In 50 % of 80 waits the holder went on"), "{bound}");
    // Threads that all compute are in no convoy.
    silent(&super::report(&interpreter(5)), "gil-convoy");
}

#[test]
fn who_does_not_let_go_of_the_gil_is_told_from_who_has_no_cpu() {
    let hog = report(&convoy(22 * MS, false));
    let text = &fires(&hog, "gil-hog").text;
    assert!(text.contains("40 times") && text.contains("22.0 ms at the longest"), "{text}");
    assert!(text.contains("in the call of `builtin_sorted` in "), "{text}");
    assert_eq!(hog.verdict.kind, "gil-hog");
    silent(&report(&convoy(22 * MS, true)), "gil-hog");
}

/// Two threads that compute, under a GIL.
fn turns() -> MemoryTrace {
    let mut play = Play::new();
    play.crew(&[101, 102], "t");
    let at = ["start_thread", "py:crunch"];
    for round in 0..40_u64 {
        let (waits, holds) = if round % 2 == 0 { (101, 102) } else { (102, 101) };
        let end = play.now(waits) + 5 * MS + MS / 10;
        try_gil(&mut play, waits, 5 * MS, "py:crunch");
        play.until(waits, end, GIL, holds, &["start_thread", "py:crunch", "take_gil"]);
        let runs = end - play.now(holds);
        play.run(holds, runs, &at);
    }
    play.end_all(&[101, 102]);
    let mut trace = play.join(&[101, 102]);
    trace.info.cpus_allowed = 2;
    trace
}

#[test]
fn without_the_gil_threads_that_compute_run_side_by_side() {
    let report = report(&turns());
    let gain = fires(&report, "gil-bound").gain.as_ref().expect("a gain");
    assert!(gain.change == "nogil" && (1.8..2.1).contains(&gain.speedup), "{gain:?}");
    assert!(fires(&report, "gil-bound").advice.contains("by replay"));
}

/// Two threads that hand a lock to and fro, `rounds` times.
fn to_and_fro(rounds: u64) -> MemoryTrace {
    const US: u64 = 1_000;
    let mut play = Play::new();
    play.crew(&[101, 102], "t");
    let at = ["start_thread", "count", "__lll_lock_wait"];
    play.run(102, 20 * US, &["start_thread", "count"]);
    for round in 0..rounds {
        let (waits, holds) = if round % 2 == 0 { (101, 102) } else { (102, 101) };
        let end = play.now(holds);
        play.until(waits, end.max(play.now(waits) + US), LOCK, holds, &at);
        play.run(waits, 20 * US, &["start_thread", "count"]);
    }
    play.end_all(&[101, 102]);
    play.join(&[101, 102])
}

#[test]
fn a_lock_that_goes_to_and_fro_is_told_from_one_that_is_waited_for_now_and_then() {
    let report = report(&to_and_fro(4_000));
    let finding = fires(&report, "lock-handover");
    assert!(finding.text.contains("4000 times") && finding.text.contains("`count`"));
    assert_eq!(report.verdict.kind, "lock-bound");
    silent(&super::report(&to_and_fro(90)), "lock-handover");
    silent(&super::report(&contended()), "lock-handover");
}

/// What a loop does in every fifth turn.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Sleep,
    Compute,
    NoCpu,
}

fn asyncio(turns: &[Turn]) -> MemoryTrace {
    let mut play = Play::new();
    let poll = on(232, 5, FdKind::Epoll, 7);
    let idle = play.0.stack(&["py:main", RUN_ONCE, "epoll_wait"]);
    for turn in 0..40 {
        play.0.wait_by(MAIN, 5 * MS, 0, Some(poll), Some(idle), Some(TIMED_OUT));
        match turns.get(turn / 5).filter(|_| turn % 5 == 4) {
            Some(Turn::Sleep) => {
                play.sleep(MAIN, 50 * MS, &["py:main", RUN_ONCE, "py:job", "py:nap"]);
            }
            Some(Turn::Compute) => play.run(MAIN, 30 * MS, &["py:main", RUN_ONCE, "py:crunch"]),
            Some(Turn::NoCpu) => play.0.preempted(MAIN, 40 * MS),
            None => {}
        }
        play.run(MAIN, MS / 10, &["py:main", RUN_ONCE]);
    }
    play.finish()
}

#[test]
fn a_blocked_loop_says_in_which_function_and_line() {
    use Turn::*;
    let report = report(&asyncio(&[Sleep, Compute, NoCpu, Sleep, Compute, NoCpu, Sleep]));
    let finding = fires(&report, "blocked-event-loop");
    let text = &finding.text;
    assert!(text.contains("for more than 10.0 ms 5 times in 39 turns"), "{text}");
    assert!(
        text.contains("3 times asleep in `nap` (app.py:") && text.contains("< `job`"),
        "{text}"
    );
    assert!(text.contains("2 times running in `crunch` (app.py:"), "{text}");
    assert!(text.contains("waited for 150 ms, and was ready without a CPU for 0 ns"), "{text}");
    assert!(
        text.contains("2 turns more took that long only because it had no CPU (80.0 ms"),
        "{text}"
    );
    assert!(finding.advice.contains("await asyncio.sleep"), "{}", finding.advice);
    assert_eq!(report.verdict.kind, "blocked-event-loop");
    let model = &report.processes[0].model;
    assert_eq!(model.runtime.as_deref(), Some("asyncio"));
}

/// A thread would compete with the loop for the GIL.
#[test]
fn a_loop_that_computes_is_told_to_do_so_in_a_process() {
    let report = report(&asyncio(&[Turn::Compute; 7]));
    let advice = &fires(&report, "blocked-event-loop").advice;
    assert!(advice.contains("ProcessPoolExecutor"), "{advice}");
}

/// Two workers of a pool that ask so long and compute so long.
fn pool_of_processes(asks: u64, computes: u64) -> MemoryTrace {
    let mut play = Play::new();
    let pool = "/usr/lib/python3.11/multiprocessing/pool.py";
    let (map, worker) = (format!("{pool}:Pool._handle_results"), format!("{pool}:worker"));
    for pid in [200, 300] {
        play.0.process(pid, MAIN, b"/usr/bin/python3", &["python3"]);
        play.sleep(pid, asks, &["py:main", &worker, "py:ask"]);
        play.run(pid, computes, &["py:main", &worker, "py:work"]);
        play.0.end(pid, pid, Some(0));
    }
    play.sleep(MAIN, asks + computes, &["py:main", &map]);
    play.run(MAIN, MS, &["py:main", &map]);
    play.finish()
}

#[test]
fn processes_that_mostly_wait_could_be_threads() {
    let of = |asks, computes| {
        let report = report(&pool_of_processes(asks, computes));
        fires(&report, "model").text.clone()
    };
    let waits = of(95 * MS, 5 * MS);
    assert!(waits.contains("timers for 95 % of their lives"), "{waits}");
    assert!(waits.contains("threads or asyncio would do that"), "{waits}");
    let computes = of(5 * MS, 95 * MS);
    assert!(!computes.contains("asyncio"), "{computes}");
}

#[test]
fn a_blocked_loop_names_the_tasks_that_block_it() {
    let mut play = Play::new();
    let poll = on(232, 5, FdKind::Epoll, 7);
    let idle = play.0.stack(&["py:main", RUN_ONCE, "epoll_wait"]);
    let fetch = ["task of main awaits", "task \"outer\" awaits", "task \"fetch-7\"", "py:fetch"];
    for turn in 0..41 {
        play.0.wait_by(MAIN, 5 * MS, 0, Some(poll), Some(idle), Some(TIMED_OUT));
        let stalls: &[&str] = match turn % 10 {
            3 => &fetch,
            6 => &["task of job", "py:job", "py:nap"],
            9 => &["py:on_timer"],
            _ => continue,
        };
        let stack = [&["py:main", RUN_ONCE, HANDLE_RUN], stalls].concat();
        play.sleep(MAIN, (20 + turn) * MS, &stack);
    }
    let report = report(&play.finish());
    let finding = fires(&report, "blocked-event-loop");
    let text = &finding.text;
    for part in [
        "4 times asleep in `fetch` (app.py:",
        "< `main` in task `fetch-7`, ",
        "< `job` < `main` in a task of `job`, ",
        " Task `fetch-7` (coroutine `fetch`, app.py:",
        "; awaited by task `outer`, that by a task of `main`) held it up 4 times, 53.0 ms at the longest.",
        " A task of `job` (app.py:",
        ") held it up 4 times, 56.0 ms",
        "4 times asleep in `on_timer` (app.py:",
    ] {
        assert!(text.contains(part), "`{part}` in {text}");
    }
    assert_eq!(text.matches("held it up").count(), 2, "a callback is no task: {text}");
    assert!(finding.claim.as_ref().is_some_and(|c| c.headline.contains("in a task of `job`")));
    let name = |row: &timesink::analysis::TaskRow| {
        (row.name.clone(), row.coroutine.clone(), row.waiting_ns)
    };
    let (fetch, job) = (Some("fetch".to_owned()), Some("job".to_owned()));
    let rows: Vec<_> = report.tasks.iter().map(name).collect();
    assert_eq!(rows, [(None, job, 164 * MS), (Some("fetch-7".to_owned()), fetch, 152 * MS)]);
    let mut shown = Vec::new();
    let layout = timesink::export::text::Layout { width: 90, color: false };
    timesink::export::text::write(&report, layout, &mut shown).expect("to memory");
    let shown = String::from_utf8(shown).expect("UTF-8");
    assert!(shown.contains("   152 ms  21.8 %  `fetch-7`  (coroutine `fetch`)"), "{shown}");
    assert!(shown.contains("all of `job` without a name of their own"), "{shown}");
}

#[test]
fn a_loop_without_a_cpu_is_not_called_blocked() {
    let report = report(&asyncio(&[Turn::NoCpu; 7]));
    let finding = fires(&report, "blocked-event-loop");
    assert!(finding.text.contains("Nothing in it blocks"), "{}", finding.text);
    assert_eq!(finding.severity, Severity::Note);
    assert_ne!(report.verdict.kind, "blocked-event-loop");
}

#[test]
fn a_loop_that_waits_for_its_timers_is_not_idle() {
    let report = report(&asyncio(&[]));
    silent(&report, "idle");
    let finding = fires(&report, "sleep-in-path");
    assert!(finding.text.contains("timers of its own"), "{}", finding.text);
    assert_eq!(report.verdict.kind, "sleep-bound");
}

/// A thread of a client: it polls a socket that has a timeout, again and again.
#[test]
fn polling_a_socket_with_a_timeout_makes_no_event_loop() {
    let mut play = Play::new();
    let poll = Call { number: POLL, arg0: 0x7000, arg1: 1, ..Call::default() };
    let stack =
        play.0.stack(&["py:main", "/usr/lib/python3.11/socket.py:SocketIO.readinto", "poll"]);
    for _ in 0..40 {
        play.0.wait(MAIN, 5 * MS, 0, poll, Some(stack));
        play.run(MAIN, MS / 10, &["py:main"]);
    }
    let report = report(&play.finish());
    assert!(report.budget.states.0[State::Poll].0 > 100 * MS, "{:?}", report.budget);
    assert_eq!(report.processes[0].model.kind.as_deref(), Some("single-thread"));
}

#[test]
fn what_is_tried_are_functions_of_the_program_and_not_all_of_it() {
    let mut play = Play::new();
    for _ in 0..10 {
        play.run(MAIN, 4 * MS, &["run_mod", "py:<module>", "py:main", "py:work", "cfunction_call"]);
        play.sleep(MAIN, 4 * MS, &["run_mod", "py:<module>", "py:main", "py:rest", "nanosleep"]);
        play.run(MAIN, 4 * MS, &["run_mod", "py:<module>"]);
    }
    let report = report(&play.finish());
    let tried: Vec<&str> = report.whatif.iter().map(|row| row.change.as_str()).collect();
    for function in ["work", "rest"] {
        assert!(tried.contains(&format!("section:{function}*0.5").as_str()), "{tried:?}");
    }
    for whole in ["<module>", "main*", "run_mod", "cfunction"] {
        assert!(!tried.iter().any(|change| change.contains(whole)), "{tried:?}");
    }
}

/// Threads that are ready and without a CPU, under a GIL or not.
fn crowded(gil: bool) -> MemoryTrace {
    let mut play = Play::new();
    let tids: Vec<u32> = (101..105).collect();
    play.crew(&tids, "t");
    for (&tid, &other) in tids.iter().zip(tids.iter().cycle().skip(1)) {
        if gil {
            let until = play.now(tid) + MS;
            play.until(tid, until, GIL, other, &["start_thread", "py:crunch", "take_gil"]);
        }
        for _ in 0..20 {
            play.run(tid, 4 * MS, &["start_thread", "py:crunch"]);
            play.0.off_ready(tid, 8 * MS, Left::Preempted, Some(other));
        }
        play.end(tid);
    }
    let mut trace = play.join(&tids);
    trace.info.cpus_allowed = 2;
    trace
}

#[test]
fn threads_that_share_a_gil_do_not_compete_for_cpus() {
    fires(&report(&crowded(false)), "oversubscription");
    silent(&report(&crowded(true)), "oversubscription");
}

/// A lock that two threads waited for once, for a moment: what it protects is a guess.
#[test]
fn a_lock_that_hardly_anybody_waited_for_is_not_tried() {
    for waits in [MS / 10, 20 * MS] {
        let mut play = Play::new();
        play.crew(&[101, 102], "t");
        play.until(101, waits, LOCK, 102, &["start_thread", "py:ask", "__lll_lock_wait"]);
        for tid in [101, 102] {
            play.run(tid, 200 * MS, &["start_thread", "py:ask"]);
        }
        play.end_all(&[101, 102]);
        let report = report(&play.join(&[101, 102]));
        let tried = report.whatif.iter().any(|row| row.change.starts_with("lock:"));
        assert_eq!(tried, waits > MS, "{:?}", report.whatif);
    }
}

#[test]
fn many_threads_that_wait_could_be_tasks_of_a_loop() {
    let of = |count: u32| {
        let mut play = Play::new();
        let tids: Vec<u32> = (101..101 + count).collect();
        play.crew(&tids, "t");
        for &tid in &tids {
            play.sleep(tid, 100 * MS, &["start_thread", "py:ask"]);
            play.end(tid);
        }
        fires(&report(&play.join(&tids)), "model").text.clone()
    };
    let many = of(300);
    assert!(many.contains("301 threads that wait for"), "{many}");
    assert!(many.contains("tasks of one event loop"), "{many}");
    assert!(!of(20).contains("event loop"));
}

/// Two workers that hand results to their parent: of their CPU time so much is packing.
fn workers(file: &str, packs: u64) -> MemoryTrace {
    let mut play = Play::new();
    let queues = format!("/usr/lib/python3.11/{file}");
    for pid in [200, 300] {
        play.0.process(pid, MAIN, b"/usr/bin/python3", &["python3"]);
        let put = format!("{queues}:SimpleQueue.put");
        let (works, dumps) = (["py:main", &put, "py:work"], ["py:main", &put, "_pickle_dumps"]);
        play.run(pid, 100 * MS - packs, &works);
        play.run(pid, packs, &dumps);
        play.0.end(pid, pid, Some(0));
    }
    play.finish()
}

/// What the workers read and wrote is said where it was counted, and what the pipe between them
/// carried; the sums are those of the threads.
#[test]
fn what_workers_hand_over_is_said_in_bytes() {
    let mut trace = workers("multiprocessing/queues.py", 30 * MS);
    silent_of_bytes(&trace);
    let moved = |event: &Event| match event {
        Event::Exit(exit) if exit.pid.0 >= 200 => Some(Event::Moved(timesink::model::Moved {
            time: exit.time,
            tid: exit.tid,
            read_bytes: u64::from(exit.pid.0) * 1_000_000,
            written_bytes: 12_345,
        })),
        _ => None,
    };
    let all = std::mem::take(&mut trace.events).into_iter();
    trace.events = all.flat_map(|event| moved(&event).into_iter().chain([event])).collect();
    let report = report(&trace);
    let finding = fires(&report, "pickling");
    let text = &finding.text;
    assert!(text.contains("(300) read 300 MB and wrote 12.3 kB"), "{text}");
    assert!(text.contains("(200) read 200 MB"), "{text}");
    let of = |what: &str| finding.evidence.iter().find(|proof| proof.what.starts_with(what));
    assert_eq!(of("read by them").map(|proof| (proof.value, proof.unit)), Some((5e8, "bytes")));
    for process in &report.processes {
        let threads = report.threads.iter().filter(|thread| thread.process == process.id);
        assert_eq!(
            process.io,
            timesink::analysis::Moved::sum(threads.filter_map(|thread| thread.io))
        );
    }
}

fn silent_of_bytes(trace: &MemoryTrace) {
    let report = report(trace);
    let text = &fires(&report, "pickling").text;
    assert!(!text.contains("read"), "{text}");
    assert!(report.threads.iter().all(|thread| thread.io.is_none()));
}

#[test]
fn processes_that_pack_what_they_hand_over_are_told_from_those_that_work() {
    let much = report(&workers("multiprocessing/queues.py", 30 * MS));
    let finding = fires(&much, "pickling");
    assert_eq!(finding.severity, Severity::Cost);
    let text = &finding.text;
    assert!(text.contains("30 % of the CPU time of 2 Python processes"), "{text}");
    let some = report(&workers("multiprocessing/queues.py", 10 * MS));
    assert_eq!(fires(&some, "pickling").severity, Severity::Note);
    silent(&report(&workers("multiprocessing/queues.py", 2 * MS)), "pickling");
    // What receives and is in C code unpacks, whatever that is called; in a system call it waits.
    let gets = |called: &str| {
        let mut play = Play::new();
        for pid in [200, 300] {
            play.0.process(pid, MAIN, b"/usr/bin/python3", &["python3"]);
            let get = "/usr/lib/python3.11/multiprocessing/queues.py:SimpleQueue.get";
            play.run(pid, 100 * MS, &["py:main", get, "py:work"]);
            play.run(pid, 50 * MS, &["py:main", get, called]);
            play.0.end(pid, pid, Some(0));
        }
        report(&play.finish())
    };
    fires(&gets("python3.11+0x20a650"), "pickling");
    silent(&gets("do_syscall_64"), "pickling");
    // Who stores what it packs hands it to nobody, be it a worker that reads files of its own.
    silent(&report(&workers("shelve.py", 30 * MS)), "pickling");
    let mut play = Play::new();
    for pid in [200, 300] {
        play.0.process(pid, MAIN, b"/usr/bin/python3", &["python3"]);
        let pool = "/usr/lib/python3.11/multiprocessing/pool.py:worker";
        play.run(pid, 100 * MS, &["py:main", pool, "py:work"]);
        play.run(pid, 50 * MS, &["py:main", pool, "py:work", "_pickle_load"]);
        play.0.end(pid, pid, Some(0));
    }
    silent(&report(&play.finish()), "pickling");
}
