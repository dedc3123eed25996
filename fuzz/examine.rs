//! What must hold for any bytes at all, for libFuzzer and for `tests/fuzz.rs`.

use timesink::model::Event;
use timesink::model::StackId;
use timesink::model::Trace;
use timesink::trace::TraceFile;

/// Opens arbitrary bytes as a trace and walks all there is: nothing may panic. Gives the number
/// of events and of complaints, or `None` if it is no trace.
pub fn examine(bytes: &[u8]) -> Option<(u64, usize)> {
    let trace = TraceFile::from_bytes(bytes.to_vec()).ok()?;
    let mut last = timesink::model::Nanos::ZERO;
    let mut count = 0_u64;
    trace.for_each(&mut |event| {
        assert!(last <= event.time(), "events come in order");
        last = event.time();
        count += 1;
    });
    let mut again = 0_u64;
    trace.for_each(&mut |_| again += 1);
    assert_eq!(count, again, "the same every time");
    trace.for_each_but_intervals(&mut |event| {
        assert!(!matches!(event, Event::Interval(_) | Event::Gap(_)));
    });
    for stack in 0..trace.symbols().stacks.len().min(1000) {
        trace.symbols().functions(StackId(stack as u32));
    }
    for damage in trace.damage() {
        let _ = damage.to_string();
    }
    Some((count, trace.damage().len()))
}
