//! Ways to lose the filter, or a part of it, that nobody would notice: each was one once.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::links::{Veth, add_address, describe, index, veth};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Edge, EdgeOptions, wait_until};
use edgefilter_tests::programs::echo::Echo;
use edgefilter_tests::programs::foreign::{ForeignXdp, Verdict};
use edgefilter_tests::programs::{Check, Edgefilter, Seen, daemon, probes};
use serde_json::Value;

use crate::interfaces::reload;
use crate::support::{
    SILENCE, STRICT, WORKS, allow, beside, can_run, judge, outcomes, refused, works,
};

/// Somebody listens here, and no rule lets anybody in.
const CLOSED: u16 = 7000;

#[test]
fn two_interfaces_whose_indexes_collide_are_both_filtered() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let collides = (index(&edge.host, "eth0")? + 65_536).to_string();
    let (add, peer) = (
        ["ip", "link", "add", "v7", "index", &collides],
        ["type", "veth", "peer", "name", "v7", "netns"],
    );
    edge.host
        .run(&[&add[..], &peer, &[edge.client.name()]].concat())?;
    for (end, address) in [(&edge.host, "10.77.7.1/24"), (&edge.client, "10.77.7.2/24")] {
        add_address(end, "v7", address)?;
        end.run(&["ip", "link", "set", "v7", "up"])?;
    }
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &naming(&["eth0", "v7"]))?;
    judge(
        &daemon,
        vec![closed(&edge, HOST_V4), closed(&edge, "10.77.7.1")],
    )
}

#[test]
fn a_link_detached_behind_our_back_is_attached_again() -> Result<()> {
    if !can_run(&["bpftool"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    if daemon.filtering() {
        let link = format!("bpffs/edgefilter/links/xdp-{}", index(&edge.host, "eth0")?);
        let pin = edge.scratch.path().join(link);
        edge.host.run(&[
            "bpftool",
            "link",
            "detach",
            "pinned",
            &pin.to_string_lossy(),
        ])?;
        let took = wait_until(Duration::from_secs(2), || has_program(&edge, "eth0"))
            .with_context(|| format!("eth0 stays open; the daemon said:\n{}", daemon.log()))?;
        eprintln!("attached again after {} ms", took.as_millis());
    }
    judge(&daemon, vec![closed(&edge, HOST_V4)])
}

#[test]
fn another_namespace_on_the_same_bpffs_is_refused() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let run_dir = edge.scratch.directory("run-of-another")?;
    let refuses = |rival: &Edgefilter, words: &[&str]| -> Result<()> {
        let ended = rival.run_to_end()?;
        ensure!(
            ended.code() == 1 && words.iter().any(|word| ended.stderr.contains(word)),
            "exit code {}, none of {words:?} in: {}",
            ended.code(),
            ended.stderr
        );
        Ok(())
    };
    let elsewhere = daemon.rival(&edge.client, &run_dir);
    refuses(
        &elsewhere,
        &["network namespace", "another edgefilter daemon"],
    )?;
    refuses(
        &daemon.rival(&edge.host, &run_dir),
        &["another edgefilter daemon"],
    )?;
    judge(&daemon, vec![closed(&edge, HOST_V4)])?;
    // The filter stays when its daemon ends, so its pins stay taken.
    daemon.sigkill()?;
    refuses(&elsewhere, &["network namespace"])?;
    judge(&daemon, vec![closed(&edge, HOST_V4)])?;
    daemon.start().map(drop)
}

#[test]
fn a_private_mount_namespace_is_refused() -> Result<()> {
    if !can_run(&["unshare"]) || daemon::without_filter() {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let policy = edge.scratch.file("policy.toml", STRICT)?;
    let binary = daemon::locate()?;
    let mut words = vec!["unshare", "--mount", binary.to_str().context("binary")?];
    let directories = ["--state-dir", "--run-dir", "--bpffs"]
        .map(|option| Ok((option, edge.scratch.directory(&option[2..])?)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for (option, directory) in &directories {
        words.extend([*option, directory.to_str().context("directory")?]);
    }
    words.extend(["run", "--policy", policy.to_str().context("policy")?]);
    let ended = edge.host.try_run(&words, WORKS)?;
    ensure!(
        ended.code() == 1 && ended.stderr.contains("vanish with this process"),
        "exit code {}: {}",
        ended.code(),
        ended.stderr
    );
    ensure!(
        !has_program(&edge, "eth0"),
        "eth0 has a program all the same"
    );
    Ok(())
}

#[test]
fn a_layer_3_device_is_not_filtered_but_named() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    make(&edge, &["tuntap", "add", "tun0", "mode", "tun"])?;
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let policy = naming(&["eth0", "tun*"]) + "generic_xdp = true\n";
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    named_but_not_filtered(&edge, &daemon, "tun0", "not an Ethernet device")?;
    judge(&daemon, vec![closed(&edge, HOST_V4)])
}

#[test]
fn one_bad_interface_of_a_glob_does_not_stop_a_start() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    make(&edge, &["tuntap", "add", "tun0", "mode", "tun"])?;
    // A bridge has no native XDP.
    make(&edge, &["link", "add", "v8", "type", "bridge"])?;
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let policy = naming(&["eth0", "t*", "v*"]);
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    named_but_not_filtered(&edge, &daemon, "tun0", "tun0")?;
    named_but_not_filtered(&edge, &daemon, "v8", "generic_xdp = true")?;
    judge(&daemon, vec![closed(&edge, HOST_V4)])
}

#[test]
fn udp_clients_that_wait_get_their_answer() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    // Conntrack knows whom the client asked; without it nobody does.
    for tracked in [true, false] {
        let edge = Edge::standard()?;
        if !tracked {
            edge.host.run(&["nft", "flush", "ruleset"])?;
        }
        let server = edge
            .client
            .inside(|| UdpSocket::bind((CLIENT_V4, 40_001)))??;
        let client = edge.host.inside(|| UdpSocket::bind("0.0.0.0:40000"))??;
        client.send_to(b"question", (CLIENT_V4, 40_001))?;
        server.set_read_timeout(Some(WORKS))?;
        let (_, from) = server.recv_from(&mut [0; 16]).context("no question")?;
        let daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
        std::thread::sleep(Duration::from_secs(1));
        server.send_to(b"answer", from)?;
        let name = format!("a late answer, conntrack: {tracked}");
        judge(&daemon, vec![works(&name, received(&client, WORKS))])?;
    }
    Ok(())
}

#[test]
fn neither_a_new_link_nor_a_restart_opens_udp_to_strangers() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &naming(&["eth0", "late*"]))?;
    let _service = Echo::udp(&edge.host, 51_820)?;
    let stranger = |name| refused(name, probes::udp(&edge.client, HOST_V4, 51_820, SILENCE));
    let ends = [&edge.host, &edge.client].map(|namespace| Veth {
        namespace,
        name: "late0",
    });
    veth(ends[0], ends[1], 1500)?;
    if daemon.filtering() {
        wait_until(WORKS, || has_program(&edge, "late0")).context("late0 was never attached")?;
    }
    outcomes(&daemon, vec![stranger("after a new link")])?;
    daemon.terminate()?;
    daemon.start()?;
    outcomes(&daemon, vec![stranger("after a restart")])
}

