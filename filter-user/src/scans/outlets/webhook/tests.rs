//! Against a receiver of our own, over real sockets.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::tests::report;
use super::super::{OutletState, Outlets};
use super::*;
use crate::policy::Reporting;
use crate::scans::outlets::Options;

/// A hundred times faster than in real life.
const FAST: Pace = Pace {
    first: Duration::from_millis(10),
    at_most: Duration::from_millis(600),
    timeout: Duration::from_millis(500),
};

#[derive(Default)]
struct Seen {
    status: AtomicU16,
    requests: Mutex<Vec<(HeaderMap, Bytes, Instant)>>,
}

impl Seen {
    fn answering(status: u16) -> Arc<Self> {
        let seen = Self::default();
        seen.status.store(status, Ordering::Relaxed);
        Arc::new(seen)
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Ids of all reports, as often as they came.
    fn ids(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let bodies = requests.iter().map(|(_, body, _)| {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert!(body["host"].as_str().is_some_and(|host| !host.is_empty()));
            let reports = body["reports"].as_array().unwrap().clone();
            assert!((1..=BATCH).contains(&reports.len()));
            reports
        });
        bodies
            .flatten()
            .map(|report| report["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn receive(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = seen.status.load(Ordering::Relaxed);
    let mut requests = seen.requests.lock().unwrap();
    requests.push((headers, body, Instant::now()));
    StatusCode::from_u16(status).unwrap()
}

fn serve(listener: TcpListener, seen: Arc<Seen>) -> JoinHandle<()> {
    let router = Router::new().route("/hook", post(receive)).with_state(seen);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

/// An address where nobody listens.
async fn free_port() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn settings(address: std::net::SocketAddr, queue: u32, key: Option<&Path>) -> Webhook {
    Webhook {
        url: format!("http://{address}/hook"),
        secret_file: key.map(Path::to_owned),
        queue,
    }
}

fn start_outlets(webhook: Webhook) -> Outlets {
    let reporting = Reporting {
        webhook: Some(webhook),
        ..Reporting::default()
    };
    let options = Options {
        pace: FAST,
        ..Options::default()
    };
    Outlets::start_with(&reporting, options)
}

fn state(outlets: &Outlets) -> OutletState {
    outlets.state().remove(0)
}

async fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn key_file(directory: &Path, text: &str, mode: u32) -> std::path::PathBuf {
    let path = directory.join("key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn signatures_are_those_of_the_standard() {
    // by openssl: printf '1754388000.{}' | openssl dgst -sha256 -hmac secret
    assert_eq!(
        signature(b"secret", "1754388000", b"{}"),
        "sha256=d690f5fa858122222eef40641ed3627255f3c6eddeb3027c61f90bff477704a8"
    );
}

#[test]
fn pauses_double_up_to_a_limit() {
    let pace = Pace::default();
    let millis = |failures, chance| pace.pause(failures, chance).as_millis();
    assert_eq!(
        [0, 1, 2, 3].map(|n| millis(n, 1.0)),
        [1000, 1000, 2000, 4000]
    );
    assert_eq!(millis(3, 0.0), 2000, "half of it by chance");
    for failures in [7, 20, u32::MAX] {
        assert_eq!(millis(failures, 1.0), 60_000);
    }
}

#[tokio::test]
async fn batches_arrive_signed_and_in_order() {
    let scratch = tempfile::tempdir().unwrap();
    let key = key_file(scratch.path(), "s3cret\n", 0o600);
    let seen = Seen::answering(204);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = serve(listener, Arc::clone(&seen));
    let outlets = start_outlets(settings(address, 1000, Some(&key)));
    for n in 0..250 {
        outlets.send(&report(n));
    }
    wait("all", || state(&outlets).sent == 250).await;
    let expected: Vec<String> = (0..250).map(|n| format!("s-{n}")).collect();
    assert_eq!(seen.ids(), expected);
    for (headers, body, _) in seen.requests.lock().unwrap().iter() {
        let header = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), "application/json");
        let timestamp = header(TIMESTAMP_HEADER);
        assert_eq!(
            header(SIGNATURE_HEADER),
            signature(b"s3cret", timestamp, body)
        );
        let age = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            - timestamp.parse::<u64>().unwrap();
        assert!(age < 60);
    }
    let state = state(&outlets);
    assert!(state.ok);
    assert_eq!((state.waiting, state.shed), (0, 0));
}

/// The case, a hundred times faster: the receiver is away for a minute while 1,000 scans are reported.
#[tokio::test]
async fn a_receiver_away_for_a_minute_loses_nothing_within_the_limit() {
    let address = free_port().await;
    let outlets = start_outlets(settings(address, 1000, None));
    let begun = Instant::now();
    for n in 0..1000 {
        outlets.send(&report(n));
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(state(&outlets).waiting <= 1000);
    }
    wait("an error", || !state(&outlets).ok).await;
    let down = Duration::from_millis(600);
    tokio::time::sleep(down.saturating_sub(begun.elapsed())).await;
    let before = state(&outlets);
    assert_eq!(
        (before.waiting, before.shed, before.sent),
        (1000, 0, 0),
        "{before:?}"
    );
    assert!(before.error.unwrap().contains("refused"));

    let seen = Seen::answering(200);
    let listener = TcpListener::bind(address).await.unwrap();
    let _server = serve(listener, Arc::clone(&seen));
    let back = Instant::now();
    wait("all", || state(&outlets).sent == 1000).await;
    println!(
        "1,000 reports were delivered {:?} after the receiver was back",
        back.elapsed()
    );
    let expected: Vec<String> = (0..1000).map(|n| format!("s-{n}")).collect();
    assert_eq!(seen.ids(), expected, "each once, in order");
    assert!(state(&outlets).ok);
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_are_shed_and_counted() {
    let address = free_port().await;
    let outlets = start_outlets(settings(address, 300, None));
    for n in 0..1000 {
        outlets.send(&report(n));
    }
    wait("an error", || !state(&outlets).ok).await;
    let before = state(&outlets);
    assert_eq!((before.waiting, before.shed), (300, 700), "{before:?}");
    let seen = Seen::answering(200);
    let listener = TcpListener::bind(address).await.unwrap();
    let _server = serve(listener, Arc::clone(&seen));
    wait("the rest", || state(&outlets).sent == 300).await;
    let expected: Vec<String> = (700..1000).map(|n| format!("s-{n}")).collect();
    assert_eq!(seen.ids(), expected);
}

/// In real time: a receiver that answers 503 for two seconds, then accepts, with the pauses of a real daemon.
#[tokio::test]
async fn pauses_of_real_length() {
    let seen = Seen::answering(503);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = settings(listener.local_addr().unwrap(), 10, None);
    let _server = serve(listener, Arc::clone(&seen));
    let reporting = Reporting {
        webhook: Some(webhook),
        ..Reporting::default()
    };
    let outlets = Outlets::start(&reporting);
    outlets.send(&report(0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tries = seen.count();
    assert!((2..=4).contains(&tries), "{tries} tries within two seconds");
    let error = state(&outlets).error.unwrap();
    assert!(error.contains("503"), "{error}");
    seen.status.store(200, Ordering::Relaxed);
    wait("another try", || state(&outlets).sent == 1).await;
    let times: Vec<Instant> = seen.requests.lock().unwrap().iter().map(|r| r.2).collect();
    assert!(
        times[1] - times[0] >= Duration::from_millis(500),
        "at least half of the pause"
    );
}

#[tokio::test]
async fn what_a_receiver_cannot_read_does_not_block_the_rest() {
    let seen = Seen::answering(400);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = settings(listener.local_addr().unwrap(), 10, None);
    let _server = serve(listener, Arc::clone(&seen));
    let outlets = start_outlets(webhook);
    outlets.send(&report(0));
    wait("a refusal", || state(&outlets).shed == 1).await;
    assert!(state(&outlets).error.unwrap().contains("400"));
    seen.status.store(200, Ordering::Relaxed);
    outlets.send(&report(1));
    wait("the next", || state(&outlets).sent == 1).await;
    assert!(state(&outlets).ok);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let seen = Seen::answering(307);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = settings(listener.local_addr().unwrap(), 10, None);
    let _server = serve(listener, Arc::clone(&seen));
    let outlets = start_outlets(webhook);
    outlets.send(&report(0));
    wait("an error", || !state(&outlets).ok).await;
    let state = state(&outlets);
    assert!(state.error.unwrap().contains("final URL"));
    assert_eq!(state.waiting, 1, "kept");
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outlets = start_outlets(settings(listener.local_addr().unwrap(), 10, None));
    outlets.send(&report(0));
    let begun = Instant::now();
    wait("an error", || !state(&outlets).ok).await;
    assert!(begun.elapsed() >= FAST.timeout);
    assert!(state(&outlets).error.unwrap().contains("no answer within"));
}

#[tokio::test]
async fn a_reload_reads_the_key_again_and_keeps_what_waits() {
    let scratch = tempfile::tempdir().unwrap();
    let key = key_file(scratch.path(), "old", 0o644);
    let seen = Seen::answering(200);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = settings(listener.local_addr().unwrap(), 10, Some(&key));
    let _server = serve(listener, Arc::clone(&seen));
    let reporting = Reporting {
        webhook: Some(webhook),
        ..Reporting::default()
    };
    let mut outlets = Outlets::start(&reporting);
    outlets.send(&report(0));
    wait("an error", || !state(&outlets).ok).await;
    let error = state(&outlets).error.unwrap();
    assert!(error.contains("chmod"), "{error}");
    assert_eq!(
        seen.count(),
        0,
        "nothing is sent with a key that others know"
    );

    key_file(scratch.path(), "new", 0o640);
    outlets.replace(&reporting);
    wait("a report", || state(&outlets).sent == 1).await;
    let requests = seen.requests.lock().unwrap();
    let (headers, body, _) = &requests[0];
    let timestamp = headers[TIMESTAMP_HEADER].to_str().unwrap();
    assert_eq!(
        headers[SIGNATURE_HEADER],
        signature(b"new", timestamp, body)
    );
}

#[test]
fn keys_that_are_none() {
    let scratch = tempfile::tempdir().unwrap();
    for (text, mode, said) in [
        ("x", 0o604, "chmod"),
        (" \n", 0o600, "empty"),
        (&"k".repeat(5000), 0o600, "larger"),
    ] {
        let error = read_key(&key_file(scratch.path(), text, mode)).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert!(!error.contains("kk"), "the key is not shown");
    }
    let error = read_key(&scratch.path().join("none")).unwrap_err();
    assert!(error.contains("No such file"), "{error}");
    assert_eq!(
        read_key(&key_file(scratch.path(), "a b\r\n", 0o400)).unwrap(),
        b"a b"
    );
}

/// Nobody here has a certificate: what is shown is that TLS is spoken, and that a stranger is not believed.
#[tokio::test]
async fn tls_is_spoken_and_strangers_are_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hello = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first)
            .await
            .unwrap();
        // an alert of TLS: handshake_failure (RFC 8446, 6)
        let alert = [0x15, 3, 3, 0, 2, 2, 40];
        tokio::io::AsyncWriteExt::write_all(&mut stream, &alert)
            .await
            .unwrap();
        first
    });
    let outlets = start_outlets(Webhook {
        url: format!("https://{address}/hook"),
        secret_file: None,
        queue: 10,
    });
    outlets.send(&report(0));
    wait("an error", || !state(&outlets).ok).await;
    let error = state(&outlets).error.unwrap();
    if error.contains("ca-certificates") {
        eprintln!("SKIPPED: {error}");
        return;
    }
    assert_eq!(hello.await.unwrap()[..2], [0x16, 3], "a ClientHello");
    assert!(error.contains("HandshakeFailure"), "{error}");
}

#[test]
fn answers_that_may_be_cured_are_tried_again() {
    let outcome = |code| judge(StatusCode::from_u16(code).unwrap(), None);
    let codes: BTreeSet<u16> = (200..600).collect();
    for code in codes {
        let expected = match code {
            200..300 => "accepted",
            400 | 413 | 415 | 422 => "refused",
            _ => "again",
        };
        let got = match outcome(code) {
            Outcome::Accepted => "accepted",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(..) => "again",
        };
        assert_eq!(got, expected, "{code}");
    }
}
