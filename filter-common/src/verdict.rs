//! The way of a packet: one decision for what comes in, and the flow that what goes out leaves behind.
//!
//! Reads top to bottom as docs/architecture.md draws it. Everything it needs from outside comes through [`Tables`];
//! a table that contradicts itself fails closed.

use crate::flow::{self, tcp};
use crate::layout::{Address, Config, FlowKey, FlowState, FragmentKey, flag};
use crate::matrix;
use crate::packet::Packet;
use crate::parse::{self, Broken, Ip, Lengths, Link, Transport, ethertype};
use crate::quote;
use crate::reason::Reason;
use crate::service::{self, protocol};

/// Nanoseconds in which a train of fragments has to be complete (the kernel's `ipfrag_time`).
pub const FRAGMENT_TIMEOUT: u64 = 30_000_000_000;

/// A later TCP fragment that begins before this could rewrite the header that was judged (RFC 1858, RFC 3128).
pub const FIRST_TCP_FRAGMENT_END: u32 = 64;

/// DHCP ports (RFC 2131, RFC 8415): from server, to client.
const DHCP: (u16, u16) = (67, 68);
const DHCPV6: (u16, u16) = (547, 546);

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The one reason it is counted under.
    pub reason: Reason,
    /// Slot of the rule that decided, 0 if none.
    pub rule: u16,
}

/// The policy in force and the state of flows, as the decision sees them. `None` from a class or entry look-up means
/// that the tables contradict themselves.
pub trait Tables {
    /// Class of a source address.
    fn source_class(&mut self, v4: bool, address: &Address) -> Option<u16>;
    /// Class of a destination address.
    fn destination_class(&mut self, v4: bool, address: &Address) -> Option<u16>;
    /// Class of a service index.
    fn service_class(&mut self, service: u32) -> Option<u16>;
    /// Entry of the verdict matrix.
    fn matrix_entry(&mut self, index: u32) -> Option<u16>;
    /// Takes one packet out of the rule's rate limits, if they allow it.
    fn within_rate(&mut self, rule: u16, source: &Address) -> bool;
    /// Coarse monotonic nanoseconds.
    fn now(&mut self) -> u64;
    /// A flow's state.
    fn flow(&mut self, key: &FlowKey) -> Option<&mut FlowState>;
    /// Remembers a flow.
    fn note_flow(&mut self, key: &FlowKey, flow: &FlowState);
    /// Until when flows without a remote count.
    fn wildcard_until(&mut self) -> u64;
    /// Whether the host has a TCP socket, not a listening one, with just these addresses and ports.
    fn host_socket(&mut self, key: &FlowKey, v4: bool) -> bool;
    /// When the first fragment of this train passed.
    fn fragment_seen(&mut self, key: &FragmentKey) -> Option<u64>;
    /// Remembers that a first fragment passed.
    fn note_fragment(&mut self, key: &FragmentKey, now: u64);
}

#[inline(always)]
const fn because(reason: Reason) -> Decision {
    Decision { reason, rule: 0 }
}

/// Judges a frame that came in.
#[inline(always)]
pub fn ingress<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    config: &Config,
    tables: &mut T,
) -> Decision {
    if link.broken {
        return because(Reason::DropMalformed);
    }
    let ip = match link.ethertype {
        ethertype::IPV4 => parse::ipv4(packet, link.network, Lengths::Checked),
        ethertype::IPV6 => parse::ipv6(packet, link.network, Lengths::Checked),
        _ => return not_ip(packet, link, config, tables),
    };
    let Some(ip) = ip else {
        return because(Reason::DropMalformed);
    };
    if ip.fragment {
        if config.flags & flag::DROP_FRAGMENTS != 0 {
            return because(Reason::DropFragment);
        }
        if ip.fragment_offset != 0 {
            return later_fragment(&ip, tables);
        }
    }
    let transport = match parse::transport(packet, &ip) {
        Ok(transport) => transport,
        Err(Broken::Malformed) => return because(Reason::DropMalformed),
        Err(Broken::Split) => return because(Reason::DropFragment),
    };
    let service = service::index(ip.protocol, ip.v4, transport.port);
    let entry = entry(config, tables, service, ip.v4, &ip.source, &ip.destination);
    let decision = by_policy(entry, &ip, tables)
        .unwrap_or_else(|| by_flow(packet, &ip, &transport, config, tables, matrix::kind(entry)));
    if ip.fragment && decision.reason.passes() {
        let now = tables.now();
        tables.note_fragment(&fragment_key(&ip), now);
    }
    decision
}

