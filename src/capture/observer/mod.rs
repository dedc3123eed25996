//! Looks at sleeping threads from outside: what they wait in, on what, and where in the
//! program. Serves every tier; needs no privilege over one's own children.
//!
//! One look reads how often the thread got a CPU, its `/proc/PID/task/TID/syscall`, the stack
//! behind the stack pointer it gives, and what the descriptor is; then it reads the first
//! again. A thread that moved in between was not asleep: nothing is said. So all that a look
//! says was true at one time, in one wait. Looks are bounded by the CPU time that they take,
//! measured, not by their number. Whatever was not looked at stays unknown.
#![allow(clippy::disallowed_methods)] // the impure edge reads files and clocks

mod files;
mod python;
mod sockets;

use self::files::Content;
use self::files::Files;
use self::files::Which;
use self::python::Pythons;
use self::sockets::Sockets;
use super::naming::Job;
use super::naming::Naming;
use super::procfs;
use super::procfs::CallText;
use super::python::Found;
use super::python::PythonFrames;
use super::sys::perf_event::monotonic;
use super::sys::perf_event::thread_cpu;
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

/// Looks, with the unwinding of what they saw, may use one part in this many of one CPU,
const CPU_SHARE: u64 = 40;
/// and while the program leaves a CPU idle, of that one. Where a look takes 50 us instead of 15 the
/// smaller budget left 18-35 % of `lock_contention` unknown, this one 1.2 %.
const IDLE_CPU_SHARE: u64 = 10;

/// CPU time that may be saved up for a burst (a pool that goes idle at once), ns.
const BURST: i64 = 10_000_000;

/// Stack bytes read from the stack pointer upwards.
const STACK_BYTES: usize = 16 * 1024;

/// Descriptors remembered as already described.
const KNOWN_OBJECTS: usize = 65_536;

/// Looks at sleeping threads.
#[derive(Debug)]
pub struct Observer {
    stacks: bool,
    /// The program leaves a CPU idle.
    spare: bool,
    pythons: Pythons,
    files: Files,
    /// CPU time left for looks, ns. Below zero: one cost more than there was.
    credit: i64,
    /// Cost of unwinding that was charged, since the beginning.
    charged: Nanos,
    refilled: Nanos,
    /// When each was first met.
    known: FastMap<(Pid, u32, u32, u64), Nanos>,
    sockets: Sockets,
    refused: u64,
    over_budget: u64,
}

/// Why a look gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unseen {
    /// The thread does not sleep, or did not through the whole look.
    Moved,
    /// There is no such thread any more.
    Gone,
    /// It may not be looked at, or its files make no sense.
    Refused,
}

/// What one look saw.
#[derive(Debug)]
pub struct Look {
    /// The look.
    pub observation: Observation,
    /// The thread's stack, where it could be read.
    pub stack: Option<RawStack>,
    /// The functions of Python that it is in.
    pub python: PythonFrames,
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
            (Some(raw), Some(naming)) => {
                naming.send(Job::Stack { raw, python: self.python, event });
            }
            _ => events(event),
        }
    }
}

impl Observer {
    /// With `stacks`, looks take the thread's stack as well.
    pub fn new(stacks: bool) -> Self {
        Self {
            stacks,
            spare: false,
            pythons: Pythons::default(),
            files: Files::default(),
            credit: BURST,
            charged: Nanos::ZERO,
            refilled: monotonic(),
            known: FastMap::default(),
            sockets: Sockets::default(),
            refused: 0,
            over_budget: 0,
        }
    }

    /// Takes what was found of a process that runs Python, or no longer does.
    pub fn note_python(&mut self, found: &Found) {
        self.pythons.note(found);
    }

    /// Tells whether the program leaves a CPU idle, from the last question on until told otherwise.
    pub fn set_spare(&mut self, spare: bool) {
        self.spare = spare;
    }

    /// Whether the budget allows another look at `now`.
    pub fn may_look(&mut self, now: Nanos) -> bool {
        let share = if self.spare { IDLE_CPU_SHARE } else { CPU_SHARE };
        let earned = (now - self.refilled).0 / share;
        self.credit = self.credit.saturating_add_unsigned(earned).min(BURST);
        // What the division cuts off is earned next time.
        self.refilled += Nanos(earned * share);
        let allowed = self.credit > 0;
        self.over_budget += u64::from(!allowed);
        allowed
    }

