//! Who gets in, and what gets back in.

use anyhow::Result;
use edgefilter_tests::netns::Edge;
use edgefilter_tests::netns::topology::{
    CLIENT_OTHER_V4, CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6, INNER_V4, INNER_V6,
};
use edgefilter_tests::programs::echo::Echo;
use edgefilter_tests::programs::http::url;
use edgefilter_tests::programs::{
    Edgefilter, Nginx, PythonHttp, Resolver, curl, curl_from, dig, ping, probes,
};

use crate::support::{
    SILENCE, STRICT, WORKS, allow, beside, can_run, counted, judge, refused, works,
};

#[test]
fn closed_by_default_and_a_rule_opens_one_port() -> Result<()> {
    if !can_run(&["nginx", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = Nginx::start(&edge.host, &edge.scratch, &[443, 8443])?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &allow("tcp", &[443]))?;
    let client = &edge.client;
    judge(
        &daemon,
        vec![
            works("443", curl(client, &url(HOST_V4, 443), WORKS)),
            works("443 IPv6", curl(client, &url(HOST_V6, 443), WORKS)),
            refused(
                "8443, listening",
                curl(client, &url(HOST_V4, 8443), SILENCE),
            ),
            refused(
                "8443, listening, IPv6",
                curl(client, &url(HOST_V6, 8443), SILENCE),
            ),
            refused(
                "81, not listening",
                probes::tcp(client, HOST_V4, 81, SILENCE),
            ),
            refused("udp 5000", probes::udp(client, HOST_V4, 5000, SILENCE)),
            refused("udp 5000 IPv6", probes::udp(client, HOST_V6, 5000, SILENCE)),
            refused("ping", ping(client, HOST_V4, 2)),
            refused("ping IPv6", ping(client, HOST_V6, 2)),
        ],
    )?;
    counted(
        &daemon,
        &[("pass_rule", 10), ("drop_port", 6), ("drop_icmp", 4)],
    )
}

#[test]
fn a_rule_for_a_group_opens_to_the_group_only() -> Result<()> {
    if !can_run(&["nginx", "curl"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = Nginx::start(&edge.host, &edge.scratch, &[443])?;
    let policy = format!(
        "version = 1\n[groups.admins]\ncidrs = [\"{CLIENT_OTHER_V4}\"]\n\
         [profiles.edge]\ninterfaces = [\"eth0\"]\n[[profiles.edge.allow]]\nid = \"admins\"\n\
         protocol = \"tcp\"\nports = [443]\nfrom = [\"@admins\"]\n"
    );
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    let client = &edge.client;
    judge(
        &daemon,
        vec![
            works(
                "member",
                curl_from(client, CLIENT_OTHER_V4, &url(HOST_V4, 443), WORKS),
            ),
            refused(
                "stranger",
                curl_from(client, CLIENT_V4, &url(HOST_V4, 443), SILENCE),
            ),
            refused("stranger IPv6", curl(client, &url(HOST_V6, 443), SILENCE)),
        ],
    )?;
    counted(&daemon, &[("pass_rule", 3), ("drop_source", 2)])
}

#[test]
fn what_the_host_asks_for_comes_back_in() -> Result<()> {
    if !can_run(&["nginx", "curl", "dnsmasq", "dig"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = Nginx::start(&edge.client, &edge.scratch, &[443])?;
    let _resolver = Resolver::start(&edge.client)?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    let host = &edge.host;
    judge(
        &daemon,
        vec![
            works("DNS over UDP", dig(host, CLIENT_V4, false)),
            works("DNS over UDP, IPv6", dig(host, CLIENT_V6, false)),
            works("DNS over TCP", dig(host, CLIENT_V4, true)),
            works("DNS over TCP, IPv6", dig(host, CLIENT_V6, true)),
            works("HTTP", curl(host, &url(CLIENT_V4, 443), WORKS)),
            works("HTTP, IPv6", curl(host, &url(CLIENT_V6, 443), WORKS)),
            works("ping", ping(host, CLIENT_V4, 3)),
            works("ping, IPv6", ping(host, CLIENT_V6, 3)),
            // An ICMP error that quotes our own datagram is an answer too.
            works("port unreachable", unreachable(&edge, CLIENT_V4)),
            works("port unreachable, IPv6", unreachable(&edge, CLIENT_V6)),
        ],
    )?;
    counted(&daemon, &[("pass_reply", 20), ("pass_related", 2)])
}

/// Works when the refusal of a closed UDP port on the client arrives at the host's socket.
fn unreachable(edge: &Edge, address: &str) -> Result<(edgefilter_tests::programs::Seen, String)> {
    use edgefilter_tests::programs::Seen;
    let (seen, detail) = probes::udp(&edge.host, address, 5999, SILENCE)?;
    Ok((
        if seen == Seen::Reached {
            Seen::Works
        } else {
            Seen::Nothing
        },
        detail,
    ))
}

#[test]
fn ping_is_let_in_when_the_policy_says_so() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let policy =
        format!("{STRICT}[profiles.edge.icmp]\nv4 = [\"echo-request\"]\nv6 = [\"echo-request\"]\n");
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy)?;
    judge(
        &daemon,
        vec![
            works("in", ping(&edge.client, HOST_V4, 3)),
            works("in, IPv6", ping(&edge.client, HOST_V6, 3)),
            works("out", ping(&edge.host, CLIENT_V4, 3)),
            works("out, IPv6", ping(&edge.host, CLIENT_V6, 3)),
        ],
    )?;
    counted(&daemon, &[("pass_control", 6), ("pass_reply", 6)])
}

#[test]
fn a_masqueraded_container_reaches_out_and_nobody_reaches_in() -> Result<()> {
    if !can_run(&["nginx", "python3", "curl", "dnsmasq", "dig"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _outside = Nginx::start(&edge.client, &edge.scratch, &[443])?;
    let _resolver = Resolver::start(&edge.client)?;
    let _inside = PythonHttp::start(&edge.inner, &edge.scratch, 8080)?;
    let _inside_udp = Echo::udp(&edge.inner, 8081)?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, STRICT)?;
    let (client, inner) = (&edge.client, &edge.inner);
    judge(
        &daemon,
        vec![
            works("HTTP out", curl(inner, &url(CLIENT_V4, 443), WORKS)),
            works("HTTP out, IPv6", curl(inner, &url(CLIENT_V6, 443), WORKS)),
            works("DNS out", dig(inner, CLIENT_V4, false)),
            works("DNS out, IPv6", dig(inner, CLIENT_V6, false)),
            works("ping out", ping(inner, CLIENT_V4, 3)),
            works("ping out, IPv6", ping(inner, CLIENT_V6, 3)),
            refused("HTTP in", curl(client, &url(INNER_V4, 8080), SILENCE)),
            refused("HTTP in, IPv6", curl(client, &url(INNER_V6, 8080), SILENCE)),
            refused("UDP in", probes::udp(client, INNER_V4, 8081, SILENCE)),
            refused("UDP in, IPv6", probes::udp(client, INNER_V6, 8081, SILENCE)),
            refused("ping in", ping(client, INNER_V4, 2)),
            refused("ping in, IPv6", ping(client, INNER_V6, 2)),
        ],
    )
}
