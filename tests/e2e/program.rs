//! Runs the built `timesink` on a command and reads what it leaves.

use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// The binary under test.
pub const TIMESINK: &str = env!("CARGO_BIN_EXE_timesink");

/// Nobody: the ordinary user of the tests that root runs.
const NOBODY: u32 = 65_534;

/// Far beyond what any run here needs: only a hang reaches it.
const DEADLINE: Duration = Duration::from_mins(2);

/// A tier, and as whom it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// As root.
    Kernel,
    /// As whoever runs the tests.
    Perf,
    /// As whoever runs the tests.
    Proc,
    /// As an ordinary user without capabilities.
    PerfNobody,
    /// As an ordinary user without capabilities.
    ProcNobody,
}

impl Tier {
    /// Every one, best first.
    pub const ALL: [Self; 5] =
        [Self::Kernel, Self::Perf, Self::Proc, Self::PerfNobody, Self::ProcNobody];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Perf | Self::PerfNobody => "perf",
            Self::Proc | Self::ProcNobody => "proc",
        }
    }

    /// Whether it runs as the ordinary user.
    pub fn as_nobody(self) -> bool {
        matches!(self, Self::PerfNobody | Self::ProcNobody)
    }

    /// Whether it can be had here; says why not.
    pub fn available(self) -> bool {
        let missing = match self {
            Self::Kernel if !is_root() => Some("the kernel tier needs root"),
            Self::Kernel if !Path::new("/sys/kernel/btf/vmlinux").exists() => {
                Some("this kernel has no BTF")
            }
            Self::PerfNobody | Self::ProcNobody if !is_root() => {
                Some("only root can become another user; this user is ordinary already")
            }
            Self::PerfNobody if paranoid() > 2 => Some("perf_event_paranoid is above 2"),
            Self::Perf if !is_root() && paranoid() > 2 => Some("perf_event_paranoid is above 2"),
            _ => None,
        };
        missing.inspect(|why| skip(&format!("{self:?}: {why}"))).is_none()
    }

    /// Those that can be had here.
    pub fn here() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|tier| tier.available())
    }
}

fn paranoid() -> i32 {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    text.trim().parse().unwrap_or(4)
}

/// Whether these tests run as root.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let uids = status.lines().find(|line| line.starts_with("Uid:")).expect("a Uid line");
    uids.split_whitespace().nth(2) == Some("0")
}

/// Says that something is not tested here, past the test harness's capture.
pub fn skip(why: &str) {
    assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "skipped: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Whether all of these programs are installed; says which is not.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs.iter().find(|program| {
        let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
        !found && !Path::new(program).is_file()
    });
    if let Some(program) = missing {
        skip(&format!("{program} is not installed"));
    }
    missing.is_none()
}

/// A run of `timesink run`.
pub struct Timesink {
    tier: Option<Tier>,
    options: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    place: TempDir,
}

/// What came of it.
pub struct Recorded {
    /// How timesink ended.
    pub status: ExitStatus,
    /// The command's standard output.
    pub stdout: Vec<u8>,
    /// The command's standard error and the report.
    pub stderr: String,
    /// report.json; null if there is none.
    pub report: Value,
    /// Where the results are: `out` is the directory of the run.
    pub place: TempDir,
}

impl Recorded {
    /// The exit code; 1000 + n if signal n ended timesink itself.
    pub fn code(&self) -> i32 {
        let signal = self.status.signal().map(|signal| 1000 + signal);
        self.status.code().or(signal).expect("it exited or was killed")
    }

    /// The directory of the run.
    pub fn out(&self) -> PathBuf {
        self.place.path().join("out")
    }

    /// What the program said about itself: lines of `key=number` on its standard output.
    pub fn measured(&self, key: &str) -> u64 {
        let text = String::from_utf8_lossy(&self.stdout);
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let found = found.unwrap_or_else(|| panic!("no `{key}=` in {text}\n{}", self.stderr));
        found.trim().parse().expect("a number")
    }
}

impl Timesink {
    /// With this tier.
    pub fn on(tier: Tier) -> Self {
        let mut new = Self::new();
        new.tier = Some(tier);
        new.option("--tier").option(tier.name())
    }

    /// With whatever tier it picks.
    pub fn new() -> Self {
        Self {
            tier: None,
            options: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            place: tempfile::Builder::new().prefix("timesink-e2e-").tempdir().expect("a place"),
        }
    }

    /// With a further argument before the command.
    pub fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// With these bytes on standard input.
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Where it runs.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Records `command` and waits for the end. One at a time: the machine is small, and
    /// shares of time mean little while another test burns it.
    pub fn record<S: AsRef<OsStr>>(self, command: &[S]) -> Recorded {
        let _alone = alone();
        let mut started = self.prepare(command);
        started
            .stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = started.spawn().expect("timesink starts");
        let (status, stdout, stderr) = finish(&mut child, self.input);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let json = fs::read(self.place.path().join("out/report.json")).unwrap_or_default();
        let report = serde_json::from_slice(&json).unwrap_or(Value::Null);
        Recorded { status, stdout, stderr, report, place: self.place }
    }

