//! Processes that run Python: where their interpreter is, whose frames are whose, which futex
//! words are those of the GIL, and what their threads are called.
//!
//! Asked by the naming thread, so that reading the memory of a process never delays draining. What
//! cannot be read, or is of a version that is not known, leaves the native view as it is and is
//! said once.

mod tasks;

use self::tasks::TaskFrames;
use super::procfs;
use super::sys::process_vm::ProcessMemory;
use crate::model::FastMap;
use crate::model::FastSet;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::RuntimeInfo;
use crate::model::Text;
use crate::model::Tid;
use crate::runtimes::MemoryExt as _;
use crate::runtimes::cpython::Asyncio;
use crate::runtimes::cpython::Code;
use crate::runtimes::cpython::Frame;
use crate::runtimes::cpython::GilPart;
use crate::runtimes::cpython::Layout;
use crate::runtimes::cpython::Module;
use crate::runtimes::cpython::NAME_BYTES;
use crate::runtimes::cpython::Place;
use crate::runtimes::cpython::Reader;
use crate::runtimes::cpython::Taken;
use crate::runtimes::cpython::TaskWords;
use crate::runtimes::cpython::Unknown;
use crate::symbols::Interpreter;
use crate::symbols::ScriptFrame;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Python frames that belong to a native stack, innermost first, and the task of asyncio that they
/// may run, with those that await it.
#[derive(Clone, Debug, Default)]
pub enum PythonFrames {
    /// There are none.
    #[default]
    None,
    /// Taken in the kernel, as they lay in memory.
    Taken(Vec<Taken>, Box<[TaskWords]>),
    /// Read from outside.
    Read(Vec<Frame>, Box<[TaskWords]>),
}

impl PythonFrames {
    /// Memory that they take.
    pub fn bytes(&self) -> usize {
        let frames = match self {
            Self::None => 0,
            Self::Taken(frames, _) => size_of_val(frames.as_slice()),
            Self::Read(frames, _) => size_of_val(frames.as_slice()),
        };
        frames + self.tasks().len() * (size_of::<TaskWords>() + NAME_BYTES)
    }

    fn tasks(&self) -> &[TaskWords] {
        match self {
            Self::None => &[],
            Self::Taken(_, tasks) | Self::Read(_, tasks) => tasks,
        }
    }
}

/// An interpreter in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inside {
    /// Where it is.
    pub place: Place,
    /// Where it keeps things.
    pub layout: Layout,
    /// Where asyncio is, once that is known.
    pub asyncio: Option<Asyncio>,
}

/// A process whose Python frames can be taken from now on, or (`None`) no longer. Told again when
/// more is known.
pub type Found = (Pid, Option<Inside>);

/// Interpreters that are opened again and again before they have started to run.
const MOST_TRIES: u32 = 10_000;

/// Asyncio is looked for with so many stacks of a process that has it or is about to: with some while
/// it is imported, which may take half a second.
const MOST_LOOKS: u32 = 4000;
/// With one of so many.
const EVERY: u32 = 4;
/// Threads of a process whose names are asked for.
const MOST_THREADS: usize = 65_536;

/// Ended processes that are remembered.
const MOST_EXITED: usize = 64;

/// One process with an interpreter.
struct Python {
    memory: ProcessMemory,
    inside: Inside,
    /// Once the interpreter runs.
    reader: Option<Reader>,
    tries: u32,
    /// Looks for asyncio that are left; `None` while nothing tells of it.
    looks: Option<u32>,
    tasks: TaskFrames,
    /// The GILs as last read.
    gils: Vec<u64>,
    /// Their words that were told of.
    told: FastSet<u64>,
    /// Which interpreter it is was told.
    introduced: bool,
    /// How often a thread without a name was seen; `None` for one that is not asked for again.
    nameless: FastMap<Tid, Option<u32>>,
    exited: bool,
}

impl Python {
    fn new(memory: ProcessMemory, inside: &Inside) -> Self {
        Self {
            memory,
            inside: *inside,
            reader: None,
            tries: 0,
            looks: None,
            tasks: TaskFrames::default(),
            gils: Vec::new(),
            told: FastSet::default(),
            introduced: false,
            nameless: FastMap::default(),
            exited: false,
        }
    }

    /// What its library calls a thread, unless the kernel knows a name for it already.
    fn name_of(&mut self, pid: Pid, tid: Tid) -> Option<Text> {
        let full = self.nameless.len() >= MOST_THREADS;
        if full && !self.nameless.contains_key(&tid) {
            return None;
        }
        let seen = self.nameless.entry(tid).or_insert(Some(0)).as_mut()?;
        *seen += 1;
        // A thread that runs may have to be asked again; ever more rarely.
        seen.is_power_of_two().then_some(())?;
        self.reader()?;
        let Self { memory, reader: Some(reader), nameless, .. } = self else { return None };
        let thread = reader.thread(memory, tid)?;
        let name = reader.thread_name(memory, &thread)?;
        nameless.insert(tid, None);
        let of = |tid| procfs::read_task(pid, tid, "comm");
        (of(tid)? == of(pid.into())?).then_some(name)
    }

