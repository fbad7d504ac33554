//! Links and addresses of this network namespace, over netlink: /sys may belong to another namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use ipnet::Ipv4Net;
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkLayerType, LinkXdp};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};

use crate::compile::HostFacts;

/// What there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Interface index -> name.
    pub(super) names: BTreeMap<u32, String>,
    /// Interfaces whose frames do not begin with an Ethernet header.
    pub(super) not_ethernet: BTreeSet<u32>,
    /// Interface index -> id of the XDP program on it.
    pub(super) programs: BTreeMap<u32, u32>,
    /// Own addresses.
    pub(super) facts: HostFacts,
}

/// A netlink connection that hears of changes.
pub(super) struct Watch {
    handle: Handle,
    /// Something about a link or an address changed.
    pub(super) changed:
        UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, netlink_sys::SocketAddr)>,
}

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, changed) = new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        Ok(Self { handle, changed })
    }

    /// Throws away news that the next snapshot covers.
    pub(super) fn drain(&mut self) {
        while self.changed.try_recv().is_ok() {}
    }

    /// Asks the kernel for everything.
    pub(super) async fn snapshot(&self) -> Result<Links, rtnetlink::Error> {
        let mut links = Links::default();
        let mut list = self.handle.link().get().execute();
        while let Some(link) = list.try_next().await? {
            let index = link.header.index;
            let kind = link.header.link_layer_type;
            if !matches!(kind, LinkLayerType::Ether | LinkLayerType::Loopback) {
                links.not_ethernet.insert(index);
            }
            for attribute in link.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => {
                        links.names.insert(index, name);
                    }
                    LinkAttribute::Xdp(attributes) => {
                        let id = attributes.iter().find_map(|attribute| match attribute {
                            LinkXdp::ProgId(id) => Some(*id),
                            _ => None,
                        });
                        if let Some(id) = id.filter(|id| *id != 0) {
                            links.programs.insert(index, id);
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut list = self.handle.address().get().execute();
        while let Some(message) = list.try_next().await? {
            // IFA_LOCAL is our end where IFA_ADDRESS is the peer's (point-to-point); IPv6 often has only IFA_ADDRESS
            let (mut local, mut address) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(ip) => local = Some(*ip),
                    AddressAttribute::Address(ip) => address = Some(*ip),
                    AddressAttribute::Broadcast(ip) => links.facts.broadcast.push(*ip),
                    _ => {}
                }
            }
            match local.or(address) {
                Some(IpAddr::V4(ip)) => {
                    links.facts.own_v4.push(ip);
                    links
                        .facts
                        .broadcast
                        .extend(broadcast(ip, message.header.prefix_len));
                }
                Some(IpAddr::V6(ip)) => links.facts.own_v6.push(ip),
                None => {}
            }
        }
        links.facts.own_v4.sort_unstable();
        links.facts.own_v4.dedup();
        links.facts.own_v6.sort_unstable();
        links.facts.own_v6.dedup();
        links.facts.broadcast.sort_unstable();
        links.facts.broadcast.dedup();
        Ok(links)
    }
}

/// The first and the last address of a network, to which the kernel answers as broadcast even where none is set
/// (fib_add_ifaddr in net/ipv4/fib_frontend.c); a /31 or /32 has none (RFC 3021).
fn broadcast(address: Ipv4Addr, prefix_length: u8) -> Vec<Ipv4Addr> {
    match Ipv4Net::new(address, prefix_length) {
        Ok(net) if prefix_length < 31 => vec![net.network(), net.broadcast()],
        _ => Vec::new(),
    }
}
