//! Sockets of this network namespace that wait for anybody: listening TCP, unconnected UDP, SCTP endpoints.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};

use super::Listener;
use crate::dataplane::conntrack::sockets::{self, Waiting};

/// IP protocol number.
const UDP: u8 = 17;

/// UDP ports of clients are no services, though their sockets look the same: those that the kernel hands out.
/// Returns how many were left out for that.
///
/// # Errors
/// When the kernel does not list its sockets.
pub fn listeners() -> Result<(Vec<Listener>, usize)> {
    let waiting = sockets::waiting().context("cannot list the sockets of this host (sock_diag)")?;
    let ephemeral = sockets::ephemeral_ports();
    let mut found = Vec::new();
    let mut clients = 0;
    for socket in waiting {
        if socket.protocol == UDP && (ephemeral.0..=ephemeral.1).contains(&socket.port) {
            clients += 1;
        } else {
            found.push(listener(&socket));
        }
    }
    let endpoints = fs::read_to_string("/proc/thread-self/net/sctp/eps").unwrap_or_default();
    found.extend(endpoints.lines().filter_map(endpoint));
    found.sort();
    // threads and SO_REUSEPORT: one socket each
    found.dedup_by(|one, other| {
        (&one.protocol, one.port, one.address, one.uid)
            == (&other.protocol, other.port, other.address, other.uid)
    });
    Ok((found, clients))
}

fn listener(socket: &Waiting) -> Listener {
    Listener {
        protocol: if socket.protocol == UDP { "udp" } else { "tcp" }.to_owned(),
        port: socket.port,
        address: socket.address.to_canonical(),
        inode: socket.inode,
        uid: socket.uid,
        pid: None,
        process: None,
        container: None,
    }
}

/// A line of /proc/net/sctp/eps: `ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS` (net/sctp/proc.c).
pub(super) fn endpoint(line: &str) -> Option<Listener> {
    const LISTENING: &str = "10";
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != LISTENING {
        return None;
    }
    Some(Listener {
        protocol: "sctp".to_owned(),
        port: fields.get(5)?.parse().ok()?,
        address: fields
            .get(8)
            .and_then(|text| text.parse().ok())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        inode: fields.get(7)?.parse().ok()?,
        uid: fields.get(6)?.parse().ok()?,
        pid: None,
        process: None,
        container: None,
    })
}
