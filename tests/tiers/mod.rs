//! Drives a source on a command, and checks of what came out that hold for every tier.
#![allow(dead_code, missing_docs)] // each test binary uses its part
#![allow(clippy::disallowed_methods)] // tests are no pure module

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use timesink::capture::CaptureStats;
use timesink::capture::Options;
use timesink::capture::Source;
use timesink::capture::Target;
use timesink::capture::sys::perf_event::monotonic;
use timesink::model::Event;
use timesink::model::Exec;
use timesink::model::Exit;
use timesink::model::FdKind;
use timesink::model::Interval;
use timesink::model::Nanos;
use timesink::model::Observation;
use timesink::model::Pid;
use timesink::model::Record;
use timesink::model::Start;
use timesink::model::Tid;

/// What every test records with.
pub const OPTIONS: Options = Options { sample_hz: 997, wait_stacks: true };

/// Set for the part of a test that runs as an ordinary user.
const AS_USER: &str = "TIMESINK_TEST_AS_USER";

/// Held while recording: tests that run side by side would disturb each other's times.
static ALONE: Mutex<()> = Mutex::new(());

/// Everything one recording gave.
pub struct Recording {
    /// The root.
    pub root: Pid,
    /// Events in time order.
    pub events: Vec<Event>,
    /// What the command wrote to stdout.
    pub stdout: String,
    /// Longest time between two drains: a busy machine may keep the test from its CPU.
    pub longest_drain_gap: Duration,
    /// Time in which waits of 5 ms could come and go between two drains: what the gaps beyond
    /// 5 ms add up to.
    pub late_drains: Duration,
    /// How it ended.
    pub status: ExitStatus,
    /// What the source said at the end.
    pub stats: CaptureStats,
}

/// A process that waits to become `command` until a line comes on its stdin.
fn hold(command: &Command) -> Child {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "echo r; read -r go && exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    // `spawn` returns in the middle of the shell's own exec, which is not the one to record.
    let output = shell.stdout.as_mut().expect("piped");
    output.read_exact(&mut [0; 2]).expect("the shell is ready");
    shell
}

/// Records `command` until it ends.
pub fn record(source: &mut dyn Source, command: &Command) -> Recording {
    let _alone = ALONE.lock();
    let mut child = hold(command);
    let root = Pid(child.id());
    let mut events = Vec::new();
    let mut sink = |record| {
        if let Record::Event(event) = record {
            events.push(event);
        }
    };
    source.start(&Target { pid: root }).expect("the tier can record");
    child.stdin.take().expect("piped").write_all(b"go\n").expect("the shell waits");
    let mut output = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let mut drained = Instant::now();
    let mut longest_drain_gap = Duration::ZERO;
    let mut late_drains = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        source.drain(&mut sink).expect("drain");
        std::thread::sleep(pause(source.due()));
        let gap = drained.elapsed();
        longest_drain_gap = longest_drain_gap.max(gap);
        late_drains += gap.saturating_sub(Duration::from_millis(5));
        drained = Instant::now();
    };
    let stats = source.stop(&mut sink).expect("stop");
    let stdout = reader.join().expect("no panic").expect("text");
    events.sort_by_key(Event::time);
    Recording { root, events, stdout, longest_drain_gap, late_drains, status, stats }
}

/// Until the source wants to be drained, 4 ms at most, as the program does it.
fn pause(due: Option<Nanos>) -> Duration {
    let most = Duration::from_millis(4);
    let left = due.map(|due| Duration::from_nanos((due - monotonic()).0));
    left.map_or(most, |left| left.clamp(Duration::from_millis(1), most))
}

/// A thread whose exit was not seen yet.
#[derive(Debug)]
struct Begun {
    start: Start,
    intervals: Vec<Interval>,
    off: Vec<(Nanos, Nanos)>,
    gaps: usize,
}

/// One life of a thread.
#[derive(Debug)]
pub struct Life {
    pub start: Start,
    pub exit: Exit,
    pub off: Vec<(Nanos, Nanos)>,
    pub intervals: Vec<Interval>,
    pub gaps: usize,
}

impl Life {
    pub fn lifetime(&self) -> Nanos {
        self.exit.time - self.start.time
    }
    pub fn off_cpu(&self) -> Nanos {
        self.off.iter().map(|&(from, to)| to - from).sum()
    }
    pub fn running(&self) -> Nanos {
        self.lifetime() - self.off_cpu()
    }
}