    /// Takes from the budget what unwinding cost others: `total` since the beginning.
    pub fn charge(&mut self, total: Nanos) {
        self.credit = self.credit.saturating_sub_unsigned((total - self.charged).0);
        self.charged = total;
    }

    /// Looks at one thread.
    pub fn look(&mut self, pid: Pid, tid: Tid) -> Result<Look, Unseen> {
        let before = thread_cpu();
        let result = self.look_unpaid(pid, tid);
        self.credit = self.credit.saturating_sub_unsigned((thread_cpu() - before).0);
        match result {
            Err(Unseen::Gone) => self.files.close(pid, tid),
            Err(Unseen::Refused) => self.refused += 1,
            Ok(_) | Err(Unseen::Moved) => {}
        }
        result
    }

    fn look_unpaid(&mut self, pid: Pid, tid: Tid) -> Result<Look, Unseen> {
        let runs = self.runs(pid, tid)?;
        let before = self.read(pid, tid, Which::Syscall)?;
        let time = monotonic();
        let text = procfs::parse_syscall(before.bytes()).ok_or(Unseen::Refused)?;
        let CallText::Blocked { call, sp, pc } = text else { return Err(Unseen::Moved) };
        let stat = self.read(pid, tid, Which::Stat)?;
        let state = procfs::parse_stat(stat.bytes()).ok_or(Unseen::Refused)?.state;
        // Ready again (or dead): it does not wait any more.
        if matches!(state, b'R' | b'Z' | b'X') {
            return Err(Unseen::Moved);
        }
        let stack = self.stacks.then(|| stack(pid, sp, pc)).flatten();
        let python = match stack {
            Some(_) => self.pythons.frames(pid, tid),
            None => PythonFrames::None,
        };
        let found = call.filter(|_| readable(sp)).map(|call| self.describe(pid, tid, sp, call));
        // It got no CPU meanwhile, so all of this was of one wait.
        if self.runs(pid, tid)? != runs {
            return Err(Unseen::Moved);
        }
        // A kernel that does not count runs: at least it is in the same call.
        if runs == 0 && self.read(pid, tid, Which::Syscall)?.bytes() != before.bytes() {
            return Err(Unseen::Moved);
        }
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
        Ok(Look { observation, stack, python, object })
    }

    /// How often the thread got a CPU so far.
    fn runs(&mut self, pid: Pid, tid: Tid) -> Result<u64, Unseen> {
        let text = self.read(pid, tid, Which::SchedStat)?;
        Ok(procfs::parse_schedstat(text.bytes()).map_or(0, |sched| sched.runs))
    }

