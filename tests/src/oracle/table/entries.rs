//! Owns the table's cases for run-time entries: whom they let in, whom they keep out, what outranks them.
//! Must never hold a case without an entry, save as a counterpart.

use super::antispoof;
use super::bindings::{POD, PODS, bound};
use super::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, WEB, case_in, closed_with, web_with, world};
use crate::oracle::World;
use crate::oracle::case::{Case, Step};
use crate::oracle::policy::Cidr;
use crate::oracle::world::Entry;
use crate::packets::transport::dhcpv4_reply;
use crate::packets::{Icmp, Icmpv6, Ipv4, Ipv6, Raw, Sctp, Tcp, Transport, Udp, link};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// `allow SOURCE` or `deny SOURCE`, each with a port or without.
fn listing(entries: &[(&str, Option<(u8, u16)>)]) -> World {
    let entry = |&(text, port): &(&str, Option<(u8, u16)>)| {
        let (verb, source) = text.split_once(' ')?;
        Some(Entry {
            deny: verb == "deny",
            source: Cidr::try_from(source.to_owned()).ok()?,
            port,
        })
    };
    World {
        entries: entries.iter().filter_map(entry).collect(),
        ..world()
    }
}

fn out(transport: &impl Transport) -> Step {
    Step::egress(link().ipv4(&Ipv4::new(OWN, REMOTE).with(transport)))
}

fn inn(source: &str, transport: &impl Transport, reason: &str) -> Step {
    let frame = if source.contains(':') {
        link().ipv6(&Ipv6::new(source, OWN6).with(transport))
    } else {
        link().ipv4(&Ipv4::new(source, OWN).with(transport))
    };
    Step::ingress(frame).expect(reason)
}

pub fn cases() -> Vec<Case> {
    let mut cases = let_in();
    cases.extend(kept_out());
    cases.extend(precedence());
    cases
}

const LISTED: &str = "pass_rule allow-entry";
const DENIED: &str = "drop_denied deny-entry";

fn let_in() -> Vec<Case> {
    let syn = Tcp::syn(40_000, 22);
    vec![
        case_in(
            "an entry lets its sources in and no others",
            CLOSED,
            listing(&[
                ("allow 203.0.113.0/24", None),
                ("allow 2001:db8:9::/64", None),
            ]),
            vec![
                inn(REMOTE, &syn, LISTED),
                inn("203.0.113.255", &syn, LISTED),
                inn("203.0.114.0", &syn, "drop_port"),
                inn(REMOTE6, &syn, LISTED),
                inn("2001:db8:9:1::9", &syn, "drop_port"),
                inn(REMOTE, &Udp::new(40_000, 53), LISTED),
                inn(REMOTE, &Sctp::init(40_000, 9), LISTED),
                inn(REMOTE, &Tcp::ack(40_000, 22), LISTED),
            ],
        ),
        case_in(
            "an entry with a port lets in to that port",
            CLOSED,
            listing(&[
                ("allow 203.0.113.9", Some((TCP, 22))),
                ("allow 2001:db8:9::9", Some((UDP, 53))),
            ]),
            vec![
                inn(REMOTE, &syn, LISTED),
                inn(REMOTE, &Tcp::syn(40_000, 23), "drop_port"),
                inn(REMOTE, &Udp::new(40_000, 22), "drop_port"),
                inn(REMOTE6, &Udp::new(40_000, 53), LISTED),
                inn(REMOTE6, &syn, "drop_port"),
            ],
        ),
        case_in(
            "an entry does not speak of what has no ports",
            CLOSED,
            listing(&[("allow 203.0.113.9", None)]),
            vec![
                inn(REMOTE, &Icmp::echo_request(7), "drop_icmp"),
                inn(REMOTE, &Raw::gre(&[]), "drop_protocol"),
            ],
        ),
        case_in(
            "what a rule says goes before an entry that lets in",
            &web_with(
                "[[profiles.edge.deny]]\nid = \"smtp\"\nprotocol = \"tcp\"\nports = [25]\n\
                 [[profiles.edge.allow]]\nid = \"ssh\"\nprotocol = \"tcp\"\nports = [22]\nfrom = [\"198.18.0.0/15\"]",
            ),
            listing(&[("allow 203.0.113.9", None)]),
            vec![
                inn(REMOTE, &Tcp::syn(40_000, 443), "pass_rule https"),
                inn(REMOTE, &Tcp::syn(40_000, 25), "drop_denied smtp"),
                inn(REMOTE, &syn, LISTED),
                inn("203.0.113.10", &syn, "drop_source"),
            ],
        ),
        case_in(
            "an answer to us is an answer, whoever is let in",
            CLOSED,
            listing(&[("allow 203.0.113.9", None)]),
            vec![
                out(&Tcp::syn(50_000, 443)),
                inn(REMOTE, &Tcp::syn_ack(443, 50_000), "pass_reply"),
                inn(REMOTE, &Tcp::syn_ack(443, 50_001), LISTED),
                inn(REMOTE, &dhcpv4_reply(), "pass_control"),
            ],
        ),
        case_in(
            "a packet in fragments from a source that is let in",
            CLOSED,
            listing(&[("allow 203.0.113.9", None)]),
            Ipv4::new(REMOTE, OWN)
                .with(&Tcp::ack(40_000, 443).payload(&[0; 96]))
                .fragments(64)
                .iter()
                .zip([LISTED, "pass_fragment"])
                .map(|(part, reason)| Step::ingress(link().ipv4(part)).expect(reason))
                .collect(),
        ),
        case_in(
            "a container's link asks for no entry",
            PODS,
            World {
                entries: listing(&[("deny 203.0.113.9", None), ("allow 203.0.113.10", None)])
                    .entries,
                ..bound()
            },
            [
                (REMOTE, 80, "pass_rule web"),
                ("203.0.113.10", 81, "drop_port"),
            ]
            .map(|(source, port, reason)| {
                let syn = Ipv4::new(source, POD).with(&Tcp::syn(40_000, port));
                Step::ingress(link().ipv4(&syn)).expect(reason)
            })
            .into(),
        ),
    ]
}

