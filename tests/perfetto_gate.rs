//! Both trace formats, loaded into the real Perfetto engine and compared with our timelines.
//!
//! The engine is the one in the wheel that `.ci/perfetto-engine.sh` fetches; it runs in node.

// The edge: a test starts programs, reads files and the environment, and says why it skips.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

mod machine;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use timesink::analysis::Report;
use timesink::analysis::analyse;
use timesink::export::chrome;
use timesink::export::perfetto;
use timesink::model::*;

/// The `v52.0-*` folder, or why it cannot be had.
fn engine() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|output| output.status.success()) {
        return Err("node is not installed".to_owned());
    }
    if let Some(dist) = std::env::var_os("PERFETTO_DIST") {
        return Ok(dist.into());
    }
    let fetched = Command::new(root.join(".ci/perfetto-engine.sh"))
        .output()
        .map_err(|error| format!(".ci/perfetto-engine.sh does not start: {error}"))?;
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr).trim().to_owned();
        return Err(format!("the Perfetto engine cannot be fetched: {why}"));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&fetched.stdout).trim()))
}

/// Skips, or fails where skipping is not allowed.
fn engine_or_skip() -> Option<PathBuf> {
    match engine() {
        Ok(dist) => Some(dist),
        Err(why) => {
            println!("skipped: {why}");
            assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "skipped: {why}");
            None
        }
    }
}

type Rows = Vec<Vec<Value>>;

/// Loads `bytes` into the engine and asks.
fn ask(dist: &Path, name: &str, bytes: &[u8], questions: &[&str]) -> Vec<Rows> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join(name);
    std::fs::write(&file, bytes).expect("temporary file");
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/perfetto-sql.cjs");
    let output = Command::new("node")
        .arg(tool)
        .arg("--json")
        .arg(&file)
        .args(questions)
        .env("PERFETTO_DIST", dist)
        .output()
        .expect("node starts");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {why}");
    serde_json::from_slice(&output.stdout).expect("the tool answers in JSON")
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("an integer, not {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

const STATS: &str = "select name, value from stats where value > 0";

/// Whatever the engine complains about, but for what says nothing about our data.
fn complaints(rows: &Rows, lossy: bool) -> Vec<&str> {
    let harmless = |name: &str| {
        name.ends_with("_duration_ns")
            || name == "json_display_time_unit"
            || name == "clock_sync_cache_miss"
            || (lossy && name == "ftrace_cpu_has_data_loss")
    };
    rows.iter().map(|row| text(&row[0])).filter(|name| !harmless(name)).collect()
}

/// A segment that outlives its visit.
#[derive(Clone, Copy)]
struct Stretch {
    thread: usize,
    start: i64,
    dur: i64,
    state: State,
    left: Option<Left>,
    waker: Option<Waker>,
}

/// The truth: our own timelines, with the ids that the exports show.
struct Truth {
    rows: Timelines,
    tids: Vec<i64>,
    stretches: Vec<Stretch>,
    spans: Vec<(i64, i64, i64, String)>,
}

#[derive(Default)]
struct Collector {
    stretches: Vec<Stretch>,
    open: BTreeMap<(u32, u64), Vec<(i64, String)>>,
    spans: Vec<(u32, i64, i64, String)>,
}

impl Visitor for Collector {
    fn segment(&mut self, segment: &Segment) {
        self.stretches.push(Stretch {
            thread: segment.thread.0 as usize,
            start: segment.start.0 as i64,
            dur: segment.duration().0 as i64,
            state: segment.state,
            left: segment.interval.map(|interval| interval.left),
            waker: segment.interval.and_then(|interval| interval.waker),
        });
    }

    fn event(&mut self, _: &Timelines, thread: Option<ThreadId>, event: &Event) {
        let (Some(thread), Event::Probe(probe)) = (thread, event) else { return };
        let at = probe.time.0 as i64;
        match &probe.what {
            ProbeKind::Enter { span, name, .. } => {
                self.open.entry((thread.0, *span)).or_default().push((at, name.to_string()));
            }
            ProbeKind::Leave { span } => {
                if let Some((start, name)) =
                    self.open.get_mut(&(thread.0, *span)).and_then(Vec::pop)
                {
                    self.spans.push((thread.0, start, at - start, name));
                }
            }
            ProbeKind::Instant { .. } => {}
        }
    }
}

impl Truth {
    fn of(trace: &dyn Trace) -> Self {
        let mut collector = Collector::default();
        let rows = walk(trace, &mut collector);
        let mut owners: BTreeMap<u32, i64> = BTreeMap::new();
        let tids = rows
            .threads()
            .iter()
            .map(|thread| {
                let owner = owners.entry(thread.tid.0).or_insert(-10_000_000);
                *owner += 10_000_000;
                i64::from(thread.tid.0) + *owner
            })
            .collect::<Vec<i64>>();
        for ((thread, _), open) in std::mem::take(&mut collector.open) {
            let end = rows.threads()[thread as usize].end.expect("finished").0 as i64;
            for (start, name) in open {
                collector.spans.push((thread, start, end - start, name));
            }
        }
        let spans = collector.spans.into_iter();
        let mut spans: Vec<_> = spans
            .map(|(thread, start, dur, name)| (tids[thread as usize], start, dur, name))
            .collect();
        spans.sort();
        Self { rows, tids, stretches: collector.stretches, spans }
    }

    /// Time by thread and kind: running, ready, waiting.
    fn sums(&self) -> BTreeMap<(i64, &'static str), i64> {
        let mut sums = BTreeMap::new();
        for stretch in &self.stretches {
            *sums.entry((self.tids[stretch.thread], kind(stretch.state))).or_default() +=
                stretch.dur;
        }
        sums
    }
}

fn kind(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Runnable => "ready",
        _ => "waiting",
    }
}

