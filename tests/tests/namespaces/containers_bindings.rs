//! What a container link is bound to, where that comes from, and what its container may send and get. The containers are
//! plain namespaces here: nobody wrote a CNI result for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::links::{Veth, add_address, bridge, hardware_address, index, veth};
use edgefilter_tests::netns::{Capture, Namespace, PacketSocket, Scratch, wait_until};
use edgefilter_tests::packets::{Ipv4, Ipv6, Udp, link};
use edgefilter_tests::programs::echo::Echo;
use edgefilter_tests::programs::{Check, Edgefilter, Seen, Sink, dhcp, marker, ping, probes};
use serde_json::Value;

use crate::containers_life::interfaces;
use crate::interfaces::reload;
use crate::support::{SILENCE, WORKS, alone, beside, can_run, judge, outcomes, refused, works};

const HOST_V4: &str = "10.77.1.1";
const HOST_V6: &str = "fd77:1::1";
const ONE_V4: &str = "10.77.1.12";
const ONE_V6: &str = "fd77:1::12";
const TWO_V4: &str = "10.77.1.13";
const TWO_V6: &str = "fd77:1::13";
const OTHER_V4: &str = "10.77.1.250";
const OTHER_V6: &str = "fd77:1::250";
/// Of somebody on the bridge whom no profile knows.
const STRANGER_V6: &str = "fd77:1::251";
/// Services of everybody.
const OPEN: u16 = 7000;
const CLOSED: u16 = 7001;

