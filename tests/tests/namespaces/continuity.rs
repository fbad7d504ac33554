//! Nothing alive is cut: when the filter is switched on, when the daemon is killed, when it comes
//! back, when it is upgraded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Edge, Namespace, wait_until};
use edgefilter_tests::programs::echo::{Conversations, Echo};
use edgefilter_tests::programs::http::url;
use edgefilter_tests::programs::{Edgefilter, Nginx, Seen, curl, iperf, probes};

use crate::support::{SILENCE, STRICT, WORKS, allow, alone, can_run, nothing_forged};

const TCP_PORT: u16 = 7000;
const UDP_PORT: u16 = 7001;
/// Names a rebuilt binary to upgrade to; without it the same binary is started again.
const NEXT_VARIABLE: &str = "EDGEFILTER_BIN_NEXT";

#[test]
fn enabling_cuts_none_of_100_tcp_connections_and_50_udp_exchanges() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let (client, host, inner) = (&edge.client, &edge.host, &edge.inner);
    let _services = [
        Echo::tcp(host, TCP_PORT)?,
        Echo::tcp(client, TCP_PORT)?,
        Echo::udp(client, UDP_PORT)?,
    ];
    let mut daemon = Edgefilter::prepare(host, &edge.scratch, STRICT)?;

    // A policy without rules: each of these lives by what was there before the filter.
    let live = vec![
        (
            "30 TCP in",
            Conversations::tcp(client, HOST_V4, TCP_PORT, 30)?,
        ),
        (
            "10 TCP in, IPv6",
            Conversations::tcp(client, HOST_V6, TCP_PORT, 10)?,
        ),
        (
            "20 TCP out",
            Conversations::tcp(host, CLIENT_V4, TCP_PORT, 20)?,
        ),
        (
            "10 TCP out, IPv6",
            Conversations::tcp(host, CLIENT_V6, TCP_PORT, 10)?,
        ),
        (
            "20 TCP of a container",
            Conversations::tcp(inner, CLIENT_V4, TCP_PORT, 20)?,
        ),
        (
            "10 TCP of a container, IPv6",
            Conversations::tcp(inner, CLIENT_V6, TCP_PORT, 10)?,
        ),
        (
            "15 UDP out",
            Conversations::udp(host, CLIENT_V4, UDP_PORT, 15, 0)?,
        ),
        (
            "10 UDP out, IPv6",
            Conversations::udp(host, CLIENT_V6, UDP_PORT, 10, 0)?,
        ),
        (
            "10 UDP of a container",
            Conversations::udp(inner, CLIENT_V4, UDP_PORT, 10, 0)?,
        ),
        // Asked before, answered after: nothing of theirs passes the filter on the way out.
        (
            "10 UDP waiting for a late answer",
            Conversations::udp(host, CLIENT_V4, UDP_PORT, 10, 20)?,
        ),
        (
            "5 UDP of a container, waiting",
            Conversations::udp(inner, CLIENT_V4, UDP_PORT, 5, 20)?,
        ),
    ];
    wait_until(WORKS, || {
        live.iter().take(9).all(|(_, one)| one.rounds() >= 3)
    })
    .context("the conversations do not get going without a filter")?;
    let ready = daemon.start()?;
    let before: Vec<u64> = live.iter().map(|(_, one)| one.rounds()).collect();
    // Each has to do whole rounds with the filter on; the late ones take two seconds for one.
    let went_on = wait_until(Duration::from_secs(20), || {
        live.iter()
            .zip(&before)
            .all(|((_, one), before)| one.rounds() >= before + 2)
    });
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
    eprintln!("filter on after {} ms", ready.as_millis());
    ensure!(
        lost.is_empty(),
        "lost when the filter was switched on: {lost:#?}\n{}",
        daemon.log()
    );
    ensure!(went_on.is_some(), "not every conversation went on");
    nothing_forged(&daemon)?;
    // The same port is closed to whoever comes new.
    let (seen, detail) = probes::tcp(client, HOST_V4, TCP_PORT, SILENCE)?;
    ensure!(
        (seen == Seen::Nothing) == daemon.filtering(),
        "a new connection: {seen} ({detail})"
    );
    Ok(())
}

/// Something done again and again until `finish`.
struct Loop {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    thread: JoinHandle<Result<Vec<String>>>,
}

impl Loop {
    /// `step` gives a line when it came out otherwise than expected.
    fn start(mut step: impl FnMut() -> Result<Option<String>> + Send + 'static) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let mut wrong = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                wrong.extend(step()?);
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(wrong)
        });
        Self { stop, done, thread }
    }

    fn finish(self, what: &str) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self
            .thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let done = self.done.load(Ordering::Relaxed);
        eprintln!(
            "{what}: {done} times, {} otherwise than expected",
            wrong.len()
        );
        ensure!(
            wrong.is_empty() && done > 3,
            "{what}: {done} times, otherwise: {wrong:#?}"
        );
        Ok(())
    }
}

