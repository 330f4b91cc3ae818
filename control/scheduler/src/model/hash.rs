//! Texts as numbers: labels, namespaces and names are compared far more often than they are read.
//!
//! The hash is keyed by random numbers of this process, so nobody can choose two texts that collide; by accident it
//! happens once in 10^13 pairs of a million texts. Nothing may depend on the order of hashes: it differs in every run.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::LazyLock;

static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The number of a text.
pub(crate) fn hashed(text: &str) -> u64 {
    KEYS.hash_one(text)
}

/// A map by hashes of texts, or by other small numbers that no stranger chooses.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Mixed>>;

/// Mixes numbers that are random, or few, already.
#[derive(Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
