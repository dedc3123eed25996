//! The table: each workload, and what a report must say about it.
//!
//! Times and speedups follow from the service times (`tests/truth/ground/` says how at the top
//! of each program); a sleep takes some 0.08 ms longer than it was asked to.

use crate::table::BLANK;
use crate::table::Change;
use crate::table::File;
use crate::table::Object;
use crate::table::Program::Compiled;
use crate::table::Program::Example;
use crate::table::Program::Python;
use crate::table::State;
use crate::table::Verdict;
use crate::table::Workload;
use crate::table::change;
use crate::table::fact;
use crate::table::object;
use crate::table::of;
use crate::table::of_all;

const fn verdict(kinds: &'static [&'static str], culprit: &'static str) -> Verdict {
    Verdict { kinds, culprit }
}

/// Ready and without a CPU, by the scheduler's own count.
const RUNNABLE: State = of_all("runnable");

/// What four threads with 3 ms inside and 7 ms outside wait for, by whatever kind of lock.
const LOCK_LOOP: Workload = Workload {
    facts: &[
        fact("the lock is busy all the time", "held", "wall", 0.90, 1.01),
        fact("a sixth of the loops is waiting", "lock", "loops", 0.14, 0.24),
    ],
    states: &[of_all("lock"), of_all("sleep"), of_all("join"), RUNNABLE],
    objects: &[Object { held: "held", ..object("lock", "hold_lock", "lock") }],
    verdict: verdict(&["lock-bound"], "hold_lock"),
    changes: &[change("lock:@hold_lock*0.5", &["hold=1.5"], 1.41, 10.0)],
    ..BLANK
};

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        id: "1",
        title: "4 threads, one lock: hold 3 ms, outside 7 ms",
        program: Compiled("lock_loop.c"),
        changes: &[
            change("lock:@hold_lock*0.5", &["hold=1.5"], 1.41, 10.0),
            change("lock:@hold_lock*0.1", &["hold=0.3"], 1.64, 10.0),
            change("lock:@hold_lock*0", &["hold=0"], 1.71, 10.0),
            change("section:stay_outside*0.5", &["outside=3.5"], 1.0, 6.0),
            change("threads=8", &["threads=8"], 1.0, 6.0),
            Change { slow: true, ..change("threads=2", &["threads=2"], 0.6, 6.0) },
            Change { slow: true, ..change("threads=1", &["threads=1"], 0.3, 6.0) },
        ],
        ..LOCK_LOOP
    },
    Workload {
        id: "1p",
        title: "1 with processes and a process-shared mutex",
        program: Compiled("lock_processes.c"),
        states: &[of_all("lock"), of_all("sleep"), of_all("child")],
        ..LOCK_LOOP
    },
    Workload {
        id: "1s",
        title: "1 with std::mutex",
        program: Compiled("lock_std.cpp"),
        states: &[of_all("lock"), of_all("sleep"), of_all("join")],
        ..LOCK_LOOP
    },
    Workload {
        id: "2",
        title: "as 1 with 2 threads (negative control)",
        program: Compiled("lock_loop.c"),
        arguments: &["threads=2", "rounds=152"],
        facts: &[fact("they avoid each other", "lock", "loops", 0.0, 0.03)],
        states: &[of_all("lock"), of_all("sleep"), of_all("join"), RUNNABLE],
        verdict: verdict(&["sleep-bound"], ""),
        innocent: &["lock"],
        changes: &[change("lock:@hold_lock*0.5", &["hold=1.5"], 1.18, 6.0)],
        ..BLANK
    },
    Workload {
        id: "2s",
        title: "as 1 with a single thread (negative control)",
        program: Compiled("lock_loop.c"),
        arguments: &["threads=1", "rounds=76"],
        facts: &[fact("nobody waits", "lock", "loops", 0.0, 0.001)],
        states: &[of_all("lock"), of_all("sleep"), of_all("join"), RUNNABLE],
        verdict: verdict(&["sleep-bound"], ""),
        innocent: &["lock", "join"],
        ..BLANK
    },
    Workload {
        id: "3",
        title: "4 threads, hold 5 ms, never outside: starvation",
        program: Compiled("lock_loop.c"),
        arguments: &["hold=5", "outside=0", "split=0", "greedy=1", "rounds=240"],
        facts: &[
            fact("the lock is busy all the time", "held", "wall", 0.97, 1.01),
            fact("three of four wait", "lock", "loops", 0.72, 0.78),
            fact("some get ten times what others get", "most", "fewest", 10.0, f64::INFINITY),
        ],
        states: &[of_all("lock"), of_all("sleep"), of_all("join"), RUNNABLE],
        objects: &[Object { held: "held", ..object("lock", "hold_lock", "lock") }],
        verdict: verdict(&["lock-bound"], "hold_lock"),
        findings: &[&["starv"]],
        changes: &[
            change("lock:@hold_lock*0.5", &["hold=2.5"], 2.0, 6.0),
            change("threads=8", &["threads=8"], 1.0, 6.0),
        ],
        ..BLANK
    },
    Workload {
        id: "4",
        title: "pipeline 2/5/1 ms, queues of 8",
        program: Compiled("pipeline.c"),
        facts: &[
            fact("stage 2 never waits", "stage-2.condvar", "wall", 0.0, 0.03),
            fact("stage 1 waits for 60 %", "stage-1.condvar", "wall", 0.48, 0.62),
            fact("stage 3 waits for 80 %", "stage-3.condvar", "wall", 0.75, 0.82),
        ],
        states: &[
            of("stage-1", "condvar", "stage-1.condvar"),
            of("stage-2", "condvar", "stage-2.condvar"),
            of("stage-3", "condvar", "stage-3.condvar"),
            of("stage-2", "sleep", "stage-2.sleep"),
            of_all("sleep"),
            of_all("join"),
            RUNNABLE,
        ],
        objects: &[object("condvar", "run_three", "stage-3.condvar")],
        verdict: verdict(&["starved", "sleep-bound"], "stage_two"),
        changes: &[
            change("section:stage_two*0.5", &["two=2.5"], 2.0, 8.0),
            change("section:stage_one*0.5", &["one=1"], 1.0, 6.0),
            change("section:stage_three*0.5", &["three=0.5"], 1.0, 6.0),
        ],
        ..BLANK
    },
    Workload {
        id: "5",
        title: "barrier after 10, 10, 10 and 20 ms",
        program: Compiled("barrier.c"),
        facts: &[
            fact("the light ones wait for half", "runner-0.join", "wall", 0.46, 0.54),
            fact("the heavy one does not wait", "runner-3.join", "wall", 0.0, 0.03),
        ],
        states: &[
            of("runner-0", "join", "runner-0.join"),
            of("runner-1", "join", "runner-1.join"),
            of("runner-2", "join", "runner-2.join"),
            of("runner-3", "join", "runner-3.join"),
            of_all("sleep"),
            RUNNABLE,
        ],
        verdict: verdict(&["imbalanced"], "carry_heavy"),
        changes: &[
            change("section:carry_heavy*0.5", &["heavy=10"], 2.0, 6.0),
            change("section:carry_light*0.5", &["light=5"], 1.0, 6.0),
        ],
        ..BLANK
    },
    Workload {
        id: "6",
        title: "300 ms alone, then 2 threads of 350 ms",
        program: Compiled("serial_part.c"),
        facts: &[fact("46 % of the time is serial", "serial", "wall", 0.44, 0.48)],
        states: &[of_all("sleep"), of_all("join"), RUNNABLE],
        // Both name what decides: a phase that one thread does alone, by sleeping.
        verdict: verdict(&["serial", "sleep-bound"], ""),
        changes: &[
            change("section:prepare_alone*0.5", &["serial=150"], 1.30, 6.0),
            change("section:share_work*0.5", &["parallel=175"], 1.37, 6.0),
        ],
        ..BLANK
    },
    Workload {
        id: "7",
        title: "6 threads of 0.25 CPU-s on the CPUs there are",
        program: Compiled("burners.c"),
        states: &[of("burner", "running", "burner.running"), RUNNABLE],
        verdict: verdict(&["oversubscribed", "cpu-saturated"], ""),
        changes: &[
            Change { cpus: 1, ..change("cpus=1", &[], 0.5, 15.0) },
            change("section:burn_alone*0.5", &["cpu=125"], 2.0, 15.0),
            Change { real: None, ..change("cpus=6", &[], 3.0, 15.0) },
        ],
        needs_cpu: true,
        ..BLANK
    },
    Workload {
        id: "8",
        title: "2 threads that only compute Python",
        program: Python("gil_two.py"),
        facts: &[fact("each waits for half", "cruncher.gil", "cruncher.running", 0.85, 1.25)],
        states: &[
            of("cruncher", "running", "cruncher.running"),
            of("cruncher", "runnable", "cruncher.runnable"),
            State { points: 5.0, ..of("cruncher", "gil", "cruncher.gil") },
        ],
        objects: &[object("gil", "take_gil", "cruncher.gil")],
        verdict: verdict(&["gil-bound"], "crunch"),
        changes: &[change("nogil", &["how=processes"], 1.85, 15.0)],
        needs_cpu: true,
        ..BLANK
    },
    Workload {
        id: "9",
        title: "a thread that sleeps 1 ms at a time, and a Python hog",
        program: Python("gil_convoy.py"),
        facts: &[fact("period is sleep and interval", "period", "6080000", 0.85, 1.15)],
        states: &[
            of("ticker", "sleep", "ticker.sleep"),
            of("ticker", "runnable", "ticker.runnable"),
            State { points: 5.0, ..of("ticker", "gil", "ticker.gil") },
        ],
        objects: &[Object { holder: Some("hog"), ..object("gil", "take_gil", "ticker.gil") }],
        verdict: verdict(&["gil-convoy"], "hog"),
        changes: &[change("nogil", &["how=processes"], 4.1, 20.0)],
        needs_cpu: true,
        ..BLANK
    },
    Workload {
        id: "10",
        title: "400 times pwrite and fsync",
        program: Compiled("flushes.c"),
        file: File::Given,
        states: &[of_all("disk"), RUNNABLE],
        verdict: verdict(&["disk-bound"], "save_record"),
        // A disk's own time varies twofold from run to run.
        changes: &[change("section:save_record*0.5", &["records=200"], 2.0, 60.0)],
        ..BLANK
    },
    Workload {
        id: "11",
        title: "512 cold pages of a mapped file, 20 times over",
        program: Compiled("cold_pages.c"),
        file: File::Prepared,
        facts: &[fact("each touch is a major fault", "faults", "rounds", 0.95, 1.01)],
        states: &[of_all("page_fault"), RUNNABLE],
        verdict: verdict(&["disk-bound"], "touch_pages"),
        changes: &[change("section:touch_pages*0.5", &["touches=256"], 2.0, 40.0)],
        ..BLANK
    },
    Workload {
        id: "12",
        title: "30 children, one at a time, that sleep 20 ms",
        program: Compiled("forks.c"),
        facts: &[fact(
            "waited a little longer than they slept",
            "child",
            "napper.sleep",
            1.0,
            1.08,
        )],
        states: &[
            of_all("child"),
            of("napper", "sleep", "napper.sleep"),
            of("ground_forks", "runnable", "runnable"),
        ],
        verdict: verdict(&["child-bound", "sleep-bound"], "child_naps"),
        changes: &[change("section:child_naps*0.5", &["nap=10"], 1.95, 8.0)],
        ..BLANK
    },
    Workload {
        id: "13",
        title: "broadcast with the lock held, 3 waiters of 1 ms",
        program: Compiled("herd.c"),
        facts: &[fact("the woken wait for the lock", "to_lock", "wakes", 0.9, 1.0)],
        states: &[of_all("condvar"), of_all("lock"), of_all("sleep"), RUNNABLE],
        objects: &[
            object("lock", "wait_for_news", "lock"),
            object("condvar", "wait_for_news", "condvar"),
        ],
        verdict: verdict(&["sleep-bound"], "main"),
        findings: &[&["herd", "convoy"]],
        innocent: &["lock", "condvar"],
        changes: &[
            change("section:digest*0.5", &["hold=0.5"], 1.0, 6.0),
            change("section:tell_everyone*0.5", &["linger=0.5"], 1.08, 6.0),
        ],
        ..BLANK
    },
    Workload {
        id: "14",
        title: "a thread computes, another spins until it has",
        program: Compiled("spin.c"),
        facts: &[fact("half of the CPU time is spinning", "spinner.running", "cpu", 0.45, 0.75)],
        states: &[
            of("spinner", "running", "spinner.running"),
            of("worker", "running", "worker.running"),
            RUNNABLE,
        ],
        verdict: verdict(&["serial"], "work_alone"),
        findings: &[&["spin"]],
        changes: &[
            change("section:spin_on_flag*0", &["block=1"], 1.0, 10.0),
            change("section:work_alone*0.5", &["work=5"], 2.0, 10.0),
        ],
        needs_cpu: true,
        ..BLANK
    },
    Workload {
        id: "15",
        title: "asyncio: a 5 ms ticker and 10 blocks of 50 ms",
        program: Python("blocked_loop.py"),
        facts: &[
            fact("each block makes one tick late", "lags_over_10_ms", "10", 1.0, 1.0),
            fact("by its length", "longest_lag", "50000000", 0.85, 1.2),
        ],
        states: &[
            of("loop", "sleep", "loop.sleep"),
            of("loop", "poll", "loop.poll"),
            of("loop", "runnable", "loop.runnable"),
        ],
        verdict: verdict(&["blocked-event-loop"], "block_the_loop"),
        changes: &[
            change("section:block_the_loop*0.5", &["block=25"], 1.24, 8.0),
            change("section:block_the_loop*0", &["block=0"], 1.57, 10.0),
        ],
        ..BLANK
    },
    Workload {
        id: "16",
        title: "tokio: a task that sleeps 50 ms on its worker",
        program: Example("ground_tokio_blocked"),
        facts: &[fact("blocked as often as asked", "tokio-worker.sleep", "750000000", 1.0, 1.03)],
        states: &[of("tokio-worker", "sleep", "tokio-worker.sleep")],
        objects: &[object("timer", "block_a_worker", "tokio-worker.sleep")],
        verdict: verdict(&["blocked-event-loop"], "block_a_worker"),
        changes: &[change("section:block_a_worker*0.5", &["block=25"], 1.54, 6.0)],
        ..BLANK
    },
    Workload {
        id: "17",
        title: "the holder of a lock is kept from its CPU by a hog",
        program: Compiled("preempted.c"),
        facts: &[fact("the holder could run", "held_runnable", "waiter.lock", 0.8, 1.0)],
        states: &[
            of("waiter", "lock", "waiter.lock"),
            of("waiter", "sleep", "waiter.sleep"),
            RUNNABLE,
        ],
        objects: &[Object { holder: Some("holder"), ..object("lock", "want_lock", "waiter.lock") }],
        verdict: verdict(&["lock-bound", "oversubscribed"], "hold_lock"),
        findings: &[&["preempt"]],
        needs_cpu: true,
        ..BLANK
    },
    Workload {
        id: "18",
        title: "ping-pong over loopback, the server sleeps 1 ms",
        program: Compiled("ping_pong.c"),
        facts: &[
            fact("the client only waits", "client.network", "wall", 0.95, 1.0),
            fact("nearly all is the server's sleep", "server.sleep", "wall", 0.85, 1.0),
        ],
        states: &[of("client", "network", "client.network"), of("server", "sleep", "server.sleep")],
        objects: &[object("socket", "ask", "client.network")],
        verdict: verdict(&["sleep-bound"], "serve_slowly"),
        changes: &[change("section:serve_slowly*0.5", &["service=0.5"], 1.8, 12.0)],
        ..BLANK
    },
    Workload {
        id: "19",
        title: "1 with parking_lot",
        program: Example("ground_lock_parking_lot"),
        states: &[of_all("lock"), of_all("sleep"), of_all("join")],
        changes: &[
            change("lock:@hold_lock*0.5", &["hold=1.5"], 1.41, 10.0),
            change("lock:@hold_lock*0", &["hold=0"], 1.71, 10.0),
        ],
        ..LOCK_LOOP
    },
    Workload {
        id: "20",
        title: "8 loggers queue on A; 4 workers use B and end the run",
        program: Compiled("decoy.c"),
        facts: &[
            fact("A is waited for most", "logger.lock", "worker.lock", 7.0, 14.0),
            fact("B is busy all the time", "held", "wall", 0.9, 1.01),
        ],
        states: &[
            of("logger", "lock", "logger.lock"),
            of("worker", "lock", "worker.lock"),
            of_all("join"),
            RUNNABLE,
        ],
        objects: &[
            object("lock", "write_log", "logger.lock"),
            Object { held: "held", ..object("lock", "settle", "worker.lock") },
        ],
        verdict: verdict(&["lock-bound"], "settle"),
        changes: &[
            change("lock:@write_log*0.1", &["a=1"], 1.0, 6.0),
            change("lock:@settle*0.5", &["b=1.5"], 1.41, 10.0),
        ],
        ..BLANK
    },
    Workload {
        id: "21",
        title: "a pool of 2 for 100 jobs that sleep 20 ms",
        program: Python("small_pool.py"),
        facts: &[fact("both sleep all the time", "worker.sleep", "pool", 1.9, 2.01)],
        states: &[of("worker", "sleep", "worker.sleep")],
        verdict: verdict(&["sleep-bound"], "run_job"),
        findings: &[&["pool-size"]],
        changes: &[change("workers:worker=4", &["workers=4"], 1.9, 10.0)],
        ..BLANK
    },
    Workload {
        id: "21l",
        title: "21 with 9 of 12 ms under one lock: more workers gain nothing",
        program: Python("small_pool.py"),
        arguments: &["job=12", "inside=9"],
        facts: &[fact("the lock is held all the time", "900000000", "pool", 0.85, 1.01)],
        states: &[of("worker", "sleep", "worker.sleep"), of("worker", "lock", "worker.lock")],
        verdict: verdict(&["lock-bound"], "run_job"),
        changes: &[change("workers:worker=4", &["workers=4"], 1.0, 6.0)],
        ..BLANK
    },
];
