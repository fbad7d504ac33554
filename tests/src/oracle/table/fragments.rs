//! Owns the table's cases for fragments of both families.
//! Must never hold a case that a whole packet could show.

use super::{OWN, OWN6, REMOTE, REMOTE6, WEB, case, one, web_with};
use crate::oracle::case::{Case, Step};
use crate::packets::{Extension, Ipv4, Ipv6, Raw, Tcp, Udp, link};

fn segment(port: u16) -> Tcp {
    Tcp::ack(40_000, port).payload(&[0x55; 600])
}

fn train4(port: u16, id: u16) -> Vec<Vec<u8>> {
    let packet = Ipv4::new(REMOTE, OWN).with(&segment(port)).id(id);
    packet
        .fragments(256)
        .iter()
        .map(|part| link().ipv4(part))
        .collect()
}

fn train6(port: u16, id: u32) -> Vec<Vec<u8>> {
    let packet = Ipv6::new(REMOTE6, OWN6).with(&segment(port));
    packet
        .fragments(256, id)
        .iter()
        .map(|part| link().ipv6(part))
        .collect()
}

/// Frames in this order with these reasons.
fn train(description: &str, policy: &str, steps: &[(&Vec<u8>, &str)]) -> Case {
    let steps = steps
        .iter()
        .map(|(frame, reason)| Step::ingress((*frame).clone()).expect(reason));
    case(description, policy, steps.collect())
}

fn first4(size: usize, segment: &Tcp) -> Vec<u8> {
    link().ipv4(&Ipv4::new(REMOTE, OWN).with(segment).id(7).fragments(size)[0])
}

fn later4(offset: u16, more: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    link().ipv4(
        &Ipv4::new(REMOTE, OWN)
            .raw(protocol, payload)
            .fragment(offset, more),
    )
}

fn frag6(offset: u16, more: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    link().ipv6(
        &Ipv6::new(REMOTE6, OWN6)
            .extension(Extension::Fragment(offset, more, 1))
            .raw(protocol, payload),
    )
}

