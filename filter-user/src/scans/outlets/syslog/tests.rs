use std::os::unix::net::UnixDatagram;

use super::super::tests::{alert, block, report, scan, wait};
use super::*;

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn lines_that_scripts_can_split() {
    assert_eq!(
        line(&report(1)),
        "scan_opened id=s-1 source=203.0.113.9 kind=port_scan patterns=syn ports=12 hosts=1 packets=24 interface=eth0 \
         verdict=blocked because=\"10 ports within 10 s\""
    );
    assert_eq!(
        line(&Report::Unblocked(block())),
        "unblocked source=2001:db8:0:7::/64 until=2026-08-05T10:10:00.000Z strikes=2 scan=s-1"
    );
    assert_eq!(
        line(&Report::Alert(alert())),
        "alert about=drops value=12345.7 baseline=10.0 unit=packets/s"
    );
}

#[test]
fn nothing_begins_a_line_of_its_own() {
    let mut scan = scan(1);
    scan.because = "a\n<13>forged \"x\"\u{1b}[2J".to_owned();
    scan.interface = String::new();
    let line = line(&Report::ScanClosed(scan));
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.contains("interface=\"\" "), "{line}");
    assert!(
        line.ends_with(r#"because="a?<13>forged \"x\"?[2J""#),
        "{line}"
    );
}

#[test]
fn reports_reach_a_log_that_is_restarted() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let queue = Arc::new(Queue::new("syslog"));
    let turn = queue.begin(100);
    start(path.clone(), Arc::clone(&queue), turn);
    queue.push(report(0));
    wait("an error", || !queue.state().ok);
    let error = queue.state().error.unwrap();
    assert!(error.contains("No such file"), "{error}");

    let log = UnixDatagram::bind(&path).unwrap();
    let first = receive(&log);
    // daemon.warning: 3 * 8 + 4
    assert!(first.starts_with("<28>"), "{first}");
    let tag = format!(" edgefilter[{}]: scan_opened id=s-0 ", std::process::id());
    assert!(first.contains(&tag), "{first}");
    wait("a word of it", || queue.state().sent == 1);
    assert!(queue.state().ok);

    drop(log);
    std::fs::remove_file(&path).unwrap();
    let log = UnixDatagram::bind(&path).unwrap();
    queue.push(report(1));
    queue.push(Arc::new(Report::ScanUpdated(scan(2))));
    assert!(receive(&log).contains("id=s-1"), "over the new socket");
    let informal = receive(&log);
    assert!(informal.starts_with("<30>"), "{informal}");
    wait("a word of it", || queue.state().sent == 3);
    assert_eq!(queue.state().shed, 0);
    queue.close();
}

#[test]
fn a_log_that_does_not_read_costs_no_more_than_the_limit() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let log = UnixDatagram::bind(&path).unwrap();
    let queue = Arc::new(Queue::new("syslog"));
    let turn = queue.begin(50);
    start(path, Arc::clone(&queue), turn);
    for n in 0..5000 {
        queue.push(report(n));
    }
    let state = queue.state();
    assert!(state.waiting <= 50, "{state:?}");
    assert!(state.shed > 0, "{state:?}");
    // it reads again: the newest are there
    let mut last = String::new();
    while !last.contains("id=s-4999 ") {
        last = receive(&log);
    }
    wait("the end", || queue.state().waiting == 0);
    let state = queue.state();
    assert_eq!(state.sent + state.shed, 5000, "{state:?}");
    queue.close();
}
