//! Stacks of an interpreter with the functions that it interprets in them.
//!
//! A native stack of an interpreter shows its loop and its helpers; what runs is in the frames that
//! it keeps itself. Each call of the loop (`_PyEval_EvalFrameDefault`) stands for the functions
//! from one that C code called down to the innermost that the same loop ran:
//!
//! ```text
//!  native, innermost first     the interpreter's own      together
//!  take_gil                                               take_gil
//!  eval loop                   parse, read (entry)        parse, read
//!  list_sort_impl                                         (left out)
//!  eval loop                   main (entry)               main
//!  _start                                                 _start
//! ```
//!
//! What is the interpreter's own machinery between such functions is left out. Where the numbers
//! do not agree, because a stack was cut short or the interpreter was between two states, the
//! functions stand together, below what native code the innermost one had called.

use std::collections::BTreeMap;
use std::fs::File;

use super::elf::Elf;
use super::elf::Source;
use super::elf::u16_at;
use super::elf::u32_at;
use super::elf::u64_at;
use crate::model::Definition;
use crate::model::FrameId;
use crate::model::Line;
use crate::model::ModuleId;
use crate::model::Text;

use super::intern::Interner;

/// A function that an interpreter runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ScriptFrame {
    /// Its name, qualified where the interpreter says so.
    pub function: String,
    /// The file that it is from.
    pub file: Text,
    /// The line that it is at, if known.
    pub line: Option<u32>,
    /// Whether native code called it.
    pub entry: bool,
}

/// What is known of a file that holds CPython.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interpreter {
    /// Path of the file.
    pub path: Text,
    /// How far it lies from where it was linked to, in a process.
    pub bias: u64,
    /// Where `_PyRuntime` is linked to.
    pub runtime: Option<u64>,
    /// Where the section `.PyRuntime` is linked to.
    pub section: Option<u64>,
    /// Where `Py_Version` is linked to.
    pub version: Option<u64>,
    /// Code of its loop, as linked.
    pub(super) eval: Vec<(u64, u64)>,
}

/// Bytes of a symbol.
const ENTRY: u64 = 24;
/// Symbols read at a time, and in all.
const AT_A_TIME: u64 = 8192;
const MOST: u64 = 1 << 20;
/// Bytes of names looked through. Those of Chromium take 1 MB.
const MOST_NAMES: u64 = 16 << 20;

const RUNTIME: &[u8] = b"_PyRuntime";
const VERSION: &[u8] = b"Py_Version";
const EVAL: [&[u8]; 2] = [b"_PyEval_EvalFrameDefault", b"_PyEval_EvalFrameDefault.cold"];

impl Interpreter {
    /// Of the file of an executable mapping that shows `offset` at `start`; for whoever reads a process
    /// without recording it. `None` for what is no 64-bit ELF file, or holds no interpreter.
    pub fn mapped(file: File, path: &Text, start: u64, offset: u64) -> Option<Self> {
        let source = Source::File(file);
        let elf = Elf::read(&source)?;
        let bias = elf.bias(start, offset)?;
        Some(Self { bias, ..Self::find(&elf, &source, path)? })
    }

    /// Of a file that holds one. Reads the table of what other files may use; the larger one only
    /// of those that hold one.
    pub(super) fn find(elf: &Elf, source: &Source, path: &Text) -> Option<Self> {
        let mut found = Self { path: path.clone(), section: elf.python_runtime, ..Self::default() };
        let mut tables: Vec<_> = elf.symbol_tables().collect();
        tables.reverse();
        for table in tables {
            let length = table.strings.size.min(MOST_NAMES);
            let Some(names) = source.at(table.strings.offset, length) else { continue };
            let has = |name: &[u8]| {
                names.windows(name.len() + 1).any(|at| at.starts_with(name) && at.ends_with(&[0]))
            };
            if found.section.is_none() && found.runtime.is_none() && !has(RUNTIME) {
                return None;
            }
            let count = (table.symbols.size / ENTRY).min(MOST);
            for first in (0..count).step_by(AT_A_TIME as usize) {
                let some = (count - first).min(AT_A_TIME) * ENTRY;
                let at = table.symbols.offset.saturating_add(first * ENTRY);
                for symbol in source.at(at, some).unwrap_or_default().chunks_exact(ENTRY as usize) {
                    found.take(symbol, &names);
                }
            }
        }
        (found.runtime.is_some() || found.section.is_some()).then_some(found)
    }

    fn take(&mut self, symbol: &[u8], names: &[u8]) -> Option<()> {
        // Section 0: defined elsewhere.
        (u16_at(symbol, 6)? != 0).then_some(())?;
        let name = names.get(u32_at(symbol, 0)? as usize..)?;
        let is =
            |wanted: &[u8]| name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0));
        let (start, size) = (u64_at(symbol, 8)?, u64_at(symbol, 16)?);
        if is(RUNTIME) {
            self.runtime.get_or_insert(start);
        } else if is(VERSION) {
            self.version.get_or_insert(start);
        } else if EVAL.iter().any(|eval| is(eval)) && !self.eval.contains(&(start, start + size)) {
            self.eval.push((start, start.saturating_add(size)));
        }
        Some(())
    }

    /// Whether an address as linked is in its loop.
    pub(super) fn is_eval(&self, linked: u64) -> bool {
        self.eval.iter().any(|&(start, end)| (start..end).contains(&linked))
    }
}

