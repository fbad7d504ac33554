//! Owns what the oracle thinks of a source address that arrives: martians, own addresses, the reverse path.
//! Must never look at what leaves, and never at the rules of a profile.

use std::net::{IpAddr, Ipv6Addr};

use super::judge::{Judge, Verdict};
use super::parse::{Ip, Link, Transport, UDP};
use super::policy::ReversePath;
use super::registry::{self, Kind};
use super::rules::{Packet, Service};

/// Protocol number of IGMP.
pub(super) const IGMP: u8 = 2;

impl Judge<'_> {
    /// Why a packet cannot have come from where it says, if so.
    pub(super) fn refuse_source(
        &self,
        link: &Link<'_>,
        ip: &Ip<'_>,
        transport: &Transport<'_>,
    ) -> Option<Verdict> {
        let antispoof = &self.profile.antispoof;
        if antispoof.martians {
            if ip.source == ip.destination {
                return row("drop_martian", "martian:land");
            }
            if link.source.is_some_and(|mac| mac.0[0] & 1 == 1) {
                return row("drop_martian", "martian:group-mac");
            }
        }
        let refused = self.refuse_address(ip.source, before_an_address(ip, transport));
        if refused.is_some() {
            return refused;
        }
        if !self.reaches_back(ip, transport) {
            return row("drop_reverse_path", "reverse-path");
        }
        None
    }

    /// Why no packet comes from the address, if so; `finding_one`: one that is sent to find an address.
    pub(super) fn refuse_address(&self, source: IpAddr, finding_one: bool) -> Option<Verdict> {
        let antispoof = &self.profile.antispoof;
        if antispoof.own_addresses {
            if self.world.owns_for_sure(source) {
                return row("drop_own_address", "own-address");
            }
            if self.world.is_inside(source) {
                return row("drop_own_address", "own-container");
            }
        }
        if !antispoof.martians {
            return None;
        }
        if self.world.is_broadcast(source) {
            return row("drop_martian", "martian:broadcast");
        }
        let mut legitimate = antispoof.legitimate.iter();
        if legitimate.any(|cidr| cidr.0.contains(&source)) {
            return None;
        }
        let (prefix, kind) = registry::look_up(source)?;
        let martian = match kind {
            Kind::Usable => false,
            Kind::Site => antispoof.internet,
            Kind::Nobody => !finding_one,
            Kind::Impossible => true,
        };
        martian
            .then(|| row("drop_martian", &format!("martian:{prefix}")))
            .flatten()
    }

    /// Whether policy lets such a packet in without a flow, from where it comes and as a whole.
    pub(super) fn lets_in(&self, packet: &Packet) -> bool {
        let finding_one = packet.source.is_ipv4()
            && matches!(
                packet.service,
                Service::Port(UDP, 67) | Service::Number(IGMP)
            );
        self.refuse_address(packet.source, finding_one).is_none()
            && self.profile.lets_in(packet, self.world)
    }

    /// Whether the routes lead back to the source, where the profile asks for that.
    fn reaches_back(&self, ip: &Ip<'_>, transport: &Transport<'_>) -> bool {
        let outputs = match self.profile.antispoof.reverse_path {
            ReversePath::Off => return true,
            ReversePath::Loose => None,
            ReversePath::Strict => Some(self.facts.outputs.as_deref().unwrap_or_default()),
        };
        let on_link = match ip.source {
            IpAddr::V4(source) => source.is_unspecified(),
            IpAddr::V6(source) => source.is_unspecified() || link_local(source),
        };
        let control = &self.profile.control;
        let denied = || {
            let packet = Packet {
                source: ip.source,
                destination: ip.destination,
                service: Service::Number(ip.protocol),
            };
            let listed = self.listed(&packet);
            listed.is_some_and(|entry| entry.deny)
                || self.profile.denied(&packet, self.world).is_some()
        };
        let exempt = match *transport {
            Transport::Icmp { kind, .. } if ip.source.is_ipv6() => match kind {
                135..=137 => control.nd && !denied(),
                133 | 134 => control.ra && !denied(),
                _ => false,
            },
            _ => control.dhcp && dhcp_answer(ip, transport),
        };
        on_link || exempt || self.world.routes_to(ip.source, outputs)
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every caller is about to return it"
)]
fn row(reason: &'static str, name: &str) -> Option<Verdict> {
    Some((reason, Some(name.to_owned())))
}

/// Whether the packet is one that a host without an address sends: DHCP, IGMP, MLD, router and neighbour solicitation.
pub(super) fn before_an_address(ip: &Ip<'_>, transport: &Transport<'_>) -> bool {
    match (ip.source, transport) {
        (IpAddr::V4(_), Transport::Udp { destination, .. }) => *destination == 67,
        (IpAddr::V4(_), Transport::Other) => ip.protocol == IGMP,
        (IpAddr::V6(_), Transport::Icmp { kind, .. }) => matches!(kind, 131..=133 | 135 | 143),
        _ => false,
    }
}

/// What a DHCP server sends to a client.
pub(super) fn dhcp_answer(ip: &Ip<'_>, transport: &Transport<'_>) -> bool {
    let Transport::Udp {
        source,
        destination,
    } = *transport
    else {
        return false;
    };
    match ip.source {
        IpAddr::V4(_) => (source, destination) == (67, 68),
        IpAddr::V6(from) => (source, destination) == (547, 546) && link_local(from),
    }
}

/// RFC 4291, 2.5.6; the whole of `fe80::/10`, as Linux takes it.
pub(super) fn link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}
