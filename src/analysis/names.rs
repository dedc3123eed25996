//! Stacks in the words of a report: rows, and the one function that a reader looks for.

use crate::analysis::report::FrameRow;
use crate::model::Function;
use crate::model::StackId;
use crate::model::Symbols;
use crate::model::TASK_MODULE;
use crate::model::TaskFrame;
use crate::model::TaskName;
use crate::model::Text;
use crate::model::is_python_file;
use std::borrow::Cow;

/// The functions of a stack, outermost first.
pub fn frames(symbols: &Symbols, stack: StackId) -> Vec<FrameRow> {
    symbols.functions(stack).iter().map(frame).collect()
}

/// One function.
pub fn frame(function: &Function) -> FrameRow {
    FrameRow {
        name: function.name(),
        module: function.module.map(|module| module.path.to_string()),
        file: function
            .line
            .and_then(|line| line.file.as_deref())
            .map(|f| Text::from(f).to_string()),
        line: function.line.and_then(|line| line.line),
    }
}

/// Modules whose frames are between a program and the kernel.
const LIBRARIES: &[&str] = &[
    "libc.so",
    "libc-",
    "libpthread",
    "ld-linux",
    "ld-musl",
    "libc.musl",
    "libstdc++",
    "libgcc_s",
    "libpython",
    "python3",
    "[kernel]",
    "[vdso]",
    "[python]",
    TASK_MODULE,
    "<frozen ",
];

/// Parts of the paths of Python's own library and of what was installed into it.
const PYTHON_LIBRARIES: &[&str] = &["/lib/python3", "/site-packages/", "/dist-packages/"];

/// Parts of source paths that are nobody's own program: Rust's standard library, crates from
/// a registry, a distribution's C library.
const FOREIGN_SOURCES: &[&str] = &[
    "/rustc/",
    "/library/std/src/",
    "/library/core/src/",
    "/library/alloc/src/",
    "/registry/src/",
    "/glibc",
    "/nptl/",
    "/sysdeps/",
    "/csu/",
];

/// Functions of languages' own libraries, between a program and the system call.
const PLUMBING: &[&str] = &[
    "std::",
    "core::",
    "alloc::",
    "<std::",
    "<core::",
    "<alloc::",
    "<&mut ",
    "<&std::",
    "parking_lot",
    "lock_api::",
    "<parking_lot",
    "<lock_api",
    "tokio::",
    "<tokio::",
    "mio::",
    "<mio::",
    "__rust",
    "std.",
    "boost::",
    "__gnu_cxx::",
    "__gthread",
    "futex_",
    "__futex",
    "syscall",
    "__GI_",
    "__pthread",
    "__new_sem_",
    "sem_wait",
    "sem_timedwait",
    "sem_clockwait",
    "pthread_",
    "__lll",
    // musl's, in a program that it is linked into.
    "__timedwait",
    "__wait",
    "__syscall",
    "sccp",
    "clock_nanosleep",
    "nanosleep",
    "usleep",
    "__libc",
    "__clone",
    "clone3",
    "_start",
    "polling::",
    "crossbeam",
    "<crossbeam",
    "_Py",
    "Py",
    "time_sleep",
    "rustix::",
    "<dyn ",
];

/// The function of the program itself that led to the wait: the innermost one that is
/// neither libc's nor a language library's. With its source line, where known.
pub fn call_site(symbols: &Symbols, stack: StackId) -> Option<String> {
    let rows = frames(symbols, stack);
    // A thread that is in nobody's own function, as a worker of a pool that waits for work, is in
    // Python's library.
    let own = rows.iter().rev().find(|row| is_own(row));
    let own = own.or_else(|| rows.iter().rev().find(|row| is_python(row)))?;
    let name = short(&own.name);
    match (&own.file, own.line) {
        (Some(file), Some(line)) => Some(format!("`{name}` ({}:{line})", file_name(file))),
        _ => Some(format!("`{name}`")),
    }
}

/// Whether a function is the program's own: named, and neither the kernel's, libc's nor a
/// language library's.
pub fn is_own(frame: &FrameRow) -> bool {
    if is_python(frame) {
        let file = frame.file.as_deref().unwrap_or_default();
        return !PYTHON_LIBRARIES.iter().any(|part| file.contains(part));
    }
    let module = frame.module.as_deref().unwrap_or_default();
    // Extension modules: the library's own, and those of packages.
    if PYTHON_LIBRARIES.iter().any(|part| module.contains(part)) {
        return false;
    }
    let module = module.rsplit_once('/').map_or(module, |(_, base)| base);
    // Inlined functions come without their path (`lock`, `{closure#0}`): their file has it.
    let file = frame.file.as_deref().unwrap_or_default();
    !FOREIGN_SOURCES.iter().any(|part| file.contains(part))
        && !LIBRARIES.iter().any(|library| module.starts_with(library))
        && !PLUMBING.iter().any(|prefix| frame.name.starts_with(prefix))
        && !frame.name.contains("+0x")
        && !frame.name.starts_with(['[', '{'])
}