/// The kind of a state of the engine; `None` for the dead.
fn kind_of_letters(letters: &str) -> Option<&'static str> {
    match letters {
        "Running" => Some("running"),
        "R" | "R+" => Some("ready"),
        "X" => None,
        _ => Some("waiting"),
    }
}

fn pftrace(trace: &dyn Trace) -> (Vec<u8>, perfetto::Stats) {
    let mut out = Vec::new();
    let stats = perfetto::write(trace, None, &perfetto::Options::default(), &mut out)
        .expect("memory takes all");
    assert_eq!(stats.bytes, out.len() as u64);
    (out, stats)
}

fn traces() -> impl Iterator<Item = (String, MemoryTrace)> {
    (0..6).map(|seed| {
        let (cpus, steps) = ([1, 2, 4][seed as usize % 3], [500, 4000][seed as usize / 3]);
        (format!("seed {seed}"), machine::drawn(seed, cpus, steps))
    })
}

#[test]
fn thread_states_and_cpus_are_ours_to_the_nanosecond() {
    let Some(dist) = engine_or_skip() else { return };
    for (name, trace) in traces() {
        let truth = Truth::of(&trace);
        let (bytes, stats) = pftrace(&trace);
        let lossy = trace.events.iter().any(|event| matches!(event, Event::Lost(_)));
        let answers = ask(
            &dist,
            "t.pftrace",
            &bytes,
            &[
                STATS,
                "select t.tid, s.state, sum(iif(s.dur = -1, (select end_ts from trace_bounds) - s.ts, s.dur)) \
                 from thread_state s join thread t using(utid) where t.tid between 1 and 1000000000 group by 1, 2",
                "select t.tid, sum(s.dur), count(*) from sched_slice s join thread t using(utid) \
                 where t.tid between 1 and 1000000000 group by 1",
                "select count(*) from sched_slice where dur < 0 and utid != 0",
                "select count(*) from (select ts + dur as e, lead(ts) over (partition by cpu order by ts) as n \
                 from sched_slice where dur >= 0) where n is not null and n != e",
            ],
        );
        assert_eq!(complaints(&answers[0], lossy), Vec::<&str>::new(), "{name}");
        let mut sums = BTreeMap::new();
        for row in &answers[1] {
            if let Some(kind) = kind_of_letters(text(&row[1])) {
                *sums.entry((int(&row[0]), kind)).or_default() += int(&row[2]);
            }
        }
        sums.retain(|_, sum| *sum != 0);
        assert_eq!(sums, truth.sums(), "{name}");
        let running = |tid| truth.sums().get(&(tid, "running")).copied();
        for row in &answers[2] {
            assert_eq!(
                Some(int(&row[1])),
                running(int(&row[0])),
                "{name}: on CPUs, tid {}",
                row[0]
            );
        }
        let slices: i64 = answers[2].iter().map(|row| int(&row[2])).sum();
        assert_eq!(slices as u64, stats.runs, "{name}");
        assert_eq!(int(&answers[3][0][0]), 0, "{name}: every stay on a CPU is closed");
        assert_eq!(int(&answers[4][0][0]), 0, "{name}: no CPU has a gap");
    }
}

