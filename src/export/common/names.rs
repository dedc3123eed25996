//! What a wait is called: in one short line, what it waits in and for.

use crate::model::Call;
use crate::model::FdKind;
use crate::model::State;
use crate::model::Text;
use crate::model::is_futex;
use crate::model::syscall_label;
use std::collections::BTreeMap;

/// All that the name of a wait depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WaitKey {
    state: State,
    number: Option<u16>,
    fd: FdKind,
    /// Futex word or descriptor.
    arg: u64,
    inode: u64,
    pid: u32,
}

impl WaitKey {
    /// The key of a wait in `state` and `call`, of the process with this kernel pid.
    pub fn new(state: State, call: Option<Call>, pid: u32) -> Self {
        let blank = Self { state, number: None, fd: FdKind::None, arg: 0, inode: 0, pid: 0 };
        let Some(call) = call else { return blank };
        let known = Self { number: Some(call.number), ..blank };
        if call.fd != FdKind::None {
            // An inode is the same for all processes; a bare descriptor is not.
            return Self { fd: call.fd, arg: call.arg0, inode: call.inode, pid, ..known };
        }
        if is_futex(call.number) { Self { arg: call.object(), ..known } } else { known }
    }
}

/// Names waits.
pub struct Namer<'a> {
    objects: &'a BTreeMap<(u32, u32, u64), Text>,
}

impl<'a> Namer<'a> {
    /// With what descriptors are called.
    pub fn new(objects: &'a BTreeMap<(u32, u32, u64), Text>) -> Self {
        Self { objects }
    }

    /// `lock 0x7f00`, `read pipe:[123]`, `sleep (clock_nanosleep)`, `page_fault`.
    pub fn name(&self, key: &WaitKey) -> String {
        let state = key.state.name();
        match key.number {
            None if key.state == State::Unknown => "unknown (reason not seen)".to_owned(),
            None => state.to_owned(),
            Some(number) if key.fd != FdKind::None => {
                format!("{} {}", syscall_label(number), self.descriptor(key))
            }
            // It has several words, and a process has one.
            Some(number) if is_futex(number) && key.state == State::Gil => {
                "Python's GIL".to_owned()
            }
            Some(number) if is_futex(number) => format!("{state} {:#x}", key.arg),
            Some(number) => format!("{state} ({})", syscall_label(number)),
        }
    }

    fn descriptor(&self, key: &WaitKey) -> String {
        let label = self.objects.get(&(key.pid, key.arg as u32, key.inode));
        match label.filter(|label| !label.is_empty()) {
            Some(label) => label.to_string(),
            None if key.inode != 0 => format!("{}:[{}]", key.fd, key.inode),
            None => format!("{} (fd {})", key.fd, key.arg as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_named_by_what_it_is_in_and_for() {
        let labels = BTreeMap::from([((7, 3, 9), Text::from("/tmp/x\ny"))]);
        let namer = Namer::new(&labels);
        let call = |number, arg0, fd, inode| Call { number, arg0, fd, inode, ..Call::default() };
        for (state, call, name) in [
            (State::Lock, Some(call(202, 0x7f00, FdKind::None, 0)), "lock 0x7f00"),
            (State::Gil, Some(call(202, 0x7f00, FdKind::None, 0)), "Python's GIL"),
            (State::Pipe, Some(call(0, 3, FdKind::Pipe, 123)), "read pipe:[123]"),
            (State::Pipe, Some(call(0, 3, FdKind::Pipe, 0)), "read pipe (fd 3)"),
            (State::Disk, Some(call(0, 3, FdKind::File, 9)), "read /tmp/x\\ny"),
            (State::Sleep, Some(call(230, 1, FdKind::None, 0)), "sleep (clock_nanosleep)"),
            (State::PageFault, None, "page_fault"),
            (State::Unknown, None, "unknown (reason not seen)"),
        ] {
            assert_eq!(namer.name(&WaitKey::new(state, call, 7)), name);
        }
    }
}
