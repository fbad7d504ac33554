//! The policies in configs/ are accepted, and do what their comments say.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::Edge;
use edgefilter_tests::netns::topology::HOST_V4;
use edgefilter_tests::programs::http::url;
use edgefilter_tests::programs::{Edgefilter, PythonHttp, curl, daemon};

use crate::support::{WORKS, beside, can_run, judge, works};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

#[test]
fn every_shipped_policy_passes_check() -> Result<()> {
    if !can_run(&[]) || daemon::without_filter() {
        return Ok(());
    }
    let binary = daemon::locate()?;
    let mut checked = 0;
    for entry in std::fs::read_dir(configs())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let mut check = std::process::Command::new(&binary);
            check.arg("check");
            // the daemon's own settings
            if path.ends_with("daemon.toml") {
                check.arg("--settings");
            }
            let output = check.arg(&path).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "check {}: {said}", path.display());
            checked += 1;
        }
    }
    ensure!(
        checked >= 5,
        "only {checked} files in {}",
        configs().display()
    );
    Ok(())
}

#[test]
fn monitor_is_the_edge_policy_not_enforced() -> Result<()> {
    let edge = statements("edge.toml")?;
    let monitor = statements("monitor.toml")?;
    let added: Vec<&String> = monitor.iter().filter(|line| !edge.contains(line)).collect();
    ensure!(added == ["enforce = false"], "monitor.toml adds {added:?}");
    ensure!(
        edge.iter().all(|line| monitor.contains(line)),
        "edge.toml has statements monitor.toml lacks"
    );
    Ok(())
}

/// The lines of a policy without comments and blanks.
fn statements(name: &str) -> Result<Vec<String>> {
    let path = configs().join(name);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text
        .lines()
        .map(|line| {
            line.split(" #")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect())
}

#[test]
fn monitor_mode_counts_and_drops_nothing() -> Result<()> {
    if !can_run(&["python3", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = PythonHttp::start(&edge.host, &edge.scratch, 8080)?;
    let policy = std::fs::read_to_string(configs().join("monitor.toml"))?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    judge(
        &daemon,
        vec![works(
            "a port no rule opens",
            curl(&edge.client, &url(HOST_V4, 8080), WORKS),
        )],
    )?;
    if daemon.filtering() {
        let counters = daemon.counters()?;
        let link = counters
            .interfaces
            .get("eth0")
            .context("eth0 is not counted")?;
        let would = link
            .would_drop
            .get("drop_port")
            .map_or(0, |count| count.packets);
        // The SYN at least: what the host answers makes the rest a known flow.
        ensure!(would >= 1, "would_drop drop_port is {would}: {link:?}");
        ensure!(
            counters.packets("drop_port") == 0,
            "monitor mode dropped: {link:?}"
        );
    }
    Ok(())
}
