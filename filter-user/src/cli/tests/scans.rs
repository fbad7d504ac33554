//! `scans` and `block` as typed, and against a socket behind which somebody keeps scans.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::control::tests::scans::{PROTECTED, keep};
use crate::control::{self, Shared};
use crate::report::scans::tests::{block_record, scan_record};
use crate::scans::record::{BlockRecord, Report, ScanRecord, State};

/// A daemon's control socket.
struct Daemon {
    directory: TempDir,
    shared: Arc<Shared>,
    runtime: Runtime,
}

impl Daemon {
    fn start(scans: Vec<ScanRecord>, blocks: Vec<BlockRecord>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::new());
        runtime.block_on(async {
            let listener = control::bind(directory.path()).unwrap();
            let never = std::future::pending();
            tokio::spawn(control::serve(listener, Arc::clone(&shared), never));
            tokio::spawn(keep(shared.requests(), scans, blocks));
        });
        Self {
            directory,
            shared,
            runtime,
        }
    }

    fn command(&self, words: &str, out: &mut Output<'_>) -> anyhow::Result<Outcome> {
        let globals = globals(self.directory.path());
        match parse(&format!("edgefilter {words}")).unwrap().command {
            Command::Scans(arguments) => super::super::scans::scans(&globals, &arguments, out),
            Command::Block(action) => block::block(&globals, &action, out),
            other => panic!("{other:?}"),
        }
    }

    fn text(&self, words: &str) -> String {
        let (outcome, text) = output(false, |out| self.command(words, out));
        assert_eq!(outcome, Outcome::Done, "{words}");
        text
    }

    fn json(&self, words: &str) -> Value {
        let (outcome, text) = output(true, |out| self.command(words, out));
        assert_eq!(outcome, Outcome::Done, "{words}");
        serde_json::from_str(&text).unwrap()
    }

    fn refused(&self, words: &str) -> String {
        let mut written = Vec::new();
        let error = self
            .command(words, &mut Output::plain(&mut written, false))
            .unwrap_err();
        assert!(written.is_empty() && !is_privilege_missing(&error));
        format!("{error:#}")
    }
}

#[test]
fn the_list_and_one_of_it() {
    let mut known: Vec<_> = (0..30)
        .map(|number| scan_record(&format!("a-{number}"), State::Closed))
        .collect();
    known.push(scan_record("a-30", State::Open));
    let daemon = Daemon::start(known, Vec::new());
    let first_words = |text: &str| {
        text.lines()
            .skip(1)
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect::<Vec<_>>()
    };
    let some = first_words(&daemon.text("scans"));
    assert_eq!((some.len(), some[0].as_str()), (21, "a-10"));
    assert_eq!(first_words(&daemon.text("scans --all")).len(), 31);
    let document = daemon.json("scans");
    assert_eq!(document["scans"].as_array().unwrap().len(), 21);
    assert_eq!(document["omitted"], 10);
    assert_eq!(daemon.json("scans --all")["omitted"], 0);

    assert!(
        daemon
            .text("scans a-30")
            .starts_with("scan a-30: port_scan, open\n")
    );
    let one: ScanRecord = serde_json::from_value(daemon.json("scans a-3")).unwrap();
    assert_eq!(one, scan_record("a-3", State::Closed));
    assert_eq!(
        daemon.refused("scans a-31"),
        "the daemon refused: no scan is known by the id a-31"
    );
}

#[test]
fn a_host_that_nobody_scans() {
    let daemon = Daemon::start(Vec::new(), Vec::new());
    assert_eq!(daemon.text("scans"), "");
    assert_eq!(daemon.text("block list"), "");
    assert_eq!(
        daemon.json("scans"),
        serde_json::json!({"scans": [], "omitted": 0})
    );
    assert_eq!(daemon.json("block list"), serde_json::json!({"blocks": []}));
}

#[test]
fn a_block_from_beginning_to_end() {
    let daemon = Daemon::start(Vec::new(), vec![block_record("203.0.113.9/32")]);
    assert_eq!(
        daemon.text("block add 198.51.100.7 --ttl 1m30s"),
        "198.51.100.7 is blocked until 2026-01-01T00:10:00.000Z (1m 30s)\n"
    );
    let added = daemon.json("block add 2001:db8:0:1::/64");
    assert_eq!(added["source"], "2001:db8:0:1::/64");
    assert_eq!(added["origin"], "manual");
    let list = daemon.text("block list");
    let sources: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        sources,
        ["source", "203.0.113.9", "198.51.100.7", "2001:db8:0:1::/64"]
    );
    assert_eq!(
        daemon.text("block remove 2001:db8:0:1::/64"),
        "2001:db8:0:1::/64 is not blocked any more\n"
    );
    assert_eq!(
        daemon.json("block remove 198.51.100.7")["source"],
        "198.51.100.7/32"
    );
    let left = daemon.json("block list");
    assert_eq!(left["blocks"].as_array().unwrap().len(), 1);
    assert_eq!(
        daemon.refused("block remove 198.51.100.7"),
        "the daemon refused: 198.51.100.7 is not blocked"
    );
    assert_eq!(
        daemon.refused(&format!("block add {PROTECTED}")),
        "the daemon refused: 192.0.2.1 is a gateway: never blocked"
    );
}

