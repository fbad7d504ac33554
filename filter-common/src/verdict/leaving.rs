//! What comes from the guarded party: it must be sent from its own MAC and addresses (as a cloud host asks of its
//! guests), and the flow is noted, so that the answer is let in. What a container may send is looked up as well.

use super::{
    Decision, Tables, Way, because, by_policy, by_row, dhcp_client_port, entry_of, fragment_key,
    is_dhcp_request, later_fragment, live_flow, not_ip, row_of,
};
use crate::flow::{self, tcp};
use crate::layout::{Address, Config, FlowKey, binding, flag};
use crate::matrix::{self, Entry};
use crate::packet::{Packet, be16, be32, be48, be64};
use crate::parse::{self, Broken, Ip, Lengths, Link, Transport, ethertype};
use crate::quote::{self, icmp};
use crate::reason::Reason;
use crate::row;
use crate::scan;
use crate::service::{self, protocol};

/// What this host sends, or sends on: never held back for being odd, only for an address or MAC that is not ours.
#[inline(always)]
pub fn from_host<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    config: &Config,
    tables: &mut T,
) -> Decision {
    let checked = config.flags & flag::SENDER != 0;
    if checked
        && !parse::source_mac(packet).is_some_and(|mac| tables.binding_has_mac(config.binding, mac))
    {
        return by_row(Reason::DropBinding, row::EGRESS_MAC);
    }
    let ip = match link.ethertype {
        _ if link.broken => None,
        ethertype::IPV4 => parse::ipv4(packet, link.network, Lengths::Trusted),
        ethertype::IPV6 => parse::ipv6(packet, link.network, Lengths::Trusted),
        ethertype::ARP if checked => {
            let ours = arp_sender(packet, link.network).is_none_or(|sender| {
                sender == 0 || is_ours(config, tables, true, &Address::v4(sender))
            });
            if !ours {
                return by_row(Reason::DropBinding, row::EGRESS_ARP);
            }
            None
        }
        _ => None,
    };
    let Some(ip) = ip else {
        // headers that we do not follow may be followed by who gets them
        if checked
            && !link.broken
            && let Some((v4, source)) = parse::source(packet, link)
            && !is_ours(config, tables, v4, &source)
        {
            return by_row(Reason::DropBinding, row::EGRESS_SOURCE);
        }
        return because(Reason::PassEgress);
    };
    let ip = ip.opaque(packet);
    let transport = if ip.fragment_offset == 0 {
        parse::transport(packet, &ip).ok()
    } else {
        None
    };
    if checked {
        let ours = if is_unspecified(&ip.source) && !ip.mapped {
            transport.is_some_and(|transport| has_no_address_yet(&ip, &transport))
        } else {
            is_ours(config, tables, ip.v4, &ip.source)
        };
        if !ours {
            return by_row(Reason::DropBinding, row::EGRESS_SOURCE);
        }
    }
    if let Some(transport) = transport
        && !ip.mapped
    {
        let remote = tables.source_class(ip.v4, &ip.destination);
        let back = remote.map_or(matrix::NO_RULE, |remote| {
            entry_back(&ip, &transport, remote, config, tables)
        });
        if matrix::allows(back) {
            note_open(&ip, &transport, tables);
        } else {
            note(&ip, &transport, tables);
        }
    }
    because(Reason::PassEgress)
}

/// What policy would let the answer to in anyway. Most of it answers a client; but what we ask for must be answered
/// even by a source that is blocked, so that is noted: a connection that we open, as good as open, since its further
/// packets cost no look-up; and UDP from one of our ephemeral ports. Where ports do not tell who asks (NTP and VPNs use
/// the same one at both ends), what is sent to a blocked source is no answer: nothing that it asks is let in.
#[inline(always)]
fn note_open<T: Tables>(ip: &Ip, transport: &Transport, tables: &mut T) {
    let mut transport = *transport;
    let asks = match ip.protocol {
        protocol::TCP if tcp::opens(transport.flags) => {
            transport.flags = tcp::ACK;
            true
        }
        protocol::TCP => {
            // only who answered our SYN is sent data, and nobody can in another's name
            let length = ip.end.wrapping_sub(ip.transport);
            if length > transport.header as usize && transport.flags & tcp::RST == 0 {
                tables.note_verified(&ip.destination);
            }
            false
        }
        protocol::UDP => {
            let local_ports = tables.local_ports();
            let from = scan::is_within(transport.source_port, local_ports);
            let to = scan::is_within(transport.port, local_ports);
            match (from, to) {
                (true, false) => true,
                (false, true) => false,
                _ => tables.is_blocked(&ip.destination),
            }
        }
        other => !parse::is_icmp(other, ip.v4) && tables.is_blocked(&ip.destination),
    };
    if asks {
        note(ip, &transport, tables);
    }
}

