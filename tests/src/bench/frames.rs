//! The frames that are measured: the smallest that say what they have to.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::{Ethernet2Header, PacketBuilder, PacketBuilderStep};

/// The host that is protected.
pub const HOST4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The same.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10);
/// Whoever sends to it.
pub const PEER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// The same.
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x1450, 0x4001, 0, 0, 0, 0, 0x77);
/// The peer's port.
pub const PEER_PORT: u16 = 40000;
/// Bytes of an Ethernet frame without its checksum, at least.
const SMALLEST: usize = 60;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

fn ethernet() -> PacketBuilderStep<Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(SMALLEST), 0);
    frame
}

/// A TCP segment without data from the peer: a SYN, or else an ACK.
pub fn tcp(version: Version, source_port: u16, port: u16, syn: bool) -> Result<Vec<u8>> {
    let builder = match version {
        Version::V4 => ethernet().ipv4(PEER4.octets(), HOST4.octets(), 64),
        Version::V6 => ethernet().ipv6(PEER6.octets(), HOST6.octets(), 64),
    }
    .tcp(source_port, port, 1000, 64240);
    let builder = if syn { builder.syn() } else { builder.ack(1) };
    let mut frame = Vec::new();
    builder.write(&mut frame, &[])?;
    Ok(padded(frame))
}

/// A UDP datagram from the peer.
pub fn udp(version: Version, source_port: u16, port: u16) -> Result<Vec<u8>> {
    let builder = match version {
        Version::V4 => ethernet().ipv4(PEER4.octets(), HOST4.octets(), 64),
        Version::V6 => ethernet().ipv6(PEER6.octets(), HOST6.octets(), 64),
    }
    .udp(source_port, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 16])?;
    Ok(padded(frame))
}

/// Gives an untagged IPv4 frame another source (the checksum is left: the filter does not look at it).
pub fn set_source(frame: &mut [u8], source: Ipv4Addr) {
    if let Some(field) = frame.get_mut(26..30) {
        field.copy_from_slice(&source.octets());
    }
}

/// The same frame in a VLAN (IEEE 802.1Q).
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    const ADDRESSES: usize = 12;
    let (addresses, rest) = frame.split_at(ADDRESSES.min(frame.len()));
    let [high, low] = vlan.to_be_bytes();
    [addresses, &[0x81, 0x00, high, low], rest].concat()
}

/// Makes an untagged IPv4 frame a fragment that is not the first of its packet.
pub fn make_later_fragment(frame: &mut [u8]) {
    // in units of 8 bytes; none follows
    const OFFSET: u16 = 185;
    if let Some(field) = frame.get_mut(20..22) {
        field.copy_from_slice(&OFFSET.to_be_bytes());
    }
}