#[test]
fn wakers_are_who_they_were() {
    let Some(dist) = engine_or_skip() else { return };
    let (mut named, mut interrupts, mut strangers) = (0, 0, 0);
    for (name, trace) in traces() {
        let truth = Truth::of(&trace);
        let (bytes, _) = pftrace(&trace);
        let question = "select t.tid, s.ts, w.tid, s.irq_context from thread_state s \
                        join thread t using(utid) join thread w on w.utid = s.waker_utid";
        let answers = ask(&dist, "t.pftrace", &bytes, &[question]);
        let shown: BTreeMap<(i64, i64), (i64, i64)> = answers[0]
            .iter()
            .map(|row| ((int(&row[0]), int(&row[1])), (int(&row[2]), row[3].as_i64().unwrap_or(0))))
            .collect();
        for stretch in &truth.stretches {
            let slept = matches!(stretch.left, Some(Left::Blocked { .. } | Left::Stopped));
            let Some(waker) = stretch.waker.filter(|_| slept) else { continue };
            let at = (truth.tids[stretch.thread], stretch.start);
            // Woken before it was off the CPU: nothing to draw.
            let Some(&(by, irq)) = shown.get(&at).filter(|_| stretch.state == State::Runnable)
            else {
                continue;
            };
            let tids = || truth.rows.threads().iter().filter(|t| t.tid == waker.tid);
            if waker.in_tree {
                let owners: Vec<i64> = tids().map(|t| truth.tids[t.id.0 as usize]).collect();
                assert!(owners.contains(&by), "{name}: {at:?} woken by {by}, not {owners:?}");
                named += 1;
            } else if waker.context == Context::Task {
                assert_eq!(by, 1_999_999_999, "{name}: {at:?}");
                strangers += 1;
            } else {
                assert!(by == 0 || by >= 2_000_000_000, "{name}: {at:?} woken by {by}");
                interrupts += irq;
            }
            assert!(irq == 0 || waker.context != Context::Task, "{name}: {at:?}");
        }
        let expected = truth.stretches.iter().filter(|s| {
            let slept = matches!(s.left, Some(Left::Blocked { .. } | Left::Stopped));
            slept && s.waker.is_some() && s.state == State::Runnable
        });
        let seen =
            expected.clone().filter(|s| shown.contains_key(&(truth.tids[s.thread], s.start)));
        let (seen, expected) = (seen.count(), expected.count());
        assert!(seen * 10 >= expected * 9, "{name}: {seen} of {expected} wake-ups are drawn");
    }
    assert!(named > 100 && interrupts > 10 && strangers > 10, "{named} {interrupts} {strangers}");
}

#[test]
fn waits_spans_and_names_are_drawn_as_they_were() {
    let Some(dist) = engine_or_skip() else { return };
    for (name, trace) in traces() {
        let truth = Truth::of(&trace);
        let (bytes, stats) = pftrace(&trace);
        let answers = ask(
            &dist,
            "t.pftrace",
            &bytes,
            &[
                "select t.tid, s.ts, s.dur, s.category, s.name from slice s join thread_track k on k.id = s.track_id \
                 join thread t using(utid) where s.category != 'program' order by 1, 2, 3",
                "select t.tid, s.ts, s.dur, s.name from slice s join thread_track k on k.id = s.track_id \
                 join thread t using(utid) where s.category = 'program' order by 1, 2, 3, 4",
                "select tid, name from thread where tid between 1 and 1000000000 order by 1",
                "select distinct name from process where pid = 100",
                "select s.name from slice s join track k on k.id = s.track_id where k.name = 'timesink: the run'",
            ],
        );
        let mut waits: Vec<_> = truth
            .stretches
            .iter()
            .filter(|s| s.state.is_wait())
            .map(|s| (truth.tids[s.thread], s.start, s.dur, s.state.name()))
            .collect();
        waits.sort_unstable();
        let drawn: Vec<_> =
            answers[0].iter().map(|r| (int(&r[0]), int(&r[1]), int(&r[2]), text(&r[3]))).collect();
        assert_eq!(drawn, waits, "{name}");
        for row in &answers[0] {
            let (state, title) = (text(&row[3]), text(&row[4]));
            let fits = match state {
                "condvar" => title == "condvar 0x7f001000",
                "pipe" => title == "read pipe:[123]",
                "network" => title == "recvfrom socket:[77]",
                "sleep" => title == "sleep (clock_nanosleep)",
                "unknown" => title == "unknown (reason not seen)",
                _ => true,
            };
            assert!(fits, "{name}: {title} for {state}");
        }
        let drawn: Vec<_> = answers[1]
            .iter()
            .map(|r| (int(&r[0]), int(&r[1]), int(&r[2]), text(&r[3]).to_owned()))
            .collect();
        assert_eq!(drawn, truth.spans, "{name}");
        assert_eq!(stats.spans as usize, drawn.len());
        let mut names: Vec<(i64, String)> = truth
            .rows
            .threads()
            .iter()
            .map(|t| (truth.tids[t.id.0 as usize], t.name.to_string()))
            .collect();
        names.sort();
        let shown: Vec<(i64, String)> =
            answers[2].iter().map(|r| (int(&r[0]), text(&r[1]).to_owned())).collect();
        assert_eq!(shown, names, "{name}");
        assert_eq!(answers[3], vec![vec![Value::from("drawn")]], "{name}");
        assert_eq!(answers[4].len(), 1, "{name}: the run has its bar");
    }
}

