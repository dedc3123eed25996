//! Definitions from their chunks, with their ids intact when a chunk between them is lost.

use super::bytes::In;
use super::bytes::Malformed;
use super::decode_v1;
use super::decode_v1::DefinitionMemory;
use super::scan::Place;
use crate::model::Definition;
use crate::model::Frame;
use crate::model::FrameId;
use crate::model::Line;
use crate::model::Module;
use crate::model::Stack;
use crate::model::Symbols;

/// Most memory for definitions, by estimate: far above any real trace, far below a bomb's.
const LIMIT: usize = 1 << 30;

/// The name of a function whose definition is not in the file any more.
const LOST: &str = "[lost from the trace file]";

/// Collects definitions.
#[derive(Default)]
pub(super) struct Table {
    symbols: Symbols,
    used: usize,
    /// Stacks whose frame is not known: they get one named [`LOST`].
    lost_stacks: Vec<usize>,
}

impl Table {
    /// Loads one chunk. What is before a malformed record is kept.
    pub(super) fn load(&mut self, place: &Place, input: &mut In) -> Result<(), Malformed> {
        self.fill_up([input.varint()?, input.varint()?, input.varint()?])?;
        let mut memory = DefinitionMemory::default();
        let mut dangling = false;
        for _ in 0..place.header.records {
            let definition = decode_v1::definition(input, &mut memory)?;
            // A line in memory is about six times what a record counts for it.
            self.spend(64 + 6 * input.record_weight())?;
            dangling |= self.define(definition);
        }
        if dangling {
            return Err(Malformed("it refers to modules, frames or stacks that are not there"));
        }
        Ok(())
    }

    /// Everything, each stack with a frame that exists.
    pub(super) fn finish(mut self) -> Symbols {
        if !self.lost_stacks.is_empty() {
            let frame = FrameId(self.symbols.frames.len() as u32);
            self.symbols.frames.push(lost_frame());
            for &at in &self.lost_stacks {
                self.symbols.stacks[at].frame = frame;
            }
        }
        self.symbols
    }

    fn spend(&mut self, cost: usize) -> Result<(), Malformed> {
        self.used = self.used.saturating_add(cost);
        if self.used > LIMIT {
            Err(Malformed("more definitions than any trace has"))
        } else {
            Ok(())
        }
    }

    /// Stands in for definitions that are missing before the chunk whose first ids are `first`,
    /// so that later ids keep their meaning: a wrong name would be worse than none.
    fn fill_up(&mut self, first: [u64; 3]) -> Result<(), Malformed> {
        let Symbols { modules, frames, stacks } = &self.symbols;
        let have = [modules.len(), frames.len(), stacks.len()];
        let mut missing = [0; 3];
        for ((missing, first), have) in missing.iter_mut().zip(first).zip(have) {
            let more = first.checked_sub(have as u64).ok_or(Malformed("it defines ids again"))?;
            *missing = usize::try_from(more).unwrap_or(usize::MAX);
        }
        let [modules, frames, stacks] = missing;
        let count = modules.saturating_add(frames).saturating_add(stacks);
        self.spend(count.saturating_mul(160))?;
        self.symbols
            .modules
            .resize_with(have[0] + modules, || Module { path: LOST.into(), build_id: Vec::new() });
        self.symbols.frames.resize_with(have[1] + frames, lost_frame);
        (0..stacks).for_each(|_| self.lost_stack());
        Ok(())
    }

    /// True if what it refers to is missing; it keeps its id all the same.
    fn define(&mut self, definition: Definition) -> bool {
        let is = match &definition {
            Definition::Frame(_) => Some(true),
            Definition::Stack(_) => Some(false),
            Definition::Module(_) | Definition::Names { .. } => None,
        };
        if self.symbols.define(definition).is_ok() {
            return false;
        }
        match is {
            Some(true) => self.symbols.frames.push(lost_frame()),
            Some(false) => self.lost_stack(),
            None => {}
        }
        true
    }

    fn lost_stack(&mut self) {
        self.lost_stacks.push(self.symbols.stacks.len());
        self.symbols.stacks.push(Stack { parent: None, frame: FrameId(0) });
    }
}

fn lost_frame() -> Frame {
    let line = Line { function: LOST.to_owned(), file: None, line: None };
    Frame { module: None, address: 0, lines: vec![line] }
}