#[test]
fn a_refused_reload_changes_nothing() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::build(&EdgeOptions {
        second: true,
        ..EdgeOptions::default()
    })?;
    let _foreign = ForeignXdp::attach(&edge.host, "eth1", Verdict::Pass)?;
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    judge(&daemon, vec![closed(&edge, HOST_V4)])?;
    if !daemon.filtering() {
        return Ok(());
    }
    let before = daemon.counters()?;
    ensure!(before.packets("drop_port") > 0, "nothing was counted");
    reload(&mut daemon, &naming(&["eth1"]))?;
    let status = daemon.status()?;
    let error = status.pointer("/policy/last_error").and_then(Value::as_str);
    ensure!(
        error.is_some_and(|error| error.contains("eth1: another XDP program is attached (id ")),
        "status names neither interface nor program: {error:?}"
    );
    let back = daemon.counters()?.went_back(&before);
    ensure!(back.is_empty(), "counters went back: {back:?}");
    judge(&daemon, vec![closed(&edge, HOST_V4)])?;
    // And it goes on counting where it did.
    let after = daemon.counters()?.packets("drop_port");
    ensure!(after > before.packets("drop_port"), "still {after} drops");
    Ok(())
}

#[test]
fn forwarded_does_not_reach_the_host_by_broadcast() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    for destination in ["255.255.255.255", "224.0.0.1"] {
        edge.client
            .run(&["ip", "route", "add", destination, "dev", "eth0"])?;
    }
    let policy = allow("udp", &[9999]) + "to = \"forwarded\"\n";
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    let all_nodes = format!("[ff02::1%{}]:9999", index(&edge.client, "eth0")?);
    // one for both families
    let service = edge.host.inside(|| UdpSocket::bind(("::", 9999)))??;
    let checks = [
        "10.77.1.255:9999",
        "255.255.255.255:9999",
        "224.0.0.1:9999",
        &all_nodes,
    ]
    .map(|destination| {
        let to: SocketAddr = destination.parse()?;
        let any = if to.is_ipv6() { "::" } else { "0.0.0.0" };
        let sender = edge.client.inside(|| UdpSocket::bind((any, 0)))??;
        sender.set_broadcast(true)?;
        sender.send_to(b"to whom?", to)?;
        refused(destination, received(&service, SILENCE))
    });
    judge(&daemon, checks.into())
}

