//! Owns the oracle's verdict on one frame that leaves: the host by an outer interface, a container by its link.
//! Must never note a flow: that is for who asked, once the frame has passed.

use std::net::{IpAddr, Ipv4Addr};

use super::Memory;
use super::judge::{Judge, Verdict};
use super::parse::{self, Arp, Fragment, Ip, Link, SCTP, TCP, Transport, TransportError, UDP};
use super::policy::Fragments as FragmentPolicy;
use super::rules::{Packet, Service};
use super::source::{IGMP, before_an_address};
use super::world::Binding;

const PASS: Verdict = ("pass_egress", None);

fn binding(row: &str) -> Verdict {
    ("drop_binding", Some(row.to_owned()))
}

impl Judge<'_> {
    pub fn leaving(&self, link: &Link<'_>, memory: &mut Memory) -> Verdict {
        if self.profile.containers.is_some() {
            self.leaving_container(link, memory)
        } else {
            self.leaving_host(link)
        }
    }

    /// What leaves this host carries its MAC and one of its addresses; what has no source goes.
    fn leaving_host(&self, link: &Link<'_>) -> Verdict {
        if !self.profile.antispoof.egress {
            return PASS;
        }
        let ours = |address: IpAddr| {
            let mut further = self.profile.antispoof.egress_sources.iter();
            let further = further.any(|cidr| cidr.0.contains(&address));
            let own = self.world.owns(address) && !address.is_loopback();
            !address.is_unspecified() && (own || further)
        };
        if link
            .source
            .is_some_and(|mac| !self.facts.macs.contains(&mac))
        {
            return binding("egress:mac");
        }
        let content = link.content;
        let ip = match content {
            Ok((0x0806, bytes)) => {
                let Some(Arp { sender, .. }) = parse::arp_as_taken(bytes) else {
                    return PASS;
                };
                let fine = sender.is_unspecified() || ours(sender.into());
                return if fine { PASS } else { binding("egress:arp") };
            }
            Ok((0x0800, bytes)) => parse::ipv4(bytes),
            Ok((0x86dd, bytes)) => parse::ipv6(bytes),
            _ => return PASS,
        };
        let Ok(ip) = ip else {
            let first = content
                .ok()
                .and_then(|(kind, bytes)| parse::first_source(kind, bytes));
            return if first.is_none_or(ours) {
                PASS
            } else {
                binding("egress:source")
            };
        };
        if ours(ip.source) || finds_an_address(&ip) {
            PASS
        } else {
            binding("egress:source")
        }
    }

    fn leaving_container(&self, link: &Link<'_>, memory: &mut Memory) -> Verdict {
        if self.is_closed() {
            return binding("binding:unknown");
        }
        let Ok((ethertype, bytes)) = link.content else {
            return ("drop_malformed", None);
        };
        let bound = self.binding.as_ref();
        if let (Some(bound), Some(mac)) = (bound, link.source)
            && !bound.has_mac(mac)
        {
            return binding("binding:mac");
        }
        let ip = match ethertype {
            0x0800 => parse::ipv4(bytes),
            0x86dd => parse::ipv6(bytes),
            0x0806 => return arp(bound, parse::arp(bytes)),
            other if self.profile.lists_ethertype(other) => return ("pass_control", None),
            _ => return ("drop_ethertype", None),
        };
        let Ok(ip) = ip else {
            return ("drop_malformed", None);
        };
        if ip.mapped {
            return ("drop_malformed", None);
        }
        if bound.is_some_and(|bound| !bound.has(ip.source)) && !ip.source.is_unspecified() {
            return binding("binding:source");
        }
        if ip.fragment != Fragment::Whole && self.profile.fragments == FragmentPolicy::Drop {
            return ("drop_fragment", None);
        }
        if let Some(verdict) = self.later_fragment(&ip, &memory.fragments[2]) {
            return verdict;
        }
        let transport = match (parse::transport(&ip), ip.fragment) {
            (Ok(transport), _) => transport,
            (Err(TransportError::Incomplete), Fragment::First { .. }) => {
                return ("drop_fragment", None);
            }
            (Err(_), _) => return ("drop_malformed", None),
        };
        // Who is behind an open link nobody knows, so nothing is asked of the sender.
        if let Some(bound) = bound
            && let Some(verdict) = refuse_sender(bound, &ip, &transport)
        {
            return verdict;
        }
        let verdict = self.sends(&ip, &transport, memory);
        self.note_first(&ip, &verdict, &mut memory.fragments[2]);
        verdict
    }

    /// Whether a container that is who it says may send this.
    fn sends(&self, ip: &Ip<'_>, transport: &Transport<'_>, memory: &mut Memory) -> Verdict {
        if is_control(ip, transport) {
            return ("pass_control", None);
        }
        if !self.profile.lists_sends() {
            return ("pass_rule", Some("default".into()));
        }
        let service = |port| match (transport, port) {
            (Transport::Tcp { .. }, Some(port)) => Service::Port(TCP, port),
            (Transport::Udp { .. }, Some(port)) => Service::Port(UDP, port),
            (Transport::Sctp { .. }, Some(port)) => Service::Port(SCTP, port),
            _ => Service::Number(ip.protocol),
        };
        let (from, to) = ports(transport);
        let sent = Packet {
            source: ip.source,
            destination: ip.destination,
            service: service(to),
        };
        if let Some(rule) = self.profile.sendable(&sent, self.world) {
            return self.by_rule(rule, ip, &mut memory.buckets);
        }
        let asked = Packet {
            source: ip.destination,
            destination: ip.source,
            service: service(from),
        };
        if self.answers(ip, transport, &asked) {
            return ("pass_reply", None);
        }
        if quotes_what_came(ip, transport) {
            return ("pass_related", None);
        }
        ("drop_send", None)
    }

    /// Whether the packet can be an answer to one that may reach the container.
    fn answers(&self, ip: &Ip<'_>, transport: &Transport<'_>, asked: &Packet) -> bool {
        match *transport {
            Transport::Tcp { flags, .. } if flags & 0x12 == 0x02 => false,
            Transport::Icmp { kind, .. } => {
                let request = match (ip.source.is_ipv6(), kind) {
                    (false, 0) => 8,
                    (false, 14) => 13,
                    (true, 129) => 128,
                    _ => return false,
                };
                let listed = self.profile.lists_icmp(ip.source.is_ipv6(), request)
                    && self.profile.denied(asked, self.world).is_none();
                listed || self.lets_in(asked)
            }
            _ => self.lets_in(asked),
        }
    }
}

