//! Scans as the program sees them: which refused packets are probes, which of them are reported, whose connections
//! work. Blocked sources: kernel/blocks.rs.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use edgefilter_tests::packets::transport::{ACK, FIN, PSH, RST, SYN, URG};
use edgefilter_tests::packets::{
    Icmp, Icmpv6, Ipv4, Ipv6, Raw, Sctp, Tcp, Transport, Udp, dhcpv4_reply, link,
};
use edgefilter_tests::test_run::{Filter, can_run};
use filter_common::limits::{EARNED_PER_EPOCH, PROBES_PER_EPOCH};
use filter_common::scan::{CELL_BITS, Pattern, hint};
use filter_user::dataplane::test_run::{TestRun, test_run};
use filter_user::scans::probe::Probe;

use crate::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, WEB, filter};

const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// Where the headers of an untagged IPv4 frame without options begin.
const NETWORK: usize = 14;
const TRANSPORT: usize = NETWORK + 20;

/// SYN options of Linux: MSS, SACK permitted, timestamps, no operation, window scale.
const LINUX: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

fn v4(source: &str, transport: &dyn Transport) -> Vec<u8> {
    link().ipv4(&Ipv4::new(source, OWN).with(transport))
}

fn v6(source: &str, transport: &dyn Transport) -> Vec<u8> {
    link().ipv6(&Ipv6::new(source, OWN6).with(transport))
}

fn tcp(flags: u8) -> Tcp {
    Tcp::new(40_000, 22, flags)
}

/// An SCTP packet whose first chunk is of the type.
fn sctp(chunk: u8) -> Vec<u8> {
    let mut frame = v4(REMOTE, &Sctp::init(40_000, 22));
    frame[TRANSPORT + 12] = chunk;
    frame
}

/// What a filter with these rules refuses: a port, a source, a deny rule.
fn rules() -> String {
    format!(
        "{WEB}[[profiles.edge.allow]]\nid = \"smtp\"\nprotocol = \"tcp\"\nports = [25]\nfrom = [\"198.18.0.0/15\"]\n\
         [[profiles.edge.deny]]\nid = \"telnet\"\nprotocol = \"tcp\"\nports = [23]\n"
    )
}

