//! Owns the table's cases for who sends on a container's link: MACs, addresses, roles, links of which nothing is known.
//! Must never hold a case that a send list decides.

use super::{OWN, REMOTE, REMOTE6, case_in, world};
use crate::oracle::World;
use crate::oracle::case::{Case, INTERFACE, Step};
use crate::oracle::policy::{Cidr, Mac};
use crate::oracle::world::{Binding, LinkFacts};
use crate::packets::{
    IPV4, Icmpv6, Ipv4, Ipv6, Link, Raw, Tcp, Transport, Udp, dhcpv4_reply, dhcpv6_reply, ip, link,
};

const PASS: &str = "pass_rule";
pub const CONTROL: &str = "pass_control";
const UNKNOWN: &str = "drop_binding binding:unknown";
const MAC: &str = "drop_binding binding:mac";
pub const SOURCE: &str = "drop_binding binding:source";
pub const ARP_SENDER: &str = "drop_binding binding:arp";
pub const TARGET: &str = "drop_binding binding:nd";
const ROLE: &str = "drop_binding binding:role";

pub const POD: &str = "10.22.0.5";
pub const POD6: &str = "fd00::5";

/// tcp/80 of the container is open, it may send anything.
pub const PODS: &str = "version = 1
[profiles.pods]
interfaces = [\"l?\"]
[profiles.pods.containers]
[[profiles.pods.allow]]
id = \"web\"
protocol = \"tcp\"
ports = [80]
";

/// `lo` as a container's link, with the frames' usual source MAC and another.
pub fn bound() -> World {
    let addresses = [POD, "10.22.0.16/28", POD6, "fd00:0:0:1::/64", "fe80::5"];
    let cidr = |text: &&str| Cidr::try_from((*text).to_owned()).ok();
    let binding = Binding {
        macs: vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 5])],
        addresses: addresses.iter().filter_map(cidr).collect(),
    };
    with(Some(binding), None)
}

fn with(binding: Option<Binding>, peer: Option<Mac>) -> World {
    let mut world = world();
    let facts = LinkFacts {
        peer,
        binding,
        bridge: Some("cni0".into()),
        ..LinkFacts::none()
    };
    world.links.insert(INTERFACE.into(), facts);
    world
}

pub fn frames(description: &str, policy: &str, world: World, list: Vec<(Vec<u8>, &str)>) -> Case {
    let steps = list
        .into_iter()
        .map(|(frame, reason)| Step::egress(frame).expect(reason));
    case_in(description, policy, world, steps.collect())
}

pub fn to(source: &str, destination: &str, transport: &dyn Transport) -> Vec<u8> {
    if source.contains(':') {
        link().ipv6(&Ipv6::new(source, destination).with(transport))
    } else {
        link().ipv4(&Ipv4::new(source, destination).with(transport))
    }
}

fn from(source: &str) -> Vec<u8> {
    let remote = if source.contains(':') {
        REMOTE6
    } else {
        REMOTE
    };
    to(source, remote, &Tcp::syn(50_000, 443))
}

fn by(mac: [u8; 6]) -> Link {
    link().macs(mac, [2, 0, 0, 0, 0, 2])
}

pub fn cases() -> Vec<Case> {
    let mut cases = sender_cases();
    cases.extend(unspecified_cases());
    cases.extend(fragment_cases());
    cases.extend(known_cases());
    cases.extend(arriving_cases());
    cases
}

