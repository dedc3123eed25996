//! Tests of [`super`]: totals are the timelines', stacks only share them out.

use super::*;
use crate::model::Books;
use crate::model::Exec;
use crate::model::Exit;
use crate::model::ExitKind;
use crate::model::MemoryTrace;
use crate::model::Observation;
use crate::model::Pid;
use crate::model::Sample;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use crate::model::WaitStack;
use proptest::prelude::*;

const FUTEX: u16 = 202;

#[allow(clippy::unnecessary_wraps)] // as events have it
fn futex(word: u64) -> Option<Call> {
    Some(Call { number: FUTEX, arg0: word, arg1: 0x80, arg2: 2, ..Call::default() })
}

fn root(tid: u32) -> Vec<Event> {
    let (time, pid) = (Nanos(0), Pid(tid));
    let how = StartKind::Root;
    vec![
        Event::Start(Start {
            time,
            tid: Tid(tid),
            pid,
            parent_tid: Tid(0),
            parent_pid: Pid(0),
            how,
        }),
        Event::Exec(Exec {
            time,
            pid,
            old_tid: Tid(tid),
            path: Text::from("/bin/app"),
            argv: vec![],
        }),
    ]
}

fn exit(tid: u32, time: u64) -> Event {
    let how = ExitKind::Process { status: Some(0) };
    Event::Exit(Exit {
        time: Nanos(time),
        tid: Tid(tid),
        pid: Pid(tid),
        how,
        books: Books::default(),
    })
}

fn blocked(off: u64, woken: u64, on: u64, call: Option<Call>) -> Event {
    Event::Interval(Interval::blocked(Tid(1), Nanos(off), Nanos(woken), Nanos(on), call))
}

fn wait_stack(time: u64, off: u64, call: Option<Call>, weight: u64, stack: Option<u32>) -> Event {
    Event::WaitStack(WaitStack {
        time: Nanos(time),
        tid: Tid(1),
        off: Nanos(off),
        call,
        weight: Nanos(weight),
        stack: stack.map(StackId),
    })
}

fn sample(time: u64, weight: u64, stack: Option<u32>) -> Event {
    Event::Sample(Sample {
        time: Nanos(time),
        tid: Tid(1),
        cpu: 0,
        kernel: false,
        weight: Nanos(weight),
        stack: stack.map(StackId),
    })
}

fn row(state: State, stack: Option<u32>, time: u64) -> StackTime {
    StackTime { thread: ThreadId(0), state, stack: stack.map(StackId), time: Nanos(time) }
}

#[test]
fn parts_sum_to_the_whole_and_follow_the_weights() {
    let parts = |total, weights: &[u64]| -> Vec<u64> {
        let weights: Vec<Nanos> = weights.iter().map(|&w| Nanos(w)).collect();
        distribute(Nanos(total), &weights).into_iter().map(|part| part.0).collect()
    };
    assert_eq!(parts(10, &[1, 1, 1]), [4, 3, 3]);
    assert_eq!(parts(10, &[0, 0]), [5, 5], "only zero weights: equal shares");
    assert_eq!(parts(10, &[0, 7]), [0, 10]);
    assert_eq!(parts(u64::MAX, &[u64::MAX, u64::MAX]).iter().copied().max(), Some(1 << 63));
    assert_eq!(parts(10, &[]), [0u64; 0]);
}

#[test]
fn weights_share_out_the_exact_time_of_their_call_and_object() {
    //  0 run 100 lock(A) 400 ready 410 run 500 lock(B) 530 run 600
    let mut events = root(1);
    events.extend([
        blocked(100, 400, 410, futex(0xa0)),
        wait_stack(411, 100, futex(0xa0), 1000, Some(7)),
        wait_stack(412, 100, futex(0xa0), 2000, Some(8)),
        blocked(500, 530, 530, futex(0xb0)),
        exit(1, 600),
    ]);
    let (fold, timelines) = stacks_of(&MemoryTrace::new(events));
    let rows = fold.rows(StackKind::OffCpu);
    assert_eq!(
        rows,
        [
            row(State::Runnable, Some(7), 3),
            row(State::Runnable, Some(8), 7),
            row(State::Lock, None, 30),
            row(State::Lock, Some(7), 100),
            row(State::Lock, Some(8), 200),
        ]
    );
    assert_eq!(timelines.threads()[0].states[State::Lock], Nanos(330));
}