/// What a container sends.
#[inline(always)]
pub fn from_container<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    lengths: Lengths,
    config: &Config,
    tables: &mut T,
) -> Decision {
    let known = tables.binding_known(config.binding);
    if known == binding::UNKNOWN {
        return by_row(Reason::DropBinding, row::BINDING_UNKNOWN);
    }
    // an open link's container may say what it likes of itself
    let checked = known == binding::KNOWN;
    let binding = config.binding;
    if link.broken {
        return because(Reason::DropMalformed);
    }
    if checked && !parse::source_mac(packet).is_some_and(|mac| tables.binding_has_mac(binding, mac))
    {
        return by_row(Reason::DropBinding, row::BINDING_MAC);
    }
    let ip = match link.ethertype {
        ethertype::IPV4 => parse::ipv4(packet, link.network, lengths),
        ethertype::IPV6 => parse::ipv6(packet, link.network, lengths),
        ethertype::ARP => return arp_from_container(packet, link, checked, config, tables),
        _ => {
            let decision = not_ip(packet, link, config, tables);
            // `default = "pass"` is about what reaches the container
            return if matches!(decision.reason, Reason::PassRule) {
                because(Reason::DropEthertype)
            } else {
                decision
            };
        }
    };
    let Some(ip) = ip.filter(|ip| !ip.mapped) else {
        return because(Reason::DropMalformed);
    };
    let mut ip = ip.opaque(packet);
    if checked
        && !is_unspecified(&ip.source)
        && !tables.binding_has_address(binding, ip.v4, &ip.source)
    {
        return by_row(Reason::DropBinding, row::BINDING_SOURCE);
    }
    if ip.fragment {
        if config.flags & flag::DROP_FRAGMENTS != 0 {
            return because(Reason::DropFragment);
        }
        if ip.fragment_offset != 0 {
            return later_fragment(&ip, Way::FromContainer, tables);
        }
    }
    let transport = match parse::transport(packet, &ip) {
        Ok(transport) => transport,
        Err(Broken::Malformed) => return because(Reason::DropMalformed),
        Err(Broken::Split) => return because(Reason::DropFragment),
    };
    let transport = transport.opaque(&mut ip, packet);
    if checked {
        if is_unspecified(&ip.source) && !has_no_address_yet(&ip, &transport) {
            return by_row(Reason::DropBinding, row::BINDING_SOURCE);
        }
        if plays_router(&ip, &transport) {
            return by_row(Reason::DropBinding, row::BINDING_ROLE);
        }
        if speaks_for(&ip, &transport)
            && !neighbour_target(packet, &ip)
                .is_some_and(|target| tables.binding_has_address(binding, false, &target))
        {
            return by_row(Reason::DropBinding, row::BINDING_ND);
        }
    }
    // a table that contradicts itself fails closed
    let Some(remote) = tables.source_class(ip.v4, &ip.destination) else {
        return because(Reason::DropSend);
    };
    let back = entry_back(&ip, &transport, remote, config, tables);
    let decision = if is_control(&ip, &transport) {
        because(Reason::PassControl)
    } else {
        by_send_list(packet, &ip, &transport, back, remote, config, tables)
    };
    if decision.reason.passes() {
        if ip.fragment {
            let now = tables.now();
            tables.note_fragment(&fragment_key(&ip, Way::FromContainer), now);
        }
        if !matrix::allows(back) {
            note(&ip, &transport, tables);
        }
    }
    decision
}

/// ARP may speak only for the container itself (RFC 826); a probe for an address comes from 0.0.0.0 (RFC 5227).
#[inline(always)]
fn arp_from_container<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    link: &Link,
    checked: bool,
    config: &Config,
    tables: &mut T,
) -> Decision {
    let Some((mac, sender, target)) = sender_of(packet, link.network) else {
        return because(Reason::DropMalformed);
    };
    if checked {
        let claimed = Address::v4(if sender == 0 { target } else { sender });
        if !tables.binding_has_mac(config.binding, mac)
            || !tables.binding_has_address(config.binding, true, &claimed)
        {
            return by_row(Reason::DropBinding, row::BINDING_ARP);
        }
    }
    because(Reason::PassControl)
}

