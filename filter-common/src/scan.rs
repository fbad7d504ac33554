//! Scans, as far as a single packet tells: which refused packets are probes, and of which pattern.
//! Names are an interface to scripts: add, never rename.

use crate::flow::tcp;
use crate::layout::{Address, ScanCell, hash_text};
use crate::limits::CELL_WORDS;
use crate::packet::{Packet, be16, be32, be64};
use crate::parse::{self, Ip, Link, Transport};
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

/// A probe: a refused packet that looks for something. One word, since a function of its own reports it; what else that
/// wants it reads in the headers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it looks like: [`Pattern`].
    pub pattern: u8,
    /// What it looks for: the destination port, the protocol number for a scan of those, 0 for ICMP.
    pub port: u16,
    /// IPv4 or IPv6.
    pub v4: bool,
    /// Where the network header begins.
    pub network: u8,
    /// Where the transport header begins.
    pub transport: u16,
    /// Slot of the interface.
    pub slot: u8,
}

impl Probe {
    /// As a word.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        (self.transport as u64) << 48
            | (self.port as u64) << 32
            | (self.network as u64) << 24
            | (self.slot as u64) << 16
            | (self.v4 as u64) << 8
            | self.pattern as u64
    }

    /// From a word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            pattern: word as u8,
            port: (word >> 32) as u16,
            v4: word >> 8 & 1 != 0,
            network: (word >> 24) as u8,
            // a mask, so that the verifier sees the bound on the number that is used
            transport: (word >> 48) as u16 & parse::MAX_OFFSET as u16,
            slot: (word >> 16) as u8,
        }
    }

    /// What a refused packet is; `None` if it is no probe. None are what others can be made to send to us (answers to forged
    /// packets: SYN and ACK, RST, ICMP errors and replies), and what may be a late answer to this host.
    ///
    /// `local_ports`: first and last of this host's ephemeral ports, 16 bits each.
    #[inline(always)]
    pub fn of(refused: &Refused<'_>, slot: u8, local_ports: u32) -> Option<Self> {
        let Refused {
            reason,
            link,
            ip,
            transport,
        } = refused;
        if !counts(*reason) {
            return None;
        }
        let (pattern, port) = if matches!(reason, Reason::DropProtocol) {
            (Pattern::Protocol, ip.protocol as u16)
        } else if parse::is_icmp(ip.protocol, ip.v4) {
            (of_icmp(ip.v4, transport.port)?, 0)
        } else {
            (
                pattern(ip.protocol, transport, local_ports)?,
                transport.port,
            )
        };
        Some(Self {
            pattern: pattern as u8,
            port,
            v4: ip.v4,
            network: link.network as u8,
            transport: ip.transport as u16,
            slot,
        })
    }
}

/// A packet that was refused, as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Why.
    pub reason: Reason,
    /// Its link layer.
    pub link: &'a Link,
    /// Its network layer.
    pub ip: &'a Ip,
    /// Its transport layer.
    pub transport: &'a Transport,
}

/// Whether packets that are refused for this reason may be probes.
#[inline(always)]
const fn counts(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DropProtocol | Reason::DropPort | Reason::DropSource | Reason::DropIcmp
    )
}

/// A target as far as repetitions are told apart: host, port and pattern. The cell's bitmap is small, so `seed` is
/// secret: who knew which ports share a bit could scan those unseen.
#[inline(always)]
pub const fn target(destination: &Address, probe: &Probe, seed: u64) -> u64 {
    let port = (probe.port as u64) << 8 | probe.pattern as u64;
    let host = destination.lo ^ destination.hi.rotate_left(32);
    hash(host ^ port.rotate_left(40), seed)
}

