//! Owns the IP layer of the packet builders: headers, options, extension headers, fragments.
//! Must never change a value the test has set.

#![expect(
    missing_docs,
    reason = "fields and constants have the names of the RFCs"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header,
};

use super::Transport;

/// An address in a test.
///
/// # Panics
/// When the test's text is no IPv4 address.
#[must_use]
#[expect(clippy::panic, reason = "the text is the test's own")]
pub fn v4(text: &str) -> Ipv4Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no IPv4 address"))
}

/// An address in a test.
///
/// # Panics
/// When the test's text is no IPv6 address.
#[must_use]
#[expect(clippy::panic, reason = "the text is the test's own")]
pub fn v6(text: &str) -> Ipv6Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no IPv6 address"))
}

/// An IPv4 packet.
#[derive(Debug, Clone)]
pub struct Ipv4 {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In units of 8 bytes.
    pub offset: u16,
    /// Raw option bytes, padded to a multiple of 4 when written (40 at most).
    pub options: Vec<u8>,
    pub protocol: u8,
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// A packet without payload.
    #[must_use]
    pub fn new(source: &str, destination: &str) -> Self {
        Self::between(v4(source), v4(destination))
    }

    /// A packet without payload.
    #[must_use]
    pub fn between(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self {
            source,
            destination,
            ttl: 64,
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            offset: 0,
            options: Vec::new(),
            protocol: 253,
            payload: Vec::new(),
        }
    }

    /// Carries a transport packet.
    #[must_use]
    pub fn with(self, transport: &(impl Transport + ?Sized)) -> Self {
        let payload = transport.bytes(self.source.into(), self.destination.into());
        Self {
            protocol: transport.protocol(),
            payload,
            ..self
        }
    }

    /// Carries any bytes.
    #[must_use]
    pub fn raw(self, protocol: u8, payload: &[u8]) -> Self {
        Self {
            protocol,
            payload: payload.to_vec(),
            ..self
        }
    }

    /// Sets options: raw bytes.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        Self {
            options: options.to_vec(),
            ..self
        }
    }

    /// Sets the identification.
    #[must_use]
    pub fn id(self, identification: u16) -> Self {
        Self {
            identification,
            ..self
        }
    }

    /// Sets the fragment fields; the offset in units of 8 bytes.
    #[must_use]
    pub fn fragment(self, offset: u16, more_fragments: bool) -> Self {
        Self {
            more_fragments,
            offset,
            ..self
        }
    }

    /// Splits the packet into fragments of `size` payload bytes (a multiple of 8).
    #[must_use]
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        split(&self.payload, size)
            .map(|(offset, more, part)| Self {
                payload: part.to_vec(),
                ..self.clone().fragment(offset, more)
            })
            .collect()
    }

    /// The packet as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 0);
        let mut header = Ipv4Header {
            identification: self.identification,
            dont_fragment: self.dont_fragment,
            more_fragments: self.more_fragments,
            fragment_offset: IpFragOffset::try_new(self.offset).unwrap_or_default(),
            time_to_live: self.ttl,
            protocol: IpNumber(self.protocol),
            source: self.source.octets(),
            destination: self.destination.octets(),
            options: Ipv4Options::try_from(options.as_slice()).unwrap_or_default(),
            ..Ipv4Header::default()
        };
        header.total_len = length(header.header_len() + self.payload.len());
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&self.payload);
        bytes
    }
}

/// An IPv6 packet with any chain of extension headers.
#[derive(Debug, Clone)]
pub struct Ipv6 {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub hop_limit: u8,
    /// In the order they stand in the packet.
    pub extensions: Vec<Extension>,
    /// Protocol after the last extension header.
    pub protocol: u8,
    pub payload: Vec<u8>,
}

/// An IPv6 extension header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// Header 0 with this many bytes (a multiple of 8), filled with padding options.
    HopByHop(usize),
    /// Header 60, likewise.
    DestinationOptions(usize),
    /// Header 43: routing type and number of bytes.
    Routing(u8, usize),
    /// Header 44: offset in units of 8 bytes, more fragments, identification.
    Fragment(u16, bool, u32),
    /// Header 51 with this many bytes (a multiple of 4).
    Authentication(usize),
    /// Any other header (135, 139, 140, ...) of this many bytes (a multiple of 8).
    Other(u8, usize),
}

