//! Spans of the program, from enter and leave events to bars that nest.

use crate::model::Nanos;
use crate::model::Text;

/// A finished stay of a thread in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Entered.
    pub start: Nanos,
    /// Left, or the end of the thread or run.
    pub end: Nanos,
    /// Row: within one row of a thread spans nest or are apart, never cross.
    pub lane: u32,
    /// Its name.
    pub name: Text,
    /// Its module path or category.
    pub target: Text,
    /// Its fields.
    pub fields: Text,
    id: u64,
    /// Spans that began at the same instant inside this one: they must be written after it.
    inner: Vec<Span>,
}

/// The open spans of one thread.
#[derive(Default, Debug)]
pub struct Spans {
    open: Vec<Span>,
}

impl Spans {
    /// The thread entered a span.
    pub fn enter(&mut self, start: Nanos, id: u64, name: &Text, target: &Text, fields: &Text) {
        self.open.push(Span {
            start,
            end: start,
            lane: 0,
            name: name.clone(),
            target: target.clone(),
            fields: fields.clone(),
            id,
            inner: Vec::new(),
        });
    }

    /// The thread left a span: gives what is complete, outer before inner where both began
    /// at one instant. A span that was never entered (its event was lost) gives nothing.
    pub fn leave(&mut self, end: Nanos, id: u64, done: &mut dyn FnMut(Span)) {
        let Some(index) = self.open.iter().rposition(|span| span.id == id) else { return };
        let mut span = self.open.remove(index);
        span.end = end;
        // What was entered later and is still open crosses this one: it needs another row.
        for crossing in &mut self.open[index..] {
            crossing.lane = crossing.lane.max(span.lane + 1);
        }
        match index.checked_sub(1).and_then(|outer| self.open.get_mut(outer)) {
            Some(outer) if outer.start == span.start => outer.inner.push(span),
            _ => give(span, done),
        }
    }

    /// The thread or the run ended: closes all, innermost first.
    pub fn finish(&mut self, end: Nanos, done: &mut dyn FnMut(Span)) {
        while let Some(id) = self.open.last().map(|span| span.id) {
            self.leave(end, id, done);
        }
    }
}

fn give(mut span: Span, done: &mut dyn FnMut(Span)) {
    let inner = std::mem::take(&mut span.inner);
    done(span);
    for span in inner {
        give(span, done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(events: &[(u64, i64)]) -> Vec<(u64, u64, u32, String)> {
        let mut spans = Spans::default();
        let mut done = Vec::new();
        let mut keep = |s: Span| done.push((s.start.0, s.end.0, s.lane, s.name.to_string()));
        let none = Text::default();
        for &(time, id) in events {
            if id > 0 {
                let name = Text::from(id.to_string().as_str());
                spans.enter(Nanos(time), id as u64, &name, &none, &none);
            } else {
                spans.leave(Nanos(time), id.unsigned_abs(), &mut keep);
            }
        }
        spans.finish(Nanos(100), &mut keep);
        done
    }

    #[test]
    fn nested_spans_share_a_row_and_crossing_ones_do_not() {
        let nested = run(&[(1, 1), (2, 2), (3, -2), (4, -1)]);
        assert_eq!(nested, [(2, 3, 0, "2".to_owned()), (1, 4, 0, "1".to_owned())]);
        let crossing = run(&[(1, 1), (2, 2), (3, -1), (4, -2), (5, -9)]);
        assert_eq!(crossing, [(1, 3, 0, "1".to_owned()), (2, 4, 1, "2".to_owned())]);
    }

    #[test]
    fn equal_starts_come_outer_first_and_open_spans_end_with_the_run() {
        let equal = run(&[(1, 1), (1, 2), (3, -2)]);
        assert_eq!(equal, [(1, 100, 0, "1".to_owned()), (1, 3, 0, "2".to_owned())]);
    }
}
