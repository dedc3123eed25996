//! asyncio's tasks: which one a thread runs, and what it is called.
//!
//! The loop runs everything through one function of Python, `Handle._run`:
//!
//! ```text
//!  frame of Handle._run       self -> Handle._callback -> what steps a task -> Task -> its name
//!  frame of the coroutine     (called by C code, which knows the task)
//! ```
//!
//! Other loops (uvloop's) have no such function, and a task may begin within another's step (eagerly, 3.12
//! and later) or be written in Python. For those asyncio says itself which tasks are in a step:
//!
//! ```text
//!  up to 3.13   asyncio.tasks._current_tasks: loop -> Task, of all threads
//!  3.14, 3.15   the thread's state -> Task
//! ```
//!
//! Such a task is believed where the frame of its coroutine is among those of the stack.
//!
//! What steps a task is `TaskStepMethWrapper`, or once what it awaited is there
//! `TaskWakeupMethWrapper` (3.8 and 3.9), a built-in method `task_wakeup` of the task (later). The
//! chain lies in memory as long as the step lasts. It is copied together with the stack, as words;
//! what they are is found here, by the names of types: of what is no task nothing is told.
//!
//! Who awaits the task: from 3.14 on it says so itself (`task_awaited_by`), whether awaited directly, in
//! a group or in a `gather`. Before, a task that is awaited directly has the step of the other as its
//! first callback; groups and gathers have functions of Python there, and are not followed.
//!
//! Where loops of several threads are in steps at once, up to 3.13, a task that was begun eagerly goes by
//! the name of the one that began it, and who awaits a task of another loop than asyncio's is not told.

use crate::model::FastMap;
use crate::model::Text;

use super::super::memory::MemoryExt;
use super::super::memory::u64_in;
use super::ABSENT;
use super::Frame;
use super::Layout;
use super::Memory;
use super::attributes;
use super::dict;
use super::frames::plausible;
use super::strings;

/// Bytes copied of the object that is a task's name.
pub const NAME_BYTES: usize = 128;

/// `md_dict` of a module: pointer to its names.
const MODULE_NAMES: u64 = 16;
/// `tp_base` of a type, and `tp_dict`.
const TYPE_BASE: u64 = 256;
const TYPE_NAMES: u64 = 264;
/// `d_member` of a descriptor of a slot, and `offset` in that.
const SLOT_MEMBER: u64 = 40;
const MEMBER_OFFSET: u64 = 16;
/// Two words behind the header: `m_ml` and `m_self` of a built-in method, the task and what is
/// thrown into it of a wrapper.
const CALLBACK_WORDS: u32 = 16;
/// `TaskWords::callback_type` of a task that asyncio says is in a step: no callback led to it.
pub const TASK_IS_CURRENT: u64 = 1;
/// `fut_callback0`: what a future calls first when it is done.
const FUTURE_CALLBACK: u32 = 24;
/// Tasks followed: the one that runs, and those that await.
const MOST_TASKS: usize = 4;
/// Entries looked through of the table of current tasks.
const MOST_CURRENT: u64 = 64;
/// `ma_keys` of a dictionary.
const DICT_KEYS: u64 = 32;
/// `gi_frame` of a coroutine, below 3.11.
const COROUTINE_FRAME: u32 = 16;
/// Types between a program's own and asyncio's.
const MOST_BASES: usize = 8;
/// Types remembered.
const MOST_KINDS: usize = 1024;

/// Where asyncio is in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asyncio {
    /// Address of the code object of `Handle._run`.
    pub run: u64,
    /// Offset of `_callback` in a handle.
    pub callback: u32,
    /// Address of the type of built-in methods.
    pub builtin: u64,
    /// Address of the dictionary `_current_tasks`; 0 where threads know their tasks.
    pub current: u64,
}

/// How a task was come to, and what it is called and runs, as it lay in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskWords {
    /// Type of the callback that led to it: the handle's, or what the task calls in its end that
    /// this one awaits. 0 where the other task told by itself who awaits it, [`TASK_IS_CURRENT`]
    /// where asyncio says that it is in a step.
    pub callback_type: u64,
    /// The first two words of the callback behind its header; of one that is in a step its
    /// coroutine and (below 3.11) that one's frame.
    pub callback: [u64; 2],
    /// The task, if it is one.
    pub task: u64,
    /// Its type.
    pub task_type: u64,
    /// The code object of its coroutine, tag bits included, if that is one of Python.
    pub code: u64,
    /// The object that is its name: as many bytes from its start as could be read.
    pub name: Vec<u8>,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Its name, `…` at the end of what was too long. `None` for one that asyncio numbered
    /// (`Task-17`).
    pub name: Option<Text>,
    /// Address of what may be the code object of its coroutine.
    pub code: Option<u64>,
}

