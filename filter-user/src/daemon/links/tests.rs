//! Links, addresses and routes: messages as the kernel sends them.

mod namespaces;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};

use super::addresses::Address;
use super::routes::{best, gateways, merge, read};
use super::{Kind, Link, Links, PeerId};
use crate::compile::Route;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn link(index: u32, kind: InfoKind, attributes: &[LinkAttribute]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes = attributes.to_vec();
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
    message
}

#[test]
fn what_a_link_is_tied_to_depends_on_its_kind() {
    let mut links = Links::default();
    let here = [LinkAttribute::Link(9)];
    let there = [LinkAttribute::Link(9), LinkAttribute::LinkNetNsId(3)];
    links.add_link(link(1, InfoKind::Vlan, &here));
    links.add_link(link(2, InfoKind::Vlan, &there));
    links.add_link(link(3, InfoKind::Veth, &here));
    links.add_link(link(4, InfoKind::Veth, &there));
    links.add_link(link(5, InfoKind::Vxlan, &here));
    links.add_link(link(6, InfoKind::MacVlan, &here));
    let of = |index| links.details.get(&index).cloned().unwrap_or_default();
    let lowers: Vec<_> = (1..=6).map(|index| of(index).lower).collect();
    assert_eq!(lowers, [Some(9), None, None, None, None, Some(9)]);
    let peers: Vec<_> = (1..=6).map(|index| of(index).peer).collect();
    let peer = |nsid| Some(PeerId { nsid, ifindex: 9 });
    assert_eq!(peers, [None, None, peer(None), peer(Some(3)), None, None]);
}

fn address(length: u8, flags: AddressFlags, attributes: &[AddressAttribute]) -> Option<Address> {
    let mut message = AddressMessage::default();
    message.header.index = 1;
    message.header.prefix_len = length;
    message.attributes = attributes.to_vec();
    message.attributes.push(AddressAttribute::Flags(flags));
    Address::read(&message)
}

fn prefixes(length: u8, attributes: &[AddressAttribute]) -> Vec<IpNet> {
    let mut links = Links::default();
    links.add_addresses(address(length, AddressFlags::empty(), attributes));
    links
        .details
        .remove(&1)
        .map(|link| link.prefixes)
        .unwrap_or_default()
}

#[test]
fn addresses_connect_to_networks_but_not_to_themselves() {
    use AddressAttribute::{Address as Other, Local};
    let both = |a, b| [Other(ip(a)), Local(ip(b))];
    assert_eq!(
        prefixes(24, &both("192.0.2.1", "192.0.2.1")),
        [net("192.0.2.0/24")]
    );
    assert_eq!(prefixes(32, &both("192.0.2.1", "192.0.2.1")), []);
    assert_eq!(
        prefixes(32, &both("192.0.2.9", "192.0.2.1")),
        [net("192.0.2.9/32")],
        "point-to-point: the other end"
    );
    assert_eq!(
        prefixes(64, &[Other(ip("2001:db8::1"))]),
        [net("2001:db8::/64")]
    );
    assert_eq!(prefixes(64, &[Other(ip("fe80::1"))]), []);
}

#[test]
fn an_address_in_duplicate_detection_is_tentative_and_a_duplicate_is_none() {
    type F = AddressFlags;
    let own = [AddressAttribute::Address(ip("2001:db8::1"))];
    let tentative = |flags| address(64, flags, &own).map(|address| address.tentative);
    assert_eq!(tentative(F::Permanent), Some(false));
    assert_eq!(tentative(F::Tentative), Some(true));
    assert_eq!(tentative(F::Tentative | F::Optimistic), Some(false));
    assert_eq!(tentative(F::Tentative | F::Dadfailed), None);

    let mut links = Links::default();
    links.add_addresses(address(64, F::Tentative, &own));
    let expected: [Ipv6Addr; 1] = ["2001:db8::1".parse().expect("an address")];
    assert_eq!(links.facts.own_v6, expected);
    assert_eq!(links.facts.tentative_v6, expected);
    links.add_addresses(address(64, F::Permanent, &own));
    assert!(links.facts.tentative_v6.is_empty(), "in use elsewhere");
}

fn route(kind: RouteType, table: u8, attributes: &[RouteAttribute]) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.kind = kind;
    message.header.table = table;
    message.header.destination_prefix_length = 24;
    message.attributes = attributes.to_vec();
    let network = RouteAddress::Inet(Ipv4Addr::new(192, 0, 2, 0));
    message
        .attributes
        .push(RouteAttribute::Destination(network));
    message
}

fn hop(ifindex: u32, flags: RouteNextHopFlags) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = ifindex;
    hop.flags = flags;
    hop
}

