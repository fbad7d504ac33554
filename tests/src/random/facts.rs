//! Owns random hosts: addresses, container networks, routes, MACs and bindings for the frames to meet.
//! Must never know the policy; what fits each other shares the same few prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::dice::Dice;
use super::prefixes::{around, beside, net};
use crate::oracle::case::INTERFACE;
use crate::oracle::policy::{Cidr, Mac};
use crate::oracle::world::{Binding, Entry, LinkFacts, Route, World};

/// `lo`'s index, which the kernel gives it.
const LOOPBACK: u32 = 1;

/// Containers live in these.
const INSIDE: [&str; 8] = [
    "10.88.0.0/16",
    "10.88.0.2",
    "172.17.0.0/29",
    "192.0.2.128/25",
    "2001:db8:88::/64",
    "2001:db8:1::/64",
    "fd00:88::/64",
    "fe80::42:1",
];

/// A container's addresses.
const BOUND: [&str; 12] = [
    "10.88.0.2",
    "10.88.0.5",
    "10.88.0.16/28",
    "10.88.128.0/17",
    "172.17.0.2",
    "203.0.113.64/26",
    "2001:db8:88::2",
    "2001:db8:88:0:8000::/65",
    "fd00:88::/127",
    "fd00:88::2",
    "fe80::42:1",
    "fe80::ff:fe00:0/104",
];

/// Routes lead around these.
const ROUTED: [&str; 12] = [
    "203.0.113.9",
    "203.0.113.128",
    "198.51.100.0",
    "10.1.2.3",
    "10.88.0.2",
    "9.9.9.9",
    "192.0.2.10",
    "2001:db8:9::9",
    "2001:db8:9:8000::",
    "2620:fe::9",
    "fe80::1",
    "fd00::1:0",
];

/// Sources that are blocked: some of what frames come from, and their neighbours.
const BLOCKED: [&str; 9] = [
    "203.0.113.9",
    "198.18.0.1",
    "9.9.9.9",
    "203.0.113.64",
    "2001:db8:9::9",
    "2001:db8:9::/64",
    "2620:fe::9",
    "2620:fe::/64",
    "fe80::1",
];

/// Ports that run-time entries name: protocol and port.
const LISTED: [(u8, u16); 6] = [(6, 443), (6, 22), (6, 80), (17, 53), (17, 443), (132, 9)];

/// MAC addresses that hosts and containers have: they differ by little.
pub const MACS: [Mac; 6] = [
    Mac([2, 0, 0, 0, 0, 1]),
    Mac([2, 0, 0, 0, 0, 2]),
    Mac([2, 0, 0, 0, 1, 1]),
    Mac([2, 1, 0, 0, 0, 1]),
    Mac([0, 0, 0, 0, 0, 1]),
    Mac([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]),
];

/// A random host.
#[must_use]
pub fn world(dice: &mut Dice) -> World {
    let base = super::world();
    let some = |dice: &mut Dice, percent, texts: &[&str]| {
        let chosen = texts.iter().filter(|_| dice.percent(percent));
        chosen.filter_map(|text| cidr(text)).collect::<Vec<Cidr>>()
    };
    let mut world = World {
        tentative_v6: base
            .own_v6
            .iter()
            .copied()
            .filter(|_| dice.percent(12))
            .collect(),
        broadcast: [[192, 0, 2, 255], [10, 88, 255, 255], [203, 0, 113, 255]]
            .map(Ipv4Addr::from)
            .into_iter()
            .filter(|_| dice.percent(40))
            .collect(),
        inside: if dice.percent(70) {
            some(dice, 35, &INSIDE)
        } else {
            Vec::new()
        },
        ..base
    };
    if dice.percent(40) {
        world.blocked = some(dice, 40, &BLOCKED);
    }
    if dice.percent(50) {
        world.entries = entries(dice);
    }
    if dice.percent(20) {
        world
            .own_v6
            .push(Ipv6Addr::new(0x2001, 0xdb8, 0x88, 0, 0, 0, 0, 1));
    }
    let mut routes = Vec::new();
    for table in [254, 100, 7].into_iter().take(dice.pick(&[1, 1, 2, 2, 3])) {
        routes.extend(table_of(dice, table));
    }
    world.routes = routes;
    if dice.percent(50) {
        let outputs = Some(vec![9, 7]);
        let other = LinkFacts {
            outputs,
            ..LinkFacts::none()
        };
        world.links.insert("eth9".into(), other);
    }
    let binding = dice.percent(75).then(|| {
        let mut addresses = some(dice, 25, &BOUND);
        // Mostly something of each family.
        for half in BOUND.chunks(BOUND.len() / 2) {
            let address = cidr(dice.pick(half)).filter(|_| dice.percent(85));
            addresses.extend(address.filter(|address| !addresses.contains(address)));
        }
        let macs = some_macs(dice);
        Binding { macs, addresses }
    });
    let facts = LinkFacts {
        macs: some_macs(dice),
        outputs: Some(if dice.percent(85) {
            dice.pick(&[vec![LOOPBACK], vec![LOOPBACK, 7], vec![3, LOOPBACK]])
        } else {
            vec![7]
        }),
        bridge: dice.percent(40).then(|| "cni0".into()),
        peer: dice.percent(80).then(|| dice.pick(&MACS)),
        binding,
    };
    world.links.insert(INTERFACE.into(), facts);
    world
}

