//! Frames and stacks by id: each is defined once, before its first use.

use crate::model::Definition;
use crate::model::FastMap;
use crate::model::Frame;
use crate::model::FrameId;
use crate::model::Line;
use crate::model::Module;
use crate::model::ModuleId;
use crate::model::Stack;
use crate::model::StackId;
use crate::model::Text;

/// Hands out ids, counting from 0 per kind.
#[derive(Default)]
pub(super) struct Interner {
    modules: u32,
    frames: FastMap<(u64, u64), FrameId>,
    stacks: FastMap<(u64, u64), StackId>,
}

/// An optional id as a key: 0 for none.
fn key(id: Option<u32>) -> u64 {
    id.map_or(0, |id| u64::from(id) + 1)
}

impl Interner {
    /// Defines the next module.
    pub fn module(
        &mut self,
        path: Text,
        build_id: Vec<u8>,
        define: &mut dyn FnMut(Definition),
    ) -> ModuleId {
        let id = ModuleId(self.modules);
        self.modules += 1;
        define(Definition::Module(Module { path, build_id }));
        id
    }

    /// The frame at `address` of `module`, and whether it is new.
    pub fn frame(
        &mut self,
        module: Option<ModuleId>,
        address: u64,
        define: &mut dyn FnMut(Definition),
    ) -> (FrameId, bool) {
        let next = FrameId(self.frames.len() as u32);
        let id = *self.frames.entry((key(module.map(|m| m.0)), address)).or_insert(next);
        if id == next {
            define(Definition::Frame(Frame { module, address, lines: Vec::new() }));
        }
        (id, id == next)
    }

    /// A new frame that is no address but has a name; `number` tells it from others of `module`.
    pub fn named(
        &mut self,
        module: ModuleId,
        number: u64,
        line: Line,
        define: &mut dyn FnMut(Definition),
    ) -> FrameId {
        let next = FrameId(self.frames.len() as u32);
        let id = *self.frames.entry((key(Some(module.0)), number)).or_insert(next);
        if id == next {
            let lines = vec![line];
            define(Definition::Frame(Frame { module: Some(module), address: number, lines }));
        }
        id
    }

    /// The stack of frames given outermost first; `None` without any.
    pub fn stack(
        &mut self,
        outermost_first: impl Iterator<Item = FrameId>,
        define: &mut dyn FnMut(Definition),
    ) -> Option<StackId> {
        let mut parent: Option<StackId> = None;
        for frame in outermost_first {
            let next = StackId(self.stacks.len() as u32);
            let node = (key(parent.map(|p| p.0)), u64::from(frame.0));
            let id = *self.stacks.entry(node).or_insert(next);
            if id == next {
                define(Definition::Stack(Stack { parent, frame }));
            }
            parent = Some(id);
        }
        parent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Symbols;

    #[test]
    fn equal_stacks_share_an_id_and_equal_callers_a_prefix() {
        let mut interner = Interner::default();
        let mut symbols = Symbols::default();
        let mut define = |d| symbols.define(d).expect("ids are defined before use");
        let module = interner.module(Text::from("/bin/a"), Vec::new(), &mut define);
        let [a, b, c] = [1, 2, 3].map(|at| interner.frame(Some(module), at, &mut define).0);
        let first = interner.stack([a, b].into_iter(), &mut define);
        let second = interner.stack([a, c].into_iter(), &mut define);
        let again = interner.stack([a, b].into_iter(), &mut define);
        assert_eq!(first, again);
        assert_ne!(first, second);
        assert_eq!(interner.stack(std::iter::empty(), &mut define), None);
        assert_eq!(interner.frame(None, 1, &mut define), (FrameId(3), true));
        assert_eq!((symbols.frames.len(), symbols.stacks.len()), (4, 3));
        let frames: Vec<FrameId> = symbols.walk(second.expect("two frames")).collect();
        assert_eq!(frames, [c, a]);
    }
}
