//! Frames of floods with sources that are not the sender's: one that is somebody else's, or a new one each time.
//!
//! Owns what is written into them, with right checksums (RFC 1624), quickly enough for millions. Must never send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packets::{Icmp, Tcp, Transport, Udp, ip, link};

/// Where frames are for: MAC addresses of the sender's link and of the host's, and addresses of the host.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of the sender's link.
    pub source_mac: [u8; 6],
    /// Of the host's link.
    pub destination_mac: [u8; 6],
    /// Of the host.
    pub v4: Ipv4Addr,
    /// Of the host.
    pub v6: Ipv6Addr,
}

/// The first port they are for; no policy here lets it in, nor those behind it.
pub const FIRST_PORT: u16 = 10_000;
/// How many ports they are for.
pub const PORTS: u16 = 20_000;

const ETHERNET: usize = 14;

/// Writes the frames.
#[derive(Debug)]
pub struct Flood {
    templates: Vec<Template>,
    random_sources: bool,
    state: u64,
}

impl Flood {
    /// SYN, UDP and ICMP echo by turns, as if from `source`, each to a port at random: other ones for another source.
    pub fn as_if_from(source: Ipv4Addr, target: &Target) -> Self {
        let to = target.v4.into();
        Self::new(
            vec![
                Template::new(target, source.into(), to, &Tcp::syn(1, FIRST_PORT)),
                Template::new(target, source.into(), to, &Udp::new(1, FIRST_PORT)),
                Template::new(target, source.into(), to, &Icmp::echo_request(1)),
            ],
            Some(source),
        )
    }

    /// SYN and UDP over IPv4 and SYN over IPv6 by turns, each from a source at random (none that a registry excludes), to a
    /// port at random.
    pub fn random_sources(target: &Target) -> Self {
        let (four, six) = (
            Ipv4Addr::new(11, 0, 0, 1),
            Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1),
        );
        let (to_four, to_six) = (target.v4.into(), target.v6.into());
        let syn = Tcp::syn(1, FIRST_PORT);
        Self::new(
            vec![
                Template::new(target, four.into(), to_four, &syn),
                Template::new(target, four.into(), to_four, &Udp::new(1, FIRST_PORT)),
                Template::new(target, six.into(), to_six, &syn),
            ],
            None,
        )
    }

    fn new(templates: Vec<Template>, source: Option<Ipv4Addr>) -> Self {
        let seed = source.map_or(0, |source| u64::from(source.to_bits()));
        Self {
            templates,
            random_sources: source.is_none(),
            state: 0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xff51_afd7_ed55_8ccd),
        }
    }

    /// Writes frame `number` into `frame`.
    pub fn write(&mut self, number: u64, frame: &mut Vec<u8>) {
        let random = self.random();
        let count = self.templates.len() as u64;
        let Some(template) = self.templates.get((number % count) as usize) else {
            return;
        };
        frame.clear();
        frame.extend_from_slice(&template.frame);
        if let Some(ports) = template.ports {
            template.set(frame, ports, 1024 + (random as u16 & 0x7fff), false);
            let port = FIRST_PORT + (random >> 16) as u16 % PORTS;
            template.set(frame, ports + 2, port, false);
        }
        if self.random_sources {
            let words = [(random >> 32) as u16, (random >> 48) as u16];
            let source = template.source;
            if template.ip_sum.is_some() {
                // 11.0.0.0 to 99.255.255.255
                let first = (11 + (words[0] >> 8) % 89) << 8;
                template.set(frame, source, first | (words[0] & 0xff), true);
                template.set(frame, source + 2, words[1], true);
            } else {
                // 2a00::/16, another /64 each time
                template.set(frame, source + 4, words[0], true);
                template.set(frame, source + 6, words[1], true);
            }
        }
    }

    /// xorshift64* (Vigna, 2016).
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A frame, and where its fields stand.
#[derive(Debug)]
struct Template {
    frame: Vec<u8>,
    source: usize,
    ip_sum: Option<usize>,
    ports: Option<usize>,
    sum: usize,
}

