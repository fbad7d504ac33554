//! Owns the table's cases for what leaves this host by an outer interface.
//! Must never hold a case about containers' links.

use super::{OWN, OWN6, REMOTE, REMOTE6, case_in, world};
use crate::oracle::World;
use crate::oracle::case::{Case, INTERFACE, Step};
use crate::oracle::policy::Mac;
use crate::oracle::world::LinkFacts;
use crate::packets::{
    ARP, Extension, IPV4, Icmpv6, Ipv4, Ipv6, Link, Raw, Tcp, Transport, Udp, ip, link,
};

const PASS: &str = "pass_egress";
const SOURCE: &str = "drop_binding egress:source";
const MAC: &str = "drop_binding egress:mac";
const ARP_SENDER: &str = "drop_binding egress:arp";

const ON: &str = "version = 1
[groups.routed]
cidrs = [\"2600:88::/64\"]
[profiles.edge]
interfaces = [\"lo\"]
antispoof = { egress = true, egress_sources = [\"10.88.0.0/16\", \"@routed\"] }
";

/// The table's host: two MACs on `lo`, one of them the frames' usual source, and an address it only tries yet.
fn host() -> World {
    let mut world = world();
    world.own_v6.push(ip::v6("2600::11"));
    world.tentative_v6.push(ip::v6("2600::11"));
    world.broadcast.push(ip::v4("192.0.2.255"));
    let facts = LinkFacts {
        macs: vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 9])],
        ..LinkFacts::none()
    };
    world.links.insert(INTERFACE.into(), facts);
    world
}

fn frames(description: &str, policy: &str, list: Vec<(Vec<u8>, &str)>) -> Case {
    let steps = list
        .into_iter()
        .map(|(frame, reason)| Step::egress(frame).expect(reason));
    case_in(description, policy, host(), steps.collect())
}

fn sent(source: &str, transport: &dyn Transport) -> Vec<u8> {
    to(
        source,
        if source.contains(':') {
            REMOTE6
        } else {
            REMOTE
        },
        transport,
    )
}

fn to(source: &str, destination: &str, transport: &dyn Transport) -> Vec<u8> {
    if source.contains(':') {
        link().ipv6(&Ipv6::new(source, destination).with(transport))
    } else {
        link().ipv4(&Ipv4::new(source, destination).with(transport))
    }
}

/// ARP that calls its hardware IEEE 802, which receivers take for Ethernet.
fn over_ieee_802(mut arp: Vec<u8>) -> Vec<u8> {
    arp[15] = 6;
    arp
}

fn by(mac: [u8; 6]) -> Link {
    link().macs(mac, [2, 0, 0, 0, 0, 2])
}

pub fn cases() -> Vec<Case> {
    let mut cases = source_cases();
    cases.extend(unspecified_cases());
    cases.extend(flow_cases());
    cases
}

fn source_cases() -> Vec<Case> {
    let syn = Tcp::syn(50_000, 443);
    let from = |source: &str| sent(source, &syn);
    let mac = |mac| by(mac).ipv4(&Ipv4::new(OWN, REMOTE).with(&syn));
    let off = ON.replace("egress = true", "egress = false");
    let default = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n";
    let not_lo = "version = 1\n[profiles.edge]\ninterfaces = [\"l*\"]\n";
    let vlans = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\nvlans = [100]\nantispoof = { egress = true }\n";
    let parts = Ipv4::new("9.9.9.9", REMOTE)
        .with(&Udp::new(1, 2).payload(&[0; 64]))
        .fragments(32);
    let own_parts = Ipv4::new(OWN, REMOTE)
        .with(&Udp::new(1, 2).payload(&[0; 64]))
        .fragments(32);
    let arp = |sender: &str| link().arp_request(sender, REMOTE);
    vec![
        frames(
            "the host's own addresses leave",
            ON,
            vec![
                (from(OWN), PASS),
                (from("198.51.100.7"), PASS),
                (from("192.0.2.9"), SOURCE),
                (from("192.0.2.11"), SOURCE),
                (from("192.0.2.255"), SOURCE),
                (from("127.0.0.1"), SOURCE),
                (from(OWN6), PASS),
                (from("fe80::10"), PASS),
                (from("fe80::11"), SOURCE),
                (from("2001:db8:1::11"), SOURCE),
                (from("2600::11"), PASS),
                (from("2600::12"), SOURCE),
            ],
        ),
        frames(
            "further sources leave",
            ON,
            vec![
                (from("10.87.255.255"), SOURCE),
                (from("10.88.0.0"), PASS),
                (from("10.88.255.255"), PASS),
                (from("10.89.0.0"), SOURCE),
                (from("2600:87:ffff:ffff:ffff:ffff:ffff:ffff"), SOURCE),
                (from("2600:88::"), PASS),
                (from("2600:88::ffff:ffff:ffff:ffff"), PASS),
                (from("2600:88:0:1::"), SOURCE),
            ],
        ),
        frames(
            "the host's MACs",
            ON,
            vec![
                (mac([2, 0, 0, 0, 0, 1]), PASS),
                (mac([2, 0, 0, 0, 0, 9]), PASS),
                (mac([2, 0, 0, 0, 0, 8]), MAC),
                (mac([3, 0, 0, 0, 0, 1]), MAC),
                (mac([2, 1, 0, 0, 0, 1]), MAC),
                (mac([0; 6]), MAC),
                (mac([0xff; 6]), MAC),
                (by([4, 0, 0, 0, 0, 1]).arp_request(OWN, REMOTE), MAC),
                (by([4, 0, 0, 0, 0, 1]).llc(), MAC),
                (by([4, 0, 0, 0, 0, 1]).carry(IPV4, &[]), MAC),
            ],
        ),
        frames(
            "ARP that leaves",
            ON,
            vec![
                (arp(OWN), PASS),
                (arp("198.51.100.7"), PASS),
                (arp("192.0.2.11"), ARP_SENDER),
                (arp("10.88.0.1"), PASS),
                (arp("10.89.0.1"), ARP_SENDER),
                (over_ieee_802(arp(OWN)), PASS),
                (over_ieee_802(arp("192.0.2.11")), ARP_SENDER),
                (arp("0.0.0.0"), PASS),
                (link().arp_reply(OWN, REMOTE), PASS),
                (link().arp_reply(REMOTE, OWN), ARP_SENDER),
                (link().vlan(7).arp_request(REMOTE, OWN), ARP_SENDER),
                (link().carry(ARP, &[0; 28]), PASS),
                (
                    link().carry(
                        ARP,
                        &crate::packets::arp(1, [2, 0, 0, 0, 0, 1], REMOTE, [0; 6], OWN)[..27],
                    ),
                    PASS,
                ),
            ],
        ),
        frames(
            "what else leaves is not judged",
            ON,
            vec![
                (link().llc(), PASS),
                (link().carry(0x88b5, &[0; 46]), PASS),
                (link().carry(IPV4, &[0x45; 19]), PASS),
                (
                    link()
                        .vlan(1)
                        .vlan(2)
                        .vlan(3)
                        .ipv4(&Ipv4::new("9.9.9.9", REMOTE).with(&syn)),
                    PASS,
                ),
            ],
        ),
        frames(
            "nobody asks what leaves",
            &off,
            vec![
                (from("9.9.9.9"), PASS),
                (mac([0xff; 6]), PASS),
                (arp("9.9.9.9"), PASS),
            ],
        ),
        frames(
            "nobody asks what leaves by lo",
            default,
            vec![(from("9.9.9.9"), PASS), (mac([0xff; 6]), PASS)],
        ),
        frames(
            "what leaves is judged by default",
            not_lo,
            vec![
                (from(OWN), PASS),
                (from("9.9.9.9"), SOURCE),
                (mac([0xff; 6]), MAC),
            ],
        ),
        frames(
            "what leaves in a VLAN",
            vlans,
            vec![
                (from("9.9.9.9"), "pass_unmanaged"),
                (
                    link().vlan(100).ipv4(&Ipv4::new(OWN, REMOTE).with(&syn)),
                    PASS,
                ),
                (
                    link()
                        .vlan(100)
                        .ipv4(&Ipv4::new("9.9.9.9", REMOTE).with(&syn)),
                    SOURCE,
                ),
                (
                    link()
                        .vlan(101)
                        .ipv4(&Ipv4::new("9.9.9.9", REMOTE).with(&syn)),
                    "pass_unmanaged",
                ),
            ],
        ),
        frames(
            "fragments that leave, each by its source",
            ON,
            vec![
                (link().ipv4(&parts[0]), SOURCE),
                (link().ipv4(&parts[1]), SOURCE),
                (link().ipv4(&own_parts[1]), PASS),
                (link().ipv4(&own_parts[0]), PASS),
            ],
        ),
        frames(
            "a forged source behind extension headers",
            ON,
            vec![(
                link().ipv6(
                    &Ipv6::new("2600::9", REMOTE6)
                        .with(&syn)
                        .extension(Extension::HopByHop(8))
                        .extension(Extension::Fragment(0, false, 1)),
                ),
                SOURCE,
            )],
        ),
        frames(
            "monitor mode and what leaves",
            &ON.replace("[\"lo\"]", "[\"lo\"]\nenforce = false"),
            vec![(from("9.9.9.9"), SOURCE), (from(OWN), PASS)],
        ),
    ]
}

fn unspecified_cases() -> Vec<Case> {
    let all = "255.255.255.255";
    let igmp = Raw(2, vec![0x16, 0, 0, 0, 224, 0, 0, 251]);
    let discover = Ipv4::new("0.0.0.0", all).with(&Udp::new(68, 67).payload(&[0; 64]));
    let message = |kind| {
        let message = Icmpv6 {
            payload: vec![0; 16],
            ..Icmpv6::new(kind, 0)
        };
        link().ipv6(&Ipv6::new("::", "ff02::16").hops(255).with(&message))
    };
    let kinds = [
        (128, SOURCE),
        (130, SOURCE),
        (131, PASS),
        (132, PASS),
        (133, PASS),
        (134, SOURCE),
        (135, PASS),
        (136, SOURCE),
        (143, PASS),
        (144, SOURCE),
    ];
    vec![
        frames(
            "0.0.0.0 leaves as DHCP client and with IGMP",
            ON,
            vec![
                (to("0.0.0.0", all, &Udp::new(68, 67)), PASS),
                (to("0.0.0.0", all, &Udp::new(67, 67)), SOURCE),
                (to("0.0.0.0", all, &Udp::new(68, 68)), SOURCE),
                (to("0.0.0.0", all, &Udp::new(67, 68)), SOURCE),
                (to("0.0.0.0", all, &Tcp::syn(68, 67)), SOURCE),
                (to("0.0.0.1", all, &Udp::new(68, 67)), SOURCE),
                (to("0.0.0.0", "224.0.0.251", &igmp), PASS),
                (to("0.0.0.0", "224.0.0.251", &Raw(3, vec![0; 8])), SOURCE),
                (link().ipv4(&discover.fragments(32)[0]), PASS),
                (link().ipv4(&discover.fragments(32)[1]), SOURCE),
            ],
        ),
        frames(
            ":: leaves to find an address",
            ON,
            kinds
                .into_iter()
                .map(|(kind, reason)| (message(kind), reason))
                .chain([
                    (
                        to("::ffff:0.0.0.0", "ff02::16", &Icmpv6::new(135, 0)),
                        SOURCE,
                    ),
                    (to("::", "ff02::1:2", &Udp::new(546, 547)), SOURCE),
                    (to("::", "ff02::16", &igmp), SOURCE),
                ])
                .collect(),
        ),
    ]
}

fn flow_cases() -> Vec<Case> {
    let out =
        |source: &str, reason| Step::egress(sent(source, &Udp::new(50_000, 53))).expect(reason);
    let back = |destination: &str, reason| {
        let answer = Ipv4::new(REMOTE, destination).with(&Udp::new(53, 50_000));
        Step::ingress(link().ipv4(&answer)).expect(reason)
    };
    let steps = || {
        vec![
            out("9.9.9.9", SOURCE),
            back("9.9.9.9", "drop_port"),
            out(OWN, PASS),
            back(OWN, "pass_reply"),
        ]
    };
    vec![
        case_in("what does not leave has no answer", ON, host(), steps()),
        case_in(
            "what would not leave has no answer in monitor mode",
            &ON.replace("[\"lo\"]", "[\"lo\"]\nenforce = false"),
            host(),
            steps(),
        ),
        case_in(
            "nobody asks what leaves, and all of it has answers",
            &ON.replace("egress = true", "egress = false"),
            host(),
            vec![out("9.9.9.9", PASS), back("9.9.9.9", "pass_reply")],
        ),
    ]
}
