//! Our filter under a policy, loaded and filled through the same code as in the daemon, but attached to nothing.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use filter_common::layout::Block;
use filter_common::service::protocol;
use filter_user::compile::{self, HostFacts, Route, RuleSlots};
use filter_user::dataplane::conntrack::{ExistingFlow, Kind};
use filter_user::dataplane::scans::ScanTables;
use filter_user::dataplane::{Assignment, Dataplane, Pins, PolicyMark, Sizes, UNBOUND, XdpProgram};
use filter_user::policy::{self, Active};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::frames::{HOST4, HOST6, PEER_PORT, PEER4, PEER6};
use super::kernel::Program;

/// Test runs come in on the namespace's loopback interface.
const LOOPBACK: u32 = 1;
/// Flow table entries, unless asked otherwise.
pub const FLOWS: u32 = 131_072;
/// A port of ours that talks to [`PEER_PORT`] of the peer.
pub const CLIENT_PORT: u16 = 50_000;

/// Where the benchmark has mounted its own bpffs.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The policy for a web server, as shipped.
pub const EDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/edge.toml");

/// The loaded filter.
#[derive(Debug)]
pub struct Filter {
    dataplane: Dataplane,
    scans: ScanTables,
    /// From the policy's text to tables in memory.
    pub compiled_in: Duration,
    /// From tables in memory to the policy being in force (building the prefix table, writing, reading back).
    pub pushed_in: Duration,
}

impl Filter {
    /// Loads the filter with `text` as its policy, below `directory`.
    pub fn load(directory: &Path, name: &str, text: &str) -> Result<Self> {
        let flows = [
            flow(HOST4.into(), PEER4.into()),
            flow(HOST6.into(), PEER6.into()),
        ];
        Self::load_with_flows(directory, name, text, &flows, FLOWS)
    }