/// Links without a binding are closed, containers get what they ask for and nothing else.
const AUTO: &str = "version = 1
[profiles.pods]
interfaces = [\"veth-*\"]
containers = {}
[profiles.rest]
interfaces = [\"plain\"]
default = \"pass\"
containers = {}
";
/// The neighbour's link has a profile as well: beside a port that nobody judges no container is believed.
const REST: &str =
    "[profiles.rest]\ninterfaces = [\"plain\"]\ndefault = \"pass\"\ncontainers = {}\n";

/// A host whose bridge has two containers on it, `veth-one` and `veth-two`, and a neighbour that may get anything.
struct Bridge {
    host: Namespace,
    one: Namespace,
    two: Namespace,
    neighbour: Namespace,
    scratch: Scratch,
}

impl Bridge {
    fn build() -> Result<Self> {
        let built = Self {
            host: Namespace::create("host")?,
            one: Namespace::create("one")?,
            two: Namespace::create("two")?,
            neighbour: Namespace::create("neighbour")?,
            scratch: Scratch::create("scratch")?,
        };
        bridge(&built.host, "br0", &[])?;
        add_address(&built.host, "br0", &format!("{HOST_V4}/24"))?;
        add_address(&built.host, "br0", &format!("{HOST_V6}/64"))?;
        for (name, namespace, v4, v6) in [
            ("veth-one", &built.one, ONE_V4, ONE_V6),
            ("veth-two", &built.two, TWO_V4, TWO_V6),
            ("plain", &built.neighbour, OTHER_V4, OTHER_V6),
        ] {
            built.connect(name, namespace)?;
            add_address(namespace, "eth0", &format!("{v4}/24"))?;
            add_address(namespace, "eth0", &format!("{v6}/64"))?;
        }
        for address in [HOST_V4, ONE_V4, TWO_V4, ONE_V6, TWO_V6] {
            wait_until(WORKS, || {
                ping(&built.neighbour, address, 1).is_ok_and(|(seen, _)| seen == Seen::Works)
            })
            .with_context(|| format!("{address} cannot be reached even without a filter"))?;
        }
        Ok(built)
    }

    fn connect(&self, name: &str, namespace: &Namespace) -> Result<()> {
        let host = Veth {
            namespace: &self.host,
            name,
        };
        let inside = Veth {
            namespace,
            name: "eth0",
        };
        veth(host, inside, 1500)?;
        let master = ["ip", "link", "set", name, "master", "br0"];
        self.host.run(&master).map(drop)
    }
}

/// Sends marked datagrams as if from any address, and tells whether they reach the neighbour.
struct Sender {
    socket: PacketSocket,
    mac: [u8; 6],
    to: [u8; 6],
    sink: Sink,
    next: std::cell::Cell<u32>,
}

impl Sender {
    fn open(bridge: &Bridge, from: &Namespace) -> Result<Self> {
        Ok(Self {
            socket: PacketSocket::open(from, "eth0")?,
            mac: hardware_address(from, "eth0")?,
            to: hardware_address(&bridge.neighbour, "eth0")?,
            sink: Sink::on_link(&bridge.neighbour, "eth0")?,
            next: std::cell::Cell::new(0),
        })
    }

    fn send(&self, mac: [u8; 6], source: IpAddr) -> Result<u32> {
        let number = self.next.get() % marker::KINDS;
        self.next.set(number + 1);
        let datagram = Udp::new(40_000, 9).payload(&marker::payload(number, 0));
        let link = link().macs(mac, self.to);
        self.socket.send(&match source {
            IpAddr::V4(source) => {
                let to: Ipv4Addr = OTHER_V4.parse()?;
                link.ipv4(&Ipv4::between(source, to).with(&datagram))
            }
            IpAddr::V6(source) => {
                let to: Ipv6Addr = OTHER_V6.parse()?;
                link.ipv6(&Ipv6::between(source, to).with(&datagram))
            }
        })?;
        Ok(number)
    }

    /// Whether a datagram from there arrives.
    fn passes(&self, source: &str) -> Result<bool> {
        self.passes_from(self.mac, source)
    }

    fn passes_from(&self, mac: [u8; 6], source: &str) -> Result<bool> {
        self.passes_in(Duration::from_millis(150), mac, source)
    }

    fn passes_in(&self, limit: Duration, mac: [u8; 6], source: &str) -> Result<bool> {
        let before = self.sink.counts()?;
        let number = self.send(mac, source.parse()?)?;
        let had = before
            .iter()
            .find(|(kind, _)| *kind == number)
            .map_or(0, |(_, count)| *count);
        Ok(wait_until(limit, || {
            self.sink.count(number).is_ok_and(|count| count > had)
        })
        .is_some())
    }

    /// How long it takes until a datagram from there arrives, or does not any more.
    fn until(&self, source: &str, passes: bool) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            let sent = begin.elapsed();
            if self.passes_in(Duration::from_millis(20), self.mac, source)? == passes {
                return Ok(sent);
            }
            ensure!(
                sent < Duration::from_secs(5),
                "{source}: passes {} for 5 s",
                !passes
            );
        }
    }
}

/// What status says of a link's binding.
fn binding(daemon: &Edgefilter, link: &str) -> Result<Value> {
    let status = daemon.status()?;
    let found = interfaces(&status).find(|interface| interface["name"] == link);
    let found = found.with_context(|| format!("{link} is not in the status: {status}"))?;
    Ok(found["binding"].clone())
}

/// Compares what passes with what should, by source address.
fn sources(daemon: &Edgefilter, sender: &Sender, expected: &[(&str, bool)]) -> Result<()> {
    for (source, passes) in expected {
        let passes = *passes || !daemon.filtering();
        ensure!(
            sender.passes(source)? == passes,
            "from {source}: expected to pass: {passes}\n{:?}\n{}",
            daemon.counters()?.rules,
            daemon.log()
        );
    }
    Ok(())
}

