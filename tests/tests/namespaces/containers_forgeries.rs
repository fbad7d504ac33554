//! What a container may not send, as a table: each frame, and what the filter counts it as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use edgefilter_tests::netns::hardware_address;
use edgefilter_tests::netns::topology::{CLIENT_V4, CLIENT_V6};
use edgefilter_tests::packets::{self, ARP, Icmpv6, Ipv4, Ipv6, Transport, Udp, link};
use edgefilter_tests::programs::Container;
use edgefilter_tests::programs::container::{GATEWAY_V4, GATEWAY_V6};
use edgefilter_tests::programs::marker;

const BROADCAST: [u8; 6] = [0xff; 6];
/// ff02::1 (RFC 2464, section 7).
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Where spanning tree sends to (IEEE 802.1D, table 7-10).
const BRIDGES: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
/// Nobody's.
pub const STRANGER: [u8; 6] = [0x02, 0, 0, 0, 0x66, 0x66];

/// One kind of frame.
#[derive(Clone, Debug)]
pub struct Kind {
    /// For people.
    pub name: &'static str,
    /// Reason and, if there is one, row under which the filter counts it; `None` for what has to pass.
    pub counted: Option<(&'static str, Option<&'static str>)>,
    /// Whether it also has to turn up on another port than its receiver's, when nobody filters.
    pub flooded: bool,
    frame: Frame,
}

/// A frame around a mark.
#[derive(Clone, Debug)]
enum Frame {
    /// The mark follows. Only for what is not IP: a bridge whose packets iptables sees cuts off what IP does not count.
    Bare(Vec<u8>),
    /// Source MAC, VLAN id or 0, source and destination, and what the mark goes into.
    Ip([u8; 6], u16, (IpAddr, IpAddr), Body),
}

#[derive(Clone, Debug)]
enum Body {
    Udp(u16, u16),
    Discovery(Icmpv6),
}

impl Kind {
    /// The frame with its mark, for the receiver with this MAC where it is for one.
    pub fn marked(&self, receiver: [u8; 6], (kind, sequence): (u32, u32)) -> Vec<u8> {
        let mark = marker::payload(kind, sequence);
        match &self.frame {
            Frame::Bare(frame) => packets::padded([&frame[..], &mark].concat()),
            Frame::Ip(mac, vlan, ends, body) => {
                let body: Box<dyn Transport> = match body {
                    Body::Udp(from, to) => Box::new(Udp::new(*from, *to).payload(&mark)),
                    Body::Discovery(message) => {
                        let mut message = message.clone();
                        // An option for experiments (RFC 4727), 24 bytes long, which everybody skips.
                        message.payload.extend([253, 3, 0, 0, 0, 0, 0, 0]);
                        message.payload.extend(mark);
                        Box::new(message)
                    }
                };
                let destination = match ends.1 {
                    IpAddr::V4(to) if to.is_broadcast() => BROADCAST,
                    IpAddr::V6(to) if to.is_multicast() => ALL_NODES,
                    _ => receiver,
                };
                let mut link = link().macs(*mac, destination);
                if *vlan != 0 {
                    link = link.vlan(*vlan);
                }
                match *ends {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        link.ipv4(&Ipv4::between(from, to).with(body.as_ref()))
                    }
                    (IpAddr::V6(from), IpAddr::V6(to)) => {
                        link.ipv6(&Ipv6::between(from, to).hops(255).with(body.as_ref()))
                    }
                    mixed => unreachable!("a packet between {mixed:?}"),
                }
            }
        }
    }
}

impl Frame {
    /// Whether it is for more than one receiver.
    fn is_flooded(&self) -> bool {
        match self {
            Self::Bare(frame) => frame.first().is_some_and(|byte| byte & 1 == 1),
            Self::Ip(_, _, (_, IpAddr::V4(to)), _) => to.is_broadcast(),
            Self::Ip(_, _, (_, IpAddr::V6(to)), _) => to.is_multicast(),
        }
    }
}

/// Both ends of a conversation on the bridge.
struct Ends {
    mac: [u8; 6],
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    link_local: Ipv6Addr,
    other_v4: Ipv4Addr,
    other_v6: Ipv6Addr,
}

impl Ends {
    /// A datagram from any address to the other container.
    fn from(&self, source: IpAddr) -> Frame {
        let to = match source {
            IpAddr::V4(_) => self.other_v4.into(),
            IpAddr::V6(_) => self.other_v6.into(),
        };
        Frame::Ip(self.mac, 0, (source, to), Body::Udp(40_000, 7002))
    }