    /// The same with these flows, in a table with room for so many.
    pub fn load_with_flows(
        directory: &Path,
        name: &str,
        text: &str,
        flows: &[ExistingFlow],
        room: u32,
    ) -> Result<Self> {
        let path = directory.join(format!("{name}.toml"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let started = Instant::now();
        let loaded = policy::load(&path)
            .map_err(|wrong| anyhow!("the policy {name} is refused:\n{wrong:?}"))?;
        let host = HostFacts {
            own_v4: vec![HOST4],
            own_v6: vec![HOST6],
            routes: [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
                .map(|prefix| Route {
                    table: 254,
                    prefix,
                    metric: 0,
                    interfaces: vec![LOOPBACK],
                    any: false,
                })
                .to_vec(),
            strict: vec![vec![LOOPBACK]],
            ..HostFacts::default()
        };
        let compiled = compile::compile(
            &loaded.policy,
            &Active::default(),
            &host,
            &mut RuleSlots::default(),
        )
        .with_context(|| format!("the policy {name} cannot be compiled"))?;
        let compiled_in = started.elapsed();

        // in the bpffs of our own namespace: one mounted below `directory` would keep that from being removed
        let pins = Pins::prepare(&Path::new(BPFFS).join(name))?;
        let mut dataplane = Dataplane::load(&pins, Sizes::needed(&compiled)?, room)?;
        let assignment = Assignment {
            ifindex: LOOPBACK,
            slot: 1,
            profile: Some(0),
            vlans: Vec::new(),
            binding: UNBOUND,
            reach_bit: 0,
        };
        let started = Instant::now();
        dataplane.push(&compiled, &[assignment], PolicyMark::default())?;
        let pushed_in = started.elapsed();
        let noted = dataplane.note_existing(flows, &host, false)?;
        // as the daemon does when it starts
        dataplane.flows_are_complete(noted)?;
        Ok(Self {
            scans: ScanTables::open(&pins)?,
            dataplane,
            compiled_in,
            pushed_in,
        })
    }

    /// The program for what comes in.
    pub fn program(&mut self) -> Result<Program> {
        Ok(Program::from_fd(
            self.dataplane
                .xdp(XdpProgram::In)?
                .fd()?
                .as_fd()
                .try_clone_to_owned()?,
        ))
    }

    /// Blocks a source for as long as anything is measured.
    pub fn block(&mut self, source: Ipv4Addr) -> Result<()> {
        let block = Block {
            since: 0,
            until: u64::MAX,
            strikes: 1,
            origin: 0,
        };
        Ok(self.scans.block(Ipv4Net::from(source).into(), block)?)
    }

    /// Renews the budget of sampled drops and of probes, as the daemon does ten times a second.
    pub fn renew_events(&mut self) -> Result<()> {
        Ok(self.dataplane.renew_event_budget()?)
    }
}

/// A connection that we opened to the peer.
pub fn flow(local: IpAddr, remote: IpAddr) -> ExistingFlow {
    ExistingFlow {
        protocol: protocol::TCP,
        local,
        local_port: CLIENT_PORT,
        remote: Some(remote),
        remote_port: PEER_PORT,
        kind: Kind::Established,
        outgoing: true,
        remaining: None,
    }
}

/// Which sources are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// None.
    Any,
    /// Martians and own addresses, as by default.
    Checked,
    /// The strict reverse path as well.
    Strict,
}

impl Sources {
    fn table(self) -> String {
        let (checked, path) = match self {
            Self::Any => (false, "off"),
            Self::Checked => (true, "off"),
            Self::Strict => (true, "strict"),
        };
        // the measured peer has an address for documentation
        format!(
            "[profiles.edge.antispoof]\nmartians = {checked}\nown_addresses = {checked}\nreverse_path = \"{path}\"\n\
             legitimate = [\"203.0.113.0/24\"]\n"
        )
    }
}

/// The shipped edge policy, on the loopback interface.
pub fn edge(enforce: bool, sources: Sources) -> Result<String> {
    let text = fs::read_to_string(EDGE).with_context(|| format!("cannot read {EDGE}"))?;
    let (mut found, mut skipped) = (false, false);
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            skipped = line.starts_with("[profiles.edge.antispoof]");
        }
        if line.starts_with("interfaces =") {
            found = true;
            lines.push(format!("interfaces = [\"lo\"]\nenforce = {enforce}"));
        } else if !skipped {
            lines.push(line.to_owned());
        }
    }
    if !found {
        bail!("{EDGE} has no line `interfaces = ...` to replace");
    }
    lines.push(sources.table());
    Ok(lines.join("\n"))
}

/// The edge policy, with scans neither counted nor reported.
pub fn edge_without_scans() -> Result<String> {
    let text = edge(true, Sources::Checked)?;
    let without = text.replace("[scans]\n", "[scans]\nsensitivity = \"off\"\n");
    if without == text {
        bail!("{EDGE} has no table [scans]");
    }
    Ok(without)
}

/// A policy that opens the web to a group of prefixes only.
pub fn with_group(file: &str) -> String {
    format!(
        "version = 1\n[groups.many]\nfiles = [\"{file}\"]\n[profiles.edge]\ninterfaces = [\"lo\"]\n\
         [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [80, 443]\nfrom = [\"@many\"]\nto = \"self\"\n"
    )
}

/// A policy of `count` rules with a port of their own each and `sources` sources by turns; the last one opens tcp/443 to
/// the peer.
pub fn with_rules(count: usize, sources: usize) -> String {
    let mut text = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n".to_owned();
    for rule in 1..count {
        let source = rule % sources;
        let _ = write!(
            text,
            "[[profiles.edge.allow]]\nid = \"rule-{rule}\"\nprotocol = \"tcp\"\nports = [{}]\nfrom = [\"10.{}.{}.0/24\"]\nto = \"self\"\n",
            10_000 + rule,
            source >> 8,
            source & 0xff,
        );
    }
    text + "[[profiles.edge.allow]]\nid = \"last\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"203.0.113.0/24\"]\nto = \"self\"\n"
}
