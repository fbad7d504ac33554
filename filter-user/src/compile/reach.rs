//! Which interfaces lead back to a source, from the routing tables: stretches of addresses with one word each, a bit for
//! every interface that asks for the strict reverse path and [`REACH_ANY`] for "by some interface".
//!
//! A source is reached by an interface if any routing table's best route leads there (RFC 3704, feasible path): which
//! table the kernel takes may depend on what the source's class does not tell.

use std::collections::BTreeMap;

use filter_common::layout::REACH_ANY;
use ipnet::IpNet;

use super::classes::{Position, Stretch};
use super::{HostFacts, Route};

/// From this address to the next stretch's, sources are reached by these interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach<K> {
    pub(super) start: K,
    pub(super) word: u64,
}

/// What only a link can say of itself is never asked for a route: `0.0.0.0`, `::`, `fe80::/10`.
const ON_LINK4: [(u32, u32); 1] = [(0, 0)];
const ON_LINK6: [(u128, u128); 2] = [(0, 0), (0xfe80 << 112, (0xfebf << 112) | (u128::MAX >> 16))];

/// The stretches of IPv4.
pub(super) fn v4(host: &HostFacts) -> Vec<Reach<u32>> {
    reach(host, &ON_LINK4, |prefix| match prefix {
        IpNet::V4(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        IpNet::V6(_) => None,
    })
}

/// The stretches of IPv6.
pub(super) fn v6(host: &HostFacts) -> Vec<Reach<u128>> {
    reach(host, &ON_LINK6, |prefix| match prefix {
        IpNet::V6(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        IpNet::V4(_) => None,
    })
}

/// The stretches as members of classes; `last` is the end of the line.
pub(super) fn stretches<K: Position>(
    reach: &[Reach<K>],
    last: K,
    member: impl Fn(u64) -> Option<u32>,
) -> Vec<Stretch<K>> {
    let ends = reach
        .iter()
        .skip(1)
        .filter_map(|next| next.start.before())
        .chain([last]);
    reach
        .iter()
        .zip(ends)
        .filter_map(|(stretch, last)| {
            Some(Stretch {
                first: stretch.start,
                last,
                member: member(stretch.word)?,
            })
        })
        .collect()
}

fn reach<K: Position>(
    host: &HostFacts,
    on_link: &[(K, K)],
    bounds: impl Fn(&IpNet) -> Option<(K, K)>,
) -> Vec<Reach<K>> {
    // by table and prefix (shortest first, so that longer ones come to lie on top): the best metric's interfaces
    let mut tables: BTreeMap<u32, BTreeMap<(u8, K), Best<K>>> = BTreeMap::new();
    for route in &host.routes {
        let Some((first, last)) = bounds(&route.prefix) else {
            continue;
        };
        let word = word(route, &host.strict);
        let best = tables
            .entry(route.table)
            .or_default()
            .entry((route.prefix.prefix_len(), first))
            .or_insert(Best {
                last,
                metric: route.metric,
                word,
            });
        if route.metric < best.metric {
            (best.metric, best.word) = (route.metric, word);
        } else if route.metric == best.metric {
            best.word |= word;
        }
    }
    let mut all = vec![Reach {
        start: K::ZERO,
        word: 0,
    }];
    for table in tables.values() {
        all = either(&all, &longest(table));
    }
    for (first, last) in on_link {
        let exempt = BTreeMap::from([(
            (0, *first),
            Best {
                last: *last,
                metric: 0,
                word: u64::MAX,
            },
        )]);
        all = either(&all, &longest(&exempt));
    }
    all
}

#[derive(Clone, Copy, Debug)]
struct Best<K> {
    last: K,
    metric: u32,
    word: u64,
}

fn word(route: &Route, strict: &[Vec<u32>]) -> u64 {
    if route.any {
        return u64::MAX;
    }
    if route.interfaces.is_empty() {
        return 0;
    }
    strict
        .iter()
        .take(REACH_ANY as usize)
        .enumerate()
        .filter(|(_, family)| {
            route
                .interfaces
                .iter()
                .any(|interface| family.contains(interface))
        })
        .fold(1 << REACH_ANY, |word, (bit, _)| word | 1 << bit)
}

/// One table as stretches in which the longest prefix counts.
fn longest<K: Position>(routes: &BTreeMap<(u8, K), Best<K>>) -> Vec<Reach<K>> {
    // by first address, shorter prefixes before longer ones: prefixes nest or are disjoint, so a stack is enough
    let mut sorted: Vec<(K, u8, Best<K>)> = routes
        .iter()
        .map(|((length, first), best)| (*first, *length, *best))
        .collect();
    sorted.sort_unstable_by_key(|(first, length, _)| (*first, *length));
    let mut stretches = vec![Reach {
        start: K::ZERO,
        word: 0,
    }];
    let mut open: Vec<(K, u64)> = Vec::new();
    let mut put = |start: K, word: u64| match stretches.last_mut() {
        Some(last) if last.start == start => last.word = word,
        Some(last) if last.word == word => {}
        _ => stretches.push(Reach { start, word }),
    };
    let close = |open: &mut Vec<(K, u64)>, until: Option<K>, put: &mut dyn FnMut(K, u64)| {
        while let Some(&(last, _)) = open.last() {
            if until.is_some_and(|until| last >= until) {
                break;
            }
            open.pop();
            if let Some(next) = last.next() {
                put(next, open.last().map_or(0, |(_, word)| *word));
            }
        }
    };
    for (first, _, best) in sorted {
        close(&mut open, Some(first), &mut put);
        put(first, best.word);
        open.push((best.last, best.word));
    }
    close(&mut open, None, &mut put);
    stretches
}

/// Two lists of stretches as one: reached by either.
fn either<K: Position>(one: &[Reach<K>], other: &[Reach<K>]) -> Vec<Reach<K>> {
    let mut merged: Vec<Reach<K>> = Vec::with_capacity(one.len() + other.len());
    let (mut at, mut to) = (0, 0);
    let (mut left, mut right) = (0, 0);
    while at < one.len() || to < other.len() {
        let next = match (one.get(at), other.get(to)) {
            (Some(a), Some(b)) => a.start.min(b.start),
            (Some(a), None) => a.start,
            (None, Some(b)) => b.start,
            (None, None) => break,
        };
        if let Some(stretch) = one.get(at).filter(|stretch| stretch.start == next) {
            left = stretch.word;
            at += 1;
        }
        if let Some(stretch) = other.get(to).filter(|stretch| stretch.start == next) {
            right = stretch.word;
            to += 1;
        }
        let word = left | right;
        if merged.last().is_none_or(|last| last.word != word) {
            merged.push(Reach { start: next, word });
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(host: &HostFacts, address: u32) -> u64 {
        let mut word = 0;
        let mut tables: Vec<u32> = host.routes.iter().map(|route| route.table).collect();
        tables.sort_unstable();
        tables.dedup();
        for table in tables {
            let fits = |route: &&Route| {
                route.table == table && route.prefix.contains(&std::net::IpAddr::V4(address.into()))
            };
            let matching: Vec<&Route> = host.routes.iter().filter(fits).collect();
            let best = matching
                .iter()
                .map(|route| (std::cmp::Reverse(route.prefix.prefix_len()), route.metric))
                .min();
            for route in matching {
                if Some((std::cmp::Reverse(route.prefix.prefix_len()), route.metric)) == best {
                    word |= super::word(route, &host.strict);
                }
            }
        }
        if address == 0 { u64::MAX } else { word }
    }

    fn route() -> impl Strategy<Value = Route> {
        (
            1_u32..4,
            0_u8..=32,
            0_u32..64,
            0_u32..3,
            prop::collection::vec(1_u32..5, 0..3),
            prop::bool::weighted(0.05),
        )
            .prop_map(|(table, length, address, metric, interfaces, any)| {
                let net = ipnet::Ipv4Net::new((address << 26).into(), length).unwrap();
                Route {
                    table,
                    prefix: IpNet::V4(net.trunc()),
                    metric,
                    interfaces,
                    any,
                }
            })
    }

    proptest! {
        #[test]
        fn a_source_is_reached_as_a_linear_search_says(
            routes in prop::collection::vec(route(), 0..24),
            addresses in prop::collection::vec((0_u32..64, -1_i32..2), 1..40),
        ) {
            let host = HostFacts { routes, strict: vec![vec![1], vec![2, 3]], ..HostFacts::default() };
            let stretches = v4(&host);
            prop_assert!(stretches.windows(2).all(|pair| pair[0].start < pair[1].start && pair[0].word != pair[1].word));
            for (block, offset) in addresses {
                let address = (block << 26).wrapping_add_signed(offset);
                let found = stretches.iter().rev().find(|stretch| stretch.start <= address).unwrap().word;
                prop_assert_eq!(found, naive(&host, address), "{}", std::net::Ipv4Addr::from(address));
            }
        }
    }

    #[test]
    fn what_is_on_the_link_needs_no_route() {
        let stretches = v6(&HostFacts::default());
        let word = |text: &str| {
            let address: std::net::Ipv6Addr = text.parse().unwrap();
            stretches
                .iter()
                .rev()
                .find(|stretch| stretch.start <= address.to_bits())
                .unwrap()
                .word
        };
        for (text, expected) in [
            ("::", u64::MAX),
            ("::1", 0),
            ("fe7f:ffff::", 0),
            ("fe80::", u64::MAX),
            ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u64::MAX),
            ("fec0::", 0),
        ] {
            assert_eq!(word(text), expected, "{text}");
        }
    }
}
