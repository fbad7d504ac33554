//! Who is never blocked, and why. Knows the policy and what the host says of itself; never the kernel or the clock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::{AddressSet, Policy, PrefixSet};

/// Sources that are recorded when they scan, and never blocked: what `never_block` lists, what a failsafe or allow rule
/// names in `from`, and the host's gateways, resolvers and own addresses.
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
        let allow = policy.profiles.iter().flat_map(|profile| &profile.allow);
        for rule in policy.failsafe.rules().iter().chain(allow) {
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

    /// Spares these as well, as it spares those that an allow rule names.
    #[must_use]
    pub fn sparing(mut self, listed: Option<Arc<PrefixSet>>) -> Self {
        self.allowed.extend(listed);
        self
    }

    /// These addresses with their kinds, and these lists.
    #[cfg(test)]
    pub(super) fn of(
        addresses: &[(&str, &'static str)],
        never_block: Option<Arc<PrefixSet>>,
        allowed: &[Arc<PrefixSet>],
    ) -> Self {
        let addresses = addresses.iter();
        Self {
            never_block,
            allowed: allowed.to_vec(),
            addresses: addresses
                .map(|&(address, kind)| (address.parse().unwrap(), kind))
                .collect(),
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
    let no_network = matches!(address, IpAddr::V6(address) if address.to_bits() >> 64 == 0);
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("the host itself")
    } else if address.is_multicast() || broadcast {
        Some("a group address")
    } else if no_network {
        Some("no host's address")
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::policy;

    const POLICY: &str = r#"
version = 1
[groups.admins]
cidrs = ["192.0.2.0/25", "192.0.2.128/26", "2001:db8:5::/48"]
[profiles.edge]
interfaces = "eth0"
[[profiles.edge.allow]]
id = "ssh"
ports = "22"
protocol = "tcp"
from = ["@admins"]
[[profiles.edge.allow]]
id = "web"
ports = "443"
protocol = "tcp"
[[profiles.edge.allow]]
id = "v6-only"
ports = "8443"
protocol = "tcp"
from = ["::/0", "198.18.0.0/15"]
[[profiles.edge.deny]]
id = "bad"
from = ["203.0.113.0/24"]
"#;

    fn protected() -> Protected {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, POLICY).unwrap();
        let loaded = policy::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        let gateway = ["10.0.0.1", "fe80::1", "2001:db8:9::1"].map(|it| it.parse().unwrap());
        let own = ["10.0.0.7", "10.0.0.1"].map(|it| it.parse().unwrap());
        let resolver = ["10.0.0.2", "10.0.0.1"].map(|it| it.parse().unwrap());
        Protected::new(&loaded.policy, &gateway, &own, &resolver)
    }

    #[test]
    fn says_who_is_never_blocked_and_why() {
        let protected = protected();
        for (source, why) in [
            ("10.0.0.2/32", Some("resolver 10.0.0.2")),
            ("10.0.0.7/32", Some("own address 10.0.0.7")),
            ("10.0.0.3/32", None),
            ("fe80::1/128", Some("gateway fe80::1")),
            ("fe80::2/128", None),
            // of a /64 one address is enough
            ("2001:db8:9::/64", Some("gateway 2001:db8:9::1")),
            ("2001:db8:9::2/128", None),
            // groups and lists of allow rules, not of deny rules
            ("192.0.2.127/32", Some("@admins")),
            ("192.0.2.191/32", Some("@admins")),
            ("192.0.2.192/32", None),
            ("192.0.1.255/32", None),
            ("2001:db8:5:ffff::/64", Some("@admins")),
            ("2001:db8:6::/64", None),
            ("203.0.113.1/32", None),
            ("198.19.255.255/32", Some("rule v6-only")),
            ("198.20.0.0/32", None),
            // nobody's
            ("0.0.0.0/32", Some("the unspecified address")),
            ("127.0.0.1/32", Some("the host itself")),
            ("255.255.255.255/32", Some("a group address")),
            ("ff02::1/128", Some("a group address")),
            ("::1/128", Some("the host itself")),
            ("::ffff:192.0.2.200/128", Some("no host's address")),
        ] {
            let source = source.parse().unwrap();
            assert_eq!(protected.spares(&source).as_deref(), why, "{source}");
        }
    }

    #[test]
    fn a_list_of_everybody_protects_only_as_never_block() {
        let everybody = Arc::new(PrefixSet {
            name: "rule web".to_owned(),
            v4: vec![Ipv4Net::default()],
            v6: vec![Ipv6Net::default()],
        });
        let source = "203.0.113.1/32".parse().unwrap();
        let allowed = Protected::of(&[], None, &[Arc::clone(&everybody)]);
        assert_eq!(allowed.spares(&source), None);
        let never = Protected::of(&[], Some(everybody), &[]);
        assert_eq!(never.spares(&source).as_deref(), Some("rule web"));
    }
}