/// Each kind of probe: its pattern, and the port that is reported.
fn probes() -> Vec<(&'static str, Vec<u8>, Pattern, u16)> {
    let of = |transport: &dyn Transport| v4(REMOTE, transport);
    vec![
        ("nmap -sS", of(&tcp(SYN)), Pattern::Syn, 22),
        (
            "SYN with MSS",
            of(&tcp(SYN).options(&LINUX[..4])),
            Pattern::Syn,
            22,
        ),
        ("SYN, ECN", of(&tcp(SYN | ECE | CWR)), Pattern::Syn, 22),
        (
            "nmap -sT",
            of(&tcp(SYN).options(&LINUX)),
            Pattern::Connect,
            22,
        ),
        (
            "a port for others",
            of(&Tcp::syn(40_000, 25)),
            Pattern::Syn,
            25,
        ),
        (
            "SYN to an ephemeral port",
            of(&Tcp::syn(40_000, 40_000)),
            Pattern::Syn,
            40_000,
        ),
        ("nmap -sF", of(&tcp(FIN)), Pattern::Fin, 22),
        ("nmap -sN", of(&tcp(0)), Pattern::Null, 22),
        ("nmap -sX", of(&tcp(FIN | PSH | URG)), Pattern::Xmas, 22),
        ("nmap -sM", of(&tcp(FIN | ACK)), Pattern::Maimon, 22),
        ("nmap -sA", of(&tcp(ACK)), Pattern::Ack, 22),
        ("ACK and PSH", of(&tcp(ACK | PSH)), Pattern::Ack, 22),
        (
            "SYN and FIN",
            of(&tcp(SYN | FIN)),
            Pattern::IllegalFlags,
            22,
        ),
        (
            "SYN and RST",
            of(&tcp(SYN | RST)),
            Pattern::IllegalFlags,
            22,
        ),
        (
            "FIN and RST",
            of(&tcp(FIN | RST)),
            Pattern::IllegalFlags,
            22,
        ),
        (
            "SYN, ACK, FIN",
            of(&tcp(SYN | ACK | FIN)),
            Pattern::IllegalFlags,
            22,
        ),
        ("PSH alone", of(&tcp(PSH)), Pattern::IllegalFlags, 22),
        ("every flag", of(&tcp(0xff)), Pattern::IllegalFlags, 22),
        ("nmap -sU", of(&Udp::new(40_000, 161)), Pattern::Udp, 161),
        (
            "UDP from 53 to a service",
            of(&Udp::new(53, 161)),
            Pattern::Udp,
            161,
        ),
        (
            "UDP between ephemeral ports",
            of(&Udp::new(40_000, 40_001)),
            Pattern::Udp,
            40_001,
        ),
        (
            "UDP behind the ephemeral ports",
            of(&Udp::new(54, 61_000)),
            Pattern::Udp,
            61_000,
        ),
        ("nmap -sY", sctp(1), Pattern::SctpInit, 22),
        ("nmap -sZ", sctp(10), Pattern::SctpCookie, 22),
        ("nmap -sO", of(&Raw::gre(&[])), Pattern::Protocol, 47),
        ("nmap -PE", of(&Icmp::echo_request(7)), Pattern::IcmpEcho, 0),
        (
            "nmap -PP",
            of(&Icmp::timestamp(13, 7)),
            Pattern::IcmpTimestamp,
            0,
        ),
        ("nmap -PM", of(&Icmp::new(17, 0)), Pattern::IcmpMask, 0),
        (
            "SYN over IPv6",
            v6(REMOTE6, &Tcp::syn(40_000, 22)),
            Pattern::Syn,
            22,
        ),
        (
            "echo over IPv6",
            v6(REMOTE6, &Icmpv6::echo_request(7)),
            Pattern::IcmpEcho,
            0,
        ),
        (
            "a protocol over IPv6",
            v6(REMOTE6, &Raw::esp(1)),
            Pattern::Protocol,
            50,
        ),
    ]
}

/// Refused as well, but no probes.
fn no_probes() -> Vec<(&'static str, Vec<u8>)> {
    let of = |transport: &dyn Transport| v4(REMOTE, transport);
    let late = |flags| Tcp::new(443, 50_000, flags);
    vec![
        ("RST", of(&tcp(RST))),
        ("RST and ACK", of(&tcp(RST | ACK))),
        ("backscatter", of(&tcp(SYN | ACK))),
        ("a late segment", of(&late(ACK | PSH))),
        ("a late FIN", of(&late(FIN | ACK))),
        ("a late answer of a resolver", of(&Udp::new(53, 50_000))),
        (
            "a late answer to the first port",
            of(&Udp::new(443, 32_768)),
        ),
        ("a late answer to the last port", of(&Udp::new(123, 60_999))),
        ("SCTP data", sctp(0)),
        ("SCTP abort", sctp(6)),
        ("echo reply", of(&Icmp::echo_reply(7))),
        ("timestamp reply", of(&Icmp::timestamp(14, 7))),
        ("unreachable", of(&Icmp::unreachable(3, &[0; 28]))),
        ("echo reply over IPv6", v6(REMOTE6, &Icmpv6::echo_reply(7))),
        ("ICMP of the other family", v6(REMOTE6, &Icmpv6::new(8, 0))),
        ("a denied port", of(&Tcp::syn(40_000, 23))),
        ("a broken header", of(&tcp(SYN).doff(4))),
    ]
}

