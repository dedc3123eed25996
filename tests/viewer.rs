//! report.html in a real browser: it draws itself, its totals are the report's to the
//! nanosecond, it can be zoomed and searched, and no name in it can run.
#![allow(missing_docs, clippy::disallowed_methods)] // tests read the environment and write files

mod scene;

use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use timesink::analysis::Report;
use timesink::analysis::StackKind;
use timesink::model::Context;
use timesink::model::Event;
use timesink::model::MemoryTrace;
use timesink::model::Nanos;
use timesink::model::State;
use timesink::model::Tid;
use timesink::model::Waker;

fn page_of(trace: &MemoryTrace, headline: &str) -> (Report, Vec<u8>) {
    let report = scene::report_of(trace, headline);
    let mut page = Vec::new();
    timesink::export::html::write(&report, trace, &mut page).expect("a Vec takes all");
    (report, page)
}

/// Says why nothing was tested, or fails where that is not allowed.
fn skip(why: &str) {
    assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "must not skip: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

struct Browser {
    chromium: PathBuf,
    playwright: PathBuf,
}

impl Browser {
    fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = |names: &[&str]| {
            std::env::split_paths(&path)
                .flat_map(|dir| names.iter().map(move |name| dir.join(name)).collect::<Vec<_>>())
                .find(|file| file.is_file())
        };
        let playwright = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("target/browser/node_modules/playwright-core");
        let Some(chromium) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else {
            skip("no Chromium on PATH (apt-get install chromium)");
            return None;
        };
        if on_path(&["node"]).is_none() || !playwright.is_dir() {
            skip("no browser driver (apt-get install nodejs npm, then .ci/browser.sh)");
            return None;
        }
        Some(Self { chromium, playwright })
    }

    /// What the driver saw on a page and beside it.
    fn drive(&self, page: &Path, svgs: &[PathBuf]) -> Value {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/viewer.cjs");
        let output = Command::new("node")
            .arg(driver)
            .args([&self.playwright, &self.chromium])
            .arg(page)
            .args(svgs)
            .output()
            .expect("node starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the driver failed: {errors}");
        serde_json::from_slice(&output.stdout).expect("the driver prints JSON")
    }
}

fn ns(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number of ns"))
}

fn check_totals(seen: &Value, report: &Report) {
    let page = &seen["page"];
    assert_eq!(ns(&page["wall"]), report.wall_ns);
    assert_eq!(ns(&page["threadTime"]), report.budget.thread_ns);
    assert_eq!(ns(&page["unknown"]), report.health.unknown_ns);
    for (state, time) in report.budget.states.0.iter() {
        assert_eq!(ns(&page["states"][state.name()]), time.0, "{state} in the table");
        assert_eq!(page["bar"][state.name()].as_u64().unwrap_or(0), time.0, "{state} in the bar");
    }
    for thread in report.threads.iter().take(100) {
        let id = thread.id.to_string();
        if report.threads.len() <= 100 {
            assert_eq!(ns(&page["lives"][&id]), thread.end_ns - thread.start_ns, "thread {id}");
        }
        for (state, time) in thread.states.0.iter() {
            let lane = &page["lanes"][&id][state as usize];
            assert_eq!(ns(lane), time.0, "thread {id} in {state}");
        }
    }
    for object in &report.objects {
        assert_eq!(ns(&page["totals"][&object.id.to_string()]), object.wait_ns, "{}", object.label);
    }
    let running = report.budget.states.0[State::Running];
    assert_eq!(ns(&page["running"]), running.0, "the CPUs over time");
    assert_eq!(ns(&seen["flames"]["wall"]), report.budget.thread_ns);
    assert_eq!(ns(&seen["flames"]["off-cpu"]), report.budget.thread_ns - running.0);
}

/// Every time on the page, in the words of the text report.
fn check_words(seen: &Value) {
    let shown = seen["page"]["shown"].as_array().expect("a list");
    assert!(shown.len() > 30, "only {} times on the page", shown.len());
    for pair in shown {
        let said = Nanos(ns(&pair[0])).to_string();
        assert_eq!(pair[1].as_str(), Some(said.as_str()), "{} ns", pair[0]);
    }
}

fn check_gestures(seen: &Value, wall: u64) {
    let steps = &seen["timeline"];
    let range = |step: &str| (ns(&steps[step][0]), ns(&steps[step][1]));
    let length = |step: &str| range(step).1 - range(step).0;
    assert_eq!(range("whole"), (0, wall));
    assert!(length("button") < wall, "the button zooms in");
    assert!(length("keyW") < length("button"), "w zooms in");
    assert!(range("keyD").0 > range("keyW").0, "d pans right");
    assert!(range("keyA").0 < range("keyD").0, "a pans left");
    assert!(length("keyS") > length("keyW"), "s zooms out");
    assert_eq!(range("all"), (0, wall));
    assert!(length("wheel") < wall, "ctrl+wheel zooms in");
    assert!(length("drag") < wall / 2, "dragging shows that stretch");
    assert!(range("pan").0 > range("drag").0, "shift+drag pans");
    assert!(length("pan").abs_diff(length("drag")) < 4, "and keeps the zoom");
}