fn requests(from: &Namespace, address: &'static str) -> Loop {
    let from = from.clone();
    Loop::start(move || {
        let (seen, detail) = curl(&from, &url(address, 443), WORKS)?;
        Ok((seen != Seen::Works).then_some(detail))
    })
}

/// Probes of a port that listens but is not allowed.
fn intrusions(from: &Namespace, filtering: bool) -> Loop {
    let from = from.clone();
    Loop::start(move || {
        let (seen, detail) = probes::tcp(&from, HOST_V4, TCP_PORT, Duration::from_millis(300))?;
        std::thread::sleep(Duration::from_millis(20));
        Ok(((seen == Seen::Nothing) != filtering).then_some(detail))
    })
}

#[test]
fn killed_restarted_and_upgraded_under_load_without_a_failed_request() -> Result<()> {
    if !can_run(&["nginx", "curl", "iperf3"]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let (client, host) = (&edge.client, &edge.host);
    let _web = [
        Nginx::start(host, &edge.scratch, &[443])?,
        Nginx::start(client, &edge.scratch, &[443])?,
    ];
    let _closed = Echo::tcp(host, TCP_PORT)?;
    let _server = iperf::server(host, 5201)?;
    let mut daemon = Edgefilter::enable(host, &edge.scratch, &allow("tcp", &[443, 5201]))?;

    let load = iperf::client(client, HOST_V4, 5201, 8, &["-b", "500M"])?;
    let begin = Instant::now();
    let loops = [
        ("requests in", requests(client, HOST_V4)),
        ("requests in, IPv6", requests(client, HOST_V6)),
        ("requests out", requests(host, CLIENT_V4)),
        ("intrusions", intrusions(client, daemon.filtering())),
    ];
    let at = |second: f64| {
        std::thread::sleep(Duration::from_secs_f64(second).saturating_sub(begin.elapsed()));
    };
    at(1.5);
    let first = daemon.counters()?;
    daemon.sigkill()?;
    at(3.0);
    daemon.start()?;
    let second = daemon.counters()?;
    at(4.5);
    daemon.terminate()?;
    at(5.5);
    if let Some(next) = std::env::var_os(NEXT_VARIABLE) {
        daemon.replace_binary(next.into());
    }
    daemon.start()?;
    let third = daemon.counters()?;
    let throughput = iperf::result(load, Duration::from_secs(20))?;
    for (name, one) in loops {
        one.finish(name)?;
    }
    let last = daemon.counters()?;
    nothing_forged(&daemon)?;

    eprintln!("iperf3: {:.0} Mbit/s", throughput.bits_per_second / 1e6);
    let empty = throughput
        .intervals
        .iter()
        .filter(|bytes| **bytes == 0.0)
        .count();
    ensure!(
        empty == 0,
        "iperf3 stood still in {empty} half seconds: {:?}",
        throughput.intervals
    );
    for (earlier, later, when) in [
        (&first, &second, "SIGKILL"),
        (&second, &third, "upgrade"),
        (&third, &last, "end"),
    ] {
        let back = later.went_back(earlier);
        ensure!(back.is_empty(), "counters went back over {when}: {back:?}");
    }
    if daemon.filtering() {
        ensure!(
            second.packets("pass_rule") > first.packets("pass_rule"),
            "nothing counted while the daemon was dead"
        );
        ensure!(
            second.packets("drop_port") > first.packets("drop_port"),
            "no drop counted while the daemon was dead"
        );
    }
    Ok(())
}

#[test]
fn detach_leaves_nothing_behind() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let _closed = Echo::tcp(&edge.host, TCP_PORT)?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    let (seen, _) = probes::tcp(&edge.client, HOST_V4, TCP_PORT, SILENCE)?;
    ensure!(
        (seen == Seen::Nothing) == daemon.filtering(),
        "with the filter: {seen}"
    );
    daemon.sigkill()?;
    daemon.detach()?;
    let (seen, detail) = probes::tcp(&edge.client, HOST_V4, TCP_PORT, WORKS)?;
    ensure!(seen == Seen::Works, "after detach: {seen} ({detail})");
    let link =
        edgefilter_tests::netns::links::describe(&edge.host, "eth0")?.context("eth0 is gone")?;
    ensure!(
        link.get("xdp").is_none(),
        "an XDP program is left on eth0: {link}"
    );
    let pins = edge.scratch.path().join("bpffs/edgefilter");
    ensure!(!pins.exists(), "pins are left under {}", pins.display());
    Ok(())
}
