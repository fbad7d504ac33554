//! The queue's promises, and what a change of policy keeps.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::policy::ReportFile;
use crate::scans::record::{Alert, BlockRecord, Kind, Origin, ScanRecord, State, Verdict};

/// A scan's record whose id tells it apart.
pub(super) fn scan(n: u64) -> ScanRecord {
    ScanRecord {
        id: format!("s-{n}"),
        state: State::Open,
        source: "203.0.113.9/32".parse().unwrap(),
        decoys: Vec::new(),
        kind: Kind::PortScan,
        patterns: BTreeMap::from([("syn".to_owned(), 12)]),
        hints: vec!["nmap".to_owned()],
        ports: 12,
        hosts: 1,
        sample_ports: vec!["tcp/22".to_owned()],
        sample_hosts: vec!["192.0.2.1".parse().unwrap()],
        packets: 24,
        rate: 8.0,
        interface: "eth0".to_owned(),
        first_seen: "2026-08-05T10:00:00.000Z".to_owned(),
        last_seen: "2026-08-05T10:00:03.000Z".to_owned(),
        targets_to_open: 10,
        verdict: Verdict::Blocked,
        because: "10 ports within 10 s".to_owned(),
        blocked_until: None,
        strikes: 1,
        shed: false,
    }
}

pub(super) fn report(n: u64) -> Arc<Report> {
    Arc::new(Report::ScanOpened(scan(n)))
}

pub(super) fn block() -> BlockRecord {
    BlockRecord {
        source: "2001:db8:0:7::/64".parse().unwrap(),
        since: "2026-08-05T10:00:00.000Z".to_owned(),
        until: "2026-08-05T10:10:00.000Z".to_owned(),
        seconds_left: 600,
        origin: Origin::Scan,
        strikes: 2,
        scan: Some("s-1".to_owned()),
    }
}

pub(super) fn alert() -> Alert {
    Alert {
        about: "drops".to_owned(),
        source: None,
        value: 12_345.678,
        baseline: 10.0,
        unit: "packets/s".to_owned(),
        time: "2026-08-05T10:00:00.000Z".to_owned(),
    }
}

/// Asks until it holds, five seconds at most.
pub(super) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn id(report: &Report) -> String {
    match report {
        Report::ScanOpened(scan) => scan.id.clone(),
        other => panic!("{other:?}"),
    }
}

fn ids(reports: &[Arc<Report>]) -> Vec<String> {
    reports.iter().map(|report| id(report)).collect()
}

fn to_file(path: &Path) -> Reporting {
    Reporting {
        file: Some(ReportFile {
            path: path.to_owned(),
            max_bytes: 1 << 20,
            keep: 2,
        }),
        ..Reporting::default()
    }
}

#[test]
fn a_full_queue_sheds_the_oldest() {
    let queue = Queue::new("test");
    let turn = queue.begin(4);
    for n in 0..6 {
        queue.push(report(n));
    }
    let state = queue.state();
    assert_eq!((state.waiting, state.shed), (4, 2));
    assert_eq!(
        ids(&queue.take(turn, 100).unwrap()),
        ["s-2", "s-3"],
        "half of it"
    );
    // in the worker's hands they still count
    queue.push(report(6));
    let state = queue.state();
    assert_eq!((state.waiting, state.shed), (4, 3));
    queue.failed(turn, 1, "no".to_owned());
    let state = queue.state();
    assert_eq!((state.waiting, state.sent, state.ok), (3, 1, false));
    assert_eq!(state.error.as_deref(), Some("no"));
    assert_eq!(
        ids(&queue.take(turn, 1).unwrap()),
        ["s-3"],
        "in order again"
    );
    queue.done(turn);
    let state = queue.state();
    assert_eq!((state.waiting, state.sent, state.shed), (2, 2, 3));
    assert_eq!((state.ok, state.error), (true, None));
    assert_eq!(ids(&queue.take(turn, 1).unwrap()), ["s-5"]);
    queue.refused(turn, "never".to_owned());
    let state = queue.state();
    assert_eq!((state.waiting, state.sent, state.shed), (1, 2, 4));
}

#[test]
fn a_worker_whose_turn_is_over_gets_and_counts_nothing() {
    let queue = Queue::new("test");
    let former = queue.begin(10);
    queue.push(report(0));
    queue.push(report(1));
    queue.take(former, 1).unwrap();
    let turn = queue.begin(10);
    queue.done(former);
    assert_eq!(queue.take(former, 10), None);
    assert!(!queue.pause(former, Duration::from_mins(1)));
    assert_eq!(ids(&queue.take(turn, 10).unwrap()), ["s-0", "s-1"]);
    assert_eq!(queue.state().sent, 0);
}

