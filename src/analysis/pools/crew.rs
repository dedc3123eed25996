//! Who belongs to a pool, where its workers wait for a job, and who hands them in.

use crate::analysis::Told;
use crate::analysis::history::Ender;
use crate::analysis::history::Life;
use crate::analysis::history::Stay;
use crate::analysis::names;
use crate::analysis::names::stem;
use crate::analysis::report::FrameRow;
use crate::analysis::report::Object;
use crate::analysis::report::ThreadRow;
use crate::analysis::rules::Evidence;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::State;
use crate::model::Symbols;
use crate::model::ThreadId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The workers of a pool and those around it.
#[derive(Debug)]
pub struct Crew {
    /// What the workers are called.
    pub name: String,
    /// They.
    pub workers: Vec<ThreadId>,
    /// Threads that are not of the pool and hand jobs in, or made its workers.
    pub feeders: BTreeSet<ThreadId>,
    /// Threads that are told of jobs that were taken or done: they, and those of the library.
    pub told: BTreeSet<ThreadId>,
    /// Each is a process.
    pub processes: bool,
    /// Threads of Python, of which one at a time computes.
    pub one_computes: bool,
    /// The library handed in all jobs before it waited for the first.
    pub at_once: bool,
    /// The report's objects at which a worker waits for a job, where no stack says it.
    queues: BTreeSet<u32>,
}

/// Who is likened to whom: the process, or the parent of processes, and the name.
type Likeness = (u32, bool, String);

/// The pools of a run.
pub fn crews(evidence: &Evidence, told: &Told, at: &mut Waits) -> Vec<Crew> {
    let mut groups: BTreeMap<Likeness, Vec<&ThreadRow>> = BTreeMap::new();
    for thread in &evidence.report.threads {
        if let Some(likeness) = likeness(evidence, thread) {
            groups.entry(likeness).or_default().push(thread);
        }
    }
    let crew = |(likeness, rows): (_, Vec<_>)| crew(evidence, told, likeness, &rows, at);
    groups.into_iter().filter_map(crew).collect()
}

fn likeness(evidence: &Evidence, thread: &ThreadRow) -> Option<Likeness> {
    let main = thread.tid == thread.pid;
    let called = stem(&thread.called()).into_owned();
    let roles = evidence.roles(thread.id);
    if roles.worker && main {
        let process = evidence.report.processes.get(thread.process as usize)?;
        return Some((process.parent?, true, called));
    }
    (!main && (roles.worker || !roles.any)).then_some((thread.process, false, called))
}

fn crew(
    evidence: &Evidence,
    told: &Told,
    (owner, processes, name): Likeness,
    rows: &[&ThreadRow],
    at: &mut Waits,
) -> Option<Crew> {
    let python = rows.iter().any(|row| evidence.roles(row.id).worker);
    // One thread that waits for a condition is no pool; Python's library says that it is one.
    if !python && rows.len() < 2 {
        return None;
    }
    let workers: Vec<ThreadId> = rows.iter().map(|row| ThreadId(row.id)).collect();
    let queues = if python { at.queues(told, &workers) } else { own_queues(evidence, &workers) };
    if !python && queues.is_empty() {
        return None;
    }
    let mut crew = Crew {
        name,
        workers,
        feeders: BTreeSet::new(),
        told: BTreeSet::new(),
        processes,
        one_computes: python && !processes,
        at_once: false,
        queues,
    };
    let library = |id: u32| {
        let called = evidence.called(id);
        processes && (evidence.roles(id).process_pool || called.contains("QueueFeeder"))
    };
    crew.find_feeders(told, at);
    if processes {
        let threads = evidence.threads_of(owner);
        let (of_library, own): (Vec<u32>, Vec<u32>) =
            threads.map(|row| row.id).partition(|&id| library(id));
        // A job goes from the program through the library's threads, which hand it on as they can:
        // who decides is the thread behind them. It is the main one where nobody else was seen.
        crew.feeders = own.into_iter().map(ThreadId).collect();
        crew.told.extend(of_library.into_iter().map(ThreadId));
    }
    crew.told.extend(&crew.feeders);
    crew.at_once = crew.feeders.iter().any(|thread| evidence.roles(thread.0).maps);
    Some(crew)
}

