//! The tools people forge sources with, against a host with the filter: of what they send, exactly that with their own
//! source gets to a raw socket behind the filter, and leaves a host that they run on.
//!
//! Each tool runs twice, without the filter first: what does not arrive then proves nothing.

use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{
    CLIENT_OTHER_V4, CLIENT_OTHER_V6, CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, INNER_V4, INNER_V6,
};
use edgefilter_tests::netns::{Edge, Namespace, hardware_address};
use edgefilter_tests::programs::spoof::{has_scapy, hping3, nmap, scapy};
use edgefilter_tests::programs::{Edgefilter, Sink, marker};

use crate::containers_forgeries::STRANGER;
use crate::forgeries::PORT;
use crate::spoofed::{deaf, policy};
use crate::support::{alone, can_run, skip};

/// Datagrams of one run of hping3.
const COUNT: u64 = 4;

/// One run of a tool, with the packets it sends.
struct Tool {
    name: &'static str,
    /// On the host, against the client; else the other way round.
    leaving: bool,
    truthful: u64,
    forged: u64,
    run: Run,
}

enum Run {
    /// `--spoof` with this source.
    Hping3(&'static str),
    /// Options of nmap, and the target.
    Nmap(&'static [&'static str], &'static str),
    /// A script; `mac` and `kind` are known there.
    Scapy(&'static str),
}

/// True ones first, so that each tool is known to get through with its own source.
#[rustfmt::skip]
fn tools() -> Vec<Tool> {
    use Run::{Hping3, Nmap, Scapy};
    let arriving = |name, truthful, forged, run| Tool { name, leaving: false, truthful, forged, run };
    let leaving = |name, truthful, forged, run| Tool { name, leaving: true, truthful, forged, run };
    vec![
        arriving("hping3 --spoof, its own", COUNT, 0, Hping3(CLIENT_OTHER_V4)),
        arriving("hping3 --spoof, the host's", 0, COUNT, Hping3(HOST_V4)),
        arriving("hping3 --spoof, a container's", 0, COUNT, Hping3(INNER_V4)),
        arriving("hping3 --spoof, documentation", 0, COUNT, Hping3("192.0.2.7")),
        arriving("nmap -S, its own", 1, 0, Nmap(&["-S", CLIENT_OTHER_V4], HOST_V4)),
        arriving("nmap -S, its own, IPv6", 1, 0, Nmap(&["-S", CLIENT_OTHER_V6], HOST_V6)),
        arriving("nmap -S, a container's", 0, 1, Nmap(&["-S", INNER_V4], HOST_V4)),
        arriving("nmap -S, a container's, IPv6", 0, 1, Nmap(&["-S", INNER_V6], HOST_V6)),
        arriving("nmap -D", 1, 3, Nmap(&["-D", "198.51.100.7,10.77.2.1,ME,240.0.0.1"], HOST_V4)),
        // Which unicast MAC a stranger has nobody knows: only one that is no single sender's is forged.
        arriving("nmap --spoof-mac, unicast", 1, 0, Nmap(&["--spoof-mac", "02:00:00:00:66:66"], HOST_V4)),
        arriving("nmap --spoof-mac, group", 0, 1, Nmap(&["--spoof-mac", "03:00:00:00:66:66"], HOST_V4)),
        arriving("scapy", 4, 20, Scapy(SCRIPT)),
        leaving("hping3 --spoof on the host, its own", COUNT, 0, Hping3(HOST_V4)),
        leaving("hping3 --spoof on the host", 0, COUNT, Hping3("10.77.1.99")),
        leaving("nmap on the host, its own", 1, 0, Nmap(&[], CLIENT_V4)),
        leaving("nmap -D on the host", 1, 2, Nmap(&["-D", "10.77.1.99,ME,192.0.2.7"], CLIENT_V4)),
        leaving("nmap --spoof-mac on the host", 0, 1, Nmap(&["--spoof-mac", "02:00:00:00:66:66"], CLIENT_V4)),
        leaving("scapy on the host", 4, 16, Scapy(LEAVING)),
    ]
}

/// Two each of two true sources, and of ten forged ones.
const SCRIPT: &str = "
def four(source, mac=own): return Ether(src=mac, dst=peer)/IP(src=source, dst='10.77.1.1')/data
def six(source, mac=own): return Ether(src=mac, dst=peer)/IPv6(src=source, dst='fd77:1::1')/data
sendp([four('10.77.1.2'), six('fd77:1::2'),
    four('10.77.1.1'), four('127.0.0.1'), four('10.77.2.2'), four('224.0.0.5'), four('255.255.255.255'),
    six('fd77:1::1'), six('::1'), six('fd77:2::2'), six('2001:db8::7'),
    four('10.77.1.2', '01:00:5e:00:00:05')], iface='eth0', count=2)
";

/// The same from the host: two true sources, eight forged ones. What the filter drops on its way out is told to the sender:
/// ENOBUFS.
const LEAVING: &str = "
def four(source, mac=own): return Ether(src=mac, dst=peer)/IP(src=source, dst='10.77.1.2')/data
def six(source, mac=own): return Ether(src=mac, dst=peer)/IPv6(src=source, dst='fd77:1::2')/data
for frame in [four('10.77.1.1'), six('fd77:1::1'),
    four('10.77.1.2'), four('10.77.1.99'), four('10.77.2.2'), four('192.0.2.7'), six('fd77:1::2'), six('fd77:1::99'),
    four('10.77.1.1', '02:00:00:00:66:66'), six('fd77:1::1', '02:00:00:00:66:66')] * 2:
    try: sendp(frame, iface='eth0')
    except OSError as error:
        if error.errno != 105: raise
";

struct Arena {
    edge: Edge,
    daemon: Edgefilter,
    /// MACs of the client and the host.
    macs: [String; 2],
    /// Where what arrives at the host is counted, then what leaves it: on the link, and in raw sockets.
    sinks: [[Sink; 2]; 2],
    _deaf: [UdpSocket; 2],
}

impl Arena {
    fn build() -> Result<Self> {
        let edge = Edge::standard()?;
        let (client, host) = (&edge.client, &edge.host);
        let macs = [client, host].map(|namespace| hardware_address(namespace, "eth0").map(text));
        let [client_mac, host_mac] = macs;
        let macs = [client_mac?, host_mac?];
        // Asked for under a forged MAC, they would be told to somebody else.
        for (namespace, address, mac) in [
            (host, CLIENT_V4, &macs[0]),
            (host, CLIENT_V6, &macs[0]),
            (client, HOST_V4, &macs[1]),
            (client, HOST_V6, &macs[1]),
        ] {
            let words = [
                "ip",
                "neigh",
                "replace",
                address,
                "lladdr",
                mac,
                "dev",
                "eth0",
                "nud",
                "permanent",
            ];
            namespace.run(&words)?;
        }
        // nmap asks the kernel for the route from the forged source, and the kernel knows none from an address that is not
        // its own.
        let held = format!("{INNER_V4}/32");
        client.run(&["ip", "address", "add", &held, "dev", "lo"])?;
        let at = |namespace: &Namespace| -> Result<[Sink; 2]> {
            Ok([
                Sink::on_link_by(namespace, "eth0", Box::new(classify))?,
                Sink::in_stack(namespace)?,
            ])
        };
        Ok(Self {
            sinks: [at(host)?, at(client)?],
            _deaf: [deaf(host)?, deaf(client)?],
            daemon: Edgefilter::prepare(host, &edge.scratch, &policy(""))?,
            macs,
            edge,
        })
    }

    /// Runs all tools at once.
    fn run(&self, tools: &[Tool], first: u32) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = tools
                .iter()
                .zip(first..)
                .map(|(tool, kind)| scope.spawn(move || self.one(tool, kind).context(tool.name)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn one(&self, tool: &Tool, kind: u32) -> Result<()> {
        let (from, target) = if tool.leaving {
            (&self.edge.host, CLIENT_V4)
        } else {
            (&self.edge.client, HOST_V4)
        };
        let scratch = &self.edge.scratch;
        match tool.run {
            Run::Hping3(source) => {
                hping3(from, scratch, (source, target, PORT), (kind, COUNT as u32))
            }
            Run::Nmap(options, target) => nmap(from, (target, PORT), kind, options),
            Run::Scapy(script) => {
                let [client, host] = &self.macs;
                let (own, peer) = if tool.leaving {
                    (host, client)
                } else {
                    (client, host)
                };
                let lines = format!(
                    "own, peer = '{own}', '{peer}'\n\
                     data = UDP(sport=40000, dport={PORT})/Raw(mark({kind}))\n{script}"
                );
                scapy(from, scratch, &format!("{kind}"), &lines)
            }
        }
        .map(drop)
    }

    /// What arrived of each tool's packets; all of it, or the true ones alone.
    fn check(&self, tools: &[Tool], first: u32, filtered: bool) -> Result<()> {
        for sink in self.sinks.iter().flatten() {
            sink.settle()?;
        }
        let mut wrong = Vec::new();
        for (tool, kind) in tools.iter().zip(first..) {
            let [on_link, in_stack] = &self.sinks[usize::from(tool.leaving)];
            let truthful = on_link.count(2 * kind + 1)?;
            let forged = on_link.count(2 * kind)?;
            let raw = in_stack.count(kind)?;
            let expected = if filtered { 0 } else { tool.forged };
            eprintln!(
                "{}{}: {} true sent, {truthful} on the link, {raw} in raw sockets; {} forged sent, {forged} on the link",
                if filtered {
                    "filtered: "
                } else {
                    "not filtered: "
                },
                tool.name,
                tool.truthful,
                tool.forged,
            );
            // Without a filter the kernel itself drops some of the forged ones behind the link.
            let all = tool.truthful + expected;
            if truthful != tool.truthful
                || forged != expected
                || !(tool.truthful..=all).contains(&raw)
            {
                wrong.push(tool.name);
            }
        }
        ensure!(
            wrong.is_empty(),
            "filter {filtered}: otherwise than expected: {wrong:?}; {}",
            self.daemon.log()
        );
        Ok(())
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Twice the kind, and one more for the packets whose source is the sender's own.
fn classify(frame: &[u8]) -> Option<(u32, u32)> {
    let (kind, sequence) = marker::find(frame)?;
    let (mac, ethertype) = (frame.get(6..12)?, frame.get(12..14)?);
    let (source, destination) = if ethertype == [0x08, 0x00] {
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
            Some(octets.into())
        };
        (address(26)?, address(30)?)
    } else {
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
            Some(octets.into())
        };
        (address(22)?, address(38)?)
    };
    let is = |address: IpAddr, of: &[&str]| of.contains(&&*address.to_string());
    let host = [HOST_V4, HOST_V6];
    let client = [CLIENT_V4, CLIENT_OTHER_V4, CLIENT_V6, CLIENT_OTHER_V6];
    let truthful = if is(destination, &host) {
        is(source, &client) && mac.first()? & 1 == 0
    } else {
        is(source, &host) && mac != STRANGER
    };
    Some((2 * kind + u32::from(truthful), sequence))
}

#[test]
fn of_what_spoofing_tools_send_only_the_true_traffic_gets_through() -> Result<()> {
    if !can_run(&["hping3", "nmap"]) {
        return Ok(());
    }
    if !has_scapy() {
        skip("scapy not installed: apt-get install python3-scapy");
        return Ok(());
    }
    let _turn = alone();
    let begin = Instant::now();
    let tools = tools();
    let mut arena = Arena::build()?;
    arena.run(&tools, 0)?;
    arena.check(&tools, 0, false)?;
    arena.daemon.start()?;
    let before = arena.daemon.counters()?;
    arena.run(&tools, 100)?;
    arena.check(&tools, 100, arena.daemon.filtering())?;
    if arena.daemon.filtering() {
        let after = arena.daemon.counters()?;
        for (reasons, leaving) in [
            (&["drop_martian", "drop_own_address"][..], false),
            (&["drop_binding"], true),
        ] {
            let counted: u64 = reasons
                .iter()
                .map(|reason| after.packets(reason) - before.packets(reason))
                .sum();
            let sent = tools.iter().filter(|tool| tool.leaving == leaving);
            let sent: u64 = sent.map(|tool| tool.forged).sum();
            ensure!(
                counted == sent,
                "{reasons:?}: {counted} counted, {sent} sent"
            );
        }
    }
    eprintln!("{:.1} s in all", begin.elapsed().as_secs_f64());
    Ok(())
}
