//! Owns randomness: one stream of numbers from one seed.
//! Must never take entropy from anywhere else.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A reproducible stream of random choices. `ChaCha8` is specified, so seeds stay good for ever.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// Any 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end` (0 for an `end` of 0).
    pub fn below(&mut self, end: usize) -> usize {
        // The bias of the remainder is far below what a test can notice.
        usize::try_from(self.u64() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// A number in a range, both ends included.
    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True this often.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the values.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        assert!(!values.is_empty(), "nothing to pick from");
        values[self.below(values.len())].clone()
    }

    /// An index, each as often as its weight says.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (i, weight) in weights.iter().enumerate() {
            if at < *weight {
                return i;
            }
            at -= weight;
        }
        0
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.u64().to_le_bytes()[0]
    }

    /// Any 16 bits.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Some bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}
