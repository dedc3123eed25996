//! From what was seen of a wait to its [`State`]: one table, first match wins.
//!
//! Operation codes of futex are hints, never proof: a glibc mutex and a barrier use the
//! same one, as do a Rust mutex, a Rust condition variable and `CPython`'s GIL. So the
//! innermost known function on a stack taken at that futex word decides first
//! ([`state_of_function`]), and operation and value only where no stack was seen.

use super::Call;
use super::Context;
use super::FdKind;
use super::State;
use super::syscalls::nr;
use std::sync::LazyLock;

/// What was seen of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The call it was in; `None` outside any.
    pub call: Option<Call>,
    /// In a sleep that no signal ends.
    pub uninterruptible: bool,
    /// Where the wake-up ran, if it was seen.
    pub woken_in: Option<Context>,
    /// What stacks taken at this futex word say it is.
    pub word: Option<State>,
    /// Whether the futex value is the id of a living thread of the tree: the word of a join.
    pub value_is_thread: bool,
}

/// One line of the table.
pub struct Rule {
    /// The calls it speaks of; empty for blocking outside any call.
    pub calls: &'static [u16],
    /// And what must hold besides.
    pub when: fn(&Wait) -> bool,
    /// The state then.
    pub state: State,
    /// Why, for readers of the table and of the tests.
    pub because: &'static str,
}

/// The state of a wait.
pub fn classify(wait: &Wait) -> State {
    rule_for(wait).map_or(State::Other, |rule| rule.state)
}

/// The line of the table that decides; `None` means [`State::Other`].
pub fn rule_for(wait: &Wait) -> Option<&'static Rule> {
    let rules = match wait.call {
        Some(call) => BY_CALL.get(usize::from(call.number) + 1)?,
        None => &BY_CALL[0],
    };
    rules.iter().copied().find(|rule| (rule.when)(wait))
}

/// The table by system call number plus one, and at 0 for none: a trace asks for every wait.
static BY_CALL: LazyLock<Vec<Vec<&'static Rule>>> = LazyLock::new(|| {
    let last = RULES.iter().flat_map(|rule| rule.calls).copied().max().unwrap_or(0);
    let mut index = vec![Vec::new(); usize::from(last) + 2];
    for rule in RULES {
        for &call in rule.calls {
            index[usize::from(call) + 1].push(rule);
        }
        if rule.calls.is_empty() {
            index[0].push(rule);
        }
    }
    index
});

const ON_DESCRIPTOR: &[u16] = &[
    nr("read"),
    nr("write"),
    nr("readv"),
    nr("writev"),
    nr("pread64"),
    nr("pwrite64"),
    nr("preadv"),
    nr("pwritev"),
    nr("preadv2"),
    nr("pwritev2"),
    nr("sendto"),
    nr("recvfrom"),
    nr("sendmsg"),
    nr("recvmsg"),
    nr("sendmmsg"),
    nr("recvmmsg"),
    nr("connect"),
    nr("accept"),
    nr("accept4"),
    nr("shutdown"),
    nr("close"),
    nr("sendfile"),
    nr("splice"),
    nr("tee"),
    nr("vmsplice"),
    nr("copy_file_range"),
    nr("ioctl"),
];
const FLUSH: &[u16] =
    &[nr("fsync"), nr("fdatasync"), nr("sync"), nr("syncfs"), nr("sync_file_range"), nr("msync")];
