//! From bytes to headers: Ethernet, VLAN tags, IPv4, IPv6 with extension headers, transports.
//!
//! `None` means malformed: whatever cannot be read to its transport is never guessed at. Depths are bounded (two tags,
//! eight extension headers). Nothing here knows of policy.

use crate::extension::{self, Chain};
use crate::layout::Address;
use crate::packet::{Packet, be16, be32, be48, be64};
use crate::service::protocol;

/// Ethertypes (IEEE 802).
pub mod ethertype {
    /// RFC 894
    pub const IPV4: u16 = 0x0800;
    /// RFC 826
    pub const ARP: u16 = 0x0806;
    /// RFC 2464
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1Q
    pub const VLAN: u16 = 0x8100;
    /// IEEE 802.1ad
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Below this the field is an 802.3 length, and the frame is LLC.
    pub const FIRST: u16 = 0x0600;
    /// What stands for LLC in the service table.
    pub const LLC: u16 = 0;
}

/// IPv6 "no next header" (RFC 8200, 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// No offset into a frame's readable part reaches this (the BPF verifier wants a bound below 64 KiB).
pub const MAX_OFFSET: usize = 0x3fff;

/// The link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Ethertype behind the tags, [`ethertype::LLC`] for a length field.
    pub ethertype: u16,
    /// Id of the first tag that has one (0 is a priority tag: Linux hands the frame to the VLAN inside it); else 0.
    pub vlan: u16,
    /// Where the network header begins.
    pub network: usize,
    /// Cut short, or a third tag.
    pub broken: bool,
    /// The source MAC is a group address, which nobody sends from (IEEE 802.3, 3.2.5).
    pub from_group: bool,
}

/// The network layer, up to where the transport begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// IPv4 or IPv6.
    pub v4: bool,
    /// IPv6 with an IPv4-mapped source: it must not get near anything that is known of IPv4 addresses.
    pub mapped: bool,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Protocol behind the extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Part of a packet that was split.
    pub fragment: bool,
    /// Bytes of the whole packet's payload that come before this fragment.
    pub fragment_offset: u32,
    /// Identification, 0 when not a fragment.
    pub fragment_id: u32,
    /// Where the transport header begins.
    pub transport: usize,
    /// One past the packet's last byte (the frame may go on with padding).
    pub end: usize,
}

impl Ip {
    /// The same, see [`Packet::opaque`].
    #[inline(always)]
    #[must_use]
    pub fn opaque<P: Packet + ?Sized>(&self, packet: &P) -> Self {
        let address = |address: &Address| Address {
            hi: packet.opaque(address.hi),
            lo: packet.opaque(address.lo),
        };
        let is = |flag: bool| packet.opaque(flag as u64) & 1 != 0;
        Self {
            v4: is(self.v4),
            mapped: is(self.mapped),
            source: address(&self.source),
            destination: address(&self.destination),
            protocol: packet.opaque(self.protocol as u64) as u8,
            hop_limit: packet.opaque(self.hop_limit as u64) as u8,
            fragment: is(self.fragment),
            fragment_offset: packet.opaque(self.fragment_offset as u64) as u32,
            fragment_id: packet.opaque(self.fragment_id as u64) as u32,
            // the mask changes nothing (eight extension headers of 2 KiB at most): a bound is what the verifier wants
            transport: packet.opaque(self.transport as u64) as usize & (2 * MAX_OFFSET + 1),
            end: packet.opaque(self.end as u64) as usize,
        }
    }
}

/// The transport layer, as far as policy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source port; 0 without ports.
    pub source_port: u16,
    /// Destination port, or the ICMP type.
    pub port: u16,
    /// TCP flags, the ICMP code, or the type of an SCTP packet's first chunk (0 if there is none).
    pub flags: u8,
    /// ICMP identifier.
    pub identifier: u16,
    /// Bytes of a TCP header with its options; 0 for others.
    pub header: u8,
}

impl Transport {
    /// The same, see [`Packet::opaque`]; and what it told apart of the network layer.
    #[inline(always)]
    #[must_use]
    pub fn opaque<P: Packet + ?Sized>(&self, ip: &mut Ip, packet: &P) -> Self {
        ip.protocol = packet.opaque(ip.protocol as u64) as u8;
        ip.fragment = packet.opaque(ip.fragment as u64) & 1 != 0;
        Self {
            source_port: packet.opaque(self.source_port as u64) as u16,
            port: packet.opaque(self.port as u64) as u16,
            flags: packet.opaque(self.flags as u64) as u8,
            identifier: packet.opaque(self.identifier as u64) as u16,
            header: packet.opaque(self.header as u64) as u8,
        }
    }
}