#[test]
fn a_binding_follows_the_peers_addresses_within_a_second() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let bridge = Bridge::build()?;
    let mut daemon = Edgefilter::enable(&bridge.host, &bridge.scratch, AUTO)?;
    let one = Sender::open(&bridge, &bridge.one)?;
    sources(
        &daemon,
        &one,
        &[
            (ONE_V4, true),
            (ONE_V6, true),
            (TWO_V4, false),
            (TWO_V6, false),
            (HOST_V4, false),
            (HOST_V6, false),
            (OTHER_V4, false),
            ("10.77.1.99", false),
            ("fd77:1::99", false),
        ],
    )?;
    if !daemon.filtering() {
        return Ok(());
    }
    ensure!(
        binding(&daemon, "veth-one")?["origin"] == "peer",
        "{}",
        binding(&daemon, "veth-one")?
    );
    // Comes and goes with the address.
    for (address, length) in [("10.77.1.99", 24), ("fd77:1::99", 64)] {
        let with_length = format!("{address}/{length}");
        add_address(&bridge.one, "eth0", &with_length)?;
        let bound = one.until(address, true)?;
        bridge
            .one
            .run(&["ip", "address", "del", &with_length, "dev", "eth0"])?;
        let released = one.until(address, false)?;
        ensure!(!one.passes(address)?, "{address} passes again");
        eprintln!(
            "{address} bound after {} ms, released after {} ms",
            bound.as_millis(),
            released.as_millis()
        );
        ensure!(
            bound < Duration::from_secs(1) && released < Duration::from_secs(2),
            "{address}: bound after {bound:?}, released after {released:?}"
        );
    }
    // Whoever rules in a container cannot take what is somebody else's.
    for (address, length, holder) in [
        (TWO_V4, 24, "10.77.1.13 refused: veth-two is bound to it"),
        (TWO_V6, 64, "fd77:1::13 refused: veth-two is bound to it"),
        (HOST_V4, 24, "10.77.1.1 refused: the host's own"),
        (HOST_V6, 64, "fd77:1::1 refused: the host's own"),
        ("192.0.2.1", 24, "192.0.2.1 refused: outside"),
    ] {
        add_address(&bridge.one, "eth0", &format!("{address}/{length}"))?;
        wait_until(Duration::from_secs(2), || {
            binding(&daemon, "veth-one")
                .is_ok_and(|now| now["remarks"].to_string().contains(holder))
        })
        .with_context(|| format!("no word of it: {:?}", binding(&daemon, "veth-one")))?;
        ensure!(
            !one.passes(address)?,
            "{address} passes once it is added in the container"
        );
        bridge.one.run(&[
            "ip",
            "address",
            "del",
            &format!("{address}/{length}"),
            "dev",
            "eth0",
        ])?;
    }
    let two = Sender::open(&bridge, &bridge.two)?;
    holder_stays_after_restart(&bridge, &mut daemon, &one, &two)?;
    // The MAC is followed as well, and not taken from a neighbour.
    let fresh = [2, 0, 0, 0, 0x77, 0x77];
    bridge
        .one
        .run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:77"])?;
    let begin = Instant::now();
    wait_until(Duration::from_secs(2), || {
        one.passes_from(fresh, ONE_V4).unwrap_or(false)
    })
    .context("the container's new MAC is not bound")?;
    let took = begin.elapsed();
    eprintln!("new MAC bound after {} ms", took.as_millis());
    ensure!(
        took < Duration::from_secs(2),
        "the new MAC was bound after {took:?}"
    );
    let text = two.mac.map(|byte| format!("{byte:02x}")).join(":");
    bridge
        .one
        .run(&["ip", "link", "set", "eth0", "address", &text])?;
    wait_until(Duration::from_secs(2), || {
        binding(&daemon, "veth-one").is_ok_and(|now| now["origin"] == "closed")
    })
    .context("a neighbour's MAC is not refused")?;
    ensure!(
        !one.passes_from(two.mac, ONE_V4)?,
        "a neighbour's MAC passes"
    );
    ensure!(two.passes(TWO_V4)?, "the neighbour itself is cut off");
    bridge
        .one
        .run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:77"])?;
    let one = Sender::open(&bridge, &bridge.one)?;
    one.until(ONE_V4, true)?;
    followed_beside_a_restless_container(&bridge, &one)
}

