//! The queue with stand-ins for the namer: order, bounds and failure.

use super::*;
use crate::model::Definition;
use crate::model::FutexWord;
use crate::model::Nanos;
use crate::model::Sample;
use crate::model::Stack;
use crate::model::Text;
use crate::model::Tid;
use crate::model::WaitStack;
use crate::model::WordInfo;
use std::sync::mpsc::sync_channel;

fn sample(time: u64) -> Event {
    Event::Sample(Sample {
        time: Nanos(time),
        tid: Tid(1),
        cpu: 0,
        kernel: false,
        weight: Nanos(1),
        stack: None,
    })
}

fn stack_job(time: u64, bytes: usize) -> Job {
    let raw = RawStack { pid: Pid(1), bytes: vec![0; bytes], ..RawStack::default() };
    Job::Stack { raw, python: PythonFrames::None, event: sample(time) }
}

/// Gives each stack the next id, waits where told, panics where told.
#[derive(Default)]
struct Fake {
    next: u32,
    noted: u64,
    panics_at: Option<u32>,
    panics_in_names: bool,
    gate: Option<Receiver<()>>,
}

impl Backend for Fake {
    fn note(&mut self, _job: &Job) {
        self.noted += 1;
    }
    fn stack(
        &mut self,
        _raw: &RawStack,
        _python: &PythonFrames,
        define: &mut dyn FnMut(Definition),
    ) -> Option<StackId> {
        if let Some(gate) = self.gate.take() {
            let _ = gate.recv();
        }
        let id = self.next;
        self.next += 1;
        define(Definition::Stack(Stack { parent: None, frame: crate::model::FrameId(0) }));
        assert_ne!(self.panics_at, Some(id), "as the test asked");
        Some(StackId(id))
    }
    fn word(&mut self, time: Nanos, pid: Pid, word: FutexWord) -> Option<WordInfo> {
        let FutexWord { address, .. } = word;
        let symbol = Text::from("lock_a");
        (address != 0).then_some(WordInfo { symbol, ..WordInfo::new(time, pid, address) })
    }
    fn name(&mut self, limit: Option<usize>, _define: &mut dyn FnMut(Definition)) {
        assert!(!self.panics_in_names || limit.is_some(), "as the test asked");
    }
    fn outcome(&self) -> Outcome {
        let done = u64::from(self.next);
        let counts = StackCounts { taken: done, complete: done, ..StackCounts::default() };
        Outcome { counts, warnings: vec![format!("{} noted", self.noted)] }
    }
}

/// Time and stack of each event, in order of delivery; checks that definitions come first.
fn delivered(records: &[Record]) -> Vec<(u64, Option<u32>)> {
    let mut defined = 0;
    let mut events = Vec::new();
    for record in records {
        match record {
            Record::Definition(Definition::Stack(_)) => defined += 1,
            Record::Definition(_) => {}
            Record::Event(Event::Sample(e)) => {
                assert!(e.stack.is_none_or(|id| id.0 < defined), "used before its definition");
                events.push((e.time.0, e.stack.map(|id| id.0)));
            }
            Record::Event(other) => panic!("{other:?}"),
        }
    }
    events
}

#[test]
fn events_come_with_their_stacks_in_order_and_definitions_before() {
    let mut naming = Naming::start_with(|| Box::new(Fake::default())).expect("a thread");
    let mut records = Vec::new();
    for time in 0..1000 {
        naming.send(Job::Exit(Pid(1)));
        naming.send(stack_job(time, 100));
        naming.drain(&mut |r| records.push(r));
    }
    let outcome = naming.finish_with_warnings(&mut |r| records.push(r));
    let expected: Vec<_> = (0..1000).map(|t| (t, Some(t as u32))).collect();
    assert_eq!(delivered(&records), expected);
    assert_eq!((outcome.counts.taken, outcome.counts.complete), (1000, 1000));
    assert_eq!(outcome.warnings, ["1000 noted"]);
}