fn sender_cases() -> Vec<Case> {
    let mac = |mac| by(mac).ipv4(&Ipv4::new(POD, REMOTE).with(&Tcp::syn(50_000, 443)));
    let short = Ipv4::new("9.9.9.9", REMOTE).raw(6, &[0; 8]);
    vec![
        frames(
            "a container's addresses",
            PODS,
            bound(),
            vec![
                (from("10.22.0.4"), SOURCE),
                (from(POD), PASS),
                (from("10.22.0.6"), SOURCE),
                (from("10.22.0.15"), SOURCE),
                (from("10.22.0.16"), PASS),
                (from("10.22.0.31"), PASS),
                (from("10.22.0.32"), SOURCE),
                (from("fd00::4"), SOURCE),
                (from(POD6), PASS),
                (from("fd00::6"), SOURCE),
                (from("fd00:0:0:0:ffff:ffff:ffff:ffff"), SOURCE),
                (from("fd00:0:0:1::"), PASS),
                (from("fd00:0:0:1:ffff:ffff:ffff:ffff"), PASS),
                (from("fd00:0:0:2::"), SOURCE),
                (from("fe80::5"), PASS),
                (from("fe80::6"), SOURCE),
                (from(OWN), SOURCE),
                (from("127.0.0.1"), SOURCE),
                (
                    to("::ffff:10.22.0.5", REMOTE6, &Tcp::syn(1, 2)),
                    "drop_malformed",
                ),
                (from("::1"), SOURCE),
            ],
        ),
        frames(
            "a container's MACs",
            PODS,
            bound(),
            vec![
                (mac([2, 0, 0, 0, 0, 1]), PASS),
                (mac([2, 0, 0, 0, 0, 5]), PASS),
                (mac([2, 0, 0, 0, 0, 4]), MAC),
                (mac([3, 0, 0, 0, 0, 1]), MAC),
                (mac([2, 0, 1, 0, 0, 1]), MAC),
                (mac([0; 6]), MAC),
                (mac([0xff; 6]), MAC),
                (by([4, 0, 0, 0, 0, 1]).carry(IPV4, &[]), MAC),
                (by([4, 0, 0, 0, 0, 1]).llc(), MAC),
            ],
        ),
        frames(
            "a container's VLAN tags hide nothing",
            PODS,
            bound(),
            vec![
                (
                    link()
                        .vlan(7)
                        .ipv4(&Ipv4::new("9.9.9.9", REMOTE).with(&Tcp::syn(1, 2))),
                    SOURCE,
                ),
                (
                    link()
                        .service_vlan(7)
                        .vlan(8)
                        .ipv4(&Ipv4::new("9.9.9.9", REMOTE).with(&Tcp::syn(1, 2))),
                    SOURCE,
                ),
                (
                    link()
                        .vlan(7)
                        .ipv4(&Ipv4::new(POD, REMOTE).with(&Tcp::syn(1, 2))),
                    PASS,
                ),
                (
                    link()
                        .vlan(7)
                        .vlan(8)
                        .vlan(9)
                        .ipv4(&Ipv4::new(POD, REMOTE).with(&Tcp::syn(1, 2))),
                    "drop_malformed",
                ),
                (link().vlan(7).arp_reply("10.22.0.1", POD), ARP_SENDER),
            ],
        ),
        frames(
            "a container's malformed packets",
            PODS,
            bound(),
            vec![
                (link().carry(IPV4, &[0x45; 19]), "drop_malformed"),
                (link().ipv4(&short), SOURCE),
                (
                    to("::ffff:10.22.0.5", REMOTE6, &Tcp::syn(1, 2)),
                    "drop_malformed",
                ),
                (to(POD, REMOTE, &Udp::new(1, 2).length(7)), "drop_malformed"),
            ],
        ),
        frames(
            "a container's other ethertypes",
            &PODS.replace(
                "[\"l?\"]",
                "[\"l?\"]\ndefault = \"pass\"\nethertypes = [\"lldp\"]",
            ),
            bound(),
            vec![
                (link().carry(0x88cc, &[0; 46]), CONTROL),
                (link().carry(0x88b5, &[0; 46]), "drop_ethertype"),
                (link().llc(), "drop_ethertype"),
            ],
        ),
        frames(
            "roles no container has",
            PODS,
            bound(),
            vec![
                (
                    to("fe80::5", "ff02::1", &Icmpv6::router_advertisement()),
                    ROLE,
                ),
                (to("fe80::5", "ff02::1", &Icmpv6::new(137, 0)), ROLE),
                (
                    to("fe80::5", "ff02::2", &Icmpv6::router_solicitation()),
                    CONTROL,
                ),
                (to(POD, "255.255.255.255", &dhcpv4_reply()), ROLE),
                (to("fe80::5", "fe80::9", &dhcpv6_reply()), ROLE),
                (to(POD, REMOTE, &Udp::new(67, 69)), PASS),
                (to(POD, REMOTE, &Udp::new(66, 68)), ROLE),
                (to(POD, REMOTE, &Udp::new(66, 546)), PASS),
                (to("fe80::5", "ff02::1:2", &Udp::new(546, 547)), CONTROL),
                (to(POD, "255.255.255.255", &Udp::new(68, 67)), CONTROL),
                (to(POD, REMOTE, &Udp::new(68, 67)), PASS),
                (to(POD, "224.0.0.22", &Raw(2, vec![0; 8])), CONTROL),
            ],
        ),
    ]
}

