//! Owns the ICMP messages of the packet builders: echo, errors quoting a packet, ND, MLD.
//! Must never know the policy or the flows the messages speak of.

#![expect(
    missing_docs,
    reason = "fields and constants have the names of the RFCs"
)]

use std::net::{IpAddr, Ipv6Addr};

use super::Transport;
use super::checksum::{internet, with_pseudo_header};

/// An ICMP message on IPv4 (RFC 792).
#[derive(Debug, Clone)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    /// Bytes 4 to 7: identifier and sequence, or what the type has there.
    pub rest: [u8; 4],
    pub payload: Vec<u8>,
}

impl Icmp {
    /// Any type and code.
    #[must_use]
    pub fn new(kind: u8, code: u8) -> Self {
        Self {
            kind,
            code,
            rest: [0; 4],
            payload: Vec::new(),
        }
    }

    /// Echo request.
    #[must_use]
    pub fn echo_request(identifier: u16) -> Self {
        Self {
            rest: identified(identifier),
            payload: b"edge".to_vec(),
            ..Self::new(8, 0)
        }
    }

    /// Echo reply.
    #[must_use]
    pub fn echo_reply(identifier: u16) -> Self {
        Self {
            rest: identified(identifier),
            payload: b"edge".to_vec(),
            ..Self::new(0, 0)
        }
    }

    /// Timestamp request (13) or reply (14): 12 bytes of times.
    #[must_use]
    pub fn timestamp(kind: u8, identifier: u16) -> Self {
        Self {
            rest: identified(identifier),
            payload: vec![0; 12],
            ..Self::new(kind, 0)
        }
    }

    /// Destination unreachable with this code, quoting a packet.
    #[must_use]
    pub fn unreachable(code: u8, quoted: &[u8]) -> Self {
        Self {
            payload: quoted.to_vec(),
            ..Self::new(3, code)
        }
    }

    /// Fragmentation needed (RFC 1191), quoting a packet.
    #[must_use]
    pub fn path_mtu(mtu: u16, quoted: &[u8]) -> Self {
        let mtu = mtu.to_be_bytes();
        Self {
            rest: [0, 0, mtu[0], mtu[1]],
            ..Self::unreachable(4, quoted)
        }
    }

    /// Time exceeded, quoting a packet.
    #[must_use]
    pub fn time_exceeded(quoted: &[u8]) -> Self {
        Self {
            payload: quoted.to_vec(),
            ..Self::new(11, 0)
        }
    }
}

impl Transport for Icmp {
    fn protocol(&self) -> u8 {
        1
    }

    fn bytes(&self, _: IpAddr, _: IpAddr) -> Vec<u8> {
        let mut bytes = message(self.kind, self.code, self.rest, &self.payload);
        let sum = internet(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// An `ICMPv6` message (RFC 4443).
#[derive(Debug, Clone)]
pub struct Icmpv6 {
    pub kind: u8,
    pub code: u8,
    /// Bytes 4 to 7.
    pub rest: [u8; 4],
    pub payload: Vec<u8>,
}

impl Icmpv6 {
    /// Any type and code.
    #[must_use]
    pub fn new(kind: u8, code: u8) -> Self {
        Self {
            kind,
            code,
            rest: [0; 4],
            payload: Vec::new(),
        }
    }

    /// Echo request.
    #[must_use]
    pub fn echo_request(identifier: u16) -> Self {
        Self {
            rest: identified(identifier),
            payload: b"edge".to_vec(),
            ..Self::new(128, 0)
        }
    }

    /// Echo reply.
    #[must_use]
    pub fn echo_reply(identifier: u16) -> Self {
        Self {
            rest: identified(identifier),
            payload: b"edge".to_vec(),
            ..Self::new(129, 0)
        }
    }

    /// An error (types 1 to 4), quoting a packet.
    #[must_use]
    pub fn error(kind: u8, code: u8, quoted: &[u8]) -> Self {
        Self {
            payload: quoted.to_vec(),
            ..Self::new(kind, code)
        }
    }

    /// Packet too big, quoting a packet.
    #[must_use]
    pub fn path_mtu(mtu: u32, quoted: &[u8]) -> Self {
        Self {
            rest: mtu.to_be_bytes(),
            ..Self::error(2, 0, quoted)
        }
    }

    /// Router solicitation (RFC 4861); it needs hop limit 255.
    #[must_use]
    pub fn router_solicitation() -> Self {
        Self::new(133, 0)
    }

    /// Router advertisement with a lifetime of 30 minutes.
    #[must_use]
    pub fn router_advertisement() -> Self {
        Self {
            rest: [64, 0, 0x07, 0x08],
            payload: vec![0; 8],
            ..Self::new(134, 0)
        }
    }

    /// Neighbour solicitation with the source link-layer address option.
    #[must_use]
    pub fn neighbour_solicitation(target: Ipv6Addr, mac: [u8; 6]) -> Self {
        let payload = [&target.octets()[..], &[1, 1], &mac].concat();
        Self {
            payload,
            ..Self::new(135, 0)
        }
    }

    /// Neighbour advertisement (solicited, override) with the target link-layer address option.
    #[must_use]
    pub fn neighbour_advertisement(target: Ipv6Addr, mac: [u8; 6]) -> Self {
        let payload = [&target.octets()[..], &[2, 1], &mac].concat();
        Self {
            rest: [0x60, 0, 0, 0],
            payload,
            ..Self::new(136, 0)
        }
    }

    /// General multicast listener query (RFC 2710).
    #[must_use]
    pub fn listener_query() -> Self {
        Self {
            rest: [0x27, 0x10, 0, 0],
            payload: vec![0; 16],
            ..Self::new(130, 0)
        }
    }
}

impl Transport for Icmpv6 {
    fn protocol(&self) -> u8 {
        58
    }

    fn bytes(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let mut bytes = message(self.kind, self.code, self.rest, &self.payload);
        let sum = with_pseudo_header(source, destination, 58, &bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

fn identified(identifier: u16) -> [u8; 4] {
    let id = identifier.to_be_bytes();
    [id[0], id[1], 0, 1]
}

fn message(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(payload);
    bytes
}
