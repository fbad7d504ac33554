//! Real containers (runc on a CNI bridge): what they truly send and get works, and what they forge stays off the bridge.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::links::{Veth, add_address, default_route, veth};
use edgefilter_tests::netns::topology::{
    CLIENT_OTHER_V4, CLIENT_OTHER_V6, CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6,
};
use edgefilter_tests::netns::{Edge, Namespace, PacketSocket, hardware_address};
use edgefilter_tests::programs::container::{self, BRIDGE, PORT, Published};
use edgefilter_tests::programs::http::url;
use edgefilter_tests::programs::marker;
use edgefilter_tests::programs::ping::ping_with;
use edgefilter_tests::programs::{
    Check, Container, Counters, Edgefilter, Network, Nginx, Seen, Sink, curl, ping,
};
use serde_json::Value;

use crate::containers_forgeries::{self as forgeries, Kind};
use crate::interfaces::reload;
use crate::support::{WORKS, beside, can_run, judge, outcomes, skip, works};

/// The host's port that leads to the first container.
pub const PUBLISHED: u16 = 8080;
/// Of each kind so many frames are sent.
const FRAMES: u64 = 8;

/// Containers may be asked by everybody for their page and for an echo; from outside the published port leads to them.
pub const POLICY: &str = "version = 1
[profiles.edge]
interfaces = [\"eth0\"]
icmp = { v4 = [\"echo-request\"], v6 = [\"echo-request\"] }
[[profiles.edge.allow]]
id = \"published\"
protocol = \"tcp\"
ports = [8080]
[profiles.pods]
interfaces = [\"veth*\"]
containers = {}
icmp = { v4 = [\"echo-request\"], v6 = [\"echo-request\"] }
[[profiles.pods.allow]]
id = \"page\"
protocol = \"tcp\"
ports = [80]
[[profiles.pods.allow]]
id = \"marked\"
protocol = \"udp\"
ports = [67, 7002]
";

/// Whether containers can run here; prints why not.
pub fn can_contain(extra: &[&str]) -> bool {
    if !can_run(&[&container::NEEDED[..], extra].concat()) {
        return false;
    }
    if let Err(error) = container::plugins() {
        skip(&format!("{error:#}"));
        return false;
    }
    true
}

/// A host with an outside, a container network, and a plain port on its bridge.
pub struct ContainerHost {
    // In this order: containers go before their network's files do.
    pub containers: Vec<Container>,
    pub network: Network,
    /// Behind a port of the bridge that no profile names.
    pub watcher: Namespace,
    pub edge: Edge,
}

/// The watcher's addresses, on the containers' subnet.
pub const WATCHER_V4: &str = "10.77.4.250";
pub const WATCHER_V6: &str = "fd77:4::250";

impl ContainerHost {
    /// With so many containers; the first one's page is published.
    pub fn build(count: usize) -> Result<Self> {
        let edge = Edge::standard()?;
        let network = Network::prepare(&edge.host, &edge.scratch)?;
        let mut host = Self {
            containers: Vec::new(),
            watcher: Namespace::create("watcher")?,
            network,
            edge,
        };
        for number in 0..count {
            host.start(number)?;
        }
        host.connect_watcher()?;
        Ok(host)
    }

    /// One more container.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let page = Published {
            host: PUBLISHED,
            container: PORT,
        };
        let published = if number == 0 { &[page][..] } else { &[] };
        let container = Container::start(
            &self.network,
            &self.edge.scratch,
            &format!("ctr{number}"),
            published,
        )?;
        self.containers.push(container);
        Ok(())
    }

    /// A port that is there for a while; the bridge has to be there, too.
    fn connect_watcher(&self) -> Result<()> {
        let host = &self.edge.host;
        veth(
            Veth {
                namespace: host,
                name: "watch0",
            },
            Veth {
                namespace: &self.watcher,
                name: "eth0",
            },
            1500,
        )?;
        host.run(&["ip", "link", "set", "watch0", "master", BRIDGE])?;
        // Captures on the bridge itself are to see what goes from port to port as well.
        host.run(&["ip", "link", "set", BRIDGE, "promisc", "on"])?;
        add_address(&self.watcher, "eth0", &format!("{WATCHER_V4}/24"))?;
        add_address(&self.watcher, "eth0", &format!("{WATCHER_V6}/64"))?;
        default_route(&self.watcher, container::GATEWAY_V4)?;
        default_route(&self.watcher, container::GATEWAY_V6)
    }

    pub fn first(&self) -> Result<&Container> {
        self.containers.first().context("no container")
    }

    pub fn second(&self) -> Result<&Container> {
        self.containers.get(1).context("no second container")
    }

    /// Forgets what neighbours said, so that what was forged before does not count.
    fn forget_neighbours(&self) -> Result<()> {
        let inside = self.containers.iter().map(|container| &container.namespace);
        for namespace in inside.chain([&self.edge.host, &self.watcher]) {
            for family in ["-4", "-6"] {
                namespace.run(&["ip", family, "neighbour", "flush", "all"])?;
            }
        }
        Ok(())
    }
}

/// An echo of 4,000 bytes, there and back in three fragments.
fn fragments(container: &Container, address: &str) -> Result<(Seen, String)> {
    ping_with(&container.namespace, address, 1, &["-s", "4000"])
}

/// A probe to be made.
type Probe<'a> = Box<dyn Fn() -> Result<(Seen, String)> + Send + Sync + 'a>;

/// Everything that containers and their neighbours truly do, all of it at once.
fn true_traffic(host: &ContainerHost) -> Result<Vec<Result<Check>>> {
    let (edge, one, two) = (&host.edge, host.first()?, host.second()?);
    let v4 = two.network.v4()?.to_string();
    let v6 = two.network.v6()?.to_string();
    let mut probes: Vec<(String, Probe<'_>)> = Vec::new();
    for (version, outside, of_host, gateway, other) in [
        ("IPv4", CLIENT_V4, HOST_V4, container::GATEWAY_V4, &v4),
        ("IPv6", CLIENT_V6, HOST_V6, container::GATEWAY_V6, &v6),
    ] {
        let all: [(&str, Probe<'_>); 9] = [
            (
                "container to outside",
                Box::new(|| one.fetch(outside, PORT, WORKS)),
            ),
            (
                "container to container",
                Box::new(|| one.fetch(other, PORT, WORKS)),
            ),
            (
                "outside to the published port",
                Box::new(|| curl(&edge.client, &url(of_host, PUBLISHED), WORKS)),
            ),
            (
                "host to container",
                Box::new(|| curl(&edge.host, &url(other, PORT), WORKS)),
            ),
            ("ping to outside", Box::new(|| one.ping(outside))),
            ("ping to the host", Box::new(|| one.ping(gateway))),
            (
                "ping from a neighbour",
                Box::new(|| ping(&host.watcher, other, 1)),
            ),
            ("fragments to outside", Box::new(|| fragments(one, outside))),
            (
                "fragments to a container",
                Box::new(|| fragments(one, other)),
            ),
        ];
        probes.extend(all.map(|(name, probe)| (format!("{name}, {version}"), probe)));
    }
    // The plugin for published ports does these for IPv4 only.
    for (name, from) in [
        ("container to its own published port", one),
        ("container to another's published port", two),
    ] {
        probes.push((
            name.to_owned(),
            Box::new(|| from.fetch(HOST_V4, PUBLISHED, WORKS)),
        ));
    }
    Ok(std::thread::scope(|scope| {
        let started: Vec<_> = probes
            .iter()
            .map(|(name, probe)| scope.spawn(move || works(name, probe())))
            .collect();
        started
            .into_iter()
            .map(|probe| {
                probe
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    }))
}

#[test]
fn true_traffic_of_a_container_works_and_what_it_forges_stays_off_the_bridge() -> Result<()> {
    if !can_contain(&["nginx", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let host = ContainerHost::build(2)?;
    let (edge, one, two) = (&host.edge, host.first()?, host.second()?);
    let _page = Nginx::start(&edge.client, &edge.scratch, &[PORT])?;
    let kinds = forgeries::table(one, two)?;
    let trial = Trial {
        sender: PacketSocket::open(&one.namespace, "eth0")?,
        receiver: hardware_address(&two.namespace, "eth0")?,
        on_bridge: sent_by(one, &edge.host, BRIDGE)?,
        on_port: sent_by(one, &host.watcher, "eth0")?,
        at_other: sent_by(one, &two.namespace, "eth0")?,
    };
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, POLICY)?;
    outcomes(&daemon, true_traffic(&host)?)?;
    // Without a filter every one of them gets there: so their absence later is the filter's doing.
    trial.run(&kinds, 0, |_| true)?;
    host.forget_neighbours()?;
    let by_ifb = Detour::through_ifb(&one.namespace)?;
    trial.run(&kinds, 100, |_| true)?;
    drop(by_ifb);
    host.forget_neighbours()?;

    daemon.start()?;
    judge(&daemon, true_traffic(&host)?)?;
    trial.refused(&daemon, one, &kinds, 200)?;
    if !daemon.filtering() {
        return Ok(());
    }
    outcomes(&daemon, true_traffic(&host)?)?;
    let xdp = POLICY.replace("containers = {}", "containers = { hook = \"xdp\" }");
    reload(&mut daemon, &xdp)?;
    outcomes(&daemon, true_traffic(&host)?)?;
    trial.refused(&daemon, one, &kinds, 300)?;
    // What comes by an ifb device is not shown to traffic control's programs; XDP's see it.
    let _by_ifb = Detour::through_ifb(&one.namespace)?;
    trial.refused(&daemon, one, &kinds, 400)?;
    outcomes(&daemon, true_traffic(&host)?)
}

/// What leaves a namespace goes by an ifb device, as whoever rules in it may have it.
struct Detour<'a>(&'a Namespace);

impl<'a> Detour<'a> {
    fn through_ifb(namespace: &'a Namespace) -> Result<Self> {
        namespace.run(&["ip", "link", "add", "ifb0", "type", "ifb"])?;
        namespace.run(&["ip", "link", "set", "ifb0", "up"])?;
        namespace.run(&["tc", "qdisc", "add", "dev", "eth0", "clsact"])?;
        let filter = "tc filter add dev eth0 egress protocol all u32 match u32 0 0 \
                      action mirred egress redirect dev ifb0";
        namespace.run(&filter.split_whitespace().collect::<Vec<_>>())?;
        Ok(Self(namespace))
    }
}

impl Drop for Detour<'_> {
    fn drop(&mut self) {
        for words in [
            ["tc", "qdisc", "del", "dev", "eth0", "clsact"].as_slice(),
            &["ip", "link", "del", "ifb0"],
        ] {
            if let Err(error) = self.0.run(words) {
                eprintln!("a detour is left behind: {error:#}");
            }
        }
    }
}

/// Counts marked frames that the container sent, and not the errors that quote them.
fn sent_by(container: &Container, namespace: &Namespace, link: &str) -> Result<Sink> {
    let mac = hardware_address(&container.namespace, "eth0")?;
    let classify = move |frame: &[u8]| {
        let source = frame.get(6..12)?;
        (source == mac || source == forgeries::STRANGER)
            .then(|| marker::find(frame))
            .flatten()
    };
    Sink::on_link_by(namespace, link, Box::new(classify))
}

/// Where forged frames are sent from, and where they would turn up.
struct Trial {
    sender: PacketSocket,
    receiver: [u8; 6],
    on_bridge: Sink,
    on_port: Sink,
    at_other: Sink,
}

impl Trial {
    /// Sends all kinds, by turns, and compares what arrived with what `passes`.
    fn run(&self, kinds: &[Kind], first: u32, passes: impl Fn(&Kind) -> bool) -> Result<()> {
        for sequence in 0..FRAMES as u32 {
            for (number, kind) in (first..).zip(kinds) {
                self.sender
                    .send(&kind.marked(self.receiver, (number, sequence)))
                    .with_context(|| kind.name)?;
            }
            // The queue of the other end holds a thousand; nothing is to be lost in between.
            std::thread::sleep(Duration::from_millis(2));
        }
        for sink in [&self.on_bridge, &self.on_port, &self.at_other] {
            sink.settle()?;
        }
        let mut wrong = Vec::new();
        for (number, kind) in (first..).zip(kinds) {
            let passes = passes(kind);
            let least = if passes { FRAMES } else { 0 };
            let seen =
                [&self.on_bridge, &self.on_port, &self.at_other].map(|sink| sink.count(number));
            let [bridge, port, other] = seen;
            let (bridge, port, other) = (bridge?, port?, other?);
            let flooded = if kind.flooded { least } else { port };
            if bridge != least || port != flooded || other != least || (!passes && port > 0) {
                wrong.push(format!(
                    "{}: {bridge} on the bridge, {port} on another port, {other} at another container, of {FRAMES}",
                    kind.name
                ));
            }
        }
        ensure!(
            wrong.is_empty(),
            "frames from a container arrive otherwise than expected:\n{}",
            wrong.join("\n")
        );
        Ok(())
    }

    /// With a filter nothing forged arrives, everything true does, and each is counted as what it is.
    fn refused(
        &self,
        daemon: &Edgefilter,
        container: &Container,
        kinds: &[Kind],
        first: u32,
    ) -> Result<()> {
        let filtering = daemon.filtering();
        let before = daemon.counters()?;
        self.run(kinds, first, |kind| !filtering || kind.counted.is_none())?;
        if filtering {
            trial_counted(kinds, &before, &daemon.counters()?)?;
            self.named_in_events(daemon, container, kinds)?;
        }
        Ok(())
    }

    /// A sampled event of each row says which row, which link, and what the container is bound to.
    fn named_in_events(
        &self,
        daemon: &Edgefilter,
        container: &Container,
        kinds: &[Kind],
    ) -> Result<()> {
        let mut rows: Vec<(&str, &Kind)> = Vec::new();
        for kind in kinds {
            if let Some((_, Some(row))) = kind.counted
                && rows.iter().all(|(known, _)| *known != row)
            {
                rows.push((row, kind));
            }
        }
        for (_, kind) in &rows {
            // No more than 20 drops of a reason are sampled in a tenth of a second.
            std::thread::sleep(Duration::from_millis(120));
            self.sender.send(&kind.marked(self.receiver, (0, 0)))?;
        }
        std::thread::sleep(Duration::from_millis(120));
        let shown = daemon.cli(&["events", "--json"])?.require()?.stdout;
        let document: Value = serde_json::from_str(&shown)?;
        let events = document.get("events").and_then(Value::as_array);
        let events = events.context("no list of events")?;
        let link = container.network.link()?;
        let (mac, address) = (
            container.network.mac()?,
            container.network.v4()?.to_string(),
        );
        for (row, _) in rows {
            let event = events
                .iter()
                .find(|event| event["rule"] == row && event["interface"] == link.as_str())
                .with_context(|| format!("no sampled event of {row} on {link}: {shown}"))?;
            let detail = event["detail"].as_str().unwrap_or_default();
            ensure!(
                detail.contains(&address) && detail.contains(&mac),
                "the event of {row} does not say what {link} is bound to: {event}"
            );
        }
        Ok(())
    }
}

/// Each kind under its reason and its row, and nothing else under either.
fn trial_counted(kinds: &[Kind], before: &Counters, after: &Counters) -> Result<()> {
    let mut expected = std::collections::BTreeMap::new();
    for (reason, row) in kinds.iter().filter_map(|kind| kind.counted) {
        *expected.entry((reason, true)).or_insert(0) += FRAMES;
        if let Some(row) = row {
            *expected.entry((row, false)).or_insert(0) += FRAMES;
        }
    }
    for ((name, reason), expected) in expected {
        let counted = if reason {
            after.packets(name) - before.packets(name)
        } else {
            after.rule(name) - before.rule(name)
        };
        ensure!(
            counted == expected,
            "{name}: {counted} counted, {expected} sent"
        );
    }
    Ok(())
}

#[test]
fn busybox_in_a_container_cannot_send_as_somebody_else() -> Result<()> {
    if !can_contain(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let host = ContainerHost::build(2)?;
    let (one, two) = (host.first()?, host.second()?);
    let victim = two.network.v4()?.to_string();
    let mut daemon = Edgefilter::prepare(&host.edge.host, &host.edge.scratch, POLICY)?;
    for filtered in [false, true] {
        if filtered {
            daemon.start()?;
        }
        let on_port = edgefilter_tests::netns::Capture::start(&host.watcher, "eth0")?;
        // Gratuitous ARP for another container, under the kernel's own sender.
        let add = ["ip", "address", "add", "10.77.4.222/24", "dev", "eth0"];
        one.exec(&add, WORKS)?.require()?;
        let words = [
            "arping",
            "-U",
            "-c",
            "1",
            "-I",
            "eth0",
            "-s",
            "10.77.4.222",
            "10.77.4.222",
        ];
        one.exec(&words, Duration::from_secs(10))?;
        let from_forged = [
            "ping",
            "-c",
            "1",
            "-W",
            "1",
            "-I",
            "10.77.4.222",
            WATCHER_V4,
        ];
        let done = one.exec(&from_forged, Duration::from_secs(10))?;
        // Another MAC for the whole container.
        one.exec(
            &["ip", "address", "del", "10.77.4.222/24", "dev", "eth0"],
            WORKS,
        )?;
        let mac = one.network.mac()?;
        one.exec(
            &["ip", "link", "set", "eth0", "address", "02:00:00:00:66:66"],
            WORKS,
        )?
        .require()?;
        let as_stranger = one.ping(WATCHER_V4)?;
        one.exec(&["ip", "link", "set", "eth0", "address", &mac], WORKS)?
            .require()?;
        let frames = on_port.finish();
        let forged = frames
            .iter()
            .filter(|frame| {
                frame.get(6..12) == Some(&[2, 0, 0, 0, 0x66, 0x66][..])
                    || frame.windows(4).any(|four| four == [10, 77, 4, 222])
            })
            .count();
        let stopped = filtered && daemon.filtering();
        ensure!(
            (forged == 0) == stopped
                && done.ok() != stopped
                && (as_stranger.0 == Seen::Works) != stopped,
            "filter {stopped}: {forged} forged frames on another port; ping: {}{}; other MAC: {}",
            done.stdout,
            done.stderr,
            as_stranger.1
        );
        ensure!(
            one.ping(&victim)?.0 == Seen::Works,
            "the container's own traffic fails"
        );
    }
    Ok(())
}

#[test]
fn path_mtu_messages_reach_a_container() -> Result<()> {
    if !can_contain(&["nginx", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let page = Published {
        host: PUBLISHED,
        container: 8081,
    };
    let edge = Edge::standard()?;
    let network = Network::prepare(&edge.host, &edge.scratch)?;
    let container = Container::start(&network, &edge.scratch, "ctr", &[page])?;
    let _page = Nginx::start(&container.namespace, &edge.scratch, &[8081])?;
    // Less than on the container's own link: who sends more is told by the host.
    for (route, family) in [
        (CLIENT_V4, "-4"),
        (CLIENT_OTHER_V4, "-4"),
        (CLIENT_V6, "-6"),
        (CLIENT_OTHER_V6, "-6"),
    ] {
        let words = [
            "ip", family, "route", "replace", route, "dev", "eth0", "mtu", "1300",
        ];
        edge.host.run(&words)?;
    }
    let policy = POLICY.replace("ports = [80]", "ports = [8081]");
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    let large = |address| -> Result<(Seen, String)> {
        let url = url(address, PUBLISHED) + "large";
        let words = [
            "curl",
            "-q",
            "-sS",
            "-g",
            "--max-time",
            "6",
            "-o",
            "/dev/null",
            &url,
        ];
        let done = edge.client.try_run(&words, WORKS * 2)?;
        let seen = if done.ok() {
            Seen::Works
        } else {
            Seen::Nothing
        };
        Ok((seen, done.stderr))
    };
    let told = |address, hint| -> Result<(Seen, String)> {
        let words = [
            "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", address,
        ];
        let done = container.namespace.try_run(&words, WORKS)?;
        let said = done.stdout + &done.stderr;
        let seen = if said.contains(hint) {
            Seen::Works
        } else {
            Seen::Nothing
        };
        Ok((seen, said))
    };
    let checks = vec![
        works("what a container serves", large(HOST_V4)),
        works("what a container serves, IPv6", large(HOST_V6)),
        works(
            "a container's own echo",
            told(CLIENT_OTHER_V4, "mtu = 1300"),
        ),
        works(
            "a container's own echo, IPv6",
            told(CLIENT_OTHER_V6, "mtu=1300"),
        ),
    ];
    judge(&daemon, checks)
}
