//! Server and client against each other in a directory of their own.

mod audit;
mod guard;
mod remote;
pub(crate) mod scans;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use filter_common::reason::Reason;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::report::event::tests::{decode, raw, syn};

struct Daemon {
    directory: TempDir,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    fn start() -> Self {
        Self::with(operations::table())
    }

    /// With operations of the test's own.
    fn with(table: Vec<operations::Operation>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::new());
        let (stop, stopped) = oneshot::channel();
        let listener = bind(directory.path()).unwrap();
        let limited = listener::Limited::new(listener, Arc::clone(&shared));
        let server = tokio::spawn(server::serve_table(
            table,
            limited,
            Arc::clone(&shared),
            async { drop(stopped.await) },
        ));
        Self {
            directory,
            shared,
            stop,
            server,
        }
    }

    async fn followed_by(&self, count: usize) {
        while self.shared.listeners() != count + 1 {
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(path(self.directory.path()))
            .await
            .unwrap()
    }
}

fn event(rule: u16) -> EventRecord {
    decode(&raw(Reason::DropPort, rule, &syn())).unwrap()
}

fn rule_of(line: &str) -> String {
    serde_json::from_str::<EventRecord>(line)
        .unwrap()
        .rule
        .unwrap()
}

#[tokio::test]
async fn status_once_there_is_one() {
    let daemon = Daemon::start();
    let early = status(daemon.directory.path()).await.unwrap_err();
    assert!(early.is_unreachable(), "{early}");
    let set = Status {
        generation: 7,
        daemon: "running".to_owned(),
        ..Status::default()
    };
    daemon.shared.set_status(set.clone());
    assert_eq!(status(daemon.directory.path()).await.unwrap(), set);
}

#[tokio::test]
async fn nobody_there() {
    let directory = tempfile::tempdir().unwrap();
    assert!(
        status(directory.path()).await.unwrap_err().is_unreachable(),
        "no socket"
    );
    drop(bind(directory.path()).unwrap());
    let error = status(directory.path()).await.unwrap_err();
    assert!(
        error.is_unreachable(),
        "a socket that a dead daemon left: {error}"
    );
}

#[tokio::test]
async fn one_daemon_a_socket() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(path(daemon.directory.path()))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = bind(daemon.directory.path()).unwrap_err();
    assert!(
        second.to_string().contains("another daemon answers"),
        "{second}"
    );
    daemon.shared.set_status(Status::default());
    assert!(
        status(daemon.directory.path()).await.is_ok(),
        "the first goes on"
    );

    let directory = tempfile::tempdir().unwrap();
    drop(bind(directory.path()).unwrap());
    let again = bind(directory.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the stale one was replaced");
    drop(again);
}

#[tokio::test]
async fn recent_events_then_new_ones() {
    let daemon = Daemon::start();
    for rule in 1..=RECENT_EVENTS as u16 + 5 {
        daemon.shared.publish(event(rule));
    }
    let mut all = events(daemon.directory.path(), false, usize::MAX)
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(line) = all.next().await.unwrap() {
        seen.push(rule_of(&line));
    }
    assert_eq!(seen.len(), RECENT_EVENTS);
    assert_eq!(seen[0], "rule-6");

    let mut following = events(daemon.directory.path(), true, 1).await.unwrap();
    assert_eq!(
        rule_of(&following.next().await.unwrap().unwrap()),
        "rule-261"
    );
    daemon.followed_by(1).await;
    daemon.shared.publish(event(999));
    assert_eq!(
        rule_of(&following.next().await.unwrap().unwrap()),
        "rule-999"
    );
    drop(following);
    timeout(Duration::from_secs(5), daemon.followed_by(0))
        .await
        .expect("a reader that left is forgotten");
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost() {
    const SENT: u64 = 20_000;
    let daemon = Daemon::start();
    let mut slow = events(daemon.directory.path(), true, 0).await.unwrap();
    daemon.followed_by(1).await;
    for rule in 0..SENT {
        daemon.shared.publish(event(rule as u16 + 1));
        if rule % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < SENT {
        let line = timeout(Duration::from_secs(5), slow.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        match value["lost"].as_u64() {
            Some(count) => lost += count,
            None => seen += 1,
        }
    }
    assert_eq!(seen + lost, SENT);
    assert!(lost > 0 && seen > 0, "seen {seen}, lost {lost}");
}

#[tokio::test]
async fn stopping_ends_streams() {
    let daemon = Daemon::start();
    let mut following = events(daemon.directory.path(), true, 0).await.unwrap();
    daemon.followed_by(1).await;
    daemon.stop.send(()).unwrap();
    let end = timeout(Duration::from_secs(3), following.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(end, None);
    timeout(Duration::from_secs(3), daemon.server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_daemon_that_dies_while_it_sends_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let listener = bind(directory.path()).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{}\n{\r\n";
        stream.write_all(answer).await.unwrap();
    });
    let mut broken = events(directory.path(), true, 0).await.unwrap();
    assert_eq!(broken.next().await.unwrap().as_deref(), Some("{}"));
    assert!(broken.next().await.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn questions_have_limits() {
    let daemon = Daemon::start();
    let answer = |request: String| {
        let connecting = daemon.connect();
        async move {
            let mut stream = connecting.await;
            // the server may close before it has read everything
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
                .await
                .expect("it is closed");
            String::from_utf8(answer).unwrap()
        }
    };
    let unknown = answer("GET /v2/status HTTP/1.1\r\nhost: x\r\n\r\n".to_owned()).await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    assert!(unknown.contains("connection: close"), "{unknown}");
    let long = answer(format!(
        "GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(100_000)
    ))
    .await;
    assert!(!long.starts_with("HTTP/1.1 2"), "{long}");
    let wrong = answer("GET /v1/events?last=some HTTP/1.1\r\nhost: x\r\n\r\n".to_owned()).await;
    assert!(wrong.starts_with("HTTP/1.1 400"), "{wrong}");
    let slow = answer("GET /v1/sta".to_owned()).await;
    assert!(!slow.starts_with("HTTP/1.1 2"), "{slow}");
}

#[tokio::test]
async fn connections_have_a_limit() {
    let daemon = Daemon::start();
    daemon.shared.set_status(Status::default());
    let mut readers = Vec::new();
    for _ in 0..server::FOLLOWERS {
        readers.push(events(daemon.directory.path(), true, 0).await.unwrap());
    }
    let refused = events(daemon.directory.path(), true, 0).await.unwrap_err();
    assert!(
        refused.to_string().contains("too many readers"),
        "{refused}"
    );
    assert!(
        status(daemon.directory.path()).await.is_ok(),
        "short questions go on"
    );
    let mut idle = Vec::new();
    for _ in server::FOLLOWERS..seats::OWN {
        idle.push(daemon.connect().await);
    }
    sleep(Duration::from_millis(100)).await;
    assert!(
        status(daemon.directory.path()).await.is_err(),
        "one too many"
    );
    drop((readers, idle));
}
