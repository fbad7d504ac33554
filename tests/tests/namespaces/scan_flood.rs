//! A flood of random sources: a real scan beneath it is recognised, memory stays where it was, and allowed traffic loses
//! nothing.
//!
//! EDGEFILTER_FLOOD sets the number of forged packets, 10,000,000 unless it is set.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_OTHER_V4, CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Namespace, Peer};
use edgefilter_tests::programs::echo::Outcome;
use edgefilter_tests::programs::floods::Flood;
use edgefilter_tests::programs::scan::nmap_as_typed;
use edgefilter_tests::programs::spoof::Blaster;
use edgefilter_tests::programs::{Edgefilter, Nginx, Sink, blocks, visitors};
use filter_user::scans::record::Verdict;

use crate::forgeries::{Link, PORT};
use crate::scan_arena::{Arena, WEB, about, address, policy, summary};
use crate::support::{alone, can_run};

/// A rule for the true datagrams in the flood.
pub const DATAGRAMS: &str = "[[profiles.edge.allow]]
id = \"datagrams\"
protocol = \"udp\"
ports = [7002]
";

/// What the daemon may grow by: its tables of sources are bounded, and not full before the flood.
const GROWTH: u64 = 16 << 20;

fn packets(daemon: &Edgefilter) -> Result<u64> {
    match std::env::var("EDGEFILTER_FLOOD") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("EDGEFILTER_FLOOD is no number: {text:?}")),
        // The stack, not the filter, would have to cope with them.
        Err(_) if !daemon.filtering() => Ok(50_000),
        // EDGEFILTER_FLOOD=10000000 for the whole of it
        Err(_) => Ok(3_000_000),
    }
}

