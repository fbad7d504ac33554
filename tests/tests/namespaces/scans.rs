//! What a scanner sees: the allowed ports, and silence.

use anyhow::{Result, ensure};
use edgefilter_tests::netns::Edge;
use edgefilter_tests::netns::topology::{HOST_V4, HOST_V6};
use edgefilter_tests::programs::probes::{Tcpdump, hping};
use edgefilter_tests::programs::{Check, Edgefilter, Expected, Nginx, Scan, Seen, nmap};

use crate::support::{allow, beside, can_run, counted, judge};

/// 443 is open and allowed, 8443 open and refused, the others closed and refused.
const PORTS: &[u16] = &[21, 22, 443, 3306, 8443];

#[test]
fn scans_see_nothing_but_the_allowed_port() -> Result<()> {
    if !can_run(&["nmap", "nginx"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = Nginx::start(&edge.host, &edge.scratch, &[443, 8443])?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &allow("tcp", &[443]))?;
    let mut checks = Vec::new();
    for address in [HOST_V4, HOST_V6] {
        for scan in Scan::ALL {
            let found = nmap(&edge.client, address, scan, PORTS)?;
            for (port, found) in found {
                // Port 443 over TCP is allowed, whatever the flags: only SYN has to find it open.
                let allowed = port == 443 && scan != Scan::Udp;
                let name = format!("{} scan of {address} port {port}", scan.name());
                if !allowed {
                    // FIN, NULL and XMAS to an open port are met by silence, filter or not.
                    let telling = port != 8443 || matches!(scan, Scan::Syn | Scan::Ack | Scan::Udp);
                    if telling || daemon.filtering() {
                        checks.push(Ok(Check::new(
                            name,
                            Expected::Refused,
                            found.seen(),
                            found.state,
                        )));
                    }
                } else if scan == Scan::Syn {
                    checks.push(Ok(Check::new(
                        name,
                        Expected::Works,
                        found.seen(),
                        found.state,
                    )));
                }
            }
        }
    }
    judge(&daemon, checks)?;
    // Five kinds of TCP scan of four refused ports and one UDP scan of five, twice, IPv4 and IPv6.
    counted(
        &daemon,
        &[("drop_port", 2 * (5 * 4 + 5)), ("pass_rule", 2 * 5)],
    )
}

#[test]
fn odd_tcp_packets_to_closed_ports_reach_neither_the_host_nor_a_tcpdump() -> Result<()> {
    if !can_run(&["hping3", "tcpdump", "nginx"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = Nginx::start(&edge.host, &edge.scratch, &[443])?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &allow("tcp", &[443]))?;
    let behind = Tcpdump::start(&edge.host, "eth0", "tcp dst port 22")?;
    let mut checks = Vec::new();
    for flags in [
        &["-S"][..],
        &["-A"],
        &["-F"],
        &["-S", "-A"],
        &["-F", "-P", "-U"],
        &["-S", "-F"],
        &[],
    ] {
        let mut words = vec!["-p", "22"];
        words.extend(flags);
        let answers = hping(&edge.client, HOST_V4, 3, &words)?;
        let seen = if answers == 0 {
            Seen::Nothing
        } else {
            Seen::Reached
        };
        checks.push(Ok(Check::new(
            format!("hping3 {flags:?}"),
            Expected::Refused,
            seen,
            format!("{answers} answers"),
        )));
    }
    let answers = hping(&edge.client, HOST_V4, 3, &["-p", "443", "-S"])?;
    let seen = if answers == 3 {
        Seen::Works
    } else {
        Seen::Nothing
    };
    checks.push(Ok(Check::new(
        "hping3 -S, allowed port",
        Expected::Works,
        seen,
        format!("{answers} answers"),
    )));
    let captured = behind.finish()?;
    judge(&daemon, checks)?;
    if daemon.filtering() {
        ensure!(
            captured.is_empty(),
            "tcpdump behind the filter saw {captured:?}"
        );
    } else {
        ensure!(
            captured.len() >= 21,
            "tcpdump saw only {} of 21 packets",
            captured.len()
        );
    }
    counted(&daemon, &[("drop_port", 21)])
}
