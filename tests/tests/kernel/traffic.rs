//! The generator's program makes the packets that its description in Rust makes, with right checksums.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::packets::checksum::{internet, with_pseudo_header};
use edgefilter_tests::traffic::description::{Description, Protocol, from_toml};
use edgefilter_tests::traffic::program::Generator;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

const PACKETS: u64 = 300;

const DESCRIBED: &str = r#"
[[stream]]
destination = "10.77.1.1"
[[stream]]
destination = "10.77.1.1"
protocol = "udp"
ports = "random"
source = "0.0.0.0/0"
sizes = [60, 333]
[[stream]]
destination = "10.77.1.1"
protocol = "icmp"
source = "192.0.2.0/24"
[[stream]]
destination = "10.77.1.1"
flags = "syn,ack"
source = "192.0.2.7"
source_ports = 443
ports = "1-1024"
vlan = ["s100", 200]
[[stream]]
destination = "10.77.1.1"
flows = 10
fragment = 3
[[stream]]
destination = "fd77:1::1"
ports = "1-1024"
[[stream]]
destination = "fd77:1::1"
protocol = "udp"
source = "::/0"
vlan = [7]
[[stream]]
destination = "fd77:1::1"
protocol = "icmp"
source = "2001:db8::/64"
sizes = [100, 1514]
flows = 7
"#;

#[test]
fn the_program_makes_the_packets_of_the_description() -> Result<()> {
    for description in from_toml(DESCRIBED)? {
        for stream in description.streams([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])? {
            let generator = Generator::new(&stream, 1, None)?;
            let (mut frame, mut seen) = (Vec::new(), HashSet::new());
            for number in 0..PACKETS {
                stream.write(number, &mut frame);
                let made = generator.preview()?;
                ensure!(
                    made == frame,
                    "packet {number} of {description:?}:\n{made:02x?}, described as\n{frame:02x?}"
                );
                check(&frame, &description).with_context(|| format!("{description:?}"))?;
                seen.insert(frame.clone());
            }
            ensure!(generator.made()? == PACKETS);
            // What is random may come twice, but not often.
            let expected = description.flows.map_or(PACKETS, u64::from) as usize;
            ensure!(
                seen.len() <= expected && seen.len() * 20 > expected * 15,
                "{} different packets of {expected} of {description:?}",
                seen.len()
            );
        }
    }
    Ok(())
}

/// By other eyes: lengths, addresses, ports, checksums.
fn check(frame: &[u8], description: &Description) -> Result<()> {
    let parsed = SlicedPacket::from_ethernet(frame)?;
    ensure!(parsed.link_exts.len() == description.vlan.len());
    let (source, destination, payload) = match parsed.net.context("no IP")? {
        NetSlice::Ipv4(ip) => {
            ensure!(internet(ip.header().slice()) == 0, "the header's checksum");
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ip.payload().payload.to_vec(),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ip.payload().payload.to_vec(),
            )
        }
        NetSlice::Arp(_) => anyhow::bail!("ARP"),
    };
    ensure!(Some(destination) == description.destination);
    if description.fragment.is_some() {
        return Ok(());
    }
    let sum = match description.protocol {
        Protocol::Icmp if destination.is_ipv4() => internet(&payload),
        Protocol::Icmp => with_pseudo_header(source, destination, 58, &payload),
        Protocol::Tcp => with_pseudo_header(source, destination, 6, &payload),
        Protocol::Udp => with_pseudo_header(source, destination, 17, &payload),
    };
    ensure!(sum == 0, "the transport's checksum");
    let ports = match parsed.transport.context("no transport")? {
        TransportSlice::Tcp(tcp) => {
            ensure!(payload.get(13) == Some(&description.flags.0));
            [tcp.source_port(), tcp.destination_port()]
        }
        TransportSlice::Udp(udp) => {
            ensure!(udp.source_port() >= 1024);
            [udp.source_port(), udp.destination_port()]
        }
        _ => return Ok(()),
    };
    for (port, range) in ports
        .into_iter()
        .zip([description.source_ports.0, description.ports.0])
    {
        ensure!(
            (range.first..=range.last).contains(&port),
            "port {port} is not in {range:?}"
        );
    }
    Ok(())
}

#[test]
fn what_cannot_be_sent_is_refused() {
    for (text, word) in [
        ("[[stream]]\nports = \"9-1\"\n", "9-1"),
        ("[[stream]]\nflags = \"syn,fish\"\n", "fish"),
        ("[[stream]]\nvlan = [4095]\n", "4095"),
        ("[[stream]]\nsource = \"300.0.0.0/8\"\n", "300.0.0.0"),
        ("[[stream]]\nsauce = \"10.0.0.0/8\"\n", "sauce"),
        ("stream = []\n", "described"),
    ] {
        let error = format!("{:#}", from_toml(text).unwrap_err());
        assert!(error.contains(word), "{text}: {error}");
    }
    for text in [
        "[[stream]]\n",
        "[[stream]]\ndestination = \"10.0.0.1\"\nsource = \"2001:db8::1\"\n",
        "[[stream]]\ndestination = \"10.0.0.1\"\nsizes = [9000]\n",
        "[[stream]]\ndestination = \"10.0.0.1\"\nvlan = [1, 2, 3]\n",
        "[[stream]]\ndestination = \"2001:db8::1\"\nfragment = 1\n",
    ] {
        let described = from_toml(text).unwrap();
        assert!(
            described[0].streams([2; 6], [2; 6]).is_err(),
            "{text} can be sent"
        );
    }
}
