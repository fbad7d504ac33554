//! Killed at any moment, a writer leaves a record that is whole and misses nothing that was acknowledged. And a full disk
//! is an error, never a broken chain.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at what is wrong"
)]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use filter_user::access::Actor;
use filter_user::audit::{Event, Filter, Log, Outcome, matching, verify};
use filter_user::settings::AuditSettings;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// In the environment of a child that is to be killed: where to write.
const CHILD: &str = "EDGEFILTER_TEST_AUDIT";
const KILLS: u64 = 200;

fn event(subject: &str) -> Event {
    Event {
        actor: Actor::daemon("test"),
        action: "policy.apply".to_owned(),
        subject: subject.to_owned(),
        message: None,
        before: None,
        after: None,
        generation: None,
        approvals: Vec::new(),
        outcome: Outcome::Done,
        why: None,
    }
}

/// Small files, so that many kills come while one is rotated.
fn settings() -> AuditSettings {
    AuditSettings {
        file_bytes: 4000,
        files: 10_000,
    }
}

/// The child: says the number of every record once it is acknowledged.
#[test]
fn child() {
    let Some(directory) = env::var_os(CHILD) else {
        return;
    };
    let log = Log::open(Path::new(&directory), &settings()).unwrap();
    let mut stdout = std::io::stdout().lock();
    loop {
        let record = log.append(event("until killed")).unwrap();
        writeln!(stdout, "ack {}", record.seq).unwrap();
        stdout.flush().unwrap();
    }
}

#[test]
fn a_writer_that_is_killed_leaves_a_whole_record() {
    let directory = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut random) = (0, 1_u64);
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut number = || loop {
            let line = lines.next()?.ok()?;
            if let Some((_, number)) = line.split_once("ack ") {
                return number.parse::<u64>().ok();
            }
        };
        let first =
            number().unwrap_or_else(|| panic!("the child wrote nothing before kill {kill}"));
        assert!(first > acknowledged);
        // a pause of some microseconds up to some writes
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_micros((random >> 40) % 8000));
        child.kill().unwrap();
        acknowledged = std::iter::from_fn(number).last().unwrap_or(first);
        child.wait().unwrap();

        let verified = verify(directory.path(), None).unwrap();
        assert!(verified.ok, "kill {kill}: {verified:#?}");
        assert!(
            verified.records >= acknowledged,
            "kill {kill}: {acknowledged} were acknowledged: {verified:?}"
        );
    }
    let verified = verify(directory.path(), None).unwrap();
    println!(
        "{KILLS} kills: {} records in {} files, none missing",
        verified.records, verified.files
    );
}

/// A file system of a fixed size.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(kib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let (kind, flags) = (Some("tmpfs"), MsFlags::empty());
        match mount(kind, directory.path(), kind, flags, Some(size.as_str())) {
            Ok(()) => Some(Self(directory)),
            Err(error) if env::var_os("CI").is_some() => {
                panic!("skipped, which CI does not allow: cannot mount a tmpfs: {error}")
            }
            Err(error) => {
                eprintln!("SKIPPED: cannot mount a tmpfs: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_harm() {
    let Some(disk) = SmallDisk::new(256) else {
        return;
    };
    let directory = disk.0.path().join("audit");
    let log = Log::open(&directory, &AuditSettings::default()).unwrap();
    log.check().unwrap();
    log.append(event("before")).unwrap();
    let ballast = disk.0.path().join("ballast");
    let filled = std::fs::write(&ballast, vec![0; 1 << 20]);
    assert!(filled.is_err(), "the disk is larger than it should be");
    // what was reserved still does, until nothing is left for what must be recorded
    let mut written = 1;
    while log.check().is_ok() {
        log.append(event("with what was reserved")).unwrap();
        written += 1;
        assert!(written < 10_000, "the disk never got full");
    }
    assert!(written > 10, "nothing was reserved");
    let refused = log.check().unwrap_err();
    assert!(
        refused.to_string().contains("make room on that disk"),
        "{refused}"
    );
    // that something is refused now can still be recorded, and then not even that
    log.append(event("refused for a full disk")).unwrap();
    written += 1;
    let error = loop {
        match log.append(event("more")) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    log.append(event("still full")).unwrap_err();
    assert_eq!(verify(&directory, None).unwrap().records, written);
    assert!(verify(&directory, None).unwrap().ok);
    // and goes on once there is room
    std::fs::remove_file(ballast).unwrap();
    log.check().unwrap();
    assert_eq!(log.append(event("room again")).unwrap().seq, written + 1);
    assert!(verify(&directory, None).unwrap().ok);
    let last = matching(&directory, &Filter::default(), 1).unwrap();
    assert_eq!(last[0].event.subject, "room again");
}
