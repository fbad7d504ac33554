//! Owns the oracle's reading of frames: bytes to headers, one step after the other.
//! Must never judge, and never read a byte without asking for it by `get`.

#![expect(
    missing_docs,
    reason = "fields and constants have the names of the RFCs"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    Icmpv4Slice, Icmpv6Slice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};

use super::policy::Mac;

/// The packet is not what its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The link layer: which VLAN selects the profile, and what the frame carries.
#[derive(Debug)]
pub struct Link<'a> {
    /// Source MAC; `None` where the frame ends before it does.
    pub source: Option<Mac>,
    /// The first id that is not 0 in the (whole) tags, outer before inner: an outer priority tag leaves the choice to
    /// the tag inside it, as Linux hands such a frame to the inner VLAN. `None` without one.
    pub vlan: Option<u16>,
    /// The final ethertype and what follows it.
    pub content: Result<(u16, &'a [u8]), Malformed>,
}

/// An IP packet, its transport not looked at yet.
#[derive(Debug)]
pub struct Ip<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number: after the extension headers in IPv6.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Whether the source is an IPv4-mapped address (`::ffff:0:0/96`), which is on no wire in earnest (RFC 4942, 2.2).
    pub mapped: bool,
    /// Which part of a packet this is.
    pub fragment: Fragment,
    /// What follows the headers, up to the length the IP header gives.
    pub payload: &'a [u8],
}

/// Whole packet or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// Offset 0 with more to come.
    First {
        /// Identification.
        id: u32,
    },
    /// Offset above 0.
    Later {
        /// Identification.
        id: u32,
        /// Offset in bytes.
        offset: u32,
    },
}

/// What the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// TCP with its flags byte.
    Tcp {
        source: u16,
        destination: u16,
        flags: u8,
    },
    /// UDP.
    Udp { source: u16, destination: u16 },
    /// SCTP.
    Sctp { source: u16, destination: u16 },
    /// ICMP on IPv4 or `ICMPv6` on IPv6.
    Icmp {
        kind: u8,
        code: u8,
        identifier: u16,
        quoted: &'a [u8],
    },
    /// Anything else: only its number counts.
    Other,
}

/// Why a transport header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// It goes on beyond the packet.
    Incomplete,
    /// It contradicts itself.
    Malformed,
}

/// Ethertypes below this are lengths (IEEE 802.3 clause 3.2.6): an LLC frame.
pub const FIRST_ETHERTYPE: u16 = 0x600;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Reads the Ethernet header and up to two VLAN tags.
#[must_use]
pub fn link(frame: &[u8]) -> Link<'_> {
    let source = mac_at(frame, 6);
    let Some(mut ethertype) = u16_at(frame, 12) else {
        return Link {
            source,
            vlan: None,
            content: Err(Malformed),
        };
    };
    let mut vlan = None;
    let mut at = 14;
    let mut tags = 0;
    while ethertype == 0x8100 || ethertype == 0x88a8 {
        tags += 1;
        let (Some(control), Some(next)) = (u16_at(frame, at), u16_at(frame, at + 2)) else {
            return Link {
                source,
                vlan,
                content: Err(Malformed),
            };
        };
        if tags > 2 {
            return Link {
                source,
                vlan,
                content: Err(Malformed),
            };
        }
        if vlan.is_none() && control & 0xfff != 0 {
            vlan = Some(control & 0xfff);
        }
        ethertype = next;
        at += 4;
    }
    Link {
        source,
        vlan,
        content: Ok((ethertype, frame.get(at..).unwrap_or_default())),
    }
}

fn mac_at(bytes: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(bytes.get(at..at + 6)?.try_into().ok()?))
}

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

/// Reads an ARP packet for IPv4 over Ethernet (RFC 826).
#[must_use]
pub fn arp(bytes: &[u8]) -> Option<Arp> {
    bytes
        .starts_with(&[0, 1, 8, 0, 6, 4])
        .then(|| arp_fields(bytes))?
}

/// The same, as receivers take it on Ethernet: with IEEE 802 (6) as hardware as well.
#[must_use]
pub fn arp_as_taken(bytes: &[u8]) -> Option<Arp> {
    let hardware = bytes.starts_with(&[0, 1]) || bytes.starts_with(&[0, 6]);
    (hardware && bytes.get(2..6) == Some(&[8, 0, 6, 4])).then(|| arp_fields(bytes))?
}

