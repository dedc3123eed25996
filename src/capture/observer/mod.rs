//! Looks at sleeping threads from outside: what they wait in, on what, and where in the
//! program. Serves every tier; needs no privilege over one's own children.
//!
//! One look reads `/proc/PID/task/TID/syscall`, the stack behind the stack pointer it gives,
//! and what the descriptor is; then it reads the first again, together with the number of
//! times the thread got a CPU. A thread that moved in between was not asleep: nothing is said.
//! Looks are bounded by a budget per second, because each costs tens of microseconds. Whatever
//! was not looked at stays unknown.
#![allow(clippy::disallowed_methods)] // the impure edge reads files and clocks

mod sockets;

use self::sockets::Sockets;
use super::naming::Job;
use super::naming::Naming;
use super::procfs;
use super::procfs::CallText;
use super::sys::perf_event::monotonic;
use super::sys::process_vm;
use crate::model::Call;
use crate::model::Event;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Observation;
use crate::model::Pid;
use crate::model::Text;
use crate::model::Tid;
use crate::symbols::RawStack;
use crate::symbols::Registers;
use std::io;

/// Looks per second at most: at 30-60 us each this stays under 3 % of one CPU.
const LOOKS_PER_SECOND: u64 = 500;

/// Looks that may be saved up for a burst (a pool that goes idle at once).
const BURST: u64 = 100;

/// Stack bytes read from the stack pointer upwards.
const STACK_BYTES: usize = 16 * 1024;

/// Descriptors remembered as already described.
const KNOWN_OBJECTS: usize = 65_536;

/// Looks at sleeping threads.
#[derive(Debug)]
pub struct Observer {
    stacks: bool,
    /// Looks left, in billionths.
    credit: u64,
    refilled: Nanos,
    /// When each was first met.
    known: FastMap<(Pid, u32, u64), Nanos>,
    sockets: Sockets,
    looks: u64,
    moved: u64,
    refused: u64,
    over_budget: u64,
}

/// What one look saw.
#[derive(Debug)]
pub struct Look {
    /// The look.
    pub observation: Observation,
    /// The thread's stack, where it could be read.
    pub stack: Option<RawStack>,
    /// What it waits on, when that was not said before.
    pub object: Option<ObjectInfo>,
}

impl Look {
    /// Sends the stack to the naming thread, which delivers the observation with its id, and
    /// everything else to `events`.
    pub fn deliver(self, naming: Option<&mut Naming>, events: &mut dyn FnMut(Event)) {
        if let Some(object) = self.object {
            events(Event::Object(object));
        }
        let event = Event::Observation(self.observation);
        match (self.stack, naming) {
            (Some(raw), Some(naming)) => naming.send(Job::Stack { raw, event }),
            _ => events(event),
        }
    }
}

/// What must be the same before and after a look.
#[derive(PartialEq, Eq)]
struct Still {
    /// The `syscall` file: call, arguments, stack and instruction pointer.
    call: Vec<u8>,
    /// Times the thread got a CPU.
    runs: Option<u64>,
}

impl Still {
    fn read(pid: Pid, tid: Tid) -> io::Result<Self> {
        let sched = procfs::read_task(pid, tid, "schedstat");
        let runs = sched.and_then(|b| procfs::parse_schedstat(&b)).map(|s| s.runs);
        Ok(Self { call: std::fs::read(format!("/proc/{}/task/{}/syscall", pid.0, tid.0))?, runs })
    }
}

impl Observer {
    /// With `stacks`, looks take the thread's stack as well.
    pub fn new(stacks: bool) -> Self {
        Self {
            stacks,
            credit: BURST * 1_000_000_000,
            refilled: monotonic(),
            known: FastMap::default(),
            sockets: Sockets::default(),
            looks: 0,
            moved: 0,
            refused: 0,
            over_budget: 0,
        }
    }

    /// Takes one look from the budget, if there is one at `now`.
    pub fn may_look(&mut self, now: Nanos) -> bool {
        let earned = (now - self.refilled).0.saturating_mul(LOOKS_PER_SECOND);
        self.credit = self.credit.saturating_add(earned).min(BURST * 1_000_000_000);
        self.refilled = self.refilled.max(now);
        let left = self.credit.checked_sub(1_000_000_000);
        match left {
            Some(left) => self.credit = left,
            None => self.over_budget += 1,
        }
        left.is_some()
    }

