//! Owns the table's cases for blocked sources: what is kept from them, what they keep.
//! Must never hold a case without a blocked source, save as a counterpart.

use super::bindings::{POD, PODS, bound};
use super::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, WEB, case_in, closed_with, web_with, world};
use crate::oracle::World;
use crate::oracle::case::{Case, Step};
use crate::oracle::policy::Cidr;
use crate::packets::transport::{ACK, FIN, PSH, RST, dhcpv4_reply};
use crate::packets::{Icmp, Icmpv6, Ipv4, Ipv6, Raw, Sctp, Tcp, Transport, Udp, link};

const OTHER6: &str = "2001:db8:9::a";

/// Everything is open but what is denied.
const OPEN: &str = r#"
version = 1
[profiles.edge]
interfaces = ["lo"]
default = "pass"
"#;

fn blocking(sources: &[&str]) -> World {
    let cidr = |text: &&str| Cidr::try_from((*text).to_owned()).ok();
    World {
        blocked: sources.iter().filter_map(cidr).collect(),
        ..world()
    }
}

/// A case in which the remote of both families is blocked.
fn blocked(description: &str, policy: &str, steps: Vec<Step>) -> Case {
    case_in(description, policy, blocking(&[REMOTE, REMOTE6]), steps)
}

fn out(transport: &impl Transport) -> Step {
    Step::egress(link().ipv4(&Ipv4::new(OWN, REMOTE).with(transport)))
}

fn inn(transport: &impl Transport, reason: &str) -> Step {
    inn_from(REMOTE, transport, reason)
}

fn inn_from(source: &str, transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv4(&Ipv4::new(source, OWN).with(transport))).expect(reason)
}

fn out6(transport: &impl Transport) -> Step {
    Step::egress(link().ipv6(&Ipv6::new(OWN6, REMOTE6).with(transport)))
}

fn inn6(source: &str, transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv6(&Ipv6::new(source, OWN6).with(transport))).expect(reason)
}

pub fn cases() -> Vec<Case> {
    let mut cases = kept_out();
    cases.extend(kept());
    cases.extend(answers());
    cases
}

/// What a blocked source does not get at.
fn kept_out() -> Vec<Case> {
    let syn = Tcp::syn(40_000, 443);
    vec![
        blocked(
            "a blocked source and an open port",
            WEB,
            vec![
                inn(&syn, "drop_blocked"),
                inn(&Tcp::ack(40_000, 443), "drop_blocked"),
                inn_from("203.0.113.10", &syn, "pass_rule https"),
                inn6(REMOTE6, &syn, "drop_blocked"),
            ],
        ),
        blocked(
            "what a blocked source may not have anyway has its own reason",
            &web_with(
                "[[profiles.edge.deny]]\nid = \"smtp\"\nprotocol = \"tcp\"\nports = [25]\n\
                 [[profiles.edge.allow]]\nid = \"ssh\"\nprotocol = \"tcp\"\nports = [22]\nfrom = [\"198.18.0.0/15\"]",
            ),
            vec![
                inn(&Tcp::syn(40_000, 25), "drop_denied smtp"),
                inn(&Tcp::syn(40_000, 22), "drop_source"),
                inn(&Tcp::syn(40_000, 80), "drop_port"),
                inn(&Udp::new(40_000, 53), "drop_port"),
                inn(&Raw::gre(&[]), "drop_protocol"),
            ],
        ),
        blocked(
            "a blocked source where everything is open",
            OPEN,
            vec![
                inn(&syn, "drop_blocked"),
                inn(&Udp::new(40_000, 53), "drop_blocked"),
                inn(&Sctp::init(40_000, 9), "drop_blocked"),
                inn(&Raw::gre(&[]), "drop_blocked"),
                inn_from("203.0.113.10", &syn, "pass_rule default"),
            ],
        ),
        case_in(
            "a blocked /64 is all of its addresses and no other",
            WEB,
            blocking(&["2001:db8:9::/64"]),
            vec![
                inn6(REMOTE6, &syn, "drop_blocked"),
                inn6(OTHER6, &syn, "drop_blocked"),
                inn6("2001:db8:9::", &syn, "drop_blocked"),
                inn6("2001:db8:9:0:ffff:ffff:ffff:ffff", &syn, "drop_blocked"),
                inn6("2001:db8:9:1::9", &syn, "pass_rule https"),
                inn6("2001:db8:8:ffff::9", &syn, "pass_rule https"),
            ],
        ),
        case_in(
            "a blocked IPv6 address leaves its /64 alone",
            WEB,
            blocking(&["2001:db8:9::9", "fe80::9"]),
            vec![
                inn6(REMOTE6, &syn, "drop_blocked"),
                inn6(OTHER6, &syn, "pass_rule https"),
                inn6("fe80::9", &syn, "drop_blocked"),
                inn6("fe80::a", &syn, "pass_rule https"),
            ],
        ),
        case_in(
            "the first address of a /64 is not the /64",
            WEB,
            blocking(&["2001:db8:9::"]),
            vec![
                inn6("2001:db8:9::", &syn, "drop_blocked"),
                inn6(REMOTE6, &syn, "pass_rule https"),
            ],
        ),
        blocked(
            "a blocked source does not use a rate up",
            &web_with(
                "[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]\n\
                 rate = { packets = 1, burst = 1 }",
            ),
            vec![
                inn(&Udp::new(40_000, 53), "drop_blocked"),
                inn(&Udp::new(40_000, 53), "drop_blocked"),
                inn_from("198.18.0.1", &Udp::new(40_000, 53), "pass_rule dns"),
            ],
        ),
        blocked("fragments of a blocked source", WEB, fragments()),
    ]
}

