//! What an address message says: the address, the network it connects to, whether it may be used yet. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use super::Links;

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    pub(super) ip: IpAddr,
    /// In duplicate address detection.
    pub(super) tentative: bool,
    /// The network it connects to.
    prefix: Option<IpNet>,
    broadcast: Vec<Ipv4Addr>,
}

impl Address {
    /// `None` for what is no address of ours, such as one that turned out to be somebody else's.
    pub(super) fn read(message: &AddressMessage) -> Option<Self> {
        // IFA_LOCAL is our end where IFA_ADDRESS is the peer's (point-to-point); IPv6 often has only IFA_ADDRESS
        let (mut local, mut address) = (None, None);
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        let mut broadcast = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Broadcast(ip) => broadcast.push(*ip),
                // these hold those of the header too
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        let ip = local.or(address)?;
        if flags.contains(AddressFlags::Dadfailed) {
            return None;
        }
        let length = message.header.prefix_len;
        if let IpAddr::V4(ip) = ip {
            broadcast.extend(broadcasts(ip, length));
        }
        Some(Self {
            ifindex: message.header.index,
            ip,
            // an optimistic address is in use while it is being checked (RFC 4429)
            tentative: ip.is_ipv6()
                && flags.contains(AddressFlags::Tentative)
                && !flags.contains(AddressFlags::Optimistic),
            prefix: connected(ip, address.unwrap_or(ip), length),
            broadcast,
        })
    }
}

/// The network that an address connects to. A host prefix of its own connects to nothing: container links often have
/// the gateway's address as a /32. Link-local IPv6 is on every link and tells nothing.
fn connected(ip: IpAddr, other_end: IpAddr, length: u8) -> Option<IpNet> {
    let net = IpNet::new(other_end, length).ok()?.trunc();
    let own_host = length == net.max_prefix_len() && ip == other_end;
    let link_local = matches!(net, IpNet::V6(net) if net.network().is_unicast_link_local());
    (!own_host && !link_local).then_some(net)
}

/// The first and the last address of a network, to which the kernel answers as broadcast even where none is set
/// (fib_add_ifaddr in net/ipv4/fib_frontend.c); a /31 or /32 has none (RFC 3021).
fn broadcasts(address: Ipv4Addr, prefix_length: u8) -> Vec<Ipv4Addr> {
    match Ipv4Net::new(address, prefix_length) {
        Ok(net) if prefix_length < 31 => vec![net.network(), net.broadcast()],
        _ => Vec::new(),
    }
}

impl Links {
    pub(super) fn add_addresses(&mut self, addresses: impl IntoIterator<Item = Address>) {
        let mut settled: BTreeSet<Ipv6Addr> = BTreeSet::new();
        for address in addresses {
            match address.ip {
                IpAddr::V4(ip) => self.facts.own_v4.push(ip),
                IpAddr::V6(ip) => {
                    self.facts.own_v6.push(ip);
                    if address.tentative {
                        self.facts.tentative_v6.push(ip);
                    } else {
                        settled.insert(ip);
                    }
                }
            }
            self.facts.broadcast.extend(address.broadcast);
            let link = self.details.entry(address.ifindex).or_default();
            link.addresses.push(address.ip);
            link.prefixes.extend(address.prefix);
        }
        // the same address may be in use on another link
        self.facts.tentative_v6.retain(|ip| !settled.contains(ip));
    }
}