    /// Looks at one thread. `None` if it does not sleep, moved meanwhile, is gone or may not be
    /// looked at.
    pub fn look(&mut self, pid: Pid, tid: Tid) -> Option<Look> {
        let before = match Still::read(pid, tid) {
            Ok(before) => before,
            Err(error) => {
                self.refused += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
                return None;
            }
        };
        let time = monotonic();
        let text = procfs::parse_syscall(&before.call)?;
        let CallText::Blocked { call, sp, pc } = text else { return None };
        let state = procfs::parse_stat(&procfs::read_task(pid, tid, "stat")?)?.state;
        // Ready again (or dead): it does not wait any more.
        if matches!(state, b'R' | b'Z' | b'X') {
            return None;
        }
        let stack = self.stacks.then(|| stack(pid, sp, pc)).flatten();
        let found = call
            .filter(|_| readable(sp))
            .map(|(number, args)| self.describe(pid, tid, number, args));
        if Still::read(pid, tid).ok()? != before {
            self.moved += 1;
            return None;
        }
        self.looks += 1;
        let seen = match (&found, call) {
            // A stopped thread is in no call of its own: neither a wait nor a fault.
            _ if matches!(state, b'T' | b't') => None,
            (Some((call, _)), _) => Some(Some(*call)),
            (None, None) => Some(None),
            (None, Some(_)) => None,
        };
        let object = found.and_then(|(call, label)| self.object(pid, time, &call, label));
        let uninterruptible = state == b'D';
        let observation = Observation { time, tid, call: seen, uninterruptible, stack: None };
        Some(Look { observation, stack, object })
    }

    /// The call with its descriptor looked up, and what that descriptor is called.
    pub(super) fn describe(
        &mut self,
        pid: Pid,
        tid: Tid,
        number: u16,
        args: [u64; 6],
    ) -> (Call, Option<Text>) {
        let [arg0, arg1, arg2, ..] = args;
        let mut call = Call { number, arg0, arg1, arg2: arg2 as u32, ..Call::default() };
        if !takes_descriptor(number) {
            return (call, None);
        }
        call.fd = FdKind::Unknown;
        let path = format!("/proc/{}/task/{}/fd/{}", pid.0, tid.0, arg0 as u32);
        let Some(link) = procfs::link(&path) else { return (call, None) };
        let target = String::from_utf8_lossy(link.as_bytes());
        call.fd = FdKind::from_link(&target);
        call.inode = bracketed(&target).unwrap_or(0);
        match call.fd {
            FdKind::File | FdKind::Tty => {
                if let Some((kind, inode)) = process_vm::file_kind(&path) {
                    let terminal = call.fd == FdKind::Tty && kind == FdKind::Char;
                    call.fd = if terminal { FdKind::Tty } else { kind };
                    call.inode = inode;
                }
            }
            FdKind::SocketOther => {
                if let Some((kind, label)) = self.sockets.find(pid, call.inode) {
                    call.fd = kind;
                    return (call, Some(label));
                }
            }
            _ => {}
        }
        (call, Some(link))
    }

    /// What the descriptor of `call` refers to, the first time it is met.
    fn object(
        &mut self,
        pid: Pid,
        time: Nanos,
        call: &Call,
        label: Option<Text>,
    ) -> Option<ObjectInfo> {
        let (label, descriptor) = (label?, call.arg0 as u32);
        if self.known.len() >= KNOWN_OBJECTS {
            self.known.clear();
        }
        let new = self.known.insert((pid, descriptor, call.inode), time).is_none();
        let (kind, inode) = (call.fd, call.inode);
        new.then_some(ObjectInfo { time, pid, descriptor, kind, inode, label })
    }

    /// What a reader of the report must know of the looks.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.over_budget > 0 {
            warnings.push(format!(
                "some waits were not looked at: more than {LOOKS_PER_SECOND} looks a second would \
                 cost too much"
            ));
        }
        if self.refused > 0 {
            warnings.push(format!(
                "{} looks at sleeping threads were refused (other user, or not dumpable)",
                self.refused
            ));
        }
        warnings
    }
}

/// Whether call numbers of this thread can be read: they are those of `x86_64`, and a 32-bit
/// program under it (its stack lies below 4 GiB) numbers them differently.
pub(super) fn readable(sp: u64) -> bool {
    cfg!(target_arch = "x86_64") && sp > u64::from(u32::MAX)
}

/// The stack from `sp` upwards. Empty where the program's memory may not be read.
fn stack(pid: Pid, sp: u64, pc: u64) -> Option<RawStack> {
    let bytes = process_vm::read_memory(pid, sp, STACK_BYTES);
    // The frame pointer is in a register that nobody outside may read without stopping the thread.
    let registers = Some(Registers { ip: pc, sp, fp: None });
    (!bytes.is_empty()).then_some(RawStack { pid, registers, bytes, ..RawStack::default() })
}