    /// The command that records `command` into `out`, not started yet.
    pub fn prepare<S: AsRef<OsStr>>(&self, command: &[S]) -> Command {
        let nobody = self.tier.is_some_and(Tier::as_nobody);
        let place = self.place.path();
        let mut started = self.as_its_user(Path::new(TIMESINK));
        started.arg("run").arg("-o").arg(place.join("out")).args(&self.options).arg("--");
        for (index, argument) in command.iter().enumerate() {
            let argument = argument.as_ref();
            // An ordinary user may not be able to reach the build directory.
            let ours = index == 0 && argument.as_encoded_bytes().starts_with(BUILT.as_bytes());
            if nobody && ours {
                started.arg(self.bring(argument))
            } else {
                started.arg(argument)
            };
        }
        for variable in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
            started.env_remove(variable);
        }
        started.current_dir(place).envs(self.environment.iter().map(|(key, value)| (key, value)));
        started
    }

    /// The path of a program of ours, where whoever records can run it.
    pub fn reachable(&self, program: &Path) -> String {
        let nobody = self.tier.is_some_and(Tier::as_nobody);
        let path = if nobody { self.bring(program.as_os_str()) } else { program.to_owned() };
        path.into_os_string().into_string().expect("UTF-8")
    }

    /// One of our programs, to be run by the user of the tier.
    pub fn as_its_user(&self, program: &Path) -> Command {
        if !self.tier.is_some_and(Tier::as_nobody) {
            return Command::new(program);
        }
        let place = self.place.path();
        std::os::unix::fs::chown(place, Some(NOBODY), Some(NOBODY)).expect("root may");
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            .arg(self.bring(program.as_os_str()))
            .env("HOME", place);
        command
    }

    /// Puts a file of ours where the ordinary user can run it.
    fn bring(&self, file: &OsStr) -> PathBuf {
        let from = Path::new(file);
        let to = self.place.path().join(from.file_name().expect("a file"));
        if !to.exists() {
            fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).expect("a copy");
        }
        to
    }
}

/// Waits for a child whose output is piped, feeding it `input`. Kills it at the deadline.
pub fn finish(child: &mut Child, input: Vec<u8>) -> (ExitStatus, Vec<u8>, Vec<u8>) {
    let mut stdin = child.stdin.take();
    let writer = thread::spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(&input)));
    let mut out = child.stdout.take();
    let out = thread::spawn(move || out.as_mut().map(read_all).unwrap_or_default());
    let mut err = child.stderr.take();
    let err = thread::spawn(move || err.as_mut().map(read_all).unwrap_or_default());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is ours to wait for") {
            break status;
        }
        if began.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("timesink did not end within {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let _ = writer.join();
    (status, out.join().expect("read"), err.join().expect("read"))
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    bytes
}

/// Runs `timesink` with these arguments (not `run`): exit code, standard output, standard error.
pub fn timesink<S: AsRef<OsStr>>(arguments: &[S]) -> (i32, Vec<u8>, String) {
    let output = Command::new(TIMESINK).args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("timesink starts");
    let signal = output.status.signal().map(|signal| 1000 + signal);
    let code = output.status.code().or(signal).expect("it exited or was killed");
    (code, output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Held while something runs whose time is looked at.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the truth programs are built.
const BUILT: &str = env!("CARGO_TARGET_TMPDIR");

/// Builds `tests/truth/NAME` (`.c` or `.rs`) and gives the path of the program.
pub fn truth_program(name: &str) -> PathBuf {
    truth_program_with(name, &[])
}

/// The same, with further options for the compiler.
pub fn truth_program_with(name: &str, options: &[&str]) -> PathBuf {
    static MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth").join(name);
    let program = Path::new(BUILT).join(name.replace(['.', '/'], "_") + &options.concat());
    if made.contains(&program) {
        return program;
    }
    // Under another name first: a second run of these tests may be executing the old one.
    let fresh = program.with_extension(std::process::id().to_string());
    let mut compiler = if Path::new(name).extension() == Some(OsStr::new("rs")) {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2021", "-C", "opt-level=2", "-C", "debuginfo=1"]);
        rustc
    } else {
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-g", "-pthread", "-Wall", "-Werror"]);
        cc
    };
    let status =
        compiler.args(options).arg("-o").arg(&fresh).arg(&source).status().expect("a compiler");
    assert!(status.success(), "{} does not compile", source.display());
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("ours");
    fs::rename(&fresh, &program).expect("ours");
    made.insert(program.clone());
    program
}

/// An example of the project: `cargo test --test` builds none.
pub fn example(name: &str) -> PathBuf {
    let _alone = alone();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--example", name]);
    let built = Path::new(TIMESINK).parent().expect("a directory");
    if built.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo");
    assert!(status.success(), "{name} does not compile");
    built.join("examples").join(name)
}
