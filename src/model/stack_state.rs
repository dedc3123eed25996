//! What the functions on a stack say about the futex word that its thread waits in.

use super::State;

/// What a function on the stack of a futex wait says about its word. Ask innermost first:
/// a condition variable that re-locks its mutex is waiting for the mutex.
pub fn state_of_function(name: &str) -> Option<State> {
    // `sem_wait_test+0x1130` is a place in a stripped file, whatever that file is called.
    if name.contains("+0x") {
        return None;
    }
    let name = name.split_once('@').map_or(name, |(bare, _)| bare);
    FUNCTIONS
        .iter()
        .find(|(pattern, _)| match pattern.strip_suffix('*') {
            Some(part) => name.contains(part),
            None => bare_name(name) == *pattern,
        })
        .map(|&(_, state)| state)
}

/// Without leading underscores and glibc's prefix for internal aliases.
fn bare_name(name: &str) -> &str {
    name.trim_start_matches('_').trim_start_matches("GI_").trim_start_matches('_')
}

/// What the source file of a function says about a word. Functions of Rust's standard
/// library that are inlined carry no path in their name (`wait`, `lock`): their file has it.
fn state_of_file(file: &str) -> Option<State> {
    FILES.iter().find(|(part, _)| file.ends_with(part)).map(|&(_, state)| state)
}

/// Ends of source paths.
const FILES: &[(&str, State)] = &[
    ("thread/scoped.rs", State::Join),
    ("sync/barrier.rs", State::Join),
    ("poison/barrier.rs", State::Join),
    ("sync/mutex/futex.rs", State::Lock),
    ("sync/rwlock/futex.rs", State::Lock),
    ("sync/condvar/futex.rs", State::Condvar),
    ("sync/thread_parking/futex.rs", State::Condvar),
];

/// What a whole stack says about its futex word; functions and their source files,
/// innermost first. `parked`: the thread is in Python's parking lot, which a stripped interpreter does
/// not show (see [`Call::object`](super::Call::object)).
///
/// Rust's scoped threads and barriers wait on a park or condition variable of their own, so
/// a join just outside a condition decides.
pub fn state_of_stack<'a>(
    innermost_first: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    parked: bool,
) -> Option<State> {
    let frames: Vec<(&str, Option<&str>)> = innermost_first.take(DEEPEST).collect();
    let native = frames.iter().copied().filter(|(_, file)| !is_python(*file));
    let first = state_of_native(native);
    match state_of_python(&frames, parked) {
        Some(state) if first != Some(State::Gil) => Some(state),
        _ => first,
    }
}

/// Frames looked at.
const DEEPEST: usize = 32;

/// Whether functions of a file with this name are Python's: its name as Python has it.
pub fn is_python_file(file: &str) -> bool {
    let script = file.len() > 3 && file.as_bytes()[file.len() - 3..].eq_ignore_ascii_case(b".py");
    script || matches!(file, "<string>" | "<stdin>")
}

/// Whether a source file is one of Python's.
fn is_python(file: Option<&str>) -> bool {
    file.is_some_and(is_python_file)
}

/// Functions of Python's library that wait, and where they are: without their class, which older
/// versions do not tell.
const PYTHON: &[(&str, &str, State)] = &[
    ("_wait_for_tstate_lock", "/threading.py", State::Join),
    ("join", "/threading.py", State::Join),
    ("_shutdown", "/threading.py", State::Join),
    ("_wait", "/threading.py", State::Join),
    ("wait", "/threading.py", State::Condvar),
    ("wait_for", "/threading.py", State::Condvar),
    ("acquire", "/threading.py", State::Condvar),
    ("_worker", "/concurrent/futures/thread.py", State::Condvar),
    ("get", "/multiprocessing/queues.py", State::Condvar),
    ("__enter__", "/multiprocessing/synchronize.py", State::Lock),
];

/// Functions of the interpreter under which a thread waits for one of Python's locks.
const PYTHON_LOCKS: &[&str] =
    &["PyThread_acquire_lock_timed", "acquire_timed", "_PyMutex_LockTimed", "_PyParkingLot_Park"];