/// Who asked for a neighbour's address in vain does not get it by waiting for the next daemon.
fn holder_stays_after_restart(
    bridge: &Bridge,
    daemon: &mut Edgefilter,
    one: &Sender,
    two: &Sender,
) -> Result<()> {
    let taken = format!("{TWO_V4}/24");
    add_address(&bridge.one, "eth0", &taken)?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(two.passes(TWO_V4)?, "the holder is cut off at once");
    daemon.sigkill()?;
    daemon.start()?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(
        two.passes(TWO_V4)? && !one.passes(TWO_V4)?,
        "after a restart the address is {} and {}",
        binding(daemon, "veth-one")?,
        binding(daemon, "veth-two")?
    );
    let words = ["ip", "address", "del", &taken, "dev", "eth0"];
    bridge.one.run(&words).map(drop)
}

/// Whoever rules in one container cannot keep the daemon from following another one.
fn followed_beside_a_restless_container(bridge: &Bridge, one: &Sender) -> Result<()> {
    let mut lines = String::new();
    for number in 0..200 {
        let address = format!("fd77:1::b:{number:x}/64 dev eth0");
        lines += &[
            "address add ",
            &address,
            " nodad\naddress del ",
            &address,
            "\n",
        ]
        .concat();
    }
    let batch = bridge.scratch.file("restless", lines)?;
    let script = "while ip -force -batch \"$0\"; do :; done";
    let restless = bridge
        .two
        .start(&["sh", "-c", script, &batch.to_string_lossy()])?;
    std::thread::sleep(Duration::from_millis(200));
    for number in 0..3 {
        let address = format!("10.77.1.{}", 100 + number);
        add_address(&bridge.one, "eth0", &format!("{address}/24"))?;
        let took = one.until(&address, true)?;
        eprintln!(
            "{address} bound after {} ms beside a restless container",
            took.as_millis()
        );
        ensure!(took < Duration::from_secs(2), "bound only after {took:?}");
    }
    drop(restless);
    Ok(())
}

#[test]
fn static_bindings_and_links_that_have_none() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let bridge = Bridge::build()?;
    let (one, two) = (
        Sender::open(&bridge, &bridge.one)?,
        Sender::open(&bridge, &bridge.two)?,
    );
    let policy = |unbound: &str, mac: &str| {
        format!(
            "version = 1\n[profiles.pods]\ninterfaces = [\"veth-*\"]\n\
             icmp = {{ v4 = [\"echo-request\"] }}\n[profiles.pods.containers]\n\
             bindings = \"static\"\nunbound = \"{unbound}\"\n[[profiles.pods.containers.binding]]\n\
             interface = \"veth-one\"\n{mac}\naddresses = [\"10.77.1.64/28\", \"{ONE_V6}\"]\n{REST}"
        )
    };
    let mut daemon = Edgefilter::enable(&bridge.host, &bridge.scratch, &policy("closed", ""))?;
    // Of the peer's addresses only those count that are written.
    let written = [
        ("10.77.1.64", true),
        ("10.77.1.79", true),
        (ONE_V6, true),
        ("10.77.1.63", false),
        ("10.77.1.80", false),
        (ONE_V4, false),
    ];
    sources(&daemon, &one, &written)?;
    sources(&daemon, &two, &[(TWO_V4, false), (TWO_V6, false)])?;
    let reach = |address| ping(&bridge.neighbour, address, 1);
    outcomes(&daemon, vec![refused("into a closed link", reach(TWO_V4))])?;
    if !daemon.filtering() {
        return Ok(());
    }
    ensure!(
        binding(&daemon, "veth-one")?["origin"] == "policy",
        "not by policy"
    );
    ensure!(
        binding(&daemon, "veth-two")?["origin"] == "closed",
        "not closed"
    );
    ensure!(
        daemon.counters()?.rule("binding:unknown") > 0,
        "nothing under binding:unknown"
    );

    reload(&mut daemon, &policy("open", "mac = \"02:00:00:00:00:05\""))?;
    ensure!(
        binding(&daemon, "veth-two")?["origin"] == "open",
        "not open"
    );
    sources(
        &daemon,
        &two,
        &[(TWO_V4, true), (ONE_V4, true), ("192.0.2.9", true)],
    )?;
    outcomes(&daemon, vec![works("into an open link", reach(TWO_V4))])?;
    sources(&daemon, &one, &[("10.77.1.64", false)])?;
    ensure!(
        one.passes_from([2, 0, 0, 0, 0, 5], "10.77.1.64")?,
        "the MAC that is written does not pass"
    );
    Ok(())
}