/// Whether it is a function of Python, from a file, the command line or a string.
pub fn is_python(frame: &FrameRow) -> bool {
    let module = frame.module.as_deref().unwrap_or_default();
    frame.file.is_some() && is_python_file(module)
}

/// A task of asyncio in a stack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StackTask {
    /// Its name; `None` for one that the program gave none.
    pub name: Option<String>,
    /// The function that it runs,
    pub coroutine: Option<String>,
    /// and where that is: "app.py:31".
    pub place: Option<String>,
    /// Who awaits it, then who awaits that, as far as is known: "task `main`".
    pub awaiters: Vec<String>,
}

impl StackTask {
    /// "task `worker-3`", "a task of `fetch`".
    pub fn called(&self) -> String {
        match (&self.name, &self.coroutine) {
            (Some(name), _) => format!("task `{name}`"),
            (None, Some(coroutine)) => format!("a task of `{coroutine}`"),
            (None, None) => "a task".to_owned(),
        }
    }

    /// That of one frame.
    fn of(row: &FrameRow) -> Self {
        let (name, coroutine) = match TaskFrame::read(&row.name).task {
            TaskName::Given(name) => (Some(name), None),
            TaskName::Of(coroutine) => (None, Some(short(&coroutine))),
            TaskName::Unknown => (None, None),
        };
        Self { name, coroutine, place: None, awaiters: Vec::new() }
    }
}

/// The task that a stack, outermost function first, runs.
pub fn task(rows: &[FrameRow]) -> Option<StackTask> {
    let is_task = |row: &FrameRow| row.module.as_deref() == Some(TASK_MODULE);
    let at = rows.iter().rposition(is_task)?;
    let mut task = StackTask::of(&rows[at]);
    if let Some(row) = rows[at + 1..].iter().find(|row| is_python(row)) {
        task.coroutine.get_or_insert_with(|| short(&row.name));
        let file = row.file.as_deref().map(file_name);
        task.place = file.zip(row.line).map(|(file, line)| format!("{file}:{line}"));
    }
    let awaiters = rows[..at].iter().rev().take_while(|row| is_task(row));
    task.awaiters = awaiters.map(|row| StackTask::of(row).called()).collect();
    Some(task)
}

/// A path without its directories.
fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, base)| base)
}

/// What the program's own function called in Python's library to wait: `Queue.get`,
/// `Thread.join`; `None` where it waited by itself (`with lock:`), or for what is no Python.
pub fn python_call(rows: &[FrameRow]) -> Option<String> {
    let mut python = rows.iter().rev().filter(|row| is_python(row)).peekable();
    python.next_if(|row| !is_own(row)).map(|first| {
        let mut outer = first;
        while let Some(next) = python.next_if(|row| !is_own(row)) {
            outer = next;
        }
        // Nobody's own function is around it: then the innermost says most.
        let outer = if python.peek().is_none() { first } else { outer };
        short(&outer.name)
    })
}

/// Whether a frame lies in libc, the loader, the kernel or a language's own library.
pub fn is_library(frame: &FrameRow) -> bool {
    if is_python(frame) {
        return !is_own(frame);
    }
    let module = frame.module.as_deref().unwrap_or_default();
    let module = module.rsplit_once('/').map_or(module, |(_, base)| base);
    frame.module.as_deref().is_some_and(|m| PYTHON_LIBRARIES.iter().any(|part| m.contains(part)))
        || LIBRARIES.iter().any(|library| module.starts_with(library))
        || PLUMBING.iter().any(|prefix| frame.name.starts_with(prefix))
}

/// A function name without the generic arguments that fill a line.
pub fn short(name: &str) -> String {
    const WIDEST: usize = 60;
    const BEARABLE: usize = 36;
    let bare = strip_hash(name);
    let bare = if bare.len() > BEARABLE { &without_arguments(bare) } else { bare };
    if bare.chars().count() <= WIDEST {
        return bare.to_owned();
    }
    bare.chars().take(WIDEST - 3).chain("...".chars()).collect()
}