/// Frames that carry neither IPv4 nor IPv6.
#[inline(always)]
fn not_ip<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    config: &Config,
    tables: &mut T,
) -> Decision {
    if link.ethertype == ethertype::ARP {
        if !parse::is_arp(packet, link.network) {
            return because(Reason::DropMalformed);
        }
        let reason = if config.flags & flag::ARP != 0 {
            Reason::PassControl
        } else {
            Reason::DropEthertype
        };
        return because(reason);
    }
    let service = service::ETHERTYPE + link.ethertype as u32;
    let entry = tables
        .service_class(service)
        .and_then(|class| {
            tables.matrix_entry(config.matrix_base + class as u32 * config.source_classes)
        })
        .unwrap_or(matrix::CLOSED);
    match matrix::kind(entry) {
        matrix::ALLOW => Decision {
            reason: Reason::PassRule,
            rule: matrix::rule(entry),
        },
        matrix::CONTROL => because(Reason::PassControl),
        _ => because(Reason::DropEthertype),
    }
}

/// The matrix entry for a packet from `source` that asks `destination` for `service`.
#[inline(always)]
fn entry<T: Tables>(
    config: &Config,
    tables: &mut T,
    service: u32,
    v4: bool,
    source: &Address,
    destination: &Address,
) -> u16 {
    entry_index(config, tables, service, v4, source, destination)
        .and_then(|index| tables.matrix_entry(index))
        .unwrap_or(matrix::entry(matrix::CLOSED, 0))
}

#[inline(always)]
fn entry_index<T: Tables>(
    config: &Config,
    tables: &mut T,
    service: u32,
    v4: bool,
    source: &Address,
    destination: &Address,
) -> Option<u32> {
    let mut row = tables.service_class(service)? as u32;
    if config.flags & flag::DESTINATIONS != 0 {
        row += tables.destination_class(v4, destination)? as u32 * config.service_classes;
    }
    Some(config.matrix_base + row * config.source_classes + tables.source_class(v4, source)? as u32)
}

/// What a rule says, if one matches.
#[inline(always)]
fn by_policy<T: Tables>(entry: u16, ip: &Ip, tables: &mut T) -> Option<Decision> {
    let rule = matrix::rule(entry);
    let reason = match matrix::kind(entry) {
        matrix::ALLOW => Reason::PassRule,
        matrix::ALLOW_LIMITED if tables.within_rate(rule, &ip.source) => Reason::PassRule,
        matrix::ALLOW_LIMITED => Reason::DropRate,
        matrix::DENY => Reason::DropDenied,
        matrix::CONTROL => Reason::PassControl,
        matrix::CONTROL_ON_LINK if ip.hop_limit == 255 => Reason::PassControl,
        matrix::CONTROL_ON_LINK => Reason::DropIcmp,
        _ => return None,
    };
    Some(Decision { reason, rule })
}

/// What the flows say, when no rule matches.
#[inline(always)]
fn by_flow<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ip: &Ip,
    transport: &Transport,
    config: &Config,
    tables: &mut T,
    kind: u16,
) -> Decision {
    let refused = if kind == matrix::OTHER_SOURCES {
        Reason::DropSource
    } else {
        Reason::DropPort
    };
    let mut key = FlowKey {
        local: ip.destination,
        remote: ip.source,
        local_port: transport.port,
        remote_port: transport.source_port,
        protocol: ip.protocol,
        zero: [0; 3],
    };
    let reason = match ip.protocol {
        protocol::TCP => {
            // a SYN without ACK opens: it can be no reply, and a flood of them must cost no look-up
            if !tcp::opens(transport.flags)
                && (in_flow(&key, transport.flags, tables) || tables.host_socket(&key, ip.v4))
            {
                Reason::PassReply
            } else {
                refused
            }
        }
        protocol::UDP => {
            if in_flow(&key, 0, tables) || in_wildcard(&key, tables) {
                Reason::PassReply
            } else if config.flags & flag::DHCP != 0 && is_dhcp(ip, transport) {
                Reason::PassControl
            } else {
                refused
            }
        }
        protocol::SCTP => {
            if in_flow(&key, 0, tables) {
                Reason::PassReply
            } else {
                refused
            }
        }
        other if parse::is_icmp(other, ip.v4) => {
            icmp(packet, ip, transport, config, tables, &mut key)
        }
        _ => {
            if in_flow(&key, 0, tables) {
                Reason::PassReply
            } else {
                Reason::DropProtocol
            }
        }
    };
    because(reason)
}

/// ICMP that no rule lets in: answers to our requests, and errors about our flows.
#[inline(always)]
fn icmp<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ip: &Ip,
    transport: &Transport,
    config: &Config,
    tables: &mut T,
    key: &mut FlowKey,
) -> Reason {
    let (kind, code) = (transport.port, transport.flags);
    if quote::is_reply(ip.v4, kind) {
        key.local_port = transport.identifier;
        return if in_flow(key, 0, tables) {
            Reason::PassReply
        } else {
            Reason::DropIcmp
        };
    }
    let path_mtu = quote::is_path_mtu(ip.v4, kind, code);
    if !quote::is_error(ip.v4, kind) || (path_mtu && config.flags & flag::PMTU == 0) {
        return Reason::DropIcmp;
    }
    let Some(key) = quote::quoted(packet, ip) else {
        return Reason::DropIcmp;
    };
    if live_flow(&key, tables).is_some()
        || (key.protocol == protocol::TCP && tables.host_socket(&key, ip.v4))
        || (path_mtu && answers_policy(&key, ip.v4, config, tables))
    {
        Reason::PassRelated
    } else {
        Reason::DropIcmp
    }
}

