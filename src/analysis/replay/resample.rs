//! The same run again, with other luck: service times drawn anew from their like.

use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::model::Op;
use crate::analysis::replay::random::Random;
use std::collections::BTreeMap;

/// Operations that are draws from one lot: those of one thread, kind, object and site.
type Like = (usize, Kind, u32, u32);

/// No lot: a service time that no draw changes.
const FIXED: u32 = u32::MAX;

/// All lots of a model.
pub struct Lots {
    all: Vec<Vec<u32>>,
    /// The lot of each operation, stream after stream.
    of_ops: Vec<u32>,
    drawn: Model,
}

fn like(stream: usize, op: &Op) -> Option<Like> {
    matches!(op.kind, Kind::Compute | Kind::Delay).then_some((stream, op.kind, op.what, op.site))
}

impl Lots {
    /// Sorts the operations of a model into lots.
    pub fn of(model: &Model) -> Self {
        let mut numbers: BTreeMap<Like, u32> = BTreeMap::new();
        let mut lots: Vec<Vec<u32>> = Vec::new();
        let mut of_ops = Vec::with_capacity(model.len());
        for (index, stream) in model.streams.iter().enumerate() {
            for op in &stream.ops {
                let Some(like) = like(index, op) else {
                    of_ops.push(FIXED);
                    continue;
                };
                let next = lots.len() as u32;
                let number = *numbers.entry(like).or_insert(next);
                if number == next {
                    lots.push(Vec::new());
                }
                lots[number as usize].push(op.ns);
                of_ops.push(number);
            }
        }
        Self { all: lots, of_ops, drawn: model.clone() }
    }

    /// The model with service times that are drawn, with return, from their lots.
    pub fn draw(&mut self, seed: u64) -> &Model {
        let mut random = Random(super::random::mix(seed));
        let ops = self.drawn.streams.iter_mut().flat_map(|stream| &mut stream.ops);
        for (op, &number) in ops.zip(&self.of_ops) {
            if let Some(lot) = self.all.get(number as usize) {
                op.ns = lot[random.below(lot.len())];
            }
        }
        &self.drawn
    }
}
