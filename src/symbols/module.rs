//! Modules: each file once, however many processes map it, with what unwinding needs of it.

use std::collections::BTreeMap;

use framehop::ExplicitModuleSectionInfo;
use framehop::Unwinder as _;
use framehop::x86_64::UnwinderX86_64;

use crate::model::FrameId;
use crate::model::ModuleId;
use crate::model::Pid;
use crate::model::Text;

use super::callsite;
use super::elf::Elf;
use super::elf::Source;
use super::elf::UnwindSections;
use super::extent;
use super::files;
use super::files::FileKey;
use super::files::Wanted;
use super::script::Interpreter;
use super::signal;
use super::signal::Trampolines;

/// Files kept open at a time: half of the usual soft limit of 1024 descriptors.
const MAX_OPEN: usize = 512;
/// Bytes of unwind sections kept at a time. They are read again when needed again.
const MAX_UNWIND_BYTES: usize = 24 << 20;
/// `EM_X86_64`.
const X86_64: u16 = 62;

/// Index into [`Modules`].
pub(super) type Index = usize;

/// Unwinds within one module, in addresses as linked, so that all processes share it.
pub(super) struct Unwinding {
    pub unwinder: UnwinderX86_64<Vec<u8>>,
    pub trampolines: Trampolines,
    /// First addresses of functions, sorted, counted from `base`.
    functions: Vec<u32>,
    base: u64,
    bytes: usize,
    /// What call frame information covers, where that is not all.
    covered: Option<Vec<(u64, u64)>>,
}

impl Unwinding {
    /// Whether call frame information may cover an address as linked.
    pub fn covers(&self, address: u64) -> bool {
        let Some(covered) = &self.covered else { return true };
        let after = covered.partition_point(|&(start, _)| start <= address);
        after.checked_sub(1).is_some_and(|last| address < covered[last].1)
    }

    /// Where the function that covers an address as linked begins.
    pub fn function(&self, address: u64) -> Option<u64> {
        let within = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let after = self.functions.partition_point(|&f| f <= within);
        Some(self.base + u64::from(self.functions[after.checked_sub(1)?]))
    }
}

enum State {
    Unread,
    Useless,
    Ready(Box<Unwinding>),
}

/// What a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Vdso,
    /// Executable memory of this process without a file.
    Anonymous(Pid),
    Kernel,
    /// The pseudo-module of the mark for stacks that miss their outer part.
    Truncated,
}

pub(super) struct Module {
    pub path: Text,
    pub kind: Kind,
    pub build_id: Vec<u8>,
    pub key: Option<FileKey>,
    pub source: Option<Source>,
    pub elf: Option<Elf>,
    /// What it has of CPython, if it has it.
    pub python: Option<Interpreter>,
    /// Its id once a frame refers to it.
    pub id: Option<ModuleId>,
    /// Frames without names, with their addresses as linked (absolute ones where not linked).
    pub pending: Vec<(FrameId, u64)>,
    /// Frames named by the symbol table, whose source lines are still to be looked up.
    pub coarse: Vec<(FrameId, u64)>,
    state: State,
    used: u64,
}

impl Module {
    fn new(path: Text, kind: Kind) -> Self {
        Self {
            path,
            kind,
            build_id: Vec::new(),
            key: None,
            source: None,
            elf: None,
            python: None,
            id: None,
            pending: Vec::new(),
            coarse: Vec::new(),
            state: State::Unread,
            used: 0,
        }
    }

    /// Reads the unwind sections into an unwinder of its own.
    fn load(&self) -> Option<Unwinding> {
        let elf = self.elf.as_ref().filter(|elf| elf.machine == X86_64)?;
        let sections = elf.unwind_sections(self.source.as_ref()?)?;
        let trampolines = signal::trampolines(&sections.eh_frame.0, sections.eh_frame.1.start);
        let covered = extent::covered(&sections);
        let UnwindSections { base, end, eh_frame, eh_frame_header } = sections;
        let header_bytes = eh_frame_header.as_ref().map_or(0, |h| h.0.len());
        let functions = eh_frame_header.as_ref().map(|(header, range)| {
            callsite::functions(header, range.start, base).unwrap_or_default()
        });
        let functions = functions.unwrap_or_default();
        let bytes = eh_frame.0.len() + header_bytes + 4 * functions.len();
        let bytes = bytes + covered.as_ref().map_or(0, |all| size_of_val(all.as_slice()));
        let (header, header_range) = eh_frame_header.unzip();
        let info = ExplicitModuleSectionInfo {
            base_svma: base,
            eh_frame_svma: Some(eh_frame.1),
            eh_frame: Some(eh_frame.0),
            eh_frame_hdr_svma: header_range,
            eh_frame_hdr: header,
            ..ExplicitModuleSectionInfo::default()
        };
        let mut unwinder = UnwinderX86_64::new();
        unwinder.add_module(framehop::Module::new(String::new(), base..end, base, info));
        Some(Unwinding { unwinder, trampolines, functions, base, bytes, covered })
    }
}

/// All modules met so far.
#[derive(Default)]
pub(super) struct Modules {
    list: Vec<Module>,
    by_key: BTreeMap<FileKey, Index>,
    /// Mappings whose identity was given, to open each file once and not per process.
    by_identity: BTreeMap<((u64, u64), Text), Index>,
    /// Files that could not be opened, by path and build id.
    unopened: BTreeMap<(Text, Vec<u8>), Index>,
    clock: u64,
    open: usize,
    unwind_bytes: usize,
}

