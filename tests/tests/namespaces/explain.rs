//! `edgefilter explain`: what it says of a frame is what then happens to this very frame on the wire, for every reason
//! there is; and asking leaves no trace.

use anyhow::{Context, Result, anyhow, bail, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4, INNER_V4, INNER_V6, SECOND_V4};
use edgefilter_tests::netns::{Edge, EdgeOptions, PacketSocket, hardware_address, wait_until};
use edgefilter_tests::packets::transport::{ACK, SYN};
use edgefilter_tests::packets::{Icmp, Ipv4, Link, Raw, Tcp, Udp, link};
use edgefilter_tests::programs::Edgefilter;
use filter_common::reason::Reason;
use serde_json::Value;

use crate::support::{WORKS, beside, can_run};

/// Whose way back leads out of eth0, and who may come.
const FAR: &str = "9.9.9.9";
const BAD: &str = "9.9.6.1";
const BLOCKED: &str = "9.9.7.7";

const POLICY: &str = r#"version = 1
[profiles.edge]
interfaces = ["eth0"]
antispoof = { reverse_path = "strict" }
[[profiles.edge.deny]]
id = "bad"
comment = "complaint 17"
from = ["9.9.6.0/24"]
[[profiles.edge.allow]]
id = "https"
protocol = "tcp"
ports = [443]
[[profiles.edge.allow]]
id = "partners"
protocol = "tcp"
ports = [8443]
from = ["9.9.8.0/24"]
[[profiles.edge.allow]]
id = "bulk"
protocol = "udp"
ports = [7000]
[[profiles.edge.allow]]
id = "dns"
protocol = "udp"
ports = [53]
rate = { packets = 1, burst = 1 }
[profiles.tagged]
interfaces = ["eth1"]
vlans = [5]
[profiles.pods]
interfaces = ["ctr0"]
[profiles.pods.containers]
bindings = "static"
[[profiles.pods.send]]
id = "pods-web"
protocol = "tcp"
ports = [80]
"#;

/// Attempts at catching a rate that is used up: the next packet of a second passes.
const ATTEMPTS: usize = 50;

/// A frame, and what becomes of it.
struct Case {
    reason: Reason,
    interface: &'static str,
    out: bool,
    frame: Vec<u8>,
    /// Sent right before.
    before: Vec<(Wire, Vec<u8>)>,
}

/// Where a frame is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Client,
    Host,
    Second,
    Inner,
}

struct Arena {
    daemon: Edgefilter,
    sockets: [PacketSocket; 4],
    edge: Edge,
}

impl Case {
    fn arriving(reason: Reason, frame: Vec<u8>) -> Self {
        Self {
            reason,
            interface: "eth0",
            out: false,
            frame,
            before: Vec::new(),
        }
    }

    fn after(self, wire: Wire, frame: Vec<u8>) -> Self {
        Self {
            before: vec![(wire, frame)],
            ..self
        }
    }

    fn wire(&self) -> Wire {
        match (self.interface, self.out) {
            (_, true) => Wire::Host,
            ("eth1", _) => Wire::Second,
            ("ctr0", _) => Wire::Inner,
            _ => Wire::Client,
        }
    }
}

impl Arena {
    fn start() -> Result<Self> {
        let edge = Edge::build(&EdgeOptions {
            second: true,
            ..EdgeOptions::default()
        })?;
        let policy = format!(
            "{POLICY}[[profiles.pods.containers.binding]]\ninterface = \"ctr0\"\naddresses = [\"{INNER_V4}\", \"{INNER_V6}\"]\n"
        );
        let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
        let second = edge.second.as_ref().context("no second peer")?;
        let sockets = [
            PacketSocket::open(&edge.client, "eth0")?,
            PacketSocket::open(&edge.host, "eth0")?,
            PacketSocket::open(second, "eth0")?,
            PacketSocket::open(&edge.inner, "eth0")?,
        ];
        Ok(Self {
            daemon,
            sockets,
            edge,
        })
    }

    fn send(&self, wire: Wire, frame: &[u8]) -> Result<()> {
        self.sockets[wire as usize].send(frame)
    }

    fn explain(&self, case: &Case) -> Result<Value> {
        let frame = hex(&case.frame);
        let mut words = vec![
            "explain",
            "--json",
            "--iface",
            case.interface,
            "--hex",
            &frame,
        ];
        if case.out {
            words.push("--out");
        }
        let said = self.daemon.cli(&words)?.require()?;
        Ok(serde_json::from_str(&said.stdout)?)
    }

    fn packets(&self, interface: &str, reason: Reason) -> Result<u64> {
        let counters = self.daemon.counters()?;
        let one = counters.interfaces.get(interface);
        let count = one.and_then(|one| one.reasons.get(reason.name()));
        Ok(count.map_or(0, |count| count.packets))
    }

