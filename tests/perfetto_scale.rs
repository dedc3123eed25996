//! Ten million intervals, streamed: time and memory of the two exports. Run it with
//! `cargo test --release --test perfetto_scale -- --ignored --nocapture`.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::io::Write;
use std::time::Instant;
use timesink::export::chrome;
use timesink::export::perfetto;
use timesink::model::*;

/// Threads that hand each other the CPU, and now and then sleep; made up anew on each pass.
struct Streamed {
    info: Info,
    summary: Summary,
    symbols: Symbols,
    intervals: u64,
}

const THREADS: u64 = 64;
const STEP: u64 = 700;

impl Streamed {
    fn new(intervals: u64) -> Self {
        let end = Nanos(1_000_000 + (intervals + THREADS) * STEP);
        let clocks = Clocks { monotonic: end, realtime: end, boottime: end };
        let summary = Summary { clocks, ..Summary::default() };
        Self { info: Info::synthetic(), summary, symbols: Symbols::default(), intervals }
    }

    /// The n-th stay off the CPU: thread n mod 64 leaves, is woken by the next one, returns
    /// when its turn comes again.
    fn interval(n: u64) -> Interval {
        let on = 1_000_000 + (n + THREADS) * STEP;
        let off = on - (THREADS - 1) * STEP;
        let woken = on - STEP / 2 - (n * 7_919 % 40) * STEP;
        let tid = |n: u64| Tid(1_000 + (n % THREADS) as u32);
        let word = 0x7f00_0000 + n % 16 * 64;
        let call = Call { number: 202, arg0: word, arg1: 0x80, ..Call::default() };
        let mut stay = Interval::blocked(tid(n), Nanos(off), Nanos(woken), Nanos(on), Some(call));
        let context = if n.is_multiple_of(5) { Context::Hardirq } else { Context::Task };
        let by = n + THREADS - 1;
        stay.waker = Some(Waker { tid: tid(by), in_tree: true, context, call: None, arg0: 0 });
        stay.taker = Some(tid(n + 1));
        stay
    }
}

impl Trace for Streamed {
    fn info(&self) -> &Info {
        &self.info
    }
    fn summary(&self) -> Option<&Summary> {
        Some(&self.summary)
    }
    fn symbols(&self) -> &Symbols {
        &self.symbols
    }
    fn damage(&self) -> &[Damage] {
        &[]
    }
    fn for_each(&self, visit: &mut dyn FnMut(&Event)) {
        self.for_each_but_intervals(visit);
        for n in 0..self.intervals {
            visit(&Event::Interval(Self::interval(n)));
        }
    }
    fn for_each_but_intervals(&self, visit: &mut dyn FnMut(&Event)) {
        for n in 0..THREADS as u32 {
            visit(&Event::Start(Start {
                time: Nanos(1_000_000 + u64::from(n) * STEP),
                tid: Tid(1_000 + n),
                pid: Pid(1_000),
                parent_tid: Tid(0),
                parent_pid: Pid(0),
                how: if n == 0 { StartKind::Root } else { StartKind::Thread },
            }));
        }
    }
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0 += data.len() as u64;
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[test]
#[ignore = "a measurement: ten million intervals, in release only"]
fn ten_million_intervals() {
    let trace = Streamed::new(10_000_000);
    let began = Instant::now();
    walk(&trace, &mut Nothing);
    println!("one walk: {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let options = perfetto::Options::default();
    let stats = perfetto::write(&trace, None, &options, &mut Counted(0)).expect("no output");
    println!(
        "perfetto: {:.2} s, {} MB resident: {stats:?}",
        began.elapsed().as_secs_f64(),
        memory_mb()
    );
    assert!(memory_mb() < 500);
    let began = Instant::now();
    let options = chrome::Options::default();
    let stats = chrome::write(&trace, None, &options, &mut Counted(0)).expect("no output");
    println!(
        "chrome: {:.2} s, {} MB resident: {stats:?}",
        began.elapsed().as_secs_f64(),
        memory_mb()
    );
    assert!(memory_mb() < 500 && stats.slices <= 300_000 && stats.bytes < 100_000_000);
}

struct Nothing;

impl Visitor for Nothing {
    fn segment(&mut self, _: &Segment) {}
}
