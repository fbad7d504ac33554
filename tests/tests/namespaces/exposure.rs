//! What a host offers beside what its policy opens, and a first policy that is learned from that.

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::Edge;
use edgefilter_tests::netns::topology::{CLIENT_OTHER_V4, CLIENT_V4, HOST_V4};
use edgefilter_tests::programs::{Edgefilter, Nginx, curl_from, http};
use serde_json::Value;

use crate::support::{SILENCE, STRICT, WORKS, beside, can_run, outcomes, refused, works};

#[test]
fn what_listens_is_compared_with_what_is_open() -> Result<()> {
    if !can_run(&["nginx", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let server = Nginx::start(&edge.host, &edge.scratch, &[80, 8080, 9000])?;
    let policy = format!(
        "{STRICT}[[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [80]\n\
         [[profiles.edge.allow]]\nid = \"some\"\nprotocol = \"tcp\"\nports = [8080]\nfrom = [\"{CLIENT_V4}\"]\n\
         [[profiles.edge.allow]]\nid = \"old\"\nprotocol = \"tcp\"\nports = [443]\n"
    );
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let shown = daemon.cli(&["audit", "exposure", "--json"])?.require()?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    let findings = shown["findings"].as_array().context("no findings")?;
    for (ports, kind, rules, prefixes) in [
        ("80", "open-to-world", "[\"web\"]", 0),
        ("8080", "open-to-some", "[\"some\"]", 1),
        ("9000", "closed", "[]", 0),
        ("443", "unused", "[\"old\"]", 0),
    ] {
        let finding = findings.iter().find(|finding| finding["ports"] == ports);
        let finding = finding.with_context(|| format!("port {ports} is missing: {shown}"))?;
        ensure!(
            finding["kind"] == kind && finding["prefixes"] == prefixes,
            "{finding}"
        );
        let named: Value = serde_json::from_str(rules)?;
        ensure!(finding["rules"] == named, "{finding}");
        if kind != "unused" {
            ensure!(finding["listener"]["process"] == "nginx", "{finding}");
            ensure!(finding["listener"]["pid"] == server.pid(), "{finding}");
        }
    }
    let code = |words: &[&str]| daemon.cli(words).map(|done| done.code());
    ensure!(code(&["audit", "exposure"])? == 0);
    ensure!(code(&["audit", "exposure", "--fail-on", "unused"])? == 1);
    print!("{}", daemon.cli(&["audit", "exposure"])?.require()?.stdout);
    Ok(())
}

#[test]
fn a_learned_policy_lets_the_same_clients_in_and_no_others() -> Result<()> {
    if !can_run(&["nginx", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _server = Nginx::start(&edge.host, &edge.scratch, &[80, 8080])?;
    let mut daemon = Edgefilter::enable(
        &edge.host,
        &edge.scratch,
        &format!("{STRICT}enforce = false\n"),
    )?;
    if !daemon.filtering() {
        return Ok(());
    }
    let fetch = |source: &str, port, limit| {
        curl_from(&edge.client, source, &http::url(HOST_V4, port), limit)
    };
    let output = edge.scratch.path().join("learned.toml");
    let file = output.to_string_lossy().into_owned();
    // those that came before are kept, too
    fetch(CLIENT_V4, 80, WORKS)?;
    fetch(CLIENT_OTHER_V4, 8080, WORKS)?;
    let learn = [
        "learn",
        "--iface",
        "eth0",
        "--for",
        "3s",
        "--enforce",
        "--output",
        &file,
    ];
    daemon.cli(&learn)?.require()?;
    let text = std::fs::read_to_string(&output)?;
    println!("{text}");
    daemon.cli(&["check", &file])?.require()?;
    ensure!(
        daemon.cli(&learn)?.code() == 1,
        "a file that is there was written over"
    );

    daemon.terminate()?;
    daemon.replace_policy(&text)?;
    daemon.start()?;
    outcomes(
        &daemon,
        vec![
            works("the client of port 80", fetch(CLIENT_V4, 80, WORKS)),
            works(
                "the client of port 8080",
                fetch(CLIENT_OTHER_V4, 8080, WORKS),
            ),
            refused(
                "another one of port 80",
                fetch(CLIENT_OTHER_V4, 80, SILENCE),
            ),
            refused("another one of port 8080", fetch(CLIENT_V4, 8080, SILENCE)),
        ],
    )?;
    daemon.terminate()?;
    Ok(())
}
