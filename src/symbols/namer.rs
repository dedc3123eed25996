//! The entry: keeps processes and modules, unwinds, interns, names.

mod words;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use crate::model::Definition;
use crate::model::FastMap;
use crate::model::FastSet;
use crate::model::FrameId;
use crate::model::KERNEL;
use crate::model::Line;
use crate::model::Pid;
use crate::model::StackCounts;
use crate::model::StackId;
use crate::model::TRUNCATED;

use super::Image;
use super::Mapping;
use super::RawStack;
use super::extent;
use super::files::Wanted;
use super::intern::Interner;
use super::jit::PerfMap;
use super::module::Index;
use super::module::Kind;
use super::module::Modules;
use super::resolve::Detail;
use super::resolve::Resolver;
use super::resolve::has_lines_later;
use super::script::Interpreter;
use super::script::Merged;
use super::script::Part;
use super::script::ScriptFrame;
use super::script::Scripts;
use super::script::merge;
use super::space::MapsLine;
use super::space::Region;
use super::space::Space;
use super::space::parse_maps;
use super::unwind::Caches;
use super::unwind::Place;
use super::unwind::Walk;
use super::unwind::Walker;

/// Ended processes whose mappings are kept, because stacks from another buffer may come late.
const MAX_EXITED: usize = 1024;
/// `/proc/PID/maps` is read again no sooner than this, and ever later while it brings nothing.
const REFRESH_MIN: Duration = Duration::from_millis(200);
const REFRESH_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Process {
    /// Shared between parent and child until one of them maps something.
    space: Rc<Space>,
    refreshed: Option<Instant>,
    interval: Duration,
    anonymous: Option<Index>,
    exited: bool,
    words: words::Asked,
}

/// Unwinds and names stacks. Not thread-safe, not fast: keep it off the drain path
/// (see `capture::naming`).
pub struct Namer {
    processes: FastMap<Pid, Process>,
    exited: VecDeque<Pid>,
    modules: Modules,
    caches: Caches,
    interner: Interner,
    scripts: Scripts,
    resolver: Resolver,
    /// Names that were found when nobody was there to take them.
    ready: Vec<Definition>,
    counts: StackCounts,
    kernel: Index,
    truncated: Index,
    /// The vdso and its size.
    vdso: Option<(Index, u64)>,
    /// Futex words looked up.
    words: usize,
}

impl Default for Namer {
    fn default() -> Self {
        let mut modules = Modules::default();
        let kernel = modules.add(KERNEL, Kind::Kernel);
        let truncated = modules.add(TRUNCATED, Kind::Truncated);
        let mut resolver = Resolver::default();
        let vdso = own_vdso().map(|(start, image)| {
            resolver.own_vdso = start;
            let size = image.len() as u64;
            (modules.add_vdso(image), size)
        });
        Self {
            processes: FastMap::default(),
            exited: VecDeque::new(),
            modules,
            caches: Caches::default(),
            interner: Interner::default(),
            scripts: Scripts::default(),
            resolver,
            ready: Vec::new(),
            counts: StackCounts::default(),
            kernel,
            truncated,
            vdso,
            words: 0,
        }
    }
}

/// Address and image of our own vdso, which is the kernel's and so every process's.
#[allow(clippy::disallowed_methods)] // files of /proc
fn own_vdso() -> Option<(u64, Vec<u8>)> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let line = parse_maps(&maps).into_iter().find(|l| l.path.as_bytes() == b"[vdso]")?;
    let size = usize::try_from(line.end.checked_sub(line.start)?).ok().filter(|&s| s < 1 << 20)?;
    let mut image = vec![0; size];
    let memory = std::fs::File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut image, line.start).ok()?;
    Some((line.start, image))
}

/// Whether a mapping's name stands for memory without a file.
fn is_anonymous(path: &[u8]) -> bool {
    // As perf does it: shared memory, /dev/zero and memfds have names, but no file to read.
    let prefixes: [&[u8]; 5] = [b"//", b"/dev/zero", b"/anon_hugepage", b"/SYSV", b"/memfd:"];
    !path.starts_with(b"/") || prefixes.iter().any(|p| path.starts_with(p))
}