#[test]
fn a_closed_queue_is_emptied_first() {
    let queue = Arc::new(Queue::new("test"));
    let turn = queue.begin(10);
    queue.push(report(0));
    queue.close();
    assert!(queue.take(turn, 10).is_some());
    queue.done(turn);
    assert_eq!(queue.take(turn, 10), None);
    let turn = queue.begin(10);
    let waiter = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || queue.take(turn, 1)
    });
    queue.abandon();
    assert_eq!(waiter.join().unwrap(), None, "whoever waits is woken");
}

#[tokio::test]
async fn a_task_that_waits_is_woken_by_each_of_these() {
    let queue = Arc::new(Queue::new("test"));
    let turn = queue.begin(10);
    let wait = || {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { queue.take_async(turn, 1).await })
    };
    let waiter = wait();
    tokio::task::yield_now().await;
    queue.push(report(7));
    assert_eq!(ids(&waiter.await.unwrap().unwrap()), ["s-7"]);
    queue.done(turn);
    let waiter = wait();
    tokio::task::yield_now().await;
    queue.close();
    assert_eq!(waiter.await.unwrap(), None);
    assert!(!queue.pause_async(turn, Duration::from_mins(1)).await);
}

#[tokio::test]
async fn what_waits_outlives_a_change_of_policy_where_the_target_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let (first, second) = (
        scratch.path().join("a/scans"),
        scratch.path().join("b/scans"),
    );
    // nobody can write there as yet
    std::fs::write(scratch.path().join("a"), "no directory").unwrap();
    let mut outlets = Outlets::start(&to_file(&first));
    outlets.send(&report(0));
    wait("an error", || !outlets.state()[0].ok);
    outlets.replace(&to_file(&first));
    assert_eq!(outlets.state()[0].waiting, 1);
    std::fs::remove_file(scratch.path().join("a")).unwrap();
    wait("a report", || outlets.state()[0].sent == 1);
    assert!(outlets.state()[0].ok, "{:?}", outlets.state());

    outlets.replace(&to_file(&second));
    outlets.send(&report(1));
    wait("a report", || outlets.state()[0].sent == 1);
    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&first), lines(&second)), (1, 1));

    outlets.replace(&Reporting::default());
    assert_eq!(outlets.state(), []);
}

#[tokio::test]
async fn the_end_waits_for_what_can_be_sent_and_not_for_what_cannot() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("scans");
    let outlets = Outlets::start(&to_file(&path));
    for n in 0..1000 {
        outlets.send(&report(n));
    }
    assert_eq!(outlets.finish(Duration::from_secs(5)).await, 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1000);

    let outlets = Outlets::start(&to_file(Path::new("/dev/full")));
    outlets.send(&report(0));
    let begun = Instant::now();
    assert_eq!(outlets.finish(Duration::from_millis(200)).await, 1);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn kinds_are_named_as_in_the_reports() {
    let kinds = [
        Report::ScanOpened(scan(1)),
        Report::ScanUpdated(scan(1)),
        Report::ScanClosed(scan(1)),
        Report::Blocked(block()),
        Report::Unblocked(block()),
        Report::Alert(alert()),
    ];
    for report in kinds {
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!(document["event"], report.kind());
        assert!(Reporting::KINDS.contains(&report.kind()));
    }
}

#[test]
fn a_stream_goes_to_the_file_it_is_given() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str| ReportFile {
        path: scratch.path().join(name),
        max_bytes: 1 << 20,
        keep: 1,
    };
    let text = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap_or_default();
    let mut stream = FileStream::new("test");
    stream.send(&Arc::new("to nobody"));
    stream.replace(Some(&file("a")));
    stream.send(&Arc::new("one"));
    stream.replace(Some(&file("a")));
    stream.send(&Arc::new("two"));
    wait("two lines", || text("a") == "\"one\"\n\"two\"\n");
    stream.replace(Some(&file("b")));
    stream.send(&Arc::new("three"));
    wait("a third line", || text("b") == "\"three\"\n");
    stream.replace(None);
    stream.send(&Arc::new("four"));
    drop(stream);
    assert_eq!(text("a").lines().count() + text("b").lines().count(), 3);
}
