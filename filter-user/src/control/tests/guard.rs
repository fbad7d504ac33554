//! What stands before every operation: roles, bounds, and the record of what was done or refused.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Mutex;

use axum::Extension;
use axum::http::Method;
use nix::unistd::geteuid;

use super::*;
use crate::access::{Actor, Role};
use crate::audit::{Event, Outcome};
use crate::control::operations::{self, Operation};
use crate::control::recorder::Record;
use crate::control::{client, seats};
use crate::settings::{Members, Roles};

/// A log in memory.
#[derive(Debug, Default)]
struct Log {
    written: Mutex<Vec<(Event, u64)>>,
    full: Mutex<bool>,
}

impl Log {
    fn events(&self) -> Vec<(Event, u64)> {
        self.written.lock().unwrap().clone()
    }
}

impl Record for Log {
    fn ready(&self) -> io::Result<()> {
        if *self.full.lock().unwrap() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn record(&self, event: Event, repeated: u64) -> io::Result<()> {
        self.written.lock().unwrap().push((event, repeated));
        Ok(())
    }
}

/// A stranger, a viewer, an operator and an admin. Nobody has to know these numbers: the kernel says them.
const USERS: [u32; 4] = [61_000, 61_001, 61_002, 61_003];

fn roles() -> Roles {
    let member = |uid: u32| Members {
        users: vec![format!("#{uid}")],
        ..Members::default()
    };
    Roles {
        viewer: member(USERS[1]),
        operator: member(USERS[2]),
        admin: member(USERS[3]),
    }
}

/// The daemon with rows of the tests' own beside the real ones.
fn with_roles() -> (Daemon, Arc<Log>) {
    let mut table = operations::table();
    table.extend([
        Operation::post("/v1/test/echo", "test.echo", Role::Operator, echo)
            .takes::<String>()
            .body(4 << 20),
        Operation::post("/v1/test/panic", "test.panic", Role::Operator, panics),
        Operation::get("/v1/test/slow", "test.slow", Role::Viewer, slow)
            .time(Duration::from_millis(100)),
    ]);
    let daemon = Daemon::with(table);
    let log = Arc::new(Log::default());
    daemon.shared.set_directory(Directory::new(&roles()));
    daemon
        .shared
        .record_with(Arc::clone(&log) as Arc<dyn Record>);
    open_to(daemon.directory.path(), true).unwrap();
    std::fs::set_permissions(
        daemon.directory.path(),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    (daemon, log)
}

async fn echo(Extension(actor): Extension<Actor>, body: String) -> String {
    format!("{} {}", actor.name, body.len())
}

async fn panics() -> String {
    panic!("on purpose")
}

async fn slow() -> String {
    sleep(Duration::from_mins(1)).await;
    String::new()
}

/// A connection of another user's. Credentials belong to threads, and the kernel takes those of the one that connects.
fn connect_as(daemon: &Daemon, uid: u32) -> io::Result<StdStream> {
    let path = path(daemon.directory.path());
    let call = move || {
        let gid = uid;
        // SAFETY: the system calls themselves, which change this thread only: libc's functions would change all
        // threads. Both take numbers and no pointer that is followed (no group is given).
        unsafe {
            assert_eq!(
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()),
                0
            );
            assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        StdStream::connect(path)
    };
    std::thread::spawn(call).join().unwrap()
}

/// Asks as a user; the code and the body.
async fn ask_as(daemon: &Daemon, uid: u32, request: &str) -> (u16, String) {
    let stream = connect_as(daemon, uid).unwrap();
    stream.set_nonblocking(true).unwrap();
    ask_on(UnixStream::from_std(stream).unwrap(), request).await
}

async fn ask_on(mut stream: UnixStream, request: &str) -> (u16, String) {
    // the server may close before it has read everything
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
        .await
        .expect("it is closed")
        .ok();
    let answer = String::from_utf8(answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    (code.unwrap_or(0), body.unwrap_or_default().to_owned())
}

fn request(line: &str, body: &str) -> String {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn cannot_change_users() -> bool {
    let cannot = !geteuid().is_root();
    if cannot {
        eprintln!("SKIPPED: it takes the place of other users: run as root");
    }
    cannot
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_as_every_role() {
    if cannot_change_users() {
        return;
    }
    let (daemon, log) = with_roles();
    daemon.shared.set_status(Status::default());
    tokio::spawn(scans::keep(
        daemon.shared.requests(),
        Vec::new(),
        Vec::new(),
    ));
    let held = [
        None,
        Some(Role::Viewer),
        Some(Role::Operator),
        Some(Role::Admin),
    ];
    for operation in operations::table() {
        let path = operation
            .path
            .replace("{id}", "1")
            .replace("{*source}", "192.0.2.9");
        let line = format!("{} {path}", operation.method);
        for (uid, role) in USERS.into_iter().zip(held) {
            let (code, body) = ask_as(&daemon, uid, &request(&line, "{}")).await;
            let may = role >= Some(operation.role);
            assert_eq!(code != 403, may, "{line} as {role:?}: {code} {body}");
            if !may {
                let refused = log.events().pop().unwrap().0;
                assert_eq!(refused.action, operation.name);
                assert_eq!(refused.outcome, Outcome::Refused);
                assert_eq!(refused.actor.name, format!("#{uid}"));
                assert_eq!(refused.actor.role, role);
            }
        }
    }
    let (code, body) = ask_as(&daemon, USERS[0], &request("GET /v2/nowhere", "")).await;
    assert_eq!(
        code, 403,
        "a stranger does not get to know what there is: {body}"
    );
    let (code, _) = ask_as(&daemon, USERS[1], &request("GET /v2/nowhere", "")).await;
    assert_eq!(code, 404);
    let (code, body) = ask_as(&daemon, USERS[1], &request("PUT /v1/status", "")).await;
    assert_eq!(
        (code, body.as_str()),
        (405, r#"{"error":"PUT means nothing here"}"#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_roles() {
    if cannot_change_users() {
        return;
    }
    let daemon = Daemon::start();
    std::fs::set_permissions(
        daemon.directory.path(),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let refused = connect_as(&daemon, USERS[3]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    open_to(daemon.directory.path(), true).unwrap();
    let (code, body) = ask_as(&daemon, USERS[3], &request("GET /v1/status", "")).await;
    assert_eq!(code, 403, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_keep_members_out() {
    if cannot_change_users() {
        return;
    }
    let (daemon, _) = with_roles();
    daemon.shared.set_status(Status::default());
    let idle = |uid, count| -> Vec<StdStream> {
        (0..count)
            .map(|_| connect_as(&daemon, uid).unwrap())
            .collect()
    };
    let strangers = idle(USERS[0], 2 * seats::STRANGERS);
    let viewer = idle(USERS[1], 2 * seats::MEMBER);
    let get = request("GET /v1/status", "");
    assert_eq!(
        ask_as(&daemon, USERS[1], &get).await.0,
        0,
        "too many of its own"
    );
    assert_eq!(ask_as(&daemon, USERS[2], &get).await.0, 200);
    assert!(status(daemon.directory.path()).await.is_ok());
    drop((strangers, viewer));
    for uid in [USERS[0], USERS[1]] {
        let mut code = 0;
        for _ in 0..100 {
            code = ask_as(&daemon, uid, &get).await.0;
            if code != 0 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            code,
            if uid == USERS[0] { 403 } else { 200 },
            "{uid}: seats are free again"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_bounds() {
    let (daemon, _) = with_roles();
    let ask = |text: String| {
        let connecting = daemon.connect();
        async move { ask_on(connecting.await, &text).await }
    };
    let most = "x".repeat(4 << 20);
    let (code, body) = ask(request("POST /v1/test/echo", &most)).await;
    assert_eq!((code, body.as_str()), (200, "root 4194304"));
    let (code, body) = ask(request("POST /v1/test/echo", &(most.clone() + "x"))).await;
    assert_eq!(code, 413, "{body}");
    assert!(body.contains("longer than 4194304 bytes"), "{body}");
    let chunked = |size: usize| {
        format!(
            "POST /v1/test/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            size,
            "x".repeat(size)
        )
    };
    assert_eq!(ask(chunked(4 << 20)).await.0, 200);
    assert_eq!(ask(chunked((4 << 20) + 1)).await.0, 413);
    // a command gets to know why, although the daemon did not read all that it sent
    let target = Target::from(daemon.directory.path());
    let body = vec![b'x'; 64 << 20].into();
    let refused = client::request(&target, Method::POST, "/v1/test/echo", body)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("longer than"), "{refused}");
    // small operations take no more than they say
    let (code, _) = ask(request("POST /v1/blocks", &"x".repeat(20_000))).await;
    assert_eq!(code, 413);
    // a body that breaks off
    let mut stream = daemon.connect().await;
    stream
        .write_all(b"POST /v1/test/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nxx")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_asked_for_before_a_body_is_read() {
    if cannot_change_users() {
        return;
    }
    let (daemon, _) = with_roles();
    // the body never comes
    let head = "POST /v1/test/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    let (code, body) = ask_as(&daemon, USERS[1], head).await;
    assert_eq!(code, 403);
    assert_eq!(
        body,
        r#"{"error":"this takes the role operator, and #61001 is viewer"}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_or_panics_ends_alone() {
    let (daemon, log) = with_roles();
    daemon.shared.set_status(Status::default());
    for _ in 0..3 {
        let (code, body) =
            ask_on(daemon.connect().await, &request("POST /v1/test/panic", "")).await;
        assert_eq!(code, 500, "{body}");
    }
    assert_eq!(log.events().last().unwrap().0.outcome, Outcome::Failed);
    let (code, body) = ask_on(daemon.connect().await, &request("GET /v1/test/slow", "")).await;
    assert_eq!(code, 504, "{body}");
    assert!(status(daemon.directory.path()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_is_dropped() {
    let daemon = Daemon::start();
    let mut stalled = daemon.connect().await;
    stalled
        .write_all(b"GET /v1/events?follow=true&last=0 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    daemon.followed_by(1).await;
    let dropped = async {
        while daemon.shared.listeners() > 1 {
            daemon.shared.publish(event(1));
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), dropped)
        .await
        .expect("the daemon lets go of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_and_refused_is_recorded() {
    let (daemon, log) = with_roles();
    tokio::spawn(scans::keep(
        daemon.shared.requests(),
        Vec::new(),
        Vec::new(),
    ));
    let block = |source: &str| request("POST /v1/blocks", &format!(r#"{{"source":"{source}"}}"#));
    let ask = |text: String| {
        let connecting = daemon.connect();
        async move { ask_on(connecting.await, &text).await.0 }
    };
    assert_eq!(ask(block("198.51.100.7")).await, 200);
    assert_eq!(ask(request("GET /v1/blocks", "")).await, 200);
    assert_eq!(
        ask(request("DELETE /v1/blocks/198.51.100.7", "")).await,
        200
    );
    for _ in 0..20 {
        assert_eq!(ask(block(scans::PROTECTED)).await, 409);
    }
    let events = log.events();
    let brief: Vec<_> = events
        .iter()
        .map(|(event, _)| (event.action.as_str(), event.subject.as_str(), event.outcome))
        .collect();
    assert_eq!(
        brief,
        [
            (
                "block.add",
                "198.51.100.7/32 for as long as the policy says",
                Outcome::Done
            ),
            ("block.remove", "198.51.100.7/32", Outcome::Done),
            (
                "block.add",
                "192.0.2.1/32 for as long as the policy says",
                Outcome::Refused
            ),
        ]
    );
    assert_eq!(
        events[2].0.why.as_deref(),
        Some("192.0.2.1 is a gateway: never blocked")
    );
    let counted = async {
        while log.events().len() < 4 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), counted).await.unwrap();
    assert_eq!(log.events()[3].1, 19, "the others are one entry");

    *log.full.lock().unwrap() = true;
    assert_eq!(ask(block("198.51.100.8")).await, 503);
    *log.full.lock().unwrap() = false;
    assert_eq!(
        ask(request("DELETE /v1/blocks/198.51.100.8", "")).await,
        404,
        "nothing was done"
    );
}
