//! The compiled BPF object and the layout of its records.