impl Namer {
    /// Forgets the old image of a process and begins with the new one.
    pub fn exec(&mut self, image: &Image) {
        let mut space = Space::default();
        let program = self.meet(&Wanted {
            pid: image.pid,
            path: &image.path,
            identity: image.identity,
            build_id: &[],
            range: None,
            program: true,
        });
        if let Some(elf) = self.modules.get(program).elf.clone() {
            let bias = match (elf.relocatable, elf.headers_address) {
                (false, _) => Some(0),
                (true, Some(at)) if image.at_phdr != 0 => Some(image.at_phdr.wrapping_sub(at)),
                (true, _) if image.at_entry != 0 => Some(image.at_entry.wrapping_sub(elf.entry)),
                (true, _) => None,
            };
            if let Some(bias) = bias {
                self.load(&mut space, program, bias);
            }
            if let Some(path) = elf.interpreter.filter(|_| image.at_base != 0) {
                let loader = self.meet(&Wanted {
                    pid: image.pid,
                    path: &path,
                    identity: (0, 0),
                    build_id: &[],
                    range: None,
                    program: false,
                });
                self.load(&mut space, loader, image.at_base);
            }
        }
        if let Some((module, size)) = self.vdso.filter(|_| image.at_sysinfo_ehdr != 0) {
            let start = image.at_sysinfo_ehdr;
            let end = start.saturating_add(size);
            space.map(Region { start, end, offset: 0, module, bias: start });
        }
        let process = Process { space: Rc::new(space), ..Process::default() };
        self.processes.insert(image.pid, process);
    }

    /// Maps the code of a module as the kernel loads it.
    fn load(&self, space: &mut Space, module: Index, bias: u64) {
        let Some(elf) = &self.modules.get(module).elf else { return };
        for (start, end, offset) in elf.code(bias) {
            space.map(Region { start, end, offset, module, bias });
        }
    }

    /// A child starts with its parent's mappings.
    pub fn fork(&mut self, parent: Pid, child: Pid) {
        // Whatever had the child's id before is gone, even if the parent was never seen.
        self.processes.remove(&child);
        if let Some(process) = self.processes.get(&parent) {
            let (space, words) = (Rc::clone(&process.space), process.words.of_child());
            self.processes.insert(child, Process { space, words, ..Process::default() });
        }
    }

    /// A file was mapped executable.
    pub fn map(&mut self, mapping: &Mapping) {
        let path = mapping.path.as_bytes();
        let (start, end, offset) = (mapping.start, mapping.end, mapping.file_offset);
        let vdso = self.vdso.filter(|_| path == b"[vdso]");
        let region = if let Some((module, _)) = vdso {
            Region { start, end, offset: 0, module, bias: start }
        } else if is_anonymous(path) {
            let module = self.anonymous(mapping.pid);
            Region { start, end, offset: start, module, bias: 0 }
        } else {
            let module = self.meet(&Wanted {
                pid: mapping.pid,
                path: &mapping.path,
                identity: mapping.identity,
                build_id: &mapping.build_id,
                range: Some((start, end)),
                program: false,
            });
            let elf = self.modules.get(module).elf.as_ref();
            let bias = elf.and_then(|elf| elf.bias(start, offset));
            let bias = bias.unwrap_or(start.wrapping_sub(offset));
            Region { start, end, offset, module, bias }
        };
        let process = self.processes.entry(mapping.pid).or_default();
        if !process.space.has(&region) {
            Rc::make_mut(&mut process.space).map(region);
        }
    }

    /// A process ended.
    pub fn exit(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.exited = true;
        if let Some(module) = process.anonymous {
            // Its map of generated code may be deleted next.
            self.name_into_ready(module);
        }
        self.exited.push_back(pid);
        if self.exited.len() > MAX_EXITED
            && let Some(oldest) = self.exited.pop_front()
            && self.processes.get(&oldest).is_some_and(|p| p.exited)
        {
            self.processes.remove(&oldest);
        }
    }

