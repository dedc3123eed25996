//! The Python functions of a thread that sleeps, read while it does.

use crate::capture::python::Found;
use crate::capture::python::Inside;
use crate::capture::python::PythonFrames;
use crate::capture::sys::process_vm::ProcessMemory;
use crate::model::FastMap;
use crate::model::Pid;
use crate::model::Tid;
use crate::runtimes::cpython::Frame;
use crate::runtimes::cpython::Reader;
use crate::runtimes::cpython::Thread;

/// Threads that are remembered of a process; with more they are looked up anew.
const MOST_THREADS: usize = 4096;

/// Processes that run Python, as they were found.
#[derive(Debug, Default)]
pub(super) struct Pythons {
    processes: FastMap<Pid, Python>,
}

#[derive(Debug)]
struct Python {
    memory: ProcessMemory,
    inside: Inside,
    reader: Option<Reader>,
    threads: FastMap<Tid, Thread>,
}

impl Pythons {
    /// Takes what was found of a process.
    pub fn note(&mut self, found: &Found) {
        let (pid, python) = found;
        match python {
            Some(inside) => {
                let memory = ProcessMemory(*pid);
                let threads = FastMap::default();
                let python = Python { memory, inside: *inside, reader: None, threads };
                self.processes.insert(*pid, python);
            }
            None => {
                self.processes.remove(pid);
            }
        }
    }

    /// The functions that a thread is in, innermost first. None for one that the interpreter does
    /// not know, or that is no longer where it was.
    pub fn frames(&mut self, pid: Pid, tid: Tid) -> PythonFrames {
        let Some(python) = self.processes.get_mut(&pid) else { return PythonFrames::None };
        let Some(frames) = python.frames(tid).filter(|frames| !frames.is_empty()) else {
            return PythonFrames::None;
        };
        let Inside { asyncio, layout, .. } = &python.inside;
        let tasks = asyncio.map(|asyncio| asyncio.take(&python.memory, layout, &frames));
        PythonFrames::Read(frames, tasks.unwrap_or_default().into())
    }
}

impl Python {
    fn frames(&mut self, tid: Tid) -> Option<Vec<Frame>> {
        let memory = &self.memory;
        if self.reader.is_none() {
            self.reader = Reader::open(memory, &self.inside.place).ok();
        }
        let reader = self.reader.as_mut()?;
        if let Some(thread) = self.threads.get(&tid)
            && let Some(Ok(stack)) = reader.stacks(memory, &[*thread]).pop()
        {
            return Some(stack.frames);
        }
        let thread = reader.thread(memory, tid)?;
        if self.threads.len() >= MOST_THREADS {
            self.threads.clear();
        }
        self.threads.insert(tid, thread);
        reader.stacks(memory, &[thread]).pop()?.ok().map(|stack| stack.frames)
    }
}