/// A slice of the path: row, start, length, state, name.
type PathSlice = (i64, i64, i64, String, String);

fn path_slices(dist: &Path, trace: &MemoryTrace, report: &Report) -> Vec<PathSlice> {
    let mut bytes = Vec::new();
    perfetto::write(trace, Some(report), &perfetto::Options::default(), &mut bytes)
        .expect("memory takes all");
    let slices = "select s.depth, s.ts, s.dur, s.category, s.name from slice s \
                  join track k on k.id = s.track_id where k.name = 'critical path' order by 1, 2";
    let lossy = trace.events.iter().any(|event| matches!(event, Event::Lost(_)));
    let answers = ask(dist, "t.pftrace", &bytes, &[STATS, slices]);
    assert_eq!(complaints(&answers[0], lossy), Vec::<&str>::new());
    let text = |value: &Value| text(value).to_owned();
    let slice = |r: &Vec<Value>| (int(&r[0]), int(&r[1]), int(&r[2]), text(&r[3]), text(&r[4]));
    answers[1].iter().map(slice).collect()
}

#[test]
fn the_critical_path_is_one_track_as_long_as_the_run() {
    let Some(dist) = engine_or_skip() else { return };
    for (name, trace) in traces() {
        let mut report = analyse(&trace, None);
        let (start, end) = Truth::of(&trace).rows.window();
        let check = |slices: &[PathSlice]| {
            let upper = slices.iter().filter(|slice| slice.0 == 0);
            let last = upper.clone().fold(start.0 as i64, |now, slice| {
                assert_eq!(slice.1, now, "{name}: no hole and no overlap");
                now + slice.2
            });
            assert_eq!(last, end.0 as i64, "{name}");
            let sum: i64 = upper.map(|slice| slice.2).sum();
            assert_eq!(sum as u64, report.wall_ns, "{name}");
        };
        let slices = path_slices(&dist, &trace, &report);
        check(&slices);
        let steps: Vec<&PathSlice> = slices.iter().filter(|slice| slice.0 == 1).collect();
        assert_eq!(steps.len(), report.critical_path.len(), "{name}");
        for (state, time) in report.path.states.0.iter() {
            let of_state = steps.iter().filter(|slice| slice.3 == state.name());
            assert_eq!(
                of_state.map(|slice| slice.2).sum::<i64>() as u64,
                time.0,
                "{name}: {state}"
            );
        }
        let step = &report.critical_path[0];
        let thread = &report.threads[step.thread as usize].name;
        assert_eq!(slices[0].4, thread.0, "{name}: the upper row are the threads");
        assert!(steps[0].4.starts_with(step.state), "{name}: {}", steps[0].4);

        // What a report does not list is there all the same.
        let mut nth = 0;
        report.critical_path.retain(|_| {
            nth += 1;
            nth % 3 != 0
        });
        let slices = path_slices(&dist, &trace, &report);
        let short = slices.iter().filter(|slice| slice.4.starts_with("steps too short")).count();
        assert_eq!(short, nth / 3, "{name}");
        check(&slices);
    }
}

