//! Owns random frames about who sends: claims to an address by ARP, neighbour discovery and DHCP, strange sources,
//! wrong MACs. Must never look at verdicts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dice::Dice;
use super::facts::MACS;
use super::frames::{self, ip, port, tags, transport};
use super::mutate::mutate;
use super::pools::Pools;
use crate::oracle::case::Step;
use crate::packets::{ARP, Icmp, Icmpv6, Ipv4, Ipv6, Link, Raw, Tcp, Transport, Udp};

/// A frame that leaves, mostly from a MAC that may send.
pub fn leave(dice: &mut Dice, pools: &Pools, mut frame: Vec<u8>) -> Step {
    let mac = if dice.percent(94) && !pools.macs.is_empty() {
        dice.pick(&pools.macs).0
    } else {
        strange_mac(dice, pools)
    };
    if let Some(source) = frame.get_mut(6..12) {
        source.copy_from_slice(&mac);
    }
    Step::egress(frame)
}

/// A frame that arrives, now and then from a strange MAC.
pub fn arrive(dice: &mut Dice, pools: &Pools, mut frame: Vec<u8>) -> Step {
    if dice.percent(3) {
        let mac = strange_mac(dice, pools);
        if let Some(source) = frame.get_mut(6..12) {
            source.copy_from_slice(&mac);
        }
    }
    Step::ingress(frame)
}

/// Near a right one, a group's, nobody's.
fn strange_mac(dice: &mut Dice, pools: &Pools) -> [u8; 6] {
    match dice.below(5) {
        0 => [0; 6],
        1 => [0xff; 6],
        2 => dice.pick(&MACS).0,
        _ => {
            let mut mac = pools.macs.first().unwrap_or(&MACS[0]).0;
            mac[dice.below(6)] ^= 1 << dice.below(8);
            mac
        }
    }
}

/// A frame with a source that may be nobody's, or is the host's.
pub fn stranger(dice: &mut Dice, pools: &Pools) -> Step {
    let link = tags(dice, pools);
    let mut frame = match dice.below(10) {
        0 => beginner(dice, &link),
        1 => {
            let (source, _) = odd_pair(dice, pools);
            let carried = transport(dice, pools, source.is_ipv6());
            ip(dice, &link, source, source, carried.as_ref())
        }
        2 => {
            let (message, source, hops) = neighbour(dice, pools);
            let to = dice.pick(&pools.own_v6);
            link.ipv6(&Ipv6::between(source, to).with(&message).hops(hops))
        }
        3 => {
            let (source, destination) = odd_pair(dice, pools);
            let ports = dice.pick(&[(67, 68), (547, 546), (68, 67), (546, 547), (67, 67)]);
            ip(
                dice,
                &link,
                source,
                destination,
                &Udp::new(ports.0, ports.1),
            )
        }
        _ => {
            let (source, destination) = odd_pair(dice, pools);
            let carried = transport(dice, pools, source.is_ipv6());
            ip(dice, &link, source, destination, carried.as_ref())
        }
    };
    if dice.percent(5) {
        mutate(dice, &mut frame, true);
    }
    arrive(dice, pools, frame)
}

