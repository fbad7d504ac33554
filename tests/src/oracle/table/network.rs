//! Owns the table's cases for IP and transport headers: lengths, options, extension headers.
//! Must never hold a case about fragments or rules.

use super::{OWN, OWN6, REMOTE, REMOTE6, WEB, closed_with, one};
use crate::oracle::case::Case;
use crate::packets::{Extension, Icmp, Ipv4, Ipv6, Raw, Sctp, Tcp, Udp, link};

/// An HTTPS connection request over IPv4 whose IP bytes are changed.
fn v4(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Ipv4::new(REMOTE, OWN).with(&Tcp::syn(40_000, 443)).bytes();
    change(&mut bytes);
    link().carry(0x0800, &bytes)
}

/// The same over IPv6.
fn v6(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Ipv6::new(REMOTE6, OWN6)
        .with(&Tcp::syn(40_000, 443))
        .bytes();
    change(&mut bytes);
    link().carry(0x86dd, &bytes)
}

/// The same between other addresses.
fn between(source: &str, destination: &str) -> Vec<u8> {
    link().ipv6(&Ipv6::new(source, destination).with(&Tcp::syn(40_000, 443)))
}

/// The same behind extension headers.
fn chain(extensions: &[Extension]) -> Vec<u8> {
    let extensions = extensions.to_vec();
    let packet = Ipv6 {
        extensions,
        ..Ipv6::new(REMOTE6, OWN6).with(&Tcp::syn(40_000, 443))
    };
    link().ipv6(&packet)
}

fn tcp(segment: &Tcp) -> Vec<u8> {
    link().ipv4(&Ipv4::new(REMOTE, OWN).with(segment))
}

pub fn cases() -> Vec<Case> {
    let mut cases = header_cases();
    cases.extend(extension_cases());
    cases.extend(transport_cases());
    cases
}

fn header_cases() -> Vec<Case> {
    let options = Ipv4::new(REMOTE, OWN)
        .options(&[7, 7, 4, 0, 0, 0, 0, 1])
        .with(&Tcp::syn(40_000, 443));
    let longest = Ipv4::new(REMOTE, OWN)
        .options(&[1; 40])
        .with(&Tcp::syn(40_000, 443));
    vec![
        one("IPv4 options", WEB, link().ipv4(&options), "pass_rule"),
        one(
            "40 bytes of IPv4 options",
            WEB,
            link().ipv4(&longest),
            "pass_rule",
        ),
        one(
            "IPv4 with version 5",
            WEB,
            v4(|b| b[0] = 0x55),
            "drop_malformed",
        ),
        one(
            "IPv4 with ihl 4",
            WEB,
            v4(|b| b[0] = 0x44),
            "drop_malformed",
        ),
        one(
            "IPv4 with ihl beyond the frame",
            WEB,
            v4(|b| b[0] = 0x4f),
            "drop_malformed",
        ),
        one(
            "total length below the header's",
            WEB,
            v4(|b| b[3] = 19),
            "drop_malformed",
        ),
        one(
            "total length one beyond the frame",
            WEB,
            v4(|b| b[3] = 41),
            "drop_malformed",
        ),
        one(
            "total length cuts TCP",
            WEB,
            v4(|b| b[3] = 39),
            "drop_malformed",
        ),
        one(
            "the reserved flag",
            WEB,
            v4(|b| b[6] = 0x80),
            "drop_malformed",
        ),
        one("do not fragment", WEB, v4(|b| b[6] = 0x40), "pass_rule"),
        one(
            "a wrong header checksum is the stack's business",
            WEB,
            v4(|b| b[10] ^= 0xff),
            "pass_rule",
        ),
        one("IPv6", WEB, v6(|_| ()), "pass_rule"),
        one(
            "IPv6 from an IPv4-mapped address",
            WEB,
            between("::ffff:203.0.113.9", OWN6),
            "drop_malformed",
        ),
        one(
            "IPv6 to an IPv4-mapped address",
            WEB,
            between(REMOTE6, "::ffff:192.0.2.10"),
            "drop_malformed",
        ),
        one(
            "the addresses next to the IPv4-mapped ones",
            WEB,
            between("::fffe:ffff:ffff", "::1:0:0:0"),
            "pass_rule",
        ),
        one(
            "IPv6 with version 4",
            WEB,
            v6(|b| b[0] = 0x40),
            "drop_malformed",
        ),
        one(
            "IPv6 header cut off",
            WEB,
            v6(|b| b.truncate(39)),
            "drop_malformed",
        ),
        one(
            "payload length beyond the frame",
            WEB,
            v6(|b| b[5] = 21),
            "drop_malformed",
        ),
        one(
            "payload length cuts TCP",
            WEB,
            v6(|b| b[5] = 19),
            "drop_malformed",
        ),
        one(
            "payload length 0 with TCP",
            WEB,
            v6(|b| b[5] = 0),
            "drop_malformed",
        ),
        one(
            "a jumbogram",
            WEB,
            link().carry(0x86dd, &{
                let mut b = Ipv6::new(REMOTE6, OWN6)
                    .extension(Extension::HopByHop(8))
                    .bytes();
                b[5] = 0;
                b
            }),
            "drop_malformed",
        ),
        one(
            "no next header",
            WEB,
            link().ipv6(&Ipv6::new(REMOTE6, OWN6)),
            "drop_protocol",
        ),
        one(
            "no next header is a protocol a rule can name",
            &closed_with("[[profiles.edge.allow]]\nid = \"nothing\"\nprotocol = 59"),
            link().ipv6(&Ipv6::new(REMOTE6, OWN6)),
            "pass_rule",
        ),
    ]
}

