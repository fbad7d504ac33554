//! Addresses and routes change under steady traffic, true and forged: the filter follows within a second, and what the
//! change does not concern is judged as ever.
//!
//! The host has two uplinks, both under strict reverse path, and a table of some thousand routes, so that reading them takes
//! its time.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::links::{Veth, add_address};
use edgefilter_tests::netns::topology::{
    CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, SECOND_V4, SECOND_V6,
};
use edgefilter_tests::netns::{Edge, EdgeOptions, Namespace, PacketSocket, hardware_address};
use edgefilter_tests::programs::{Edgefilter, Sink};

use crate::forgeries::Link;
use crate::spoofed::deaf;
use crate::support::{alone, can_run};
use crate::timeline::{Rule, Stream, Timeline};

/// The host's, and for a while the client's.
const MOVING: [&str; 2] = ["10.77.1.50", "fd77:1::50"];
/// Nobody's, then the host's.
const FRESH: [&str; 2] = ["10.77.1.60", "fd77:1::60"];
/// As FRESH, after duplicate address detection.
const DETECTED: &str = "fd77:1::70";
/// Never anybody's.
const NOBODY: [&str; 2] = ["10.77.1.77", "fd77:1::77"];
/// Somewhere far away, by whatever route.
const FAR: [&str; 2] = ["10.99.0.1", "fd99::1"];
const FAR_NETS: [&str; 2] = ["10.99.0.0/16", "fd99::/64"];
const OTHER: [&str; 2] = ["10.98.0.1", "fd98::1"];
const OTHER_NETS: [&str; 2] = ["10.98.0.0/16", "fd98::/64"];
/// Further routes of the host, which nobody uses.
const ROUTES: usize = 2000;

