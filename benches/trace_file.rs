//! What the trace file costs: bytes and nanoseconds per record, to write and to read back.
//!
//! `cargo bench --bench trace_file [-- RECORDS]`. Prints, asserts nothing: times are the machine's.
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // it measures and prints

use std::time::Instant;
use timesink::model::Event;
use timesink::model::Info;
use timesink::model::Record;
use timesink::model::Summary;
use timesink::model::Trace;
use timesink::trace::TraceFile;
use timesink::trace::Writer;

#[path = "../tests/trace_file/make.rs"]
#[allow(dead_code)] // the tests use the rest of it
mod make;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count: u64 = asked.unwrap_or(1_000_000);
    println!("{count} intervals of 8 threads with call, waker, taker and number");
    println!("{:<34} {:>9} {:>12} {:>10}", "", "MB", "bytes/record", "ns/record");
    let started = Instant::now();
    let records: Vec<Record> = make::intervals(count).map(Record::Event).collect();
    row("made (not part of it)", None, count, started);

    let started = Instant::now();
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    for (at, record) in records.iter().enumerate() {
        writer.record(record).expect("memory");
        // About once a second of recorded time.
        if at % 900_000 == 899_999 {
            writer.flush().expect("memory");
        }
    }
    writer.finish(&Summary::default()).expect("memory");
    let bytes = writer.into_inner();
    let len = bytes.len();
    row("write: sort, encode, compress", Some(len), count, started);

    let started = Instant::now();
    let trace = TraceFile::from_bytes(bytes).expect("a trace");
    row("open: index, checksums", Some(len), count, started);

    let started = Instant::now();
    let mut seen = 0_u64;
    let mut last = 0;
    trace.for_each(&mut |event: &Event| {
        seen += 1;
        last = event.time().0.max(last);
    });
    row("read: decompress, decode, merge", Some(len), count, started);
    println!("{seen} events, the last at {last} ns");

    let started = Instant::now();
    trace.for_each_but_intervals(&mut |_| seen += 1);
    row("read all but intervals", None, count, started);
}

fn row(what: &str, bytes: Option<usize>, count: u64, started: Instant) {
    let ns = started.elapsed().as_nanos() as f64 / count as f64;
    let size =
        |value: f64| bytes.map_or("-".to_owned(), |bytes| format!("{:.2}", bytes as f64 * value));
    println!("{what:<34} {:>9} {:>12} {ns:>10.1}", size(1e-6), size(1.0 / count as f64));
}
