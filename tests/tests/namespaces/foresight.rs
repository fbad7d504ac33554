//! What is said before a policy is in force is what happens then: live flows that it cuts, and packets of a capture that
//! it judges otherwise.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Edge, hardware_address, wait_until};
use edgefilter_tests::packets::transport::{ACK, SYN};
use edgefilter_tests::packets::{Ipv4, Tcp, Udp, link};
use edgefilter_tests::programs::Edgefilter;
use edgefilter_tests::programs::echo::{Conversations, Echo};
use serde_json::Value;

use crate::support::{WORKS, allow, beside, can_run};

/// Services of the host, of the client, and connections to each.
const OURS: u16 = 7000;
const THEIRS: u16 = 7001;
const CONNECTIONS: usize = 3;

fn json(daemon: &Edgefilter, words: &[&str]) -> Result<Value> {
    let said = daemon.cli(words)?;
    serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))
}

#[test]
fn a_plan_names_the_flows_that_are_then_cut() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let opened = allow("tcp", &[OURS]);
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &opened)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let _ours = Echo::tcp(&edge.host, OURS)?;
    let _theirs = Echo::tcp(&edge.client, THEIRS)?;
    let visitors = Conversations::tcp(&edge.client, HOST_V4, OURS, CONNECTIONS)?;
    let own = Conversations::tcp(&edge.host, CLIENT_V4, THEIRS, 1)?;
    let of_container = Conversations::tcp(&edge.inner, CLIENT_V4, THEIRS, 1)?;
    let talk = || visitors.rounds() > 3 && own.rounds() > 3 && of_container.rounds() > 3;
    wait_until(WORKS, talk).context("nobody answers")?;

    let same = edge.scratch.file("same.toml", &opened)?;
    let same = json(&daemon, &["plan", "--json", &same.to_string_lossy()])?;
    let looked_at = same["cut_flows"]["looked_at"].as_u64().context("a count")?;
    ensure!(looked_at as usize >= CONNECTIONS + 2, "{same}");
    ensure!(same["cut_flows"]["count"] == 0, "{same}");
    ensure!(same["cut_flows"]["error"].is_null(), "{same}");

    let denies = format!(
        "{opened}[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"{CLIENT_V4}\"]\n\
         [[profiles.edge.allow]]\nid = \"ways-in\"\nprotocol = \"tcp\"\nports = [22]\n"
    );
    let denies = edge.scratch.file("denies.toml", denies)?;
    let denies = denies.to_string_lossy();
    let planned = json(&daemon, &["plan", "--json", &denies])?;
    cuts_all(&planned)?;
    let text = daemon.cli(&["plan", &denies])?.stdout;
    ensure!(text.contains("would cut "), "{text}");
    ensure!(
        text.contains(&format!("- tcp {HOST_V4}:{OURS} from {CLIENT_V4}:")),
        "{text}"
    );
    ensure!(daemon.counters()?.rule("bad") == 0, "a plan counts nothing");

    // they are connections of this very process, which the daemon would not cut otherwise
    let applied = json(&daemon, &["apply", "--force", "--json", &denies])?;
    cuts_all(&applied)?;
    for said in [&planned, &applied] {
        let ways_in = &said["difference"]["rules_added"];
        ensure!(
            ways_in.as_array().is_some_and(|rules| rules.len() == 2),
            "{said}"
        );
        // somebody uses it, so it is not quiet
        ensure!(said["quiet"]["count"] == 0, "{said}");
    }
    wait_until(WORKS, || {
        daemon
            .counters()
            .is_ok_and(|counters| counters.rule("bad") > 0)
    })
    .context("the rule that cuts them counts nothing")?;
    let left = edge.scratch.file("left.toml", allow("tcp", &[22]))?;
    let left = left.to_string_lossy();
    let planned = json(&daemon, &["plan", "--json", &left])?;
    quiet(&planned, "bad", true, true)?;
    quiet(&planned, "ways-in", true, false)?;
    quiet(&planned, "open", false, true)?;
    let rounds = || (visitors.rounds(), own.rounds(), of_container.rounds());
    let before = rounds();
    std::thread::sleep(Duration::from_secs(1));
    let now = rounds();
    // the round that was at work may have ended
    ensure!(now.0 <= before.0 + 1, "visitors: {before:?} {now:?}");
    ensure!(now.1 <= before.1 + 1, "own: {before:?} {now:?}");
    ensure!(now.2 <= before.2 + 1, "the container's: {before:?} {now:?}");
    Ok(())
}

/// Whether a rule is among those that are taken out or that nothing hits, and when something did.
fn quiet(said: &Value, rule: &str, taken_out: bool, hit: bool) -> Result<()> {
    let rules = said["quiet"]["first"].as_array().context("no rules")?;
    let found = rules.iter().find(|known| known["rule"] == rule);
    if !taken_out {
        ensure!(found.is_none(), "{rule} is kept and was hit: {said}");
        return Ok(());
    }
    let found = found.with_context(|| format!("{rule}: {said}"))?;
    ensure!(found["taken_out"] == true, "{found}");
    ensure!(found["last"].is_string() == hit, "{found}");
    ensure!(found["since"].is_string(), "{found}");
    Ok(())
}