impl Template {
    fn new(target: &Target, from: IpAddr, to: IpAddr, transport: &impl Transport) -> Self {
        let (ethertype, packet) = ip::packet(from, to, transport);
        let link = link().macs(target.source_mac, target.destination_mac);
        let (source, ip_sum, header) = match from {
            IpAddr::V4(_) => (12, Some(ETHERNET + 10), 20),
            IpAddr::V6(_) => (8, None, 40),
        };
        let (ports, sum) = match transport.protocol() {
            6 => (Some(0), 16),
            17 => (Some(0), 6),
            _ => (None, 2),
        };
        let transport = ETHERNET + header;
        Self {
            frame: link.carry(ethertype, &packet),
            source: ETHERNET + source,
            ip_sum,
            ports: ports.map(|at| transport + at),
            sum: transport + sum,
        }
    }

    /// Writes 16 bits at `at`, and the checksums that cover them: the transport's, and the IPv4 header's if they are `in_header`.
    fn set(&self, frame: &mut [u8], at: usize, value: u16, in_header: bool) {
        let before = word(frame, at);
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        let sums = [Some(self.sum), self.ip_sum.filter(|_| in_header)];
        for sum in sums.into_iter().flatten() {
            let mut new = u32::from(!word(frame, sum)) + u32::from(!before) + u32::from(value);
            new = (new & 0xffff) + (new >> 16);
            new = (new & 0xffff) + (new >> 16);
            frame[sum..sum + 2].copy_from_slice(&(!(new as u16)).to_be_bytes());
        }
    }
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const TARGET: Target = Target {
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        v4: Ipv4Addr::new(10, 77, 1, 1),
        v6: Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1),
    };

    /// Source, port and protocol, as etherparse reads them; the checksums have to be right.
    fn read(frame: &[u8]) -> (IpAddr, u16, u8) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        match (&packet.net, &packet.transport) {
            (Some(NetSlice::Ipv4(ip)), Some(transport)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let (from, to) = (header.source, header.destination);
                let (port, protocol) = match transport {
                    TransportSlice::Tcp(tcp) => {
                        assert_eq!(tcp.calc_checksum_ipv4(from, to).unwrap(), tcp.checksum());
                        (tcp.destination_port(), 6)
                    }
                    TransportSlice::Udp(udp) => {
                        let sum = udp
                            .to_header()
                            .calc_checksum_ipv4_raw(from, to, udp.payload())
                            .unwrap();
                        assert_eq!(sum, udp.checksum());
                        (udp.destination_port(), 17)
                    }
                    _ => (0, 1),
                };
                (Ipv4Addr::from(from).into(), port, protocol)
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) => {
                let header = ip.header().to_header();
                let sum = tcp.calc_checksum_ipv6(header.source, header.destination);
                assert_eq!(sum.unwrap(), tcp.checksum());
                let source = Ipv6Addr::from(header.source);
                (source.into(), tcp.destination_port(), 6)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn random_sources_differ_and_their_checksums_are_right() {
        let (mut flood, mut frame) = (Flood::random_sources(&TARGET), Vec::new());
        let mut seen = BTreeSet::new();
        for number in 0..30_000 {
            flood.write(number, &mut frame);
            let (source, port, _) = read(&frame);
            assert!((FIRST_PORT..FIRST_PORT + PORTS).contains(&port));
            match source {
                IpAddr::V4(source) => assert!((11..=99).contains(&source.octets()[0])),
                IpAddr::V6(source) => assert_eq!(source.segments()[0], 0x2a00),
            }
            seen.insert(source);
        }
        assert!(seen.len() > 29_900, "only {} sources", seen.len());
    }

    #[test]
    fn somebody_elses_source_stays_and_targets_differ() {
        let source = Ipv4Addr::new(10, 77, 65, 2);
        let mut flood = Flood::as_if_from(source, &TARGET);
        let (mut frame, mut seen) = (Vec::new(), BTreeSet::new());
        for number in 0..3000 {
            flood.write(number, &mut frame);
            let (from, port, protocol) = read(&frame);
            assert_eq!(from, IpAddr::V4(source));
            seen.insert((protocol, port));
        }
        let of = |wanted: u8| {
            seen.iter()
                .filter(|(protocol, _)| *protocol == wanted)
                .count()
        };
        assert!(of(6) > 900 && of(17) > 900 && of(1) == 1, "{seen:?}");
        let mut other = Flood::as_if_from(Ipv4Addr::new(10, 77, 66, 2), &TARGET);
        let shared = (0..30).filter(|number| {
            other.write(*number, &mut frame);
            let (_, port, protocol) = read(&frame);
            protocol != 1 && seen.contains(&(protocol, port))
        });
        let shared = shared.count();
        assert!(
            shared < 10,
            "{shared} of 20 targets are another source's as well"
        );
    }
}
