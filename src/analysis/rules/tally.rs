//! Who waited for what, and who handed it over: sums over all stays of all threads.

use super::queue::Wait;
use crate::analysis::history::Ender;
use crate::analysis::history::Stay;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::Hash;

/// Waits looked at for the union of queueing, per object.
const MOST_QUEUED: usize = 1_000_000;

/// Sums that grow with every stay; kept by hash, as ten million stays ask for them.
pub struct Tally {
    start: Nanos,
    /// Waits of a thread and their time, by object and thread.
    pub waited: FastMap<(u32, u32), (u64, u64)>,
    /// Waits that a thread ended, by object and thread.
    pub handed: FastMap<(u32, u32), u64>,
    /// When a lock was last let go of while another thread waited for it, ns from the start.
    pub handed_last: FastMap<u32, u64>,
    /// Who came out of a wait for a lock last, when, by object.
    pub took_last: FastMap<u32, (u64, u32)>,
    /// When a thread last let go of a lock for another that waited, by object and thread.
    pub let_go: FastMap<(u32, u32), u64>,
    /// Waits for each lock.
    pub queues: FastMap<u32, Vec<Wait>>,
    /// Locks with more waits than were kept in `queues`.
    pub uncounted: BTreeSet<u32>,
}

impl Tally {
    /// Of a run that begins then.
    pub fn new(start: Nanos) -> Self {
        Self {
            start,
            waited: FastMap::default(),
            handed: FastMap::default(),
            handed_last: FastMap::default(),
            took_last: FastMap::default(),
            let_go: FastMap::default(),
            queues: FastMap::default(),
            uncounted: BTreeSet::new(),
        }
    }

    /// Takes a thread's wait for the object in row `id`.
    pub fn take(&mut self, thread: ThreadId, stay: &Stay, state: State, id: u32) {
        let waited = self.waited.entry((id, thread.0)).or_default();
        *waited = (waited.0 + 1, waited.1 + (stay.woken - stay.off).0);
        let by = match stay.ender {
            Ender::Thread(ender) if ender != thread => Some(ender.0),
            _ => None,
        };
        if let Some(by) = by {
            *self.handed.entry((id, by)).or_default() += 1;
        }
        let at = (stay.woken - self.start).0;
        if stay.released && !stay.open {
            let last = self.handed_last.entry(id).or_default();
            *last = (*last).max(at);
            if state == State::Lock {
                let took = self.took_last.entry(id).or_default();
                *took = (*took).max((at, thread.0));
            }
            if let Some(by) = by {
                let last = self.let_go.entry((id, by)).or_default();
                *last = (*last).max(at);
            }
        }
        if matches!(state, State::Lock | State::Gil) {
            let queue = self.queues.entry(id).or_default();
            if queue.len() < MOST_QUEUED {
                let on = (stay.on - self.start).0;
                queue.push(Wait { woken: at, off: (stay.off - self.start).0, on, by });
            } else {
                self.uncounted.insert(id);
            }
        }
    }
}

/// The same by order of the keys: what is read often, and in ranges.
pub fn in_order<K: Ord + Hash, V>(map: FastMap<K, V>) -> BTreeMap<K, V> {
    map.into_iter().collect()
}