    /// Where a process has CPython, if it does: in its program or in a library.
    pub fn interpreter(&self, pid: Pid) -> Option<Interpreter> {
        let mut regions = self.processes.get(&pid)?.space.modules();
        regions.find_map(|region| {
            let python = self.modules.get(region.module).python.clone()?;
            Some(Interpreter { bias: region.bias, ..python })
        })
    }

    /// Unwinds one stack and gives its id; new modules, frames and stacks go to `define` first.
    pub fn stack(&mut self, raw: &RawStack, define: &mut dyn FnMut(Definition)) -> Option<StackId> {
        self.stack_with(raw, &[], define)
    }

    /// As [`Namer::stack`], with the functions that an interpreter ran in it, innermost first.
    pub fn stack_with(
        &mut self,
        raw: &RawStack,
        script: &[ScriptFrame],
        define: &mut dyn FnMut(Definition),
    ) -> Option<StackId> {
        self.ready.drain(..).for_each(&mut *define);
        self.counts.taken += 1;
        let user = raw.registers.is_some() || !raw.chain.is_empty();
        let mut walk = Walk { complete: true, ..Walk::default() };
        if user {
            let Some(walked) = self.walk(raw) else {
                self.counts.failed += 1;
                return None;
            };
            walk = walked;
        }
        if walk.places.is_empty() && raw.kernel.is_empty() && script.is_empty() {
            self.counts.failed += 1;
            return None;
        }
        let mut frames = Vec::with_capacity(walk.places.len() + raw.kernel.len() + 1);
        if walk.complete {
            self.counts.complete += 1;
        } else {
            self.counts.truncated += 1;
            let mark = Place { module: Some(self.truncated), offset: 0, linked: 0 };
            frames.push(self.frame(mark, define));
        }
        self.user_frames(&walk, script, &mut frames, define);
        for (depth, &address) in raw.kernel.iter().enumerate().rev() {
            // As in user code: all but the innermost are return addresses.
            let at = if depth == 0 { address } else { address.saturating_sub(1) };
            let place = Place { module: Some(self.kernel), offset: at, linked: at };
            frames.push(self.frame(place, define));
        }
        self.interner.stack(frames.into_iter(), define)
    }

    /// Native frames and those of an interpreter, outermost first.
    fn user_frames(
        &mut self,
        walk: &Walk,
        script: &[ScriptFrame],
        frames: &mut Vec<FrameId>,
        define: &mut dyn FnMut(Definition),
    ) {
        if script.is_empty() {
            frames.extend(walk.places.iter().rev().map(|&place| self.frame(place, define)));
            return;
        }
        let part = |place: &Place| match place.module.map(|index| &self.modules.get(index).python) {
            Some(Some(python)) if python.is_eval(place.linked) => Part::Eval,
            Some(Some(_)) => Part::Machinery,
            _ => Part::Other,
        };
        let parts: Vec<Part> = walk.places.iter().map(part).collect();
        for merged in merge(&parts, walk.complete, script).into_iter().rev() {
            frames.push(match merged {
                Merged::Native(index) => self.frame(walk.places[index], define),
                Merged::Script(index) => {
                    self.scripts.frame(&script[index], &mut self.interner, define)
                }
            });
        }
    }

    /// Unwinds, and once more if reading the process's mappings again may help.
    fn walk(&mut self, raw: &RawStack) -> Option<Walk> {
        if !self.processes.contains_key(&raw.pid) {
            self.refresh(raw.pid);
        }
        let first = self.walk_once(raw)?;
        if first.missing.is_some() && self.refresh(raw.pid) {
            return self.walk_once(raw);
        }
        Some(first)
    }