#[test]
fn each_kind_of_probe_is_counted_and_reported_once() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(&rules())?;
    let (mut seen, mut before) = (HashSet::new(), filter.patterns()?);
    for (number, (what, mut frame, pattern, port)) in (1..).zip(probes()) {
        let about = || format!("{what}: {pattern:?}");
        filter.dataplane().renew_event_budget()?;
        // each of another source: its target is new
        frame[NETWORK + 15] = number;
        let source: IpAddr = if frame[NETWORK] >> 4 == 4 {
            Ipv4Addr::new(203, 0, 113, number).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 9, number.into(), 0, 0, 0, 9).into()
        };
        ensure!(!filter.ingress(&frame)?.pass, "{} passes", about());
        let found = filter.probes()?;
        let [probe] = found.as_slice() else {
            bail!("{}: {found:?}", about());
        };
        let destination = if source.is_ipv6() { OWN6 } else { OWN };
        ensure!(
            (probe.pattern, probe.port, probe.packets) == (pattern, port, 1)
                && (probe.source, probe.destination) == (source, destination.parse()?)
                && probe.hop_limit == 64,
            "{}: {probe:?}",
            about()
        );
        let after = filter.patterns()?;
        let mut wanted = before.clone();
        *wanted.0.entry(pattern.name()).or_default() += 1;
        ensure!(
            nonzero(&after) == nonzero(&wanted),
            "{}: {after:?}",
            about()
        );
        before = after;
        seen.insert(pattern);
    }
    let missing: Vec<_> = Pattern::ALL
        .iter()
        .filter(|one| !seen.contains(one))
        .collect();
    ensure!(missing.is_empty(), "no packet shows {missing:?}");
    Ok(())
}

#[test]
fn what_answers_or_is_refused_for_its_form_is_no_probe() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(&rules())?;
    for (what, frame) in no_probes() {
        ensure!(!filter.ingress(&frame)?.pass, "{what} passes");
        let found = filter.probes()?;
        ensure!(found.is_empty(), "{what}: {found:?}");
        let counted = filter.patterns()?;
        ensure!(nonzero(&counted).0.is_empty(), "{what}: {counted:?}");
    }
    // what passes is no probe either
    for frame in [
        v4(REMOTE, &Tcp::syn(40_000, 443)),
        v4(REMOTE, &dhcpv4_reply()),
    ] {
        ensure!(filter.ingress(&frame)?.pass, "dropped");
    }
    ensure!(
        filter.probes()?.is_empty(),
        "a packet that passes is reported"
    );
    Ok(())
}

#[test]
fn monitor_mode_counts_probes_as_well() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(&WEB.replace("[\"lo\"]", "[\"lo\"]\nenforce = false"))?;
    ensure!(
        filter.ingress(&v4(REMOTE, &tcp(SYN)))?.would_drop,
        "dropped"
    );
    ensure!(filter.probes()?.len() == 1, "not reported");
    Ok(())
}

#[test]
fn habits_of_well_known_programs_are_hints() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let syn = |port| v4(REMOTE, &Tcp::syn(40_000, port));
    let put = |mut frame: Vec<u8>, at: usize, value: u16| {
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        frame
    };
    let mut nmap = v4(REMOTE, &Tcp::syn(40_000, 3).options(&LINUX[..4]));
    nmap = put(nmap, TRANSPORT + 14, 1024);
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let frame = syn(2);
    // destination, port and sequence number, the lower halves (masscan's src/templ-pkt.c)
    let derived = word(&frame, NETWORK + 18) ^ 2 ^ word(&frame, TRANSPORT + 6);
    for (what, frame, hints) in [
        ("zmap", put(syn(1), NETWORK + 4, 54_321), hint::ZMAP),
        ("masscan", put(frame, NETWORK + 4, derived), hint::MASSCAN),
        ("nmap", nmap.clone(), hint::NMAP),
        (
            "nmap with another window",
            put(nmap, TRANSPORT + 14, 1025),
            0,
        ),
        ("none", put(syn(4), NETWORK + 4, 7), 0),
    ] {
        filter.ingress(&frame)?;
        let found = filter.probes()?;
        if what == "nmap with another window" {
            ensure!(found.is_empty(), "a target is reported again: {found:?}");
            continue;
        }
        ensure!(
            found.iter().map(|probe| probe.hints).eq([hints]),
            "{what}: {found:?}"
        );
    }
    Ok(())
}

