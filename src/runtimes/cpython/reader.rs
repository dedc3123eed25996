//! Reads one process: its interpreters, its threads, their stacks.

use crate::model::Text;
use crate::model::Tid;

use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::Asyncio;
use super::Code;
use super::Frame;
use super::GilState;
use super::Interpreter;
use super::Layout;
use super::Memory;
use super::MemoryExt;
use super::Place;
use super::Stack;
use super::Thread;
use super::Unknown;
use super::Unread;
use super::Version;
use super::attributes;
use super::batch::Batch;
use super::code::Codes;
use super::frames::plausible;
use super::stacks::Gils;
use super::stacks::Stacks;
use super::states;
use super::states::Threads;
use super::strings;

/// Bytes of `_PyRuntime` that hold all that an interpreter says of itself.
const START_BYTES: usize = 1024;
/// The size of the smallest `_PyRuntime` is 656.
const FEWER_BYTES: usize = 512;
/// Longest interval believed for switches of the GIL: a day, in microseconds.
const LONGEST_INTERVAL_US: u64 = 24 * 3600 * 1_000_000;

/// How often each outcome came, since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Stacks told.
    pub told: u64,
    /// Of those: with outer frames missing.
    pub truncated: u64,
    /// See [`Unread::Moved`].
    pub moved: u64,
    /// See [`Unread::Gone`].
    pub gone: u64,
    /// See [`Unread::Refused`].
    pub refused: u64,
    /// See [`Unread::Torn`].
    pub torn: u64,
}

/// An object of the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its address, which is what `id()` returns.
    pub address: u64,
    /// The name of its type: `Queue`; with the module in front for types written in C.
    pub kind: Text,
}

/// Reads one process.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
    runtime: u64,
    codes: Codes,
    threads: Threads,
    stacks: Stacks,
    states: Batch,
    counts: Counts,
}

impl Reader {
    /// Of the interpreter at `place`, until the process executes another program. Refuses what it
    /// does not know, and what is not as the layout says. [`Unknown::NotRunning`] may be over a
    /// little later.
    pub fn open(memory: &dyn Memory, place: &Place) -> Result<Self, Unknown> {
        let layout = Layout::at(memory, place)?;
        let reader = Self::unchecked(&layout, place.runtime);
        reader.check(memory)?;
        Ok(reader)
    }

    /// Of what may be no interpreter at all.
    pub(super) fn unchecked(layout: &Layout, runtime: u64) -> Self {
        Self {
            layout: *layout,
            runtime,
            codes: Codes::default(),
            threads: Threads::default(),
            stacks: Stacks::default(),
            states: Batch::default(),
            counts: Counts::default(),
        }
    }

    /// Whether what lies at the places that the layout names is what should lie there.
    fn check(&self, memory: &dyn Memory) -> Result<(), Unknown> {
        let layout = &self.layout;
        let interpreters = self
            .interpreters(memory)
            .ok_or(Unknown::Implausible("its list of interpreters leads nowhere"))?;
        // The main one is the oldest; a newer one may have no threads.
        let Some(interpreter) = interpreters.last() else { return Err(Unknown::NotRunning) };
        if !plausible(interpreter.gil) {
            // The pointer is set late in the start of an interpreter.
            let null = interpreter.gil == 0;
            let wrong = Unknown::Implausible("there is no GIL where it should be");
            return Err(if null { Unknown::NotRunning } else { wrong });
        }
        let bytes = memory
            .bytes(interpreter.gil, layout.gil_bytes as usize)
            .ok_or(Unknown::Implausible("there is no GIL where it should be"))?;
        let interval = u64_in(&bytes, layout.gil_interval).unwrap_or(0);
        let locked = u32_in(&bytes, layout.gil_locked);
        match locked.map(u32::cast_signed) {
            Some(-1) => return Err(Unknown::NotRunning),
            Some(0 | 1) if (1..=LONGEST_INTERVAL_US).contains(&interval) => {}
            _ => return Err(Unknown::Implausible("the GIL's fields make no sense")),
        }
        if interpreter.threads == 0 {
            return Err(Unknown::NotRunning);
        }
        let owner = interpreter.threads.checked_add(layout.thread_interpreter.into());
        if owner.and_then(|at| memory.u64(at)) != Some(interpreter.address) {
            return Err(Unknown::Implausible("its newest thread is not its own"));
        }
        Ok(())
    }

