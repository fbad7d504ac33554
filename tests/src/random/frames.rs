//! Owns single random frames: well formed ones with values from the pools.
//! Must never mutate; that is `mutate`'s business.

use std::net::IpAddr;

use super::dice::Dice;
use super::pools::Pools;
use crate::packets::{
    ARP, Extension, IPV4, IPV6, Icmp, Icmpv6, Ipv4, Ipv6, LLDP, Link, Raw, SERVICE_VLAN, Sctp, Tcp,
    Transport, Udp, VLAN, arp, dhcpv4_reply, dhcpv6_reply, link,
};

/// A link layer: mostly untagged, else tags the policy knows or does not.
pub fn tags(dice: &mut Dice, pools: &Pools) -> Link {
    let id = |dice: &mut Dice| {
        if !pools.vlans.is_empty() && dice.percent(70) {
            dice.pick(&pools.vlans)
        } else {
            dice.pick(&[0, 1, 7, 100, 4095])
        }
    };
    let depth = if pools.vlans.is_empty() {
        dice.weighted(&[80, 12, 6, 2])
    } else {
        dice.weighted(&[50, 38, 10, 2])
    };
    let mut link = link();
    for _ in 0..depth {
        let tpid = dice.pick(&[VLAN, VLAN, SERVICE_VLAN]);
        let priority = dice.pick(&[0, 0, 0x2000, 0x1000, 0xf000]);
        link = link.tag(tpid, id(dice) | priority);
    }
    link
}

/// Source and destination of one family.
pub fn addresses(dice: &mut Dice, pools: &Pools) -> (IpAddr, IpAddr) {
    if dice.percent(55) {
        let to = if dice.percent(65) {
            dice.pick(&pools.own_v4)
        } else {
            dice.pick(&pools.destinations_v4)
        };
        (dice.pick(&pools.sources_v4).into(), to.into())
    } else {
        let to = if dice.percent(65) {
            dice.pick(&pools.own_v6)
        } else {
            dice.pick(&pools.destinations_v6)
        };
        (dice.pick(&pools.sources_v6).into(), to.into())
    }
}

/// A random frame.
pub fn frame(dice: &mut Dice, pools: &Pools) -> Vec<u8> {
    let link = tags(dice, pools);
    if dice.percent(7) {
        return other_ethertype(dice, &link);
    }
    if dice.percent(5) {
        return control(dice, pools, &link);
    }
    let (source, destination) = addresses(dice, pools);
    let transport = transport(dice, pools, source.is_ipv6());
    ip(dice, &link, source, destination, transport.as_ref())
}

/// Carries a transport packet, now and then behind options or extension headers.
pub fn ip(
    dice: &mut Dice,
    link: &Link,
    source: IpAddr,
    destination: IpAddr,
    carried: &dyn Transport,
) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = Ipv4::between(source, destination).with(carried);
            packet.dont_fragment = dice.percent(30);
            if dice.percent(10) {
                packet = packet.options(&vec![1; dice.within(1..=10) * 4]);
            }
            link.ipv4(&packet)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = Ipv6::between(source, destination).with(carried);
            if dice.percent(25) {
                packet.extensions = chain(dice);
            }
            link.ipv6(&packet)
        }
        _ => link.carry(IPV4, &[]),
    }
}

fn chain(dice: &mut Dice) -> Vec<Extension> {
    let length = dice.pick(&[1, 1, 2, 3, 7, 8, 8, 9]);
    let mut chain = Vec::new();
    for i in 0..length {
        let size = dice.within(1..=3) * 8;
        chain.push(match dice.below(9) {
            0 | 1 if i == 0 || dice.percent(5) => Extension::HopByHop(size),
            2 => Extension::Routing(dice.pick(&[2, 2, 3, 4, 0]), size),
            3 if dice.percent(40) => Extension::Fragment(0, false, 9),
            4 => Extension::Authentication(dice.within(2..=6) * 4),
            5 => Extension::Other(dice.pick(&[135, 139, 140]), size),
            6 if dice.percent(10) => Extension::Other(dice.byte(), size),
            _ => Extension::DestinationOptions(size),
        });
    }
    chain
}

