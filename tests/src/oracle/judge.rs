//! Owns the oracle's verdict on one frame that arrives, step by step in the order of the policy reference.
//! Must never choose the profile or know of monitor mode: it says the reason, not what becomes of it.

use std::collections::HashSet;

use super::flow::{Buckets, Flows, Fragments, Key};
use super::parse::{self, Fragment, Ip, SCTP, TCP, Transport, TransportError, UDP};
use super::policy::{Default_, Fragments as FragmentPolicy};
use super::rules::{Packet, Profile, Rule, Service};
use super::source::dhcp_answer;
use super::world::{Binding, Entry, LinkFacts};
use super::{Memory, Socket, World};

/// A reason and the rule or row that gave it.
pub(super) type Verdict = (&'static str, Option<String>);

/// One packet's judgement: everything that does not change while it is made.
pub(super) struct Judge<'a> {
    pub profile: &'a Profile,
    pub world: &'a World,
    pub facts: &'a LinkFacts,
    pub binding: Option<Binding>,
    pub sockets: &'a HashSet<Socket>,
    pub now: u64,
}

impl Judge<'_> {
    pub fn arriving(&self, link: &parse::Link<'_>, memory: &mut Memory) -> Verdict {
        let Ok((ethertype, bytes)) = link.content else {
            return ("drop_malformed", None);
        };
        if self.is_closed() {
            return ("drop_binding", Some("binding:unknown".into()));
        }
        let ip = match ethertype {
            0x0800 => parse::ipv4(bytes),
            0x86dd => parse::ipv6(bytes),
            _ => return self.ethertype(ethertype, bytes),
        };
        match ip {
            Ok(ip) if ip.mapped => self.mapped(),
            Ok(ip) => self.fragment(link, &ip, memory),
            Err(_) => ("drop_malformed", None),
        }
    }

    /// Whether the link is a container's of which nothing is known, and the policy closes such links.
    pub(super) fn is_closed(&self) -> bool {
        let containers = self.profile.containers.as_ref();
        self.binding.is_none() && containers.is_some_and(|containers| containers.closed)
    }

    /// An IPv4-mapped source has a row where martians are asked for, and is malformed elsewhere.
    fn mapped(&self) -> Verdict {
        if self.profile.antispoof.martians {
            ("drop_martian", Some("martian:::ffff:0:0/96".into()))
        } else {
            ("drop_malformed", None)
        }
    }

    /// Which trains of fragments an arriving packet belongs to.
    fn towards(&self) -> usize {
        usize::from(self.profile.containers.is_some())
    }

    fn ethertype(&self, ethertype: u16, bytes: &[u8]) -> Verdict {
        if ethertype == 0x0806 {
            return match (parse::arp(bytes).is_some(), self.profile.control.arp) {
                (false, _) => ("drop_malformed", None),
                (true, true) => ("pass_control", None),
                (true, false) => ("drop_ethertype", None),
            };
        }
        if self.profile.lists_ethertype(ethertype) {
            ("pass_control", None)
        } else if self.profile.default == Default_::Pass {
            ("pass_rule", Some("default".into()))
        } else {
            ("drop_ethertype", None)
        }
    }

    fn fragment(&self, link: &parse::Link<'_>, ip: &Ip<'_>, memory: &mut Memory) -> Verdict {
        if ip.fragment != Fragment::Whole && self.profile.fragments == FragmentPolicy::Drop {
            return ("drop_fragment", None);
        }
        if let Some(verdict) = self.later_fragment(ip, &memory.fragments[self.towards()]) {
            return verdict;
        }
        let transport = match (parse::transport(ip), ip.fragment) {
            (Ok(transport), _) => transport,
            (Err(TransportError::Incomplete), Fragment::First { .. }) => {
                return ("drop_fragment", None);
            }
            (Err(_), _) => return ("drop_malformed", None),
        };
        if let Some(verdict) = self.refuse_source(link, ip, &transport) {
            return verdict;
        }
        let verdict = self.rules(ip, &transport, memory);
        self.note_first(ip, &verdict, &mut memory.fragments[self.towards()]);
        verdict
    }

    /// What becomes of a later fragment: the first one tells, but for one that could rewrite a TCP header.
    pub(super) fn later_fragment(&self, ip: &Ip<'_>, firsts: &Fragments) -> Option<Verdict> {
        let Fragment::Later { id, offset } = ip.fragment else {
            return None;
        };
        let tiny = ip.protocol == TCP && offset < 64;
        let passes =
            !tiny && firsts.passed(&(ip.source, ip.destination, id, part_of(ip)), self.now);
        let reason = if passes {
            "pass_fragment"
        } else {
            "drop_fragment"
        };
        Some((reason, None))
    }

    /// Notes a first fragment that passes, for the later ones.
    pub(super) fn note_first(&self, ip: &Ip<'_>, verdict: &Verdict, firsts: &mut Fragments) {
        if let Fragment::First { id } = ip.fragment
            && verdict.0.starts_with("pass_")
        {
            firsts.note((ip.source, ip.destination, id, part_of(ip)), self.now);
        }
    }

    /// What a rule that matches says, its rates asked.
    pub(super) fn by_rule(&self, rule: &Rule, ip: &Ip<'_>, buckets: &mut Buckets) -> Verdict {
        let mut within = |rate, source| match rate {
            Some(rate) => buckets.conforms(&rule.id, source, rate, self.now),
            None => true,
        };
        let conforms = within(rule.rate, None) && within(rule.rate_per_source, Some(ip.source));
        let reason = if conforms { "pass_rule" } else { "drop_rate" };
        (reason, Some(rule.id.clone()))
    }

    fn rules(&self, ip: &Ip<'_>, transport: &Transport<'_>, memory: &mut Memory) -> Verdict {
        let service = match *transport {
            Transport::Tcp { destination, .. } => Service::Port(TCP, destination),
            Transport::Udp { destination, .. } => Service::Port(UDP, destination),
            Transport::Sctp { destination, .. } => Service::Port(SCTP, destination),
            Transport::Icmp { .. } | Transport::Other => Service::Number(ip.protocol),
        };
        let packet = Packet {
            source: ip.source,
            destination: ip.destination,
            service,
        };
        let saved = self.profile.saved(&packet, self.world);
        let listed = self.listed(&packet);
        if listed.is_some_and(|entry| entry.deny) && saved.is_none() {
            return ("drop_denied", Some("deny-entry".into()));
        }
        if let Some(rule) = self.profile.denied(&packet, self.world) {
            return ("drop_denied", Some(rule.id.clone()));
        }
        let icmp = match transport {
            Transport::Icmp { kind, .. } => Some(*kind),
            _ => None,
        };
        let v6 = ip.source.is_ipv6();
        if let Some(kind) = icmp
            && v6
        {
            let control = &self.profile.control;
            match kind {
                130 if control.nd && saved.is_none() => return ("pass_control", None),
                135..=137 if control.nd => return hop_limit(ip),
                133 | 134 if control.ra => return hop_limit(ip),
                _ => {}
            }
        }
        if let Some(rule) = saved {
            return ("pass_rule", Some(rule.id.clone()));
        }
        let blocked = self.guards_host() && icmp.is_none() && self.world.blocks(packet.source);
        if blocked && self.lets_in(&packet) {
            return (self.unblocked(ip, transport, &packet, memory), None);
        }
        if let Some(rule) = self.profile.allowed(&packet, self.world) {
            return self.by_rule(rule, ip, &mut memory.buckets);
        }
        if let Some(kind) = icmp
            && self.profile.lists_icmp(v6, kind)
        {
            return ("pass_control", None);
        }
        if self.profile.default == Default_::Pass {
            return ("pass_rule", Some("default".into()));
        }
        let unasked = self.unasked(ip, transport, &packet, memory);
        if matches!(unasked, "drop_port" | "drop_source") && listed.is_some() {
            return ("pass_rule", Some("allow-entry".into()));
        }
        (unasked, None)
    }

    /// What a blocked source may send all the same: what passes unasked. No rate is asked.
    fn unblocked(
        &self,
        ip: &Ip<'_>,
        transport: &Transport<'_>,
        packet: &Packet,
        memory: &mut Memory,
    ) -> &'static str {
        let unasked = self.unasked(ip, transport, packet, memory);
        if unasked.starts_with("pass_") {
            unasked
        } else {
            "drop_blocked"
        }
    }

    /// The run-time entry that speaks of the packet. None speaks of what a container may be sent.
    pub(super) fn listed(&self, packet: &Packet) -> Option<&Entry> {
        let port = match packet.service {
            Service::Port(protocol, port) => Some((protocol, port)),
            Service::Number(_) => None,
        };
        let listed = self.world.listed(packet.source, port);
        listed.filter(|_| self.guards_host())
    }

    /// Whether this host is behind the interface, not one of its containers.
    pub(super) fn guards_host(&self) -> bool {
        self.profile.containers.is_none()
    }

    /// What no rule speaks of: replies, related errors, DHCP; everything else is dropped.
    fn unasked(
        &self,
        ip: &Ip<'_>,
        transport: &Transport<'_>,
        packet: &Packet,
        memory: &mut Memory,
    ) -> &'static str {
        let key = |local_port, remote_port| Key {
            local: ip.destination,
            remote: ip.source,
            local_port,
            remote_port,
            protocol: ip.protocol,
        };
        let mut reply = |local_port, remote_port, flags| {
            memory
                .flows
                .incoming(&key(local_port, remote_port), flags, self.now)
        };
        match *transport {
            Transport::Tcp {
                source,
                destination,
                flags,
            } => {
                let opens = flags & 0x12 == 0x02;
                let socket = (ip.destination, destination, ip.source, source);
                if !opens && (reply(destination, source, flags) || self.sockets.contains(&socket)) {
                    "pass_reply"
                } else {
                    self.closed(packet)
                }
            }
            Transport::Udp {
                source,
                destination,
            } => {
                if reply(destination, source, 0) {
                    "pass_reply"
                } else if self.profile.control.dhcp && dhcp_answer(ip, transport) {
                    "pass_control"
                } else {
                    self.closed(packet)
                }
            }
            Transport::Sctp {
                source,
                destination,
            } => {
                if reply(destination, source, 0) {
                    "pass_reply"
                } else {
                    self.closed(packet)
                }
            }
            Transport::Other => {
                if reply(0, 0, 0) {
                    "pass_reply"
                } else {
                    "drop_protocol"
                }
            }
            Transport::Icmp {
                kind,
                code,
                identifier,
                quoted,
            } => {
                let v6 = ip.source.is_ipv6();
                match (v6, kind) {
                    (false, 0 | 14) | (true, 129) if reply(identifier, 0, 0) => "pass_reply",
                    (false, 3 | 11 | 12) | (true, 1..=4) => {
                        let path_mtu = if v6 {
                            kind == 2
                        } else {
                            kind == 3 && code == 4
                        };
                        self.icmp_error(ip, path_mtu, quoted, &memory.flows)
                    }
                    _ => "drop_icmp",
                }
            }
        }
    }

    fn icmp_error(
        &self,
        ip: &Ip<'_>,
        path_mtu: bool,
        quoted: &[u8],
        flows: &Flows,
    ) -> &'static str {
        if path_mtu && !self.profile.control.pmtu {
            return "drop_icmp";
        }
        let Some(quoted) = parse::quoted(ip.source.is_ipv6(), quoted) else {
            return "drop_icmp";
        };
        if quoted.source != ip.destination {
            return "drop_icmp";
        }
        let key = Key {
            local: quoted.source,
            remote: quoted.destination,
            local_port: quoted.source_port,
            remote_port: quoted.destination_port,
            protocol: quoted.protocol,
        };
        let socket = (
            quoted.source,
            quoted.source_port,
            quoted.destination,
            quoted.destination_port,
        );
        let service = match quoted.protocol {
            TCP | UDP | SCTP => Service::Port(quoted.protocol, quoted.source_port),
            _ => Service::Number(quoted.protocol),
        };
        // The packet we answered, had it come from the address the quoted answer went to.
        let asked = Packet {
            source: quoted.destination,
            destination: quoted.source,
            service,
        };
        // ICMP is no service that a rule opens: a ping's answer may be cut up on its way.
        let icmp = quoted.protocol
            == if ip.source.is_ipv6() {
                parse::ICMPV6
            } else {
                parse::ICMP
            };
        let known = (quoted.request && flows.known(&key, self.now))
            || (quoted.protocol == TCP && self.sockets.contains(&socket))
            || (path_mtu && !icmp && self.lets_in(&asked));
        if known { "pass_related" } else { "drop_icmp" }
    }

    /// The reason for a port that nobody may reach, or not this source.
    fn closed(&self, packet: &Packet) -> &'static str {
        if self.profile.opens_to_others(packet, self.world) {
            "drop_source"
        } else {
            "drop_port"
        }
    }
}

fn hop_limit(ip: &Ip<'_>) -> Verdict {
    // RFC 4861: what has passed a router is not from a neighbour.
    (
        if ip.hop_limit == 255 {
            "pass_control"
        } else {
            "drop_icmp"
        },
        None,
    )
}

/// The protocol in the key of a packet's fragments: IPv6 has none there (RFC 8200, 4.5).
fn part_of(ip: &Ip<'_>) -> u8 {
    if ip.source.is_ipv4() { ip.protocol } else { 0 }
}
