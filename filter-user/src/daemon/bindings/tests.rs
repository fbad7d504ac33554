//! Who may send from which address, and who may not.

mod attacks;

use super::super::links::{Kind, Link};
use super::link_local::eui64;
use super::*;
use crate::compile::Route;

const BR: u32 = 10;

/// A host with a bridge (10.22.0.0/24, 10.22.0.1), ports veth1 and veth2 with containers, and cali1 and cali2 without a
/// bridge.
struct World {
    links: Links,
    containers: Containers,
    cni: CniResults,
    peers: Peers,
    former: Former,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// In the order in which they are read.
fn routes(list: &[(&str, u32)]) -> Vec<Route> {
    let mut routes: Vec<Route> = list
        .iter()
        .map(|(prefix, ifindex)| Route {
            table: 254,
            prefix: prefix.parse().expect("a prefix"),
            metric: 0,
            interfaces: vec![*ifindex],
            any: false,
        })
        .collect();
    routes.sort_by_key(|route| (route.table, route.prefix, route.metric));
    routes
}

impl World {
    fn new() -> Self {
        let mut links = Links::default();
        let mut add = |ifindex: u32, name: &str, link: Link| {
            links.names.insert(ifindex, name.to_owned());
            links.details.insert(ifindex, link);
        };
        let bridge = Link {
            kind: Kind::Bridge,
            mac: Some([2, 0, 0, 0, 9, 10]),
            prefixes: vec!["10.22.0.0/24".parse().expect("a prefix")],
            addresses: vec![ip("10.22.0.1"), ip("fe80::1")],
            ..Link::default()
        };
        add(BR, "cni0", bridge);
        for (ifindex, name, master) in [
            (1, "veth1", Some(BR)),
            (2, "veth2", Some(BR)),
            (3, "cali1", None),
            (4, "cali2", None),
        ] {
            let link = Link {
                kind: Kind::Veth,
                mac: Some([2, 0, 0, 0, 9, ifindex as u8]),
                master,
                ..Link::default()
            };
            add(ifindex, name, link);
        }
        links.facts.own_v4 = vec!["10.22.0.1".parse().expect("an address")];
        links.facts.own_v6 = vec!["fe80::1".parse().expect("an address")];
        links.facts.broadcast = vec!["10.22.0.255".parse().expect("an address")];
        links.facts.routes = routes(&[
            ("10.22.1.0/24", 3),
            ("192.0.2.0/24", 3),
            ("2001:db8::/64", 3),
        ]);
        Self {
            links,
            containers: Containers {
                hook: crate::policy::Hook::Tc,
                auto: true,
                unbound_open: false,
                bindings: Vec::new(),
                send: None,
            },
            cni: CniResults::new(),
            peers: Peers::new(),
            former: Former::default(),
        }
    }

    fn peer(&mut self, ifindex: u32, addresses: &[&str]) -> &mut Peer {
        let peer = Peer {
            here: false,
            mac: Some(mac_of(ifindex)),
            addresses: addresses.iter().map(|text| ip(text)).collect(),
        };
        self.peers.insert(ifindex, Ok(peer));
        match self.peers.get_mut(&ifindex) {
            Some(Ok(peer)) => peer,
            _ => unreachable!("it was put there"),
        }
    }

    fn cni(&mut self, name: &str, ifindex: u32, addresses: &[&str]) {
        let result = CniResult {
            macs: vec![mac_of(ifindex)],
            addresses: addresses.iter().map(|text| ip(text)).collect(),
        };
        self.cni.insert(name.to_owned(), result);
    }

    fn write(&mut self, interface: &str, mac: Option<Mac>, v4: &[&str], v6: &[&str]) {
        self.containers.bindings.push(StaticBinding {
            interface: interface.to_owned(),
            mac,
            v4: v4
                .iter()
                .map(|text| text.parse().expect("a prefix"))
                .collect(),
            v6: v6
                .iter()
                .map(|text| text.parse().expect("a prefix"))
                .collect(),
            line: 1,
        });
    }

    fn bind(&self) -> BTreeMap<u32, Binding> {
        let containers = (1..=4).map(|ifindex| (ifindex, &self.containers)).collect();
        bind(Sources {
            links: &self.links,
            containers: &containers,
            cni: &self.cni,
            peers: &self.peers,
            former: &self.former,
        })
    }