fn extension_cases() -> Vec<Case> {
    use Extension::{Authentication, DestinationOptions, HopByHop, Other, Routing};
    let eight = [
        HopByHop(8),
        DestinationOptions(16),
        Routing(2, 24),
        Authentication(12),
        DestinationOptions(8),
        Other(135, 8),
        Other(139, 40),
        Other(140, 8),
    ];
    let nine = [&eight[..], &[DestinationOptions(8)]].concat();
    let mut beyond = chain(&[DestinationOptions(8)]);
    beyond[14 + 41] = 3;
    vec![
        one("hop-by-hop options", WEB, chain(&eight[..1]), "pass_rule"),
        one("destination options", WEB, chain(&eight[1..2]), "pass_rule"),
        one(
            "routing header type 2",
            WEB,
            chain(&eight[2..3]),
            "pass_rule",
        ),
        one(
            "routing header type 0",
            WEB,
            chain(&[Routing(0, 24)]),
            "drop_malformed",
        ),
        one(
            "an authentication header",
            WEB,
            chain(&eight[3..4]),
            "pass_rule",
        ),
        one("mobility", WEB, chain(&eight[5..6]), "pass_rule"),
        one("host identity", WEB, chain(&eight[6..7]), "pass_rule"),
        one("shim6", WEB, chain(&eight[7..8]), "pass_rule"),
        one("eight extension headers", WEB, chain(&eight), "pass_rule"),
        one(
            "nine extension headers",
            WEB,
            chain(&nine),
            "drop_malformed",
        ),
        one(
            "hop-by-hop options second",
            WEB,
            chain(&[DestinationOptions(8), HopByHop(8)]),
            "drop_malformed",
        ),
        one(
            "hop-by-hop options twice",
            WEB,
            chain(&[HopByHop(8), HopByHop(8)]),
            "drop_malformed",
        ),
        one(
            "an extension header beyond the packet",
            WEB,
            beyond,
            "drop_malformed",
        ),
        one(
            "an unknown extension header is a protocol",
            WEB,
            chain(&[Other(253, 8)]),
            "drop_protocol",
        ),
    ]
}

fn transport_cases() -> Vec<Case> {
    let dns = closed_with(
        "[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = [\"udp\", \"sctp\"]\nports = [53]",
    );
    let gre =
        closed_with("[[profiles.edge.allow]]\nid = \"tunnel\"\nprotocol = [\"gre\", \"esp\"]");
    let udp = |datagram: &Udp| link().ipv4(&Ipv4::new(REMOTE, OWN).with(datagram));
    let raw =
        |protocol, payload: &[u8]| link().ipv4(&Ipv4::new(REMOTE, OWN).raw(protocol, payload));
    let icmp = Ipv4::new(REMOTE, OWN).with(&Icmp::echo_request(1));
    vec![
        one(
            "TCP with doff 4",
            WEB,
            tcp(&Tcp::syn(40_000, 443).doff(4)),
            "drop_malformed",
        ),
        one(
            "TCP with doff beyond the packet",
            WEB,
            tcp(&Tcp::syn(40_000, 443).doff(6)),
            "drop_malformed",
        ),
        one(
            "TCP options",
            WEB,
            tcp(&Tcp::syn(40_000, 443).options(&[2, 4, 5, 0xb4])),
            "pass_rule",
        ),
        one(
            "TCP from and to port 0",
            WEB,
            tcp(&Tcp::syn(0, 0)),
            "drop_port",
        ),
        one("UDP", &dns, udp(&Udp::new(4000, 53)), "pass_rule"),
        one(
            "UDP with length 7",
            &dns,
            udp(&Udp::new(4000, 53).length(7)),
            "drop_malformed",
        ),
        one(
            "UDP with length beyond the packet",
            &dns,
            udp(&Udp::new(4000, 53).length(13)),
            "drop_malformed",
        ),
        one(
            "UDP with length short of the packet",
            &dns,
            udp(&Udp::new(4000, 53).length(8)),
            "pass_rule",
        ),
        one("UDP of 7 bytes", &dns, raw(17, &[0; 7]), "drop_malformed"),
        one(
            "SCTP",
            &dns,
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Sctp::init(4000, 53))),
            "pass_rule",
        ),
        one(
            "SCTP to a closed port",
            &dns,
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Sctp::init(1, 2))),
            "drop_port",
        ),
        one(
            "SCTP of 11 bytes",
            &dns,
            raw(132, &[0; 11]),
            "drop_malformed",
        ),
        one(
            "ICMP of 7 bytes",
            &dns,
            raw(1, &[8, 0, 0, 0, 0, 0, 0]),
            "drop_malformed",
        ),
        one(
            "ICMP nobody asked for",
            &dns,
            link().ipv4(&icmp),
            "drop_icmp",
        ),
        one(
            "ICMP over IPv6 is a protocol",
            &dns,
            link().ipv6(&Ipv6::new(REMOTE6, OWN6).raw(1, &[8])),
            "drop_protocol",
        ),
        one(
            "ICMPv6 over IPv4 is a protocol",
            &dns,
            raw(58, &[128]),
            "drop_protocol",
        ),
        one(
            "GRE open",
            &gre,
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Raw::gre(&icmp.bytes()))),
            "pass_rule",
        ),
        one(
            "GRE closed",
            WEB,
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Raw::gre(&icmp.bytes()))),
            "drop_protocol",
        ),
        one(
            "ESP open over IPv6",
            &gre,
            link().ipv6(&Ipv6::new(REMOTE6, OWN6).with(&Raw::esp(7))),
            "pass_rule",
        ),
        one(
            "AH over IPv4 is a protocol",
            WEB,
            raw(51, &[6, 4, 0, 0, 0, 0, 0, 0]),
            "drop_protocol",
        ),
        one(
            "an empty packet of another protocol",
            &gre,
            raw(47, &[]),
            "pass_rule",
        ),
    ]
}
