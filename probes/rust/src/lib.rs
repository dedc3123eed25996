//! In-process probe for Rust programs: `tracing` spans and events on the recorder's clock.