/// A frame that leaves and claims an address, or answers, or comes from where nobody may send.
pub fn claim(dice: &mut Dice, pools: &Pools) -> Step {
    let mut link = tags(dice, pools);
    if let Some(mac) = pools.macs.first() {
        link.source = mac.0;
    }
    let mut frame = match dice.weighted(&[18, 20, 10, 14, 6, 28, 4]) {
        0 => arp(dice, pools, &link),
        1 => {
            let (message, source, hops) = neighbour(dice, pools);
            let to = dice.pick(&pools.destinations_v6);
            let packet = Ipv6::between(source, to).with(&message).hops(hops);
            if dice.percent(6) {
                let parts = packet.fragments(dice.pick(&[8, 16, 24]), 5);
                parts
                    .first()
                    .map_or_else(|| link.llc(), |part| link.ipv6(part))
            } else {
                ip(dice, &link, source.into(), to.into(), &message)
            }
        }
        2 => {
            let (source, destination) = sender_pair(dice, pools);
            let ports = dice.pick(&[(68, 67), (67, 68), (546, 547), (547, 546), (68, 68)]);
            ip(
                dice,
                &link,
                source,
                destination,
                &Udp::new(ports.0, ports.1),
            )
        }
        3 => {
            let (source, destination) = odd_pair(dice, pools);
            let carried = transport(dice, pools, source.is_ipv6());
            ip(dice, &link, source, destination, carried.as_ref())
        }
        4 => beginner(dice, &link),
        5 => {
            let (source, destination) = sender_pair(dice, pools);
            let carried = answer(dice, pools, source, destination);
            ip(dice, &link, source, destination, carried.as_ref())
        }
        _ => frames::other_ethertype(dice, &link),
    };
    if dice.percent(6) {
        mutate(dice, &mut frame, true);
    }
    leave(dice, pools, frame)
}

fn arp(dice: &mut Dice, pools: &Pools, link: &Link) -> Vec<u8> {
    let address = |dice: &mut Dice| match dice.weighted(&[55, 15, 15, 15]) {
        0 => dice.pick(&pools.own_v4),
        1 => dice.pick(&pools.odd_v4),
        2 => Ipv4Addr::UNSPECIFIED,
        _ => dice.pick(&pools.destinations_v4),
    };
    let (sender, target) = (address(dice), address(dice));
    let mac = if dice.percent(88) {
        pools.macs.last().unwrap_or(&MACS[0]).0
    } else {
        strange_mac(dice, pools)
    };
    let operation = dice.pick(&[1, 1, 2, 2, 3, 0]);
    let (sender, target) = (sender.to_string(), target.to_string());
    let mut bytes = crate::packets::arp(operation, mac, &sender, [0; 6], &target);
    match dice.below(20) {
        0 => bytes.truncate(dice.within(0..=27)),
        1 => bytes[dice.below(6)] ^= 1 << dice.below(8),
        2 => bytes.resize(46, 0),
        _ => {}
    }
    link.carry(ARP, &bytes)
}

/// A message of neighbour discovery or MLD, where it comes from, and its hop limit.
fn neighbour(dice: &mut Dice, pools: &Pools) -> (Icmpv6, Ipv6Addr, u8) {
    let target = match dice.weighted(&[60, 25, 15]) {
        0 => dice.pick(&pools.own_v6),
        1 => dice.pick(&pools.odd_v6),
        _ => dice.pick(&pools.sources_v6),
    };
    let source = match dice.weighted(&[45, 30, 15, 10]) {
        0 => dice.pick(&pools.own_v6),
        1 => Ipv6Addr::UNSPECIFIED,
        2 => dice.pick(&pools.odd_v6),
        _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    };
    let mac = [2, 0, 0, 0, 0, 1];
    let mut message = match dice.below(10) {
        0..=2 => Icmpv6::neighbour_solicitation(target, mac),
        3..=5 => Icmpv6::neighbour_advertisement(target, mac),
        6 => Icmpv6::router_advertisement(),
        7 => Icmpv6::router_solicitation(),
        8 => Icmpv6::listener_query(),
        _ => Icmpv6 {
            payload: target.octets().to_vec(),
            ..Icmpv6::new(dice.pick(&[131, 132, 137, 138, 143, 148]), 0)
        },
    };
    if dice.percent(8) {
        message.payload.truncate(dice.below(17));
    }
    (message, source, dice.pick(&[255, 255, 255, 254]))
}

