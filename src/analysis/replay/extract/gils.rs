//! GILs as locks of the model.

use super::Extract;
use super::Got;
use super::Role;
use crate::analysis::replay::handover;
use crate::analysis::replay::handover::Begin;
use crate::analysis::replay::handover::End;
use crate::analysis::replay::holds::Hold;
use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Lock;
use crate::model::Nanos;
use crate::model::ThreadId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

impl Extract<'_> {
    pub(super) fn hold_begins(
        &mut self,
        thread: u32,
        lock: u32,
        hold: &Hold,
        begin: Begin,
        late: u32,
    ) {
        match (hold.asked, self.plan.gots.get_mut(thread as usize)) {
            (Some(asked), Some(gots)) => {
                let again = begin == Begin::Again;
                gots.insert(asked, Got { lock, had: hold.start, again, late });
            }
            _ if begin == Begin::Again => {}
            _ => {
                let at = if let Begin::AtOnce(at) = begin { at } else { hold.start };
                self.note(thread, at, Kind::Acquire, lock);
            }
        }
    }

    /// The GIL of each interpreter: a lock of which the holds are known.
    pub(super) fn gils(&mut self) {
        for (&object, gil) in self.input.gils {
            let lock = self.model.locks.len() as u32;
            let interval = handover::interval(gil).min(u64::from(u32::MAX)) as u32;
            let barging = false;
            self.model.locks.push(Lock {
                object,
                barging,
                latency: 0,
                held: 0,
                gil: true,
                interval,
            });
            let (mut never, mut lateness) = (BTreeSet::new(), BTreeMap::new());
            for wait in &gil.waits {
                let thread = wait.thread.0 as usize;
                let (first, end) = wait.stays;
                if wait.open || self.plan.roles[thread][end - 1] == Role::Forever {
                    never.insert((wait.thread, Some(wait.asked)));
                    continue;
                }
                self.plan.roles[thread][first..end].fill(Role::Lock(lock));
                // The way to a CPU after the last try is that to its turn, and before that it was on
                // its way to the next try, so late did it ask.
                if let Some(kept) = self.plan.load.kept.get_mut(thread)
                    && let Some(tries) = kept.get(first..end)
                    && let Some((&last, vain)) = tries.split_last()
                {
                    let late = vain.iter().fold(0, |sum: u32, &one| sum.saturating_add(one));
                    lateness.insert((wait.thread, Some(wait.asked)), late);
                    kept[first] = last;
                }
            }
            let mut without: BTreeMap<u32, Vec<(Nanos, Nanos)>> = BTreeMap::new();
            let ways = handover::ways(self.input.history, gil);
            for (hold, (begin, end)) in gil.holds.iter().zip(ways) {
                let nothing = hold.asked.is_none() && hold.end <= hold.start;
                if nothing || never.contains(&(hold.thread, hold.asked)) {
                    continue;
                }
                let held = &mut self.model.locks[lock as usize].held;
                *held = held.saturating_add((hold.end - hold.start).0);
                let thread = hold.thread.0;
                let whole = Hold { asked: hold.asked, start: hold.start, end: hold.end };
                let late = lateness.get(&(hold.thread, hold.asked)).copied().unwrap_or(0);
                self.hold_begins(thread, lock, &whole, begin, late);
                if let End::Late(from) = end {
                    self.note(thread, from, Kind::Deaf, lock);
                }
                match end {
                    End::Made(until) => without.entry(thread).or_default().push((hold.end, until)),
                    _ => self.note(thread, hold.end, Kind::Release, lock),
                }
            }
            for (thread, spans) in without {
                self.queued_without(thread, &spans);
            }
        }
    }

    /// While another had the GIL that it had been made to let go of, it lost nothing by having no CPU.
    fn queued_without(&mut self, thread: u32, spans: &[(Nanos, Nanos)]) {
        let Some(kept) = self.plan.load.kept.get_mut(thread as usize) else { return };
        let stays = self.input.history.stays(ThreadId(thread), Nanos::ZERO);
        for (stay, kept) in stays.zip(kept).filter(|(stay, _)| stay.woken <= stay.off) {
            let after = spans.partition_point(|span| span.0 <= stay.off);
            let Some(&(_, until)) = after.checked_sub(1).map(|last| &spans[last]) else { continue };
            let (all, left) = (stay.on - stay.off, stay.on - until.max(stay.off));
            *kept = (f64::from(*kept) * left.share_of(all)) as u32;
        }
    }
}
