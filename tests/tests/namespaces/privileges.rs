//! What the daemon may do: which capabilities it needs and what goes without them, how far it is confined, and how the
//! systemd unit is rated.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::{Edge, Scratch, wait_until};
use edgefilter_tests::programs::{Edgefilter, find};
use serde_json::Value;

use crate::support::{alone, beside, can_run};

/// What a status has to say within.
const SOON: Duration = Duration::from_secs(20);
const BLOCKED: &str = "198.51.100.7";
const POLICY: &str = "version = 1\n[profiles.edge]\ninterfaces = [\"eth*\"]\n[scans]\naction = \"block\"\n\
                      never_block = [\"192.0.2.0/24\"]\n[report.nftables]\n";

/// Number (include/uapi/linux/capability.h), name, and whether there is no filter without it.
const CAPABILITIES: [(u8, &str, bool); 6] = [
    (39, "CAP_BPF", true),
    (38, "CAP_PERFMON", true),
    (12, "CAP_NET_ADMIN", true),
    (11, "CAP_NET_BROADCAST", false),
    (2, "CAP_DAC_READ_SEARCH", false),
    (19, "CAP_SYS_PTRACE", false),
];
/// Those of the systemd unit.
pub const UNIT: [u8; 4] = [39, 38, 12, 11];

/// The daemon with these capabilities and no others, whatever root has.
pub fn with(daemon: &mut Edgefilter, capabilities: &[u8]) {
    let kept: Vec<String> = capabilities
        .iter()
        .map(|number| format!("+cap_{number}"))
        .collect();
    let set = format!("--bounding-set=-all,{}", kept.join(","));
    daemon.started_by(&["setpriv", &set]);
}

/// Everything that a daemon does in its life.
fn tour(edge: &Edge, daemon: &mut Edgefilter) -> Result<()> {
    daemon.replace_policy(POLICY)?;
    daemon.start()?;
    let before = fingerprint(&daemon.status()?);
    let rule = "[[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [80]\n";
    daemon.replace_policy(&format!("{POLICY}{rule}"))?;
    daemon.hang_up()?;
    until(daemon, "a reload", |status| fingerprint(status) != before)?;
    edge.host.run(&[
        "ip", "link", "add", "eth7", "type", "veth", "peer", "name", "peer7",
    ])?;
    until(daemon, "a new interface", |status| {
        status["interfaces"].as_array().is_some_and(|list| {
            list.iter()
                .any(|one| one["name"] == "eth7" && one["attached"] == true)
        })
    })?;
    daemon.cli(&["block", "add", BLOCKED])?.require()?;
    wait_until(SOON, || {
        let list = edge
            .host
            .run(&["nft", "list", "table", "inet", "edgefilter"]);
        list.is_ok_and(|done| done.stdout.contains(BLOCKED))
    })
    .context("nft does not hold the block")?;
    daemon.cli(&["audit", "exposure", "--json"])?.require()?;
    daemon.terminate()?;
    daemon.detach()?;
    edge.host.run(&["ip", "link", "delete", "eth7"])?;
    let tables = edge.host.run(&["nft", "list", "tables"])?.stdout;
    ensure!(
        !tables.contains("inet edgefilter"),
        "detach leaves its table: {tables}"
    );
    Ok(())
}

fn fingerprint(status: &Value) -> String {
    status["policy"]["fingerprint"].to_string()
}

fn until(daemon: &Edgefilter, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
    wait_until(SOON, || daemon.status().is_ok_and(|status| holds(&status)))
        .with_context(|| format!("{what}: {:?}\n{}", daemon.status(), daemon.log()))
        .map(drop)
}

#[test]
fn a_missing_capability_is_named_or_not_missed() -> Result<()> {
    if !can_run(&["setpriv"]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, POLICY)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let all: Vec<u8> = CAPABILITIES.iter().map(|(number, ..)| *number).collect();
    println!("{:<24} what becomes of the daemon", "without");
    for (missing, name, needed) in CAPABILITIES {
        let kept: Vec<u8> = all
            .iter()
            .copied()
            .filter(|number| *number != missing)
            .collect();
        with(&mut daemon, &kept);
        let said = if needed {
            let done = daemon.run_to_end()?;
            ensure!(
                done.code() == 4,
                "{name}: exit code {}: {}",
                done.code(),
                done.stderr
            );
            done.stderr
        } else {
            tour(&edge, &mut daemon).with_context(|| format!("without {name}"))?;
            daemon.start()?;
            let status = daemon.status()?;
            let warnings = status["sandbox"]["warnings"].to_string();
            daemon.terminate()?;
            daemon.detach()?;
            warnings
        };
        let line = said.lines().find(|line| line.contains(name));
        let Some(line) = line else {
            bail!("{name} is not named: {said}")
        };
        println!("{name:<24} {}", line.trim());
    }
    with(&mut daemon, &UNIT);
    tour(&edge, &mut daemon).context("with the capabilities of the unit")?;
    println!("{:<24} works", "all but the unit's");
    with(&mut daemon, &all);
    tour(&edge, &mut daemon).context("with all that it keeps")
}

