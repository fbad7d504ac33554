//! Scans and blocks over the socket, with a stand-in for the task that keeps them.

use ipnet::IpNet;
use tokio::time::Instant;

use super::*;
use crate::report::scans::tests::{block_record, scan_record};
use crate::scans::record::{BlockRecord, Origin, ScanRecord, State};

/// A gateway, for the stand-in.
pub(crate) const PROTECTED: &str = "192.0.2.1";

/// Answers as the real one does: scans as given, blocks as asked for.
pub(crate) async fn keep(
    mut requests: Receiver<Request>,
    scans: Vec<ScanRecord>,
    mut blocks: Vec<BlockRecord>,
) {
    while let Some(request) = requests.recv().await {
        // whoever asked may be gone
        match request {
            Request::Scans(answer) => drop(answer.send(scans.clone())),
            Request::Scan(id, answer) => {
                drop(answer.send(scans.iter().find(|scan| scan.id == id).cloned()));
            }
            Request::Blocks(answer) => drop(answer.send(blocks.clone())),
            Request::Block {
                source,
                ttl,
                answer,
            } => {
                if source.addr().to_string() == PROTECTED {
                    let why = format!("{PROTECTED} is a gateway: never blocked");
                    drop(answer.send(Err(Refusal::Protected(why))));
                    continue;
                }
                if source == net(FULL_NET) {
                    drop(answer.send(Err(Refusal::Full("there is no room".to_owned()))));
                    continue;
                }
                let block = BlockRecord {
                    source,
                    seconds_left: ttl.map_or(600, |ttl| ttl.as_secs()),
                    origin: Origin::Manual,
                    scan: None,
                    ..block_record(PROTECTED_NET)
                };
                blocks.retain(|known| known.source != source);
                blocks.push(block.clone());
                drop(answer.send(Ok(block)));
            }
            Request::Unblock { source, answer } => {
                let found = blocks.iter().position(|block| block.source == source);
                let taken = found.map(|index| blocks.remove(index));
                let unknown = || Refusal::Unknown(format!("{} is not blocked", source.addr()));
                drop(answer.send(taken.ok_or_else(unknown)));
            }
        }
    }
}

const PROTECTED_NET: &str = "192.0.2.1/32";
/// There is no room for it.
const FULL_NET: &str = "192.0.2.2/32";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn kept(daemon: &Daemon, scans: Vec<ScanRecord>, blocks: Vec<BlockRecord>) {
    tokio::spawn(keep(daemon.shared.requests(), scans, blocks));
}

fn ids(list: &ScanList) -> Vec<&str> {
    list.scans.iter().map(|scan| scan.id.as_str()).collect()
}