impl Modules {
    pub fn get(&self, index: Index) -> &Module {
        &self.list[index]
    }

    pub fn get_mut(&mut self, index: Index) -> &mut Module {
        &mut self.list[index]
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Adds a module that is no file on disk.
    pub fn add(&mut self, path: &str, kind: Kind) -> Index {
        self.list.push(Module::new(Text::from(path), kind));
        self.list.len() - 1
    }

    /// Adds the vdso from a copy of its image.
    pub fn add_vdso(&mut self, image: Vec<u8>) -> Index {
        let index = self.add("[vdso]", Kind::Vdso);
        let source = Source::Memory(image);
        let module = &mut self.list[index];
        module.elf = Elf::read(&source);
        module.build_id = module.elf.as_ref().map(|e| e.build_id.clone()).unwrap_or_default();
        module.source = Some(source);
        index
    }

    /// The module of a mapped file. Opens the file now: a moment later it may be gone.
    pub fn meet(&mut self, wanted: &Wanted<'_>) -> Index {
        self.clock += 1;
        let named = (wanted.identity, wanted.path.clone());
        if wanted.identity.1 != 0
            && let Some(&index) = self.by_identity.get(&named)
            // As long as the file is held open, its inode number cannot be given to another.
            && self.list[index].source.is_some()
            && (wanted.build_id.is_empty() || wanted.build_id == self.list[index].build_id)
        {
            self.list[index].used = self.clock;
            return index;
        }
        let index = match files::open(wanted) {
            Some(opened) => self.add_opened(wanted, opened),
            None => self.add_unopened(wanted),
        };
        if wanted.identity.1 != 0 {
            self.by_identity.insert(named, index);
        }
        self.list[index].used = self.clock;
        index
    }

    fn add_opened(&mut self, wanted: &Wanted<'_>, opened: files::Opened) -> Index {
        let index = *self.by_key.entry(opened.key).or_insert_with(|| {
            let path = opened.path.unwrap_or_else(|| wanted.path.clone());
            self.list.push(Module::new(path, Kind::File));
            self.list.len() - 1
        });
        let module = &mut self.list[index];
        if module.source.is_none() {
            self.open += 1;
            module.source = Some(opened.source);
        }
        if module.key.is_none() {
            module.key = Some(opened.key);
            module.build_id = opened.elf.as_ref().map(|e| e.build_id.clone()).unwrap_or_default();
            module.elf = opened.elf;
            let found = module.elf.as_ref().zip(module.source.as_ref());
            module.python =
                found.and_then(|(elf, source)| Interpreter::find(elf, source, &module.path));
        }
        index
    }

    fn add_unopened(&mut self, wanted: &Wanted<'_>) -> Index {
        let key = (wanted.path.clone(), wanted.build_id.to_vec());
        *self.unopened.entry(key).or_insert_with(|| {
            let mut module = Module::new(wanted.path.clone(), Kind::File);
            module.build_id = wanted.build_id.to_vec();
            self.list.push(module);
            self.list.len() - 1
        })
    }

    /// The file to close because too many are open: the one unused for longest.
    pub fn to_close(&self) -> Option<Index> {
        let open = self.list.iter().enumerate().filter(|(_, m)| m.key.is_some());
        let oldest = open.filter(|(_, m)| m.source.is_some()).min_by_key(|(_, m)| m.used);
        oldest.filter(|_| self.open > MAX_OPEN).map(|(index, _)| index)
    }

    /// Closes a file. Its unwind sections stay while they are in use.
    pub fn close(&mut self, index: Index) {
        if self.list[index].source.take().is_some() {
            self.open -= 1;
        }
    }

    /// What unwinds code of a module; `None` without call frame information.
    pub fn unwinding(&mut self, index: Index) -> Option<&Unwinding> {
        self.clock += 1;
        self.list[index].used = self.clock;
        if matches!(self.list[index].state, State::Unread) {
            self.list[index].state = match self.list[index].load() {
                Some(unwinding) => {
                    self.make_room(unwinding.bytes);
                    self.unwind_bytes += unwinding.bytes;
                    State::Ready(Box::new(unwinding))
                }
                // A file that was closed may be met and read again.
                None if self.list[index].source.is_none() => State::Unread,
                None => State::Useless,
            };
        }
        match &self.list[index].state {
            State::Ready(unwinding) => Some(unwinding),
            State::Unread | State::Useless => None,
        }
    }

    fn forget_unwinding(&mut self, index: Index, state: State) {
        if let State::Ready(old) = std::mem::replace(&mut self.list[index].state, state) {
            self.unwind_bytes -= old.bytes;
        }
    }

    /// Drops the unwind sections used longest ago until `bytes` more fit.
    fn make_room(&mut self, bytes: usize) {
        while self.unwind_bytes > 0 && self.unwind_bytes + bytes > MAX_UNWIND_BYTES {
            let ready = self.list.iter().enumerate();
            let ready = ready.filter(|(_, m)| matches!(m.state, State::Ready(_)));
            let Some((oldest, _)) = ready.min_by_key(|(_, m)| m.used) else { return };
            self.forget_unwinding(oldest, State::Unread);
        }
    }
}
