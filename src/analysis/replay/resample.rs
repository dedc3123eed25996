//! The same run again, with other luck: service times drawn anew from their like.

use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::model::Op;
use crate::analysis::replay::random::Random;
use std::collections::BTreeMap;

/// Operations that are draws from one lot: those of one thread, kind, object and site.
type Like = (usize, Kind, u32, u32);

/// All lots of a model.
pub struct Lots(BTreeMap<Like, Vec<u32>>);

fn like(stream: usize, op: &Op) -> Option<Like> {
    matches!(op.kind, Kind::Compute | Kind::Delay).then_some((stream, op.kind, op.what, op.site))
}

impl Lots {
    /// Sorts the operations of a model into lots.
    pub fn of(model: &Model) -> Self {
        let mut lots: BTreeMap<Like, Vec<u32>> = BTreeMap::new();
        for (index, stream) in model.streams.iter().enumerate() {
            for op in &stream.ops {
                if let Some(like) = like(index, op) {
                    lots.entry(like).or_default().push(op.ns);
                }
            }
        }
        Self(lots)
    }

    /// A model whose service times are drawn, with return, from their lots.
    pub fn draw(&self, model: &Model, seed: u64) -> Model {
        let mut random = Random(super::random::mix(seed));
        let mut drawn = model.clone();
        for (index, stream) in drawn.streams.iter_mut().enumerate() {
            for op in &mut stream.ops {
                if let Some(lot) = like(index, op).and_then(|like| self.0.get(&like)) {
                    op.ns = lot[random.below(lot.len())];
                }
            }
        }
        drawn
    }
}