/// ARP that a container may send: about itself, or probing for an address of its own (RFC 5227).
fn arp(bound: Option<&Binding>, packet: Option<Arp>) -> Verdict {
    let Some(packet) = packet else {
        return ("drop_malformed", None);
    };
    let fine = bound.is_none_or(|bound| {
        let speaks_for = if packet.sender.is_unspecified() {
            packet.target
        } else {
            packet.sender
        };
        bound.has_mac(packet.sender_mac) && bound.has(speaks_for.into())
    });
    if fine {
        ("pass_control", None)
    } else {
        binding("binding:arp")
    }
}

/// Why the container may not send this as itself, if so.
fn refuse_sender(bound: &Binding, ip: &Ip<'_>, transport: &Transport<'_>) -> Option<Verdict> {
    if ip.source.is_unspecified() && !finds_an_address(ip) {
        return Some(binding("binding:source"));
    }
    if plays_router_or_server(ip, transport) {
        return Some(binding("binding:role"));
    }
    let claims = |quoted| parse::target(quoted).is_some_and(|target| bound.has(target.into()));
    match *transport {
        Transport::Icmp { kind, quoted, .. } if ip.source.is_ipv6() => {
            let speaks_for = kind == 136 || (kind == 135 && ip.source.is_unspecified());
            (speaks_for && !claims(quoted)).then(|| binding("binding:nd"))
        }
        _ => None,
    }
}

/// Whether the packet comes from the unspecified address and may: what a host without an address sends.
fn finds_an_address(ip: &Ip<'_>) -> bool {
    let transport = match ip.fragment {
        Fragment::Later { .. } => return false,
        _ => parse::transport(ip),
    };
    let from_client = |transport: &Transport<'_>| match transport {
        Transport::Udp { source, .. } => *source == 68,
        _ => true,
    };
    ip.source.is_unspecified()
        && transport
            .is_ok_and(|transport| before_an_address(ip, &transport) && from_client(&transport))
}

/// Router advertisements, redirects and DHCP servers: no container's business.
fn plays_router_or_server(ip: &Ip<'_>, transport: &Transport<'_>) -> bool {
    match *transport {
        Transport::Icmp { kind, .. } => ip.source.is_ipv6() && matches!(kind, 134 | 137),
        // Clients take an answer from any port.
        Transport::Udp { destination, .. } => match ip.source {
            IpAddr::V4(_) => destination == 68,
            IpAddr::V6(_) => destination == 546,
        },
        _ => false,
    }
}

/// What every host sends to live on a network.
fn is_control(ip: &Ip<'_>, transport: &Transport<'_>) -> bool {
    match (ip.source, *transport) {
        (
            IpAddr::V4(_),
            Transport::Udp {
                source,
                destination,
            },
        ) => (source, destination) == (68, 67) && ip.destination == IpAddr::V4(Ipv4Addr::BROADCAST),
        (
            IpAddr::V6(_),
            Transport::Udp {
                source,
                destination,
            },
        ) => {
            let to_link = matches!(ip.destination, IpAddr::V6(to) if to.segments()[0] == 0xff02);
            (source, destination) == (546, 547) && to_link
        }
        (IpAddr::V4(_), Transport::Other) => ip.protocol == IGMP,
        (IpAddr::V6(_), Transport::Icmp { kind, .. }) => {
            matches!(kind, 131..=133 | 135 | 136 | 143)
        }
        _ => false,
    }
}

fn ports(transport: &Transport<'_>) -> (Option<u16>, Option<u16>) {
    match *transport {
        Transport::Tcp {
            source,
            destination,
            ..
        }
        | Transport::Udp {
            source,
            destination,
        }
        | Transport::Sctp {
            source,
            destination,
        } => (Some(source), Some(destination)),
        Transport::Icmp { .. } | Transport::Other => (None, None),
    }
}

/// Whether the packet is an ICMP error about one that came from where it goes.
fn quotes_what_came(ip: &Ip<'_>, transport: &Transport<'_>) -> bool {
    let Transport::Icmp { kind, quoted, .. } = *transport else {
        return false;
    };
    let v6 = ip.source.is_ipv6();
    let error = matches!((v6, kind), (false, 3 | 11 | 12) | (true, 1..=4));
    error
        && parse::quoted(v6, quoted).is_some_and(|quoted| {
            quoted.request && (quoted.source, quoted.destination) == (ip.destination, ip.source)
        })
}