/// A random transport packet for one family.
pub fn transport(dice: &mut Dice, pools: &Pools, v6: bool) -> Box<dyn Transport> {
    let (from, to) = (port(dice, pools), port(dice, pools));
    match dice.weighted(&[45, 22, 6, 15, 12]) {
        0 => {
            let flags = if dice.percent(60) {
                dice.pick(&[2, 2, 0x10, 0x12, 4, 1])
            } else {
                dice.byte()
            };
            let mut segment =
                Tcp::new(from, to, flags).payload(&vec![0x55; dice.pick(&[0, 0, 1, 64])]);
            if dice.percent(20) {
                segment = segment.options(&vec![1; dice.within(0..=10) * 4]);
            }
            if dice.percent(4) {
                segment = segment.doff(dice.byte() & 15);
            }
            Box::new(segment)
        }
        1 => {
            let mut datagram = Udp::new(from, to).payload(&vec![0x55; dice.pick(&[0, 1, 8, 64])]);
            if dice.percent(6) {
                let right = 8 + datagram.payload.len();
                let wrong = [0, 7, 8, right - 1, right + 1, 65_535];
                datagram = datagram.length(u16::try_from(dice.pick(&wrong)).unwrap_or(0));
            }
            Box::new(datagram)
        }
        2 => Box::new(Sctp::init(from, to)),
        3 => icmp(dice, v6),
        _ => {
            let number = dice.pick(&[
                0, 1, 2, 4, 41, 43, 44, 47, 47, 50, 51, 58, 59, 60, 89, 135, 253, 255,
            ]);
            let length = dice.pick(&[0, 4, 8, 24]);
            Box::new(Raw(number, dice.bytes(length)))
        }
    }
}

/// A random ICMP message without a meaningful quotation.
fn icmp(dice: &mut Dice, v6: bool) -> Box<dyn Transport> {
    let identifier = identifier(dice);
    let payload = vec![0; dice.pick(&[0, 1, 20, 48])];
    let code = dice.pick(&[0, 0, 1, 4]);
    let id = identifier.to_be_bytes();
    let rest = [id[0], id[1], 0, 1];
    if v6 {
        let kind = dice.pick(&[
            1, 2, 3, 4, 128, 128, 129, 130, 133, 134, 135, 136, 137, 138, 143, 200, 8,
        ]);
        Box::new(Icmpv6 {
            kind,
            code,
            rest,
            payload,
        })
    } else {
        let kind = dice.pick(&[0, 3, 4, 5, 8, 8, 11, 12, 13, 14, 15, 17, 128]);
        Box::new(Icmp {
            kind,
            code,
            rest,
            payload,
        })
    }
}

/// A port at an edge, or one of a few others.
pub fn port(dice: &mut Dice, pools: &Pools) -> u16 {
    if dice.percent(90) {
        dice.pick(&pools.ports)
    } else {
        dice.u16()
    }
}

/// One of a few identifiers, so that they meet again.
pub fn identifier(dice: &mut Dice) -> u16 {
    dice.pick(&[0, 1, 7, 8, 0xffff])
}

/// ARP, LLC and other ethertypes, right or nearly.
pub fn other_ethertype(dice: &mut Dice, link: &Link) -> Vec<u8> {
    match dice.below(8) {
        0 => link.arp_request("203.0.113.9", "192.0.2.10"),
        1 => link.arp_reply("203.0.113.9", "192.0.2.10"),
        2 => link.llc(),
        6 => {
            let mut wrong = arp(1, link.source, "203.0.113.9", [0; 6], "192.0.2.10");
            wrong[dice.below(6)] ^= 1 << dice.below(8);
            link.carry(ARP, &wrong)
        }
        3 => link.carry(LLDP, &[0; 46]),
        4 => link.carry(
            dice.pick(&[ARP, IPV4, IPV6]),
            &vec![0; dice.pick(&[0, 19, 20, 27, 28, 40])],
        ),
        5 => link.carry(
            dice.pick(&[0x8863, 0x88b5, 0x5ff, 0x600, 0x601, 0, 0x9100, 0xffff]),
            &[0; 46],
        ),
        _ => link.carry(dice.u16(), &[0; 46]),
    }
}

/// Neighbour discovery and DHCP, right or nearly.
fn control(dice: &mut Dice, pools: &Pools, link: &Link) -> Vec<u8> {
    let hops = dice.pick(&[255, 255, 255, 254, 1]);
    let source = dice.pick(&pools.sources_v6);
    let own = dice.pick(&pools.own_v6);
    let mac = [2, 0, 0, 0, 0, 1];
    let message = match dice.below(7) {
        0 => Icmpv6::neighbour_solicitation(own, mac),
        1 => Icmpv6::neighbour_advertisement(source, mac),
        2 => Icmpv6::router_advertisement(),
        3 => Icmpv6::router_solicitation(),
        4 => Icmpv6::listener_query(),
        5 => return link.ipv6(&Ipv6::between(source, own).with(&dhcpv6_reply())),
        _ => {
            let packet = Ipv4::between(
                dice.pick(&pools.sources_v4),
                dice.pick(&pools.destinations_v4),
            );
            return link.ipv4(&packet.with(&dhcpv4_reply()));
        }
    };
    link.ipv6(&Ipv6::between(source, own).with(&message).hops(hops))
}
