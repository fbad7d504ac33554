use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::record::Linked;
use super::*;
use crate::access::{Actor, Role, Via};
use crate::settings::AuditSettings;

pub(crate) fn event(subject: &str) -> Event {
    Event {
        actor: Actor {
            name: "alice".to_owned(),
            role: Some(Role::Admin),
            via: Via::Socket {
                uid: 1000,
                gid: 1000,
                pid: 4711,
            },
        },
        action: "policy.apply".to_owned(),
        subject: subject.to_owned(),
        message: Some("open the new web server".to_owned()),
        before: Some("a".repeat(64)),
        after: Some("b".repeat(64)),
        generation: Some(7),
        approvals: vec!["bob@example.org".to_owned(), "carol@example.org".to_owned()],
        outcome: Outcome::Done,
        why: None,
    }
}

fn settings(file_bytes: u64, files: u32) -> AuditSettings {
    AuditSettings { file_bytes, files }
}

/// A record of `count` events in a directory of its own.
fn written(count: usize, settings: &AuditSettings) -> TempDir {
    let directory = TempDir::new().unwrap();
    let log = Log::open(directory.path(), settings).unwrap();
    for number in 0..count {
        log.append(event(&format!("policy {number}"))).unwrap();
    }
    directory
}

fn whole(directory: &Path) -> Verified {
    let verified = verify(directory, None).unwrap();
    assert!(verified.ok, "{verified:#?}");
    verified
}

fn problems(directory: &Path) -> Vec<String> {
    let verified = verify(directory, None).unwrap();
    assert_eq!(verified.ok, verified.problems.is_empty());
    let texts = verified.problems.into_iter();
    texts
        .map(|p| format!("{}:{}: {}", p.file, p.line, p.what))
        .collect()
}

fn current(directory: &Path) -> std::path::PathBuf {
    directory.join("audit.jsonl")
}

#[test]
fn what_is_written_can_be_read_again() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(directory.path(), &settings(1 << 20, 3)).unwrap();
    let first = log.append(event("one")).unwrap();
    let second = log.append_repeated(event("two"), 5).unwrap();
    assert_eq!((first.seq, second.seq), (1, 2));
    assert_eq!(first.previous, GENESIS);
    assert_eq!(second.previous, first.hash);
    assert_eq!((first.repeated, second.repeated), (None, Some(5)));
    let read = matching(directory.path(), &Filter::default(), 10).unwrap();
    assert_eq!(read, [first, second.clone()]);
    let verified = whole(directory.path());
    assert_eq!((verified.records, verified.first), (2, Some(1)));
    assert_eq!(verified.head, Some(format!("2:{}", second.hash)));
}

#[test]
fn only_root_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("state/audit");
    let log = Log::open(&directory, &AuditSettings::default()).unwrap();
    log.append(event("one")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&current(&directory)), 0o600);
    assert_eq!(mode(&directory.join("head")), 0o600);
}

#[test]
fn another_daemon_goes_on_with_the_chain() {
    let directory = TempDir::new().unwrap();
    for number in 1..=5 {
        let log = Log::open(directory.path(), &settings(1 << 20, 3)).unwrap();
        assert_eq!(log.append(event("again")).unwrap().seq, number);
    }
    assert_eq!(whole(directory.path()).records, 5);
}

#[test]
fn the_chain_goes_on_over_files_and_old_ones_go() {
    let limits = settings(4000, 3);
    let directory = written(50, &limits);
    let verified = whole(directory.path());
    assert_eq!(verified.files, 3);
    assert!(verified.first.unwrap() > 1, "{verified:?}");
    assert_eq!(verified.first.unwrap() + verified.records, 51);
    let bytes = |path: std::path::PathBuf| fs::metadata(path).unwrap().len();
    let files = files::list(directory.path()).unwrap();
    assert!(files.into_iter().all(|path| bytes(path) <= 4000));
    // fewer are kept from now on
    let log = Log::open(directory.path(), &settings(4000, 1)).unwrap();
    log.append(event("fewer")).unwrap();
    assert_eq!(whole(directory.path()).files, 1);
    // what is kept must not begin later than it should
    let text = fs::read_to_string(current(directory.path())).unwrap();
    let rest = text.split_once('\n').unwrap().1;
    fs::write(current(directory.path()), rest).unwrap();
    assert!(problems(directory.path())[0].contains("missing before this one"));
}

