//! Real programs, wrapped: servers, clients, scanners, and the `edgefilter` daemon itself.
//!
//! Owns how each is started (own configuration, own directory, bounded time) and how its output is
//! read. Must never judge: what an outcome means is the test's business.

pub mod blocks;
pub mod checks;
pub mod container;
pub mod daemon;
pub mod dhcp;
pub mod echo;
pub mod floods;
pub mod foreign;
pub mod ftp;
pub mod http;
pub mod iperf;
pub mod late;
pub mod marker;
pub mod memory;
pub mod ping;
pub mod probes;
pub mod resolver;
pub mod scan;
pub mod sink;
pub mod spoof;
pub mod ssh;
pub mod swarm;
pub mod visitors;

pub use checks::{Check, Expected, Seen};
pub use container::{Container, Network};
pub use daemon::{Count, Counters, Edgefilter};
pub use http::{Nginx, PythonHttp, curl, curl_from};
pub use memory::Memory;
pub use ping::ping;
pub use resolver::{Resolver, dig};
pub use scan::{Port, Scan, nmap};
pub use sink::Sink;
pub use ssh::Sshd;

use std::path::PathBuf;

/// Where a program is, or `None`. Looks at PATH and at the system directories, which a PATH of an
/// ordinary user leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The Debian package that brings a program used here.
pub fn package(program: &str) -> &str {
    match program {
        "dig" => "bind9-dnsutils",
        "dnsmasq" => "dnsmasq-base",
        "dhclient" => "isc-dhcp-client",
        "busybox" => "busybox-static",
        "ip" | "tc" => "iproute2",
        "nft" => "nftables",
        "nsenter" => "util-linux",
        "ping" => "iputils-ping",
        "ssh" | "ssh-keygen" => "openssh-client",
        "sshd" => "openssh-server",
        same => same,
    }
}

/// Says what is missing and how to get it; `None` when all are there.
pub fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    if absent.is_empty() {
        return None;
    }
    let packages: Vec<&str> = absent.iter().map(|program| package(program)).collect();
    Some(format!(
        "{} not installed: apt-get install {}",
        absent.join(", "),
        packages.join(" ")
    ))
}
