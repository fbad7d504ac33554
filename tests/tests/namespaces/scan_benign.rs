//! What is not a scan: no record and no block comes of it, although much of it is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{PacketSocket, Peer, wait_until};
use edgefilter_tests::packets::transport::{PSH, RST};
use edgefilter_tests::packets::{Icmp, Ipv4, Tcp, link, transport};
use edgefilter_tests::programs::echo::{Conversations, Echo, Outcome};
use edgefilter_tests::programs::ftp::{self, FtpServer};
use edgefilter_tests::programs::late::LateServers;
use edgefilter_tests::programs::swarm::Swarm;
use edgefilter_tests::programs::visitors::{self, HealthChecks};
use edgefilter_tests::programs::{Edgefilter, Nginx, blocks};
use filter_user::scans::record::Verdict;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::scan_arena::{Arena, ECHO, WEB, nobody_blocked, policy, summary};
use crate::scan_programs::{SWARM, host, swarm_addresses};
use crate::support::{alone, can_run};

/// What the users of one network try at every server: file sharing, remote desktop, a printer, a proxy, a database.
const HABITS: [u16; 6] = [445, 139, 3389, 9100, 8080, 1433];
/// What the monitoring looks at.
const WATCHED: std::ops::Range<u16> = 9200..9220;

fn rules() -> &'static str {
    "[[profiles.edge.allow]]
id = \"ftp\"
protocol = \"tcp\"
ports = [21, \"50000-50999\"]
"
}

struct Peers {
    ftp: Peer,
    late: Peer,
    nat: Peer,
    swarm: Peer,
    monitor: Peer,
    balancer: Peer,
    strays: Peer,
}

#[test]
fn benign_traffic_is_neither_recorded_nor_blocked() -> Result<()> {
    if !can_run(&["nginx"]) {
        return Ok(());
    }
    let _turn = alone();
    open_files()?;
    let mut arena = Arena::build()?;
    let peers = Peers {
        ftp: arena.peer("ftp")?,
        late: arena.peer("late")?,
        nat: arena.peer("nat")?,
        swarm: arena.peer("swarm")?,
        monitor: arena.peer("monitor")?,
        balancer: arena.peer("balancer")?,
        strays: arena.peer("strays")?,
    };
    let (edge, target) = (&arena.edge, host()?);
    let _web = Nginx::start(&edge.host, &edge.scratch, &[WEB])?;
    let _echo = [Echo::tcp(&edge.host, ECHO)?, Echo::tcp(&edge.client, ECHO)?];
    let _ftp = [
        FtpServer::start(&edge.host, 50_000..=50_999)?,
        FtpServer::start(&peers.ftp.namespace, 20_000..=39_999)?,
    ];
    // Asked and forgotten before the filter is there: it cannot know that these are answers.
    let forget = [("net/netfilter/nf_conntrack_udp_timeout", "1")];
    edge.host.sysctls(&forget)?;
    let mut late = LateServers::start(&peers.late.namespace)?;
    late.ask(&edge.host, &peers.late.v4, 500)?;
    let live = [
        Conversations::tcp(&edge.client, HOST_V4, ECHO, 250)?,
        Conversations::tcp(&edge.host, CLIENT_V4, ECHO, 250)?,
    ];
    std::thread::sleep(Duration::from_millis(1500));
    let exempt = format!("exempt = [\"{}\"]", peers.monitor.v4);
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy(rules(), &exempt))?;
    let second = Duration::from_secs(1);
    let checks = [
        HealthChecks::start(&peers.monitor.namespace, target, WATCHED.collect(), second),
        HealthChecks::start(&peers.balancer.namespace, target, vec![WEB, ECHO], second),
    ];

    let mut steps = Steps::new(&daemon)?;
    let held = late.release()? as u64;
    steps.done(&daemon, "500 late answers", held)?;
    all(&ftp::fetch(&peers.ftp.namespace, HOST_V4, 200)?, 200)?;
    steps.done(&daemon, "200 FTP transfers in", 0)?;
    all(&ftp::fetch(&edge.host, &peers.ftp.v4, 200)?, 200)?;
    steps.done(&daemon, "200 FTP transfers out", 0)?;
    let web = SocketAddrV4::new(target, WEB);
    all(&visitors::fetch(&edge.client, &[], web, 2000)?, 2000)?;
    steps.done(&daemon, "2,000 short HTTP connections", 0)?;
    masqueraded(&arena, &peers.nat, web)?;
    steps.done(&daemon, "50 users behind NAT", 50 * HABITS.len() as u64)?;
    peers.swarm.own(SWARM)?;
    let swarm = Swarm::start(&peers.swarm.namespace, swarm_addresses())?;
    let answered = swarm.ask_from(&edge.host, 51_413)?;
    ensure!(answered == 200, "{answered} of 200 peers answered");
    let contacts = swarm.contact(SocketAddr::new(IpAddr::V4(target), 6881), 3)?;
    steps.done(&daemon, "200 BitTorrent-like peers", contacts)?;
    let sent = strays(&arena, &peers.strays)?;
    steps.done(&daemon, "strays and retransmissions", sent)?;
    restart(&mut daemon, live)?;
    steps.done(&daemon, "a restart during 500 connections", 0)?;
    for (checks, least) in checks.into_iter().zip([3, 3]) {
        let rounds = checks.finish()?;
        eprintln!("health checks: {rounds} rounds");
        ensure!(rounds >= least, "{rounds} rounds of health checks");
    }
    // Whatever was still on its way to the daemon is there.
    std::thread::sleep(second);
    let records = blocks::scans(&daemon)?;
    for record in &records {
        eprintln!("recorded: {}", summary(record));
    }
    let above = records
        .iter()
        .filter(|record| record.verdict != Verdict::Observed);
    ensure!(
        above.count() == 0,
        "records above `observe`: {:#?}\n{}",
        records.iter().map(summary).collect::<Vec<_>>(),
        daemon.log()
    );
    nobody_blocked(&daemon, &arena)
}