    /// A neighbour discovery message to all nodes.
    fn to_all(&self, source: Ipv6Addr, message: Icmpv6) -> Frame {
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let ends = (source.into(), all.into());
        Frame::Ip(self.mac, 0, ends, Body::Discovery(message))
    }

    /// `(operation, sender's MAC, sender, target)`.
    fn arp(&self, operation: u16, mac: [u8; 6], sender: &str, target: &str) -> Frame {
        let body = packets::arp(operation, mac, sender, [0; 6], target);
        Frame::Bare(link().macs(self.mac, BROADCAST).carry(ARP, &body))
    }
}

/// The table for frames that `container` sends, about `other` mostly.
pub fn table(container: &Container, other: &Container) -> Result<Vec<Kind>> {
    let ends = Ends {
        mac: hardware_address(&container.namespace, "eth0")?,
        v4: container.network.v4()?,
        v6: container.network.v6()?,
        link_local: link_local(container)?,
        other_v4: other.network.v4()?,
        other_v6: other.network.v6()?,
    };
    let mut kinds = sources(&ends)?;
    kinds.extend(macs(&ends));
    kinds.extend(arp(&ends));
    kinds.extend(neighbours(&ends)?);
    kinds.extend(roles(&ends));
    kinds.extend(truthful(&ends));
    Ok(kinds)
}

fn dropped(name: &'static str, row: &'static str, frame: Frame) -> Kind {
    Kind {
        name,
        counted: Some(("drop_binding", Some(row))),
        flooded: frame.is_flooded(),
        frame,
    }
}

fn sources(ends: &Ends) -> Result<Vec<Kind>> {
    let from = |name, address: IpAddr| dropped(name, "binding:source", ends.from(address));
    let ends_of_tagged = (GATEWAY_V4.parse()?, ends.other_v4.into());
    let tagged = Frame::Ip(ends.mac, 100, ends_of_tagged, Body::Udp(40_000, 7002));
    Ok(vec![
        from("IPv4 of the host", GATEWAY_V4.parse()?),
        from("IPv4 of the outside", CLIENT_V4.parse()?),
        from("IPv4 of another container", ends.other_v4.into()),
        from("IPv4 of nobody, same subnet", "10.77.4.200".parse()?),
        from("IPv4 loopback", "127.0.0.1".parse()?),
        from("IPv4 unspecified", "0.0.0.0".parse()?),
        from("IPv4 broadcast", "255.255.255.255".parse()?),
        from("IPv6 of the host", GATEWAY_V6.parse()?),
        from("IPv6 of the outside", CLIENT_V6.parse()?),
        from("IPv6 of another container", ends.other_v6.into()),
        from("IPv6 of nobody, same subnet", "fd77:4::200".parse()?),
        from("IPv6 link-local of nobody", "fe80::66".parse()?),
        from("IPv6 unspecified", "::".parse()?),
        dropped("IPv4 of the host, tagged", "binding:source", tagged),
    ])
}

fn macs(ends: &Ends) -> Vec<Kind> {
    let from = |name, (from, to): (IpAddr, IpAddr)| {
        let frame = Frame::Ip(STRANGER, 0, (from, to), Body::Udp(40_000, 7002));
        dropped(name, "binding:mac", frame)
    };
    vec![
        from(
            "MAC of nobody, IPv4",
            (ends.v4.into(), ends.other_v4.into()),
        ),
        from(
            "MAC of nobody, IPv6",
            (ends.v6.into(), ends.other_v6.into()),
        ),
    ]
}

fn arp(ends: &Ends) -> Vec<Kind> {
    let (own, other) = (ends.v4.to_string(), ends.other_v4.to_string());
    let row = |name, frame| dropped(name, "binding:arp", frame);
    let request = |mac, sender: &str, target: &str| ends.arp(1, mac, sender, target);
    let reply = |mac, sender: &str, target: &str| ends.arp(2, mac, sender, target);
    vec![
        row(
            "ARP request for the host",
            request(ends.mac, GATEWAY_V4, &other),
        ),
        row(
            "ARP reply for the host",
            reply(ends.mac, GATEWAY_V4, &other),
        ),
        row(
            "ARP reply for another container",
            reply(ends.mac, &other, GATEWAY_V4),
        ),
        row(
            "gratuitous ARP request for the host",
            request(ends.mac, GATEWAY_V4, GATEWAY_V4),
        ),
        row(
            "gratuitous ARP reply for another container",
            reply(ends.mac, &other, &other),
        ),
        row(
            "ARP probe for another container",
            request(ends.mac, "0.0.0.0", &other),
        ),
        row("ARP with another sender MAC", reply(STRANGER, &own, &other)),
    ]
}