/// The number in `pipe:[123]` or `socket:[123]`.
fn bracketed(link: &str) -> Option<u64> {
    link.strip_suffix(']')?.split_once(":[")?.1.parse().ok()
}

/// Whether the first argument of this call (`x86_64` numbers) is the descriptor it works on.
fn takes_descriptor(number: u16) -> bool {
    matches!(
        i64::from(number),
        libc::SYS_read
            | libc::SYS_write
            | libc::SYS_close
            | libc::SYS_fstat
            | libc::SYS_lseek
            | libc::SYS_ioctl
            | libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_sendfile
            | libc::SYS_splice
            | libc::SYS_tee
            | libc::SYS_vmsplice
            | libc::SYS_copy_file_range
            | libc::SYS_connect
            | libc::SYS_accept
            | libc::SYS_accept4
            | libc::SYS_sendto
            | libc::SYS_recvfrom
            | libc::SYS_sendmsg
            | libc::SYS_recvmsg
            | libc::SYS_sendmmsg
            | libc::SYS_recvmmsg
            | libc::SYS_shutdown
            | libc::SYS_fcntl
            | libc::SYS_flock
            | libc::SYS_fsync
            | libc::SYS_fdatasync
            | libc::SYS_syncfs
            | libc::SYS_sync_file_range
            | libc::SYS_ftruncate
            | libc::SYS_fallocate
            | libc::SYS_getdents64
            | libc::SYS_fadvise64
            | libc::SYS_readahead
            | libc::SYS_epoll_pwait
            | libc::SYS_epoll_pwait2
            | libc::SYS_io_uring_enter
            | libc::SYS_mq_timedsend
            | libc::SYS_mq_timedreceive
    ) || is_old_call(number)
}

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
fn is_old_call(number: u16) -> bool {
    matches!(i64::from(number), libc::SYS_epoll_wait | libc::SYS_getdents)
}
/// Calls that newer architectures do not have.
#[cfg(not(target_arch = "x86_64"))]
fn is_old_call(_number: u16) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::mpsc;
    use std::time::Duration;
    use std::time::Instant;

    fn own_tid() -> Tid {
        let link = std::fs::read_link("/proc/thread-self").expect("own thread in /proc");
        let tid = link.file_name().and_then(|n| n.to_str()).expect("a number");
        Tid(tid.parse().expect("a number"))
    }

    /// Looks at a thread that does `wait` until the look has succeeded.
    fn seen(wait: impl FnOnce() + Send + 'static, stacks: bool) -> (Observer, Look) {
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            send.send(own_tid()).expect("the test listens");
            wait();
        });
        let tid = receive.recv().expect("the thread speaks");
        let mut observer = Observer::new(stacks);
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(look) = observer.look(Pid(std::process::id()), tid)
                && look.observation.call.flatten().is_some()
            {
                return (observer, look);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the thread was never seen asleep");
    }

    #[test]
    fn a_read_from_a_pipe_is_named_with_its_pipe() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (_, look) = seen(
            move || {
                reader.read_exact(&mut [0]).ok();
            },
            true,
        );
        let call = look.observation.call.flatten().expect("in a call");
        assert_eq!((call.number, call.fd), (0, FdKind::Pipe));
        assert_ne!(call.inode, 0);
        let object = look.object.expect("met for the first time");
        assert_eq!(object.label.to_string(), format!("pipe:[{}]", call.inode));
        assert!(look.stack.expect("own memory is readable").bytes.len() >= 1024);
        drop(writer);
    }

    #[test]
    fn a_socket_is_named_with_its_addresses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (_, look) = seen(
            move || {
                listener.accept().ok();
            },
            false,
        );
        let call = look.observation.call.flatten().expect("in a call");
        assert_eq!(call.fd, FdKind::SocketInet);
        assert_eq!(look.object.expect("new").label.to_string(), format!("tcp {address} listening"));
        assert!(look.stack.is_none());
        drop(std::net::TcpStream::connect(address));
    }

    #[test]
    fn a_running_thread_is_not_asleep() {
        let mut observer = Observer::new(false);
        assert!(observer.look(Pid(std::process::id()), own_tid()).is_none());
        assert!(observer.look(Pid(std::process::id()), Tid(u32::MAX)).is_none());
    }

    #[test]
    fn looks_are_bounded_per_second() {
        let mut observer = Observer::new(false);
        let start = observer.refilled;
        let count =
            |observer: &mut Observer, now| (0..10_000).filter(|_| observer.may_look(now)).count();
        assert_eq!(count(&mut observer, start) as u64, BURST);
        let later = start + Nanos::from_millis(100);
        assert_eq!(count(&mut observer, later) as u64, LOOKS_PER_SECOND / 10);
        assert!(!observer.warnings().is_empty());
    }
}
