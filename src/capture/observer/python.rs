//! The Python functions of a thread that sleeps, read while it does.

use crate::capture::python::Found;
use crate::capture::python::Inside;
use crate::capture::python::PythonFrames;
use crate::capture::sys::process_vm::ProcessMemory;
use crate::model::FastMap;
use crate::model::Pid;
use crate::model::Tid;
use crate::runtimes::MemoryExt;
use crate::runtimes::cpython::Frame;
use crate::runtimes::cpython::Reader;
use crate::runtimes::cpython::Thread;

/// Threads that are remembered of a process; with more they are looked up anew.
const MOST_THREADS: usize = 4096;

/// How far above the stack pointer a parked thread's word is at most, bytes.
const PARKED_NEAR: u64 = 4096;

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

    /// What a thread is parked for that sleeps on a futex word on its own stack, not far from `sp`.
    pub fn parked_for(&self, pid: Pid, word: u64, sp: u64) -> Option<u64> {
        let python = self.processes.get(&pid).filter(|python| python.inside.layout.parks())?;
        word.checked_sub(sp).filter(|&above| (8..PARKED_NEAR).contains(&above))?;
        // An object, and nothing that happens to lie there.
        let is_object = |object: &u64| {
            (4096..1 << 47).contains(object) && object.wrapping_sub(sp) >= PARKED_NEAR
        };
        python.memory.u64(word - 8).filter(is_object)
    }

    /// The functions that a thread is in, innermost first. None for one that the interpreter does
    /// not know, or that is no longer where it was.
    pub fn frames(&mut self, pid: Pid, tid: Tid) -> PythonFrames {
        let Some(python) = self.processes.get_mut(&pid) else { return PythonFrames::None };
        let Some((thread, frames)) = python.frames(tid).filter(|(_, frames)| !frames.is_empty())
        else {
            return PythonFrames::None;
        };
        let Inside { asyncio, layout, .. } = &python.inside;
        let tasks = asyncio.map(|asyncio| asyncio.take(&python.memory, layout, thread, &frames));
        PythonFrames::Read(frames, tasks.unwrap_or_default().into())
    }
}

impl Python {
    /// Where the interpreter keeps a thread, and its functions.
    fn frames(&mut self, tid: Tid) -> Option<(u64, Vec<Frame>)> {
        let memory = &self.memory;
        if self.reader.is_none() {
            self.reader = Reader::open(memory, &self.inside.place).ok();
        }
        let reader = self.reader.as_mut()?;
        if let Some(thread) = self.threads.get(&tid)
            && let Some(Ok(stack)) = reader.stacks(memory, &[*thread]).pop()
        {
            return Some((thread.address, stack.frames));
        }
        let thread = reader.thread(memory, tid)?;
        if self.threads.len() >= MOST_THREADS {
            self.threads.clear();
        }
        self.threads.insert(tid, thread);
        let stack = reader.stacks(memory, &[thread]).pop()?.ok()?;
        Some((thread.address, stack.frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::cpython::Layout;
    use crate::runtimes::cpython::Module;
    use crate::runtimes::cpython::Place;

    fn pythons(pid: Pid, minor: u32) -> Pythons {
        let module = Module { runtime: Some(0x1000), ..Module::default() };
        let place = Place::of(&module).expect("there is one");
        let mut pythons = Pythons::default();
        let layout = Layout { minor, ..Layout::default() };
        pythons.note(&(pid, Some(Inside { place, layout, asyncio: None })));
        pythons
    }

    #[test]
    fn what_a_thread_is_parked_for_precedes_the_word_on_its_stack() {
        let mut stack = [0_u64; 8];
        stack[3] = 0x7f00_1000;
        let stack = std::hint::black_box(&stack);
        let (own, sp) = (Pid(std::process::id()), stack.as_ptr().addr() as u64);
        let of = |pid, word| pythons(own, 14).parked_for(pid, word, sp);
        assert_eq!(of(own, sp + 32), Some(0x7f00_1000));
        // No other word of it, none elsewhere, and in no other process.
        for (pid, word) in
            [(own, sp + 40), (own, sp), (own, sp - 8), (own, sp + 4096 + 32), (Pid(1), sp + 32)]
        {
            assert_eq!(of(pid, word), None, "{word:#x} of {}", pid.0);
        }
        // Where locks have their own words.
        assert_eq!(pythons(own, 12).parked_for(own, sp + 32, sp), None);
    }
}
