//! Containers that come and go, daemons that come and go, and connections that go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::links::index;
use edgefilter_tests::netns::topology::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Namespace, PacketSocket, wait_until};
use edgefilter_tests::packets::{Ipv4, Udp, link};
use edgefilter_tests::programs::container::{BRIDGE, PORT, Published};
use edgefilter_tests::programs::echo::{Conversations, Echo};
use edgefilter_tests::programs::{Container, Edgefilter, Seen, Sink, marker, probes};
use nix::net::if_::if_nameindex;
use serde_json::Value;

use crate::containers::{ContainerHost, POLICY, can_contain};
use crate::support::{SILENCE, WORKS, alone, judge, refused, works};

/// A container's service for conversations that last.
const ECHO: u16 = 7000;
/// The host's port that leads to it.
const PUBLISHED_ECHO: u16 = 7070;

/// The links of a namespace, and when each was first seen.
struct Appearances {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<(String, Instant)>>>,
}

impl Appearances {
    /// Looks every half millisecond.
    fn watch(namespace: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = namespace.thread(move || {
            let mut seen: Vec<(String, Instant)> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let now = Instant::now();
                for interface in &if_nameindex()? {
                    let name = interface.name().to_string_lossy();
                    if seen.iter().all(|(known, _)| *known != name) {
                        seen.push((name.into_owned(), now));
                    }
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            Ok::<_, anyhow::Error>(seen)
        });
        let thread = std::thread::spawn(move || match thread.join() {
            Ok(outcome) => outcome?,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Self { stop, thread }
    }

    fn finish(self) -> Result<Vec<(String, Instant)>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Sends forged frames out of a namespace from the moment on that it has a link, one a millisecond.
struct Forger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Instant>>>,
}

impl Forger {
    /// Broadcasts from the host's address. The mark of each is its number.
    fn start(namespace: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, inside) = (Arc::clone(&stop), namespace.clone());
        let thread = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let mut socket = None;
            while !stopped.load(Ordering::Relaxed) {
                if socket.is_none() {
                    socket = PacketSocket::open(&inside, "eth0").ok();
                }
                if let Some(socket) = &socket {
                    let number = u32::try_from(sent.len())?;
                    // Fails while the link is not up yet.
                    if socket.send(&forged(number)).is_ok() {
                        sent.push(Instant::now());
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(sent)
        });
        Self { stop, thread }
    }

    /// When each frame was sent.
    fn finish(self) -> Result<Vec<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn forged(number: u32) -> Vec<u8> {
    let datagram = Udp::new(40_000, 7002).payload(&marker::payload(7, number));
    link()
        .macs([2, 0, 0, 0, 0x66, 0x66], [0xff; 6])
        .ipv4(&Ipv4::new("10.77.4.1", "255.255.255.255").with(&datagram))
}

#[test]
fn a_container_is_protected_within_a_second_of_its_start_and_leaves_nothing_behind() -> Result<()> {
    if !can_contain(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let (veth, xdp) = (
        "interfaces = [\"veth*\"]",
        "containers = { hook = \"xdp\" }",
    );
    for (which, hook, pin, rounds) in [
        (veth, "containers = {}", "send", 2),
        ("bridges = [\"cni0\"]", "containers = {}", "send", 1),
        (veth, xdp, "xdp", 1),
    ] {
        let mut host = ContainerHost::build(1)?;
        let policy = POLICY.replace(veth, which).replace("containers = {}", hook);
        let daemon = Edgefilter::enable(&host.edge.host, &host.edge.scratch, &policy)?;
        let before = footprint(&daemon, &host)?;
        for round in 0..rounds {
            let container = start_watched(&mut host, &daemon, &format!("{which}, {pin}"))?;
            if !daemon.filtering() {
                return Ok(());
            }
            let link = container.network.link()?;
            let number = index(&host.edge.host, &link)?;
            let with = footprint(&daemon, &host)?;
            ensure!(
                with.pins.contains(&format!("{pin}-{number}"))
                    && with.pins.contains(&format!("deliver-{number}")),
                "no pins of {link} ({number}): {with:?}"
            );
            let begin = Instant::now();
            container.stop()?;
            wait_until(Duration::from_secs(5), || {
                footprint(&daemon, &host).is_ok_and(|now| now == before)
            })
            .with_context(|| {
                format!(
                    "left behind: {:?}, before: {before:?}",
                    footprint(&daemon, &host)
                )
            })?;
            eprintln!(
                "{which}, round {round}: nothing left {} ms after the stop began",
                begin.elapsed().as_millis()
            );
        }
    }
    Ok(())
}

/// What the filter keeps of interfaces, and what the network keeps of containers.
#[derive(Debug, PartialEq, Eq)]
struct Footprint {
    pins: Vec<String>,
    counted: Vec<String>,
    shown: Vec<String>,
    cached: Vec<String>,
}

fn footprint(daemon: &Edgefilter, host: &ContainerHost) -> Result<Footprint> {
    let list = |directory: std::path::PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    };
    let scratch = host.edge.scratch.path();
    let shown = if daemon.filtering() {
        interfaces(&daemon.status()?)
            .map(|interface| format!("{} {}", interface["name"], interface["binding"]))
            .collect()
    } else {
        Vec::new()
    };
    Ok(Footprint {
        pins: list(scratch.join("bpffs/edgefilter/links")),
        counted: daemon.counters()?.interfaces.into_keys().collect(),
        shown,
        cached: list(host.network.cache().join("results")),
    })
}

/// The interfaces of a status document.
pub fn interfaces(status: &Value) -> impl Iterator<Item = &Value> {
    let list = status.get("interfaces").and_then(Value::as_array);
    list.into_iter().flatten()
}

/// Starts a container, and measures from when on its forged frames are refused.
fn start_watched(host: &mut ContainerHost, daemon: &Edgefilter, which: &str) -> Result<Container> {
    let namespace = Namespace::create("late")?;
    let on_bridge = Sink::on_link(&host.edge.host, BRIDGE)?;
    let refused_before = daemon.counters()?.packets("drop_binding");
    let appearances = Appearances::watch(&host.edge.host);
    let forger = Forger::start(&namespace);
    let begin = Instant::now();
    let container = Container::start_in(namespace, &host.network, &host.edge.scratch, &[])?;
    let started = begin.elapsed();
    let works = wait_until(WORKS, || {
        container
            .ping(CLIENT_V4)
            .is_ok_and(|(seen, _)| seen == Seen::Works)
    });
    std::thread::sleep(Duration::from_millis(300));
    let sent = forger.finish()?;
    let seen = appearances.finish()?;
    on_bridge.settle()?;
    ensure!(
        works.is_some(),
        "the container's true traffic does not work"
    );
    let link = container.network.link()?;
    let appeared = seen
        .iter()
        .find(|(name, _)| *name == link)
        .map(|(_, at)| *at)
        .with_context(|| format!("{link} was never seen"))?;
    let arrived = on_bridge.packets()?;
    if !daemon.filtering() {
        ensure!(
            arrived.len() > 100,
            "only {} forged frames arrived",
            arrived.len()
        );
        return Ok(container);
    }
    let refused = usize::try_from(daemon.counters()?.packets("drop_binding") - refused_before)?;
    ensure!(refused > 0, "no forged frame was refused");
    // the one after the last that got through, or else the first that there was a link for
    let through = arrived.iter().map(|(_, number)| *number as usize).max();
    let at = match through {
        Some(last) => sent.get(last + 1),
        None => sent.iter().find(|at| **at >= appeared),
    }
    .context("no forged frame was sent after the last that got through")?;
    let took = at.saturating_duration_since(appeared);
    eprintln!(
        "{which}: first forged frame refused {:.1} ms after {link} appeared; {} of {} got onto the bridge before; container up after {} ms",
        took.as_secs_f64() * 1e3,
        arrived.len(),
        sent.len(),
        started.as_millis()
    );
    ensure!(
        took < Duration::from_secs(1),
        "protected only after {took:?}"
    );
    Ok(container)
}

#[test]
fn connections_of_containers_survive_switching_on_sigkill_and_adoption() -> Result<()> {
    if !can_contain(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let mut host = ContainerHost::build(1)?;
    let second = Container::start(
        &host.network,
        &host.edge.scratch,
        "second",
        &[Published {
            host: PUBLISHED_ECHO,
            container: ECHO,
        }],
    )?;
    host.containers.push(second);
    let (edge, one, two) = (&host.edge, host.first()?, host.second()?);
    let (v4, v6) = (two.network.v4()?.to_string(), two.network.v6()?.to_string());
    let _services = [
        Echo::tcp(&edge.client, ECHO)?,
        Echo::udp(&edge.client, ECHO)?,
        Echo::tcp(&two.namespace, ECHO)?,
        Echo::udp(&two.namespace, ECHO)?,
    ];
    // Nothing may reach a container by a rule: what goes on, goes on because it was there before.
    let policy = "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n\
                  [profiles.pods]\ninterfaces = [\"veth*\"]\ncontainers = {}\n";
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, policy)?;
    let inside = &one.namespace;
    let live = vec![
        (
            "container to outside",
            Conversations::tcp(inside, CLIENT_V4, ECHO, 10)?,
        ),
        (
            "container to outside, IPv6",
            Conversations::tcp(inside, CLIENT_V6, ECHO, 10)?,
        ),
        (
            "container to outside, UDP",
            Conversations::udp(inside, CLIENT_V4, ECHO, 10, 0)?,
        ),
        (
            "container to container",
            Conversations::tcp(inside, &v4, ECHO, 10)?,
        ),
        (
            "container to container, IPv6",
            Conversations::tcp(inside, &v6, ECHO, 10)?,
        ),
        (
            "container to container, UDP",
            Conversations::udp(inside, &v4, ECHO, 10, 0)?,
        ),
        (
            "outside to the published port",
            Conversations::tcp(&edge.client, HOST_V4, PUBLISHED_ECHO, 10)?,
        ),
        (
            "outside to the published port, IPv6",
            Conversations::tcp(&edge.client, HOST_V6, PUBLISHED_ECHO, 10)?,
        ),
        (
            "host to container",
            Conversations::tcp(&edge.host, &v4, ECHO, 10)?,
        ),
    ];
    let rounds = || live.iter().map(|(_, one)| one.rounds()).collect::<Vec<_>>();
    let go_on = |what: &str| {
        let before = rounds();
        wait_until(Duration::from_secs(10), || {
            rounds()
                .iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + 3)
        })
        .with_context(|| format!("not every conversation goes on {what}"))
    };
    go_on("without a filter")?;
    daemon.start()?;
    let on = go_on("with the filter on");
    let forged = closed_to_new(&host, &daemon, &v4);
    let mut kept = None;
    if daemon.filtering() && on.is_ok() {
        let counted = daemon.counters()?;
        daemon.sigkill()?;
        go_on("without a daemon")?;
        stays_filtered(&host, &daemon, "without a daemon")?;
        daemon.start()?;
        go_on("with the second daemon")?;
        stays_filtered(&host, &daemon, "with the second daemon")?;
        kept = Some(daemon.counters()?.went_back(&counted));
    }
    let mut lost = Vec::new();
    for (name, one) in live {
        let outcome = one.finish()?;
        eprintln!(
            "{name}: {} answers, {} lost",
            outcome.answered,
            outcome.lost.len()
        );
        lost.extend(
            outcome
                .lost
                .into_iter()
                .map(|line| format!("{name}: {line}")),
        );
    }
    ensure!(lost.is_empty(), "lost: {lost:#?}\n{}", daemon.log());
    on?;
    forged?;
    if let Some(back) = kept {
        ensure!(back.is_empty(), "counters went back: {back:?}");
    }
    Ok(())
}

/// Who comes new is not let in, to either side.
fn closed_to_new(host: &ContainerHost, daemon: &Edgefilter, address: &str) -> Result<()> {
    let one = host.first()?;
    judge(
        daemon,
        vec![
            refused(
                "a new connection to a container",
                one.fetch(address, PORT, SILENCE),
            ),
            refused(
                "a new connection to the published port",
                probes::tcp(&host.edge.client, HOST_V4, PUBLISHED_ECHO, SILENCE),
            ),
            works(
                "a new connection outwards",
                probes::tcp(&one.namespace, CLIENT_V4, ECHO, WORKS),
            ),
        ],
    )
}

/// Forged frames of the first container stay off the bridge and are counted.
fn stays_filtered(host: &ContainerHost, daemon: &Edgefilter, when: &str) -> Result<()> {
    let one = host.first()?;
    let on_port = Sink::on_link(&host.watcher, "eth0")?;
    let before = daemon.counters()?.rule("binding:mac");
    let socket = PacketSocket::open(&one.namespace, "eth0")?;
    for number in 0..20 {
        socket.send(&forged(number))?;
    }
    on_port.settle()?;
    let (through, counted) = (
        on_port.count(7)?,
        daemon.counters()?.rule("binding:mac") - before,
    );
    ensure!(
        through == 0 && counted == 20,
        "{when}: of 20 forged frames {through} got onto the bridge and {counted} were counted"
    );
    Ok(())
}
