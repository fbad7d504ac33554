//! What to send, as people write it: flags of a command line, or tables of a TOML file, with the same names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer};

use super::link;
use super::stream::{self, Layout, Ports, Stream, TransportKind};
use crate::packets::{self, Icmp, Icmpv6, Ipv4, Ipv6, Tcp, Transport, Udp};

/// The longest frame: Ethernet with two VLAN tags and 1500 bytes.
pub const LONGEST: u16 = 1522;
/// The shortest frame on a wire, without its checksum.
const SHORTEST: u16 = 60;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// One kind of packet.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Description {
    /// What the packets are
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,

    /// TCP flags: syn, ack, fin, rst, psh, urg, joined by commas, or none
    #[arg(long, default_value = "syn", value_name = "FLAGS")]
    pub flags: TcpFlags,

    /// Where they go to
    #[arg(long, value_name = "ADDRESS")]
    pub destination: Option<IpAddr>,

    /// Where they seem to come from: an address, a prefix (each address of it at random), or `random` (any that a registry gives out)
    #[arg(long, default_value = "random", value_name = "PREFIX")]
    pub source: Source,

    /// Destination ports: one, a range (1-1024; each at random), or `random`
    #[arg(long, default_value = "7", value_name = "PORTS")]
    pub ports: PortRange,

    /// Source ports, likewise
    #[arg(long, default_value = "1024-65535", value_name = "PORTS")]
    pub source_ports: PortRange,

    /// So many different packets, over and over; without it each one is new
    #[arg(long, value_name = "NUMBER")]
    pub flows: Option<u32>,

    /// Bytes of a frame, without its checksum; several sizes take turns
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "60",
        value_name = "BYTES"
    )]
    pub sizes: Vec<u16>,

    /// VLAN tags, outer first: an id (802.1Q), or s and an id (802.1ad)
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub vlan: Vec<Vlan>,

    /// Later fragments instead of whole IPv4 packets, at this offset in units of 8 bytes
    #[arg(long, value_name = "OFFSET")]
    pub fragment: Option<u16>,

    /// MAC address that the frames carry [default: the link's]
    #[arg(long, value_name = "MAC")]
    pub source_mac: Option<Mac>,

    /// MAC address that the frames go to [default: that of the destination, if the kernel knows it]
    #[arg(long, value_name = "MAC")]
    pub destination_mac: Option<Mac>,

    /// Packets of this kind for each one of a kind of weight 1 (in files only)
    #[arg(skip = 1_u32)]
    pub weight: u32,

    /// Another number makes other packets of what varies
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
}

impl Default for Description {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            flags: TcpFlags(packets::transport::SYN),
            destination: None,
            source: Source::Random,
            ports: PortRange(Ports { first: 7, last: 7 }),
            source_ports: PortRange(Ports {
                first: 1024,
                last: u16::MAX,
            }),
            flows: None,
            sizes: vec![SHORTEST],
            vlan: Vec::new(),
            fragment: None,
            source_mac: None,
            destination_mac: None,
            weight: 1,
            seed: 1,
        }
    }
}

/// A file of descriptions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stream: Vec<Description>,
}

/// Reads descriptions from TOML: a table `[[stream]]` for each, with the names of the flags.
pub fn from_toml(text: &str) -> Result<Vec<Description>> {
    let file: File = toml::from_str(text)?;
    ensure!(!file.stream.is_empty(), "no [[stream]] is described");
    Ok(file.stream)
}

/// What the packets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// Echo requests, ICMP or ICMPv6
    Icmp,
}

/// Where packets seem to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Any address of a range that is given out whole.
    Random,
    /// An address or a prefix.
    Prefix(IpNet),
}

/// Without anything special in it: 16.0.0.0 to 31.255.255.255.
const RANDOM_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(16, 0, 0, 0), 4);
/// What RIPE gives out.
const RANDOM_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 0), 12);

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "random" {
            return Ok(Self::Random);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Prefix(address.into()));
        }
        let prefix: IpNet = text
            .parse()
            .with_context(|| format!("{text:?} is no address, no prefix and not `random`"))?;
        Ok(Self::Prefix(prefix.trunc()))
    }
}

/// A range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange(pub Ports);

impl FromStr for PortRange {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "random" {
            return Ok(Self(Ports {
                first: 0,
                last: u16::MAX,
            }));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = first.parse().ok().zip(last.parse().ok());
        match ports {
            Some((first, last)) if first <= last => Ok(Self(Ports { first, last })),
            _ => bail!("{text:?} is no port (80), no range of them (1-1024) and not `random`"),
        }
    }
}

/// The flags byte of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl FromStr for TcpFlags {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const NAMES: [&str; 6] = ["fin", "syn", "rst", "psh", "ack", "urg"];
        if text == "none" {
            return Ok(Self(0));
        }
        let mut flags = 0;
        for word in text.split(',') {
            let Some(bit) = NAMES.iter().position(|name| *name == word) else {
                bail!("{word:?} is no TCP flag: {}, or none", NAMES.join(", "));
            };
            flags |= 1 << bit;
        }
        Ok(Self(flags))
    }
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// 1 to 4094.
    pub id: u16,
    /// 802.1ad instead of 802.1Q.
    pub service: bool,
}

impl FromStr for Vlan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (service, number) = match text.strip_prefix('s') {
            Some(number) => (true, number),
            None => (false, text),
        };
        match number.parse() {
            Ok(id @ 1..=4094) => Ok(Self { id, service }),
            _ => bail!("{text:?} is no VLAN id (1 to 4094, with an s in front for 802.1ad)"),
        }
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        link::mac(text)
            .map(Self)
            .with_context(|| format!("{text:?} is no MAC address (02:00:00:00:00:01)"))
    }
}

