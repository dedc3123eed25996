//! Interpreters of this machine, started and found from outside.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use timesink::capture::sys::process_vm::ProcessMemory;
use timesink::model::Pid;
use timesink::runtimes::cpython::Module;
use timesink::runtimes::cpython::Place;
use timesink::runtimes::cpython::Reader;
use timesink::symbols::Interpreter;

/// Not ASCII, so that names of files are met in every form.
pub const FILE_NAME: &str = "dir/prögram.py";

/// Commands that start interpreters: those on the path, those of pyenv, and those that the
/// variable `TIMESINK_PYTHONS` names, with a semicolon between them.
pub fn interpreters() -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for minor in 8..=15 {
        found.push(vec![format!("/usr/bin/python3.{minor}")]);
        found.push(vec![format!("/usr/local/bin/python3.{minor}")]);
    }
    if let Ok(output) = Command::new("pyenv").arg("root").output() {
        let root = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let versions = fs::read_dir(format!("{root}/versions")).into_iter().flatten().flatten();
        found.extend(versions.map(|v| vec![v.path().join("bin/python3").display().to_string()]));
    }
    found.sort();
    found.push(vec!["python3".to_owned()]);
    let named = std::env::var("TIMESINK_PYTHONS").unwrap_or_default();
    let words = |command: &str| command.split_whitespace().map(str::to_owned).collect();
    found.extend(named.split(';').map(words).filter(|words: &Vec<String>| !words.is_empty()));
    found.retain(|command| {
        let check = "import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 15))";
        let (program, arguments) = command.split_first().expect("not empty");
        let mut command = Command::new(program);
        command.args(arguments).args(["-c", check]).stderr(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    found
}

/// A Python program that runs, and is killed in the end.
pub struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    pub fn start(command: &[String], text: &str) -> Self {
        let (program, arguments) = command.split_first().expect("not empty");
        let run = format!("import sys; exec(compile(sys.argv[1], {FILE_NAME:?}, 'exec'))");
        let mut child = Command::new(program)
            .args(arguments)
            .args(["-c", &run, text])
            .env("PYTHONIOENCODING", "utf-8")
            .env("PYTHONUTF8", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was started before");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    pub fn memory(&self) -> ProcessMemory {
        ProcessMemory(self.pid())
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it speaks");
        assert!(!line.is_empty(), "it ended");
        line
    }

    /// Gives it the line that it waits for.
    pub fn go_on(&mut self) {
        self.stdin.write_all(b"\n").expect("it listens");
    }

    /// Where its interpreter is.
    pub fn place(&self) -> Option<Place> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid().0)).ok()?;
        maps.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
            let path = words.nth(2).filter(|path| path.starts_with('/') && rights.contains('x'))?;
            let start = u64::from_str_radix(range.split('-').next()?, 16).ok()?;
            let offset = u64::from_str_radix(offset, 16).ok()?;
            let file = File::open(path).ok()?;
            let found = Interpreter::mapped(file, &path.into(), start, offset)?;
            let Interpreter { bias, runtime, section, version, .. } = found;
            Place::of(&Module { path, bias, runtime, section, version })
        })
    }

    pub fn reader(&self) -> Reader {
        let place = self.place().expect("an interpreter is mapped");
        Reader::open(&self.memory(), &place).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