#[test]
fn counters_and_samples_agree_with_the_timelines() {
    let Some(dist) = engine_or_skip() else { return };
    let trace = machine::drawn(5, 2, 4000);
    let truth = Truth::of(&trace);
    let (bytes, stats) = pftrace(&trace);
    let integral = "select k.name, sum(c.value * (coalesce(c.n, (select end_ts from trace_bounds)) - c.ts)) from \
                    (select *, lead(ts) over (partition by track_id order by ts) as n from counter) c \
                    join counter_track k on k.id = c.track_id where k.name like 'threads%' group by 1 order by 1";
    let stacks = "select r.name, q.name, f.name, m.name, m.build_id, count(*) from perf_sample p \
                  join stack_profile_callsite c on c.id = p.callsite_id \
                  left join stack_profile_callsite d on d.id = c.parent_id \
                  left join stack_profile_callsite e on e.id = d.parent_id \
                  join stack_profile_frame f on f.id = c.frame_id \
                  left join stack_profile_frame q on q.id = d.frame_id \
                  left join stack_profile_frame r on r.id = e.frame_id \
                  join stack_profile_mapping m on m.id = f.mapping group by 1, 2, 3 order by 3";
    let answers = ask(
        &dist,
        "t.pftrace",
        &bytes,
        &[
            integral,
            "select count(*), count(callsite_id), count(distinct cpu) from perf_sample",
            stacks,
        ],
    );
    let total =
        |state| truth.stretches.iter().filter(|s| s.state == state).map(|s| s.dur).sum::<i64>();
    let shown: Vec<(&str, i64)> =
        answers[0].iter().map(|r| (text(&r[0]), r[1].as_f64().expect("a number") as i64)).collect();
    assert_eq!(
        shown,
        [
            ("threads ready, no CPU free", total(State::Runnable)),
            ("threads running", total(State::Running)),
        ]
    );
    assert_eq!(int(&answers[1][0][0]) as u64, stats.samples);
    assert_eq!(answers[1][0][0], answers[1][0][1], "every sample has its stack");
    assert!(stats.samples > 50);
    let shown: Vec<Vec<&str>> =
        answers[2].iter().map(|row| row[..5].iter().map(text).collect()).collect();
    assert_eq!(
        shown,
        [
            ["main", "work", "inner", "/usr/bin/drawn", "abcd"],
            ["", "", "main", "/usr/bin/drawn", "abcd"],
        ]
    );
}

fn json(trace: &dyn Trace, options: chrome::Options) -> (Vec<u8>, chrome::Stats) {
    let mut out = Vec::new();
    let stats = chrome::write(trace, None, &options, &mut out).expect("memory takes all");
    assert_eq!(stats.bytes, out.len() as u64);
    (out, stats)
}

/// A time of the format, us with three decimals, as ns; exact.
fn ns(event: &Value, key: &str) -> i64 {
    let us = event[key].as_f64().expect("a number");
    (us * 1000.0).round() as i64
}

/// The `X` slices or `T` states of the threads, as (tid, start, length, category or state).
fn events<'a>(file: &'a Value, phase: &str) -> Vec<(i64, i64, i64, &'a Value)> {
    let all = file["traceEvents"].as_array().expect("an array");
    let mine = all.iter().filter(|e| e["ph"] == phase && e["pid"] != 1_999_999_998);
    mine.map(|e| (int(&e["tid"]), ns(e, "ts"), ns(e, "dur"), e)).collect()
}

