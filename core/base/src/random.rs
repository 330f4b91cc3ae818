//! Randomness that a test can seed.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The letters of generated names: no vowels (no words by accident), nothing easily confused.
/// Same set as k8s.io/apimachinery/pkg/util/rand.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A source of randomness. Clones share one stream.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// Seeded by the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// The same stream for the same `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// `length` letters fit for the end of an object's name.
    #[must_use]
    pub fn suffix(&self, length: usize) -> String {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (0..length).map(|_| char::from(NAME_LETTERS[rng.random_range(0..NAME_LETTERS.len())])).collect()
    }

    /// 16 random bytes, for a version-4 UUID.
    #[must_use]
    pub fn bytes16(&self) -> [u8; 16] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// A number below `bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_names() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        let name = a.suffix(5);
        assert_eq!(name.len(), 5);
        assert_eq!(name, b.suffix(5));
        assert_ne!(a.suffix(5), name);
    }
}