/// What the server says to these bytes.
async fn raw_answer(daemon: &Daemon, method: &str, path: &str, body: &str) -> String {
    let mut stream = daemon.connect().await;
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .expect("it is closed")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn open_scans_and_the_last_that_ended() {
    let daemon = Daemon::start();
    let list = |names: &[(&str, State)]| {
        names
            .iter()
            .map(|(id, state)| scan_record(id, *state))
            .collect()
    };
    kept(
        &daemon,
        list(&[
            ("a", State::Open),
            ("b", State::Closed),
            ("c", State::Closed),
            ("d", State::Open),
            ("e", State::Closed),
        ]),
        Vec::new(),
    );
    let directory = daemon.directory.path();
    let all = scans(directory, usize::MAX).await.unwrap();
    assert_eq!((ids(&all), all.omitted), (vec!["a", "b", "c", "d", "e"], 0));
    assert_eq!(all.scans[0], scan_record("a", State::Open));
    let some = scans(directory, 2).await.unwrap();
    assert_eq!((ids(&some), some.omitted), (vec!["a", "c", "d", "e"], 1));
    let open = scans(directory, 0).await.unwrap();
    assert_eq!((ids(&open), open.omitted), (vec!["a", "d"], 3));

    let one = scan(directory, "d").await.unwrap();
    assert_eq!(one.id, "d");
    let none = scan(directory, "f").await.unwrap_err();
    assert!(!none.is_unreachable());
    assert!(none.to_string().contains("id f"), "{none}");
    let answer = raw_answer(&daemon, "GET", "/v1/scans/f", "").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = raw_answer(&daemon, "GET", "/v1/scans?clsed=1", "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_flood_of_scans_shows_the_newest() {
    let daemon = Daemon::start();
    let many = (0..5000)
        .map(|number| scan_record(&number.to_string(), State::Open))
        .collect();
    kept(&daemon, many, Vec::new());
    let list = scans(daemon.directory.path(), usize::MAX).await.unwrap();
    assert_eq!((list.scans.len(), list.omitted), (4096, 904));
    assert_eq!(list.scans.last().unwrap().id, "4999");
}

#[tokio::test]
async fn blocks_are_added_listed_and_taken_off() {
    let daemon = Daemon::start();
    let directory = daemon.directory.path();
    kept(&daemon, Vec::new(), Vec::new());
    assert_eq!(blocks(directory).await.unwrap(), BlockList::default());
    let (v4, v6) = (net("198.51.100.7/32"), net("2001:db8:0:1::/64"));
    let first = block(directory, v4, Some(Duration::from_secs(90)), String::new())
        .await
        .unwrap();
    assert_eq!((first.source, first.seconds_left), (v4, 90));
    let second = block(directory, v6, None, String::new()).await.unwrap();
    assert_eq!(second.seconds_left, 600);
    assert_eq!(
        blocks(directory).await.unwrap().blocks,
        [first.clone(), second.clone()]
    );
    assert_eq!(unblock(directory, v4).await.unwrap(), first);
    let again = unblock(directory, v4).await.unwrap_err();
    assert!(
        again.to_string().contains("198.51.100.7 is not blocked"),
        "{again}"
    );
    assert_eq!(unblock(directory, v6).await.unwrap(), second);
    let protected = block(directory, net(PROTECTED_NET), None, String::new())
        .await
        .unwrap_err();
    assert!(!protected.is_unreachable());
    assert_eq!(
        protected.to_string(),
        "the daemon refused: 192.0.2.1 is a gateway: never blocked"
    );
    assert_eq!(blocks(directory).await.unwrap(), BlockList::default());
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let daemon = Daemon::start();
    kept(&daemon, Vec::new(), vec![block_record("2001:db8::/64")]);
    for (method, path, body, expected, says) in [
        ("POST", "/v1/blocks", "", 400, "no order to block"),
        ("POST", "/v1/blocks", "{}", 400, "missing field"),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.9","ttl":3}"#,
            400,
            "unknown field",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"example.com"}"#,
            400,
            "neither an IPv4 nor an IPv6 address",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.0/24"}"#,
            400,
            "write a deny rule",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"2001:db8::1/64"}"#,
            400,
            "write `2001:db8::/64`",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.9","ttl_seconds":0}"#,
            400,
            "from 1 to 2592000 seconds",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.9","ttl_seconds":2592001}"#,
            400,
            "from 1 to 2592000 seconds",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.9","comment":"two\nlines"}"#,
            400,
            "one line of 256 bytes",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.1"}"#,
            409,
            "never blocked",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.2"}"#,
            409,
            "there is no room",
        ),
        (
            "POST",
            "/v1/blocks",
            r#"{"source":"192.0.2.9","ttl_seconds":null}"#,
            200,
            r#""source":"192.0.2.9/32""#,
        ),
        ("DELETE", "/v1/blocks/192.0.2.0/24", "", 400, "deny rule"),
        ("DELETE", "/v1/blocks/192.0.2.8", "", 404, "not blocked"),
        (
            "DELETE",
            "/v1/blocks/2001:db8::%2F64",
            "",
            200,
            "2001:db8::/64",
        ),
        ("DELETE", "/v1/blocks", "", 405, ""),
        ("PUT", "/v1/blocks", "{}", 405, ""),
    ] {
        let answer = raw_answer(&daemon, method, path, body).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{method} {path} {body}: {answer}"
        );
        assert!(answer.contains(says), "{method} {path} {body}: {answer}");
    }
}

