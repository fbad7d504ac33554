//! Owns what the oracle knows of the host around the filter: addresses, routes, links and their bindings, who is blocked.
//! Must never know the policy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::policy::{Cidr, Mac};

/// The host around the filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// The host's IPv4 addresses.
    pub own_v4: Vec<Ipv4Addr>,
    /// The host's IPv6 addresses.
    pub own_v6: Vec<Ipv6Addr>,
    /// Those of `own_v6` that duplicate address detection has not confirmed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tentative_v6: Vec<Ipv6Addr>,
    /// Broadcast addresses of the networks the host is on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broadcast: Vec<Ipv4Addr>,
    /// Addresses and networks of the host's containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<Cidr>,
    /// Blocked sources: addresses, and IPv6 prefixes of 64 bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Cidr>,
    /// Run-time entries in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "entry")]
    pub entries: Vec<Entry>,
    /// Routes, of all tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "route")]
    pub routes: Vec<Route>,
    /// What is known of single interfaces, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", rename = "link")]
    pub links: BTreeMap<String, LinkFacts>,
}

/// A source that is let in or kept out beside the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Kept out; else let in.
    pub deny: bool,
    /// Whom it names.
    pub source: Cidr,
    /// Protocol number and port; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<(u8, u16)>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Where it leads.
    pub prefix: Cidr,
    /// The lowest wins.
    pub metric: u32,
    /// Indexes of its output interfaces; none: unreachable, blackhole, prohibit.
    pub interfaces: Vec<u32>,
    /// It may lead out of any interface.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
}

/// What is known of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkFacts {
    /// The host's MAC addresses there: the interface's, its master's, those of what is stacked on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// Indexes of the output interfaces that count as this one for the strict reverse path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<u32>>,
    /// The bridge it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// MAC address of the link's other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Mac>,
    /// What the host has found out about the container behind the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
}

/// What a container may send from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Its MAC addresses.
    pub macs: Vec<Mac>,
    /// Its addresses and prefixes.
    pub addresses: Vec<Cidr>,
}

impl LinkFacts {
    /// Nothing is known.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            macs: Vec::new(),
            outputs: None,
            bridge: None,
            peer: None,
            binding: None,
        }
    }
}

impl Binding {
    /// Whether the container may send from the MAC.
    #[must_use]
    pub fn has_mac(&self, mac: Mac) -> bool {
        self.macs.contains(&mac)
    }

    /// Whether the container may send from the address; the unspecified one is nobody's.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses.iter();
        !address.is_unspecified() && addresses.any(|cidr| cidr.0.contains(&address))
    }
}

impl World {
    /// Whether the address is one of the host's own.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.own_v4.contains(&v4),
            IpAddr::V6(v6) => self.own_v6.contains(&v6),
        }
    }

    /// Whether the address is the host's own beyond doubt: another host may still answer for a tentative one.
    #[must_use]
    pub fn owns_for_sure(&self, address: IpAddr) -> bool {
        let tentative = matches!(address, IpAddr::V6(v6) if self.tentative_v6.contains(&v6));
        self.owns(address) && !tentative
    }

    /// Whether the address is a container's of this host.
    #[must_use]
    pub fn is_inside(&self, address: IpAddr) -> bool {
        self.inside.iter().any(|cidr| cidr.0.contains(&address))
    }

    /// Whether what comes from the address is blocked.
    #[must_use]
    pub fn blocks(&self, address: IpAddr) -> bool {
        self.blocked.iter().any(|cidr| cidr.0.contains(&address))
    }

    /// What the entries say of a packet: kept out, let in, or nothing. The longest prefix decides, then the one that names
    /// the port, then the one that keeps out.
    #[must_use]
    pub fn listed(&self, source: IpAddr, port: Option<(u8, u16)>) -> Option<&Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.source.0.contains(&source))
            .filter(|entry| entry.port.is_none() || entry.port == port)
            .max_by_key(|entry| {
                (
                    entry.source.0.prefix_len(),
                    entry.port.is_some(),
                    entry.deny,
                )
            })
    }

    /// Whether the address is the broadcast address of a network the host is on.
    #[must_use]
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if self.broadcast.contains(&v4))
    }

    /// Whether a packet to the address is routed on: not ours, not multicast, not broadcast.
    #[must_use]
    pub fn forwards(&self, address: IpAddr) -> bool {
        let to_many = address.is_multicast()
            || address == IpAddr::V4(Ipv4Addr::BROADCAST)
            || self.is_broadcast(address);
        !self.owns(address) && !to_many
    }

    /// The bridge an interface is a port of.
    #[must_use]
    pub fn bridge(&self, interface: &str) -> Option<&str> {
        self.links.get(interface)?.bridge.as_deref()
    }

    /// Whether some table's best route to the address leads out of one of `outputs`; `None`: out of any interface.
    /// The longest prefix is best, then the lowest metric; routes that are equal in both share the traffic.
    #[must_use]
    pub fn routes_to(&self, address: IpAddr, outputs: Option<&[u32]>) -> bool {
        self.routes.iter().any(|route| {
            let fits =
                |other: &Route| other.table == route.table && other.prefix.0.contains(&address);
            let better = |other: &Route| {
                let (length, best) = (other.prefix.0.prefix_len(), route.prefix.0.prefix_len());
                length > best || (length == best && other.metric < route.metric)
            };
            let is_best =
                fits(route) && !self.routes.iter().any(|other| fits(other) && better(other));
            let leads = route.any
                || match outputs {
                    None => !route.interfaces.is_empty(),
                    Some(outputs) => route.interfaces.iter().any(|out| outputs.contains(out)),
                };
            is_best && leads
        })
    }
}
