//! Owns short random stories: frames in an order in which state matters.
//! Must never look at verdicts: a story is told whatever the filter thinks of it.

use std::net::{IpAddr, Ipv4Addr};

use super::dice::Dice;
use super::frames::{self, identifier, port, tags, transport};
use super::mutate::mutate;
use super::pools::Pools;
use super::senders::{arrive, claim, leave, stranger};
use crate::oracle::case::Step;
use crate::packets::{
    Extension, Icmp, Icmpv6, Ipv4, Ipv6, Link, Raw, Sctp, Tcp, Transport, Udp, ip,
};

/// One frame or a few that belong together.
pub fn scenario(dice: &mut Dice, pools: &Pools) -> Vec<Step> {
    let weights = if pools.container {
        [36, 16, 6, 9, 28, 5]
    } else {
        [50, 16, 5, 7, 9, 13]
    };
    match dice.weighted(&weights) {
        0 => {
            let mut frame = frames::frame(dice, pools);
            if dice.percent(35) {
                mutate(dice, &mut frame, true);
            }
            let mut step = arrive(dice, pools, frame);
            if dice.percent(1) {
                step.interface = "unmanaged0".into();
            }
            vec![step]
        }
        1 => conversation(dice, pools),
        2 => fragments(dice, pools),
        3 => sent_anything(dice, pools),
        4 => vec![claim(dice, pools)],
        _ => vec![stranger(dice, pools)],
    }
}

/// Both ends of a conversation as the host sees them.
#[derive(Clone)]
struct Talk {
    link: Link,
    local: IpAddr,
    remote: IpAddr,
    kind: Kind,
    local_port: u16,
    remote_port: u16,
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Udp,
    Sctp,
    Ping,
    Timestamp,
    Number(u8),
}

impl Talk {
    fn random(dice: &mut Dice, pools: &Pools) -> Self {
        let v6 = dice.percent(45);
        let own = dice.percent(85);
        let (local, remote): (IpAddr, IpAddr) = match (v6, own) {
            (false, true) => (
                dice.pick(&pools.own_v4).into(),
                dice.pick(&pools.sources_v4).into(),
            ),
            (false, false) => (
                Ipv4Addr::new(10, 88, 0, 2).into(),
                dice.pick(&pools.sources_v4).into(),
            ),
            (true, true) => (
                dice.pick(&pools.own_v6).into(),
                dice.pick(&pools.sources_v6).into(),
            ),
            (true, false) => (
                dice.pick(&pools.destinations_v6).into(),
                dice.pick(&pools.sources_v6).into(),
            ),
        };
        let kind = match dice.weighted(&[45, 22, 6, 14, 5, 8]) {
            0 => Kind::Tcp,
            1 => Kind::Udp,
            2 => Kind::Sctp,
            3 => Kind::Ping,
            4 if !v6 => Kind::Timestamp,
            _ => Kind::Number(dice.pick(&[2, 4, 41, 47, 50, 89, 253])),
        };
        // A client's port mostly; a service's port now and then, for answers.
        let service = dice.percent(30);
        let local_port = if service {
            port(dice, pools)
        } else {
            dice.pick(&[50_000, 50_001, 50_002])
        };
        let local_port = if matches!(kind, Kind::Ping | Kind::Timestamp) {
            identifier(dice)
        } else {
            local_port
        };
        Self {
            link: tags(dice, pools),
            local,
            remote,
            kind,
            local_port,
            remote_port: port(dice, pools),
        }
    }

    fn transport(&self, outward: bool, flags: u8) -> Box<dyn Transport> {
        let (from, to) = if outward {
            (self.local_port, self.remote_port)
        } else {
            (self.remote_port, self.local_port)
        };
        let id = self.local_port;
        match (self.kind, self.local) {
            (Kind::Tcp, _) => Box::new(Tcp::new(from, to, flags)),
            (Kind::Udp, _) => Box::new(Udp::new(from, to)),
            (Kind::Sctp, _) => Box::new(Sctp::init(from, to)),
            (Kind::Ping | Kind::Timestamp, IpAddr::V6(_)) if outward => {
                Box::new(Icmpv6::echo_request(id))
            }
            (Kind::Ping | Kind::Timestamp, IpAddr::V6(_)) => Box::new(Icmpv6::echo_reply(id)),
            (Kind::Ping, _) if outward => Box::new(Icmp::echo_request(id)),
            (Kind::Ping, _) => Box::new(Icmp::echo_reply(id)),
            (Kind::Timestamp, _) => Box::new(Icmp::timestamp(if outward { 13 } else { 14 }, id)),
            (Kind::Number(number), _) => Box::new(Raw(number, vec![0xa5; 12])),
        }
    }

    fn sent(&self, dice: &mut Dice, pools: &Pools, flags: u8) -> Step {
        let carried = self.transport(true, flags);
        let frame = frames::ip(dice, &self.link, self.local, self.remote, carried.as_ref());
        leave(dice, pools, frame)
    }

