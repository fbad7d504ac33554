//! Owns the frames tests are made of: readable builders with correct lengths and checksums.
//! Must never judge; wrong values come from an explicit setter, never by accident.
//!
//! ```text
//! link().vlan(100).ipv4(&Ipv4::new("203.0.113.9", "192.0.2.10").tcp(&Tcp::syn(40_000, 443)))
//! ```

#![expect(
    missing_docs,
    reason = "fields and constants have the names of the RFCs"
)]

pub mod checksum;
pub mod icmp;
pub mod ip;
pub mod transport;

pub use icmp::{Icmp, Icmpv6};
pub use ip::{Extension, Ipv4, Ipv6};
pub use transport::{Raw, Sctp, Tcp, Transport, Udp, dhcpv4_reply, dhcpv6_reply};

use etherparse::{EtherType, Ethernet2Header};

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const SERVICE_VLAN: u16 = 0x88a8;
pub const LLDP: u16 = 0x88cc;

/// The Ethernet header with its VLAN tags.
#[derive(Debug, Clone)]
pub struct Link {
    /// Source address.
    pub source: [u8; 6],
    /// Destination address.
    pub destination: [u8; 6],
    /// Tags, outer first: TPID and the tag control information.
    pub tags: Vec<(u16, u16)>,
}

/// An untagged Ethernet header between two locally administered addresses.
#[must_use]
pub fn link() -> Link {
    Link {
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
        tags: Vec::new(),
    }
}

impl Link {
    /// Adds an 802.1Q tag inside those already there.
    #[must_use]
    pub fn vlan(self, id: u16) -> Self {
        self.tag(VLAN, id)
    }

    /// Adds an 802.1ad tag inside those already there.
    #[must_use]
    pub fn service_vlan(self, id: u16) -> Self {
        self.tag(SERVICE_VLAN, id)
    }

    /// Adds any tag: TPID, and priority and id as they stand in the frame.
    #[must_use]
    pub fn tag(mut self, tpid: u16, control: u16) -> Self {
        self.tags.push((tpid, control));
        self
    }

    /// Other MAC addresses.
    #[must_use]
    pub fn macs(self, source: [u8; 6], destination: [u8; 6]) -> Self {
        Self {
            source,
            destination,
            ..self
        }
    }

    /// The frame with any ethertype and payload.
    #[must_use]
    pub fn carry(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let header = Ethernet2Header {
            source: self.source,
            destination: self.destination,
            ether_type: EtherType(self.tags.first().map_or(ethertype, |tag| tag.0)),
        };
        let mut frame = header.to_bytes().to_vec();
        for (i, (_, control)) in self.tags.iter().enumerate() {
            frame.extend(control.to_be_bytes());
            let next = self.tags.get(i + 1).map_or(ethertype, |tag| tag.0);
            frame.extend(next.to_be_bytes());
        }
        frame.extend(payload);
        frame
    }

    /// An IPv4 frame.
    #[must_use]
    pub fn ipv4(&self, packet: &Ipv4) -> Vec<u8> {
        self.carry(IPV4, &packet.bytes())
    }

    /// An IPv6 frame.
    #[must_use]
    pub fn ipv6(&self, packet: &Ipv6) -> Vec<u8> {
        self.carry(IPV6, &packet.bytes())
    }

    /// An ARP request: who has `target`, tell `sender`.
    #[must_use]
    pub fn arp_request(&self, sender: &str, target: &str) -> Vec<u8> {
        self.carry(ARP, &arp(1, self.source, sender, [0; 6], target))
    }

    /// An ARP reply: `sender` is at our source address.
    #[must_use]
    pub fn arp_reply(&self, sender: &str, target: &str) -> Vec<u8> {
        self.carry(ARP, &arp(2, self.source, sender, self.destination, target))
    }

    /// An 802.3 frame with an LLC header: a spanning-tree BPDU.
    #[must_use]
    pub fn llc(&self) -> Vec<u8> {
        let mut payload = vec![0x42, 0x42, 0x03];
        payload.resize(38, 0);
        self.carry(38, &payload)
    }
}

/// The 28 bytes of an ARP packet for IPv4 over Ethernet (RFC 826).
#[must_use]
pub fn arp(
    operation: u16,
    mac: [u8; 6],
    sender: &str,
    target_mac: [u8; 6],
    target: &str,
) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(mac);
    bytes.extend(ip::v4(sender).octets());
    bytes.extend(target_mac);
    bytes.extend(ip::v4(target).octets());
    bytes
}

