//! What leaves by the outer interface under a source, MAC or ARP sender that is not the host's never gets out; what is
//! the host's own always does.
//!
//! Of each kind as many packets as EDGEFILTER_PACKETS says are sent in turns with as many true ones, from a raw socket
//! on the host or from behind it, and counted where they arrive: on the peer's end of the link.

use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::frames::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, UDP};
use edgefilter_tests::netns::topology::{
    CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, INNER_V4, INNER_V6, SECOND_V4, SECOND_V6,
};
use edgefilter_tests::netns::{Edge, EdgeOptions, Namespace, hardware_address};
use edgefilter_tests::programs::spoof::Blaster;
use edgefilter_tests::programs::{Edgefilter, Sink, marker};

use crate::forgeries::Link;
use crate::interfaces::reload;
use crate::spoofed::{deaf, packets};
use crate::support::{alone, can_run};

const SOURCE: &str = "egress:source";
const MAC: &str = "egress:mac";
const ARP: &str = "egress:arp";

/// One kind: a forged frame, the true one beside it, and the row that counts the forged one.
struct Kind {
    name: String,
    row: &'static str,
    forged: Shape,
    truthful: Shape,
}

/// Makes a frame out of a mark.
type Shape = Box<dyn Fn((u32, u32)) -> Result<Vec<u8>>>;

struct Arena {
    edge: Edge,
    daemon: Edgefilter,
    outside: Sink,
    _deaf: UdpSocket,
    next: u32,
}

fn policy(lines: &str) -> String {
    format!(
        "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n[profiles.edge.antispoof]\n{lines}\n"
    )
}

impl Arena {
    fn build() -> Result<Self> {
        let edge = Edge::build(&EdgeOptions {
            second: true,
            ..EdgeOptions::default()
        })?;
        // Nobody has to ask for these, so that nothing is forged by hand alone.
        let (client, host) = (
            text(hardware_address(&edge.client, "eth0")?),
            text(hardware_address(&edge.host, "eth0")?),
        );
        for (namespace, address, mac) in [
            (&edge.host, CLIENT_V4, &client),
            (&edge.host, CLIENT_V6, &client),
            (&edge.client, HOST_V4, &host),
            (&edge.client, HOST_V6, &host),
        ] {
            namespace.run(&[
                "ip",
                "neigh",
                "replace",
                address,
                "lladdr",
                mac,
                "dev",
                "eth0",
                "nud",
                "permanent",
            ])?;
        }
        Ok(Self {
            _deaf: deaf(&edge.client)?,
            outside: Sink::on_link(&edge.client, "eth0")?,
            daemon: Edgefilter::enable(&edge.host, &edge.scratch, &policy(""))?,
            edge,
            next: 0,
        })
    }

    /// Sends each kind and checks that none of it got out, or all of it without a filter.
    fn check(&mut self, from: &Namespace, kinds: &[Kind]) -> Result<usize> {
        let blaster = Blaster::open(from, "eth0")?;
        let mut sent = Vec::new();
        for kind in kinds {
            let mark = self.next;
            self.next += 2;
            self.one(&blaster, kind, mark)
                .with_context(|| format!("{}: {}", kind.name, self.daemon.log()))?;
            sent.push((kind, mark));
        }
        // What was still on its way when a kind was counted would show by now.
        self.outside.settle()?;
        for (kind, mark) in sent {
            self.counted(mark)
                .with_context(|| format!("{}, counted again", kind.name))?;
        }
        Ok(kinds.len())
    }

    fn one(&self, blaster: &Blaster, kind: &Kind, mark: u32) -> Result<()> {
        let (forged, truthful) = ((kind.forged)((mark, 0))?, (kind.truthful)((mark + 1, 0))?);
        let before = self.daemon.counters()?;
        let begin = Instant::now();
        blaster.interleave(&forged, &truthful, packets()?, || {
            self.outside.count(mark + 1)
        })?;
        eprintln!(
            "{}: {} forged: {} got out; as many true: all; {} ms",
            kind.name,
            packets()?,
            self.outside.count(mark)?,
            begin.elapsed().as_millis()
        );
        self.counted(mark)?;
        if !self.daemon.filtering() {
            return Ok(());
        }
        let after = self.daemon.counters()?;
        let more = |reason| after.packets(reason) - before.packets(reason);
        let row = after.rule(kind.row) - before.rule(kind.row);
        let counted = (more("drop_binding"), row);
        ensure!(
            counted == (packets()?, packets()?) && more("pass_egress") >= packets()?,
            "drop_binding and {} counted {counted:?}, each should have {}; in all: {:?}",
            kind.row,
            packets()?,
            after.by_reason()
        );
        Ok(())
    }