fn kept_out() -> Vec<Case> {
    let syn = Tcp::syn(40_000, 443);
    let pings = "[profiles.edge.icmp]\nv4 = [\"echo-request\"]\nv6 = [\"echo-request\"]";
    vec![
        case_in(
            "an entry keeps its sources out of what rules open",
            WEB,
            listing(&[
                ("deny 203.0.113.0/24", None),
                ("deny 2001:db8:9::/64", None),
            ]),
            vec![
                inn(REMOTE, &syn, DENIED),
                inn("203.0.114.0", &syn, "pass_rule https"),
                inn(REMOTE6, &syn, DENIED),
                inn("2001:db8:9:1::9", &syn, "pass_rule https"),
                inn(REMOTE, &Tcp::syn(40_000, 80), DENIED),
                inn(REMOTE, &Raw::gre(&[]), DENIED),
            ],
        ),
        case_in(
            "an entry keeps answers and ICMP out, too",
            &closed_with(pings),
            listing(&[("deny 203.0.113.9", None), ("deny 2001:db8:9::9", None)]),
            vec![
                out(&Tcp::syn(50_000, 443)),
                inn(REMOTE, &Tcp::syn_ack(443, 50_000), DENIED),
                inn(REMOTE, &Icmp::echo_request(7), DENIED),
                inn(REMOTE6, &Icmpv6::echo_request(7), DENIED),
                inn("203.0.113.10", &Icmp::echo_request(7), "pass_control"),
            ],
        ),
        case_in(
            "an entry with a port keeps out of that port",
            WEB,
            listing(&[("deny 203.0.113.9", Some((TCP, 443)))]),
            vec![
                inn(REMOTE, &syn, DENIED),
                inn(REMOTE, &Tcp::syn(40_000, 80), "drop_port"),
                inn(REMOTE, &Udp::new(40_000, 443), "drop_port"),
            ],
        ),
        case_in(
            "who cannot be there is a forger first",
            &antispoof::web("martians = true\nown_addresses = true"),
            listing(&[("deny 0.0.0.0/0", None)]),
            vec![
                inn(OWN, &syn, "drop_martian martian:land"),
                inn("198.51.100.7", &syn, "drop_own_address"),
                inn("9.9.9.9", &syn, DENIED),
                inn("2620:fe::9", &syn, "pass_rule https"),
            ],
        ),
    ]
}

fn precedence() -> Vec<Case> {
    let (web, ssh) = (Tcp::syn(40_000, 443), Tcp::syn(40_000, 22));
    vec![
        case_in(
            "the longest prefix decides",
            WEB,
            listing(&[
                ("deny 203.0.0.0/16", None),
                ("allow 203.0.113.0/24", None),
                ("deny 203.0.113.9", None),
            ]),
            vec![
                inn("203.0.1.1", &web, DENIED),
                inn("203.0.113.10", &web, "pass_rule https"),
                inn("203.0.113.10", &ssh, LISTED),
                inn(REMOTE, &web, DENIED),
            ],
        ),
        case_in(
            "a port decides within its prefix, not against a longer one",
            WEB,
            listing(&[
                ("deny 203.0.113.0/24", None),
                ("allow 203.0.113.0/24", Some((TCP, 443))),
                ("deny 203.0.113.9", None),
                ("allow 203.0.112.0/20", Some((TCP, 22))),
            ]),
            vec![
                inn("203.0.113.10", &web, "pass_rule https"),
                inn("203.0.113.10", &ssh, DENIED),
                inn(REMOTE, &web, DENIED),
                inn("203.0.112.1", &ssh, LISTED),
                inn("203.0.112.1", &Tcp::syn(40_000, 23), "drop_port"),
            ],
        ),
        case_in(
            "all of IPv6 is no part of IPv4",
            CLOSED,
            listing(&[("allow ::/0", None)]),
            vec![inn(REMOTE6, &ssh, LISTED), inn(REMOTE, &ssh, "drop_port")],
        ),
        case_in(
            "a blocked source that is let in keeps what no rule opens only",
            WEB,
            World {
                blocked: vec![Cidr::try_from(REMOTE.to_owned())]
                    .into_iter()
                    .flatten()
                    .collect(),
                ..listing(&[("allow 203.0.113.9", None)])
            },
            vec![inn(REMOTE, &web, "drop_blocked"), inn(REMOTE, &ssh, LISTED)],
        ),
    ]
}