pub fn cases() -> Vec<Case> {
    let (open, closed, other) = (train4(443, 1), train4(22, 2), train4(443, 3));
    let (open6, closed6) = (train6(443, 1), train6(22, 2));
    let drop = web_with("fragments = \"drop\"");
    let atomic = Ipv6::new(REMOTE6, OWN6)
        .with(&Tcp::syn(40_000, 443))
        .extension(Extension::Fragment(0, false, 9));
    let twice = Ipv6::new(REMOTE6, OWN6)
        .with(&Tcp::syn(40_000, 443))
        .extension(Extension::Fragment(0, false, 9))
        .extension(Extension::Fragment(0, false, 9));
    // The first fragment ends inside its destination options, which say they are 24 bytes long.
    let cut_chain = frag6(0, true, 60, &[6, 2, 1, 4, 0, 0, 0, 0]);
    let any = super::closed_with("[[profiles.edge.allow]]\nid = \"gre\"\nprotocol = \"gre\"");
    let udp = Ipv4::new(REMOTE, OWN)
        .with(&Udp::new(4000, 53).payload(&[0; 600]))
        .id(5);
    let dns = super::closed_with(
        "[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]",
    );
    let udp_train: Vec<Vec<u8>> = udp
        .fragments(8)
        .iter()
        .take(3)
        .map(|part| link().ipv4(part))
        .collect();
    let late = vec![
        Step::ingress(open[0].clone()).expect("pass_rule"),
        Step::ingress(open[1].clone())
            .expect("pass_fragment")
            .at(28),
        Step::ingress(open[2].clone())
            .expect("drop_fragment")
            .at(31),
    ];
    vec![
        train(
            "later fragments follow a first that passed",
            WEB,
            &[
                (&open[0], "pass_rule"),
                (&open[1], "pass_fragment"),
                (&open[2], "pass_fragment"),
            ],
        ),
        train(
            "later fragments before the first",
            WEB,
            &[(&open[1], "drop_fragment"), (&open[0], "pass_rule")],
        ),
        train(
            "later fragments follow a first that was dropped",
            WEB,
            &[(&closed[0], "drop_port"), (&closed[1], "drop_fragment")],
        ),
        train(
            "another identification",
            WEB,
            &[(&open[0], "pass_rule"), (&other[1], "drop_fragment")],
        ),
        case("fragments later than 30 seconds", WEB, late),
        train(
            "IPv6 fragments",
            WEB,
            &[
                (&open6[0], "pass_rule"),
                (&open6[2], "pass_fragment"),
                (&open6[1], "pass_fragment"),
            ],
        ),
        train(
            "IPv6 fragments of a closed port",
            WEB,
            &[(&closed6[0], "drop_port"), (&closed6[1], "drop_fragment")],
        ),
        train(
            "fragments switched off",
            &drop,
            &[(&open[0], "drop_fragment"), (&open[1], "drop_fragment")],
        ),
        train(
            "IPv6 fragments switched off",
            &drop,
            &[(&open6[0], "drop_fragment"), (&open6[1], "drop_fragment")],
        ),
        train(
            "UDP in fragments of 8 bytes",
            &dns,
            &[
                (&udp_train[0], "pass_rule"),
                (&udp_train[1], "pass_fragment"),
                (&udp_train[2], "pass_fragment"),
            ],
        ),
        one(
            "an atomic fragment is a whole packet",
            WEB,
            link().ipv6(&atomic),
            "pass_rule",
        ),
        one(
            "an atomic fragment where fragments are off",
            &drop,
            link().ipv6(&atomic),
            "pass_rule",
        ),
        one(
            "two fragment headers",
            WEB,
            link().ipv6(&twice),
            "drop_malformed",
        ),
        one(
            "a tiny first fragment",
            WEB,
            first4(16, &Tcp::syn(40_000, 443)),
            "drop_fragment",
        ),
        one(
            "a first fragment without all TCP options",
            WEB,
            first4(
                24,
                &Tcp::syn(40_000, 443).options(&[1; 8]).payload(&[0; 64]),
            ),
            "drop_fragment",
        ),
        one(
            "a first fragment with doff 4",
            WEB,
            first4(24, &Tcp::syn(40_000, 443).doff(4).payload(&[0; 64])),
            "drop_malformed",
        ),
        one(
            "a first fragment with doff 4 where fragments are off",
            &drop,
            first4(24, &Tcp::syn(40_000, 443).doff(4).payload(&[0; 64])),
            "drop_fragment",
        ),
        train(
            "a later fragment that overlaps the TCP header",
            WEB,
            &[
                (&first4(256, &segment(443)), "pass_rule"),
                (
                    &{
                        let overlap = Ipv4::new(REMOTE, OWN)
                            .raw(6, &[0; 8])
                            .id(7)
                            .fragment(1, false);
                        link().ipv4(&overlap)
                    },
                    "drop_fragment",
                ),
            ],
        ),
        train(
            "a later fragment at 64 bytes does not overlap",
            WEB,
            &[
                (&first4(256, &segment(443)), "pass_rule"),
                (
                    &{
                        let part = Ipv4::new(REMOTE, OWN)
                            .raw(6, &[0; 8])
                            .id(7)
                            .fragment(8, false);
                        link().ipv4(&part)
                    },
                    "pass_fragment",
                ),
            ],
        ),
        one(
            "a fragment of 9 bytes with more to come",
            WEB,
            later4(1, true, 17, &[0; 9]),
            "drop_malformed",
        ),
        one(
            "a last fragment of 9 bytes",
            WEB,
            later4(1, false, 17, &[0; 9]),
            "drop_fragment",
        ),
        one(
            "a fragment that ends at 65535",
            WEB,
            later4(8184, false, 17, &[0; 43]),
            "drop_fragment",
        ),
        one(
            "a fragment that ends beyond 65535",
            WEB,
            later4(8184, false, 17, &[0; 44]),
            "drop_malformed",
        ),
        one(
            "an IPv6 fragment of 9 bytes with more to come",
            WEB,
            frag6(1, true, 17, &[0; 9]),
            "drop_malformed",
        ),
        one(
            "an IPv6 fragment that ends at 65535",
            WEB,
            frag6(8190, false, 17, &[0; 15]),
            "drop_fragment",
        ),
        one(
            "an IPv6 fragment that ends beyond 65535",
            WEB,
            frag6(8190, false, 17, &[0; 16]),
            "drop_malformed",
        ),
        one(
            "a chain that goes on beyond the first fragment",
            WEB,
            cut_chain,
            "drop_malformed",
        ),
        one(
            "first fragment of another protocol",
            &any,
            link().ipv4(
                &Ipv4::new(REMOTE, OWN)
                    .with(&Raw(47, vec![0; 8]))
                    .fragment(0, true),
            ),
            "pass_rule",
        ),
        train(
            "an open profile tracks fragments as well",
            &web_with("default = \"pass\""),
            &[
                (&closed[1], "drop_fragment"),
                (&closed[0], "pass_rule"),
                (&closed[1], "pass_fragment"),
            ],
        ),
    ]
}
