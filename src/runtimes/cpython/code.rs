//! Code objects: what a frame runs. Read once, and asked anew for whether it still is the same:
//! Python frees code objects and uses their addresses again.

use crate::model::FastMap;
use crate::model::Text;

use super::super::memory::MemoryExt;
use super::super::memory::Piece;
use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::ABSENT;
use super::Layout;
use super::Memory;
use super::library;
use super::lines;
use super::strings;

/// Code objects remembered. With more than that all are read anew.
const MOST_CODES: usize = 16_384;

/// Bytes of tables of lines remembered.
const MOST_BYTES: usize = 32 << 20;

/// Objects checked together.
const AT_A_TIME: usize = 64;

/// What tells one code object from another at the same address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Identity {
    kind: u64,
    filename: u64,
    name: u64,
    lines: u64,
    first_line: u32,
}

impl Identity {
    fn read(bytes: &[u8], layout: &Layout) -> Option<Self> {
        Some(Self {
            kind: u64_in(bytes, layout.object_type)?,
            filename: u64_in(bytes, layout.code_filename)?,
            name: u64_in(bytes, layout.name_of_code())?,
            lines: u64_in(bytes, layout.code_lines)?,
            first_line: u32_in(bytes, layout.code_first_line)?,
        })
    }
}

impl Layout {
    /// The qualified name, where there is one.
    fn name_of_code(&self) -> u32 {
        if self.code_qualname == ABSENT { self.code_name } else { self.code_qualname }
    }
}

/// A code object: a function, a module's body, a class's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    /// Its qualified name (`Queue.get`); below 3.11 the bare name (`get`).
    pub name: Text,
    /// The file that it was compiled from, as Python has it.
    pub file: Text,
    /// Its first line.
    pub first_line: u32,
    lines: Box<[u8]>,
    form: super::LineForm,
    identity: Identity,
    /// The snapshot in which it was last seen to be the same.
    checked: u64,
}

impl Code {
    /// The line of an instruction (see [`Frame::instruction`](super::Frame::instruction));
    /// `None` where the compiler gave it none.
    pub fn line(&self, instruction: Option<u32>) -> Option<u32> {
        match instruction {
            None => Some(self.first_line),
            Some(units) => lines::line(self.form, &self.lines, self.first_line, units),
        }
    }
}

/// The code objects met so far, by address.
#[derive(Debug, Default)]
pub(super) struct Codes {
    met: FastMap<u64, Code>,
    bytes: usize,
    /// The type of code objects, once one was recognised by the name of its type.
    kind: Option<u64>,
    /// Counts the snapshots.
    now: u64,
    buffer: Vec<u8>,
}

impl Codes {
    /// From now on, what was checked before must be checked again.
    pub fn expire(&mut self) {
        self.now += 1;
    }

    /// The code object at an address, if it was checked or read since [`expire`](Self::expire).
    pub fn known(&self, address: u64) -> Option<&Code> {
        self.met.get(&address).filter(|code| code.checked == self.now)
    }

    /// The code object that was at an address when it was last looked at.
    pub fn last_seen(&self, address: u64) -> Option<&Code> {
        self.met.get(&address)
    }

    /// Checks or reads code objects: each that is one is [`known`](Self::known) afterwards.
    pub fn check(&mut self, memory: &dyn Memory, layout: &Layout, addresses: &[u64]) {
        let size = layout.code_bytes as usize;
        let addresses = &addresses[..addresses.len().min(MOST_CODES)];
        let mut buffer = std::mem::take(&mut self.buffer);
        for some in addresses.chunks(AT_A_TIME) {
            buffer.resize(some.len() * size, 0);
            let pieces = some.iter().zip(buffer.chunks_exact_mut(size));
            let mut pieces: Vec<Piece<'_>> =
                pieces.map(|(&address, buffer)| Piece { address, buffer, read: false }).collect();
            memory.read_many(&mut pieces);
            for piece in pieces {
                let identity = if piece.read { Identity::read(piece.buffer, layout) } else { None };
                self.note(memory, layout, piece.address, identity);
            }
        }
        self.buffer = buffer;
    }

    fn is_full(&self) -> bool {
        self.met.len() >= MOST_CODES || self.bytes > MOST_BYTES
    }

    fn note(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        address: u64,
        identity: Option<Identity>,
    ) {
        if let Some(code) = self.met.get_mut(&address) {
            if identity == Some(code.identity) {
                code.checked = self.now;
                return;
            }
            self.bytes -= code.lines.len();
            self.met.remove(&address);
        }
        if self.is_full() {
            // Those of this snapshot are wanted still.
            let now = self.now;
            self.met.retain(|_, code| code.checked == now);
            self.bytes = self.met.values().map(|code| code.lines.len()).sum();
        }
        let identity = identity.filter(|_| !self.is_full());
        let Some(code) = identity.and_then(|it| self.read(memory, layout, address, it)) else {
            return;
        };
        self.bytes += code.lines.len();
        self.met.insert(address, code);
    }

    fn read(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        address: u64,
        identity: Identity,
    ) -> Option<Code> {
        let is_code = match self.kind {
            Some(kind) => kind == identity.kind,
            None => strings::type_name(memory, layout, identity.kind)?.as_bytes() == b"code",
        };
        is_code.then_some(())?;
        let code = Code {
            name: strings::string(memory, layout, identity.name)?,
            file: library::placed(strings::string(memory, layout, identity.filename)?),
            first_line: identity.first_line,
            lines: strings::bytes(memory, layout, identity.lines)?.into_boxed_slice(),
            form: layout.line_form,
            identity,
            checked: self.now,
        };
        // What was read through its pointers was its own only if it still has them.
        let again = memory.bytes(address, layout.code_bytes as usize)?;
        (Identity::read(&again, layout)? == identity).then_some(())?;
        self.kind = Some(identity.kind);
        Some(code)
    }
}
