//! Networks inside, output interfaces that count as one, MACs of the host.

use super::super::bindings::Origin;
use super::super::links::Link;
use super::*;
use crate::compile::Route;

const ETH: u32 = 2;
const BR: u32 = 3;
const POD: u32 = 4;
const VLAN: u32 = 5;
const BOND: u32 = 6;
const BOND_VLAN: u32 = 7;
const MACVLAN: u32 = 8;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn link(kind: Kind, prefixes: &[&str]) -> Link {
    Link {
        kind,
        prefixes: prefixes.iter().map(|text| net(text)).collect(),
        ..Link::default()
    }
}

fn links(details: impl IntoIterator<Item = (u32, Link)>) -> Links {
    Links {
        details: details.into_iter().collect(),
        ..Links::default()
    }
}

fn inside_of(links: &Links, sides: &[(u32, Side)], bound: &[Bound]) -> Vec<String> {
    let sides = sides.iter().copied().collect();
    let bound = bound.iter().map(|bound| (POD, bound));
    let (v4, v6) = inside(links, &sides, bound);
    let v4 = v4.iter().map(ToString::to_string);
    v4.chain(v6.iter().map(ToString::to_string)).collect()
}

#[test]
fn networks_of_containers_are_inside() {
    let pod = Link {
        master: Some(BR),
        ..link(Kind::Veth, &[])
    };
    let links = links([
        (ETH, link(Kind::Other, &["192.0.2.0/24"])),
        (BR, link(Kind::Bridge, &["10.22.0.0/24", "fd00::/64"])),
        (POD, pod),
        (9, link(Kind::Other, &["203.0.113.0/24"])),
    ]);
    let expected = ["10.22.0.0/24", "fd00::/64"];
    assert_eq!(inside_of(&links, &[(ETH, Side::Outer)], &[]), expected);
    let sides = [(ETH, Side::Outer), (POD, Side::Container)];
    assert_eq!(inside_of(&links, &sides, &[]), expected);
    // a profile for the bridge itself, but its ports are containers'
    let sides = [(BR, Side::Container)];
    assert_eq!(inside_of(&links, &sides, &[]), expected);
}

#[test]
fn what_is_bound_is_inside_even_within_a_network_outside() {
    let links = links([(ETH, link(Kind::Other, &["192.0.2.0/24"]))]);
    let bound = Bound {
        origin: Origin::Policy,
        macs: vec![[2, 0, 0, 0, 0, 5]],
        v4: ["192.0.2.5/32", "0.0.0.0/0"]
            .map(|text| text.parse().expect("a prefix"))
            .to_vec(),
        v6: ["fe80::5/128", "fd00::5/128"]
            .map(|text| text.parse().expect("a prefix"))
            .to_vec(),
    };
    assert_eq!(
        inside_of(&links, &[(ETH, Side::Outer)], &[bound]),
        ["192.0.2.5/32", "fd00::5/128"]
    );
}

#[test]
fn a_containers_own_word_makes_nobody_forged() {
    let bound = Bound {
        origin: Origin::Peer,
        macs: vec![[2, 0, 0, 0, 0, 5]],
        v4: ["10.1.0.7/32", "10.99.0.6/32"]
            .map(|text| text.parse().expect("a prefix"))
            .to_vec(),
        v6: Vec::new(),
    };
    // the same network on a bridge of containers and outside
    let mut links = links([
        (ETH, link(Kind::Other, &["10.1.0.0/16"])),
        (BR, link(Kind::Bridge, &["10.1.0.0/16"])),
    ]);
    let sides = [(ETH, Side::Outer), (POD, Side::Container)];
    let inside = |links: &Links| inside_of(links, &sides, std::slice::from_ref(&bound));
    assert!(inside(&links).is_empty());
    links.facts.routes = vec![Route {
        table: 254,
        prefix: net("10.99.0.6/32"),
        metric: 0,
        interfaces: vec![POD],
        any: false,
    }];
    assert_eq!(inside(&links), ["10.99.0.6/32"]);
}

#[test]
fn a_network_outside_is_not_inside() {
    let sides = [(ETH, Side::Outer)];
    let with = |bridge: &str| {
        let links = links([
            (ETH, link(Kind::Other, &["10.1.0.0/16"])),
            (BR, link(Kind::Bridge, &[bridge])),
        ]);
        inside_of(&links, &sides, &[])
    };
    assert!(with("10.1.0.0/16").is_empty(), "the same");
    assert_eq!(with("10.1.4.0/24"), ["10.1.4.0/24"], "a part of it");
    assert_eq!(with("10.0.0.0/14"), ["10.0.0.0/16", "10.2.0.0/15"]);
    // the host's address is on a bridge that the filtered interface is a port of
    let port = Link {
        master: Some(BR),
        ..link(Kind::Other, &[])
    };
    let links = links([(ETH, port), (BR, link(Kind::Bridge, &["192.0.2.0/24"]))]);
    assert!(inside_of(&links, &sides, &[]).is_empty());
}

fn stack() -> Links {
    let mac = |last| Some([2, 0, 0, 0, 0, last]);
    let with = |master, lower, last| Link {
        master,
        lower,
        mac: mac(last),
        ..Link::default()
    };
    links([
        (ETH, with(Some(BOND), None, 1)),
        (9, with(Some(BOND), None, 9)),
        (VLAN, with(None, Some(ETH), 1)),
        (BOND, with(None, None, 2)),
        (BOND_VLAN, with(None, Some(BOND), 3)),
        (MACVLAN, with(None, Some(BOND_VLAN), 4)),
        (10, with(None, Some(BOND), 5)),
    ])
}

#[test]
fn masters_and_what_is_stacked_count_as_the_interface() {
    let links = stack();
    let strict = strict(&links, [ETH, 9, MACVLAN]);
    assert_eq!(
        strict,
        [
            vec![ETH, BOND, VLAN, BOND_VLAN, MACVLAN, 10],
            vec![9, BOND, BOND_VLAN, MACVLAN, 10],
            vec![MACVLAN],
        ]
    );
}

#[test]
fn the_host_sends_with_its_own_mac_first_and_not_with_endless_others() {
    let last = |ifindex| -> Vec<u8> { macs(&stack(), ifindex).iter().map(|mac| mac[5]).collect() };
    assert_eq!(last(ETH), [1, 2, 3, 4, 5]);
    let mut many = stack();
    for index in 100..120 {
        let mac = Some([2, 0, 0, 0, 0, index as u8]);
        let link = Link {
            mac,
            lower: Some(ETH),
            ..Link::default()
        };
        many.details.insert(index, link);
    }
    let found = macs(&many, ETH);
    assert_eq!(found.len(), MAX_HOST_MACS);
    assert_eq!(found[0], [2, 0, 0, 0, 0, 1]);
    assert_eq!(last(MACVLAN), [4]);
    assert!(last(99).is_empty());
}

#[test]
fn a_circle_ends() {
    let link = |other| Link {
        master: Some(other),
        lower: Some(other),
        ..Link::default()
    };
    let links = links([(1, link(2)), (2, link(1))]);
    assert_eq!(strict(&links, [1]), [vec![1, 2]]);
}
