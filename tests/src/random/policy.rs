//! Owns random policies: valid by the format's rules, small, with prefixes and ports that touch.
//! Must never make a policy that `edgefilter check` refuses, and never one with rates.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::IpNet;

use super::dice::Dice;
use super::prefixes::{around, distinct, net};
use crate::oracle::World;
use crate::oracle::case::INTERFACE;
use crate::oracle::policy::{
    Address, Cidr, Control, Default_, Fragments, IcmpLists, NameOrNumber, OneOrMany, Port,
    RawGroup, RawPolicy, RawProfile, RawRule,
};

const PORTS: [u16; 12] = [0, 1, 22, 53, 68, 80, 443, 546, 1023, 8080, 50_001, 65_535];

/// A random policy for frames received on `lo`.
pub fn policy(dice: &mut Dice, world: &World) -> RawPolicy {
    let mut sources: Vec<IpNet> = Vec::new();
    for _ in 0..dice.within(3..=10) {
        let net = net(dice, &sources);
        sources.push(net);
    }
    let mut groups = IndexMap::new();
    for i in 0..dice.below(4) {
        let cidrs = distinct(dice, &sources, 4);
        groups.insert(
            format!("group-{i}"),
            RawGroup {
                cidrs: cidrs.into_iter().map(Cidr).collect(),
            },
        );
    }
    let mut maker = Maker {
        dice,
        world,
        sources,
        groups: groups.keys().cloned().collect(),
        rules: 0,
        bound: false,
    };
    let mut profiles = IndexMap::new();
    let exact = maker.dice.percent(60);
    let glob = maker.dice.pick(&["l*", "l?", "lo*", "[kl]o", "?o"]);
    let interface = if exact { "lo" } else { glob };
    let bridge = world.bridge(INTERFACE);
    if maker.dice.percent(40) {
        let profile = maker.containers(glob, bridge);
        profiles.insert("pods".to_owned(), profile);
        if maker.dice.percent(15) {
            // Farther from `lo` than a name, and than a longer glob.
            let shadowed = maker.containers_by("c*");
            profiles.insert("shadowed".to_owned(), shadowed);
        }
        let failsafe = maker.failsafe();
        return RawPolicy {
            version: 1,
            failsafe,
            groups,
            profiles,
            scans: None,
            report: None,
        };
    }
    if maker.dice.percent(92) {
        profiles.insert("edge".to_owned(), maker.profile(interface, Vec::new()));
        if exact && maker.dice.percent(15) {
            // Shadowed on `lo`: an exact name beats the glob.
            profiles.insert("shadowed".to_owned(), maker.profile("l*", Vec::new()));
        }
    }
    let mut ids = vec![1, 2, 7, 100, 101, 4094];
    let count = if profiles.is_empty() {
        maker.dice.within(1..=2)
    } else {
        maker.dice.weighted(&[55, 30, 15])
    };
    for i in 0..count {
        let vlans = (0..maker.dice.within(1..=2))
            .map(|_| ids.remove(maker.dice.below(ids.len())))
            .collect();
        profiles.insert(format!("vlan-{i}"), maker.profile("lo", vlans));
    }
    let failsafe = maker.failsafe();
    RawPolicy {
        version: 1,
        failsafe,
        groups,
        profiles,
        scans: None,
        report: None,
    }
}

/// What the parts of a policy are made from.
pub(super) struct Maker<'a> {
    pub(super) dice: &'a mut Dice,
    world: &'a World,
    sources: Vec<IpNet>,
    groups: Vec<String>,
    rules: usize,
    /// Whether a profile has static bindings: an interface has at most one in the whole policy.
    pub(super) bound: bool,
}

