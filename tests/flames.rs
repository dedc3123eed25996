//! Folded text and flame graphs: they add up to the timelines, and no name breaks a line.
#![allow(missing_docs)]

mod scene;

use std::collections::BTreeMap;
use timesink::analysis::StackKind;
use timesink::export::flamegraph;
use timesink::export::folded;
use timesink::model::MemoryTrace;
use timesink::model::Nanos;
use timesink::model::Segment;
use timesink::model::State;
use timesink::model::Timelines;
use timesink::model::Visitor;
use timesink::model::walk;

struct Nothing;

impl Visitor for Nothing {
    fn segment(&mut self, _: &Segment) {}
}

fn timelines(trace: &MemoryTrace) -> Timelines {
    walk(trace, &mut Nothing)
}

fn folded(trace: &MemoryTrace, kind: StackKind) -> Vec<(Vec<String>, u64)> {
    let mut text = Vec::new();
    folded::write(trace, kind, &mut text).expect("a Vec takes all");
    let text = String::from_utf8(text).expect("folded text is UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.is_sorted_by_key(|line| line.rsplit_once(' ').map(|(stack, _)| stack)));
    let line = |line: &&str| {
        let (stack, ns) = line.rsplit_once(' ').expect("a value");
        (stack.split(';').map(str::to_owned).collect(), ns.parse().expect("whole ns"))
    };
    lines.iter().map(line).collect()
}

fn svg(trace: &MemoryTrace, kind: StackKind) -> String {
    let mut svg = Vec::new();
    flamegraph::write(trace, kind, &mut svg).expect("a Vec takes all");
    String::from_utf8(svg).expect("an SVG is UTF-8")
}

#[test]
fn off_cpu_and_wall_are_the_timelines_to_the_nanosecond() {
    for trace in [scene::hostile(), scene::contended(80), scene::crowd(12, 3)] {
        let timelines = timelines(&trace);
        for kind in [StackKind::OffCpu, StackKind::Wall] {
            // By place in the line: names are escaped, their threads' order is not needed.
            let mut want: BTreeMap<String, u64> = BTreeMap::new();
            for thread in timelines.threads() {
                for (state, time) in thread.states.iter() {
                    let counts = kind == StackKind::Wall || state != State::Running;
                    if counts && !time.is_zero() {
                        *want.entry(format!("[{state}]")).or_default() += time.0;
                    }
                }
            }
            let mut got: BTreeMap<String, u64> = BTreeMap::new();
            for (frames, ns) in folded(&trace, kind) {
                *got.entry(frames[frames.len() - 1].clone()).or_default() += ns;
            }
            assert_eq!(got, want, "{kind:?}");
        }
    }
}

#[test]
fn lines_sum_by_thread() {
    let trace = scene::contended(80);
    let timelines = timelines(&trace);
    for thread in timelines.threads() {
        let name = thread.name.to_string();
        let lines = folded(&trace, StackKind::Wall);
        let sum: u64 = lines.iter().filter(|(f, _)| f[1] == name).map(|(_, ns)| ns).sum();
        assert_eq!(Nanos(sum), thread.lifetime(), "{name}");
    }
}

#[test]
fn stacks_are_named_outermost_first_and_end_in_the_state() {
    let lines = folded(&scene::contended(80), StackKind::OffCpu);
    let mutex = "std::sys::sync::mutex::futex::Mutex::lock_contended";
    let wanted = [
        "bank",
        "worker-1",
        "main",
        "std::thread::scope",
        "bank::worker",
        "bank::settle",
        mutex,
        "[lock]",
    ];
    assert!(lines.iter().any(|(frames, _)| frames == &wanted), "{lines:#?}");
    let on_cpu = folded(&scene::contended(80), StackKind::OnCpu);
    assert!(on_cpu.iter().any(|(frames, _)| frames[frames.len() - 1] == "vfs_write_[k]"));
}

#[test]
fn hostile_names_stay_within_their_frame() {
    let lines = folded(&scene::hostile(), StackKind::Wall);
    let has = |name: &str| lines.iter().any(|(frames, _)| frames.iter().any(|frame| frame == name));
    assert!(has("a\\x1b[31m\\x3b\\n\\xff\"'&<b>"), "{lines:#?}");
    assert!(has("work<T\\x3b 3>"));
    assert!(has("read_all\\x207"), "a last number is not a value");
    assert!(has("[no stack]"));
    for kind in StackKind::ALL {
        let svg = svg(&scene::hostile(), kind);
        assert!(!svg.contains("<script>alert"), "{kind:?}");
        assert!(!svg.contains("<img"), "{kind:?}");
    }
}

#[test]
fn flame_graphs_repeat_and_colour_states_as_the_viewer_does() {
    for kind in StackKind::ALL {
        let trace = scene::contended(80);
        assert_eq!(svg(&trace, kind), svg(&trace, kind), "{kind:?}");
    }
    let off = svg(&scene::contended(80), StackKind::OffCpu);
    let (r, g, b) = timesink::export::state_color(State::Lock);
    let lock = off.split("<title>[lock] (").nth(1).expect("a lock frame");
    assert!(lock.split("</g>").next().is_some_and(|g_| g_.contains(&format!("rgb({r},{g},{b})"))));
    assert!(off.contains(" ms = ") && off.contains("tier synthetic"));
}

#[test]
fn pools_are_one_flame_in_pictures_and_many_lines_in_text() {
    let trace = scene::crowd(40, 2);
    let lines = folded(&trace, StackKind::Wall);
    assert!(lines.iter().any(|(frames, _)| frames[1] == "pool-7"));
    let svg = svg(&trace, StackKind::Wall);
    assert!(svg.contains("<title>pool-* (30 threads) ("), "of the three workers");
    assert!(!svg.contains("<title>pool-7 ("));
}

#[test]
fn an_empty_profile_is_an_svg_that_says_why() {
    let mut trace = MemoryTrace::new(Vec::new());
    for (kind, why) in [
        (StackKind::OnCpu, "No CPU samples: the threads ran for 0 ns"),
        (StackKind::OffCpu, "No thread was off the CPU"),
        (StackKind::Wall, "No thread was seen"),
    ] {
        let svg = svg(&trace, kind);
        assert!(svg.contains(why) && svg.contains("<svg") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(folded(&trace, kind).is_empty());
    }
    trace.info.sample_hz = 0;
    assert!(svg(&trace, StackKind::OnCpu).contains("switched off"));
}
