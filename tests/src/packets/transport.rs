//! Owns the transport layer of the packet builders: TCP, UDP, SCTP, DHCP answers, raw protocols.
//! Must never know what carries it, save for the addresses of the pseudo header.

#![expect(
    missing_docs,
    reason = "fields and constants have the names of the RFCs"
)]

use std::net::IpAddr;

use etherparse::{TcpHeader, UdpHeader};

use super::checksum::{crc32c, with_pseudo_header};

/// What an IP packet carries.
pub trait Transport {
    /// The protocol number.
    fn protocol(&self) -> u8;
    /// Header and payload with the checksum for these addresses.
    fn bytes(&self, source: IpAddr, destination: IpAddr) -> Vec<u8>;
}

/// A TCP segment.
#[derive(Debug, Clone)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    /// The flags byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgment: u32,
    /// Raw option bytes, padded to a multiple of 4 (40 at most).
    pub options: Vec<u8>,
    /// Data offset to write instead of the right one.
    pub doff: Option<u8>,
    pub payload: Vec<u8>,
}

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

impl Tcp {
    /// A segment with these flags and nothing else.
    #[must_use]
    pub fn new(source: u16, destination: u16, flags: u8) -> Self {
        let (options, payload) = (Vec::new(), Vec::new());
        Self {
            source,
            destination,
            flags,
            sequence: 1000,
            acknowledgment: 0,
            options,
            doff: None,
            payload,
        }
    }

    /// A connection request.
    #[must_use]
    pub fn syn(source: u16, destination: u16) -> Self {
        Self::new(source, destination, SYN)
    }

    /// A segment of an open connection.
    #[must_use]
    pub fn ack(source: u16, destination: u16) -> Self {
        Self::new(source, destination, ACK)
    }

    /// The answer to a connection request.
    #[must_use]
    pub fn syn_ack(source: u16, destination: u16) -> Self {
        Self::new(source, destination, SYN | ACK)
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        Self {
            payload: payload.to_vec(),
            ..self
        }
    }

    /// Sets raw options.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        Self {
            options: options.to_vec(),
            ..self
        }
    }

    /// Writes a wrong data offset.
    #[must_use]
    pub fn doff(self, words: u8) -> Self {
        Self {
            doff: Some(words),
            ..self
        }
    }
}

impl Transport for Tcp {
    fn protocol(&self) -> u8 {
        6
    }

    fn bytes(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let mut header = TcpHeader::new(self.source, self.destination, self.sequence, 64_240);
        header.acknowledgment_number = self.acknowledgment;
        let mut options = self.options.clone();
        options.truncate(40);
        // At most 40 bytes, so they fit.
        let _ = header.set_options_raw(&options);
        let mut bytes = header.to_bytes().to_vec();
        bytes[13] = self.flags;
        if let Some(doff) = self.doff {
            bytes[12] = (doff << 4) | (bytes[12] & 0x0f);
        }
        bytes.extend(&self.payload);
        let sum = with_pseudo_header(source, destination, 6, &bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// A UDP datagram.
#[derive(Debug, Clone)]
pub struct Udp {
    pub source: u16,
    pub destination: u16,
    pub payload: Vec<u8>,
    /// Length to write instead of the right one.
    pub length: Option<u16>,
}

impl Udp {
    /// A datagram with a short payload.
    #[must_use]
    pub fn new(source: u16, destination: u16) -> Self {
        Self {
            source,
            destination,
            payload: b"edge".to_vec(),
            length: None,
        }
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        Self {
            payload: payload.to_vec(),
            ..self
        }
    }

    /// Writes a wrong length.
    #[must_use]
    pub fn length(self, length: u16) -> Self {
        Self {
            length: Some(length),
            ..self
        }
    }
}

impl Transport for Udp {
    fn protocol(&self) -> u8 {
        17
    }

    fn bytes(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).unwrap_or(u16::MAX);
        let header = UdpHeader {
            source_port: self.source,
            destination_port: self.destination,
            length: self.length.unwrap_or(length),
            checksum: 0,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&self.payload);
        // A sum of 0 means "none": RFC 768 has it sent as all ones.
        let sum = match with_pseudo_header(source, destination, 17, &bytes) {
            0 => u16::MAX,
            sum => sum,
        };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// An SCTP packet (RFC 9260).
#[derive(Debug, Clone)]
pub struct Sctp {
    pub source: u16,
    pub destination: u16,
    pub tag: u32,
    /// Raw chunks.
    pub chunks: Vec<u8>,
}

impl Sctp {
    /// A packet with an INIT chunk.
    #[must_use]
    pub fn init(source: u16, destination: u16) -> Self {
        // INIT, length 20: initiate tag 1, window 65535, 1 stream each way, first TSN 1.
        let chunks = vec![
            1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 255, 255, 0, 1, 0, 1, 0, 0, 0, 1,
        ];
        Self {
            source,
            destination,
            tag: 0,
            chunks,
        }
    }
}

impl Transport for Sctp {
    fn protocol(&self) -> u8 {
        132
    }

    fn bytes(&self, _: IpAddr, _: IpAddr) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.chunks);
        let sum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Any protocol by number.
#[derive(Debug, Clone)]
pub struct Raw(pub u8, pub Vec<u8>);

impl Raw {
    /// GRE around an IPv4 packet (RFC 2784), the inner packet given as bytes.
    #[must_use]
    pub fn gre(inner: &[u8]) -> Self {
        Self(47, [&[0, 0, 8, 0], inner].concat())
    }

    /// ESP with an SPI, sequence number 1 and opaque bytes (RFC 4303).
    #[must_use]
    pub fn esp(spi: u32) -> Self {
        Self(
            50,
            [&spi.to_be_bytes()[..], &[0, 0, 0, 1], &[0xa5; 24]].concat(),
        )
    }
}

impl Transport for Raw {
    fn protocol(&self) -> u8 {
        self.0
    }

    fn bytes(&self, _: IpAddr, _: IpAddr) -> Vec<u8> {
        self.1.clone()
    }
}

/// A DHCP offer: UDP 67 to 68 (RFC 2131).
#[must_use]
pub fn dhcpv4_reply() -> Udp {
    let mut message = vec![2, 1, 6, 0, 0x39, 0x03, 0xf3, 0x26];
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 2, 255]);
    Udp::new(67, 68).payload(&message)
}

/// A `DHCPv6` reply: UDP 547 to 546 (RFC 8415).
#[must_use]
pub fn dhcpv6_reply() -> Udp {
    Udp::new(547, 546).payload(&[7, 0x12, 0x34, 0x56])
}
