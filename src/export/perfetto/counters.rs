//! How many threads ran and how many queued for a CPU, over time.
//!
//! Segments of different threads come in any order. Few of them are kept as steps and sorted:
//! exact. Of many, the mean over short stretches is shown, and the track's name says so.

use super::proto::Proto;
use super::writer::Writer;
use super::writer::field;
use crate::model::Nanos;

/// Up to this many segments are shown exactly.
const EXACT: u64 = 200_000;

/// Stretches of the mean otherwise.
const STRETCHES: usize = 50_000;

/// One counter track.
pub struct Counter {
    track: u64,
    name: &'static str,
    window: (Nanos, Nanos),
    steps: Vec<(Nanos, i32)>,
    /// Time in the partly covered stretches, and the difference of counts at each edge.
    partial: Vec<i64>,
    edges: Vec<i64>,
}

impl Counter {
    /// A track for `segments` segments within `window`.
    pub fn new(track: u64, name: &'static str, window: (Nanos, Nanos), segments: u64) -> Self {
        let stretches = if segments > EXACT { STRETCHES } else { 0 };
        Self {
            track,
            name,
            window,
            steps: Vec::new(),
            partial: vec![0; stretches],
            edges: vec![0; stretches + usize::from(stretches > 0)],
        }
    }

    /// One thread more, from `start` to `end` (within the window).
    pub fn add(&mut self, start: Nanos, end: Nanos) {
        if self.partial.is_empty() {
            self.steps.push((start, 1));
            self.steps.push((end, -1));
            return;
        }
        let (width, origin) = (self.width(), self.window.0);
        let (from, to) = ((start - origin).0, (end - origin).0);
        let (first, last) = ((from / width) as usize, (to / width) as usize);
        if first == last {
            self.partial[first] += (to - from) as i64;
            return;
        }
        self.partial[first] += (width - from % width) as i64;
        if last < self.partial.len() {
            self.partial[last] += (to % width) as i64;
        }
        self.edges[first + 1] += 1;
        self.edges[last] -= 1;
    }

    fn width(&self) -> u64 {
        (self.window.1 - self.window.0).0 / self.partial.len() as u64 + 1
    }

    /// Writes the track.
    pub fn write(mut self, out: &mut Writer) {
        let name = if self.partial.is_empty() {
            self.name.to_owned()
        } else {
            format!("{} (mean of each {})", self.name, Nanos(self.width()))
        };
        out.packet(|packet| {
            packet.nest(field::TRACK_DESCRIPTOR, |track| {
                track.int(1, self.track);
                track.text(2, &name);
                track.nest(8, |counter| counter.text(6, "threads"));
            });
        });
        if self.partial.is_empty() { self.write_steps(out) } else { self.write_means(out) }
    }

    fn write_steps(&mut self, out: &mut Writer) {
        self.steps.sort_unstable();
        let (mut level, mut shown) = (0_i64, None);
        let mut steps = self.steps.iter().peekable();
        if steps.peek().is_none_or(|step| step.0 > self.window.0) {
            self.value(out, self.window.0, |event| event.int(30, 0));
            shown = Some(0);
        }
        while let Some(&(at, change)) = steps.next() {
            level += i64::from(change);
            let settled = steps.peek().is_none_or(|next| next.0 > at);
            if settled && shown != Some(level) {
                self.value(out, at, |event| event.int(30, level as u64));
                shown = Some(level);
            }
        }
    }

    fn write_means(&self, out: &mut Writer) {
        let width = self.width();
        let (mut whole, mut shown) = (0_i64, None);
        for (index, (partial, edge)) in self.partial.iter().zip(&self.edges).enumerate() {
            whole += edge;
            let total = whole * width as i64 + partial;
            let at = self.window.0 + Nanos(index as u64 * width);
            if shown != Some(total) && at < self.window.1 {
                self.value(out, at, |event| event.double(44, total as f64 / width as f64));
                shown = Some(total);
            }
        }
    }

    fn value(&self, out: &mut Writer, at: Nanos, fill: impl FnOnce(&mut Proto)) {
        out.sequenced(Some(at), |packet| {
            packet.nest(field::TRACK_EVENT, |event| {
                event.int(9, 4);
                event.int(11, self.track);
                fill(event);
            });
        });
    }
}