const ON_FILES: &[u16] = &[
    nr("open"),
    nr("openat"),
    nr("openat2"),
    nr("creat"),
    nr("stat"),
    nr("lstat"),
    nr("fstat"),
    nr("newfstatat"),
    nr("statx"),
    nr("access"),
    nr("faccessat"),
    nr("faccessat2"),
    nr("lseek"),
    nr("getdents"),
    nr("getdents64"),
    nr("readlink"),
    nr("readlinkat"),
    nr("rename"),
    nr("renameat"),
    nr("renameat2"),
    nr("link"),
    nr("linkat"),
    nr("symlink"),
    nr("symlinkat"),
    nr("unlink"),
    nr("unlinkat"),
    nr("mkdir"),
    nr("mkdirat"),
    nr("rmdir"),
    nr("truncate"),
    nr("ftruncate"),
    nr("fallocate"),
    nr("fadvise64"),
    nr("readahead"),
    nr("chmod"),
    nr("fchmod"),
    nr("fchmodat"),
    nr("chown"),
    nr("fchown"),
    nr("lchown"),
    nr("fchownat"),
    nr("utimensat"),
    nr("mount"),
    nr("umount2"),
    nr("statfs"),
    nr("fstatfs"),
    nr("setxattr"),
    nr("getxattr"),
    nr("io_getevents"),
    nr("io_submit"),
    nr("execve"),
    nr("execveat"),
];
const POLLS: &[u16] = &[
    nr("poll"),
    nr("ppoll"),
    nr("select"),
    nr("pselect6"),
    nr("epoll_wait"),
    nr("epoll_pwait"),
    nr("epoll_pwait2"),
    nr("io_uring_enter"),
];
const SELECTS: &[u16] = &[nr("select"), nr("pselect6")];
const PLAIN_POLLS: &[u16] = &[nr("poll"), nr("ppoll")];
const SLEEPS: &[u16] = &[nr("nanosleep"), nr("clock_nanosleep")];
const FUTEX: &[u16] = &[nr("futex")];
/// Waits on one word: `futex(uaddr, op, val, ..)` and `futex_wait(uaddr, val, mask, flags, ..)`.
const WORDS: &[u16] = &[nr("futex"), nr("futex_wait")];
const FUTEX2: &[u16] = &[nr("futex_wait")];
/// On several: its first argument is where their list lies, and no word.
const FUTEX_LIST: &[u16] = &[nr("futex_waitv")];
const FORKS: &[u16] = &[nr("vfork"), nr("clone"), nr("clone3"), nr("fork")];
const WAITS: &[u16] = &[nr("wait4"), nr("waitid")];
const FILE_LOCKS: &[u16] = &[nr("flock"), nr("fcntl")];
const SEMAPHORES: &[u16] = &[nr("semop"), nr("semtimedop")];
const QUEUES: &[u16] = &[nr("msgrcv"), nr("msgsnd"), nr("mq_timedreceive"), nr("mq_timedsend")];
const MEMORY: &[u16] = &[
    nr("mmap"),
    nr("munmap"),
    nr("mprotect"),
    nr("mremap"),
    nr("madvise"),
    nr("brk"),
    nr("mlock"),
    nr("mlockall"),
];

const FUTEX_WAIT: u64 = 0;
const FUTEX_LOCK_PI: u64 = 6;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_LOCK_PI2: u64 = 13;
/// Mask that takes `FUTEX_PRIVATE_FLAG` (128) and `FUTEX_CLOCK_REALTIME` (256) off an operation.
const FUTEX_OPERATION: u64 = 0x7f;
/// glibc's and Rust's mutex word: 2 = locked, with waiters.
const CONTENDED: u32 = 2;

fn futex_op(wait: &Wait) -> u64 {
    wait.call.map_or(u64::MAX, |call| call.arg1 & FUTEX_OPERATION)
}

fn futex_value(wait: &Wait) -> u32 {
    wait.call.map_or(0, |call| call.arg2)
}

/// The value that `futex_wait` expects: its second argument, as it has no operation.
fn futex2_value(wait: &Wait) -> u32 {
    wait.call.map_or(0, |call| call.arg1 as u32)
}

fn on(wait: &Wait, kinds: &[FdKind]) -> bool {
    wait.call.is_some_and(|call| kinds.contains(&call.fd))
}

fn woken_by_interrupt(wait: &Wait) -> bool {
    matches!(wait.woken_in, Some(Context::Softirq | Context::Hardirq))
}

const fn rule(
    calls: &'static [u16],
    when: fn(&Wait) -> bool,
    state: State,
    because: &'static str,
) -> Rule {
    Rule { calls, when, state, because }
}

