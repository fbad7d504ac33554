//! What the tests about scans share: the policy, a host with peers outside, and what the daemon made of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Edge, Outside, Peer, hardware_address, wait_until};
use edgefilter_tests::programs::{Edgefilter, blocks, floods};
use filter_user::scans::record::ScanRecord;
use ipnet::IpNet;

/// The web server of the host; everybody may.
pub const WEB: u16 = 443;
/// An echo service of the host; everybody may.
pub const ECHO: u16 = 7000;

/// A policy that lets in `WEB` and `ECHO`, and blocks whoever scans. `rules` are further rules, `scans` further lines of that
/// table.
pub fn policy(rules: &str, scans: &str) -> String {
    format!(
        "version = 1
[profiles.edge]
interfaces = [\"eth0\"]
[[profiles.edge.allow]]
id = \"services\"
protocol = \"tcp\"
ports = [{WEB}, {ECHO}]
to = \"self\"
{rules}
[scans]
action = \"block\"
{scans}
[report.nftables]
drop = true
"
    )
}

/// The host, and who is outside.
pub struct Arena {
    pub edge: Edge,
    pub outside: Outside,
}

impl Arena {
    pub fn build() -> Result<Self> {
        let edge = Edge::standard()?;
        let outside = Outside::open(&edge)?;
        Ok(Self { edge, outside })
    }

    pub fn peer(&mut self, label: &str) -> Result<Peer> {
        self.outside.peer(label)
    }

    /// What frames that the client sends by itself are for.
    pub fn target(&self) -> Result<floods::Target> {
        Ok(floods::Target {
            source_mac: hardware_address(&self.edge.client, "eth0")?,
            destination_mac: hardware_address(&self.edge.host, "eth0")?,
            v4: HOST_V4.parse()?,
            v6: HOST_V6.parse()?,
        })
    }
}

pub fn address(text: &str) -> Result<IpAddr> {
    text.parse()
        .with_context(|| format!("{text:?} is not an address"))
}

/// Everybody whom a record is about.
pub fn involved(record: &ScanRecord) -> BTreeSet<IpNet> {
    let mut all: BTreeSet<IpNet> = record.decoys.iter().copied().collect();
    all.insert(record.source);
    all
}

/// The records that are about `address`.
pub fn about(records: &[ScanRecord], address: IpAddr) -> Vec<&ScanRecord> {
    let mut found: Vec<&ScanRecord> = records.iter().collect();
    found.retain(|record| involved(record).iter().any(|net| net.contains(&address)));
    found
}

/// Whether `address` is blocked, according to the daemon.
pub fn blocked(daemon: &Edgefilter, address: IpAddr) -> Result<bool> {
    let list = blocks::blocks(daemon)?;
    Ok(list.iter().any(|block| block.source.contains(&address)))
}

/// Nobody is blocked, nor in the sets of nftables.
pub fn nobody_blocked(daemon: &Edgefilter, arena: &Arena) -> Result<()> {
    let list = blocks::blocks(daemon)?;
    ensure!(list.is_empty(), "blocked: {list:?}");
    if daemon.filtering() {
        let sets = blocks::nft_sets(&arena.edge.host)?.context("no table inet edgefilter")?;
        ensure!(sets.is_empty(), "blocked in nftables: {sets:?}");
    }
    Ok(())
}

/// Waits until everything about blocks is gone, for at most `limit`; returns how long it took.
pub fn all_gone(daemon: &Edgefilter, arena: &Arena, limit: Duration) -> Result<Duration> {
    wait_until(limit, || nobody_blocked(daemon, arena).is_ok()).with_context(|| {
        let why = nobody_blocked(daemon, arena).err();
        format!("not gone after {limit:?}: {why:?}")
    })
}

/// One line about a record.
pub fn summary(record: &ScanRecord) -> String {
    format!(
        "{} {:?} from {}{}: {:?}, {} ports, {} hosts, {} packets, called a scan at target {}, {:?}, hints {:?}{}",
        record.id,
        record.kind,
        record.source,
        if record.decoys.is_empty() {
            String::new()
        } else {
            format!(" with decoys {:?}", record.decoys)
        },
        record.patterns,
        record.ports,
        record.hosts,
        record.packets,
        record.targets_to_open,
        record.verdict,
        record.hints,
        if record.shed { ", shed" } else { "" },
    )
}
