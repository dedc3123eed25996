//! Writes the operations of each thread, in the order of its life.

use crate::analysis::history::Life;
use crate::analysis::history::Reason;
use crate::analysis::history::Stay;
use crate::analysis::replay::extract::Got;
use crate::analysis::replay::extract::Input;
use crate::analysis::replay::extract::Note;
use crate::analysis::replay::extract::Plan;
use crate::analysis::replay::extract::Role;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::model::NONE;
use crate::analysis::replay::model::Stream;
use crate::analysis::replay::sites::Sites;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeSet;

/// Computations shorter than this are rarely hit by a sample: where they are is known only on
/// average.
const SHORT: Nanos = Nanos(2_000_000);
/// Linux lets a timer fire this much late on purpose (`PR_SET_TIMERSLACK`), however short the
/// sleep, and the interrupt takes some time too.
const TIMER_SLACK: u64 = 55_000;

/// All streams.
pub fn streams(input: &Input, plan: &Plan, model: &mut Model, sites: &mut Sites) {
    let spawned: BTreeSet<u32> = plan
        .notes
        .iter()
        .flatten()
        .filter(|note| note.kind == Kind::Spawn)
        .map(|note| note.what)
        .collect();
    for (id, life) in input.history.lives() {
        let begins = (life.start.0).saturating_sub(input.window.0.0);
        let mut writer = Writer {
            life,
            sites,
            thread: id,
            stream: Stream {
                ops: Vec::new(),
                starts_at: (!spawned.contains(&id.0)).then_some(begins),
                ended: input.ended.get(id.0 as usize).copied().unwrap_or(false),
            },
            notes: &plan.notes[id.0 as usize],
            now: life.start,
            place: NONE,
        };
        writer.write(input, plan, id);
        writer.stream.ops.shrink_to_fit();
        model.streams.push(writer.stream);
    }
}

struct Writer<'a, 's, 't> {
    life: &'a Life,
    sites: &'s mut Sites<'t>,
    thread: ThreadId,
    stream: Stream,
    /// Those to come.
    notes: &'a [Note],
    now: Nanos,
    /// Where it computed last.
    place: u32,
}

impl Writer<'_, '_, '_> {
    fn write(&mut self, input: &Input, plan: &Plan, id: ThreadId) {
        let thread = id.0 as usize;
        for (index, stay) in input.history.stays(id, Nanos::ZERO).enumerate() {
            // Part of a wait that was retried.
            if stay.off < self.now {
                continue;
            }
            self.notes_until(stay.off);
            self.run_until(stay.off);
            let kept = plan.load.kept[thread].get(index).copied().unwrap_or(0);
            let site = plan.sites[thread][index];
            let state = input.history.state(stay.object);
            self.now = stay.on;
            match plan.roles[thread][index] {
                // Others took the CPU: the more it computes, the more often they do.
                Role::Queue if matches!(stay.left, Reason::Preempted { .. }) => {
                    self.stream.push(Kind::Delay, u64::from(kept), NONE, self.place);
                }
                Role::Queue => self.stream.push(Kind::Kept, u64::from(kept), NONE, NONE),
                Role::Delay => self.delay(&stay, state, site, kept),
                Role::Forever => self.stream.push(Kind::Forever, 0, stay.object, site),
                Role::Waits(kind, what) => {
                    self.stream.push(kind, u64::from(kept), what, site);
                }
                Role::Lock(_) => match plan.gots[thread].get(&stay.off) {
                    Some(&Got { lock, had, again, late }) => {
                        let kept = u64::from(kept);
                        if again {
                            // Its turn comes when it does in the replay; the way to a CPU stays.
                            self.stream.push(Kind::Kept, kept, lock, NONE);
                        } else {
                            self.stream.push(Kind::Kept, u64::from(late), lock, NONE);
                            self.stream.push(Kind::Acquire, kept, lock, site);
                        }
                        self.now = had.max(stay.on);
                    }
                    None => self.delay(&stay, state, site, kept),
                },
            }
        }
        self.notes_until(Nanos::MAX);
        self.run_until(self.life.end);
    }

    fn delay(&mut self, stay: &Stay, state: State, site: u32, kept: u32) {
        let length = (stay.woken - stay.off).0;
        let slack = if state == State::Sleep { TIMER_SLACK.min(length / 4) } else { 0 };
        self.stream.push(Kind::Delay, length - slack, stay.object, site);
        self.stream.push(Kind::Kept, slack + u64::from(kept), NONE, NONE);
    }

    fn notes_until(&mut self, time: Nanos) {
        while let Some((note, rest)) = self.notes.split_first() {
            if note.time > time {
                break;
            }
            self.notes = rest;
            self.run_until(note.time.min(self.life.end));
            self.stream.push(note.kind, 0, note.what, NONE);
        }
    }

    fn compute(&mut self, time: Nanos, site: u32) {
        self.stream.push(Kind::Compute, time.0, NONE, site);
        self.place = site;
    }

    /// The time on a CPU up to here, by the samples taken in it.
    fn run_until(&mut self, to: Nanos) {
        let from = self.now;
        if to <= from {
            return;
        }
        self.now = to;
        let samples = self.life.samples_in(from, to);
        if to - from < SHORT || samples.is_empty() {
            let site = self.sites.short_runs(self.thread);
            for look in samples {
                let at = self.sites.of(look.stack);
                self.sites.add(site, at, u64::from(look.weight));
            }
            self.compute(to - from, site);
            return;
        }
        let mut since = from;
        for (index, look) in samples.iter().enumerate() {
            let site = self.sites.of(look.stack);
            let until = match samples.get(index + 1) {
                Some(next) if self.sites.of(next.stack) == site => continue,
                Some(next) => Nanos(u64::midpoint(look.time.0, next.time.0)),
                None => to,
            };
            self.compute(until - since, site);
            since = until;
        }
    }
}
