//! Files that are meant to do harm cost `edgefilter check` little memory and time.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

/// What a check may take at most, in KiB: with the daemon and its tables a push stays below 256 MiB.
const MOST: i64 = 160 << 10;
/// Bytes of a policy file, a little less than allowed.
const SIZE: usize = (4 << 20) - 1024;

/// A policy of `SIZE` bytes that is `piece` again and again.
fn filled(before: &str, piece: &str, after: &str) -> String {
    let room = SIZE - before.len() - after.len();
    format!("{before}{}{after}", piece.repeat(room / piece.len()))
}

#[test]
fn hostile_files_are_cheap() {
    let folder = tempfile::tempdir().unwrap();
    let prefixes = (0..1_000_000_u32).fold(String::new(), |mut text, number| {
        let _ = writeln!(
            text,
            "{}",
            std::net::Ipv4Addr::from(number.wrapping_mul(2_654_435_761))
        );
        text
    });
    fs::write(folder.path().join("million.txt"), prefixes).unwrap();
    let profile = "[profiles.edge]\ninterfaces = [\"eth0\"]\n";
    let files = [
        (
            "numbers.toml",
            filled("version = 1\nx = [", "1,", "]\n"),
            false,
        ),
        ("tables.toml", filled("version = 1\n", "[[a]]\n", ""), false),
        (
            "inline.toml",
            filled("version = 1\nx = [", "{},", "]\n"),
            false,
        ),
        (
            "dots.toml",
            filled("version = 1\n", "[a.a.a.a.a.a.a.a.a]\n", ""),
            false,
        ),
        ("deep.toml", filled("x = ", "[", ""), false),
        (
            "group.toml",
            filled("version = 1\n[groups.a]\ncidrs = [", "\"::\",", "]\n"),
            false,
        ),
        (
            "text.toml",
            filled("version = 1\nx = \"", "a", "\"\n"),
            false,
        ),
        (
            "comments.toml",
            filled("version = 1\n", "# a\n", profile),
            true,
        ),
        (
            "numbers.json",
            filled("{\"version\":1,\"x\":[", "1,", "1]}"),
            false,
        ),
        ("deep.json", filled("", "[", ""), false),
        // as many values as may be
        (
            "full.toml",
            format!("version = 1\n{profile}vlans = [{}]\n", "1,".repeat(249_000)),
            true,
        ),
        (
            "million.toml",
            format!(
                "version = 1\n[groups.a]\nfiles = [\"million.txt\"]\n{profile}\
                 deny = [{{ id = \"a\", from = \"@a\" }}]\n"
            ),
            true,
        ),
    ];
    for (name, text, is_good) in files {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_edgefilter"))
            .arg("check")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let code = i32::from(!is_good);
        assert_eq!(status.code(), Some(code), "{name}");
        // the most of any child so far
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
        println!("{name}: at most {peak} KiB");
        assert!(peak < MOST, "{name}: {peak} KiB");
    }
}