#[test]
fn a_target_is_reported_once_with_the_packets_between() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let packets = |filter: &mut Filter, frame: &[u8]| -> Result<Vec<u32>> {
        filter.ingress(frame)?;
        Ok(filter.probes()?.iter().map(|probe| probe.packets).collect())
    };
    let (first, second) = (v4(REMOTE, &tcp(SYN)), v4(REMOTE, &Tcp::syn(40_000, 23)));
    ensure!(packets(&mut filter, &first)? == [1]);
    for _ in 0..9 {
        ensure!(packets(&mut filter, &first)?.is_empty(), "reported again");
    }
    let source = IpAddr::from([203, 0, 113, 9]).into();
    ensure!(filter.scans().unreported(source)? == 9);
    ensure!(packets(&mut filter, &second)? == [10]);
    ensure!(filter.scans().unreported(source)? == 0);
    ensure!(
        packets(&mut filter, &v4(REMOTE, &tcp(FIN)))? == [1],
        "another pattern is another target"
    );
    let elsewhere = link().ipv4(&Ipv4::new(REMOTE, "198.51.100.7").with(&tcp(SYN)));
    ensure!(
        packets(&mut filter, &elsewhere)? == [1],
        "another host is another target"
    );
    Ok(())
}

/// Whether the second source is the first one to the program: its packets to the same target are known.
fn is_same(first: &str, second: &str) -> Result<bool> {
    let mut filter = filter(CLOSED)?;
    let frame = |source: &str| {
        if source.contains(':') {
            v6(source, &tcp(SYN))
        } else {
            v4(source, &tcp(SYN))
        }
    };
    filter.ingress(&frame(first))?;
    ensure!(filter.probes()?.len() == 1, "{first} is not reported");
    filter.ingress(&frame(second))?;
    Ok(filter.probes()?.is_empty())
}

#[test]
fn a_source_is_an_address_or_a_64() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for (first, second, same) in [
        ("203.0.113.9", "203.0.113.10", false),
        ("2001:db8:9::9", "2001:db8:9::a", true),
        ("2001:db8:9::9", "2001:db8:9:0:8000::", true),
        ("2001:db8:9::9", "2001:db8:9:1::9", false),
        ("fe80::9", "fe80::a", false),
    ] {
        ensure!(is_same(first, second)? == same, "{first} and {second}");
    }
    Ok(())
}

/// Sends a frame without a look at the counters.
fn send(filter: &mut Filter, frame: &[u8]) -> Result<()> {
    test_run(filter.ingress_program()?, TestRun::once(frame))?;
    Ok(())
}

#[test]
fn reports_stay_within_their_budgets() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let (anybody, earned) = (PROBES_PER_EPOCH as usize, EARNED_PER_EPOCH as usize);
    let crowd = |filter: &mut Filter, net: u8| -> Result<usize> {
        for host in 0..200 {
            send(filter, &v4(&format!("198.18.{net}.{host}"), &tcp(SYN)))?;
        }
        Ok(filter.probes()?.len())
    };
    ensure!(crowd(&mut filter, 1)? == anybody, "the first epoch");
    ensure!(filter.patterns()?.1 == (200 - anybody) as u64, "shed");
    ensure!(crowd(&mut filter, 2)? == 0, "the budget is used up");
    filter.dataplane().renew_event_budget()?;
    ensure!(crowd(&mut filter, 3)? == anybody, "the second epoch");

    // the budget for everybody is gone; who sends often has one of its own
    let shed = filter.patterns()?.1;
    let scan = |filter: &mut Filter| -> Result<usize> {
        for port in 1..=2000 {
            send(filter, &v4(REMOTE, &Tcp::syn(40_000, port)))?;
        }
        Ok(filter.probes()?.len())
    };
    ensure!(scan(&mut filter)? == earned, "what a scanner has");
    // a target whose bit another has is not told apart, and not shed either
    let more = filter.patterns()?.1 - shed;
    ensure!((300..=2000 - earned as u64).contains(&more), "{more} shed");
    filter.dataplane().renew_event_budget()?;
    // every bit of the cell that is left
    let left = CELL_BITS as usize - earned;
    let again = scan(&mut filter)?;
    ensure!(
        (left - 4..=left).contains(&again),
        "{again} of what was shed were reported when it came again"
    );
    filter.forgive()
}

