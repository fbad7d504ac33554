//! Owns the values frames are drawn from: the edges of everything the policy names.
//! Must never draw; the order of each pool is fixed by the policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::oracle::World;
use crate::oracle::case::INTERFACE;
use crate::oracle::policy::{Address, Mac, OneOrMany, RawPolicy, RawRule};
use crate::oracle::registry;
use crate::oracle::rules::resolve;
use crate::oracle::select::select;

/// Values worth putting in a frame.
#[derive(Debug)]
pub struct Pools {
    /// The guarded party's addresses: the host's own, or those bound to the container.
    pub own_v4: Vec<Ipv4Addr>,
    /// Likewise.
    pub own_v6: Vec<Ipv6Addr>,
    /// Other destinations: edges of `to` prefixes, forwarded, multicast, broadcast.
    pub destinations_v4: Vec<Ipv4Addr>,
    /// Other destinations.
    pub destinations_v6: Vec<Ipv6Addr>,
    /// Sources: edges of `from` prefixes and groups, some remotes.
    pub sources_v4: Vec<Ipv4Addr>,
    /// Sources.
    pub sources_v6: Vec<Ipv6Addr>,
    /// Edges of port ranges.
    pub ports: Vec<u16>,
    /// Outer VLAN ids that profiles name.
    pub vlans: Vec<u16>,
    /// Sources that perhaps cannot be: edges of special-purpose prefixes, routes, bindings, the host's own.
    pub odd_v4: Vec<Ipv4Addr>,
    /// Likewise.
    pub odd_v6: Vec<Ipv6Addr>,
    /// MACs that may send what leaves.
    pub macs: Vec<Mac>,
    /// Whether `lo` stands for a container link.
    pub container: bool,
}