    /// Its reader, as soon as there is one.
    fn reader(&mut self) -> Option<&mut Reader> {
        if self.reader.is_none() && self.tries < MOST_TRIES {
            self.tries += 1;
            match Reader::open(&self.memory, &self.inside.place) {
                Ok(reader) => self.reader = Some(reader),
                Err(Unknown::NotRunning | Unknown::Unreadable) => {}
                Err(_) => self.tries = MOST_TRIES,
            }
        }
        self.reader.as_mut()
    }

    /// Looks for asyncio, if something told of it; true once it is found.
    fn finds_asyncio(&mut self) -> bool {
        let Some(left) = self.looks.as_mut().filter(|left| **left > 0) else { return false };
        *left -= 1;
        if !(*left + 1).is_multiple_of(EVERY) {
            return false;
        }
        let memory = self.memory;
        let found = self.reader().and_then(|reader| reader.asyncio(&memory));
        if found.is_some() {
            self.looks = Some(0);
            self.inside.asyncio = found;
        }
        found.is_some()
    }
}

/// Whether asyncio is at work, or is being imported.
fn is_of_asyncio(code: &Code) -> bool {
    const DIRECTORY: &[u8] = b"/asyncio/";
    code.file.as_bytes().windows(DIRECTORY.len()).any(|part| part == DIRECTORY)
}

/// All of them.
#[derive(Default)]
pub struct Pythons {
    processes: FastMap<Pid, Python>,
    exited: VecDeque<Pid>,
    /// Not handed on yet.
    found: Vec<Found>,
    /// What could not be read and why, with the number of processes.
    unknown: BTreeMap<String, u64>,
    /// Frames whose code had no name any more.
    nameless: u64,
    named: u64,
}

impl Pythons {
    /// A process has mapped a file with an interpreter.
    pub fn meet(&mut self, pid: Pid, interpreter: &Interpreter) {
        if self.processes.contains_key(&pid) {
            return;
        }
        let path = interpreter.path.to_string();
        let module = Module {
            path: &path,
            bias: interpreter.bias,
            runtime: interpreter.runtime,
            section: interpreter.section,
            version: interpreter.version,
        };
        let Some(place) = Place::of(&module) else { return };
        let memory = ProcessMemory(pid);
        match Layout::at(&memory, &place) {
            Ok(layout) => {
                let inside = Inside { place, layout, asyncio: None };
                self.found.push((pid, Some(inside)));
                self.processes.insert(pid, Python::new(memory, &inside));
            }
            // Gone before anybody could look: nothing to say.
            Err(Unknown::Unreadable) => {}
            Err(reason) => *self.unknown.entry(format!("{path}: {reason}")).or_default() += 1,
        }
    }

    /// A process has mapped asyncio's part that is written in C, by when the rest is there.
    pub fn has_asyncio(&mut self, pid: Pid) {
        let Some(python) = self.processes.get_mut(&pid) else { return };
        python.looks.get_or_insert(MOST_LOOKS);
        if python.finds_asyncio() {
            self.found.push((pid, Some(python.inside)));
        }
    }

    /// A child begins as a copy of its parent.
    pub fn fork(&mut self, parent: Pid, child: Pid) {
        let Some(Python { inside, looks, .. }) = self.processes.get(&parent) else { return };
        let (inside, looks) = (*inside, *looks);
        self.found.push((child, Some(inside)));
        let python = Python::new(ProcessMemory(child), &inside);
        self.processes.insert(child, Python { looks, ..python });
    }

    /// A process ended. What was learnt of it stays for a while: its last stacks may come still.
    pub fn exit(&mut self, pid: Pid) {
        let Some(python) = self.processes.get_mut(&pid) else { return };
        python.exited = true;
        self.found.push((pid, None));
        self.exited.push_back(pid);
        if self.exited.len() > MOST_EXITED
            && let Some(oldest) = self.exited.pop_front()
            && self.processes.get(&oldest).is_some_and(|python| python.exited)
        {
            self.processes.remove(&oldest);
        }
    }

    /// A process runs another program, or is a new one with an old one's id.
    pub fn forget(&mut self, pid: Pid) {
        if self.processes.remove(&pid).is_some() {
            self.found.push((pid, None));
        }
    }