fn neighbours(ends: &Ends) -> Result<Vec<Kind>> {
    let gateway: Ipv6Addr = GATEWAY_V6.parse()?;
    let about = |target| Icmpv6::neighbour_advertisement(target, ends.mac);
    let solicit = |target| Icmpv6::neighbour_solicitation(target, ends.mac);
    Ok(vec![
        dropped(
            "neighbour advertisement for the host",
            "binding:nd",
            ends.to_all(ends.v6, about(gateway)),
        ),
        dropped(
            "neighbour advertisement for another container",
            "binding:nd",
            ends.to_all(ends.link_local, about(ends.other_v6)),
        ),
        dropped(
            "neighbour advertisement from the host's address",
            "binding:source",
            ends.to_all(gateway, about(gateway)),
        ),
        dropped(
            "neighbour solicitation from the host's address",
            "binding:source",
            ends.to_all(gateway, solicit(ends.other_v6)),
        ),
        dropped(
            "duplicate address detection for another's address",
            "binding:nd",
            ends.to_all(Ipv6Addr::UNSPECIFIED, solicit(ends.other_v6)),
        ),
    ])
}

fn roles(ends: &Ends) -> Vec<Kind> {
    let row = |name, frame| dropped(name, "binding:role", frame);
    let everybody = Ipv4Addr::BROADCAST.into();
    let mut bridge = link().macs(ends.mac, BRIDGES).llc();
    bridge.truncate(14 + 38);
    vec![
        row(
            "router advertisement",
            ends.to_all(ends.link_local, Icmpv6::router_advertisement()),
        ),
        row(
            "redirect",
            ends.to_all(ends.link_local, redirect(ends.other_v6)),
        ),
        row(
            "DHCPv4 offer",
            Frame::Ip(ends.mac, 0, (ends.v4.into(), everybody), Body::Udp(67, 68)),
        ),
        row(
            "DHCPv6 advertise",
            Frame::Ip(
                ends.mac,
                0,
                (ends.link_local.into(), ends.other_v6.into()),
                Body::Udp(547, 546),
            ),
        ),
        Kind {
            name: "spanning tree",
            counted: Some(("drop_ethertype", None)),
            flooded: true,
            frame: Frame::Bare(bridge),
        },
    ]
}

fn truthful(ends: &Ends) -> Vec<Kind> {
    let own = ends.v4.to_string();
    let passes = |name, frame: Frame| Kind {
        name,
        counted: None,
        flooded: frame.is_flooded(),
        frame,
    };
    let solicit = Icmpv6::neighbour_solicitation(ends.other_v6, ends.mac);
    let advertise = Icmpv6::neighbour_advertisement(ends.v6, ends.mac);
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let everybody = Ipv4Addr::BROADCAST.into();
    vec![
        passes("true IPv4", ends.from(ends.v4.into())),
        passes("true IPv6", ends.from(ends.v6.into())),
        passes("true link-local IPv6", ends.from(ends.link_local.into())),
        passes(
            "true ARP request",
            ends.arp(1, ends.mac, &own, &ends.other_v4.to_string()),
        ),
        passes("true gratuitous ARP", ends.arp(2, ends.mac, &own, &own)),
        passes("true ARP probe", ends.arp(1, ends.mac, "0.0.0.0", &own)),
        passes(
            "true neighbour solicitation",
            ends.to_all(ends.v6, solicit.clone()),
        ),
        passes(
            "true neighbour advertisement",
            ends.to_all(ends.link_local, advertise),
        ),
        passes(
            "true duplicate address detection",
            ends.to_all(
                unspecified,
                Icmpv6 {
                    payload: ends.v6.octets().to_vec(),
                    ..solicit
                },
            ),
        ),
        passes(
            "router solicitation",
            ends.to_all(unspecified, Icmpv6::router_solicitation()),
        ),
        passes(
            "DHCPv4 discover",
            Frame::Ip(
                ends.mac,
                0,
                (Ipv4Addr::UNSPECIFIED.into(), everybody),
                Body::Udp(68, 67),
            ),
        ),
    ]
}

/// "Reach that destination by me" (RFC 4861, 4.5): target and destination.
fn redirect(destination: Ipv6Addr) -> Icmpv6 {
    let mut message = Icmpv6::new(137, 0);
    message.payload = [destination.octets(), destination.octets()].concat();
    message
}

/// The link-local address of eth0 inside.
pub fn link_local(container: &Container) -> Result<Ipv6Addr> {
    let shown = container.namespace.run(&[
        "ip", "-o", "-6", "address", "show", "dev", "eth0", "scope", "link",
    ])?;
    shown
        .stdout
        .split_whitespace()
        .find_map(|word| word.split('/').next()?.parse().ok())
        .context("no link-local address on eth0")
}
