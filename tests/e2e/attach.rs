//! Attaching to processes that already run, and recordings whose recorder was killed.

use crate::program::TIMESINK;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::alone;
use crate::program::finish;
use crate::program::is_root;
use crate::program::skip;
use crate::program::timesink;
use crate::program::truth_program;
use crate::report::assert_adds_up;
use crate::report::assert_no_run_missed;
use crate::report::number;
use crate::report::rows;
use crate::report::states;
use crate::report::text;
use serde_json::Value;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use timesink::model::Event;
use timesink::model::Interval;
use timesink::model::Marks;
use timesink::model::Start;
use timesink::model::StartKind;
use timesink::model::Tid;
use timesink::model::Trace;
use timesink::trace::TraceFile;

/// `attach.c`, which waits in every way; killed with this value.
struct Waiting {
    child: Child,
    said: String,
    /// Where it and `timesink` are, as the tier's user sees them.
    place: Timesink,
}

impl Waiting {
    fn start(tier: Tier, arguments: &[&str]) -> Self {
        let place = Timesink::on(tier);
        let mut child = place
            .as_its_user(&truth_program("attach.c"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        while !said.contains("ready=") {
            assert_ne!(lines.read_line(&mut said).expect("text"), 0, "it ended: {said}");
        }
        Self { child, said, place }
    }

    fn said(&self, key: &str) -> u64 {
        let line = self.said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key} in {}", self.said)).parse().expect("a number")
    }

    fn lives(&mut self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let moves = state.is_ok_and(|state| state.contains("State:\tS"));
        moves && self.child.try_wait().expect("ours").is_none()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `timesink attach` with these arguments, its results in `out` of the target's place.
struct Attached {
    child: Child,
    out: PathBuf,
}

impl Attached {
    fn to(target: &Waiting, tier: Tier, arguments: &[&str]) -> Self {
        let out = target.place.place().join("out");
        let _ = fs::remove_dir_all(&out);
        let child = target
            .place
            .as_its_user(Path::new(TIMESINK))
            .args(["attach", &target.child.id().to_string(), "--tier", tier.name(), "-o"])
            .arg(&out)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("timesink starts");
        Self { child, out }
    }

    /// Waits until it says that it records.
    fn until_attached(&mut self) -> String {
        let mut line = String::new();
        // Byte by byte: what follows is read by somebody else.
        let mut err = self.child.stderr.take().expect("piped");
        let mut byte = [0];
        while std::io::Read::read(&mut err, &mut byte).expect("readable") == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        self.child.stderr = Some(err);
        assert!(line.contains("attached to"), "{line}");
        line
    }

    fn end(mut self) -> Value {
        let (status, _, err) = finish(&mut self.child, Vec::new());
        let err = String::from_utf8_lossy(&err).into_owned();
        let code = status.code().unwrap_or_else(|| panic!("{status}: {err}"));
        assert_eq!(code, 0, "{err}");
        let json = fs::read(self.out.join("report.json")).expect("a report");
        serde_json::from_slice(&json).expect("JSON")
    }
}

/// What a shell runs that may not be watched, as a `sudo` would be, does not keep the rest from being seen.
#[test]
fn a_child_that_may_not_be_watched_is_left_out_and_told() {
    let tier = Tier::PerfNobody;
    if !tier.available() {
        return;
    }
    let place = Timesink::on(tier);
    let guarded = place.reachable(&truth_program("guarded.c"));
    let script = format!("{guarded} 200 & while :; do sleep 0.05; done");
    let mut shell = place.as_its_user(&fs::canonicalize("/bin/sh").expect("a shell"));
    let mut child =
        shell.args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let mut said = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut said).expect("text");
    assert_eq!(said, "guarded=1\n");
    let target = Waiting { child, said, place };
    let report = Attached::to(&target, tier, &["--for", "500ms"]).end();
    assert_adds_up(&report);
    let pids: Vec<u64> = rows(&report, "/processes").iter().map(|p| number(p, "/pid")).collect();
    assert!(pids.contains(&target.child.id().into()), "the shell itself: {pids:?}");
    let names: Vec<&str> = rows(&report, "/processes").iter().map(|p| text(p, "/name")).collect();
    assert!(!names.iter().any(|name| name.starts_with("guarded")), "{names:?}");
    let warnings = rows(&report, "/health/warnings").iter().filter_map(Value::as_str);
    let told: Vec<&str> = warnings.filter(|line| line.contains("not in this recording")).collect();
    let remedy = format!("`sudo timesink attach {}`", target.child.id());
    assert!(told.len() == 1 && told[0].contains(&remedy), "{told:?}");
}

fn thread(report: &Value, tid: u64) -> &Value {
    let found = rows(report, "/threads").iter().find(|row| number(row, "/tid") == tid);
    found.unwrap_or_else(|| panic!("no thread {tid} in {}", report["threads"]))
}

#[test]
fn threads_that_wait_already_are_in_their_states_with_their_objects() {
    for tier in Tier::here() {
        let _alone = alone();
        let mut target = Waiting::start(tier, &[]);
        let mut attached = Attached::to(&target, tier, &["--for", "1s"]);
        attached.until_attached();
        std::thread::sleep(std::time::Duration::from_millis(300));
        target.child.stdin.as_mut().expect("piped").write_all(b"x").expect("it reads");
        let trace = attached.out.join("trace.timesink");
        let report = attached.end();
        assert!(target.lives(), "the target goes on");
        assert_adds_up(&report);
        assert_eq!(text(&report, "/tier"), tier.name());
        let wall = number(&report, "/wall_ns");
        assert!((1_000_000_000..1_500_000_000).contains(&wall), "{wall}");
        assert_eq!(rows(&report, "/threads").len(), 8, "seven threads, and the child's");
        assert_eq!(rows(&report, "/processes").len(), 2);
        if tier.name() != "proc" {
            assert_no_run_missed(&report);
        }
        if tier == Tier::Kernel {
            assert_eq!(states(&report["budget"])["unknown"], 0, "{}", report["budget"]);
        }
        for (key, state) in [
            ("mutex_tid", "lock"),
            ("pipe_tid", "pipe"),
            ("sleep_tid", "sleep"),
            ("child_tid", "child"),
            ("eventfd_tid", "pipe"),
        ] {
            let row = thread(&report, target.said(key));
            // All its time since the recording began, and all of it in this state.
            let (start, end) = (number(row, "/start_ns"), number(row, "/end_ns"));
            assert!(start < 50_000_000, "{row}");
            assert_eq!(end, wall, "{row}");
            assert_eq!(states(row)[state], end - start, "{tier:?} {key}: {row}");
        }
        assert_objects(&report, &target, tier);
        let (start, first) = first_wait(&trace, &target);
        assert_eq!(start.how, StartKind::Found);
        assert_eq!(first.off, start.time, "from the begin of the recording, never before");
        assert!((first.on - first.off).0 > 200_000_000, "{first:?}");
        if tier == Tier::Kernel {
            assert_eq!(first.marks, Marks { reason_seen: true, ..Marks::default() });
            assert_eq!(first.call.map(|call| call.number), Some(0), "read");
            let waker = first.waker.expect("seen");
            let wanted = (Tid(target.child.id()), true, Some(1));
            assert_eq!((waker.tid, waker.in_tree, waker.call), wanted);
        }
        // In this wait it was a pipe's, and in the sleeps after it was not.
        let told = states(thread(&report, target.said("told_tid")));
        assert!(told["pipe"] > 200_000_000 && told["pipe"] < wall / 2, "{tier:?}: {told:?}");
        assert!(told["sleep"] > wall / 4, "{tier:?}: {told:?}");
    }
}

/// What each of them waits for, and where in the program.
fn assert_objects(report: &Value, target: &Waiting, tier: Tier) {
    let objects = rows(report, "/objects");
    let object = |what: &str, is: &dyn Fn(&&Value) -> bool| {
        objects.iter().find(is).unwrap_or_else(|| panic!("no {what} in {objects:#?}"))
    };
    let site = |object: &Value| object["sites"][0]["stack"].to_string();
    let address = |key: &str| {
        let wanted = target.said(key);
        move |object: &&Value| number(object, "/address") == wanted
    };
    let lock = object("lock", &address("mutex_word"));
    assert_eq!(text(lock, "/kind"), "lock");
    assert!(site(lock).contains("on_mutex"), "{lock}");
    let pipe = object("pipe", &address("pipe_inode"));
    assert!(site(pipe).contains("on_pipe"), "{pipe}");
    let child = object("child", &|object| text(object, "/kind") == "child");
    assert!(text(child, "/label").contains(&target.said("child").to_string()), "{child}");
    let eventfd = object("eventfd", &|object| text(object, "/label").starts_with("eventfd"));
    // `/proc` has no number that tells whether two descriptors are of one eventfd.
    let waiters = if tier == Tier::Kernel { 2 } else { 1 };
    assert_eq!(number(eventfd, "/waiters"), waiters, "one object, in two processes: {eventfd}");
    let name = text(rows(report, "/processes").first().expect("one"), "/name");
    assert_eq!(name, "attach_c");
    assert!(report["command"][0].as_str().is_some_and(|path| path.ends_with("attach_c")));
}

/// The start of a thread, and its wait that the recording found and saw end.
fn first_wait(trace: &Path, target: &Waiting) -> (Start, Interval) {
    let trace = TraceFile::open(trace).expect("a trace");
    let tid = Tid(target.said("told_tid") as u32);
    let mut start = None;
    let mut first: Option<Interval> = None;
    trace.for_each(&mut |event| match event {
        Event::Start(e) if e.tid == tid => start = Some(*e),
        Event::Interval(e) if e.tid == tid => first = first.or(Some(*e)),
        _ => {}
    });
    (start.expect("found"), first.expect("a wait"))
}

#[test]
fn an_interrupt_ends_the_recording_and_not_the_target() {
    for (tier, signal) in Tier::here().zip(["INT", "TERM", "INT", "TERM", "INT"]) {
        let _alone = alone();
        let mut target = Waiting::start(tier, &[]);
        let mut attached = Attached::to(&target, tier, &[]);
        assert!(attached.until_attached().contains("Ctrl-C"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        let arguments = [format!("-{signal}"), attached.child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().expect("kill runs").success());
        let report = attached.end();
        assert!(target.lives(), "the target goes on");
        assert_adds_up(&report);
        assert!(report["exit"].is_null(), "{}", report["exit"]);
        assert!(number(&report, "/wall_ns") > 150_000_000);
    }
}

#[test]
fn the_recording_ends_with_the_last_process() {
    for tier in Tier::here() {
        let _alone = alone();
        let target = Waiting::start(tier, &["4000"]);
        let mut attached = Attached::to(&target, tier, &[]);
        attached.until_attached();
        // Whom nobody waits for has ended all the same.
        let report = attached.end();
        assert_adds_up(&report);
        if tier == Tier::Kernel {
            // Only the parent is told how a process ended, and the kernel.
            assert_eq!(report["exit"]["code"], 3);
        }
        assert!(rows(&report, "/processes").iter().all(|row| row["alive"] == false));
        let last = rows(&report, "/threads").iter().map(|row| number(row, "/end_ns")).max();
        assert_eq!(last, Some(number(&report, "/wall_ns")), "to the last exit");
    }
}

/// Who is started while we attach has its events or gets them: nobody's time is lost.
#[test]
fn those_who_are_being_started_are_not_lost() {
    // Threads of a breeder that start a thread each as fast as it goes, whose lives are as long.
    for tier in Tier::here().filter(|tier| tier.name() == "perf") {
        let _alone = alone();
        let place = Timesink::on(tier);
        let mut child = place
            .as_its_user(&truth_program("breed.c"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let target = |child: &Child| child.id().to_string();
        std::thread::sleep(std::time::Duration::from_millis(200));
        for round in 0..4 {
            let out = place.place().join(format!("out{round}"));
            let mut attach = place.as_its_user(Path::new(TIMESINK));
            attach.args(["attach", &target(&child), "--tier", tier.name(), "--for", "1s", "-o"]);
            let output = attach.arg(&out).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            let json = fs::read(out.join("report.json")).expect("a report");
            let report: Value = serde_json::from_slice(&json).expect("JSON");
            assert_adds_up(&report);
            let counts = &report["health"]["run_counts"];
            // Of those who got no CPU while the recording ended: they can be counted.
            assert_eq!(number(counts, "/differing"), 0, "{counts}");
            let threads = rows(&report, "/threads");
            assert!(threads.len() > 100, "they breed: {}", threads.len());
            // A thread without events never runs, and is unknown or ready for a CPU to the end. (Mere
            // unknown time is none: few of so many waits can be looked at. The main one waits.)
            let unheard = threads.iter().filter(|row| {
                let life = number(row, "/end_ns") - number(row, "/start_ns");
                let states = states(row);
                let unseen = states["runnable"] + states["unknown"];
                life > 300_000_000 && states["running"] == 0 && unseen * 10 > life * 9
            });
            assert_eq!(unheard.count(), 0, "round {round}: {said}");
        }
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
}

#[test]
fn what_cannot_be_attached_to_is_said_with_a_remedy() {
    let refused = |arguments: &[&str]| {
        let (code, _, err) = timesink(arguments);
        assert_eq!(code, 125, "{err}");
        err
    };
    assert!(refused(&["attach", "4194304"]).contains("`ps -e`"));
    assert!(refused(&["attach", "2"]).contains("kernel thread") || !Path::new("/proc/2").exists());
    let (code, _, err) = timesink(&["attach", "1", "--for", "3 parsecs"]);
    assert!(code == 2 && err.contains("use ms, s, m or h"), "{err}");
    if !is_root() {
        skip("only root can become another user");
        return;
    }
    let place = tempfile::tempdir().expect("a place");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    let binary = place.path().join("timesink");
    fs::copy(TIMESINK, &binary).expect("a copy");
    let as_nobody = |command: &str| {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        nobody.args(["--inh-caps=-all", "--bounding-set=-all", "sh", "-c", command]);
        let output = nobody.current_dir(place.path()).output().expect("sh runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let err = as_nobody(&format!("{} attach {}", binary.display(), std::process::id()));
    assert!(err.contains("another user") && err.contains("sudo"), "{err}");
    let err = as_nobody(&format!("{} attach $$ --tier kernel", binary.display()));
    assert!(err.contains("kernel tier") && err.contains("sudo"), "{err}");
    assert!(!place.path().join("timesink-out").exists(), "nothing is left");
}

/// Names of the directories of recorders in memory.
fn rings() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[test]
fn a_killed_recorder_leaves_its_time_and_the_next_one_cleans_up() {
    for tier in Tier::here().filter(|tier| !tier.as_nobody()) {
        let recording = Timesink::on(tier);
        let held = alone();
        let mut started = recording.prepare(&["sh", "-c", "echo $$; exec sleep 60"]);
        let mut child = started.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("the command speaks");
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        child.kill().expect("ours");
        child.wait().expect("ours");
        let pid = child.id();
        assert!(Command::new("kill").arg(line.trim()).status().expect("kill runs").success());
        let own = format!("timesink-{pid}-");
        let left = rings().iter().any(|name| name.starts_with(&own));
        assert!(left, "what is to be cleaned up: {:?}", rings());
        let out = recording.place().join("out");
        let (code, json, err) =
            timesink(&["report", out.to_str().expect("UTF-8"), "--format", "json"]);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("cut off"), "{err}");
        let report: Value = serde_json::from_slice(&json).expect("JSON");
        assert_adds_up(&report);
        // Marks come every second: at least the second one is there, long after the last event.
        let wall = number(&report, "/wall_ns");
        assert!((1_500_000_000..3_000_000_000).contains(&wall), "{tier:?}: {wall}");
        drop(held);
        let next = Timesink::on(tier).record(&["true"]);
        assert_eq!(next.code(), 0, "{}", next.stderr);
        let left: Vec<String> = rings().into_iter().filter(|n| n.starts_with(&own)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_is_made_of_a_trace_is_its_users_alone() {
    let run = Timesink::new().record(&["true"]);
    let trace = run.out().into_os_string().into_string().expect("UTF-8");
    for command in [
        &["report", &trace] as &[&str],
        &["flamegraph", &trace],
        &["export", &trace, "--to", "folded"],
    ] {
        let file = run.place.path().join(command[0]);
        let name = file.to_str().expect("UTF-8");
        let (code, _, err) = timesink(&[command, &["-o", name]].concat());
        assert_eq!(code, 0, "{err}");
        let mode = fs::metadata(&file).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{command:?}");
        // Whose file was there before decides who reads it.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(timesink(&[command, &["-o", name]].concat()).0, 0);
        let mode = fs::metadata(&file).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{command:?}");
    }
}
