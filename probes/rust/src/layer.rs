//! The `tracing_subscriber` layer.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::layout;
use crate::layout::{FIELDS_MAX, NAME_MAX, Packed};
use crate::writer::Writer;

/// Sends spans and events to the recorder. Made by [`layer`].
#[derive(Clone, Debug)]
pub struct ProbeLayer {
    writer: Arc<Writer>,
}

/// The layer for the recorder that started this program; `None` if there is none, or if
/// its file cannot be used here.
///
/// `None` is a layer too and has no say in what other layers see. Alone on a registry it
/// disables all spans and events where they are made, for about the cost of having no
/// subscriber at all.
pub fn layer() -> Option<ProbeLayer> {
    Some(ProbeLayer { writer: Writer::of_recorder()? })
}

/// Sets a global subscriber with just this layer. Does nothing if there is one already.
pub fn init() {
    let subscriber = tracing_subscriber::registry().with(layer());
    // Refused if there is one: the program's own choice stands.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

impl ProbeLayer {
    /// A layer that writes into the file at `path`, made by [`Reader::create`](crate::Reader).
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is not a file of this version for this PID namespace.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { writer: Writer::shared(path)? })
    }
}

/// A span as the layer keeps it: its enter record, and its fields for when more are recorded.
struct Prepared {
    packed: Packed,
    fields: Fields,
}

impl<S> Layer<S> for ProbeLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let packed = pack_span(id, attributes.metadata(), &fields);
        span.extensions_mut().replace(Prepared { packed, fields });
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(prepared) = extensions.get_mut::<Prepared>() else { return };
        values.record(&mut prepared.fields);
        prepared.packed = pack_span(id, span.metadata(), &prepared.fields);
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(prepared) = span.extensions().get::<Prepared>() {
            self.writer.enter(id.into_u64(), &prepared.packed);
        }
    }

    fn on_exit(&self, id: &span::Id, _context: Context<'_, S>) {
        self.writer.leave(id.into_u64());
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let name = fields.message.as_ref().map_or(metadata.name(), |message| &message.0);
        self.writer.instant(&layout::pack(None, name, metadata.target(), &fields.text.0));
    }
}

fn pack_span(id: &span::Id, metadata: &tracing::Metadata<'_>, fields: &Fields) -> Packed {
    layout::pack(Some(id.into_u64()), metadata.name(), metadata.target(), &fields.text.0)
}

/// Fields as `key=value` separated by spaces; the message of an event apart.
#[derive(Default)]
struct Fields {
    text: Bounded<{ FIELDS_MAX + 8 }>,
    message: Option<Bounded<{ NAME_MAX + 8 }>>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=');
        // A bare word reads better; anything that could be taken for two fields is quoted.
        if field.name() == "message" || (!value.is_empty() && value.chars().all(is_plain)) {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // `Bounded` never refuses; an error would be the value's own and leaves it short.
        if field.name() == "message" {
            let _ = write!(self.message.insert(Bounded::default()), "{value:?}");
            return;
        }
        let gap = if self.text.0.is_empty() { "" } else { " " };
        let _ = write!(self.text, "{gap}{}={value:?}", field.name());
    }
}

/// Text that stops growing a little past what a record holds, so that a huge value costs no
/// memory and its cut is still seen.
#[derive(Default)]
struct Bounded<const LIMIT: usize>(String);

impl<const LIMIT: usize> fmt::Write for Bounded<LIMIT> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LIMIT.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Ok(())
    }
}