/// The visitors', the host's own, and the container's, which looks the same outside.
fn cuts_all(said: &Value) -> Result<()> {
    let cut = &said["cut_flows"];
    let flows = cut["first"].as_array().context("no flows")?;
    ensure!(cut["incomplete"] == false, "{cut}");
    let visitors = flows
        .iter()
        .filter(|flow| flow["incoming"] == true && flow["local"] == format!("{HOST_V4}:{OURS}"));
    ensure!(visitors.count() == CONNECTIONS, "{cut}");
    let outgoing = flows.iter().filter(|flow| {
        flow["incoming"] == false && flow["remote"] == format!("{CLIENT_V4}:{THEIRS}")
    });
    ensure!(outgoing.count() >= 2, "{cut}");
    for flow in flows {
        ensure!(
            flow["reason"] == "drop_denied" && flow["rule"] == "bad",
            "{flow}"
        );
        ensure!(flow["interface"] == "eth0", "{flow}");
    }
    ensure!(cut["count"] == flows.len(), "{cut}");
    Ok(())
}

#[test]
fn a_capture_is_judged_under_another_policy() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let policy = |port: u16| {
        format!(
            "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n\
             [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [443, {port}]\n\
             [[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]\n\
             rate = {{ packets = 1, burst = 1 }}\n"
        )
    };
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy(8443))?;
    if !daemon.filtering() {
        return Ok(());
    }
    let host = hardware_address(&edge.host, "eth0")?;
    let client = hardware_address(&edge.client, "eth0")?;
    let arrives = |packet: Ipv4| link().macs(client, host).ipv4(&packet);
    let leaves = |packet: Ipv4| link().macs(host, client).ipv4(&packet);
    let from = || Ipv4::new(CLIENT_V4, HOST_V4);
    let to = || Ipv4::new(HOST_V4, CLIENT_V4);
    let dns = arrives(from().with(&Udp::new(5000, 53)));
    let frames = [
        arrives(from().with(&Tcp::syn(50000, 443))),
        // closed then, so nobody answers, and the connection never is
        arrives(from().with(&Tcp::syn(50001, 8443))),
        leaves(to().with(&Tcp::new(8443, 50001, SYN | ACK))),
        arrives(from().with(&Tcp::new(50001, 8443, ACK))),
        // a reply under both, and one that nobody asked for
        leaves(to().with(&Udp::new(40000, 5353))),
        arrives(from().with(&Udp::new(5353, 40000))),
        arrives(from().with(&Udp::new(5353, 40001))),
        // open then
        arrives(from().with(&Tcp::syn(50002, 9443))),
        // limits are never used up
        dns.clone(),
        dns,
    ];
    let capture = edge.scratch.file("a.pcap", pcap(&frames))?;
    let next = edge.scratch.file("next.toml", policy(9443))?;
    let (capture, next) = (capture.to_string_lossy(), next.to_string_lossy());
    let words = ["replay", "--json", &capture, "--policy", &next];
    let said = json(&daemon, &words)?;
    ensure!(said["interface"] == "eth0", "{said}");
    ensure!(said["packets"] == frames.len(), "{said}");
    ensure!(
        said["unjudged"] == 0 && said["incomplete"] == false,
        "{said}"
    );
    ensure!(
        said["packets_closed"] == 2 && said["packets_opened"] == 1,
        "{said}"
    );
    ensure!(said["flows"] == 2, "{said}");
    let closed = &said["first"][0];
    ensure!(
        closed["local_port"] == 8443 && closed["packets"] == 2,
        "{said}"
    );
    ensure!(closed["packet"] == 2, "{said}");
    ensure!(closed["before"]["verdict"] == "pass", "{said}");
    ensure!(closed["before"]["rule"] == "web", "{said}");
    ensure!(closed["after"]["reason"] == "drop_port", "{said}");
    let opened = &said["first"][1];
    ensure!(opened["local_port"] == 9443, "{said}");
    ensure!(opened["after"]["rule"] == "web", "{said}");
    let again = json(&daemon, &words)?;
    ensure!(again == said, "it left something behind: {again}, {said}");

    let text = daemon.cli(&["replay", &capture, "--policy", &next, "--iface", "eth0"])?;
    let text = text.require()?.stdout;
    ensure!(
        text.contains(&format!(
            "- tcp {HOST_V4}:8443 with {CLIENT_V4}:50001, 2 packets"
        )),
        "{text}"
    );
    ensure!(daemon.counters()?.rule("web") == 0, "nothing is counted");
    let same = edge.scratch.file("same.toml", policy(8443))?;
    let same = json(
        &daemon,
        &[
            "replay",
            "--json",
            &capture,
            "--policy",
            &same.to_string_lossy(),
        ],
    )?;
    ensure!(
        same["flows"] == 0 && same["packets"] == frames.len(),
        "{same}"
    );

    let none = edge.scratch.file("none.pcap", "no capture")?;
    for (file, interface, why) in [
        (none.to_string_lossy(), "eth0", "no capture file"),
        (capture, "eth9", "no interface eth9"),
    ] {
        let refused = daemon.cli(&["replay", &file, "--policy", &next, "--iface", interface])?;
        ensure!(
            refused.code() == 1 && refused.stderr.contains(why),
            "{refused:?}"
        );
    }
    Ok(())
}

/// A capture file of Ethernet frames, as tcpdump writes it (draft-ietf-opsawg-pcap).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut file = words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, 1]);
    for (second, frame) in frames.iter().enumerate() {
        let length = frame.len() as u32;
        file.extend(words(&[second as u32, 0, length, length]));
        file.extend(frame);
    }
    file
}