    fn read(&mut self, pid: Pid, tid: Tid, which: Which) -> Result<Content, Unseen> {
        self.files.read(pid, tid, which).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Unseen::Gone,
            _ => Unseen::Refused,
        })
    }

    /// The call with its descriptor looked up, and what that descriptor is called.
    pub(super) fn describe(
        &mut self,
        pid: Pid,
        tid: Tid,
        sp: u64,
        (number, args): (u16, [u64; 6]),
    ) -> (Call, Option<Text>) {
        let [arg0, arg1, arg2, ..] = args;
        let mut call = Call { number, arg0, arg1, arg2: arg2 as u32, ..Call::default() };
        if !takes_descriptor(number) {
            if call.futex_word().is_some() {
                call.inode = self.pythons.parked_for(pid, arg0, sp).unwrap_or(0);
            }
            return (call, None);
        }
        call.fd = FdKind::Unknown;
        let path = format!("/proc/{}/task/{}/fd/{}", pid.0, tid.0, arg0 as u32);
        let Some(link) = procfs::link(&path) else { return (call, None) };
        let target = String::from_utf8_lossy(link.as_bytes());
        call.fd = FdKind::from_link(&target);
        call.inode = bracketed(&target).unwrap_or(0);
        let named = matches!(call.fd, FdKind::File | FdKind::Tty);
        if (named || call.inode != 0)
            && let Some((kind, device, inode)) = process_vm::file_kind(&path)
        {
            (call.device, call.inode) = (device, inode);
            if named && !(call.fd == FdKind::Tty && kind == FdKind::Char) {
                call.fd = kind;
            }
        }
        if call.fd == FdKind::SocketOther {
            // One that is not in the tables yet gets its name at a later look.
            let found = self.sockets.find(pid, call.inode);
            call.fd = found.as_ref().map_or(call.fd, |found| found.0);
            return (call, found.map(|found| found.1));
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
        let Call { fd: kind, device, inode, .. } = *call;
        let new = self.known.insert((pid, descriptor, device, inode), time).is_none();
        new.then_some(ObjectInfo { time, pid, descriptor, kind, device, inode, label })
    }

    /// What a reader of the report must know of the looks.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.over_budget > 0 {
            warnings.push(format!(
                "some waits were not looked at, the shorter ones first: looks may use 1/{CPU_SHARE} of \
                 one CPU, and 1/{IDLE_CPU_SHARE} while the program leaves one idle"
            ));
        }
        if self.refused > 0 {
            warnings.push(format!(
                "{} looks at sleeping threads were refused, so what those waited in is `unknown`: their program is \
                 another user's, or guards its memory (`PR_SET_DUMPABLE`). With sudo timesink sees it",
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
            if let Ok(look) = observer.look(Pid(std::process::id()), tid)
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
    fn a_socket_that_was_met_before_it_had_a_name_gets_it_later() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (pid, tid) = (Pid(std::process::id()), own_tid());
        let fd = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&listener)).expect("open");
        let mut observer = Observer::new(false);
        let look = |observer: &mut Observer| {
            let accept = 43;
            let (call, label) = observer.describe(pid, tid, 0, (accept, [fd, 0, 0, 0, 0, 0]));
            (call.fd, observer.object(pid, Nanos(1), &call, label).map(|o| o.label.to_string()))
        };
        // As if the tables had just been read, before there was such a socket.
        observer.sockets.wait_until(Nanos(u64::MAX));
        assert_eq!(look(&mut observer), (FdKind::SocketOther, None));
        observer.sockets.wait_until(Nanos::ZERO);
        let named = format!("tcp {address} listening");
        assert_eq!(look(&mut observer), (FdKind::SocketInet, Some(named)));
        assert_eq!(look(&mut observer), (FdKind::SocketInet, None), "told once");
    }

    #[test]
    fn a_running_thread_is_not_asleep() {
        let mut observer = Observer::new(false);
        let own = Pid(std::process::id());
        assert_eq!(observer.look(own, own_tid()).err(), Some(Unseen::Moved));
        assert_eq!(observer.look(own, Tid(u32::MAX)).err(), Some(Unseen::Gone));
    }

    #[test]
    fn looks_are_bounded_by_what_they_cost() {
        let mut observer = Observer::new(false);
        let start = observer.refilled;
        assert!(observer.may_look(start));
        observer.charge(Nanos(BURST as u64));
        assert!(!observer.may_look(start));
        // A total, not an addition.
        observer.charge(Nanos(BURST as u64));
        assert!(!observer.may_look(start));
        let later = start + Nanos(CPU_SHARE * 1000);
        assert!(observer.may_look(later));
        observer.charge(Nanos(BURST as u64 + 1000));
        assert!(!observer.may_look(later));
        // Asked often, it earns no less: every part of a look's time counts.
        for step in 1..=CPU_SHARE {
            observer.may_look(later + Nanos(step));
        }
        assert_eq!(observer.credit, 1);
        // A CPU that is idle has more to spare.
        observer.set_spare(true);
        observer.may_look(later + Nanos(CPU_SHARE + IDLE_CPU_SHARE));
        assert_eq!(observer.credit, 2);
        assert!(observer.warnings()[0].contains("not looked at"));
    }

    #[test]
    fn a_look_is_paid_for() {
        let mut observer = Observer::new(true);
        assert_eq!(observer.look(Pid(1), Tid(u32::MAX)).err(), Some(Unseen::Gone));
        assert!(observer.credit < BURST);
    }
}
