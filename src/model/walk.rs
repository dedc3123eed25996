//! One pass over a trace: every segment and every event, with the thread it is about.

use super::Event;
use super::FastMap;
use super::Nanos;
use super::Segment;
use super::StackId;
use super::State;
use super::Symbols;
use super::ThreadId;
use super::Timelines;
use super::Trace;
use super::Words;
use super::state_of_stack;

/// Receives what [`walk`] finds.
pub trait Visitor {
    /// A stretch of a thread's life. Those of one thread come in order, without holes.
    fn segment(&mut self, segment: &Segment);

    /// An event, after the timelines took it; `thread` is the one it is about.
    fn event(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        let _ = (timelines, thread, event);
    }
}

/// Two visitors in one walk.
pub struct Both<'v, A, B>(pub &'v mut A, pub &'v mut B);

impl<A: Visitor, B: Visitor> Visitor for Both<'_, A, B> {
    fn segment(&mut self, segment: &Segment) {
        self.0.segment(segment);
        self.1.segment(segment);
    }
    fn event(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        self.0.event(timelines, thread, event);
        self.1.event(timelines, thread, event);
    }
}

/// Builds the timelines of a whole trace and shows them to `visitor`.
///
/// Two passes: the first learns from stacks what futex words are, so that the second can
/// tell a mutex from a condition variable from its first wait on.
pub fn walk(trace: &dyn Trace, visitor: &mut dyn Visitor) -> Timelines {
    walk_knowing(trace, learn_words(trace), visitor)
}

/// The second pass of [`walk`] alone, for those who walk a trace more than once.
pub fn walk_knowing<V: Visitor + ?Sized>(
    trace: &dyn Trace,
    words: Words,
    visitor: &mut V,
) -> Timelines {
    let mut timelines = Timelines::new(words);
    trace.for_each(&mut |event| {
        let thread = timelines.feed(event, &mut |segment| visitor.segment(segment));
        visitor.event(&timelines, thread, event);
    });
    let complete = trace.summary().is_some();
    timelines.finish(trace.recorded_until(), complete, &mut |segment| visitor.segment(segment));
    timelines
}

/// The first pass of [`walk`]: what the stacks of a trace say about its futex words.
pub fn learn_words(trace: &dyn Trace) -> Words {
    let mut timelines = Timelines::default();
    let mut words = Words::default();
    let mut stacks = StackStates { symbols: trace.symbols(), known: FastMap::default() };
    trace.for_each_but_intervals(&mut |event| {
        let thread = timelines.feed(event, &mut |_| {});
        let (call, stack, weight) = match event {
            Event::Word(word) if word.gil.is_some() => {
                if let Some(process) = timelines.live_process(word.pid) {
                    words.know(process, word.address, State::Gil);
                }
                return;
            }
            Event::WaitStack(wait) => (wait.call, wait.stack, wait.weight),
            Event::Observation(seen) => (seen.call.flatten(), seen.stack, Nanos::from_millis(1)),
            _ => return,
        };
        if let (Some(thread), Some(call), Some(stack)) = (thread, call, stack)
            && let Some(word) = call.futex_word()
            && let Some(state) = stacks.state(stack, call.object() != call.arg0)
        {
            words.vote(timelines.process_of(thread), word.address, state, weight);
        }
    });
    words
}

/// Remembers what each stack says, since a million waits share a few stacks.
struct StackStates<'a> {
    symbols: &'a Symbols,
    known: FastMap<StackId, Option<State>>,
}

impl StackStates<'_> {
    fn state(&mut self, stack: StackId, parked: bool) -> Option<State> {
        let symbols = self.symbols;
        *self.known.entry(stack).or_insert_with(|| {
            let functions = symbols.functions(stack);
            let user = functions.iter().rev().filter(|function| !function.is_kernel());
            state_of_stack(
                user.filter_map(|f| f.line)
                    .map(|line| (line.function.as_str(), line.file.as_deref())),
                parked,
            )
        })
    }
}
