//! From addresses to function names: blazesym, one module at a time.
//!
//! What blazesym parses of a file is dropped as soon as the module's frames have names: kept,
//! the debug information of one large program would exceed the recorder's memory bound.

use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use blazesym::MaybeDefault;
use blazesym::Pid as ProcessOf;
use blazesym::symbolize::CodeInfo;
use blazesym::symbolize::Input;
use blazesym::symbolize::Sym;
use blazesym::symbolize::Symbolized;
use blazesym::symbolize::Symbolizer;
use blazesym::symbolize::source;
use blazesym::symbolize::source::Source as Place;

use crate::model::Line;
use crate::model::Pid;

use super::demangle::demangled;
use super::elf::Source;
use super::files;
use super::jit::PerfMap;
use super::module::Kind;
use super::module::Module;

/// Debug information up to this many bytes is read while recording; that of larger
/// files only at the end, when its memory takes nothing from the recording.
const MAX_DEBUG_BYTES: u64 = 4 << 20;

/// Addresses looked up in a file that may be large before what was parsed for them is dropped.
/// Callers sort them, so that neighbours share compilation units.
const AT_A_TIME: usize = 1000;

/// Names per address, in the order asked; empty where no symbol covers one.
pub(super) type Names = Vec<Vec<Line>>;

/// Whether source lines and inlined functions are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Only as far as it is cheap.
    WhileRecording,
    /// All there is.
    Full,
}

/// Asks blazesym, and remembers what it cannot say.
#[derive(Default)]
pub(super) struct Resolver {
    kernel: Option<Symbolizer>,
    /// Kernel frames stay addresses: its symbols cannot be read here.
    pub kernel_hidden: bool,
    /// Where our own vdso lies: the same image as in every process of this kernel.
    pub own_vdso: u64,
}

/// Whether source lines are left for the end: of large debug information, and of a stripped
/// file, whose separate debug file may be of any size.
pub(super) fn has_lines_later(module: &Module) -> bool {
    let stored = module.elf.as_ref().map_or(0, |elf| elf.debug_bytes);
    stored == 0 || stored > MAX_DEBUG_BYTES
}

impl Resolver {
    /// Names of `addresses` (as linked) of a module.
    pub fn names(&mut self, module: &Module, addresses: &[u64], detail: Detail) -> Names {
        let nothing = || vec![Vec::new(); addresses.len()];
        match module.kind {
            Kind::File => {
                let lines = detail == Detail::Full || !has_lines_later(module);
                let at_a_time = if has_lines_later(module) { AT_A_TIME } else { usize::MAX };
                let chunks = addresses.chunks(at_a_time);
                let nothing = |of: &[u64]| vec![Vec::new(); of.len()];
                chunks
                    .flat_map(|c| file_names(module, c, lines).unwrap_or_else(|| nothing(c)))
                    .collect()
            }
            Kind::Vdso => self.vdso_names(addresses).unwrap_or_else(nothing),
            Kind::Kernel => self.kernel_names(addresses).unwrap_or_else(nothing),
            Kind::Anonymous(pid) => jit_names(pid, addresses).unwrap_or_else(nothing),
            Kind::Truncated => nothing(),
        }
    }

    fn vdso_names(&self, addresses: &[u64]) -> Option<Names> {
        let own: Vec<u64> = addresses.iter().map(|a| a.wrapping_add(self.own_vdso)).collect();
        let from = Place::Process(source::Process::new(ProcessOf::Slf));
        let symbolizer = symbolizer();
        let found = symbolizer.symbolize(&from, Input::AbsAddr(&own)).ok()?;
        Some(found.iter().map(lines).collect())
    }

    fn kernel_names(&mut self, addresses: &[u64]) -> Option<Names> {
        if self.kernel_hidden {
            return None;
        }
        let from = Place::Kernel(source::Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..source::Kernel::default()
        });
        let symbolizer = self.kernel.get_or_insert_with(symbolizer);
        let found = symbolizer.symbolize(&from, Input::AbsAddr(addresses));
        let names: Option<Names> = found.ok().map(|found| found.iter().map(lines).collect());
        let none = names.as_ref().is_none_or(|names| names.iter().all(Vec::is_empty));
        self.kernel_hidden = none && kernel_symbols_hidden();
        names
    }

    /// Frees what is kept between calls: the kernel's symbols.
    pub fn forget(&mut self) {
        self.kernel = None;
    }
}

/// With `kptr_restrict` all kernel addresses read as 0: no error, but no names either.
fn kernel_symbols_hidden() -> bool {
    #[allow(clippy::disallowed_methods)] // a file of /proc
    let Ok(file) = std::fs::File::open("/proc/kallsyms") else { return true };
    let mut lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
    lines.all(|line| line.starts_with("0000000000000000"))
}

fn jit_names(pid: Pid, addresses: &[u64]) -> Option<Names> {
    let map = PerfMap::of(pid)?;
    let line = |function: &str| Line { function: function.to_owned(), file: None, line: None };
    Some(addresses.iter().map(|&a| map.find(a).map(line).into_iter().collect()).collect())
}

/// A path through which blazesym reads the very file that is held open: its own path while
/// that still leads there (debug files are searched for beside it), else the descriptor.
fn readable_path(module: &Module) -> Option<PathBuf> {
    let Some(Source::File(file)) = &module.source else { return None };
    let path = Path::new(std::ffi::OsStr::from_bytes(module.path.as_bytes()));
    let same = std::fs::metadata(path).is_ok_and(|m| Some(files::key_of(&m)) == module.key);
    Some(if same { path.to_owned() } else { format!("/proc/self/fd/{}", file.as_raw_fd()).into() })
}

fn file_names(module: &Module, addresses: &[u64], debug_syms: bool) -> Option<Names> {
    let path = readable_path(module)?;
    module.elf.as_ref().filter(|elf| elf.sound)?;
    let from = Place::Elf(source::Elf { debug_syms, ..source::Elf::new(&path) });
    let symbolizer = symbolizer();
    let found = symbolizer.symbolize(&from, Input::VirtOffset(addresses)).or_else(|_| {
        // Broken debug information: the symbol table may still be good.
        let from = Place::Elf(source::Elf { debug_syms: false, ..source::Elf::new(&path) });
        symbolizer.symbolize(&from, Input::VirtOffset(addresses))
    });
    Some(found.ok()?.iter().map(lines).collect())
}

/// Names as they are in the file: what is demangled is for us to say.
fn symbolizer() -> Symbolizer {
    Symbolizer::builder().enable_demangling(false).build()
}

/// The functions at a frame, outermost first.
fn lines(found: &Symbolized<'_>) -> Vec<Line> {
    let Symbolized::Sym(symbol) = found else { return Vec::new() };
    let Sym { name, code_info, inlined, .. } = symbol;
    let line = |name: &str, code: Option<&CodeInfo<'_>>| Line {
        function: demangled(name).into_owned(),
        file: code.map(|c| c.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|c| c.line),
    };
    let outer = line(name, code_info.as_deref());
    let inner = inlined.iter().map(|f| line(&f.name, f.code_info.as_ref()));
    std::iter::once(outer).chain(inner).filter(|l| !l.function.is_empty()).collect()
}
