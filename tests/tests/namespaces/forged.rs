//! The forged frames of the bypass list, under a policy that allows tcp/443 and nothing else.
//!
//! Owns what each frame is and whether policy allows it. Each way of wrapping appears twice, around
//! the allowed port and around a refused one, so that dropping everything is no way to pass.

use edgefilter_tests::netns::frames::{
    ACK, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, FIN, SYN, TCP, UDP,
};
use edgefilter_tests::netns::{Ends, Family};

const OPEN: u16 = 443;
const CLOSED: u16 = 22;
const MORE_FRAGMENTS: u16 = 0x2000;

#[derive(Clone, Debug)]
pub struct Forged {
    pub name: String,
    pub allowed: bool,
    pub frame: Vec<u8>,
}

fn forged(name: impl Into<String>, allowed: bool, frame: Vec<u8>) -> Forged {
    Forged {
        name: name.into(),
        allowed,
        frame,
    }
}

/// A SYN to `port`, in both families.
fn syn(ends: &Ends, family: Family, port: u16, data: &[u8]) -> Vec<u8> {
    ends.tcp(family, (40_000, port), SYN, data)
}

fn v4(ends: &Ends, packet: &[u8]) -> Vec<u8> {
    ends.ethernet(0, &[], ETHERTYPE_IPV4, packet)
}

fn v6(ends: &Ends, packet: &[u8]) -> Vec<u8> {
    ends.ethernet(0, &[], ETHERTYPE_IPV6, packet)
}

pub fn vlan_tags(ends: &Ends) -> Vec<Forged> {
    let mut list = Vec::new();
    for port in [OPEN, CLOSED] {
        let four = ends.ipv4(TCP, 1, 0, &[], &syn(ends, Family::V4, port, &[]));
        let six = ends.ipv6(TCP, &syn(ends, Family::V6, port, &[]));
        for (packet, ethertype) in [(&four, ETHERTYPE_IPV4), (&six, ETHERTYPE_IPV6)] {
            for tags in [
                &[][..],
                &[(ETHERTYPE_VLAN, 0)],
                &[(ETHERTYPE_VLAN, 100)],
                &[(ETHERTYPE_QINQ, 100)],
                &[(ETHERTYPE_QINQ, 100), (ETHERTYPE_VLAN, 200)],
                &[(ETHERTYPE_VLAN, 100), (ETHERTYPE_VLAN, 200)],
                &[
                    (ETHERTYPE_QINQ, 1),
                    (ETHERTYPE_QINQ, 2),
                    (ETHERTYPE_VLAN, 3),
                ],
            ] {
                let frame = ends.ethernet(0, tags, ethertype, packet);
                let allowed = port == OPEN && tags.len() <= 2;
                list.push(forged(
                    format!("tags {tags:x?} around {ethertype:#06x} port {port}"),
                    allowed,
                    frame,
                ));
            }
        }
    }
    // A tag cut short cannot be tried here: the kernel drops it by itself before AF_PACKET, so that
    // its absence would prove nothing. The packet tables have it.
    list
}

pub fn ipv4_options(ends: &Ends) -> Vec<Forged> {
    let options: [(&str, Vec<u8>); 6] = [
        ("router alert", vec![0x94, 4, 0, 0]),
        ("one word of no-operation", vec![1; 4]),
        ("record route", [&[7, 7, 4][..], &[0; 5]].concat()),
        (
            "loose source route",
            [&[131, 7, 4][..], &ends.source_v4.octets(), &[0]].concat(),
        ),
        ("timestamp", [&[68, 12, 5, 0][..], &[0; 8]].concat()),
        ("forty bytes", vec![1; 40]),
    ];
    let mut list = Vec::new();
    for (name, options) in options {
        for port in [OPEN, CLOSED] {
            let packet = ends.ipv4(TCP, 2, 0, &options, &syn(ends, Family::V4, port, &[]));
            list.push(forged(
                format!("{name}, port {port}"),
                port == OPEN,
                v4(ends, &packet),
            ));
        }
    }
    list
}