fn fragments() -> Vec<Step> {
    let packet = Ipv4::new(REMOTE, OWN).with(&Tcp::ack(40_000, 443).payload(&[0; 96]));
    packet
        .fragments(64)
        .iter()
        .zip(["drop_blocked", "drop_fragment"])
        .map(|(part, reason)| Step::ingress(link().ipv4(part)).expect(reason))
        .collect()
}

/// What a blocked source is not kept from, beside answers to us.
fn kept() -> Vec<Case> {
    let pings = "[profiles.edge.icmp]\nv4 = [\"echo-request\"]\nv6 = [\"echo-request\"]";
    let ruled = "[[profiles.edge.allow]]\nid = \"ping\"\nprotocol = \"icmp\"\n\
                 [[profiles.edge.allow]]\nid = \"ping6\"\nprotocol = \"icmpv6\"";
    let guest = World {
        blocked: blocking(&[REMOTE]).blocked,
        ..bound()
    };
    vec![
        blocked(
            "ICMP of a blocked source that the lists let in",
            &closed_with(pings),
            vec![
                inn(&Icmp::echo_request(7), "pass_control"),
                inn6(REMOTE6, &Icmpv6::echo_request(7), "pass_control"),
            ],
        ),
        blocked(
            "ICMP of a blocked source that a rule lets in",
            &closed_with(ruled),
            vec![
                inn(&Icmp::echo_request(7), "pass_rule ping"),
                inn6(REMOTE6, &Icmpv6::echo_request(7), "pass_rule ping6"),
            ],
        ),
        blocked(
            "ICMP of a blocked source where everything is open",
            OPEN,
            vec![inn(&Icmp::echo_request(7), "pass_rule default")],
        ),
        blocked(
            "a DHCP answer of a blocked server",
            OPEN,
            vec![inn(&dhcpv4_reply(), "pass_control")],
        ),
        case_in(
            "a container's link asks for no block",
            PODS,
            guest,
            vec![
                Step::ingress(link().ipv4(&Ipv4::new(REMOTE, POD).with(&Tcp::syn(40_000, 80))))
                    .expect("pass_rule web"),
            ],
        ),
    ]
}

