//! The headers of a sampled frame, as far as they can be read. Takes any bytes: what is cut off or malformed is named,
//! never guessed.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{
    IpNumber, Ipv6ExtensionSlice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice,
    TransportSlice, ip_number,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the headers say; absent is what they do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Headers {
    /// Ethernet source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mac: Option<String>,
    /// Ethernet destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_mac: Option<String>,
    /// VLAN ids, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Ethertype behind the VLAN tags; below 0x600 it is a length (IEEE 802.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<u16>,
    /// IP source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// IP destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// IP protocol number, behind IPv6 extension headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_name: Option<String>,
    /// TTL or hop limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop_limit: Option<u8>,
    /// Of a fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment: Option<Fragment>,
    /// TCP, UDP, SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// TCP, UDP, SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Letters of the flags that are set: F S R P A U E C (FIN to CWR); empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    /// ICMP, ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP, ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// ARP for IPv4 over Ethernet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arp: Option<Arp>,
}

/// A fragment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset in bytes.
    pub offset: u32,
    /// Whether more follow.
    pub more: bool,
}

/// ARP (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Arp {
    /// 1: request, 2: reply.
    pub operation: u16,
    /// Protocol address of the sender.
    pub sender: Ipv4Addr,
    /// Protocol address of the target.
    pub target: Ipv4Addr,
}

