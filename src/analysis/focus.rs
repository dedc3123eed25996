//! Which path is asked for: that of the run, of a part of it, or of one thread.

use crate::analysis::history::History;
use crate::analysis::path;
use crate::analysis::path::Path;
use crate::analysis::report::Focus;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Thread;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;

/// What the critical path is wanted of. By default, of the whole run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// Name or kernel id of a thread.
    pub thread: Option<String>,
    /// Kernel id of its process, where several have a thread of that name.
    pub process: Option<u32>,
    /// From here, counted from the start of the run,
    pub from: Option<Nanos>,
    /// to here.
    pub to: Option<Nanos>,
}

/// The recording has nothing of what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoSuchPart {
    /// No thread of that name or id.
    #[error("no thread is called {asked}; the recording has: {known}")]
    Thread {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// Several.
    #[error("{count} threads are called {asked}; give one by its id (--thread {example}): {known}")]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// How many.
        count: usize,
        /// One of them.
        example: u32,
        /// The first of them.
        known: String,
    },
    /// The interval is empty or outside the run.
    #[error("from {from} to {to} is no part of the run, which took {wall}")]
    Interval {
        /// Start.
        from: Nanos,
        /// End.
        to: Nanos,
        /// Length of the run.
        wall: Nanos,
    },
}

/// Threads named in an error.
const MOST_NAMED: usize = 12;

/// The part of the recording that is asked for; `None` for all of it.
pub fn find(question: &Question, timelines: &Timelines) -> Result<Option<Focus>, NoSuchPart> {
    if *question == Question::default() {
        return Ok(None);
    }
    let (start, end) = timelines.window();
    let wall = end - start;
    let thread = match &question.thread {
        Some(asked) => Some(one_thread(asked, question.process.map(Pid), timelines)?),
        None => None,
    };
    // A thread's whole life, unless a part is asked for.
    let (born, died) =
        thread.map_or((start, end), |thread| (thread.start, thread.end.unwrap_or(end)));
    let from = question.from.unwrap_or(born - start);
    let to = question.to.unwrap_or(died - start);
    if from >= to || from >= wall || to > wall {
        return Err(NoSuchPart::Interval { from, to, wall });
    }
    Ok(Some(Focus { thread: thread.map(|thread| thread.id.0), start_ns: from.0, end_ns: to.0 }))
}

fn one_thread<'t>(
    asked: &str,
    process: Option<Pid>,
    timelines: &'t Timelines,
) -> Result<&'t Thread, NoSuchPart> {
    let of_process = |thread: &&Thread| {
        let own = timelines.processes().get(thread.process.0 as usize).map(|process| process.pid);
        process.is_none() || process == own
    };
    let tid = asked.parse().ok().map(Tid);
    let named = |thread: &&Thread| Some(thread.tid) == tid || thread.name.to_string() == asked;
    let all: Vec<&Thread> = timelines.threads().iter().filter(of_process).collect();
    let found: Vec<&Thread> = all.iter().copied().filter(named).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(NoSuchPart::Thread { asked: asked.to_owned(), known: listed(&all) }),
        [first, ..] => Err(NoSuchPart::Ambiguous {
            asked: asked.to_owned(),
            count: found.len(),
            example: first.tid.0,
            known: listed(&found),
        }),
    }
}

fn listed(threads: &[&Thread]) -> String {
    let name = |thread: &&Thread| format!("{} ({})", thread.name, thread.tid.0);
    let text = threads.iter().take(MOST_NAMED).map(name).collect::<Vec<_>>().join(", ");
    match threads.len().saturating_sub(MOST_NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// The path of that part, with the thread it ends in.
pub fn path(
    focus: Option<&Focus>,
    timelines: &Timelines,
    history: &History,
) -> Option<(Path, ThreadId)> {
    let (start, end) = history.window;
    let last = path::last_thread(history, main_thread(timelines))?;
    let Some(focus) = focus else {
        return Some((path::critical_path(history, last, start, end), last));
    };
    let (from, to) = (start + Nanos(focus.start_ns), start + Nanos(focus.end_ns));
    Some(match focus.thread {
        Some(thread) => {
            let thread = ThreadId(thread);
            (path::bounded_path(history, thread, from, to), thread)
        }
        None => (path::critical_path(history, last, from, to), last),
    })
}

/// The root's main thread.
fn main_thread(timelines: &Timelines) -> Option<ThreadId> {
    let process = timelines.processes().get(timelines.root()?.0 as usize)?;
    let main = Tid::from(process.pid);
    let mut threads = timelines.threads().iter();
    threads.find(|t| t.process == process.id && t.tid == main).map(|thread| thread.id)
}