/// Conditions that only these threads wait for, several of them, signalled by others.
fn own_queues(evidence: &Evidence, workers: &[ThreadId]) -> BTreeSet<u32> {
    let ours = |id: u32| workers.contains(&ThreadId(id));
    let queue = |object: &&Object| {
        let waiters: Vec<u32> = evidence.waiters(object.id).map(|(thread, ..)| thread).collect();
        let by_others = || object.holders.iter().any(|holder| !ours(holder.thread));
        waiters.len() >= 2 && waiters.iter().all(|&id| ours(id)) && by_others()
    };
    let conditions = evidence.report.objects.iter().filter(|o| o.state == State::Condvar.name());
    conditions.filter(queue).map(|object| object.id).collect()
}

impl Crew {
    /// Whether it is one of the workers.
    pub fn has(&self, thread: ThreadId) -> bool {
        self.workers.binary_search(&thread).is_ok()
    }

    /// Whether a worker waits for a job there.
    pub fn is_idle(&self, told: &Told, life: &Life, stay: &Stay, at: &mut Waits) -> bool {
        if !told.history.state(stay.object).is_wait() || stay.woken == stay.off {
            return false;
        }
        let by_stack = life.wait_stack(stay.off).and_then(|stack| at.for_a_job(stack));
        let queue =
            || told.ids.get(stay.object as usize).is_some_and(|id| self.queues.contains(id));
        by_stack.unwrap_or_else(queue)
    }

    fn find_feeders(&mut self, told: &Told, at: &mut Waits) {
        for &worker in &self.workers {
            let Some(life) = told.history.life(worker) else { continue };
            self.feeders.extend(life.parent.filter(|&parent| !self.has(parent)));
            for stay in told.history.stays(worker, Nanos::ZERO) {
                if let Ender::Thread(by) = stay.ender
                    && !self.has(by)
                    && self.is_idle(told, life, &stay, at)
                {
                    self.feeders.insert(by);
                }
            }
        }
    }
}

/// A function of Python that could not be read any more.
const GONE: &str = "[a Python function that is gone]";

/// What stacks of waits say, each asked once.
pub struct Waits<'a> {
    symbols: &'a Symbols,
    known: FastMap<StackId, Option<bool>>,
}

impl<'a> Waits<'a> {
    /// Knows nothing yet.
    pub fn new(symbols: &'a Symbols) -> Self {
        Self { symbols, known: FastMap::default() }
    }

    fn for_a_job(&mut self, stack: StackId) -> Option<bool> {
        let symbols = self.symbols;
        *self.known.entry(stack).or_insert_with(|| for_a_job(&names::frames(symbols, stack)))
    }

    /// The objects at which these threads of Python were seen to wait for a job.
    fn queues(&mut self, told: &Told, workers: &[ThreadId]) -> BTreeSet<u32> {
        let (mut queues, mut others) = (BTreeSet::new(), BTreeSet::new());
        for &worker in workers {
            let Some(life) = told.history.life(worker) else { continue };
            for stay in told.history.stays(worker, Nanos::ZERO) {
                let Some(stack) = life.wait_stack(stay.off) else { continue };
                let Some(&id) = told.ids.get(stay.object as usize) else { continue };
                match self.for_a_job(stack) {
                    Some(true) => queues.insert(id),
                    Some(false) => others.insert(id),
                    None => false,
                };
            }
        }
        queues.difference(&others).copied().collect()
    }
}

/// Whether a worker of Python's library waits for its next job: in the library's loop itself, or in
/// the queue that this one reads. `None` where the stack has no such loop: what a new process waits in
/// first may be looked at before its Python functions can be read.
fn for_a_job(stack: &[FrameRow]) -> Option<bool> {
    const LOOPS: [(&str, &str); 3] = [
        ("_worker", "/concurrent/futures/thread.py"),
        ("worker", "/multiprocessing/pool.py"),
        ("_process_worker", "/concurrent/futures/process.py"),
    ];
    // A process that is killed while it waits takes the names of its functions along.
    let gone = |frame: &FrameRow| frame.name == GONE;
    let python: Vec<(&str, &str)> = stack
        .iter()
        .filter(|frame| names::is_python(frame) || gone(frame))
        .map(|frame| {
            let bare = frame.name.rsplit('.').next().unwrap_or_default();
            (bare, frame.file.as_deref().unwrap_or_default())
        })
        .collect();
    let is_loop = |(name, file): &(&str, &str)| {
        LOOPS.iter().any(|(loops, path)| name == loops && file.ends_with(path))
    };
    let at = python.iter().rposition(is_loop)?;
    Some(match python.get(at + 1) {
        None => true,
        Some((name, file)) => {
            *name == "get" && file.ends_with("/multiprocessing/queues.py")
                || python[at + 1..].iter().all(|(name, _)| *name == GONE)
        }
    })
}
