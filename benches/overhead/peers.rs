//! The tracers people have, each filtered to the workload's own processes.

use crate::Tool;
use crate::Traced;
use crate::bench;
use crate::bench::Bench;
use crate::bench::Workload;
use std::fs;
use std::fs::File;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

/// Theirs.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "perf",
        title: "perf record, sched_switch + sched_waking",
        missing: perf_missing,
        run: |bench, workload| perf(bench, workload, false),
    },
    Tool {
        name: "perf-g",
        title: "perf record -g, sched_switch + sched_waking",
        missing: perf_missing,
        run: |bench, workload| perf(bench, workload, true),
    },
    Tool {
        name: "offcputime",
        title: "offcputime -p (libbpf-tools)",
        missing: || missing("offcputime"),
        run: |bench, workload| {
            attached(bench, workload, |pid| {
                let mut command = Command::new("offcputime");
                command.args(["-p", pid, "--stack-storage-size", "16384"]);
                command
            })
        },
    },
    Tool {
        name: "bpftrace",
        title: "bpftrace, off-CPU time by user stack",
        missing: || missing("bpftrace"),
        run: |bench, workload| {
            attached(bench, workload, |pid| {
                let mut command = Command::new("bpftrace");
                command.arg("-e").arg(off_cpu_script(pid));
                command
            })
        },
    },
    Tool {
        name: "py-spy",
        title: "py-spy record, 100 Hz, pausing (its default)",
        missing: || missing("py-spy"),
        run: |bench, workload| py_spy(bench, workload, &[]),
    },
    Tool {
        name: "py-spy-nonblocking",
        title: "py-spy record, 100 Hz, --nonblocking",
        missing: || missing("py-spy"),
        run: |bench, workload| py_spy(bench, workload, &["--nonblocking"]),
    },
];

/// Samples Python's stacks; says nothing of other programs.
fn py_spy(bench: &Bench, workload: &Workload, options: &[&str]) -> Result<Traced, String> {
    if workload.command[0] != "python" {
        return Err("is for Python only".to_owned());
    }
    let out = bench.file("py-spy.txt");
    let mut command = Command::new("py-spy");
    command.args(["record", "--subprocesses", "-r", "100", "-f", "raw"]).args(options);
    command.arg("-o").arg(&out).arg("--").args(bench.command(workload, false));
    bench::run(&mut command)?;
    let _ = fs::remove_file(&out);
    // It ends as soon as the interpreter does: the program that measures may have to write still.
    let written = || fs::metadata(bench.file("usage")).ok().filter(|file| file.len() > 0);
    until(written).ok_or("the workload left no usage")?;
    Ok(Traced { usage: bench.usage()?, books: None, note: None })
}

fn missing(program: &str) -> Option<&'static str> {
    match (bench::is_root(), bench::installed(program)) {
        (false, _) => Some("needs root"),
        (true, false) => Some("is not installed"),
        (true, true) => None,
    }
}

fn perf_missing() -> Option<&'static str> {
    missing("perf")
}

fn perf(bench: &Bench, workload: &Workload, stacks: bool) -> Result<Traced, String> {
    let data = bench.file("perf.data");
    let mut command = Command::new("perf");
    command.args(["record", "-e", "sched:sched_switch", "-e", "sched:sched_waking"]);
    if stacks {
        command.arg("-g");
    }
    command.arg("-o").arg(&data).arg("--").args(bench.command(workload, false));
    let said = bench::run(&mut command)?;
    let _ = fs::remove_file(&data);
    let lost = said.lines().find(|line| line.to_lowercase().contains("lost"));
    // perf says so even when it lost nothing it could count.
    let note = lost.map(|_| "perf reports lost events".to_owned());
    Ok(Traced { usage: bench.usage()?, books: None, note })
}

/// Sums the time between leaving and coming back by the stack at the switch.
fn off_cpu_script(pid: &str) -> String {
    format!(
        "tracepoint:sched:sched_switch /pid == {pid}/ {{ @left[tid] = nsecs; @stack[tid] = ustack; }} \
         tracepoint:sched:sched_switch /@left[args->next_pid]/ {{ \
         @off[@stack[args->next_pid]] = sum(nsecs - @left[args->next_pid]); \
         delete(@left[args->next_pid]); delete(@stack[args->next_pid]); }}"
    )
}

/// Runs a tool that wants a process id: the workload is held until the tool says it is
/// ready. Only that one process is traced; a workload's further processes are not.
fn attached(
    bench: &Bench,
    workload: &Workload,
    tool: impl Fn(&str) -> Command,
) -> Result<Traced, String> {
    let pid_file = bench.file("usage.pid");
    let _ = fs::remove_file(&pid_file);
    let command = bench.command(workload, true);
    let mut target = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let pid = until(|| fs::read_to_string(&pid_file).ok()).ok_or("the workload does not start")?;
    let pid = pid.trim().to_owned();
    // Its exec is still to come: everything the workload does is traced.
    let said = bench.file("tool.out");
    let traced = trace(&mut target, &pid, tool(&pid), &said);
    if traced.is_err() {
        signal("-CONT", &pid);
        let _ = target.wait();
    }
    traced?;
    let note = (workload.command.contains(&"pipe") || workload.name == "messaging")
        .then(|| "sees one process only".to_owned());
    Ok(Traced { usage: bench.usage()?, books: None, note })
}

fn trace(
    target: &mut Child,
    pid: &str,
    mut tool: Command,
    said: &std::path::Path,
) -> Result<(), String> {
    let out = File::create(said).map_err(|error| error.to_string())?;
    let err = out.try_clone().map_err(|error| error.to_string())?;
    let mut tool = tool
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .env("BPFTRACE_STRLEN", "64")
        .spawn()
        .map_err(|error| error.to_string())?;
    // `Attaching 2 probes...`, `Tracing off-CPU time (us)...`; offcputime's line may sit in its
    // buffer, so after some time we take it to be ready.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        if let Ok(Some(status)) = tool.try_wait() {
            let text = fs::read_to_string(said).unwrap_or_default();
            return Err(format!("{status}: {}", text.lines().last().unwrap_or_default()));
        }
        sleep(Duration::from_millis(50));
    }
    signal("-CONT", pid);
    target.wait().map_err(|error| error.to_string())?;
    signal("-INT", &tool.id().to_string());
    if until(|| tool.try_wait().ok().flatten()).is_none() {
        let _ = tool.kill();
        let _ = tool.wait();
    }
    Ok(())
}

fn signal(name: &str, pid: &str) {
    let _ = Command::new("kill").args([name, pid]).status();
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if let Some(found) = look() {
            return Some(found);
        }
        sleep(Duration::from_millis(10));
    }
    None
}
