//! Run-time entries, as an operator makes them with a daemon at work: in force at once, over in time, kept over a restart
//! and a crash.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::{CLIENT_OTHER_V4, CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Edge, wait_until};
use edgefilter_tests::programs::{Edgefilter, Seen, probes};
use filter_user::entries::record::{self, EntryList, EntryRecord};
use filter_user::report::time::rfc3339;
use ipnet::IpNet;

use crate::support::{SILENCE, STRICT, allow, beside, can_run};

/// Nobody listens on it: a packet that gets through is answered by a reset.
const PORT: u16 = 2222;

/// Waits for a condition, and fails if it does not come true.
fn waited(condition: impl FnMut() -> bool) -> Result<()> {
    let limit = Duration::from_secs(15);
    let waited = wait_until(limit, condition);
    waited
        .map(drop)
        .with_context(|| format!("not within {limit:?}"))
}

struct Arena {
    edge: Edge,
    daemon: Edgefilter,
}

impl Arena {
    /// `None` without a filter: then there is nobody to make entries.
    fn build(policy: &str) -> Result<Option<Self>> {
        let edge = Edge::standard()?;
        let daemon = Edgefilter::enable(&edge.host, &edge.scratch, policy)?;
        let arena = Self { edge, daemon };
        Ok(arena.daemon.filtering().then_some(arena))
    }

    /// Whether a SYN of the client reaches the host.
    fn reaches(&self, port: u16) -> Result<bool> {
        let (seen, _) = probes::tcp(&self.edge.client, HOST_V4, port, SILENCE)?;
        Ok(seen != Seen::Nothing)
    }

    fn done(&self, words: &[&str]) -> Result<()> {
        self.daemon.cli(words)?.require().map(drop)
    }

    fn add(&self, words: &[&str]) -> Result<EntryRecord> {
        let words = [words, &["--json"]].concat();
        let shown = self.daemon.cli(&words)?.require()?;
        serde_json::from_str(&shown.stdout).context("no entry")
    }

    fn list(&self, kind: &str) -> Result<Vec<EntryRecord>> {
        let shown = self.daemon.cli(&[kind, "list", "--json"])?.require()?;
        let list: EntryList = serde_json::from_str(&shown.stdout)?;
        Ok(list.entries)
    }

    /// What a command that is refused says.
    fn refused(&self, words: &[&str]) -> Result<String> {
        let done = self.daemon.cli(words)?;
        ensure!(done.code() == 1, "{words:?} ended with {}", done.code());
        Ok(done.stderr)
    }

    /// What is written before an answer, and what is written to outlive the machine.
    fn files(&self) -> [PathBuf; 2] {
        ["state/entries.boot.json", "state/entries.json"]
            .map(|name| self.edge.scratch.path().join(name))
    }

    fn gone(&self, kind: &str) -> Result<()> {
        waited(|| self.list(kind).is_ok_and(|list| list.is_empty()))
    }
}

#[test]
fn an_entry_lets_in_at_once_and_until_its_time_is_up() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(arena) = Arena::build(STRICT)? else {
        return Ok(());
    };
    ensure!(!arena.reaches(PORT)?, "before");
    let begin = Instant::now();
    let made = arena.add(&[
        "allow",
        "add",
        CLIENT_V4,
        "--port",
        "tcp/2222",
        "--ttl",
        "4s",
        "--comment",
        "incident 7",
    ])?;
    ensure!(arena.reaches(PORT)?, "it is not in force");
    ensure!(!arena.reaches(PORT + 1)?, "another port");
    ensure!(
        made.comment == "incident 7" && made.active && made.seconds_left == 4,
        "{made:?}"
    );
    let list = arena.list("allow")?;
    ensure!(
        list.len() == 1 && list[0].source == CLIENT_V4.parse::<IpAddr>()?.into(),
        "{list:?}"
    );
    ensure!(arena.list("deny")?.is_empty());
    // it is over when it said, give or take the time that a look takes
    waited(|| arena.reaches(PORT).is_ok_and(|reached| !reached))?;
    let lasted = begin.elapsed();
    ensure!(lasted >= Duration::from_secs(4), "over after {lasted:?}");
    arena.gone("allow")?;
    let counters = arena.daemon.counters()?;
    ensure!(counters.rule("allow-entry") >= 1, "{:?}", counters.rules);

    arena.add(&["allow", "add", "fd77:1::/64"])?;
    let (seen, _) = probes::tcp(&arena.edge.client, HOST_V6, PORT, SILENCE)?;
    ensure!(seen == Seen::Reached, "IPv6: {seen:?}");
    arena.done(&["allow", "remove", "fd77:1::/64"])?;
    let (seen, _) = probes::tcp(&arena.edge.client, HOST_V6, PORT, SILENCE)?;
    ensure!(seen == Seen::Nothing, "IPv6 removed: {seen:?}");
    Ok(())
}

