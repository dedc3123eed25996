//! Which concurrency model a process follows, from how its threads and children lived.

use crate::analysis::names;
use crate::analysis::report::ConcurrencyModel;
use crate::analysis::report::ProcessRow;
use crate::analysis::report::ThreadRow;
use crate::analysis::rules::Evidence;
use crate::analysis::rules::Roles;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeSet;

/// The model of each process, in their order; without one where the data does not tell.
pub fn models(evidence: &Evidence) -> Vec<ConcurrencyModel> {
    let report = evidence.report;
    // Which tier saw whom is told by the path alone: without wakers nobody knows who waits for whom.
    report
        .processes
        .iter()
        .map(|process| {
            Subject { evidence, process, threads: evidence.threads_of(process.id).collect() }
                .model(evidence.children_of(process.id))
        })
        .collect()
}

struct Subject<'e, 'a> {
    evidence: &'e Evidence<'a>,
    process: &'a ProcessRow,
    threads: Vec<&'a ThreadRow>,
}

/// Polls from which a thread is taken to loop over them.
const LOOPS: u64 = 10;

/// Whether a thread polls again and again, for work.
pub fn is_loop(evidence: &Evidence, thread: &ThreadRow) -> bool {
    let Some(life) = evidence.lives.get(thread.id as usize) else { return false };
    let roles = life.python;
    if roles.any {
        return roles.asyncio && life.turns.count > 0
            || roles.selector && !roles.process_pool && life.turns.count >= LOOPS;
    }
    let polls = thread.states.0[State::Poll].share_of(thread.states.0.total());
    life.turns.count >= LOOPS && polls > 0.1
}

impl Subject<'_, '_> {
    fn model(&self, children: &[&ProcessRow]) -> ConcurrencyModel {
        let runtime = self.runtime();
        let found = (self.of_python(children))
            .or_else(|| self.of_processes(children))
            .or_else(|| self.event_loop(runtime.as_deref()))
            .or_else(|| self.pipeline())
            .or_else(|| self.pool())
            .or_else(|| self.of_threads());
        let alone = || match self.threads.as_slice() {
            [_] => Some(("single-thread", 1, "it had one thread all the time".to_owned())),
            _ => None,
        };
        let Some((kind, workers, reason)) = found.or_else(alone) else {
            let n = self.threads.len();
            let reason = format!("{n} threads were seen, and not how they divide the work");
            return ConcurrencyModel { kind: None, runtime, workers: None, evidence: vec![reason] };
        };
        ConcurrencyModel {
            kind: Some(kind.to_owned()),
            runtime,
            workers: Some(workers),
            evidence: vec![reason],
        }
    }

    fn runtime(&self) -> Option<String> {
        let name = self.process.name.0.as_str();
        let thread = |prefix: &str| self.threads.iter().any(|t| t.name.0.starts_with(prefix));
        if thread("tokio-") {
            return Some("tokio".to_owned());
        }
        if name == "node" || thread("libuv-worker") {
            return Some("node".to_owned());
        }
        if thread("VM Periodic Tas") || thread("GC Thread#") {
            return Some("jvm".to_owned());
        }
        let seen = |part: &str| {
            let mine = self.evidence.report.objects.iter().filter(|o| o.pid == self.process.pid);
            let mut frames = mine.flat_map(|o| &o.sites).flat_map(|site| &site.stack);
            frames.any(|frame| frame.name.contains(part))
        };
        let python = name.starts_with("python") || self.roles().any || seen("_PyEval_Eval");
        match (self.roles().asyncio, python) {
            (true, _) => Some("asyncio".to_owned()),
            (_, true) => Some("python".to_owned()),
            _ => None,
        }
    }

    /// What its threads were seen to do in Python, all together.
    fn roles(&self) -> Roles {
        let mut roles = Roles::default();
        for thread in &self.threads {
            roles.add(self.evidence.roles(thread.id));
        }
        roles
    }

    /// What the library of Python says that it is. A thread that waits for a socket with a timeout
    /// polls, and so does one that waits for a pool's results: that makes no event loop.
    fn of_python(&self, children: &[&ProcessRow]) -> Option<(&'static str, u32, String)> {
        let count = |part: fn(&Roles) -> bool| {
            let playing = |t: &&&ThreadRow| part(&self.evidence.roles(t.id));
            self.threads.iter().filter(playing).count() as u32
        };
        if let Some(found) = self.event_loop(None).filter(|_| self.roles().asyncio) {
            return Some(found);
        }
        let n = children.len() as u32;
        if count(|roles| roles.process_pool) > 0 && n > 0 {
            let reason =
                format!("{n} processes do the jobs that `{}` hands out", self.process.name);
            return Some(("process-pool", n, reason));
        }
        let main = |t: &ThreadRow| t.tid == self.process.pid;
        let working =
            self.threads.iter().filter(|t| !main(t) && self.evidence.roles(t.id).thread_pool);
        let workers = working.count() as u32;
        if workers > 0 {
            let reason = format!("{workers} threads take jobs from a pool's queue");
            return Some(("thread-pool", workers, reason));
        }
        None
    }