fn arp_fields(bytes: &[u8]) -> Option<Arp> {
    let address = |at: usize| {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    Some(Arp {
        sender_mac: mac_at(bytes, 8)?,
        sender: address(14)?,
        target: address(24)?,
    })
}

/// The source in the first header of an IP packet, whatever follows it.
#[must_use]
pub fn first_source(ethertype: u16, bytes: &[u8]) -> Option<IpAddr> {
    match (ethertype, bytes.first()? >> 4) {
        (0x0800, 4) => {
            let octets: [u8; 4] = bytes.get(..20)?.get(12..16)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        (0x86dd, 6) => {
            let octets: [u8; 16] = bytes.get(..40)?.get(8..24)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        _ => None,
    }
}

/// The target of a neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4), from what follows its first 8 bytes.
#[must_use]
pub fn target(bytes: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets))
}

/// Reads an IPv4 header.
///
/// # Errors
/// `Malformed` where lengths, version or fragment fields contradict each other.
pub fn ipv4(bytes: &[u8]) -> Result<Ip<'_>, Malformed> {
    // etherparse checks the version, ihl >= 5 and that the header is there.
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| Malformed)?;
    let header_len = header.slice().len();
    let total_len = usize::from(header.total_len());
    if total_len < header_len || total_len > bytes.len() {
        return Err(Malformed);
    }
    if header.slice()[6] & 0x80 != 0 {
        return Err(Malformed);
    }
    let payload = &bytes[header_len..total_len];
    let offset = usize::from(header.fragments_offset().value()) * 8;
    let more = header.more_fragments();
    if offset + payload.len() > 65535 - header_len || (more && !payload.len().is_multiple_of(8)) {
        return Err(Malformed);
    }
    Ok(Ip {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: header.protocol().0,
        hop_limit: header.ttl(),
        mapped: false,
        fragment: fragment(u32::from(header.identification()), offset, more),
        payload,
    })
}

/// Reads an IPv6 header and its extension headers.
///
/// # Errors
/// `Malformed` where lengths contradict each other, the chain is one the filter refuses, or the destination is an
/// IPv4-mapped address.
pub fn ipv6(bytes: &[u8]) -> Result<Ip<'_>, Malformed> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| Malformed)?;
    if header.destination_addr().to_ipv4_mapped().is_some() {
        return Err(Malformed);
    }
    let payload_len = usize::from(header.payload_length());
    let mut rest = bytes.get(40..40 + payload_len).ok_or(Malformed)?;
    let mut next = header.next_header().0;
    if payload_len == 0 && next != 59 {
        return Err(Malformed);
    }
    let mut kind = Fragment::Whole;
    let mut fragment_headers = 0;
    let mut seen = 0;
    while matches!(next, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        seen += 1;
        if seen > 8 || (next == 0 && seen > 1) {
            return Err(Malformed);
        }
        let length = match next {
            44 => {
                fragment_headers += 1;
                if fragment_headers > 1 {
                    return Err(Malformed);
                }
                let slice = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| Malformed)?;
                let offset = usize::from(slice.fragment_offset().value()) * 8;
                let more = slice.more_fragments();
                let part = rest.len() - 8;
                if offset + part > 65535 || (more && !part.is_multiple_of(8)) {
                    return Err(Malformed);
                }
                kind = fragment(slice.identification(), offset, more);
                8
            }
            // Read by hand: etherparse refuses an AH length of 0, the filter takes it as 8 bytes.
            51 => (usize::from(*rest.get(1).ok_or(Malformed)?) + 2) * 4,
            _ => {
                let slice = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| Malformed)?;
                // RFC 5095: routing header type 0 is abuse.
                if next == 43 && slice.slice().get(2) == Some(&0) {
                    return Err(Malformed);
                }
                slice.slice().len()
            }
        };
        next = *rest.first().ok_or(Malformed)?;
        rest = rest.get(length..).ok_or(Malformed)?;
        if matches!(kind, Fragment::Later { .. }) {
            break;
        }
    }
    Ok(Ip {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: next,
        hop_limit: header.hop_limit(),
        mapped: header.source_addr().to_ipv4_mapped().is_some(),
        fragment: kind,
        payload: rest,
    })
}

fn fragment(id: u32, offset: usize, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First { id },
        // 13 bits of 8-byte units: it fits.
        _ => Fragment::Later {
            id,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        },
    }
}

