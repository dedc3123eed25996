//! Starts the command so that it can be recorded from its first instruction: a child that
//! waits between fork and exec until the recorder is ready.
//!
//! `std::process::Command::spawn` returns only after exec, so it runs on a thread of its
//! own; the child announces its pid through one pipe and waits on another.

use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::JoinHandle;

/// A forked child that waits to exec its command.
pub struct Held {
    /// Its process id.
    pub pid: u32,
    go: File,
    spawned: JoinHandle<io::Result<std::process::Child>>,
}

/// Who the command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: String,
}

impl Held {
    /// Forks `command`, which then waits. Its standard streams, working directory, process
    /// group and terminal are the caller's.
    pub fn fork(mut command: Command, user: Option<&User>) -> io::Result<Self> {
        let (ready_read, ready_write) = pipe()?;
        let (go_read, go_write) = pipe()?;
        let (ready, go) = (ready_write.as_raw_fd(), go_read.as_raw_fd());
        let parent_end = go_write.as_raw_fd();
        let user = user.cloned();
        // SAFETY: between fork and exec only system calls are made, on descriptors that the
        // moved pipe ends below keep open until `spawn` has returned; nothing allocates.
        unsafe {
            command.pre_exec(move || {
                // Its own copy of the parent's end would keep the pipe open if the parent died.
                libc::close(parent_end);
                super::signals::restore_ignored();
                hold(ready, go)?;
                user.as_ref().map_or(Ok(()), become_user)
            });
        }
        let spawned =
            std::thread::Builder::new().name("timesink-spawn".into()).spawn(move || {
                let child = command.spawn();
                drop((ready_write, go_read));
                child
            })?;
        let mut pid = [0; 4];
        if let Err(error) = File::from(ready_read).read_exact(&mut pid) {
            // The fork itself failed: the thread knows why.
            return Err(spawned.join().map_or(error, |child| match child {
                Err(why) => why,
                Ok(_) => io::Error::other("the command started before it was let go"),
            }));
        }
        Ok(Self { pid: u32::from_ne_bytes(pid), go: File::from(go_write), spawned })
    }

    /// Lets it exec. The error is that of exec: not found, not executable, ...
    pub fn release(mut self) -> io::Result<()> {
        self.go.write_all(b"g")?;
        let child =
            self.spawned.join().map_err(|_| io::Error::other("the spawning thread died"))??;
        // Waiting is done by pid (`Waiter`), which also sees stops; dropping neither waits nor kills.
        drop(child);
        Ok(())
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [0; 2];
    // SAFETY: `fds` is an array of two, as pipe2 wants.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both descriptors are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// In the child: say who we are, wait for one byte. End of file means the recorder died.
fn hold(ready: RawFd, go: RawFd) -> io::Result<()> {
    // SAFETY: plain system calls on open descriptors and a buffer on this stack.
    unsafe {
        let pid = libc::getpid().to_ne_bytes();
        if libc::write(ready, pid.as_ptr().cast(), pid.len()) != 4 {
            return Err(io::Error::last_os_error());
        }
        let mut byte = 0u8;
        loop {
            match libc::read(go, (&raw mut byte).cast(), 1) {
                1 => return Ok(()),
                0 => libc::_exit(125),
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => return Err(io::Error::last_os_error()),
            }
        }
    }
}

/// In the child: drop to `user`. Groups first, for they need the privilege.
fn become_user(user: &User) -> io::Result<()> {
    // SAFETY: plain system calls; `groups` outlives them.
    let failed = unsafe {
        libc::setgroups(user.groups.len(), user.groups.as_ptr()) < 0
            || libc::setgid(user.gid) < 0
            || libc::setuid(user.uid) < 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Looks a user up by name or number.
pub fn find_user(name: &str) -> io::Result<User> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no user `{name}`"));
    let entry = if let Ok(uid) = name.parse::<u32>() {
        // SAFETY: getpwuid has no preconditions; one thread looks users up, at the start.
        unsafe { libc::getpwuid(uid) }
    } else {
        let name = CString::new(name).map_err(|_| unknown())?;
        // SAFETY: `name` is a C string that outlives the call.
        unsafe { libc::getpwnam(name.as_ptr()) }
    };
    if entry.is_null() {
        return Err(unknown());
    }
    // SAFETY: a non-null answer points to a filled entry, valid until the next look-up.
    let entry = unsafe { &*entry };
    // SAFETY: the strings of a filled entry are C strings.
    let (login, home) = unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
    let mut groups = vec![0; 64];
    let mut count = groups.len() as libc::c_int;
    loop {
        // SAFETY: `groups` has room for `count` entries.
        let found = unsafe {
            libc::getgrouplist(entry.pw_name, entry.pw_gid, groups.as_mut_ptr(), &raw mut count)
        };
        if found >= 0 {
            break;
        }
        groups.resize(groups.len() * 2, 0);
        count = groups.len() as libc::c_int;
    }
    groups.truncate(count as usize);
    Ok(User {
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups,
        name: login.to_string_lossy().into_owned(),
        home: home.to_string_lossy().into_owned(),
    })
}

/// What became of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended, with this status word as `wait` gives it.
    Ended(u32),
    /// It was stopped, as by Ctrl-Z.
    Stopped,
    /// Nothing, or only a signal to this process.
    Nothing,
}

/// Waits for one child by pid.
pub struct Waiter {
    pid: u32,
    pidfd: Option<OwnedFd>,
}

impl Waiter {
    /// For the child `pid`.
    pub fn new(pid: u32) -> Self {
        // SAFETY: a plain system call. It may fail (before Linux 5.3): then we poll.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: a non-negative answer is a new descriptor that nobody else owns.
        let pidfd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
        Self { pid, pidfd }
    }

    /// Waits at most `timeout_ms`, less if the child ends or a signal arrives.
    pub fn wait(&self, timeout_ms: i32) -> io::Result<Change> {
        let change = self.look()?;
        if change != Change::Nothing {
            return Ok(change);
        }
        let mut poll = libc::pollfd {
            fd: self.pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd; a negative descriptor is ignored and only the timeout counts.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        self.look()
    }

    fn look(&self) -> io::Result<Change> {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        let found = unsafe {
            libc::waitpid(self.pid as i32, &raw mut status, libc::WNOHANG | libc::WUNTRACED)
        };
        match found {
            0 => Ok(Change::Nothing),
            found if found < 0 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(Change::Nothing),
                error => Err(error),
            },
            _ if libc::WIFSTOPPED(status) => Ok(Change::Stopped),
            _ => Ok(Change::Ended(status as u32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(command: Command) -> io::Result<u32> {
        let held = Held::fork(command, None)?;
        let waiter = Waiter::new(held.pid);
        assert_eq!(waiter.wait(20)?, Change::Nothing, "it must wait");
        held.release()?;
        loop {
            if let Change::Ended(status) = waiter.wait(1000)? {
                return Ok(status);
            }
        }
    }

    #[test]
    fn a_held_child_execs_when_released_and_its_status_is_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        assert_eq!(status_of(command).expect("sh runs"), 7 << 8);
        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        assert_eq!(status_of(command).expect("sh runs"), 9);
    }

    #[test]
    fn a_command_that_cannot_start_says_why() {
        let error = status_of(Command::new("/nonexistent/command")).expect_err("no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = status_of(Command::new("/etc/passwd")).expect_err("not executable");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = find_user("root").expect("root exists");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(find_user("0").expect("by number"), root);
        assert!(find_user("no such user").is_err());
    }
}
