//! Who waited for what, and who handed it over: sums over all stays of all threads.

use super::queue::Wait;
use crate::analysis::history::Ender;
use crate::analysis::history::Stay;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::State;
use crate::model::ThreadId;
use std::collections::BTreeMap;
use std::hash::Hash;

/// Waits looked at for the union of queueing, per object.
const MOST_QUEUED: usize = 1_000_000;

/// Sums that grow with every stay; looked up as seldom as can be, as ten million stays ask for them.
pub struct Tally {
    start: Nanos,
    /// Waits of a thread and their time, by object and thread.
    pub waited: FastMap<(u32, u32), (u64, u64)>,
    /// What a thread did for those who waited, by object and thread.
    pub helped: FastMap<(u32, u32), Helped>,
    /// By object; a report has some thousand.
    pub objects: Vec<OfObject>,
}

/// What a thread did for others that waited for an object.
#[derive(Clone, Copy, Default)]
pub struct Helped {
    /// Waits that it ended.
    pub waits: u64,
    /// When it last let go of a lock for another that waited, ns from the start.
    pub let_go: Option<u64>,
}

/// What is known of an object.
#[derive(Clone, Default)]
pub struct OfObject {
    /// When a lock was last let go of while another thread waited for it, ns from the start.
    pub handed_last: Option<u64>,
    /// Who came out of a wait for a lock last, when.
    pub took_last: Option<(u64, u32)>,
    /// Waits for a lock.
    pub queue: Vec<Wait>,
    /// There were more of them than `queue` has.
    pub uncounted: bool,
}

impl Tally {
    /// Of a run that begins then.
    pub fn new(start: Nanos) -> Self {
        let (waited, helped) = (FastMap::default(), FastMap::default());
        Self { start, waited, helped, objects: Vec::new() }
    }

    /// Takes a thread's wait for the object in row `id`.
    pub fn take(&mut self, thread: ThreadId, stay: &Stay, state: State, id: u32) {
        let waited = self.waited.entry((id, thread.0)).or_default();
        *waited = (waited.0 + 1, waited.1 + (stay.woken - stay.off).0);
        let by = match stay.ender {
            Ender::Thread(ender) if ender != thread => Some(ender.0),
            _ => None,
        };
        let at = (stay.woken - self.start).0;
        let handed = stay.released && !stay.open;
        if let Some(by) = by {
            let helped = self.helped.entry((id, by)).or_default();
            helped.waits += 1;
            helped.let_go = helped.let_go.max(handed.then_some(at));
        }
        let index = id as usize;
        if index >= self.objects.len() {
            self.objects.resize(index + 1, OfObject::default());
        }
        let object = &mut self.objects[index];
        if handed {
            object.handed_last = object.handed_last.max(Some(at));
            if state == State::Lock {
                object.took_last = object.took_last.max(Some((at, thread.0)));
            }
        }
        if matches!(state, State::Lock | State::Gil) {
            if object.queue.len() < MOST_QUEUED {
                let on = (stay.on - self.start).0;
                object.queue.push(Wait { woken: at, off: (stay.off - self.start).0, on, by });
            } else {
                object.uncounted = true;
            }
        }
    }
}

/// The same by order of the keys: what is read often, and in ranges.
pub fn in_order<K: Ord + Hash, V>(map: FastMap<K, V>) -> BTreeMap<K, V> {
    map.into_iter().collect()
}
