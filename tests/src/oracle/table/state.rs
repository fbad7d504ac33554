//! Owns the table's cases for flows: replies, related errors, timeouts, what notes a flow.
//! Must never hold a case that an empty flow table shows as well, save as a counterpart.

use super::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, WEB, case, closed_with, web_with};
use crate::oracle::case::{Case, Step};
use crate::packets::transport::{ACK, FIN, PSH, RST, URG};
use crate::packets::{Extension, Icmp, Icmpv6, Ipv4, Ipv6, Raw, Sctp, Tcp, Transport, Udp, link};

fn out(transport: &impl Transport) -> Step {
    Step::egress(link().ipv4(&Ipv4::new(OWN, REMOTE).with(transport)))
}

fn inn(transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv4(&Ipv4::new(REMOTE, OWN).with(transport))).expect(reason)
}

fn out6(transport: &impl Transport) -> Step {
    Step::egress(link().ipv6(&Ipv6::new(OWN6, REMOTE6).with(transport)))
}

fn inn6(transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv6(&Ipv6::new(REMOTE6, OWN6).with(transport))).expect(reason)
}

/// From a router on the way, not from the remote.
fn router(transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv4(&Ipv4::new("198.18.0.1", OWN).with(transport))).expect(reason)
}

fn router6(transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv6(&Ipv6::new("2001:db8:ff::1", OWN6).with(transport))).expect(reason)
}

/// The packet we sent, as an error quotes it: header and 8 bytes.
fn sent(transport: &impl Transport) -> Vec<u8> {
    let mut bytes = Ipv4::new(OWN, REMOTE).with(transport).bytes();
    bytes.truncate(28);
    bytes
}

fn sent6(transport: &impl Transport) -> Vec<u8> {
    let mut bytes = Ipv6::new(OWN6, REMOTE6).with(transport).bytes();
    bytes.truncate(48);
    bytes
}

pub fn cases() -> Vec<Case> {
    let mut cases = reply_cases();
    cases.extend(time_cases());
    cases.extend(related_cases());
    cases
}

