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
    /// It takes jobs from the queue of a pool of the library, as a thread or as a process.
    pub worker: bool,
    /// It waits for the results of `Executor.map`, which hands all jobs in before.
    pub maps: bool,
    /// It keeps a pool of processes going, or hands it work.
    pub process_pool: bool,
    /// It deals with other processes of the program by Python's library.
    pub processes: bool,
    /// It packs or unpacks objects (`pickle`).
    pub pickles: bool,
    /// Any function of Python.
    pub any: bool,
}

/// Whether a thread that receives objects is in C code, and not in a system call: then it unpacks
/// them, whatever that code is called in a stripped interpreter.
fn unpacks(stack: &[FrameRow]) -> bool {
    const RECEIVES: [(&str, &str); 3] = [
        ("SimpleQueue.get", "/multiprocessing/queues.py"),
        ("Queue.get", "/multiprocessing/queues.py"),
        ("_ConnectionBase.recv", "/multiprocessing/connection.py"),
    ];
    let Some(innermost) = stack.iter().rposition(names::is_python) else { return false };
    let file = stack[innermost].file.as_deref().unwrap_or_default();
    // Below 3.11 without the class.
    let receives = |(name, path): &(&str, &str)| {
        let bare = name.rsplit('.').next();
        let frame = stack[innermost].name.as_str();
        file.ends_with(path) && (frame == *name || Some(frame) == bare)
    };
    let called = &stack[innermost + 1..];
    let calls_kernel =
        called.iter().any(|frame| frame.name.to_ascii_lowercase().contains("syscall"));
    RECEIVES.iter().any(receives) && !called.is_empty() && !calls_kernel
}

impl Roles {
    /// What one stack shows, outermost function first.
    pub fn of(stack: &[FrameRow]) -> Self {
        let mut roles = Self::default();
        let (mut own, mut sharing) = (false, false);
        // Whether what packs or unpacks was called by what shares work among processes: a program may
        // keep files that way too.
        let mut packs: Option<bool> = None;
        for frame in stack {
            if !names::is_python(frame) {
                let module = frame.module.as_deref().unwrap_or_default();
                roles.asyncio |= module.contains("/uvloop/");
                if module.contains("/_pickle.") || frame.name.contains("_pickle_") {
                    packs.get_or_insert(sharing);
                }
                continue;
            }
            roles.any = true;
            let file = frame.file.as_deref().unwrap_or_default();
            let bare = frame.name.rsplit('.').next().unwrap_or_default();
            roles.asyncio |= bare == "_run_once" && file.contains("/asyncio/");
            roles.selector |= own && file.ends_with("/selectors.py");
            roles.thread_pool |=
                bare == "_worker" && file.ends_with("/concurrent/futures/thread.py");
            roles.worker |= bare == "_worker" && file.ends_with("/concurrent/futures/thread.py")
                || bare == "_process_worker" && file.ends_with("/concurrent/futures/process.py")
                || bare == "worker" && file.ends_with("/multiprocessing/pool.py");
            roles.maps |= bare == "result_iterator"
                && file.ends_with("/concurrent/futures/_base.py")
                || bare == "_chain_from_iterable_of_lists"
                    && file.ends_with("/concurrent/futures/process.py");
            roles.process_pool |= file.ends_with("/concurrent/futures/process.py")
                && bare != "_process_worker"
                || bare.starts_with("_handle_") && file.ends_with("/multiprocessing/pool.py");
            // `ForkingPickler.dumps`, and what is packed in Python itself; not what loads the module.
            if file.ends_with("/pickle.py") && bare != "<module>" {
                packs.get_or_insert(sharing);
            }
            sharing = ["/multiprocessing/", "/concurrent/futures/process.py"]
                .iter()
                .any(|part| file.contains(part));
            if file.ends_with("/multiprocessing/reduction.py") && bare.starts_with("dump") {
                packs.get_or_insert(sharing);
            }
            roles.processes |= sharing && bare != "<module>";
            own = names::is_own(frame);
        }
        roles.pickles = packs == Some(true) || unpacks(stack);
        roles
    }

    /// What another stack of the same thread shows.
    pub fn add(&mut self, other: Self) {
        self.asyncio |= other.asyncio;
        self.selector |= other.selector;
        self.thread_pool |= other.thread_pool;
        self.process_pool |= other.process_pool;
        self.worker |= other.worker;
        self.maps |= other.maps;
        self.processes |= other.processes;
        self.pickles |= other.pickles;
        self.any |= other.any;
    }
}
