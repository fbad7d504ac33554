//! Owns the oracle's matching: which profile judges a frame, which rule matches a packet.
//! Must never remember anything between two packets, and never build a table.

#![expect(missing_docs, reason = "fields have the names of the policy's keys")]

use std::net::IpAddr;

use super::World;
use super::parse::{FIRST_ETHERTYPE, ICMP, ICMPV6, SCTP, TCP, UDP};
use super::policy::{
    Address, Bindings, Cidr, Control, Default_, Fragments, NameOrNumber, Rate, RawBinding,
    RawPolicy, RawProfile, RawRule, ReversePath, Unbound,
};
use super::world::Binding;

/// A profile with its names resolved to numbers and prefixes.
#[derive(Debug)]
pub struct Profile {
    pub name: String,
    pub interfaces: Vec<String>,
    pub bridges: Vec<String>,
    pub vlans: Vec<u16>,
    pub default: Default_,
    pub enforce: bool,
    pub fragments: Fragments,
    pub control: Control,
    pub antispoof: AntiSpoof,
    pub containers: Option<Containers>,
    ethertypes: Vec<Option<u16>>,
    icmp_v4: Vec<u8>,
    icmp_v6: Vec<u8>,
    /// Empty in a profile for container links.
    failsafe: Vec<Rule>,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    send: Option<Vec<Rule>>,
}

/// Which senders a profile believes, every key with its value.
#[derive(Debug)]
pub struct AntiSpoof {
    pub martians: bool,
    pub internet: bool,
    pub legitimate: Vec<Cidr>,
    pub own_addresses: bool,
    pub reverse_path: ReversePath,
    pub egress: bool,
    pub egress_sources: Vec<Cidr>,
}

/// What a profile says of container links.
#[derive(Debug)]
pub struct Containers {
    pub closed: bool,
    auto: bool,
    bindings: Vec<RawBinding>,
}

/// A rule with its names resolved.
#[derive(Debug)]
pub struct Rule {
    pub id: String,
    pub rate: Option<Rate>,
    pub rate_per_source: Option<Rate>,
    protocols: Option<Vec<u8>>,
    ports: Option<Vec<(u16, u16)>>,
    from: Vec<Place>,
    to: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Any,
    SelfHost,
    Forwarded,
    Net(Cidr),
}

/// What rules see of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub service: Service,
}

/// What the packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Protocol (TCP, UDP, SCTP) and destination port.
    Port(u8, u16),
    /// Any other protocol.
    Number(u8),
}

impl Profile {
    /// The first failsafe rule that matches.
    #[must_use]
    pub fn saved(&self, packet: &Packet, world: &World) -> Option<&Rule> {
        let mut rules = self.failsafe.iter();
        rules.find(|rule| rule.matches(packet, world))
    }

    /// The first deny rule that matches, if no failsafe rule does.
    #[must_use]
    pub fn denied(&self, packet: &Packet, world: &World) -> Option<&Rule> {
        let mut rules = self.deny.iter();
        rules.find(|rule| rule.matches(packet, world) && self.saved(packet, world).is_none())
    }

    /// The first allow rule that matches.
    #[must_use]
    pub fn allowed(&self, packet: &Packet, world: &World) -> Option<&Rule> {
        self.allow.iter().find(|rule| rule.matches(packet, world))
    }

    /// Whether such a packet needs no flow to come in: no deny rule, and a failsafe or allow rule or an open profile.
    #[must_use]
    pub fn lets_in(&self, packet: &Packet, world: &World) -> bool {
        self.denied(packet, world).is_none()
            && (self.default == Default_::Pass
                || self.saved(packet, world).is_some()
                || self.allowed(packet, world).is_some())
    }

    /// Whether some allow rule would match if only the source were another.
    #[must_use]
    pub fn opens_to_others(&self, packet: &Packet, world: &World) -> bool {
        self.allow.iter().any(|rule| {
            rule.matches_service(packet.service) && at(&rule.to, packet.destination, world)
        })
    }

    /// Whether `ethertypes` lists it.
    #[must_use]
    pub fn lists_ethertype(&self, ethertype: u16) -> bool {
        let wanted = (ethertype >= FIRST_ETHERTYPE).then_some(ethertype);
        self.ethertypes.contains(&wanted)
    }

