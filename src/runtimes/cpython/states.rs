//! Interpreters and the states of their threads: lists that are followed from `_PyRuntime` on.

use std::collections::BTreeSet;

use crate::model::Tid;

use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::ABSENT;
use super::Layout;
use super::Memory;
use super::MemoryExt;
use super::batch::Batch;
use super::frames::plausible;

/// Interpreters of a process that are followed.
pub const MOST_INTERPRETERS: usize = 256;

/// Threads of a process that are followed.
pub const MOST_THREADS: usize = 4096;

/// An interpreter: the main one, or one that a program made inside its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interpreter {
    /// Address of its state.
    pub address: u64,
    /// Its number; the main one has 0.
    pub id: u64,
    /// Address of the GIL that its threads take; several may share one.
    pub gil: u64,
    pub(super) threads: u64,
}

/// A thread that runs Python, or may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Address of its state, which the GIL calls its holder.
    pub address: u64,
    /// Address of its interpreter.
    pub interpreter: u64,
    /// Address of the GIL that it takes.
    pub gil: u64,
    /// What `pthread_self` returns in it.
    pub pthread: u64,
    /// Its id for the kernel; `None` where that is not known.
    pub tid: Option<Tid>,
    /// `frame`, `cframe` or `current_frame`.
    pub(super) frame: u64,
    /// The newest chunk for frames; 0 for none.
    pub(super) chunk: u64,
}

impl Thread {
    /// From the bytes of a thread state, which do not tell the GIL; also gives the address of
    /// the next one.
    pub(super) fn parse(layout: &Layout, address: u64, bytes: &[u8]) -> Option<(Self, u64)> {
        let or_none = |at| if at == ABSENT { Some(0) } else { u64_in(bytes, at) };
        let tid = or_none(layout.thread_native)?;
        let thread = Self {
            address,
            interpreter: u64_in(bytes, layout.thread_interpreter)?,
            gil: 0,
            pthread: u64_in(bytes, layout.thread_pthread)?,
            tid: u32::try_from(tid).ok().filter(|&tid| tid != 0).map(Tid),
            frame: u64_in(bytes, layout.thread_frame)?,
            chunk: or_none(layout.thread_chunk)?,
        };
        Some((thread, u64_in(bytes, layout.thread_next)?))
    }
}

/// All interpreters, newest first; `None` when the list cannot be read to its end.
pub(super) fn interpreters(
    memory: &dyn Memory,
    layout: &Layout,
    runtime: u64,
) -> Option<Vec<Interpreter>> {
    let mut at = memory.u64(runtime.checked_add(layout.runtime_interpreters.into())?)?;
    let mut found = Vec::new();
    let mut batch = Batch::default();
    while at != 0 && found.len() < MOST_INTERPRETERS {
        // A list that runs in a circle is none.
        let met = found.iter().any(|it: &Interpreter| it.address == at);
        (plausible(at) && !met).then_some(())?;
        batch.clear();
        let fields = [
            layout.interpreter_next,
            layout.interpreter_threads,
            layout.interpreter_id,
            layout.interpreter_gil,
        ];
        for field in fields.iter().filter(|&&field| field != ABSENT) {
            batch.want(at + u64::from(*field), 8);
        }
        batch.read(memory);
        let word = |number| u64_in(batch.get(number)?, 0);
        let gil = match layout.runtime_gil {
            ABSENT => word(3)?,
            in_runtime => runtime + u64::from(in_runtime),
        };
        found.push(Interpreter { address: at, id: word(2)?, gil, threads: word(1)? });
        at = word(0)?;
    }
    Some(found)
}

/// Reads lists of threads; those met before in one go.
#[derive(Debug, Default)]
pub(super) struct Threads {
    met: Vec<u64>,
    batch: Batch,
}

impl Threads {
    /// The threads of all `interpreters`. A list that changes while it is read ends early.
    pub fn read(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        interpreters: &[Interpreter],
    ) -> Vec<Thread> {
        let size = layout.thread_bytes as usize;
        self.batch.clear();
        for &address in &self.met {
            self.batch.want(address, size);
        }
        self.batch.read(memory);
        let mut found = Vec::with_capacity(self.met.len());
        let mut seen = BTreeSet::new();
        for interpreter in interpreters {
            let mut at = interpreter.threads;
            while plausible(at) && found.len() < MOST_THREADS && seen.insert(at) {
                // The list mostly is as it was: the next one met is the next one.
                let here = self.met.get(found.len()) == Some(&at);
                let number =
                    if here { Some(found.len()) } else { self.met.iter().position(|&m| m == at) };
                let bytes = number.and_then(|number| self.batch.get(number));
                let parsed = match bytes {
                    Some(bytes) => Thread::parse(layout, at, bytes),
                    None => memory.bytes(at, size).and_then(|b| Thread::parse(layout, at, &b)),
                };
                let Some((mut thread, next)) = parsed else { break };
                thread.gil = interpreter.gil;
                if thread.interpreter != interpreter.address {
                    break;
                }
                found.push(thread);
                at = next;
            }
        }
        if layout.thread_native == ABSENT {
            self.ask_the_c_library(memory, layout, &mut found);
        }
        self.met.clear();
        self.met.extend(found.iter().map(|thread| thread.address));
        found
    }

    /// Below 3.11 only glibc knows the kernel's ids. Its struct begins with pointers to itself,
    /// which another C library's has not at the same places.
    fn ask_the_c_library(&mut self, memory: &dyn Memory, layout: &Layout, threads: &mut [Thread]) {
        /// `header.self` of `struct pthread` on x86-64, beside `header.tcb` at 0.
        const SELF: u32 = 16;
        self.batch.clear();
        for thread in &*threads {
            self.batch.want(thread.pthread, 24);
            self.batch.want(thread.pthread.wrapping_add(layout.pthread_tid.into()), 4);
        }
        self.batch.read(memory);
        for (index, thread) in threads.iter_mut().enumerate() {
            let own = |at| self.batch.get(2 * index).and_then(|head| u64_in(head, at));
            let tid = self.batch.get(2 * index + 1).and_then(|bytes| u32_in(bytes, 0));
            let genuine = own(0) == Some(thread.pthread) && own(SELF) == Some(thread.pthread);
            thread.tid = tid.filter(|&tid| genuine && tid != 0).map(Tid);
        }
    }
}
