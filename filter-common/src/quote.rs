//! ICMP errors (RFC 792, RFC 4443) and the packet they quote: ours, if the error is about anything we sent.

use crate::extension::is_extension;
use crate::layout::{Address, FlowKey};
use crate::packet::{Packet, be16, be32, be64};
use crate::parse::{Ip, is_icmp};
use crate::service::{self, protocol};

/// Message types.
pub mod icmp {
    /// Echo reply.
    pub const ECHO_REPLY: u16 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u16 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u16 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u16 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u16 = 12;
    /// Timestamp request.
    pub const TIMESTAMP: u16 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u16 = 14;
    /// Address mask request (RFC 950).
    pub const ADDRESS_MASK: u16 = 17;
    /// Code of [`UNREACHABLE`]: fragmentation needed (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// ICMPv6: packet too big (RFC 8201).
    pub const V6_PACKET_TOO_BIG: u16 = 2;
    /// ICMPv6: parameter problem, the last of the error types we know.
    pub const V6_PARAMETER_PROBLEM: u16 = 4;
    /// ICMPv6 echo request.
    pub const V6_ECHO_REQUEST: u16 = 128;
    /// ICMPv6 echo reply.
    pub const V6_ECHO_REPLY: u16 = 129;
    /// Multicast listener report (RFC 2710).
    pub const V6_MLD_REPORT: u16 = 131;
    /// Multicast listener done.
    pub const V6_MLD_DONE: u16 = 132;
    /// Router solicitation (RFC 4861).
    pub const V6_ROUTER_SOLICIT: u16 = 133;
    /// Router advertisement.
    pub const V6_ROUTER_ADVERT: u16 = 134;
    /// Neighbour solicitation.
    pub const V6_NEIGHBOUR_SOLICIT: u16 = 135;
    /// Neighbour advertisement.
    pub const V6_NEIGHBOUR_ADVERT: u16 = 136;
    /// Redirect.
    pub const V6_REDIRECT: u16 = 137;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const V6_MLD2_REPORT: u16 = 143;
}

/// The type of the reply that a request of this type asks for; `None` if it is no request.
#[inline(always)]
pub const fn reply_type(v4: bool, request: u16) -> Option<u16> {
    match (v4, request) {
        (true, icmp::ECHO_REQUEST) => Some(icmp::ECHO_REPLY),
        (true, icmp::TIMESTAMP) => Some(icmp::TIMESTAMP_REPLY),
        (false, icmp::V6_ECHO_REQUEST) => Some(icmp::V6_ECHO_REPLY),
        _ => None,
    }
}

/// The type of the reply to a request, or of the request that a reply answers; the type itself if it is neither.
#[inline(always)]
pub const fn counterpart(v4: bool, kind: u16) -> u16 {
    match (v4, kind) {
        (true, icmp::ECHO_REPLY) => icmp::ECHO_REQUEST,
        (true, icmp::TIMESTAMP_REPLY) => icmp::TIMESTAMP,
        (false, icmp::V6_ECHO_REPLY) => icmp::V6_ECHO_REQUEST,
        _ => match reply_type(v4, kind) {
            Some(reply) => reply,
            None => kind,
        },
    }
}

/// Whether a message of this type answers a request.
#[inline(always)]
pub const fn is_reply(v4: bool, kind: u16) -> bool {
    if v4 {
        kind == icmp::ECHO_REPLY || kind == icmp::TIMESTAMP_REPLY
    } else {
        kind == icmp::V6_ECHO_REPLY
    }
}

/// Whether a message of this type quotes a packet.
#[inline(always)]
pub const fn is_error(v4: bool, kind: u16) -> bool {
    if v4 {
        matches!(
            kind,
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM
        )
    } else {
        kind >= 1 && kind <= icmp::V6_PARAMETER_PROBLEM
    }
}

/// Whether the message lowers a path's MTU.
#[inline(always)]
pub const fn is_path_mtu(v4: bool, kind: u16, code: u8) -> bool {
    if v4 {
        kind == icmp::UNREACHABLE && code == icmp::FRAGMENTATION_NEEDED
    } else {
        kind == icmp::V6_PACKET_TOO_BIG
    }
}

/// The flow of the packet that the ICMP error at `ip.transport` quotes, as this host would have noted it.
#[inline(always)]
pub fn quoted<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Option<FlowKey> {
    let at = ip.transport + 8;
    let (local, remote, protocol, transport);
    if ip.v4 {
        let header = packet.window::<20>(at)?;
        let length = (header[0] & 0x0f) as usize * 4;
        if header[0] >> 4 != 4 || length < 20 || be16(header, 6) & 0x1fff != 0 {
            return None;
        }
        local = Address::v4(be32(header, 12));
        remote = Address::v4(be32(header, 16));
        protocol = header[9];
        transport = at + length;
    } else {
        let header = packet.window::<40>(at)?;
        // behind extension headers nothing is read, and they are no protocol of their own
        if header[0] >> 4 != 6 || is_extension(header[6]) {
            return None;
        }
        local = Address {
            hi: be64(header, 8),
            lo: be64(header, 16),
        };
        remote = Address {
            hi: be64(header, 24),
            lo: be64(header, 32),
        };
        protocol = header[6];
        transport = at + 40;
    }
    if transport + 8 > ip.end || local.hi != ip.destination.hi || local.lo != ip.destination.lo {
        return None;
    }
    let header = packet.window::<8>(transport)?;
    let mut key = FlowKey {
        local,
        remote,
        local_port: 0,
        remote_port: 0,
        protocol: protocol as u32,
    };
    if has_ports(protocol) {
        key.local_port = be16(header, 0);
        key.remote_port = be16(header, 2);
    } else if is_icmp(protocol, ip.v4) {
        reply_type(ip.v4, header[0] as u16)?;
        key.local_port = be16(header, 4);
    }
    Some(key)
}

/// Whether the protocol's header begins with two ports.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// The service that a packet of this flow would be an answer of; `None` for ICMP.
#[inline(always)]
pub const fn answered_service(key: &FlowKey, v4: bool) -> Option<u32> {
    let protocol = key.protocol as u8;
    if is_icmp(protocol, v4) {
        None
    } else {
        Some(service::index(protocol, v4, key.local_port))
    }
}