/// Hands on what is written, as it is written.
struct Telling(mpsc::Sender<String>);

impl std::io::Write for Telling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .send(String::from_utf8_lossy(bytes).into_owned())
            .map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn following_until_the_daemon_ends() {
    for json in [false, true] {
        let Daemon {
            directory,
            shared,
            runtime,
        } = Daemon::start(Vec::new(), Vec::new());
        for number in 0..20 {
            let scan = scan_record(&format!("a-{number}"), State::Open);
            shared.report(Arc::new(Report::ScanOpened(scan)));
        }
        let (told, lines) = mpsc::channel();
        let following = std::thread::spawn(move || {
            let globals = globals(directory.path());
            let words = "edgefilter scans --follow --last 2";
            let Command::Scans(arguments) = parse(words).unwrap().command else {
                panic!("not scans")
            };
            let mut out = Telling(told);
            super::super::scans::scans(&globals, &arguments, &mut Output::plain(&mut out, json))
                .unwrap()
        });
        let next = || lines.recv_timeout(Duration::from_secs(10)).unwrap();
        let mut seen = vec![next(), next()];
        shared.report(Arc::new(Report::Blocked(block_record("192.0.2.7/32"))));
        seen.push(next());
        runtime.shutdown_background();
        assert_eq!(following.join().unwrap(), Outcome::Unreachable);
        assert_eq!(lines.iter().count(), 0, "nothing after the last report");
        for (line, expected) in seen.iter().zip(["scan_opened", "scan_opened", "blocked"]) {
            let event = if json {
                let report: Value = serde_json::from_str(line).unwrap();
                report["event"].as_str().unwrap().to_owned()
            } else {
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            assert_eq!(event, expected, "{line}");
        }
        assert!(
            seen[0].contains("a-18") && seen[1].contains("a-19"),
            "{seen:?}"
        );
    }
}

#[test]
fn no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let globals = globals(directory.path());
    for words in [
        "scans",
        "scans a-1",
        "scans --follow",
        "block list",
        "block add 192.0.2.9",
        "block remove 192.0.2.9",
    ] {
        let command = parse(&format!("edgefilter {words}")).unwrap().command;
        let (outcome, text) = output(false, |out| match &command {
            Command::Scans(arguments) => super::super::scans::scans(&globals, arguments, out),
            Command::Block(action) => block::block(&globals, action, out),
            other => panic!("{other:?}"),
        });
        assert_eq!(
            (outcome, text.as_str()),
            (Outcome::Unreachable, ""),
            "{words}"
        );
    }
}

#[test]
fn what_may_be_typed() {
    for (wrong, says) in [
        ("scans a/b", "not the id of a scan"),
        ("scans a-1 --follow", "cannot be used with"),
        ("scans a-1 --all", "cannot be used with"),
        ("scans --follow --all", "cannot be used with"),
        ("scans --last 3", "--follow"),
        ("block", "list"),
        ("block add", "<SOURCE>"),
        ("block add example.com", "neither an IPv4 nor an IPv6"),
        ("block add 192.0.2.0/24", "write a deny rule"),
        ("block add 2001:db8::/48", "write a deny rule"),
        ("block add 2001:db8::1/64", "write `2001:db8::/64`"),
        ("block add ::ffff:192.0.2.1", "write `192.0.2.1`"),
        ("block add 192.0.2.9 --ttl 10", "not a time such as"),
        ("block add 192.0.2.9 --ttl 0s", "from 1s to 30d"),
        ("block add 192.0.2.9 --ttl 1500ms", "whole seconds"),
        ("block add 192.0.2.9 --ttl 31d", "from 1s to 30d"),
        ("block remove 192.0.2.0/24", "write a deny rule"),
        ("block remove 192.0.2.9 --ttl 3s", "unexpected argument"),
    ] {
        let error = parse(&format!("edgefilter {wrong}")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong}");
        assert!(error.to_string().contains(says), "{wrong}: {error}");
    }
    for right in [
        "block add 192.0.2.9/32 --ttl 30d",
        "block add fe80::1",
        "block remove 2001:db8::/64 --json",
        "scans 68a1f2c0-12 --json",
    ] {
        assert!(parse(&format!("edgefilter {right}")).is_ok(), "{right}");
    }
}
