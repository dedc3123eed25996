//! What a wait is called: in one short line, what it waits in and for.

use crate::analysis::NamedWords;
use crate::model::Call;
use crate::model::FdKind;
use crate::model::ProcessId;
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
    /// Of descriptors and futex words.
    process: Option<(ProcessId, u32)>,
}

impl WaitKey {
    /// The key of a wait in `state` and `call`, of a process and its kernel pid.
    pub fn new(state: State, call: Option<Call>, process: ProcessId, pid: u32) -> Self {
        let blank = Self { state, number: None, fd: FdKind::None, arg: 0, inode: 0, process: None };
        let process = Some((process, pid));
        let Some(call) = call else { return blank };
        let known = Self { number: Some(call.number), ..blank };
        if call.fd != FdKind::None {
            // An inode is the same for all processes; a bare descriptor is not.
            return Self { fd: call.fd, arg: call.arg0, inode: call.inode, process, ..known };
        }
        if is_futex(call.number) { Self { arg: call.object(), process, ..known } } else { known }
    }
}

/// What is waited for is called.
#[derive(Default)]
pub struct Called {
    /// Descriptors of processes, by kernel pid, descriptor and inode.
    pub descriptors: BTreeMap<(u32, u32, u64), Text>,
    /// Futex words, by the program itself.
    pub names: NamedWords,
    /// The variables that they lie in.
    pub symbols: BTreeMap<(ProcessId, u64), Text>,
}

/// Names waits.
pub struct Namer<'a> {
    called: &'a Called,
}

impl<'a> Namer<'a> {
    /// With what a trace says.
    pub fn new(called: &'a Called) -> Self {
        Self { called }
    }

    /// ``lock `accounts` ``, `lock in_bss`, `lock 0x7f00`, `read pipe:[123]`, `sleep (clock_nanosleep)`, `page_fault`.
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
            Some(number) if is_futex(number) => format!("{state} {}", self.word(key)),
            Some(number) => format!("{state} ({})", syscall_label(number)),
        }
    }

    fn word(&self, key: &WaitKey) -> String {
        let of = |(process, _)| {
            let symbol = || self.called.symbols.get(&(process, key.arg)).map(Text::to_string);
            self.called.names.of(process, key.arg, "`").or_else(symbol)
        };
        key.process.and_then(of).unwrap_or_else(|| format!("{:#x}", key.arg))
    }

    fn descriptor(&self, key: &WaitKey) -> String {
        let pid = key.process.map_or(0, |(_, pid)| pid);
        let label = self.called.descriptors.get(&(pid, key.arg as u32, key.inode));
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
        let symbol = ((ProcessId(1), 0x7f08), Text::from("in_bss"));
        let called = Called {
            descriptors: BTreeMap::from([((7, 3, 9), Text::from("/tmp/x\ny"))]),
            symbols: BTreeMap::from([symbol]),
            ..Called::default()
        };
        let namer = Namer::new(&called);
        let call = |number, arg0, fd, inode| Call { number, arg0, fd, inode, ..Call::default() };
        for (state, call, name) in [
            (State::Lock, Some(call(202, 0x7f00, FdKind::None, 0)), "lock 0x7f00"),
            (State::Lock, Some(call(202, 0x7f08, FdKind::None, 0)), "lock in_bss"),
            (State::Gil, Some(call(202, 0x7f00, FdKind::None, 0)), "Python's GIL"),
            (State::Pipe, Some(call(0, 3, FdKind::Pipe, 123)), "read pipe:[123]"),
            (State::Pipe, Some(call(0, 3, FdKind::Pipe, 0)), "read pipe (fd 3)"),
            (State::Disk, Some(call(0, 3, FdKind::File, 9)), "read /tmp/x\\ny"),
            (State::Sleep, Some(call(230, 1, FdKind::None, 0)), "sleep (clock_nanosleep)"),
            (State::PageFault, None, "page_fault"),
            (State::Unknown, None, "unknown (reason not seen)"),
        ] {
            assert_eq!(namer.name(&WaitKey::new(state, call, ProcessId(1), 7)), name);
        }
    }
}