    /// Where this build keeps things.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How often each outcome came.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// All interpreters of the process, newest first; `None` when they cannot be read.
    pub fn interpreters(&self, memory: &dyn Memory) -> Option<Vec<Interpreter>> {
        states::interpreters(memory, &self.layout, self.runtime)
    }

    /// Where asyncio is, once the program has imported it. Of the main interpreter: each other one
    /// has its own.
    pub fn asyncio(&self, memory: &dyn Memory) -> Option<Asyncio> {
        let main = self.interpreters(memory)?.last()?.address;
        Asyncio::find(memory, &self.layout, main)
    }

    /// The addresses of all GILs, in order. Interpreters may share one, or have their own.
    pub fn gils(&self, memory: &dyn Memory) -> Vec<u64> {
        let interpreters = self.interpreters(memory).unwrap_or_default();
        let mut gils: Vec<u64> = interpreters.iter().map(|it| it.gil).collect();
        gils.retain(|&gil| plausible(gil));
        gils.sort_unstable();
        gils.dedup();
        gils
    }

    /// Who has the GIL at `gil`.
    pub fn gil_state(&self, memory: &dyn Memory, gil: u64) -> Option<GilState> {
        self.layout.gil_state(memory, gil)
    }

    /// All threads of all interpreters.
    pub fn threads(&mut self, memory: &dyn Memory) -> Vec<Thread> {
        let interpreters = self.interpreters(memory).unwrap_or_default();
        self.threads.read(memory, &self.layout, &interpreters)
    }

    /// The thread with this id for the kernel.
    pub fn thread(&mut self, memory: &dyn Memory, tid: Tid) -> Option<Thread> {
        self.threads(memory).into_iter().find(|thread| thread.tid == Some(tid))
    }

    /// The stacks of all threads, and the code objects in them ready to be asked for.
    pub fn snapshot(&mut self, memory: &dyn Memory) -> Vec<(Thread, Result<Stack, Unread>)> {
        let interpreters = self.interpreters(memory).unwrap_or_default();
        let gils = Gils::read(memory, &self.layout, interpreters.iter().map(|it| it.gil));
        let threads = self.threads.read(memory, &self.layout, &interpreters);
        let stacks = self.read_stacks(memory, &gils, &threads);
        threads.into_iter().zip(stacks).collect()
    }

    /// The stacks of threads that were met before, in the same order, and the code objects in
    /// them ready to be asked for.
    pub fn stacks(
        &mut self,
        memory: &dyn Memory,
        threads: &[Thread],
    ) -> Vec<Result<Stack, Unread>> {
        let gils = Gils::read(memory, &self.layout, threads.iter().map(|thread| thread.gil));
        let size = self.layout.thread_bytes as usize;
        self.states.clear();
        for thread in threads {
            self.states.want(thread.address, size);
        }
        self.states.read(memory);
        let now = |(index, then): (usize, &Thread)| {
            let (now, _) = Thread::parse(&self.layout, then.address, self.states.get(index)?)?;
            let same = now.interpreter == then.interpreter && now.pthread == then.pthread;
            same.then_some(Thread { tid: then.tid, gil: then.gil, ..now })
        };
        let now: Vec<Option<Thread>> = threads.iter().enumerate().map(now).collect();
        let there: Vec<Thread> = now.iter().copied().flatten().collect();
        let mut stacks = self.read_stacks(memory, &gils, &there).into_iter();
        let mut gone = 0;
        let result = now.iter().map(|thread| {
            let stack = thread.and_then(|_| stacks.next());
            gone += u64::from(stack.is_none());
            stack.unwrap_or(Err(Unread::Gone))
        });
        let result = result.collect();
        self.counts.gone += gone;
        result
    }