    fn walk_once(&mut self, raw: &RawStack) -> Option<Walk> {
        let space = self.processes.get(&raw.pid).map(|p| Rc::clone(&p.space)).unwrap_or_default();
        let (modules, caches) = (&mut self.modules, &mut self.caches);
        // Arithmetic on hostile call frame information overflows in framehop, which panics
        // where overflow checks are on: that stack fails, the recording goes on.
        let walk =
            catch_unwind(AssertUnwindSafe(|| Walker { space: &space, modules, caches }.walk(raw)));
        if walk.is_err() {
            self.caches = Caches::default();
        }
        walk.ok()
    }

    /// Reads a living process's mappings again; true if they changed.
    fn refresh(&mut self, pid: Pid) -> bool {
        let process = self.processes.entry(pid).or_default();
        #[allow(clippy::disallowed_methods)] // symbols is no pure module; this limits a rate only
        let now = Instant::now();
        let early = |at: Instant| now.duration_since(at) < process.interval;
        if process.exited || process.refreshed.is_some_and(early) {
            return false;
        }
        process.refreshed = Some(now);
        process.interval = (process.interval * 2).clamp(REFRESH_MIN, REFRESH_MAX);
        let before = Rc::clone(&process.space);
        #[allow(clippy::disallowed_methods)] // a file of /proc
        let text = std::fs::read(format!("/proc/{}/maps", pid.0)).unwrap_or_default();
        let lines = parse_maps(&text);
        if lines.is_empty() {
            return false;
        }
        process.space = Rc::default();
        for MapsLine { start, end, offset: file_offset, identity, path, .. } in lines {
            let build_id = Vec::new();
            self.map(&Mapping { pid, start, end, file_offset, path, identity, build_id });
        }
        let process = self.processes.entry(pid).or_default();
        let changed = process.space != before;
        if changed {
            process.interval = REFRESH_MIN;
        }
        changed
    }

    /// The module of a process's generated code.
    fn anonymous(&mut self, pid: Pid) -> Index {
        if let Some(index) = self.processes.get(&pid).and_then(|p| p.anonymous) {
            return index;
        }
        let path = if PerfMap::exists(pid) { "[jit]" } else { "[anon]" };
        let index = self.modules.add(path, Kind::Anonymous(pid));
        self.processes.entry(pid).or_default().anonymous = Some(index);
        index
    }

    /// The module of a file; closes others if too many are open.
    fn meet(&mut self, wanted: &Wanted<'_>) -> Index {
        let index = self.modules.meet(wanted);
        while let Some(oldest) = self.modules.to_close() {
            self.name_into_ready(oldest);
            self.modules.close(oldest);
        }
        index
    }

    fn frame(&mut self, place: Place, define: &mut dyn FnMut(Definition)) -> FrameId {
        let module = place.module.map(|index| {
            let module = self.modules.get_mut(index);
            *module.id.get_or_insert_with(|| {
                self.interner.module(module.path.clone(), module.build_id.clone(), define)
            })
        });
        let (id, new) = self.interner.frame(module, place.offset, define);
        if let Some(index) = place.module.filter(|_| new) {
            self.modules.get_mut(index).pending.push((id, place.linked));
        }
        id
    }

    /// Gives names to the frames that have none yet, and source lines to those that were
    /// named without. Reads all debug information of what was met, one file at a time.
    pub fn name(&mut self, define: &mut dyn FnMut(Definition)) {
        self.ready.drain(..).for_each(&mut *define);
        for index in 0..self.modules.len() {
            self.name_module(index, usize::MAX, Detail::Full, define);
        }
        self.resolver.forget();
    }

    /// Gives names to at most about `limit` of the frames that have none yet, with no more
    /// memory than a recording may use: source lines of large programs come with [`Namer::name`].
    /// Returns how many were looked up.
    pub fn name_some(&mut self, limit: usize, define: &mut dyn FnMut(Definition)) -> usize {
        self.ready.drain(..).for_each(&mut *define);
        let mut done = 0;
        for index in 0..self.modules.len() {
            if done < limit {
                done += self.name_module(index, limit - done, Detail::WhileRecording, define);
            }
        }
        done
    }

