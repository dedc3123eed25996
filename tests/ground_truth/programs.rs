//! Builds the workloads and runs them: alone, changed, and under `timesink`.

use crate::program::Tier;
use crate::program::Timesink;
use crate::program::alone;
use crate::program::finish;
use crate::program::skip;
use crate::table::Change;
use crate::table::File;
use crate::table::Program;
use crate::table::Workload;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;
use tempfile::TempDir;

const BUILT: &str = env!("CARGO_TARGET_TMPDIR");

/// What a program said about itself: its lines of `key=number`.
pub struct Truth(BTreeMap<String, u64>);

impl Truth {
    fn of(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let pair = |line: &str| {
            let (key, value) = line.split_once('=')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// A number of it, or the number that is written there.
    pub fn number(&self, key: &str) -> u64 {
        let found = self.0.get(key).copied().or_else(|| key.parse().ok());
        found.unwrap_or_else(|| panic!("no `{key}=` in {:?}", self.0))
    }
}

/// A workload that was recorded.
pub struct Recording {
    /// What it said about itself.
    pub truth: Truth,
    /// What timesink said about it.
    pub report: Value,
    /// Where the trace is.
    pub place: TempDir,
}

impl Recording {
    /// The trace file.
    pub fn trace(&self) -> PathBuf {
        self.place.path().join("out/trace.timesink")
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/ground")
}

/// The program and what must stand before its arguments.
fn built(program: Program) -> Vec<String> {
    static MADE: Mutex<BTreeMap<Program, Vec<String>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(program)
        .or_insert_with(|| match program {
            Program::Compiled(file) => vec![compiled(file)],
            Program::Python(file) => {
                vec![PYTHON.clone(), sources().join(file).display().to_string()]
            }
            Program::Example(name) => vec![example(name)],
        })
        .clone()
}

/// The interpreter itself: what is on the path may be a script that starts it.
static PYTHON: LazyLock<String> = LazyLock::new(|| {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    String::from_utf8_lossy(&asked.expect("python3").stdout).trim().to_owned()
});

fn compiled(file: &str) -> String {
    let program = Path::new(BUILT).join(format!("ground_{}", file.replace('.', "_")));
    // Under another name first: another run of these tests may be executing the old one.
    let fresh = program.with_extension(std::process::id().to_string());
    let cpp = Path::new(file).extension() == Some(OsStr::new("cpp"));
    let status = Command::new(if cpp { "c++" } else { "cc" })
        .args(["-O2", "-g", "-pthread", "-Wall", "-Werror", "-o"])
        .arg(&fresh)
        .arg(sources().join(file))
        .status()
        .expect("a compiler");
    assert!(status.success(), "{file} does not compile");
    fs::rename(&fresh, &program).expect("ours");
    program.display().to_string()
}

/// `cargo test --test` and `cargo bench` build no examples.
fn example(name: &str) -> String {
    let mut path = std::env::current_exe().expect("this program's path");
    path.pop();
    path.pop();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if path.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo").success(), "{name} does not compile");
    path.join("examples").join(name).display().to_string()
}

/// The file of a workload that has one.
fn file(workload: &Workload) -> PathBuf {
    Path::new(BUILT).join(format!("ground-{}.data", workload.id))
}

/// The command of a workload, with arguments in place of those with the same key.
fn command(workload: &Workload, instead: &[&str], cpus: u32) -> Vec<String> {
    let key = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
    let mut command = Vec::new();
    if cpus > 0 {
        command.extend(["taskset".to_owned(), "-c".to_owned(), first_cpus(cpus)]);
    }
    command.extend(built(workload.program));
    let changed: Vec<String> = instead.iter().map(|argument| key(argument)).collect();
    let kept = workload.arguments.iter().filter(|argument| !changed.contains(&key(argument)));
    command.extend(kept.chain(instead).map(|&argument| argument.to_owned()));
    if workload.file != File::Without {
        command.push(format!("file={}", file(workload).display()));
    }
    command
}

/// Whether Python runs it.
#[allow(dead_code, reason = "shared with the bench, which puts py-spy beside")]
pub fn is_python(workload: &Workload) -> bool {
    matches!(workload.program, Program::Python(_))
}

/// The command of a workload as it stands in the table.
#[allow(dead_code, reason = "shared with the bench, which puts py-spy beside")]
pub fn command_of(workload: &Workload) -> Vec<String> {
    command(workload, workload.arguments, 0)
}

/// A list of that many of the CPUs that we may use.
fn first_cpus(count: u32) -> String {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cpus = Vec::new();
    for range in list.expect("a list of CPUs").trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bound = |text: &str| text.parse::<u32>().expect("a CPU");
        cpus.extend(bound(first)..=bound(last));
    }
    let chosen: Vec<String> = cpus.iter().take(count as usize).map(u32::to_string).collect();
    chosen.join(",")
}

/// Whether this workload can be run here; says why not.
pub fn possible(workload: &Workload) -> bool {
    if !Tier::Kernel.available() {
        return false;
    }
    if workload.file == File::Without {
        return true;
    }
    let asked = Command::new("stat").args(["-f", "-c", "%T", BUILT]).output();
    let kind = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let disk = kind.as_ref().is_ok_and(|kind| kind != "tmpfs" && kind != "ramfs");
    if !disk {
        skip(&format!("{}: the build directory is not on a disk: {kind:?}", workload.id));
    }
    disk
}

fn prepare(workload: &Workload) {
    if workload.file == File::Prepared && !file(workload).exists() {
        run(&command(workload, &["prepare=1"], 0));
    }
}

fn run(command: &[String]) -> (f64, Truth) {
    let _alone = alone();
    let began = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (status, output, complaint) = finish(&mut child, Vec::new());
    let took = began.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&complaint));
    (took, Truth::of(&output))
}

