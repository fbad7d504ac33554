//! Prefix sets: building them aggregated, and asking whether one holds another. O(n log n), since
//! a list may hold millions; never a comparison of all with all.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::model::PrefixSet;

impl PrefixSet {
    /// A set of these prefixes, aggregated.
    pub(super) fn new(name: String, v4: &Vec<Ipv4Net>, v6: &Vec<Ipv6Net>) -> Self {
        Self {
            name,
            v4: Ipv4Net::aggregate(v4),
            v6: Ipv6Net::aggregate(v6),
        }
    }

    /// No prefix at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many prefixes it holds.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Every address of both families.
    pub(crate) fn is_everything(&self) -> bool {
        self.v4.first().is_some_and(|net| net.prefix_len() == 0)
            && self.v6.first().is_some_and(|net| net.prefix_len() == 0)
    }

    /// Whether an address is in the set.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let one = match address {
            IpAddr::V4(v4) => (vec![Ipv4Net::from(v4)], Vec::new()),
            IpAddr::V6(v6) => (Vec::new(), vec![Ipv6Net::from(v6)]),
        };
        let (v4, v6) = one;
        let name = String::new();
        self.covers(&Self { name, v4, v6 })
    }

    /// Whether every address of `other` is in this set. Both are aggregated, so a prefix that is
    /// covered at all is covered by one prefix: the last that begins at or before it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.v4.iter().all(|net| {
            let at = self
                .v4
                .partition_point(|mine| mine.network() <= net.network());
            at.checked_sub(1)
                .and_then(|at| self.v4.get(at))
                .is_some_and(|mine| mine.contains(net))
        }) && other.v6.iter().all(|net| {
            let at = self
                .v6
                .partition_point(|mine| mine.network() <= net.network());
            at.checked_sub(1)
                .and_then(|at| self.v6.get(at))
                .is_some_and(|mine| mine.contains(net))
        })
    }
}

/// Prefixes as they were written, before aggregation.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    pub(super) v4: Vec<Ipv4Net>,
    pub(super) v6: Vec<Ipv6Net>,
}

impl Written {
    pub(super) fn push(&mut self, net: IpNet) {
        match net {
            IpNet::V4(net) => self.v4.push(net),
            IpNet::V6(net) => self.v6.push(net),
        }
    }

    pub(super) fn extend(&mut self, v4: &[Ipv4Net], v6: &[Ipv6Net]) {
        self.v4.extend_from_slice(v4);
        self.v6.extend_from_slice(v6);
    }

    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn into_set(self, name: String) -> PrefixSet {
        PrefixSet::new(name, &self.v4, &self.v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(v4: &[&str], v6: &[&str]) -> PrefixSet {
        let v4 = v4.iter().map(|n| n.parse().unwrap()).collect();
        let v6 = v6.iter().map(|n| n.parse().unwrap()).collect();
        PrefixSet::new("test".into(), &v4, &v6)
    }

    #[test]
    fn neighbours_merge_and_edges_do_not_overflow() {
        let halves = set(&["128.0.0.0/1", "0.0.0.0/1"], &["8000::/1", "::/1"]);
        assert!(halves.is_everything());
        assert_eq!(halves.len(), 2);
        let top = set(
            &["255.255.255.255/32", "255.255.255.254/32"],
            &["ffff::/16"],
        );
        assert_eq!(top.v4, ["255.255.255.254/31".parse().unwrap()]);
        assert!(halves.covers(&top) && !top.covers(&halves));
        assert!(top.covers(&set(&[], &[])) && set(&[], &[]).is_empty());
    }

    proptest! {
        /// Against a plain bitmap of a small address space.
        #[test]
        fn aggregation_and_covering_agree_with_a_bitmap(
            a in prop::collection::vec((0u32..64, 26u8..=32), 0..12),
            b in prop::collection::vec((0u32..64, 26u8..=32), 0..12),
        ) {
            let nets = |list: &[(u32, u8)]| list.iter()
                .map(|(host, len)| Ipv4Net::new((0xc000_0200 | host).into(), *len).unwrap().trunc())
                .collect::<Vec<_>>();
            let bits = |nets: &[Ipv4Net]| nets.iter().flat_map(|n| n.hosts().chain([n.network(), n.broadcast()]))
                .fold(0u64, |bits, a| bits | 1 << (u32::from(a) & 63));
            let (a, b) = (nets(&a), nets(&b));
            let (sa, sb) = (PrefixSet::new("a".into(), &a, &vec![]), PrefixSet::new("b".into(), &b, &vec![]));
            prop_assert_eq!(bits(&a), bits(&sa.v4));
            prop_assert!(sa.v4.is_sorted());
            prop_assert_eq!(sa.covers(&sb), bits(&b) & !bits(&a) == 0);
        }
    }
}