/// How far lengths are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// From the wire: every length must fit.
    Checked,
    /// From our own stack, before segmentation: an skb may be longer than any length field can say.
    Trusted,
}

/// Ethernet and up to two VLAN tags.
#[inline(always)]
pub fn link<P: Packet + ?Sized>(packet: &P) -> Link {
    let mut link = Link {
        ethertype: 0,
        vlan: 0,
        network: 14,
        broken: true,
        from_group: false,
    };
    let Some(header) = packet.window::<14>(0) else {
        return link;
    };
    link.from_group = header[6] & 1 != 0;
    link.ethertype = be16(header, 12);
    if is_tag(link.ethertype) {
        let Some(tag) = packet.window::<4>(14) else {
            return link;
        };
        link.vlan = be16(tag, 0) & 0x0fff;
        link.ethertype = be16(tag, 2);
        link.network = 18;
        if is_tag(link.ethertype) {
            let Some(tag) = packet.window::<4>(18) else {
                return link;
            };
            if link.vlan == 0 {
                link.vlan = be16(tag, 0) & 0x0fff;
            }
            link.ethertype = be16(tag, 2);
            link.network = 22;
        }
    }
    link.broken = is_tag(link.ethertype);
    if link.ethertype < ethertype::FIRST {
        link.ethertype = ethertype::LLC;
    }
    link
}

/// The source MAC, as a big-endian number.
#[inline(always)]
pub fn source_mac<P: Packet + ?Sized>(packet: &P) -> Option<u64> {
    packet.window::<14>(0).map(|header| be48(header, 6))
}

#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    ethertype == ethertype::VLAN || ethertype == ethertype::SERVICE_VLAN
}

/// Whether the bytes at `at` are an ARP packet for IPv4 over Ethernet (RFC 826).
#[inline(always)]
pub fn is_arp<P: Packet + ?Sized>(packet: &P, at: usize) -> bool {
    packet
        .window::<28>(at)
        .is_some_and(|arp| be32(arp, 0) == 0x0001_0800 && be16(arp, 4) == 0x0604)
}

/// The source of an IP packet, whatever follows its first header; whether it is IPv4.
#[inline(always)]
pub fn source<P: Packet + ?Sized>(packet: &P, link: &Link) -> Option<(bool, Address)> {
    match link.ethertype {
        ethertype::IPV4 => {
            let header = packet.window::<20>(link.network)?;
            (header[0] >> 4 == 4).then(|| (true, Address::v4(be32(header, 12))))
        }
        ethertype::IPV6 => {
            let header = packet.window::<40>(link.network)?;
            let source = Address {
                hi: be64(header, 8),
                lo: be64(header, 16),
            };
            (header[0] >> 4 == 6).then_some((false, source))
        }
        _ => None,
    }
}

/// The IPv4 header (RFC 791).
#[inline(always)]
pub fn ipv4<P: Packet + ?Sized>(packet: &P, at: usize, lengths: Lengths) -> Option<Ip> {
    let header = packet.window::<20>(at)?;
    let header_length = (header[0] & 0x0f) as usize * 4;
    if header[0] >> 4 != 4 || header_length < 20 {
        return None;
    }
    let word = be16(header, 6);
    let more = word & 0x2000 != 0;
    let fragment_offset = (word & 0x1fff) as usize * 8;
    let fragment = more || fragment_offset != 0;
    let end = match lengths {
        Lengths::Trusted => packet.length(),
        Lengths::Checked => {
            let total = be16(header, 2) as usize;
            // bit 15 is reserved and zero
            if total < header_length || word & 0x8000 != 0 || !packet.holds(at + total) {
                return None;
            }
            if fragment {
                let payload = total - header_length;
                if fragment_offset + total > 65535 || (more && !payload.is_multiple_of(8)) {
                    return None;
                }
            }
            at + total
        }
    };
    Some(Ip {
        v4: true,
        mapped: false,
        source: Address::v4(be32(header, 12)),
        destination: Address::v4(be32(header, 16)),
        protocol: header[9],
        hop_limit: header[8],
        fragment,
        fragment_offset: fragment_offset as u32,
        fragment_id: if fragment { be16(header, 4) as u32 } else { 0 },
        transport: at + header_length,
        end,
    })
}

/// Whether it is an IPv4 address (`::ffff:0:0/96`).
#[inline(always)]
const fn is_mapped(address: &Address) -> bool {
    // one comparison: behind two, the verifier would walk on with the upper half known, and not known, to be 0
    address.hi | (address.lo >> 32 ^ 0xffff) == 0
}

