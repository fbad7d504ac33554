//! What keeps working under the strictest policy, and frames of 9001 bytes.

use std::time::Duration;

use anyhow::{Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Edge, EdgeOptions};
use edgefilter_tests::programs::ping::ping_with;
use edgefilter_tests::programs::{Check, Edgefilter, Expected, Seen, dhcp, iperf, ping};

use crate::support::{STRICT, allow, alone, beside, can_run, counted, judge, outcomes, works};

fn dhcp_seen(edge: &Edge, ipv6: bool, limit: Duration) -> Result<(Seen, String)> {
    let address = dhcp::client(&edge.host, &edge.scratch, "eth0", ipv6, limit)?;
    let seen = if address.is_some() {
        Seen::Works
    } else {
        Seen::Nothing
    };
    Ok((seen, address.unwrap_or_else(|| "no lease".to_owned())))
}

#[test]
fn a_dhcp_client_gets_its_lease_under_the_strictest_policy() -> Result<()> {
    if !can_run(&["dnsmasq", "dhclient"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::build(&EdgeOptions {
        addresses: false,
        ..EdgeOptions::default()
    })?;
    let _server = dhcp::server(&edge.client, &edge.scratch)?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    let limit = Duration::from_secs(12);
    outcomes(
        &daemon,
        vec![
            works("DHCPv4", dhcp_seen(&edge, false, limit)),
            works("DHCPv6", dhcp_seen(&edge, true, limit)),
            // The new address is in use at once: ARP and neighbour discovery work too.
            works("ping from the new address", ping(&edge.host, CLIENT_V4, 3)),
        ],
    )?;
    counted(&daemon, &[("pass_control", 4)])
}

#[test]
fn dhcp_can_be_switched_off() -> Result<()> {
    if !can_run(&["dnsmasq", "dhclient"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::build(&EdgeOptions {
        addresses: false,
        ..EdgeOptions::default()
    })?;
    let _server = dhcp::server(&edge.client, &edge.scratch)?;
    let policy = format!("{STRICT}[profiles.edge.control]\ndhcp = false\n");
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    let (seen, detail) = dhcp_seen(&edge, false, Duration::from_secs(4))?;
    outcomes(
        &daemon,
        vec![Ok(Check::new("DHCPv4", Expected::Refused, seen, detail))],
    )?;
    counted(&daemon, &[("drop_port", 1)])
}

#[test]
fn jumbo_frames_pass_both_ways() -> Result<()> {
    if !can_run(&["iperf3"]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::build(&EdgeOptions {
        mtu: 9001,
        ..EdgeOptions::default()
    })?;
    let policy = format!(
        "{}[profiles.edge.icmp]\nv4 = [\"echo-request\"]\nv6 = [\"echo-request\"]\n",
        allow("tcp", &[443])
    );
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    // 9001 bytes less the IP and ICMP headers.
    let (v4, v6) = (["-s", "8973", "-M", "do"], ["-s", "8953", "-M", "do"]);
    judge(
        &daemon,
        vec![
            works("ping in", ping_with(&edge.client, HOST_V4, 3, &v4)),
            works("ping in, IPv6", ping_with(&edge.client, HOST_V6, 3, &v6)),
            works("ping out", ping_with(&edge.host, CLIENT_V4, 3, &v4)),
            works("ping out, IPv6", ping_with(&edge.host, CLIENT_V6, 3, &v6)),
        ],
    )?;
    let _server = iperf::server(&edge.host, 443)?;
    for direction in [&[][..], &["-R"]] {
        let client = iperf::client(&edge.client, HOST_V4, 443, 1, direction)?;
        let result = iperf::result(client, Duration::from_secs(10))?;
        ensure!(
            result.bits_per_second > 1e7,
            "iperf3 {direction:?} over jumbo frames: {result:?}"
        );
    }
    Ok(())
}