fn reply_cases() -> Vec<Case> {
    let syn = Tcp::syn(50_000, 443);
    let back = |flags| Tcp::new(443, 50_000, flags);
    let fragment = Ipv4::new(OWN, REMOTE)
        .with(&Udp::new(50_000, 53).payload(&[0; 64]))
        .fragments(8);
    let later = Step::egress(link().ipv4(&fragment[1]));
    vec![
        case(
            "a TCP connection opened outward",
            CLOSED,
            vec![
                out(&syn),
                inn(&Tcp::syn_ack(443, 50_000), "pass_reply"),
                out(&Tcp::ack(50_000, 443)),
                inn(&back(ACK | PSH), "pass_reply"),
                inn(&back(FIN | ACK), "pass_reply"),
                inn(&back(RST), "pass_reply"),
            ],
        ),
        case(
            "a SYN is no reply",
            CLOSED,
            vec![out(&syn), inn(&Tcp::syn(443, 50_000), "drop_port")],
        ),
        case(
            "flags nobody asked for",
            CLOSED,
            [
                ACK,
                FIN,
                0,
                FIN | PSH | URG,
                RST,
                RST | ACK,
                FIN | ACK,
                0x12,
            ]
            .map(|flags| inn(&back(flags), "drop_port"))
            .to_vec(),
        ),
        case(
            "odd flags to an open port",
            WEB,
            [0, FIN, 0x29]
                .map(|f| inn(&Tcp::new(1, 443, f), "pass_rule"))
                .to_vec(),
        ),
        case(
            "a reply from another port, address or protocol",
            CLOSED,
            vec![
                out(&syn),
                inn(&Tcp::ack(444, 50_000), "drop_port"),
                inn(&Tcp::ack(443, 50_001), "drop_port"),
                inn(&Udp::new(443, 50_000), "drop_port"),
                router(&Tcp::ack(443, 50_000), "drop_port"),
            ],
        ),
        case(
            "a UDP answer",
            CLOSED,
            vec![
                out(&Udp::new(50_000, 53)),
                inn(&Udp::new(53, 50_000), "pass_reply"),
            ],
        ),
        case(
            "an answer from the unspecified address",
            CLOSED,
            vec![
                Step::egress(link().ipv6(&Ipv6::new(OWN6, "::").with(&Udp::new(50_000, 0)))),
                Step::ingress(link().ipv6(&Ipv6::new("::", OWN6).with(&Udp::new(0, 50_000))))
                    .expect("drop_port"),
            ],
        ),
        case(
            "IPv6 with IPv4-mapped addresses answers no IPv4 packet",
            CLOSED,
            vec![
                out(&Udp::new(50_000, 53)),
                Step::ingress(
                    link().ipv6(
                        &Ipv6::new("::ffff:203.0.113.9", "::ffff:192.0.2.10")
                            .with(&Udp::new(53, 50_000)),
                    ),
                )
                .expect("drop_malformed"),
            ],
        ),
        case(
            "IPv6 with IPv4-mapped addresses notes no flow",
            CLOSED,
            vec![
                Step::egress(
                    link().ipv6(
                        &Ipv6::new("::ffff:192.0.2.10", "::ffff:203.0.113.9")
                            .with(&Udp::new(50_000, 53)),
                    ),
                ),
                inn(&Udp::new(53, 50_000), "drop_port"),
            ],
        ),
        case(
            "an SCTP answer",
            CLOSED,
            vec![
                out(&Sctp::init(50_000, 9)),
                inn(&Sctp::init(9, 50_000), "pass_reply"),
            ],
        ),
        case(
            "TCP over IPv6",
            CLOSED,
            vec![out6(&syn), inn6(&Tcp::syn_ack(443, 50_000), "pass_reply")],
        ),
        case(
            "a GRE answer",
            CLOSED,
            vec![
                out(&Raw::gre(&[])),
                inn(&Raw::gre(&[]), "pass_reply"),
                inn(&Raw::esp(1), "drop_protocol"),
            ],
        ),
        case(
            "ping",
            CLOSED,
            vec![
                out(&Icmp::echo_request(7)),
                inn(&Icmp::echo_reply(7), "pass_reply"),
                inn(&Icmp::echo_reply(8), "drop_icmp"),
                inn(&Icmp::echo_request(7), "drop_icmp"),
            ],
        ),
        case(
            "timestamp",
            CLOSED,
            vec![
                out(&Icmp::timestamp(13, 7)),
                inn(&Icmp::timestamp(14, 7), "pass_reply"),
            ],
        ),
        case(
            "ping over IPv6",
            CLOSED,
            vec![
                out6(&Icmpv6::echo_request(7)),
                inn6(&Icmpv6::echo_reply(7), "pass_reply"),
                inn6(&Icmpv6::echo_reply(8), "drop_icmp"),
            ],
        ),
        case(
            "an echo reply we send is no flow",
            CLOSED,
            vec![
                out(&Icmp::echo_reply(7)),
                inn(&Icmp::echo_reply(7), "drop_icmp"),
            ],
        ),
        case(
            "a denied source gets no reply in",
            &closed_with("[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"203.0.113.0/24\"]"),
            vec![out(&syn), inn(&Tcp::syn_ack(443, 50_000), "drop_denied")],
        ),
        case(
            "an answer from a service",
            WEB,
            vec![
                out(&Tcp::ack(443, 50_000)),
                inn(&Tcp::ack(50_000, 443), "pass_rule"),
            ],
        ),
        case(
            "a packet of an unknown connection notes it",
            CLOSED,
            vec![out(&Tcp::ack(50_000, 443)), inn(&back(ACK), "pass_reply")],
        ),
        case(
            "an RST notes nothing",
            CLOSED,
            vec![
                out(&Tcp::new(50_000, 443, RST)),
                inn(&back(ACK), "drop_port"),
            ],
        ),
        case(
            "a later fragment notes nothing",
            CLOSED,
            vec![later, inn(&Udp::new(53, 50_000), "drop_port")],
        ),
        case(
            "a first fragment notes its flow",
            CLOSED,
            vec![
                Step::egress(link().ipv4(&fragment[0])),
                inn(&Udp::new(53, 50_000), "pass_reply"),
            ],
        ),
        case(
            "a flow known in monitor mode",
            &web_with("enforce = false"),
            vec![
                out(&syn),
                inn(&Tcp::syn_ack(443, 50_000), "pass_reply"),
                inn(&Udp::new(1, 2), "drop_port"),
            ],
        ),
        case(
            "a DHCP answer to our own question is a reply",
            CLOSED,
            vec![out(&Udp::new(68, 67)), inn(&Udp::new(67, 68), "pass_reply")],
        ),
    ]
}

