//! Owns the table's cases for ICMP lists, neighbour and router discovery, DHCP.
//! Must never hold a case that needs a flow.

use super::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, closed_with, one};
use crate::oracle::case::Case;
use crate::packets::{Icmp, Icmpv6, Ipv4, Ipv6, Udp, dhcpv4_reply, dhcpv6_reply, link};

fn nd(message: &Icmpv6, hop_limit: u8) -> Vec<u8> {
    link().ipv6(
        &Ipv6::new("fe80::1", "fe80::10")
            .with(message)
            .hops(hop_limit),
    )
}

pub fn cases() -> Vec<Case> {
    let lists = closed_with("[profiles.edge.icmp]\nv4 = [\"echo-request\", 13]\nv6 = [128]");
    let without_nd = closed_with("control = { nd = false, ra = false, dhcp = false }");
    let v4 = |message: &Icmp| link().ipv4(&Ipv4::new(REMOTE, OWN).with(message));
    let v6 = |message: &Icmpv6| link().ipv6(&Ipv6::new(REMOTE6, OWN6).with(message));
    let dhcp4 = |reply: &Udp| link().ipv4(&Ipv4::new("192.0.2.1", OWN).with(reply));
    let dhcp6 = |source: &str, reply: &Udp| link().ipv6(&Ipv6::new(source, "fe80::10").with(reply));
    let target = crate::packets::ip::v6("fe80::10");
    let mac = [2, 0, 0, 0, 0, 1];
    let ns = Icmpv6::neighbour_solicitation(target, mac);
    let na = Icmpv6::neighbour_advertisement(target, mac);
    let ra = Icmpv6::router_advertisement();
    let bad = closed_with("[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"fe80::1\"]");
    let open = CLOSED.replace("interfaces", "default = \"pass\"\ninterfaces");
    let rule = closed_with("[[profiles.edge.allow]]\nid = \"icmp\"\nprotocol = \"icmpv6\"");
    vec![
        one(
            "echo request not listed",
            CLOSED,
            v4(&Icmp::echo_request(1)),
            "drop_icmp",
        ),
        one(
            "echo request listed by name",
            &lists,
            v4(&Icmp::echo_request(1)),
            "pass_control",
        ),
        one(
            "timestamp request listed by number",
            &lists,
            v4(&Icmp::timestamp(13, 1)),
            "pass_control",
        ),
        one("redirect", &lists, v4(&Icmp::new(5, 0)), "drop_icmp"),
        one(
            "ICMPv6 echo request not listed",
            CLOSED,
            v6(&Icmpv6::echo_request(1)),
            "drop_icmp",
        ),
        one(
            "ICMPv6 echo request listed",
            &lists,
            v6(&Icmpv6::echo_request(1)),
            "pass_control",
        ),
        one(
            "ICMPv6 number 8 is not ICMP's",
            &lists,
            v6(&Icmpv6::new(8, 0)),
            "drop_icmp",
        ),
        one(
            "neighbour solicitation",
            CLOSED,
            nd(&ns, 255),
            "pass_control",
        ),
        one(
            "neighbour solicitation from beyond a router",
            CLOSED,
            nd(&ns, 254),
            "drop_icmp",
        ),
        one(
            "neighbour advertisement",
            CLOSED,
            nd(&na, 255),
            "pass_control",
        ),
        one(
            "neighbour discovery off",
            &without_nd,
            nd(&ns, 255),
            "drop_icmp",
        ),
        one(
            "neighbour discovery from a denied source",
            &bad,
            nd(&ns, 255),
            "drop_denied",
        ),
        one(
            "ICMPv6 redirect",
            CLOSED,
            nd(&Icmpv6::new(137, 0), 255),
            "pass_control",
        ),
        one("router advertisement", CLOSED, nd(&ra, 255), "pass_control"),
        one(
            "router advertisement with hop limit 1",
            CLOSED,
            nd(&ra, 1),
            "drop_icmp",
        ),
        one(
            "router solicitation",
            CLOSED,
            nd(&Icmpv6::router_solicitation(), 255),
            "pass_control",
        ),
        one(
            "router advertisement off",
            &without_nd,
            nd(&ra, 255),
            "drop_icmp",
        ),
        one(
            "an open profile checks the hop limit",
            &open,
            nd(&ns, 64),
            "drop_icmp",
        ),
        one(
            "an ICMPv6 rule does not outrank the hop limit",
            &rule,
            nd(&ns, 64),
            "drop_icmp",
        ),
        one(
            "an ICMPv6 rule does not outrank control",
            &rule,
            nd(&ns, 255),
            "pass_control",
        ),
        one(
            "an ICMPv6 rule",
            &rule,
            v6(&Icmpv6::echo_request(1)),
            "pass_rule",
        ),
        one(
            "listener query with hop limit 1",
            CLOSED,
            nd(&Icmpv6::listener_query(), 1),
            "pass_control",
        ),
        one(
            "listener query off",
            &without_nd,
            nd(&Icmpv6::listener_query(), 1),
            "drop_icmp",
        ),
        one(
            "listener report",
            CLOSED,
            nd(&Icmpv6::new(143, 0), 1),
            "drop_icmp",
        ),
        one("DHCP offer", CLOSED, dhcp4(&dhcpv4_reply()), "pass_control"),
        one("DHCP off", &without_nd, dhcp4(&dhcpv4_reply()), "drop_port"),
        one(
            "a DHCP request to us",
            CLOSED,
            dhcp4(&Udp::new(68, 67)),
            "drop_port",
        ),
        one(
            "DHCPv6 reply",
            CLOSED,
            dhcp6("fe80::1", &dhcpv6_reply()),
            "pass_control",
        ),
        one(
            "DHCPv6 reply from the last link-local /10",
            CLOSED,
            dhcp6("febf:ffff::1", &dhcpv6_reply()),
            "pass_control",
        ),
        one(
            "DHCPv6 reply from afar",
            CLOSED,
            dhcp6(REMOTE6, &dhcpv6_reply()),
            "drop_port",
        ),
        one(
            "DHCPv6 ports over IPv4",
            CLOSED,
            dhcp4(&dhcpv6_reply()),
            "drop_port",
        ),
    ]
}
