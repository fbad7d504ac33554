//! The kinds of forged packets that may arrive from outside, as a table: what each looks like, and what the filter calls it.

use std::net::IpAddr;

use anyhow::Result;
use edgefilter_tests::netns::topology::{
    CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, INNER_V4, INNER_V6,
};
use edgefilter_tests::netns::{Edge, Ends, Family, frames, hardware_address};
use edgefilter_tests::programs::marker;

/// Where all of them go to; a rule allows it, so nothing but the source is wrong with them.
pub const PORT: u16 = 7002;

/// One kind.
#[derive(Clone, Debug)]
pub struct Kind {
    /// For people.
    pub name: String,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Reason and row under which the filter counts it; `None` for what it has to let in after all.
    pub counted: Option<(&'static str, &'static str)>,
}

/// What is wrong with a packet, compared with a true one.
#[derive(Clone, Debug)]
pub enum Wrong {
    /// Its source address.
    Source(IpAddr),
    /// Its source MAC address.
    Mac([u8; 6]),
}

/// The MAC addresses of a link whose one end sends to the other.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub sender: [u8; 6],
    pub receiver: [u8; 6],
}

impl Link {
    /// From the client to the host.
    pub fn outside(edge: &Edge) -> Result<Self> {
        Ok(Self {
            sender: hardware_address(&edge.client, "eth0")?,
            receiver: hardware_address(&edge.host, "eth0")?,
        })
    }

    /// A marked datagram.
    pub fn datagram(&self, source: IpAddr, destination: IpAddr, mark: (u32, u32)) -> Vec<u8> {
        datagram(self, source, destination, PORT, mark)
    }
}

/// A marked datagram to any port.
pub fn datagram(
    link: &Link,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    (kind, sequence): (u32, u32),
) -> Vec<u8> {
    let mut ends = Ends {
        destination_mac: link.receiver,
        source_v4: std::net::Ipv4Addr::UNSPECIFIED,
        destination_v4: std::net::Ipv4Addr::UNSPECIFIED,
        source_v6: std::net::Ipv6Addr::UNSPECIFIED,
        destination_v6: std::net::Ipv6Addr::UNSPECIFIED,
    };
    let family = match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (ends.source_v4, ends.destination_v4) = (from, to);
            Family::V4
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (ends.source_v6, ends.destination_v6) = (from, to);
            Family::V6
        }
        mixed => unreachable!("a datagram between {mixed:?}"),
    };
    let transport = ends.udp(family, (40_000, port), &marker::payload(kind, sequence));
    let mut frame = ends.frame(0, family, frames::UDP, &transport);
    frame[6..12].copy_from_slice(&link.sender);
    frame
}

impl Kind {
    /// The forged frame.
    pub fn forged(&self, link: &Link, mark: (u32, u32)) -> Result<Vec<u8>> {
        let (client, host) = self.ends()?;
        let mut frame = match self.wrong {
            Wrong::Source(source) => link.datagram(source, host, mark),
            Wrong::Mac(_) => link.datagram(client, host, mark),
        };
        if let Wrong::Mac(mac) = self.wrong {
            frame[6..12].copy_from_slice(&mac);
        }
        Ok(frame)
    }

    /// The true one.
    pub fn truthful(&self, link: &Link, mark: (u32, u32)) -> Result<Vec<u8>> {
        let (client, host) = self.ends()?;
        Ok(link.datagram(client, host, mark))
    }

    fn ends(&self) -> Result<(IpAddr, IpAddr)> {
        Ok(match self.family {
            Family::V4 => (CLIENT_V4.parse()?, HOST_V4.parse()?),
            Family::V6 => (CLIENT_V6.parse()?, HOST_V6.parse()?),
        })
    }
}

fn source(
    name: &str,
    address: &str,
    counted: Option<(&'static str, &'static str)>,
) -> Result<Kind> {
    let address: IpAddr = address.parse()?;
    Ok(Kind {
        name: format!("{name} {address}"),
        wrong: Wrong::Source(address),
        family: if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        },
        counted,
    })
}

fn martian(name: &str, address: &str, row: &'static str) -> Result<Kind> {
    source(name, address, Some(("drop_martian", row)))
}