    fn counted(&self, mark: u32) -> Result<()> {
        self.outside.sound()?;
        let expected = if self.daemon.filtering() {
            0
        } else {
            packets()?
        };
        let seen = self.outside.count(mark)?;
        ensure!(
            seen == expected,
            "{seen} forged packets got out, {expected} expected"
        );
        let seen = self.outside.count(mark + 1)?;
        ensure!(seen == packets()?, "{seen} true packets of {}", packets()?);
        Ok(())
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A datagram from `source` to the client.
fn to_client(link: Link, source: &str) -> Result<Shape> {
    let source: IpAddr = source.parse()?;
    let client: IpAddr = if source.is_ipv4() {
        CLIENT_V4
    } else {
        CLIENT_V6
    }
    .parse()?;
    Ok(Box::new(
        move |mark| Ok(link.datagram(source, client, mark)),
    ))
}

/// The same, and what `change` makes of the frame.
fn changed(
    link: Link,
    source: &str,
    change: impl Fn(Vec<u8>) -> Vec<u8> + 'static,
) -> Result<Shape> {
    let plain = to_client(link, source)?;
    Ok(Box::new(move |mark| Ok(change(plain(mark)?))))
}

fn own(address: &str) -> &'static str {
    if address.contains(':') {
        HOST_V6
    } else {
        HOST_V4
    }
}

fn sources(link: Link, table: &[(&str, &str)]) -> Result<Vec<Kind>> {
    table
        .iter()
        .map(|(name, address)| {
            Ok(Kind {
                name: format!("{name} {address}"),
                row: SOURCE,
                forged: to_client(link, address)?,
                truthful: to_client(link, own(address))?,
            })
        })
        .collect()
}

/// Sources that a raw socket on the host gives itself.
fn by_source(link: Link) -> Result<Vec<Kind>> {
    sources(
        link,
        &[
            ("a neighbour", "10.77.1.99"),
            ("a neighbour", "fd77:1::99"),
            ("the receiver", CLIENT_V4),
            ("the receiver", CLIENT_V6),
            ("a container", INNER_V4),
            ("a container", INNER_V6),
            ("somebody", "8.8.8.8"),
            ("somebody", "2600::1"),
            ("loopback", "127.0.0.1"),
            ("loopback", "::1"),
            ("multicast", "224.0.0.1"),
            ("multicast", "ff02::1"),
            ("broadcast", "255.255.255.255"),
            ("subnet broadcast", "10.77.1.255"),
            ("unspecified", "0.0.0.0"),
            ("unspecified", "::"),
            ("another link-local", "fe80::dead"),
        ],
    )
}

/// MACs that are not the host's.
fn by_mac(link: Link) -> Result<Vec<Kind>> {
    [
        ("somebody", [0x02, 0, 0, 0, 0, 7]),
        ("the receiver", link.receiver),
        ("a group", [0x03, 0, 0, 0, 0, 7]),
        ("zeros", [0; 6]),
    ]
    .into_iter()
    .zip([HOST_V4, HOST_V6].into_iter().cycle())
    .map(|((name, sender), source)| {
        Ok(Kind {
            name: format!("MAC of {name}, {source}"),
            row: MAC,
            forged: to_client(Link { sender, ..link }, source)?,
            truthful: to_client(link, source)?,
        })
    })
    .collect()
}

/// ARP (RFC 826) with a mark behind it, as padding. `hardware` is 1 for Ethernet.
fn arp(link: Link, hardware: u16, operation: u16, sender: &str) -> Result<Shape> {
    let sender: std::net::Ipv4Addr = sender.parse()?;
    let target: std::net::Ipv4Addr = CLIENT_V4.parse()?;
    Ok(Box::new(move |(kind, sequence)| {
        let mut frame = [link.receiver, link.sender].concat();
        frame.extend([0x08, 0x06]);
        frame.extend(hardware.to_be_bytes());
        frame.extend([0x08, 0x00, 6, 4]);
        frame.extend(operation.to_be_bytes());
        frame.extend(link.sender);
        frame.extend(sender.octets());
        frame.extend(link.receiver);
        frame.extend(target.octets());
        frame.extend(marker::payload(kind, sequence));
        Ok(frame)
    }))
}

/// ARP that speaks for others.
fn by_arp(link: Link) -> Result<Vec<Kind>> {
    let foreign = Link {
        sender: [0x02, 0, 0, 0, 0, 7],
        ..link
    };
    let kind = |name: &str, row, forged| {
        Ok(Kind {
            name: format!("ARP, {name}"),
            row,
            forged,
            truthful: arp(link, 1, 2, HOST_V4)?,
        })
    };
    [
        kind(
            "answer for a neighbour",
            ARP,
            arp(link, 1, 2, "10.77.1.99")?,
        ),
        kind("answer for the receiver", ARP, arp(link, 1, 2, CLIENT_V4)?),
        kind(
            "question of a neighbour",
            ARP,
            arp(link, 1, 1, "10.77.1.99")?,
        ),
        kind("from a foreign MAC", MAC, arp(foreign, 1, 2, HOST_V4)?),
        // Receivers take it for Ethernet as well (arp_process in net/ipv4/arp.c).
        kind("IEEE 802 hardware", ARP, arp(link, 6, 2, "10.77.1.99")?),
    ]
    .into_iter()
    .collect()
}

/// Forged sources behind headers that are odd, but that receivers take.
fn hidden(link: Link) -> Result<Vec<Kind>> {
    let tagged = |tags: usize| {
        move |frame: Vec<u8>| {
            let tag = [&ETHERTYPE_VLAN.to_be_bytes()[..], &[0, 5]].concat();
            [&frame[..12], &tag.repeat(tags), &frame[12..]].concat()
        }
    };
    let (four, six) = ("10.77.1.99", "fd77:1::99");
    let kind = |name: &str, forged, truthful| Kind {
        name: name.to_owned(),
        row: SOURCE,
        forged,
        truthful,
    };
    Ok(vec![
        kind(
            "in a VLAN",
            changed(link, four, tagged(1))?,
            changed(link, HOST_V4, tagged(1))?,
        ),
        kind(
            "in two VLANs",
            changed(link, six, tagged(2))?,
            changed(link, HOST_V6, tagged(2))?,
        ),
        kind(
            "a later fragment",
            changed(link, four, later_fragment)?,
            changed(link, HOST_V4, later_fragment)?,
        ),
        kind(
            "IPv4 with options",
            changed(link, four, with_options)?,
            changed(link, HOST_V4, with_options)?,
        ),
        kind(
            "nine extension headers",
            changed(link, six, nine_extensions)?,
            changed(link, HOST_V6, nine_extensions)?,
        ),
    ])
}

/// Bytes of the Ethernet header.
const NETWORK: usize = 14;

/// Offset 80, no more to come.
fn later_fragment(mut frame: Vec<u8>) -> Vec<u8> {
    frame[NETWORK + 6..NETWORK + 8].copy_from_slice(&[0, 10]);
    sealed(frame)
}

/// Four no-operations between header and payload.
fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
    frame[NETWORK] = 0x46;
    let length = (frame.len() - NETWORK + 4) as u16;
    frame[NETWORK + 2..NETWORK + 4].copy_from_slice(&length.to_be_bytes());
    frame.splice(NETWORK + 20..NETWORK + 20, [1; 4]);
    sealed(frame)
}

