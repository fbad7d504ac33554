//! The record of control actions over the socket.

use super::*;
use crate::audit::tests::event as action;
use crate::audit::{Log, Record};
use crate::settings::AuditSettings;

fn with_log() -> (Daemon, Arc<Log>) {
    let daemon = Daemon::start();
    let directory = daemon.directory.path().join("audit");
    let log = Arc::new(Log::open(&directory, &AuditSettings::default()).unwrap());
    daemon.shared.set_audit(Arc::clone(&log));
    (daemon, log)
}

#[tokio::test]
async fn records_can_be_asked_for() {
    let (daemon, log) = with_log();
    let run_dir = daemon.directory.path();
    let written: Vec<Record> = (0..3)
        .map(|n| log.append(action(&format!("p{n} & q"))).unwrap())
        .collect();
    let all = audit(run_dir, &AuditQuery::default()).await.unwrap();
    assert_eq!(all.records, written);
    let last = AuditQuery {
        last: 1,
        actor: Some("alice".to_owned()),
        action: Some("policy".to_owned()),
        since: Some("2020-01-01T00:00:00Z".to_owned()),
        ..AuditQuery::default()
    };
    assert_eq!(audit(run_dir, &last).await.unwrap().records, written[2..]);
    let none = AuditQuery {
        actor: Some("a & b=c".to_owned()),
        ..AuditQuery::default()
    };
    assert!(audit(run_dir, &none).await.unwrap().records.is_empty());
    let wrong = AuditQuery {
        since: Some("yesterday".to_owned()),
        ..AuditQuery::default()
    };
    let refused = audit(run_dir, &wrong).await.unwrap_err().to_string();
    assert!(refused.contains("RFC 3339"), "{refused}");
}

#[tokio::test]
async fn who_follows_misses_and_repeats_nothing() {
    let (daemon, log) = with_log();
    for _ in 0..5 {
        log.append(action("before")).unwrap();
    }
    let writer = {
        let log = Arc::clone(&log);
        tokio::task::spawn_blocking(move || {
            for _ in 0..20 {
                log.append(action("meanwhile")).unwrap();
            }
        })
    };
    let mut lines = audit_lines(daemon.directory.path(), 1000).await.unwrap();
    for seq in 1..=25 {
        let line = timeout(Duration::from_mins(1), lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let record: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(record.seq, seq);
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn without_a_log_there_is_nothing_to_say_yet() {
    let daemon = Daemon::start();
    let early = audit(daemon.directory.path(), &AuditQuery::default())
        .await
        .unwrap_err();
    assert!(early.is_unreachable(), "{early}");
}

/// What is asked of the daemon ends up in the record, with who asked.
#[tokio::test]
async fn requests_are_recorded() {
    let (daemon, log) = with_log();
    let run_dir = daemon.directory.path();
    // nobody keeps blocks here: it is refused, and that is recorded
    block(
        run_dir,
        "192.0.2.7/32".parse().unwrap(),
        None,
        String::new(),
    )
    .await
    .unwrap_err();
    let records = audit(run_dir, &AuditQuery::default())
        .await
        .unwrap()
        .records;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0].event.action, "block.add");
    assert_eq!(
        records[0].event.subject,
        "192.0.2.7/32 for as long as the policy says"
    );
    assert!(records[0].event.why.is_some());
    assert!(crate::audit::verify(log.directory(), None).unwrap().ok);
}