/// An extension header of 8 bytes (16 for AH), of the given type, before `next`.
fn extension(kind: u8, next: u8) -> Vec<u8> {
    match kind {
        // Routing: type 2 (mobile IPv6), no segments left.
        43 => vec![next, 0, 2, 0, 0, 0, 0, 0],
        // Fragment: offset 0, no more: an atomic fragment (RFC 6946).
        44 => vec![next, 0, 0, 0, 0, 0, 0, 9],
        // AH counts its length in words of four bytes, less two.
        51 => [&[next, 2][..], &[0; 14]].concat(),
        // The rest: length 0 means 8 bytes; one PadN option fills hop-by-hop and destination.
        _ => vec![next, 0, 1, 4, 0, 0, 0, 0],
    }
}

/// A chain of extension headers around `payload` of type TCP.
fn chain(ends: &Ends, kinds: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        bytes.extend(extension(
            *kind,
            kinds.get(index + 1).copied().unwrap_or(TCP),
        ));
    }
    bytes.extend(payload);
    v6(
        ends,
        &ends.ipv6(kinds.first().copied().unwrap_or(TCP), &bytes),
    )
}

pub fn extension_headers(ends: &Ends) -> Vec<Forged> {
    let eight = [0, 60, 60, 60, 60, 60, 60, 60];
    let nine = [0, 60, 60, 60, 60, 60, 60, 60, 60];
    let chains: [(&str, &[u8], bool); 16] = [
        ("hop-by-hop", &[0], true),
        ("routing type 2", &[43], true),
        ("atomic fragment", &[44], true),
        ("destination options", &[60], true),
        ("authentication", &[51], true),
        ("mobility", &[135], true),
        ("HIP", &[139], true),
        ("shim6", &[140], true),
        ("all kinds", &[0, 60, 43, 44, 51, 60, 135, 139], true),
        ("chain of eight", &eight, true),
        ("chain of nine", &nine, false),
        ("hop-by-hop not first", &[60, 0], false),
        ("two hop-by-hop", &[0, 0], false),
        ("two fragment headers", &[44, 44], false),
        ("routing after destination", &[60, 43, 60], true),
        ("no extension", &[], true),
    ];
    let mut list = Vec::new();
    for (name, kinds, fine) in chains {
        for port in [OPEN, CLOSED] {
            let frame = chain(ends, kinds, &syn(ends, Family::V6, port, &[]));
            list.push(forged(
                format!("{name}, port {port}"),
                fine && port == OPEN,
                frame,
            ));
        }
    }
    let tcp = syn(ends, Family::V6, OPEN, &[]);
    let inside = |next: u8, header: &[u8]| v6(ends, &ends.ipv6(next, &[header, &tcp].concat()));
    list.push(forged(
        "routing type 0 (RFC 5095)",
        false,
        inside(43, &[TCP, 0, 0, 0, 0, 0, 0, 0]),
    ));
    list.push(forged(
        "a header longer than the packet",
        false,
        inside(60, &[TCP, 200, 1, 4, 0, 0, 0, 0]),
    ));
    list.push(forged(
        "half a header",
        false,
        v6(ends, &ends.ipv6(60, &[TCP, 0, 1, 4])),
    ));
    list.push(forged(
        "no next header",
        false,
        v6(ends, &ends.ipv6(59, &tcp)),
    ));
    list
}