/// What a host without an address sends, right or nearly.
fn beginner(dice: &mut Dice, link: &Link) -> Vec<u8> {
    if dice.percent(50) {
        let to =
            Ipv4Addr::from(dice.pick(&[[255, 255, 255, 255], [224, 0, 0, 22], [192, 0, 2, 10]]));
        let carried: Box<dyn Transport> = match dice.below(5) {
            0 | 1 => Box::new(Udp::new(
                dice.pick(&[68, 68, 67, 1]),
                dice.pick(&[67, 67, 68, 53]),
            )),
            2 => Box::new(Raw(
                dice.pick(&[2, 2, 1, 3]),
                vec![0x16, 0, 0, 0, 0, 0, 0, 0],
            )),
            3 => Box::new(Tcp::syn(68, 67)),
            _ => Box::new(Icmp::echo_request(1)),
        };
        let packet = Ipv4::between(Ipv4Addr::UNSPECIFIED, to).with(carried.as_ref());
        if dice.percent(10) {
            let parts = packet.fragments(8);
            let at = dice.below(parts.len());
            return link.ipv4(&parts[at]);
        }
        link.ipv4(&packet)
    } else {
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
        let kind = dice.pick(&[130, 131, 132, 133, 134, 135, 136, 143, 128, 2]);
        let message = Icmpv6 {
            payload: vec![0; dice.pick(&[0, 16, 24])],
            ..Icmpv6::new(kind, 0)
        };
        link.ipv6(
            &Ipv6::between(Ipv6Addr::UNSPECIFIED, to)
                .with(&message)
                .hops(255),
        )
    }
}

/// What can be an answer: from a port, a reply to a ping, an error about a packet that came.
fn answer(
    dice: &mut Dice,
    pools: &Pools,
    source: IpAddr,
    destination: IpAddr,
) -> Box<dyn Transport> {
    let (from, to) = (port(dice, pools), port(dice, pools));
    match dice.weighted(&[35, 15, 15, 35]) {
        0 => Box::new(Tcp::new(
            from,
            to,
            dice.pick(&[0x12, 0x10, 0x02, 0x14, 0x11, 0, 0x42, 0x52]),
        )),
        1 => Box::new(Udp::new(from, to)),
        2 if source.is_ipv6() => Box::new(Icmpv6::echo_reply(1)),
        2 => Box::new(Icmp::timestamp(dice.pick(&[0, 0, 14, 13]), 1)),
        _ => {
            let (about, by) = match dice.below(6) {
                0 => (destination, destination),
                1 => (source, destination),
                _ => (destination, source),
            };
            let carried = transport(dice, pools, source.is_ipv6());
            let (_, mut quoted) = crate::packets::ip::packet(about, by, carried.as_ref());
            let header = if source.is_ipv6() { 40 } else { 20 };
            quoted.truncate(dice.pick(&[header + 8, header + 8, header + 8, header + 7, 200]));
            if source.is_ipv6() {
                Box::new(Icmpv6::error(dice.pick(&[1, 2, 3, 4, 5]), 0, &quoted))
            } else {
                Box::new(Icmp {
                    payload: quoted,
                    ..Icmp::new(dice.pick(&[3, 3, 11, 12, 4, 5]), dice.pick(&[0, 1, 4]))
                })
            }
        }
    }
}

/// Source and destination of a packet that leaves; mostly one that may.
fn sender_pair(dice: &mut Dice, pools: &Pools) -> (IpAddr, IpAddr) {
    let far = dice.percent(80);
    if dice.percent(50) {
        let to = if far {
            &pools.sources_v4
        } else {
            &pools.destinations_v4
        };
        (dice.pick(&pools.own_v4).into(), dice.pick(to).into())
    } else {
        let to = if far {
            &pools.sources_v6
        } else {
            &pools.destinations_v6
        };
        (dice.pick(&pools.own_v6).into(), dice.pick(to).into())
    }
}

/// A strange source, and somewhere to go.
fn odd_pair(dice: &mut Dice, pools: &Pools) -> (IpAddr, IpAddr) {
    let own = dice.percent(70);
    if dice.percent(50) {
        let to = if own {
            &pools.own_v4
        } else {
            &pools.destinations_v4
        };
        (dice.pick(&pools.odd_v4).into(), dice.pick(to).into())
    } else {
        let to = if own {
            &pools.own_v6
        } else {
            &pools.destinations_v6
        };
        (dice.pick(&pools.odd_v6).into(), dice.pick(to).into())
    }
}