#[test]
fn a_wait_seen_from_outside_keeps_its_own_stack() {
    let mut events = root(1);
    events.extend([
        Event::Observation(Observation {
            time: Nanos(200),
            tid: Tid(1),
            call: Some(futex(0xa0)),
            uninterruptible: false,
            stack: Some(StackId(3)),
        }),
        blocked(100, 400, 410, futex(0xa0)),
        wait_stack(411, 100, futex(0xa0), 300, Some(9)),
        blocked(500, 520, 520, futex(0xa0)),
        wait_stack(521, 500, futex(0xa0), 20, Some(4)),
        exit(1, 600),
    ]);
    let (fold, _) = stacks_of(&MemoryTrace::new(events));
    assert_eq!(
        fold.rows(StackKind::OffCpu),
        [
            row(State::Runnable, Some(3), 10),
            row(State::Lock, Some(3), 300),
            row(State::Lock, Some(4), 20),
        ],
        "the stack taken at the end of an observed wait is not counted again"
    );
}

#[test]
fn a_reason_not_seen_takes_no_stack_of_a_page_fault() {
    let mut unseen = Interval::blocked(Tid(1), Nanos(100), Nanos(200), Nanos(200), None);
    unseen.marks.reason_seen = false;
    let mut fault = Interval::blocked(Tid(1), Nanos(300), Nanos(400), Nanos(400), None);
    fault.left = Left::Blocked { uninterruptible: true };
    let mut events = root(1);
    events.extend([
        Event::Interval(unseen),
        wait_stack(299, 300, None, 100, Some(5)),
        Event::Interval(fault),
        exit(1, 500),
    ]);
    let (fold, _) = stacks_of(&MemoryTrace::new(events));
    assert_eq!(
        fold.rows(StackKind::OffCpu),
        [row(State::PageFault, Some(5), 100), row(State::Unknown, None, 100)]
    );
}

#[test]
fn running_time_is_shared_by_samples_and_wall_is_the_lifetime() {
    let mut events = root(1);
    events.extend([
        sample(10, 1_003_009, Some(0)),
        sample(20, 1_003_009, None),
        blocked(100, 400, 410, futex(0xa0)),
        exit(1, 501),
    ]);
    let (fold, _) = stacks_of(&MemoryTrace::new(events));
    assert_eq!(fold.samples(), 2);
    let on = fold.rows(StackKind::OnCpu);
    assert_eq!(on, [row(State::Running, None, 1_003_009), row(State::Running, Some(0), 1_003_009)]);
    let wall = fold.rows(StackKind::Wall);
    assert_eq!(wall[..2], [row(State::Running, None, 96), row(State::Running, Some(0), 95)]);
    assert_eq!(wall.iter().map(|row| row.time).sum::<Nanos>(), Nanos(501));
}

#[test]
fn objects_beyond_the_limit_share_a_row_and_still_add_up() {
    let mut events = root(1);
    let mut now = 0;
    for object in 0..(OBJECTS as u64 + 50) {
        events.push(blocked(now + 1, now + 5, now + 5, futex(0x1000 + 8 * object)));
        events.push(wait_stack(now + 5, now + 1, futex(0x1000 + 8 * object), 1, Some(1)));
        now += 5;
    }
    events.push(exit(1, now + 1));
    let (fold, timelines) = stacks_of(&MemoryTrace::new(events));
    assert!(fold.threads[0].calls.len() <= OBJECTS + 1);
    let off: Nanos = fold.rows(StackKind::OffCpu).iter().map(|row| row.time).sum();
    let thread = &timelines.threads()[0];
    assert_eq!(off + thread.states[State::Running], thread.lifetime());
}

proptest! {
    /// Whatever the schedule and the stacks: every (thread, state) to the nanosecond.
    #[test]
    fn rows_sum_to_the_timelines(
        waits in prop::collection::vec(
            (0u64..50, 0u64..1000, 0u64..50, 0u64..4, prop::option::of(0u64..3000),
             prop::option::of(0u32..5)),
            0..60,
        ),
        samples in prop::collection::vec((0u64..20_000, prop::option::of(0u32..3)), 0..10),
    ) {
        let mut events = root(1);
        let mut now = 0;
        for (run, wait, ready, word, weight, stack) in waits {
            let (off, woken) = (now + run, now + run + wait);
            let on = woken + ready;
            let call = (word != 0).then(|| futex(word)).flatten();
            events.push(blocked(off, woken, on, call));
            if let Some(weight) = weight {
                events.push(wait_stack(on, off, call, weight, stack));
            }
            now = on;
        }
        events.extend(samples.into_iter().map(|(at, stack)| sample(at.min(now), 1_000_000, stack)));
        events.push(exit(1, now + 1));
        let (fold, timelines) = stacks_of(&MemoryTrace::new(events));
        let thread = &timelines.threads()[0];
        let sums = |kind| {
            let mut states = States::default();
            for row in fold.rows(kind) {
                states[row.state] += row.time;
            }
            states
        };
        let mut off_cpu = thread.states;
        off_cpu[State::Running] = Nanos::ZERO;
        prop_assert_eq!(sums(StackKind::OffCpu), off_cpu);
        prop_assert_eq!(sums(StackKind::Wall), thread.states);
        prop_assert_eq!(sums(StackKind::Wall).total(), thread.lifetime());
    }
}
