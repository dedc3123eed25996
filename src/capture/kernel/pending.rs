//! What has been read but must wait: naming jobs for their turn, stacks of page faults for
//! the length of their wait.

use crate::capture::naming::Job;
use crate::capture::naming::Naming;
use crate::capture::python::PythonFrames;
use crate::model::Event;
use crate::model::Interval;
use crate::model::Left;
use crate::model::Nanos;
use crate::model::Record;
use crate::model::Tid;
use crate::model::WaitStack;
use crate::symbols::RawStack;
use std::collections::BTreeMap;

/// A lifecycle event is stamped shortly before it is in its ring; so much later than the
/// last look at that ring, none is missing.
const IN_FLIGHT_NS: u64 = 100_000;

/// Naming jobs of two rings, brought into one order: a stack must meet the mappings of its
/// time, not those of the program that was executed a moment later.
#[derive(Default)]
pub struct Jobs(Vec<(u64, Job)>);

impl Jobs {
    /// Adds a job of time `time`.
    pub fn push(&mut self, time: u64, job: Job) {
        self.0.push((time, job));
    }

    /// Hands over, in order, all that lies safely before `looked`, when the lifecycle ring was
    /// last looked at.
    pub fn send_until(&mut self, looked: u64, naming: &mut Naming) {
        self.0.sort_by_key(|job| job.0);
        let ready = self.0.partition_point(|job| job.0.saturating_add(IN_FLIGHT_NS) <= looked);
        for (_, job) in self.0.drain(..ready) {
            naming.send(job);
        }
    }
}

/// Stacks of waits outside any call. They are taken when the wait begins and weighed when its
/// interval arrives; waits between two stacks, too short to have their own, are added to the
/// later one, so that the weights still sum to the time.
#[derive(Default)]
pub struct Faults {
    wanted: bool,
    begun: Vec<(Tid, Nanos, RawStack)>,
    /// Thread, begin, end, time blocked.
    finished: Vec<(Tid, Nanos, Nanos, Nanos)>,
    ended: Vec<(Tid, Nanos)>,
    carried: BTreeMap<Tid, Carried>,
}

#[derive(Default)]
struct Carried {
    weight: Nanos,
    /// When the last of the waits began.
    off: Nanos,
}

impl Faults {
    /// `wanted`: whether stacks of waits are recorded at all.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// A wait began, with this stack.
    pub fn began(&mut self, tid: Tid, off: Nanos, raw: RawStack) {
        self.begun.push((tid, off, raw));
    }

    /// An interval arrived; those of other kinds are passed over.
    pub fn finished(&mut self, interval: &Interval) {
        if !self.wanted || interval.call.is_some() || !matches!(interval.left, Left::Blocked { .. })
        {
            return;
        }
        let blocked = interval.woken.unwrap_or(interval.on) - interval.off;
        self.finished.push((interval.tid, interval.off, interval.on, blocked));
    }

    /// A thread ended: what it still carries has no place.
    pub fn ended(&mut self, tid: Tid, time: Nanos) {
        self.ended.push((tid, time));
    }

    /// Weighs what can be weighed. Rings must have been drained in the order lifecycle,
    /// intervals, stacks: then the waits of an ended thread are in, and the stack of a wait too.
    pub fn settle(&mut self, jobs: &mut Jobs, sink: &mut dyn FnMut(Record)) {
        for (tid, off, on, blocked) in std::mem::take(&mut self.finished) {
            let carried = self.carried.entry(tid).or_default();
            carried.weight += blocked;
            carried.off = off;
            let Some(at) = self.begun.iter().position(|b| b.0 == tid && b.1 == off) else {
                continue;
            };
            let (_, time, raw) = self.begun.swap_remove(at);
            // Told at the end of its wait, after the interval that it is the stack of.
            let event = wait_stack(tid, on, off, std::mem::take(&mut carried.weight));
            jobs.push(time.0, Job::Stack { raw, python: PythonFrames::None, event });
        }
        for (tid, time) in std::mem::take(&mut self.ended) {
            self.begun.retain(|begun| begun.0 != tid);
            if let Some(carried) = self.carried.remove(&tid).filter(|c| !c.weight.is_zero()) {
                sink(Record::Event(wait_stack(tid, time, carried.off, carried.weight)));
            }
        }
    }
}

fn wait_stack(tid: Tid, time: Nanos, off: Nanos, weight: Nanos) -> Event {
    Event::WaitStack(WaitStack { time, tid, off, call: None, weight, stack: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_fault_weights_sum_to_the_time_blocked() {
        let mut faults = Faults::new(true);
        let mut jobs = Jobs::default();
        let tid = Tid(1);
        let wait =
            |off: u64, on: u64| Interval::blocked(tid, Nanos(off), Nanos(on), Nanos(on), None);
        faults.finished(&wait(10, 13)); // too soon after another for a stack of its own
        faults.began(tid, Nanos(20), RawStack::default());
        faults.finished(&wait(20, 27));
        faults.finished(&wait(30, 35));
        faults.ended(tid, Nanos(99));
        let mut rest = Vec::new();
        faults.settle(&mut jobs, &mut |record| rest.push(record));
        let [(20, Job::Stack { event: Event::WaitStack(stack), .. })] = jobs.0.as_slice() else {
            panic!("one stack: {:?}", jobs.0);
        };
        assert_eq!((stack.weight, stack.off, stack.time), (Nanos(10), Nanos(20), Nanos(27)));
        let [Record::Event(Event::WaitStack(left))] = rest.as_slice() else {
            panic!("one rest: {rest:?}");
        };
        assert_eq!((left.weight, left.stack), (Nanos(5), None));
    }
}
