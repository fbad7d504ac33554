//! A frame from what somebody says of a packet. Pure.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, PacketBuilder, TcpHeader, VlanId,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A locally administered address: of nobody in particular (IEEE 802, 8.4).
pub const SOMEBODY: Mac = [2, 0, 0, 0, 0, 2];

/// TTL or hop limit of a packet from afar.
pub const HOP_LIMIT: u8 = 64;

/// Bytes that whatever has no header of its own carries.
const PAYLOAD: [u8; 8] = [0; 8];

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source and destination MAC.
    pub macs: [Mac; 2],
    /// VLAN id of its tag.
    pub vlan: Option<u16>,
    /// Source; the same version of IP as the destination.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Whether it is the first of a train of fragments.
    pub fragment: bool,
    /// What it carries.
    pub content: Content,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// TCP, with the flags byte.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// See `filter_common::flow::tcp`.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP, or ICMPv6 where the addresses are.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Another protocol, by number.
    Protocol(u8),
}

/// Source and destination are not of one version of IP, or a VLAN id is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Versions differ.
    #[error("{0} and {1} are not of the same version of IP")]
    Versions(IpAddr, IpAddr),
    /// Not a VLAN id.
    #[error("{0} is no VLAN id: 1 to 4094")]
    Vlan(u16),
    /// What does not fit.
    #[error("such a packet cannot be made")]
    Unfit,
}

impl Packet {
    /// A TCP segment without data.
    pub fn tcp(macs: [Mac; 2], from: SocketAddr, to: SocketAddr, flags: u8) -> Self {
        Self {
            macs,
            vlan: None,
            from: from.ip(),
            to: to.ip(),
            hop_limit: HOP_LIMIT,
            fragment: false,
            content: Content::Tcp {
                source: from.port(),
                destination: to.port(),
                flags,
            },
        }
    }

    /// The frame, checksums included.
    pub fn frame(&self) -> Result<Vec<u8>, FrameError> {
        let headers = self.headers()?;
        let [source, destination] = self.macs;
        let link = PacketBuilder::ethernet2(source, destination);
        let ip = match self.vlan {
            None => link.ip(headers),
            Some(id) => {
                let vlan = VlanId::try_new(id)
                    .ok()
                    .filter(|_| (1..=4094).contains(&id))
                    .ok_or(FrameError::Vlan(id))?;
                link.single_vlan(vlan).ip(headers)
            }
        };
        let mut frame = Vec::new();
        let written = match self.content {
            Content::Tcp {
                source,
                destination,
                flags,
            } => ip
                .tcp_header(tcp(source, destination, flags))
                // all fragments but the last are multiples of 8 bytes long
                .write_to_vec(&mut frame, if self.fragment { &PAYLOAD[..4] } else { &[] }),
            Content::Udp {
                source,
                destination,
            } => ip
                .udp(source, destination)
                .write_to_vec(&mut frame, &PAYLOAD),
            Content::Icmp { kind, code } if self.from.is_ipv4() => ip
                .icmpv4_raw(kind, code, [0, 1, 0, 1])
                .write_to_vec(&mut frame, &PAYLOAD),
            Content::Icmp { kind, code } => ip
                .icmpv6_raw(kind, code, [0, 1, 0, 1])
                .write_to_vec(&mut frame, &PAYLOAD),
            Content::Protocol(number) => ip.write_to_vec(&mut frame, IpNumber(number), &PAYLOAD),
        };
        written.map_err(|_| FrameError::Unfit)?;
        Ok(frame)
    }