impl Maker<'_> {
    pub(super) fn profile(&mut self, interface: &str, vlans: Vec<u16>) -> RawProfile {
        let deny = (0..self.dice.weighted(&[40, 30, 20, 10]))
            .map(|_| self.deny())
            .collect();
        let allow = (0..self.dice.within(1..=9)).map(|_| self.allow()).collect();
        let antispoof = self.antispoof(interface);
        let dice = &mut *self.dice;
        RawProfile {
            interfaces: vec![interface.to_owned()],
            bridges: Vec::new(),
            vlans,
            antispoof,
            containers: None,
            send: None,
            default: if dice.percent(8) {
                Default_::Pass
            } else {
                Default_::Drop
            },
            enforce: dice.percent(85),
            generic_xdp: false,
            fragments: if dice.percent(15) {
                Fragments::Drop
            } else {
                Fragments::Track
            },
            ethertypes: ["lldp", "llc", "0x8863", "0x88b5"]
                .iter()
                .filter(|_| dice.percent(25))
                .map(|text| (*text).to_owned())
                .collect(),
            control: Control {
                arp: dice.percent(80),
                nd: dice.percent(80),
                ra: dice.percent(80),
                dhcp: dice.percent(80),
                pmtu: dice.percent(80),
            },
            icmp: IcmpLists {
                v4: icmp_list(dice, &["echo-request", "echo-reply"], &[3, 5, 11, 13]),
                v6: icmp_list(dice, &["echo-request", "echo-reply"], &[1, 2, 143, 200]),
            },
            allow,
            deny,
        }
    }

    fn allow(&mut self) -> RawRule {
        let (protocol, ports) = self.service();
        let from = self.dice.percent(60).then(|| self.from());
        let to = self.dice.percent(50).then(|| self.to());
        RawRule {
            protocol: Some(protocol),
            ports,
            from,
            to,
            ..self.rule("allow")
        }
    }

    /// A deny rule always leaves something: a service or some sources only.
    fn deny(&mut self) -> RawRule {
        let by_service = self.dice.percent(50);
        let (protocol, ports) = if by_service {
            let (protocol, ports) = self.service();
            (Some(protocol), ports)
        } else {
            (None, None)
        };
        let from = (!by_service || self.dice.percent(70)).then(|| self.from());
        let to = self.dice.percent(30).then(|| self.to());
        RawRule {
            protocol,
            ports,
            from,
            to,
            ..self.rule("deny")
        }
    }

    fn failsafe(&mut self) -> Vec<RawRule> {
        let count = self.dice.weighted(&[70, 20, 10]);
        let rules = (0..count).map(|_| {
            let (protocol, ports) = if self.dice.percent(60) {
                let (protocol, ports) = self.service();
                (Some(protocol), ports)
            } else {
                (None, None)
            };
            RawRule {
                protocol,
                ports,
                from: Some(self.from()),
                ..self.rule("failsafe")
            }
        });
        rules.collect()
    }

    pub(super) fn rule(&mut self, kind: &str) -> RawRule {
        self.rules += 1;
        RawRule {
            id: format!("{kind}-{}", self.rules),
            comment: None,
            protocol: None,
            ports: None,
            from: None,
            to: None,
            rate: None,
            rate_per_source: None,
        }
    }

    pub(super) fn service(&mut self) -> (OneOrMany<NameOrNumber>, Option<Vec<Port>>) {
        let name = |text: &str| NameOrNumber::Name(text.to_owned());
        match self.dice.weighted(&[40, 20, 7, 10, 5, 5, 8, 5]) {
            0 => (OneOrMany::One(name("tcp")), self.ports()),
            1 => (OneOrMany::One(name("udp")), self.ports()),
            2 => (OneOrMany::One(name("sctp")), self.ports()),
            3 => (
                OneOrMany::Many(vec![name("tcp"), name("udp")]),
                self.ports(),
            ),
            4 => (OneOrMany::One(name("icmp")), None),
            5 => (OneOrMany::One(name("icmpv6")), None),
            6 => (
                OneOrMany::One(name(
                    self.dice
                        .pick(&["gre", "esp", "ah", "igmp", "ospf", "ipip"]),
                )),
                None,
            ),
            _ => {
                let number =
                    NameOrNumber::Number(self.dice.pick(&[0, 4, 6, 17, 41, 47, 59, 253, 255]));
                (OneOrMany::One(number), None)
            }
        }
    }

    /// Ports and ranges that do not overlap, but may touch.
    fn ports(&mut self) -> Option<Vec<Port>> {
        if self.dice.percent(12) {
            return None;
        }
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for _ in 0..self.dice.within(1..=4) {
            let first = match ranges.last() {
                Some((_, last)) if self.dice.percent(30) => last.saturating_add(1),
                _ => self
                    .dice
                    .pick(&PORTS)
                    .saturating_sub(u16::try_from(self.dice.below(2)).unwrap_or(0)),
            };
            let width = self.dice.pick(&[0, 0, 1, 2, 100, 1000]);
            let last = first.saturating_add(width);
            if ranges.iter().all(|(a, b)| last < *a || first > *b) {
                ranges.push((first, last));
            }
        }
        let port = |(first, last)| {
            if first == last {
                Port::One(first)
            } else {
                Port::Range(format!("{first}-{last}"))
            }
        };
        Some(ranges.into_iter().map(port).collect())
    }

    pub(super) fn from(&mut self) -> Vec<Address> {
        let mut list: Vec<Address> = distinct(self.dice, &self.sources, 3)
            .into_iter()
            .map(|net| Address::Net(Cidr(net)))
            .collect();
        if !self.groups.is_empty() && self.dice.percent(35) {
            let group = Address::Group(self.dice.pick(&self.groups));
            if self.dice.percent(50) {
                list.clear();
            }
            list.push(group);
        }
        list
    }

    fn to(&mut self) -> OneOrMany<Address> {
        match self.dice.weighted(&[45, 20, 5, 30]) {
            0 => OneOrMany::One(Address::SelfHost),
            1 => OneOrMany::One(Address::Forwarded),
            2 => OneOrMany::One(Address::Any),
            _ => {
                let own: Vec<IpNet> = own(self.world)
                    .into_iter()
                    .map(|a| around(self.dice, a))
                    .collect();
                let list = distinct(self.dice, &own, 3);
                OneOrMany::Many(
                    list.into_iter()
                        .map(|net| Address::Net(Cidr(net)))
                        .collect(),
                )
            }
        }
    }
}

fn own(world: &World) -> Vec<IpAddr> {
    let v4 = world.own_v4.iter().copied().map(IpAddr::V4);
    v4.chain(world.own_v6.iter().copied().map(IpAddr::V6))
        .collect()
}

fn icmp_list(dice: &mut Dice, names: &[&str], numbers: &[u8]) -> Vec<NameOrNumber> {
    let names = names
        .iter()
        .map(|name| NameOrNumber::Name((*name).to_owned()));
    let all = names.chain(numbers.iter().copied().map(NameOrNumber::Number));
    all.filter(|_| dice.percent(25)).collect()
}
