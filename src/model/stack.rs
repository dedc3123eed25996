//! Stacks, frames and modules: a shared trie, so that a million samples cost one id each.

use super::{FrameId, ModuleId, StackId, Text};

/// Something events refer to by id. Ids of a kind count up from 0 in order of definition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Definition {
    /// The next module.
    Module(Module),
    /// The next frame.
    Frame(Frame),
    /// The next stack.
    Stack(Stack),
    /// Names for a frame that was defined before without them (symbols come later than addresses).
    Names {
        /// The frame.
        frame: FrameId,
        /// Its lines, outermost first: the last one is the innermost inlined function.
        lines: Vec<Line>,
    },
}

/// A binary, library, the kernel, or a file of an interpreter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Module {
    /// Path as mapped; `[kernel]`, `[vdso]` and the like for what is no file.
    pub path: Text,
    /// Build id, empty if it has none.
    pub build_id: Vec<u8>,
}

/// One place in the code: an address in a module, and the functions it stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// The module it lies in, if any mapping covered it.
    pub module: Option<ModuleId>,
    /// Offset in the module's file for files, the address itself otherwise.
    pub address: u64,
    /// The functions inlined there, outermost first. Where no symbol covers it, the one that
    /// call frame information knows, as `module+0x` and the offset of its first instruction;
    /// empty without that.
    pub lines: Vec<Line>,
}

/// One function at a frame.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Line {
    /// Demangled name.
    pub function: String,
    /// Source file, if known.
    pub file: Option<String>,
    /// Line in it, 1-based, if known.
    pub line: Option<u32>,
}

/// A stack: its innermost frame, and the stack of its caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stack {
    /// The caller's stack; `None` at the outermost frame.
    pub parent: Option<StackId>,
    /// The frame.
    pub frame: FrameId,
}

/// Path of the pseudo-module whose one frame heads a stack whose outer part is missing.
pub const TRUNCATED: &str = "[truncated]";

/// Path of the pseudo-module of kernel frames.
pub const KERNEL: &str = "[kernel]";

/// All definitions of a trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Symbols {
    /// Modules by [`ModuleId`].
    pub modules: Vec<Module>,
    /// Frames by [`FrameId`].
    pub frames: Vec<Frame>,
    /// Stacks by [`StackId`].
    pub stacks: Vec<Stack>,
}

impl Symbols {
    /// Adds a definition. One that refers to a later id, as only a damaged file has, is refused.
    pub fn define(&mut self, definition: Definition) -> Result<(), DanglingId> {
        match definition {
            Definition::Module(module) => self.modules.push(module),
            Definition::Frame(frame) => {
                let known = frame.module.is_none_or(|id| (id.0 as usize) < self.modules.len());
                known.then(|| self.frames.push(frame)).ok_or(DanglingId)?;
            }
            Definition::Stack(stack) => {
                let known = (stack.frame.0 as usize) < self.frames.len()
                    && stack.parent.is_none_or(|id| (id.0 as usize) < self.stacks.len());
                known.then(|| self.stacks.push(stack)).ok_or(DanglingId)?;
            }
            Definition::Names { frame, lines } => {
                self.frames.get_mut(frame.0 as usize).ok_or(DanglingId)?.lines = lines;
            }
        }
        Ok(())
    }

    /// The frames of a stack, innermost first. Ids that are not defined end it.
    pub fn walk(&self, stack: StackId) -> impl Iterator<Item = FrameId> + '_ {
        let mut next = Some(stack);
        std::iter::from_fn(move || {
            let node = self.stacks.get(next?.0 as usize)?;
            // A parent is always defined before its child, so this ends even for a hostile file.
            next = node.parent;
            Some(node.frame)
        })
    }

    /// The named functions of a stack, outermost first, inlined ones included. Frames
    /// without a symbol come as `module+0xoffset`.
    pub fn functions(&self, stack: StackId) -> Vec<Function<'_>> {
        let mut physical: Vec<FrameId> = self.walk(stack).collect();
        physical.reverse();
        let mut functions = Vec::with_capacity(physical.len());
        for id in physical {
            let Some(frame) = self.frames.get(id.0 as usize) else { continue };
            let module = frame.module.and_then(|m| self.modules.get(m.0 as usize));
            if frame.lines.is_empty() {
                functions.push(Function { frame: id, address: frame.address, line: None, module });
            }
            functions.extend(frame.lines.iter().map(|line| Function {
                frame: id,
                address: frame.address,
                line: Some(line),
                module,
            }));
        }
        functions
    }
}

/// A definition that refers to something not defined yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DanglingId;

/// One entry of [`Symbols::functions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function<'a> {
    /// The frame it comes from.
    pub frame: FrameId,
    /// The frame's address (see [`Frame::address`]).
    pub address: u64,
    /// Name and source line, if a symbol covers it.
    pub line: Option<&'a Line>,
    /// Its module, if known.
    pub module: Option<&'a Module>,
}

impl Function<'_> {
    /// The function's name, or `module+0xoffset`, or the bare address.
    pub fn name(&self) -> String {
        match (self.line, self.module) {
            (Some(line), _) => Text::from(line.function.as_str()).to_string(),
            // A pseudo-module without a symbol is its own name.
            (None, Some(module)) if module.path.as_bytes() == TRUNCATED.as_bytes() => {
                TRUNCATED.to_owned()
            }
            (None, Some(module)) => format!("{}+{:#x}", module.path.base_name(), self.address),
            (None, None) => format!("{:#x}", self.address),
        }
    }

    /// True for a kernel frame.
    pub fn is_kernel(&self) -> bool {
        self.module.is_some_and(|m| m.path.as_bytes() == KERNEL.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(function: &str) -> Line {
        Line { function: function.to_owned(), file: None, line: None }
    }

    #[test]
    fn a_stack_reads_outermost_first_with_inlined_functions() {
        let mut symbols = Symbols::default();
        let module = Module { path: Text::from("/usr/bin/app"), build_id: Vec::new() };
        let inlined = vec![line("work"), line("helper")];
        for definition in [
            Definition::Module(module),
            Definition::Frame(Frame { module: Some(ModuleId(0)), address: 0x10, lines: vec![] }),
            Definition::Frame(Frame { module: Some(ModuleId(0)), address: 0x20, lines: vec![] }),
            Definition::Stack(Stack { parent: None, frame: FrameId(0) }),
            Definition::Stack(Stack { parent: Some(StackId(0)), frame: FrameId(1) }),
            Definition::Names { frame: FrameId(1), lines: inlined },
        ] {
            symbols.define(definition).expect("ids are defined before use");
        }
        let names: Vec<String> = symbols.functions(StackId(1)).iter().map(Function::name).collect();
        assert_eq!(names, ["app+0x10", "work", "helper"]);
    }

    #[test]
    fn dangling_ids_are_refused() {
        let mut symbols = Symbols::default();
        let frame = Definition::Stack(Stack { parent: None, frame: FrameId(0) });
        assert_eq!(symbols.define(frame), Err(DanglingId));
        assert!(symbols.functions(StackId(7)).is_empty());
    }
}
