//! Ethernet frames written byte by byte, with right checksums, odd on purpose where a test asks.
//!
//! Owns the layout of the headers (RFC 791, 768, 9293, 8200). Must never share code with the
//! filter: a mistake made twice would not be seen.
//!
//! Each frame carries a marker in its source MAC address, `02:ef` and 32 bits, which survives any
//! truncation down to the Ethernet header; a capture tells frames apart by it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// An 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// An 802.1ad tag.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Protocol number.
pub const TCP: u8 = 6;
/// Protocol number.
pub const UDP: u8 = 17;
/// TCP flag.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const PSH: u8 = 8;
/// TCP flag.
pub const ACK: u8 = 16;
/// TCP flag.
pub const URG: u8 = 32;

const MARK: [u8; 2] = [0x02, 0xef];

/// The two ends of a forged conversation.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// MAC address of the interface the frames go to.
    pub destination_mac: [u8; 6],
    /// IPv4 source.
    pub source_v4: Ipv4Addr,
    /// IPv4 destination.
    pub destination_v4: Ipv4Addr,
    /// IPv6 source.
    pub source_v6: Ipv6Addr,
    /// IPv6 destination.
    pub destination_v6: Ipv6Addr,
}

/// Which of the two addresses of each end is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Ends {
    /// Ethernet header with the marker, `tags` as (ethertype, VLAN id), outer first.
    pub fn ethernet(
        &self,
        marker: u32,
        tags: &[(u16, u16)],
        ethertype: u16,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut frame = self.destination_mac.to_vec();
        frame.extend(marked_source(marker));
        for (tag, id) in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// An IPv4 packet; `flags` is the 16-bit word of flags and fragment offset, `options` a
    /// multiple of four bytes, at most 40.
    pub fn ipv4(
        &self,
        protocol: u8,
        id: u16,
        flags: u16,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let header_length = 20 + options.len();
        let mut packet = vec![0x40 | (header_length / 4) as u8, 0];
        packet.extend(((header_length + payload.len()) as u16).to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(self.source_v4.octets());
        packet.extend(self.destination_v4.octets());
        packet.extend(options);
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// An IPv6 packet; `next` is the type of the first header inside `payload`.
    pub fn ipv6(&self, next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend(self.source_v6.octets());
        packet.extend(self.destination_v6.octets());
        packet.extend(payload);
        packet
    }

    /// A TCP segment with a 20-byte header.
    pub fn tcp(&self, family: Family, ports: (u16, u16), flags: u8, data: &[u8]) -> Vec<u8> {
        let mut segment = ports.0.to_be_bytes().to_vec();
        segment.extend(ports.1.to_be_bytes());
        segment.extend(0x1000_0000_u32.to_be_bytes());
        let acknowledged: u32 = if flags & ACK == 0 { 0 } else { 0x2000_0000 };
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        segment.extend(data);
        let sum = checksum(&[&self.pseudo_header(family, TCP, segment.len()), &segment]);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// A UDP datagram.
    pub fn udp(&self, family: Family, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
        let mut datagram = ports.0.to_be_bytes().to_vec();
        datagram.extend(ports.1.to_be_bytes());
        datagram.extend(((8 + data.len()) as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(data);
        let sum = checksum(&[&self.pseudo_header(family, UDP, datagram.len()), &datagram]);
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        datagram
    }

    /// A whole frame around a transport packet, without tags, options or extension headers.
    pub fn frame(&self, marker: u32, family: Family, protocol: u8, transport: &[u8]) -> Vec<u8> {
        match family {
            Family::V4 => {
                let packet = self.ipv4(protocol, marker as u16, 0, &[], transport);
                self.ethernet(marker, &[], ETHERTYPE_IPV4, &packet)
            }
            Family::V6 => {
                self.ethernet(marker, &[], ETHERTYPE_IPV6, &self.ipv6(protocol, transport))
            }
        }
    }

    fn pseudo_header(&self, family: Family, protocol: u8, length: usize) -> Vec<u8> {
        let mut header = Vec::new();
        match family {
            Family::V4 => {
                header.extend(self.source_v4.octets());
                header.extend(self.destination_v4.octets());
            }
            Family::V6 => {
                header.extend(self.source_v6.octets());
                header.extend(self.destination_v6.octets());
            }
        }
        header.extend([0, protocol]);
        header.extend((length as u16).to_be_bytes());
        header
    }
}

/// The source MAC address that carries `marker`.
pub fn marked_source(marker: u32) -> [u8; 6] {
    let [a, b, c, d] = marker.to_be_bytes();
    [MARK[0], MARK[1], a, b, c, d]
}

/// The marker of a frame made here; `None` for anybody else's.
pub fn marker(frame: &[u8]) -> Option<u32> {
    let source = frame.get(6..12)?;
    let bits = source.strip_prefix(&MARK)?;
    Some(u32::from_be_bytes(bits.try_into().ok()?))
}

/// The Internet checksum (RFC 1071) over all parts; each part but the last has an even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
