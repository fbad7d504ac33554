//! The services of the demo and the checks made against them by real programs.
//!
//! Owns the list of what configs/edge.toml lets in and what it does not. The checks of one round
//! run side by side, since most of a refused probe's time is waiting for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
pub use edgefilter_tests::netns::topology as topology_addresses;
use edgefilter_tests::netns::{Edge, Namespace};
use edgefilter_tests::programs::echo::Echo;
use edgefilter_tests::programs::http::url;
use edgefilter_tests::programs::{
    Check, Expected, Nginx, PythonHttp, Resolver, Scan, Seen, curl, dig, nmap, ping,
    ping::ping_with, probes,
};
use topology_addresses::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, INNER_V4, INNER_V6};

/// A web server listens here on the host, and no rule lets anybody in.
pub const CLOSED_PORT: u16 = 8080;
const CLOSED_UDP_PORT: u16 = 9999;
/// Ports of the scans: one with a listener, the others without. No rule opens any of them.
const SCANNED: &[u16] = &[21, 25, 3306, CLOSED_PORT, 5432];
const SCANNED_UDP: &[u16] = &[123, 161, 1900, CLOSED_UDP_PORT];

/// Sources that nobody can have: ranges for documentation (RFC 5737, RFC 3849). Without a filter the host would answer.
const MARTIAN_V4: &str = "203.0.113.9";
const MARTIAN_V6: &str = "2001:db8::9";

const WORKS: Duration = Duration::from_secs(6);
const REFUSED: Duration = Duration::from_secs(1);
/// Checks at work at the same time.
const WORKERS: usize = 8;

/// Everything that listens; ends when dropped.
#[derive(Debug)]
pub struct Services {
    _host_web: Nginx,
    _client_web: Nginx,
    _resolver: Resolver,
    _closed_web: PythonHttp,
    _inner_web: PythonHttp,
    _ssh: Echo,
    _closed_udp: Echo,
}

impl Services {
    pub fn start(edge: &Edge) -> Result<Self> {
        for (family, source) in [("-4", MARTIAN_V4), ("-6", MARTIAN_V6)] {
            let words = ["ip", family, "address", "add", source, "dev", "lo"];
            edge.client.run(&words)?;
        }
        Ok(Self {
            _host_web: Nginx::start(&edge.host, &edge.scratch, &[80, 443])?,
            _client_web: Nginx::start(&edge.client, &edge.scratch, &[443])?,
            _resolver: Resolver::start(&edge.client)?,
            _closed_web: PythonHttp::start(&edge.host, &edge.scratch, CLOSED_PORT)?,
            _inner_web: PythonHttp::start(&edge.inner, &edge.scratch, CLOSED_PORT)?,
            _ssh: Echo::tcp(&edge.host, 22)?,
            _closed_udp: Echo::udp(&edge.host, CLOSED_UDP_PORT)?,
        })
    }
}

/// Makes every check once, in the order of the list.
pub fn checks(edge: &Edge) -> Result<Vec<Check>> {
    let list = list(edge);
    let results: Mutex<Vec<Option<Result<Check>>>> =
        Mutex::new(list.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(probe) = list.get(index) else { break };
                    let check = probe.make();
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results[index] = Some(check);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results
        .into_iter()
        .map(|check| check.context("a check was left out")?)
        .collect()
}

type Outcome = Result<(Seen, String)>;

struct Probe<'a> {
    name: &'static str,
    expected: Expected,
    make: Box<dyn Fn() -> Outcome + Send + Sync + 'a>,
}

impl Probe<'_> {
    fn make(&self) -> Result<Check> {
        let (seen, detail) = (self.make)().with_context(|| format!("check {:?}", self.name))?;
        Ok(Check::new(self.name, self.expected, seen, detail))
    }
}

