//! Owns the independent oracle: a plain, slow model of the verdict, judged frame by frame.
//! Must never share code with filter-common or filter-ebpf, and never be clever: linear scans only.

pub mod case;
pub mod flow;
mod judge;
pub mod parse;
pub mod policy;
pub mod rules;
pub mod table;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::{Buckets, Flows, Fragments, Key};
use judge::Judge;
use parse::{Fragment, SCTP, TCP, Transport, UDP};
pub use policy::RawPolicy;
use rules::{Packet, Profile, Service};

/// Every reason, in the order of the counters.
pub const REASONS: [&str; 20] = [
    "pass_rule",
    "pass_reply",
    "pass_related",
    "pass_control",
    "pass_fragment",
    "pass_unmanaged",
    "drop_malformed",
    "drop_ethertype",
    "drop_protocol",
    "drop_icmp",
    "drop_fragment",
    "drop_martian",
    "drop_own_address",
    "drop_reverse_path",
    "drop_binding",
    "drop_denied",
    "drop_source",
    "drop_port",
    "drop_blocked",
    "drop_rate",
];

/// The host around the filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The host's IPv4 addresses.
    pub own_v4: Vec<Ipv4Addr>,
    /// The host's IPv6 addresses.
    pub own_v6: Vec<Ipv6Addr>,
}

impl World {
    /// Whether the address is one of the host's own.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.own_v4.contains(&v4),
            IpAddr::V6(v6) => self.own_v6.contains(&v6),
        }
    }

    /// Whether a packet to the address is routed on: not ours, not multicast, not broadcast.
    #[must_use]
    pub fn forwards(&self, address: IpAddr) -> bool {
        let to_many = address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
        !self.owns(address) && !to_many
    }
}

/// A host TCP socket: local address and port, remote address and port.
pub type Socket = (IpAddr, u16, IpAddr, u16);

/// What the filter has to say about a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The reason it is counted under.
    pub reason: &'static str,
    /// The rule that matched: an allow or deny rule's id, `default` for an open profile.
    pub rule: Option<String>,
    /// Whether the frame goes on to the stack.
    pub pass: bool,
    /// Whether it is counted as `would_drop` (monitor mode).
    pub would_drop: bool,
    /// The profile that judged; `None` where none does.
    pub profile: Option<String>,
}

/// The model: policy, own addresses and what was seen so far.
#[derive(Debug)]
pub struct Oracle {
    profiles: Vec<Profile>,
    world: World,
    sockets: HashSet<Socket>,
    memory: Memory,
}

#[derive(Debug, Default)]
struct Memory {
    flows: Flows,
    fragments: Fragments,
    buckets: Buckets,
}

impl Oracle {
    /// An oracle that has seen no packet yet.
    #[must_use]
    pub fn new(policy: &RawPolicy, world: World) -> Self {
        let profiles = rules::resolve(policy);
        Self {
            profiles,
            world,
            sockets: HashSet::new(),
            memory: Memory::default(),
        }
    }

    /// Tells of the host's TCP sockets that are connected (not listening).
    #[must_use]
    pub fn with_sockets(mut self, sockets: impl IntoIterator<Item = Socket>) -> Self {
        self.sockets.extend(sockets);
        self
    }

    /// Judges a received frame.
    pub fn ingress(&mut self, interface: &str, frame: &[u8], now_ns: u64) -> Outcome {
        let link = parse::link(frame);
        let Some(profile) = rules::select(&self.profiles, interface, link.vlan) else {
            let reason = "pass_unmanaged";
            return Outcome {
                reason,
                rule: None,
                pass: true,
                would_drop: false,
                profile: None,
            };
        };
        let judge = Judge {
            profile,
            world: &self.world,
            sockets: &self.sockets,
            now: now_ns,
        };
        let (reason, rule) = judge.frame(&link, &mut self.memory);
        let drop = reason.starts_with("drop_");
        let would_drop = drop && !profile.enforce;
        let profile = Some(profile.name.clone());
        Outcome {
            reason,
            rule,
            pass: !drop || would_drop,
            would_drop,
            profile,
        }
    }

