//! The `proc` tier on small commands, as whoever runs the tests and as an ordinary user.
#![allow(clippy::disallowed_methods)] // tests are no pure module

mod tiers;

use std::io::Read;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::time::Duration;
use std::time::Instant;
use tiers::OPTIONS;
use tiers::Recording;
use tiers::program;
use tiers::record;
use tiers::said;
use tiers::shell;
use timesink::capture::proc::ProcSource;
use timesink::model::Event;
use timesink::model::ExitKind;
use timesink::model::FdKind;
use timesink::model::Left;
use timesink::model::Nanos;
use timesink::model::StartKind;

fn recorded(command: &std::process::Command) -> Option<Recording> {
    match ProcSource::new(OPTIONS) {
        Ok(mut source) => Some(record(&mut source, command)),
        Err(error) => {
            tiers::skip(&error.to_string());
            None
        }
    }
}

/// As `recorded`, polled without long pauses: how exact a sampled figure is depends on that.
fn recorded_steadily(command: &std::process::Command) -> Option<Recording> {
    for _ in 0..8 {
        let recording = recorded(command)?;
        if recording.longest_drain_gap < Duration::from_millis(25) {
            return Some(recording);
        }
    }
    tiers::skip("the machine is too busy to poll every 25 ms");
    None
}

#[test]
#[ignore = "a program for the tests below"]
fn program_sleeps_and_computes() {
    let cpu = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("own books");
        stat.split(' ').next().and_then(|run| run.parse::<u64>().ok()).expect("a number")
    };
    let mut slept = Duration::ZERO;
    let before = cpu();
    for _ in 0..3 {
        let begin = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        slept += begin.elapsed();
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
    // The books of a running thread are written at its next switch.
    std::thread::sleep(Duration::from_millis(1));
    let ran = cpu() - before;
    std::io::stdout()
        .write_all(format!(" slept={} ran={ran} ", slept.as_nanos()).as_bytes())
        .expect("stdout");
}

#[test]
fn recorded_sleeping_and_running_are_what_the_program_measures() {
    let Some(recording) = recorded_steadily(&program("program_sleeps_and_computes")) else {
        return;
    };
    assert_eq!(recording.root_life().start.how, StartKind::Root);
    let life = recording.worker_life();
    assert_eq!(life.start.how, StartKind::Found);
    assert!(life.intervals.iter().all(|i| i.marks.sampled));
    let (slept, ran) = (said(&recording.stdout, "slept"), said(&recording.stdout, "ran"));
    let seen: Nanos = life
        .intervals
        .iter()
        .filter(|i| i.call.is_some_and(|call| call.number == 230))
        .map(|i| i.woken.unwrap_or(i.on) - i.off)
        .sum();
    // On top of the polls' own error: the books of a thread on a CPU lag by up to a tick, and those of a
    // queued one by its wait in the queue.
    let near = |a: u64, b: u64| a.abs_diff(b) <= b / 7 + 15_000_000;
    assert!(near(seen.0, slept), "{seen} of {}", Nanos(slept));
    assert!(near(life.running().0, ran), "{} of {}", life.running(), Nanos(ran));
    // Three sleeps, each one interval however often it was polled; a busy machine may tear one.
    let long = life.intervals.iter().filter(|i| i.on - i.off >= Nanos::from_millis(80)).count();
    assert!((2..=4).contains(&long), "{:?}", life.intervals);
}

#[test]
#[ignore = "a program for the tests below"]
fn program_waits() {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let pipe = std::thread::spawn(move || reader.read_exact(&mut [0]));
    std::thread::sleep(Duration::from_millis(120));
    writer.write_all(&[0]).expect("a reader");
    pipe.join().expect("no panic").expect("a byte");
}

#[test]
fn recorded_waits_have_their_reason_and_object() {
    let Some(recording) = recorded_steadily(&program("program_waits")) else { return };
    let lives = recording.lives();
    let calls: Vec<(u16, FdKind)> = lives
        .iter()
        .flat_map(|l| &l.intervals)
        .filter_map(|i| i.call.map(|call| (call.number, call.fd)))
        .collect();
    for wanted in [(230, FdKind::None), (202, FdKind::None), (0, FdKind::Pipe)] {
        assert!(calls.contains(&wanted), "{wanted:?} not in {calls:?}");
    }
    let labels = recording.events.iter().filter_map(|e| match e {
        Event::Object(object) => Some(object.label.to_string()),
        _ => None,
    });
    assert!(labels.into_iter().any(|label| label.starts_with("pipe:[")));
    assert!(!recording.observed(Nanos::from_millis(20)).is_empty());
}