fn list(edge: &Edge) -> Vec<Probe<'_>> {
    let (client, host, inner) = (&edge.client, &edge.host, &edge.inner);
    let mut list: Vec<Probe<'_>> = Vec::new();
    let mut works = |name, make: Box<dyn Fn() -> Outcome + Send + Sync>| {
        list.push(Probe {
            name,
            expected: Expected::Works,
            make,
        });
    };
    works("HTTP in, tcp/80", web(client, HOST_V4, 80, WORKS));
    works("HTTP in, tcp/80, IPv6", web(client, HOST_V6, 80, WORKS));
    works("HTTP in, tcp/443", web(client, HOST_V4, 443, WORKS));
    works("HTTP in, tcp/443, IPv6", web(client, HOST_V6, 443, WORKS));
    works("ping in", echo_request(client, HOST_V4));
    works("ping in, IPv6", echo_request(client, HOST_V6));
    works("DNS out, UDP", name_query(host, CLIENT_V4, false));
    works("DNS out, UDP, IPv6", name_query(host, CLIENT_V6, false));
    works("DNS out, TCP", name_query(host, CLIENT_V4, true));
    works("HTTP out, tcp/443", web(host, CLIENT_V4, 443, WORKS));
    works("HTTP out, tcp/443, IPv6", web(host, CLIENT_V6, 443, WORKS));
    works("ping out", echo_request(host, CLIENT_V4));
    works("ping out, IPv6", echo_request(host, CLIENT_V6));
    works(
        "container out: HTTP, tcp/443",
        web(inner, CLIENT_V4, 443, WORKS),
    );
    works(
        "container out: HTTP, tcp/443, IPv6",
        web(inner, CLIENT_V6, 443, WORKS),
    );
    works(
        "container out: DNS, UDP",
        name_query(inner, CLIENT_V4, false),
    );
    works("container out: ping", echo_request(inner, CLIENT_V4));

    let mut refused = |name, make: Box<dyn Fn() -> Outcome + Send + Sync>| {
        list.push(Probe {
            name,
            expected: Expected::Refused,
            make,
        });
    };
    refused(
        "HTTP in, tcp/8080 (listening)",
        web(client, HOST_V4, CLOSED_PORT, REFUSED),
    );
    refused(
        "HTTP in, tcp/8080 (listening), IPv6",
        web(client, HOST_V6, CLOSED_PORT, REFUSED),
    );
    refused("SSH in, from a stranger", connection(client, HOST_V4, 22));
    refused("TCP in, closed port", connection(client, HOST_V4, 3306));
    refused(
        "UDP in, a service no rule opens",
        datagram(client, HOST_V4, CLOSED_UDP_PORT),
    );
    refused("UDP in, closed port, IPv6", datagram(client, HOST_V6, 161));
    refused(
        "HTTP in to the container",
        web(client, INNER_V4, CLOSED_PORT, REFUSED),
    );
    refused(
        "HTTP in to the container, IPv6",
        web(client, INNER_V6, CLOSED_PORT, REFUSED),
    );
    refused(
        "ping in, from a forged source",
        echo_request_from(client, MARTIAN_V4, HOST_V4),
    );
    refused(
        "ping in, from a forged source, IPv6",
        echo_request_from(client, MARTIAN_V6, HOST_V6),
    );
    refused("nmap SYN scan", scan(client, HOST_V4, Scan::Syn));
    refused("nmap ACK scan", scan(client, HOST_V4, Scan::Ack));
    refused("nmap XMAS scan", scan(client, HOST_V4, Scan::Xmas));
    refused("nmap XMAS scan, IPv6", scan(client, HOST_V6, Scan::Xmas));
    refused("nmap UDP scan", scan(client, HOST_V4, Scan::Udp));
    list
}

fn web(
    from: &Namespace,
    to: &'static str,
    port: u16,
    limit: Duration,
) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || curl(&from, &url(to, port), limit))
}

fn echo_request(from: &Namespace, to: &'static str) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || ping(&from, to, 3))
}

fn echo_request_from(
    from: &Namespace,
    source: &'static str,
    to: &'static str,
) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || ping_with(&from, to, 3, &["-I", source]))
}

fn name_query(
    from: &Namespace,
    to: &'static str,
    tcp: bool,
) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || dig(&from, to, tcp))
}

fn connection(
    from: &Namespace,
    to: &'static str,
    port: u16,
) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || probes::tcp(&from, to, port, REFUSED))
}

fn datagram(
    from: &Namespace,
    to: &'static str,
    port: u16,
) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || probes::udp(&from, to, port, REFUSED))
}

/// The most that any of the scanned ports gave away.
fn scan(from: &Namespace, to: &'static str, scan: Scan) -> Box<dyn Fn() -> Outcome + Send + Sync> {
    let from = from.clone();
    Box::new(move || {
        let ports = if scan == Scan::Udp {
            SCANNED_UDP
        } else {
            SCANNED
        };
        let found = nmap(&from, to, scan, ports)?;
        let seen = found
            .values()
            .map(edgefilter_tests::programs::Port::seen)
            .max()
            .unwrap_or(Seen::Nothing);
        let states: Vec<String> = found
            .iter()
            .map(|(port, found)| format!("{port} {}", found.state))
            .collect();
        Ok((seen, states.join(", ")))
    })
}