    fn received(&self, dice: &mut Dice, flags: u8) -> Step {
        let carried = self.transport(false, flags);
        Step::ingress(frames::ip(
            dice,
            &self.link,
            self.remote,
            self.local,
            carried.as_ref(),
        ))
    }

    /// The same with one thing changed.
    fn off_by_one(&self, dice: &mut Dice, pools: &Pools) -> Self {
        let mut other = self.clone();
        match dice.below(6) {
            0 => other.local_port = other.local_port.wrapping_add(1),
            1 => other.remote_port = other.remote_port.wrapping_add(1),
            2 => {
                other.remote = match self.remote {
                    IpAddr::V4(_) => dice.pick(&pools.sources_v4).into(),
                    IpAddr::V6(_) => dice.pick(&pools.sources_v6).into(),
                }
            }
            3 => {
                other.local = match self.local {
                    IpAddr::V4(_) => dice.pick(&pools.own_v4).into(),
                    IpAddr::V6(_) => dice.pick(&pools.own_v6).into(),
                }
            }
            4 => {
                other.kind = dice.pick(&[
                    Kind::Tcp,
                    Kind::Udp,
                    Kind::Sctp,
                    Kind::Ping,
                    Kind::Number(47),
                ]);
            }
            _ => other.link = tags(dice, pools),
        }
        other
    }

    /// An ICMP error about a packet of ours, from the remote or a router.
    fn error(&self, dice: &mut Dice, pools: &Pools) -> Step {
        let carried = self.transport(true, 0x10);
        let (_, mut quoted) = ip::packet(self.local, self.remote, carried.as_ref());
        if dice.percent(15) {
            quoted = quotation(dice, self.local, self.remote, carried.as_ref());
        }
        match dice.below(8) {
            0..=3 => quoted.truncate(if self.local.is_ipv4() { 28 } else { 48 }),
            4 => quoted.truncate(dice.below(quoted.len() + 1)),
            _ => {}
        }
        if dice.percent(8) && !quoted.is_empty() {
            let at = dice.below(quoted.len());
            quoted[at] ^= 1 << dice.below(8);
        }
        let to = if dice.percent(92) {
            self.local
        } else {
            self.off_by_one(dice, pools).local
        };
        match self.local {
            IpAddr::V4(_) => {
                let code = dice.pick(&[0, 1, 4, 4, 13]);
                let kind = dice.pick(&[3, 3, 3, 11, 12, 4, 5]);
                let message = Icmp {
                    payload: quoted,
                    ..Icmp::new(kind, code)
                };
                let from = dice.pick(&pools.sources_v4);
                Step::ingress(frames::ip(dice, &self.link, from.into(), to, &message))
            }
            IpAddr::V6(_) => {
                let message = Icmpv6::error(
                    dice.pick(&[1, 2, 2, 3, 4, 100]),
                    dice.pick(&[0, 0, 4]),
                    &quoted,
                );
                let from = dice.pick(&pools.sources_v6);
                Step::ingress(frames::ip(dice, &self.link, from.into(), to, &message))
            }
        }
    }
}

/// A quoted packet with options, a fragment offset or extension headers.
fn quotation(dice: &mut Dice, local: IpAddr, remote: IpAddr, carried: &dyn Transport) -> Vec<u8> {
    match (local, remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let packet =
                Ipv4::between(local, remote)
                    .with(carried)
                    .options(&vec![1; dice.below(11) * 4]);
            packet
                .fragment(dice.pick(&[0, 0, 1, 64]), dice.percent(30))
                .bytes()
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            let extension = dice.pick(&[
                Extension::Fragment(0, true, 1),
                Extension::DestinationOptions(8),
                Extension::HopByHop(8),
                Extension::Authentication(12),
            ]);
            Ipv6::between(local, remote)
                .with(carried)
                .extension(extension)
                .bytes()
        }
        _ => Vec::new(),
    }
}

/// A flow opened outward or answered, its replies, near misses and errors about it.
fn conversation(dice: &mut Dice, pools: &Pools) -> Vec<Step> {
    let talk = Talk::random(dice, pools);
    let mut steps = Vec::new();
    if dice.percent(90) {
        let flags = dice.pick(&[2, 2, 2, 0x10, 0x12, 4, 1]);
        steps.push(talk.sent(dice, pools, flags));
    }
    for _ in 0..dice.within(1..=4) {
        let flags = dice.pick(&[0x12, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x02, 0, 0x29]);
        let step = match dice.weighted(&[40, 20, 25, 10, 5]) {
            0 => talk.received(dice, flags),
            1 => talk.off_by_one(dice, pools).received(dice, flags),
            2 => talk.error(dice, pools),
            3 => talk.sent(dice, pools, flags & !0x02),
            _ => talk.off_by_one(dice, pools).error(dice, pools),
        };
        steps.push(step);
    }
    for step in &mut steps {
        if step.direction == crate::oracle::case::Direction::Ingress && dice.percent(5) {
            mutate(dice, &mut step.frame, true);
        }
    }
    steps
}