fn unspecified_cases() -> Vec<Case> {
    let all = "255.255.255.255";
    let message = |kind| {
        to(
            "::",
            "ff02::16",
            &Icmpv6 {
                payload: ip::v6(POD6).octets().to_vec(),
                ..Icmpv6::new(kind, 0)
            },
        )
    };
    let kinds = [128, 130, 131, 132, 133, 134, 135, 136, 137, 143, 144];
    let reason = |kind| {
        if matches!(kind, 131 | 132 | 133 | 135 | 143) {
            CONTROL
        } else {
            SOURCE
        }
    };
    let mut named = bound();
    for facts in named.links.values_mut() {
        let zero = Cidr::try_from("0.0.0.0".to_owned()).ok();
        if let Some(binding) = &mut facts.binding {
            binding.addresses.extend(zero);
        }
    }
    vec![
        frames(
            "a container without an address yet",
            PODS,
            bound(),
            vec![
                (to("0.0.0.0", all, &Udp::new(68, 67)), CONTROL),
                (to("0.0.0.0", all, &Udp::new(67, 67)), SOURCE),
                (to("0.0.0.0", all, &Udp::new(68, 66)), SOURCE),
                (to("0.0.0.0", all, &dhcpv4_reply()), SOURCE),
                (to("0.0.0.0", all, &Tcp::syn(68, 67)), SOURCE),
                (to("0.0.0.0", "224.0.0.22", &Raw(2, vec![0; 8])), CONTROL),
                (to("0.0.0.0", "224.0.0.22", &Raw(3, vec![0; 8])), SOURCE),
                (to("0.0.0.1", all, &Udp::new(68, 67)), SOURCE),
                (to("::", "ff02::1:2", &Udp::new(546, 547)), SOURCE),
                (to("::", "ff02::16", &Raw(2, vec![0; 8])), SOURCE),
            ],
        ),
        frames(
            "a container without an IPv6 address yet",
            PODS,
            bound(),
            kinds
                .iter()
                .map(|kind| (message(*kind), reason(*kind)))
                .collect(),
        ),
        frames(
            "0.0.0.0 is nobody's address, whatever a binding says",
            PODS,
            named,
            vec![(to("0.0.0.0", REMOTE, &Tcp::syn(1, 2)), SOURCE)],
        ),
    ]
}

