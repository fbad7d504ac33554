use std::os::unix::fs::PermissionsExt as _;

use super::super::tests::{report, wait};
use super::*;
use crate::scans::record::Report;

fn settings(path: &Path, max_bytes: u64, keep: u32) -> ReportFile {
    ReportFile {
        path: path.to_owned(),
        max_bytes,
        keep,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The ids in a file, each line of which must be a whole document.
fn ids(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| {
            let document: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(document["event"], "scan_opened");
            serde_json::from_value::<Report>(document.clone()).unwrap();
            document["id"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn one_document_a_line_for_owner_and_group() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log/edgefilter/scans.jsonl");
    let settings = settings(&path, 1 << 20, 3);
    let mut log = Log::new(&settings);
    for n in 0..3 {
        log.append(&*report(n)).unwrap();
    }
    assert_eq!(ids(&path), ["s-0", "s-1", "s-2"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path) & !0o640, 0);
    assert_eq!(mode(path.parent().unwrap()) & !0o750, 0);
    // a daemon that starts again goes on in the same file
    Log::new(&settings).append(&*report(3)).unwrap();
    assert_eq!(ids(&path).len(), 4);
}

#[test]
fn rotates_by_size_and_keeps_so_many() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("scans");
    let length = serde_json::to_vec(&*report(0)).unwrap().len() as u64 + 1;
    // two fit
    let two = settings(&path, 2 * length + 1, 2);
    let mut log = Log::new(&two);
    for n in 0..9 {
        log.append(&*report(n)).unwrap();
    }
    assert_eq!(names(scratch.path()), ["scans", "scans.1", "scans.2"]);
    assert_eq!(ids(&path), ["s-8"]);
    assert_eq!(ids(&numbered(&path, 1)), ["s-6", "s-7"]);
    assert_eq!(ids(&numbered(&path, 2)), ["s-4", "s-5"]);
    for file in ["scans", "scans.1", "scans.2"] {
        let size = std::fs::metadata(scratch.path().join(file)).unwrap().len();
        assert!(size <= two.max_bytes, "{file}: {size}");
    }

    // a policy that keeps fewer, and a file of before that is full
    let one = settings(&path, 1, 1);
    let mut log = Log::new(&one);
    log.append(&*report(9)).unwrap();
    assert_eq!(names(scratch.path()), ["scans", "scans.1"]);
    assert_eq!(
        ids(&path),
        ["s-9"],
        "a report larger than the limit is written all the same"
    );
    assert_eq!(ids(&numbered(&path, 1)), ["s-8"]);

    let none = settings(&path, 1, 0);
    let mut log = Log::new(&none);
    log.append(&*report(10)).unwrap();
    log.append(&*report(11)).unwrap();
    assert_eq!(names(scratch.path()), ["scans"]);
    assert_eq!(ids(&path), ["s-11"]);
}

#[test]
fn what_others_took_away_is_made_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("scans");
    let settings = settings(&path, 1 << 20, 2);
    let mut log = Log::new(&settings);
    log.append(&*report(0)).unwrap();
    std::fs::rename(&path, scratch.path().join("taken")).unwrap();
    log.append(&*report(1)).unwrap();
    std::fs::remove_file(&path).unwrap();
    log.append(&*report(2)).unwrap();
    assert_eq!(ids(&path), ["s-2"]);
    // copytruncate
    File::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    log.append(&*report(3)).unwrap();
    assert_eq!(ids(&path), ["s-3"]);
}

#[test]
fn only_regular_files_are_written() {
    let scratch = tempfile::tempdir().unwrap();
    let link = scratch.path().join("link");
    let target = scratch.path().join("target");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let error = Log::new(&settings(&link, 1, 1))
        .append(&*report(0))
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    assert!(!target.exists());
    let error = Log::new(&settings(Path::new("/dev/full"), 1, 1)).append(&*report(0));
    assert!(error.unwrap_err().to_string().contains("regular"));
}

/// A file system of four pages that a test fills; `None` where no mount is allowed.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        let mounted = nix::mount::mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            flags,
            Some("size=16k"),
        );
        if let Err(error) = mounted {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "skipped, which CI does not allow: cannot mount a tmpfs: {error}"
            );
            eprintln!("SKIPPED: cannot mount a tmpfs: {error}");
            return None;
        }
        Some(Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = nix::mount::umount(self.0.path()) {
            eprintln!("{} stays mounted: {error}", self.0.path().display());
        }
    }
}

#[test]
fn a_full_disk_is_shown_and_nothing_is_lost_or_torn() {
    let Some(small) = Small::new() else { return };
    let path = small.0.path().join("scans");
    let queue = Arc::new(Queue::new("file"));
    let turn = queue.begin(1000);
    start(settings(&path, 1 << 20, 1), Arc::clone(&queue), turn);
    for n in 0..200 {
        queue.push(report(n));
    }
    wait("an error", || !queue.state().ok);
    let state = queue.state();
    let error = state.error.unwrap();
    assert!(error.contains("No space left"), "{error}");
    assert_eq!(state.sent + state.waiting, 200);
    assert_eq!(ids(&path).len() as u64, state.sent, "whole lines only");
    // somebody makes room
    let written = ids(&path);
    std::fs::remove_file(&path).unwrap();
    let before = state.sent;
    wait("more room", || queue.state().sent > before);
    let next = ids(&path);
    assert_eq!(
        next[0],
        format!("s-{}", written.len()),
        "goes on where it was"
    );
    queue.close();
}