#[test]
fn a_line_that_was_never_finished_is_set_aside() {
    let directory = written(3, &AuditSettings::default());
    let path = current(directory.path());
    let text = fs::read(&path).unwrap();
    let third = text[..text.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .unwrap()
        + 1;
    for end in third + 1..text.len() {
        fs::write(&path, &text[..end]).unwrap();
        // the head as it is when the process dies within the third write
        let two = Linked::read(text[..third - 1].rsplit(|b| *b == b'\n').next().unwrap()).unwrap();
        let head = format!("{:020} {} {:020}\n", two.seq, two.hash, 1);
        fs::write(directory.path().join("head"), head).unwrap();
        assert!(problems(directory.path())[0].contains("ends within a line"));
        let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
        assert_eq!(log.append(event("after the crash")).unwrap().seq, 4);
        whole(directory.path());
        let read = matching(directory.path(), &Filter::default(), 10).unwrap();
        assert_eq!(read[2].event.action, "audit.recover");
        let aside = directory.path().join(format!("{:020}.torn", 3));
        assert_eq!(fs::read(aside).unwrap(), &text[third..end]);
    }
}

#[test]
fn a_tail_that_was_cut_is_noticed_and_stays_noticed() {
    let directory = written(5, &AuditSettings::default());
    let path = current(directory.path());
    let text = fs::read_to_string(&path).unwrap();
    let three: String = text.split_inclusive('\n').take(3).collect();
    fs::write(&path, three).unwrap();
    assert_eq!(
        problems(directory.path()),
        ["head:0: the end was cut off: records 4 to 5 are missing"]
    );
    let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
    assert_eq!(log.append(event("later")).unwrap().seq, 7);
    assert_eq!(
        problems(directory.path()),
        ["audit.jsonl:4: records 4 to 5 are missing before this one"]
    );
    let read = matching(directory.path(), &Filter::default(), 10).unwrap();
    assert_eq!(read[3].event.subject, "records 4 to 5 are missing");
}

#[test]
fn what_is_taken_away_while_the_daemon_runs_is_noticed() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
    for _ in 0..3 {
        log.append(event("before")).unwrap();
    }
    fs::remove_file(current(directory.path())).unwrap();
    assert_eq!(log.append(event("after")).unwrap().seq, 5);
    let found = problems(directory.path());
    assert_eq!(
        found,
        ["audit.jsonl:1: records 1 to 3 are missing before this one"]
    );
    // and all of it, the head included
    let gone = TempDir::new().unwrap();
    let path = gone.path().join("audit");
    let log = Log::open(&path, &AuditSettings::default()).unwrap();
    log.append(event("before")).unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(log.append(event("after")).unwrap().seq, 3);
    assert!(problems(&path)[0].contains("record 1 is missing before this one"));
    // a record that somebody writes, however well chained
    let other = TempDir::new().unwrap();
    let log = Log::open(other.path(), &AuditSettings::default()).unwrap();
    log.append(event("ours")).unwrap();
    let head = fs::read(other.path().join("head")).unwrap();
    let forger = Log::open(other.path(), &AuditSettings::default()).unwrap();
    forger.append(event("theirs")).unwrap();
    forger.append(event("theirs")).unwrap();
    fs::write(other.path().join("head"), head).unwrap();
    log.append(event("ours")).unwrap();
    let read = matching(other.path(), &Filter::default(), 10).unwrap();
    assert_eq!(
        read[3].event.subject,
        "records 2 to 3 were written behind the daemon's back"
    );
}

#[test]
fn a_head_that_was_noted_tells_of_a_record_that_was_rewritten() {
    let directory = written(4, &AuditSettings::default());
    let noted: Noted = whole(directory.path()).head.unwrap().parse().unwrap();
    assert!(verify(directory.path(), Some(&noted)).unwrap().ok);
    let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
    log.append(event("later")).unwrap();
    assert!(verify(directory.path(), Some(&noted)).unwrap().ok);
    // everything made anew, chain and head included
    let forged = written(5, &AuditSettings::default());
    whole(forged.path());
    let verified = verify(forged.path(), Some(&noted)).unwrap();
    assert_eq!(
        verified.problems[0].what,
        "record 4 is not the one whose hash you noted: the record was rewritten"
    );
    let short = written(2, &AuditSettings::default());
    let verified = verify(short.path(), Some(&noted)).unwrap();
    assert!(verified.problems[0].what.ends_with("the end was cut off"));
    assert!("12:abc".parse::<Noted>().is_err());
    assert!("x".parse::<Noted>().is_err());
}

#[test]
fn a_missing_head_is_said_and_made_anew() {
    let directory = written(2, &AuditSettings::default());
    fs::remove_file(directory.path().join("head")).unwrap();
    assert!(problems(directory.path())[0].contains("cannot be told"));
    Log::open(directory.path(), &AuditSettings::default()).unwrap();
    assert_eq!(whole(directory.path()).records, 3);
    let nothing = TempDir::new().unwrap();
    assert_eq!(
        problems(nothing.path()),
        ["head:0: there is no record here"]
    );
}

