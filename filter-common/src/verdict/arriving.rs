//! What comes towards the guarded party.

use super::{
    Decision, Tables, Way, answers_policy, because, by_policy, by_row, entry_of, fragment_key,
    in_flow, in_wildcard, is_dhcp_answer, later_fragment, live_flow, not_ip, row_of,
};
use crate::entry;
use crate::flow::tcp;
use crate::layout::{Config, FlowKey, REACH_ANY, binding, flag};
use crate::matrix;
use crate::packet::Packet;
use crate::parse::{self, Broken, Ip, Lengths, Link, Transport, ethertype};
use crate::quote;
use crate::reason::Reason;
use crate::row;
use crate::scan::Refused;
use crate::service::{self, protocol};

/// Whom the interface guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// This host, against what comes off the wire.
    Host,
    /// A container, against what the host's stack or bridge hands on.
    Container,
}

/// Judges a frame that comes towards the guarded party.
#[inline(always)]
pub fn arriving<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    guarded: Guarded,
    config: &Config,
    tables: &mut T,
) -> Decision {
    if link.broken {
        return because(Reason::DropMalformed);
    }
    let (lengths, way) = match guarded {
        Guarded::Host => (Lengths::Checked, Way::ToHost),
        Guarded::Container => (Lengths::Trusted, Way::ToContainer),
    };
    if matches!(guarded, Guarded::Container)
        && tables.binding_known(config.binding) == binding::UNKNOWN
    {
        return by_row(Reason::DropBinding, row::BINDING_UNKNOWN);
    }
    let ip = match link.ethertype {
        ethertype::IPV4 => parse::ipv4(packet, link.network, lengths),
        ethertype::IPV6 => match parse::ipv6(packet, link.network, lengths) {
            Some(ip) if ip.mapped => return mapped(config),
            ip => ip,
        },
        _ => return not_ip(packet, link, config, tables),
    };
    let Some(ip) = ip else {
        return because(Reason::DropMalformed);
    };
    let mut ip = ip.opaque(packet);
    if ip.fragment {
        if config.flags & flag::DROP_FRAGMENTS != 0 {
            return because(Reason::DropFragment);
        }
        if ip.fragment_offset != 0 {
            return later_fragment(&ip, way, tables);
        }
    }
    let transport = match parse::transport(packet, &ip) {
        Ok(transport) => transport,
        Err(Broken::Malformed) => return because(Reason::DropMalformed),
        Err(Broken::Split) => return because(Reason::DropFragment),
    };
    let transport = transport.opaque(&mut ip, packet);
    if config.flags & flag::MARTIANS != 0
        && let Some(decision) = not_from_a_neighbour(link, &ip)
    {
        return decision;
    }
    let service = service::index(ip.protocol, ip.v4, transport.port);
    let Some(class) = tables.source_class(ip.v4, &ip.source) else {
        return because(Reason::DropPort);
    };
    let entry = match row_of(config, tables, service, ip.v4, &ip.destination) {
        Some(row) if matches!(guarded, Guarded::Host) => {
            let asked = entry::asked(ip.protocol, transport.port);
            tables.entry_now(row + class as u32, &ip.source, asked)
        }
        Some(row) => entry_of(tables, row, class),
        None => matrix::NO_RULE,
    };
    let kind = matrix::kind(entry);
    if config.flags & flag::REVERSE_PATH != 0
        && kind < matrix::MARTIAN
        && !is_reached(&ip, &transport, config, tables, class, kind)
    {
        return by_row(Reason::DropReversePath, row::REVERSE_PATH);
    }
    let decision = by_policy(entry, &ip, tables)
        .unwrap_or_else(|| by_flow(packet, &ip, &transport, guarded, config, tables, kind));
    if decision.reason.passes() {
        if ip.fragment {
            let now = tables.now();
            tables.note_fragment(&fragment_key(&ip, way), now);
        }
    } else if matches!(guarded, Guarded::Host) && config.flags & flag::SCANS != 0 {
        // bindings of a bank are in the order of the slots
        let refused = Refused {
            reason: decision.reason,
            link,
            ip: &ip,
            transport: &transport,
        };
        tables.account(&refused, config.binding as u8);
    }
    decision
}

/// An IPv4-mapped source is malformed, and a martian where those are asked for.
#[inline(always)]
const fn mapped(config: &Config) -> Decision {
    if config.flags & flag::MARTIANS != 0 {
        by_row(Reason::DropMartian, row::MAPPED)
    } else {
        because(Reason::DropMalformed)
    }
}

