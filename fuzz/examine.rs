//! What must hold for any bytes at all, for libFuzzer and for `tests/fuzz.rs`.

use std::io;
use timesink::analysis::StackKind;
use timesink::analysis::analyse;
use timesink::export::chrome;
use timesink::export::folded;
use timesink::export::json;
use timesink::export::perfetto;
use timesink::export::text;
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

/// Events of a trace that is small enough to be explained.
const SMALL: u64 = 5_000;

/// Explains arbitrary bytes, if they are a small trace, in the formats that there are: whatever
/// its events say, nothing may panic, and threads' states still sum to their time.
pub fn explain(bytes: &[u8]) {
    let Ok(trace) = TraceFile::from_bytes(bytes.to_vec()) else { return };
    let mut count = 0_u64;
    trace.for_each(&mut |_| count += 1);
    if count > SMALL {
        return;
    }
    let report = analyse(&trace, Some(bytes.len() as u64));
    assert_eq!(report.budget.thread_ns, report.budget.states.0.total().0);
    let out = &mut io::sink();
    let layout = text::Layout { width: 80, color: false };
    let mut written = vec![text::write(&report, layout, out), json::write(&report, out)];
    for kind in [StackKind::OnCpu, StackKind::OffCpu, StackKind::Wall] {
        written.push(folded::write(&trace, kind, out));
    }
    let chrome = chrome::write(&trace, Some(&report), &chrome::Options::default(), out);
    let perfetto = perfetto::write(&trace, Some(&report), &perfetto::Options::default(), out);
    written.extend([chrome.map(drop), perfetto.map(drop)]);
    assert!(written.iter().all(Result::is_ok), "{written:?}");
}
