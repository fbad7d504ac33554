//! Sets of addresses as sorted ranges that do not touch: what differs between two policies may be no rule's own list.

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::policy::{AddressSet, PrefixSet};

/// First and last address, as numbers.
type Range = (u128, u128);

/// Addresses of both versions of IP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

impl Addresses {
    pub(super) fn everything() -> Self {
        Self {
            v4: vec![(0, u32::MAX.into())],
            v6: vec![(0, u128::MAX)],
        }
    }

    pub(super) fn of(set: &AddressSet) -> Self {
        match set {
            AddressSet::Any => Self::everything(),
            AddressSet::Prefixes(set) => Self::of_prefixes(set),
        }
    }

    /// Sets are aggregated: sorted, disjoint; only neighbours may touch.
    pub(super) fn of_prefixes(set: &PrefixSet) -> Self {
        let v4 = set.v4.iter().map(|net| {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            (first.into(), last.into())
        });
        let v6 = set
            .v6
            .iter()
            .map(|net| (net.network().to_bits(), net.broadcast().to_bits()));
        Self {
            v4: merged(v4.collect()),
            v6: merged(v6.collect()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn is_everything(&self) -> bool {
        *self == Self::everything()
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        self.v4.extend_from_slice(&other.v4);
        self.v6.extend_from_slice(&other.v6);
        Self {
            v4: merged(self.v4),
            v6: merged(self.v6),
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        Self {
            v4: minus(&self.v4, &other.v4),
            v6: minus(&self.v6, &other.v6),
        }
    }

    /// The prefixes that make it up.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.v4.iter().flat_map(|(first, last)| {
            Ipv4Subnets::new((*first as u32).into(), (*last as u32).into(), 0)
        });
        let v6 = self
            .v6
            .iter()
            .flat_map(|(first, last)| Ipv6Subnets::new((*first).into(), (*last).into(), 0));
        v4.map(IpNet::V4).chain(v6.map(IpNet::V6))
    }
}

fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn minus(from: &[Range], what: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    let mut what = what.iter().peekable();
    for &(first, last) in from {
        let mut at = first;
        let mut rest = true;
        while let Some(&&(start, end)) = what.peek() {
            if end < at {
                what.next();
                continue;
            }
            if start > last {
                break;
            }
            if start > at {
                left.push((at, start - 1));
            }
            if end >= last {
                rest = false;
                break;
            }
            at = end + 1;
            what.next();
        }
        if rest {
            left.push((at, last));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(bits: u16) -> Addresses {
        let ranges = (0..16).filter(|bit| bits >> bit & 1 != 0);
        Addresses {
            v4: merged(ranges.map(|bit| (bit, bit)).collect()),
            v6: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn sets_are_sets(a: u16, b: u16) {
            prop_assert_eq!(set(a).union(&set(b)), set(a | b));
            prop_assert_eq!(set(a).minus(&set(b)), set(a & !b));
        }
    }

    #[test]
    fn ends_do_not_overflow() {
        let all = Addresses::everything();
        assert!(all.minus(&all).is_empty());
        assert_eq!(all.clone().union(&all), all);
        assert_eq!(all.prefixes().count(), 2);
        assert_eq!(all.minus(&set(1)).v4, [(1, u32::MAX.into())]);
    }
}
