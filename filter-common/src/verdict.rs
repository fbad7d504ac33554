//! The way of a packet. Each interface guards a party: an outer one this host, a container link the container behind
//! it. [`arriving`] judges what comes towards that party, [`from_host`] and [`from_container`] what comes from it; on a
//! container link the two are attached the other way round.
//!
//! Reads top to bottom as docs/architecture.md draws it. Everything it needs from outside comes through [`Tables`];
//! a table that contradicts itself fails closed.

mod arriving;
mod asked;
mod leaving;

use crate::flow;
use crate::layout::{Address, Config, FlowKey, FlowState, FragmentKey, flag};
use crate::matrix::{self, Entry};
use crate::packet::Packet;
use crate::parse::{self, Ip, Link, Transport, ethertype};
use crate::quote;
use crate::reason::Reason;
use crate::scan::Refused;
use crate::service::{self, protocol};

pub use arriving::{Guarded, arriving};
pub use asked::{Asked, asked};
pub use leaving::{from_container, from_host};

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
    /// Slot of the rule or row that decided, 0 if none.
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
    fn matrix_entry(&mut self, index: u32) -> Option<Entry>;
    /// The interfaces that lead to sources of this class, a bit each.
    fn reach(&mut self, class: u16) -> Option<u64>;
    /// Whether the binding has this MAC.
    fn binding_has_mac(&mut self, binding: u32, mac: u64) -> bool;
    /// Whether the binding has this address.
    fn binding_has_address(&mut self, binding: u32, v4: bool, address: &Address) -> bool;
    /// `binding::*`
    fn binding_known(&mut self, binding: u32) -> u64;
    /// Takes one packet out of the rule's rate limits, if they allow it.
    fn within_rate(&mut self, rule: u16, source: &Address) -> bool;
    /// Coarse monotonic nanoseconds.
    fn now(&mut self) -> u64;
    /// A flow's state; and the time, which costs more than to find that there is no flow.
    fn flow(&mut self, key: &FlowKey) -> Option<(&mut FlowState, u64)>;
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
    /// Whether the source is blocked.
    fn is_blocked(&mut self, source: &Address) -> bool;
    /// Entry of the verdict matrix as it is for this source now: changed by run-time entries ([`crate::entry::applied`]), and
    /// [`matrix::BLOCKED`] where a rule would let in what is no ICMP of a source that is blocked. `asked`:
    /// [`crate::entry::asked`].
    fn entry_now(&mut self, index: u32, source: &Address, asked: u32) -> Entry;
    /// Remembers that the peer has a working connection with us.
    fn note_verified(&mut self, peer: &Address);
    /// First and last of this host's ephemeral ports, 16 bits each.
    fn local_ports(&mut self) -> u32;
    /// Counts a packet for its source, if it is a probe. `slot`: of the interface.
    fn account(&mut self, refused: &Refused<'_>, slot: u8);
}

#[inline(always)]
const fn because(reason: Reason) -> Decision {
    Decision { reason, rule: 0 }
}

#[inline(always)]
const fn by_row(reason: Reason, row: u16) -> Decision {
    Decision { reason, rule: row }
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
    // 0: the class of sources that no list names
    let entry = match tables.service_class(service) {
        Some(class) => entry_of(
            tables,
            config.matrix_base + class as u32 * config.source_classes,
            0,
        ),
        None => matrix::NO_RULE,
    };
    match matrix::kind(entry) {
        matrix::ALLOW => Decision {
            reason: Reason::PassRule,
            rule: matrix::rule(entry),
        },
        matrix::CONTROL => because(Reason::PassControl),
        _ => because(Reason::DropEthertype),
    }
}

/// The row of the matrix for a packet that asks `destination` for `service`.
#[inline(always)]
fn row_of<T: Tables>(
    config: &Config,
    tables: &mut T,
    service: u32,
    v4: bool,
    destination: &Address,
) -> Option<u32> {
    let mut row = tables.service_class(service)? as u32;
    if config.flags & flag::DESTINATIONS != 0 {
        row += tables.destination_class(v4, destination)? as u32 * config.service_classes;
    }
    Some(config.matrix_base + row * config.source_classes)
}

/// The entry of a row for a class of sources.
#[inline(always)]
fn entry_of<T: Tables>(tables: &mut T, row: u32, class: u16) -> Entry {
    tables
        .matrix_entry(row + class as u32)
        .unwrap_or(matrix::NO_RULE)
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
) -> Entry {
    let Some(row) = row_of(config, tables, service, v4, destination) else {
        return matrix::NO_RULE;
    };
    let Some(class) = tables.source_class(v4, source) else {
        return matrix::NO_RULE;
    };
    entry_of(tables, row, class)
}

