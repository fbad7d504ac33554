//! Owns the independent oracle: a plain, slow model of the verdict, judged frame by frame.
//! Must never share code with filter-common or filter-ebpf, and never be clever: linear scans only.

pub mod case;
pub mod flow;
mod judge;
mod leaving;
mod note;
pub mod parse;
pub mod policy;
pub mod registry;
pub mod rules;
pub mod select;
mod source;
pub mod table;
pub mod world;

use std::collections::HashSet;
use std::net::IpAddr;

use flow::{Buckets, Flows, Fragments};
use judge::Judge;
pub use policy::RawPolicy;
use rules::Profile;
use select::select;
use world::LinkFacts;
pub use world::World;

/// Every reason, in the order of the counters.
pub const REASONS: [&str; 22] = [
    "pass_rule",
    "pass_reply",
    "pass_related",
    "pass_control",
    "pass_fragment",
    "pass_unmanaged",
    "pass_egress",
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
    "drop_send",
];

/// A host TCP socket: local address and port, remote address and port.
pub type Socket = (IpAddr, u16, IpAddr, u16);

/// What the filter has to say about a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The reason it is counted under.
    pub reason: &'static str,
    /// What matched: the id of an allow, deny or send rule, `default` for an open profile or without a send list, the
    /// row that made the sender a forger.
    pub rule: Option<String>,
    /// Whether the frame goes on.
    pub pass: bool,
    /// Whether it is counted as `would_drop` (monitor mode).
    pub would_drop: bool,
    /// The profile that judged; `None` where none does.
    pub profile: Option<String>,
}

/// The model: policy, own addresses and what was seen so far.
#[derive(Debug)]
pub struct Oracle {
    setting: Setting,
    memory: Memory,
}

#[derive(Debug)]
struct Setting {
    profiles: Vec<Profile>,
    world: World,
    sockets: HashSet<Socket>,
}

#[derive(Debug, Default)]
struct Memory {
    flows: Flows,
    /// Towards the host, towards a container, from a container: none follows the others.
    fragments: [Fragments; 3],
    buckets: Buckets,
}

impl Oracle {
    /// An oracle that has seen no packet yet.
    #[must_use]
    pub fn new(policy: &RawPolicy, world: World) -> Self {
        let setting = Setting {
            profiles: rules::resolve(policy),
            world,
            sockets: HashSet::new(),
        };
        Self {
            setting,
            memory: Memory::default(),
        }
    }

    /// Tells of the host's TCP sockets that are connected (not listening).
    #[must_use]
    pub fn with_sockets(mut self, sockets: impl IntoIterator<Item = Socket>) -> Self {
        self.setting.sockets.extend(sockets);
        self
    }

    /// Judges a frame that arrives: at the host by an outer interface, at a container by its link.
    pub fn ingress(&mut self, interface: &str, frame: &[u8], now_ns: u64) -> Outcome {
        let link = parse::link(frame);
        let Some(judge) = self.setting.judge(interface, &link, now_ns) else {
            return unmanaged();
        };
        outcome(judge.profile, judge.arriving(&link, &mut self.memory))
    }

    /// Judges a frame that leaves, and notes what it opens if it passes.
    pub fn egress(&mut self, interface: &str, frame: &[u8], now_ns: u64) -> Outcome {
        let link = parse::link(frame);
        let Some(judge) = self.setting.judge(interface, &link, now_ns) else {
            return unmanaged();
        };
        let verdict = judge.leaving(&link, &mut self.memory);
        if verdict.0.starts_with("pass_") {
            judge.note(&link, &mut self.memory.flows);
        }
        outcome(judge.profile, verdict)
    }
}

impl Setting {
    fn judge(&self, interface: &str, link: &parse::Link<'_>, now: u64) -> Option<Judge<'_>> {
        static NOTHING: LinkFacts = LinkFacts::none();
        let bridge = self.world.bridge(interface);
        let profile = select(&self.profiles, interface, bridge, link.vlan)?;
        Some(Judge {
            profile,
            world: &self.world,
            facts: self.world.links.get(interface).unwrap_or(&NOTHING),
            binding: profile.binding(interface, &self.world),
            sockets: &self.sockets,
            now,
        })
    }
}

fn unmanaged() -> Outcome {
    Outcome {
        reason: "pass_unmanaged",
        rule: None,
        pass: true,
        would_drop: false,
        profile: None,
    }
}

fn outcome(profile: &Profile, (reason, rule): judge::Verdict) -> Outcome {
    let drop = reason.starts_with("drop_");
    let would_drop = drop && !profile.enforce;
    Outcome {
        reason,
        rule,
        pass: !drop || would_drop,
        would_drop,
        profile: Some(profile.name.clone()),
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