fn time_cases() -> Vec<Case> {
    let syn = Tcp::syn(50_000, 443);
    let back = |flags, reason| inn(&Tcp::new(443, 50_000, flags), reason);
    let fin = Tcp::new(50_000, 443, FIN | ACK);
    vec![
        case(
            "an unanswered SYN within 2 minutes",
            CLOSED,
            vec![out(&syn), back(0x12, "pass_reply").at(119)],
        ),
        case(
            "an unanswered SYN after 2 minutes",
            CLOSED,
            vec![out(&syn), back(0x12, "drop_port").at(121)],
        ),
        case(
            "an idle connection within 5 days",
            CLOSED,
            vec![
                out(&syn),
                back(0x12, "pass_reply").at(1),
                back(ACK, "pass_reply").at(431_990),
            ],
        ),
        case(
            "an idle connection after 5 days",
            CLOSED,
            vec![
                out(&syn),
                back(0x12, "pass_reply"),
                back(ACK, "drop_port").at(432_001),
            ],
        ),
        case(
            "a closed connection",
            CLOSED,
            vec![
                out(&syn),
                back(0x12, "pass_reply"),
                out(&fin),
                back(FIN | ACK, "pass_reply").at(100),
                back(ACK, "pass_reply").at(219),
                back(ACK, "drop_port").at(340),
            ],
        ),
        case(
            "a connection they reset is forgotten after 2 minutes",
            CLOSED,
            vec![
                out(&syn),
                back(RST | ACK, "pass_reply"),
                back(ACK, "pass_reply").at(119),
                back(ACK, "drop_port").at(121),
            ],
        ),
        case(
            "a connection we reset is forgotten after 10 seconds",
            CLOSED,
            vec![
                out(&syn),
                back(0x12, "pass_reply"),
                out(&Tcp::new(50_000, 443, RST)),
                back(ACK, "pass_reply").at(9),
                back(ACK, "drop_port").at(11),
            ],
        ),
        case(
            "a reset of ours after theirs is meant",
            CLOSED,
            vec![
                out(&syn),
                back(RST | ACK, "pass_reply"),
                out(&Tcp::new(50_000, 443, RST)).at(5),
                back(ACK, "drop_port").at(17),
            ],
        ),
        case(
            "a FIN from outside, perhaps forged, shortens nothing",
            CLOSED,
            vec![
                out(&syn),
                back(0x12, "pass_reply"),
                back(FIN | ACK, "pass_reply"),
                back(ACK, "pass_reply").at(600),
                out(&fin).at(700),
                back(ACK, "pass_reply").at(819),
                back(ACK, "drop_port").at(940),
            ],
        ),
        case(
            "a FIN that acknowledges nothing answers no SYN",
            CLOSED,
            vec![
                out(&syn),
                back(FIN, "pass_reply"),
                back(0x12, "drop_port").at(121),
            ],
        ),
        case(
            "an outgoing packet revives a reset connection",
            CLOSED,
            vec![
                out(&syn),
                back(RST | ACK, "pass_reply"),
                out(&Tcp::ack(50_000, 443)).at(5),
                back(ACK, "pass_reply").at(60),
            ],
        ),
        case(
            "UDP without an answer lasts 30 seconds",
            CLOSED,
            vec![
                out(&Udp::new(50_000, 53)),
                inn(&Udp::new(53, 50_000), "drop_port").at(31),
            ],
        ),
        case(
            "UDP with an answer lasts 2 minutes",
            CLOSED,
            vec![
                out(&Udp::new(50_000, 53)),
                inn(&Udp::new(53, 50_000), "pass_reply").at(29),
                inn(&Udp::new(53, 50_000), "pass_reply").at(148),
                inn(&Udp::new(53, 50_000), "drop_port").at(269),
            ],
        ),
        case(
            "ping lasts 30 seconds",
            CLOSED,
            vec![
                out(&Icmp::echo_request(7)),
                inn(&Icmp::echo_reply(7), "pass_reply").at(29),
                inn(&Icmp::echo_reply(7), "drop_icmp").at(60),
            ],
        ),
        case(
            "SCTP lasts 10 minutes",
            CLOSED,
            vec![
                out(&Sctp::init(50_000, 9)),
                inn(&Sctp::init(9, 50_000), "pass_reply").at(599),
                inn(&Sctp::init(9, 50_000), "drop_port").at(1200),
            ],
        ),
    ]
}