fn check_flames(seen: &Value) {
    let flames = &seen["flames"];
    assert_eq!(flames["zoomed"], "100%", "a clicked frame fills the width");
    assert_eq!(flames["back"], "100%", "Escape shows all again");
    assert!(flames["tip"].as_str().is_some_and(|tip| tip.contains("of the graph")));
    assert!(ns(&flames["hits"]) > 0, "the search marks frames");
    let sorted = seen["tables"]["sorted"].as_array().expect("a list");
    assert_ne!(sorted[0], sorted[1], "the table sorts both ways");
}

#[test]
fn hostile_names_are_shown_and_never_run() {
    let Some(browser) = Browser::find() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let trace = scene::hostile();
    let (report, page) = page_of(&trace, "</script><script>alert(0)</script> <!-- {{data}}");
    let file = directory.path().join("report.html");
    std::fs::write(&file, page).expect("writable");
    let mut svgs = Vec::new();
    for kind in StackKind::ALL {
        let mut svg = Vec::new();
        timesink::export::flamegraph::write(&trace, kind, &mut svg).expect("a Vec takes all");
        svgs.push(directory.path().join(format!("{}.svg", kind.name())));
        std::fs::write(&svgs[svgs.len() - 1], svg).expect("writable");
    }
    let seen = browser.drive(&file, &svgs);
    assert_eq!(seen["problems"], Value::Array(vec![]));
    check_totals(&seen, &report);
    check_words(&seen);
    check_gestures(&seen, report.wall_ns);
    check_flames(&seen);

    let page = &seen["page"];
    assert_eq!(page["headline"], report.verdict.headline.as_str());
    assert_eq!(
        page["command"],
        report.command.iter().map(|c| c.0.as_str()).collect::<Vec<_>>().join(" ")
    );
    let findings = page["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), report.findings.len());
    for (shown, finding) in findings.iter().zip(&report.findings) {
        let shown = shown.as_str().expect("a text");
        for part in ["1.41x faster [1.38-1.43] with lock:0*0.5", "waited 12.3 ms", "58 %"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let parts = [&finding.title, &finding.text];
        assert!(parts.iter().all(|part| shown.contains(part.as_str())), "{shown}");
    }
    let names: Vec<&str> =
        page["names"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for thread in &report.threads {
        assert!(names.contains(&thread.name.0.as_str()), "{} among {names:?}", thread.name);
    }
    let elements = page["elements"].as_array().expect("a list");
    assert!(!elements.contains(&Value::from("img")) && elements.contains(&Value::from("canvas")));
    assert_eq!(page["scripts"], 2, "the data and the script");
    assert_eq!(seen["blocked"], true, "the policy holds what gets in all the same");
    assert!(ns(&seen["violations"]) >= 3, "script, image and fetch were each refused");
    for width in [1000, 1280, 1600] {
        assert!(ns(&seen["wide"][width.to_string()]) <= width, "no sideways scrolling at {width}");
    }

    assert_eq!(seen["path"]["shown"], false, "a report without a path has no switch for it");
    // The first lane is the main thread's: in the middle of the run it waits for its child.
    assert!(
        seen["timeline"]["tip"]
            .as_str()
            .is_some_and(|tip| tip.contains("waiting for a child process"))
    );
    assert_eq!(ns(&seen["timeline"]["tipNs"]), 70_000_000);
    let (r, g, b) = timesink::export::state_color(State::Child);
    for pixel in ["pixel", "pixelZoomed"] {
        assert_eq!(seen["timeline"][pixel], serde_json::json!([r, g, b, 255]), "{pixel}");
    }
    let leaves = seen["flames"]["leaves"].as_object().expect("a map");
    assert_eq!(ns(&leaves["[lock]"]), report.budget.states.0[State::Lock].0);
    assert_eq!(ns(&seen["flames"]["search"]), report.budget.states.0[State::Lock].0);

    for (name, svg) in seen["svgs"].as_object().expect("a map") {
        assert_eq!((&svg["root"], &svg["broken"]), (&"svg".into(), &0.into()), "{name}");
        let titles = svg["titles"].as_array().expect("a list");
        let shown = |part: &str| titles.iter().filter_map(Value::as_str).any(|t| t.contains(part));
        assert!(shown("</script><script>alert(2)</script> ("), "{name}: {titles:?}");
        assert!(shown(" = "), "{name} tells times");
    }
}

#[test]
fn the_critical_path_is_drawn_over_the_lanes_and_can_be_hidden() {
    let Some(browser) = Browser::find() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut trace = scene::contended(50);
    // Each worker's waits for the lock are ended by the other one, and the join by the second.
    for event in &mut trace.events {
        if let Event::Interval(interval) = event
            && let Some(word) = interval.call.and_then(|call| call.futex_word())
        {
            let by = if interval.tid == Tid(4102) { 4101 } else { 4102 };
            let (tid, call) = (Tid(by), interval.call.map(|call| call.number));
            let context = Context::Task;
            interval.waker = Some(Waker { tid, in_tree: true, context, call, arg0: word.address });
        }
    }
    let report = timesink::analysis::analyse(&trace, None);
    let file = directory.path().join("report.html");
    let mut page = Vec::new();
    timesink::export::html::write(&report, &trace, &mut page).expect("a Vec takes all");
    std::fs::write(&file, page).expect("writable");
    let seen = browser.drive(&file, &[]);
    assert_eq!(seen["problems"], Value::Array(vec![]));
    let path = &seen["path"];
    assert_eq!(path["shown"], true);
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
    let listed: u64 = report.critical_path.iter().map(|step| step.ns).sum();
    assert_eq!(number(&path["on"]["pathNs"]), Some(listed), "every step is in a line");
    assert_eq!(listed + report.path.folded.0.total().0, report.wall_ns);
    assert!(number(&path["on"]["handOvers"]) > Some(0), "{path}");
    assert!(
        number(&path["on"]["pathPieces"]) <= Some(2 * 1400 / 6),
        "no more than there are columns"
    );
    let ink = |look: &str| ns(&path[look]["pixels"]);
    assert!(ink("on") > ink("off") + 1000, "the line can be hidden: {path}");
    assert_eq!(ink("again"), ink("on"), "and shown again");
    assert!(path["says"].as_str().is_some_and(|says| says.contains("as long as the run")));
    assert!(path["tip"].as_str().is_some_and(|tip| tip.contains("on the critical path")), "{path}");
}

#[test]
fn a_crowd_is_thinned_out_and_its_totals_are_not() {
    let Some(browser) = Browser::find() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let trace = scene::crowd(520, 30);
    let (report, page) = page_of(&trace, "524 threads");
    let file = directory.path().join("report.html");
    std::fs::write(&file, page).expect("writable");
    let seen = browser.drive(&file, &[]);
    assert_eq!(seen["problems"], Value::Array(vec![]));
    let page = &seen["page"];
    assert!(ns(&page["lanesThinned"]) > 0);
    assert_eq!(ns(&page["lanesHidden"]), 24);
    let note = page["note"].as_str().unwrap_or_default();
    assert!(note.contains("stored as shares") && note.contains("the 24 others"), "{note}");
    for (id, sums) in page["lanes"].as_object().expect("a map") {
        let thread = &report.threads[id.parse::<usize>().expect("an id")];
        for (state, time) in thread.states.0.iter() {
            assert_eq!(ns(&sums[state as usize]), time.0, "thread {id} in {state}");
        }
    }
    let totals = &seen["flames"];
    assert_eq!(ns(&totals["wall"]), report.budget.thread_ns);
}

#[test]
fn an_empty_recording_is_a_page_all_the_same() {
    let Some(browser) = Browser::find() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report.html");
    let (_, page) = page_of(&MemoryTrace::new(Vec::new()), "nothing was recorded");
    std::fs::write(&file, page).expect("writable");
    let seen = browser.drive(&file, &[]);
    assert_eq!(seen["problems"], Value::Array(vec![]));
    assert_eq!(seen["page"]["threadTime"], 0);
}

#[test]
fn the_same_trace_gives_the_same_bytes() {
    let trace = scene::contended(50);
    assert!(page_of(&trace, "x").1 == page_of(&trace, "x").1);
}

/// Writes pages to look at into the directory that `TIMESINK_PAGES` names.
#[test]
fn pages_to_look_at() {
    let Some(directory) = std::env::var_os("TIMESINK_PAGES").map(PathBuf::from) else { return };
    let (contended, crowd) = (scene::contended(200), scene::crowd(200, 60));
    let waits = "3 threads, 0.8 of 2 CPUs used: 54 % of the workers' time they waited for one lock, taken in bank::settle";
    for (name, trace, headline) in [
        ("hostile", &scene::hostile(), "</script><script>alert(0)</script> & more"),
        ("contended", &contended, waits),
        ("crowd", &crowd, "204 threads, pools mostly wait for work"),
    ] {
        std::fs::write(directory.join(format!("{name}.html")), page_of(trace, headline).1)
            .expect("writable");
        for kind in StackKind::ALL {
            let mut svg = Vec::new();
            timesink::export::flamegraph::write(trace, kind, &mut svg).expect("a Vec takes all");
            std::fs::write(directory.join(format!("{name}-{}.svg", kind.name())), svg)
                .expect("writable");
        }
    }
}
