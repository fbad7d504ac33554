//! The frames of a capture file, ready to be judged: those that were captured in part, or are longer than any on a wire
//! because they were put together on the way (GRO, TSO), as frames that are whole.

use std::borrow::Cow;

use filter_common::parse::{self, ethertype};
use filter_common::service::protocol;
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

/// Longest frame that is judged: an Ethernet frame with two VLAN tags. More than that the kernel does not run the
/// programs on, and no header is that long.
const LONGEST: usize = 1522;

/// Shortest frame that the kernel runs a program on.
const SHORTEST: usize = 14;

/// Why a capture cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCapture {
    /// Not a capture file.
    #[error(
        "this is no capture file (pcap; write one with tcpdump -w, or make one of pcapng with editcap -F pcap)"
    )]
    Unknown,
    /// Of another link layer.
    #[error(
        "this was captured on a link of another sort ({0}): only Ethernet frames can be judged"
    )]
    Link(String),
    /// Broken.
    #[error("the capture is broken behind packet {0}")]
    Broken(u64),
}

/// Frames of a capture, one after the other.
#[derive(Debug)]
pub struct Frames<'a> {
    /// `None` behind what is broken.
    reader: Option<PcapReader<&'a [u8]>>,
    read: u64,
}

impl<'a> Frames<'a> {
    /// Those of a file.
    pub fn new(file: &'a [u8]) -> Result<Self, BadCapture> {
        let reader = PcapReader::new(file).map_err(|_| BadCapture::Unknown)?;
        let link = reader.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(BadCapture::Link(format!("{link:?}")));
        }
        Ok(Self {
            reader: Some(reader),
            read: 0,
        })
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Vec<u8>, BadCapture>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.as_mut()?.next_packet()? {
            Ok(packet) => {
                self.read += 1;
                let in_part = packet.orig_len as usize > packet.data.len();
                Some(Ok(whole(packet.data, in_part)))
            }
            Err(_) => {
                self.reader = None;
                Some(Err(BadCapture::Broken(self.read)))
            }
        }
    }
}

/// The frame, shortened so that its lengths are those of what is there.
fn whole(frame: Cow<'_, [u8]>, in_part: bool) -> Vec<u8> {
    let mut frame = frame.into_owned();
    if !in_part && frame.len() <= LONGEST {
        return frame;
    }
    frame.truncate(LONGEST);
    let link = parse::link(frame.as_slice());
    if let Some(packet) = frame.get_mut(link.network..) {
        match link.ethertype {
            ethertype::IPV4 => shorten_v4(packet),
            ethertype::IPV6 => shorten_v6(packet),
            _ => {}
        }
    }
    frame
}

fn shorten_v4(packet: &mut [u8]) {
    let room = packet.len();
    if room < 20 {
        return;
    }
    let header = usize::from(packet[0] & 0x0f) * 4;
    let fragments = u16::from_be_bytes([packet[6], packet[7]]);
    let mut total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    // 0: what was put together is longer than the field can say
    if total == 0 || total > room {
        total = room;
    }
    let more = fragments & 0x2000 != 0;
    if more && total > header {
        total = header + (total - header) / 8 * 8;
    }
    packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    let first = fragments.trailing_zeros() >= 14;
    if first && packet[9] == protocol::UDP && header <= total {
        shorten_udp(&mut packet[header..total]);
    }
}

fn shorten_v6(packet: &mut [u8]) {
    let Some(most) = packet.len().checked_sub(40) else {
        return;
    };
    let payload = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let payload = if payload == 0 || payload > most {
        most
    } else {
        payload
    };
    packet[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    if packet[6] == protocol::UDP {
        shorten_udp(&mut packet[40..40 + payload]);
    }
}

fn shorten_udp(datagram: &mut [u8]) {
    let room = datagram.len();
    if let Some(length) = datagram.get_mut(4..6) {
        let said = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if said > room {
            length.copy_from_slice(&(room as u16).to_be_bytes());
        }
    }
}

/// Whether the kernel can be asked about it.
pub(super) fn can_be_judged(frame: &[u8]) -> bool {
    frame.len() >= SHORTEST
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use etherparse::PacketBuilder;
    use filter_common::parse::Lengths;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

    use super::*;

    fn udp(payload: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
            .udp(53, 40000)
            .write(&mut frame, &vec![0; payload])
            .unwrap();
        frame
    }

    fn udp_v6(payload: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([1; 16], [2; 16], 64)
            .udp(53, 40000)
            .write(&mut frame, &vec![0; payload])
            .unwrap();
        frame
    }

    fn capture(frames: &[(&[u8], u32)], header: PcapHeader) -> Vec<u8> {
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (frame, length) in frames {
            let packet = PcapPacket::new(Duration::ZERO, *length, frame);
            writer.write_packet(&packet).unwrap();
        }
        writer.into_writer()
    }

    #[test]
    fn frames_in_part_become_whole() {
        let long = udp(1000);
        let long_v6 = udp_v6(1000);
        let file = capture(
            &[
                (&udp(10), 52),
                (&long[..96], 1042),
                (&long_v6[..96], 1062),
                (&udp(5000), 5042),
            ],
            PcapHeader {
                snaplen: 65535,
                ..PcapHeader::default()
            },
        );
        let frames: Vec<Vec<u8>> = Frames::new(&file).unwrap().map(Result::unwrap).collect();
        assert_eq!(frames[0], udp(10), "as it is");
        let lengths: Vec<usize> = frames.iter().map(Vec::len).collect();
        assert_eq!(lengths, [52, 96, 96, LONGEST]);
        for frame in &frames {
            let link = parse::link(frame.as_slice());
            let ip = match link.ethertype {
                ethertype::IPV4 => {
                    parse::ipv4(frame.as_slice(), link.network, Lengths::Checked).unwrap()
                }
                _ => parse::ipv6(frame.as_slice(), link.network, Lengths::Checked).unwrap(),
            };
            assert_eq!(ip.end, frame.len());
            let ports = parse::transport(frame.as_slice(), &ip).unwrap();
            assert_eq!((ports.source_port, ports.port), (53, 40000));
        }
    }

    #[test]
    fn whatever_the_bytes_nothing_panics() {
        let mut random = fastrand::Rng::with_seed(17);
        for frame in [udp(40), udp_v6(40)] {
            for _ in 0..20_000 {
                let mut frame = frame.clone();
                for _ in 0..random.usize(..6) {
                    let at = random.usize(..frame.len());
                    frame[at] = random.u8(..);
                }
                frame.truncate(random.usize(..=frame.len()));
                let length = frame.len();
                assert_eq!(whole(frame.into(), true).len(), length);
            }
        }
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused() {
        assert_eq!(Frames::new(b"no capture").unwrap_err(), BadCapture::Unknown);
        let header = PcapHeader {
            datalink: DataLink::RAW,
            ..PcapHeader::default()
        };
        let refused = Frames::new(&capture(&[], header)).unwrap_err();
        assert!(matches!(refused, BadCapture::Link(_)), "{refused}");
        let whole = capture(&[(&udp(10), 52)], PcapHeader::default());
        let file = &whole[..whole.len() - 1];
        let last = Frames::new(file).unwrap().last().unwrap();
        assert_eq!(last.unwrap_err(), BadCapture::Broken(0));
    }
}