impl Asyncio {
    /// Looks for it among the modules of an interpreter; `None` before it is imported, and where
    /// something took the place of `Handle._run`.
    pub(super) fn find(memory: &dyn Memory, layout: &Layout, interpreter: u64) -> Option<Self> {
        (layout.task_name != ABSENT).then_some(())?;
        let modules = memory.u64(interpreter.checked_add(layout.interpreter_modules.into())?)?;
        let at = |object: u64, offset: u64| {
            memory.u64(object.checked_add(offset)?).filter(|&word| plausible(word))
        };
        let is = |object: u64, name: &str| {
            let kind = at(object, layout.object_type.into())?;
            let told = strings::type_name(memory, layout, kind)?;
            (told.as_bytes() == name.as_bytes()).then_some(object)
        };
        let named = |module: &str, name: &str| {
            let module = is(dict::get(memory, layout, modules, module)?, "module")?;
            dict::get(memory, layout, at(module, MODULE_NAMES)?, name)
        };
        let class = at(is(named("asyncio.events", "Handle")?, "type")?, TYPE_NAMES)?;
        let run = is(dict::get(memory, layout, class, "_run")?, "function")?;
        let run = is(at(run, layout.function_code.into())?, "code")?;
        let name = strings::string(memory, layout, at(run, layout.code_name.into())?)?;
        (name.as_bytes() == b"_run").then_some(())?;
        let slot = is(dict::get(memory, layout, class, "_callback")?, "member_descriptor")?;
        let offset = memory.u64(at(slot, SLOT_MEMBER)?.checked_add(MEMBER_OFFSET)?)?;
        let callback = u32::try_from(offset).ok().filter(|&offset| offset < 1024)?;
        let len = is(named("builtins", "len")?, "builtin_function_or_method")?;
        let builtin = at(len, layout.object_type.into())?;
        let current = match layout.thread_task {
            ABSENT => is(named("asyncio.tasks", "_current_tasks")?, "dict")?,
            _ => 0,
        };
        Some(Self { run, callback, builtin, current })
    }

    /// Copies the way to the task that a stack, innermost first, runs, and to those that await it.
    /// For a thread that sleeps, whose state is at `thread`; what is read are tasks only once
    /// [`Tasks::called`] says so.
    pub fn take(
        &self,
        memory: &dyn Memory,
        layout: &Layout,
        thread: u64,
        frames: &[Frame],
    ) -> Vec<TaskWords> {
        let mut tasks = Vec::new();
        let handle = frames.iter().find(|frame| frame.code == self.run);
        let handle = handle.and_then(|frame| frame.first_local.checked_add(self.callback.into()));
        let mut way = handle.and_then(|at| memory.u64(at)).map(Way::Callback);
        let current = self.current(memory, layout, thread);
        match (way, &*current) {
            (None, [_, _, ..]) => {
                let words = |&task| self.words(memory, layout, Way::Current(task));
                return current.iter().filter_map(words).collect();
            }
            // The step says whose it is, unless it began another task at once or steps one that
            // is written in Python.
            (on, &[task]) => {
                let stepped = on.and_then(|on| self.words(memory, layout, on));
                if stepped.is_none_or(|words| words.task != task) {
                    way = Some(Way::Current(task));
                }
            }
            _ => {}
        }
        while let Some(on) = way.filter(|_| tasks.len() < MOST_TASKS) {
            let Some(words) = self.words(memory, layout, on) else { break };
            way = match layout.task_awaiter {
                ABSENT => word(memory, words.task, FUTURE_CALLBACK).map(Way::Callback),
                awaiter => {
                    let flags = word(memory, words.task, layout.task_awaiters & !7);
                    let several = flags.map(|flags| flags >> (layout.task_awaiters % 8 * 8) & 1);
                    let one = several == Some(0);
                    word(memory, words.task, awaiter).filter(|_| one).map(Way::Awaiter)
                }
            };
            tasks.push(words);
        }
        tasks
    }

    /// The tasks that are in a step.
    fn current(&self, memory: &dyn Memory, layout: &Layout, thread: u64) -> Vec<u64> {
        if layout.thread_task != ABSENT {
            let task = word(memory, thread, layout.thread_task);
            return task.into_iter().filter(|&task| plausible(task)).collect();
        }
        let keys = self.current.checked_add(DICT_KEYS).and_then(|at| memory.u64(at));
        let table = keys.and_then(|keys| dict::Table::read(memory, layout, keys, MOST_CURRENT));
        let Some(table) = table else { return Vec::new() };
        let entries = (0..table.count).filter_map(|index| table.get(index));
        let tasks = entries.map(|(_, task)| task).filter(|&task| plausible(task));
        tasks.take(MOST_TASKS).collect()
    }

