//! Flame graphs as trees for the page.

use crate::analysis::StackFold;
use crate::analysis::StackKind;
use crate::analysis::StackTime;
use crate::export::colors::frame_color;
use crate::export::grouped;
use crate::export::paths::Paths;
use crate::model::Nanos;
use crate::model::State;
use crate::model::Timelines;
use crate::model::Trace;
use serde::Serialize;
use std::collections::BTreeMap;

/// Frames sent per graph; narrower ones than these many can show are less than a pixel.
const FRAMES: usize = 20_000;

/// One graph as the page takes it.
#[derive(Serialize)]
pub(super) struct FlameView {
    title: &'static str,
    about: String,
    names: Vec<String>,
    /// A colour for each name, as a function's or a state's; empty for none.
    colors: Vec<String>,
    /// Depth, name, ns; depth first, callees of a frame by time.
    nodes: Vec<u64>,
    /// What was left out, in a sentence; empty if nothing was.
    pruned: String,
}

/// The three graphs, by name.
pub(super) fn views(
    trace: &dyn Trace,
    timelines: &Timelines,
    stacks: &StackFold,
) -> BTreeMap<&'static str, FlameView> {
    let running = timelines.threads().iter().map(|t| t.states[State::Running]).sum();
    let view = |kind| {
        let rows = stacks.rows(kind);
        let about = about(trace, kind, stacks.samples(), running, &rows);
        (kind.name(), Tree::new(trace, timelines, &rows, kind).view(kind, about, FRAMES))
    };
    StackKind::ALL.into_iter().map(view).collect()
}

fn about(
    trace: &dyn Trace,
    kind: StackKind,
    samples: u64,
    running: Nanos,
    rows: &[StackTime],
) -> String {
    let total: Nanos = rows.iter().map(|row| row.time).sum();
    let hz = trace.info().sample_hz;
    match kind {
        StackKind::OnCpu if rows.is_empty() && hz == 0 => {
            "No CPU samples: they were switched off when this was recorded.".to_owned()
        }
        StackKind::OnCpu if rows.is_empty() => format!(
            "No CPU sample hit: the threads ran for {running} in all, at {hz} samples a second."
        ),
        StackKind::OnCpu => format!(
            "Where the threads ran: {} samples that stand for {total} of {running} on a CPU. The wider, the more time; callers above, callees below.",
            grouped(samples)
        ),
        StackKind::OffCpu if rows.is_empty() => "No thread was ever off the CPU.".to_owned(),
        StackKind::OffCpu => format!(
            "Where the threads waited, and for what: {total} of thread time. The last frame is the state, in its colour."
        ),
        StackKind::In(state) => format!("{total} of thread time {}.", state.meaning()),
        StackKind::Wall if rows.is_empty() => "No thread was seen.".to_owned(),
        StackKind::Wall => format!(
            "All {total} of thread time: running, by samples, and waiting. The last frame is the state, in its colour."
        ),
    }
}

#[derive(Default)]
struct Node {
    name: u32,
    time: u64,
    callees: BTreeMap<u32, usize>,
}

struct Tree {
    nodes: Vec<Node>,
    names: Vec<String>,
}

impl Tree {
    fn new(trace: &dyn Trace, timelines: &Timelines, rows: &[StackTime], kind: StackKind) -> Self {
        let mut paths = Paths::with_pools(trace.symbols(), timelines);
        let mut nodes = vec![Node::default()];
        for row in rows {
            let mut at = 0;
            nodes[0].time += row.time.0;
            for name in paths.path(row, kind) {
                let next = nodes.len();
                let callee = *nodes[at].callees.entry(name).or_insert(next);
                if callee == next {
                    nodes.push(Node { name, ..Node::default() });
                }
                at = callee;
                nodes[at].time += row.time.0;
            }
        }
        Self { nodes, names: paths.names().to_vec() }
    }

    /// The widest `limit` frames; a frame is never wider than its caller, so they make a tree.
    fn view(&self, kind: StackKind, about: String, limit: usize) -> FlameView {
        let mut times: Vec<u64> = self.nodes.iter().map(|node| node.time).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let least = times.get(limit).map_or(1, |&time| time.saturating_add(1)).max(1);
        let left_out = times.iter().filter(|&&time| time < least).count();
        let mut names = vec!["all threads".to_owned()];
        let mut known: BTreeMap<u32, u64> = BTreeMap::new();
        let mut nodes = Vec::new();
        let mut open: Vec<(usize, u64)> = Vec::new();
        if self.nodes[0].time > 0 {
            open.push((0, 0));
        }
        while let Some((index, depth)) = open.pop() {
            let node = &self.nodes[index];
            let name = if index == 0 {
                0
            } else {
                *known.entry(node.name).or_insert_with(|| {
                    names.push(self.names[node.name as usize].clone());
                    names.len() as u64 - 1
                })
            };
            nodes.extend([depth, name, node.time]);
            let mut callees: Vec<usize> =
                node.callees.values().copied().filter(|&i| self.nodes[i].time >= least).collect();
            // The last is visited first: widest on the left, ties by order of the names.
            callees.sort_by_key(|&i| self.nodes[i].time);
            open.extend(callees.into_iter().map(|i| (i, depth + 1)));
        }
        let pruned = if left_out > 0 && self.nodes[0].time > 0 {
            format!(
                "{} frames of less than {} each are not drawn; the time is in their callers. The SVG files have them.",
                grouped(left_out as u64),
                Nanos(least)
            )
        } else {
            String::new()
        };
        let title = match kind {
            StackKind::OnCpu => "Running (on-CPU)",
            StackKind::OffCpu => "Waiting (off-CPU)",
            StackKind::Wall => "All time (wall)",
            StackKind::In(state) => state.name(),
        };
        let hex = |name: &String| {
            frame_color(name, kind)
                .map_or_else(String::new, |(r, g, b)| format!("#{r:02x}{g:02x}{b:02x}"))
        };
        let colors = names.iter().map(hex).collect();
        FlameView { title, about, names, colors, nodes, pruned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(times: &[(u32, u64)]) -> Tree {
        let mut nodes = vec![Node::default()];
        for &(name, time) in times {
            nodes[0].time += time;
            let at = nodes.len();
            nodes[0].callees.insert(name, at);
            nodes.push(Node { name, time, ..Node::default() });
        }
        Tree { nodes, names: (0..10).map(|i| format!("f{i}")).collect() }
    }

    #[test]
    fn the_widest_frames_stay_and_the_rest_is_said() {
        let tree = tree(&[(3, 5), (1, 100), (2, 7)]);
        let view = tree.view(StackKind::OnCpu, String::new(), 2);
        assert_eq!(view.names, ["all threads", "f1"]);
        assert_eq!(view.nodes, [0, 0, 112, 1, 1, 100]);
        assert!(view.pruned.starts_with("2 frames of less than 8 ns"), "{}", view.pruned);
        let all = tree.view(StackKind::OnCpu, String::new(), 100);
        assert_eq!(all.nodes, [0, 0, 112, 1, 1, 100, 1, 2, 7, 1, 3, 5]);
        assert!(all.pruned.is_empty());
    }
}
