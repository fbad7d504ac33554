//! Owns the random parts of policies about senders: antispoof tables, container profiles, send lists, bindings.
//! Must never make what `edgefilter check` refuses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::dice::Dice;
use super::facts::MACS;
use super::policy::Maker;
use super::prefixes::{around, distinct};
use crate::oracle::case::INTERFACE;
use crate::oracle::policy::{
    Address, Bindings, Cidr, OneOrMany, RawAntiSpoof, RawBinding, RawContainers, RawProfile,
    RawRule, ReversePath, Unbound,
};

/// What may leave beside the host's own: containers that are routed, and what touches them.
const FURTHER: [&str; 6] = [
    "10.88.0.2",
    "192.0.2.128",
    "198.51.100.0",
    "0.0.0.0",
    "2001:db8:88::2",
    "fe80::1",
];

impl Maker<'_> {
    /// A profile for container links: by name, or by the bridge where there is one.
    pub(super) fn containers(&mut self, interface: &str, bridge: Option<&str>) -> RawProfile {
        let by_bridge = bridge.is_some() && self.dice.percent(50);
        let pattern = self.dice.pick(&["cni0", "cni*", "[bc]ni?"]);
        let mut profile = self.containers_by(pattern);
        if !by_bridge {
            profile.interfaces = vec![interface.to_owned()];
            if self.dice.percent(50) {
                profile.bridges.clear();
            }
        }
        profile
    }

    pub(super) fn containers_by(&mut self, bridge: &str) -> RawProfile {
        let send = match self.dice.weighted(&[30, 12, 58]) {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some((0..self.dice.within(1..=6)).map(|_| self.send()).collect()),
        };
        let binding = if !self.bound && self.dice.percent(35) {
            self.bound = true;
            self.bindings()
        } else {
            Vec::new()
        };
        let dice = &mut *self.dice;
        let containers = RawContainers {
            bindings: dice.pick(&[None, None, Some(Bindings::Auto), Some(Bindings::Static)]),
            unbound: dice.pick(&[
                None,
                Some(Unbound::Closed),
                Some(Unbound::Open),
                Some(Unbound::Open),
                Some(Unbound::Open),
                Some(Unbound::Open),
            ]),
            binding,
        };
        RawProfile {
            interfaces: Vec::new(),
            bridges: vec![bridge.to_owned()],
            antispoof: None,
            containers: Some(containers),
            send,
            ..self.profile("", Vec::new())
        }
    }

    /// For `lo` mostly, at most one each.
    fn bindings(&mut self) -> Vec<RawBinding> {
        let names = ["veth9", INTERFACE].into_iter();
        let chosen: Vec<&str> = names
            .filter(|name| self.dice.percent(if *name == INTERFACE { 85 } else { 30 }))
            .collect();
        let binding = |maker: &mut Self, interface: &str| {
            let mut addresses: Vec<Cidr> = Vec::new();
            for _ in 0..maker.dice.within(1..=5) {
                let seed = maker.dice.pick(&[
                    "10.88.0.2",
                    "172.17.0.2",
                    "203.0.113.64",
                    "2001:db8:88::2",
                    "fe80::42:1",
                ]);
                let address = seed.parse().unwrap_or(IpAddr::from([10, 88, 0, 2]));
                let net = if maker.dice.percent(50) {
                    IpNet::from(address)
                } else {
                    around(maker.dice, address)
                };
                if !addresses.contains(&Cidr(net)) {
                    addresses.push(Cidr(net));
                }
            }
            let mac = maker.dice.percent(70).then(|| maker.dice.pick(&MACS));
            RawBinding {
                interface: interface.to_owned(),
                mac,
                addresses,
            }
        };
        chosen.into_iter().map(|name| binding(self, name)).collect()
    }

    fn send(&mut self) -> RawRule {
        let (protocol, ports) = self.service();
        let to = match self.dice.weighted(&[25, 10, 65]) {
            0 => None,
            1 => Some(OneOrMany::One(Address::Any)),
            _ => Some(OneOrMany::Many(self.from())),
        };
        RawRule {
            protocol: Some(protocol),
            ports,
            to,
            ..self.rule("send")
        }
    }

    /// Where every key has its default, an interface other than `lo` by its exact name is checked.
    pub(super) fn antispoof(&mut self, interface: &str) -> Option<RawAntiSpoof> {
        let quiet = interface == "lo" || self.dice.percent(25);
        if quiet && interface == "lo" && self.dice.percent(40) {
            return None;
        }
        let dice = &mut *self.dice;
        let switch = |dice: &mut Dice, on| {
            let explicit = Some(dice.percent(on));
            // Without a word the glob's default is on, which drops most of what the pools hold.
            if quiet && interface != "lo" {
                Some(false)
            } else {
                explicit
            }
        };
        let (martians, own_addresses, egress) =
            (switch(dice, 45), switch(dice, 60), switch(dice, 60));
        let absent = |dice: &mut Dice, value| if dice.percent(15) { None } else { value };
        let given = RawAntiSpoof {
            martians: absent(dice, martians),
            internet: dice.pick(&[None, Some(false), Some(true), Some(true)]),
            legitimate: Vec::new(),
            own_addresses: absent(dice, own_addresses),
            reverse_path: dice.pick(&[
                None,
                None,
                Some(ReversePath::Off),
                Some(ReversePath::Loose),
                Some(ReversePath::Strict),
            ]),
            egress: absent(dice, egress),
            egress_sources: Vec::new(),
        };
        let legitimate = if self.dice.percent(65) {
            self.from()
        } else {
            Vec::new()
        };
        let further: Vec<IpNet> = FURTHER
            .iter()
            .filter_map(|text| text.parse().ok())
            .map(|address| around(self.dice, address))
            .collect();
        let egress_sources = if self.dice.percent(50) {
            distinct(self.dice, &further, 3)
        } else {
            Vec::new()
        };
        Some(RawAntiSpoof {
            legitimate,
            egress_sources: egress_sources
                .into_iter()
                .map(|net| Address::Net(Cidr(net)))
                .collect(),
            ..given
        })
    }
}