fn related_cases() -> Vec<Case> {
    let syn = Tcp::syn(50_000, 443);
    let answer = Tcp::ack(443, 50_000);
    let quoted = sent(&syn);
    let options = {
        let mut bytes = Ipv4::new(OWN, REMOTE).options(&[1; 8]).with(&syn).bytes();
        bytes.truncate(36);
        bytes
    };
    let fragment = Ipv4::new(OWN, REMOTE)
        .raw(6, &sent(&syn)[20..])
        .fragment(64, false)
        .bytes();
    let behind = {
        let packet = Ipv6::new(OWN6, REMOTE6)
            .with(&syn)
            .extension(Extension::DestinationOptions(8));
        packet.bytes()
    };
    let elsewhere = Icmp::unreachable(1, &quoted);
    let elsewhere =
        Step::ingress(link().ipv4(&Ipv4::new("198.18.0.1", "198.51.100.7").with(&elsewhere)));
    let no_mtu = |policy: &str| policy.replace("[\"lo\"]", "[\"lo\"]\ncontrol = { pmtu = false }");
    let office = closed_with(
        "[[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"192.168.0.0/16\"]",
    );
    vec![
        case(
            "errors about a known flow",
            CLOSED,
            vec![
                out(&syn),
                router(&Icmp::unreachable(1, &quoted), "pass_related"),
                router(&Icmp::path_mtu(1400, &quoted), "pass_related"),
                router(&Icmp::time_exceeded(&quoted), "pass_related"),
                router(
                    &Icmp {
                        payload: quoted.clone(),
                        ..Icmp::new(12, 0)
                    },
                    "pass_related",
                ),
                router(
                    &Icmp {
                        payload: quoted.clone(),
                        ..Icmp::new(4, 0)
                    },
                    "drop_icmp",
                ),
                router(&Icmp::unreachable(1, &options), "pass_related"),
            ],
        ),
        case(
            "errors about a known IPv6 flow",
            CLOSED,
            [1, 2, 3, 4]
                .map(|kind| router6(&Icmpv6::error(kind, 0, &sent6(&syn)), "pass_related"))
                .into_iter()
                .fold(vec![out6(&syn)], |steps, step| [steps, vec![step]].concat()),
        ),
        case(
            "errors about an unknown flow",
            CLOSED,
            vec![
                router(&Icmp::unreachable(1, &quoted), "drop_icmp"),
                router(&Icmp::path_mtu(1400, &quoted), "drop_icmp"),
                router6(&Icmpv6::path_mtu(1400, &sent6(&syn)), "drop_icmp"),
            ],
        ),
        case(
            "a quote that is too short",
            CLOSED,
            vec![
                out(&syn),
                router(&Icmp::unreachable(1, &quoted[..27]), "drop_icmp"),
            ],
        ),
        case(
            "a quoted later fragment",
            CLOSED,
            vec![
                out(&syn),
                router(&Icmp::unreachable(1, &fragment), "drop_icmp"),
            ],
        ),
        case(
            "a quote with extension headers",
            CLOSED,
            vec![
                out6(&syn),
                router6(&Icmpv6::error(1, 0, &behind), "drop_icmp"),
            ],
        ),
        case(
            "an error to another address than it quotes",
            CLOSED,
            vec![out(&syn), elsewhere.expect("drop_icmp")],
        ),
        case(
            "an error about a ping",
            CLOSED,
            vec![
                out(&Icmp::echo_request(7)),
                router(
                    &Icmp::time_exceeded(&sent(&Icmp::echo_request(7))),
                    "pass_related",
                ),
                router(
                    &Icmp::time_exceeded(&sent(&Icmp::echo_reply(7))),
                    "drop_icmp",
                ),
            ],
        ),
        case(
            "an error about a UDP datagram: traceroute",
            CLOSED,
            vec![
                out(&Udp::new(50_000, 33_434)),
                router(
                    &Icmp::time_exceeded(&sent(&Udp::new(50_000, 33_434))),
                    "pass_related",
                ),
            ],
        ),
        case(
            "path MTU for an open service",
            WEB,
            vec![
                router(&Icmp::path_mtu(1400, &sent(&answer)), "pass_related"),
                router6(&Icmpv6::path_mtu(1400, &sent6(&answer)), "pass_related"),
                router(&Icmp::unreachable(1, &sent(&answer)), "drop_icmp"),
                router(
                    &Icmp::path_mtu(1400, &sent(&Tcp::ack(22, 50_000))),
                    "drop_icmp",
                ),
            ],
        ),
        case(
            "path MTU for a service open to others",
            &office,
            vec![router(&Icmp::path_mtu(1400, &sent(&answer)), "drop_icmp")],
        ),
        case(
            "path MTU switched off",
            &no_mtu(WEB),
            vec![
                out(&syn),
                router(&Icmp::path_mtu(1400, &quoted), "drop_icmp"),
                router(&Icmp::path_mtu(1400, &sent(&answer)), "drop_icmp"),
                router(&Icmp::unreachable(1, &quoted), "pass_related"),
            ],
        ),
    ]
}
