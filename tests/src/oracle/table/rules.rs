//! Owns the table's cases for allow and deny rules: protocols, ports, sources, destinations, rates.
//! Must never hold a case that needs a flow.

use super::{OWN, OWN6, REMOTE, REMOTE6, WEB, case, closed_with, one, web_with};
use crate::oracle::case::{Case, Step};
use crate::packets::{Icmp, Ipv4, Ipv6, Raw, Tcp, Udp, link};

fn tcp(source: &str, destination: &str, port: u16) -> Vec<u8> {
    link().ipv4(&Ipv4::new(source, destination).with(&Tcp::syn(40_000, port)))
}

fn tcp6(source: &str, destination: &str, port: u16) -> Vec<u8> {
    link().ipv6(&Ipv6::new(source, destination).with(&Tcp::syn(40_000, port)))
}

fn allow(body: &str) -> String {
    closed_with(&format!("[[profiles.edge.allow]]\nid = \"rule\"\n{body}"))
}

pub fn cases() -> Vec<Case> {
    let range = allow("protocol = \"tcp\"\nports = [443, \"8000-8100\"]");
    let office = "version = 1
[groups.office]
cidrs = [\"203.0.113.8/29\", \"2001:db8:9::/48\", \"198.51.100.200\"]
[profiles.edge]
interfaces = [\"lo\"]
[[profiles.edge.allow]]
id = \"ssh\"
protocol = \"tcp\"
ports = [22]
from = [\"@office\"]
";
    let own = allow("protocol = \"tcp\"\nports = [443]\nto = \"self\"");
    let forwarded = allow("protocol = \"tcp\"\nports = [443]\nto = \"forwarded\"");
    let net =
        allow("protocol = \"tcp\"\nports = [443]\nto = [\"192.0.2.8/30\", \"2001:db8:1::/64\"]");
    let denied =
        format!("{WEB}[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"203.0.113.0/24\"]\n");
    let denied_port = format!(
        "{WEB}[[profiles.edge.deny]]\nid = \"bad\"\nprotocol = \"tcp\"\nports = [\"400-443\"]\n"
    );
    let limited = allow("protocol = \"udp\"\nports = [53]\nrate = { packets = 1, burst = 2 }");
    let per_source =
        allow("protocol = \"udp\"\nports = [53]\nrate_per_source = { packets = 1, burst = 1 }");
    let dns = |source: &str| link().ipv4(&Ipv4::new(source, OWN).with(&Udp::new(4000, 53)));
    let open = web_with("default = \"pass\"");
    let ping = |source: &str| link().ipv4(&Ipv4::new(source, OWN).with(&Icmp::echo_request(1)));
    let echo = allow("protocol = \"icmp\"\nfrom = [\"203.0.113.0/24\"]");
    vec![
        one("below a range", &range, tcp(REMOTE, OWN, 7999), "drop_port"),
        one(
            "first port of a range",
            &range,
            tcp(REMOTE, OWN, 8000),
            "pass_rule",
        ),
        one(
            "last port of a range",
            &range,
            tcp(REMOTE, OWN, 8100),
            "pass_rule",
        ),
        one("above a range", &range, tcp(REMOTE, OWN, 8101), "drop_port"),
        one(
            "the port of another protocol",
            &range,
            dns(REMOTE),
            "drop_port",
        ),
        one(
            "ports absent means all",
            &allow("protocol = \"tcp\""),
            tcp(REMOTE, OWN, 1),
            "pass_rule",
        ),
        one(
            "protocol by number",
            &allow("protocol = 6"),
            tcp(REMOTE, OWN, 1),
            "pass_rule",
        ),
        one(
            "first address of a group's prefix",
            office,
            tcp("203.0.113.8", OWN, 22),
            "pass_rule",
        ),
        one(
            "last address of a group's prefix",
            office,
            tcp("203.0.113.15", OWN, 22),
            "pass_rule",
        ),
        one(
            "the address before",
            office,
            tcp("203.0.113.7", OWN, 22),
            "drop_source",
        ),
        one(
            "the address after",
            office,
            tcp("203.0.113.16", OWN, 22),
            "drop_source",
        ),
        one(
            "a bare address is a host",
            office,
            tcp("198.51.100.200", OWN, 22),
            "pass_rule",
        ),
        one(
            "its neighbour is another",
            office,
            tcp("198.51.100.201", OWN, 22),
            "drop_source",
        ),
        one(
            "an IPv6 member",
            office,
            tcp6("2001:db8:9:ffff::1", OWN6, 22),
            "pass_rule",
        ),
        one(
            "an IPv6 stranger",
            office,
            tcp6("2001:db8:a::1", OWN6, 22),
            "drop_source",
        ),
        one(
            "a closed port is drop_port for members as well",
            office,
            tcp("203.0.113.8", OWN, 23),
            "drop_port",
        ),
        one("to self", &own, tcp(REMOTE, OWN, 443), "pass_rule"),
        one(
            "to self, another own address",
            &own,
            tcp(REMOTE, "198.51.100.7", 443),
            "pass_rule",
        ),
        one(
            "to self, not ours",
            &own,
            tcp(REMOTE, "192.0.2.11", 443),
            "drop_port",
        ),
        one(
            "to self over IPv6",
            &own,
            tcp6(REMOTE6, "fe80::10", 443),
            "pass_rule",
        ),
        one(
            "to forwarded, ours",
            &forwarded,
            tcp(REMOTE, OWN, 443),
            "drop_port",
        ),
        one(
            "to forwarded, not ours",
            &forwarded,
            tcp(REMOTE, "192.0.2.11", 443),
            "pass_rule",
        ),
        one(
            "to forwarded, multicast",
            &forwarded,
            tcp(REMOTE, "239.1.1.1", 443),
            "drop_port",
        ),
        one(
            "to forwarded, broadcast",
            &forwarded,
            tcp(REMOTE, "255.255.255.255", 443),
            "drop_port",
        ),
        one(
            "to forwarded, IPv6 multicast",
            &forwarded,
            tcp6(REMOTE6, "ff02::1", 443),
            "drop_port",
        ),
        one(
            "to a prefix, its first address",
            &net,
            tcp(REMOTE, "192.0.2.8", 443),
            "pass_rule",
        ),
        one(
            "to a prefix, the address after",
            &net,
            tcp(REMOTE, "192.0.2.12", 443),
            "drop_port",
        ),
        one(
            "to an IPv6 prefix",
            &net,
            tcp6(REMOTE6, OWN6, 443),
            "pass_rule",
        ),
        one(
            "a denied source",
            &denied,
            tcp(REMOTE, OWN, 443),
            "drop_denied",
        ),
        one(
            "a denied source with another protocol",
            &denied,
            ping(REMOTE),
            "drop_denied",
        ),
        one(
            "others are not denied",
            &denied,
            tcp("203.0.114.1", OWN, 443),
            "pass_rule",
        ),
        one(
            "a denied port",
            &denied_port,
            tcp(REMOTE, OWN, 443),
            "drop_denied",
        ),
        one(
            "deny with a protocol spares the others",
            &denied_port,
            ping(REMOTE),
            "drop_icmp",
        ),
        one(
            "deny in an open profile",
            &format!("{open}[[profiles.edge.deny]]\nid = \"bad\"\nprotocol = \"gre\"\n"),
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Raw::gre(&[]))),
            "drop_denied",
        ),
        one("an open profile", &open, dns(REMOTE), "pass_rule"),
        one(
            "an open profile lets nothing malformed in",
            &open,
            dns(REMOTE)[..40].to_vec(),
            "drop_malformed",
        ),
        one("ICMP by rule", &echo, ping(REMOTE), "pass_rule"),
        one(
            "ICMP by rule from another source",
            &echo,
            ping("203.0.114.1"),
            "drop_icmp",
        ),
        case(
            "a rate with a burst of two",
            &limited,
            vec![
                Step::ingress(dns(REMOTE)).expect("pass_rule"),
                Step::ingress(dns(REMOTE)).expect("pass_rule"),
                Step::ingress(dns("203.0.113.10")).expect("drop_rate"),
                Step::ingress(dns(REMOTE)).expect("pass_rule").at(2),
            ],
        ),
        case(
            "a rate per source",
            &per_source,
            vec![
                Step::ingress(dns(REMOTE)).expect("pass_rule"),
                Step::ingress(dns(REMOTE)).expect("drop_rate"),
                Step::ingress(dns("203.0.113.10")).expect("pass_rule"),
            ],
        ),
    ]
}