/// Ten epochs of a flood at a million packets a second, one packet in a thousand of which is the scan's.
#[test]
fn a_scan_beneath_a_flood_of_random_sources_is_reported() -> Result<()> {
    const PACKETS: u32 = 1_000_000;
    const SHARE: u32 = 1000;
    const EPOCH: u32 = 100_000;
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let mut flood = v4("198.18.0.1", &Tcp::syn(40_000, 22));
    let mut reported: Vec<Probe> = Vec::new();
    for packet in 0..PACKETS {
        if packet % EPOCH == 0 {
            filter.dataplane().renew_event_budget()?;
            reported.extend(filter.probes()?);
        }
        // every source once (a permutation of 32 bits), never the scanner
        let source = packet.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        flood[NETWORK + 12..NETWORK + 16].copy_from_slice(&source.to_be_bytes());
        send(&mut filter, &flood)?;
        if packet % SHARE == 0 {
            let port = 1 + (packet / SHARE) as u16;
            send(&mut filter, &v4(REMOTE, &Tcp::syn(40_000, port)))?;
        }
    }
    reported.extend(filter.probes()?);
    let scanner: IpAddr = REMOTE.parse()?;
    let ports: HashSet<u16> = reported
        .iter()
        .filter(|probe| probe.source == scanner)
        .map(|probe| probe.port)
        .collect();
    let (patterns, shed) = filter.patterns()?;
    eprintln!(
        "{} of 1,000 ports reported under {PACKETS} packets; {} probes of others, {shed} shed",
        ports.len(),
        reported.len() - ports.len()
    );
    ensure!(ports.len() >= 20, "{} ports", ports.len());
    let most = (PACKETS / EPOCH + 1) * (PROBES_PER_EPOCH + EARNED_PER_EPOCH);
    ensure!(reported.len() as u32 <= most, "{} reported", reported.len());
    let refused = u64::from(PACKETS + PACKETS / SHARE);
    ensure!(patterns.get("syn") == Some(&refused), "{patterns:?}");
    filter.forgive()
}

#[test]
fn who_is_sent_data_by_a_service_is_verified() -> Result<()> {
    const HOUR: Duration = Duration::from_hours(1);
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let out = |remote: &str, segment: &Tcp| link().ipv4(&Ipv4::new(OWN, remote).with(segment));
    let data = |flags| Tcp::new(443, 40_000, flags).payload(b"data");
    let is_verified = |filter: &mut Filter, peer: &str| -> Result<bool> {
        Ok(filter.scans().is_verified(peer.parse()?, HOUR)?)
    };
    for (what, segment) in [
        ("a SYN and ACK", Tcp::syn_ack(443, 40_000)),
        ("an ACK", Tcp::ack(443, 40_000)),
        ("a FIN", Tcp::new(443, 40_000, FIN | ACK)),
        ("a reset that says why", data(RST | ACK)),
        ("a SYN with data", data(SYN)),
        (
            "our own connection",
            Tcp::new(50_000, 80, ACK | PSH).payload(b"GET /"),
        ),
    ] {
        filter.egress(&out(REMOTE, &segment))?;
        ensure!(!is_verified(&mut filter, REMOTE)?, "{what}");
    }
    // what the peer sends proves nothing
    filter.ingress(&v4(REMOTE, &Tcp::ack(40_000, 443).payload(b"GET /")))?;
    ensure!(!is_verified(&mut filter, REMOTE)?, "by what it sent");

    filter.egress(&out(REMOTE, &data(ACK | PSH)))?;
    ensure!(is_verified(&mut filter, REMOTE)?, "by what it was sent");
    for other in ["203.0.113.10", "198.18.0.1", REMOTE6] {
        ensure!(!is_verified(&mut filter, other)?, "{other}");
    }
    filter.egress(&link().ipv6(&Ipv6::new(OWN6, REMOTE6).with(&data(ACK))))?;
    for (peer, verified) in [
        (REMOTE6, true),
        ("2001:db8:9::a", true),
        ("2001:db8:8::9", false),
    ] {
        ensure!(is_verified(&mut filter, peer)? == verified, "{peer}");
    }
    filter.reopen_scans()?;
    ensure!(is_verified(&mut filter, REMOTE)?, "after a restart");
    Ok(())
}

fn nonzero(counted: &(BTreeMap<&'static str, u64>, u64)) -> (BTreeMap<&'static str, u64>, u64) {
    let mut counted = counted.clone();
    counted.0.retain(|_, packets| *packets > 0);
    counted
}
