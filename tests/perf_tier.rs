//! The `perf` tier on small commands, as whoever runs the tests and as an ordinary user.
#![allow(clippy::disallowed_methods)] // tests are no pure module

mod tiers;

use std::io::Read;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tiers::Life;
use tiers::OPTIONS;
use tiers::Recording;
use tiers::program;
use tiers::record;
use tiers::said;
use tiers::shell;
use timesink::capture::CaptureError;
use timesink::capture::CaptureStats;
use timesink::capture::Progress;
use timesink::capture::Source;
use timesink::capture::Target;
use timesink::capture::perf::PerfSource;
use timesink::model::Event;
use timesink::model::ExitKind;
use timesink::model::FdKind;
use timesink::model::Interval;
use timesink::model::Left;
use timesink::model::Nanos;
use timesink::model::Observation;
use timesink::model::Pid;
use timesink::model::Record;
use timesink::model::StartKind;
use timesink::model::Tier;

fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).expect("stdout");
}

/// Records with this tier; `None`, and said aloud, where it is not allowed.
fn recorded(command: &std::process::Command) -> Option<Recording> {
    match PerfSource::new(OPTIONS) {
        // Looks happen when drained: a busy machine that keeps us from it is not what is tested.
        Ok(_) => {
            for _ in 0..8 {
                let mut source = PerfSource::new(OPTIONS).expect("allowed a moment ago");
                let recording = record(&mut source, command);
                if recording.longest_drain_gap < Duration::from_millis(40) {
                    return Some(recording);
                }
            }
            tiers::skip("the machine is too busy to drain every 40 ms");
            None
        }
        Err(error) => {
            tiers::skip(&error.to_string());
            None
        }
    }
}

#[test]
#[ignore = "a program for the tests below"]
fn program_sleeps() {
    let mut slept = Duration::ZERO;
    for _ in 0..20 {
        let begin = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        slept += begin.elapsed();
    }
    let (voluntary, involuntary) = tiers::own_switches();
    say(&format!(" slept={} voluntary={voluntary} involuntary={involuntary} ", slept.as_nanos()));
}

#[test]
fn recorded_sleeps_are_as_long_as_the_program_measures() {
    let Some(recording) = recorded(&program("program_sleeps")) else { return };
    let root = recording.root_life();
    assert_eq!(root.start.how, StartKind::Root);
    assert_eq!(root.exit.how, ExitKind::Process { status: None });
    let life = recording.worker_life();
    assert_eq!(life.gaps + root.gaps, 0);
    let slept = Nanos(said(&recording.stdout, "slept"));
    // A busy machine preempts for as long as that, too.
    let blocked = |i: &&Interval| matches!(i.left, Left::Blocked { .. });
    let long = life.intervals.iter().filter(|i| i.on - i.off >= Nanos::from_millis(4));
    let long = long.filter(blocked);
    let seen: Nanos = long.map(|i| i.on - i.off).sum();
    // The program's own figure holds the calls around each sleep as well.
    assert!(seen <= slept, "{seen} of {slept}");
    assert!(seen.share_of(slept) > 0.9, "{seen} of {slept}");
    let count =
        |wanted: fn(&Left) -> bool| life.intervals.iter().filter(|i| wanted(&i.left)).count();
    let blocked = count(|left| matches!(left, Left::Blocked { .. })) as u64;
    let preempted = count(|left| matches!(left, Left::Preempted)) as u64;
    // The kernel's counts start at the fork and were read before the end: a few on either side.
    let near = |a: u64, b: u64| a.abs_diff(b) <= 8;
    assert!(near(blocked, said(&recording.stdout, "voluntary")), "{blocked} {}", recording.stdout);
    assert!(
        near(preempted, said(&recording.stdout, "involuntary")),
        "{preempted} {}",
        recording.stdout
    );
}

#[test]
#[ignore = "a program for the tests below"]
fn program_waits() {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let waiter = {
        let pair = Arc::clone(&pair);
        std::thread::spawn(move || {
            let mut done = pair.0.lock().expect("not poisoned");
            while !*done {
                done = pair.1.wait(done).expect("not poisoned");
            }
        })
    };
    let pipe = std::thread::spawn(move || reader.read_exact(&mut [0]));
    std::thread::sleep(Duration::from_millis(100));
    *pair.0.lock().expect("not poisoned") = true;
    pair.1.notify_all();
    writer.write_all(&[0]).expect("a reader");
    waiter.join().expect("no panic");
    pipe.join().expect("no panic").expect("a byte");
}

#[test]
fn recorded_waits_of_20_ms_have_their_reason() {
    let Some(recording) = recorded(&program("program_waits")) else { return };
    let seen = recording.observed(Nanos::from_millis(20));
    // clock_nanosleep, futex, read from a pipe.
    for wanted in [(230, FdKind::None), (202, FdKind::None), (0, FdKind::Pipe)] {
        assert!(seen.contains(&wanted), "{wanted:?} not in {seen:?}");
    }
    let lives = recording.lives();
    assert!(lives.iter().filter(|l| l.start.how == StartKind::Thread).count() >= 2);
    for life in lives.iter().filter(|l| l.start.how == StartKind::Thread) {
        assert_eq!(life.intervals[0].left, Left::New, "{life:?}");
        assert_eq!(life.intervals[0].off, life.start.time);
    }
    // An interval of a thread whose reason was not seen says so.
    assert!(lives.iter().flat_map(|l| &l.intervals).all(|i| !i.marks.reason_seen));
}