/// Writes the checksum of the IPv4 header.
fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    debug_assert_eq!(frame[12..14], ETHERTYPE_IPV4.to_be_bytes());
    let end = NETWORK + usize::from(frame[NETWORK] & 15) * 4;
    frame[NETWORK + 10..NETWORK + 12].fill(0);
    let sum = edgefilter_tests::netns::frames::checksum(&[&frame[NETWORK..end]]);
    frame[NETWORK + 10..NETWORK + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// One more than the filter walks; destination options, which may stand anywhere and as often as one likes.
fn nine_extensions(mut frame: Vec<u8>) -> Vec<u8> {
    debug_assert_eq!(frame[12..14], ETHERTYPE_IPV6.to_be_bytes());
    let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(9);
    headers[64] = UDP;
    frame[NETWORK + 6] = 60;
    let length = (frame.len() - NETWORK - 40 + headers.len()) as u16;
    frame[NETWORK + 4..NETWORK + 6].copy_from_slice(&length.to_be_bytes());
    frame.splice(NETWORK + 40..NETWORK + 40, headers);
    frame
}

#[test]
fn nothing_leaves_under_a_source_that_is_not_the_hosts() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let begin = Instant::now();
    let kinds = std::thread::scope(|scope| {
        let threads = [scope.spawn(from_raw_sockets), scope.spawn(from_elsewhere)];
        threads.into_iter().try_fold(0, |sum, thread| {
            let kinds = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            anyhow::Ok(sum + kinds)
        })
    })?;
    eprintln!("{kinds} kinds in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Raw sockets on the host.
fn from_raw_sockets() -> Result<usize> {
    let mut arena = Arena::build()?;
    let link = Link {
        sender: hardware_address(&arena.edge.host, "eth0")?,
        receiver: hardware_address(&arena.edge.client, "eth0")?,
    };
    let host = arena.edge.host.clone();
    Ok(arena.check(&host, &by_source(link)?)? + arena.check(&host, &hidden(link)?)?)
}

/// Raw sockets again, and what the host forwards.
fn from_elsewhere() -> Result<usize> {
    let mut arena = Arena::build()?;
    let edge = &arena.edge;
    let mac = hardware_address;
    let outer = Link {
        sender: mac(&edge.host, "eth0")?,
        receiver: mac(&edge.client, "eth0")?,
    };
    let container = Link {
        sender: mac(&edge.inner, "eth0")?,
        receiver: mac(&edge.host, "ctr0")?,
    };
    let second = edge.second.as_ref().context("no second peer")?.clone();
    let network = Link {
        sender: mac(&second, "eth0")?,
        receiver: mac(&edge.host, "eth1")?,
    };
    let (host, inner) = (edge.host.clone(), edge.inner.clone());
    let mut kinds = arena.check(&host, &by_mac(outer)?)? + arena.check(&host, &by_arp(outer)?)?;

    // The true ones leave under the host's address. The others are forwarded as they are.
    host.nft(
        &arena.edge.scratch,
        &format!(
            "flush ruleset
            table inet outgoing {{
              chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {INNER_V4} oifname \"eth0\" masquerade
                ip6 saddr {INNER_V6} oifname \"eth0\" masquerade
              }}
            }}"
        ),
    )?;
    let forwarded = |link, table: [[&str; 2]; 2]| -> Result<Vec<Kind>> {
        table
            .into_iter()
            .map(|[forged, truthful]| {
                Ok(Kind {
                    name: format!("forwarded {forged}"),
                    row: SOURCE,
                    forged: to_client(link, forged)?,
                    truthful: to_client(link, truthful)?,
                })
            })
            .collect()
    };
    let table = [["10.77.2.3", INNER_V4], ["fd77:2::3", INNER_V6]];
    kinds += arena.check(&inner, &forwarded(container, table)?)?;
    // A network that the host routes for, and sources that are not even of it.
    let lines = "egress_sources = [\"10.77.3.0/24\", \"fd77:3::/64\"]";
    if arena.daemon.filtering() {
        reload(&mut arena.daemon, &policy(lines))?;
    }
    let table = [["10.77.4.2", SECOND_V4], ["fd77:4::2", SECOND_V6]];
    kinds += arena.check(&second, &forwarded(network, table)?)?;
    Ok(kinds)
}
