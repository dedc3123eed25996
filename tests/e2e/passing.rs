//! The command is left as it would be without timesink: streams, exit code, environment,
//! descriptors, signals, user. And what timesink itself says and leaves.

use crate::program::Recorded;
use crate::program::TIMESINK;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::alone;
use crate::program::finish;
use crate::program::installed;
use crate::program::is_root;
use crate::program::skip;
use crate::program::timesink;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::rows;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// What a run leaves, and nothing else.
const FILES: [&str; 8] = [
    "off-cpu.svg",
    "on-cpu.svg",
    "report.html",
    "report.json",
    "trace.json",
    "trace.pftrace",
    "trace.timesink",
    "wall.svg",
];

fn shell(script: &str) -> Recorded {
    Timesink::new().record(&["sh", "-c", script])
}

#[test]
fn bytes_pass_through_unchanged() {
    let bytes: Vec<u8> =
        (0..1_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for tier in Tier::here() {
        let run = Timesink::on(tier).input(bytes.clone()).record(&["cat"]);
        assert_eq!(run.code(), 0, "{}", run.stderr);
        assert!(run.stdout == bytes, "{tier:?}: {} of {} bytes", run.stdout.len(), bytes.len());
        assert_adds_up(&run.report);
    }
}

#[test]
fn standard_error_is_the_commands_first_then_the_report() {
    let run = shell("printf 'to\\001stderr\\n' >&2; echo to stdout");
    assert_eq!(run.stdout, b"to stdout\n");
    assert!(run.stderr.starts_with("to\u{1}stderr\n"), "{:?}", &run.stderr);
    assert!(run.stderr.contains("Files in "), "{}", run.stderr);
    assert!(!run.stderr.contains('\u{1b}'), "no colours or spinners into a pipe");
}

#[test]
fn exit_codes_are_the_commands() {
    for tier in Tier::here() {
        for code in [0, 7, 125, 255] {
            let run = Timesink::on(tier).record(&["sh", "-c", &format!("exit {code}")]);
            assert_eq!(run.code(), code, "{tier:?}: {}", run.stderr);
            assert_adds_up(&run.report);
            assert_eq!(run.report["exit"]["code"], code);
        }
        for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
            let run = Timesink::on(tier).record(&["sh", "-c", &format!("kill -{signal} $$")]);
            assert_eq!(run.code(), 128 + number, "{tier:?}: {}", run.stderr);
            assert_adds_up(&run.report);
            assert_eq!(run.report["exit"]["signal"], number);
        }
    }
}

#[test]
fn a_command_that_cannot_start_is_said_in_one_line_and_leaves_nothing() {
    let cases: [(&str, i32, &str); 3] = [
        ("no-such-command-anywhere", 127, "no such command"),
        ("/nonexistent/command", 127, "no such command"),
        ("/etc/passwd", 126, "not executable"),
    ];
    for tier in Tier::here() {
        for (command, code, words) in cases {
            let run = Timesink::on(tier).record(&[command]);
            assert_eq!(run.code(), code, "{tier:?} {command}: {}", run.stderr);
            let said: Vec<&str> = run.stderr.lines().collect();
            assert_eq!(said.len(), 1, "{tier:?}: {}", run.stderr);
            assert!(said[0].contains(words) && said[0].contains(command), "{}", run.stderr);
            assert!(!run.out().exists(), "{tier:?}: nothing is left of it");
        }
    }
    let directory = tempfile::tempdir().expect("a place");
    let run = Timesink::new().record(&[directory.path()]);
    assert_eq!(run.code(), 126, "a directory: {}", run.stderr);
}