/// A thread's name without the number that tells it from its like: `worker` for `worker-3`,
/// `Thread (run)` for Python's `Thread-3 (run)`.
pub fn stem(name: &str) -> Cow<'_, str> {
    if let Some((numbered, function)) = name.split_once(" (")
        && function.ends_with(')')
    {
        return Cow::Owned(format!("{} ({function}", stem(numbered)));
    }
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let bare = bare.trim_end_matches(['-', '_', '#', ':', '/', ' ', '.']);
    Cow::Borrowed(if bare.is_empty() { name } else { bare })
}

/// `timed<..>` for `timed<alloc::vec::Vec<Times, Global>>`; a name that begins with `<`
/// (`<T as Trait>::method`) keeps that part.
fn without_arguments(name: &str) -> String {
    let mut depth = 0;
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        match c {
            '<' if at == 0 || depth < 0 => {
                depth = -1;
                out.push(c);
            }
            '>' if depth < 0 => {
                depth = 0;
                out.push(c);
            }
            '<' => {
                if depth == 0 {
                    out.push_str("<..>");
                }
                depth += 1;
            }
            '>' if depth > 0 => depth -= 1,
            _ if depth <= 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Rust's `::h0123456789abcdef` suffix, where a demangler left it.
fn strip_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            path
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_arguments_first() {
        for (name, shown) in [
            ("settle", "settle"),
            ("timed<alloc::vec::Vec<Times, alloc::alloc::Global>>", "timed<..>"),
            (
                "core::ops::function::FnOnce::call_once{{vtable.shim}}::h0123456789abcdef",
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            ),
            (
                "<timesink_probe::Layer as tracing::Subscriber>::on_enter",
                "<timesink_probe::Layer as tracing::Subscriber>::on_enter",
            ),
        ] {
            assert_eq!(short(name), shown);
        }
    }

    #[test]
    fn what_waits_in_pythons_library_is_called_by_what_the_program_called() {
        let frame = |name: &str, file: &str| FrameRow {
            name: name.to_owned(),
            module: Some(file.to_owned()),
            file: Some(file.to_owned()),
            line: Some(3),
        };
        let threading = "/usr/lib/python3.11/threading.py";
        let queue = "/usr/lib/python3.11/queue.py";
        let own = frame("worker", "/srv/app.py");
        let native = FrameRow {
            name: "sem_wait".to_owned(),
            module: Some("/lib/libc.so.6".to_owned()),
            file: None,
            line: None,
        };
        let get = frame("Queue.get", queue);
        let stack = [frame("Thread.run", threading), own.clone(), get, native.clone()];
        assert_eq!(python_call(&stack).as_deref(), Some("Queue.get"));
        let waits = frame("Condition.wait", threading);
        let stack = [own.clone(), frame("Queue.get", queue), waits.clone(), native.clone()];
        assert_eq!(python_call(&stack).as_deref(), Some("Queue.get"));
        assert_eq!(python_call(&[own, native.clone()]), None);
        let pool = "/usr/lib/python3.11/concurrent/futures/thread.py";
        let stack = [frame("Thread.run", threading), frame("_worker", pool), native];
        assert_eq!(python_call(&stack).as_deref(), Some("_worker"));
    }

    #[test]
    fn threads_that_differ_by_a_number_are_alike() {
        for (name, like) in [
            ("worker-3", "worker"),
            ("ThreadPoolExecutor-0_12", "ThreadPoolExecutor-0"),
            ("Thread-12 (serve)", "Thread (serve)"),
            ("main", "main"),
            ("42", "42"),
        ] {
            assert_eq!(stem(name), like);
        }
    }

    #[test]
    fn libraries_are_not_the_programs_own() {
        let frame = |name: &str, module: &str, file: Option<&str>| FrameRow {
            name: name.to_owned(),
            module: Some(module.to_owned()),
            file: file.map(str::to_owned),
            line: None,
        };
        assert!(is_own(&frame("settle", "/bin/app", Some("src/main.rs"))));
        assert!(!is_own(&frame("lock", "/bin/app", Some("/rustc/1/library/std/src/x.rs"))));
        assert!(!is_own(&frame("__GI___poll", "/lib/libc.so.6", None)));
        assert!(!is_own(&frame("{closure#0}", "/bin/app", Some("src/main.rs"))));
        assert!(!is_own(&frame("app+0x10", "/bin/app", None)));
        assert!(!is_own(&frame("__gthread_mutex_lock", "/bin/app", Some("gthr-default.h"))));
    }
}