fn fragment_cases() -> Vec<Case> {
    let train = |source: &str, id| {
        let packet = Ipv4::new(source, REMOTE)
            .with(&Udp::new(1, 2).payload(&[0; 64]))
            .id(id);
        packet
            .fragments(32)
            .iter()
            .map(|part| link().ipv4(part))
            .collect::<Vec<_>>()
    };
    let (own, forged) = (train(POD, 1), train("9.9.9.9", 2));
    let advertisement =
        Ipv6::new(POD6, "ff02::1")
            .hops(255)
            .with(&Icmpv6::neighbour_advertisement(
                ip::v6(POD6),
                [2, 0, 0, 0, 0, 1],
            ));
    let parts: Vec<Vec<u8>> = advertisement
        .fragments(8, 1)
        .iter()
        .map(|part| link().ipv6(part))
        .collect();
    let whole: Vec<Vec<u8>> = advertisement
        .fragments(24, 1)
        .iter()
        .map(|part| link().ipv6(part))
        .collect();
    let tiny = Ipv4::new(POD, REMOTE).with(&Tcp::syn(1, 2)).fragments(8);
    vec![
        frames(
            "fragments of a container",
            PODS,
            bound(),
            vec![
                (own[1].clone(), "drop_fragment"),
                (own[0].clone(), PASS),
                (own[1].clone(), "pass_fragment"),
                (forged[0].clone(), SOURCE),
                (forged[1].clone(), SOURCE),
                (link().ipv4(&tiny[0]), "drop_fragment"),
            ],
        ),
        frames(
            "fragments of a container where none pass",
            &PODS.replace("[\"l?\"]", "[\"l?\"]\nfragments = \"drop\""),
            bound(),
            vec![
                (own[0].clone(), "drop_fragment"),
                (own[1].clone(), "drop_fragment"),
                (forged[0].clone(), SOURCE),
            ],
        ),
        frames(
            "a neighbour advertisement in fragments shows no target",
            PODS,
            bound(),
            vec![
                (parts[0].clone(), TARGET),
                (whole[0].clone(), CONTROL),
                (whole[1].clone(), "pass_fragment"),
            ],
        ),
    ]
}

/// Where a binding comes from, and links of which nothing is known.
fn known_cases() -> Vec<Case> {
    let open = PODS.replace("containers]\n", "containers]\nunbound = \"open\"\n");
    let fixed = |bindings: &str, mac: &str| {
        let binding = format!(
            "containers]\n{bindings}[[profiles.pods.containers.binding]]\ninterface = \"lo\"\n{mac}addresses = [\"10.23.0.5\"]\n"
        );
        PODS.replace("containers]\n", &binding)
    };
    let elsewhere =
        fixed("bindings = \"static\"\n", "").replace("interface = \"lo\"", "interface = \"veth9\"");
    let nothing = || with(None, None);
    let short = Ipv4::new(POD, REMOTE).raw(6, &[0; 8]);
    let peer = Mac([2, 0, 0, 0, 0, 1]);
    vec![
        frames(
            "a link of which nothing is known is closed",
            PODS,
            nothing(),
            vec![
                (from(POD), UNKNOWN),
                (link().arp_request(POD, "10.22.0.1"), UNKNOWN),
                (link().carry(IPV4, &[]), UNKNOWN),
                (to("0.0.0.0", "255.255.255.255", &Udp::new(68, 67)), UNKNOWN),
                (link().llc(), UNKNOWN),
            ],
        ),
        frames(
            "a link of which nothing is known may be open",
            &open,
            nothing(),
            vec![
                (from(POD), PASS),
                (from("9.9.9.9"), PASS),
                (by([0xff; 6]).arp_request("9.9.9.9", POD), CONTROL),
                (to("9.9.9.9", REMOTE, &dhcpv4_reply()), PASS),
                (
                    to("fe80::9", "ff02::1", &Icmpv6::router_advertisement()),
                    PASS,
                ),
                (
                    to(
                        "fe80::9",
                        "ff02::1",
                        &Icmpv6::neighbour_advertisement(ip::v6("fe80::1"), [2, 0, 0, 0, 0, 1]),
                    ),
                    CONTROL,
                ),
                (link().ipv4(&short), "drop_malformed"),
                (link().carry(0x88b5, &[0; 46]), "drop_ethertype"),
            ],
        ),
        frames(
            "an open link is checked once something is known",
            &open,
            bound(),
            vec![(from("9.9.9.9"), SOURCE)],
        ),
        frames(
            "the policy's own binding wins",
            &fixed("", "mac = \"02:00:00:00:00:07\"\n"),
            bound(),
            vec![
                (from("10.23.0.5"), MAC),
                (
                    by([2, 0, 0, 0, 0, 7])
                        .ipv4(&Ipv4::new("10.23.0.5", REMOTE).with(&Udp::new(1, 2))),
                    PASS,
                ),
                (
                    by([2, 0, 0, 0, 0, 7]).ipv4(&Ipv4::new(POD, REMOTE).with(&Udp::new(1, 2))),
                    SOURCE,
                ),
            ],
        ),
        frames(
            "the policy's own binding takes the other end's MAC",
            &fixed("", ""),
            with(None, Some(peer)),
            vec![
                (from("10.23.0.5"), PASS),
                (from(POD), SOURCE),
                (
                    by([2, 0, 0, 0, 0, 7])
                        .ipv4(&Ipv4::new("10.23.0.5", REMOTE).with(&Udp::new(1, 2))),
                    MAC,
                ),
            ],
        ),
        frames(
            "the policy's own binding without a MAC is none",
            &fixed("", ""),
            nothing(),
            vec![(from("10.23.0.5"), UNKNOWN)],
        ),
        frames(
            "static bindings only, and none for this link",
            &elsewhere,
            bound(),
            vec![(from(POD), UNKNOWN)],
        ),
        frames(
            "a link that belongs to a profile by its bridge",
            &PODS.replace("interfaces = [\"l?\"]", "bridges = [\"cni*\"]"),
            bound(),
            vec![(from(POD), PASS), (from("9.9.9.9"), SOURCE)],
        ),
        frames(
            "a link on a bridge of another name",
            &PODS.replace("interfaces = [\"l?\"]", "bridges = [\"docker*\"]"),
            bound(),
            vec![(from("9.9.9.9"), "pass_unmanaged")],
        ),
        frames(
            "monitor mode and containers",
            &PODS.replace("[\"l?\"]", "[\"l?\"]\nenforce = false"),
            bound(),
            vec![(from("9.9.9.9"), SOURCE), (from(POD), PASS)],
        ),
    ]
}

