//! A stranger who forges a third party's address cannot take anything away from it that works: what it is allowed goes on, what we
//! ask of it is answered, and resolver, gateway and allowlisted groups are never blocked.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::topology::{CLIENT_OTHER_V4, CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Namespace, Peer, wait_until};
use edgefilter_tests::programs::echo::{Conversations, Echo, Outcome};
use edgefilter_tests::programs::floods::Flood;
use edgefilter_tests::programs::spoof::Blaster;
use edgefilter_tests::programs::{
    Edgefilter, Nginx, Resolver, Seen, Sink, blocks, dig, ping, probes, visitors,
};
use filter_user::scans::record::Verdict;

use crate::forgeries::Link;
use crate::scan_arena::{Arena, ECHO, WEB, about, address, blocked, policy, summary};
use crate::scan_flood::{DATAGRAMS, fetch_until};
use crate::support::{WORKS, alone, can_run};

/// Packets in the name of the third party that has a connection, and of each of the others.
const MILLION: u64 = 1_000_000;
const OTHERS: u64 = 250_000;

/// Those whose addresses are forged, beside the gateway (the topology's client).
struct Parties {
    /// Has working connections with the host, both ways.
    friend: Peer,
    /// Only the host asks it for something.
    stranger: Peer,
    resolver: Peer,
    /// In a group that a rule lets in.
    admin: Peer,
}