/// The pattern of what has ports.
#[inline(always)]
fn pattern(protocol: u8, transport: &Transport, local_ports: u32) -> Option<Pattern> {
    let Transport {
        source_port,
        port,
        flags,
        header,
        ..
    } = *transport;
    let is_local = is_within(port, local_ports);
    match protocol {
        protocol::TCP => of_tcp(flags, header, is_local),
        protocol::UDP if is_local && (source_port as u32) < local_ports >> 16 => None,
        protocol::UDP if matches!(source_port, DNS | NTP | QUIC) && port >= FIRST_USER_PORT => None,
        protocol::UDP if port >= TRACED.0 && port <= TRACED.1 => None,
        protocol::UDP => Some(Pattern::Udp),
        protocol::SCTP => match flags {
            1 => Some(Pattern::SctpInit),
            10 => Some(Pattern::SctpCookie),
            _ => None,
        },
        _ => None,
    }
}

#[inline(always)]
const fn of_icmp(v4: bool, kind: u16) -> Option<Pattern> {
    match (v4, kind) {
        (true, icmp::ECHO_REQUEST) | (false, icmp::V6_ECHO_REQUEST) => Some(Pattern::IcmpEcho),
        (true, icmp::TIMESTAMP) => Some(Pattern::IcmpTimestamp),
        (true, icmp::ADDRESS_MASK) => Some(Pattern::IcmpMask),
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
const fn of_tcp(flags: u8, header: u8, is_local: bool) -> Option<Pattern> {
    const FIN: u8 = tcp::FIN;
    const SYN: u8 = tcp::SYN;
    const RST: u8 = tcp::RST;
    const ACK: u8 = tcp::ACK;
    const PSH: u8 = tcp::PSH;
    const URG: u8 = tcp::URG;
    // explicit congestion notification (RFC 3168) goes with any
    let flags = flags & (FIN | SYN | RST | ACK | PSH | URG);
    match flags {
        SYN if header <= PLAIN_SYN => return Some(Pattern::Syn),
        SYN => return Some(Pattern::Connect),
        FIN => return Some(Pattern::Fin),
        0 => return Some(Pattern::Null),
        _ if flags == FIN | PSH | URG => return Some(Pattern::Xmas),
        _ => {}
    }
    // two or more of the three: the lowest bit taken off, one is left
    let one = flags & (SYN | FIN | RST);
    if one & one.wrapping_sub(1) != 0 {
        return Some(Pattern::IllegalFlags);
    }
    if flags & RST != 0 || flags & (SYN | ACK) == SYN | ACK {
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
pub fn hints<P: Packet + ?Sized>(packet: &P, probe: &Probe) -> u8 {
    /// MSS 1460 (RFC 9293, 3.2).
    const MSS: u32 = 0x0204_05b4;
    const ZMAP_ID: u16 = 54321;
    let mut hints = 0;
    let is_syn = probe.pattern == Pattern::Syn as u8;
    if probe.v4
        && let Some(header) = packet.window::<20>(probe.network as usize)
    {
        let id = be16(header, 4);
        let destination = be32(header, 16);
        if id == ZMAP_ID {
            hints |= hint::ZMAP;
        }
        if is_syn && let Some(header) = packet.window::<8>(probe.transport as usize) {
            let derived = destination ^ be16(header, 2) as u32 ^ be32(header, 4);
            if derived as u16 == id {
                hints |= hint::MASSCAN;
            }
        }
    }
    if is_syn
        && let Some(header) = packet.window::<24>(probe.transport as usize)
        && header[12] >> 4 == 6
        && be32(header, 20) == MSS
        && matches!(be16(header, 14), 1024 | 2048 | 3072 | 4096)
    {
        hints |= hint::NMAP;
    }
    hints
}

/// The source port; 0 without ports.
#[inline(always)]
pub fn source_port<P: Packet + ?Sized>(packet: &P, probe: &Probe) -> u16 {
    if probe.pattern >= Pattern::Protocol as u8 {
        return 0;
    }
    packet
        .window::<8>(probe.transport as usize)
        .map_or(0, |header| be16(header, 0))
}

const _: () = assert!(
    Pattern::Protocol as usize + 4 == Pattern::ALL.len(),
    "what has no ports comes last"
);

/// What only the headers say: source, destination, TTL or hop limit.
#[inline(always)]
pub fn addresses<P: Packet + ?Sized>(packet: &P, probe: &Probe) -> Option<(Address, Address, u8)> {
    let network = probe.network as usize;
    if probe.v4 {
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

/// The clock of the cells: spans of 0.8 s, out of the daemon's count of tenths of a second, which costs no call. Without a
/// daemon it stands still; then nobody is told anyway.
#[inline(always)]
pub const fn spans(epoch: u64) -> u32 {
    (epoch >> 3) as u32
}

/// [`spans`] after which a cell forgets which targets it has seen of its source: a minute.
pub const CELL_WINDOW: u32 = 75;
/// [`spans`] of silence after which any other source takes a cell over.
pub const CELL_IDLE: u32 = 12;
/// Packets that a cell remembers of its source, at most: what others have to send to take it over.
pub const CELL_WEIGHT: u32 = 255;
/// From this weight on a source has the larger budget of reports.
pub const EARNED: u32 = 4;

/// Servers that everybody asks. Resolvers and NAT ask them from any port but the system's, not only from ephemeral ones.
const DNS: u16 = 53;
const NTP: u16 = 123;
const QUIC: u16 = 443;
/// The first port that is not the system's (RFC 6335, 6).
const FIRST_USER_PORT: u16 = 1024;

/// First and last port that traceroute asks, one after the other: 30 hops, three times each (its manual page). A host that
/// refuses them is asked up to 90, and no service uses them.
const TRACED: (u16, u16) = (33434, 33523);

/// Bits of a cell's bitmap.
pub const CELL_BITS: u32 = CELL_WORDS as u32 * 64;

/// What a packet is to the cell of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// The cell is its source's.
    Own,
    /// The cell has just become its source's.
    First,
    /// The cell belongs to another source.
    Foreign,
}

/// Counts a packet's [`hash`] for or against whom the cell belongs to: a cell belongs to whom most of its packets come
/// from (Boyer and Moore's majority vote, by cell: Tang et al., "MV-Sketch", INFOCOM 2019), so that sources that come
/// once displace none that comes often.
///
/// The head is all that a flood of random sources touches, so it is one word: 32 bits of the owner's hash, 16 of
/// [`spans`] at its last packet, 16 of weight (how many packets of others it takes until the cell is theirs).
#[inline(always)]
pub fn vote(head: &mut u64, hash: u64, now: u32) -> Vote {
    if owns(*head, hash) {
        return support(head, hash, now);
    }
    match challenge(head, hash, now) {
        0 => Vote::First,
        _ => Vote::Foreign,
    }
}

/// Whether the cell with this head belongs to the source with this [`hash`].
#[inline(always)]
pub const fn owns(head: u64, hash: u64) -> bool {
    (head ^ hash << 32) >> 32 == 0
}

/// A cell's head as its owner's packet leaves it, but for the weight.
#[inline(always)]
const fn owned(hash: u64, now: u32) -> u64 {
    hash << 32 | (now as u64 & 0xffff) << 16
}

/// Counts a packet for the cell's owner.
#[inline(always)]
pub fn support(head: &mut u64, hash: u64, now: u32) -> Vote {
    let weight = weight(*head);
    let more = if weight < CELL_WEIGHT {
        weight + 1
    } else {
        weight
    };
    *head = owned(hash, now) | more as u64;
    Vote::Own
}

/// Counts a packet of another source against the cell's owner. 0 if the cell is that source's now.
///
/// Without a branch: no processor can tell which way random sources take it.
#[inline(always)]
pub fn challenge(head: &mut u64, hash: u64, now: u32) -> u64 {
    /// Above what is added up.
    const CARRY: u64 = 1 << 16;
    let silence = (now as u16).wrapping_sub((*head >> 16) as u16) as u64;
    let has_weight = weight(*head) as u64 + (CARRY - 1);
    let is_awake = CARRY + CELL_IDLE as u64 - silence;
    let keeps = (has_weight & is_awake & CARRY) >> 16;
    let fresh = owned(hash, now) | 1;
    *head = fresh.wrapping_add((*head - keeps).wrapping_sub(fresh).wrapping_mul(keeps));
    keeps
}

/// The weight in a cell's head.
#[inline(always)]
pub const fn weight(head: u64) -> u32 {
    head as u32 & 0xffff
}

/// Whether a target is new in its source's cell. The cell still holds the owner before at the owner's second packet:
/// for the first it was not touched.
#[inline(always)]
pub fn visit(cell: &mut ScanCell, key: u64, target: u64, now: u32, vote: Vote) -> bool {
    if cell.key != key {
        cell.key = key;
        cell.packets = matches!(vote, Vote::Own) as u32;
        cell.since = now.wrapping_sub(CELL_WINDOW + 1);
    }
    cell.packets = cell.packets.saturating_add(1);
    // not a branch that zeroes: that would become a call
    let keep = if now.wrapping_sub(cell.since) > CELL_WINDOW {
        cell.since = now;
        0
    } else {
        u64::MAX
    };
    for seen in &mut cell.seen {
        *seen &= keep;
    }
    cell.seen[word(target)] >> (target & 63) & 1 == 0
}

/// Remembers that a new target was reported; how many packets to report with it.
#[inline(always)]
pub fn mark(cell: &mut ScanCell, target: u64) -> u32 {
    cell.seen[word(target)] |= 1 << (target & 63);
    core::mem::replace(&mut cell.packets, 0)
}

/// How many bits of the bitmap are set. Of the next targets that the source has not asked yet, that part of
/// [`CELL_BITS`] finds its bit set by another, and is taken for known.
#[inline(always)]
pub fn filled(cell: &ScanCell) -> u32 {
    let mut bits = 0;
    for word in &cell.seen {
        bits += word.count_ones();
    }
    bits
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
        packets: 0,
        seen: [0; CELL_WORDS],
        zero: [0; 2],
    };

    fn report(cell: &mut ScanCell, key: u64, target: u64, now: u32) -> Option<u32> {
        visit(cell, key, target, now, Vote::First).then(|| mark(cell, target))
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
    fn a_first_packet_that_was_shed_counts_with_the_second() {
        let mut cell = NOBODY;
        assert!(visit(&mut cell, 7, 100, 5, Vote::Own));
        assert_eq!(mark(&mut cell, 100), 2);
    }

    #[test]
    fn who_comes_often_keeps_the_cell() {
        let mut head = 0;
        for packet in 0..1000 {
            // three of four packets are of others, each of which comes once
            let hash = if packet % 4 == 0 { 7 } else { 1000 + packet };
            vote(&mut head, hash, 1);
        }
        let mut held = 0;
        for packet in 0..1000 {
            let hash = if packet % 2 == 0 { 7 } else { 1000 + packet };
            vote(&mut head, hash, 1);
            held += u32::from(head >> 32 == 7);
        }
        assert!(held > 900, "{held}");
    }

    #[test]
    fn silence_gives_a_cell_away() {
        // the clock's 16 bits run over between
        for start in [1, 0xfffd] {
            let mut head = 0;
            assert_eq!(vote(&mut head, 7, start), Vote::First);
            for _ in 0..300 {
                assert_eq!(vote(&mut head, 7, start), Vote::Own);
            }
            assert_eq!(weight(head), CELL_WEIGHT);
            assert_eq!(vote(&mut head, 8, start + CELL_IDLE), Vote::Foreign);
            assert_eq!(vote(&mut head, 8, start + 1 + CELL_IDLE), Vote::First);
            assert_eq!((head >> 32, weight(head)), (8, 1));
        }
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
