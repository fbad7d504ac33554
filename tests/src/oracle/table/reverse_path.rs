//! Owns the table's cases for the reverse path: which routes lead back to a source.
//! Must never hold a case about martians or own addresses.

use super::{OWN, OWN6, case_in, world};
use crate::oracle::World;
use crate::oracle::case::{Case, INTERFACE, Step};
use crate::oracle::policy::Cidr;
use crate::oracle::world::{LinkFacts, Route};
use crate::packets::{Icmpv6, Ipv4, Ipv6, Raw, Tcp, Udp, dhcpv4_reply, dhcpv6_reply, ip, link};

const PASS: &str = "pass_rule";
const DROP: &str = "drop_reverse_path reverse-path";

/// `lo`, and another interface.
const HERE: u32 = 1;
const THERE: u32 = 7;

fn policy(reverse_path: &str) -> String {
    format!(
        "version = 1
[profiles.edge]
interfaces = [\"lo\"]
[profiles.edge.antispoof]
reverse_path = \"{reverse_path}\"
[[profiles.edge.allow]]
id = \"https\"
protocol = [\"tcp\", \"igmp\"]
"
    )
}

fn route(table: u32, prefix: &str, metric: u32, interfaces: &[u32]) -> Option<Route> {
    Some(Route {
        table,
        prefix: Cidr::try_from(prefix.to_owned()).ok()?,
        metric,
        interfaces: interfaces.to_vec(),
        any: false,
    })
}

fn host(routes: impl IntoIterator<Item = Option<Route>>, outputs: &[u32]) -> World {
    let mut world = world();
    world.routes = routes.into_iter().flatten().collect();
    world.links.insert(
        INTERFACE.into(),
        LinkFacts {
            outputs: Some(outputs.to_vec()),
            ..LinkFacts::none()
        },
    );
    world
}

fn from(source: &str) -> Vec<u8> {
    if source.contains(':') {
        link().ipv6(&Ipv6::new(source, OWN6).with(&Tcp::syn(40_000, 443)))
    } else {
        link().ipv4(&Ipv4::new(source, OWN).with(&Tcp::syn(40_000, 443)))
    }
}

fn by_vlan(id: u16, source: &str) -> Vec<u8> {
    let segment = Tcp::syn(40_000, 443);
    link().vlan(id).ipv4(&Ipv4::new(source, OWN).with(&segment))
}

fn sources(description: &str, mode: &str, world: World, list: &[(&str, &str)]) -> Case {
    let steps = list
        .iter()
        .map(|(source, reason)| Step::ingress(from(source)).expect(reason));
    case_in(description, &policy(mode), world, steps.collect())
}

pub fn cases() -> Vec<Case> {
    let mut cases = route_cases();
    cases.extend(exempt_cases());
    cases
}

fn route_cases() -> Vec<Case> {
    let home = || {
        [
            route(254, "0.0.0.0/0", 100, &[THERE]),
            route(254, "203.0.113.0/24", 0, &[HERE]),
            route(254, "203.0.113.64/26", 0, &[THERE]),
            route(254, "203.0.113.96/27", 0, &[]),
            route(254, "2600::/32", 0, &[HERE]),
        ]
    };
    let edges = [
        ("203.0.112.255", DROP),
        ("203.0.113.0", PASS),
        ("203.0.113.63", PASS),
        ("203.0.113.64", DROP),
        ("203.0.113.95", DROP),
        ("203.0.113.96", DROP),
        ("203.0.113.127", DROP),
        ("203.0.113.128", PASS),
        ("203.0.113.255", PASS),
        ("203.0.114.0", DROP),
        ("25ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DROP),
        ("2600::", PASS),
        ("2600:0:ffff:ffff:ffff:ffff:ffff:ffff", PASS),
        ("2600:1::", DROP),
    ];
    let any = Route {
        table: 254,
        prefix: Cidr(ipnet::Ipv4Net::default().into()),
        metric: 0,
        interfaces: Vec::new(),
        any: true,
    };
    vec![
        sources(
            "routes that nobody asks",
            "off",
            host([], &[HERE]),
            &[("9.9.9.9", PASS), ("2600::1", PASS)],
        ),
        sources(
            "loose without a route",
            "loose",
            host([], &[HERE]),
            &[("9.9.9.9", DROP), ("2600::1", DROP)],
        ),
        sources(
            "strict without a route",
            "strict",
            host([], &[HERE]),
            &[("9.9.9.9", DROP), ("2600::1", DROP)],
        ),
        sources(
            "loose: any route will do, save one that leads nowhere",
            "loose",
            host(home(), &[HERE]),
            &edges.map(|(source, reason)| {
                let there =
                    !source.contains(':') && !matches!(source, "203.0.113.96" | "203.0.113.127");
                (source, if there { PASS } else { reason })
            }),
        ),
        sources(
            "strict: the longest prefix tells",
            "strict",
            host(home(), &[HERE]),
            &edges,
        ),
        sources(
            "strict: what counts as the interface",
            "strict",
            host([route(254, "0.0.0.0/0", 0, &[THERE])], &[HERE, THERE]),
            &[("9.9.9.9", PASS)],
        ),
        sources(
            "strict: a link on which nothing counts",
            "strict",
            host([route(254, "0.0.0.0/0", 0, &[HERE])], &[]),
            &[("9.9.9.9", DROP)],
        ),
        sources(
            "strict: several next hops",
            "strict",
            host([route(254, "0.0.0.0/0", 0, &[THERE, HERE])], &[HERE]),
            &[("9.9.9.9", PASS)],
        ),
        sources(
            "strict: the lowest metric tells",
            "strict",
            host(
                [
                    route(254, "10.1.0.0/16", 100, &[HERE]),
                    route(254, "10.1.0.0/16", 50, &[THERE]),
                    route(254, "10.2.0.0/16", 100, &[THERE]),
                    route(254, "10.2.0.0/16", 50, &[HERE]),
                ],
                &[HERE],
            ),
            &[("10.1.0.1", DROP), ("10.2.0.1", PASS)],
        ),
        sources(
            "strict: a longer prefix beats a lower metric",
            "strict",
            host(
                [
                    route(254, "10.0.0.0/8", 0, &[HERE]),
                    route(254, "10.1.0.0/16", 1024, &[THERE]),
                ],
                &[HERE],
            ),
            &[("10.0.0.1", PASS), ("10.1.0.1", DROP)],
        ),
        sources(
            "strict: any table will do, each by its best route",
            "strict",
            host(
                [
                    route(254, "0.0.0.0/0", 0, &[THERE]),
                    route(100, "0.0.0.0/0", 0, &[HERE]),
                    route(100, "10.1.0.0/16", 0, &[THERE]),
                ],
                &[HERE],
            ),
            &[("9.9.9.9", PASS), ("10.1.0.1", DROP), ("10.2.0.1", PASS)],
        ),
        sources(
            "strict: an unreachable prefix in one table",
            "strict",
            host(
                [
                    route(254, "0.0.0.0/0", 0, &[HERE]),
                    route(254, "10.1.0.0/16", 0, &[]),
                    route(100, "10.1.2.0/24", 0, &[HERE]),
                ],
                &[HERE],
            ),
            &[("10.1.1.1", DROP), ("10.1.2.1", PASS)],
        ),
        sources(
            "strict: a next-hop object may lead out of any interface",
            "strict",
            host([Some(any)], &[HERE]),
            &[("9.9.9.9", PASS), ("2600::1", DROP)],
        ),
        case_in(
            "each VLAN by its own profile's reverse path",
            &format!(
                "{}[profiles.loose]\ninterfaces = [\"lo\"]\nvlans = [7]\nantispoof = {{ reverse_path = \"loose\" }}\n\
                 [profiles.off]\ninterfaces = [\"lo\"]\nvlans = [8]\n",
                policy("strict")
            ),
            host([route(254, "10.0.0.0/8", 0, &[THERE])], &[HERE]),
            vec![
                Step::ingress(from("10.0.0.1")).expect(DROP),
                Step::ingress(by_vlan(7, "10.0.0.1")).expect("drop_port"),
                Step::ingress(by_vlan(7, "9.9.9.9")).expect(DROP),
                Step::ingress(by_vlan(8, "9.9.9.9")).expect("drop_port"),
                Step::ingress(by_vlan(9, "10.0.0.1")).expect(DROP),
            ],
        ),
        case_in(
            "a strict VLAN on an interface that asks for no route",
            &format!(
                "{}[profiles.strict]\ninterfaces = [\"lo\"]\nvlans = [7]\nantispoof = {{ reverse_path = \"strict\" }}\n",
                policy("off")
            ),
            host([route(254, "10.0.0.0/8", 0, &[THERE])], &[HERE]),
            vec![
                Step::ingress(from("10.0.0.1")).expect(PASS),
                Step::ingress(by_vlan(7, "10.0.0.1")).expect(DROP),
            ],
        ),
        case_in(
            "the reverse path comes before deny rules and closed ports",
            &format!(
                "{}[[profiles.edge.deny]]\nid = \"all\"\nprotocol = \"udp\"\n",
                policy("strict")
            ),
            host(home(), &[HERE]),
            vec![
                Step::ingress(link().ipv4(&Ipv4::new("9.9.9.9", OWN).with(&Udp::new(1, 2))))
                    .expect(DROP),
                Step::ingress(link().ipv4(&Ipv4::new("203.0.113.1", OWN).with(&Udp::new(1, 2))))
                    .expect("drop_denied"),
            ],
        ),
        case_in(
            "an answer by another way than the question went",
            &policy("strict"),
            host(home(), &[HERE]),
            vec![
                Step::egress(link().ipv4(&Ipv4::new(OWN, "9.9.9.9").with(&Udp::new(50_000, 53)))),
                Step::ingress(link().ipv4(&Ipv4::new("9.9.9.9", OWN).with(&Udp::new(53, 50_000))))
                    .expect(DROP),
            ],
        ),
    ]
}

/// What comes from the link itself, or from nobody yet, has no route and needs none.
fn exempt_cases() -> Vec<Case> {
    let strict = |control: &str| {
        policy("strict").replace("[\"lo\"]", &format!("[\"lo\"]\ncontrol = {{ {control} }}"))
    };
    let one = |description: &str, policy: &str, frame: Vec<u8>, reason: &str| {
        case_in(
            description,
            policy,
            host([], &[HERE]),
            vec![Step::ingress(frame).expect(reason)],
        )
    };
    let message = |source: &str, kind, hops| {
        link().ipv6(
            &Ipv6::new(source, "ff02::1")
                .hops(hops)
                .with(&Icmpv6::new(kind, 0)),
        )
    };
    let offer = link().ipv4(&Ipv4::new("9.9.9.9", OWN).with(&dhcpv4_reply()));
    let offer6 = |source: &str| link().ipv6(&Ipv6::new(source, OWN6).with(&dhcpv6_reply()));
    let advertised = link().ipv6(&Ipv6::new("2600::1", OWN6).hops(255).with(
        &Icmpv6::neighbour_advertisement(ip::v6("2600::1"), [2, 0, 0, 0, 0, 1]),
    ));
    let mut cases = vec![
        one(
            "the reverse path of neighbour discovery",
            &strict("nd = true"),
            advertised.clone(),
            "pass_control",
        ),
        one(
            "the reverse path of neighbour discovery switched off",
            &strict("nd = false"),
            advertised,
            DROP,
        ),
        one(
            "the reverse path of a router advertisement",
            &strict("ra = true"),
            message("2600::1", 134, 255),
            "pass_control",
        ),
        one(
            "the reverse path of a router advertisement switched off",
            &strict("ra = false"),
            message("2600::1", 134, 255),
            DROP,
        ),
        one(
            "neighbour discovery from behind a router",
            &strict("nd = true"),
            message("2600::1", 135, 64),
            "drop_icmp",
        ),
        one(
            "the reverse path of a ping",
            &strict("nd = true"),
            message("2600::1", 128, 64),
            DROP,
        ),
        one(
            "the reverse path of a DHCP answer",
            &strict("dhcp = true"),
            offer.clone(),
            "pass_control",
        ),
        one(
            "the reverse path of a DHCP answer switched off",
            &strict("dhcp = false"),
            offer,
            DROP,
        ),
        one(
            "the reverse path of a DHCPv6 answer",
            &strict("dhcp = true"),
            offer6("fe80::1"),
            "pass_control",
        ),
        one(
            "the reverse path of a DHCPv6 answer from afar",
            &strict("dhcp = true"),
            offer6("2600::1"),
            DROP,
        ),
        one(
            "the reverse path of IGMP without an address",
            &strict("nd = true"),
            link().ipv4(&Ipv4::new("0.0.0.0", "224.0.0.1").with(&Raw(2, vec![0; 8]))),
            PASS,
        ),
        one(
            "the reverse path of ARP",
            &strict("nd = true"),
            link().arp_request("9.9.9.9", OWN),
            "pass_control",
        ),
    ];
    for (source, reason) in [
        ("fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DROP),
        ("fe80::", PASS),
        ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PASS),
        ("fec0::", DROP),
        ("::", PASS),
        ("::1", DROP),
        ("0.0.0.0", PASS),
        ("0.0.0.1", DROP),
        ("169.254.0.1", DROP),
    ] {
        cases.push(one(
            &format!("the reverse path of {source}"),
            &strict("nd = true"),
            from(source),
            reason,
        ));
    }
    cases
}
