//! How Python's GIL is handed on: who waits for it tries for an interval at a time, and when it
//! changed hands in none of a try, its holder is made to let go, wherever it computes, and waits for
//! its next turn.
//!
//! ```text
//!  hog     ###########|#############|####
//!  ticker  |- 5 ms ---|sleep|- 5 ms-|sleep
//! ```

use super::Due;
use super::Sim;
use super::part;

impl Sim<'_> {
    /// Waits for a lock that another has.
    pub(super) fn queue_up(&mut self, thread: usize, lock: u32, part: u32) {
        let interval = self.interval(lock);
        let state = &mut self.locks[lock as usize][part as usize];
        state.waiting.push_back(thread);
        let changes = state.changes;
        self.threads[thread].asked = self.now;
        if interval > 0.0 {
            self.due(self.now + interval, Due::Try(lock, part, changes));
        }
    }

    /// Whether this is a GIL that nobody has.
    pub(super) fn is_free(&self, lock: u32) -> bool {
        let state = self.locks.get(lock as usize);
        state.is_some_and(|parts| parts.iter().all(|part| part.owner.is_none()))
    }

    fn interval(&self, lock: u32) -> f64 {
        f64::from(self.model.locks[lock as usize].interval)
    }

    /// A GIL has a new owner: the first try of another that begins from now on and is in vain.
    pub(super) fn first_try(&mut self, lock: u32, part: u32) {
        let interval = self.interval(lock);
        let state = &self.locks[lock as usize][part as usize];
        if interval <= 0.0 || state.waiting.is_empty() {
            return;
        }
        let changes = state.changes;
        let begins = |&thread: &usize| {
            let since = self.threads[thread].asked;
            since + ((self.now - since) / interval).ceil() * interval
        };
        let first = state.waiting.iter().map(begins).fold(f64::INFINITY, f64::min);
        self.due(first + interval, Due::Try(lock, part, changes));
    }

    /// Who tried in vain, while the GIL did not change hands, asks its holder to let go.
    pub(super) fn try_ends(&mut self, lock: u32, part: u32, changes: u64) {
        let state = &mut self.locks[lock as usize][part as usize];
        let Some(owner) = state.owner.filter(|_| state.changes == changes) else { return };
        if state.waiting.is_empty() {
            return;
        }
        state.wanted = true;
        if self.threads[owner].deaf {
            return;
        }
        // Elsewhere than computing: it hears of it when it goes on.
        if let Some(left) = self.stop_computing(owner) {
            self.yields(owner, lock, left);
        }
    }

    /// The GIL that a thread has and is to let go of.
    pub(super) fn wanted_of(&self, thread: usize) -> Option<u32> {
        let one = &self.threads[thread];
        let wanted = |&&(lock, part): &&(u32, u32)| {
            let state = &self.locks[lock as usize][part as usize];
            state.wanted && state.owner == Some(thread)
        };
        if one.deaf { None } else { one.parts.iter().find(wanted).map(|held| held.0) }
    }

    /// Lets go of a GIL amid an operation, and waits for its next turn.
    pub(super) fn yields(&mut self, thread: usize, gil: u32, left: f64) {
        self.release(thread, gil);
        let one = &mut self.threads[thread];
        one.left = Some(left);
        one.takes += 1;
        let shards = self.scenario.lock(gil as usize).shards.max(1);
        let part = part(thread, one.takes, shards);
        one.parts.push((gil, part));
        let state = &mut self.locks[gil as usize][part as usize];
        if state.owner.is_some() {
            self.queue_up(thread, gil, part);
        } else {
            state.owner = Some(thread);
            state.changes += 1;
            one.held *= self.scenario.lock(gil as usize).factor;
            self.ready.push(thread);
        }
    }
}