/// The IPv6 header and its extension headers (RFC 8200); `None` also for an IPv4-mapped destination, which would be
/// taken for the IPv4 flows of the same numbers.
#[inline(always)]
pub fn ipv6<P: Packet + ?Sized>(packet: &P, at: usize, lengths: Lengths) -> Option<Ip> {
    let header = packet.window::<40>(at)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let end = match lengths {
        Lengths::Trusted => packet.length(),
        Lengths::Checked => {
            let payload = be16(header, 4) as usize;
            // 0 says "nothing follows" (next header 59) or "a jumbogram" (RFC 2675), which no Ethernet carries
            if payload == 0 && header[6] != NO_NEXT_HEADER {
                return None;
            }
            at + 40 + payload
        }
    };
    if !packet.holds(end) {
        return None;
    }
    let mut ip = Ip {
        v4: false,
        mapped: false,
        source: Address {
            hi: be64(header, 8),
            lo: be64(header, 16),
        },
        destination: Address {
            hi: be64(header, 24),
            lo: be64(header, 32),
        },
        protocol: header[6],
        hop_limit: header[7],
        fragment: false,
        fragment_offset: 0,
        fragment_id: 0,
        transport: at + 40,
        end,
    };
    // the form in which this crate keeps IPv4 addresses, and on no wire in earnest (RFC 4942, 2.2)
    if is_mapped(&ip.destination) {
        return None;
    }
    ip.mapped = is_mapped(&ip.source);
    if extension::is_extension(ip.protocol) {
        let walk = packet.walk_extensions(Chain {
            next: ip.protocol,
            at: ip.transport,
            end,
        })?;
        ip.protocol = walk.next;
        ip.transport = walk.at;
        if walk.fragment != 0 {
            let header = packet.window::<8>(walk.fragment)?;
            let (offset, more) = extension::fragment_position(header);
            // offset 0 and no more: an atomic fragment, complete in itself (RFC 6946)
            if more || offset != 0 {
                ip.fragment = true;
                ip.fragment_offset = offset as u32;
                ip.fragment_id = be32(header, 4);
                let part = end.wrapping_sub(walk.fragment + 8);
                if matches!(lengths, Lengths::Checked)
                    && (offset + part > 65535 || (more && !part.is_multiple_of(8)))
                {
                    return None;
                }
            }
        }
    }
    Some(ip)
}

/// What became of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It does not fit, or contradicts itself.
    Malformed,
    /// It does not fit into the first fragment (RFC 1858: a way past filters).
    Split,
}

/// The transport header of a whole packet or of a first fragment.
#[inline(always)]
pub fn transport<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Result<Transport, Broken> {
    let short = if ip.fragment {
        Broken::Split
    } else {
        Broken::Malformed
    };
    let at = ip.transport;
    if at > ip.end || at > MAX_OFFSET {
        return Err(Broken::Malformed);
    }
    let room = ip.end - at;
    let mut result = Transport {
        source_port: 0,
        port: 0,
        flags: 0,
        identifier: 0,
        header: 0,
    };
    match ip.protocol {
        protocol::TCP => {
            if room < 20 {
                return Err(short);
            }
            let header = packet.window::<20>(at).ok_or(short)?;
            let length = (header[12] >> 4) as usize * 4;
            if length < 20 {
                return Err(Broken::Malformed);
            }
            if length > room {
                return Err(short);
            }
            result.source_port = be16(header, 0);
            result.port = be16(header, 2);
            result.flags = header[13];
            result.header = length as u8;
        }
        protocol::UDP => {
            if room < 8 {
                return Err(short);
            }
            let header = packet.window::<8>(at).ok_or(short)?;
            let length = be16(header, 4) as usize;
            if length < 8 || (!ip.fragment && length > room) {
                return Err(Broken::Malformed);
            }
            result.source_port = be16(header, 0);
            result.port = be16(header, 2);
        }
        protocol::SCTP => {
            if room < 12 {
                return Err(short);
            }
            let header = packet.window::<12>(at).ok_or(short)?;
            result.source_port = be16(header, 0);
            result.port = be16(header, 2);
            result.flags = packet.window::<16>(at).map_or(0, |header| header[12]);
        }
        other if is_icmp(other, ip.v4) => {
            if room < 8 {
                return Err(short);
            }
            let header = packet.window::<8>(at).ok_or(short)?;
            result.port = header[0] as u16;
            result.flags = header[1];
            result.identifier = be16(header, 4);
        }
        _ => {}
    }
    Ok(result)
}

/// ICMP is ICMP only on its own version of IP.
#[inline(always)]
pub const fn is_icmp(protocol: u8, v4: bool) -> bool {
    protocol == if v4 { protocol::ICMP } else { protocol::ICMPV6 }
}