pub fn fragments(ends: &Ends) -> Vec<Forged> {
    let mut list = Vec::new();
    let data = [0x45; 108];
    for family in [Family::V4, Family::V6] {
        let open = syn(ends, family, OPEN, &data);
        let closed = syn(ends, family, CLOSED, &data);
        let mut add = |name: &str, allowed: bool, id: u16, offset: u16, more: bool, part: &[u8]| {
            list.push(forged(
                format!("{family:?} {name}"),
                allowed,
                fragment(ends, family, TCP, (id, offset, more), part),
            ));
        };
        add("later without first", false, 10, 64, false, &open[64..]);
        add("first to the allowed port", true, 11, 0, true, &open[..64]);
        add("its follower", true, 11, 64, true, &open[64..128]);
        add("follower of another id", false, 12, 64, false, &open[64..]);
        add(
            "overlapping the TCP header at 8",
            false,
            11,
            8,
            true,
            &closed[8..72],
        );
        add(
            "overlapping the TCP header at 16",
            false,
            11,
            16,
            false,
            &closed[16..],
        );
        add("first to a refused port", false, 13, 0, true, &closed[..64]);
        add("its follower", false, 13, 64, false, &closed[64..]);
        add("tiny first, 8 bytes", false, 14, 0, true, &open[..8]);
        add("the rest of the tiny one", false, 14, 8, false, &open[8..]);
        add("tiny first, 16 bytes", false, 15, 0, true, &open[..16]);
        add(
            "more to come, but not a multiple of 8",
            false,
            16,
            0,
            true,
            &open[..61],
        );
        add(
            "end beyond 65,535 bytes",
            false,
            11,
            65_528,
            false,
            &open[64..],
        );
        let datagram = ends.udp(family, (40_000, 53), &data);
        list.push(forged(
            format!("{family:?} UDP later without first"),
            false,
            fragment(ends, family, UDP, (20, 64, false), &datagram[64..]),
        ));
    }
    let open = syn(ends, Family::V4, OPEN, &[]);
    list.push(forged(
        "the reserved flag",
        false,
        v4(ends, &ends.ipv4(TCP, 3, 0x8000, &[], &open)),
    ));
    list.push(forged(
        "don't fragment",
        true,
        v4(ends, &ends.ipv4(TCP, 3, 0x4000, &[], &open)),
    ));
    list
}

/// `(id, offset in bytes, more to come)`
fn fragment(
    ends: &Ends,
    family: Family,
    protocol: u8,
    place: (u16, u16, bool),
    part: &[u8],
) -> Vec<u8> {
    let (id, offset, more) = place;
    match family {
        Family::V4 => {
            let flags = (offset / 8) | if more { MORE_FRAGMENTS } else { 0 };
            v4(ends, &ends.ipv4(protocol, id, flags, &[], part))
        }
        Family::V6 => {
            let word = offset | u16::from(more);
            let mut bytes = vec![protocol, 0];
            bytes.extend(word.to_be_bytes());
            bytes.extend(u32::from(id).to_be_bytes());
            bytes.extend(part);
            v6(ends, &ends.ipv6(44, &bytes))
        }
    }
}

pub fn other_protocols(ends: &Ends) -> Vec<Forged> {
    let mut list = vec![forged(
        "control: allowed SYN",
        true,
        ends.frame(0, Family::V4, TCP, &syn(ends, Family::V4, OPEN, &[])),
    )];
    // What follows the IP header looks like a SYN to the allowed port, whatever the protocol says:
    // a filter that reads ports without looking at the protocol lets it in.
    for family in [Family::V4, Family::V6] {
        let like_tcp = syn(ends, family, OPEN, &[0; 12]);
        for (name, protocol) in [
            ("IP in IP", 4),
            ("IGMP", 2),
            ("EGP", 8),
            ("DCCP", 33),
            ("IPv6 in IP", 41),
            ("GRE", 47),
            ("ESP", 50),
            ("EIGRP", 88),
            ("OSPF", 89),
            ("PIM", 103),
            ("VRRP", 112),
            ("L2TP", 115),
            ("SCTP", 132),
            ("UDP-Lite", 136),
            ("253", 253),
            ("254", 254),
            ("255", 255),
        ] {
            list.push(forged(
                format!("{family:?} {name}"),
                false,
                ends.frame(0, family, protocol, &like_tcp),
            ));
        }
        let datagram = ends.udp(family, (OPEN, OPEN), b"data");
        list.push(forged(
            format!("{family:?} UDP to 443"),
            false,
            ends.frame(0, family, UDP, &datagram),
        ));
    }
    // Every ICMP type but neighbour and router discovery, which has to work.
    for kind in 0..=255_u8 {
        let message = [&[kind, 0, 0, 0, 0, 1, 0, 1][..], &[0; 40]].concat();
        list.push(forged(
            format!("ICMP type {kind}"),
            false,
            ends.frame(0, Family::V4, 1, &message),
        ));
        // Checked with a hop limit of 64: discovery has to come with 255 (a query, 130, does not).
        if kind != 130 {
            list.push(forged(
                format!("ICMPv6 type {kind}"),
                false,
                ends.frame(0, Family::V6, 58, &message),
            ));
        }
    }
    let like_ip = ends.ipv4(TCP, 1, 0, &[], &syn(ends, Family::V4, OPEN, &[]));
    for ethertype in [
        0x0000, 0x0026, 0x05ff, 0x0600, 0x0801, 0x22f0, 0x8035, 0x8847, 0x8863, 0x8864, 0x888e,
        0x88b5, 0x88cc, 0x88e5, 0x9100, 0xffff,
    ] {
        list.push(forged(
            format!("ethertype {ethertype:#06x}"),
            false,
            ends.ethernet(0, &[], ethertype, &like_ip),
        ));
    }
    list
}

