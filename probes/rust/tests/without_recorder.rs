//! Without a recorder the layer says nothing, costs nothing and leaves other layers alone.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

/// Counts events: somebody else's layer.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU32>);

impl<S: tracing::Subscriber> Layer<S> for Counter {
    fn on_event(&self, _event: &tracing::Event<'_>, _context: Context<'_, S>) {
        self.0.fetch_add(1, Relaxed);
    }
}

// One test: `init` is about the whole process.
#[test]
fn callsites_are_disabled_unless_another_layer_wants_them() {
    assert!(timesink_probe::layer().is_none(), "the tests run without a recorder");
    let counter = Counter::default();
    let both = tracing_subscriber::registry().with(timesink_probe::layer()).with(counter.clone());
    tracing::subscriber::with_default(both, || {
        assert!(!tracing::info_span!("seen").is_disabled());
        tracing::trace!("counted");
    });
    assert_eq!(counter.0.load(Relaxed), 1);
    let other = tracing_subscriber::registry().with(counter.clone()).with(timesink_probe::layer());
    tracing::subscriber::with_default(other, || tracing::trace!("counted"));
    assert_eq!(counter.0.load(Relaxed), 2);

    timesink_probe::init();
    assert!(tracing::error_span!("unseen").is_disabled());
    assert_eq!(
        tracing::level_filters::LevelFilter::current(),
        tracing::level_filters::LevelFilter::OFF
    );
    // A second call finds a subscriber and leaves it.
    timesink_probe::init();
}
