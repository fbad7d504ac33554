//! Owns the table's cases for sources that cannot be: special-purpose prefixes, group MACs, land packets.
//! Must never hold a case that knows the host's own addresses.

use super::antispoof::{LAND, MARTIAN, PASS, carried, from, single, sources, web};
use super::{OWN, OWN6, case, world};
use crate::oracle::case::{Case, Step};
use crate::packets::{Extension, Icmp, Ipv4, Ipv6, Link, Tcp, Udp, link};

const GROUP: &str = "drop_martian martian:group-mac";

/// A source, the reason inside a site, the reason on the internet. The first and the last address of each prefix and their
/// neighbours, from the IANA registries.
const V4: &[(&str, &str, &str)] = &[
    ("0.0.0.0", MARTIAN, MARTIAN),
    ("0.0.0.1", MARTIAN, MARTIAN),
    ("0.255.255.255", MARTIAN, MARTIAN),
    ("1.0.0.0", PASS, PASS),
    ("9.255.255.255", PASS, PASS),
    ("10.0.0.0", PASS, MARTIAN),
    ("10.255.255.255", PASS, MARTIAN),
    ("11.0.0.0", PASS, PASS),
    ("100.63.255.255", PASS, PASS),
    ("100.64.0.0", PASS, MARTIAN),
    ("100.127.255.255", PASS, MARTIAN),
    ("100.128.0.0", PASS, PASS),
    ("126.255.255.255", PASS, PASS),
    ("127.0.0.0", MARTIAN, MARTIAN),
    ("127.255.255.255", MARTIAN, MARTIAN),
    ("128.0.0.0", PASS, PASS),
    ("169.253.255.255", PASS, PASS),
    ("169.254.0.0", PASS, MARTIAN),
    ("169.254.255.255", PASS, MARTIAN),
    ("169.255.0.0", PASS, PASS),
    ("172.15.255.255", PASS, PASS),
    ("172.16.0.0", PASS, MARTIAN),
    ("172.31.255.255", PASS, MARTIAN),
    ("172.32.0.0", PASS, PASS),
    ("191.255.255.255", PASS, PASS),
    ("192.0.0.9", PASS, PASS),
    ("192.0.0.10", PASS, PASS),
    ("192.0.0.11", MARTIAN, MARTIAN),
    ("192.0.0.255", MARTIAN, MARTIAN),
    ("192.0.1.0", PASS, PASS),
    ("192.0.1.255", PASS, PASS),
    ("192.0.2.0", MARTIAN, MARTIAN),
    ("192.0.2.255", MARTIAN, MARTIAN),
    ("192.0.3.0", PASS, PASS),
    ("192.88.98.255", PASS, PASS),
    ("192.88.99.0", MARTIAN, MARTIAN),
    ("192.88.99.255", MARTIAN, MARTIAN),
    ("192.88.100.0", PASS, PASS),
    ("192.167.255.255", PASS, PASS),
    ("192.168.0.0", PASS, MARTIAN),
    ("192.168.255.255", PASS, MARTIAN),
    ("192.169.0.0", PASS, PASS),
    ("198.17.255.255", PASS, PASS),
    ("198.18.0.0", MARTIAN, MARTIAN),
    ("198.19.255.255", MARTIAN, MARTIAN),
    ("198.20.0.0", PASS, PASS),
    ("198.51.99.255", PASS, PASS),
    ("198.51.100.0", MARTIAN, MARTIAN),
    ("198.51.100.255", MARTIAN, MARTIAN),
    ("198.51.101.0", PASS, PASS),
    ("203.0.112.255", PASS, PASS),
    ("203.0.113.0", MARTIAN, MARTIAN),
    ("203.0.113.255", MARTIAN, MARTIAN),
    ("203.0.114.0", PASS, PASS),
    ("223.255.255.255", PASS, PASS),
    ("224.0.0.0", MARTIAN, MARTIAN),
    ("239.255.255.255", MARTIAN, MARTIAN),
    ("240.0.0.0", MARTIAN, MARTIAN),
    ("255.255.255.254", MARTIAN, MARTIAN),
    ("255.255.255.255", MARTIAN, MARTIAN),
];