    /// Whether explanation and wire agree on the case's reason; an error if they contradict each other.
    fn agrees(&self, case: &Case) -> Result<bool> {
        for (wire, frame) in &case.before {
            self.send(*wire, frame)?;
        }
        let (reason, name) = (case.reason, case.reason.name());
        let before = self.packets(case.interface, reason)?;
        let said = self.explain(case)?;
        if said["reason"] != name {
            return Ok(false);
        }
        let verdict = if reason.passes() { "pass" } else { "drop" };
        ensure!(said["verdict"] == verdict, "{name}: {said}");
        self.send(case.wire(), &case.frame)?;
        let moved = wait_until(WORKS, || {
            self.packets(case.interface, reason)
                .is_ok_and(|now| now > before)
        });
        Ok(moved.is_some())
    }
}

#[test]
fn what_is_explained_is_what_happens_for_every_reason() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let arena = Arena::start()?;
    if !arena.daemon.filtering() {
        return Ok(());
    }
    arena
        .daemon
        .cli(&["block", "add", BLOCKED, "--ttl", "1h"])?
        .require()?;
    let cases = cases(&arena.edge)?;
    let covered: Vec<Reason> = cases.iter().map(|case| case.reason).collect();
    for reason in Reason::ALL {
        ensure!(covered.contains(reason), "no case for {}", reason.name());
    }
    leaves_no_trace(&arena, &cases)?;
    for case in &cases {
        let mut attempts = if case.reason == Reason::DropRate {
            ATTEMPTS
        } else {
            1
        };
        while !arena.agrees(case)? {
            attempts -= 1;
            ensure!(
                attempts > 0,
                "{}: the wire shows otherwise, or it is explained as {}",
                case.reason.name(),
                arena.explain(case)?
            );
        }
    }
    names_what_decided(&arena, &cases)
}

/// What the daemon shows of packets: drops and rules that counted, sampled drops, scans.
type Traces = (Vec<(String, u64)>, Vec<(String, u64)>, Value, Value);

fn traces(arena: &Arena) -> Result<Traces> {
    let counters = arena.daemon.counters()?;
    let dropped = counters.by_reason().into_iter();
    let dropped = dropped.filter(|(name, _)| name.starts_with("drop_"));
    let rules = counters.rules.iter();
    let events = arena.daemon.cli(&["events", "--json"])?.require()?;
    let events: Value = serde_json::from_str(&events.stdout)?;
    let scans = arena.daemon.cli(&["scans", "--json"])?.require()?;
    let scans: Value = serde_json::from_str(&scans.stdout)?;
    Ok((
        dropped.map(|(name, count)| (name, count.packets)).collect(),
        rules
            .map(|(id, count)| (id.clone(), count.packets))
            .collect(),
        events["events"].clone(),
        scans["scans"].clone(),
    ))
}

/// Explains all of them, and looks at what the daemon shows: nothing of it was counted, sampled or taken for a scan. What
/// neighbours say by themselves when a link is new (MLD) may be counted meanwhile, but not each time.
fn leaves_no_trace(arena: &Arena, cases: &[Case]) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = traces(arena)?;
        for case in cases {
            arena.explain(case)?;
        }
        let after = traces(arena)?;
        if before == after {
            return Ok(());
        }
        seen.push((before, after));
    }
    bail!("counted: {seen:#?}")
}

/// The rule with its place, the block's end, the flow.
fn names_what_decided(arena: &Arena, cases: &[Case]) -> Result<()> {
    let said = |reason: Reason| -> Result<Value> {
        let case = cases.iter().find(|case| case.reason == reason);
        arena.explain(case.context("a case")?)
    };
    let denied = said(Reason::DropDenied)?;
    ensure!(denied["rule"]["id"] == "bad", "{denied}");
    ensure!(denied["rule"]["text"] == "complaint 17", "{denied}");
    ensure!(denied["rule"]["line"] == 5, "{denied}");
    ensure!(denied["profile"] == "edge", "{denied}");
    let blocked = said(Reason::DropBlocked)?;
    ensure!(blocked["source"]["blocked_until"].is_string(), "{blocked}");
    let reply = said(Reason::PassReply)?;
    ensure!(reply["flow"]["remote"] == CLIENT_V4, "{reply}");
    ensure!(reply["flow"]["local_port"] == 40000, "{reply}");
    let text = arena
        .daemon
        .cli(&["explain", "--iface", "eth0", "--from", FAR, "--tcp", "443"])?;
    let text = text.require()?.stdout;
    ensure!(text.starts_with("passes: pass_rule\n"), "{text}");
    ensure!(text.contains("rule      https ("), "{text}");
    let unknown = arena
        .daemon
        .cli(&["explain", "--iface", "eth9", "--from", FAR, "--tcp", "443"])?;
    ensure!(unknown.code() == 1, "{unknown:?}");
    Ok(())
}

#[test]
fn without_a_daemon_there_is_no_answer() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let daemon = Edgefilter::prepare(&edge.host, &edge.scratch, POLICY)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let said = daemon.cli(&["explain", "--iface", "eth0", "--from", FAR, "--tcp", "443"])?;
    ensure!(said.code() == 3, "{said:?}");
    Ok(())
}

