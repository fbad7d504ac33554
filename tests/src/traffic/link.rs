//! The link that packets go out by: what it is, and what it counts.
//!
//! Owns the rule by which links traffic may go. Looks at the network namespace of the thread that asks.

use std::ffi::CString;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A link that packets can go out by.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    kind: String,
}

/// What a link has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub received: u64,
    /// Received packets that there was no room for.
    pub receive_dropped: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the link did not take.
    pub send_dropped: u64,
}

impl Link {
    /// The link of this name.
    pub fn find(name: &str) -> Result<Self> {
        let shown = Command::new("ip")
            .args(["-json", "-details", "link", "show", "dev", name])
            .output()
            .context("cannot run `ip`: install iproute2")?;
        ensure!(
            shown.status.success(),
            "there is no link {name} here; `ip -brief link` lists those there are"
        );
        let links: Value =
            serde_json::from_slice(&shown.stdout).context("`ip -json link` gave no JSON")?;
        let link = links.get(0).context("`ip -json link` showed no link")?;
        let text = |path: &str| {
            link.pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let kind = match text("/linkinfo/info_kind") {
            "" => text("/link_type"),
            kind => kind,
        };
        let c_name = CString::new(name)?;
        // SAFETY: `c_name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        ensure!(index != 0, "the link {name} has just gone");
        Ok(Self {
            name: name.to_owned(),
            index,
            mac: mac(text("/address")).with_context(|| {
                format!("{name} is no Ethernet link: frames cannot be sent by it")
            })?,
            kind: kind.to_owned(),
        })
    }

    /// Refuses a link that may lead out of this machine.
    pub fn refuse_real(&self) -> Result<()> {
        if matches!(self.kind.as_str(), "veth" | "dummy" | "loopback") {
            return Ok(());
        }
        bail!(
            "{} is a link of kind {:?}, which may lead out of this machine. Traffic goes to veth, dummy and loopback links only; \
             for a network that is yours to load, add --i-own-this-network",
            self.name,
            self.kind
        )
    }

    /// What it has counted so far.
    pub fn counters(&self) -> Result<Counters> {
        // of the thread's namespace, not of the process's first one
        let path = "/proc/thread-self/net/dev";
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let line = text
            .lines()
            .find_map(|line| {
                line.trim_start()
                    .strip_prefix(&self.name)?
                    .strip_prefix(':')
            })
            .with_context(|| format!("{path} does not list {}", self.name))?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(|word| word.parse().unwrap_or_default())
            .collect();
        // bytes packets errs drop fifo frame compressed multicast, then the same for what was sent
        let number = |index: usize| numbers.get(index).copied().unwrap_or_default();
        Ok(Counters {
            received: number(1),
            receive_dropped: number(3),
            sent: number(9),
            send_dropped: number(11),
        })
    }
}

/// A MAC address as people write it.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

/// The MAC address that the kernel would send to for `address` by `link`: a neighbour it knows.
pub fn neighbour(link: &Link, address: std::net::IpAddr) -> Option<[u8; 6]> {
    let shown = Command::new("ip")
        .args(["-json", "neighbour", "show", "dev", &link.name])
        .output()
        .ok()?;
    let neighbours: Vec<Value> = serde_json::from_slice(&shown.stdout).ok()?;
    neighbours
        .iter()
        .find(|known| known.get("dst").and_then(Value::as_str) == Some(&address.to_string()))
        .and_then(|known| mac(known.get("lladdr")?.as_str()?))
}
