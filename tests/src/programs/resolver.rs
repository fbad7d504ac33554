//! A real resolver (dnsmasq) and the dig client.
//!
//! Owns dnsmasq's whole configuration: the system's files and its upstream servers are not used.

use std::time::Duration;

use anyhow::Result;

use super::checks::Seen;
use super::http::wait_listening;
use crate::netns::{Namespace, Running};

/// The one name it knows, and its addresses.
pub const NAME: &str = "service.edge.test";
/// Its A record.
pub const ADDRESS_V4: &str = "10.77.9.9";
/// Its AAAA record.
pub const ADDRESS_V6: &str = "fd77:9::9";

/// dnsmasq on port 53, UDP and TCP, IPv4 and IPv6.
#[derive(Debug)]
pub struct Resolver {
    _running: Running,
}

impl Resolver {
    /// Starts it, and waits until it listens.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let record = format!("--host-record={NAME},{ADDRESS_V4},{ADDRESS_V6}");
        let mut running = namespace.start(&[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--no-poll",
            "--log-facility=-",
            "--user=root",
            "--pid-file=",
            "--port=53",
            &record,
        ])?;
        wait_listening(namespace, &mut running, &[53])?;
        Ok(Self { _running: running })
    }
}

/// Asks `server` for the name's addresses once, over UDP, or TCP when `tcp`.
pub fn dig(namespace: &Namespace, server: &str, tcp: bool) -> Result<(Seen, String)> {
    let at = format!("@{server}");
    let transport = if tcp { "+tcp" } else { "+notcp" };
    let done = namespace.try_run(
        &[
            "dig", &at, NAME, "A", transport, "+tries=1", "+time=2", "+short", "-r",
        ],
        Duration::from_secs(10),
    )?;
    let answer = done.stdout.trim().to_owned();
    let seen = if done.ok() && answer == ADDRESS_V4 {
        Seen::Works
    } else if answer.contains("refused") {
        Seen::Reached
    } else {
        Seen::Nothing
    };
    Ok((
        seen,
        format!(
            "dig exit {}: {}",
            done.code(),
            answer.lines().next().unwrap_or_default()
        ),
    ))
}