#[tokio::test]
async fn nobody_who_keeps_scans() {
    let daemon = Daemon::start();
    let directory = daemon.directory.path();
    let early = scans(directory, 0).await.unwrap_err();
    assert!(early.is_unreachable(), "{early}");
    assert!(early.to_string().contains("is starting"), "{early}");

    let mute = daemon.shared.requests();
    let begin = Instant::now();
    let late = blocks(directory).await.unwrap_err();
    assert!(late.is_unreachable(), "{late}");
    assert!(late.to_string().contains("took too long"), "{late}");
    assert!(begin.elapsed() < Duration::from_secs(3));
    drop(mute);
    let gone = block(directory, net("192.0.2.9/32"), None, String::new())
        .await
        .unwrap_err();
    assert!(gone.to_string().contains("not followed any more"), "{gone}");

    kept(&daemon, Vec::new(), Vec::new());
    assert!(scans(directory, 0).await.is_ok(), "another one took over");
}

#[tokio::test]
async fn questions_do_not_pile_up() {
    let shared = Shared::new();
    let mute = shared.requests();
    let asked = futures::future::join_all((0..100).map(|_| shared.ask(Request::Blocks))).await;
    let full = asked
        .iter()
        .filter(|answer| {
            matches!(answer, Err(Refusal::NotNow(why)) if why.contains("too many questions"))
        })
        .count();
    assert_eq!((asked.len(), full), (100, 100 - mute.len()));
    assert!(mute.len() < 100);
}

#[tokio::test]
async fn reports_as_they_come() {
    let daemon = Daemon::start();
    let directory = daemon.directory.path();
    let reports_of = |number: u8| {
        Arc::new(Report::Unblocked(block_record(&format!(
            "198.51.100.{number}/32"
        ))))
    };
    for number in 1..=5 {
        daemon.shared.report(reports_of(number));
    }
    let mut following = reports(directory, 2).await.unwrap();
    daemon.shared.report(reports_of(6));
    for number in 4..=6 {
        let line = timeout(Duration::from_secs(5), following.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let report: Report = serde_json::from_str(&line).unwrap();
        assert_eq!(report, *reports_of(number));
        assert!(line.starts_with(r#"{"event":"unblocked","#), "{line}");
    }
    daemon.shared.publish(event(1));
    daemon.stop.send(()).unwrap();
    let end = timeout(Duration::from_secs(3), following.next()).await;
    assert_eq!(
        end.unwrap().unwrap(),
        None,
        "sampled drops are no reports, and stopping ends the stream"
    );
}

#[tokio::test]
async fn a_full_table_of_blocks() {
    const FULL: u32 = 65_536;
    let daemon = Daemon::start();
    let full: Vec<_> = (0..FULL)
        .map(|number| {
            let source = format!("2001:db8:{:x}:{:x}::/64", number >> 8, number & 0xff);
            block_record(&source)
        })
        .collect();
    kept(&daemon, Vec::new(), full.clone());
    let list = blocks(daemon.directory.path()).await.unwrap();
    assert_eq!(list.blocks, full);

    // readers that do not read hold their lists: a few, not as many as there are connections
    let mut idle = Vec::new();
    for _ in 0..server::LISTS {
        let mut stream = daemon.connect().await;
        stream
            .write_all(b"GET /v1/blocks HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        idle.push(stream);
    }
    let refused = blocks(daemon.directory.path()).await.unwrap_err();
    assert!(
        refused.to_string().contains("too many readers"),
        "{refused}"
    );
    drop(idle);
    let free = async {
        while blocks(daemon.directory.path()).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), free)
        .await
        .expect("a reader that left is forgotten");
}

#[tokio::test]
async fn status_says_how_scans_do() {
    let daemon = Daemon::start();
    let directory = daemon.directory.path();
    daemon.shared.set_scans(ScanStatus {
        open: 1,
        ..ScanStatus::default()
    });
    assert!(status(directory).await.is_err(), "there is no status yet");
    daemon.shared.set_status(Status::default());
    assert_eq!(status(directory).await.unwrap().scans.unwrap().open, 1);
    daemon.shared.set_scans(ScanStatus {
        open: 2,
        ..ScanStatus::default()
    });
    assert_eq!(status(directory).await.unwrap().scans.unwrap().open, 2);
}