/// Sources that cannot be, on any interface.
#[rustfmt::skip]
pub fn martians() -> Result<Vec<Kind>> {
    [
        ("loopback", "127.0.0.2", "martian:127.0.0.0/8"),
        ("loopback", "127.255.255.254", "martian:127.0.0.0/8"),
        ("unspecified", "0.0.0.0", "martian:0.0.0.0/32"),
        ("this network", "0.1.2.3", "martian:0.0.0.0/8"),
        ("multicast", "224.0.0.251", "martian:224.0.0.0/4"),
        ("multicast", "239.255.255.255", "martian:224.0.0.0/4"),
        ("class E", "240.0.0.1", "martian:240.0.0.0/4"),
        ("limited broadcast", "255.255.255.255", "martian:255.255.255.255/32"),
        ("subnet broadcast", "10.77.1.255", "martian:broadcast"),
        ("subnet broadcast of another link", "10.77.3.255", "martian:broadcast"),
        ("TEST-NET-1", "192.0.2.1", "martian:192.0.2.0/24"),
        ("TEST-NET-2", "198.51.100.1", "martian:198.51.100.0/24"),
        ("TEST-NET-3", "203.0.113.255", "martian:203.0.113.0/24"),
        ("6to4 relay", "192.88.99.1", "martian:192.88.99.0/24"),
        ("IETF assignments", "192.0.0.170", "martian:192.0.0.170/32"),
        ("unspecified", "::", "martian:::/128"),
        ("v4-mapped", "::ffff:10.77.1.2", "martian:::ffff:0:0/96"),
        ("v4-compatible", "::10.77.1.2", "martian:::/96"),
        ("site-local", "fec0::1", "martian:fec0::/10"),
        ("documentation", "2001:db8::1", "martian:2001:db8::/32"),
        ("documentation", "3fff::1", "martian:3fff::/20"),
        ("6to4", "2002:a4d:102::1", "martian:2002::/16"),
        ("discard-only", "100::1", "martian:100::/64"),
        ("multicast", "ff02::1", "martian:ff00::/8"),
        ("multicast", "ff0e::1", "martian:ff00::/8"),
        ("unassigned", "4000::1", "martian:::/0"),
        ("unassigned", "1::1", "martian:::/0"),
    ]
    .into_iter()
    .map(|(name, address, row)| martian(name, address, row))
    .collect()
}

/// Wrong in themselves, or as if from the host or its containers.
pub fn own() -> Result<Vec<Kind>> {
    let own = Some(("drop_own_address", "own-address"));
    let container = Some(("drop_own_address", "own-container"));
    let mut kinds = vec![
        martian("land", HOST_V4, "martian:land")?,
        martian("land", HOST_V6, "martian:land")?,
        // An own address, since it is on `lo`: that comes before the registry.
        source("loopback", "127.0.0.1", own)?,
        source("loopback", "::1", own)?,
        source("own address of another link", "10.77.3.1", own)?,
        source("own address of another link", "fd77:3::1", own)?,
        source("container", INNER_V4, container)?,
        source("broadcast of a container network", "10.77.2.255", container)?,
        source("container", INNER_V6, container)?,
    ];
    for family in [Family::V4, Family::V6] {
        kinds.push(Kind {
            name: format!("group bit in the MAC, {family:?}"),
            wrong: Wrong::Mac([0x03, 0, 0, 0, 0, 7]),
            family,
            counted: Some(("drop_martian", "martian:group-mac")),
        });
    }
    Ok(kinds)
}

/// Ranges that nobody on the internet can have.
#[rustfmt::skip]
pub fn private() -> Result<Vec<Kind>> {
    [
        ("private", "10.0.0.1", "martian:10.0.0.0/8"),
        ("private", "172.31.255.254", "martian:172.16.0.0/12"),
        ("private", "192.168.0.1", "martian:192.168.0.0/16"),
        ("shared", "100.64.0.1", "martian:100.64.0.0/10"),
        ("link-local", "169.254.0.1", "martian:169.254.0.0/16"),
        ("benchmarking", "198.18.0.1", "martian:198.18.0.0/15"),
        ("unique-local", "fd00::1", "martian:fc00::/7"),
        ("benchmarking", "2001:2::1", "martian:2001:2::/48"),
        ("local translation", "64:ff9b:1::1", "martian:64:ff9b:1::/48"),
    ]
    .into_iter()
    .map(|(name, address, row)| martian(name, address, row))
    .collect()
}

/// Sources that the host would answer by another link (`asymmetric`) or not at all. The latter lie in `UNROUTED`.
pub fn unroutable(strict: bool) -> Result<Vec<Kind>> {
    let dropped = Some(("drop_reverse_path", "reverse-path"));
    let asymmetric = if strict { dropped } else { None };
    [
        ("by another link", "10.77.3.2", asymmetric),
        ("by another link", "fd77:3::2", asymmetric),
        ("unreachable", "172.31.0.1", dropped),
        ("unreachable", "fd99::1", dropped),
    ]
    .into_iter()
    .map(|(name, address, counted)| source(name, address, counted))
    .collect()
}

/// Prefixes to which the host is given unreachable routes.
pub const UNROUTED: [&str; 2] = ["172.31.0.0/16", "fd99::/64"];