/// Likewise.
const V6: &[(&str, &str, &str)] = &[
    ("::", MARTIAN, MARTIAN),
    ("::1", MARTIAN, MARTIAN),
    ("::2", MARTIAN, MARTIAN),
    ("::ffff:ffff", MARTIAN, MARTIAN),
    ("::1:0:0", MARTIAN, MARTIAN),
    ("::fffe:ffff:ffff", MARTIAN, MARTIAN),
    ("::ffff:9.9.9.9", MARTIAN, MARTIAN),
    ("::1:0:0:0", MARTIAN, MARTIAN),
    ("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("64:ff9b::", PASS, PASS),
    ("64:ff9b::ffff:ffff", PASS, PASS),
    ("64:ff9b::1:0:0", MARTIAN, MARTIAN),
    ("64:ff9b:0:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("64:ff9b:1::", PASS, MARTIAN),
    ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", PASS, MARTIAN),
    ("64:ff9b:2::", MARTIAN, MARTIAN),
    ("100::", MARTIAN, MARTIAN),
    ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("2000::", PASS, PASS),
    ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS, PASS),
    ("2001:2::", MARTIAN, MARTIAN),
    ("2001:2:0:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("2001:3::", PASS, PASS),
    ("2001:4:112::", PASS, PASS),
    ("2001:10::", MARTIAN, MARTIAN),
    ("2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("2001:20::", PASS, PASS),
    ("2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", PASS, PASS),
    ("2001:200::", PASS, PASS),
    ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", PASS, PASS),
    ("2001:db8::", MARTIAN, MARTIAN),
    ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("2001:db9::", PASS, PASS),
    ("2003::", PASS, PASS),
    ("2620:4f:8000::", PASS, PASS),
    ("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS, PASS),
    ("3fff::", MARTIAN, MARTIAN),
    ("3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("3fff:1000::", PASS, PASS),
    ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS, PASS),
    ("4000::", MARTIAN, MARTIAN),
    ("5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("5f00::", PASS, MARTIAN),
    ("5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS, MARTIAN),
    ("5f01::", MARTIAN, MARTIAN),
    ("fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("fc00::", PASS, MARTIAN),
    ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS, MARTIAN),
    ("fe00::", MARTIAN, MARTIAN),
    ("fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("fe80::", PASS, PASS),
    ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS, PASS),
    ("fec0::", MARTIAN, MARTIAN),
    ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
    ("ff00::", MARTIAN, MARTIAN),
    ("ff02::1", MARTIAN, MARTIAN),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MARTIAN, MARTIAN),
];

pub fn cases() -> Vec<Case> {
    let answer = |to: &str| Ipv4::new(OWN, to).with(&Tcp::ack(443, 40_000)).bytes();
    let site: fn(&(&'static str, &'static str, &'static str)) -> (&'static str, &'static str) =
        |(source, site, _)| (*source, *site);
    let internet: fn(&(&'static str, &'static str, &'static str)) -> (&'static str, &'static str) =
        |(source, _, internet)| (*source, *internet);
    let list = |rows: &[(&'static str, &'static str, &'static str)], column| {
        rows.iter().map(column).collect::<Vec<_>>()
    };
    let group = |mac: [u8; 6]| {
        let link: Link = link().macs(mac, [2, 0, 0, 0, 0, 2]);
        link.ipv4(&Ipv4::new("9.9.9.9", OWN).with(&Tcp::syn(40_000, 443)))
    };
    let later = Ipv4::new(OWN, OWN).raw(17, &[0; 16]).fragment(8, false);
    let land = || carried("9.9.9.9", "9.9.9.9", &Tcp::syn(443, 443));
    let short = Ipv4::new("127.0.0.1", OWN).raw(6, &[0; 8]);
    vec![
        sources(
            "IPv4 sources inside a site",
            "martians = true",
            world(),
            &list(V4, site),
        ),
        sources(
            "IPv4 sources on the internet",
            "martians = true\ninternet = true",
            world(),
            &list(V4, internet),
        ),
        sources(
            "IPv6 sources inside a site",
            "martians = true",
            world(),
            &list(V6, site),
        ),
        sources(
            "IPv6 sources on the internet",
            "martians = true\ninternet = true",
            world(),
            &list(V6, internet),
        ),
        sources(
            "no source is a martian where nobody asks",
            "martians = false\ninternet = true",
            world(),
            &[
                ("127.0.0.1", PASS),
                ("224.0.0.1", PASS),
                ("0.0.0.0", PASS),
                ("::1", PASS),
                ("10.0.0.1", PASS),
            ],
        ),
        sources(
            "lo has no martians by default",
            "",
            world(),
            &[("127.0.0.1", PASS), ("::1", PASS), (OWN, PASS)],
        ),
        sources(
            "legitimate prefixes are no martians, their neighbours are",
            "martians = true\ninternet = true\nlegitimate = [\"10.0.0.0/16\", \"@vpc\", \"203.0.113.64/26\"]",
            world(),
            &[
                ("9.255.255.255", PASS),
                ("10.0.0.0", PASS),
                ("10.0.255.255", PASS),
                ("10.1.0.0", MARTIAN),
                ("172.30.255.255", MARTIAN),
                ("172.31.0.0", PASS),
                ("172.31.255.255", PASS),
                ("203.0.113.63", MARTIAN),
                ("203.0.113.64", PASS),
                ("203.0.113.128", MARTIAN),
                ("fd00:30:ffff::1", MARTIAN),
                ("fd00:31::1", PASS),
                ("fd00:32::", MARTIAN),
            ],
        ),
        sources(
            "the longest prefix makes the martian",
            "martians = true\ninternet = true",
            world(),
            &[
                ("0.0.0.0", "drop_martian martian:0.0.0.0/32"),
                ("0.0.0.1", "drop_martian martian:0.0.0.0/8"),
                ("10.0.0.1", "drop_martian martian:10.0.0.0/8"),
                ("192.0.0.11", "drop_martian martian:192.0.0.0/24"),
                ("203.0.113.9", "drop_martian martian:203.0.113.0/24"),
                ("255.255.255.254", "drop_martian martian:240.0.0.0/4"),
                ("255.255.255.255", "drop_martian martian:255.255.255.255/32"),
                ("::", "drop_martian martian:::/128"),
                ("::1", "drop_martian martian:::1/128"),
                ("::2", "drop_martian martian:::/96"),
                ("4000::", "drop_martian martian:::/0"),
                ("2001:db8::1", "drop_martian martian:2001:db8::/32"),
                ("fd00::1", "drop_martian martian:fc00::/7"),
                ("ff02::1", "drop_martian martian:ff00::/8"),
            ],
        ),
        single(
            "a group's MAC as source",
            "martians = true",
            group([1, 0, 0x5e, 0, 0, 1]),
            GROUP,
        ),
        single(
            "the broadcast MAC as source",
            "martians = true",
            group([0xff; 6]),
            GROUP,
        ),
        single(
            "a locally administered MAC is no group's",
            "martians = true",
            group([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]),
            PASS,
        ),
        single(
            "a group's MAC where nobody asks",
            "martians = false",
            group([1, 0, 0, 0, 0, 0]),
            PASS,
        ),
        single(
            "ARP from a group's MAC is not this table's business",
            "martians = true",
            link()
                .macs([3, 0, 0, 0, 0, 1], [0xff; 6])
                .arp_request("9.9.9.9", OWN),
            "pass_control",
        ),
        single("a land packet", "martians = true", land(), LAND),
        single(
            "a land packet where nobody asks",
            "martians = false",
            land(),
            PASS,
        ),
        single(
            "a land packet over IPv6",
            "martians = true",
            carried("2600::9", "2600::9", &Tcp::syn(443, 443)),
            LAND,
        ),
        single(
            "a land packet's neighbour",
            "martians = true",
            carried("9.9.9.8", "9.9.9.9", &Tcp::syn(443, 443)),
            PASS,
        ),
        single(
            "malformed comes before martian",
            "martians = true",
            link().ipv4(&short),
            "drop_malformed",
        ),
        single(
            "a later fragment follows its first, be it a martian",
            "martians = true",
            link().ipv4(&later),
            "drop_fragment",
        ),
        single(
            "a martian behind extension headers",
            "martians = true",
            link().ipv6(
                &Ipv6::new("2001:db8:9::9", OWN6)
                    .with(&Tcp::syn(40_000, 443))
                    .extension(Extension::HopByHop(8))
                    .extension(Extension::DestinationOptions(16)),
            ),
            MARTIAN,
        ),
        single(
            "a martian in a VLAN",
            "martians = true",
            link()
                .vlan(7)
                .ipv4(&Ipv4::new("127.0.0.1", OWN).with(&Tcp::syn(40_000, 443))),
            MARTIAN,
        ),
        single(
            "a closed port tells a martian nothing else",
            "martians = true",
            carried("127.0.0.1", OWN, &Tcp::syn(1, 22)),
            MARTIAN,
        ),
        single(
            "an open profile lets no martian in",
            "martians = true\n[[profiles.edge.deny]]\nid = \"all\"\nfrom = [\"0.0.0.0/0\"]",
            from("240.0.0.1"),
            MARTIAN,
        ),
        case(
            "path MTU about an answer that went to a martian",
            &web("martians = true"),
            vec![
                Step::ingress(carried(
                    "9.9.9.9",
                    OWN,
                    &Icmp::path_mtu(1400, &answer("203.0.113.9")),
                ))
                .expect("drop_icmp"),
                Step::ingress(carried(
                    "9.9.9.9",
                    OWN,
                    &Icmp::path_mtu(1400, &answer("9.9.9.8")),
                ))
                .expect("pass_related"),
            ],
        ),
        case(
            "a martian is no answer",
            &web("martians = true"),
            vec![
                Step::egress(carried(OWN, "203.0.113.9", &Udp::new(50_000, 53))),
                Step::ingress(carried("203.0.113.9", OWN, &Udp::new(53, 50_000))).expect(MARTIAN),
            ],
        ),
        case(
            "a martian's first fragment lets no later one in",
            &web("martians = true"),
            Ipv4::new("203.0.113.9", OWN)
                .with(&Tcp::ack(40_000, 443).payload(&[0; 64]))
                .fragments(32)
                .iter()
                .zip([MARTIAN, "drop_fragment"])
                .map(|(part, reason)| Step::ingress(link().ipv4(part)).expect(reason))
                .collect(),
        ),
    ]
}