/// What a rule or a row says, if one matches.
#[inline(always)]
fn by_policy<T: Tables>(entry: Entry, ip: &Ip, tables: &mut T) -> Option<Decision> {
    let rule = matrix::rule(entry);
    let reason = match matrix::kind(entry) {
        matrix::ALLOW | matrix::FAILSAFE => Reason::PassRule,
        matrix::ALLOW_LIMITED if tables.within_rate(rule, &ip.source) => Reason::PassRule,
        matrix::ALLOW_LIMITED => Reason::DropRate,
        matrix::DENY => Reason::DropDenied,
        matrix::MARTIAN => Reason::DropMartian,
        matrix::OWN => Reason::DropOwnAddress,
        matrix::CONTROL => Reason::PassControl,
        matrix::CONTROL_ON_LINK if ip.hop_limit == 255 => Reason::PassControl,
        matrix::CONTROL_ON_LINK => Reason::DropIcmp,
        _ => return None,
    };
    Some(Decision { reason, rule })
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
    match live_flow(key, tables) {
        Some((flow, now)) => {
            flow::touch(flow, flow::received(flow.state, flags), now);
            true
        }
        None => false,
    }
}

/// The flow of just this remote, if it counts, and the time. A packet from `::` must not find the entry that stands for
/// any remote.
#[inline(always)]
fn live_flow<'a, T: Tables>(key: &FlowKey, tables: &'a mut T) -> Option<(&'a mut FlowState, u64)> {
    if flow::is_wildcard(key) {
        return None;
    }
    tables
        .flow(key)
        .filter(|(flow, now)| flow::alive(flow, *now))
}

/// Whether a UDP client was waiting on this port when the filter started, and may still be.
#[inline(always)]
fn in_wildcard<T: Tables>(key: &FlowKey, tables: &mut T) -> bool {
    let until = tables.wildcard_until();
    until != 0 && tables.now() < until && tables.flow(&flow::wildcard(key)).is_some()
}

/// A DHCP answer to a client: by its ports, and for IPv6 from a link-local address (fe80::/10), which is where servers
/// and relays answer from.
#[inline(always)]
const fn is_dhcp_answer(ip: &Ip, transport: &Transport) -> bool {
    let (server, client) = if ip.v4 { DHCP } else { DHCPV6 };
    transport.source_port == server
        && transport.port == client
        && (ip.v4 || ip.source.hi >> 54 == 0x3fa)
}

#[inline(always)]
const fn dhcp_client_port(v4: bool) -> u16 {
    let (_, client) = if v4 { DHCP } else { DHCPV6 };
    client
}

#[inline(always)]
const fn is_dhcp_request(ip: &Ip, transport: &Transport) -> bool {
    let (server, client) = if ip.v4 { DHCP } else { DHCPV6 };
    transport.source_port == client && transport.port == server
}

/// Which way a packet goes. A train of fragments is seen on one: what comes in from outside must not follow a first
/// fragment that a container sent, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In by an outer interface.
    ToHost = 0,
    /// Out of the host's end of a container link.
    ToContainer = 1,
    /// In by the host's end of a container link.
    FromContainer = 2,
    /// Out by an outer interface.
    FromHost = 3,
}

#[inline(always)]
const fn fragment_key(ip: &Ip, way: Way) -> FragmentKey {
    // the reassembly key: RFC 791 counts the protocol in, RFC 8200 does not
    let protocol = if ip.v4 { ip.protocol as u32 } else { 0 };
    FragmentKey {
        source: ip.source,
        destination: ip.destination,
        id: ip.fragment_id,
        protocol: protocol | (way as u32) << 8,
    }
}

/// A fragment behind the first: follows the first one's verdict.
#[inline(always)]
fn later_fragment<T: Tables>(ip: &Ip, way: Way, tables: &mut T) -> Decision {
    if ip.protocol == protocol::TCP && ip.fragment_offset < FIRST_TCP_FRAGMENT_END {
        return because(Reason::DropFragment);
    }
    let now = tables.now();
    match tables.fragment_seen(&fragment_key(ip, way)) {
        Some(seen) if now.saturating_sub(seen) <= FRAGMENT_TIMEOUT => because(Reason::PassFragment),
        _ => because(Reason::DropFragment),
    }
}