    /// Whether the ICMP list of that family has the type.
    #[must_use]
    pub fn lists_icmp(&self, v6: bool, kind: u8) -> bool {
        (if v6 { &self.icmp_v6 } else { &self.icmp_v4 }).contains(&kind)
    }
}

impl Profile {
    /// Whether there is a send list: without one containers may send anything.
    #[must_use]
    pub fn lists_sends(&self) -> bool {
        self.send.is_some()
    }

    /// The first send rule that covers where the packet goes.
    #[must_use]
    pub fn sendable(&self, packet: &Packet, world: &World) -> Option<&Rule> {
        self.send
            .iter()
            .flatten()
            .find(|rule| rule.matches(packet, world))
    }

    /// What the container behind the interface may send from: the policy's own word, else what the host has found out.
    #[must_use]
    pub fn binding(&self, interface: &str, world: &World) -> Option<Binding> {
        let containers = self.containers.as_ref()?;
        let facts = world.links.get(interface);
        let mut bindings = containers.bindings.iter();
        if let Some(binding) = bindings.find(|binding| binding.interface == interface) {
            return Some(Binding {
                macs: vec![binding.mac.or_else(|| facts?.peer)?],
                addresses: binding.addresses.clone(),
            });
        }
        facts?.binding.clone().filter(|_| containers.auto)
    }
}

impl Rule {
    fn matches(&self, packet: &Packet, world: &World) -> bool {
        self.matches_service(packet.service)
            && at(&self.from, packet.source, world)
            && at(&self.to, packet.destination, world)
    }

    fn matches_service(&self, service: Service) -> bool {
        let (protocol, port) = match service {
            Service::Port(protocol, port) => (protocol, Some(port)),
            Service::Number(protocol) => (protocol, None),
        };
        let protocol_fits = self
            .protocols
            .as_ref()
            .is_none_or(|list| list.contains(&protocol));
        let port_fits = match (&self.ports, port) {
            (None, _) => true,
            (Some(list), Some(port)) => list
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&port)),
            (Some(_), None) => false,
        };
        protocol_fits && port_fits
    }
}

fn at(places: &[Place], address: IpAddr, world: &World) -> bool {
    places.iter().any(|place| match place {
        Place::Any => true,
        Place::SelfHost => world.owns(address),
        Place::Forwarded => world.forwards(address),
        Place::Net(cidr) => cidr.0.contains(&address),
    })
}

/// Turns names into numbers and prefixes. What cannot be resolved matches nothing.
#[must_use]
pub fn resolve(policy: &RawPolicy) -> Vec<Profile> {
    policy
        .profiles
        .iter()
        .map(|(name, raw)| Profile {
            name: name.clone(),
            interfaces: raw.interfaces.clone(),
            bridges: raw.bridges.clone(),
            vlans: raw.vlans.clone(),
            default: raw.default,
            enforce: raw.enforce,
            fragments: raw.fragments,
            control: raw.control,
            antispoof: antispoof(policy, raw),
            containers: raw.containers.as_ref().map(|containers| Containers {
                closed: containers.unbound.unwrap_or_default() == Unbound::Closed,
                auto: containers.bindings.unwrap_or_default() == Bindings::Auto,
                bindings: containers.binding.clone(),
            }),
            ethertypes: raw
                .ethertypes
                .iter()
                .filter_map(|text| ethertype(text))
                .collect(),
            icmp_v4: raw
                .icmp
                .v4
                .iter()
                .filter_map(|kind| number(kind, icmp_v4))
                .collect(),
            icmp_v6: raw
                .icmp
                .v6
                .iter()
                .filter_map(|kind| number(kind, icmp_v6))
                .collect(),
            failsafe: policy
                .failsafe
                .iter()
                .filter(|_| raw.containers.is_none())
                .map(|rule| resolve_rule(policy, rule))
                .collect(),
            allow: raw
                .allow
                .iter()
                .map(|rule| resolve_rule(policy, rule))
                .collect(),
            deny: raw
                .deny
                .iter()
                .map(|rule| resolve_rule(policy, rule))
                .collect(),
            send: raw.send.as_ref().map(|rules| {
                let rules = rules.iter();
                rules.map(|rule| resolve_rule(policy, rule)).collect()
            }),
        })
        .collect()
}