#[test]
fn filters_pick() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
    for (name, action) in [
        ("alice", "policy.apply"),
        ("bob", "policy.confirm"),
        ("bob", "policyx.y"),
    ] {
        let mut event = event("x");
        name.clone_into(&mut event.actor.name);
        action.clone_into(&mut event.action);
        log.append(event).unwrap();
    }
    let count = |filter: &Filter, last| matching(directory.path(), filter, last).unwrap().len();
    let all = Filter::default();
    assert_eq!((count(&all, 10), count(&all, 2), count(&all, 0)), (3, 2, 0));
    let action = |action: &str| Filter {
        action: Some(action.to_owned()),
        ..Filter::default()
    };
    assert_eq!(count(&action("policy"), 10), 2);
    assert_eq!(count(&action("policy.apply"), 10), 1);
    let bob = Filter {
        actor: Some("bob".to_owned()),
        ..Filter::default()
    };
    assert_eq!(count(&bob, 10), 2);
    let since = |since| Filter {
        since: Some(since),
        ..Filter::default()
    };
    let now = SystemTime::now();
    assert_eq!(count(&since(now - Duration::from_mins(1)), 10), 3);
    assert_eq!(count(&since(now + Duration::from_mins(1)), 10), 0);
}

#[test]
fn who_follows_gets_what_comes() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
    log.append(event("before")).unwrap();
    let (last, mut follower) = log.follow().unwrap();
    assert_eq!(last, 1);
    let record = log.append(event("one")).unwrap();
    assert_eq!(*follower.try_recv().unwrap(), record);
}

#[test]
fn many_threads_write_one_chain() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(directory.path(), &settings(20_000, 50)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    log.append(event("at once")).unwrap();
                }
            });
        }
    });
    assert_eq!(whole(directory.path()).records, 100);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,80}",
        "\\PC{0,300}",
        proptest::collection::vec(any::<char>(), 0..2000)
            .prop_map(|chars| chars.into_iter().collect()),
        "[\u{0}-\u{1f}\"\\\\\u{7f}-\u{9f}\u{202e}]{0,1500}",
    ]
}

fn events() -> impl Strategy<Value = Event> {
    let approvals = proptest::collection::vec(text(), 0..40);
    let digests = (proptest::option::of(text()), proptest::option::of(text()));
    let said = (proptest::option::of(text()), proptest::option::of(text()));
    (
        text(),
        text(),
        text(),
        digests,
        said,
        approvals,
        any::<u64>(),
    )
        .prop_map(
            |(name, action, subject, (before, after), (message, why), approvals, generation)| {
                Event {
                    actor: Actor {
                        via: Via::Daemon {
                            cause: name.clone(),
                        },
                        name,
                        role: None,
                    },
                    action,
                    subject,
                    message,
                    before,
                    after,
                    generation: Some(generation),
                    approvals,
                    outcome: Outcome::Refused,
                    why,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_is_one_line_of_plain_text_with_bounds(event in events()) {
        let directory = TempDir::new().unwrap();
        let log = Log::open(directory.path(), &AuditSettings::default()).unwrap();
        let record = log.append(event).unwrap();
        let line = fs::read(current(directory.path())).unwrap();
        prop_assert!(line.len() <= RECORD_BYTES);
        prop_assert_eq!(line.iter().filter(|byte| !(b' '..=b'~').contains(byte)).count(), 1);
        let read: Record = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(read, record);
        prop_assert!(verify(directory.path(), None).unwrap().ok);
    }

    /// Any byte that is changed, any line that is removed, doubled or moved.
    #[test]
    fn nothing_can_be_changed_unnoticed(
        at in any::<prop::sample::Index>(), to in any::<u8>(),
        from in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), how in 0..4,
    ) {
        let directory = written(12, &settings(4000, 9));
        let files = files::list(directory.path()).unwrap();
        let texts: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        let mut lines: Vec<Vec<u8>> = texts.iter()
            .flat_map(|text| text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect();
        let sound = lines.clone();
        match how {
            0 => {
                let line = from.get(&lines).len();
                let index = from.index(lines.len());
                lines[index][at.index(line)] = to;
            }
            1 => { lines.remove(from.index(lines.len())); }
            2 => { let line = from.get(&lines).clone(); let place = other.index(lines.len()); lines.insert(place, line); }
            _ => { let (a, b) = (from.index(lines.len()), other.index(lines.len())); lines.swap(a, b); }
        }
        // all into one file, which is no change
        for path in &files[..files.len() - 1] {
            fs::remove_file(path).unwrap();
        }
        fs::write(current(directory.path()), lines.concat()).unwrap();
        let verified = verify(directory.path(), None).unwrap();
        prop_assert_eq!(verified.ok, lines == sound, "{:?}", verified);
    }
}