#[test]
fn a_full_queue_gives_up_stacks_and_nothing_else() {
    let (open, gate) = sync_channel(1);
    let start = move || Box::new(Fake { gate: Some(gate), ..Fake::default() }) as Box<dyn Backend>;
    let mut naming = Naming::start_with(start).expect("a thread");
    // Each takes a quarter of the queue; a fourth one with its event no longer fits.
    for time in 0..8 {
        naming.send(stack_job(time, MAX_QUEUED_BYTES / 4));
        naming.send(Job::Exit(Pid(1)));
    }
    let mut records = Vec::new();
    naming.drain(&mut |r| records.push(r));
    assert_eq!(delivered(&records), [(3, None), (4, None), (5, None), (6, None), (7, None)]);
    open.send(()).expect("the thread waits for it");
    let outcome = naming.finish_with_warnings(&mut |r| records.push(r));
    assert_eq!(delivered(&records)[5..], [(0, Some(0)), (1, Some(1)), (2, Some(2))]);
    assert_eq!((outcome.counts.taken, outcome.counts.failed), (8, 5));
    assert_eq!(outcome.warnings[0], "8 noted");
    assert!(outcome.warnings[1].starts_with("5 stacks were given up"));
}

#[test]
fn after_a_panic_events_still_come_without_stacks() {
    let fake = || Box::new(Fake { panics_at: Some(2), ..Fake::default() }) as Box<dyn Backend>;
    let mut naming = Naming::start_with(fake).expect("a thread");
    (0..5).for_each(|time| naming.send(stack_job(time, 10)));
    let mut records = Vec::new();
    let outcome = naming.finish_with_warnings(&mut |r| records.push(r));
    let expected = [(0, Some(0)), (1, Some(1)), (2, None), (3, None), (4, None)];
    assert_eq!(delivered(&records), expected);
    // The definition of the stack that failed was not delivered.
    assert_eq!(records.len(), 5 + 2);
    assert!(outcome.warnings.iter().any(|w| w == BROKEN));
    let counts = outcome.counts;
    assert_eq!(counts.taken, counts.complete + counts.truncated + counts.failed);
    assert_eq!(counts.failed, 3);
}

#[test]
fn a_panic_while_starting_or_naming_loses_no_event() {
    let panics: fn() -> Box<dyn Backend> = || panic!("as the test asked");
    let names: fn() -> Box<dyn Backend> =
        || Box::new(Fake { panics_in_names: true, ..Fake::default() });
    for (start, stack, failed) in [(panics, None, 1), (names, Some(0), 0)] {
        let mut naming = Naming::start_with(start).expect("a thread");
        naming.send(stack_job(7, 10));
        let mut records = Vec::new();
        let outcome = naming.finish_with_warnings(&mut |r| records.push(r));
        assert_eq!(delivered(&records), [(7, stack)]);
        assert_eq!((outcome.counts.taken, outcome.counts.failed), (1, failed));
        assert!(outcome.warnings.iter().any(|w| w == BROKEN));
    }
}

#[test]
fn a_futex_word_is_told_of_before_the_wait_that_it_was_met_in() {
    let mut naming = Naming::start_with(|| Box::new(Fake::default())).expect("starts");
    let call = |number, arg0| crate::model::Call { number, arg0, ..Default::default() };
    for (time, call) in [(1, Some(call(202, 0x40))), (2, Some(call(0, 0x40))), (3, None)] {
        let (time, off) = (Nanos(time), Nanos(0));
        let wait = WaitStack { time, tid: Tid(1), off, call, weight: Nanos(1), stack: None };
        let raw = RawStack { pid: Pid(7), ..RawStack::default() };
        naming.send(Job::Stack { raw, python: PythonFrames::None, event: Event::WaitStack(wait) });
    }
    let mut told = Vec::new();
    naming.finish(&mut |record| match record {
        Record::Event(Event::Word(word)) => told.push((word.time.0, word.pid.0, word.address)),
        Record::Event(event) => told.push((event.time().0, 0, 0)),
        Record::Definition(_) => {}
    });
    assert_eq!(told, [(1, 7, 0x40), (1, 0, 0), (2, 0, 0), (3, 0, 0)]);
}