#[test]
fn an_entry_keeps_out_and_the_longest_prefix_decides() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(arena) = Arena::build(&allow("tcp", &[PORT]))? else {
        return Ok(());
    };
    ensure!(arena.reaches(PORT)?, "before");
    arena.add(&["deny", "add", "10.77.1.2/31", "--force"])?;
    ensure!(!arena.reaches(PORT)?, "it is not in force");
    arena.add(&["allow", "add", CLIENT_V4])?;
    ensure!(arena.reaches(PORT)?, "a longer prefix");
    let counted = arena.daemon.status()?["entries"].clone();
    ensure!(
        counted["allow"] == 1 && counted["deny"] == 1,
        "status counts {counted}"
    );
    arena.done(&["allow", "remove", CLIENT_V4])?;
    ensure!(!arena.reaches(PORT)?, "without the longer prefix");
    let counters = arena.daemon.counters()?;
    ensure!(counters.rule("deny-entry") >= 2, "{:?}", counters.rules);
    arena.done(&["deny", "remove", "10.77.1.2/31"])?;
    ensure!(arena.reaches(PORT)?, "removed");
    Ok(())
}

#[test]
fn dates_of_an_entry_are_kept() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(arena) = Arena::build(STRICT)? else {
        return Ok(());
    };
    let date = |seconds| {
        let date = std::time::SystemTime::now() + Duration::from_secs(seconds);
        rfc3339(date)
    };
    let parse = |text: &str| record::date(text).map_err(anyhow::Error::msg);
    let (from, until) = (date(4), date(8));
    let made = arena.add(&[
        "allow", "add", CLIENT_V4, "--from", &from, "--until", &until,
    ])?;
    ensure!(
        !made.active && made.dated && made.from.is_some(),
        "{made:?}"
    );
    let reached = || arena.reaches(PORT).unwrap_or(false);
    ensure!(!reached(), "before it begins");
    waited(reached)?;
    let now = std::time::SystemTime::now();
    ensure!(now >= parse(&from)?, "too early");
    waited(|| !reached())?;
    let now = std::time::SystemTime::now();
    ensure!(now >= parse(&until)?, "over too early");
    Ok(())
}

#[test]
fn what_could_lock_out_is_refused_unless_forced() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let policy = format!(
        "{STRICT}[[profiles.edge.allow]]\nid = \"ssh\"\nprotocol = \"tcp\"\nports = [22]\nfrom = [\"{CLIENT_V4}\"]\n"
    );
    let Some(arena) = Arena::build(&policy)? else {
        return Ok(());
    };
    for (source, why) in [
        (HOST_V4, "own address"),
        ("10.77.1.0/24", "own address"),
        (CLIENT_V4, "rule ssh"),
        ("0.0.0.0/0", "unspecified"),
    ] {
        let said = arena.refused(&["deny", "add", source])?;
        ensure!(
            said.contains(why) && said.contains("--force"),
            "{source}: {said}"
        );
    }
    ensure!(arena.list("deny")?.is_empty(), "something was denied");
    arena.add(&["deny", "add", CLIENT_V4, "--ttl", "1m", "--force"])?;
    ensure!(!arena.reaches(22)?, "forced, but not in force");
    for (words, why) in [
        (
            &[
                "allow",
                "add",
                "10.77.1.9",
                "--until",
                "2001-01-01T00:00:00Z",
            ][..],
            "over before it begins",
        ),
        (&["allow", "add", "224.0.0.1"], "these are groups"),
        (
            &["allow", "add", "10.77.1.9", "--comment", "a\nb"],
            "one line",
        ),
        (&["allow", "remove", "10.77.1.9"], "no such entry"),
    ] {
        let said = arena.refused(words)?;
        ensure!(said.contains(why), "{words:?}: {said}");
    }
    for words in [
        &["allow", "add", "10.77.1.999"][..],
        &["allow", "add", "10.77.1.9", "--port", "443"],
        &["allow", "add", "10.77.1.9", "--ttl", "31d"],
        &[
            "allow",
            "add",
            "10.77.1.9",
            "--ttl",
            "1h",
            "--until",
            "2030-01-01T00:00:00Z",
        ],
        &[
            "allow",
            "add",
            "10.77.1.9",
            "--from",
            "2030-01-01T00:00:00Z",
        ],
    ] {
        let code = arena.daemon.cli(words)?.code();
        ensure!(code == 2, "{words:?} ended with {code}");
    }
    Ok(())
}

/// However the daemon ends, entries stay, and end in time; the next one knows them.
#[test]
fn entries_outlive_the_daemon_and_end_without_it() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(mut arena) = Arena::build(STRICT)? else {
        return Ok(());
    };
    arena.add(&[
        "allow",
        "add",
        CLIENT_V4,
        "--port",
        "tcp/2222",
        "--comment",
        "stays",
    ])?;
    let before = arena.list("allow")?;
    arena.daemon.sigkill()?;
    ensure!(arena.reaches(PORT)?, "gone with the daemon");
    arena.daemon.start()?;
    let after = arena.list("allow")?;
    ensure!(
        after.len() == 1 && after[0].comment == "stays" && after[0].made == before[0].made,
        "{after:?} after {before:?}"
    );
    // what was asked, not how often the daemon was started, says how long
    ensure!(after[0].seconds_left <= before[0].seconds_left, "{after:?}");

    arena.add(&[
        "allow", "add", CLIENT_V4, "--port", "tcp/2223", "--ttl", "5s",
    ])?;
    ensure!(arena.reaches(PORT + 1)?);
    arena.daemon.terminate()?;
    waited(|| arena.reaches(PORT + 1).is_ok_and(|reached| !reached))?;
    ensure!(arena.reaches(PORT)?, "the other one went, too");
    arena.daemon.start()?;
    ensure!(arena.list("allow")?.len() == 1, "what is over came back");
    Ok(())
}