#[test]
fn counters_survive_a_restart_that_needs_larger_tables() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _closed = Echo::tcp(&edge.host, CLOSED)?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    judge(&daemon, vec![closed(&edge, HOST_V4)])?;
    if !daemon.filtering() {
        return Ok(());
    }
    let before = daemon.counters()?;
    ensure!(before.packets("drop_port") > 0, "nothing was counted");
    daemon.terminate()?;
    // Every second address: no two of them make a larger prefix.
    let first = Ipv4Addr::new(100, 64, 0, 0).to_bits();
    let many: Vec<String> = (0..60_000)
        .map(|n| Ipv4Addr::from_bits(first + 2 * n).to_string())
        .collect();
    edge.scratch.file("many.txt", many.join("\n"))?;
    daemon.replace_policy(&format!(
        "{STRICT}[[profiles.edge.deny]]\nid = \"many\"\nfrom = [\"@many\"]\n\
         [groups.many]\nfiles = [\"many.txt\"]\n"
    ))?;
    daemon.start()?;
    let back = daemon.counters()?.went_back(&before);
    ensure!(back.is_empty(), "counters went back: {back:?}");
    judge(&daemon, vec![closed(&edge, HOST_V4)])?;
    let after = daemon.counters()?.packets("drop_port");
    ensure!(after > before.packets("drop_port"), "still {after} drops");
    Ok(())
}

#[test]
fn a_raised_rate_limit_counts_at_once() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _service = Echo::udp(&edge.host, 7001)?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    if !daemon.filtering() {
        return Ok(());
    }
    for key in ["rate", "rate_per_source"] {
        let limit = |packets: u32, burst: u32| {
            let rule = allow("udp", &[7001]).replace("\"open\"", &format!("\"{key}\""));
            format!("{rule}{key} = {{ packets = {packets}, burst = {burst} }}\n")
        };
        reload(&mut daemon, &limit(1, 600))?;
        let first = answered(&edge, 650, Duration::ZERO)?;
        ensure!(
            (600..650).contains(&first),
            "{key}: {first} of 650 passed a burst of 600"
        );
        reload(&mut daemon, &limit(1000, 100))?;
        // The old burst counts as the new one, used up: a packet every 20 ms is far below the rate all the same.
        let then = answered(&edge, 20, Duration::from_millis(20))?;
        ensure!(then == 20, "{key}: {then} of 20 passed the raised limit");
    }
    Ok(())
}

fn naming(interfaces: &[&str]) -> String {
    format!("version = 1\n[profiles.edge]\ninterfaces = {interfaces:?}\n")
}

fn closed(edge: &Edge, address: &str) -> Result<Check> {
    refused(address, probes::tcp(&edge.client, address, CLOSED, SILENCE))
}

fn has_program(edge: &Edge, link: &str) -> bool {
    describe(&edge.host, link).is_ok_and(|found| found.is_some_and(|it| it.get("xdp").is_some()))
}

/// Makes a link on the host with `ip` and switches it on.
fn make(edge: &Edge, words: &[&str]) -> Result<()> {
    edge.host.run(&[&["ip"], words].concat())?;
    let name = words.get(2).context("no name")?;
    edge.host.run(&["ip", "link", "set", name, "up"]).map(drop)
}

/// `link` has no program, and status says why.
fn named_but_not_filtered(edge: &Edge, daemon: &Edgefilter, link: &str, why: &str) -> Result<()> {
    ensure!(!has_program(edge, link), "{link} has a program");
    if !daemon.filtering() {
        return Ok(());
    }
    let status = daemon.status()?;
    let shown = status
        .pointer("/interfaces")
        .and_then(Value::as_array)
        .and_then(|all| all.iter().find(|one| one["name"] == link))
        .with_context(|| format!("status does not show {link}: {status}"))?;
    let error = shown["error"].as_str().unwrap_or_default();
    ensure!(
        error.contains(why) && shown["attached"] == false,
        "{why:?} is not said of {link}: {shown}"
    );
    Ok(())
}

fn received(socket: &UdpSocket, limit: Duration) -> Result<(Seen, String)> {
    socket.set_read_timeout(Some(limit))?;
    Ok(match socket.recv(&mut [0; 64]) {
        Ok(bytes) => (Seen::Works, format!("{bytes} bytes came")),
        Err(error) => (Seen::Nothing, error.to_string()),
    })
}

/// How many of so many questions to UDP port 7001 are answered.
fn answered(edge: &Edge, questions: usize, pause: Duration) -> Result<usize> {
    let socket = edge.client.inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.connect((HOST_V4, 7001))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut answers = 0;
    for _ in 0..questions {
        socket.send(b"\0question")?;
        answers += usize::from(socket.recv(&mut [0; 64]).is_ok());
        std::thread::sleep(pause);
    }
    Ok(answers)
}