    fn remember(&mut self) {
        self.former = Former::of(&self.links, &self.bind());
    }

    /// "origin address address": what a link is bound to; or nothing.
    fn bound(&self, ifindex: u32) -> String {
        text(&self.bind()[&ifindex])
    }

    fn remarks(&self, ifindex: u32) -> String {
        self.bind()[&ifindex].remarks.join("; ")
    }
}

fn text(binding: &Binding) -> String {
    let Some(bound) = &binding.bound else {
        return String::new();
    };
    let v4 = bound.v4.iter().map(ToString::to_string);
    let v6 = bound.v6.iter().map(ToString::to_string);
    let all: Vec<String> = [bound.origin.name().to_owned()]
        .into_iter()
        .chain(v4)
        .chain(v6)
        .collect();
    all.join(" ").replace("/32", "").replace("/128", "")
}

/// Of the container behind a link.
fn mac_of(ifindex: u32) -> Mac {
    [2, 0, 0, 0, 0, ifindex as u8]
}

#[test]
fn a_link_local_address_is_made_of_the_mac() {
    // RFC 4291, appendix A
    let made = eui64([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
    assert_eq!(made.to_string(), "fe80::3656:78ff:fe9a:bcde");
}

#[test]
fn the_policy_wins_then_cni_then_the_peer() {
    let mut world = World::new();
    world.peer(1, &["10.22.0.5", "fe80::5"]);
    assert_eq!(world.bound(1), "peer 10.22.0.5 fe80::5");
    world.cni("veth1", 1, &["10.22.0.6"]);
    assert_eq!(
        world.bound(1),
        "cni 10.22.0.6 fe80::ff:fe00:1",
        "nothing from the peer beside it"
    );
    world.write("veth1", None, &["10.22.0.16/28"], &[]);
    assert_eq!(world.bound(1), "policy 10.22.0.16/28 fe80::ff:fe00:1");
    let written = [2, 0, 0, 0, 0, 0x77];
    world.containers.bindings[0].mac = Some(written);
    assert_eq!(world.bound(1), "policy 10.22.0.16/28 fe80::ff:fe00:77");
    let bound = world.bind()[&1].bound.clone().expect("bound");
    assert_eq!(bound.macs, [written]);
}

#[test]
fn why_a_link_has_no_binding() {
    let mut world = World::new();
    assert!(world.remarks(1).contains("not looked at yet"));
    world.peers.insert(1, Err("it is gone".to_owned()));
    assert_eq!(
        world.remarks(1),
        "no CNI result, and it is gone; write a `binding` for it"
    );
    world.peer(1, &[]);
    assert_eq!(world.remarks(1), "its other end has no address yet");
    world.peer(1, &["10.22.0.5"]).mac = None;
    assert_eq!(world.remarks(1), "its other end has no MAC");
    world.containers.auto = false;
    assert!(world.remarks(1).contains("\"static\""));
    world.write("veth1", None, &["10.22.0.5/32"], &[]);
    assert_eq!(
        world.remarks(1),
        "its binding in the policy has no `mac`, and its other end has none either"
    );
    assert!((1..=4).all(|ifindex| world.bound(ifindex).is_empty()));
}

#[test]
fn what_is_not_believed_of_a_peer() {
    let mut world = World::new();
    world.peer(
        1,
        &[
            "10.22.0.5",
            "10.22.0.1",
            "10.22.0.255",
            "192.0.2.1",
            "127.0.0.2",
            "224.0.0.5",
            "0.0.0.0",
            "fe80::5",
            "fe80::1",
            "2001:db8::1",
        ],
    );
    assert_eq!(world.bound(1), "peer 10.22.0.5 fe80::5");
    assert_eq!(
        world.bind()[&1].remarks,
        [
            "fe80::1 refused: the host's own on this link",
            "10.22.0.1 refused: the host's own",
            "10.22.0.255 refused: not the address of a host",
            "192.0.2.1 refused: outside the networks of the link and its bridge; write a `binding` for it",
            "127.0.0.2 refused: not the address of a host",
            "224.0.0.5 refused: not the address of a host",
            "0.0.0.0 refused: not the address of a host",
            "2001:db8::1 refused: outside the networks of the link and its bridge; write a `binding` for it",
        ]
    );
    world.peer(3, &["192.0.2.1", "2001:db8::1", "fe80::1", "10.22.0.1"]);
    assert_eq!(
        world.bound(3),
        "peer 192.0.2.1 2001:db8::1 fe80::1",
        "no network on the link: where routes lead"
    );
    world.peer(1, &["192.0.2.9"]);
    assert_eq!(world.bound(1), "", "nothing left");
    world.peer(1, &["10.22.0.1"]).here = true;
    assert_eq!(world.bound(1), "peer 10.22.0.1", "an interface of the host");
}

#[test]
fn who_had_an_address_keeps_it() {
    let mut world = World::new();
    world.peer(2, &["10.22.0.5", "10.22.0.6"]);
    world.remember();
    world.peer(1, &["10.22.0.5", "10.22.0.7"]);
    assert_eq!(world.bound(1), "peer 10.22.0.7");
    assert_eq!(world.remarks(1), "10.22.0.5 refused: veth2 is bound to it");
    assert_eq!(world.bound(2), "peer 10.22.0.5 10.22.0.6");
    world.former = Former::default();
    assert_eq!(
        world.bound(2),
        "peer 10.22.0.6",
        "without a past: the first"
    );
}

#[test]
fn better_sources_take_addresses_from_worse_ones() {
    let mut world = World::new();
    world.peer(1, &["10.22.0.5", "10.22.0.6", "10.22.0.7"]);
    world.remember();
    world.cni("veth2", 2, &["10.22.0.5"]);
    world.write("cali1", Some(mac_of(3)), &["10.22.0.6/31"], &[]);
    assert_eq!(world.bound(1), "");
    assert_eq!(world.bound(2), "cni 10.22.0.5 fe80::ff:fe00:2");
    world.cni("veth2", 2, &["10.22.0.5", "10.22.0.6"]);
    assert_eq!(world.remarks(2), "10.22.0.6 refused: cali1 is bound to it");
}

#[test]
fn link_local_addresses_are_shared_between_segments_only() {
    let mut world = World::new();
    for ifindex in 1..=4 {
        world.peer(ifindex, &["fe80::99"]);
    }
    assert_eq!(world.bound(1), "peer fe80::99");
    assert_eq!(world.bound(2), "", "on the same bridge");
    assert_eq!(world.bound(3), "peer fe80::99");
    assert_eq!(world.bound(4), "peer fe80::99");
}

#[test]
fn macs_are_not_taken_from_others_on_the_bridge() {
    let mut world = World::new();
    world.peer(1, &["10.22.0.5"]);
    world.peer(2, &["10.22.0.6"]).mac = Some(mac_of(1));
    world.peer(3, &["10.22.1.7"]).mac = Some(mac_of(1));
    assert_eq!(world.bound(2), "");
    assert_eq!(
        world.remarks(2),
        "02:00:00:00:00:01 refused: veth1 is bound to it"
    );
    assert_eq!(world.bound(3), "peer 10.22.1.7", "no bridge, no mix-up");
    world.peer(2, &["10.22.0.6"]).mac = Some([2, 0, 0, 0, 9, 10]);
    assert_eq!(
        world.remarks(2),
        "02:00:00:00:09:0a refused: cni0 of the host has it"
    );
    world.peer(2, &["10.22.0.6"]).mac = Some([1, 0, 0, 0, 0, 1]);
    assert!(world.remarks(2).contains("not the MAC of a host"));
}

#[test]
fn no_more_addresses_than_the_limit() {
    let mut world = World::new();
    let many: Vec<String> = (0..20).map(|n| format!("192.0.2.{}", n + 10)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    world.peer(3, &many);
    let binding = world.bind()[&3].clone();
    assert_eq!(binding.bound.map(|bound| bound.v4.len()), Some(16));
    assert_eq!(binding.remarks.len(), 4);
    assert_eq!(
        binding.remarks[0],
        "192.0.2.26 refused: more than 16 IPv4 addresses on one link"
    );
}

#[test]
fn a_cni_result_without_a_mac_takes_the_peers() {
    let mut world = World::new();
    world.cni("cali1", 3, &["10.99.0.6"]);
    if let Some(result) = world.cni.get_mut("cali1") {
        result.macs.clear();
    }
    assert_eq!(
        world.remarks(3),
        "the CNI result has no MAC, and its other end was not looked at yet"
    );
    world.peer(3, &["10.99.0.66"]);
    assert_eq!(world.bound(3), "cni 10.99.0.6 fe80::ff:fe00:3");
}