pub fn tcp_flags(ends: &Ends) -> Vec<Forged> {
    let mut list = Vec::new();
    for family in [Family::V4, Family::V6] {
        for flags in 0..=255_u8 {
            for port in [OPEN, CLOSED] {
                let segment = ends.tcp(family, (41_000 + u16::from(flags), port), flags, &[]);
                let name = format!("{family:?} flags {flags:#04x} to port {port}");
                list.push(forged(
                    name,
                    port == OPEN,
                    ends.frame(0, family, TCP, &segment),
                ));
            }
        }
    }
    list
}

pub fn truncated(ends: &Ends) -> Vec<Forged> {
    let mut list = Vec::new();
    for family in [Family::V4, Family::V6] {
        let whole = ends.frame(
            0,
            family,
            TCP,
            &ends.tcp(family, (42_000, OPEN), ACK | FIN, b"payload"),
        );
        for length in 14..whole.len() {
            list.push(forged(
                format!("{family:?} cut to {length} bytes"),
                false,
                whole[..length].to_vec(),
            ));
        }
        let padded = [&whole[..], &[0; 20]].concat();
        list.push(forged(format!("{family:?} whole"), true, whole));
        list.push(forged(
            format!("{family:?} with padding behind"),
            true,
            padded,
        ));
        for offset in 0..=5_u8 {
            // 5 words is the least; 15 words are more than this segment holds.
            let mut segment = syn(ends, family, OPEN, &[]);
            let words = if offset == 5 { 15 } else { offset };
            segment[12] = words << 4;
            list.push(forged(
                format!("{family:?} data offset {words}"),
                false,
                ends.frame(0, family, TCP, &segment),
            ));
        }
        // Only the length inside the IP header counts, not what else is in the frame.
        for length in 0..20_usize {
            let segment = syn(ends, family, OPEN, &[]);
            let mut frame = ends.frame(0, family, TCP, &segment[..length]);
            frame.extend(&segment[length..]);
            list.push(forged(
                format!("{family:?} {length} bytes of TCP, the rest as padding"),
                false,
                frame,
            ));
        }
    }
    let good = ends.ipv4(TCP, 1, 0, &[], &syn(ends, Family::V4, OPEN, &[]));
    for (name, at, value) in [
        ("version 6", 0, 0x65),
        ("version 0", 0, 0x05),
        ("header length 4 words", 0, 0x44),
        ("header length 15 words", 0, 0x4f),
        ("total length 0", 3, 0),
        ("total length 19", 3, 19),
        ("total length 41 of 40", 3, 41),
        ("total length 65,320", 2, 255),
    ] {
        let mut packet = good.clone();
        packet[at] = value;
        list.push(forged(format!("IPv4 {name}"), false, v4(ends, &packet)));
    }
    let good = ends.ipv6(TCP, &syn(ends, Family::V6, OPEN, &[]));
    for (name, at, value) in [
        ("version 4", 0, 0x40),
        ("version 0", 0, 0),
        ("payload length 0", 5, 0),
        ("payload length 21 of 20", 5, 21),
        ("payload length 65,300", 4, 255),
    ] {
        let mut packet = good.clone();
        packet[at] = value;
        list.push(forged(format!("IPv6 {name}"), false, v6(ends, &packet)));
    }
    list
}