/// Pads a frame with zeros to the 60 bytes Ethernet sends at least.
#[must_use]
pub fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.len() < 60 {
        frame.resize(60, 0);
    }
    frame
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    /// etherparse reads the frame without complaint, and its checksums are the builders'.
    fn check(frame: &[u8]) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        match (&packet.net, &packet.transport) {
            (Some(NetSlice::Ipv4(ip)), transport) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let (s, d) = (header.source, header.destination);
                match transport {
                    Some(TransportSlice::Tcp(tcp)) => {
                        assert_eq!(tcp.calc_checksum_ipv4(s, d).unwrap(), tcp.checksum());
                    }
                    Some(TransportSlice::Udp(udp)) => {
                        let sum = udp
                            .to_header()
                            .calc_checksum_ipv4_raw(s, d, udp.payload())
                            .unwrap();
                        assert_eq!(sum, udp.checksum());
                    }
                    Some(TransportSlice::Icmpv4(icmp)) => {
                        let header = icmp.header();
                        assert_eq!(
                            header.icmp_type.calc_checksum(icmp.payload()),
                            header.checksum
                        );
                    }
                    _ => {}
                }
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) => {
                let header = ip.header().to_header();
                assert_eq!(
                    tcp.calc_checksum_ipv6(header.source, header.destination)
                        .unwrap(),
                    tcp.checksum()
                );
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) => {
                let sum = udp
                    .to_header()
                    .calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
                    .unwrap();
                assert_eq!(sum, udp.checksum());
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
                let header = ip.header().to_header();
                assert!(icmp.is_checksum_valid(header.source, header.destination));
            }
            _ => {}
        }
    }

    #[test]
    fn etherparse_finds_no_fault_in_the_builders() {
        let transports: [Box<dyn Transport>; 6] = [
            Box::new(
                Tcp::syn(40_000, 443)
                    .options(&[2, 4, 5, 0xb4])
                    .payload(b"odd"),
            ),
            Box::new(Udp::new(4000, 53).payload(b"odd")),
            Box::new(dhcpv4_reply()),
            Box::new(Sctp::init(1, 2)),
            Box::new(Icmp::echo_request(7)),
            Box::new(Icmpv6::echo_request(7)),
        ];
        for transport in &transports {
            for (source, destination) in [
                ("203.0.113.9", "192.0.2.10"),
                ("2001:db8::1", "2001:db8::2"),
            ] {
                let addresses: (IpAddr, IpAddr) =
                    (source.parse().unwrap(), destination.parse().unwrap());
                let (ethertype, bytes) = ip::packet(addresses.0, addresses.1, transport.as_ref());
                check(&link().carry(ethertype, &bytes));
                check(&link().service_vlan(5).vlan(6).carry(ethertype, &bytes));
            }
        }
        check(&link().arp_request("192.0.2.1", "192.0.2.10"));
    }

    #[test]
    fn extension_headers_have_the_lengths_they_say() {
        for size in [8, 16, 264, 272, 2048] {
            for extension in [
                Extension::HopByHop(size),
                Extension::DestinationOptions(size),
                Extension::Routing(2, size),
            ] {
                let packet = Ipv6::new("2001:db8::1", "2001:db8::2")
                    .with(&Udp::new(1, 2))
                    .extension(extension);
                let frame = link().ipv6(&packet);
                assert_eq!(frame.len(), 14 + 40 + size + 12);
                check(&frame);
                let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
                assert!(
                    matches!(parsed.transport, Some(TransportSlice::Udp(_))),
                    "{size}"
                );
            }
        }
    }

    #[test]
    fn fragments_cover_the_packet_once() {
        let packet =
            Ipv4::new("203.0.113.9", "192.0.2.10").with(&Udp::new(1, 2).payload(&[7; 100]));
        let parts = packet.fragments(32);
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.payload.clone()).collect();
        assert_eq!(joined, packet.payload);
        let fields: Vec<(u16, bool)> = parts
            .iter()
            .map(|part| (part.offset, part.more_fragments))
            .collect();
        assert_eq!(fields, [(0, true), (4, true), (8, true), (12, false)]);
    }
}
