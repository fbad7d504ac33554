//! Frames out of a capture file (pcap), as tcpdump writes it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

/// The frame with this number, from 1.
pub fn nth(path: &Path, number: usize) -> Result<Vec<u8>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let mut reader = PcapReader::new(BufReader::new(file))
        .with_context(|| format!("{shown} is no capture file (pcap; write one with tcpdump -w)"))?;
    let link = reader.header().datalink;
    if link != DataLink::ETHERNET {
        bail!(
            "{shown} was captured on a link of another sort ({link:?}): only Ethernet frames can be judged"
        );
    }
    let mut found = 0;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.with_context(|| format!("{shown} is broken behind frame {found}"))?;
        found += 1;
        if found < number {
            continue;
        }
        if packet.orig_len as usize != packet.data.len() {
            bail!(
                "frame {number} of {shown} was captured in part only ({} of {} bytes): capture with a longer snapshot \
                 (tcpdump -s 0)",
                packet.data.len(),
                packet.orig_len
            );
        }
        return Ok(packet.data.into_owned());
    }
    bail!("{shown} holds {found} frames, so there is no frame {number}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

    use super::*;

    #[test]
    fn frames_are_counted_from_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        let mut writer =
            PcapWriter::with_header(File::create(&path).unwrap(), PcapHeader::default()).unwrap();
        for byte in [1_u8, 2] {
            let frame = [byte; 60];
            let packet = PcapPacket::new(Duration::ZERO, 60, &frame);
            writer.write_packet(&packet).unwrap();
        }
        let cut = [3_u8; 20];
        let packet = PcapPacket::new(Duration::ZERO, 60, &cut);
        writer.write_packet(&packet).unwrap();
        drop(writer);
        assert_eq!(nth(&path, 1).unwrap(), [1; 60]);
        assert_eq!(nth(&path, 2).unwrap(), [2; 60]);
        let why = |number| nth(&path, number).unwrap_err().to_string();
        assert!(why(3).contains("20 of 60 bytes"), "{}", why(3));
        assert!(why(4).contains("holds 3 frames"), "{}", why(4));
        fs::write(&path, "no capture").unwrap();
        assert!(why(1).contains("no capture file"), "{}", why(1));
    }
}