/// Runs it without timesink: seconds.
pub fn bare(workload: &Workload) -> f64 {
    prepare(workload);
    run(&command(workload, workload.arguments, 0)).0
}

/// Runs the really modified program without timesink: seconds. `None` if there is none here.
pub fn modified(workload: &Workload, change: &Change) -> Option<f64> {
    prepare(workload);
    change.real.map(|instead| run(&command(workload, instead, change.cpus)).0)
}

/// Records it with the kernel tier.
pub fn recorded(workload: &Workload) -> Recording {
    prepare(workload);
    let timesink = Timesink::on(Tier::Kernel).env("PYTHONDONTWRITEBYTECODE", "1");
    let run = timesink.record(&command(workload, &[], 0));
    assert_eq!(run.code(), 0, "{}: {}", workload.id, run.stderr);
    Recording { truth: Truth::of(&run.stdout), report: run.report, place: run.place }
}

/// What a trace is asked with `timesink whatif`; `None` if that says nothing.
pub fn whatif(trace: &Path, change: &str) -> Option<Value> {
    let asked = Command::new(crate::program::TIMESINK)
        .arg("whatif")
        .arg(trace)
        .args(["--change", change, "--format", "json"])
        .stdin(Stdio::null())
        .output()
        .expect("timesink starts");
    asked.status.success().then(|| serde_json::from_slice(&asked.stdout).ok()).flatten()
}

/// CPU time of the machine and of the children that we waited for, in ticks.
pub struct Load {
    at: Instant,
    busy: u64,
    ours: u64,
}

impl Load {
    /// Until now.
    pub fn now() -> Self {
        let numbers = |text: &str| -> Vec<u64> {
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let stat = fs::read_to_string("/proc/stat").expect("/proc is mounted");
        let all = numbers(stat.lines().next().unwrap_or_default());
        let own = fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
        let own = numbers(own.rsplit(')').next().unwrap_or_default());
        // user nice system (idle, disk) irq softirq steal; own: utime stime cutime cstime.
        let busy = all[0..3].iter().chain(&all[5..8]).sum();
        Self { at: Instant::now(), busy, ours: own[10..14].iter().sum() }
    }

    /// The part of all CPUs that others used since.
    pub fn foreign(&self) -> f64 {
        let now = Self::now();
        let ticks = (now.busy - self.busy).saturating_sub(now.ours - self.ours);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        ticks as f64 / 100.0 / (self.at.elapsed().as_secs_f64() * cpus as f64)
    }
}
