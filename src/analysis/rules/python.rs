//! What the stacks of a thread tell of its part in a Python program.

use crate::analysis::names;
use crate::analysis::report::FrameRow;

/// Parts that a thread was seen to play.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// It runs an event loop: asyncio's, or one that does its work.
    pub asyncio: bool,
    /// The program's own function polls with a selector.
    pub selector: bool,
    /// A worker of a `ThreadPoolExecutor` or a `ThreadPool`.
    pub thread_pool: bool,
    /// It keeps a pool of processes going, or hands it work.
    pub process_pool: bool,
    /// Any function of Python.
    pub any: bool,
}

impl Roles {
    /// What one stack shows, outermost function first.
    pub fn of(stack: &[FrameRow]) -> Self {
        let mut roles = Self::default();
        let mut own = false;
        for frame in stack {
            if !names::is_python(frame) {
                roles.asyncio |= frame.module.as_deref().is_some_and(|m| m.contains("/uvloop/"));
                continue;
            }
            roles.any = true;
            let file = frame.file.as_deref().unwrap_or_default();
            let bare = frame.name.rsplit('.').next().unwrap_or_default();
            roles.asyncio |= bare == "_run_once" && file.contains("/asyncio/");
            roles.selector |= own && file.ends_with("/selectors.py");
            roles.thread_pool |=
                bare == "_worker" && file.ends_with("/concurrent/futures/thread.py");
            roles.process_pool |= file.ends_with("/concurrent/futures/process.py")
                && bare != "_process_worker"
                || bare.starts_with("_handle_") && file.ends_with("/multiprocessing/pool.py");
            own = names::is_own(frame);
        }
        roles
    }

    /// What another stack of the same thread shows.
    pub fn add(&mut self, other: Self) {
        self.asyncio |= other.asyncio;
        self.selector |= other.selector;
        self.thread_pool |= other.thread_pool;
        self.process_pool |= other.process_pool;
        self.any |= other.any;
    }
}