impl Pools {
    /// The edges of a policy.
    #[must_use]
    pub fn new(policy: &RawPolicy, world: &World) -> Self {
        let mut pools = Self {
            own_v4: world.own_v4.clone(),
            own_v6: world.own_v6.clone(),
            destinations_v4: vec![
                Ipv4Addr::new(192, 0, 2, 11),
                Ipv4Addr::new(10, 88, 0, 2),
                Ipv4Addr::new(224, 0, 0, 1),
                Ipv4Addr::new(239, 255, 255, 255),
                Ipv4Addr::new(240, 0, 0, 0),
                Ipv4Addr::BROADCAST,
            ],
            destinations_v6: vec![
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0xfeff, 0xffff, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::UNSPECIFIED,
            ],
            sources_v4: vec![
                Ipv4Addr::new(203, 0, 113, 9),
                Ipv4Addr::new(198, 18, 0, 1),
                Ipv4Addr::new(9, 9, 9, 9),
                Ipv4Addr::UNSPECIFIED,
            ],
            sources_v6: vec![
                Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 9),
            ],
            ports: vec![
                0, 1, 22, 53, 67, 68, 443, 546, 547, 32_767, 32_768, 40_000, 60_999, 61_000, 65_535,
            ],
            vlans: Vec::new(),
            odd_v4: Vec::new(),
            odd_v6: Vec::new(),
            macs: Vec::new(),
            container: false,
        };
        pools.guarded(policy, world);
        pools.odd(policy, world);
        for group in policy.groups.values() {
            for cidr in &group.cidrs {
                pools.sources(cidr.0);
            }
        }
        for profile in policy.profiles.values() {
            pools.vlans.extend(&profile.vlans);
            for rule in profile.allow.iter().chain(&profile.deny) {
                pools.rule(rule);
            }
            for rule in profile.send.iter().flatten() {
                pools.send(rule);
            }
        }
        pools
    }

    /// Who is behind `lo`: this host, or a container.
    fn guarded(&mut self, policy: &RawPolicy, world: &World) {
        let profiles = resolve(policy);
        let facts = world.links.get(INTERFACE);
        let profile = select(&profiles, INTERFACE, world.bridge(INTERFACE), None);
        self.container = profile.is_some_and(|profile| profile.containers.is_some());
        let Some(binding) = profile.and_then(|profile| profile.binding(INTERFACE, world)) else {
            self.macs = facts.map(|facts| facts.macs.clone()).unwrap_or_default();
            return;
        };
        self.macs = binding.macs;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for cidr in binding.addresses {
            // Often inside, sometimes just outside.
            for address in edges(cidr.0) {
                let inside = if cidr.0.contains(&address) { 8 } else { 1 };
                match address {
                    IpAddr::V4(address) => v4.extend([address].repeat(inside)),
                    IpAddr::V6(address) => v6.extend([address].repeat(inside)),
                }
            }
        }
        if !v4.is_empty() {
            self.own_v4 = v4;
        }
        if !v6.is_empty() {
            self.own_v6 = v6;
        }
    }

    fn odd(&mut self, policy: &RawPolicy, world: &World) {
        let mut nets: Vec<IpNet> = registry::nets().map(|(net, _)| net).collect();
        nets.extend(world.inside.iter().map(|cidr| cidr.0));
        nets.extend(world.routes.iter().map(|route| route.prefix.0));
        for profile in policy.profiles.values() {
            let given = profile.antispoof.iter();
            let lists =
                given.flat_map(|given| given.legitimate.iter().chain(&given.egress_sources));
            nets.extend(lists.filter_map(|address| match address {
                Address::Net(cidr) => Some(cidr.0),
                _ => None,
            }));
        }
        for address in nets.into_iter().flat_map(edges) {
            match address {
                IpAddr::V4(v4) => self.odd_v4.push(v4),
                IpAddr::V6(v6) => self.odd_v6.push(v6),
            }
        }
        // So that these few are met as often as all the others together.
        let own_v4 = world.own_v4.iter().chain(&world.broadcast).copied();
        let mut own_v6 = world.own_v6.clone();
        own_v6.extend(&world.tentative_v6);
        let times = self.odd_v4.len() / 20 + 1;
        self.odd_v4.extend(own_v4.collect::<Vec<_>>().repeat(times));
        self.odd_v6.extend(own_v6.repeat(times));
    }

    /// Destinations of a send rule, for what leaves, are where what arrives comes from.
    fn send(&mut self, rule: &RawRule) {
        self.ports_of(rule);
        let to = rule.to.iter().flat_map(OneOrMany::list);
        for address in to {
            if let Address::Net(cidr) = address {
                self.sources(cidr.0);
            }
        }
    }

    fn ports_of(&mut self, rule: &RawRule) {
        for port in rule.ports.iter().flatten() {
            if let Some((first, last)) = port.bounds() {
                self.ports
                    .extend([first.wrapping_sub(1), first, last, last.wrapping_add(1)]);
            }
        }
    }

    fn rule(&mut self, rule: &RawRule) {
        self.ports_of(rule);
        for address in rule.from.iter().flatten() {
            if let Address::Net(cidr) = address {
                self.sources(cidr.0);
            }
        }
        for address in rule.to.iter().flat_map(OneOrMany::list) {
            if let Address::Net(cidr) = address {
                for edge in edges(cidr.0) {
                    match edge {
                        IpAddr::V4(v4) => self.destinations_v4.push(v4),
                        IpAddr::V6(v6) => self.destinations_v6.push(v6),
                    }
                }
            }
        }
    }

    fn sources(&mut self, net: IpNet) {
        for edge in edges(net) {
            match edge {
                IpAddr::V4(v4) => self.sources_v4.push(v4),
                IpAddr::V6(v6) => self.sources_v6.push(v6),
            }
        }
    }
}

/// First and last address of a prefix, their neighbours outside, and one in the middle.
#[must_use]
pub fn edges(net: IpNet) -> Vec<IpAddr> {
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (a, b) = (u32::from(first), u32::from(last));
            let all = [a.wrapping_sub(1), a, a + (b - a) / 2, b, b.wrapping_add(1)];
            all.map(|bits| IpAddr::V4(bits.into())).to_vec()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (a, b) = (u128::from(first), u128::from(last));
            let all = [a.wrapping_sub(1), a, a + (b - a) / 2, b, b.wrapping_add(1)];
            all.map(|bits| IpAddr::V6(bits.into())).to_vec()
        }
        _ => Vec::new(),
    }
}
