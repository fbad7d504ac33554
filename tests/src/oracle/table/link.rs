//! Owns the table's cases for Ethernet, VLAN tags, ethertypes, ARP and the choice of a profile.
//! Must never hold a case about what an IP header says.

use super::{CLOSED, OWN, REMOTE, WEB, case, closed_with, one, web_with};
use crate::oracle::case::{Case, Step};
use crate::packets::{ARP, IPV4, Ipv4, LLDP, Link, SERVICE_VLAN, Tcp, VLAN, arp, link, padded};

fn https(link: &Link) -> Vec<u8> {
    link.ipv4(&Ipv4::new(REMOTE, OWN).with(&Tcp::syn(40_000, 443)))
}

/// VLAN 100 has a profile of its own, open on 22 only.
fn with_vlan() -> String {
    format!(
        "{WEB}
[profiles.storage]
interfaces = [\"l*\"]
vlans = [100]
antispoof = {{ martians = false }}
[[profiles.storage.allow]]
id = \"ssh\"
protocol = \"tcp\"
ports = [22]
"
    )
}

pub fn cases() -> Vec<Case> {
    let plain = https(&link());
    let mut cut = arp(1, [2, 0, 0, 0, 0, 1], REMOTE, [0; 6], OWN);
    cut.truncate(27);
    let mut infiniband = arp(1, [2, 0, 0, 0, 0, 1], REMOTE, [0; 6], OWN);
    infiniband[1] = 32;
    let unmanaged = Step {
        interface: "eth0".into(),
        ..Step::ingress(plain.clone()).expect("pass_unmanaged")
    };
    vec![
        one("an open port", WEB, plain.clone(), "pass_rule"),
        one(
            "trailing padding is no part of the packet",
            WEB,
            padded(plain.clone()),
            "pass_rule",
        ),
        one(
            "13 bytes are no Ethernet header",
            WEB,
            plain[..13].to_vec(),
            "drop_malformed",
        ),
        one("no byte at all", WEB, Vec::new(), "drop_malformed"),
        one(
            "an Ethernet header alone",
            WEB,
            plain[..14].to_vec(),
            "drop_malformed",
        ),
        case("an interface without configuration", WEB, vec![unmanaged]),
        one("an 802.1Q tag", WEB, https(&link().vlan(7)), "pass_rule"),
        one(
            "QinQ",
            WEB,
            https(&link().service_vlan(7).vlan(8)),
            "pass_rule",
        ),
        one(
            "tags the other way round",
            WEB,
            https(&link().vlan(7).service_vlan(8)),
            "pass_rule",
        ),
        one(
            "three tags",
            WEB,
            https(&link().vlan(7).vlan(8).vlan(9)),
            "drop_malformed",
        ),
        one(
            "three tags, the third cut off",
            WEB,
            https(&link().vlan(7).vlan(8).vlan(9))[..23].to_vec(),
            "drop_malformed",
        ),
        one(
            "a tag cut off",
            WEB,
            https(&link().vlan(7))[..17].to_vec(),
            "drop_malformed",
        ),
        one(
            "a tag does not open a closed port",
            WEB,
            link()
                .vlan(7)
                .ipv4(&Ipv4::new(REMOTE, OWN).with(&Tcp::syn(40_000, 22))),
            "drop_port",
        ),
        one(
            "a listed VLAN has its own profile",
            &with_vlan(),
            https(&link().vlan(100)),
            "drop_port",
        ),
        one(
            "an unlisted VLAN has the other",
            &with_vlan(),
            https(&link().vlan(101)),
            "pass_rule",
        ),
        one(
            "the outer tag chooses",
            &with_vlan(),
            https(&link().service_vlan(100).vlan(7)),
            "drop_port",
        ),
        one(
            "the inner tag does not",
            &with_vlan(),
            https(&link().service_vlan(7).vlan(100)),
            "pass_rule",
        ),
        one(
            "a priority tag counts as none",
            &with_vlan(),
            https(&link().tag(VLAN, 0xe000)),
            "pass_rule",
        ),
        one(
            "a priority tag around VLAN 100 leaves the choice to it",
            &with_vlan(),
            https(&link().tag(VLAN, 0).vlan(100)),
            "drop_port",
        ),
        one(
            "two priority tags count as none",
            &with_vlan(),
            https(&link().tag(VLAN, 0).tag(VLAN, 0xe000)),
            "pass_rule",
        ),
        one(
            "a priority tag is no way around a profile for VLAN 100",
            "version = 1\n[profiles.v]\ninterfaces = [\"lo\"]\nvlans = [100]\n",
            https(&link().tag(VLAN, 0).vlan(100)),
            "drop_port",
        ),
        one(
            "priority bits are no part of the id",
            &with_vlan(),
            https(&link().tag(VLAN, 0xe064)),
            "drop_port",
        ),
        one(
            "without a profile for untagged frames they are unmanaged",
            "version = 1\n[profiles.v]\ninterfaces = [\"lo\"]\nvlans = [100]\n",
            plain,
            "pass_unmanaged",
        ),
        one(
            "ARP request",
            CLOSED,
            link().arp_request(REMOTE, OWN),
            "pass_control",
        ),
        one(
            "ARP reply in a VLAN",
            CLOSED,
            link().vlan(7).arp_reply(REMOTE, OWN),
            "pass_control",
        ),
        one(
            "ARP cut off",
            CLOSED,
            link().carry(ARP, &cut),
            "drop_malformed",
        ),
        one(
            "ARP for another hardware",
            CLOSED,
            link().carry(ARP, &infiniband),
            "drop_malformed",
        ),
        one(
            "ARP switched off",
            &closed_with("control = { arp = false }"),
            link().arp_request(REMOTE, OWN),
            "drop_ethertype",
        ),
        one(
            "malformed ARP is malformed even when ARP is off",
            &closed_with("control = { arp = false }"),
            link().carry(ARP, &infiniband),
            "drop_malformed",
        ),
        one(
            "unknown ethertype",
            WEB,
            link().carry(0x88b5, &[0; 46]),
            "drop_ethertype",
        ),
        one(
            "unknown ethertype inside a tag",
            WEB,
            link().vlan(7).carry(0x88b5, &[0; 46]),
            "drop_ethertype",
        ),
        one(
            "the old QinQ ethertype is no tag",
            WEB,
            link().tag(0x9100, 7).carry(IPV4, &[]),
            "drop_ethertype",
        ),
        one(
            "LLDP by name",
            &web_with("ethertypes = [\"lldp\"]"),
            link().carry(LLDP, &[0; 46]),
            "pass_control",
        ),
        one(
            "an ethertype by number",
            &web_with("ethertypes = [\"0x88b5\"]"),
            link().carry(0x88b5, &[]),
            "pass_control",
        ),
        one("LLC", WEB, link().llc(), "drop_ethertype"),
        one(
            "LLC listed",
            &web_with("ethertypes = [\"llc\"]"),
            link().llc(),
            "pass_control",
        ),
        one(
            "LLC inside a tag",
            &web_with("ethertypes = [\"llc\"]"),
            link().vlan(7).llc(),
            "pass_control",
        ),
        one(
            "0x5ff is a length",
            &web_with("ethertypes = [\"llc\"]"),
            link().carry(0x5ff, &[]),
            "pass_control",
        ),
        one(
            "0x600 is an ethertype",
            &web_with("ethertypes = [\"llc\"]"),
            link().carry(0x600, &[]),
            "drop_ethertype",
        ),
        one(
            "an open profile lets ethertypes in",
            &web_with("default = \"pass\""),
            link().carry(0x600, &[]),
            "pass_rule",
        ),
        one(
            "an open profile lets no third tag in",
            &web_with("default = \"pass\""),
            link().tag(SERVICE_VLAN, 1).vlan(2).vlan(3).carry(IPV4, &[]),
            "drop_malformed",
        ),
    ]
}