#[test]
fn bad_usage_says_what_to_type() {
    let (code, out, err) = timesink(&["run"]);
    assert!(code != 0 && out.is_empty() && err.contains("Usage"), "{code} {err}");
    let (code, _, err) = timesink(&["run", "--tier", "magic", "--", "true"]);
    assert!(code != 0 && err.contains("kernel") && err.contains("perf"), "{code} {err}");
    let (code, _, err) = timesink(&["run", "--user", "no-such-user", "--", "true"]);
    assert!(code == 125 && err.contains("no-such-user"), "{code} {err}");
    let (code, out, _) = timesink(&["--help"]);
    let help = String::from_utf8_lossy(&out);
    assert_eq!(code, 0);
    for command in ["run", "report", "flamegraph", "export", "doctor", "examples", "demo"] {
        assert!(help.contains(command), "{help}");
    }
}

#[test]
fn arguments_of_the_command_are_its_own() {
    let run = Timesink::new().record(&["printf", "%s|", "--tier", "-o", "--", "--help", ""]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "--tier|-o|--|--help||", "{}", run.stderr);
}

#[test]
fn a_run_leaves_eight_private_files() {
    let run = shell("exit 3");
    let mut names = Vec::new();
    for entry in fs::read_dir(run.out()).expect("the directory of the run") {
        let entry = entry.expect("readable");
        let mode = entry.metadata().expect("readable").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, FILES);
    let mode = fs::metadata(run.out()).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn recording_only_leaves_the_trace_and_says_nothing() {
    let run = Timesink::new().option("--record-only").record(&["true"]);
    assert_eq!(run.code(), 0);
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    let names: Vec<_> = fs::read_dir(run.out()).expect("there").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let (code, json, err) = timesink(&["report", "--format", "json", &run.out().to_string_lossy()]);
    assert_eq!(code, 0, "{err}");
    assert_adds_up(&serde_json::from_slice(&json).expect("JSON"));
}

#[test]
fn somebody_elses_directory_is_refused_before_the_command_starts() {
    let command = Timesink::new();
    let out = command.place().join("out");
    fs::create_dir(&out).expect("ours");
    fs::write(out.join("precious"), "data").expect("ours");
    let mark = command.place().join("mark");
    let run = command.record(&[Path::new("touch"), &mark]);
    assert_eq!(run.code(), 125, "{}", run.stderr);
    assert!(run.stderr.contains("not made by timesink") && run.stderr.contains("-o"));
    assert!(!mark.exists(), "the command did not start");
    assert_eq!(fs::read_dir(&out).expect("there").count(), 1);
}

#[test]
fn without_a_directory_the_default_is_made_and_latest_points_to_it() {
    let place = tempfile::tempdir().expect("a place");
    for _ in 0..2 {
        let output = Command::new(TIMESINK)
            .args(["run", "--", "true"])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .output()
            .expect("timesink starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let parent = place.path().join("timesink-out");
    let latest = fs::read_link(parent.join("latest")).expect("a link");
    assert!(latest.to_string_lossy().starts_with("true-"), "{latest:?}");
    assert!(parent.join(latest).join("report.json").exists());
    let runs = fs::read_dir(&parent).expect("there").count();
    assert_eq!(runs, 3, "two runs, even in one second, and the link");
}

#[test]
fn where_nothing_can_be_written_the_temporary_directory_is_used_and_said() {
    if !Tier::ProcNobody.available() {
        return;
    }
    // The ordinary user may read this place, not write it.
    let command = Timesink::on(Tier::ProcNobody);
    let place = tempfile::tempdir().expect("a place");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let temporary = command.place().join("tmp");
    fs::create_dir(&temporary).expect("ours");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777)).expect("ours");
    let prepared = command.prepare(&["true"]);
    let arguments: Vec<_> = prepared.get_args().map(std::ffi::OsStr::to_owned).collect();
    let without_o = arguments.windows(2).position(|pair| pair[0] == "-o").expect("-o DIR");
    let mut started = Command::new(prepared.get_program());
    let output = started
        .args(&arguments[..without_o])
        .args(&arguments[without_o + 2..])
        .current_dir(place.path())
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .output()
        .expect("setpriv starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cannot be written"), "{said}");
    assert!(said.contains(&*temporary.to_string_lossy()), "{said}");
    let made: Vec<_> = fs::read_dir(&temporary).expect("there").flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].path().join("report.json").exists());
}

