//! The chunks of a trace as one sequence in order of time. A chunk is decompressed when the
//! merge reaches its first event and dropped after its last, so memory goes with how many
//! chunks overlap and not with the length of the recording.

use super::buffer::LOST_RANK;
use super::buffer::order;
use super::decode_v1::Events;
use super::layout::CHUNK_HEADER;
use super::layout::ChunkKind;
use super::scan::Place;
use super::scan::lost;
use super::store::Store;
use crate::model::Damage;
use crate::model::Event;
use crate::model::Lost;
use crate::model::Nanos;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use zstd::bulk::Decompressor;

/// Where an event stands: time, rank among those of the same instant, place of its chunk in
/// the file.
type Key = (Nanos, u8, usize);

/// Most memory that chunks open at once may take together.
const OPEN_LIMIT: usize = 512 << 20;

/// Refuses chunks beyond [`OPEN_LIMIT`]. The writer's chunks of a kind hardly overlap; a small
/// file made of thousands of well compressed chunks that all claim the same time is a bomb.
pub(super) fn limit_overlap(places: &mut Vec<Place>, damage: &mut Vec<Damage>) {
    let mut open: BinaryHeap<Reverse<(Nanos, usize)>> = BinaryHeap::new();
    let mut held = 0;
    let mut refused: Option<(u64, u64)> = None;
    places.retain(|place| {
        while let Some(&Reverse((max, cost))) = open.peek()
            && max < place.header.min
        {
            open.pop();
            held -= cost;
        }
        let cost = cost(place);
        if held + cost > OPEN_LIMIT {
            let (first, count) = refused.unwrap_or((place.offset, 0));
            refused = Some((first.min(place.offset), count + 1));
            return false;
        }
        held += cost;
        open.push(Reverse((place.header.max, cost)));
        true
    });
    if let Some((offset, count)) = refused {
        let what = format!("{count} chunks more of the same time than any recorder writes");
        damage.push(Damage::Corrupt { offset, what });
    }
}

/// What an open chunk takes at most: its body, what is remembered of its threads, and the one
/// event at hand, which for an exec may be a long list of short strings.
fn cost(place: &Place) -> usize {
    let raw = place.header.raw as usize;
    let event = if place.kind == ChunkKind::Lifecycle { raw.saturating_mul(48) } else { raw };
    raw + (1 << 20) + event.min(64 << 20)
}

/// A chunk being read, or a loss waiting for its turn.
struct Cursor<'a> {
    key: Key,
    event: Event,
    rest: Option<(Events, &'a Place)>,
}

impl Cursor<'_> {
    /// Goes on to the next event; false when there is none. A body that breaks off although
    /// its checksum is right, which only a forger makes, becomes a loss to its end.
    fn advance(&mut self) -> bool {
        let Some((events, place)) = &mut self.rest else { return false };
        match events.advance(&mut self.event) {
            Ok(true) => {
                let (time, rank) = order(&self.event);
                // The body may claim any order of ranks at one instant; ours must hold.
                self.key = (time, rank, self.key.2);
                true
            }
            Ok(false) => false,
            Err(_) => {
                let loss = lost(place.kind, &place.header, self.key.0, events.left());
                self.rest = None;
                loss.is_some_and(|loss| {
                    self.key = (loss.to, LOST_RANK, self.key.2);
                    self.event = Event::Lost(loss);
                    true
                })
            }
        }
    }
}

/// Calls `visit` with every event of `places`, which are sorted by their first event, and of
/// `losses`, which are sorted by their end.
pub(super) fn merge(
    store: &Store,
    places: &[&Place],
    losses: &[Lost],
    visit: &mut dyn FnMut(&Event),
) {
    let mut unopened = places.iter().copied().enumerate().peekable();
    let mut losses = losses.iter().peekable();
    let mut open: Vec<Option<Cursor>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut queue: BinaryHeap<Reverse<(Key, usize)>> = BinaryHeap::new();
    let mut decompressor = Decompressor::new().ok();
    loop {
        let next = queue.peek().map_or(Nanos::MAX, |Reverse((key, _))| key.0);
        // All that can come at or before the next event must be in the queue.
        let cursor = if let Some((_, place)) = unopened.next_if(|(_, p)| p.header.min <= next) {
            start(store, place, decompressor.as_mut())
        } else if let Some(loss) = losses.next_if(|loss| loss.to <= next) {
            let key = (loss.to, LOST_RANK, usize::MAX);
            Some(Cursor { key, event: Event::Lost(*loss), rest: None })
        } else {
            let Some(Reverse((_, at))) = queue.pop() else { return };
            let first = |time: Nanos| (time, 0, 0);
            let limit = [
                queue.peek().map(|Reverse((key, _))| *key),
                unopened.peek().map(|(_, place)| first(place.header.min)),
                losses.peek().map(|loss| first(loss.to)),
            ];
            let limit = limit.into_iter().flatten().min();
            let Some(cursor) = &mut open[at] else { continue };
            // At least one, then on for as long as nothing else comes before.
            let mut more = true;
            while more {
                visit(&cursor.event);
                more = cursor.advance();
                if limit.is_some_and(|limit| cursor.key >= limit) {
                    break;
                }
            }
            if more {
                queue.push(Reverse((cursor.key, at)));
            } else {
                open[at] = None;
                free.push(at);
            }
            continue;
        };
        if let Some(cursor) = cursor {
            let at = free.pop().unwrap_or(open.len());
            queue.push(Reverse((cursor.key, at)));
            if at == open.len() {
                open.push(None);
            }
            open[at] = Some(cursor);
        }
    }
}

/// Reads and decompresses a chunk up to its first event. A chunk that was right when the file
/// was opened and is not any more is a loss like any other.
fn start<'a>(
    store: &Store,
    place: &'a Place,
    decompressor: Option<&mut Decompressor<'static>>,
) -> Option<Cursor<'a>> {
    let order_in_file = place.offset as usize;
    let whole = lost(place.kind, &place.header, place.header.min, place.header.records)?;
    let mut cursor =
        Cursor { key: (whole.to, LOST_RANK, order_in_file), event: Event::Lost(whole), rest: None };
    if let Some(body) = decompressor.and_then(|decompressor| body(store, place, decompressor)) {
        cursor.key.0 = place.header.min;
        cursor.rest = Some((Events::new(place.kind, &place.header, body), place));
        return cursor.advance().then_some(cursor);
    }
    Some(cursor)
}

/// The decompressed body of a chunk; `None` if it is not what its header says.
pub(super) fn body(
    store: &Store,
    place: &Place,
    decompressor: &mut Decompressor<'static>,
) -> Option<Vec<u8>> {
    let mut stored = vec![0; place.header.stored as usize];
    store.read(place.offset + CHUNK_HEADER as u64, &mut stored).ok()?;
    if crc32fast::hash(&stored) != place.header.body_crc {
        return None;
    }
    let body = decompressor.decompress(&stored, place.header.raw as usize).ok()?;
    (body.len() == place.header.raw as usize).then_some(body)
}