#[test]
fn what_a_container_may_send_and_what_may_reach_it() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let bridge = Bridge::build()?;
    let mut services = Vec::new();
    for namespace in [&bridge.one, &bridge.two, &bridge.neighbour] {
        for port in [OPEN, CLOSED] {
            services.push(Echo::tcp(namespace, port)?);
            services.push(Echo::udp(namespace, port)?);
        }
    }
    let policy = |send: &str, rules: &str| {
        format!(
            "version = 1\n[profiles.pods]\ninterfaces = [\"veth-*\"]\ncontainers = {{}}\n{send}\n\
             [[profiles.pods.allow]]\nid = \"in\"\nprotocol = [\"tcp\", \"udp\"]\nports = [{OPEN}]\n{rules}{REST}"
        )
    };
    let (one, neighbour) = (&bridge.one, &bridge.neighbour);
    let all: [Conversation<'_>; 8] = [
        ("out, open port", one, OTHER_V4, OPEN),
        ("out, IPv6, open port", one, OTHER_V6, OPEN),
        ("out, closed port", one, OTHER_V4, CLOSED),
        ("to another container, open port", one, TWO_V4, OPEN),
        ("to another container, closed port", one, TWO_V4, CLOSED),
        ("in, open port", neighbour, ONE_V4, OPEN),
        ("in, IPv6, open port", neighbour, ONE_V6, OPEN),
        ("in, closed port", neighbour, ONE_V4, CLOSED),
    ];
    let mut daemon = Edgefilter::prepare(&bridge.host, &bridge.scratch, AUTO)?;
    let only = "[[profiles.pods.send]]\nid = \"out\"\nprotocol = [\"tcp\", \"udp\"]\nports = [7001]\n\
                to = [\"10.77.1.250\"]\n";
    for (name, send, rules, works_at) in [
        ("no send list", "", "", vec![0, 1, 2, 3, 5, 6]),
        ("an empty send list", "send = []", "", vec![5, 6]),
        ("a send list", "", only, vec![2, 5, 6]),
    ] {
        let text = policy(send, rules);
        if name == "no send list" {
            daemon.replace_policy(&text)?;
            daemon.start()?;
        } else if daemon.filtering() {
            reload(&mut daemon, &text)?;
        }
        let mut checks = at_once(name, &all, &works_at);
        let asked = ping(one, OTHER_V4, 1);
        let what = format!("{name}: ping out");
        checks.push(if name == "no send list" {
            works(&what, asked)
        } else {
            refused(&what, asked)
        });
        judge(&daemon, checks)?;
    }
    if daemon.filtering() {
        let counters = daemon.counters()?;
        for (what, packets) in [
            ("drop_send", counters.packets("drop_send")),
            ("drop_port", counters.packets("drop_port")),
            ("rule in", counters.rule("in")),
            ("rule out", counters.rule("out")),
            ("row default", counters.rule("default")),
        ] {
            ensure!(packets > 0, "nothing under {what}: {counters:?}");
        }
    }
    Ok(())
}

/// What it is, who asks, whom, and on which port.
type Conversation<'a> = (&'a str, &'a Namespace, &'a str, u16);

