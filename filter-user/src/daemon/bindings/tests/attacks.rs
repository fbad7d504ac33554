//! What a container with root in its own network namespace tries.

use super::*;
use crate::daemon::bits;
use crate::daemon::links::Link;
use crate::policy::MAX_BOUND_ADDRESSES;

fn numbered(from: u8, count: u8) -> Vec<String> {
    (from..from + count)
        .map(|n| format!("10.22.0.{n}"))
        .collect()
}

impl World {
    fn ask(&mut self, ifindex: u32, addresses: &[String]) -> &mut Peer {
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        self.peer(ifindex, &addresses)
    }

    fn port(&mut self, ifindex: u32, name: &str) {
        self.links.names.insert(ifindex, name.to_owned());
        let port = Link {
            master: Some(BR),
            ..Link::default()
        };
        self.links.details.insert(ifindex, port);
    }
}

#[test]
fn a_restart_gives_nothing_away() {
    let mut world = World::new();
    world.peer(2, &["10.22.0.5", "fe80::5"]);
    // what is in the tables; the memory of the daemon is gone
    let in_tables = bits::write(world.bind()[&2].bound.as_ref().expect("bound"));
    world.peer(1, &["10.22.0.5"]).mac = Some(mac_of(2));
    let read = bits::read(&in_tables).expect("known");
    world.former = [(2, "veth2".to_owned(), read)].into_iter().collect();
    assert_eq!(world.bound(2), "peer 10.22.0.5 fe80::5");
    assert_eq!(world.bound(1), "");
}

#[test]
fn another_link_by_the_same_index_or_name_is_another() {
    let mut world = World::new();
    world.peer(2, &["10.22.0.5"]);
    world.remember();
    world.peer(1, &["10.22.0.5"]);
    assert_eq!(world.bound(1), "");
    world.links.names.insert(2, "veth9".to_owned());
    assert_eq!(world.bound(1), "peer 10.22.0.5", "the index came again");
    world.links.names.insert(2, "veth2".to_owned());
    world.links.names.insert(1, "veth2".to_owned());
    world.links.names.insert(2, "veth1".to_owned());
    assert_eq!(world.bound(1), "peer 10.22.0.5", "the name came again");
}

#[test]
fn addresses_beyond_the_limit_are_left_for_others() {
    let mut world = World::new();
    world.ask(1, &numbered(2, 250));
    world.peer(2, &["10.22.0.100"]);
    assert_eq!(world.bound(2), "peer 10.22.0.100");
    let all = world.bind();
    let first = all[&1].bound.as_ref().map(|bound| bound.v4.len());
    assert_eq!(first, Some(MAX_BOUND_ADDRESSES));
    assert_eq!(all[&1].remarks.len(), 9);
    assert_eq!(all[&1].remarks[8], "and 226 more");
}

#[test]
fn what_a_link_has_is_not_pushed_out_by_what_it_adds() {
    let mut world = World::new();
    world.ask(1, &numbered(200, 16));
    let before = world.bound(1);
    world.remember();
    world.ask(1, &numbered(190, 40));
    assert_eq!(world.bound(1), before);
    world.peer(2, &["10.22.0.190"]);
    assert_eq!(world.bound(2), "peer 10.22.0.190");
}

#[test]
fn a_link_without_a_binding_holds_nothing() {
    let mut world = World::new();
    let bridge = Some([2, 0, 0, 0, 9, 10]);
    world.ask(1, &numbered(2, 16)).mac = bridge;
    world.peer(2, &["10.22.0.5"]);
    assert_eq!(world.bound(1), "");
    assert_eq!(world.bound(2), "peer 10.22.0.5");
    // nor a MAC without an address
    world.peer(1, &["192.0.2.1"]).mac = Some(mac_of(2));
    assert_eq!(world.bound(2), "peer 10.22.0.5");
}

#[test]
fn endless_lists_are_not_read_to_the_end() {
    let mut world = World::new();
    let many: Vec<String> = (0..2000_u32)
        .map(|n| format!("198.18.{}.{}", n / 256, n % 256))
        .collect();
    world.ask(1, &many);
    let remarks = world.bind()[&1].remarks.clone();
    assert_eq!(remarks.len(), 9);
    assert_eq!(remarks[8], "and 1992 more");
}

#[test]
fn without_a_network_only_where_a_route_leads() {
    let mut world = World::new();
    world.links.facts.routes = routes(&[
        ("0.0.0.0/0", 3),
        ("10.99.0.6/32", 3),
        ("10.98.0.0/16", 3),
        ("10.98.7.0/24", 4),
        ("169.254.0.0/16", 9),
        ("::/0", 3),
        ("2001:db8::6/128", 3),
    ]);
    world.links.gateways = vec![ip("10.98.0.1")];
    world.peer(
        3,
        &[
            "10.99.0.6",
            "10.98.0.2",
            "10.98.0.1",
            "10.98.7.7",
            "169.254.169.254",
            "192.0.2.53",
            "2001:db8::6",
            "2001:db8::7",
            "fe80::6",
        ],
    );
    assert_eq!(
        world.bound(3),
        "peer 10.98.0.2 10.99.0.6 2001:db8::6 fe80::6"
    );
    let remarks = world.remarks(3);
    assert!(
        remarks.contains("10.98.0.1 refused: a route of the host names it as gateway"),
        "{remarks}"
    );
    assert!(
        remarks.contains("169.254.169.254 refused: the link has no network"),
        "{remarks}"
    );
    // a route that leads to two containers is nobody's
    world.links.facts.routes = routes(&[("10.99.0.0/24", 3)]);
    world.links.facts.routes[0].interfaces = vec![3, 4];
    world.peer(3, &["10.99.0.6"]);
    assert_eq!(world.bound(3), "");
}