/// What we ask for comes back, whoever is asked.
fn answers() -> Vec<Case> {
    let syn = Tcp::syn(50_000, 443);
    let dns = "[[profiles.edge.allow]]\nid = \"high\"\nprotocol = [\"tcp\", \"udp\"]\nports = [\"32768-65535\"]";
    vec![
        blocked(
            "our connection to a blocked source",
            CLOSED,
            vec![
                out(&syn),
                inn(&Tcp::syn_ack(443, 50_000), "pass_reply"),
                inn(&Tcp::ack(443, 50_000), "pass_reply"),
                inn(&Tcp::syn(443, 50_000), "drop_port"),
            ],
        ),
        blocked(
            "our connection to a blocked source where everything is open",
            OPEN,
            vec![
                inn(&Tcp::syn_ack(443, 50_000), "drop_blocked"),
                out(&syn),
                inn(&Tcp::syn_ack(443, 50_000), "pass_reply"),
                out(&Tcp::ack(50_000, 443)),
                inn(&Tcp::new(443, 50_000, ACK | PSH), "pass_reply"),
                inn(&Tcp::new(443, 50_000, ACK | FIN), "pass_reply"),
                inn(&Tcp::syn(443, 50_000), "drop_blocked"),
                inn(&Tcp::ack(443, 50_001), "drop_blocked"),
                inn(&Tcp::ack(444, 50_000), "drop_blocked"),
            ],
        ),
        blocked(
            "our connection from a port that a rule opens",
            &closed_with(dns),
            vec![
                out(&syn),
                inn(&Tcp::syn_ack(443, 50_000), "pass_reply"),
                out6(&syn),
                inn6(REMOTE6, &Tcp::syn_ack(443, 50_000), "pass_reply"),
                inn6(OTHER6, &Tcp::syn_ack(443, 50_000), "pass_rule high"),
            ],
        ),
        blocked(
            "our connection long after its SYN",
            OPEN,
            vec![
                out(&syn),
                inn(&Tcp::ack(443, 50_000), "pass_reply").at(3600),
            ],
        ),
        blocked(
            "a connection that a blocked source has with our service",
            OPEN,
            vec![
                out(&Tcp::syn_ack(443, 40_000)),
                out(&Tcp::ack(443, 40_000).payload(b"data")),
                inn(&Tcp::ack(40_000, 443), "drop_blocked"),
            ],
        ),
        blocked(
            "our question to a blocked source where everything is open",
            OPEN,
            vec![
                inn(&Udp::new(53, 50_000), "drop_blocked"),
                out(&Udp::new(50_000, 53)),
                inn(&Udp::new(53, 50_000), "pass_reply"),
                inn(&Udp::new(53, 50_001), "drop_blocked"),
            ],
        ),
        blocked(
            "the first and the last ephemeral port are no service's that asks",
            OPEN,
            vec![
                out(&Udp::new(32_767, 32_768)),
                out(&Udp::new(61_000, 60_999)),
                inn(&Udp::new(32_768, 32_767), "drop_blocked"),
                inn(&Udp::new(60_999, 61_000), "drop_blocked"),
            ],
        ),
        blocked(
            "our question to a blocked source from a port that is a service's, too",
            OPEN,
            vec![
                inn(&Udp::new(123, 123), "drop_blocked"),
                out(&Udp::new(123, 123)),
                out(&Udp::new(51_820, 51_820)),
                out(&Udp::new(32_767, 53)),
                out(&Raw::gre(&[])),
                inn(&Udp::new(123, 123), "pass_reply"),
                inn(&Udp::new(51_820, 51_820), "pass_reply"),
                inn(&Udp::new(53, 32_767), "pass_reply"),
                inn(&Raw::gre(&[]), "pass_reply"),
                inn(&Udp::new(124, 123), "drop_blocked"),
                inn(&Udp::new(51_821, 51_820), "drop_blocked"),
            ],
        ),
        blocked(
            "our service's answer opens nothing to a blocked source",
            OPEN,
            vec![
                out(&Udp::new(53, 40_000)),
                inn(&Udp::new(40_000, 53), "drop_blocked"),
            ],
        ),
        blocked(
            "a reset of ours opens nothing to a blocked source",
            OPEN,
            vec![
                out(&Tcp::new(50_000, 443, RST)),
                inn(&Tcp::ack(443, 50_000), "drop_blocked"),
            ],
        ),
    ]
}
