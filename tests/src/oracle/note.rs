//! Owns which flow the oracle notes for a frame that leaves.
//! Must never judge the frame: it has passed already.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::flow::{Flows, Key};
use super::judge::Judge;
use super::parse::{self, Fragment, Link, SCTP, TCP, Transport, UDP};
use super::rules::{Packet, Service};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Ports that Linux gives to sockets that did not ask for one (net.ipv4.ip_local_port_range).
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// Whether we are who asks, as far as the packet shows: a SYN, or UDP from an ephemeral port to one that is none; of
/// what shows neither question nor answer, all that is sent to a blocked source, since nothing it asks is let in. The
/// answer is let in whoever is blocked, so it is noted although a rule lets it in as well.
fn is_ours(transport: &Transport<'_>, blocked: bool) -> bool {
    match *transport {
        Transport::Tcp { flags, .. } => flags & (SYN | ACK) == SYN,
        Transport::Udp {
            source,
            destination,
        } => match (
            EPHEMERAL.contains(&source),
            EPHEMERAL.contains(&destination),
        ) {
            (true, false) => true,
            (false, true) => false,
            _ => blocked,
        },
        Transport::Icmp { .. } => false,
        Transport::Sctp { .. } | Transport::Other => blocked,
    }
}

impl Judge<'_> {
    /// Notes the flow whose answers no rule would let in, and those that we open.
    pub fn note(&self, link: &Link<'_>, flows: &mut Flows) {
        let ip = match link.content {
            Ok((0x0800, bytes)) => parse::ipv4(bytes),
            Ok((0x86dd, bytes)) => parse::ipv6(bytes),
            _ => return,
        };
        let Ok(ip) = ip else { return };
        if ip.mapped {
            return;
        }
        if matches!(ip.fragment, Fragment::Later { .. }) {
            return;
        }
        let Ok(transport) = parse::transport(&ip) else {
            return;
        };
        let (local_port, remote_port, flags, service) = match transport {
            Transport::Tcp {
                source,
                destination,
                flags,
            } => (source, destination, flags, Service::Port(TCP, source)),
            Transport::Udp {
                source,
                destination,
            } => (source, destination, 0, Service::Port(UDP, source)),
            Transport::Sctp {
                source,
                destination,
            } => (source, destination, 0, Service::Port(SCTP, source)),
            Transport::Icmp {
                kind, identifier, ..
            } => match (kind, ip.source) {
                (8 | 13, IpAddr::V4(_)) | (128, IpAddr::V6(_)) => {
                    (identifier, 0, 0, Service::Number(ip.protocol))
                }
                _ => return,
            },
            Transport::Other => (0, 0, 0, Service::Number(ip.protocol)),
        };
        let mirrored = Packet {
            source: ip.destination,
            destination: ip.source,
            service,
        };
        // The lists come before the default verdict: what they let in is let in by no rule.
        let reply = match (transport, ip.source) {
            (Transport::Icmp { kind: 8, .. }, IpAddr::V4(_)) => Some(0),
            (Transport::Icmp { kind: 13, .. }, IpAddr::V4(_)) => Some(14),
            (Transport::Icmp { kind: 128, .. }, IpAddr::V6(_)) => Some(129),
            _ => None,
        };
        let listed = reply.is_some_and(|kind| self.profile.lists_icmp(ip.source.is_ipv6(), kind))
            && self.profile.saved(&mirrored, self.world).is_none()
            && self.profile.allowed(&mirrored, self.world).is_none();
        let mut flags = flags;
        if !listed && self.lets_in(&mirrored) {
            if !self.guards_host() || !is_ours(&transport, self.world.blocks(ip.destination)) {
                return;
            }
            // What follows is not noted, so the connection counts as open from its SYN on.
            flags = ACK;
        }
        let key = Key {
            local: ip.source,
            remote: ip.destination,
            local_port,
            remote_port,
            protocol: ip.protocol,
        };
        flows.outgoing(key, flags, self.now);
    }
}