/// Fetches again and again until told to stop; on a thread of its own.
pub fn fetch_until(stop: &AtomicBool, from: &Namespace, to: SocketAddrV4) -> Result<Outcome> {
    let mut all = Outcome::default();
    while !stop.load(Ordering::Relaxed) && all.lost.is_empty() {
        let some = visitors::fetch(from, &[], to, 20)?;
        all.answered += some.answered;
        all.lost.extend(some.lost);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(all)
}

#[test]
fn beneath_a_flood_of_random_sources_a_scan_is_seen_and_nothing_allowed_is_lost() -> Result<()> {
    if !can_run(&["nmap", "nginx"]) {
        return Ok(());
    }
    let _turn = alone();
    let mut arena = Arena::build()?;
    let (visitor, scanner) = (arena.peer("visitor")?, arena.peer("scanner")?);
    let _deaf = crate::spoofed::deaf(&arena.edge.host)?;
    let _web = Nginx::start(&arena.edge.host, &arena.edge.scratch, &[WEB])?;
    let policy = policy(DATAGRAMS, "block_for = \"10m\"");
    let daemon = Edgefilter::enable(&arena.edge.host, &arena.edge.scratch, &policy)?;

    // Whatever is made when the first of its kind comes is there before memory is looked at.
    beneath(
        &arena,
        &daemon,
        &visitor,
        None,
        packets(&daemon)?.min(500_000),
    )?;
    let memory = Memory::of(&daemon)?;
    let count = packets(&daemon)?;
    beneath(&arena, &daemon, &visitor, Some(&scanner), count)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let later = Memory::of(&daemon)?;
    eprintln!("memory before {memory:?}, after {later:?}");
    ensure!(
        later.maps == memory.maps && later.resident <= memory.resident + GROWTH,
        "memory grew from {memory:?} to {later:?}"
    );

    let records = blocks::scans(&daemon)?;
    let source = address(&scanner.v4)?;
    let found = about(&records, source);
    for record in &found {
        eprintln!("{}", summary(record));
    }
    ensure!(
        found.len() == 1 && (found[0].verdict == Verdict::Blocked || found[0].shed),
        "the scan beneath: {found:?}"
    );
    ensure!(
        records.len() == 1,
        "random sources were taken for scanners: {:?}",
        records.iter().map(summary).collect::<Vec<_>>()
    );
    let list = blocks::blocks(&daemon)?;
    let foreign = list.iter().filter(|block| !block.source.contains(&source));
    ensure!(foreign.count() == 0, "blocked: {list:?}");
    Ok(())
}

/// A flood, with a visitor and perhaps a scanner beside it.
fn beneath(
    arena: &Arena,
    daemon: &Edgefilter,
    visitor: &Peer,
    scanner: Option<&Peer>,
    count: u64,
) -> Result<()> {
    let sink = Sink::on_link(&arena.edge.host, "eth0")?;
    let blaster = Blaster::open(&arena.edge.client, "eth0")?;
    let mut flood = Flood::random_sources(&arena.target()?);
    let link = Link::outside(&arena.edge)?;
    let truthful = link.datagram(CLIENT_OTHER_V4.parse()?, HOST_V4.parse()?, (1, 0));
    let web = SocketAddrV4::new(HOST_V4.parse()?, WEB);
    let before = daemon.counters()?;
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let (flooded, visits, scanned) = std::thread::scope(|scope| {
        let visits = scope.spawn(|| fetch_until(&stop, &visitor.namespace, web));
        let scan = scanner.map(|scanner| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                let typed = format!("-sS -Pn -T4 --max-retries 0 -p 1-100 {HOST_V4}");
                nmap_as_typed(&scanner.namespace, &typed)?.wait(Duration::from_mins(1))
            })
        });
        let flooded = blaster.flood(
            count,
            &truthful,
            |number, frame| flood.write(number, frame),
            || sink.count(1),
        );
        let took = begin.elapsed();
        let scanned = scan.map(std::thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        (flooded.map(|sent| (sent, took)), visits.join(), scanned)
    });
    let (true_ones, took) = flooded?;
    let visits = visits.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    if let Some(scanned) = scanned {
        scanned
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
            .require()?;
    }
    sink.sound()?;
    eprintln!(
        "{count} forged packets from {CLIENT_V4}'s side in {:.1} s ({:.0} a second), {true_ones} true ones among them, all \
         arrived; {} requests answered beside them, {} not",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        visits.answered,
        visits.lost.len()
    );
    ensure!(
        visits.lost.is_empty() && visits.answered > 0,
        "visits: {visits:?}"
    );
    if daemon.filtering() {
        let after = daemon.counters()?;
        let refused = after.packets("drop_port") - before.packets("drop_port");
        // A scan's probes come on top.
        ensure!(
            (count..count + 1000).contains(&refused),
            "{refused} packets refused as drop_port, {count} were sent: {:?}",
            after.by_reason()
        );
        let passed = after.rule("datagrams") - before.rule("datagrams");
        ensure!(passed == true_ones, "{passed} true ones, port {PORT}");
    }
    Ok(())
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// Of the daemon's process.
    resident: u64,
    /// Of all BPF maps that it holds.
    maps: u64,
}

impl Memory {
    /// Nothing without a filter.
    fn of(daemon: &Edgefilter) -> Result<Self> {
        let Some(process) = daemon.pid() else {
            return Ok(Self {
                resident: 0,
                maps: 0,
            });
        };
        let process = std::path::PathBuf::from(format!("/proc/{process}"));
        let status = std::fs::read_to_string(process.join("status"))?;
        let kib = number(&status, "VmRSS:").context("a process without VmRSS")?;
        let mut maps = 0;
        for entry in std::fs::read_dir(process.join("fdinfo"))? {
            // One that was closed meanwhile is no map.
            let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
            if text.contains("map_type:") {
                maps += number(&text, "memlock:").context("a map without memlock")?;
            }
        }
        ensure!(maps > 0, "the daemon holds no maps");
        Ok(Self {
            resident: kib << 10,
            maps,
        })
    }
}

/// The number behind `key` in the lines of a file of /proc.
fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}