    fn words(&self, memory: &dyn Memory, layout: &Layout, way: Way) -> Option<TaskWords> {
        let (callback_type, callback, task) = match way {
            Way::Awaiter(task) => (0, [0; 2], task),
            Way::Current(task) => {
                let coroutine = word(memory, task, layout.task_coroutine).unwrap_or(0);
                let frame = word(memory, coroutine, COROUTINE_FRAME).unwrap_or(0);
                (TASK_IS_CURRENT, [coroutine, frame], task)
            }
            Way::Callback(at) => {
                plausible(at).then_some(())?;
                let kind = word(memory, at, layout.object_type)?;
                let words =
                    [word(memory, at, CALLBACK_WORDS)?, word(memory, at, CALLBACK_WORDS + 8)?];
                // A wrapper has the task in its first word, a built-in method in its second.
                (kind, words, words[usize::from(kind == self.builtin)])
            }
        };
        plausible(task).then_some(())?;
        let task_type = word(memory, task, layout.object_type)?;
        // A future that gathers tasks has neither.
        let coroutine = word(memory, task, layout.task_coroutine);
        let code = coroutine.and_then(|at| word(memory, at, layout.coroutine_code)).unwrap_or(0);
        let name = word(memory, task, layout.task_name).unwrap_or(0);
        // The end of memory may be nearer than that of the longest name.
        let sizes = [NAME_BYTES, NAME_BYTES / 2];
        let name = sizes.iter().find_map(|&size| memory.bytes(name, size)).unwrap_or_default();
        Some(TaskWords { callback_type, callback, task, task_type, code, name })
    }
}

/// How one comes to a task.
#[derive(Clone, Copy)]
enum Way {
    /// By the address of what steps it.
    Callback(u64),
    /// By its own.
    Awaiter(u64),
    /// By its own, which asyncio says is in a step.
    Current(u64),
}

fn word(memory: &dyn Memory, object: u64, offset: u32) -> Option<u64> {
    memory.u64(object.checked_add(offset.into())?)
}

/// What an object was found to be, by its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// What steps a task, which is in its first word.
    Wrapper,
    /// A built-in function or method.
    Builtin,
    /// A task written in C, or of a class made from that.
    Task,
    /// A future written in C, or of a class made from that.
    Future,
    String,
    Integer,
    Other,
}

/// Tells tasks by their words. Remembers what types are: they outlive what is read of a process.
#[derive(Debug, Default)]
pub struct Tasks {
    kinds: FastMap<u64, Kind>,
    /// `PyMethodDef`s, and whether they wake a task.
    wakes: FastMap<u64, bool>,
}

impl Tasks {
    /// The tasks that words taken with a stack, innermost first, lead to, from the one that runs on,
    /// and how many frames it has called; `None` where they lead to none.
    pub fn called(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        asyncio: &Asyncio,
        words: &[TaskWords],
        frames: &[Frame],
    ) -> Option<(usize, Vec<Task>)> {
        let mut rest = words;
        while let [first, others @ ..] = rest
            && first.callback_type == TASK_IS_CURRENT
        {
            if let Some((called, task)) = self.current(memory, layout, first, frames) {
                let mut tasks = vec![task];
                if others.iter().all(|words| words.callback_type != TASK_IS_CURRENT) {
                    tasks.extend(self.chain(memory, layout, others, 1));
                }
                return Some((called, tasks));
            }
            rest = others;
        }
        // Those that await a task that is none of this thread's.
        (rest.len() == words.len()).then_some(())?;
        let called = frames.iter().position(|frame| frame.code == asyncio.run)?;
        let tasks = self.chain(memory, layout, rest, 0);
        (!tasks.is_empty()).then_some((called, tasks))
    }

    /// A task that is in a step, if that is one of these frames.
    fn current(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        words: &TaskWords,
        frames: &[Frame],
    ) -> Option<(usize, Task)> {
        let by_frame = |at: u64| frames.iter().position(|frame| frame.lies_at(at));
        let inside = layout.minor >= 11;
        if self.kind(memory, layout, words.task_type)? == Kind::Task {
            let [coroutine, frame] = words.callback;
            let within = coroutine.wrapping_add(layout.coroutine_frame.into());
            let at = by_frame(if inside { within } else { frame })?;
            return Some((at + 1, self.task(memory, layout, words)?));
        }
        // One that is written in Python.
        let wanted = ["_name", "_coro"];
        let [name, coroutine] = attributes::attributes(memory, layout, words.task, wanted)?;
        let within = coroutine.checked_add(layout.coroutine_frame.into())?;
        let at = by_frame(if inside { within } else { memory.u64(within)? })?;
        let name = task_name(&strings::string(memory, layout, name)?, false);
        Some((at + 1, Task { name, code: Some(frames[at].code) }))
    }

