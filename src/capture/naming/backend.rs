//! What the naming thread does its work with.

use super::Job;
use super::Outcome;
use crate::capture::python::Found;
use crate::capture::python::PythonFrames;
use crate::capture::python::Pythons;
use crate::model::Definition;
use crate::model::Event;
use crate::model::FutexWord;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Rename;
use crate::model::StackId;
use crate::model::Tid;
use crate::model::WordInfo;
use crate::symbols::Namer;
use crate::symbols::RawStack;

/// [`Names`], or a test's stand-in.
pub(super) trait Backend {
    /// Does a job that is no stack.
    fn note(&mut self, job: &Job);
    /// See [`Namer::stack`]; `python` are the frames that were taken with it.
    fn stack(
        &mut self,
        raw: &RawStack,
        python: &PythonFrames,
        define: &mut dyn FnMut(Definition),
    ) -> Option<StackId>;
    /// What a futex word is, the first time that it is asked about.
    fn word(&mut self, time: Nanos, pid: Pid, word: FutexWord) -> Option<WordInfo>;
    /// Names at most about `limit` frames, or with `None` all of them to the last detail.
    fn name(&mut self, limit: Option<usize>, define: &mut dyn FnMut(Definition));
    /// Counts and warnings so far.
    fn outcome(&self) -> Outcome;
    /// What became known of a process, and of a thread of it that was just seen: what interprets its
    /// program, and what that calls a thread of which the kernel knows no name.
    fn learnt(&mut self, _time: Nanos, _pid: Pid, _tid: Option<Tid>) -> Vec<Event> {
        Vec::new()
    }
    /// Processes that were found to run Python, or no longer do, since the last call.
    fn pythons(&mut self) -> Vec<Found> {
        Vec::new()
    }
}

/// Native names and Python's.
#[derive(Default)]
pub(super) struct Names {
    namer: Namer,
    pythons: Pythons,
}

impl Names {
    fn meet(&mut self, pid: Pid) {
        if let Some(interpreter) = self.namer.interpreter(pid) {
            self.pythons.meet(pid, &interpreter);
        }
    }
}

impl Backend for Names {
    fn note(&mut self, job: &Job) {
        match job {
            Job::Exec(image) => {
                self.namer.exec(image);
                self.pythons.forget(image.pid);
                self.meet(image.pid);
            }
            Job::Fork { parent, child } => {
                self.namer.fork(*parent, *child);
                self.pythons.forget(*child);
                self.pythons.fork(*parent, *child);
            }
            Job::Map(mapping) => {
                self.namer.map(mapping);
                self.meet(mapping.pid);
                let path = mapping.path.to_string();
                if path.rsplit('/').next().is_some_and(|file| file.starts_with("_asyncio.")) {
                    self.pythons.has_asyncio(mapping.pid);
                }
            }
            Job::Exit(pid) => {
                self.namer.exit(*pid);
                self.pythons.exit(*pid);
            }
            Job::Stack { .. } => {}
        }
    }

    fn stack(
        &mut self,
        raw: &RawStack,
        python: &PythonFrames,
        define: &mut dyn FnMut(Definition),
    ) -> Option<StackId> {
        let functions = self.pythons.functions(raw.pid, python);
        self.namer.stack_with(raw, &functions, define)
    }

    fn word(&mut self, time: Nanos, pid: Pid, word: FutexWord) -> Option<WordInfo> {
        let FutexWord { address, shared } = word;
        let info = self.namer.word(time, pid, address, shared);
        let Some(gil) = self.pythons.gil_of(pid, address) else { return info };
        let info = info.unwrap_or_else(|| WordInfo::new(time, pid, address));
        Some(WordInfo { gil: Some(gil), ..info })
    }

    fn name(&mut self, limit: Option<usize>, define: &mut dyn FnMut(Definition)) {
        if let Some(limit) = limit {
            self.namer.name_some(limit, define);
        } else {
            self.namer.name(define);
        }
    }

    fn outcome(&self) -> Outcome {
        let mut warnings = self.namer.warnings();
        warnings.extend(self.pythons.warnings());
        Outcome { counts: self.namer.counts(), warnings }
    }

    fn learnt(&mut self, time: Nanos, pid: Pid, tid: Option<Tid>) -> Vec<Event> {
        let runtime = self.pythons.runtime(time, pid).map(Event::Runtime);
        let name = tid.and_then(|tid| Some((tid, self.pythons.thread_name(pid, tid)?)));
        let name = name.map(|(tid, name)| Event::Rename(Rename { time, tid, name }));
        runtime.into_iter().chain(name).collect()
    }

    fn pythons(&mut self) -> Vec<Found> {
        self.pythons.found()
    }
}
