//! CPU samples, as `PerfSample` packets with interned stacks.

use super::proto::Proto;
use super::writer::Writer;
use super::writer::field;
use crate::model::Frame;
use crate::model::FrameId;
use crate::model::ModuleId;
use crate::model::Sample;
use crate::model::StackId;
use crate::model::Symbols;
use crate::model::TRUNCATED;
use std::collections::BTreeMap;

/// Writes samples and defines what they refer to, once each.
pub struct Samples<'a> {
    symbols: &'a Symbols,
    /// First frame number of each frame of ours: one that stands for inlined functions
    /// becomes several.
    first: Vec<u64>,
    frames: Vec<bool>,
    stacks: Vec<bool>,
    modules: Vec<bool>,
    functions: BTreeMap<&'a str, u64>,
    files: BTreeMap<&'a str, u64>,
    /// CPU time that the samples of each CPU stand for so far, ns.
    clocks: BTreeMap<u16, u64>,
    /// Samples written.
    pub count: u64,
}

/// Number of the mapping of frames outside any module.
const NO_MODULE: u64 = 1;

impl<'a> Samples<'a> {
    /// For the stacks of `symbols`.
    pub fn new(symbols: &'a Symbols) -> Self {
        let mut next = 1;
        let number = |frame: &Frame| {
            let first = next;
            next += frame.lines.len().max(1) as u64;
            first
        };
        Self {
            symbols,
            first: symbols.frames.iter().map(number).collect(),
            frames: vec![false; symbols.frames.len()],
            stacks: vec![false; symbols.stacks.len()],
            modules: vec![false; symbols.modules.len() + 1],
            functions: BTreeMap::new(),
            files: BTreeMap::new(),
            clocks: BTreeMap::new(),
            count: 0,
        }
    }

    /// Writes one sample of the thread shown as `tid` of `pid`.
    pub fn write(&mut self, out: &mut Writer, sample: &Sample, pid: u32, tid: u32) {
        self.count += 1;
        let clock = self.clocks.entry(sample.cpu).or_default();
        *clock = clock.saturating_add(sample.weight.0);
        let clock = *clock;
        let mut definitions = Proto::default();
        let stack = sample.stack.filter(|stack| (stack.0 as usize) < self.stacks.len());
        if let Some(stack) = stack {
            self.define_stack(&mut definitions, stack);
        }
        out.sequenced(Some(sample.time), |packet| {
            if !definitions.0.is_empty() {
                packet.bytes(field::INTERNED, &definitions.0);
            }
            packet.nest(field::PERF_SAMPLE, |perf| {
                perf.int(1, u64::from(sample.cpu));
                perf.int(2, u64::from(pid));
                perf.int(3, u64::from(tid));
                if let Some(stack) = stack {
                    perf.int(4, u64::from(stack.0) + 1);
                }
                perf.int(5, if sample.kernel { 1 } else { 2 });
                perf.int(6, clock);
            });
        });
    }

    fn define_stack(&mut self, data: &mut Proto, stack: StackId) {
        if std::mem::replace(&mut self.stacks[stack.0 as usize], true) {
            return;
        }
        let mut frames: Vec<FrameId> = self.symbols.walk(stack).collect();
        frames.reverse();
        for &frame in &frames {
            self.define_frame(data, frame);
        }
        data.nest(7, |callstack| {
            callstack.int(1, u64::from(stack.0) + 1);
            for frame in &frames {
                let Some(known) = self.symbols.frames.get(frame.0 as usize) else { continue };
                let first = self.first[frame.0 as usize];
                for line in 0..known.lines.len().max(1) as u64 {
                    callstack.int(2, first + line);
                }
            }
        });
    }

    fn define_frame(&mut self, data: &mut Proto, id: FrameId) {
        let symbols = self.symbols;
        let index = id.0 as usize;
        let Some(frame) = symbols.frames.get(index) else { return };
        if std::mem::replace(&mut self.frames[index], true) {
            return;
        }
        let mapping = self.define_module(data, frame.module);
        let write = |data: &mut Proto, nth: usize, function: u64, place: Option<(u64, u32)>| {
            data.nest(6, |out| {
                out.int(1, self.first[index] + nth as u64);
                if function != 0 {
                    out.int(2, function);
                }
                out.int(3, mapping);
                out.int(4, frame.address);
                if let Some((file, line)) = place {
                    out.int(5, file);
                    out.int(6, u64::from(line));
                }
            });
        };
        if frame.lines.is_empty() {
            let truncated = frame.module.is_some_and(|module| {
                symbols.modules[module.0 as usize].path.as_bytes() == TRUNCATED.as_bytes()
            });
            let function =
                if truncated { string(data, &mut self.functions, 5, TRUNCATED) } else { 0 };
            write(data, 0, function, None);
        }
        for (nth, line) in frame.lines.iter().enumerate() {
            let function = string(data, &mut self.functions, 5, &line.function);
            let file = line.file.as_deref().map(|file| string(data, &mut self.files, 18, file));
            write(data, nth, function, file.map(|file| (file, line.line.unwrap_or(0))));
        }
    }

    fn define_module(&mut self, data: &mut Proto, id: Option<ModuleId>) -> u64 {
        let slot = id.map_or(0, |id| id.0 as usize + 1);
        let iid = slot as u64 + NO_MODULE;
        if std::mem::replace(&mut self.modules[slot], true) {
            return iid;
        }
        let module = id.and_then(|id| self.symbols.modules.get(id.0 as usize));
        let path = module.map_or_else(|| "[unknown]".to_owned(), |module| module.path.to_string());
        data.nest(17, |string| {
            string.int(1, iid);
            string.text(2, path.trim_start_matches('/'));
        });
        let build_id = module.map(|module| &module.build_id).filter(|id| !id.is_empty());
        if let Some(build_id) = build_id {
            data.nest(16, |string| {
                string.int(1, iid);
                string.bytes(2, build_id);
            });
        }
        data.nest(19, |mapping| {
            mapping.int(1, iid);
            if build_id.is_some() {
                mapping.int(2, iid);
            }
            // Frames carry file offsets: the mapping covers the whole file at 0.
            mapping.int(5, u64::MAX >> 1);
            mapping.int(7, iid);
        });
        iid
    }
}

/// The number of a string, defined on first sight.
fn string<'a>(
    data: &mut Proto,
    known: &mut BTreeMap<&'a str, u64>,
    kind: u32,
    text: &'a str,
) -> u64 {
    let next = known.len() as u64 + 1;
    *known.entry(text).or_insert_with(|| {
        data.nest(kind, |string| {
            string.int(1, next);
            string.text(2, &crate::model::Text::from(text).to_string());
        });
        next
    })
}
