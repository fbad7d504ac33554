//! Owns the table's cases for what containers may send: send lists, answers, errors, and the flows they open.
//! Must never hold a case about who the sender is.

use super::bindings::{POD, POD6, PODS, bound};
use super::{REMOTE, REMOTE6, case_in};
use crate::oracle::case::{Case, Step};
use crate::packets::transport::{ACK, FIN, RST, SYN};
use crate::packets::{Icmp, Icmpv6, Ipv4, Ipv6, Raw, Sctp, Tcp, Transport, Udp, link};

const RESOLVER: &str = "10.0.0.2";

/// A container that may ask two resolvers, and send TCP to a range of ports anywhere.
const LISTED: &str = "version = 1
[groups.resolvers]
cidrs = [\"10.0.0.3\", \"fd00::53\"]
[profiles.pods]
interfaces = [\"l?\"]
icmp = { v4 = [\"echo-request\"], v6 = [\"echo-request\"] }
[profiles.pods.containers]
[[profiles.pods.allow]]
id = \"web\"
protocol = [\"tcp\", \"sctp\"]
ports = [80]
[[profiles.pods.allow]]
id = \"game\"
protocol = \"udp\"
ports = [27015]
from = [\"203.0.113.0/24\"]
[[profiles.pods.allow]]
id = \"tunnel\"
protocol = \"gre\"
[[profiles.pods.deny]]
id = \"bad\"
from = [\"198.18.0.0/15\"]
[[profiles.pods.send]]
id = \"dns\"
protocol = \"udp\"
ports = [53]
to = [\"10.0.0.2\", \"@resolvers\"]
[[profiles.pods.send]]
id = \"high\"
protocol = \"tcp\"
ports = [\"8000-8100\"]
to = \"any\"
[[profiles.pods.send]]
id = \"slow\"
protocol = \"udp\"
ports = [123]
rate = { packets = 1, burst = 1 }
[[profiles.pods.send]]
id = \"esp\"
protocol = \"esp\"
to = [\"203.0.113.0/24\"]
";

fn nothing_listed() -> String {
    PODS.replace("[\"l?\"]", "[\"l?\"]\nsend = []")
}

fn out(destination: &str, transport: &dyn Transport, reason: &str) -> Step {
    let frame = if destination.contains(':') {
        link().ipv6(&Ipv6::new(POD6, destination).with(transport))
    } else {
        link().ipv4(&Ipv4::new(POD, destination).with(transport))
    };
    Step::egress(frame).expect(reason)
}

fn inn(source: &str, transport: &dyn Transport, reason: &str) -> Step {
    let frame = if source.contains(':') {
        link().ipv6(&Ipv6::new(source, POD6).with(transport))
    } else {
        link().ipv4(&Ipv4::new(source, POD).with(transport))
    };
    Step::ingress(frame).expect(reason)
}

fn steps(description: &str, policy: &str, steps: Vec<Step>) -> Case {
    case_in(description, policy, bound(), steps)
}

pub fn cases() -> Vec<Case> {
    let mut cases = list_cases();
    cases.extend(answer_cases());
    cases.extend(error_cases());
    cases.extend(flow_cases());
    cases
}

fn list_cases() -> Vec<Case> {
    vec![
        steps(
            "without a send list anything leaves",
            PODS,
            vec![
                out(REMOTE, &Tcp::syn(50_000, 25), "pass_rule"),
                out(REMOTE, &Udp::new(1, 2), "pass_rule"),
                out(REMOTE, &Raw::gre(&[]), "pass_rule"),
                out(REMOTE, &Icmp::echo_request(1), "pass_rule"),
                out(REMOTE6, &Icmpv6::echo_request(1), "pass_rule"),
                out(REMOTE, &Icmp::unreachable(1, &[0; 28]), "pass_rule"),
            ],
        ),
        steps(
            "a send list's destinations",
            LISTED,
            vec![
                out("10.0.0.1", &Udp::new(50_000, 53), "drop_send"),
                out(RESOLVER, &Udp::new(50_000, 53), "pass_rule"),
                out("10.0.0.3", &Udp::new(50_000, 53), "pass_rule"),
                out("10.0.0.4", &Udp::new(50_000, 53), "drop_send"),
                out("fd00::52", &Udp::new(50_000, 53), "drop_send"),
                out("fd00::53", &Udp::new(50_000, 53), "pass_rule"),
                out("fd00::54", &Udp::new(50_000, 53), "drop_send"),
                out("203.0.113.1", &Raw::esp(1), "pass_rule"),
                out("203.0.114.1", &Raw::esp(1), "drop_send"),
            ],
        ),
        steps(
            "a send list's ports and protocols",
            LISTED,
            vec![
                out(REMOTE, &Tcp::syn(50_000, 7999), "drop_send"),
                out(REMOTE, &Tcp::syn(50_000, 8000), "pass_rule"),
                out(REMOTE6, &Tcp::syn(50_000, 8100), "pass_rule"),
                out(REMOTE6, &Tcp::syn(50_000, 8101), "drop_send"),
                out(REMOTE, &Tcp::ack(50_000, 8000), "pass_rule"),
                out(REMOTE, &Udp::new(50_000, 8000), "drop_send"),
                out(RESOLVER, &Tcp::syn(50_000, 53), "drop_send"),
                out(RESOLVER, &Udp::new(53, 50_000), "drop_send"),
                out(REMOTE, &Icmp::echo_request(1), "drop_send"),
                out(REMOTE, &Raw(89, vec![0; 8]), "drop_send"),
            ],
        ),
        steps(
            "a send rule's rate",
            LISTED,
            vec![
                out(REMOTE, &Udp::new(123, 123), "pass_rule"),
                out(REMOTE, &Udp::new(123, 123), "drop_rate"),
                out(REMOTE, &Udp::new(123, 123), "pass_rule").at(2),
            ],
        ),
        steps(
            "an empty send list lets control traffic out",
            &nothing_listed(),
            vec![
                out(REMOTE, &Udp::new(50_000, 53), "drop_send"),
                out(REMOTE, &Tcp::syn(50_000, 443), "drop_send"),
                out("255.255.255.255", &Udp::new(68, 67), "pass_control"),
                out(REMOTE, &Udp::new(68, 67), "drop_send"),
                out("fe80::1", &Udp::new(546, 547), "drop_send"),
                out("ff02::1:2", &Udp::new(546, 547), "pass_control"),
                out("224.0.0.22", &Raw(2, vec![0; 8]), "pass_control"),
                out("ff02::16", &Icmpv6::new(143, 0), "pass_control"),
                out("ff02::2", &Icmpv6::router_solicitation(), "pass_control"),
                out("ff02::1", &Icmpv6::listener_query(), "drop_send"),
                Step::egress(link().arp_request(POD, "10.22.0.1")).expect("pass_control"),
            ],
        ),
        steps(
            "fragments of what is not listed",
            LISTED,
            Ipv4::new(POD, REMOTE)
                .with(&Udp::new(50_000, 54).payload(&[0; 64]))
                .fragments(32)
                .iter()
                .zip(["drop_send", "drop_fragment"])
                .map(|(part, reason)| Step::egress(link().ipv4(part)).expect(reason))
                .collect(),
        ),
    ]
}

/// What answers a packet that may reach the container leaves without a send rule.
fn answer_cases() -> Vec<Case> {
    let tcp = |flags, reason| out(REMOTE, &Tcp::new(80, 50_000, flags), reason);
    let open = nothing_listed().replace("[\"l?\"]", "[\"l?\"]\ndefault = \"pass\"");
    vec![
        steps(
            "answers from an open port",
            LISTED,
            vec![
                tcp(SYN | ACK, "pass_reply"),
                tcp(ACK, "pass_reply"),
                tcp(RST, "pass_reply"),
                tcp(FIN | ACK, "pass_reply"),
                tcp(0, "pass_reply"),
                tcp(SYN, "drop_send"),
                tcp(SYN | FIN, "drop_send"),
                out(REMOTE, &Tcp::ack(81, 50_000), "drop_send"),
                out(REMOTE, &Udp::new(80, 50_000), "drop_send"),
                out(REMOTE, &Sctp::init(80, 50_000), "pass_reply"),
                out(REMOTE6, &Tcp::syn_ack(80, 50_000), "pass_reply"),
            ],
        ),
        steps(
            "answers to sources that may ask",
            LISTED,
            vec![
                out("203.0.113.1", &Udp::new(27_015, 50_000), "pass_reply"),
                out("203.0.114.1", &Udp::new(27_015, 50_000), "drop_send"),
                out("198.18.0.1", &Tcp::ack(80, 50_000), "drop_send"),
                out("198.18.0.1", &Raw::gre(&[]), "drop_send"),
                out(REMOTE, &Raw::gre(&[]), "pass_reply"),
            ],
        ),
        steps(
            "answers to pings that may come in",
            LISTED,
            vec![
                out(REMOTE, &Icmp::echo_reply(1), "pass_reply"),
                out(REMOTE, &Icmp::timestamp(14, 1), "drop_send"),
                out(REMOTE6, &Icmpv6::echo_reply(1), "pass_reply"),
                out("198.18.0.1", &Icmp::echo_reply(1), "drop_send"),
            ],
        ),
        steps(
            "answers to pings that may not come in",
            &nothing_listed(),
            vec![
                out(REMOTE, &Icmp::echo_reply(1), "drop_send"),
                out(REMOTE6, &Icmpv6::echo_reply(1), "drop_send"),
                tcp(SYN | ACK, "pass_reply"),
            ],
        ),
        steps(
            "answers where everything may come in",
            &open,
            vec![
                out(REMOTE, &Tcp::syn_ack(1, 2), "pass_reply"),
                out(REMOTE, &Tcp::syn(1, 2), "drop_send"),
                out(REMOTE, &Udp::new(1, 2), "pass_reply"),
                out(REMOTE, &Icmp::echo_reply(1), "pass_reply"),
                out(REMOTE, &Icmp::echo_request(1), "drop_send"),
            ],
        ),
    ]
}

fn error_cases() -> Vec<Case> {
    let quoted = |source: &str, destination: &str| {
        Ipv4::new(source, destination).with(&Udp::new(1, 2)).bytes()[..28].to_vec()
    };
    let quoted6 = |source: &str, destination: &str| {
        Ipv6::new(source, destination).with(&Udp::new(1, 2)).bytes()[..48].to_vec()
    };
    let error = |kind, bytes: Vec<u8>| Icmp {
        payload: bytes,
        ..Icmp::new(kind, 3)
    };
    vec![steps(
        "errors about what came to the container",
        &nothing_listed(),
        vec![
            out(REMOTE, &error(3, quoted(REMOTE, POD)), "pass_related"),
            out(REMOTE, &error(11, quoted(REMOTE, POD)), "pass_related"),
            out(REMOTE, &error(12, quoted(REMOTE, POD)), "pass_related"),
            out(REMOTE, &error(4, quoted(REMOTE, POD)), "drop_send"),
            out(REMOTE, &error(5, quoted(REMOTE, POD)), "drop_send"),
            out(REMOTE, &error(3, quoted(POD, REMOTE)), "drop_send"),
            out(REMOTE, &error(3, quoted("203.0.113.8", POD)), "drop_send"),
            out(REMOTE, &error(3, quoted(REMOTE, "10.22.0.6")), "drop_send"),
            out(REMOTE, &error(3, quoted(REMOTE, "10.22.0.16")), "drop_send"),
            out(
                REMOTE,
                &error(3, quoted(REMOTE, POD)[..27].to_vec()),
                "drop_send",
            ),
            out(
                REMOTE6,
                &Icmpv6::error(1, 4, &quoted6(REMOTE6, POD6)),
                "pass_related",
            ),
            out(
                REMOTE6,
                &Icmpv6::error(4, 1, &quoted6(REMOTE6, POD6)),
                "pass_related",
            ),
            out(
                REMOTE6,
                &Icmpv6::error(5, 1, &quoted6(REMOTE6, POD6)),
                "drop_send",
            ),
            out(
                REMOTE6,
                &Icmpv6::error(1, 4, &quoted6(POD6, REMOTE6)),
                "drop_send",
            ),
        ],
    )]
}

fn flow_cases() -> Vec<Case> {
    vec![
        steps(
            "answers to what a container sent",
            LISTED,
            vec![
                inn(RESOLVER, &Udp::new(53, 50_000), "drop_port"),
                out(RESOLVER, &Udp::new(50_000, 53), "pass_rule"),
                inn(RESOLVER, &Udp::new(53, 50_000), "pass_reply"),
                inn("10.0.0.3", &Udp::new(53, 50_000), "drop_port"),
                out(REMOTE, &Tcp::syn(50_000, 8000), "pass_rule"),
                inn(REMOTE, &Tcp::syn_ack(8000, 50_000), "pass_reply"),
                inn(REMOTE, &Tcp::syn(8000, 50_000), "drop_port"),
            ],
        ),
        steps(
            "no answers to what a container could not send",
            LISTED,
            vec![
                out("10.0.0.4", &Udp::new(50_000, 53), "drop_send"),
                inn("10.0.0.4", &Udp::new(53, 50_000), "drop_port"),
            ],
        ),
        steps(
            "errors about what a container sent",
            LISTED,
            vec![
                out(REMOTE, &Tcp::syn(50_000, 8000), "pass_rule"),
                inn(
                    "198.51.100.1",
                    &Icmp::time_exceeded(
                        &Ipv4::new(POD, REMOTE).with(&Tcp::syn(50_000, 8000)).bytes()[..28],
                    ),
                    "pass_related",
                ),
            ],
        ),
        steps(
            "a DHCP client in a container",
            LISTED,
            vec![
                Step::egress(
                    link().ipv4(&Ipv4::new("0.0.0.0", "255.255.255.255").with(&Udp::new(68, 67))),
                )
                .expect("pass_control"),
                inn("10.22.0.1", &Udp::new(67, 68), "pass_control"),
            ],
        ),
        steps(
            "a container may begin nothing from its service's port",
            LISTED,
            vec![
                out(REMOTE, &Tcp::syn(80, 50_000), "drop_send"),
                inn(REMOTE, &Tcp::syn(50_000, 80), "pass_rule"),
                out(REMOTE, &Tcp::syn_ack(80, 50_000), "pass_reply"),
            ],
        ),
        steps(
            "ping from a container",
            PODS,
            vec![
                out(REMOTE, &Icmp::echo_request(7), "pass_rule"),
                inn(REMOTE, &Icmp::echo_reply(7), "pass_reply"),
                inn(REMOTE, &Icmp::echo_reply(8), "drop_icmp"),
            ],
        ),
    ]
}
