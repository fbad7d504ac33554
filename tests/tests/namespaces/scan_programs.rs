//! The programs that the tests about scans are made of do what they say. None of this needs the filter.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Capture, wait_until};
use edgefilter_tests::programs::floods::Flood;
use edgefilter_tests::programs::ftp::{self, FtpServer};
use edgefilter_tests::programs::late::{self, LateServers};
use edgefilter_tests::programs::spoof::Blaster;
use edgefilter_tests::programs::swarm::Swarm;
use edgefilter_tests::programs::visitors::{self, HealthChecks};
use edgefilter_tests::programs::{Nginx, Seen, Sink, marker, ping};

use crate::forgeries;
use crate::scan_arena::{Arena, WEB};
use crate::support::{beside, can_run};

/// The 200 addresses of a swarm.
pub const SWARM: &str = "10.77.60.0/24";

pub fn swarm_addresses() -> Vec<Ipv4Addr> {
    (1..=200)
        .map(|host| Ipv4Addr::new(10, 77, 60, host))
        .collect()
}

pub fn host() -> Result<Ipv4Addr> {
    Ok(HOST_V4.parse()?)
}

/// The IPv4 source of a frame and its source and destination port, whatever it carries.
pub fn source_and_ports(frame: &[u8]) -> Option<(Ipv4Addr, u16, u16)> {
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let source: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
    let port = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    Some((source.into(), port(34)?, port(36)?))
}

#[test]
fn ftp_transfers_200_files_each_over_a_port_of_its_own() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let mut arena = Arena::build()?;
    let user = arena.peer("user")?;
    let _server = FtpServer::start(&arena.edge.host, 50_000..=50_999)?;
    let capture = Capture::start(&arena.edge.host, "eth0")?;
    let begin = Instant::now();
    let outcome = ftp::fetch(&user.namespace, HOST_V4, 200)?;
    eprintln!("{} ms", begin.elapsed().as_millis());
    ensure!(
        outcome.answered == 200 && outcome.lost.is_empty(),
        "{outcome:?}"
    );
    let user: Ipv4Addr = user.v4.parse()?;
    let frames = capture.finish();
    let to = frames.iter().filter_map(|frame| source_and_ports(frame));
    let mut ports: Vec<u16> = to
        .filter(|(from, _, _)| *from == user)
        .map(|(_, _, port)| port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ensure!(ports.len() == 201, "control and {} data ports", ports.len());
    // A server that is not there is not mistaken for one that is.
    let nobody = ftp::fetch(&arena.edge.host, CLIENT_V4, 1)?;
    ensure!(nobody.answered == 0 && nobody.lost.len() == 1, "{nobody:?}");
    Ok(())
}

#[test]
fn late_servers_answer_500_ports_that_are_closed_by_then() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let mut arena = Arena::build()?;
    let peer = arena.peer("late")?;
    let mut servers = LateServers::start(&peer.namespace)?;
    let mut asked = servers.ask(&arena.edge.host, &peer.v4, 500)?;
    let capture = Capture::start(&arena.edge.host, "eth0")?;
    ensure!(servers.release()? == 500, "not all answers were held");
    let from: Ipv4Addr = peer.v4.parse()?;
    let frames = capture.finish();
    let answers = frames.iter().filter_map(|frame| source_and_ports(frame));
    let mut answered: Vec<u16> = answers
        .filter(|(source, port, _)| *source == from && late::PORTS.contains(port))
        .map(|(_, _, port)| port)
        .collect();
    asked.sort_unstable();
    answered.sort_unstable();
    ensure!(asked == answered, "{} answers came", answered.len());
    asked.dedup();
    ensure!(asked.len() == 500, "{} different ports", asked.len());
    for port in asked.iter().take(20) {
        let closed = arena
            .edge
            .host
            .inside(|| UdpSocket::bind(("0.0.0.0", *port)))?;
        closed.with_context(|| format!("port {port} is still open"))?;
    }
    Ok(())
}

#[test]
fn visitors_come_from_50_addresses_and_from_one_behind_nat() -> Result<()> {
    if !can_run(&["nginx"]) {
        return Ok(());
    }
    let _turn = beside();
    let mut arena = Arena::build()?;
    let nat = arena.peer("nat")?;
    let users = nat.masquerade(&arena.edge.scratch, 50)?;
    let _web = Nginx::start(&arena.edge.host, &arena.edge.scratch, &[WEB])?;
    let target = SocketAddrV4::new(host()?, WEB);
    let capture = Capture::start(&arena.edge.host, "eth0")?;
    let begin = Instant::now();
    let outcome = visitors::fetch(&users.namespace, &users.addresses, target, 2000)?;
    eprintln!("{} ms", begin.elapsed().as_millis());
    ensure!(
        outcome.answered == 2000 && outcome.lost.is_empty(),
        "{outcome:?}"
    );
    for address in users.addresses.iter().take(3) {
        let patience = Duration::from_millis(200);
        let knocked = visitors::knock(
            &users.namespace,
            *address,
            host()?,
            &[WEB, 445, 139],
            patience,
        )?;
        ensure!(
            knocked == 1,
            "{knocked} of an open port and two closed ones"
        );
    }
    let nat: Ipv4Addr = nat.v4.parse()?;
    let frames = capture.finish();
    let to_web = frames.iter().filter_map(|frame| source_and_ports(frame));
    let mut sources: Vec<Ipv4Addr> = to_web
        .filter(|(_, _, port)| *port == WEB)
        .map(|(source, _, _)| source)
        .collect();
    ensure!(sources.len() > 6000, "{} frames", sources.len());
    sources.dedup();
    ensure!(sources == [nat], "sources: {sources:?}");
    Ok(())
}