/// The table.
pub static RULES: &[Rule] = &[
    // Futex words: what a stack taken there says, then operation and value.
    rule(WORDS, |w| w.word == Some(State::Gil), State::Gil, "take_gil on the stack of this word"),
    rule(
        WORDS,
        |w| w.word == Some(State::Lock),
        State::Lock,
        "a lock function on the stack of this word",
    ),
    rule(
        WORDS,
        |w| w.word == Some(State::Join),
        State::Join,
        "a join or barrier on the stack of this word",
    ),
    rule(
        WORDS,
        |w| w.word == Some(State::Condvar),
        State::Condvar,
        "a condition or semaphore on the stack of this word",
    ),
    rule(
        FUTEX,
        |w| matches!(futex_op(w), FUTEX_LOCK_PI | FUTEX_LOCK_PI2),
        State::Lock,
        "priority-inheriting mutex",
    ),
    rule(
        FUTEX,
        |w| w.value_is_thread && futex_op(w) == FUTEX_WAIT_BITSET,
        State::Join,
        "the value is a living thread's id: pthread_join",
    ),
    rule(
        FUTEX,
        |w| futex_op(w) == FUTEX_WAIT && futex_value(w) == CONTENDED,
        State::Lock,
        "glibc mutex: WAIT while the word is 2",
    ),
    rule(
        FUTEX,
        |w| w.call.is_some_and(|c| c.arg1 == 0x89) && futex_value(w) == CONTENDED,
        State::Lock,
        "Rust std mutex: WAIT_BITSET while the word is 2",
    ),
    rule(FUTEX, |_| true, State::Condvar, "condition variable, semaphore, park or queue"),
    rule(FUTEX2, |w| futex2_value(w) == CONTENDED, State::Lock, "futex2 wait while the word is 2"),
    rule(FUTEX2, |_| true, State::Condvar, "futex2 wait"),
    rule(FUTEX_LIST, |_| true, State::Condvar, "whichever of several words changes first"),
    rule(SEMAPHORES, |_| true, State::Condvar, "System V semaphore"),
    rule(FILE_LOCKS, |w| !w.uninterruptible, State::Lock, "file lock"),
    // Timers.
    rule(SLEEPS, |_| true, State::Sleep, "nanosleep"),
    rule(
        PLAIN_POLLS,
        |w| w.call.is_some_and(|c| c.arg1 == 0),
        State::Sleep,
        "poll without descriptors",
    ),
    rule(
        SELECTS,
        |w| w.call.is_some_and(|c| c.arg0 == 0),
        State::Sleep,
        "select without descriptors",
    ),
    rule(ON_DESCRIPTOR, |w| on(w, &[FdKind::Timerfd]), State::Sleep, "timerfd"),
    rule(POLLS, |_| true, State::Poll, "poll, select or epoll"),
    // Descriptors.
    rule(
        ON_DESCRIPTOR,
        |w| on(w, &[FdKind::SocketInet, FdKind::SocketOther]),
        State::Network,
        "socket",
    ),
    rule(
        ON_DESCRIPTOR,
        |w| on(w, &[FdKind::Pipe, FdKind::SocketUnix, FdKind::Eventfd]),
        State::Pipe,
        "pipe, unix socket or eventfd",
    ),
    rule(
        ON_DESCRIPTOR,
        |w| on(w, &[FdKind::File, FdKind::Directory, FdKind::Block]),
        State::Disk,
        "file or block device",
    ),
    rule(FLUSH, |_| true, State::Disk, "flush to disk"),
    rule(
        ON_FILES,
        |w| w.uninterruptible && w.woken_in != Some(Context::Task),
        State::Disk,
        "file system call in an uninterruptible sleep that no task ended",
    ),
    rule(QUEUES, |_| true, State::Pipe, "message queue"),
    // Children.
    rule(WAITS, |_| true, State::Child, "wait for a child"),
    rule(
        FORKS,
        |w| w.uninterruptible,
        State::Child,
        "vfork: the parent sleeps until the child execs",
    ),
    // Memory.
    rule(
        MEMORY,
        |w| w.uninterruptible && woken_by_interrupt(w),
        State::PageFault,
        "memory call that waited for a device",
    ),
    rule(&[], |w| w.uninterruptible, State::PageFault, "uninterruptible outside any system call"),
    rule(
        &[],
        |_| true,
        State::PageFault,
        "asleep outside any system call: a fault that had to wait (userfaultfd, swap, FUSE)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arg0: u64, arg1: u64, arg2: u32, fd: FdKind) -> Call {
        Call { number: nr(name), arg0, arg1, arg2, fd, ..Call::default() }
    }

    fn wait(call: impl Into<Option<Call>>) -> Wait {
        Wait {
            call: call.into(),
            uninterruptible: false,
            woken_in: None,
            word: None,
            value_is_thread: false,
        }
    }

    /// The table, read aloud: what was seen, and the state it must give.
    #[test]
    fn the_table_says_what_the_design_says() {
        use FdKind::{Eventfd, File, None as NoFd, Pipe, SocketInet, SocketUnix, Timerfd, Tty};
        for (name, arg0, arg1, arg2, fd, expected) in [
            ("futex", 0x1000, 0x80, 2, NoFd, State::Lock),
            ("futex", 0x1000, 0x80, 7, NoFd, State::Condvar),
            ("futex", 0x1000, 0x89, 2, NoFd, State::Lock),
            ("futex", 0x1000, 0x89, u32::MAX, NoFd, State::Condvar),
            ("futex", 0x1000, 0x189, 0, NoFd, State::Condvar),
            ("futex", 0x1000, 0x86, 0, NoFd, State::Lock),
            ("futex_wait", 0x1000, 2, u32::MAX, NoFd, State::Lock),
            ("futex_wait", 0x1000, 7, 2, NoFd, State::Condvar),
            ("futex_waitv", 0x7000, 2, 2, NoFd, State::Condvar),
            ("clock_nanosleep", 1, 0, 0, NoFd, State::Sleep),
            ("poll", 0, 0, 50, NoFd, State::Sleep),
            ("poll", 0x7000, 2, 50, NoFd, State::Poll),
            ("select", 0, 0, 0, NoFd, State::Sleep),
            ("epoll_wait", 4, 0, 0, FdKind::Epoll, State::Poll),
            ("read", 3, 0, 0, File, State::Disk),
            ("read", 3, 0, 0, Pipe, State::Pipe),
            ("read", 3, 0, 0, Eventfd, State::Pipe),
            ("read", 3, 0, 0, Timerfd, State::Sleep),
            ("read", 0, 0, 0, Tty, State::Other),
            ("recvfrom", 3, 0, 0, SocketInet, State::Network),
            ("recvmsg", 3, 0, 0, SocketUnix, State::Pipe),
            ("fsync", 3, 0, 0, File, State::Disk),
            ("wait4", 99, 0, 0, NoFd, State::Child),
            ("flock", 3, 2, 0, File, State::Lock),
            ("semop", 1, 0, 0, NoFd, State::Condvar),
            ("rt_sigsuspend", 0, 0, 0, NoFd, State::Other),
        ] {
            let seen = wait(call(name, arg0, arg1, arg2, fd));
            assert_eq!(classify(&seen), expected, "{name}({arg0:#x}, {arg1:#x}, {arg2}) on {fd}");
        }
    }

    #[test]
    fn stacks_outrank_operation_codes() {
        let condvar_by_code = call("futex", 0x1000, 0x189, 0, FdKind::None);
        for state in [State::Lock, State::Join, State::Condvar, State::Gil] {
            let seen = Wait { word: Some(state), ..wait(condvar_by_code) };
            assert_eq!(classify(&seen), state);
            let second = call("futex_wait", 0x1000, 0, 0, FdKind::None);
            assert_eq!(classify(&Wait { word: Some(state), ..wait(second) }), state);
            let several = call("futex_waitv", 0x1000, 2, 0, FdKind::None);
            let list = Wait { word: Some(state), ..wait(several) };
            assert_eq!(classify(&list), State::Condvar, "a list of words is none");
        }
    }

    #[test]
    fn a_join_needs_a_living_thread_in_the_word() {
        let seen = wait(call("futex", 0x1000, 0x109, 4242, FdKind::None));
        assert_eq!(classify(&seen), State::Condvar, "multiprocessing.Lock has the same code");
        assert_eq!(classify(&Wait { value_is_thread: true, ..seen }), State::Join);
    }

    #[test]
    fn uninterruptible_sleeps() {
        let vfork = Wait { uninterruptible: true, ..wait(call("vfork", 0, 0, 0, FdKind::None)) };
        assert_eq!(classify(&vfork), State::Child);
        let fault = Wait { uninterruptible: true, ..wait(None) };
        assert_eq!(classify(&fault), State::PageFault);
        let open = wait(call("openat", 0, 0, 0, FdKind::None));
        let by_device = Wait { uninterruptible: true, woken_in: Some(Context::Softirq), ..open };
        assert_eq!(classify(&by_device), State::Disk);
        let by_task = Wait { uninterruptible: true, woken_in: Some(Context::Task), ..open };
        assert_eq!(classify(&by_task), State::Other, "a kernel lock, as far as is known");
    }

    #[test]
    fn every_rule_can_decide_something() {
        for (i, rule) in RULES.iter().enumerate() {
            assert!(!rule.because.is_empty(), "rule {i} says why");
        }
    }
}