/// Tries all of them by TCP and by UDP; those at `works_at` have to work, the others must not.
fn at_once(name: &str, all: &[Conversation<'_>], works_at: &[usize]) -> Vec<Result<Check>> {
    let probe = |number: usize, udp: bool| {
        let (what, from, to, port) = all[number];
        let expected = works_at.contains(&number);
        let limit = if expected { WORKS } else { SILENCE };
        let (protocol, outcome) = if udp {
            ("UDP", probes::udp(from, to, port, limit))
        } else {
            ("TCP", probes::tcp(from, to, port, limit))
        };
        let what = format!("{name}: {what}, {protocol}");
        if expected {
            works(&what, outcome)
        } else {
            refused(&what, outcome)
        }
    };
    std::thread::scope(|scope| {
        let probe = &probe;
        let probes: Vec<_> = (0..all.len())
            .flat_map(|number| [false, true].map(|udp| (number, udp)))
            .map(|(number, udp)| scope.spawn(move || probe(number, udp)))
            .collect();
        let outcome = |probe: std::thread::ScopedJoinHandle<'_, Result<Check>>| {
            probe
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        probes.into_iter().map(outcome).collect()
    })
}

#[test]
fn dhcp_duplicate_address_detection_and_group_reports_work_from_a_container() -> Result<()> {
    if !can_run(&["dnsmasq", "dhclient"]) {
        return Ok(());
    }
    let _turn = beside();
    let bridge = Bridge::build()?;
    // Not on the neighbour: from a container link no DHCP answer comes.
    let _server = dhcp::server_on(&bridge.host, &bridge.scratch, "br0")?;
    let mut daemon = Edgefilter::enable(&bridge.host, &bridge.scratch, AUTO)?;
    let asking = Namespace::create("asking")?;
    bridge.connect("veth-three", &asking)?;
    let patience = Duration::from_secs(12);
    for ipv6 in [false, true] {
        let begin = Instant::now();
        let got = dhcp::client(&asking, &bridge.scratch, "eth0", ipv6, patience)?
            .with_context(|| format!("no lease, IPv6 {ipv6}: {}", daemon.log()))?;
        eprintln!("{got} leased after {} ms", begin.elapsed().as_millis());
        let to = if ipv6 { OTHER_V6 } else { OTHER_V4 };
        // A question that comes before the binding costs a second.
        wait_until(Duration::from_secs(4), || {
            ping(&asking, to, 1).is_ok_and(|(seen, _)| seen == Seen::Works)
        })
        .with_context(|| format!("{got} cannot be used"))?;
    }
    lease_by_a_written_binding(&bridge, &mut daemon)?;
    // Somebody whom nobody judges: from now on only what is written counts.
    let stranger = Namespace::create("stranger")?;
    bridge.connect("strange", &stranger)?;
    add_address(&stranger, "eth0", &format!("{STRANGER_V6}/64"))?;
    if daemon.filtering() {
        let mac = hardware_address(&bridge.one, "eth0")?
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        let binding = format!(
            "[[profiles.pods.containers.binding]]\ninterface = \"veth-one\"\nmac = \"{mac}\"\n\
             addresses = [\"{ONE_V4}\", \"fd77:1::/64\"]\n"
        );
        reload(
            &mut daemon,
            &AUTO.replacen("containers = {}\n", &binding, 1),
        )?;
    }
    let seen = Capture::start(&stranger, "eth0")?;
    duplicates(&bridge, &seen)?;
    groups(&bridge, &seen)?;
    if daemon.filtering() {
        ensure!(
            daemon.counters()?.packets("pass_control") > 0,
            "no control traffic was counted"
        );
    }
    Ok(())
}

/// Without an address of any kind, such as IPv6 link-local, a link is closed, to DHCP as well: unless the policy says what
/// the server may give.
fn lease_by_a_written_binding(bridge: &Bridge, daemon: &mut Edgefilter) -> Result<()> {
    let asking = Namespace::create("asking")?;
    asking.sysctls(&[
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ])?;
    bridge.connect("veth-four", &asking)?;
    if daemon.filtering() {
        let binding = "[[profiles.pods.containers.binding]]\ninterface = \"veth-four\"\n\
                       addresses = [\"10.77.1.96/27\", \"10.77.1.128/27\"]\n";
        let policy = AUTO.replacen("containers = {}\n", binding, 1);
        reload(daemon, &policy)?;
    }
    let scratch = Scratch::create("asking")?;
    let patience = Duration::from_secs(12);
    let got = dhcp::client(&asking, &scratch, "eth0", false, patience)?
        .with_context(|| format!("no lease without IPv6: {}", daemon.log()))?;
    wait_until(Duration::from_secs(3), || {
        ping(&asking, OTHER_V4, 1).is_ok_and(|(seen, _)| seen == Seen::Works)
    })
    .with_context(|| format!("{got} cannot be used"))
    .map(drop)
}

/// A free address is kept, one that a neighbour has is given up.
fn duplicates(bridge: &Bridge, seen: &Capture) -> Result<()> {
    bridge.one.sysctls(&[
        ("net/ipv6/conf/all/accept_dad", "1"),
        ("net/ipv6/conf/eth0/accept_dad", "1"),
        ("net/ipv6/conf/eth0/dad_transmits", "2"),
    ])?;
    let flags = |address: &str| -> Result<String> {
        let words = [
            "ip", "-o", "-6", "address", "show", "dev", "eth0", "to", address,
        ];
        Ok(bridge.one.run(&words)?.stdout)
    };
    for (address, taken) in [("fd77:1::77", false), (STRANGER_V6, true)] {
        let words = [
            "ip",
            "address",
            "add",
            &format!("{address}/64"),
            "dev",
            "eth0",
        ];
        bridge.one.run(&words)?;
        wait_until(Duration::from_secs(6), || {
            flags(address)
                .is_ok_and(|flags| flags.contains("dadfailed") || !flags.contains("tentative"))
        })
        .with_context(|| format!("{address} stays tentative"))?;
        let flags = flags(address)?;
        ensure!(
            flags.contains("dadfailed") == taken,
            "{address}, taken {taken}: {flags}"
        );
        let octets = address.parse::<Ipv6Addr>()?.octets();
        let asked = seen.count(|frame| {
            is_icmpv6(frame, 135)
                && frame.get(62..78) == Some(&octets[..])
                && frame[22..38] == [0; 16]
        });
        ensure!(asked > 0, "nobody was asked about {address}");
    }
    Ok(())
}

/// Reports about groups arrive (RFC 3376, RFC 3810).
fn groups(bridge: &Bridge, seen: &Capture) -> Result<()> {
    let scope = index(&bridge.one, "eth0")?;
    let (v4, v6) = (
        Ipv4Addr::new(239, 77, 0, 1),
        "ff15::77".parse::<Ipv6Addr>()?,
    );
    let _members = bridge.one.inside(|| -> Result<_> {
        let (four, six) = (UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("[::]:0")?);
        four.join_multicast_v4(&v4, &ONE_V4.parse()?)?;
        six.join_multicast_v6(&v6, scope)?;
        Ok((four, six))
    })??;
    let reported =
        |frame: &[u8], address: &[u8]| frame.windows(address.len()).any(|part| part == address);
    wait_until(Duration::from_secs(3), || {
        let igmp = seen.count(|frame| {
            frame.get(12..14) == Some(&[8, 0])
                && frame.get(23) == Some(&2)
                && reported(frame, &v4.octets())
        });
        // With a hop-by-hop option (router alert) in front.
        let mld = seen.count(|frame| {
            frame.get(20) == Some(&0)
                && frame.get(62) == Some(&143)
                && reported(frame, &v6.octets())
        });
        igmp > 0 && mld > 0
    })
    .context("the reports about groups do not arrive")?;
    Ok(())
}

fn is_icmpv6(frame: &[u8], kind: u8) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(20) == Some(&58)
        && frame.get(54) == Some(&kind)
}