#[test]
fn visitors_of_a_server_that_is_not_there_are_losses() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let arena = Arena::build()?;
    let target = SocketAddrV4::new(host()?, WEB);
    let outcome = visitors::fetch(&arena.edge.client, &[], target, 2)?;
    ensure!(
        outcome.answered == 0 && outcome.lost.len() == 2,
        "{outcome:?}"
    );
    Ok(())
}

#[test]
fn a_swarm_of_200_peers_answers_and_asks_from_200_addresses() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let mut arena = Arena::build()?;
    let peer = arena.peer("swarm")?;
    peer.own(SWARM)?;
    let swarm = Swarm::start(&peer.namespace, swarm_addresses())?;
    let answered = swarm.ask_from(&arena.edge.host, 51_413)?;
    ensure!(answered == 200, "{answered} of 200 answered");
    let capture = Capture::start(&arena.edge.host, "eth0")?;
    let to = SocketAddr::new(IpAddr::V4(host()?), 6881);
    ensure!(swarm.contact(to, 3)? == 600, "not all were sent");
    let frames = capture.finish();
    let arrived = frames.iter().filter_map(|frame| source_and_ports(frame));
    let mut sources: Vec<Ipv4Addr> = arrived
        .filter(|(_, _, port)| *port == 6881)
        .map(|(source, _, _)| source)
        .collect();
    ensure!(sources.len() == 600, "{} of 600 arrived", sources.len());
    sources.sort_unstable();
    sources.dedup();
    ensure!(sources == swarm_addresses(), "{} sources", sources.len());
    Ok(())
}

#[test]
fn health_checks_come_every_period_on_every_port() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let mut arena = Arena::build()?;
    let monitor = arena.peer("monitor")?;
    let capture = Capture::start(&arena.edge.host, "eth0")?;
    let ports: Vec<u16> = (9100..9120).collect();
    let period = Duration::from_millis(400);
    let checks = HealthChecks::start(&monitor.namespace, host()?, ports, period);
    let due = wait_until(Duration::from_secs(5), || {
        let to = |port: u16| {
            capture.count(|frame| source_and_ports(frame).is_some_and(|(_, _, to)| to == port))
        };
        (9100..9120).all(|port| to(port) >= 3)
    });
    let rounds = checks.finish()?;
    ensure!(due.is_some() && rounds >= 3, "{rounds} rounds, {due:?}");
    Ok(())
}

#[test]
fn floods_lose_nothing_on_the_way() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let arena = Arena::build()?;
    let _deaf = crate::spoofed::deaf(&arena.edge.host)?;
    let target = arena.target()?;
    let mut flood = Flood::random_sources(&target);
    let link = forgeries::Link::outside(&arena.edge)?;
    let truthful = link.datagram(CLIENT_V4.parse()?, HOST_V4.parse()?, (1, 0));
    // Marked ones are counted as 1, those of the flood as 2.
    let classify = |frame: &[u8]| {
        let first = *frame.get(if frame.get(12..14)? == [8, 0] { 26 } else { 22 })?;
        let flood = (11..=99).contains(&first);
        flood.then_some((2, 0)).or_else(|| marker::find(frame))
    };
    let sink = Sink::on_link_by(&arena.edge.host, "eth0", Box::new(classify))?;
    let blaster = Blaster::open(&arena.edge.client, "eth0")?;
    let begin = Instant::now();
    let true_ones = blaster.flood(
        50_000,
        &truthful,
        |number, frame| flood.write(number, frame),
        || sink.count(1),
    )?;
    eprintln!(
        "50,000 forged and {true_ones} true frames in {} ms",
        begin.elapsed().as_millis()
    );
    sink.settle()?;
    let (forged, truthful) = (sink.count(2)?, sink.count(1)?);
    ensure!(
        forged == 50_000 && truthful == true_ones,
        "{forged} forged and {truthful} true ones arrived"
    );
    Ok(())
}

#[test]
fn peers_reach_the_host_and_everybody_of_the_swept_prefix() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let mut arena = Arena::build()?;
    let peer = arena.peer("peer")?;
    for target in [HOST_V4, HOST_V6, "10.77.40.1", "10.77.40.254"] {
        let (seen, words) = ping(&peer.namespace, target, 2)?;
        ensure!(seen == Seen::Works, "{target}: {words}");
    }
    Ok(())
}