impl Headers {
    /// Reads what can be read, and says what could not.
    pub(super) fn decode(frame: &[u8]) -> (Self, Option<String>) {
        let mut headers = Self::default();
        let packet = match LaxSlicedPacket::from_ethernet(frame) {
            Ok(packet) => packet,
            Err(error) => {
                headers.macs(frame);
                return (headers, Some(error.to_string()));
            }
        };
        headers.link(&packet);
        match &packet.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                headers.source = Some(header.source_addr().into());
                headers.destination = Some(header.destination_addr().into());
                headers.hop_limit = Some(header.ttl());
                headers.protocol(ip.payload().ip_number);
                if header.is_fragmenting_payload() {
                    headers.fragment = Some(Fragment {
                        id: header.identification().into(),
                        offset: u32::from(header.fragments_offset().value()) * 8,
                        more: header.more_fragments(),
                    });
                }
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                headers.source = Some(header.source_addr().into());
                headers.destination = Some(header.destination_addr().into());
                headers.hop_limit = Some(header.hop_limit());
                headers.protocol(ip.payload().ip_number);
                for extension in ip.extensions().clone() {
                    if let Ipv6ExtensionSlice::Fragment(fragment) = extension {
                        headers.fragment = Some(Fragment {
                            id: fragment.identification(),
                            offset: u32::from(fragment.fragment_offset().value()) * 8,
                            more: fragment.more_fragments(),
                        });
                    }
                }
            }
            Some(LaxNetSlice::Arp(arp)) => {
                let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
                if let (Some(sender), Some(target)) = (
                    address(arp.sender_protocol_addr()),
                    address(arp.target_protocol_addr()),
                ) {
                    headers.arp = Some(Arp {
                        operation: arp.operation().0,
                        sender,
                        target,
                    });
                }
            }
            None => {}
        }
        headers.transport(&packet);
        let problem = packet.stop_err.as_ref().map(|(error, _)| error.to_string());
        (headers, problem)
    }

    fn macs(&mut self, frame: &[u8]) {
        self.destination_mac = frame.get(..6).map(mac);
        self.source_mac = frame.get(6..12).map(mac);
    }

    fn link(&mut self, packet: &LaxSlicedPacket<'_>) {
        if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
            self.macs(ethernet.slice());
            self.ethertype = Some(ethernet.ether_type().0);
        }
        for extension in &packet.link_exts {
            if let LaxLinkExtSlice::Vlan(tag) = extension {
                self.vlans.push(tag.vlan_identifier().value());
                self.ethertype = Some(tag.ether_type().0);
            }
        }
    }

    fn protocol(&mut self, number: IpNumber) {
        self.protocol = Some(number.0);
        self.protocol_name = match number {
            ip_number::IPV6_ICMP => Some("icmpv6".to_owned()),
            number => number.keyword_str().map(str::to_ascii_lowercase),
        };
    }

    fn transport(&mut self, packet: &LaxSlicedPacket<'_>) {
        match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                self.ports(tcp.slice());
                let flags = [
                    (tcp.fin(), 'F'),
                    (tcp.syn(), 'S'),
                    (tcp.rst(), 'R'),
                    (tcp.psh(), 'P'),
                    (tcp.ack(), 'A'),
                    (tcp.urg(), 'U'),
                    (tcp.ece(), 'E'),
                    (tcp.cwr(), 'C'),
                ];
                self.tcp_flags = Some(
                    flags
                        .iter()
                        .filter(|(set, _)| *set)
                        .map(|(_, letter)| *letter)
                        .collect(),
                );
            }
            Some(TransportSlice::Udp(udp)) => self.ports(udp.slice()),
            Some(TransportSlice::Icmpv4(icmp)) => {
                (self.icmp_type, self.icmp_code) = (Some(icmp.type_u8()), Some(icmp.code_u8()));
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                (self.icmp_type, self.icmp_code) = (Some(icmp.type_u8()), Some(icmp.code_u8()));
            }
            _ => {
                // Not parsed: SCTP, first fragments, headers that are cut off. Ports come first in all of them.
                let ported = matches!(
                    self.protocol.map(IpNumber),
                    Some(ip_number::TCP | ip_number::UDP | ip_number::SCTP)
                );
                let first = self.fragment.is_none_or(|fragment| fragment.offset == 0);
                if let Some(payload) = packet.ip_payload()
                    && ported
                    && first
                {
                    self.ports(payload.payload);
                }
            }
        }
    }

    fn ports(&mut self, transport: &[u8]) {
        if let Some([a, b, c, d]) = transport.first_chunk() {
            self.source_port = Some(u16::from_be_bytes([*a, *b]));
            self.destination_port = Some(u16::from_be_bytes([*c, *d]));
        }
    }

    /// `tcp 192.0.2.1:4242 > 198.51.100.7:22 [S]`
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, hence the ignored results.
        if let Some(arp) = &self.arp {
            let _ = match arp.operation {
                1 => write!(text, "arp who has {}, asks {}", arp.target, arp.sender),
                2 => write!(text, "arp {} answers {}", arp.sender, arp.target),
                other => write!(
                    text,
                    "arp operation {other}, {} > {}",
                    arp.sender, arp.target
                ),
            };
        } else if let (Some(source), Some(destination)) = (self.source, self.destination) {
            let protocol = match (&self.protocol_name, self.protocol) {
                (Some(name), _) => name.clone(),
                (None, Some(number)) => format!("protocol {number}"),
                (None, None) => "ip".to_owned(),
            };
            let end = |address, port: Option<u16>| match port {
                Some(port) => SocketAddr::new(address, port).to_string(),
                None => address.to_string(),
            };
            let (source, destination) = (
                end(source, self.source_port),
                end(destination, self.destination_port),
            );
            let _ = write!(text, "{protocol} {source} > {destination}");
        } else {
            let unknown = || "?".to_owned();
            let mac = |mac: &Option<String>| mac.clone().unwrap_or_else(unknown);
            let ethertype = self
                .ethertype
                .map_or_else(unknown, |number| format!("0x{number:04x}"));
            let _ = write!(
                text,
                "ethertype {ethertype} {} > {}",
                mac(&self.source_mac),
                mac(&self.destination_mac)
            );
        }
        if let Some(flags) = &self.tcp_flags {
            let _ = write!(text, " [{}]", if flags.is_empty() { "none" } else { flags });
        }
        if let (Some(kind), Some(code)) = (self.icmp_type, self.icmp_code) {
            let _ = write!(text, " type {kind} code {code}");
        }
        if let Some(fragment) = &self.fragment {
            let more = if fragment.more { "+" } else { "" };
            let _ = write!(
                text,
                " fragment {:#x} at {}{more}",
                fragment.id, fragment.offset
            );
        }
        if !self.vlans.is_empty() {
            let ids: Vec<String> = self.vlans.iter().map(u16::to_string).collect();
            let _ = write!(text, " vlan {}", ids.join("."));
        }
        text
    }
}

fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}