const POLICY: &str = "version = 1
[profiles.edge]
interfaces = [\"eth0\", \"eth1\"]
[profiles.edge.antispoof]
reverse_path = \"strict\"
[[profiles.edge.allow]]
id = \"open\"
protocol = \"udp\"
ports = [7002]
";

/// Whose addresses are, and by which uplinks, eth0 and eth1, there are routes.
#[derive(Clone, Copy, Debug)]
struct State {
    moving: bool,
    fresh: bool,
    /// Added; known not to be somebody else's.
    detected: (bool, bool),
    far: [bool; 2],
    other: [bool; 2],
}

const BEGIN: State = State {
    moving: true,
    fresh: false,
    detected: (false, false),
    far: [true, false],
    other: [true, false],
};

/// Where frames are sent from, by the number of the socket; they arrive at the sink of the same number.
const AT_CLIENT: usize = 0;
const AT_SECOND: usize = 1;
const AT_HOST: usize = 2;

/// A stream: where from, its name, its source, and when it should get through.
type Row = (usize, &'static str, &'static str, Rule<State>);

struct Arena {
    edge: Edge,
    second: Namespace,
    links: [Link; 3],
}

impl Arena {
    fn build() -> Result<Self> {
        let edge = Edge::build(&EdgeOptions {
            second: true,
            ..EdgeOptions::default()
        })?;
        let second = edge.second.clone().context("no second peer")?;
        let mac = |end: Veth<'_>| hardware_address(end.namespace, end.name);
        let host = |name| {
            mac(Veth {
                namespace: &edge.host,
                name,
            })
        };
        let peer = |namespace| {
            mac(Veth {
                namespace,
                name: "eth0",
            })
        };
        let (client, other) = (peer(&edge.client)?, peer(&second)?);
        let (eth0, eth1) = (host("eth0")?, host("eth1")?);
        let link = |sender, receiver| Link { sender, receiver };
        let links = [link(client, eth0), link(other, eth1), link(eth0, client)];
        for address in MOVING {
            add_address(&edge.host, "eth0", &with_length(address))?;
        }
        let mut batch = String::new();
        for n in 0..ROUTES {
            let (high, low) = (64 + n / 256, n % 256);
            // Writing to a string cannot fail.
            let _ = writeln!(
                batch,
                "route add 100.{high}.{low}.0/24 via {SECOND_V4} dev eth1 table 200"
            );
        }
        let file = edge.scratch.file("routes", batch)?;
        edge.host.run(&["ip", "-batch", &file.to_string_lossy()])?;
        Ok(Self {
            edge,
            second,
            links,
        })
    }

    fn stream(
        &self,
        at: usize,
        what: &str,
        source: &str,
        passes: Rule<State>,
    ) -> Result<Stream<State>> {
        let from: IpAddr = source.parse()?;
        let to = match (at, from.is_ipv4()) {
            (AT_HOST, true) => CLIENT_V4,
            (AT_HOST, false) => CLIENT_V6,
            (_, true) => HOST_V4,
            (_, false) => HOST_V6,
        };
        let (link, to) = (self.links[at], to.parse()?);
        Ok(Stream {
            name: format!("{what} {source}"),
            socket: at,
            sink: at,
            shape: Box::new(move |mark| link.datagram(from, to, mark)),
            passes,
        })
    }

    fn streams(&self) -> Result<Vec<Stream<State>>> {
        let mut list: Vec<Row> = vec![
            (AT_CLIENT, "loopback as source of", "127.0.0.2", |_| false),
            (AT_CLIENT, "detected", DETECTED, |state| !state.detected.1),
            (AT_HOST, "leaving, detected", DETECTED, |state| {
                state.detected.0
            }),
        ];
        for version in 0..2 {
            let [client, host, second] = [
                [CLIENT_V4, CLIENT_V6],
                [HOST_V4, HOST_V6],
                [SECOND_V4, SECOND_V6],
            ]
            .map(|both| both[version]);
            list.extend::<[Row; 15]>([
                (AT_CLIENT, "client", client, |_| true),
                (AT_CLIENT, "host's own", host, |_| false),
                (AT_CLIENT, "second by eth0", second, |_| false),
                (AT_CLIENT, "moving", MOVING[version], |state| !state.moving),
                (AT_CLIENT, "fresh", FRESH[version], |state| !state.fresh),
                (AT_CLIENT, "far by eth0", FAR[version], |state| state.far[0]),
                (AT_CLIENT, "other by eth0", OTHER[version], |state| {
                    state.other[0]
                }),
                (AT_SECOND, "second", second, |_| true),
                (AT_SECOND, "client by eth1", client, |_| false),
                (AT_SECOND, "far by eth1", FAR[version], |state| state.far[1]),
                (AT_SECOND, "other by eth1", OTHER[version], |state| {
                    state.other[1]
                }),
                (AT_HOST, "leaving, own", host, |_| true),
                (AT_HOST, "leaving, nobody's", NOBODY[version], |_| false),
                (AT_HOST, "leaving, moving", MOVING[version], |state| {
                    state.moving
                }),
                (AT_HOST, "leaving, fresh", FRESH[version], |state| {
                    state.fresh
                }),
            ]);
        }
        list.into_iter()
            .map(|(at, what, source, passes)| self.stream(at, what, source, passes))
            .collect()
    }

    /// Adds addresses to the host or deletes them.
    fn addresses(namespace: &Namespace, verb: &str, addresses: [&str; 2]) -> Result<()> {
        for address in addresses {
            let address = with_length(address);
            if verb == "add" {
                add_address(namespace, "eth0", &address)?;
            } else {
                namespace.run(&["ip", "address", verb, &address, "dev", "eth0"])?;
            }
        }
        Ok(())
    }

    /// Runs `ip` with `words` on the host, once for each version; `{}` stands for the prefix, `{0}` and `{1}` for the
    /// neighbours on the uplinks.
    fn routes(&self, nets: [&str; 2], words: &[&str]) -> Result<()> {
        for (version, net) in ["-4", "-6"].into_iter().zip(nets) {
            let (client, second) = match version {
                "-4" => (CLIENT_V4, SECOND_V4),
                _ => (CLIENT_V6, SECOND_V6),
            };
            let mut line = vec!["ip", version];
            line.extend(words.iter().map(|word| match *word {
                "{}" => net,
                "{0}" => client,
                "{1}" => second,
                same => same,
            }));
            self.edge.host.run(&line)?;
        }
        Ok(())
    }

    fn forwarding(&self, value: &str) -> Result<()> {
        self.edge.host.sysctls(&[
            ("net/ipv4/ip_forward", value),
            ("net/ipv6/conf/all/forwarding", value),
        ])
    }

    fn own_addresses(&self, timeline: &mut Timeline<State>) -> Result<()> {
        let (host, client) = (&self.edge.host, &self.edge.client);
        let gone = State {
            moving: false,
            ..BEGIN
        };
        timeline.change("an own address moves to the client", gone, || {
            Self::addresses(host, "del", MOVING)?;
            Self::addresses(client, "add", MOVING)
        })?;
        Timeline::<State>::settle();
        timeline.change("it comes back", BEGIN, || {
            Self::addresses(client, "del", MOVING)?;
            Self::addresses(host, "add", MOVING)
        })?;
        Timeline::<State>::settle();
        let fresh = State {
            fresh: true,
            ..BEGIN
        };
        timeline.change("a new own address", fresh, || {
            Self::addresses(host, "add", FRESH)
        })?;
        Timeline::<State>::settle();
        timeline.change("it is deleted", BEGIN, || {
            Self::addresses(host, "del", FRESH)
        })?;
        Timeline::<State>::settle();
        Ok(())
    }

    fn detection(&self, timeline: &mut Timeline<State>) -> Result<()> {
        let host = &self.edge.host;
        host.sysctls(&[("net/ipv6/conf/eth0/accept_dad", "1")])?;
        let address = with_length(DETECTED);
        let added = State {
            detected: (true, false),
            ..BEGIN
        };
        timeline.change(
            "an own address under duplicate address detection",
            added,
            || {
                host.run(&["ip", "address", "add", &address, "dev", "eth0"])
                    .map(drop)
            },
        )?;
        let since = Instant::now();
        let mut last = since;
        while tentative(host)? {
            last = Instant::now();
            ensure!(
                since.elapsed() < Duration::from_secs(5),
                "{DETECTED} stays tentative"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        ensure!(last > since, "{DETECTED} was never tentative");
        let done = State {
            detected: (true, true),
            ..BEGIN
        };
        timeline.note("nobody else has it", done, (last, Instant::now()));
        Timeline::<State>::settle();
        timeline.change("it is deleted as well", BEGIN, || {
            host.run(&["ip", "address", "del", &address, "dev", "eth0"])
                .map(drop)
        })?;
        Timeline::<State>::settle();
        Ok(())
    }

    fn route_changes(&self, timeline: &mut Timeline<State>) -> Result<()> {
        let default = ["default", "default"];
        let far = |far| State { far, ..BEGIN };
        let moved = State {
            far: [false, true],
            other: [false, true],
            ..BEGIN
        };
        let by_eth1 = ["route", "replace", "{}", "via", "{1}", "dev", "eth1"];
        let delete = ["route", "del", "{}"];
        timeline.change("the default route moves to eth1", moved, || {
            self.routes(default, &by_eth1)
        })?;
        Timeline::<State>::settle();
        timeline.change("and back", BEGIN, || {
            self.routes(
                default,
                &["route", "replace", "{}", "via", "{0}", "dev", "eth0"],
            )
        })?;
        Timeline::<State>::settle();
        timeline.change("a more specific route by eth1", far([false, true]), || {
            self.routes(FAR_NETS, &by_eth1)
        })?;
        Timeline::<State>::settle();
        timeline.change("it is deleted", BEGIN, || self.routes(FAR_NETS, &delete))?;
        Timeline::<State>::settle();
        timeline.change("a multipath route by both", far([true, true]), || {
            let words = [
                "route", "add", "{}", "nexthop", "via", "{0}", "dev", "eth0", "nexthop", "via",
                "{1}", "dev", "eth1",
            ];
            self.routes(FAR_NETS, &words)
        })?;
        Timeline::<State>::settle();
        timeline.change("it is deleted", BEGIN, || self.routes(FAR_NETS, &delete))?;
        Timeline::<State>::settle();
        let rule = |verb| self.routes(FAR_NETS, &["rule", verb, "fwmark", "1", "table", "100"]);
        timeline.change(
            "a route by eth1 in a second table",
            far([true, true]),
            || {
                rule("add")?;
                let words = [
                    "route", "add", "{}", "via", "{1}", "dev", "eth1", "table", "100",
                ];
                self.routes(FAR_NETS, &words)
            },
        )?;
        Timeline::<State>::settle();
        timeline.change("it is deleted", BEGIN, || {
            rule("del")?;
            self.routes(FAR_NETS, &["route", "flush", "table", "100"])
        })?;
        Timeline::<State>::settle();
        // The daemon has just read all routes for the first one when the second comes.
        let first = State {
            other: [false, true],
            ..BEGIN
        };
        timeline.change("one route", first, || self.routes(OTHER_NETS, &by_eth1))?;
        std::thread::sleep(Duration::from_millis(60));
        timeline.change("another soon after", moved, || {
            self.routes(FAR_NETS, &by_eth1)
        })?;
        Timeline::<State>::settle();
        timeline.change("one is deleted", far([false, true]), || {
            self.routes(OTHER_NETS, &delete)
        })?;
        std::thread::sleep(Duration::from_millis(60));
        timeline.change("the other soon after", BEGIN, || {
            self.routes(FAR_NETS, &delete)
        })?;
        Timeline::<State>::settle();
        Ok(())
    }
}

fn with_length(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 64 } else { 24 })
}

/// Whether the kernel is still finding out if somebody else has it.
fn tentative(namespace: &Namespace) -> Result<bool> {
    // linux/if_addr.h
    const IFA_F_TENTATIVE: u32 = 0x40;
    let address: Ipv6Addr = DETECTED.parse()?;
    let digits = format!("{:032x}", address.to_bits());
    // Not /proc/net: that is the network of the process, not of the thread.
    let table =
        namespace.inside(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"))??;
    let line = table.lines().find(|line| line.starts_with(&digits));
    let flags = line.and_then(|line| line.split_whitespace().nth(4));
    let flags = flags.with_context(|| format!("{DETECTED} is not in {table}"))?;
    Ok(u32::from_str_radix(flags, 16)? & IFA_F_TENTATIVE != 0)
}

#[test]
fn changes_of_addresses_and_routes_are_followed_within_a_second() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let begin = Instant::now();
    let arena = Arena::build()?;
    let (client, host) = (&arena.edge.client, &arena.edge.host);
    let _deaf = [deaf(host)?, deaf(client)?];
    let daemon = Edgefilter::enable(host, &arena.edge.scratch, POLICY)?;
    let sinks = [
        Sink::on_link(host, "eth0")?,
        Sink::on_link(host, "eth1")?,
        Sink::on_link(client, "eth0")?,
    ];
    let sockets = vec![
        PacketSocket::open(client, "eth0")?,
        PacketSocket::open(&arena.second, "eth0")?,
        PacketSocket::open(host, "eth0")?,
    ];
    let mut timeline = Timeline::start(BEGIN, sockets, arena.streams()?);
    std::thread::sleep(Duration::from_millis(200));
    arena.own_addresses(&mut timeline)?;
    arena.route_changes(&mut timeline)?;
    for (name, value) in [("forwarding off", "0"), ("forwarding on", "1")] {
        timeline.change(name, BEGIN, || arena.forwarding(value))?;
        Timeline::<State>::settle();
    }
    arena.detection(&mut timeline)?;
    timeline
        .judge(&sinks, daemon.filtering())
        .with_context(|| daemon.log())?;
    eprintln!("{:.1} s in all", begin.elapsed().as_secs_f64());
    Ok(())
}
