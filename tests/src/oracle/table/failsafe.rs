//! Owns the table's cases for the failsafe list: what it outranks, and what outranks it.
//! Must never hold a case without a failsafe list.

use super::bindings::{POD, PODS, bound};
use super::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, case, case_in, closed_with, world};
use crate::oracle::World;
use crate::oracle::case::{Case, Step};
use crate::oracle::policy::Cidr;
use crate::packets::{Icmp, Icmpv6, Ipv4, Ipv6, Raw, Tcp, Transport, Udp, link};

/// Everything the remotes send always gets in.
const SAVED: &str = r#"
[[failsafe]]
id = "saved"
from = ["203.0.113.9", "2001:db8:9::9"]
"#;

/// Only SSH of theirs does.
const SSH: &str = r#"
[[failsafe]]
id = "saved"
from = ["203.0.113.9", "2001:db8:9::9"]
protocol = "tcp"
ports = [22]
"#;

const DENIED: &str = "[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"203.0.113.0/24\", \"2001:db8:9::/48\", \"fe80::/10\"]";

fn inn(transport: &impl Transport, reason: &str) -> Step {
    inn_from(REMOTE, transport, reason)
}

fn inn_from(source: &str, transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv4(&Ipv4::new(source, OWN).with(transport))).expect(reason)
}

fn inn6(transport: &impl Transport, reason: &str) -> Step {
    Step::ingress(link().ipv6(&Ipv6::new(REMOTE6, OWN6).with(transport))).expect(reason)
}

fn blocking(source: &str) -> World {
    World {
        blocked: Cidr::try_from(source.to_owned()).into_iter().collect(),
        ..world()
    }
}

pub fn cases() -> Vec<Case> {
    let syn = |port| Tcp::syn(40_000, port);
    let denied = |list: &str| format!("{}{list}", closed_with(DENIED));
    let limited = "[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]\n\
                   rate = { packets = 1, burst = 1 }";
    let neighbour = |hops| {
        let message = Icmpv6::new(135, 0);
        link().ipv6(&Ipv6::new("fe80::1", "fe80::10").with(&message).hops(hops))
    };
    vec![
        case(
            "the failsafe list where nothing else is open",
            &format!("{CLOSED}{SAVED}"),
            vec![
                inn(&syn(22), "pass_rule saved"),
                inn(&Udp::new(40_000, 53), "pass_rule saved"),
                inn(&Raw::gre(&[]), "pass_rule saved"),
                inn(&Icmp::echo_request(1), "pass_rule saved"),
                inn6(&syn(22), "pass_rule saved"),
                inn_from("203.0.113.10", &syn(22), "drop_port"),
            ],
        ),
        case(
            "a deny rule does not stop the failsafe list",
            &denied(SSH),
            vec![
                inn(&syn(22), "pass_rule saved"),
                inn6(&syn(22), "pass_rule saved"),
                inn(&syn(443), "drop_denied bad"),
                inn_from("203.0.113.10", &syn(22), "drop_denied bad"),
            ],
        ),
        case_in(
            "a block does not stop the failsafe list",
            &format!("{CLOSED}{SAVED}"),
            blocking(REMOTE),
            vec![
                inn(&syn(22), "pass_rule saved"),
                inn(&Udp::new(40_000, 53), "pass_rule saved"),
            ],
        ),
        case(
            "the failsafe list uses no rate up and meets none",
            &format!("{}{SAVED}", closed_with(limited)),
            vec![
                inn(&Udp::new(40_000, 53), "pass_rule saved"),
                inn(&Udp::new(40_000, 53), "pass_rule saved"),
                inn_from("198.18.0.1", &Udp::new(40_000, 53), "pass_rule dns"),
                inn_from("198.18.0.1", &Udp::new(40_000, 53), "drop_rate dns"),
            ],
        ),
        case(
            "the first failsafe rule counts",
            &format!("{CLOSED}{SSH}{}", SAVED.replace("saved", "all")),
            vec![
                inn(&syn(22), "pass_rule saved"),
                inn(&syn(443), "pass_rule all"),
            ],
        ),
        case(
            "a forged source is forged, failsafe or not",
            &format!(
                "{}[[failsafe]]\nid = \"saved\"\nfrom = [\"127.0.0.0/8\", \"{OWN}\"]\n",
                closed_with("antispoof = { martians = true }")
            ),
            vec![
                inn_from("127.0.0.1", &syn(22), "drop_martian martian:127.0.0.0/8"),
                inn_from(OWN, &syn(22), "drop_martian martian:land"),
            ],
        ),
        case(
            "discovery must come from the link, failsafe or not",
            &format!(
                "{}[[failsafe]]\nid = \"saved\"\nfrom = [\"fe80::/10\"]\n",
                closed_with(DENIED)
            ),
            vec![
                Step::ingress(neighbour(255)).expect("pass_control"),
                Step::ingress(neighbour(254)).expect("drop_icmp"),
            ],
        ),
        case_in(
            "the failsafe list is for this host, not its containers",
            &format!("{PODS}{SAVED}"),
            bound(),
            vec![
                Step::ingress(link().ipv4(&Ipv4::new(REMOTE, POD).with(&syn(22))))
                    .expect("drop_port"),
            ],
        ),
    ]
}