/// What a native frame is to the interpreter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Its loop.
    Eval,
    /// The rest of it.
    Machinery,
    /// Others' code.
    Other,
}

/// A frame of a stack that was put together: the number of a native one, or of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Merged {
    Native(usize),
    Script(usize),
}

/// Puts a native stack and the interpreter's together; both and the result innermost first.
/// `whole`: the native one reaches its outermost function.
pub(super) fn merge(native: &[Part], whole: bool, script: &[ScriptFrame]) -> Vec<Merged> {
    let loops = native.iter().filter(|part| **part == Part::Eval).count();
    let entries = script.iter().filter(|frame| frame.entry).count();
    let agree = loops == entries || !whole && loops > 0 && loops < entries;
    let mut merged = Vec::with_capacity(native.len() + script.len());
    let mut next = 0;
    let inner = if agree {
        usize::MAX
    } else {
        native.iter().position(|part| *part != Part::Other).unwrap_or(native.len())
    };
    for (index, part) in native.iter().enumerate() {
        if index >= inner {
            break;
        }
        match part {
            Part::Eval => {
                let end = script[next..].iter().position(|frame| frame.entry);
                let end = end.map_or(script.len(), |end| next + end + 1);
                merged.extend((next..end).map(Merged::Script));
                next = end;
            }
            Part::Machinery if next > 0 => {}
            Part::Machinery | Part::Other => merged.push(Merged::Native(index)),
        }
    }
    let rest = (next..script.len()).map(Merged::Script);
    if agree && whole {
        debug_assert_eq!(next, script.len());
    }
    merged.extend(rest);
    merged
}

/// Frames of functions by what they are, and modules by their files.
#[derive(Default)]
pub(super) struct Scripts {
    modules: BTreeMap<Text, ModuleId>,
    frames: BTreeMap<(String, Text, Option<u32>), FrameId>,
}

impl Scripts {
    /// The frame of a function at a line.
    pub fn frame(
        &mut self,
        script: &ScriptFrame,
        interner: &mut Interner,
        define: &mut dyn FnMut(Definition),
    ) -> FrameId {
        let key = (script.function.clone(), script.file.clone(), script.line);
        if let Some(&id) = self.frames.get(&key) {
            return id;
        }
        let module = *self
            .modules
            .entry(script.file.clone())
            .or_insert_with(|| interner.module(script.file.clone(), Vec::new(), define));
        let line = Line {
            function: script.function.clone(),
            file: Some(script.file.to_string()),
            line: script.line,
        };
        let id = interner.named(module, self.frames.len() as u64, line, define);
        self.frames.insert(key, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::Merged::Native;
    use super::Merged::Script;
    use super::Part::Eval;
    use super::Part::Machinery;
    use super::Part::Other;
    use super::*;

    fn script(entries: &[bool]) -> Vec<ScriptFrame> {
        let frame = |&entry: &bool| ScriptFrame {
            function: "f".to_owned(),
            file: Text::from("a.py"),
            line: None,
            entry,
        };
        entries.iter().map(frame).collect()
    }

    /// The drawing at the top of this file.
    #[test]
    fn each_loop_stands_for_the_functions_down_to_one_that_c_called() {
        let native = [Machinery, Eval, Machinery, Eval, Machinery, Other];
        let merged = merge(&native, true, &script(&[false, true, true]));
        assert_eq!(merged, [Native(0), Script(0), Script(1), Script(2), Native(5)]);
    }

    #[test]
    fn a_stack_that_was_cut_short_keeps_its_outer_functions() {
        let merged = merge(&[Other, Eval, Machinery], false, &script(&[true, true]));
        assert_eq!(merged, [Native(0), Script(0), Script(1)]);
    }

    #[test]
    fn numbers_that_do_not_agree_leave_the_functions_and_what_they_called() {
        let native = [Other, Machinery, Eval, Other, Other];
        let merged = merge(&native, true, &script(&[true, true]));
        assert_eq!(merged, [Native(0), Script(0), Script(1)]);
        // A loop that nobody could recognise: stripped, and in two parts.
        let merged = merge(&[Other, Machinery, Other], true, &script(&[true]));
        assert_eq!(merged, [Native(0), Script(0)]);
    }

    #[test]
    fn without_functions_or_without_native_frames_what_is_there_stays() {
        assert_eq!(merge(&[Other, Machinery], true, &[]), [Native(0), Native(1)]);
        assert_eq!(merge(&[], false, &script(&[true])), [Script(0)]);
    }
}
