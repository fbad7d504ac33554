//! A scan, and what becomes of its source. Owns the scanner: a neighbour of the demo's client.

use std::time::Duration;

use anyhow::Result;
use edgefilter_tests::netns::topology::{CLIENT_OTHER_V4, CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Edge, wait_until};
use edgefilter_tests::programs::http::url;
use edgefilter_tests::programs::{Edgefilter, blocks, curl_from};

use super::report::Fact;

const PATIENCE: Duration = Duration::from_secs(5);

/// Scans 200 ports with nmap, and says what `edgefilter scans` and nftables hold then, and who still gets in.
pub fn show(edge: &Edge, daemon: &Edgefilter) -> Result<Vec<Fact>> {
    let web = url(HOST_V4, 80);
    let get_in = |source| curl_from(&edge.client, source, &web, Duration::from_secs(2));
    let ports = "1000-1199";
    let nmap = ["nmap", "-n", "-Pn", "-sS", "-T4", "--max-retries", "0"];
    let from = ["-e", "eth0", "-S", CLIENT_OTHER_V4, "-p", ports, HOST_V4];
    let words: Vec<&str> = nmap.iter().chain(&from).copied().collect();
    edge.client
        .try_run(&words, Duration::from_mins(1))?
        .require()?;
    let scanner = CLIENT_OTHER_V4.parse::<std::net::IpAddr>()?.into();
    let held = || {
        let sets = blocks::nft_sets(&edge.host);
        sets.is_ok_and(|sets| sets.is_some_and(|sets| sets.contains_key(&scanner)))
    };
    let in_nftables = wait_until(PATIENCE, held).is_some();
    let scans = blocks::scans(daemon)?;
    let seen = match &scans[..] {
        [scan] => format!("one, of {}, {:?}", scan.source.addr(), scan.verdict),
        scans => format!("{} records", scans.len()),
    };
    let expected = format!("one, of {CLIENT_OTHER_V4}, Blocked");
    let (blocked, _) = get_in(CLIENT_OTHER_V4)?;
    let (neighbour, _) = get_in(CLIENT_V4)?;
    let probes = scans.first().map_or(0, |scan| scan.targets_to_open);
    Ok(vec![
        Fact::equal("nmap of 200 ports: scans", &expected, &seen),
        Fact::new(
            "probes until it was blocked",
            "at most 10",
            probes.to_string(),
            (1..=10).contains(&probes),
        ),
        Fact::equal("in the set of nftables", "true", &in_nftables.to_string()),
        Fact::equal("HTTP in, from the scanner", "silence", &blocked.to_string()),
        Fact::equal("HTTP in, from others", "works", &neighbour.to_string()),
    ])
}
