//! What a thread asked of the kernel when it left the CPU.

use super::syscalls::nr;
use std::fmt;

/// The system call a thread was in, with the arguments that name what it waits for.
///
/// Numbers are those of `x86_64`; a recorder for another architecture translates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Call {
    /// System call number.
    pub number: u16,
    /// First argument: futex word, file descriptor, pid, ...
    pub arg0: u64,
    /// Second argument: futex operation, number of descriptors (poll), ...
    pub arg1: u64,
    /// Third argument, low half: futex value, timeout in ms (poll), ...
    pub arg2: u32,
    /// What the file descriptor in `arg0` is; [`FdKind::None`] when the call takes none there.
    pub fd: FdKind,
    /// Device of that inode, `major << 20 | minor`; 0 if none or not seen.
    pub device: u32,
    /// Inode number behind that descriptor, 0 if none or not seen. Of an anonymous file
    /// (eventfd, epoll, ...), which has none of its own: a number that all its copies share. Of a
    /// futex call of a parked thread (see [`Call::object`]): address of what it is parked for.
    pub inode: u64,
}

/// The word of a futex call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FutexWord {
    /// Its address, or that of what its thread is parked for.
    pub address: u64,
    /// Whether the call said that other processes may use it too.
    pub shared: bool,
}

impl Call {
    const FUTEX: u16 = nr("futex");
    const FUTEX_WAIT: u16 = nr("futex_wait");

    /// For a wait for any of several futex words (`futex_waitv`): the same as a wait for the one that
    /// `waker`, a system call, let go of. `None` for any other call, and any other waker.
    pub fn one_of_several(&self, waker: u16, word: u64) -> Option<Self> {
        const FUTEX_WAITV: u16 = nr("futex_waitv");
        const FUTEX_WAKE: u16 = nr("futex_wake");
        let wakes = matches!(waker, Self::FUTEX | FUTEX_WAKE);
        let (number, arg1, arg2) = (Self::FUTEX_WAIT, 0, 0);
        (self.number == FUTEX_WAITV && wakes).then_some(Self {
            number,
            arg0: word,
            arg1,
            arg2,
            ..*self
        })
    }

    /// The futex word that it waits on, where it is a wait on one word. `futex_waitv` has its words
    /// in memory, and what `futex_wait` says about other processes is not recorded.
    pub fn futex_word(&self) -> Option<FutexWord> {
        const PRIVATE: u64 = 128;
        match self.number {
            Self::FUTEX => {
                Some(FutexWord { address: self.object(), shared: self.arg1 & PRIVATE == 0 })
            }
            Self::FUTEX_WAIT => Some(FutexWord { address: self.object(), shared: false }),
            _ => None,
        }
    }

    /// Address of what a futex call waits for. That is its word; but in a parking lot (Python's since
    /// 3.14) each thread sleeps on a word of its own, on its stack, and what it is parked for lies
    /// elsewhere. Of other calls: the first argument.
    pub fn object(&self) -> u64 {
        if self.fd == FdKind::None && self.inode != 0 { self.inode } else { self.arg0 }
    }
}

/// What kind of thing a file descriptor refers to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum FdKind {
    /// The call takes no descriptor.
    #[default]
    None = 0,
    /// A descriptor whose kind was not seen.
    Unknown = 1,
    /// A regular file.
    File = 2,
    /// A directory.
    Directory = 3,
    /// A block device.
    Block = 4,
    /// A terminal or pseudo-terminal.
    Tty = 5,
    /// Another character device.
    Char = 6,
    /// A pipe or FIFO.
    Pipe = 7,
    /// A TCP, UDP or other IP socket.
    SocketInet = 8,
    /// A unix-domain socket.
    SocketUnix = 9,
    /// Another socket: netlink, vsock, ...
    SocketOther = 10,
    /// An eventfd.
    Eventfd = 11,
    /// An epoll instance.
    Epoll = 12,
    /// A timerfd.
    Timerfd = 13,
    /// A signalfd.
    Signalfd = 14,
    /// An inotify or fanotify instance.
    Inotify = 15,
    /// A pidfd.
    Pidfd = 16,
    /// Another anonymous inode: `io_uring`, perf event, ...
    Anon = 17,
}

impl FdKind {
    /// Every kind, at the index of its discriminant.
    pub const ALL: [Self; 18] = [
        Self::None,
        Self::Unknown,
        Self::File,
        Self::Directory,
        Self::Block,
        Self::Tty,
        Self::Char,
        Self::Pipe,
        Self::SocketInet,
        Self::SocketUnix,
        Self::SocketOther,
        Self::Eventfd,
        Self::Epoll,
        Self::Timerfd,
        Self::Signalfd,
        Self::Inotify,
        Self::Pidfd,
        Self::Anon,
    ];

    /// The kind with this discriminant; unknown ones (a newer recorder's) are [`FdKind::Unknown`].
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Unknown)
    }

    /// A word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unknown => "descriptor",
            Self::File => "file",
            Self::Directory => "directory",
            Self::Block => "block device",
            Self::Tty => "terminal",
            Self::Char => "device",
            Self::Pipe => "pipe",
            Self::SocketInet => "socket",
            Self::SocketUnix => "unix socket",
            Self::SocketOther => "other socket",
            Self::Eventfd => "eventfd",
            Self::Epoll => "epoll",
            Self::Timerfd => "timerfd",
            Self::Signalfd => "signalfd",
            Self::Inotify => "inotify",
            Self::Pidfd => "pidfd",
            Self::Anon => "anonymous file",
        }
    }

    /// From the target of a `/proc/PID/fd/N` link, which names everything but plain
    /// files, directories and devices: those come out as [`FdKind::File`] for the caller
    /// to refine, and sockets as [`FdKind::SocketOther`].
    pub fn from_link(target: &str) -> Self {
        if target.starts_with("pipe:[") {
            return Self::Pipe;
        }
        if target.starts_with("socket:[") {
            return Self::SocketOther;
        }
        let Some(anon) = target.strip_prefix("anon_inode:") else {
            let tty = target.starts_with("/dev/pts/") || target.starts_with("/dev/tty");
            return if tty { Self::Tty } else { Self::File };
        };
        match anon.trim_matches(['[', ']']) {
            "eventfd" => Self::Eventfd,
            "eventpoll" => Self::Epoll,
            "timerfd" => Self::Timerfd,
            "signalfd" => Self::Signalfd,
            "inotify" | "fanotify" => Self::Inotify,
            "pidfd" => Self::Pidfd,
            _ => Self::Anon,
        }
    }
}

impl fmt::Display for FdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
