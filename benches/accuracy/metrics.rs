//! What simple metrics name on the same trace. Each is the answer of a known kind of tool: what
//! was waited for longest, the largest part of the critical path, running time weighed by how few
//! were active meanwhile (two ways), and lock waits against the threads' time. Pure: the answers
//! come from a trace and its report.
//!
//! ```text
//!  a  ####....####     shared among the active: a 4 + 4/2 = 6, b 4 + 4/2 = 6
//!  b  ....########     (`a` alone, then `b` alone, then both)
//! ```

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use timesink::analysis::FrameRow;
use timesink::analysis::Object;
use timesink::analysis::Report;
use timesink::analysis::analyse;
use timesink::analysis::names;
use timesink::model::Event;
use timesink::model::Segment;
use timesink::model::StackId;
use timesink::model::State;
use timesink::model::Symbols;
use timesink::model::ThreadId;
use timesink::model::Timelines;
use timesink::model::Trace;
use timesink::model::Visitor;
use timesink::model::walk;

/// What a metric names.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The metric.
    pub metric: &'static str,
    /// What it names, in a few words, with the value.
    pub text: String,
    /// All that it may be known by: its label, its functions.
    pub words: String,
    /// The kind of object; empty for code and threads.
    pub kind: String,
}

/// The metrics, in the order of [`all`].
pub const METRICS: [(&str, &str); 5] = [
    (
        "off-CPU time",
        "the object that all threads together waited for longest, by its longest stack",
    ),
    ("path share", "the stack with the largest part of the critical path"),
    (
        "CMetric",
        "the stack with the most running time, each instant divided by the number of threads that \
         run or are ready (GAPP; samples, or the stack at which the thread went to sleep)",
    ),
    (
        "bottle graph",
        "the thread with the most running time, each instant divided by the number of threads that \
         run (right if what decides is called by that thread)",
    ),
    (
        "lock pressure",
        "the lock or GIL that was waited for longest, against the lifetime of all threads (Free \
         Lunch; none below 1 %)",
    ),
];

/// Less is no pressure.
const LEAST_PRESSURE: f64 = 0.01;

/// The answers of all metrics.
pub fn all(trace: &dyn Trace) -> Vec<Answer> {
    let report = analyse(trace, None);
    let mut seen = Seen::default();
    let timelines = walk(trace, &mut seen);
    let names: Vec<String> = timelines.threads().iter().map(|t| t.name.to_string()).collect();
    let wall = report.wall_ns;
    vec![
        off_cpu(&report),
        path_share(&report),
        criticality(&seen, trace.symbols(), &names, wall),
        bottle(&seen, trace.symbols(), &names, wall),
        pressure(&report),
    ]
}

/// A stretch of a thread's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stretch {
    /// The thread.
    pub thread: u32,
    /// From here, ns,
    pub start: u64,
    /// to here.
    pub end: u64,
}

/// Time of which each instant is divided by the number of stretches that cover it.
pub struct Shared {
    /// From when on; the sum until then; and what each ns adds from there.
    marks: Vec<(u64, f64, f64)>,
}

impl Shared {
    /// Of these stretches.
    pub fn of(stretches: impl Iterator<Item = Stretch>) -> Self {
        let ends = |s: Stretch| [(s.start, 1_i64), (s.end, -1)];
        let mut changes: Vec<(u64, i64)> = stretches.flat_map(ends).collect();
        changes.sort_unstable();
        let mut marks: Vec<(u64, f64, f64)> = vec![(0, 0.0, 0.0)];
        let mut active = 0;
        for (time, change) in changes {
            active += change;
            let (since, sum, slope) = marks[marks.len() - 1];
            let sum = sum + (time - since) as f64 * slope;
            let slope = if active > 0 { 1.0 / active as f64 } else { 0.0 };
            if since == time {
                marks.pop();
            }
            marks.push((time, sum, slope));
        }
        Self { marks }
    }

    /// Between two instants.
    pub fn between(&self, start: u64, end: u64) -> f64 {
        self.until(end) - self.until(start)
    }

    fn until(&self, time: u64) -> f64 {
        let after = self.marks.partition_point(|&(since, ..)| since <= time);
        let (since, sum, slope) = self.marks[after.saturating_sub(1)];
        sum + time.saturating_sub(since) as f64 * slope
    }
}

/// What is collected of a trace.
#[derive(Default)]
struct Seen {
    runs: Vec<Stretch>,
    ready: Vec<Stretch>,
    /// Stacks of samples, by thread and time.
    samples: BTreeMap<(u32, u64), StackId>,
    /// Stacks of waits, by thread and the time when it went to sleep.
    waits: BTreeMap<(u32, u64), StackId>,
}

impl Visitor for Seen {
    fn segment(&mut self, segment: &Segment) {
        let (start, end) = (segment.start.0, segment.end.0);
        let stretch = Stretch { thread: segment.thread.0, start, end };
        match segment.state {
            State::Running => self.runs.push(stretch),
            State::Runnable => self.ready.push(stretch),
            _ => {}
        }
    }

    fn event(&mut self, _: &Timelines, thread: Option<ThreadId>, event: &Event) {
        let Some(ThreadId(thread)) = thread else { return };
        match event {
            Event::Sample(sample) => {
                self.samples.extend(sample.stack.map(|stack| ((thread, sample.time.0), stack)));
            }
            Event::WaitStack(wait) => {
                self.waits.extend(wait.stack.map(|stack| ((thread, wait.off.0), stack)));
            }
            _ => {}
        }
    }
}

