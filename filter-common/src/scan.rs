//! Scans, as far as a single packet tells: which refused packets are probes, and of which pattern.
//! Names are an interface to scripts: add, never rename.

use crate::flow::tcp;
use crate::layout::{Address, ScanCell, hash_text};
use crate::limits::CELL_WORDS;
use crate::packet::{Packet, be16, be32, be64};
use crate::parse::Transport;
use crate::quote::icmp;
use crate::reason::Reason;
use crate::service::protocol;

macro_rules! patterns {
    ($($variant:ident $name:literal $text:literal,)*) => {
        /// What a probe looks like. The names are those of the field (nmap's reference guide, chapter "Port Scanning Techniques").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Pattern { $(#[doc = $text] $variant,)* }

        impl Pattern {
            /// Every pattern, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that counters, records and metrics show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

patterns! {
    Syn "syn" "TCP SYN with few options, as programs send that make their own packets (nmap -sS).",
    Connect "connect" "TCP SYN with the options of an operating system (nmap -sT).",
    Fin "fin" "TCP FIN without ACK (nmap -sF).",
    Null "null" "TCP without flags (nmap -sN).",
    Xmas "xmas" "TCP FIN, PSH and URG without ACK (nmap -sX).",
    Maimon "maimon" "TCP FIN and ACK of no connection (nmap -sM).",
    Ack "ack" "TCP ACK of no connection (nmap -sA and -sW).",
    IllegalFlags "illegal_flags" "TCP flags that no connection has (SYN and FIN, SYN and RST, PSH alone ...).",
    Udp "udp" "UDP (nmap -sU).",
    SctpInit "sctp_init" "SCTP INIT (nmap -sY).",
    SctpCookie "sctp_cookie" "SCTP COOKIE-ECHO (nmap -sZ).",
    Protocol "protocol" "An IP protocol that no rule lets in (nmap -sO).",
    IcmpEcho "icmp_echo" "ICMP or ICMPv6 echo request (nmap -PE).",
    IcmpTimestamp "icmp_timestamp" "ICMP timestamp request (nmap -PP).",
    IcmpMask "icmp_mask" "ICMP address mask request (nmap -PM).",
}

/// Slots for patterns in a counter array.
pub const PATTERN_SLOTS: usize = 32;

/// Hash of all names, in order.
pub const NAMES_HASH: u64 = {
    let mut hash = 0;
    let mut index = 0;
    while index < Pattern::ALL.len() {
        hash = hash_text(hash, Pattern::ALL[index].name());
        index += 1;
    }
    hash
};

const _: () = assert!(Pattern::ALL.len() <= PATTERN_SLOTS);

impl Pattern {
    /// The pattern with this index.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

/// Bits of a probe's hints: habits of well-known programs. A hint is no proof, anybody can send the same.
pub mod hint {
    /// The fixed IP identification of zmap (54321).
    pub const ZMAP: u8 = 1 << 0;
    /// An IP identification that masscan derives from destination, port and sequence number.
    pub const MASSCAN: u8 = 1 << 1;
    /// nmap's SYN: window of 1 to 4 KiB, one option, MSS 1460.
    pub const NMAP: u8 = 1 << 2;
    /// Bit and name.
    pub const NAMES: &[(u8, &str)] = &[(ZMAP, "zmap"), (MASSCAN, "masscan"), (NMAP, "nmap")];
}

/// A source as the tables of scans and blocks know it: an IPv4 address, the first half of an IPv6 address (whoever has
/// a /64 has all of it), and the second half of a link-local one, since all neighbours share the first.
#[inline(always)]
pub const fn key(address: &Address) -> u64 {
    if address.hi == 0 || address.hi >> 54 == LINK_LOCAL {
        address.lo
    } else {
        address.hi
    }
}

/// What the table of blocks knows a /64 by: the first half of its addresses, at a place where no address has one.
#[inline(always)]
pub const fn network(address: &Address) -> Address {
    Address {
        hi: 0,
        lo: address.hi,
    }
}

/// The first ten bits of `fe80::/10`.
const LINK_LOCAL: u64 = 0x3fa;

/// Where a key stands in a table: a multiplication each way (Stafford's variant 13 of the finaliser of MurmurHash3).
/// `seed` is secret, so that nobody can choose sources that meet.
#[inline(always)]
pub const fn hash(key: u64, seed: u64) -> u64 {
    let mut hash = key ^ seed;
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// What is left of a refused packet when it is accounted: four words, since that is done by a function of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// [`key`] of the source.
    pub source: u64,
    /// [`mixed`] destination.
    pub destination: u64,
    /// Why it was refused.
    pub reason: u8,
    /// IPv4 or IPv6.
    pub v4: bool,
    /// IP protocol.
    pub protocol: u8,
    /// See [`Transport`].
    pub transport: Transport,
    /// Where the network header begins, in units of two bytes.
    pub network: u8,
    /// Where the transport header begins.
    pub at: u16,
    /// Slot of the interface.
    pub slot: u8,
}

impl Refused {
    /// As words.
    #[inline(always)]
    pub const fn pack(&self) -> [u64; 4] {
        let transport = &self.transport;
        [
            self.source,
            self.destination,
            (transport.source_port as u64) << 48
                | (transport.port as u64) << 32
                | (transport.flags as u64) << 24
                | (transport.header as u64) << 16
                | (self.protocol as u64) << 8
                | self.reason as u64,
            (self.at as u64) << 24
                | (self.network as u64) << 16
                | (self.slot as u64) << 8
                | self.v4 as u64,
        ]
    }

    /// From words.
    #[inline(always)]
    pub const fn unpack([source, destination, packet, place]: [u64; 4]) -> Self {
        Self {
            source,
            destination,
            reason: packet as u8,
            v4: place & 1 != 0,
            protocol: (packet >> 8) as u8,
            transport: Transport {
                source_port: (packet >> 48) as u16,
                port: (packet >> 32) as u16,
                flags: (packet >> 24) as u8,
                identifier: 0,
                header: (packet >> 16) as u8,
            },
            network: (place >> 16) as u8,
            at: (place >> 24) as u16,
            slot: (place >> 8) as u8,
        }
    }
}

/// A destination in one word, for [`target`].
#[inline(always)]
pub const fn mixed(destination: &Address) -> u64 {
    destination.lo ^ destination.hi.rotate_left(32)
}

/// A target as far as repetitions are told apart: host, port and pattern. The cell's bitmap is small, so `seed` is
/// secret: who knew which ports share a bit could scan those unseen.
#[inline(always)]
pub const fn target(refused: &Refused, pattern: Pattern, seed: u64) -> u64 {
    let port = (port(refused, pattern) as u64) << 8 | pattern as u64;
    hash(refused.destination ^ port.rotate_left(40), seed)
}

/// The port that is probed: the protocol number for a scan of those; 0 for ICMP.
#[inline(always)]
pub const fn port(refused: &Refused, pattern: Pattern) -> u16 {
    match pattern {
        Pattern::Protocol => refused.protocol as u16,
        Pattern::IcmpEcho | Pattern::IcmpTimestamp | Pattern::IcmpMask => 0,
        _ => refused.transport.port,
    }
}

/// The pattern of a refused packet, if it is a probe. None are what others can be made to send to us (answers to
/// forged packets: SYN and ACK, RST, ICMP errors and replies), and what may be a late answer to this host.
///
/// `local_ports`: first and last of this host's ephemeral ports, 16 bits each.
#[inline(always)]
pub fn pattern<P: Packet + ?Sized>(
    packet: &P,
    refused: &Refused,
    local_ports: u32,
) -> Option<Pattern> {
    const PROTOCOL: u8 = Reason::DropProtocol as u8;
    const PORT: u8 = Reason::DropPort as u8;
    const SOURCE: u8 = Reason::DropSource as u8;
    const ICMP: u8 = Reason::DropIcmp as u8;
    match refused.reason {
        PROTOCOL => return Some(Pattern::Protocol),
        PORT | SOURCE | ICMP => {}
        _ => return None,
    }
    let transport = &refused.transport;
    let is_local = is_within(transport.port, local_ports);
    match refused.protocol {
        protocol::TCP => of_tcp(transport, is_local),
        protocol::UDP => {
            let answers = is_local && (transport.source_port as u32) < local_ports >> 16;
            (!answers).then_some(Pattern::Udp)
        }
        protocol::SCTP => match packet.window::<16>(refused.at as usize)?[12] {
            1 => Some(Pattern::SctpInit),
            10 => Some(Pattern::SctpCookie),
            _ => None,
        },
        protocol::ICMP | protocol::ICMPV6 => match (refused.v4, transport.port) {
            (true, icmp::ECHO_REQUEST) | (false, icmp::V6_ECHO_REQUEST) => Some(Pattern::IcmpEcho),
            (true, icmp::TIMESTAMP) => Some(Pattern::IcmpTimestamp),
            (true, icmp::ADDRESS_MASK) => Some(Pattern::IcmpMask),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a port is one of this host's ephemeral ports.
#[inline(always)]
pub const fn is_within(port: u16, local_ports: u32) -> bool {
    let port = port as u32;
    port >= local_ports >> 16 && port <= local_ports & 0xffff
}

/// The bytes of a SYN without options, or with one for the segment size; operating systems send more.
const PLAIN_SYN: u8 = 24;

#[inline(always)]
fn of_tcp(transport: &Transport, is_local: bool) -> Option<Pattern> {
    const FIN: u8 = tcp::FIN;
    const SYN: u8 = tcp::SYN;
    const RST: u8 = tcp::RST;
    const ACK: u8 = tcp::ACK;
    const PSH: u8 = tcp::PSH;
    const URG: u8 = tcp::URG;
    // explicit congestion notification (RFC 3168) goes with any
    let flags = transport.flags & (FIN | SYN | RST | ACK | PSH | URG);
    match flags {
        SYN if transport.header <= PLAIN_SYN => return Some(Pattern::Syn),
        SYN => return Some(Pattern::Connect),
        FIN => return Some(Pattern::Fin),
        0 => return Some(Pattern::Null),
        _ if flags == FIN | PSH | URG => return Some(Pattern::Xmas),
        _ => {}
    }
    let both = |bits: u8| flags & bits == bits;
    if both(SYN | FIN) || both(SYN | RST) || both(FIN | RST) {
        return Some(Pattern::IllegalFlags);
    }
    if flags & RST != 0 || both(SYN | ACK) {
        return None;
    }
    if flags & ACK == 0 {
        return Some(Pattern::IllegalFlags);
    }
    if is_local {
        None
    } else if flags & FIN != 0 {
        Some(Pattern::Maimon)
    } else {
        Some(Pattern::Ack)
    }
}

/// What well-known programs do alike, see [`hint`].
#[inline(always)]
pub fn hints<P: Packet + ?Sized>(packet: &P, refused: &Refused, pattern: Pattern) -> u8 {
    /// MSS 1460 (RFC 9293, 3.2).
    const MSS: u32 = 0x0204_05b4;
    const ZMAP_ID: u16 = 54321;
    let mut hints = 0;
    let is_syn = matches!(pattern, Pattern::Syn);
    if refused.v4
        && let Some(header) = packet.window::<20>(refused.network as usize * 2)
    {
        let id = be16(header, 4);
        let destination = be32(header, 16);
        if id == ZMAP_ID {
            hints |= hint::ZMAP;
        }
        if is_syn && let Some(header) = packet.window::<8>(refused.at as usize) {
            let derived = destination ^ be16(header, 2) as u32 ^ be32(header, 4);
            if derived as u16 == id {
                hints |= hint::MASSCAN;
            }
        }
    }
    if is_syn
        && let Some(header) = packet.window::<24>(refused.at as usize)
        && header[12] >> 4 == 6
        && be32(header, 20) == MSS
        && matches!(be16(header, 14), 1024 | 2048 | 3072 | 4096)
    {
        hints |= hint::NMAP;
    }
    hints
}

/// What only the headers say: source, destination, TTL or hop limit.
#[inline(always)]
pub fn addresses<P: Packet + ?Sized>(
    packet: &P,
    refused: &Refused,
) -> Option<(Address, Address, u8)> {
    let network = refused.network as usize * 2;
    if refused.v4 {
        let header = packet.window::<20>(network)?;
        Some((
            Address::v4(be32(header, 12)),
            Address::v4(be32(header, 16)),
            header[8],
        ))
    } else {
        let header = packet.window::<40>(network)?;
        let address = |at| Address {
            hi: be64(header, at),
            lo: be64(header, at + 8),
        };
        Some((address(8), address(24), header[7]))
    }
}

/// Seconds, roughly: nanoseconds shifted. A division would cost more than all the rest.
#[inline(always)]
pub const fn coarse_seconds(now: u64) -> u32 {
    (now >> 30) as u32
}

/// [`coarse_seconds`] after which a cell forgets which targets it has seen of its source.
pub const CELL_WINDOW: u32 = 56;
/// [`coarse_seconds`] of silence after which any other source takes a cell over.
pub const CELL_IDLE: u32 = 9;
/// Packets that a cell remembers of its source, at most: what others have to send to take it over.
pub const CELL_WEIGHT: u32 = 255;
/// From this weight on a source has the larger budget of reports.
pub const EARNED: u32 = 4;

/// What a packet is to its source's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The cell's source, and a target that was reported already.
    Known,
    /// The cell's source, and a target that was not.
    New,
    /// The cell belongs to another source.
    Foreign,
}

/// Counts a packet of the source `key` for its cell. A cell belongs to whom most of its packets come from (Boyer and
/// Moore's majority vote, by cell: Tang et al., "MV-Sketch", INFOCOM 2019), so that sources that come once displace none
/// that comes often.
#[inline(always)]
pub fn visit(cell: &mut ScanCell, key: u64, target: u64, now: u32) -> Visit {
    if cell.key != key {
        if cell.weight != 0 && now.wrapping_sub(cell.last) <= CELL_IDLE {
            cell.weight -= 1;
            return Visit::Foreign;
        }
        cell.key = key;
        cell.weight = 0;
        cell.packets = 0;
        cell.since = now.wrapping_sub(CELL_WINDOW + 1);
    }
    cell.last = now;
    cell.packets = cell.packets.saturating_add(1);
    if cell.weight < CELL_WEIGHT {
        cell.weight += 1;
    }
    if now.wrapping_sub(cell.since) > CELL_WINDOW {
        cell.since = now;
        cell.seen = [0; CELL_WORDS];
    }
    if cell.seen[word(target)] >> (target & 63) & 1 != 0 {
        Visit::Known
    } else {
        Visit::New
    }
}

/// Remembers that the target of [`Visit::New`] was reported; how many packets to report with it.
#[inline(always)]
pub fn mark(cell: &mut ScanCell, target: u64) -> u32 {
    cell.seen[word(target)] |= 1 << (target & 63);
    core::mem::replace(&mut cell.packets, 0)
}

#[inline(always)]
const fn word(target: u64) -> usize {
    (target >> 6) as usize & (CELL_WORDS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: ScanCell = ScanCell {
        key: 0,
        since: 0,
        last: 0,
        weight: 0,
        packets: 0,
        seen: [0; CELL_WORDS],
        zero: 0,
    };

    fn report(cell: &mut ScanCell, key: u64, target: u64, now: u32) -> Option<u32> {
        match visit(cell, key, target, now) {
            Visit::New => Some(mark(cell, target)),
            Visit::Known => None,
            Visit::Foreign => Some(1),
        }
    }

    #[test]
    fn a_target_is_reported_once_in_a_window() {
        let mut cell = NOBODY;
        let now = 5;
        assert_eq!(report(&mut cell, 7, 100, now), Some(1));
        for _ in 0..9 {
            assert_eq!(report(&mut cell, 7, 100, now), None);
        }
        assert_eq!(report(&mut cell, 7, 101, now), Some(10), "with all between");
        assert_eq!(report(&mut cell, 7, 100, now + CELL_WINDOW), None);
        assert_eq!(
            report(&mut cell, 7, 100, now + CELL_WINDOW + 1),
            Some(2),
            "again in the next"
        );
    }

    #[test]
    fn who_comes_often_keeps_the_cell() {
        let mut cell = NOBODY;
        for packet in 0..1000 {
            // three of four packets are of others, each of which comes once
            let key = if packet % 4 == 0 { 7 } else { 1000 + packet };
            visit(&mut cell, key, packet, 1);
        }
        let mut held = 0;
        for packet in 0..1000 {
            let key = if packet % 2 == 0 { 7 } else { 1000 + packet };
            visit(&mut cell, key, packet, 1);
            held += u32::from(cell.key == 7);
        }
        assert!(held > 900, "{held}");
    }

    #[test]
    fn silence_gives_a_cell_away() {
        let mut cell = NOBODY;
        for _ in 0..300 {
            visit(&mut cell, 7, 1, 1);
        }
        assert_eq!(cell.weight, CELL_WEIGHT);
        assert_eq!(visit(&mut cell, 8, 1, 1 + CELL_IDLE), Visit::Foreign);
        assert_eq!(visit(&mut cell, 8, 1, 2 + CELL_IDLE), Visit::New);
        assert_eq!((cell.key, cell.weight, cell.packets), (8, 1, 1));
    }

    #[test]
    fn neighbours_share_a_key_only_where_one_party_has_them_all() {
        let v6 = |text: &str| Address::v6(u128::from(text.parse::<std::net::Ipv6Addr>().unwrap()));
        assert_eq!(key(&v6("2001:db8::1")), key(&v6("2001:db8::2")));
        assert_ne!(key(&v6("2001:db8::1")), key(&v6("2001:db8:0:1::1")));
        assert_ne!(key(&v6("fe80::1")), key(&v6("fe80::2")));
        assert_ne!(key(&Address::v4(1)), key(&Address::v4(2)));
    }
}