    fn event_loop(&self, runtime: Option<&str>) -> Option<(&'static str, u32, String)> {
        if runtime == Some("tokio") {
            let workers = self.threads.iter().filter(|t| t.name.0.starts_with("tokio-"));
            let n = workers.count() as u32;
            return Some(("event-loop", n, format!("{n} threads carry tokio's name for workers")));
        }
        let loops: Vec<&&ThreadRow> =
            self.threads.iter().filter(|t| is_loop(self.evidence, t)).collect();
        let turns =
            |t: &ThreadRow| self.evidence.lives.get(t.id as usize).map_or(0, |l| l.turns.count);
        let most = loops.iter().max_by_key(|thread| turns(thread))?;
        let reason = match loops.len() {
            1 => format!("`{}` came back to its poll {} times", most.name, turns(most)),
            n => {
                let all: u64 = loops.iter().map(|thread| turns(thread)).sum();
                format!("{n} threads came back to their polls {all} times")
            }
        };
        Some(("event-loop", loops.len() as u32, reason))
    }

    fn of_processes(&self, children: &[&ProcessRow]) -> Option<(&'static str, u32, String)> {
        let waits = self.process.states.0[State::Child]
            + self.process.states.0[State::Pipe]
            + self.process.states.0[State::Poll];
        let idle = waits.share_of(self.process.states.0.total()) > 0.5;
        let long: Vec<&&ProcessRow> = children
            .iter()
            .filter(|c| (c.end_ns - c.start_ns) > (self.process.end_ns - self.process.start_ns) / 3)
            .collect();
        if !idle || long.len() < 2 {
            return None;
        }
        let n = long.len() as u32;
        let names: BTreeSet<&str> = long.iter().map(|c| c.name.0.as_str()).collect();
        let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let list = list.join(", ");
        if names.len() == long.len() && self.piped(&long) {
            return Some((
                "pipeline",
                n,
                format!("its children {list} wait for each other at pipes"),
            ));
        }
        let alike = names.iter().map(|name| names::stem(name)).collect::<BTreeSet<_>>().len() == 1;
        alike.then(|| ("process-pool", n, format!("{n} children {list} lived side by side")))
    }

    /// Whether one of these processes waited at a pipe for another.
    fn piped(&self, children: &[&&ProcessRow]) -> bool {
        let inside = |thread: u32| {
            let process = self.evidence.thread(thread).map(|row| row.process);
            children.iter().find(|child| Some(child.id) == process).map(|child| child.id)
        };
        let pipes = self.evidence.report.objects.iter().filter(|object| object.kind == "pipe");
        pipes.into_iter().any(|pipe| {
            let ends: BTreeSet<u32> =
                pipe.holders.iter().filter_map(|holder| inside(holder.thread)).collect();
            let mut waiters = self.evidence.waiters(pipe.id).filter_map(|(t, ..)| inside(t));
            waiters.any(|waiter| ends.iter().any(|&end| end != waiter))
        })
    }

    fn pipeline(&self) -> Option<(&'static str, u32, String)> {
        let mine = |object: &&crate::analysis::report::Object| {
            object.pid == self.process.pid && object.state == State::Condvar.name()
        };
        let mut hands: BTreeSet<(u32, u32)> = BTreeSet::new();
        let mut queues = 0;
        for object in self.evidence.report.objects.iter().filter(mine) {
            let waiters: Vec<u32> = self
                .evidence
                .waiters(object.id)
                .filter(|&(_, waits, _)| waits >= 5)
                .map(|(thread, ..)| thread)
                .collect();
            let [waiter] = waiters.as_slice() else { continue };
            let Some(holder) = object.holders.first() else { continue };
            queues += 1;
            hands.insert((*waiter.min(&holder.thread), *waiter.max(&holder.thread)));
        }
        let stages: BTreeSet<u32> = hands.iter().flat_map(|&(a, b)| [a, b]).collect();
        let chain = hands.len() >= 2 && stages.len() == hands.len() + 1;
        let reason =
            format!("{} threads hand work on at {queues} queues, one to the next", stages.len());
        chain.then_some(("pipeline", stages.len() as u32, reason))
    }

    fn pool(&self) -> Option<(&'static str, u32, String)> {
        let pools = self.evidence.pools().iter();
        let pool = pools.filter(|pool| pool.object.pid == self.process.pid);
        let pool = pool.max_by_key(|pool| pool.workers.len())?;
        let n = pool.workers.len() as u32;
        let site = pool.object.sites.first().and_then(|site| {
            let own = site.stack.iter().rev().find(|frame| names::is_own(frame));
            own.map(|frame| format!(" in `{}`", names::short(&frame.name)))
        });
        let reason = format!(
            "{n} threads `{}` wait for work at one queue{}",
            names::stem(&pool.workers[0].name.0),
            site.unwrap_or_default()
        );
        Some(("thread-pool", n, reason))
    }

    fn of_threads(&self) -> Option<(&'static str, u32, String)> {
        let main = self.threads.iter().find(|thread| thread.tid == self.process.pid)?;
        let workers: Vec<&&ThreadRow> =
            self.threads.iter().filter(|thread| thread.id != main.id).collect();
        if workers.is_empty() {
            return None;
        }
        let n = workers.len() as u32;
        let joins = main.states.0[State::Join];
        let lives =
            workers.iter().map(|t| t.end_ns).max()? - workers.iter().map(|t| t.start_ns).min()?;
        let ended = workers.iter().all(|thread| !thread.alive);
        if ended && joins.share_of(Nanos(lives)) > 0.5 {
            let reason = format!("`{}` starts {n} threads and waits for their end", main.name);
            return Some(("fork-join", n, reason));
        }
        Some(("threads", n, format!("{n} threads beside the main one")))
    }
}