impl Seen {
    /// The stacks of a slice: of its samples; else the one at which it ended.
    fn stacks(&self, run: Stretch) -> Vec<StackId> {
        let (from, to) = ((run.thread, run.start), (run.thread, run.end));
        let sampled: Vec<StackId> = self.samples.range(from..to).map(|(_, &stack)| stack).collect();
        if sampled.is_empty() {
            self.waits.get(&to).copied().into_iter().collect()
        } else {
            sampled
        }
    }
}

fn criticality(seen: &Seen, symbols: &Symbols, threads: &[String], wall: u64) -> Answer {
    let active = Shared::of(seen.runs.iter().chain(&seen.ready).copied());
    let mut places: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for &run in &seen.runs {
        let stacks = seen.stacks(run);
        let value = active.between(run.start, run.end) / stacks.len().max(1) as f64;
        for stack in stacks {
            let chain = own(&names::frames(symbols, stack));
            *places.entry(chain).or_default() += value;
        }
    }
    places.remove(&Vec::new());
    match most(places) {
        Some((chain, value)) => {
            answer("CMetric", &place(&chain), chain.join(" "), value / wall as f64)
        }
        None => bottle(seen, symbols, threads, wall).renamed("CMetric"),
    }
}

fn bottle(seen: &Seen, symbols: &Symbols, threads: &[String], wall: u64) -> Answer {
    let Some((thread, height)) = most(heights(&seen.runs)) else {
        return answer("bottle graph", "nothing", String::new(), 0.0);
    };
    let name = threads.get(thread as usize).map_or("?", String::as_str);
    let of = |stacks: &BTreeMap<(u32, u64), StackId>| -> BTreeSet<StackId> {
        stacks.range((thread, 0)..=(thread, u64::MAX)).map(|(_, &stack)| stack).collect()
    };
    let mut words = vec![name.to_owned()];
    for stack in of(&seen.samples).union(&of(&seen.waits)) {
        words.extend(own(&names::frames(symbols, *stack)));
    }
    answer("bottle graph", &format!("`{name}`"), words.join(" "), height / wall as f64)
}

/// The height of each thread, ns: they sum to the time during which any ran.
pub fn heights(runs: &[Stretch]) -> BTreeMap<u32, f64> {
    let running = Shared::of(runs.iter().copied());
    let mut heights = BTreeMap::new();
    for run in runs {
        *heights.entry(run.thread).or_default() += running.between(run.start, run.end);
    }
    heights
}

fn off_cpu(report: &Report) -> Answer {
    let all = report.objects.iter().filter(|object| object.kind != "cpu");
    let longest = all.max_by_key(|object| object.wait_ns);
    of_object("off-CPU time", longest, report)
}

fn pressure(report: &Report) -> Answer {
    let locks = report.objects.iter().filter(|object| ["lock", "gil"].contains(&object.kind));
    let most = locks.max_by_key(|object| object.wait_ns);
    let most = most.filter(|object| share(object, report) >= LEAST_PRESSURE);
    of_object("lock pressure", most, report)
}

fn share(object: &Object, report: &Report) -> f64 {
    object.wait_ns as f64 / report.budget.thread_ns.max(1) as f64
}

fn of_object(metric: &'static str, object: Option<&Object>, report: &Report) -> Answer {
    let Some(object) = object else { return answer(metric, "nothing", String::new(), 0.0) };
    let stack = object.sites.first().map_or(&[][..], |site| &site.stack);
    let words = format!("{} {}", object.label, own(stack).join(" "));
    let text = object.label.replace('|', "/");
    let answer = answer(metric, &text, words, share(object, report));
    Answer { kind: object.kind.to_owned(), ..answer }
}

fn path_share(report: &Report) -> Answer {
    let mut places: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for step in &report.critical_path {
        *places.entry(own(&step.stack)).or_default() += step.ns;
    }
    places.remove(&Vec::new());
    let largest = places.into_iter().max_by_key(|&(_, ns)| ns);
    let Some((chain, ns)) = largest else {
        return answer("path share", "nothing", String::new(), 0.0);
    };
    answer("path share", &place(&chain), chain.join(" "), ns as f64 / report.wall_ns as f64)
}

fn answer(metric: &'static str, text: &str, words: String, share: f64) -> Answer {
    let value = if share > 0.0 { format!(" ({:.0} %)", share * 100.0) } else { String::new() };
    Answer { metric, text: format!("{text}{value}"), words, kind: String::new() }
}

impl Answer {
    fn renamed(self, metric: &'static str) -> Self {
        Self { metric, ..self }
    }
}

fn most<K: Ord>(all: BTreeMap<K, f64>) -> Option<(K, f64)> {
    all.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The program's own functions, innermost first.
fn own(stack: &[FrameRow]) -> Vec<String> {
    let own = stack.iter().rev().filter(|frame| names::is_own(frame));
    own.map(|frame| names::short(&frame.name)).collect()
}

/// "`nap` < `settle`".
fn place(chain: &[String]) -> String {
    const DEEPEST: usize = 3;
    let shown: Vec<String> = chain.iter().take(DEEPEST).map(|name| format!("`{name}`")).collect();
    shown.join(" < ")
}