#[test]
#[ignore = "a program for the tests below"]
fn program_waits_5_ms_each() {
    // Two waits of about 5 ms in turns: a sleep, and a read from a pipe that another thread fills.
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let (to, asked) = std::sync::mpsc::channel::<()>();
    let filler = std::thread::spawn(move || {
        for () in asked {
            std::thread::sleep(Duration::from_millis(5));
            writer.write_all(&[0]).expect("a reader");
        }
    });
    let (mut slept, mut waited) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..60 {
        let begin = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        slept += begin.elapsed();
        to.send(()).expect("the other lives");
        let begin = Instant::now();
        reader.read_exact(&mut [0]).expect("a byte");
        waited += begin.elapsed();
    }
    drop(to);
    filler.join().expect("no panic");
    let said = format!(" slept={} waited={} ", slept.as_nanos(), waited.as_nanos());
    std::io::stdout().write_all(said.as_bytes()).expect("stdout");
}

/// Time of the waits of `life` that were seen to be in call `number`.
fn explained(recording: &Recording, life: &Life, number: u16) -> Nanos {
    let observations = recording.observations();
    let seen = |i: &&Interval| {
        observations.iter().any(|o| {
            o.tid == life.start.tid
                && (i.off..=i.on).contains(&o.time)
                && o.call.flatten().is_some_and(|call| call.number == number)
        })
    };
    life.intervals.iter().filter(seen).map(|i| i.on - i.off).sum()
}

#[test]
fn recorded_waits_of_5_ms_have_their_reason_and_no_other() {
    for _ in 0..8 {
        let Some(recording) = recorded(&program("program_waits_5_ms_each")) else { return };
        let life = recording.worker_life();
        let slept = Nanos(said(&recording.stdout, "slept"));
        let waited = Nanos(said(&recording.stdout, "waited"));
        let (sleeps, reads) = (explained(&recording, &life, 230), explained(&recording, &life, 0));
        // Never more than there was: a reason is not lent to another wait.
        assert!(sleeps <= slept && reads <= waited, "{sleeps} of {slept}, {reads} of {waited}");
        // Every wait has one reason, however often it was looked at.
        for interval in &life.intervals {
            let observations = recording.observations();
            let within = |o: &&&Observation| {
                o.tid == life.start.tid && (interval.off..=interval.on).contains(&o.time)
            };
            let calls: Vec<_> = observations.iter().filter(within).map(|o| o.call).collect();
            assert!(calls.windows(2).all(|pair| pair[0] == pair[1]), "{calls:?} in {interval:?}");
        }
        if recording.late_drains < Duration::from_millis(60) {
            assert!(sleeps.share_of(slept) >= 0.8, "{sleeps} of {slept}");
            assert!(reads.share_of(waited) >= 0.8, "{reads} of {waited}");
            let stacks = recording.observations().iter().filter(|o| o.stack.is_some()).count();
            assert!(stacks > 60, "{stacks} looks with a call site");
            return;
        }
    }
    tiers::skip("the machine is too busy to drain every few milliseconds");
}

#[test]
fn recorded_process_trees_are_complete() {
    let Some(recording) = recorded(&shell("cat /proc/self/stat | cat; (exit 3); sleep 0.1")) else {
        return;
    };
    let lives = recording.lives();
    let processes = lives.iter().filter(|l| l.start.how == StartKind::Process).count();
    let execs: Vec<String> =
        recording.execs().iter().map(|e| e.path.base_name().to_string()).collect();
    assert_eq!(execs.iter().filter(|name| *name == "cat").count(), 2, "{execs:?}");
    assert!(execs.iter().any(|name| name == "sleep"), "{execs:?}");
    // Two cats, a subshell, and the sleep unless the shell becomes it.
    let became = execs.len() == 4 && processes == 3;
    assert!(processes == 4 || became, "{processes} {execs:?}");
    // Nothing of anyone else: every process has its parent in the recording.
    let pids: Vec<u32> = lives.iter().map(|l| l.start.pid.0).collect();
    for life in lives.iter().filter(|l| l.start.pid != recording.root) {
        assert!(pids.contains(&life.start.parent_pid.0), "{life:?}");
    }
    let sleep = recording.execs().into_iter().find(|e| e.path.base_name().to_string() == "sleep");
    let argv: Vec<String> =
        sleep.expect("checked above").argv.iter().map(ToString::to_string).collect();
    assert_eq!(argv, ["sleep", "0.1"]);
}