#[test]
fn within_a_network_neither_gateways_nor_what_is_for_all() {
    let mut world = World::new();
    let bridge = world.links.details.get_mut(&BR).expect("the bridge");
    bridge
        .prefixes
        .push("fd00:22::/64".parse().expect("a prefix"));
    world.links.facts.broadcast.clear();
    world.links.gateways = vec![ip("10.22.0.9"), ip("fe80::9")];
    world.peer(
        1,
        &[
            "10.22.0.0",
            "10.22.0.9",
            "10.22.0.255",
            "fd00:22::",
            "fd00:22::5",
            "fe80::9",
        ],
    );
    assert_eq!(world.bound(1), "peer fd00:22::5");
}

#[test]
fn plugins_are_believed_but_for_the_hosts_own_and_gateways() {
    let mut world = World::new();
    world.links.gateways = vec![ip("192.0.2.254")];
    world.cni("veth1", 1, &["10.22.0.1", "192.0.2.254", "198.51.100.7"]);
    assert_eq!(world.bound(1), "cni 198.51.100.7 fe80::ff:fe00:1");
    assert_eq!(
        world.bind()[&1].remarks,
        [
            "10.22.0.1 refused: the host's own",
            "192.0.2.254 refused: a route of the host names it as gateway; write a `binding` for it",
        ]
    );
}

#[test]
fn nothing_is_learned_where_a_bridge_leads_out() {
    let mut world = World::new();
    world.peer(1, &["10.22.0.5"]);
    assert_eq!(world.bound(1), "peer 10.22.0.5");
    world.remember();
    world.port(20, "eth0");
    assert_eq!(world.bound(1), "", "not even what was learned before");
    assert_eq!(
        world.remarks(1),
        "its bridge cni0 has another port, eth0: write a `binding` for it"
    );
    world.cni("veth1", 1, &["10.22.0.6"]);
    assert_eq!(world.bound(1), "cni 10.22.0.6 fe80::ff:fe00:1");
    world.write("veth2", Some(mac_of(2)), &["10.22.0.7/32"], &[]);
    assert_eq!(world.bound(2), "policy 10.22.0.7 fe80::ff:fe00:2");
    // a MAC from there could be that of anybody beyond the port
    world.peer(2, &[]);
    world.containers.bindings[0].mac = None;
    assert_eq!(
        world.remarks(2),
        "its binding in the policy has no `mac`, and its bridge cni0 has another port, eth0"
    );
    world.peer(3, &["192.0.2.1"]);
    assert_eq!(world.bound(3), "peer 192.0.2.1", "no port of that bridge");
}

#[test]
fn a_written_binding_without_a_mac_takes_nobodys() {
    let mut world = World::new();
    world.write("veth1", None, &["10.22.0.5/32"], &[]);
    world.peer(1, &[]).mac = Some([2, 0, 0, 0, 9, 10]);
    assert_eq!(
        world.remarks(1),
        "its binding in the policy has no `mac`, and 02:00:00:00:09:0a refused: cni0 of the host has it"
    );
    // a neighbour's: from the policy, from a plugin, or learned before
    world.peer(1, &[]).mac = Some(mac_of(2));
    world.write("veth2", Some(mac_of(2)), &["10.22.0.6/32"], &[]);
    assert_eq!(world.bound(1), "");
    assert_eq!(world.bound(2), "policy 10.22.0.6 fe80::ff:fe00:2");
    world.containers.bindings.truncate(1);
    world.cni("veth2", 2, &["10.22.0.6"]);
    assert_eq!(world.bound(1), "");
    assert_eq!(world.bound(2), "cni 10.22.0.6 fe80::ff:fe00:2");
    world.cni.clear();
    world.peer(1, &[]);
    world.peer(2, &["10.22.0.6"]);
    world.remember();
    world.peer(1, &[]).mac = Some(mac_of(2));
    assert_eq!(world.bound(1), "");
    assert_eq!(world.bound(2), "peer 10.22.0.6");
    // and what it had it keeps
    world.peer(1, &[]);
    world.remember();
    world.peer(2, &["10.22.0.6"]).mac = Some(mac_of(1));
    assert_eq!(world.bound(1), "policy 10.22.0.5 fe80::ff:fe00:1");
    assert_eq!(world.bound(2), "");
}