/// What the send list says; then whether it answers what may reach the container.
#[inline(always)]
fn by_send_list<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    ip: &Ip,
    transport: &Transport,
    back: Entry,
    remote: u16,
    config: &Config,
    tables: &mut T,
) -> Decision {
    let service = service::index(ip.protocol, ip.v4, transport.port);
    let entry = send_entry(config, tables, service, remote);
    if let Some(decision) = by_policy(entry, ip, tables) {
        return decision;
    }
    let reason = if answers(ip, transport, back) {
        Reason::PassReply
    } else if parse::is_icmp(ip.protocol, ip.v4)
        && quote::is_error(ip.v4, transport.port)
        && quote::quoted(packet, ip).is_some_and(|key| same(&key.remote, &ip.source))
    {
        // an error about a packet that the other side sent to the container
        Reason::PassRelated
    } else {
        Reason::DropSend
    };
    because(reason)
}

/// The entry of the container's send part: by service, and class of the destination.
#[inline(always)]
fn send_entry<T: Tables>(config: &Config, tables: &mut T, service: u32, remote: u16) -> Entry {
    let Some(row) = tables.service_class(service) else {
        return matrix::NO_RULE;
    };
    entry_of(
        tables,
        config.leaving_base + row as u32 * config.source_classes,
        remote,
    )
}

/// Whether the packet answers one that may reach the container. A SYN without ACK answers nothing.
#[inline(always)]
const fn answers(ip: &Ip, transport: &Transport, back: Entry) -> bool {
    let may_answer = match ip.protocol {
        protocol::TCP => !tcp::opens(transport.flags),
        other if parse::is_icmp(other, ip.v4) => quote::is_reply(ip.v4, transport.port),
        _ => true,
    };
    may_answer && (matrix::allows(back) || matrix::kind(back) == matrix::CONTROL)
}

/// What policy says of a packet the other way round: the answer to a request, what a reply answers.
#[inline(always)]
fn entry_back<T: Tables>(
    ip: &Ip,
    transport: &Transport,
    remote: u16,
    config: &Config,
    tables: &mut T,
) -> Entry {
    let port = if parse::is_icmp(ip.protocol, ip.v4) {
        quote::counterpart(ip.v4, transport.port)
    } else {
        transport.source_port
    };
    let service = service::index(ip.protocol, ip.v4, port);
    match row_of(config, tables, service, ip.v4, &ip.source) {
        Some(row) => entry_of(tables, row, remote),
        None => matrix::NO_RULE,
    }
}

/// The flow that what goes out belongs to, if it is one that can be answered.
#[inline(always)]
pub(super) const fn flow_key(ip: &Ip, transport: &Transport) -> Option<FlowKey> {
    let mut key = FlowKey {
        local: ip.source,
        remote: ip.destination,
        local_port: transport.source_port,
        remote_port: transport.port,
        protocol: ip.protocol as u32,
    };
    if parse::is_icmp(ip.protocol, ip.v4) {
        if quote::reply_type(ip.v4, transport.port).is_none() {
            return None;
        }
        key.local_port = transport.identifier;
        key.remote_port = 0;
    }
    Some(key)
}

/// Notes the flow of a packet that goes out. Not for what policy would let the answer to in anyway: a server's clients
/// can then neither fill nor thrash the flow table.
#[inline(always)]
fn note<T: Tables>(ip: &Ip, transport: &Transport, tables: &mut T) {
    let Some(key) = flow_key(ip, transport) else {
        return;
    };
    // nobody answers from `::`
    if flow::is_wildcard(&key) {
        return;
    }
    if let Some((flow, now)) = live_flow(&key, tables) {
        flow::touch(flow, flow::sent(flow.state, transport.flags), now);
        return;
    }
    // a reset of an unknown flow opens nothing
    if ip.protocol == protocol::TCP
        && transport.flags & tcp::RST != 0
        && !tcp::opens(transport.flags)
    {
        return;
    }
    let now = tables.now();
    tables.note_flow(&key, &flow::opened(ip.protocol, transport.flags, now));
}

/// Whether this host may send from the address by this interface.
#[inline(always)]
fn is_ours<T: Tables>(config: &Config, tables: &mut T, v4: bool, address: &Address) -> bool {
    tables.source_class(v4, address).is_some_and(|class| {
        matrix::kind(entry_of(tables, config.leaving_base, class)) == matrix::ALLOW
    })
}

#[inline(always)]
const fn same(one: &Address, other: &Address) -> bool {
    (one.hi ^ other.hi) | (one.lo ^ other.lo) == 0
}