#[test]
#[ignore = "a program for the tests below"]
fn program_computes() {
    let end = Instant::now() + Duration::from_millis(300);
    let mut sum = 0_u64;
    while Instant::now() < end {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
}

#[test]
fn recorded_computing_has_samples_in_proportion() {
    let Some(recording) = recorded(&program("program_computes")) else { return };
    let life = recording.worker_life();
    let weight: Nanos = recording
        .events
        .iter()
        .filter_map(|e| if let Event::Sample(s) = e { Some(s.weight) } else { None })
        .sum();
    let share = weight.share_of(life.running());
    assert!((0.7..1.3).contains(&share), "{share} of {}", life.running());
    assert!(recording.stats.warnings.is_empty(), "{:?}", recording.stats.warnings);
}

#[test]
#[ignore = "a program for the tests below"]
fn program_hands_over() {
    let (to, from) = std::sync::mpsc::sync_channel::<u32>(0);
    let other = std::thread::spawn(move || from.iter().count());
    for i in 0..60_000 {
        to.send(i).expect("the other lives");
    }
    drop(to);
    other.join().expect("no panic");
}

/// Never drains: the rings overflow.
struct Lazy(PerfSource);

impl Source for Lazy {
    fn tier(&self) -> Tier {
        self.0.tier()
    }
    fn limits(&self) -> Vec<String> {
        self.0.limits()
    }
    fn start(&mut self, target: &Target) -> Result<(), CaptureError> {
        self.0.start(target)
    }
    fn attach(&mut self, roots: &[Pid], sink: &mut dyn FnMut(Record)) -> Result<(), CaptureError> {
        self.0.attach(roots, sink)
    }
    fn drain(&mut self, _: &mut dyn FnMut(Record)) -> Result<Progress, CaptureError> {
        Ok(Progress::default())
    }
    fn stop(&mut self, sink: &mut dyn FnMut(Record)) -> Result<CaptureStats, CaptureError> {
        self.0.stop(sink)
    }
}

#[test]
fn a_full_ring_is_a_counted_loss_and_unknown_time() {
    let Ok(source) = PerfSource::new(OPTIONS) else {
        return tiers::skip("the perf tier cannot record here");
    };
    let mut command = std::process::Command::new("taskset");
    let program = program("program_hands_over");
    command.arg("1").arg(program.get_program()).args(program.get_args());
    let recording = record(&mut Lazy(source), &command);
    let lost: u64 = recording
        .events
        .iter()
        .filter_map(|e| if let Event::Lost(lost) = e { Some(lost.count) } else { None })
        .sum();
    assert!(lost > 0, "the ring holds less than this program switches");
    // The exits are among what was lost: the rest of each thread is one gap up to the end.
    let lives = recording.lives();
    assert!(lives.iter().all(|life| life.gaps > 0), "{lost} lost");
    let switches: usize = lives.iter().map(|life| life.intervals.len()).sum();
    assert!(switches > 1_000, "what came before the loss is told");
    assert!(recording.stats.warnings.iter().any(|w| w.contains(&lost.to_string())));
}

#[test]
#[ignore = "a program for the tests below"]
fn program_execs_from_a_thread() {
    std::thread::sleep(Duration::from_millis(20));
    let error = std::process::Command::new("/bin/sleep").arg("0.04").exec();
    panic!("{error}");
}

#[test]
fn recorded_exec_of_a_thread_goes_on_as_the_leader() {
    let Some(recording) = recorded(&program("program_execs_from_a_thread")) else { return };
    let execs = recording.execs();
    let last = execs.last().expect("two programs");
    assert_eq!(last.path.base_name().to_string(), "sleep");
    assert_ne!(last.old_tid.0, last.pid.0);
    let lives = recording.lives();
    let life = lives.last().expect("the sleeper");
    assert_eq!(life.start.tid.0, recording.root.0);
    assert!(life.intervals.iter().any(|i| i.on - i.off >= Nanos::from_millis(39)), "{life:?}");
}

#[test]
fn recorded_storms_of_short_processes_are_whole() {
    let script = "i=0; while [ $i -lt 60 ]; do /bin/true | /bin/true; i=$((i+1)); done";
    let Some(recording) = recorded(&shell(script)) else { return };
    let lives = recording.lives();
    assert_eq!(lives.len(), 121);
    assert_eq!(recording.execs().len(), 121);
    assert_eq!(lives.iter().map(|l| l.gaps).sum::<usize>(), 0);
}

#[test]
fn what_still_runs_at_the_end_is_closed_there() {
    let Some(recording) = recorded(&shell("sleep 0.3 & exec sleep 0.05")) else { return };
    let lives = recording.lives();
    let alive: Vec<_> = lives.iter().filter(|l| l.exit.how == ExitKind::Alive).collect();
    assert_eq!(alive.len(), 1, "{lives:?}");
    let last = alive[0].intervals.last().expect("it sleeps");
    assert!(last.marks.open);
    assert_eq!(last.on, alive[0].exit.time);
    assert!(alive[0].exit.books.runs.is_some());
}

#[test]
fn all_again_as_an_ordinary_user() {
    tiers::again_as_ordinary_user();
}
