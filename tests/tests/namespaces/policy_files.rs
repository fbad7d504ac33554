//! The policy file that a daemon is started with: a directory of fragments that grows, and files that are broken when
//! they are read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Edge, wait_until};
use edgefilter_tests::programs::Edgefilter;
use serde_json::Value;

use crate::support::{STRICT, allow, beside, can_run};

const SOON: Duration = Duration::from_secs(20);
const BROKEN: &str =
    "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\nenforce = \"perhaps\"\n";

fn until(daemon: &Edgefilter, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    wait_until(SOON, || {
        last = daemon.status().unwrap_or_default();
        holds(&last)
    })
    .with_context(|| format!("{what}: {last}\n{}", daemon.log()))?;
    Ok(last)
}

/// What the metrics say of the last attempt to load a policy.
fn load_ok(daemon: &Edgefilter) -> Result<bool> {
    let text = daemon.cli(&["metrics"])?.require()?.stdout;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("edgefilter_policy_load_ok "));
    Ok(line.with_context(|| format!("no such metric: {text}"))? == "1")
}

fn rules(status: &Value) -> u64 {
    status["policy"]["rules"].as_u64().unwrap_or_default()
}

fn error(status: &Value) -> &str {
    status["policy"]["last_error"].as_str().unwrap_or_default()
}

#[test]
fn a_fragment_that_is_added_is_put_in_force() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, STRICT)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let directory = edge.scratch.directory("policy.d")?;
    let write = |name: &str, text: &str| edge.scratch.file(&format!("policy.d/{name}"), text);
    let rule = |id: &str, port: u16| {
        format!(
            "[[profiles.edge.allow]]\nid = \"{id}\"\nprotocol = \"tcp\"\nports = {port}\nfrom = \"@team\"\n"
        )
    };
    write("10-edge.toml", STRICT)?;
    write(
        "20-team.toml",
        &format!(
            "[groups.team]\nfiles = [\"team.cidr\"]\n{}",
            rule("web", 80)
        ),
    )?;
    write("team.cidr", "192.0.2.0/24\n")?;
    daemon.policy_at(directory);
    daemon.options(&["--watch"]);
    daemon.start()?;
    let status = daemon.status()?;
    ensure!(rules(&status) == 1, "{status}");

    let added = write("30-more.toml", &rule("mail", 25))?;
    until(&daemon, "a fragment is added", |status| rules(status) == 2)?;
    write(
        "30-more.toml",
        &[rule("mail", 25), rule("dns", 53)].concat(),
    )?;
    until(&daemon, "a fragment grows", |status| rules(status) == 3)?;
    write("team.cidr", "192.0.2.0/24\n198.51.100.0/24\n")?;
    let status = until(&daemon, "a list grows", |status| {
        status["policy"]["prefixes"] == 2
    })?;

    // one broken fragment is one broken policy: what was in force stays, all of it
    write("30-more.toml", "[[profiles.edge.allow]]\nid = \"web\"\n")?;
    let broken = until(&daemon, "a fragment is broken", |status| {
        !error(status).is_empty()
    })?;
    ensure!(error(&broken).contains("30-more.toml"), "{broken}");
    ensure!(
        broken["policy"]["generation"] == status["policy"]["generation"] && rules(&broken) == 3,
        "{broken}"
    );
    ensure!(!load_ok(&daemon)?, "the metric says nothing");
    std::fs::remove_file(added)?;
    let status = until(&daemon, "a fragment is removed", |status| {
        rules(status) == 1
    })?;
    ensure!(
        error(&status).is_empty() && load_ok(&daemon)?,
        "still broken: {status}"
    );
    daemon.terminate()
}

#[test]
fn a_broken_policy_file_changes_nothing_and_is_told() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let good = allow("tcp", &[80]);
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &good)?;
    if !daemon.filtering() {
        return Ok(());
    }
    ensure!(load_ok(&daemon)?);
    let before = daemon.status()?["policy"].clone();
    let keeps = |daemon: &Edgefilter, what: &str| -> Result<()> {
        let status = until(daemon, what, |status| !error(status).is_empty())?;
        ensure!(error(&status).contains("policy.toml:4"), "{what}: {status}");
        for key in ["generation", "fingerprint", "rules"] {
            ensure!(status["policy"][key] == before[key], "{what}: {status}");
        }
        ensure!(status["kernel"]["generation"] == 1, "{what}: {status}");
        let table = daemon.cli(&["status"])?;
        ensure!(
            table.stdout.contains("policy.toml:4"),
            "{what}: {}",
            table.stdout
        );
        ensure!(!load_ok(daemon)?, "{what}: the metric says nothing");
        ensure!(daemon.log().contains("enforce"), "{what}: {}", daemon.log());
        Ok(())
    };
    daemon.replace_policy(BROKEN)?;
    daemon.hang_up()?;
    keeps(&daemon, "SIGHUP")?;
    daemon.replace_policy(&good)?;
    daemon.hang_up()?;
    until(&daemon, "mended", |status| error(status).is_empty())?;
    ensure!(load_ok(&daemon)?, "mended, and the metric does not say so");

    // a cold boot: nothing is left in the kernel, and the file is broken
    daemon.terminate()?;
    daemon.detach()?;
    daemon.replace_policy(BROKEN)?;
    daemon.options(&["--watch"]);
    daemon.start()?;
    keeps(&daemon, "a cold boot")?;
    ensure!(
        daemon.log().contains("the last good policy is"),
        "{}",
        daemon.log()
    );
    print!("{}", daemon.cli(&["status"])?.stdout);
    daemon.replace_policy(&good)?;
    until(&daemon, "mended while watched", |status| {
        error(status).is_empty()
    })?;
    daemon.replace_policy(BROKEN)?;
    keeps(&daemon, "--watch")?;
    daemon.terminate()
}

#[test]
fn a_first_start_with_a_broken_policy_file_is_refused() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let daemon = Edgefilter::prepare(&edge.host, &edge.scratch, BROKEN)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let done = daemon.run_to_end()?;
    ensure!(
        done.code() == 1,
        "exit code {}: {}",
        done.code(),
        done.stderr
    );
    ensure!(done.stderr.contains("policy.toml:4"), "{}", done.stderr);
    Ok(())
}