/// Reads the transport header of a whole packet or a first fragment.
///
/// # Errors
/// `Incomplete` when the header is cut off, `Malformed` when it is wrong in itself.
pub fn transport<'a>(ip: &Ip<'a>) -> Result<Transport<'a>, TransportError> {
    use TransportError::{Incomplete, Malformed};
    let bytes = ip.payload;
    let whole = ip.fragment == Fragment::Whole;
    match (ip.protocol, ip.source) {
        (TCP, _) => {
            let doff = usize::from(*bytes.get(12).ok_or(Incomplete)? >> 4);
            if bytes.len() < 20 || bytes.len() < doff * 4 {
                return Err(Incomplete);
            }
            let header = TcpHeaderSlice::from_slice(bytes).map_err(|_| Malformed)?;
            Ok(Transport::Tcp {
                source: header.source_port(),
                destination: header.destination_port(),
                flags: bytes[13],
            })
        }
        (UDP, _) => {
            let header = UdpHeaderSlice::from_slice(bytes).map_err(|_| Incomplete)?;
            let length = usize::from(header.length());
            // The first fragment does not hold all of what the length speaks of.
            if length < 8 || (whole && length > bytes.len()) {
                return Err(Malformed);
            }
            Ok(Transport::Udp {
                source: header.source_port(),
                destination: header.destination_port(),
            })
        }
        (SCTP, _) => {
            let header = bytes.get(..12).ok_or(Incomplete)?;
            Ok(Transport::Sctp {
                source: u16::from_be_bytes([header[0], header[1]]),
                destination: u16::from_be_bytes([header[2], header[3]]),
            })
        }
        // etherparse's slices ask for 20 bytes of a timestamp message: only the types come from them.
        (ICMP, IpAddr::V4(_)) | (ICMPV6, IpAddr::V6(_)) => {
            let header = bytes.get(..8).ok_or(Incomplete)?;
            debug_assert!(icmp_agrees(ip.source, bytes));
            Ok(Transport::Icmp {
                kind: header[0],
                code: header[1],
                identifier: u16::from_be_bytes([header[4], header[5]]),
                quoted: &bytes[8..],
            })
        }
        _ => Ok(Transport::Other),
    }
}

/// etherparse, where it reads the message at all, sees the same type.
fn icmp_agrees(source: IpAddr, bytes: &[u8]) -> bool {
    match source {
        IpAddr::V4(_) => Icmpv4Slice::from_slice(bytes).map_or(true, |s| s.type_u8() == bytes[0]),
        IpAddr::V6(_) => Icmpv6Slice::from_slice(bytes).map_or(true, |s| s.type_u8() == bytes[0]),
    }
}

/// The packet an ICMP error quotes, as far as a flow can be known by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Source address: ours.
    pub source: IpAddr,
    /// Destination address: the remote one.
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Local port; the identifier of an echo or timestamp request.
    pub source_port: u16,
    /// Remote port.
    pub destination_port: u16,
    /// False for an ICMP message that is no request: it stands for no flow.
    pub request: bool,
}

/// Reads the quoted packet: IP header and 8 bytes, no extension headers, no later fragment.
#[must_use]
pub fn quoted(v6: bool, bytes: &[u8]) -> Option<Quoted> {
    let (source, destination, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) = if v6 {
        let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
        (
            header.source_addr().into(),
            header.destination_addr().into(),
            header.next_header().0,
            &bytes[40..],
        )
    } else {
        let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        if header.fragments_offset().value() != 0 {
            return None;
        }
        (
            header.source_addr().into(),
            header.destination_addr().into(),
            header.protocol().0,
            &bytes[header.slice().len()..],
        )
    };
    if v6 && matches!(protocol, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        return None;
    }
    let eight = rest.get(..8)?;
    let first = u16::from_be_bytes([eight[0], eight[1]]);
    let second = u16::from_be_bytes([eight[2], eight[3]]);
    let identifier = u16::from_be_bytes([eight[4], eight[5]]);
    let (source_port, destination_port, request) = match (protocol, v6) {
        (TCP | UDP | SCTP, _) => (first, second, true),
        (ICMP, false) => (identifier, 0, matches!(eight[0], 8 | 13)),
        (ICMPV6, true) => (identifier, 0, eight[0] == 128),
        _ => (0, 0, true),
    };
    Some(Quoted {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        request,
    })
}