    /// Notes what a sent frame opens.
    pub fn egress(&mut self, interface: &str, frame: &[u8], now_ns: u64) {
        let link = parse::link(frame);
        let Some(profile) = rules::select(&self.profiles, interface, link.vlan) else {
            return;
        };
        let ip = match link.content {
            Ok((0x0800, bytes)) => parse::ipv4(bytes),
            Ok((0x86dd, bytes)) => parse::ipv6(bytes),
            _ => return,
        };
        let Ok(ip) = ip else { return };
        if matches!(ip.fragment, Fragment::Later { .. }) {
            return;
        }
        let Ok(transport) = parse::transport(&ip) else {
            return;
        };
        let (local_port, remote_port, flags, service) = match transport {
            Transport::Tcp {
                source,
                destination,
                flags,
            } => (source, destination, flags, Service::Port(TCP, source)),
            Transport::Udp {
                source,
                destination,
            } => (source, destination, 0, Service::Port(UDP, source)),
            Transport::Sctp {
                source,
                destination,
            } => (source, destination, 0, Service::Port(SCTP, source)),
            Transport::Icmp {
                kind, identifier, ..
            } => match (kind, ip.source) {
                (8 | 13, IpAddr::V4(_)) | (128, IpAddr::V6(_)) => {
                    (identifier, 0, 0, Service::Number(ip.protocol))
                }
                _ => return,
            },
            Transport::Other => (0, 0, 0, Service::Number(ip.protocol)),
        };
        let mirrored = Packet {
            source: ip.destination,
            destination: ip.source,
            service,
        };
        // The lists come before the default verdict: what they let in is let in by no rule.
        let reply = match (transport, ip.source) {
            (Transport::Icmp { kind: 8, .. }, IpAddr::V4(_)) => Some(0),
            (Transport::Icmp { kind: 13, .. }, IpAddr::V4(_)) => Some(14),
            (Transport::Icmp { kind: 128, .. }, IpAddr::V6(_)) => Some(129),
            _ => None,
        };
        let listed = reply.is_some_and(|kind| profile.lists_icmp(ip.source.is_ipv6(), kind))
            && profile.allowed(&mirrored, &self.world).is_none();
        if !listed && profile.lets_in(&mirrored, &self.world) {
            return;
        }
        let key = Key {
            local: ip.source,
            remote: ip.destination,
            local_port,
            remote_port,
            protocol: ip.protocol,
        };
        self.memory.flows.outgoing(key, flags, now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{Icmp, Ipv4, Tcp, link};

    const CLOSED: &str = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n";

    #[test]
    fn a_connected_socket_stands_for_a_flow() {
        let policy = RawPolicy::parse(CLOSED).unwrap();
        let (own, remote) = ("192.0.2.10", "203.0.113.9");
        let socket = (own.parse().unwrap(), 5000, remote.parse().unwrap(), 80);
        let mut oracle = Oracle::new(&policy, table::world()).with_sockets([socket]);
        let mut reason = |packet: Ipv4| oracle.ingress("lo", &link().ipv4(&packet), 1).reason;
        let packet = || Ipv4::new(remote, own);
        assert_eq!(reason(packet().with(&Tcp::ack(80, 5000))), "pass_reply");
        assert_eq!(reason(packet().with(&Tcp::syn(80, 5000))), "drop_port");
        assert_eq!(reason(packet().with(&Tcp::ack(81, 5000))), "drop_port");
        let quoted = Ipv4::new(own, remote).with(&Tcp::ack(5000, 80)).bytes();
        let router = Ipv4::new("198.18.0.1", own);
        assert_eq!(
            reason(router.with(&Icmp::unreachable(1, &quoted))),
            "pass_related"
        );
    }

    #[test]
    fn rules_are_named() {
        let text = format!(
            "{CLOSED}[[profiles.edge.allow]]\nid = \"ssh\"\nprotocol = \"tcp\"\nports = [22]\n\
             [[profiles.edge.allow]]\nid = \"tcp\"\nprotocol = \"tcp\"\n\
             [[profiles.edge.deny]]\nid = \"telnet\"\nprotocol = \"tcp\"\nports = [23]\n"
        );
        let mut oracle = Oracle::new(&RawPolicy::parse(&text).unwrap(), table::world());
        for (port, rule) in [(22, "ssh"), (23, "telnet"), (24, "tcp")] {
            let frame =
                link().ipv4(&Ipv4::new("203.0.113.9", "192.0.2.10").with(&Tcp::syn(1, port)));
            assert_eq!(oracle.ingress("lo", &frame, 1).rule.as_deref(), Some(rule));
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(RawPolicy::parse(&format!("{CLOSED}allows = []\n")).is_err());
        assert!(
            RawPolicy::parse(&format!("{CLOSED}[profiles.edge.control]\narps = true\n")).is_err()
        );
    }
}