/// Frames that no neighbour sends: a group as source MAC, or the destination as source ("land").
#[inline(always)]
fn not_from_a_neighbour(link: &Link, ip: &Ip) -> Option<Decision> {
    let differ = (ip.source.hi ^ ip.destination.hi) | (ip.source.lo ^ ip.destination.lo);
    let land = differ == 0;
    // one branch for both
    if !(land | link.from_group) {
        return None;
    }
    let row = if land { row::LAND } else { row::GROUP_MAC };
    Some(by_row(Reason::DropMartian, row))
}

/// Whether the way back to the source leads out of this interface, as far as that is asked: not of what only this link
/// can send, and not of DHCP answers, which come before there are routes.
#[inline(always)]
fn is_reached<T: Tables>(
    ip: &Ip,
    transport: &Transport,
    config: &Config,
    tables: &mut T,
    class: u16,
    kind: u16,
) -> bool {
    let reach = tables.reach(class).unwrap_or(0);
    reach >> (config.reach_bit & REACH_ANY) & 1 != 0
        || kind == matrix::CONTROL_ON_LINK
        || (config.flags & flag::DHCP != 0
            && ip.protocol == protocol::UDP
            && is_dhcp_answer(ip, transport))
}

/// The flow that what comes in may belong to.
#[inline(always)]
pub(super) const fn flow_key(ip: &Ip, transport: &Transport) -> FlowKey {
    let local_port = if parse::is_icmp(ip.protocol, ip.v4) {
        transport.identifier
    } else {
        transport.port
    };
    FlowKey {
        local: ip.destination,
        remote: ip.source,
        local_port,
        remote_port: transport.source_port,
        protocol: ip.protocol as u32,
    }
}

/// What the flows say, when no rule matches.
#[inline(always)]
fn by_flow<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ip: &Ip,
    transport: &Transport,
    guarded: Guarded,
    config: &Config,
    tables: &mut T,
    kind: u16,
) -> Decision {
    // what becomes of a packet that is no answer
    let unasked = match kind {
        matrix::BLOCKED => because(Reason::DropBlocked),
        // no entry speaks of what a container may be sent
        matrix::LISTED if matches!(guarded, Guarded::Host) => {
            by_row(Reason::PassRule, row::ALLOW_ENTRY)
        }
        matrix::OTHER_SOURCES => because(Reason::DropSource),
        _ => because(Reason::DropPort),
    };
    // a SYN without ACK opens: it can be no reply, and a flood of them must cost no look-up
    if ip.protocol == protocol::TCP && tcp::opens(transport.flags) {
        return unasked;
    }
    let key = flow_key(ip, transport);
    match ip.protocol {
        protocol::TCP => {
            if in_flow(&key, transport.flags, tables) || tables.host_socket(&key, ip.v4) {
                because(Reason::PassReply)
            } else {
                unasked
            }
        }
        protocol::UDP => {
            if in_flow(&key, 0, tables) || in_wildcard(&key, tables) {
                because(Reason::PassReply)
            } else if config.flags & flag::DHCP != 0 && is_dhcp_answer(ip, transport) {
                because(Reason::PassControl)
            } else {
                unasked
            }
        }
        protocol::SCTP => {
            if in_flow(&key, 0, tables) {
                because(Reason::PassReply)
            } else {
                unasked
            }
        }
        other if parse::is_icmp(other, ip.v4) => {
            because(icmp(packet, ip, transport, config, tables, &key))
        }
        _ => {
            if in_flow(&key, 0, tables) {
                because(Reason::PassReply)
            } else if kind == matrix::BLOCKED {
                unasked
            } else {
                because(Reason::DropProtocol)
            }
        }
    }
}

/// ICMP that no rule lets in: answers to our requests, and errors about our flows.
#[inline(always)]
fn icmp<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ip: &Ip,
    transport: &Transport,
    config: &Config,
    tables: &mut T,
    key: &FlowKey,
) -> Reason {
    let (kind, code) = (transport.port, transport.flags);
    if quote::is_reply(ip.v4, kind) {
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
        || (key.protocol == protocol::TCP as u32 && tables.host_socket(&key, ip.v4))
        || (path_mtu && answers_policy(&key, ip.v4, config, tables))
    {
        Reason::PassRelated
    } else {
        Reason::DropIcmp
    }
}
