//! The generator sends what was described: as many packets, from those sources, with those tags, at that pace.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Capture, finish};
use edgefilter_tests::programs::foreign::{ForeignXdp, Verdict};
use edgefilter_tests::traffic::capture::{Capture as Pcap, Speed};
use edgefilter_tests::traffic::description::{Description, from_toml};
use edgefilter_tests::traffic::pair::{RECEIVER_V4, SENDER_LINK};
use edgefilter_tests::traffic::sender::Engine;
use edgefilter_tests::traffic::{Limits, Link, Pair, Sent};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

use crate::support::{alone, can_run};

const PACKETS: u64 = 2000;

/// Where things are in an untagged IPv4 frame.
const SOURCE: std::ops::Range<usize> = 26..30;
const SOURCE_PORT: std::ops::Range<usize> = 34..36;
const PORT: std::ops::Range<usize> = 36..38;

fn limits(packets: u64, seconds: f64) -> Limits {
    Limits {
        packets,
        time: Duration::from_secs_f64(seconds),
    }
}

fn described(text: &str) -> Result<Vec<Description>> {
    from_toml(&format!(
        "[[stream]]\ndestination = \"{RECEIVER_V4}\"\n{text}"
    ))
}

/// Sends what is described and returns what arrived of it.
fn send(
    pair: &Pair,
    described: &[Description],
    rate: Option<f64>,
    engine: Engine,
) -> Result<(Sent, Vec<Vec<u8>>)> {
    let mut streams = Vec::new();
    for description in described {
        streams.extend(pair.streams(description)?);
    }
    let mut sender = pair.open(streams, rate, engine)?;
    let capture = Capture::start(&pair.receiver, &pair.link)?;
    let sent = pair.send(&mut sender, limits(PACKETS, 20.0))?;
    let mut frames = capture.finish();
    // what the sender's own stack says (IPv6, IGMP) is none of ours
    let protocol = 23;
    frames.retain(|frame| frame.get(12..14) == Some(&[8, 0]) && frame.get(protocol) != Some(&2));
    Ok((sent, frames))
}

