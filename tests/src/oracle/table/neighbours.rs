//! Owns the table's cases for what a container says of addresses: ARP, neighbour discovery.
//! Must never hold a case about a link of which nothing is known.

use super::REMOTE;
use super::bindings::{ARP_SENDER, CONTROL, POD, POD6, PODS, SOURCE, TARGET, bound, frames, to};
use crate::oracle::case::Case;
use crate::packets::{ARP, Extension, Icmpv6, Ipv6, ip, link};

pub fn cases() -> Vec<Case> {
    let mut cases = arp_cases();
    cases.extend(neighbour_cases());
    cases
}

fn arp_cases() -> Vec<Case> {
    let mine = [2, 0, 0, 0, 0, 1];
    let arp = |operation, mac, sender: &str, target: &str| {
        link().carry(
            ARP,
            &crate::packets::arp(operation, mac, sender, [0; 6], target),
        )
    };
    let whole = crate::packets::arp(2, mine, POD, [0; 6], REMOTE);
    let mut infiniband = whole.clone();
    infiniband[1] = 32;
    vec![
        frames(
            "ARP from a container",
            PODS,
            bound(),
            vec![
                (arp(1, mine, POD, "10.22.0.1"), CONTROL),
                (arp(2, mine, POD, "10.22.0.1"), CONTROL),
                (arp(1, mine, "10.22.0.16", "10.22.0.1"), CONTROL),
                (arp(1, mine, POD, POD), CONTROL),
                (arp(1, [2, 0, 0, 0, 0, 5], POD, "10.22.0.1"), CONTROL),
                (arp(2, mine, "10.22.0.1", POD), ARP_SENDER),
                (arp(2, mine, "10.22.0.4", POD), ARP_SENDER),
                (arp(2, mine, "10.22.0.32", POD), ARP_SENDER),
                (arp(1, [2, 0, 0, 0, 0, 4], POD, "10.22.0.1"), ARP_SENDER),
                (arp(1, [0; 6], POD, "10.22.0.1"), ARP_SENDER),
                (arp(1, mine, "0.0.0.0", POD), CONTROL),
                (arp(1, mine, "0.0.0.0", "10.22.0.17"), CONTROL),
                (arp(1, mine, "0.0.0.0", "10.22.0.6"), ARP_SENDER),
                (arp(1, mine, "0.0.0.0", "0.0.0.0"), ARP_SENDER),
                (arp(1, [2, 0, 0, 0, 0, 4], "0.0.0.0", POD), ARP_SENDER),
            ],
        ),
        frames(
            "malformed ARP from a container",
            PODS,
            bound(),
            vec![
                (link().carry(ARP, &whole), CONTROL),
                (link().carry(ARP, &whole[..27]), "drop_malformed"),
                (link().carry(ARP, &infiniband), "drop_malformed"),
            ],
        ),
        frames(
            "ARP from a container does not need control.arp",
            &PODS.replace("[\"l?\"]", "[\"l?\"]\ncontrol = { arp = false }"),
            bound(),
            vec![(arp(1, mine, POD, "10.22.0.1"), CONTROL)],
        ),
    ]
}

fn neighbour_cases() -> Vec<Case> {
    let mac = [2, 0, 0, 0, 0, 1];
    let advertised = |target: &str| Icmpv6::neighbour_advertisement(ip::v6(target), mac);
    let solicited = |target: &str| Icmpv6::neighbour_solicitation(ip::v6(target), mac);
    let group = "ff02::1:ff00:5";
    let hidden = |extensions: &[Extension]| {
        let mut packet = Ipv6::new(POD6, "ff02::1")
            .hops(255)
            .with(&advertised("fd00::1"));
        packet.extensions = extensions.to_vec();
        link().ipv6(&packet)
    };
    let mut short = advertised(POD6);
    short.payload.truncate(15);
    let mut bare = advertised(POD6);
    bare.payload.truncate(16);
    let mut probe = solicited(POD6);
    probe.payload.truncate(15);
    vec![
        frames(
            "neighbour discovery from a container",
            PODS,
            bound(),
            vec![
                (to(POD6, "ff02::1", &advertised(POD6)), CONTROL),
                (to("fe80::5", "ff02::1", &advertised(POD6)), CONTROL),
                (to(POD6, "ff02::1", &advertised("fd00:0:0:1::7")), CONTROL),
                (to(POD6, "ff02::1", &advertised("fd00::1")), TARGET),
                (to(POD6, "ff02::1", &advertised("fd00::4")), TARGET),
                (to(POD6, "ff02::1", &advertised("::")), TARGET),
                (to("fd00::1", "ff02::1", &advertised(POD6)), SOURCE),
                (to(POD6, group, &solicited("fd00::1")), CONTROL),
                (to("fd00::1", group, &solicited(POD6)), SOURCE),
                (to(POD6, "ff02::1", &short), TARGET),
                (to(POD6, "ff02::1", &bare), CONTROL),
            ],
        ),
        frames(
            "duplicate address detection of a container",
            PODS,
            bound(),
            vec![
                (to("::", group, &solicited(POD6)), CONTROL),
                (to("::", group, &solicited("fd00:0:0:1::7")), CONTROL),
                (to("::", group, &solicited("fd00::1")), TARGET),
                (to("::", group, &probe), TARGET),
                (to("::", "ff02::1", &advertised(POD6)), SOURCE),
            ],
        ),
        frames(
            "a forged advertisement behind extension headers",
            PODS,
            bound(),
            vec![
                (hidden(&[]), TARGET),
                (hidden(&[Extension::HopByHop(8)]), TARGET),
                (
                    hidden(&[Extension::DestinationOptions(8), Extension::Routing(3, 8)]),
                    TARGET,
                ),
                (hidden(&[Extension::Fragment(0, false, 1)]), TARGET),
            ],
        ),
    ]
}
