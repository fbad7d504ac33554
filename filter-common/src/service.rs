//! The service index: one number for what a packet asks for (protocol and port, ICMP type, ethertype), so that one
//! table read gives its class whatever the number of rules.

/// IP protocol numbers (IANA) that the filter reads further than their number.
pub mod protocol {
    /// RFC 792
    pub const ICMP: u8 = 1;
    /// RFC 9776
    pub const IGMP: u8 = 2;
    /// RFC 9293
    pub const TCP: u8 = 6;
    /// RFC 768
    pub const UDP: u8 = 17;
    /// RFC 4443
    pub const ICMPV6: u8 = 58;
    /// RFC 9260
    pub const SCTP: u8 = 132;
}

/// Index of TCP port 0; port p is `TCP + p`.
pub const TCP: u32 = 0;
/// Index of UDP port 0.
pub const UDP: u32 = 65536;
/// Index of SCTP port 0.
pub const SCTP: u32 = 2 * 65536;
/// Index of ethertype 0, which stands for 802.3 frames with a length field (LLC).
pub const ETHERTYPE: u32 = 3 * 65536;
/// Index of ICMP type 0.
pub const ICMP: u32 = 4 * 65536;
/// Index of ICMPv6 type 0.
pub const ICMPV6: u32 = ICMP + 256;
/// Index of IP protocol 0, for protocols without ports.
pub const PROTOCOL: u32 = ICMPV6 + 256;
/// Length of the service table.
pub const SERVICES: usize = PROTOCOL as usize + 256;

/// The index of a transport; `port` is the destination port, or the ICMP type.
#[inline(always)]
pub const fn index(protocol: u8, v4: bool, port: u16) -> u32 {
    match protocol {
        protocol::TCP => TCP + port as u32,
        protocol::UDP => UDP + port as u32,
        protocol::SCTP => SCTP + port as u32,
        protocol::ICMP if v4 => ICMP + (port as u32 & 0xff),
        protocol::ICMPV6 if !v4 => ICMPV6 + (port as u32 & 0xff),
        other => PROTOCOL + other as u32,
    }
}
