//! Interfaces that appear, vanish, are none of our business, or belong to somebody else's program.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::links::{Veth, add_address, describe, veth};
use edgefilter_tests::netns::topology::SECOND_V4;
use edgefilter_tests::netns::{Edge, EdgeOptions, wait_until};
use edgefilter_tests::programs::echo::Echo;
use edgefilter_tests::programs::foreign::{self, ForeignXdp, Verdict};
use edgefilter_tests::programs::{Edgefilter, probes};

use crate::support::{
    SILENCE, STRICT, WORKS, alone, beside, can_run, judge, outcomes, refused, works,
};

const PORT: u16 = 7000;

#[test]
fn a_link_that_appears_is_filtered_within_a_second_and_one_that_vanishes_is_forgotten() -> Result<()>
{
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let _closed = Echo::tcp(&edge.host, PORT)?;
    let policy = "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\", \"late*\"]\n";
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, policy)?;
    let managed = || {
        daemon
            .counters()
            .is_ok_and(|counters| counters.interfaces.contains_key("late0"))
    };
    let begin = Instant::now();
    veth(
        Veth {
            namespace: &edge.host,
            name: "late0",
        },
        Veth {
            namespace: &edge.client,
            name: "late0",
        },
        1500,
    )?;
    if daemon.filtering() {
        wait_until(Duration::from_secs(5), managed).context("late0 was never attached")?;
        let took = begin.elapsed();
        eprintln!(
            "late0 was attached {} ms after its making began",
            took.as_millis()
        );
        ensure!(
            took < Duration::from_secs(1),
            "it took {took:?} to attach late0"
        );
    }
    add_address(&edge.host, "late0", "10.77.5.1/24")?;
    add_address(&edge.client, "late0", "10.77.5.2/24")?;
    outcomes(
        &daemon,
        vec![refused(
            "port 7000 by late0",
            probes::tcp(&edge.client, "10.77.5.1", PORT, SILENCE),
        )],
    )?;
    edge.host.run(&["ip", "link", "del", "late0"])?;
    if daemon.filtering() {
        let took =
            wait_until(Duration::from_secs(5), || !managed()).context("late0 was not forgotten")?;
        eprintln!("late0 was forgotten after {} ms", took.as_millis());
    }
    // And once more under the same name, which has another index now.
    veth(
        Veth {
            namespace: &edge.host,
            name: "late0",
        },
        Veth {
            namespace: &edge.client,
            name: "late0",
        },
        1500,
    )?;
    if daemon.filtering() {
        wait_until(Duration::from_secs(1), managed)
            .context("the second late0 was not attached within a second")?;
    }
    Ok(())
}

#[test]
fn an_interface_no_profile_names_is_left_alone() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::build(&EdgeOptions {
        second: true,
        ..EdgeOptions::default()
    })?;
    let second = edge.second.as_ref().context("no second peer")?;
    let _closed = Echo::tcp(&edge.host, PORT)?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    judge(
        &daemon,
        vec![
            refused(
                "by eth0",
                probes::tcp(&edge.client, "10.77.1.1", PORT, SILENCE),
            ),
            works("by eth1", probes::tcp(second, "10.77.3.1", PORT, WORKS)),
            works("out by eth1", {
                let _peer = Echo::tcp(second, PORT)?;
                probes::tcp(&edge.host, SECOND_V4, PORT, WORKS)
            }),
        ],
    )?;
    let eth1 = describe(&edge.host, "eth1")?.context("eth1 is gone")?;
    ensure!(
        eth1.get("xdp").is_none(),
        "an XDP program on eth1, which no profile names: {eth1}"
    );
    Ok(())
}

#[test]
fn a_foreign_xdp_program_is_named_and_left_in_place() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _foreign = ForeignXdp::attach(&edge.host, "eth0", Verdict::Pass)?;
    let program = |edge: &Edge| -> Result<u64> {
        let link = describe(&edge.host, "eth0")?.context("eth0 is gone")?;
        link.pointer("/xdp/prog/id")
            .and_then(serde_json::Value::as_u64)
            .with_context(|| format!("no XDP program on eth0: {link}"))
    };
    let before = program(&edge)?;
    let daemon = Edgefilter::prepare(&edge.host, &edge.scratch, STRICT)?;
    if daemon.filtering() {
        let refused = daemon
            .run_to_end()
            .context("`run` has to end by itself when it refuses")?;
        ensure!(
            refused.code() == 1,
            "exit code {}: {}",
            refused.code(),
            refused.stderr
        );
        ensure!(
            refused.stderr.contains(&format!("id {before}")) && refused.stderr.contains("eth0"),
            "the refusal names neither program nor interface: {}",
            refused.stderr
        );
        let shown = daemon.cli(&["doctor", "eth0"])?;
        ensure!(
            shown.stdout.contains(foreign::NAME),
            "doctor does not name the program: {}",
            shown.stdout
        );
    }
    ensure!(
        program(&edge)? == before,
        "the foreign program was replaced"
    );
    Ok(())
}