fn rules(parties: &Parties) -> String {
    format!(
        "{DATAGRAMS}
[[profiles.edge.allow]]
id = \"ssh\"
protocol = \"tcp\"
ports = 22
from = \"@admins\"
[groups.admins]
cidrs = [\"{}\"]
",
        parties.admin.v4
    )
}

/// Does something again and again until told to stop; how often it worked, and what was said when it did not.
fn again_until(
    stop: &AtomicBool,
    mut step: impl FnMut() -> Result<(Seen, String)>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    while !stop.load(Ordering::Relaxed) && outcome.lost.is_empty() {
        let (seen, words) = step()?;
        if seen == Seen::Works {
            outcome.answered += 1;
        } else {
            outcome.lost.push(words);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(outcome)
}

#[test]
fn forged_probes_take_nothing_away_from_the_third_party() -> Result<()> {
    if !can_run(&["nginx", "dnsmasq", "dig"]) {
        return Ok(());
    }
    let _turn = alone();
    let mut arena = Arena::build()?;
    let parties = Parties {
        friend: arena.peer("friend")?,
        stranger: arena.peer("stranger")?,
        resolver: arena.peer("resolver")?,
        admin: arena.peer("admin")?,
    };
    let (host, scratch) = (&arena.edge.host, &arena.edge.scratch);
    let _deaf = crate::spoofed::deaf(host)?;
    let _services = [
        Nginx::start(host, scratch, &[WEB])?,
        Nginx::start(&parties.friend.namespace, scratch, &[WEB])?,
        Nginx::start(&parties.stranger.namespace, scratch, &[WEB])?,
    ];
    let _resolver = Resolver::start(&parties.resolver.namespace)?;
    let _echo = [Echo::tcp(host, ECHO)?, Echo::tcp(host, 22)?];
    let policy = policy(&rules(&parties), "block_for = \"10m\"");
    let mut daemon = Edgefilter::prepare(host, scratch, &policy)?;
    daemon.resolvers(scratch, &[&parties.resolver.v4])?;
    daemon.start()?;

    let web = |to: &str| Ok::<_, anyhow::Error>(SocketAddrV4::new(to.parse()?, WEB));
    let once = visitors::fetch(&parties.friend.namespace, &[], web(HOST_V4)?, 5)?;
    ensure!(once.answered == 5, "before anything is forged: {once:?}");
    let talks = Conversations::tcp(&parties.friend.namespace, HOST_V4, ECHO, 10)?;

    let stop = AtomicBool::new(false);
    let (sent, outcomes) = std::thread::scope(|scope| {
        let fetching = |from: &'static str, client: &Namespace, to: Result<SocketAddrV4>| {
            let (client, stop) = (client.clone(), &stop);
            (from, scope.spawn(move || fetch_until(stop, &client, to?)))
        };
        let loops = vec![
            fetching(
                "the friend's requests",
                &parties.friend.namespace,
                web(HOST_V4),
            ),
            fetching("our requests to the friend", host, web(&parties.friend.v4)),
            fetching(
                "our requests to the stranger",
                host,
                web(&parties.stranger.v4),
            ),
            (
                "our questions to the resolver",
                scope.spawn(|| again_until(&stop, || dig(host, &parties.resolver.v4, false))),
            ),
            (
                "our pings of the gateway",
                scope.spawn(|| again_until(&stop, || ping(host, CLIENT_V4, 1))),
            ),
        ];
        let sent = forge_all(&arena, &daemon, &parties);
        // All of them once more after the last forged packet.
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let outcomes: Vec<_> = loops
            .into_iter()
            .map(|(name, thread)| {
                let done = thread.join();
                let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                (name, done)
            })
            .collect();
        (sent, outcomes)
    });
    sent?;
    let mut wrong = Vec::new();
    let talks = ("the friend's conversations", talks.finish());
    for (name, outcome) in outcomes.into_iter().chain([talks]) {
        let outcome = outcome.context(name)?;
        eprintln!(
            "{name}: {} answered, {:?} lost",
            outcome.answered, outcome.lost
        );
        if outcome.answered < 3 || !outcome.lost.is_empty() {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    wrong.extend(judge(&daemon, &parties)?);
    let (seen, words) = probes::tcp(&parties.admin.namespace, HOST_V4, 22, WORKS)?;
    if seen != Seen::Works {
        wrong.push(format!("the admin's new connection: {seen}: {words}"));
    }
    let anew = visitors::fetch(&parties.friend.namespace, &[], web(HOST_V4)?, 50)?;
    if anew.answered != 50 {
        wrong.push(format!("the friend's new connections: {anew:?}"));
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), daemon.log());
    Ok(())
}

/// Floods the host in the name of each.
fn forge_all(arena: &Arena, daemon: &Edgefilter, parties: &Parties) -> Result<()> {
    let sink = Sink::on_link(&arena.edge.host, "eth0")?;
    let blaster = Blaster::open(&arena.edge.client, "eth0")?;
    let target = arena.target()?;
    let truthful =
        Link::outside(&arena.edge)?.datagram(CLIENT_OTHER_V4.parse()?, HOST_V4.parse()?, (1, 0));
    for (name, source, count) in [
        ("the friend", parties.friend.v4.as_str(), MILLION),
        ("the stranger", &parties.stranger.v4, OTHERS),
        ("the resolver", &parties.resolver.v4, OTHERS),
        ("the gateway", CLIENT_V4, OTHERS),
        ("the admin", &parties.admin.v4, OTHERS),
    ] {
        let source: Ipv4Addr = source.parse()?;
        // The stack, not the filter, would have to answer them.
        let count = if daemon.filtering() { count } else { 20_000 };
        let mut flood = Flood::as_if_from(source, &target);
        let begin = Instant::now();
        let before = daemon.counters()?;
        blaster.flood(
            count,
            &truthful,
            |number, frame| flood.write(number, frame),
            || sink.count(1),
        )?;
        let took = begin.elapsed();
        eprintln!(
            "{count} packets in the name of {name} ({source}) in {:.1} s",
            took.as_secs_f64()
        );
        if !daemon.filtering() {
            continue;
        }
        let after = daemon.counters()?;
        let refused: u64 = ["drop_port", "drop_icmp"]
            .iter()
            .map(|reason| after.packets(reason) - before.packets(reason))
            .sum();
        ensure!(
            (count..count + 1000).contains(&refused),
            "{refused} refused: {:?}",
            after.by_reason()
        );
        // It was taken for a scan, so that whether its source is blocked is no accident.
        let address = source.into();
        wait_until(Duration::from_secs(3), || {
            let records = blocks::scans(daemon).unwrap_or_default();
            !about(&records, address).is_empty()
        })
        .with_context(|| format!("no record about {name}"))?;
    }
    sink.sound()
}

/// Nobody but the stranger may be blocked, and why not has to be said.
fn judge(daemon: &Edgefilter, parties: &Parties) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    if !daemon.filtering() {
        return Ok(wrong);
    }
    let records = blocks::scans(daemon)?;
    for (name, party) in [
        ("friend", parties.friend.v4.as_str()),
        ("resolver", &parties.resolver.v4),
        ("gateway", CLIENT_V4),
        ("admin", &parties.admin.v4),
        ("stranger", &parties.stranger.v4),
    ] {
        let source = address(party)?;
        let is_blocked = blocked(daemon, source)?;
        let found = about(&records, source);
        let [record] = found[..] else {
            bail!("{name}: {} records instead of one: {found:?}", found.len());
        };
        eprintln!("{name}: {}; {}", record.because, summary(record));
        if name == "stranger" {
            eprintln!("without a connection, by forgery: blocked {is_blocked}");
            continue;
        }
        if is_blocked || record.verdict != Verdict::Spared || record.because.is_empty() {
            wrong.push(format!("{name}: blocked {is_blocked}: {record:?}"));
        }
    }
    Ok(wrong)
}