/// A packet in fragments: in order, shuffled, doubled, overlapping, with a piece of another.
fn fragments(dice: &mut Dice, pools: &Pools) -> Vec<Step> {
    let link = tags(dice, pools);
    let (mut source, mut destination) = frames::addresses(dice, pools);
    if pools.container && dice.percent(50) {
        // As the container sends it.
        (source, destination) = (destination, source);
    }
    if dice.percent(20) {
        return vec![last_fragment(dice, &link, source, destination)];
    }
    let carried = transport(dice, pools, source.is_ipv6());
    let size = dice.pick(&[8, 16, 24, 24, 32, 64, 64]);
    let id = dice.pick(&[1, 2, 3, 0xffff]);
    let mut filled = carried.bytes(source, destination);
    filled.resize(filled.len() + dice.within(1..=12) * 16, 0x55);
    let mut parts: Vec<Vec<u8>> = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let mut packet = Ipv4::between(s, d).raw(carried.protocol(), &filled).id(id);
            if dice.percent(15) {
                packet = packet.options(&[1; 4]);
            }
            packet
                .fragments(size)
                .iter()
                .map(|part| link.ipv4(part))
                .collect()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let mut packet = Ipv6::between(s, d).raw(carried.protocol(), &filled);
            if dice.percent(20) {
                packet = packet.extension(
                    dice.pick(&[Extension::HopByHop(8), Extension::DestinationOptions(16)]),
                );
            }
            packet
                .fragments(size, u32::from(id))
                .iter()
                .map(|part| link.ipv6(part))
                .collect()
        }
        _ => Vec::new(),
    };
    parts.truncate(6);
    match dice.below(6) {
        0 => parts.reverse(),
        1 if !parts.is_empty() => {
            let again = dice.pick(&parts);
            parts.push(again);
        }
        2 if parts.len() > 1 => {
            let (a, b) = (dice.below(parts.len()), dice.below(parts.len()));
            parts.swap(a, b);
        }
        3 if parts.len() > 1 => {
            parts.remove(0);
        }
        _ => {}
    }
    if dice.percent(25) && !parts.is_empty() {
        let at = dice.below(parts.len());
        mutate(dice, &mut parts[at], true);
    }
    let outward = dice.percent(if pools.container { 40 } else { 6 });
    let mixed = dice.percent(5);
    let step = |dice: &mut Dice, part| {
        let turned = mixed && dice.percent(50);
        if outward ^ turned {
            leave(dice, pools, part)
        } else {
            arrive(dice, pools, part)
        }
    };
    parts.into_iter().map(|part| step(dice, part)).collect()
}

/// A fragment that ends near 65535, the most a packet can hold.
fn last_fragment(dice: &mut Dice, link: &Link, source: IpAddr, destination: IpAddr) -> Step {
    let offset = dice.pick(&[8186, 8187, 8188, 8189, 8190, 8191]);
    let payload = vec![0; dice.below(25)];
    let more = dice.percent(15);
    Step::ingress(match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let packet = Ipv4::between(s, d).raw(17, &payload).fragment(offset, more);
            link.ipv4(&packet.options(&vec![1; dice.below(3) * 4]))
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let header = Extension::Fragment(offset, more, 1);
            link.ipv6(&Ipv6::between(s, d).raw(17, &payload).extension(header))
        }
        _ => link.llc(),
    })
}

/// A random frame sent, and the one that would answer it.
fn sent_anything(dice: &mut Dice, pools: &Pools) -> Vec<Step> {
    let link = tags(dice, pools);
    let (remote, local) = frames::addresses(dice, pools);
    let carried = transport(dice, pools, remote.is_ipv6());
    let mut frame = frames::ip(dice, &link, local, remote, carried.as_ref());
    if dice.percent(15) {
        // Never cut: the kernel does not send, nor inject, headers without an end.
        mutate(dice, &mut frame, false);
    }
    let answer = mirrored(carried.as_ref(), local, remote);
    let answer = frames::ip(dice, &link, remote, local, &answer);
    vec![leave(dice, pools, frame), arrive(dice, pools, answer)]
}

/// The transport packet with its first two 16-bit fields swapped; a request becomes its reply.
fn mirrored(carried: &dyn Transport, local: IpAddr, remote: IpAddr) -> Raw {
    let mut bytes = carried.bytes(local, remote);
    match carried.protocol() {
        6 | 17 | 132 if bytes.len() >= 4 => bytes[..4].rotate_left(2),
        1 if bytes.first() == Some(&8) => bytes[0] = 0,
        1 if bytes.first() == Some(&13) => bytes[0] = 14,
        58 if bytes.first() == Some(&128) => bytes[0] = 129,
        _ => {}
    }
    Raw(carried.protocol(), bytes)
}
