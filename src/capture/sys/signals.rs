//! Signals: the terminal's go to the command alone, those sent to us are passed on.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Signals to be passed on, a bit each.
static PENDING: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_forward(signal: libc::c_int) {
    PENDING.fetch_or(1 << signal, Ordering::Relaxed);
}

/// Makes this process deaf to INT, QUIT and TSTP of the terminal (the command, in the same
/// process group, gets them from there) and collects TERM, HUP, USR1 and USR2 for [`take_pending`].
///
/// Handlers, not `SIG_IGN`: a handler is reset by exec, so the command starts with what its
/// caller gave it. A signal that was ignored already (`nohup`) stays ignored for both.
pub fn pass_through() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP] {
        handle(signal, on_nothing)?;
    }
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        handle(signal, on_forward)?;
    }
    // A limit of file size is then an error of `write`, which the report can speak of.
    handle(libc::SIGXFSZ, on_nothing)?;
    // Ignored, it would take the command's status away before we can ask for it.
    let mut old = action(libc::SIG_DFL);
    // SAFETY: both pointers are to valid actions.
    check(unsafe { libc::sigaction(libc::SIGCHLD, &raw const DEFAULT, &raw mut old) })?;
    SIGCHLD_IGNORED.store(old.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    Ok(())
}

/// Collects for [`take_pending`] what ends a recording of a process that is not ours: INT, QUIT,
/// TERM and HUP. None of them is passed on.
pub fn collect_endings() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP] {
        handle(signal, on_forward)?;
    }
    handle(libc::SIGXFSZ, on_nothing)
}

/// Whether SIGCHLD was ignored when this process started.
static SIGCHLD_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_nothing(_: libc::c_int) {}

/// Whether SIGPIPE was ignored when this process started, before Rust's runtime ignored it.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before `main` and before the runtime, which overwrites the disposition.
#[used]
// SAFETY: the loader calls functions of this section once, single-threaded; it takes arguments
// that a function without parameters leaves alone.
#[unsafe(link_section = ".init_array")]
static LOOK_AT_SIGPIPE: extern "C" fn() = look_at_sigpipe;

extern "C" fn look_at_sigpipe() {
    let mut old = action(libc::SIG_DFL);
    // SAFETY: a null new action only asks for the old one, into a valid place.
    if unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut old) } == 0 {
        SIGPIPE_IGNORED.store(old.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }
}

/// In a forked child: SIGPIPE and SIGCHLD as our caller had them. Rust resets the first to the
/// default for children, we the second for ourselves.
pub(super) fn restore_ignored() {
    if SIGCHLD_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: a plain system call, allowed between fork and exec.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    if SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: a plain system call, allowed between fork and exec.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
}

/// After the command has ended: Ctrl-C ends the report as it ends anything.
pub fn restore_terminal() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTERM, libc::SIGHUP] {
        let mut old = action(libc::SIG_DFL);
        // SAFETY: both pointers are to valid actions; the first asks only.
        unsafe {
            check(libc::sigaction(signal, std::ptr::null(), &raw mut old))?;
            if old.sa_sigaction != libc::SIG_IGN {
                check(libc::sigaction(signal, &raw const DEFAULT, std::ptr::null_mut()))?;
            }
        }
    }
    Ok(())
}

// SAFETY: an action of all zeroes is SIG_DFL with no flags and an empty mask.
static DEFAULT: libc::sigaction = unsafe { std::mem::zeroed() };

fn action(handler: usize) -> libc::sigaction {
    libc::sigaction { sa_sigaction: handler, ..DEFAULT }
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    let mut old = action(libc::SIG_DFL);
    // SAFETY: a null new action only asks for the old one.
    check(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut old) })?;
    if old.sa_sigaction == libc::SIG_IGN {
        return Ok(());
    }
    // No SA_RESTART: a signal must end the recorder's poll so that it is passed on at once.
    let new = action(handler as *const () as usize);
    // SAFETY: the handler only touches atomics.
    check(unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The signals that arrived since the last call.
pub fn take_pending() -> impl Iterator<Item = i32> {
    let pending = PENDING.swap(0, Ordering::Relaxed);
    (1..32).filter(move |signal| pending & (1 << signal) != 0)
}

/// Sends `signal` to a process that we started.
pub fn send(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::kill(pid as i32, signal) })
}

/// Stops this process as Ctrl-Z would have, so that the shell gets its terminal back.
pub fn stop_self() -> io::Result<()> {
    // SAFETY: plain system calls.
    check(unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) })
}
