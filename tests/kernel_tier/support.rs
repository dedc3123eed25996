//! Records the test binary itself, run again as a workload.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use timesink::capture::CaptureError;
use timesink::capture::Options;
use timesink::capture::Source as _;
use timesink::capture::Target;
use timesink::capture::kernel::KernelSource;
use timesink::capture::kernel::Tuning;
use timesink::model::Event;
use timesink::model::Interval;
use timesink::model::Pid;
use timesink::model::Record;
use timesink::model::StartKind;
use timesink::model::Tid;

pub fn options() -> Options {
    Options { sample_hz: 997, wait_stacks: true }
}

/// What came of one recording.
pub struct Recording {
    pub pid: u32,
    pub events: Vec<Event>,
    pub output: Vec<String>,
    pub usage: libc::rusage,
    pub switches_before_exec: (i64, i64),
    pub warnings: Vec<String>,
}

impl Recording {
    pub fn intervals(&self) -> impl Iterator<Item = Interval> + '_ {
        self.events.iter().filter_map(|event| match event {
            Event::Interval(interval) => Some(*interval),
            _ => None,
        })
    }

    /// Numbers that the workload printed as `name=number`.
    pub fn reported(&self, name: &str) -> Vec<u64> {
        let value = |line: &String| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        self.output.iter().filter_map(value).collect()
    }

    pub fn starts(&self, how: StartKind) -> Vec<Tid> {
        let start = |event: &Event| match event {
            Event::Start(start) if start.how == how => Some(start.tid),
            _ => None,
        };
        self.events.iter().filter_map(start).collect()
    }
}

/// A recording that runs.
pub struct Live {
    source: KernelSource,
    child: Child,
    lines: mpsc::Receiver<String>,
    recording: Recording,
}

/// `None`, after saying why, where this machine or user cannot.
pub fn record(workload: &str, options: Options, tuning: Tuning) -> Option<Recording> {
    // A recorder that begins or ends beside it may cost it a switch: 3 of 13 runs in parallel, 0 of 8
    // one by one.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let live = Live::start(workload, options, tuning)?;
    Some(live.until_exit())
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for the two descriptors, which are then ours alone.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

impl Live {
    pub fn start(workload: &str, options: Options, tuning: Tuning) -> Option<Self> {
        let mut source = match KernelSource::with_tuning(options, tuning) {
            Ok(source) => source,
            Err(error @ (CaptureError::NotAllowed { .. } | CaptureError::NotSupported { .. })) => {
                assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "skipped: {error}");
                eprintln!("skipped: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let (pid_out, pid_in) = pipe();
        let (go_out, go_in) = pipe();
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command
            .args(["workload::run", "--exact", "--nocapture", "--test-threads=1"])
            .env("TIMESINK_WORKLOAD", workload)
            .stdout(Stdio::piped());
        let (pid_fd, go_fd) = (pid_in.as_raw_fd(), go_out.as_raw_fd());
        // SAFETY: between fork and exec only write, read and getpid are called, which are
        // async-signal-safe, on descriptors that stay open until exec.
        unsafe {
            command.pre_exec(move || {
                let pid = libc::getpid();
                libc::write(pid_fd, (&raw const pid).cast(), 4);
                let mut byte = 0u8;
                libc::read(go_fd, (&raw mut byte).cast(), 1);
                Ok(())
            });
        }
        // `spawn` returns only after the exec, so it needs a thread of its own.
        let spawner = std::thread::spawn(move || {
            let child = command.spawn().expect("the test binary runs");
            drop((pid_in, go_out));
            child
        });
        let mut pid = [0; 4];
        std::fs::File::from(pid_out).read_exact(&mut pid).expect("the child's id");
        let pid = u32::from_ne_bytes(pid);
        source.start(&Target { pid: Pid(pid) }).expect("it loaded, so it starts");
        let before = switches(pid);
        // A byte, as the child holds the writing end too and would never see it closed.
        std::fs::File::from(go_in).write_all(&[1]).expect("the child waits");
        let mut child = spawner.join().expect("spawned");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        // SAFETY: all zeroes are a valid rusage.
        let usage = unsafe { std::mem::zeroed() };
        let recording = Recording {
            pid,
            events: Vec::new(),
            output: Vec::new(),
            usage,
            switches_before_exec: before,
            warnings: Vec::new(),
        };
        Some(Self { source, child, lines, recording })
    }

    fn drain(&mut self) {
        let events = &mut self.recording.events;
        self.source.drain(&mut |record| keep(events, record)).expect("drains");
        std::thread::sleep(Duration::from_millis(5));
    }

    /// Drains until the workload has printed `name=...`.
    pub fn until_reported(&mut self, name: &str) {
        while self.recording.reported(name).is_empty() {
            self.drain();
            self.recording.output.extend(self.lines.try_iter());
        }
        for _ in 0..20 {
            self.drain();
        }
    }

    fn until_exit(mut self) -> Recording {
        let mut status = 0;
        loop {
            self.drain();
            let pid = self.recording.pid as libc::pid_t;
            // SAFETY: places for both answers; the child is ours and is waited for here only.
            let done = unsafe {
                libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut self.recording.usage)
            };
            if done == pid {
                break;
            }
        }
        assert_eq!(status, 0, "the workload succeeds: {:?}", self.recording.output);
        self.finish()
    }

    /// Ends the recording, then the workload.
    pub fn stop_while_it_lives(mut self) -> Recording {
        let events = &mut self.recording.events;
        self.source.stop(&mut |record| keep(events, record)).expect("stops");
        self.child.kill().expect("it lives");
        self.child.wait().expect("it ends");
        self.recording.output.extend(self.lines.iter());
        self.recording
    }

    fn finish(mut self) -> Recording {
        let events = &mut self.recording.events;
        let stats = self.source.stop(&mut |record| keep(events, record)).expect("stops");
        self.recording.warnings = stats.warnings;
        self.recording.output.extend(self.lines.iter());
        self.recording
    }
}

fn keep(events: &mut Vec<Event>, record: Record) {
    if let Record::Event(event) = record {
        events.push(event);
    }
}

/// Voluntary and involuntary switches of a process so far.
fn switches(pid: u32) -> (i64, i64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it waits");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a field");
        line.rsplit('\t').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    (field("voluntary_ctxt_switches"), field("nonvoluntary_ctxt_switches"))
}