#[test]
fn recorded_process_trees_have_what_lives_long_enough() {
    let Some(recording) = recorded(&shell("sleep 0.1 | sleep 0.12; sleep 0.05; true")) else {
        return;
    };
    let execs: Vec<String> = recording
        .execs()
        .iter()
        .map(|e| e.argv.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    for wanted in ["sleep 0.1", "sleep 0.12", "sleep 0.05"] {
        assert!(execs.iter().any(|argv| argv == wanted), "{wanted} in {execs:?}");
    }
    // A child that has not run another program yet has no exec of its own.
    assert!(execs.iter().filter(|argv| argv.starts_with("/bin/sh")).count() <= 1, "{execs:?}");
    let lives = recording.lives();
    let pids: Vec<u32> = lives.iter().map(|l| l.start.pid.0).collect();
    for life in lives.iter().filter(|l| l.start.pid != recording.root) {
        assert!(pids.contains(&life.start.parent_pid.0), "{life:?}");
        assert!(life.start.time >= recording.root_life().start.time);
        assert_eq!(life.exit.how, ExitKind::Process { status: None });
    }
}

#[test]
fn recorded_stops_are_stops() {
    let script = "sh -c 'kill -STOP $$; exit 0' & sleep 0.1; kill -CONT $!; wait";
    let Some(recording) = recorded(&shell(script)) else { return };
    let lives = recording.lives();
    let stopped = lives.iter().flat_map(|l| &l.intervals).find(|i| i.left == Left::Stopped);
    let stopped = stopped.unwrap_or_else(|| panic!("{lives:?}"));
    assert!(stopped.on - stopped.off >= Nanos::from_millis(50), "{stopped:?}");
}

#[test]
#[ignore = "a program for the tests below"]
fn program_execs_from_a_thread() {
    let end = Instant::now() + Duration::from_millis(120);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    let error = std::process::Command::new("/bin/sleep").arg("0.15").exec();
    panic!("{error}");
}

#[test]
fn recorded_exec_of_a_thread_does_not_inherit_its_past() {
    let Some(recording) = recorded_steadily(&program("program_execs_from_a_thread")) else {
        return;
    };
    let life = recording.root_life();
    let slept: Nanos = life
        .intervals
        .iter()
        .filter(|i| i.call.is_some_and(|call| call.number == 230))
        .map(|i| i.on - i.off)
        .sum();
    // Without care the 120 ms that the thread ran before would be told again as running.
    assert!(slept >= Nanos::from_millis(110), "{life:?}");
}

#[test]
fn recorded_storms_of_short_processes_add_up() {
    let script = "i=0; while [ $i -lt 60 ]; do /bin/true | /bin/true; i=$((i+1)); done";
    let Some(recording) = recorded(&shell(script)) else { return };
    assert!(!recording.lives().is_empty());
}

#[test]
fn what_still_runs_at_the_end_is_closed_there() {
    let Some(recording) = recorded(&shell("sleep 0.4 & exec sleep 0.1")) else { return };
    let lives = recording.lives();
    let alive: Vec<_> = lives.iter().filter(|l| l.exit.how == ExitKind::Alive).collect();
    assert_eq!(alive.len(), 1, "{lives:?}");
    assert!(alive[0].intervals.last().is_some_and(|i| i.marks.open && i.on == alive[0].exit.time));
}

#[test]
fn a_command_that_ends_before_the_first_poll_still_has_its_time() {
    let Some(recording) = recorded(&shell("exit 7")) else { return };
    assert_eq!(recording.status.code(), Some(7));
    assert_eq!(recording.root_life().exit.how, ExitKind::Process { status: None });
}

#[test]
fn all_again_as_an_ordinary_user() {
    tiers::again_as_ordinary_user();
}
