//! Owns the table's cases for the host's own addresses as source, its containers', and for hosts without an address.
//! Must never hold a case that asks a route.

use super::{OWN, OWN6, case_in, world};
use crate::oracle::World;
use crate::oracle::case::{Case, Step};
use crate::oracle::policy::Cidr;
use crate::packets::{Icmp, Icmpv6, Ipv4, Ipv6, Raw, Tcp, Transport, Udp, dhcpv4_reply, ip, link};

pub const PASS: &str = "pass_rule";
pub const MARTIAN: &str = "drop_martian";
const OWNED: &str = "drop_own_address own-address";
const CONTAINER: &str = "drop_own_address own-container";
pub const LAND: &str = "drop_martian martian:land";
pub const BROADCAST: &str = "drop_martian martian:broadcast";

/// tcp/443 open, with these lines of `antispoof`.
pub fn web(antispoof: &str) -> String {
    format!(
        "version = 1
[groups.vpc]
cidrs = [\"172.31.0.0/16\", \"fd00:31::/32\"]
[profiles.edge]
interfaces = [\"lo\"]
[profiles.edge.antispoof]
{antispoof}
[[profiles.edge.allow]]
id = \"https\"
protocol = \"tcp\"
ports = [443]
"
    )
}

pub fn from(source: &str) -> Vec<u8> {
    carried(
        source,
        if source.contains(':') { OWN6 } else { OWN },
        &Tcp::syn(40_000, 443),
    )
}

pub fn carried(source: &str, destination: &str, transport: &dyn Transport) -> Vec<u8> {
    if source.contains(':') {
        link().ipv6(&Ipv6::new(source, destination).with(transport))
    } else {
        link().ipv4(&Ipv4::new(source, destination).with(transport))
    }
}

/// Sources that ask for tcp/443, and what becomes of them.
pub fn sources(description: &str, antispoof: &str, world: World, list: &[(&str, &str)]) -> Case {
    let steps = list
        .iter()
        .map(|(source, reason)| Step::ingress(from(source)).expect(reason));
    case_in(description, &web(antispoof), world, steps.collect())
}

pub fn single(description: &str, antispoof: &str, frame: Vec<u8>, reason: &str) -> Case {
    super::one(description, &web(antispoof), frame, reason)
}

/// The table's host, with containers, broadcast addresses and an address it only tries yet.
fn host() -> World {
    let mut world = world();
    world.own_v4.push(ip::v4("10.0.0.10"));
    world.own_v6.push(ip::v6("2600::10"));
    world.own_v6.push(ip::v6("2600::11"));
    world.tentative_v6.push(ip::v6("2600::11"));
    world.broadcast = vec![ip::v4("10.0.0.255"), ip::v4("10.88.255.255")];
    world.inside = ["10.88.0.0/16", "2600:88::/64"]
        .iter()
        .filter_map(|text| Cidr::try_from((*text).to_owned()).ok())
        .collect();
    world
}

pub fn cases() -> Vec<Case> {
    let mut cases = unspecified();
    cases.extend(own());
    cases
}

/// What a host without an address may send, by `0.0.0.0` and `::`: it meets the policy as usual.
fn unspecified() -> Vec<Case> {
    let on = "martians = true\n[[profiles.edge.allow]]\nid = \"all\"\nprotocol = [\"udp\", \"igmp\", \"icmp\", \"icmpv6\"]";
    let closed = "martians = true";
    let all = "255.255.255.255";
    let igmp = Raw(2, vec![0x16, 0, 0, 0, 224, 0, 0, 251]);
    let first = Ipv4::new("0.0.0.0", all)
        .with(&Udp::new(68, 67).payload(&[0; 64]))
        .fragments(32);
    let message = |kind| {
        link().ipv6(&Ipv6::new("::", "ff02::16").hops(255).with(&Icmpv6 {
            payload: vec![0; 16],
            ..Icmpv6::new(kind, 0)
        }))
    };
    let mut cases = vec![
        single(
            "a DHCP client may have no address",
            on,
            carried("0.0.0.0", all, &Udp::new(68, 67)),
            PASS,
        ),
        single(
            "a DHCP client may have another port",
            on,
            carried("0.0.0.0", all, &Udp::new(1, 67)),
            PASS,
        ),
        single(
            "a DHCP client without an address meets the policy",
            closed,
            carried("0.0.0.0", all, &Udp::new(68, 67)),
            "drop_port",
        ),
        single(
            "a DHCP server has an address",
            on,
            carried("0.0.0.0", all, &dhcpv4_reply()),
            MARTIAN,
        ),
        single(
            "UDP to port 66 from nobody",
            on,
            carried("0.0.0.0", all, &Udp::new(68, 66)),
            MARTIAN,
        ),
        single(
            "UDP to port 68 from nobody",
            on,
            carried("0.0.0.0", all, &Udp::new(67, 68)),
            MARTIAN,
        ),
        single(
            "TCP to port 67 from nobody",
            on,
            carried("0.0.0.0", all, &Tcp::syn(68, 67)),
            MARTIAN,
        ),
        single(
            "0.0.0.1 is no address of a beginner",
            on,
            carried("0.0.0.1", all, &Udp::new(68, 67)),
            MARTIAN,
        ),
        single(
            "a DHCP client's first fragment",
            on,
            link().ipv4(&first[0]),
            PASS,
        ),
        single(
            "IGMP may have no address",
            on,
            carried("0.0.0.0", "224.0.0.251", &igmp),
            PASS,
        ),
        single(
            "IGMP without an address meets the policy",
            closed,
            carried("0.0.0.0", "224.0.0.251", &igmp),
            "drop_protocol",
        ),
        single(
            "ping from nobody",
            on,
            carried("0.0.0.0", OWN, &Icmp::echo_request(1)),
            MARTIAN,
        ),
        single(
            "from nobody to nobody is a land packet",
            on,
            carried("0.0.0.0", "0.0.0.0", &Udp::new(68, 67)),
            LAND,
        ),
        single(
            "IGMP over IPv6 from nobody",
            on,
            carried("::", "ff02::16", &igmp),
            MARTIAN,
        ),
        single(
            "UDP over IPv6 from nobody",
            on,
            carried("::", "ff02::1:2", &Udp::new(546, 547)),
            MARTIAN,
        ),
        single(
            "UDP to port 67 over IPv6 from nobody",
            on,
            carried("::", "ff02::1:2", &Udp::new(68, 67)),
            MARTIAN,
        ),
        single(
            "duplicate address detection meets the policy",
            closed,
            message(135),
            "pass_control",
        ),
        single(
            "legitimate is legitimate, even nobody",
            "martians = true\nlegitimate = [\"0.0.0.0\"]",
            from("0.0.0.0"),
            PASS,
        ),
    ];
    for (kind, reason) in [
        (128, MARTIAN),
        (130, MARTIAN),
        (131, PASS),
        (132, PASS),
        (133, "pass_control"),
        (134, MARTIAN),
        (135, "pass_control"),
        (136, MARTIAN),
        (137, MARTIAN),
        (142, MARTIAN),
        (143, PASS),
        (144, MARTIAN),
    ] {
        cases.push(single(
            &format!("ICMPv6 {kind} from ::"),
            on,
            message(kind),
            reason,
        ));
    }
    cases
}

fn own() -> Vec<Case> {
    let on = "own_addresses = true";
    vec![
        sources(
            "own addresses from outside",
            on,
            host(),
            &[
                (OWN, OWNED),
                ("192.0.2.9", PASS),
                ("192.0.2.11", PASS),
                ("198.51.100.7", OWNED),
                ("10.0.0.10", OWNED),
                (OWN6, OWNED),
                ("2001:db8:1::11", PASS),
                ("2600::10", OWNED),
                ("2600::f", PASS),
            ],
        ),
        sources(
            "an address the host only tries yet",
            on,
            host(),
            &[("2600::11", PASS), ("2600::12", PASS)],
        ),
        sources(
            "container networks from outside",
            on,
            host(),
            &[
                ("10.87.255.255", PASS),
                ("10.88.0.0", CONTAINER),
                ("10.88.255.255", CONTAINER),
                ("10.89.0.0", PASS),
                ("2600:87:ffff:ffff:ffff:ffff:ffff:ffff", PASS),
                ("2600:88::", CONTAINER),
                ("2600:88::ffff:ffff:ffff:ffff", CONTAINER),
                ("2600:88:0:1::", PASS),
            ],
        ),
        sources(
            "own addresses where nobody asks",
            "own_addresses = false",
            host(),
            &[(OWN, PASS), ("10.88.0.1", PASS), (OWN6, PASS)],
        ),
        sources(
            "own comes before martian, legitimate spares no own address",
            "own_addresses = true\nmartians = true\ninternet = true\nlegitimate = [\"10.0.0.0/8\", \"192.0.2.0/24\"]",
            host(),
            &[
                ("10.0.0.10", OWNED),
                ("10.0.0.11", PASS),
                ("10.88.0.1", CONTAINER),
                ("192.0.2.11", PASS),
                ("198.51.100.7", OWNED),
                ("198.51.100.8", MARTIAN),
            ],
        ),
        sources(
            "an own address is a martian like any other where own addresses are not asked for",
            "own_addresses = false\nmartians = true",
            host(),
            &[(OWN, MARTIAN), ("2600::10", PASS)],
        ),
        sources(
            "broadcast addresses of the host's networks",
            "martians = true\nown_addresses = false",
            host(),
            &[
                ("10.0.0.254", PASS),
                ("10.0.0.255", BROADCAST),
                ("10.0.1.0", PASS),
                ("10.88.255.255", BROADCAST),
            ],
        ),
        sources(
            "broadcast is legitimate nowhere",
            "martians = true\nlegitimate = [\"10.0.0.0/16\"]",
            host(),
            &[("10.0.0.255", BROADCAST), ("10.0.0.253", PASS)],
        ),
        sources(
            "broadcast where nobody asks",
            "martians = false",
            host(),
            &[("10.0.0.255", PASS)],
        ),
        case_in(
            "own addresses come before deny rules",
            &format!(
                "{}[[profiles.edge.deny]]\nid = \"all\"\nfrom = [\"0.0.0.0/0\"]\n",
                web(on)
            ),
            host(),
            vec![
                Step::ingress(from(OWN)).expect(OWNED),
                Step::ingress(from("9.9.9.9")).expect("drop_denied"),
            ],
        ),
        case_in(
            "ARP about an own address is not this table's business",
            &web(on),
            host(),
            vec![Step::ingress(link().arp_reply(OWN, OWN)).expect("pass_control")],
        ),
        case_in(
            "neighbour discovery from an own address",
            &web(on),
            host(),
            vec![
                Step::ingress(link().ipv6(&Ipv6::new(OWN6, "ff02::1").hops(255).with(
                    &Icmpv6::neighbour_advertisement(ip::v6(OWN6), [2, 0, 0, 0, 0, 1]),
                )))
                .expect(OWNED),
            ],
        ),
    ]
}
