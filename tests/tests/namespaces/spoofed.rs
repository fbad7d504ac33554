//! Forged sources from outside never get past the filter; true ones between them always do.
//!
//! Of each kind as many packets as EDGEFILTER_PACKETS says, 100,000 unless it is set, are sent in turns with as many true
//! ones. They are counted behind the filter in two places: on the interface itself, where nothing but the filter has judged
//! them yet, and in raw sockets of the stack.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Edge, EdgeOptions, Namespace};
use edgefilter_tests::programs::spoof::Blaster;
use edgefilter_tests::programs::{Edgefilter, Sink};

use crate::forgeries::{self, Kind, Link, PORT, UNROUTED};
use crate::interfaces::reload;
use crate::support::{alone, can_run};

/// The host, the peers, and who counts.
pub struct Arena {
    pub edge: Edge,
    pub daemon: Edgefilter,
    link: Link,
    blaster: Blaster,
    on_link: Sink,
    in_stack: Sink,
    _deaf: UdpSocket,
    next: u32,
}

/// A policy that allows the datagrams, with `lines` about forged sources, and a container link with a known binding.
pub fn policy(lines: &str) -> String {
    format!(
        "version = 1
[profiles.edge]
interfaces = [\"eth0\"]
[profiles.edge.antispoof]
{lines}
[[profiles.edge.allow]]
id = \"open\"
protocol = \"udp\"
ports = [{PORT}]
[profiles.side]
interfaces = [\"eth1\"]
default = \"pass\"
[profiles.inner]
interfaces = [\"ctr0\"]
default = \"pass\"
[profiles.inner.containers]
bindings = \"static\"
[[profiles.inner.containers.binding]]
interface = \"ctr0\"
addresses = [\"10.77.2.2\", \"fd77:2::2\"]
"
    )
}

impl Arena {
    pub fn build(lines: &str) -> Result<Self> {
        let edge = Edge::build(&EdgeOptions {
            second: true,
            ..EdgeOptions::default()
        })?;
        for prefix in UNROUTED {
            edge.host
                .run(&["ip", "route", "add", "unreachable", prefix])?;
        }
        Ok(Self {
            _deaf: deaf(&edge.host)?,
            link: Link::outside(&edge)?,
            blaster: Blaster::open(&edge.client, "eth0")?,
            on_link: Sink::on_link(&edge.host, "eth0")?,
            in_stack: Sink::in_stack(&edge.host)?,
            daemon: Edgefilter::enable(&edge.host, &edge.scratch, &policy(lines))?,
            edge,
            next: 0,
        })
    }

    /// Sends each kind and checks that none of it got through, or all of it without a filter.
    fn check(&mut self, kinds: &[Kind]) -> Result<usize> {
        let mut sent = Vec::new();
        for kind in kinds {
            let forged = self.next;
            self.next += 2;
            self.one(kind, forged)
                .with_context(|| format!("{}: {}", kind.name, self.daemon.log()))?;
            sent.push((kind, forged));
        }
        // What was still on its way when a kind was counted would show by now.
        self.on_link.settle()?;
        self.in_stack.settle()?;
        for (kind, forged) in sent {
            self.counted(kind, forged)
                .with_context(|| format!("{}, counted again", kind.name))?;
        }
        Ok(kinds.len())
    }

    fn one(&self, kind: &Kind, forged: u32) -> Result<()> {
        let frames = (
            kind.forged(&self.link, (forged, 0))?,
            kind.truthful(&self.link, (forged + 1, 0))?,
        );
        let before = self.daemon.counters()?;
        let begin = Instant::now();
        self.blaster
            .interleave(&frames.0, &frames.1, packets()?, || {
                let on_link = self.on_link.count(forged + 1)?;
                Ok(on_link.min(self.in_stack.count(forged + 1)?))
            })?;
        let took = begin.elapsed();
        self.counted(kind, forged)?;
        eprintln!(
            "{}: {} forged: {} got by the filter, {} to raw sockets; as many true: all; {} ms",
            kind.name,
            packets()?,
            self.on_link.count(forged)?,
            self.in_stack.count(forged)?,
            took.as_millis()
        );
        if !self.daemon.filtering() {
            return Ok(());
        }
        let after = self.daemon.counters()?;
        let mut expected = vec![(
            "rule open",
            packets()?,
            after.rule("open") - before.rule("open"),
        )];
        if let Some((reason, row)) = kind.counted {
            let drops = after.packets(reason) - before.packets(reason);
            expected.push((reason, packets()?, drops));
            expected.push((row, packets()?, after.rule(row) - before.rule(row)));
        } else {
            expected[0].1 *= 2;
        }
        for (what, sent, counted) in expected {
            ensure!(
                counted == sent,
                "{what}: {counted} counted, {sent} sent; in all: {:?}",
                after.by_reason()
            );
        }
        Ok(())
    }

    fn counted(&self, kind: &Kind, forged: u32) -> Result<()> {
        let passes = kind.counted.is_none() || !self.daemon.filtering();
        let expected = if passes { packets()? } else { 0 };
        let seen = self.on_link.count(forged)?;
        ensure!(
            seen == expected,
            "{seen} forged packets got past the filter, {expected} expected"
        );
        // Without a filter the kernel itself drops some kinds behind the interface.
        let seen = self.in_stack.count(forged)?;
        ensure!(
            seen <= expected,
            "{seen} forged packets reached a raw socket, {expected} expected"
        );
        for sink in [&self.on_link, &self.in_stack] {
            sink.sound()?;
            let seen = sink.count(forged + 1)?;
            ensure!(seen == packets()?, "{seen} true packets of {}", packets()?);
        }
        Ok(())
    }

    /// Puts other lines about forged sources in force.
    fn change(&mut self, lines: &str) -> Result<()> {
        if self.daemon.filtering() {
            reload(&mut self.daemon, &policy(lines))?;
        }
        Ok(())
    }

    fn forwarding(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.edge.host.sysctls(&[
            ("net/ipv4/ip_forward", value),
            ("net/ipv6/conf/all/forwarding", value),
        ])?;
        // The routes IPv6 takes back with it are put in place by the kernel at once; the daemon has to see them.
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }
}

/// A socket that takes datagrams and never reads them, so that the host answers none by ICMP.
pub fn deaf(namespace: &Namespace) -> Result<UdpSocket> {
    Ok(namespace.inside(|| UdpSocket::bind(("::", PORT)))??)
}

/// Packets of each kind.
pub fn packets() -> Result<u64> {
    match std::env::var("EDGEFILTER_PACKETS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("EDGEFILTER_PACKETS is no number: {text:?}")),
        Err(_) => Ok(100_000),
    }
}

#[test]
fn no_forged_source_gets_in_and_every_true_one_does() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let begin = Instant::now();
    // Two hosts that know nothing of each other, one a processor.
    let kinds = std::thread::scope(|scope| {
        let one = scope.spawn(impossible_sources);
        let other = scope.spawn(sources_of_others);
        [one, other].into_iter().try_fold(0, |sum, thread| {
            let kinds = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            anyhow::Ok(sum + kinds)
        })
    })?;
    eprintln!("{kinds} kinds in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn impossible_sources() -> Result<usize> {
    let mut arena = Arena::build("")?;
    arena.check(&forgeries::martians()?)
}

fn sources_of_others() -> Result<usize> {
    let mut arena = Arena::build("")?;
    let mut kinds = arena.check(&forgeries::own()?)?;
    // The client's own addresses are private ones as well, and legitimate.
    arena.change("internet = true\nlegitimate = [\"10.77.1.0/24\", \"fd77:1::/64\"]")?;
    kinds += arena.check(&forgeries::private()?)?;
    for forwarding in [true, false] {
        arena.forwarding(forwarding)?;
        for (mode, strict) in [("strict", true), ("loose", false)] {
            eprintln!("-- reverse path {mode}, forwarding {forwarding}");
            arena.change(&format!("reverse_path = \"{mode}\""))?;
            kinds += arena.check(&forgeries::unroutable(strict)?)?;
        }
    }
    Ok(kinds)
}