    fn read_stacks(
        &mut self,
        memory: &dyn Memory,
        gils: &Gils,
        threads: &[Thread],
    ) -> Vec<Result<Stack, Unread>> {
        self.codes.expire();
        let stacks = self.stacks.read(memory, &self.layout, gils, threads);
        for stack in &stacks {
            let count = match stack {
                Ok(stack) => {
                    self.counts.truncated += u64::from(stack.truncated);
                    &mut self.counts.told
                }
                Err(Unread::Moved) => &mut self.counts.moved,
                Err(Unread::Gone) => &mut self.counts.gone,
                Err(Unread::Refused) => &mut self.counts.refused,
                Err(Unread::Torn) => &mut self.counts.torn,
            };
            *count += 1;
        }
        let told = stacks.iter().flatten();
        let mut codes: Vec<u64> = told.flat_map(|s| &s.frames).map(|frame| frame.code).collect();
        codes.sort_unstable();
        codes.dedup();
        self.codes.check(memory, &self.layout, &codes);
        stacks
    }

    /// Makes code objects ready to be asked for by [`code`](Self::code), as a snapshot does.
    pub fn learn(&mut self, memory: &dyn Memory, codes: &[u64]) {
        self.codes.expire();
        self.codes.check(memory, &self.layout, codes);
    }

    /// The code object that lay at an address when that was last asked: for a process that is
    /// no more.
    pub fn code_as_last_seen(&self, address: u64) -> Option<&Code> {
        self.codes.last_seen(address)
    }

    /// The code object at an address that a frame of the last snapshot (or call of
    /// [`stacks`](Self::stacks)) names. `None` where there is none.
    pub fn code(&self, address: u64) -> Option<&Code> {
        self.codes.known(address)
    }

    /// The first local variable of a frame: in a method `self`, so the lock, queue or pool that
    /// a thread waits in. What it is at this time: the frame may have gone on.
    pub fn first_local(&self, memory: &dyn Memory, frame: &Frame) -> Option<Object> {
        let object = self.object(memory, frame.first_local)?;
        if object.kind.as_bytes() != b"cell" {
            return Some(object);
        }
        // A variable that inner functions use too: the cell's content follows its header.
        let content = object.address.checked_add(u64::from(self.layout.object_type) + 8)?;
        self.object(memory, memory.u64(content)?)
    }

    /// What `threading` calls a thread. `None` for one that it did not start, or that cannot be read
    /// now, and from 3.14 on, where Python tells the kernel.
    ///
    /// The outermost functions of a thread that it started are methods of the object that stands
    /// for the thread. That object is believed where it says that its thread has this very id.
    pub fn thread_name(&mut self, memory: &dyn Memory, thread: &Thread) -> Option<Text> {
        /// `Thread._bootstrap` and what it calls, in any qualified form.
        const STARTS: [&[u8]; 2] = [b"_bootstrap", b"_bootstrap_inner"];
        let stack = self.stacks(memory, &[*thread]).pop()?.ok()?;
        let started = |frame: &&Frame| {
            let Some(code) = self.code(frame.code) else { return false };
            let bare = code.name.as_bytes().rsplit(|&byte| byte == b'.').next();
            let known = bare.is_some_and(|bare| STARTS.contains(&bare));
            known && code.file.as_bytes().ends_with(b"/threading.py")
        };
        let frame = stack.frames.iter().rev().take(STARTS.len()).find(started)?;
        let object = self.first_local(memory, frame)?.address;
        let wanted = ["_name", "_native_id"];
        let [name, id] = attributes::attributes(memory, &self.layout, object, wanted)?;
        let id = attributes::small_int(memory, &self.layout, id).map(Tid);
        (id.is_some() && id == thread.tid).then_some(())?;
        strings::string(memory, &self.layout, name).filter(|name| !name.is_empty())
    }

    /// The object at an address.
    pub fn object(&self, memory: &dyn Memory, address: u64) -> Option<Object> {
        plausible(address).then_some(())?;
        let kind = memory.u64(address + u64::from(self.layout.object_type))?;
        let kind = strings::type_name(memory, &self.layout, kind)?;
        Some(Object { address, kind })
    }
}

impl Layout {
    /// That of the interpreter at `place`, which need not have begun to run.
    pub fn at(memory: &dyn Memory, place: &Place) -> Result<Self, Unknown> {
        let start = memory
            .bytes(place.runtime, START_BYTES)
            .or_else(|| memory.bytes(place.runtime, FEWER_BYTES))
            .ok_or(Unknown::Unreadable)?;
        let told = place.version_at.and_then(|at| memory.u64(at)).and_then(Version::from_hex);
        Self::new(&start, told.or(place.version))
    }
}
