//! Chrome JSON.