/// A few entries, most of them around each other.
fn entries(dice: &mut Dice) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for _ in 0..dice.within(1..=8) {
        let known: Vec<IpNet> = found.iter().map(|entry| entry.source.0).collect();
        let source = match dice.below(20) {
            0 => "0.0.0.0/0".parse().unwrap_or(net(dice, &known)),
            1 => "::/0".parse().unwrap_or(net(dice, &known)),
            2..6 => known.first().copied().unwrap_or(net(dice, &known)),
            _ => net(dice, &known),
        };
        found.push(Entry {
            deny: dice.percent(40),
            source: Cidr(source),
            port: dice.percent(45).then(|| dice.pick(&LISTED)),
        });
    }
    found
}

/// One to four, the usual source of frames mostly among them.
fn some_macs(dice: &mut Dice) -> Vec<Mac> {
    let mut macs = if dice.percent(85) {
        vec![MACS[0]]
    } else {
        Vec::new()
    };
    for _ in 0..dice.pick(&[0, 1, 1, 3]) {
        let mac = dice.pick(&MACS);
        if !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    if macs.is_empty() {
        macs.push(dice.pick(&MACS));
    }
    macs
}

/// The routes of one table: prefixes around each other, of several metrics, over several interfaces.
fn table_of(dice: &mut Dice, table: u32) -> Vec<Route> {
    let mut nets: Vec<IpNet> = Vec::new();
    for default in ["0.0.0.0/0", "::/0"] {
        if dice.percent(45) {
            nets.extend(default.parse::<IpNet>());
        }
    }
    for _ in 0..dice.below(7) {
        let net = match nets.last() {
            Some(net) if dice.percent(30) => match dice.below(3) {
                0 => net.supernet().unwrap_or(*net),
                1 if net.prefix_len() > 0 => beside(*net),
                _ => *net,
            },
            _ => {
                let address = dice
                    .pick(&ROUTED)
                    .parse()
                    .unwrap_or(IpAddr::from([9, 9, 9, 9]));
                around(dice, address)
            }
        };
        nets.push(net);
    }
    let mut routes: Vec<Route> = Vec::new();
    for net in nets {
        let route = Route {
            table,
            prefix: Cidr(net),
            metric: dice.pick(&[0, 100, 100, 1024]),
            interfaces: dice.pick(&[
                vec![LOOPBACK],
                vec![LOOPBACK],
                vec![2],
                vec![7],
                vec![2, LOOPBACK],
                vec![3, 9],
                Vec::new(),
            ]),
            any: dice.percent(5),
        };
        routes.push(route);
    }
    routes
}

fn cidr(text: &str) -> Option<Cidr> {
    Cidr::try_from(text.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_one() {
        for text in INSIDE.iter().chain(&BOUND).chain(&ROUTED).chain(&BLOCKED) {
            assert!(cidr(text).is_some(), "{text}");
        }
    }
}