/// `0.0.0.0` or `::`.
#[inline(always)]
const fn is_unspecified(address: &Address) -> bool {
    // IPv4 addresses are kept in their mapped form
    address.hi | (address.lo & !0xffff_0000_0000) == 0
        && (address.lo == 0 || address.lo == 0xffff_0000_0000)
}

/// What is sent before there is an address: DHCP, group reports, duplicate address detection, router solicitation
/// (RFC 2131; RFC 3376, 4.2.13; RFC 3590; RFC 4861; RFC 4862).
#[inline(always)]
const fn has_no_address_yet(ip: &Ip, transport: &Transport) -> bool {
    if ip.v4 {
        ip.protocol == protocol::IGMP
            || (ip.protocol == protocol::UDP && is_dhcp_request(ip, transport))
    } else {
        ip.protocol == protocol::ICMPV6
            && matches!(
                transport.port,
                icmp::V6_MLD_REPORT
                    | icmp::V6_MLD_DONE
                    | icmp::V6_MLD2_REPORT
                    | icmp::V6_ROUTER_SOLICIT
                    | icmp::V6_NEIGHBOUR_SOLICIT
            )
    }
}

/// What keeps a container's own addresses and groups working, whatever its send list.
#[inline(always)]
const fn is_control(ip: &Ip, transport: &Transport) -> bool {
    if ip.protocol == protocol::UDP {
        // to whoever hears it: a server by its address is a destination like others
        return is_dhcp_request(ip, transport) && is_to_all_servers(ip);
    }
    if ip.v4 {
        return ip.protocol == protocol::IGMP;
    }
    has_no_address_yet(ip, transport)
        || (ip.protocol == protocol::ICMPV6 && transport.port == icmp::V6_NEIGHBOUR_ADVERT)
}

/// `255.255.255.255`, or a multicast address of the link (`ff02::1:2`: RFC 8415).
#[inline(always)]
const fn is_to_all_servers(ip: &Ip) -> bool {
    if ip.v4 {
        ip.destination.lo as u32 == u32::MAX
    } else {
        ip.destination.hi >> 48 == 0xff02
    }
}

/// What only routers and DHCP servers send; a container that does takes over its neighbours (RFC 6105, RFC 7610).
#[inline(always)]
const fn plays_router(ip: &Ip, transport: &Transport) -> bool {
    match ip.protocol {
        // clients ask where an answer comes from neither by address nor by port
        protocol::UDP => transport.port == dhcp_client_port(ip.v4),
        protocol::ICMPV6 if !ip.v4 => {
            matches!(transport.port, icmp::V6_ROUTER_ADVERT | icmp::V6_REDIRECT)
        }
        _ => false,
    }
}

/// Neighbour discovery that claims the target address: an advertisement, or a solicitation that looks for duplicates.
#[inline(always)]
const fn speaks_for(ip: &Ip, transport: &Transport) -> bool {
    !ip.v4
        && ip.protocol == protocol::ICMPV6
        && (transport.port == icmp::V6_NEIGHBOUR_ADVERT
            || (transport.port == icmp::V6_NEIGHBOUR_SOLICIT && is_unspecified(&ip.source)))
}

/// The target of a neighbour advertisement or solicitation (RFC 4861, 4.3 and 4.4).
#[inline(always)]
fn neighbour_target<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Option<Address> {
    let message = packet.window::<24>(ip.transport)?;
    Some(Address {
        hi: be64(message, 8),
        lo: be64(message, 16),
    })
}

/// Sender's MAC and address, and target address, of an ARP packet for IPv4 over Ethernet.
#[inline(always)]
fn sender_of<P: Packet + ?Sized>(packet: &P, at: usize) -> Option<(u64, u32, u32)> {
    let arp = packet.window::<28>(at)?;
    parse::is_arp(packet, at).then(|| (be48(arp, 8), be32(arp, 14), be32(arp, 24)))
}

/// Sender's address of an ARP packet for IPv4 as receivers take it on Ethernet: the hardware may be called IEEE 802 as
/// well (RFC 1042; arp_process in net/ipv4/arp.c).
#[inline(always)]
fn arp_sender<P: Packet + ?Sized>(packet: &P, at: usize) -> Option<u32> {
    let arp = packet.window::<28>(at)?;
    let hardware = be16(arp, 0);
    let fits = (hardware == 1 || hardware == 6) && be32(arp, 2) == 0x0800_0604;
    fits.then(|| be32(arp, 14))
}