    fn headers(&self) -> Result<IpHeaders, FrameError> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header =
                    Ipv4Header::new(0, self.hop_limit, IpNumber(0), from.octets(), to.octets())
                        .map_err(|_| FrameError::Unfit)?;
                header.more_fragments = self.fragment;
                Ok(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber(0),
                    hop_limit: self.hop_limit,
                    source: from.octets(),
                    destination: to.octets(),
                };
                let fragment = self
                    .fragment
                    .then(|| Ipv6FragmentHeader::new(IpNumber(0), IpFragOffset::ZERO, true, 1));
                let extensions = Ipv6Extensions {
                    fragment,
                    ..Ipv6Extensions::default()
                };
                Ok(IpHeaders::Ipv6(header, extensions))
            }
            (from, to) => Err(FrameError::Versions(from, to)),
        }
    }
}

fn tcp(source: u16, destination: u16, flags: u8) -> TcpHeader {
    let is_set = |bit: u8| flags >> bit & 1 != 0;
    TcpHeader {
        fin: is_set(0),
        syn: is_set(1),
        rst: is_set(2),
        psh: is_set(3),
        ack: is_set(4),
        urg: is_set(5),
        ece: is_set(6),
        cwr: is_set(7),
        acknowledgment_number: u32::from(is_set(4)),
        ..TcpHeader::new(source, destination, 1, u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use filter_common::flow::tcp::{ACK, SYN};
    use filter_common::parse::{self, Lengths};

    use super::*;

    fn packet(from: &str, to: &str, content: Content) -> Packet {
        Packet {
            macs: [SOMEBODY, SOMEBODY],
            vlan: None,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            hop_limit: HOP_LIMIT,
            fragment: false,
            content,
        }
    }

    const WEB: Content = Content::Tcp {
        source: 50000,
        destination: 443,
        flags: SYN,
    };

    #[test]
    fn the_filter_reads_what_was_asked_for() {
        for (from, to) in [
            ("198.51.100.7", "192.0.2.1"),
            ("2001:db8::7", "2001:db8::1"),
        ] {
            for fragment in [false, true] {
                for vlan in [None, Some(5)] {
                    let packet = Packet {
                        vlan,
                        fragment,
                        ..packet(from, to, WEB)
                    };
                    let frame = packet.frame().unwrap();
                    let link = parse::link(frame.as_slice());
                    assert_eq!(link.vlan, vlan.unwrap_or(0));
                    let ip = if packet.from.is_ipv4() {
                        parse::ipv4(frame.as_slice(), link.network, Lengths::Checked)
                    } else {
                        parse::ipv6(frame.as_slice(), link.network, Lengths::Checked)
                    };
                    let ip = ip.unwrap();
                    assert_eq!(ip.fragment, fragment);
                    let transport = parse::transport(frame.as_slice(), &ip).unwrap();
                    assert_eq!((transport.source_port, transport.port), (50000, 443));
                    assert_eq!(transport.flags, SYN);
                }
            }
        }
    }

    #[test]
    fn flags_ports_and_types_stand_where_they_belong() {
        for (content, port, flags) in [
            (
                Content::Tcp {
                    source: 1,
                    destination: 2,
                    flags: SYN | ACK,
                },
                2,
                SYN | ACK,
            ),
            (
                Content::Udp {
                    source: 1,
                    destination: 53,
                },
                53,
                0,
            ),
            (Content::Icmp { kind: 3, code: 4 }, 3, 4),
            (Content::Protocol(47), 0, 0),
        ] {
            let frame = packet("198.51.100.7", "192.0.2.1", content)
                .frame()
                .unwrap();
            let ip = parse::ipv4(frame.as_slice(), 14, Lengths::Checked).unwrap();
            let transport = parse::transport(frame.as_slice(), &ip).unwrap();
            assert_eq!(
                (transport.port, transport.flags),
                (port, flags),
                "{content:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mixed = packet("198.51.100.7", "2001:db8::1", WEB).frame();
        assert!(matches!(mixed, Err(FrameError::Versions(..))));
        for vlan in [0, 4095, 5000] {
            let packet = Packet {
                vlan: Some(vlan),
                ..packet("198.51.100.7", "192.0.2.1", WEB)
            };
            assert_eq!(packet.frame(), Err(FrameError::Vlan(vlan)));
        }
    }
}
