//! Who is never blocked, and why. Knows the policy and what the host says of itself; never the kernel or the clock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::{AddressSet, Policy, PrefixSet};

/// Sources that are recorded when they scan, and never blocked: what `never_block` lists, what an allow rule names in
/// `from`, and the host's gateways, resolvers and own addresses.
#[derive(Clone, Debug, Default)]
pub struct Protected {
    /// Whole prefix sets count.
    never_block: Option<Arc<PrefixSet>>,
    /// Of these a prefix of length 0 names nobody in particular and protects nobody.
    allowed: Vec<Arc<PrefixSet>>,
    addresses: BTreeMap<IpAddr, &'static str>,
}

impl Protected {
    /// What `policy` and the host say.
    #[must_use]
    pub fn new(policy: &Policy, gateways: &[IpAddr], own: &[IpAddr], resolvers: &[IpAddr]) -> Self {
        let mut allowed: Vec<Arc<PrefixSet>> = Vec::new();
        for rule in policy.profiles.iter().flat_map(|profile| &profile.allow) {
            if let AddressSet::Prefixes(set) = &rule.from
                && !allowed.iter().any(|known| Arc::ptr_eq(known, set))
            {
                allowed.push(Arc::clone(set));
            }
        }
        let kinds = [
            ("resolver", resolvers),
            ("gateway", gateways),
            ("own address", own),
        ];
        let addresses = kinds
            .iter()
            .flat_map(|&(kind, addresses)| addresses.iter().map(move |&address| (address, kind)))
            .collect();
        Self {
            never_block: policy.scans.never_block.clone(),
            allowed,
            addresses,
        }
    }

    /// Why nothing of `source` may be blocked, as `gateway 192.0.2.1` or `@admins`; `None`: it may be. A prefix is
    /// spared as soon as one address of it is.
    #[must_use]
    pub fn spares(&self, source: &IpNet) -> Option<String> {
        if let Some(kind) = nobody(source.addr()) {
            return Some(kind.to_owned());
        }
        let mut addresses = self.addresses.range(source.network()..=source.broadcast());
        if let Some((address, kind)) = addresses.next() {
            return Some(format!("{kind} {address}"));
        }
        let listed = self.never_block.iter().find(|set| overlap(set, source, 0));
        let mut allowed = self.allowed.iter().filter(|set| overlap(set, source, 1));
        listed
            .or_else(|| allowed.next())
            .map(|set| set.name.clone())
    }
}

/// Addresses that are no single remote host's.
fn nobody(address: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("the host itself")
    } else if address.is_multicast() || broadcast {
        Some("a group address")
    } else {
        None
    }
}

/// Whether `set` and `net` have an address in common.
pub(super) fn holds_any(set: &PrefixSet, net: &IpNet) -> bool {
    overlap(set, net, 0)
}

/// The same, without the prefixes of `set` that are shorter than `shortest`.
fn overlap(set: &PrefixSet, net: &IpNet, shortest: u8) -> bool {
    match net {
        IpNet::V4(net) => overlap_v4(&set.v4, *net, shortest),
        IpNet::V6(net) => overlap_v6(&set.v6, net, shortest),
    }
}

/// `sorted` is disjoint: of the prefixes that begin before `net` ends, the last reaches farthest.
fn overlap_v4(sorted: &[Ipv4Net], net: Ipv4Net, shortest: u8) -> bool {
    let end = sorted.partition_point(|prefix| prefix.network() <= net.broadcast());
    let last = sorted[..end].last();
    last.is_some_and(|prefix| {
        prefix.broadcast() >= net.network() && prefix.prefix_len() >= shortest
    })
}

fn overlap_v6(sorted: &[Ipv6Net], net: &Ipv6Net, shortest: u8) -> bool {
    let end = sorted.partition_point(|prefix| prefix.network() <= net.broadcast());
    let last = sorted[..end].last();
    last.is_some_and(|prefix| {
        prefix.broadcast() >= net.network() && prefix.prefix_len() >= shortest
    })
}
