//! How many different things were seen, without remembering them: linear counting (Whang, Vander-Zanden and Taylor,
//! "A linear-time probabilistic counting algorithm for database applications", ACM TODS 15(2), 1990).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Bits: 2 KiB. With 65,536 different things, all ports there are, the error is some 2 %.
const BITS: usize = 1 << 14;
/// What it takes.
#[cfg(test)]
pub(super) const BYTES: usize = BITS / 8;

/// A bitmap of hashes.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    hasher: RandomState,
    words: Box<[u64]>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            words: vec![0; BITS / 64].into(),
        }
    }

    pub(super) fn add(&mut self, thing: impl Hash) {
        let bit = self.hasher.hash_one(thing) as usize % BITS;
        if let Some(word) = self.words.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    /// About how many different things were added: at most as many as there are bits, times the logarithm of that.
    pub(super) fn count(&self) -> u64 {
        let empty: u32 = self.words.iter().map(|word| word.count_zeros()).sum();
        let bits = BITS as f64;
        (bits * (bits / f64::from(empty.max(1))).ln()).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_within_a_few_percent() {
        let mut tally = Tally::new();
        assert_eq!(tally.count(), 0);
        let mut added = 0_u32;
        for count in [100_u32, 257, 1000, 10_000, 65_536] {
            while added < count {
                tally.add(added);
                tally.add(added / 2);
                added += 1;
            }
            let error = f64::from(count) - tally.count() as f64;
            // more than five times the standard error
            assert!(error.abs() < 0.08 * f64::from(count), "{count}: {error}");
        }
    }

    #[test]
    fn a_full_one_has_an_end() {
        let mut tally = Tally::new();
        for number in 0..1_000_000 {
            tally.add(number);
        }
        assert!((100_000..200_000).contains(&tally.count()));
    }
}