/// Text, or a number where people would write one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(u32),
}

/// Reads from TOML what is read from a command line.
fn parse_word<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = anyhow::Error>,
    D: Deserializer<'de>,
{
    let text = match Word::deserialize(deserializer)? {
        Word::Text(text) => text,
        Word::Number(number) => number.to_string(),
    };
    text.parse()
        .map_err(|error| serde::de::Error::custom(format!("{error:#}")))
}

macro_rules! words {
    ($($kind:ty),*) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parse_word(deserializer)
            }
        }
    )*};
}
words!(Source, PortRange, TcpFlags, Vlan, Mac);

impl Description {
    /// The streams that this describes, one for each size. `source_mac` and `destination_mac` are for frames whose own are not given.
    pub fn streams(&self, source_mac: [u8; 6], destination_mac: [u8; 6]) -> Result<Vec<Stream>> {
        let destination = self
            .destination
            .context("where are the packets to go? Name a destination address")?;
        let macs = [
            self.source_mac.map_or(source_mac, |mac| mac.0),
            self.destination_mac.map_or(destination_mac, |mac| mac.0),
        ];
        ensure!(!self.sizes.is_empty(), "at least one size is needed");
        ensure!(self.vlan.len() <= 2, "a frame has two VLAN tags at most");
        ensure!(self.flows != Some(0), "0 flows: nothing would be sent");
        self.sizes
            .iter()
            .map(|size| {
                let mut stream = self.stream(destination, macs, *size)?;
                stream.weight = self.weight;
                Ok(stream)
            })
            .collect()
    }

    fn source(&self, destination: IpAddr) -> Result<IpNet> {
        Ok(match (self.source, destination) {
            (Source::Random, IpAddr::V4(_)) => RANDOM_V4.into(),
            (Source::Random, IpAddr::V6(_)) => RANDOM_V6.into(),
            (Source::Prefix(net), to) if net.addr().is_ipv4() == to.is_ipv4() => net,
            (Source::Prefix(net), to) => {
                bail!("{net} and {to} are not of the same family")
            }
        })
    }

    fn stream(&self, destination: IpAddr, macs: [[u8; 6]; 2], size: u16) -> Result<Stream> {
        ensure!(
            (SHORTEST..=LONGEST).contains(&size),
            "a frame of {size} bytes: {SHORTEST} to {LONGEST} can be sent"
        );
        let source = self.source(destination)?;
        let network = ETHERNET + 4 * self.vlan.len();
        let header = if destination.is_ipv4() { 20 } else { 40 };
        let offset = network + header;
        let (kind, transport) = self.transport(destination, (size as usize).saturating_sub(offset));
        let mut link = packets::link().macs(macs[0], macs[1]);
        for tag in &self.vlan {
            link = if tag.service {
                link.service_vlan(tag.id)
            } else {
                link.vlan(tag.id)
            };
        }
        let mut frame = match (source, destination) {
            (IpNet::V4(source), IpAddr::V4(destination)) => {
                let packet = Ipv4::between(source.network(), destination).with(&*transport);
                link.ipv4(&packet.fragment(self.fragment.unwrap_or(0), false))
            }
            (IpNet::V6(source), IpAddr::V6(destination)) => {
                ensure!(self.fragment.is_none(), "only IPv4 fragments can be sent");
                link.ipv6(&Ipv6::between(source.network(), destination).with(&*transport))
            }
            _ => bail!("{source} and {destination} are not of the same family"),
        };
        ensure!(
            frame.len() <= size.max(SHORTEST) as usize || size == SHORTEST,
            "{size} bytes are too few for these headers: {} are needed",
            frame.len()
        );
        frame.resize(frame.len().max(SHORTEST as usize), 0);
        let layout = Layout {
            network,
            transport: self
                .fragment
                .is_none()
                .then_some(stream::Transport { offset, kind }),
            source,
            ports: [self.source_ports.0, self.ports.0],
        };
        Ok(Stream::new(frame, &layout, self.flows, self.seed))
    }

    /// A transport packet of `length` bytes, or just its header if that is longer.
    fn transport(&self, destination: IpAddr, length: usize) -> (TransportKind, Box<dyn Transport>) {
        let [source, port] = [self.source_ports.0.first, self.ports.0.first];
        // A segment that fills up a short frame would carry data for no reason.
        let payload = |header: usize| {
            let short = length + ETHERNET + 20 <= SHORTEST as usize;
            vec![
                0;
                if short {
                    0
                } else {
                    length.saturating_sub(header)
                }
            ]
        };
        match self.protocol {
            Protocol::Tcp => {
                let mut tcp = Tcp::new(source, port, self.flags.0).payload(&payload(20));
                tcp.sequence = 0;
                (TransportKind::Tcp, Box::new(tcp))
            }
            Protocol::Udp => {
                let udp = Udp::new(source, port).payload(&payload(8));
                (TransportKind::Udp, Box::new(udp))
            }
            Protocol::Icmp if destination.is_ipv4() => {
                let mut echo = Icmp::echo_request(0);
                echo.payload = payload(8);
                (TransportKind::Echo, Box::new(echo))
            }
            Protocol::Icmp => {
                let mut echo = Icmpv6::echo_request(0);
                echo.payload = payload(8);
                (TransportKind::Echo, Box::new(echo))
            }
        }
    }
}