/// Fields of /proc/PID/status.
fn field(status: &str, name: &str) -> Option<String> {
    status.lines().find_map(|line| {
        Some(
            line.strip_prefix(name)?
                .trim_start_matches(':')
                .trim()
                .to_owned(),
        )
    })
}

#[test]
fn the_daemon_and_what_it_starts_are_confined() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, POLICY)?;
    if !daemon.filtering() {
        return Ok(());
    }
    // an nft that says what it may do, then does it
    let programs = edge.scratch.directory("bin")?;
    let seen = edge.scratch.path().join("state/nft");
    let nft = find("nft").context("no nft")?;
    let script = format!(
        "#!/bin/sh\ngrep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status > {}\nexec {} \"$@\"\n",
        seen.display(),
        nft.display()
    );
    let program = edge.scratch.file("bin/nft", script)?;
    fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let path = format!("PATH={}:{}", programs.display(), std::env::var("PATH")?);
    daemon.started_by(&["env", &path]);
    daemon.start()?;
    let pid = daemon.pid().context("no daemon")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let is = |name: &str| field(&status, name).unwrap_or_default();
    ensure!(is("NoNewPrivs") == "1" && is("Seccomp") == "2", "{status}");
    // bpf, perfmon, net_admin, net_broadcast, dac_read_search
    let kept = 1_u64 << 39 | 1 << 38 | 1 << 12 | 1 << 11 | 1 << 2;
    let effective = u64::from_str_radix(&is("CapEff"), 16)?;
    ensure!(
        effective & !kept == 0,
        "it keeps more than it needs: {effective:x}"
    );
    ensure!(is("CapBnd") == "0000000000001000", "{status}");
    ensure!(
        daemon.status()?["sandbox"]["landlock"].is_number(),
        "{}",
        daemon.log()
    );

    wait_until(SOON, || {
        fs::read_to_string(&seen).is_ok_and(|said| said.contains("Seccomp"))
    })
    .context("nft was not run")?;
    let child = fs::read_to_string(&seen)?;
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        ensure!(
            field(&child, name).as_deref() == Some("0000000000001000"),
            "{child}"
        );
    }
    ensure!(field(&child, "Seccomp").as_deref() == Some("2"), "{child}");

    // a later policy wants its reports somewhere else
    let elsewhere = Scratch::create("elsewhere")?;
    let reports = format!(
        "{POLICY}[report.file]\npath = \"{}/scans.jsonl\"\n",
        elsewhere.path().display()
    );
    let before = fingerprint(&daemon.status()?);
    daemon.replace_policy(&reports)?;
    daemon.hang_up()?;
    until(&daemon, "a reload", |status| fingerprint(status) != before)?;
    daemon.cli(&["block", "add", BLOCKED])?.require()?;
    until(&daemon, "a file that cannot be written", |status| {
        status["scans"]
            .to_string()
            .to_lowercase()
            .contains("permission denied")
    })?;
    daemon.terminate()?;
    daemon.options(&["--allow-write", &elsewhere.path().display().to_string()]);
    daemon.start()?;
    daemon.cli(&["block", "remove", BLOCKED])?.require()?;
    wait_until(SOON, || elsewhere.path().join("scans.jsonl").exists())
        .with_context(|| format!("no report was written: {}", daemon.log()))?;
    daemon.terminate()?;

    daemon.options(&["--no-sandbox"]);
    daemon.start()?;
    let shown = daemon.status()?;
    ensure!(
        shown["sandbox"]["enabled"] == false && shown["sandbox"]["seccomp"] == false,
        "{shown}"
    );
    daemon.terminate()
}

#[test]
fn the_unit_is_rated_at_most_two() -> Result<()> {
    const MOST: f64 = 2.0;
    if !can_run(&["systemd-analyze"]) {
        return Ok(());
    }
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/edgefilter.service");
    let done = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", unit])
        .env("SYSTEMD_COLORS", "0")
        .output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let level = said.lines().find_map(|line| {
        line.split_once("Overall exposure level for")?
            .1
            .split_once(": ")
    });
    let level: f64 = level
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no rating: {said}{}", String::from_utf8_lossy(&done.stderr)))?;
    println!("exposure level {level}");
    ensure!(level <= MOST, "{said}");
    Ok(())
}