impl Extension {
    /// The header's number.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::DestinationOptions(_) => 60,
            Self::Routing(..) => 43,
            Self::Fragment(..) => 44,
            Self::Authentication(_) => 51,
            Self::Other(number, _) => *number,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        let units = |size: usize, unit: usize, less: usize| -> u8 {
            u8::try_from((size / unit).saturating_sub(less)).unwrap_or(u8::MAX)
        };
        match *self {
            Self::HopByHop(size) | Self::DestinationOptions(size) => {
                let size = size.clamp(8, 2048);
                let mut bytes = vec![next, units(size, 8, 1)];
                let mut left = size - 2;
                while left > 0 {
                    // PadN holds 257 bytes at most; a single byte left over is Pad1.
                    let option = left.min(257);
                    if option == 1 {
                        bytes.push(0);
                    } else {
                        bytes.extend([1, u8::try_from(option - 2).unwrap_or(0)]);
                        bytes.resize(bytes.len() + option - 2, 0);
                    }
                    left -= option;
                }
                bytes
            }
            Self::Routing(kind, size) => {
                let size = size.clamp(8, 2048);
                let mut bytes = vec![next, units(size, 8, 1), kind, 0];
                bytes.resize(size, 0);
                bytes
            }
            Self::Fragment(offset, more, identification) => {
                let offset = IpFragOffset::try_new(offset).unwrap_or_default();
                Ipv6FragmentHeader::new(IpNumber(next), offset, more, identification)
                    .to_bytes()
                    .to_vec()
            }
            Self::Authentication(size) => {
                let size = size.clamp(8, 1024);
                let mut bytes = vec![next, units(size, 4, 2)];
                bytes.resize(size, 0);
                bytes
            }
            Self::Other(_, size) => {
                let size = size.clamp(8, 2048);
                let mut bytes = vec![next, units(size, 8, 1)];
                bytes.resize(size, 0);
                bytes
            }
        }
    }
}

impl Ipv6 {
    /// A packet without payload.
    #[must_use]
    pub fn new(source: &str, destination: &str) -> Self {
        Self::between(v6(source), v6(destination))
    }

    /// A packet without payload (next header 59).
    #[must_use]
    pub fn between(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let (extensions, payload) = (Vec::new(), Vec::new());
        Self {
            source,
            destination,
            hop_limit: 64,
            extensions,
            protocol: 59,
            payload,
        }
    }

    /// Carries a transport packet.
    #[must_use]
    pub fn with(self, transport: &(impl Transport + ?Sized)) -> Self {
        let payload = transport.bytes(self.source.into(), self.destination.into());
        Self {
            protocol: transport.protocol(),
            payload,
            ..self
        }
    }

    /// Carries any bytes.
    #[must_use]
    pub fn raw(self, protocol: u8, payload: &[u8]) -> Self {
        Self {
            protocol,
            payload: payload.to_vec(),
            ..self
        }
    }

    /// Adds an extension header after those already there.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Sets the hop limit.
    #[must_use]
    pub fn hops(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    /// Splits what the packet carries into fragments of `size` bytes (a multiple of 8);
    /// extension headers stay in front of each fragment header.
    #[must_use]
    pub fn fragments(&self, size: usize, identification: u32) -> Vec<Self> {
        split(&self.payload, size)
            .map(|(offset, more, part)| {
                let extension = Extension::Fragment(offset, more, identification);
                Self {
                    payload: part.to_vec(),
                    ..self.clone().extension(extension)
                }
            })
            .collect()
    }

    /// The packet as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut chain = Vec::new();
        for (i, extension) in self.extensions.iter().enumerate() {
            let next = self
                .extensions
                .get(i + 1)
                .map_or(self.protocol, Extension::number);
            chain.extend(extension.bytes(next));
        }
        let header = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: length(chain.len() + self.payload.len()),
            next_header: IpNumber(
                self.extensions
                    .first()
                    .map_or(self.protocol, Extension::number),
            ),
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(chain);
        bytes.extend(&self.payload);
        bytes
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Offset in units of 8 bytes, whether more follow, and the bytes of each part.
fn split(payload: &[u8], size: usize) -> impl Iterator<Item = (u16, bool, &[u8])> {
    let size = (size / 8).max(1) * 8;
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(move |(i, part)| (length(i * size / 8), i + 1 < count, part))
}

/// The family's own way to carry a transport packet, for code that handles both.
#[must_use]
pub fn packet(
    source: IpAddr,
    destination: IpAddr,
    transport: &(impl Transport + ?Sized),
) -> (u16, Vec<u8>) {
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            (super::IPV4, Ipv4::between(s, d).with(transport).bytes())
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            (super::IPV6, Ipv6::between(s, d).with(transport).bytes())
        }
        _ => (super::IPV4, Vec::new()),
    }
}