impl Recording {
    /// All threads, checked: starts and exits pair, what lies between is in order, does not overlap
    /// and lies within the lifetime. Then running + off-CPU is the lifetime, to the nanosecond.
    pub fn lives(&self) -> Vec<Life> {
        let mut open: BTreeMap<Tid, Begun> = BTreeMap::new();
        let mut lives = Vec::new();
        let living = "of a living thread";
        for event in &self.events {
            match event {
                Event::Start(start) => {
                    let (intervals, off, gaps) = (Vec::new(), Vec::new(), 0);
                    let begun = Begun { start: *start, intervals, off, gaps };
                    let old = open.insert(start.tid, begun);
                    assert!(old.is_none(), "{start:?} while {old:?} lives");
                }
                Event::Interval(interval) => {
                    let begun = open.get_mut(&interval.tid).expect(living);
                    begun.intervals.push(*interval);
                    begun.off.push((interval.off, interval.on));
                }
                Event::Gap(gap) => {
                    let begun = open.get_mut(&gap.tid).expect(living);
                    begun.off.push((gap.from, gap.to));
                    begun.gaps += 1;
                }
                Event::Exit(exit) => {
                    let begun = open.remove(&exit.tid).expect(living);
                    let Begun { start, intervals, off, gaps } = begun;
                    let life = Life { start, exit: *exit, off, intervals, gaps };
                    check_tiles(&life);
                    lives.push(life);
                }
                Event::Exec(exec) if exec.old_tid.0 != exec.pid.0 => {
                    let mut begun = open.remove(&exec.old_tid).expect(living);
                    begun.start.tid = exec.pid.into();
                    open.insert(begun.start.tid, begun);
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "without exit: {open:?}");
        lives
    }

    pub fn life(&self, tid: Tid) -> Life {
        self.lives().into_iter().find(|l| l.start.tid == tid).expect("the thread was recorded")
    }

    pub fn root_life(&self) -> Life {
        self.life(self.root.into())
    }

    /// The thread that runs the program of a test: the harness gives it one of its own.
    pub fn worker_life(&self) -> Life {
        let of_root = |l: &Life| l.start.pid == self.root && l.start.tid.0 != self.root.0;
        let lives = self.lives();
        lives.into_iter().filter(of_root).max_by_key(Life::lifetime).expect("a second thread")
    }

    pub fn execs(&self) -> Vec<&Exec> {
        self.events
            .iter()
            .filter_map(|e| if let Event::Exec(exec) = e { Some(exec) } else { None })
            .collect()
    }

    pub fn observations(&self) -> Vec<&Observation> {
        self.events
            .iter()
            .filter_map(|e| if let Event::Observation(o) = e { Some(o) } else { None })
            .collect()
    }

    pub fn samples(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Sample(_))).count()
    }

    /// Calls and descriptor kinds that were observed within intervals longer than `least`.
    pub fn observed(&self, least: Nanos) -> Vec<(u16, FdKind)> {
        let lives = self.lives();
        let within = |o: &Observation| {
            lives
                .iter()
                .filter(|l| l.start.tid == o.tid)
                .flat_map(|l| &l.intervals)
                .any(|i| i.off <= o.time && o.time <= i.on && i.on - i.off >= least)
        };
        self.observations()
            .into_iter()
            .filter(|o| within(o))
            .filter_map(|o| o.call.flatten().map(|call| (call.number, call.fd)))
            .collect()
    }
}

fn check_tiles(life: &Life) {
    let mut off = life.off.clone();
    off.sort_unstable();
    let mut at = life.start.time;
    for (from, to) in off {
        assert!(at <= from, "overlap at {from:?} (told until {at:?}) in {life:?}");
        assert!(from <= to, "backwards in {life:?}");
        at = to;
    }
    assert!(at <= life.exit.time, "beyond the exit: {at:?} in {life:?}");
    assert_eq!(life.running() + life.off_cpu(), life.lifetime());
}

/// This test binary as a program: runs `name`, one of the `program_*` tests, and nothing else.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

pub fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// The number behind `key=` in what a program printed.
pub fn said(text: &str, key: &str) -> u64 {
    let mut words = text.split_ascii_whitespace();
    let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key} in {text}")).parse().expect("a number")
}

/// Voluntary and involuntary switches of the calling thread.
pub fn own_switches() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("own status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("in status");
        line.trim().parse().expect("a number")
    };
    (field("voluntary_ctxt_switches:"), field("nonvoluntary_ctxt_switches:"))
}

/// Runs all tests of this binary whose names start with `recorded_` again, as an ordinary user.
pub fn again_as_ordinary_user() {
    if std::env::var_os(AS_USER).is_some() {
        return;
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let setpriv = Command::new("setpriv").arg("--version").output().is_ok();
    if !root || !setpriv {
        let why = if root { "setpriv is not installed" } else { "not root: the tests ran as is" };
        skip(why);
        return;
    }
    let _alone = ALONE.lock();
    // Somewhere that user can read, whatever the permissions of the build directory.
    let directory =
        tempfile::Builder::new().prefix("timesink-test").tempdir().expect("a directory");
    let binary: PathBuf = directory.path().join("tests");
    std::fs::copy(std::env::current_exe().expect("own path"), &binary).expect("a copy");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("own directory");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(&binary)
        .args(["recorded_", "--test-threads=1"])
        .env(AS_USER, "1")
        .current_dir("/")
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as an ordinary user: {text}");
    assert!(!text.contains("running 0 tests"), "{text}");
}

/// Says why a test did not run; a failure where skipping is forbidden.
pub fn skip(why: &str) {
    assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "skipped: {why}");
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).expect("stderr");
}