/// 500 connections have 1,000 ends, all of them here.
fn open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(4096)), hard)?;
    Ok(())
}

/// What was refused in each step: without it the step would prove nothing.
struct Steps {
    begin: Instant,
    refused: u64,
}

impl Steps {
    fn new(daemon: &Edgefilter) -> Result<Self> {
        Ok(Self {
            begin: Instant::now(),
            refused: refused(daemon)?,
        })
    }

    /// A step of which at least so many packets were refused.
    fn done(&mut self, daemon: &Edgefilter, what: &str, least: u64) -> Result<()> {
        std::thread::sleep(Duration::from_millis(100));
        let now = refused(daemon)?;
        let (took, packets) = (self.begin.elapsed(), now - self.refused);
        eprintln!("{what}: {} ms, {packets} packets refused", took.as_millis());
        let enough = packets >= least || !daemon.filtering();
        ensure!(enough, "{what}: {packets} refused instead of {least}");
        nobody(daemon).context(what.to_owned())?;
        (self.begin, self.refused) = (Instant::now(), now);
        Ok(())
    }
}

fn refused(daemon: &Edgefilter) -> Result<u64> {
    let counters = daemon.counters()?;
    Ok(counters.packets("drop_port") + counters.packets("drop_icmp"))
}

fn nobody(daemon: &Edgefilter) -> Result<()> {
    let list = blocks::blocks(daemon)?;
    ensure!(list.is_empty(), "blocked: {list:?}");
    Ok(())
}

fn all(outcome: &Outcome, count: u64) -> Result<()> {
    ensure!(
        outcome.answered == count && outcome.lost.is_empty(),
        "{outcome:?}"
    );
    Ok(())
}

/// Each of 50 users does what users do: uses the web server, and tries what a misled program tries.
fn masqueraded(arena: &Arena, nat: &Peer, web: SocketAddrV4) -> Result<()> {
    let users = nat.masquerade(&arena.edge.scratch, 50)?;
    let patience = Duration::from_millis(1200);
    std::thread::scope(|scope| {
        let knocks: Vec<_> = users
            .addresses
            .iter()
            .map(|user| {
                let at = &users.namespace;
                scope.spawn(move || visitors::knock(at, *user, *web.ip(), &HABITS, patience))
            })
            .collect();
        let visits = visitors::fetch(&users.namespace, &users.addresses, web, 500)?;
        for knock in knocks {
            let accepted = knock
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            ensure!(accepted == 0, "{accepted} closed ports accepted");
        }
        all(&visits, 500)
    })
}

/// What one host sends when a connection is over for us and not yet for it, or when somebody else used our address; and one
/// that tries the same port again and again. Returns how many packets there were.
fn strays(arena: &Arena, peer: &Peer) -> Result<u64> {
    let socket = PacketSocket::open(&arena.edge.client, "eth0")?;
    let target = arena.target()?;
    let link = link().macs(target.source_mac, target.destination_mac);
    let source: Ipv4Addr = peer.v4.parse()?;
    let from = || Ipv4::between(source, target.v4);
    let ephemeral = |number: u16| 33_000 + 50 * number;
    let mut frames = Vec::new();
    for number in 0..300 {
        let port = ephemeral(number);
        let data = Tcp::new(443, port, PSH | transport::ACK).payload(b"late");
        let quoted = Ipv4::between(target.v4, source).with(&Tcp::syn(port, 443));
        frames.push(from().with(&data));
        frames.push(from().with(&Tcp::syn_ack(443, port)));
        frames.push(from().with(&Tcp::new(443, port, RST)));
        frames.push(from().with(&Icmp::unreachable(1, &quoted.bytes())));
        frames.push(from().with(&Icmp::path_mtu(1400, &quoted.bytes())));
        frames.push(from().with(&Icmp::echo_reply(port)));
    }
    for number in 0..2000 {
        frames.push(from().with(&Tcp::syn(20_000 + number / 10, 5432)));
    }
    for (number, packet) in frames.iter().enumerate() {
        socket.send(&link.ipv4(packet))?;
        if number % 16 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(frames.len() as u64)
}

/// Kills the daemon and starts another one; every connection goes on.
fn restart(daemon: &mut Edgefilter, live: [Conversations; 2]) -> Result<()> {
    daemon.sigkill()?;
    std::thread::sleep(Duration::from_millis(500));
    daemon.start()?;
    let before = live.each_ref().map(Conversations::rounds);
    wait_until(Duration::from_secs(20), || {
        let now = live.each_ref().map(Conversations::rounds);
        now.iter()
            .zip(before)
            .all(|(now, before)| *now >= before + 3)
    })
    .context("not every conversation goes on")?;
    for one in live {
        let outcome = one.finish()?;
        ensure!(
            outcome.lost.is_empty() && outcome.answered >= 250,
            "{outcome:?}"
        );
    }
    Ok(())
}