fn number(frame: &[u8], place: std::ops::Range<usize>) -> u64 {
    let bytes = frame.get(place).unwrap_or_default();
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn counts_are_exact_and_sources_and_ports_spread_as_described() -> Result<()> {
    if !can_run(&["ethtool"]) {
        return Ok(());
    }
    let _turn = alone();
    let pair = Pair::build("spread")?;
    let many = described("source = \"192.0.2.0/24\"\nports = \"100-199\"\n")?;
    let few = described("flows = 7\n")?;
    for engine in [Engine::Kernel, Engine::Socket] {
        let (sent, frames) = send(&pair, &many, None, engine)?;
        ensure!(
            sent.packets == PACKETS && sent.lost == 0 && frames.len() as u64 == PACKETS,
            "{} arrived: {sent:?}",
            frames.len()
        );
        let all = |place: std::ops::Range<usize>| -> HashSet<u64> {
            frames
                .iter()
                .map(|frame| number(frame, place.clone()))
                .collect()
        };
        let (sources, ports, source_ports) = (all(SOURCE), all(PORT), all(SOURCE_PORT));
        ensure!(
            sources.iter().all(|source| source >> 8 == 0xc0_0002) && sources.len() > 250,
            "{} sources",
            sources.len()
        );
        ensure!(ports == (100..200).collect(), "ports {ports:?}");
        ensure!(
            source_ports.iter().all(|port| *port >= 1024) && source_ports.len() > 1900,
            "{} source ports",
            source_ports.len()
        );
        let (_, frames) = send(&pair, &few, None, engine)?;
        let flows: HashSet<Vec<u8>> = frames.into_iter().collect();
        ensure!(flows.len() == 7, "{} flows of 7", flows.len());
    }
    Ok(())
}

#[test]
fn kinds_take_turns_by_weight() -> Result<()> {
    if !can_run(&["ethtool"]) {
        return Ok(());
    }
    let _turn = alone();
    let pair = Pair::build("turns")?;
    let more =
        format!("[[stream]]\ndestination = \"{RECEIVER_V4}\"\nprotocol = \"udp\"\nweight = 3\n");
    let (sent, frames) = send(&pair, &described(&more)?, None, Engine::Auto)?;
    ensure!(sent.engine == Engine::Socket, "{sent:?}");
    let datagrams = frames.iter().filter(|frame| frame.get(23) == Some(&17));
    let count = datagrams.count() as u64;
    ensure!(
        count == PACKETS * 3 / 4,
        "{count} of {PACKETS} packets are UDP"
    );
    Ok(())
}

#[test]
fn vlan_tags_arrive() -> Result<()> {
    if !can_run(&["ethtool", "tcpdump"]) {
        return Ok(());
    }
    let _turn = alone();
    let pair = Pair::build("vlan")?;
    let streams = pair.streams(&described("vlan = [\"s100\", 200]\n")?[0])?;
    for engine in [Engine::Kernel, Engine::Socket] {
        let words = [
            "tcpdump",
            "-n",
            "-e",
            "-c",
            "5",
            "-i",
            &pair.link,
            "vlan 100 and vlan 200 and tcp",
        ];
        let tcpdump = pair.receiver.start(&words)?;
        edgefilter_tests::netns::wait_until(Duration::from_secs(5), || {
            tcpdump.stderr().contains("listening")
        })
        .context("tcpdump does not listen")?;
        let mut sender = pair.open(streams.clone(), None, engine)?;
        pair.send(&mut sender, limits(64, 5.0))?;
        let seen = tcpdump.wait(Duration::from_secs(10))?.require()?.stdout;
        ensure!(
            seen.contains("802.1Q-QinQ") && seen.contains("vlan 100") && seen.contains("vlan 200"),
            "{engine:?}: {seen}"
        );
    }
    Ok(())
}

#[test]
fn a_pace_is_kept_within_a_tenth() -> Result<()> {
    if !can_run(&["ethtool"]) {
        return Ok(());
    }
    let _turn = alone();
    let pair = Pair::build("pace")?;
    // Whoever receives must not be the limit.
    let _drop = ForeignXdp::attach(&pair.receiver, &pair.link, Verdict::Drop)?;
    let streams = pair.streams(&described("")?[0])?;
    for (rate, engine) in [
        (500.0, Engine::Socket),
        (20_000.0, Engine::Socket),
        (50_000.0, Engine::Kernel),
        (100_000.0, Engine::Kernel),
    ] {
        let mut sender = pair.open(streams.clone(), Some(rate), engine)?;
        let mut seen = Vec::new();
        // another tenant of the machine may take a second away from us, not five
        let kept = (0..5).map(|_| -> Result<bool> {
            let before = pair.received()?.received;
            let sent = pair.send(&mut sender, limits(u64::MAX, 1.0))?;
            let arrived = (pair.received()?.received - before + sent.lost) as f64;
            ensure!(
                (arrived / sent.packets as f64 - 1.0).abs() < 0.02,
                "{arrived} arrived: {sent:?}"
            );
            seen.push(sent);
            Ok((sent.rate / rate - 1.0).abs() < 0.1 && (sent.seconds - 1.0).abs() < 0.15)
        });
        let kept = kept.filter(|kept| !matches!(kept, Ok(false))).take(1);
        let kept = kept.collect::<Result<Vec<bool>>>()?;
        ensure!(
            !kept.is_empty(),
            "{rate} a second were wanted, five times: {seen:?}"
        );
    }
    Ok(())
}

#[test]
fn a_capture_is_sent_again_at_its_own_pace_or_another() -> Result<()> {
    if !can_run(&["ethtool"]) {
        return Ok(());
    }
    let _turn = alone();
    let pair = Pair::build("pcap")?;
    let scratch = edgefilter_tests::netns::Scratch::create("pcap")?;
    let stream = &pair.streams(&described("")?[0])?[0];
    let mut frames = vec![Vec::new(); 50];
    for (frame, number) in frames.iter_mut().zip(0..) {
        stream.write(number, frame);
    }
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header)?;
    for (frame, number) in frames.iter().zip(0..) {
        let time = Duration::from_millis(1000 + 10 * number);
        writer.write_packet(&PcapPacket::new(time, frame.len() as u32, frame))?;
    }
    let file = scratch.file("some.pcap", writer.into_writer())?;
    let pcap = Pcap::read(&file)?;
    for (speed, seconds) in [
        (Speed::Original, 0.49),
        (Speed::Rate(500.0), 0.098),
        (Speed::Most, 0.0),
    ] {
        let capture = Capture::start(&pair.receiver, &pair.link)?;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let sent = pair.sender.inside(|| {
            let link = Link::find(SENDER_LINK)?;
            pcap.send(&link, limits(50, 5.0), speed, &stop)
        })??;
        let mut arrived = capture.finish();
        arrived.retain(|frame| frames.contains(frame));
        ensure!(
            arrived == frames,
            "{} of 50 arrived: {sent:?}",
            arrived.len()
        );
        ensure!(
            (sent.seconds - seconds).abs() < 0.05 + seconds / 10.0,
            "{speed:?}: {sent:?}"
        );
    }
    Ok(())
}

#[test]
fn links_that_may_lead_out_are_refused() -> Result<()> {
    if !can_run(&["ethtool"]) {
        return Ok(());
    }
    let pair = Pair::build("refused")?;
    edgefilter_tests::netns::links::bridge(&pair.sender, "br0", &[])?;
    for (link, fine) in [("br0", false), (SENDER_LINK, true), ("lo", true)] {
        let answer = pair.sender.inside(|| Link::find(link)?.refuse_real())?;
        ensure!(answer.is_ok() == fine, "{link}: {answer:?}");
    }
    // and by the program itself, before anything is sent
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_traffic"));
    command.args(["--netns", pair.sender.name(), "--interface", "br0"]);
    command.args(["--destination", RECEIVER_V4]);
    let refused = finish(command, Duration::from_secs(10))?;
    ensure!(
        refused.code() == 1 && refused.stderr.contains("--i-own-this-network"),
        "{refused:?}"
    );
    Ok(())
}
