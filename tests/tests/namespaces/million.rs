//! A million prefixes are pushed, beside `nft -f` with the same set, and one more is let in by an entry. A campaign of its
//! own, since it measures, with a release build in EDGEFILTER_BIN:
//! `cargo test -p tests --test namespaces million -- --ignored --nocapture`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Edge, PacketSocket, finish};
use edgefilter_tests::programs::{Edgefilter, Memory, Sink};
use fastrand::Rng;

use crate::forgeries::{Link, datagram};
use crate::support::{allow, alone, can_run};

const PREFIXES: usize = 1_000_000;
const ENTRIES: u16 = 50;
/// Goals: the share of nft's time, what daemon and maps may take, and the time of an entry.
const SHARE: f64 = 0.2;
const MEMORY: u64 = 256 << 20;
const ENTRY: Duration = Duration::from_millis(5);

fn prefixes() -> Vec<String> {
    let mut random = Rng::with_seed(1);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < PREFIXES {
        // /24s of unicast space outside the ranges that are never seen from outside
        seen.insert(random.u32(0x0b_0000..0x9f_0000) << 8);
    }
    let nets = seen.into_iter().map(Ipv4Addr::from_bits);
    nets.map(|net| format!("{net}/24")).collect()
}

#[test]
#[ignore = "measures: to be run alone, in a release build"]
fn a_million_prefixes_are_pushed() -> Result<()> {
    if !can_run(&["nft"]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &allow("tcp", &[22]))?;
    if !daemon.filtering() {
        return Ok(());
    }
    let list = prefixes();
    edge.scratch.file("million.txt", list.join("\n") + "\n")?;
    let policy = edge.scratch.file(
        "million.toml",
        "version = 1\n[groups.million]\nfiles = [\"million.txt\"]\n[profiles.edge]\ninterfaces = [\"eth0\"]\n\
         [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"@million\"]\n",
    )?;
    let begin = Instant::now();
    daemon
        .cli(&["apply", &policy.to_string_lossy()])?
        .require()?;
    let apply = begin.elapsed();
    let Memory { peak, maps, .. } = Memory::of(daemon.pid().context("no daemon")?)?;

    // auto-merge: lists that people keep overlap, and ours are aggregated as well
    let mut text = String::from(
        "table netdev many { set many { type ipv4_addr; flags interval; auto-merge; elements = { ",
    );
    // Writing to a string cannot fail.
    let _ = write!(text, "{} }} }}\n}}\n", list.join(", "));
    let file = edge.scratch.file("million.nft", text)?;
    let mut command = edge.client.command("nft");
    command.arg("-f").arg(file);
    let begin = Instant::now();
    finish(command, Duration::from_mins(5))?.require()?;
    let nft = begin.elapsed();

    let sink = Sink::on_link(&edge.host, "eth0")?;
    let socket = PacketSocket::open(&edge.client, "eth0")?;
    let link = Link::outside(&edge)?;
    let run_dir = daemon.run_dir()?.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut times = Vec::new();
    for round in 0..ENTRIES {
        let port = 10_000 + round;
        let order = serde_json::from_value(serde_json::json!({
            "kind": "allow", "source": CLIENT_V4, "ports": [format!("udp/{port}")], "comment": "incident 7",
        }))?;
        let begin = Instant::now();
        runtime.block_on(filter_user::control::add_entry(&run_dir, &order))?;
        times.push(begin.elapsed());
        let (client, host) = (CLIENT_V4.parse()?, HOST_V4.parse()?);
        let mark = u32::from(round) + 1;
        socket.send(&datagram(&link, client, host, port, (mark, 0)))?;
        let begin = Instant::now();
        while sink.count(mark)? == 0 {
            ensure!(
                begin.elapsed() < Duration::from_secs(2),
                "the packet after entry {round} did not pass"
            );
        }
    }
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "{PREFIXES} prefixes: apply {apply:.2?}, nft -f {nft:.2?}, ratio {:.3}; daemon at most {} MiB, its maps {} MiB; an \
         entry: median {median:.2?}, most {most:.2?} of {ENTRIES}",
        apply.as_secs_f64() / nft.as_secs_f64(),
        peak >> 20,
        maps >> 20
    );
    ensure!(apply.as_secs_f64() <= nft.as_secs_f64() * SHARE, "too slow");
    ensure!(peak + maps < MEMORY, "too much memory");
    ensure!(median < ENTRY, "an entry takes {median:?}");
    daemon.terminate()
}