#[test]
fn generic_mode_is_used_only_when_the_policy_allows_it() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _closed = Echo::tcp(&edge.host, PORT)?;
    // Loopback has no native XDP.
    let policy = |generic: bool| {
        format!("version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\ngeneric_xdp = {generic}\n")
    };
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, &policy(false))?;
    if !daemon.filtering() {
        return Ok(());
    }
    let refused_start = daemon.run_to_end()?;
    ensure!(refused_start.code() == 1, "it started: {refused_start:?}");
    ensure!(
        refused_start.stderr.contains("generic_xdp = true"),
        "the cure is not named: {}",
        refused_start.stderr
    );
    daemon.replace_policy(&policy(true))?;
    daemon.start()?;
    let status = daemon.status()?;
    ensure!(
        status.pointer("/interfaces/0/mode") == Some(&"generic".into()),
        "the mode in force is not shown: {status}"
    );
    judge(
        &daemon,
        vec![refused(
            "port 7000 over loopback",
            probes::tcp(&edge.host, "127.0.0.1", PORT, SILENCE),
        )],
    )
}

#[test]
fn a_reload_opens_and_closes_and_a_bad_file_changes_nothing() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _service = Echo::tcp(&edge.host, PORT)?;
    let open = format!(
        "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n[[profiles.edge.allow]]\n\
         id = \"echo\"\nprotocol = \"tcp\"\nports = [{PORT}]\n"
    );
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let ask = |limit| probes::tcp(&edge.client, "10.77.1.1", PORT, limit);
    judge(&daemon, vec![refused("closed", ask(SILENCE))])?;
    reload(&mut daemon, &open)?;
    judge(&daemon, vec![works("opened by a reload", ask(WORKS))])?;
    reload(
        &mut daemon,
        "version = 1\n[profiles.edge]\ninterface = [\"eth0\"]\n",
    )?;
    let error = daemon.status()?.pointer("/policy/last_error").cloned();
    ensure!(
        error
            .as_ref()
            .and_then(serde_json::Value::as_str)
            .is_some_and(|error| error.contains("interface")),
        "status does not tell of the bad file: {error:?}"
    );
    judge(
        &daemon,
        vec![works("a bad file changes nothing", ask(WORKS))],
    )?;
    ensure!(
        daemon.counters()?.rules.contains_key("echo"),
        "the rule's counters are gone"
    );
    // a policy that lets nobody in has to say that it is meant so
    reload(&mut daemon, STRICT)?;
    let error = daemon.status()?.pointer("/policy/last_error").cloned();
    ensure!(
        error
            .as_ref()
            .and_then(serde_json::Value::as_str)
            .is_some_and(|error| error.contains("lets nobody in")),
        "status does not tell why: {error:?}"
    );
    judge(&daemon, vec![works("still open", ask(WORKS))])?;
    reload(&mut daemon, &STRICT.replacen('[', "failsafe = []\n[", 1))?;
    judge(&daemon, vec![refused("closed by a reload", ask(SILENCE))])
}

/// Writes the policy and sends SIGHUP; returns when the daemon has looked at it.
pub fn reload(daemon: &mut Edgefilter, policy: &str) -> Result<()> {
    let seen = |daemon: &Edgefilter| -> Result<(serde_json::Value, serde_json::Value)> {
        let status = daemon.status()?;
        let part = |name: &str| status.pointer(name).cloned().unwrap_or_default();
        Ok((part("/generation"), part("/policy/last_error")))
    };
    let before = seen(daemon)?;
    daemon.replace_policy(policy)?;
    daemon.hang_up()?;
    wait_until(Duration::from_secs(5), || {
        seen(daemon).is_ok_and(|now| now != before)
    })
    .context("the daemon did not look at the new policy")
    .map(drop)
}
