//! The workloads, and how one is run without a tracer.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

/// Something to run.
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is in the table.
    pub title: &'static str,
    /// The command; `switches` is the helper program of this bench.
    pub command: &'static [&'static str],
    /// Pinned to CPU 0.
    pub pinned: bool,
    /// Pairs of runs, unless told otherwise.
    pub pairs: usize,
}

/// All of them. Half a second or so each.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "futex",
        title: "Futex ping-pong of two threads, pinned to one CPU",
        command: &["switches", "futex", "250000"],
        pinned: true,
        pairs: 15,
    },
    Workload {
        name: "pipe",
        title: "Pipe ping-pong of two processes, pinned to one CPU",
        command: &["switches", "pipe", "150000"],
        pinned: true,
        pairs: 15,
    },
    Workload {
        name: "lock",
        title: "Four threads, one mutex, held over a 50 us sleep",
        command: &["switches", "lock", "1200"],
        pinned: false,
        pairs: 15,
    },
    Workload {
        name: "messaging",
        title: "`perf bench sched messaging -g 4 -l 200`",
        command: &["perf", "bench", "sched", "messaging", "-g", "4", "-l", "200"],
        pinned: false,
        pairs: 15,
    },
    Workload {
        name: "sched-pipe",
        title: "`perf bench sched pipe -l 100000`, pinned to one CPU",
        command: &["perf", "bench", "sched", "pipe", "-l", "100000"],
        pinned: true,
        pairs: 15,
    },
    Workload {
        name: "burn",
        title: "Two threads that compute",
        command: &["switches", "burn", "300000"],
        pinned: false,
        pairs: 15,
    },
    Workload {
        name: "calm",
        title: "Two threads, 400 us of work and 100 us of sleep in turn",
        command: &["switches", "calm", "1000"],
        pinned: false,
        pairs: 30,
    },
    Workload {
        name: "python-burn",
        title: "Python: one thread that computes",
        command: &["python", "burn", "10000000"],
        pinned: false,
        pairs: 15,
    },
    Workload {
        name: "python-threads",
        title: "Python: two threads that compute, in turns under the GIL",
        command: &["python", "threads", "5000000"],
        pinned: false,
        pairs: 15,
    },
    Workload {
        name: "python-handoff",
        title: "Python: two threads that let go of the GIL at every step",
        command: &["python", "handoff", "400000"],
        pinned: false,
        pairs: 15,
    },
    Workload {
        name: "python-pools",
        title: "Python: small jobs through a queue to four threads",
        command: &["python", "pools", "60000"],
        pinned: false,
        pairs: 15,
    },
];

/// What a workload used.
#[derive(Clone, Copy)]
pub struct Usage {
    /// CPU time in user space, ns.
    pub user_ns: f64,
    /// CPU time in the kernel, ns.
    pub sys_ns: f64,
    /// From its exec to its end, ns.
    pub wall_ns: f64,
    /// Context switches.
    pub switches: f64,
}

impl Usage {
    /// Both kinds of CPU time, ns.
    pub fn cpu_ns(&self) -> f64 {
        self.user_ns + self.sys_ns
    }
}

/// The helper programs and a place for files.
pub struct Bench {
    measure: PathBuf,
    switches: PathBuf,
    /// The interpreter itself: what is on the path may be a script that looks for one.
    python: String,
    place: PathBuf,
}

impl Bench {
    /// Builds the helper programs.
    pub fn new() -> Result<Self, String> {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("overhead");
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let build = |name: &str| -> Result<PathBuf, String> {
            let source = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("benches/programs")
                .join(format!("{name}.c"));
            let program = place.join(name);
            let status = Command::new("cc")
                .args(["-O2", "-g", "-fno-omit-frame-pointer", "-pthread", "-o"])
                .args([&program, &source])
                .status()
                .map_err(|error| format!("cc: {error}"))?;
            if status.success() { Ok(program) } else { Err(format!("{name}.c does not compile")) }
        };
        let python =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let python = python.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
        let (measure, switches) = (build("measure")?, build("switches")?);
        Ok(Self { measure, switches, python: python.unwrap_or_default(), place })
    }

    /// A file of this bench.
    pub fn file(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Why a workload cannot be run here.
    pub fn missing(workload: &Workload) -> Option<&'static str> {
        match workload.command[0] {
            "perf" if !installed("perf") => Some("perf is not installed"),
            "python" if !installed("python3") => Some("python3 is not installed"),
            _ => None,
        }
    }

    /// The workload below `measure`: what a tracer is given to run. With `held` it stops
    /// before its exec and leaves its process id in `usage.pid`.
    pub fn command(&self, workload: &Workload, held: bool) -> Vec<String> {
        let mut command = vec![text(&self.measure)];
        if workload.pinned {
            command.extend(["-c".to_owned(), "0".to_owned()]);
        }
        if held {
            command.push("-s".to_owned());
        }
        command.extend(["-o".to_owned(), text(&self.file("usage"))]);
        let mut own = workload.command.iter();
        match own.next() {
            Some(&"switches") => command.push(text(&self.switches)),
            Some(&"python") => {
                let program =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs/python.py");
                command.extend([self.python.clone(), text(&program)]);
            }
            Some(program) => command.push((*program).to_owned()),
            None => {}
        }
        command.extend(own.map(|&argument| argument.to_owned()));
        command
    }

    /// Runs a workload without a tracer.
    pub fn run_bare(&self, workload: &Workload) -> Result<Usage, String> {
        let command = self.command(workload, false);
        run(Command::new(&command[0]).args(&command[1..]))?;
        self.usage()
    }

    /// What the last run used. Each run is read once.
    pub fn usage(&self) -> Result<Usage, String> {
        let file = self.file("usage");
        let line =
            fs::read_to_string(&file).map_err(|_| "the workload left no usage".to_owned())?;
        let _ = fs::remove_file(&file);
        let fields: Vec<f64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        match fields[..] {
            [user_ns, sys_ns, wall_ns, switches, _peak] => {
                Ok(Usage { user_ns, sys_ns, wall_ns, switches })
            }
            _ => Err(format!("usage is `{line}`")),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a command to its end; its standard error, for what it says about losses.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        let last = said.lines().last().unwrap_or_default();
        Err(format!("{}: {last}", output.status))
    }
}

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Whether this is root.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// The load averages.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What was measured on.
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpus.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
    };
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "Linux {}, {count} CPUs ({}), load average {}",
        kernel.trim(),
        field("model name"),
        load()
    )
}
