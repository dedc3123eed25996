//! A trace file as a [`Trace`].

use super::bytes::In;
use super::bytes::Malformed;
use super::decode_v1;
use super::layout::ChunkKind;
use super::merge::body;
use super::merge::limit_overlap;
use super::merge::merge;
use super::open::OpenError;
use super::open::check;
use super::scan::Index;
use super::scan::Place;
use super::scan::scan;
use super::store::Store;
use super::table::Table;
use crate::model::Damage;
use crate::model::Event;
use crate::model::Info;
use crate::model::Lost;
use crate::model::Nanos;
use crate::model::Summary;
use crate::model::Symbols;
use crate::model::Trace;
use std::fs;
use std::path::Path;
use zstd::bulk::Decompressor;

/// A trace file, open for reading.
///
/// Total: whatever the bytes are, opening gives a trace with its
/// [damage](Trace::damage) or an error, and going through its events ends.
#[derive(Debug)]
pub struct TraceFile {
    store: Store,
    info: Info,
    summary: Option<Summary>,
    /// When the recorder last said that all until then is in the file.
    marked: Option<Nanos>,
    symbols: Symbols,
    damage: Vec<Damage>,
    /// Chunks of events, by their first event, then by their place in the file.
    places: Vec<Place>,
    /// Stand for damaged chunks, by their end.
    lost: Vec<Lost>,
}

impl TraceFile {
    /// Opens the file at `path`.
    #[allow(clippy::disallowed_methods)] // this is the edge
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let name = || crate::model::Text::from(path.to_string_lossy().as_ref()).to_string();
        let unreadable = |source| OpenError::Unreadable { name: name(), source };
        // Before opening: to open a pipe would wait for its writer.
        let about = fs::metadata(path).map_err(unreadable)?;
        if about.is_dir() {
            return Err(OpenError::Directory { name: name() });
        }
        if !about.is_file() {
            return Err(OpenError::NotAFile { name: name() });
        }
        let file = fs::File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        Self::read(&name(), Store::File { file, len })
    }

    /// A trace from the bytes of a file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, OpenError> {
        Self::read("the input", Store::Bytes(bytes))
    }

    fn read(name: &str, store: Store) -> Result<Self, OpenError> {
        check(name, &store)?;
        let unreadable = |source| OpenError::Unreadable { name: name.to_owned(), source };
        let index = scan(&store).map_err(unreadable)?;
        let mut decompressor = Decompressor::new().map_err(unreadable)?;
        let mut loader = Loader { store: &store, decompressor: &mut decompressor, index };
        let (info, summary) = loader.load_ends();
        let marked = loader.load_mark();
        let symbols = loader.load_symbols();
        let Index { mut places, mut damage, mut lost } = loader.index;
        let Some(info) = info else {
            let detail = damage.first().map(|damage| format!(": {damage}")).unwrap_or_default();
            return Err(OpenError::NoInfo { name: name.to_owned(), detail });
        };
        places.retain(|place| place.kind.has_events());
        places.sort_by_key(|place| (place.header.min, place.offset));
        limit_overlap(&mut places, &mut damage);
        lost.sort_by_key(|lost| lost.to);
        Ok(Self { store, info, summary, marked, symbols, damage, places, lost })
    }

    fn visit(&self, wanted: impl Fn(&Place) -> bool, visit: &mut dyn FnMut(&Event)) {
        let places: Vec<&Place> = self.places.iter().filter(|place| wanted(place)).collect();
        merge(&self.store, &places, &self.lost, visit);
    }
}

impl Trace for TraceFile {
    fn info(&self) -> &Info {
        &self.info
    }
    fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
    fn recorded_until(&self) -> Option<Nanos> {
        self.summary.as_ref().map(|summary| summary.clocks.monotonic).or(self.marked)
    }
    fn symbols(&self) -> &Symbols {
        &self.symbols
    }
    fn damage(&self) -> &[Damage] {
        &self.damage
    }
    fn for_each(&self, visit: &mut dyn FnMut(&Event)) {
        self.visit(|_| true, visit);
    }
    fn for_each_but_intervals(&self, visit: &mut dyn FnMut(&Event)) {
        self.visit(|place| place.kind != ChunkKind::Intervals, visit);
    }
}

/// Reads the chunks that are kept whole.
struct Loader<'a> {
    store: &'a Store,
    decompressor: &'a mut Decompressor<'static>,
    index: Index,
}

impl Loader<'_> {
    fn input(&mut self, place: &Place) -> Result<In, Malformed> {
        let body = body(self.store, place, self.decompressor);
        body.map(In::new).ok_or(Malformed("it does not decompress to what its header says"))
    }

    fn corrupt(&mut self, place: &Place, Malformed(what): Malformed) {
        let what = format!("{what} ({})", place.kind.name());
        self.index.damage.push(Damage::Corrupt { offset: place.offset, what });
    }

    fn places(&self, kind: ChunkKind) -> Vec<Place> {
        self.index.places.iter().copied().filter(|place| place.kind == kind).collect()
    }

    /// The first readable copy of the info, and the last summary.
    fn load_ends(&mut self) -> (Option<Info>, Option<Summary>) {
        let mut info = None;
        for place in self.places(ChunkKind::Info) {
            match self.input(&place).and_then(|mut input| decode_v1::info(&mut input)) {
                Ok(read) => {
                    info = Some(read);
                    break;
                }
                Err(error) => self.corrupt(&place, error),
            }
        }
        let mut summary = None;
        if let Some(place) = self.places(ChunkKind::Summary).last() {
            match self.input(place).and_then(|mut input| decode_v1::summary(&mut input)) {
                Ok(read) => summary = Some(read),
                Err(error) => self.corrupt(place, error),
            }
        }
        (info, summary)
    }

    fn load_mark(&mut self) -> Option<Nanos> {
        let mut marked = None;
        for place in self.places(ChunkKind::Mark) {
            match self.input(&place).and_then(|mut input| decode_v1::clocks(&mut input)) {
                Ok(clocks) => marked = marked.max(Some(clocks.monotonic)),
                Err(error) => self.corrupt(&place, error),
            }
        }
        marked
    }

    fn load_symbols(&mut self) -> Symbols {
        let mut table = Table::default();
        for place in self.places(ChunkKind::Definitions) {
            let loaded = self.input(&place).and_then(|mut input| table.load(&place, &mut input));
            if let Err(error) = loaded {
                self.corrupt(&place, error);
            }
        }
        table.finish()
    }
}
