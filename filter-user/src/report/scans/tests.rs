//! Records as text.

use std::collections::BTreeMap;

use super::*;

pub(crate) fn scan_record(id: &str, state: State) -> ScanRecord {
    ScanRecord {
        id: id.to_owned(),
        state,
        source: net("192.0.2.7/32"),
        decoys: Vec::new(),
        kind: Kind::PortScan,
        patterns: BTreeMap::from([("syn".to_owned(), 9), ("udp".to_owned(), 12)]),
        hints: vec!["nmap".to_owned()],
        ports: 21,
        hosts: 1,
        sample_ports: vec!["tcp/22".to_owned(), "udp/53".to_owned()],
        sample_hosts: vec!["198.51.100.1".parse().unwrap()],
        packets: 40,
        rate: 8.0,
        interface: "eth0".to_owned(),
        first_seen: "2026-01-01T00:00:00.000Z".to_owned(),
        last_seen: "2026-01-01T00:00:05.000Z".to_owned(),
        targets_to_open: 10,
        verdict: Verdict::Blocked,
        because: "10 ports within 10s".to_owned(),
        blocked_until: Some("2026-01-01T00:10:00.000Z".to_owned()),
        strikes: 1,
        shed: false,
    }
}

pub(crate) fn block_record(source: &str) -> BlockRecord {
    BlockRecord {
        source: net(source),
        since: "2026-01-01T00:00:01.000Z".to_owned(),
        until: "2026-01-01T00:10:00.000Z".to_owned(),
        seconds_left: 599,
        origin: Origin::Scan,
        strikes: 1,
        scan: Some("a-1".to_owned()),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn scans_in_a_table() {
    let mut sweep = scan_record("a-2", State::Closed);
    sweep.kind = Kind::Sweep;
    sweep.source = net("2001:db8:0:1::/64");
    sweep.decoys = vec![net("192.0.2.8/32"), net("192.0.2.9/32")];
    sweep.verdict = Verdict::Observed;
    assert_eq!(
        scans(&[scan_record("a-1", State::Open), sweep]),
        "\
scan  state   source                          kind       patterns  verdict   last seen                 ports  hosts  packets
a-1   open    192.0.2.7                       port_scan  udp,syn   blocked   2026-01-01T00:00:05.000Z     21      1       40
a-2   closed  2001:db8:0:1::/64 and 2 decoys  sweep      udp,syn   observed  2026-01-01T00:00:05.000Z     21      1       40
"
    );
}

#[test]
fn one_scan() {
    let mut record = scan_record("a-1", State::Open);
    record.decoys = vec![net("192.0.2.8/32")];
    record.shed = true;
    assert_eq!(
        scan(&record, false),
        "\
scan a-1: port_scan, open
  source         192.0.2.7
  decoys         192.0.2.8 (sent the same at the same time)
  verdict        blocked until 2026-01-01T00:10:00.000Z (10 ports within 10s)
  patterns       syn 9, udp 12
  ports          21, the first tcp/22, udp/53
  hosts          1, the first 198.51.100.1
  packets        40, 8.0 a second, by eth0
  seen           from 2026-01-01T00:00:00.000Z to 2026-01-01T00:00:05.000Z
  recognised     after 10 targets
  blocks so far  1
  looks like     nmap (no proof)
  incomplete     probes were shed meanwhile: it may be larger
"
    );
    assert!(scan(&record, true).contains("\x1b[31mblocked until"));
}

#[test]
fn blocks_in_a_table() {
    let mut manual = block_record("2001:db8:0:1::/64");
    manual.origin = Origin::Manual;
    manual.scan = None;
    assert_eq!(
        blocks(&[block_record("192.0.2.7/32"), manual]),
        "\
source             until                     left    origin  scan  strikes
192.0.2.7          2026-01-01T00:10:00.000Z  9m 59s  scan    a-1         1
2001:db8:0:1::/64  2026-01-01T00:10:00.000Z  9m 59s  manual  -           1
"
    );
    assert_eq!(
        block(&block_record("192.0.2.7/32")),
        "192.0.2.7 is blocked until 2026-01-01T00:10:00.000Z (9m 59s)\n"
    );
}

#[test]
fn one_line_a_report() {
    let mut spared = scan_record("a-1", State::Open);
    spared.verdict = Verdict::Spared;
    spared.blocked_until = None;
    spared.because = "gateway 192.0.2.7".to_owned();
    spared.ports = 1;
    spared.shed = true;
    let mut manual = block_record("192.0.2.7/32");
    manual.origin = Origin::Manual;
    manual.scan = None;
    let alert = |about: &str, of: Option<&str>| {
        Report::Alert(Alert {
            about: about.to_owned(),
            source: of.map(net),
            value: 5000.0,
            baseline: 12.34,
            unit: "packets/s".to_owned(),
            time: "2026-01-01T00:00:01.000Z".to_owned(),
        })
    };
    for (report, expected) in [
        (
            Report::ScanOpened(scan_record("a-1", State::Open)),
            "2026-01-01T00:00:05.000Z scan_opened a-1 192.0.2.7 port_scan udp,syn: 21 ports, 1 host, 40 packets by \
             eth0: blocked until 2026-01-01T00:10:00.000Z (10 ports within 10s)",
        ),
        (
            Report::ScanUpdated(spared),
            "2026-01-01T00:00:05.000Z scan_updated a-1 192.0.2.7 port_scan udp,syn: 1 port, 1 host, 40 packets by \
             eth0: spared (gateway 192.0.2.7); incomplete",
        ),
        (
            Report::Blocked(block_record("192.0.2.7/32")),
            "2026-01-01T00:00:01.000Z blocked 192.0.2.7 until 2026-01-01T00:10:00.000Z, by a scan, strike 1, scan a-1",
        ),
        (
            Report::Blocked(manual.clone()),
            "2026-01-01T00:00:01.000Z blocked 192.0.2.7 until 2026-01-01T00:10:00.000Z, by hand, strike 1",
        ),
        (
            Report::Unblocked(manual),
            "2026-01-01T00:10:00.000Z unblocked 192.0.2.7",
        ),
        (
            alert("drops", None),
            "2026-01-01T00:00:01.000Z alert drops: 5000.0 packets/s, usually 12.3 packets/s",
        ),
        (
            alert("source", Some("192.0.2.7/32")),
            "2026-01-01T00:00:01.000Z alert source 192.0.2.7: 5000.0 packets/s, usually 12.3 packets/s",
        ),
    ] {
        assert_eq!(super::report(&report), expected);
    }
}

#[test]
fn nothing_steers_the_terminal() {
    let mut record = scan_record("a-1", State::Open);
    for text in [
        &mut record.id,
        &mut record.interface,
        &mut record.because,
        &mut record.last_seen,
        &mut record.sample_ports[0],
        &mut record.hints[0],
    ] {
        text.push_str("\x1b[2J");
    }
    record.patterns.insert("\x1b[2J".to_owned(), 1);
    let mut blocked = block_record("192.0.2.7/32");
    blocked.scan = Some("\x1b[2J".to_owned());
    for text in [
        scan(&record, false),
        scans(&[record.clone()]),
        report(&Report::ScanClosed(record)),
        blocks(&[blocked.clone()]),
        report(&Report::Blocked(blocked)),
    ] {
        assert!(!text.contains('\x1b'), "{text}");
    }
}