    fn name_into_ready(&mut self, index: Index) {
        let mut ready = std::mem::take(&mut self.ready);
        self.name_module(index, usize::MAX, Detail::Full, &mut |d| ready.push(d));
        self.ready = ready;
    }

    fn name_module(
        &mut self,
        index: Index,
        limit: usize,
        detail: Detail,
        define: &mut dyn FnMut(Definition),
    ) -> usize {
        let module = self.modules.get_mut(index);
        let rest = module.pending.len().min(limit);
        let mut frames: Vec<_> = module.pending.drain(..rest).collect();
        let nameless: FastSet<FrameId> = frames.iter().map(|f| f.0).collect();
        if detail == Detail::Full {
            frames.append(&mut module.coarse);
        }
        if frames.is_empty() {
            return 0;
        }
        frames.sort_unstable_by_key(|f| f.1);
        let addresses: Vec<u64> = frames.iter().map(|f| f.1).collect();
        let (resolver, module) = (&mut self.resolver, &*module);
        // Debug information is hostile input too; a panic in its reader costs names only.
        let names = catch_unwind(AssertUnwindSafe(|| resolver.names(module, &addresses, detail)));
        let mut names = names.unwrap_or_default();
        names.resize(frames.len(), Vec::new());
        for ((frame, _), lines) in frames.iter().zip(&names) {
            if !lines.is_empty() {
                define(Definition::Names { frame: *frame, lines: lines.clone() });
            }
        }
        let unnamed = frames.iter().zip(&names).filter(|(_, lines)| lines.is_empty());
        // What had a name from an earlier look keeps it.
        let unnamed = unnamed.map(|(frame, _)| *frame).filter(|f| nameless.contains(&f.0));
        self.name_by_extent(index, &unnamed.collect::<Vec<_>>(), define);
        let module = self.modules.get_mut(index);
        if detail == Detail::WhileRecording {
            match module.kind {
                Kind::File if has_lines_later(module) => module.coarse.append(&mut frames),
                // A JIT compiler writes its map later than it runs the code.
                Kind::Anonymous(_) => {
                    let unnamed = frames.iter().zip(&names).filter(|(_, n)| n.is_empty());
                    let unnamed: Vec<_> = unnamed.map(|(frame, _)| *frame).collect();
                    module.coarse.extend(unnamed);
                }
                Kind::File | Kind::Vdso | Kind::Kernel | Kind::Truncated => {}
            }
        }
        frames.len().max(rest)
    }

    /// Calls frames that no symbol covers by where their functions begin, so that a function
    /// of a stripped file is one function and not one for each address in it.
    fn name_by_extent(
        &self,
        index: Index,
        frames: &[(FrameId, u64)],
        define: &mut dyn FnMut(Definition),
    ) {
        let module = self.modules.get(index);
        let (Some(elf), Some(source)) = (&module.elf, &module.source) else { return };
        if frames.is_empty() {
            return;
        }
        let addresses: Vec<u64> = frames.iter().map(|f| f.1).collect();
        // As with debug information: what is wrong with it costs names only.
        let starts = catch_unwind(AssertUnwindSafe(|| extent::starts(elf, source, &addresses)));
        let base = module.path.base_name();
        let base = String::from_utf8_lossy(base.as_bytes());
        for ((frame, _), start) in frames.iter().zip(starts.unwrap_or_default()) {
            let Some(offset) = start.and_then(|start| elf.offset_of(start)) else { continue };
            let function = format!("{base}+{offset:#x}");
            let lines = vec![Line { function, file: None, line: None }];
            define(Definition::Names { frame: *frame, lines });
        }
    }

    /// What became of the stacks so far.
    pub fn counts(&self) -> StackCounts {
        self.counts
    }

    /// What could not be named here and why, in sentences with the remedy.
    pub fn warnings(&self) -> Vec<String> {
        let kernel = "kernel functions are shown as addresses, because /proc/kallsyms hides them \
            from this user: record as root, or set kernel.kptr_restrict to 0";
        self.resolver.kernel_hidden.then(|| kernel.to_owned()).into_iter().collect()
    }
}