/// What Python says about a wait for one of its locks: innermost functions of its library, with a
/// join around a condition deciding, or else that the program's own function takes a lock.
fn state_of_python(innermost_first: &[(&str, Option<&str>)], parked: bool) -> Option<State> {
    const NEARBY: usize = 6;
    let (native, python): (Vec<_>, Vec<_>) =
        innermost_first.iter().copied().partition(|(_, file)| !is_python(*file));
    let of = |(function, file): &(&str, Option<&str>)| {
        let bare = function.rsplit('.').next().unwrap_or(function);
        let row = PYTHON
            .iter()
            .find(|(name, path, _)| bare == *name && file.is_some_and(|file| file.ends_with(path)));
        row.map(|row| row.2)
    };
    let first = python.first()?;
    if of(first).is_none() {
        let waits = |(function, _): &(&str, Option<&str>)| PYTHON_LOCKS.contains(function);
        let other = |(function, _): &(&str, Option<&str>)| {
            function.contains("SimpleQueue") || *function == "ThreadHandle_join"
        };
        let takes = (parked || native.iter().any(waits)) && !native.iter().any(other);
        return takes.then_some(State::Lock);
    }
    let mut states = python.iter().take(NEARBY).map_while(of);
    let inner = states.next();
    if states.any(|state| state == State::Join) { Some(State::Join) } else { inner }
}

fn state_of_native<'a>(
    innermost_first: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Option<State> {
    /// Frames between `Condvar::wait` and `Barrier::wait`, `park` and `scope`, with room for
    /// inlined helpers.
    const NEARBY: usize = 6;
    let mut states = innermost_first
        .map(|(function, file)| state_of_function(function).or_else(|| state_of_file(file?)));
    let first = states.find_map(|state| state)?;
    if !matches!(first, State::Condvar | State::Lock) {
        return Some(first);
    }
    // The GIL is itself a mutex and a condition variable inside `take_gil`.
    let around: Vec<State> = states.take(NEARBY).flatten().collect();
    let outer = if around.contains(&State::Gil) {
        State::Gil
    } else if first == State::Condvar && around.contains(&State::Join) {
        State::Join
    } else {
        first
    };
    Some(outer)
}