fn antispoof(policy: &RawPolicy, raw: &RawProfile) -> AntiSpoof {
    let given = raw.antispoof.clone().unwrap_or_default();
    // What `lo` carries comes from this host; behind container links bindings say who may send what.
    let by_default = !raw.for_containers() && raw.interfaces.iter().all(|name| name != "lo");
    let nets = |list: &[Address]| {
        let places = list.iter().flat_map(|address| place(policy, address));
        places
            .filter_map(|place| match place {
                Place::Net(cidr) => Some(cidr),
                _ => None,
            })
            .collect()
    };
    AntiSpoof {
        martians: given.martians.unwrap_or(by_default),
        internet: given.internet.unwrap_or(false),
        legitimate: nets(&given.legitimate),
        own_addresses: given.own_addresses.unwrap_or(by_default),
        reverse_path: given.reverse_path.unwrap_or_default(),
        egress: given.egress.unwrap_or(by_default),
        egress_sources: nets(&given.egress_sources),
    }
}

fn resolve_rule(policy: &RawPolicy, raw: &RawRule) -> Rule {
    let places = |list: Option<Vec<Address>>| match list {
        None => vec![Place::Any],
        Some(list) => list
            .iter()
            .flat_map(|address| place(policy, address))
            .collect(),
    };
    Rule {
        id: raw.id.clone(),
        rate: raw.rate,
        rate_per_source: raw.rate_per_source,
        protocols: raw.protocol.as_ref().map(|list| {
            list.list()
                .iter()
                .filter_map(|item| number(item, protocol))
                .collect()
        }),
        ports: raw.ports.as_ref().map(|list| {
            list.iter()
                .filter_map(super::policy::Port::bounds)
                .collect()
        }),
        from: places(raw.from.clone()),
        to: places(raw.to.as_ref().map(super::policy::OneOrMany::list)),
    }
}

fn place(policy: &RawPolicy, address: &Address) -> Vec<Place> {
    match address {
        Address::Any => vec![Place::Any],
        Address::SelfHost => vec![Place::SelfHost],
        Address::Forwarded => vec![Place::Forwarded],
        Address::Net(cidr) => vec![Place::Net(*cidr)],
        Address::Group(name) => match policy.groups.get(name) {
            Some(group) => group.cidrs.iter().copied().map(Place::Net).collect(),
            None => Vec::new(),
        },
    }
}

/// `Some(None)` is `llc`.
#[expect(
    clippy::option_option,
    reason = "unknown text, LLC and a number are three things"
)]
fn ethertype(text: &str) -> Option<Option<u16>> {
    let value = match text {
        "llc" => return Some(None),
        "lldp" => 0x88cc,
        "eapol" => 0x888e,
        "macsec" => 0x88e5,
        "pppoe-discovery" => 0x8863,
        "pppoe-session" => 0x8864,
        _ => u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()?,
    };
    Some(Some(value))
}

fn number(item: &NameOrNumber, by_name: fn(&str) -> Option<u8>) -> Option<u8> {
    match item {
        NameOrNumber::Number(number) => Some(*number),
        NameOrNumber::Name(name) => by_name(name).or_else(|| name.parse().ok()),
    }
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => ICMP,
        "igmp" => 2,
        "ipip" => 4,
        "tcp" => TCP,
        "udp" => UDP,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" => ICMPV6,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "sctp" => SCTP,
        "udplite" => 136,
        _ => return None,
    })
}

fn icmp_v4(name: &str) -> Option<u8> {
    Some(match name {
        "echo-reply" => 0,
        "destination-unreachable" => 3,
        "source-quench" => 4,
        "redirect" => 5,
        "echo-request" => 8,
        "router-advertisement" => 9,
        "router-solicitation" => 10,
        "time-exceeded" => 11,
        "parameter-problem" => 12,
        "timestamp-request" => 13,
        "timestamp-reply" => 14,
        _ => return None,
    })
}

fn icmp_v6(name: &str) -> Option<u8> {
    Some(match name {
        "destination-unreachable" => 1,
        "packet-too-big" => 2,
        "time-exceeded" => 3,
        "parameter-problem" => 4,
        "echo-request" => 128,
        "echo-reply" => 129,
        _ => return None,
    })
}