/// Whether a packet of this flow, sent by us, answers a service that a rule opens to that remote.
#[inline(always)]
fn answers_policy<T: Tables>(key: &FlowKey, v4: bool, config: &Config, tables: &mut T) -> bool {
    quote::answered_service(key, v4).is_some_and(|service| {
        matrix::allows(entry(config, tables, service, v4, &key.remote, &key.local))
    })
}

/// Whether a live flow has this key; notes that a packet of it came in.
#[inline(always)]
fn in_flow<T: Tables>(key: &FlowKey, flags: u8, tables: &mut T) -> bool {
    let now = tables.now();
    match live_flow(key, tables) {
        Some(flow) => {
            flow::touch(flow, flow::received(flow.state, flags), now);
            true
        }
        None => false,
    }
}

/// The flow of just this remote, if it counts. A packet from `::` must not find the entry that stands for any remote.
#[inline(always)]
fn live_flow<'a, T: Tables>(key: &FlowKey, tables: &'a mut T) -> Option<&'a mut FlowState> {
    if flow::is_wildcard(key) {
        return None;
    }
    let now = tables.now();
    tables.flow(key).filter(|flow| flow::alive(flow, now))
}

/// Whether a UDP client was waiting on this port when the filter started, and may still be.
#[inline(always)]
fn in_wildcard<T: Tables>(key: &FlowKey, tables: &mut T) -> bool {
    let until = tables.wildcard_until();
    until != 0 && tables.now() < until && tables.flow(&flow::wildcard(key)).is_some()
}

#[inline(always)]
const fn is_dhcp(ip: &Ip, transport: &Transport) -> bool {
    let (server, client) = if ip.v4 { DHCP } else { DHCPV6 };
    // DHCPv6 servers and relays answer from their link-local address (fe80::/10)
    transport.source_port == server
        && transport.port == client
        && (ip.v4 || ip.source.hi >> 54 == 0x3fa)
}

#[inline(always)]
const fn fragment_key(ip: &Ip) -> FragmentKey {
    // the reassembly key: RFC 791 counts the protocol in, RFC 8200 does not
    let protocol = if ip.v4 { ip.protocol as u32 } else { 0 };
    FragmentKey {
        source: ip.source,
        destination: ip.destination,
        id: ip.fragment_id,
        protocol,
    }
}

/// A fragment behind the first: follows the first one's verdict.
#[inline(always)]
fn later_fragment<T: Tables>(ip: &Ip, tables: &mut T) -> Decision {
    if ip.protocol == protocol::TCP && ip.fragment_offset < FIRST_TCP_FRAGMENT_END {
        return because(Reason::DropFragment);
    }
    let now = tables.now();
    match tables.fragment_seen(&fragment_key(ip)) {
        Some(seen) if now.saturating_sub(seen) <= FRAGMENT_TIMEOUT => because(Reason::PassFragment),
        _ => because(Reason::DropFragment),
    }
}

/// Notes the flow of a packet that goes out, unless policy would let its answer in anyway: a server's clients can
/// then neither fill nor thrash the flow table.
#[inline(always)]
pub fn egress<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    config: &Config,
    tables: &mut T,
) -> Option<()> {
    let ip = match link.ethertype {
        ethertype::IPV4 => parse::ipv4(packet, link.network, Lengths::Trusted),
        ethertype::IPV6 => parse::ipv6(packet, link.network, Lengths::Trusted),
        _ => None,
    }?;
    if link.broken || ip.fragment_offset != 0 {
        return None;
    }
    let transport = parse::transport(packet, &ip).ok()?;
    let mut key = FlowKey {
        local: ip.source,
        remote: ip.destination,
        local_port: transport.source_port,
        remote_port: transport.port,
        protocol: ip.protocol,
        zero: [0; 3],
    };
    let answer = if parse::is_icmp(ip.protocol, ip.v4) {
        let reply = quote::reply_type(ip.v4, transport.port)?;
        key.local_port = transport.identifier;
        key.remote_port = 0;
        reply
    } else {
        transport.source_port
    };
    let service = service::index(ip.protocol, ip.v4, answer);
    let entry = entry(config, tables, service, ip.v4, &ip.destination, &ip.source);
    if matrix::allows(entry) {
        return None;
    }
    // nobody answers from `::`
    if flow::is_wildcard(&key) {
        return None;
    }
    let now = tables.now();
    if let Some(flow) = live_flow(&key, tables) {
        flow::touch(flow, flow::sent(flow.state, transport.flags), now);
        return None;
    }
    // a reset of an unknown flow opens nothing
    if ip.protocol == protocol::TCP
        && transport.flags & tcp::RST != 0
        && !tcp::opens(transport.flags)
    {
        return None;
    }
    tables.note_flow(&key, &flow::opened(ip.protocol, transport.flags, now));
    None
}