/// The file is written first, so after a crash between it and the kernel's table the file is right.
#[test]
fn after_a_crash_file_and_kernel_say_the_same() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(mut arena) = Arena::build(STRICT)? else {
        return Ok(());
    };
    let [current, kept] = arena.files();
    arena.add(&["allow", "add", CLIENT_V4, "--port", "tcp/2222"])?;
    let with = std::fs::read(&current)?;
    arena.done(&["allow", "remove", CLIENT_V4])?;
    let without = std::fs::read(&current)?;

    // an entry was asked for, and only the file heard of it
    arena.daemon.sigkill()?;
    std::fs::write(&current, &with)?;
    arena.daemon.start()?;
    ensure!(
        arena.list("allow")?.len() == 1 && arena.reaches(PORT)?,
        "added"
    );

    // it was taken away, likewise
    arena.daemon.sigkill()?;
    std::fs::write(&current, &without)?;
    arena.daemon.start()?;
    ensure!(
        arena.list("allow")?.is_empty() && !arena.reaches(PORT)?,
        "removed"
    );

    // after another boot the other file counts
    arena.daemon.terminate()?;
    std::fs::remove_file(&current)?;
    std::fs::write(&kept, &with)?;
    arena.daemon.start()?;
    ensure!(
        arena.list("allow")?.len() == 1 && arena.reaches(PORT)?,
        "kept"
    );
    Ok(())
}

#[test]
fn broken_files_take_nothing_away() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(mut arena) = Arena::build(STRICT)? else {
        return Ok(());
    };
    arena.add(&["allow", "add", CLIENT_V4, "--port", "tcp/2222"])?;
    arena.daemon.sigkill()?;
    for file in arena.files() {
        let text = std::fs::read(&file)?;
        std::fs::write(&file, &text[..text.len() / 2])?;
    }
    arena.daemon.start()?;
    ensure!(arena.reaches(PORT)?, "lost with the files");
    let found = arena.list("allow")?;
    ensure!(
        found.len() == 1 && found[0].comment == "found in the kernel",
        "{found:?}"
    );
    for file in arena.files() {
        let aside = file.with_extension("json.broken");
        ensure!(aside.exists(), "{} is not there", aside.display());
    }
    let said = arena.daemon.log();
    ensure!(said.contains("set aside"), "{said}");
    // from now on it is in the files again
    arena.daemon.sigkill()?;
    arena.daemon.start()?;
    let again = arena.list("allow")?;
    ensure!(
        again.len() == 1 && again[0].made == found[0].made,
        "{again:?} after {found:?}"
    );
    Ok(())
}

#[test]
fn many_ask_at_once() -> Result<()> {
    const CLIENTS: usize = 10;
    const EACH: usize = 10;
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(arena) = Arena::build(STRICT)? else {
        return Ok(());
    };
    let errors: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let daemon = &arena.daemon;
                scope.spawn(move || -> Result<()> {
                    for number in 0..EACH {
                        let source = format!("198.51.{client}.{number}");
                        daemon.cli(&["allow", "add", &source])?.require()?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients
            .into_iter()
            .filter_map(|client| match client.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some("panicked".to_owned()),
            })
            .collect()
    });
    ensure!(errors.is_empty(), "{errors:?}");
    let mut sources: Vec<IpNet> = arena
        .list("allow")?
        .iter()
        .map(|entry| entry.source)
        .collect();
    sources.sort_unstable();
    sources.dedup();
    ensure!(sources.len() == CLIENTS * EACH, "{} entries", sources.len());
    Ok(())
}

/// A block of a scan's source is lifted by an entry that lets it in, and none is made again.
#[test]
fn who_is_let_in_is_not_blocked() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let Some(arena) = Arena::build(&allow("tcp", &[PORT]))? else {
        return Ok(());
    };
    arena.done(&["block", "add", CLIENT_V4])?;
    ensure!(!arena.reaches(PORT)?, "blocked");
    arena.add(&["allow", "add", CLIENT_V4])?;
    waited(|| arena.reaches(PORT).unwrap_or(false))?;
    let said = arena.refused(&["block", "add", CLIENT_V4])?;
    ensure!(said.contains("an allow entry"), "{said}");
    arena.done(&["block", "add", CLIENT_OTHER_V4])?;
    ensure!(CLIENT_V6.parse::<IpAddr>()?.is_ipv6());
    Ok(())
}