fn cases(edge: &Edge) -> Result<Vec<Case>> {
    let host = hardware_address(&edge.host, "eth0")?;
    let client = hardware_address(&edge.client, "eth0")?;
    let inner = hardware_address(&edge.inner, "eth0")?;
    let gate = hardware_address(&edge.host, "ctr0")?;
    let second = edge.second.as_ref().context("no second peer")?;
    let eth1 = hardware_address(&edge.host, "eth1")?;
    let peer = hardware_address(second, "eth0")?;
    let wire = || link().macs(client, host);
    let web = |from: &str| wire().ipv4(&Ipv4::new(from, HOST_V4).with(&Tcp::syn(50000, 443)));
    let tcp =
        |from: &str, port| wire().ipv4(&Ipv4::new(from, HOST_V4).with(&Tcp::syn(50000, port)));
    let dns = || wire().ipv4(&Ipv4::new(FAR, HOST_V4).with(&Udp::new(5000, 53)));
    let asks = Ipv4::new(HOST_V4, CLIENT_V4).with(&Udp::new(40000, 5353));
    let asking = link().macs(host, client).ipv4(&asks);
    let answer = Ipv4::new(CLIENT_V4, HOST_V4).with(&Udp::new(5353, 40000));
    let error = Ipv4::new(CLIENT_V4, HOST_V4).with(&Icmp::unreachable(3, &asks.bytes()));
    let [first, later] = train(&wire(), 77)?;
    let [_, lost] = train(&wire(), 78)?;
    let from_inner = |from: &str, port| {
        let packet = Ipv4::new(from, CLIENT_V4).with(&Tcp::new(50000, port, SYN));
        link().macs(inner, gate).ipv4(&packet)
    };
    let mut cut = web(FAR);
    cut.truncate(14 + 10);
    let on_link = |reason, frame| Case {
        interface: "ctr0",
        ..Case::arriving(reason, frame)
    };
    let plain = Ipv4::new(SECOND_V4, "10.77.3.1").with(&Tcp::new(50000, 9, ACK));
    Ok(vec![
        Case::arriving(Reason::PassRule, web(FAR)),
        Case::arriving(Reason::PassReply, wire().ipv4(&answer)).after(Wire::Host, asking.clone()),
        Case::arriving(Reason::PassRelated, wire().ipv4(&error)).after(Wire::Host, asking.clone()),
        Case::arriving(Reason::PassControl, wire().arp_request(CLIENT_V4, HOST_V4)),
        Case::arriving(Reason::PassFragment, later).after(Wire::Client, first),
        Case {
            interface: "eth1",
            ..Case::arriving(Reason::PassUnmanaged, link().macs(peer, eth1).ipv4(&plain))
        },
        Case {
            out: true,
            ..Case::arriving(Reason::PassEgress, asking)
        },
        Case::arriving(Reason::DropMalformed, cut),
        Case::arriving(Reason::DropEthertype, wire().carry(0x88b5, &[0; 46])),
        Case::arriving(
            Reason::DropProtocol,
            wire().ipv4(&Ipv4::new(FAR, HOST_V4).with(&Raw::gre(&[0; 20]))),
        ),
        Case::arriving(
            Reason::DropIcmp,
            wire().ipv4(&Ipv4::new(FAR, HOST_V4).with(&Icmp::echo_request(7))),
        ),
        Case::arriving(Reason::DropFragment, lost),
        Case::arriving(Reason::DropMartian, web("240.0.0.1")),
        Case::arriving(Reason::DropOwnAddress, web("10.77.3.1")),
        Case::arriving(Reason::DropReversePath, web(SECOND_V4)),
        on_link(Reason::DropBinding, from_inner(FAR, 80)),
        Case::arriving(Reason::DropDenied, web(BAD)),
        Case::arriving(Reason::DropSource, tcp(FAR, 8443)),
        Case::arriving(Reason::DropPort, tcp(FAR, 81)),
        Case::arriving(Reason::DropBlocked, web(BLOCKED)),
        Case::arriving(Reason::DropRate, dns()).after(Wire::Client, dns()),
        on_link(Reason::DropSend, from_inner(INNER_V4, 25)),
    ])
}

/// A datagram to an open port in two fragments.
fn train(wire: &Link, id: u16) -> Result<[Vec<u8>; 2]> {
    let datagram = Udp::new(5000, 7000).payload(&[0; 1000]);
    let whole = Ipv4::new(FAR, HOST_V4).with(&datagram).id(id);
    let fragments = whole
        .fragments(600)
        .iter()
        .map(|one| wire.ipv4(one))
        .collect::<Vec<_>>();
    fragments
        .try_into()
        .map_err(|fragments: Vec<_>| anyhow!("{} fragments", fragments.len()))
}

fn hex(frame: &[u8]) -> String {
    let digits = frame.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