/// Runs `script` with bash: there `$T` is empty, and then what records a command.
fn with_and_without(script: &str) -> (String, String) {
    let _alone = alone();
    let place = tempfile::tempdir().expect("a place");
    let run = |with: bool| {
        let recording = format!("{TIMESINK} run -o {}/out --", place.path().display());
        let output = Command::new("bash")
            .args(["-c", script])
            .env("T", if with { &recording } else { "" })
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID")
            .current_dir(place.path())
            .stdin(Stdio::null())
            .output()
            .expect("bash starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    (run(false), run(true))
}

#[test]
fn environment_directory_limits_and_niceness_are_unchanged() {
    let (without, with) = with_and_without("export -n T; T2=$T; unset T; exec $T2 env -u _");
    let ours: Vec<&str> =
        with.lines().filter(|line| !without.lines().any(|other| other == *line)).collect();
    assert!(
        ours.iter().all(|line| line.starts_with("TIMESINK_PROBE=")) && ours.len() <= 1,
        "{ours:?}"
    );
    assert!(without.lines().all(|line| with.lines().any(|other| other == line)), "{with}");
    let state = "ulimit -n 77; ulimit -c 0; ulimit -Ss 4096; umask 027; \
        exec $T bash -c 'pwd; ulimit -a; nice; umask; taskset -p 0; ps -o pgid,sid,tty= -p $$ | wc -l'";
    let (without, with) = with_and_without(&format!(
        "cd /usr; exec nice -n 3 bash -c \"{}\"",
        state.replace('$', "\\$")
    ));
    assert_eq!(without, with);
}

#[test]
fn descriptors_are_unchanged_including_those_the_caller_hands_down() {
    let list = "exec $T bash -c 'for f in /proc/self/fd/*; do echo ${f##*/}; done | sort -n | \
        tr \"\\n\" \" \"; echo; readlink /proc/$$/fd/7'";
    let (without, with) = with_and_without(&format!("exec 7</etc/passwd; {list}"));
    assert_eq!(without, with);
    assert!(with.contains("/etc/passwd"), "{with}");
}

/// The masks without signals 32 and 33: the C library of any program with threads handles
/// them itself, so whoever it starts finds them at their default.
fn own_signals(status: &str) -> Vec<(String, u64)> {
    let masks = status.lines().filter_map(|line| line.split_once(":\t"));
    masks
        .map(|(name, mask)| {
            let mask = u64::from_str_radix(mask, 16).expect("a mask");
            (name.to_owned(), mask & !(3 << 31))
        })
        .collect()
}

#[test]
fn signal_dispositions_and_mask_are_unchanged() {
    if !installed(&["python3"]) {
        return;
    }
    // Ignoring PIPE and HUP (nohup), blocking USR2: what a careful caller may hand down.
    let launcher = "import os, signal, sys\n\
        signal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
        signal.signal(signal.SIGPIPE, eval('signal.' + sys.argv[1]))\n\
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n\
        os.execvp(sys.argv[2], sys.argv[2:])\n";
    for pipe in ["SIG_DFL", "SIG_IGN"] {
        let (without, with) = with_and_without(&format!(
            "exec python3 -c \"{launcher}\" {pipe} $T grep -E '^Sig(Blk|Ign|Cgt)|^ShdPnd' /proc/self/status"
        ));
        assert_eq!(own_signals(&without), own_signals(&with), "SIGPIPE {pipe}");
    }
}

/// Starts a recording of `program`, sends timesink a signal once it runs, waits for the end.
fn signalled(recording: &Timesink, program: &str, signal: &str) -> (Option<i32>, String, String) {
    let _alone = alone();
    let mark = recording.place().join("started");
    let script = format!("touch {}; exec {program}", mark.display());
    let mut started = recording.prepare(&["sh", "-c", &script]);
    started.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = started.spawn().expect("timesink starts");
    for _ in 0..3_000 {
        if mark.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // The program itself still has to start.
    std::thread::sleep(Duration::from_millis(400));
    let arguments = [format!("-{signal}"), child.id().to_string()];
    let killed = Command::new("kill").args(arguments).status();
    assert!(killed.expect("kill runs").success());
    let (status, out, err) = finish(&mut child, Vec::new());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(out), text(err))
}

#[test]
fn signals_sent_to_timesink_reach_the_command_once() {
    for tier in Tier::here() {
        for signal in ["TERM", "HUP", "USR1"] {
            let recording = Timesink::on(tier);
            let program = recording.reachable(&truth_program("signals.c"));
            let (code, out, err) = signalled(&recording, &program, signal);
            assert_eq!(code, Some(5), "{tier:?} {signal}: {out}\n{err}");
            assert!(out.contains(&format!("{signal}=1\n")), "{tier:?}: {out}");
            assert!(recording.place().join("out/report.json").exists(), "{err}");
        }
    }
}

#[test]
fn an_interrupt_of_timesink_alone_does_not_end_the_recording() {
    let recording = Timesink::new();
    let (code, _, err) = signalled(&recording, "sleep 1.5", "INT");
    assert_eq!(code, Some(0), "{err}");
    assert!(recording.place().join("out/report.json").exists());
}

#[test]
fn under_sudo_the_command_and_its_files_are_the_invoking_users() {
    if !is_root() {
        skip("only root can run a command as another user");
        return;
    }
    let run = Timesink::new().env("SUDO_UID", "65534").env("SUDO_GID", "65534").record(&[
        "sh",
        "-c",
        "id -u; id -g; cat /proc/self/status | grep CapEff",
    ]);
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert!(said.starts_with("65534\n65534\n"), "{said}");
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    for entry in fs::read_dir(run.out()).expect("there").flatten() {
        let owner = entry.metadata().expect("readable").uid();
        assert_eq!(owner, 65_534, "{}", entry.path().display());
    }
    assert_eq!(fs::metadata(run.out()).expect("there").uid(), 65_534);
    assert_eq!(run.report["tier"], "kernel", "root's eyes, the user's command");
    assert_adds_up(&run.report);
}

#[test]
fn a_user_can_be_named_and_only_root_may() {
    if !is_root() {
        skip("only root can run a command as another user");
        return;
    }
    let run = Timesink::new().option("--user").option("nobody").record(&[
        "sh",
        "-c",
        "id -un; echo $HOME; id -G",
    ]);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(said.starts_with("nobody\n"), "{said}");
    let run = Timesink::on(Tier::ProcNobody).option("--user").option("root").record(&["id"]);
    assert_eq!(run.code(), 125, "{}", run.stderr);
    assert!(run.stderr.contains("only root") && run.stdout.is_empty(), "{}", run.stderr);
}

#[test]
fn doctor_and_examples_answer_everyone() {
    let (code, out, err) = timesink(&["doctor"]);
    assert_eq!(code, 0, "{err}");
    let said = String::from_utf8_lossy(&out);
    assert!(said.contains("kernel") && said.contains("perf") && said.contains("proc"), "{said}");
    let (code, out, err) = timesink(&["examples"]);
    assert_eq!(code, 0, "{err}");
    assert!(String::from_utf8_lossy(&out).contains("lock_contention"));
}

#[test]
fn the_processes_of_others_are_not_recorded() {
    // A neighbour starts processes the whole time: none of them is in the report.
    let mut neighbour = Command::new("sh")
        .args(["-c", "i=0; while [ $i -lt 300 ]; do /bin/true; sleep 0.002; i=$((i+1)); done"])
        .stdin(Stdio::null())
        .spawn()
        .expect("sh starts");
    for tier in Tier::here() {
        let run = Timesink::on(tier).record(&["sleep", "0.2"]);
        assert_eq!(
            rows(&run.report, "/processes").len(),
            1,
            "{tier:?}: {}",
            run.report["processes"]
        );
    }
    neighbour.wait().expect("it ends");
}