    /// Processes found and forgotten since the last call.
    pub fn found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// The functions that frames are of, innermost first.
    pub fn functions(&mut self, pid: Pid, taken: &PythonFrames) -> Vec<ScriptFrame> {
        let Some(python) = self.processes.get_mut(&pid) else { return Vec::new() };
        let layout = python.inside.layout;
        let frames = match taken {
            PythonFrames::None => return Vec::new(),
            PythonFrames::Taken(taken, _) => layout.frames_taken(&python.memory, taken),
            PythonFrames::Read(frames, _) => frames.clone(),
        };
        if python.reader().is_none() {
            return Vec::new();
        }
        let Python { memory, reader: Some(reader), inside, looks, tasks, .. } = python else {
            return Vec::new();
        };
        let mut codes: Vec<u64> = frames.iter().map(|frame| frame.code).collect();
        codes.sort_unstable();
        codes.dedup();
        // One that is gone can tell nothing new, and what was learnt of it stays true.
        let alive = memory.u64(inside.place.runtime).is_some();
        if alive {
            reader.learn(memory, &codes);
        }
        let mut functions = Vec::with_capacity(frames.len());
        for frame in &frames {
            let code =
                if alive { reader.code(frame.code) } else { reader.code_as_last_seen(frame.code) };
            self.named += u64::from(code.is_some());
            self.nameless += u64::from(code.is_none());
            if looks.is_none() && code.is_some_and(is_of_asyncio) {
                looks.get_or_insert(MOST_LOOKS);
            }
            functions.push(match code {
                Some(code) => ScriptFrame {
                    function: code.name.to_string(),
                    file: code.file.clone(),
                    line: code.line(frame.instruction),
                    entry: frame.entry,
                },
                None => ScriptFrame {
                    function: "[a Python function that is gone]".to_owned(),
                    file: Text::from("[python]"),
                    line: None,
                    entry: frame.entry,
                },
            });
        }
        let words = taken.tasks();
        if let Some(asyncio) = inside.asyncio.filter(|_| !words.is_empty()) {
            tasks.put(memory, reader, alive, &asyncio, (words, &frames), &mut functions);
        }
        if python.finds_asyncio() {
            self.found.push((pid, Some(python.inside)));
        }
        functions
    }

    /// The GIL that a futex word is a part of, by its address, the first time that it is asked for.
    pub fn gil_of(&mut self, pid: Pid, address: u64) -> Option<u64> {
        let python = self.processes.get_mut(&pid)?;
        (!python.told.contains(&address)).then_some(())?;
        python.reader()?;
        let Python { memory, reader: Some(reader), gils, told, .. } = python else { return None };
        let layout = *reader.layout();
        let of = |gils: &[u64]| {
            let part = |gil: &&u64| {
                let part = layout.gil_part(**gil, address);
                part.is_some_and(|part| part != GilPart::Fields)
            };
            gils.iter().find(part).copied()
        };
        // A subinterpreter with a GIL of its own may be newer than what was read.
        let gil = of(gils).or_else(|| {
            *gils = reader.gils(memory);
            of(gils)
        })?;
        told.insert(address);
        Some(gil)
    }

    /// Which interpreter a process has, the first time that this can be read.
    pub fn runtime(&mut self, time: Nanos, pid: Pid) -> Option<RuntimeInfo> {
        let python = self.processes.get_mut(&pid).filter(|python| !python.introduced)?;
        python.reader()?;
        let Python { memory, reader: Some(reader), introduced, .. } = python else { return None };
        let layout = reader.layout();
        let name = format!("CPython 3.{}", layout.minor);
        // An extension that cannot do without it may have asked for it by now.
        let on = |gil| reader.gil_state(memory, gil).is_some_and(|state| state.enabled);
        let gils = reader.gils(memory);
        let free_threaded =
            layout.free_threaded == 1 && !gils.is_empty() && !gils.into_iter().any(on);
        *introduced = true;
        Some(RuntimeInfo { time, pid, name: Text::from(name.as_str()), free_threaded })
    }

    /// What Python calls a thread that the kernel knows by the name of its program only, the first
    /// time that this can be read.
    pub fn thread_name(&mut self, pid: Pid, tid: Tid) -> Option<Text> {
        // The first one is the program.
        (tid != Tid::from(pid)).then_some(())?;
        self.processes.get_mut(&pid)?.name_of(pid, tid)
    }

    /// What a reader of the report must know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .unknown
            .iter()
            .map(|(what, processes)| {
                format!(
                    "Python functions and the GIL of {processes} process{} are not shown, only the \
                     interpreter's own code: {what}",
                    if *processes == 1 { "" } else { "es" }
                )
            })
            .collect();
        let frames = self.named + self.nameless;
        if self.nameless * 100 > frames {
            warnings.push(format!(
                "{} of {frames} frames of Python are without names: their functions or processes \
                 were gone before they could be asked",
                self.nameless
            ));
        }
        warnings
    }
}
