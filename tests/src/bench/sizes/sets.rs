//! Sets of prefixes, the same ones every time: spread as in routing tables, or crowded as in lists of hosts.

use std::collections::HashSet;

use fastrand::Rng;

use crate::frames::Version;
use crate::peer;

/// Sizes by decades.
pub const SIZES: [u64; 7] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];

/// The sets that are looked up in.
pub const ALL: [Set; 4] = [
    Set {
        version: Version::V4,
        clustered: false,
    },
    Set {
        version: Version::V4,
        clustered: true,
    },
    Set {
        version: Version::V6,
        clustered: false,
    },
    Set {
        version: Version::V6,
        clustered: true,
    },
];

/// What prefixes are like.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Of which addresses.
    pub version: Version,
    /// Crowded into few networks, and not spread over all there is.
    pub clustered: bool,
}

/// A prefix, its addresses as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The lowest address.
    pub first: u128,
    /// Bits that count.
    pub length: u8,
    /// The highest address.
    pub last: u128,
}

impl Set {
    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self.version {
            Version::V4 => 32,
            Version::V6 => 128,
        }
    }

    fn prefix(self, address: u128, length: u8) -> Prefix {
        let hosts = 1_u128
            .checked_shl((self.bits() - length).into())
            .map_or(u128::MAX, |count| count - 1);
        Prefix {
            first: address & !hosts,
            length,
            last: address | hosts,
        }
    }

    /// So many of them, none twice, in no order.
    pub fn prefixes(self, count: u64) -> Vec<Prefix> {
        if let (Version::V4, false) = (self.version, self.clustered) {
            let prefixes = peer::prefixes(count as usize).into_iter();
            return prefixes
                .map(|prefix| self.prefix(prefix.network().to_bits().into(), prefix.prefix_len()))
                .collect();
        }
        let mut random = Rng::with_seed(count);
        let networks = self.networks(count, &mut random);
        let mut known = HashSet::new();
        let mut found = Vec::new();
        while found.len() < count as usize {
            let prefix = self.one(&networks, &mut random);
            if known.insert(prefix) {
                found.push(prefix);
            }
        }
        found
    }

    /// The networks that clustered prefixes lie in.
    fn networks(self, count: u64, random: &mut Rng) -> Vec<u128> {
        match self.version {
            // Hosts: 40 in a /24, 12 of those in a /16.
            Version::V4 => {
                let outer: Vec<_> = (0..count.div_ceil(480))
                    .map(|_| u128::from(random.u16(0x0b00..0xdf00)) << 16)
                    .collect();
                (0..count.div_ceil(40))
                    .map(|_| {
                        let network = random.choice(&outer).copied().unwrap_or_default();
                        network | u128::from(random.u8(..)) << 8
                    })
                    .collect()
            }
            // Customers: 100 in a provider's /32, which come out of the registries' blocks of a /23.
            Version::V6 => {
                let blocks: Vec<_> = (0..40).map(|_| random.u128(..) >> 3 | 1 << 125).collect();
                (0..count.div_ceil(100))
                    .map(|_| {
                        let block = random.choice(&blocks).copied().unwrap_or_default();
                        block >> 105 << 105 | u128::from(random.u16(..0x200)) << 96
                    })
                    .collect()
            }
        }
    }

    fn one(self, networks: &[u128], random: &mut Rng) -> Prefix {
        let network = random.choice(networks).copied().unwrap_or_default();
        match (self.version, self.clustered) {
            (Version::V4, _) => self.prefix(network | u128::from(random.u8(..)), 32),
            (Version::V6, true) => {
                let length = if random.u8(..5) == 0 { 64 } else { 48 };
                self.prefix(network | u128::from(random.u32(..)) << 64, length)
            }
            (Version::V6, false) => {
                const LENGTHS: [u8; 10] = [32, 36, 40, 44, 48, 48, 48, 48, 56, 64];
                let length = random.choice(LENGTHS).unwrap_or(48);
                self.prefix(self.address(random), length)
            }
        }
    }

    /// Any unicast address that somebody may have.
    fn address(self, random: &mut Rng) -> u128 {
        match self.version {
            Version::V4 => random.u32(..).into(),
            Version::V6 => random.u128(..) >> 3 | 1 << 125,
        }
    }

    /// Addresses at random, then as many out of the prefixes.
    pub fn queries(self, prefixes: &[Prefix], each: usize) -> Vec<u128> {
        let mut random = Rng::with_seed(7);
        let mut found: Vec<_> = (0..each).map(|_| self.address(&mut random)).collect();
        found.extend((0..each).map(|_| {
            let prefix = prefixes.get(random.usize(..prefixes.len().max(1)));
            prefix.map_or(0, |prefix| random.u128(prefix.first..=prefix.last))
        }));
        found
    }
}

/// What a prefix answers: neighbours differ, so that ranges are not merged.
pub fn answer(place: usize) -> u16 {
    1 + (place % 200) as u16
}

/// The prefixes as ranges from 0 on that do not overlap: where each begins, and the answer of the longest prefix there.
pub fn ranges(set: Set, prefixes: &[Prefix]) -> Vec<(u128, u16)> {
    let highest = set.prefix(0, 0).last;
    let mut sorted: Vec<_> = prefixes.iter().zip((0..).map(answer)).collect();
    sorted.sort_unstable_by_key(|(prefix, _)| (prefix.first, prefix.length));
    let mut found = vec![(0, 0)];
    // those around the place in question, the innermost last
    let mut open: Vec<(u128, u16)> = Vec::new();
    for (prefix, answer) in sorted {
        close(&mut found, &mut open, prefix.first);
        put(&mut found, prefix.first, answer);
        open.push((prefix.last, answer));
    }
    // whatever ends at the highest address has nothing behind it, and neither has what is around it
    close(&mut found, &mut open, highest);
    found
}

fn put(found: &mut Vec<(u128, u16)>, start: u128, answer: u16) {
    match found.last_mut() {
        Some(last) if last.0 == start => last.1 = answer,
        _ => found.push((start, answer)),
    }
}

/// Ends what ends below `place`: behind it stands what is around it.
fn close(found: &mut Vec<(u128, u16)>, open: &mut Vec<(u128, u16)>, place: u128) {
    while let Some((last, _)) = open.pop_if(|(last, _)| *last < place) {
        put(
            found,
            last + 1,
            open.last().map_or(0, |(_, answer)| *answer),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_answer_like_the_longest_prefix() {
        for set in ALL {
            let prefixes = set.prefixes(1000);
            let ranges = ranges(set, &prefixes);
            assert!(ranges.is_sorted_by(|one, other| one.0 < other.0));
            for query in set.queries(&prefixes, 300) {
                let longest = prefixes
                    .iter()
                    .enumerate()
                    .filter(|(_, prefix)| (prefix.first..=prefix.last).contains(&query))
                    .max_by_key(|(_, prefix)| prefix.length);
                let expected = longest.map_or(0, |(place, _)| answer(place));
                let place = ranges.partition_point(|(start, _)| *start <= query);
                assert_eq!(ranges[place - 1].1, expected, "{set:?} {query:x}");
            }
        }
    }
}
