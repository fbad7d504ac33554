//! Links and addresses of this network namespace, over netlink: /sys may belong to another namespace.

mod addresses;
mod peers;
mod routes;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};

use crate::compile::HostFacts;

pub(super) use peers::{Peer, Peers};
pub(super) use watch::Watch;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// What there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Interface index -> name.
    pub(super) names: BTreeMap<u32, String>,
    /// Interfaces whose frames do not begin with an Ethernet header.
    pub(super) not_ethernet: BTreeSet<u32>,
    /// Interface index -> id of the XDP program on it.
    pub(super) programs: BTreeMap<u32, u32>,
    /// Interface index -> what it is and how it hangs together with others.
    pub(super) details: BTreeMap<u32, Link>,
    /// Own addresses, and routes if they were asked for. What depends on the policy is left empty.
    pub(super) facts: HostFacts,
    /// Whatever a route names as the next router; only if routes were asked for.
    pub(super) gateways: Vec<IpAddr>,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Its Ethernet address.
    pub(super) mac: Option<Mac>,
    /// The bridge or bond it is a port of.
    pub(super) master: Option<u32>,
    /// The device it is stacked on, as a VLAN or macvlan device is; only if that is in this namespace.
    pub(super) lower: Option<u32>,
    pub(super) kind: Kind,
    /// The other end of a pair.
    pub(super) peer: Option<PeerId>,
    /// Own addresses on it.
    pub(super) addresses: Vec<IpAddr>,
    /// The networks it is connected to by those addresses; never link-local IPv6, which every link has.
    pub(super) prefixes: Vec<IpNet>,
}

/// The sorts of link that are treated differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Bridge,
    /// One end of a pair: veth, netkit.
    Veth,
    #[default]
    Other,
}

/// Where the other end of a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerId {
    /// This namespace's number for the namespace it is in; `None` if it is in this one.
    pub(super) nsid: Option<i32>,
    /// Its index there.
    pub(super) ifindex: u32,
}

impl Links {
    /// The bridge that a link is a port of.
    pub(super) fn bridge(&self, ifindex: u32) -> Option<u32> {
        let master = self.details.get(&ifindex)?.master?;
        (self.details.get(&master)?.kind == Kind::Bridge).then_some(master)
    }

    /// The name of the bridge whose containers a link may belong to: of a port that is one end of a pair. Another port,
    /// such as a network card, is never taken for a container's because of its bridge.
    pub(super) fn bridge_name(&self, ifindex: u32) -> Option<&str> {
        let bridge = self.bridge(ifindex)?;
        (self.details.get(&ifindex)?.kind == Kind::Veth).then_some(())?;
        self.names.get(&bridge).map(String::as_str)
    }

    /// Whether some routing table leads to an address by this link and by no other. A default route says nothing of
    /// where an address is.
    pub(super) fn leads_only_to(&self, ip: IpAddr, ifindex: u32) -> bool {
        routes::best(&self.facts.routes, ip).any(|route| {
            route.prefix.prefix_len() > 0 && !route.any && route.interfaces == [ifindex]
        })
    }

    /// A link's name, or its number where it has none.
    pub(super) fn name(&self, ifindex: u32) -> String {
        self.names
            .get(&ifindex)
            .cloned()
            .unwrap_or_else(|| format!("interface {ifindex}"))
    }

    fn add_link(&mut self, message: LinkMessage) {
        let index = message.header.index;
        let layer = message.header.link_layer_type;
        if !matches!(layer, LinkLayerType::Ether | LinkLayerType::Loopback) {
            self.not_ethernet.insert(index);
        }
        let mut link = Link::default();
        let (mut other, mut namespace, mut stacked) = (None, None, false);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => {
                    self.names.insert(index, name);
                }
                LinkAttribute::Xdp(attributes) => {
                    let id = attributes.iter().find_map(|attribute| match attribute {
                        LinkXdp::ProgId(id) => Some(*id),
                        _ => None,
                    });
                    if let Some(id) = id.filter(|id| *id != 0) {
                        self.programs.insert(index, id);
                    }
                }
                LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
                LinkAttribute::Controller(master) => {
                    link.master = Some(master).filter(|m| *m != 0);
                }
                LinkAttribute::Link(ifindex) => other = Some(ifindex).filter(|i| *i != 0),
                LinkAttribute::LinkNetNsId(id) => namespace = Some(id),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            link.kind = Kind::of(&kind);
                            stacked = is_stacked(&kind);
                        }
                    }
                }
                _ => {}
            }
        }
        if link.kind == Kind::Veth {
            link.peer = other.map(|ifindex| PeerId {
                nsid: namespace,
                ifindex,
            });
        } else if stacked && namespace.is_none() {
            link.lower = other;
        }
        self.details.insert(index, link);
    }

    /// Orders everything, so that equal things compare as equal.
    fn finish(&mut self) {
        for link in self.details.values_mut() {
            sort(&mut link.addresses);
            sort(&mut link.prefixes);
        }
        let facts = &mut self.facts;
        sort(&mut facts.own_v4);
        sort(&mut facts.own_v6);
        sort(&mut facts.broadcast);
        sort(&mut facts.tentative_v6);
    }
}

fn sort<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

impl Kind {
    fn of(kind: &InfoKind) -> Self {
        match kind {
            InfoKind::Bridge => Self::Bridge,
            InfoKind::Veth | InfoKind::Netkit => Self::Veth,
            _ => Self::Other,
        }
    }
}

/// Whether IFLA_LINK is a device whose frames this one sends and receives. For tunnels it is only the way they take.
fn is_stacked(kind: &InfoKind) -> bool {
    matches!(
        kind,
        InfoKind::Vlan
            | InfoKind::MacVlan
            | InfoKind::MacVtap
            | InfoKind::IpVlan
            | InfoKind::IpVtap
            | InfoKind::MacSec
    )
}

/// An Ethernet address; loopback has one of zeros, which is none.
fn mac(bytes: &[u8]) -> Option<Mac> {
    Mac::try_from(bytes).ok().filter(|mac| *mac != [0; 6])
}