#[test]
fn routes_by_what_they_do() {
    use RouteAttribute::{MultiPath, NhId, Oif, Priority, Table};
    let out = |message: &RouteMessage| {
        read(message).map(|route| (route.table, route.metric, route.interfaces, route.any))
    };
    let main = 254;
    let unicast = route(RouteType::Unicast, main, &[Oif(3), Priority(100)]);
    assert_eq!(out(&unicast), Some((254, 100, vec![3], false)));
    assert_eq!(read(&unicast).map(|r| r.prefix), Some(net("192.0.2.0/24")));
    let large = route(RouteType::Unicast, 0, &[Oif(3), Table(1000)]);
    assert_eq!(out(&large), Some((1000, 0, vec![3], false)));

    let up = RouteNextHopFlags::empty();
    let (dead, down) = (RouteNextHopFlags::Dead, RouteNextHopFlags::Linkdown);
    let several = MultiPath(vec![hop(3, up), hop(4, dead | down), hop(5, down)]);
    let several = route(RouteType::Unicast, main, &[several]);
    assert_eq!(out(&several), Some((254, 0, vec![3, 5], false)));
    let object = route(RouteType::Unicast, main, &[NhId(7)]);
    assert_eq!(out(&object), Some((254, 0, vec![], true)));
    let known_object = route(RouteType::Unicast, main, &[NhId(7), Oif(3)]);
    assert_eq!(out(&known_object), Some((254, 0, vec![3], false)));
    for kind in [
        RouteType::Unreachable,
        RouteType::BlackHole,
        RouteType::Prohibit,
    ] {
        let none = route(kind, main, &[Oif(1)]);
        assert_eq!(out(&none), Some((254, 0, vec![], false)), "{kind:?}");
    }

    for kind in [RouteType::Throw, RouteType::Local, RouteType::Broadcast] {
        assert_eq!(out(&route(kind, main, &[Oif(3)])), None, "{kind:?}");
    }
    assert_eq!(out(&route(RouteType::Unicast, 255, &[Oif(3)])), None);
    for flag in [RouteFlags::Dead, RouteFlags::Cloned] {
        let mut gone = unicast.clone();
        gone.header.flags = flag;
        assert_eq!(out(&gone), None, "{flag:?}");
    }
}

#[test]
fn the_same_prefix_on_two_interfaces_is_one_route() {
    let one = |ifindex| Route {
        table: 254,
        prefix: net("fe80::/64"),
        metric: 256,
        interfaces: vec![ifindex],
        any: false,
    };
    let merged = merge(vec![one(5), one(3), one(5)]);
    assert_eq!(merged.len(), 1);
    assert_eq!(merged[0].interfaces, [3, 5]);
}

#[test]
fn gateways_in_every_form() {
    use RouteAttribute::{Gateway, MultiPath, Oif, Via};
    let v4 = |last| RouteAddress::Inet(Ipv4Addr::new(192, 0, 2, last));
    let v6: Ipv6Addr = "fe80::1".parse().expect("an address");
    let mut first = hop(3, RouteNextHopFlags::empty());
    first.attributes = vec![Gateway(v4(2))];
    let mut second = hop(4, RouteNextHopFlags::Dead);
    second.attributes = vec![Via(RouteVia::Inet6(v6))];
    let found = gateways(&[
        Oif(3),
        Gateway(v4(1)),
        Gateway(RouteAddress::Inet(Ipv4Addr::UNSPECIFIED)),
        MultiPath(vec![first, second]),
    ]);
    assert_eq!(found, [ip("192.0.2.1"), ip("192.0.2.2"), ip("fe80::1")]);
}

#[test]
fn the_best_route_of_each_table() {
    let one = |table, prefix, metric, ifindex| Route {
        table,
        prefix: net(prefix),
        metric,
        interfaces: vec![ifindex],
        any: false,
    };
    let routes = merge(vec![
        one(254, "0.0.0.0/0", 0, 1),
        one(254, "10.0.0.0/8", 5, 2),
        one(254, "10.0.0.0/8", 7, 3),
        one(254, "10.1.0.0/16", 9, 4),
        one(254, "::/0", 0, 5),
        one(100, "10.1.2.3/32", 0, 6),
        one(300, "0.0.0.0/0", 0, 7),
    ]);
    let out = |text| -> Vec<u32> {
        let found = best(&routes, ip(text));
        found.map(|route| route.interfaces[0]).collect()
    };
    assert_eq!(out("10.1.2.3"), [6, 4, 7]);
    assert_eq!(out("10.2.0.1"), [2, 7]);
    assert_eq!(out("192.0.2.1"), [1, 7]);
    assert_eq!(out("2001:db8::1"), [5]);

    let mut links = Links::default();
    links.facts.routes = routes;
    assert!(links.leads_only_to(ip("10.2.0.1"), 2));
    assert!(!links.leads_only_to(ip("10.2.0.1"), 3), "a worse metric");
    assert!(!links.leads_only_to(ip("10.1.0.1"), 2), "a shorter prefix");
    assert!(!links.leads_only_to(ip("192.0.2.1"), 1), "a default route");
}

#[test]
fn only_ends_of_pairs_belong_to_the_containers_of_a_bridge() {
    let port = |kind| Link {
        kind,
        master: Some(1),
        ..Link::default()
    };
    let bridge = Link {
        kind: Kind::Bridge,
        ..Link::default()
    };
    let links = Links {
        names: [(1, "br0"), (2, "eth1"), (3, "veth1")]
            .map(|(index, name)| (index, name.to_owned()))
            .into(),
        details: [(1, bridge), (2, port(Kind::Other)), (3, port(Kind::Veth))].into(),
        ..Links::default()
    };
    assert_eq!(links.bridge_name(2), None, "an uplink");
    assert_eq!(links.bridge_name(3), Some("br0"));
}