/// Function names: without leading underscores (and glibc's `__GI_`), or, with a `*`, a part.
const FUNCTIONS: &[(&str, State)] = &[
    ("take_gil", State::Gil),
    ("ThreadHandle_join", State::Join),
    ("std::thread::scoped::scope*", State::Join),
    ("std::sync::barrier::Barrier::wait*", State::Join),
    ("std::sync::poison::barrier::Barrier::wait*", State::Join),
    ("lll_lock_wait", State::Lock),
    ("lll_lock_wait_private", State::Lock),
    ("pthread_mutex_lock*", State::Lock),
    ("pthread_mutex_timedlock*", State::Lock),
    ("pthread_mutex_clocklock*", State::Lock),
    ("pthread_rwlock_*", State::Lock),
    ("mutex::futex::Mutex*lock_contended*", State::Lock),
    ("lock_contended*", State::Lock),
    ("read_contended*", State::Lock),
    ("write_contended*", State::Lock),
    ("lock_slow*", State::Lock),
    ("lock_exclusive_slow*", State::Lock),
    ("lock_shared_slow*", State::Lock),
    ("pthread_cond_*", State::Condvar),
    ("condvar::*", State::Condvar),
    ("sem_wait*", State::Condvar),
    ("sem_timedwait*", State::Condvar),
    ("sem_clockwait*", State::Condvar),
    ("pthread_barrier_wait*", State::Join),
    ("pthread_join*", State::Join),
    ("pthread_timedjoin*", State::Join),
    ("pthread_clockjoin*", State::Join),
    ("std::thread::park*", State::Condvar),
    ("std::thread::Thread::park*", State::Condvar),
    ("std::thread::current::park*", State::Condvar),
    ("parking_lot_core::*", State::Condvar),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_name_what_a_word_is() {
        for (function, state) in [
            ("sem_wait_test+0x1130", None),
            ("__GI___lll_lock_wait", Some(State::Lock)),
            ("___pthread_mutex_lock", Some(State::Lock)),
            ("pthread_cond_wait@@GLIBC_2.3.2", Some(State::Condvar)),
            ("std::sys::sync::mutex::futex::Mutex::lock_contended", Some(State::Lock)),
            ("std::sys::sync::condvar::futex::Condvar::wait", Some(State::Condvar)),
            ("parking_lot::raw_mutex::RawMutex::lock_slow", Some(State::Lock)),
            ("__pthread_clockjoin_ex", Some(State::Join)),
            ("take_gil", Some(State::Gil)),
            ("main", None),
        ] {
            assert_eq!(state_of_function(function), state, "{function}");
        }
    }

    #[test]
    fn the_innermost_function_decides_but_a_join_beats_its_condition() {
        let relock = ["__lll_lock_wait", "pthread_cond_wait", "main"];
        let of = |names: &[&str]| state_of_stack(names.iter().map(|&name| (name, None)), false);
        assert_eq!(of(&relock), Some(State::Lock));
        let scope = ["syscall", "std::thread::park", "std::thread::scoped::scope", "main"];
        assert_eq!(of(&scope), Some(State::Join));
        assert_eq!(of(&["main"]), None);
        let gil = ["__futex_abstimed_wait_common64", "pthread_cond_timedwait", "take_gil", "main"];
        assert_eq!(of(&gil), Some(State::Gil));
        let inlined = [
            ("futex_wait", Some("/rustc/x/library/std/src/sys/pal/unix/futex.rs")),
            ("wait_optional_timeout", Some("/rustc/x/library/std/src/sys/sync/condvar/futex.rs")),
            ("wait", Some("/rustc/x/library/std/src/sync/barrier.rs")),
        ];
        assert_eq!(state_of_stack(inlined.into_iter(), false), Some(State::Join));
        assert_eq!(state_of_stack(inlined.into_iter().take(2), false), Some(State::Condvar));
    }

    #[test]
    fn pythons_functions_tell_locks_from_conditions_and_joins() {
        const THREADING: Option<&str> = Some("/usr/lib/python3.11/threading.py");
        const QUEUE: Option<&str> = Some("/usr/lib/python3.11/queue.py");
        const APP: Option<&str> = Some("/srv/app.py");
        let of = |python: &[(&'static str, Option<&'static str>)]| {
            let native = [("__new_sem_wait_slow64", None), ("PyThread_acquire_lock_timed", None)];
            state_of_stack(native.into_iter().chain(python.iter().copied()), false)
        };
        assert_eq!(of(&[("worker", APP)]), Some(State::Lock));
        let get = [("Condition.wait", THREADING), ("Queue.get", QUEUE), ("worker", APP)];
        assert_eq!(of(&get), Some(State::Condvar));
        // Below 3.11 without the class.
        let join = [("_wait_for_tstate_lock", THREADING), ("join", THREADING), ("main", APP)];
        assert_eq!(of(&join), Some(State::Join));
        let barrier = [("wait", THREADING), ("wait_for", THREADING), ("_wait", THREADING)];
        assert_eq!(of(&barrier), Some(State::Join));
        // A function of the program that is called like one of the library.
        assert_eq!(of(&[("join", APP)]), Some(State::Lock));
        // A stripped interpreter shows its C library at most; a parked thread takes a lock all the same.
        let stripped = [("sem_clockwait@@GLIBC_2.30", None), ("worker", APP)];
        assert_eq!(state_of_stack(stripped.into_iter(), false), Some(State::Condvar));
        assert_eq!(state_of_stack(stripped.into_iter(), true), Some(State::Lock));
        // The end of a thread is waited for in the same way.
        let end = [("_PyParkingLot_Park", None), ("ThreadHandle_join", None), ("main", APP)];
        assert_eq!(state_of_stack(end.into_iter(), true), Some(State::Join));
        let gil = [("take_gil", None), ("worker", APP)];
        assert_eq!(state_of_stack(gil.into_iter(), false), Some(State::Gil));
    }
}
