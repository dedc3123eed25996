//! A hash map for look-ups on the hot path. Never iterate one into an output.

use std::hash::{BuildHasherDefault, Hasher};

/// Look-ups by small integer keys. The hasher is fixed, so behaviour repeats from run to run;
/// still, walk it only after sorting (lint `iter_over_hash_type`).
#[allow(clippy::disallowed_types)] // the one place that names the type the ban points to
pub type FastMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<IntHasher>>;

/// The set to [`FastMap`].
#[allow(clippy::disallowed_types)] // the one place that names the type the ban points to
pub type FastSet<K> = std::collections::HashSet<K, BuildHasherDefault<IntHasher>>;

/// Multiply and rotate: enough for ids and addresses that nobody chooses to collide.
#[derive(Clone, Copy, Default)]
pub struct IntHasher(u64);

impl Hasher for IntHasher {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        // 2^64 / golden ratio, odd: spreads consecutive keys over the high bits.
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}