fn arriving_cases() -> Vec<Case> {
    let web = |source: &str, port| Step::ingress(to(source, POD, &Tcp::syn(40_000, port)));
    let group = link().macs([3, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let nothing = || with(None, None);
    vec![
        case_in(
            "what reaches a container",
            PODS,
            bound(),
            vec![
                web(REMOTE, 80).expect(PASS),
                web(REMOTE, 81).expect("drop_port"),
                Step::ingress(link().arp_request("10.22.0.1", POD)).expect(CONTROL),
                Step::ingress(to("10.22.0.1", POD, &dhcpv4_reply())).expect(CONTROL),
                Step::ingress(to("fe80::1", POD6, &Icmpv6::echo_request(1))).expect("drop_icmp"),
            ],
        ),
        case_in(
            "sources are not judged on their way to a container",
            PODS,
            bound(),
            vec![
                web("127.0.0.1", 80).expect(PASS),
                web(OWN, 80).expect(PASS),
                web(POD, 80).expect(PASS),
                Step::ingress(group.ipv4(&Ipv4::new(REMOTE, POD).with(&Tcp::syn(1, 80))))
                    .expect(PASS),
            ],
        ),
        case_in(
            "nothing reaches a container of which nothing is known",
            PODS,
            nothing(),
            vec![
                web(REMOTE, 80).expect(UNKNOWN),
                Step::ingress(link().arp_request("10.22.0.1", POD)).expect(UNKNOWN),
                Step::ingress(link().carry(IPV4, &[])).expect(UNKNOWN),
            ],
        ),
        case_in(
            "what reaches a container of which nothing is known, on an open link",
            &PODS.replace("containers]\n", "containers]\nunbound = \"open\"\n"),
            nothing(),
            vec![
                web(REMOTE, 80).expect(PASS),
                web(REMOTE, 81).expect("drop_port"),
            ],
        ),
    ]
}