    /// The tasks of which each one leads to the next; `before`: how many came before these.
    fn chain(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        words: &[TaskWords],
        before: usize,
    ) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (index, words) in (before..).zip(words) {
            match self.step(memory, layout, words, index > 0) {
                Some(Kind::Task) => tasks.extend(self.task(memory, layout, words)),
                // What gathers others is awaited in its turn.
                Some(Kind::Future) if index > 0 => {}
                _ => break,
            }
            if tasks.is_empty() && before == 0 {
                break;
            }
        }
        tasks
    }

    /// What words lead to.
    fn step(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        words: &TaskWords,
        awaits: bool,
    ) -> Option<Kind> {
        if words.callback_type != 0 || !awaits {
            let task = match self.kind(memory, layout, words.callback_type)? {
                Kind::Wrapper => words.callback[0],
                Kind::Builtin if self.is_wakeup(memory, words.callback[0])? => words.callback[1],
                _ => return None,
            };
            (task == words.task).then_some(())?;
        }
        self.kind(memory, layout, words.task_type)
    }

    fn task(&mut self, memory: &dyn Memory, layout: &Layout, words: &TaskWords) -> Option<Task> {
        let name = match self.kind(memory, layout, u64_in(&words.name, layout.object_type)?)? {
            // Put into words only when somebody asks for it (3.12 and later).
            Kind::Integer => None,
            Kind::String => {
                let (name, more) = strings::string_in(layout, &words.name)?;
                task_name(&name, more)
            }
            _ => return None,
        };
        let code = words.code & !u64::from(layout.tag_bits);
        Some(Task { name, code: Some(code).filter(|&code| plausible(code)) })
    }

    fn kind(&mut self, memory: &dyn Memory, layout: &Layout, address: u64) -> Option<Kind> {
        if let Some(&kind) = self.kinds.get(&address) {
            return Some(kind);
        }
        plausible(address).then_some(())?;
        let mut kind = known(memory, layout, address)?;
        let mut base = address;
        for _ in 0..MOST_BASES {
            base = memory.u64(base.checked_add(TYPE_BASE)?)?;
            if kind != Kind::Other || !plausible(base) {
                break;
            }
            let of = known(memory, layout, base)?;
            if matches!(of, Kind::Task | Kind::Future) {
                kind = of;
            }
        }
        if self.kinds.len() >= MOST_KINDS {
            self.kinds.clear();
        }
        self.kinds.insert(address, kind);
        Some(kind)
    }

    fn is_wakeup(&mut self, memory: &dyn Memory, method: u64) -> Option<bool> {
        if let Some(&is) = self.wakes.get(&method) {
            return Some(is);
        }
        let name = memory.u64(method)?;
        let is = memory.c_string(name, 32)?.as_bytes() == b"task_wakeup";
        if self.wakes.len() >= MOST_KINDS {
            self.wakes.clear();
        }
        self.wakes.insert(method, is);
        Some(is)
    }
}

/// The name of a task, unless asyncio numbered it; `more`: it is longer.
fn task_name(name: &Text, more: bool) -> Option<Text> {
    let number = name.as_bytes().strip_prefix(b"Task-").unwrap_or_default();
    let numbered = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    let dots = if more { "…" } else { "" };
    // What `create_task` calls tasks of a factory of 3.13.0 that were given no name.
    let unnamed = numbered || name.as_bytes() == b"None";
    (!unnamed).then(|| Text::from(format!("{name}{dots}").as_str()))
}

fn known(memory: &dyn Memory, layout: &Layout, address: u64) -> Option<Kind> {
    let name = strings::type_name(memory, layout, address)?;
    Some(match name.as_bytes() {
        // With their module from 3.12 on.
        b"TaskStepMethWrapper" | b"TaskWakeupMethWrapper" | b"_asyncio.TaskStepMethWrapper" => {
            Kind::Wrapper
        }
        b"builtin_function_or_method" => Kind::Builtin,
        b"_asyncio.Task" => Kind::Task,
        b"_asyncio.Future" => Kind::Future,
        b"str" => Kind::String,
        b"int" => Kind::Integer,
        _ => Kind::Other,
    })
}
