//! Events on their way into chunks: nearly ordered in, well ordered chunks out.

use super::bytes::ELEMENT;
use super::layout::ChunkKind;
use crate::model::Event;
use crate::model::Nanos;

/// Records in a chunk, unless it is cut sooner.
pub(super) const CUT_RECORDS: usize = 1 << 15;
/// Bytes of a body at which a chunk is cut.
pub(super) const CUT_BYTES: usize = 1 << 20;
/// How far back events may still come out of order without ending up in a late chunk: the
/// recorder drains ring after ring, so what one ring holds is older than the last of another.
const HOLD: Nanos = Nanos::from_millis(50);
/// Most events kept waiting, whatever their times are: bounds the memory.
const MOST: usize = 3 * CUT_RECORDS;
/// Most bytes of strings kept waiting.
const MOST_TEXT: usize = 4 * CUT_BYTES;

/// A run of events for one or more chunks, in order.
pub(super) struct Cut {
    pub(super) events: Vec<Event>,
    /// They are older than chunks already written.
    pub(super) late: bool,
}

/// The events of one kind that are not written yet.
pub(super) struct Buffer {
    pub(super) kind: ChunkKind,
    waiting: Vec<Event>,
    /// Older than what was written already. Kept apart, so that one late event does not stretch
    /// a whole chunk over the others: the reader holds all chunks that overlap.
    late: Vec<Event>,
    /// No chunk but the late ones holds anything newer.
    front: Nanos,
    newest: Nanos,
    /// Look whether there is enough to cut at this length.
    look_at: usize,
    text: usize,
}

impl Buffer {
    pub(super) fn new(kind: ChunkKind) -> Self {
        Self {
            kind,
            waiting: Vec::new(),
            late: Vec::new(),
            front: Nanos::ZERO,
            newest: Nanos::ZERO,
            look_at: CUT_RECORDS,
            text: 0,
        }
    }

    /// Takes one event whose strings are `text` bytes. True if [`Buffer::cut`] is due.
    pub(super) fn push(&mut self, event: Event, text: usize) -> bool {
        self.text += text;
        let time = event.time();
        self.newest = self.newest.max(time);
        if time < self.front {
            self.late.push(event);
        } else {
            self.waiting.push(event);
        }
        self.waiting.len() >= self.look_at
            || self.late.len() >= CUT_RECORDS
            || self.text >= MOST_TEXT
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.late.len()
    }

    /// Bytes of memory held, for tests of the bound.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        (self.waiting.capacity() + self.late.capacity()) * std::mem::size_of::<Event>() + self.text
    }

    /// What is due: the oldest waiting events but for those of the last [`HOLD`], unless too
    /// many or too long wait; and the late ones if there is a chunk full of them.
    pub(super) fn cut(&mut self) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let long = self.text >= MOST_TEXT;
        if self.late.len() >= CUT_RECORDS || (long && !self.late.is_empty()) {
            cuts.push(self.cut_late());
        }
        if self.waiting.len() >= self.look_at || long {
            self.waiting.sort_by_key(order);
            let settled = self.newest - HOLD;
            let mut ready = self.waiting.partition_point(|event| event.time() < settled);
            if self.waiting.len() >= MOST {
                ready = ready.max(MOST / 2);
            }
            if long {
                ready = self.waiting.len();
                self.text = 0;
            }
            // Less than half a chunk is not worth one yet.
            if ready >= CUT_RECORDS / 2 || long {
                cuts.extend(self.cut_waiting(ready));
            }
            self.look_at = (self.waiting.len() + CUT_RECORDS / 2).clamp(CUT_RECORDS, MOST);
        }
        cuts
    }

    /// Everything, for a flush: what is older than it from now on is late.
    pub(super) fn cut_all(&mut self) -> Vec<Cut> {
        let mut cuts = Vec::new();
        if !self.late.is_empty() {
            cuts.push(self.cut_late());
        }
        self.waiting.sort_by_key(order);
        cuts.extend(self.cut_waiting(self.waiting.len()));
        self.text = 0;
        self.look_at = CUT_RECORDS;
        cuts
    }

    fn cut_late(&mut self) -> Cut {
        self.late.sort_by_key(order);
        Cut { events: std::mem::take(&mut self.late), late: true }
    }

    fn cut_waiting(&mut self, ready: usize) -> Option<Cut> {
        let rest = self.waiting.split_off(ready);
        let events = std::mem::replace(&mut self.waiting, rest);
        self.front = events.last()?.time();
        Some(Cut { events, late: false })
    }
}

/// Bytes of memory an event takes besides its own size.
pub(super) fn text_of(weight: usize) -> usize {
    // Each string is an allocation of its own.
    weight + weight / ELEMENT
}

/// The order of events in a trace: by time, and at one instant so that a thread starts before
/// it does anything and ends after all of it.
pub(super) fn order(event: &Event) -> (Nanos, u8) {
    let rank = match event {
        Event::Start(_) => 0,
        Event::Exec(_) => 1,
        Event::Rename(_) => 2,
        Event::Object(_)
        | Event::Word(_)
        | Event::Named(_)
        | Event::Moved(_)
        | Event::Piped(_)
        | Event::Runtime(_) => 3,
        Event::Interval(_) => 4,
        Event::Gap(_) => 5,
        Event::WaitStack(_) => 6,
        Event::Observation(_) => 7,
        Event::Sample(_) => 8,
        Event::Probe(_) => 9,
        Event::Lost(_) => LOST_RANK,
        Event::Exit(_) => 11,
    };
    (event.time(), rank)
}

/// Where losses stand among events of the same instant.
pub(super) const LOST_RANK: u8 = 10;