#[test]
fn chrome_slices_states_and_flows_hold_in_the_engine() {
    let Some(dist) = engine_or_skip() else { return };
    let mut flows = 0;
    for (name, trace) in traces() {
        let truth = Truth::of(&trace);
        let (bytes, stats) = json(&trace, chrome::Options::default());
        let file: Value = serde_json::from_slice(&bytes).expect("closed, valid JSON");
        let origin = truth.rows.window().0.0 as i64;
        let mut expected: Vec<_> = truth
            .stretches
            .iter()
            .map(|s| (truth.tids[s.thread], s.start - origin, s.dur, s.state.name()))
            .collect();
        expected.sort_unstable();
        let answers = ask(
            &dist,
            "t.json",
            &bytes,
            &[
                STATS,
                "select t.tid, s.ts, s.dur, s.category from slice s join thread_track k on k.id = s.track_id \
                 join thread t using(utid) where t.tid < 1000000000 order by 1, 2",
                "select o.category, u.tid, o.ts, o.dur, i.category, v.tid, i.ts from flow f \
                 join slice o on o.id = f.slice_out join thread_track a on a.id = o.track_id join thread u on u.utid = a.utid \
                 join slice i on i.id = f.slice_in join thread_track b on b.id = i.track_id join thread v on v.utid = b.utid",
                "select count(*) from slice where category = 'program' and dur > 0",
            ],
        );
        assert_eq!(complaints(&answers[0], false), Vec::<&str>::new(), "{name}");
        let drawn: Vec<_> =
            answers[1].iter().map(|r| (int(&r[0]), int(&r[1]), int(&r[2]), text(&r[3]))).collect();
        assert_eq!(drawn, expected, "{name}");
        assert_eq!(events(&file, "T").len(), expected.len(), "{name}");
        assert_eq!(answers[2].len() as u64, stats.flows, "{name}");
        flows += stats.flows;
        for row in &answers[2] {
            assert_eq!((text(&row[0]), text(&row[4])), ("running", "runnable"), "{name}");
            let (start, dur, woken) = (int(&row[2]), int(&row[3]), int(&row[6]));
            assert!(start <= woken && woken <= start + dur, "{name}: the waker ran then");
        }
        assert_eq!(int(&answers[3][0][0]) as usize, truth.spans.len(), "{name}");
        assert_eq!((stats.left_out, stats.spans_left_out), (0, 0), "{name}");
    }
    assert!(flows > 100, "{flows}");
}

#[test]
fn budgets_keep_the_longest_and_say_what_is_missing() {
    let trace = machine::drawn(5, 2, 4000);
    let truth = Truth::of(&trace);
    let mut waits: Vec<i64> =
        truth.stretches.iter().filter(|s| s.state.is_wait()).map(|s| s.dur).collect();
    waits.sort_unstable_by(|a, b| b.cmp(a));

    let options = chrome::Options { max_slices: 90, max_spans: 5 };
    let (bytes, stats) = json(&trace, options);
    let file: Value = serde_json::from_slice(&bytes).expect("closed, valid JSON");
    let slices = events(&file, "X").iter().filter(|e| e.3["cat"] != "program").count();
    assert_eq!(slices as u64, stats.slices);
    assert!(stats.slices <= 90 && stats.slices >= 70, "{stats:?}");
    assert_eq!(stats.slices + stats.left_out, truth.stretches.len() as u64);
    let kept: Vec<i64> = events(&file, "X")
        .iter()
        .filter(|e| e.3["cat"].as_str().and_then(State::from_name).is_some_and(State::is_wait))
        .map(|e| e.2)
        .collect();
    assert_eq!(kept.len(), 30);
    // Within a sixteenth: the width of a bucket of the histogram.
    assert!(kept.iter().all(|&dur| dur as f64 > waits[29] as f64 * 15.0 / 17.0), "{kept:?}");
    let said = file["otherData"]["left out"].as_str().expect("said");
    assert!(said.contains(&format!("{} stretches", stats.left_out)), "{said}");

    let mut out = Vec::new();
    let options = perfetto::Options { max_waits: 10 };
    let stats = perfetto::write(&trace, None, &options, &mut out).expect("memory takes all");
    assert_eq!((stats.waits, stats.waits_left_out), (10, waits.len() as u64 - 10));
    let said = format!("{} of the shortest waits", stats.waits_left_out);
    assert!(out.windows(said.len()).any(|w| w == said.as_bytes()), "{said}");
}

#[test]
fn the_same_trace_gives_the_same_bytes_and_errors_come_back() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(data.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let trace = machine::drawn(4, 2, 4000);
    assert_eq!(pftrace(&trace).0, pftrace(&trace).0);
    let options = chrome::Options::default();
    assert_eq!(json(&trace, options).0, json(&trace, options).0);
    let error = perfetto::write(&trace, None, &perfetto::Options::default(), &mut Full(10));
    assert_eq!(error.expect_err("full").kind(), std::io::ErrorKind::StorageFull);
    let error = chrome::write(&trace, None, &options, &mut Full(10));
    assert_eq!(error.expect_err("full").kind(), std::io::ErrorKind::StorageFull);
}
