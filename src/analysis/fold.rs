//! One walk over a trace that fills a report.

use crate::analysis::functions::Functions;
use crate::analysis::history::History;
use crate::analysis::objects::Key;
use crate::analysis::objects::Objects;
use crate::analysis::objects::What;
use crate::analysis::report::Detail;
use crate::analysis::report::Quality;
use crate::analysis::retries::Retries;
use crate::model::Event;
use crate::model::FastMap;
use crate::model::FastSet;
use crate::model::Left;
use crate::model::LostKind;
use crate::model::Nanos;
use crate::model::Segment;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use crate::model::Visitor;
use crate::model::WaitStack;

/// Sums by object, function and detail.
#[derive(Default)]
pub struct Fold {
    /// What was waited for.
    pub objects: Objects,
    /// Where CPU time went.
    pub functions: Functions,
    /// How threads became runnable.
    pub queued: Queued,
    /// Every thread's life, for what looks back.
    pub history: History,
    /// Intervals seen.
    pub intervals: u64,
    /// Records lost, by [`LostKind`].
    pub lost: [u64; 6],
    /// Time in `other`, by system call number.
    pub other: FastMap<u16, Nanos>,
    /// Waits that are parts of others.
    pub retries: Retries,
    gaps: u64,
    threads: Vec<Recent>,
    live: FastSet<Tid>,
}

/// How runnable time began, ns.
#[derive(Clone, Copy, Default)]
pub struct Queued {
    /// After a wake-up.
    pub woken: Nanos,
    /// Preempted by a thread of this tree.
    pub by_own: Nanos,
    /// Preempted by another process.
    pub by_others: Nanos,
    /// Preempted by something not seen.
    pub by_unseen: Nanos,
    /// After `sched_yield`.
    pub yielded: Nanos,
    /// Before its first run.
    pub new: Nanos,
}

/// The objects of a thread's last waits, for stacks that come a little later.
#[derive(Clone, Copy, Default)]
struct Recent {
    waits: [Option<(Nanos, Key)>; 4],
    next: usize,
}

impl Fold {
    /// Records that never arrived. Lost intervals are told twice, by CPU and by thread:
    /// the larger count is believed.
    pub fn lost_records(&self) -> u64 {
        let mut lost = self.lost;
        lost[LostKind::Intervals as usize] = self.lost_intervals();
        lost.into_iter().fold(0, u64::saturating_add)
    }

    /// Intervals that never arrived.
    pub fn lost_intervals(&self) -> u64 {
        self.lost[LostKind::Intervals as usize].max(self.gaps)
    }

    fn count_wait(&mut self, segment: &Segment) {
        let key = Key::of(segment.state, segment.process, segment.call);
        // What it waited in before says nothing about why no CPU was free.
        let site = segment.site.filter(|_| segment.state != State::Runnable);
        let object = self.objects.add(key, segment.thread, segment.duration(), site);
        if let What::Word(process, address) = key.what {
            self.objects.names.waited(process, address, segment.start);
        }
        self.history.segment(segment, Some((object, key.state)));
        self.retries.wait(segment);
        if let Some(call) = &segment.call {
            self.objects.ends.waited(segment.process, call);
        }
        let index = segment.thread.0 as usize;
        if index >= self.threads.len() {
            self.threads.resize(index + 1, Recent::default());
        }
        // A wait that was looked at has its stack; another one would count it twice.
        let waited = segment.state != State::Runnable && site.is_none();
        if let Some(interval) = segment.interval.filter(|_| waited) {
            let recent = &mut self.threads[index];
            recent.waits[recent.next] = Some((interval.off, key));
            recent.next = (recent.next + 1) % recent.waits.len();
        }
    }

    fn count_queue(&mut self, segment: &Segment) {
        let time = segment.duration();
        let Some(interval) = segment.interval else { return };
        let queued = &mut self.queued;
        *match interval.left {
            Left::New => &mut queued.new,
            Left::Yielded => &mut queued.yielded,
            Left::Preempted => match interval.taker {
                Some(taker) if self.live.contains(&taker) => &mut queued.by_own,
                Some(_) => &mut queued.by_others,
                None => &mut queued.by_unseen,
            },
            Left::Blocked { .. } | Left::Stopped | Left::Unknown => &mut queued.woken,
        } += time;
    }

    fn on_stack(&mut self, thread: ThreadId, wait: &WaitStack) {
        let Some(stack) = wait.stack else { return };
        let recent = self.threads.get(thread.0 as usize).copied().unwrap_or_default();
        let found = recent.waits.iter().flatten().find(|(off, _)| *off == wait.off);
        if let Some(&(_, key)) = found {
            self.objects.add_stack(key, stack, wait.weight);
        }
    }

    /// The finer cuts of the budget.
    /// Samples say how the running time divides, `running` how much there is of it.
    pub fn details(&self, running: Nanos) -> Vec<Detail> {
        let exact = |name: &str, time: Nanos| Detail {
            name: name.to_owned(),
            ns: time.0,
            quality: Quality::Exact,
        };
        let queued = &self.queued;
        let share = self.functions.in_kernel.share_of(self.functions.sampled);
        let in_kernel = Nanos((running.0 as f64 * share) as u64);
        let seen = !self.functions.sampled.is_zero();
        let in_user = if seen { running - in_kernel } else { Nanos::ZERO };
        let sampled = |name: &str, time: Nanos| Detail {
            name: name.to_owned(),
            ns: time.0,
            quality: Quality::Sampled,
        };
        [
            exact("runnable: from wake-up to a CPU", queued.woken),
            exact("runnable: preempted by this program", queued.by_own),
            exact("runnable: preempted by other processes", queued.by_others),
            exact("runnable: preempted, by whom was not seen", queued.by_unseen),
            exact("runnable: after sched_yield", queued.yielded),
            exact("runnable: from fork to the first run", queued.new),
            sampled("running: in the kernel", in_kernel),
            sampled("running: in user space", in_user),
        ]
        .into_iter()
        .filter(|detail| detail.ns > 0)
        .collect()
    }
}

impl Visitor for Fold {
    fn segment(&mut self, segment: &Segment) {
        match segment.state {
            State::Running => return self.history.segment(segment, None),
            State::Runnable => self.count_queue(segment),
            State::Other => {
                if let Some(call) = segment.call {
                    *self.other.entry(call.number).or_default() += segment.duration();
                }
            }
            _ => {}
        }
        self.count_wait(segment);
    }

    fn event(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        self.history.event(thread, event);
        self.objects.names.take(timelines, thread, event);
        match event {
            Event::Interval(interval) => {
                self.intervals += 1;
                self.objects.woken(timelines, interval);
            }
            Event::Exit(exit) => {
                self.live.remove(&exit.tid);
            }
            Event::Sample(sample) => self.functions.add(sample),
            Event::WaitStack(wait) => {
                if let Some(thread) = thread {
                    self.on_stack(thread, wait);
                }
            }
            Event::Object(info) => self.objects.describe(info),
            Event::Piped(piped) => self.objects.piped(piped),
            Event::Word(info) => self.objects.describe_word(timelines, info),
            Event::Lost(lost) => {
                let sum = &mut self.lost[lost.what as usize];
                *sum = sum.saturating_add(lost.count);
            }
            Event::Gap(gap) => self.gaps = self.gaps.saturating_add(gap.count),
            Event::Start(start) => {
                self.live.insert(start.tid);
            }
            _ => {}
        }
    }
}
