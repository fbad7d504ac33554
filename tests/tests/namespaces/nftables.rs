//! The table that blocked sources are in for the host's firewall: real `nft` and real packets, the daemon left out.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Namespace, Scratch, wait_until};
use filter_user::policy::Nftables;
use filter_user::scans::outlets::nft::{
    Nft, NftError, NftState, Options, RESTORED_WITHIN, Removal, remove_blocking,
    remove_blocking_with,
};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::support::{alone, beside, skip};

pub const PATIENCE: Duration = Duration::from_secs(10);

/// A ruleset of somebody else, with a set of the same name as ours.
const FOREIGN: &str = "
table inet others {
    set blocked4 { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h }; }
    chain input { type filter hook input priority 0; policy accept; ip saddr @blocked4 counter drop; }
}
table ip edgefilter {
    chain forward { type filter hook forward priority 0; policy accept; tcp dport 25 drop; }
}
";

/// The table's task on a thread inside a namespace, for as long as this value lives.
pub struct Keeper {
    runtime: tokio::runtime::Runtime,
    nft: Nft,
}

impl Keeper {
    pub fn start(
        namespace: &Namespace,
        drop: bool,
        blocks: Vec<(IpNet, Duration)>,
    ) -> Result<Self> {
        Self::start_with(namespace, drop, blocks, Options::default())
    }

    fn start_with(
        namespace: &Namespace,
        drop: bool,
        blocks: Vec<(IpNet, Duration)>,
        options: Options,
    ) -> Result<Self> {
        let inside = namespace.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            // every thread that may start `nft`
            .on_thread_start(move || {
                let joined = std::fs::File::open(inside.path()).and_then(|file| {
                    let flags = nix::sched::CloneFlags::CLONE_NEWNET;
                    nix::sched::setns(&file, flags).map_err(std::io::Error::from)
                });
                assert!(joined.is_ok(), "a thread of ours: {joined:?}");
            })
            .build()?;
        let nft = runtime.block_on(async move {
            let begun =
                tokio::spawn(async move { Nft::start_with(Nftables { drop }, blocks, options) });
            begun.await
        })?;
        Ok(Self { runtime, nft })
    }

    fn state(&self) -> NftState {
        self.nft.state()
    }

    /// Waits until the state is as `holds` says; how long that took.
    pub fn wait(&self, what: &str, holds: impl Fn(&NftState) -> bool) -> Result<Duration> {
        wait_until(PATIENCE, || holds(&self.state()))
            .with_context(|| format!("{what} did not come about: {:?}", self.state()))
    }

    fn end(self) -> Result<Removal> {
        let ended = self.runtime.spawn(self.nft.end());
        Ok(self.runtime.block_on(ended)??)
    }
}

/// What `remove` makes of a program.
fn removed_by(namespace: &Namespace, program: &Path) -> Result<Result<Removal, NftError>> {
    let options = Options {
        program: program.as_os_str().to_owned(),
        ..Options::default()
    };
    namespace.inside(|| remove_blocking_with(&options))
}

pub fn now() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

pub fn net(text: &str) -> Result<IpNet> {
    Ok(text.parse()?)
}

pub fn nft_ready() -> bool {
    // SAFETY: takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() == 0 };
    let missing = edgefilter_tests::programs::missing(&["ip", "nsenter", "nft", "ping"]);
    let reason = if root {
        missing
    } else {
        Some("it makes network namespaces: run as root".to_owned())
    };
    let Some(reason) = reason else { return true };
    skip(&reason);
    false
}

/// Addresses and the seconds that are left to them, in one of our sets; `None`: there is no such set.
fn elements(namespace: &Namespace, set: &str) -> Result<Option<Vec<(String, u64)>>> {
    let words = ["nft", "-j", "list", "set", "inet", "edgefilter", set];
    let listed = namespace.try_run(&words, PATIENCE)?;
    if !listed.ok() {
        return Ok(None);
    }
    let document: Value = serde_json::from_str(&listed.stdout)?;
    let objects = document["nftables"].as_array().context("no list")?;
    let set = objects.iter().find_map(|object| object.get("set"));
    let elements = set
        .and_then(|set| set.get("elem"))
        .and_then(Value::as_array);
    elements
        .into_iter()
        .flatten()
        .map(|element| {
            let element = &element["elem"];
            let address = element["val"].as_str().context("no address")?;
            let left = element["expires"].as_u64().context("no time")?;
            Ok((address.to_owned(), left))
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

fn holds(namespace: &Namespace, set: &str, address: &str) -> Result<bool> {
    let elements = elements(namespace, set)?.unwrap_or_default();
    Ok(elements.iter().any(|(found, _)| found == address))
}

fn foreign(namespace: &Namespace) -> Result<String> {
    let listed = namespace.run(&["nft", "list", "ruleset"])?.stdout;
    // ours, and a time that passes
    let mut others = String::new();
    let mut ours = false;
    for line in listed.lines() {
        if line.starts_with("table ") {
            ours = line == "table inet edgefilter {";
        }
        if !ours {
            others.push_str(line.split(" expires ").next().unwrap_or(line));
            others.push('\n');
        }
    }
    Ok(others)
}

#[test]
fn twenty_thousand_blocks_are_written_in_under_a_second() -> Result<()> {
    if !nft_ready() {
        return Ok(());
    }
    let _turn = alone();
    let host = Namespace::create("nft")?;
    let keeper = Keeper::start(&host, true, Vec::new())?;
    keeper.wait("the table", |state| state.ok)?;
    let until = now()? + Duration::from_hours(1);
    let begun = Instant::now();
    for n in 0..20_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let source = match n % 4 {
            0 => format!("2001:db8:{n:x}::/64"),
            1 => format!("2001:db8:ffff::{n:x}/128"),
            _ => format!("10.{a}.{b}.{c}/32"),
        };
        keeper.nft.set(net(&source)?, until);
    }
    let handed = begun.elapsed();
    keeper.wait("20,000 elements", |state| state.elements == 20_000)?;
    let took = begun.elapsed();
    let mut counted = 0;
    for set in ["blocked4", "blocked6", "blocked6_64"] {
        counted += elements(&host, set)?.context("no such set")?.len();
    }
    let state = keeper.state();
    eprintln!(
        "20,000 blocks: handed over in {} ms, in the kernel after {} ms (the last write took {} ms)",
        handed.as_millis(),
        took.as_millis(),
        state.last_write_ms
    );
    ensure!(counted == 20_000, "the kernel has {counted}");
    ensure!(took < Duration::from_secs(1), "it took {took:?}");

    // and the same when the table is made anew
    let begun = Instant::now();
    host.run(&["nft", "flush", "ruleset"])?;
    keeper.wait("another table", |now| now.made > state.made && now.ok)?;
    eprintln!(
        "flushed with 20,000 blocks: back after {} ms, of which the write took {} ms",
        begun.elapsed().as_millis(),
        keeper.state().last_write_ms
    );
    ensure!(begun.elapsed() < RESTORED_WITHIN);
    ensure!(elements(&host, "blocked4")?.map(|found| found.len()) == Some(10_000));

    // two more looks find it as it should be
    let made = keeper.state().made;
    std::thread::sleep(Duration::from_secs(5));
    let state = keeper.state();
    ensure!(state.ok && state.made == made, "{state:?}");
    Ok(())
}

#[test]
fn blocks_come_change_and_go() -> Result<()> {
    if !nft_ready() {
        return Ok(());
    }
    let _turn = beside();
    let host = Namespace::create("nft")?;
    let soon = now()? + Duration::from_mins(10);
    let first = vec![(net("192.0.2.1/32")?, soon)];
    let keeper = Keeper::start(&host, false, first)?;
    keeper.wait("the table", |state| state.ok && state.elements == 1)?;
    let left = |set: &str, address: &str| -> Result<Option<u64>> {
        let elements = elements(&host, set)?.unwrap_or_default();
        let found = elements.into_iter().find(|(found, _)| found == address);
        Ok(found.map(|(_, left)| left))
    };
    let seconds = left("blocked4", "192.0.2.1")?.context("the first block")?;
    ensure!((590..=600).contains(&seconds), "{seconds} s are left");

    // an address and the /64 around it, as when a scan moves within it
    keeper.nft.set(net("2001:db8:7::5/128")?, soon);
    keeper.nft.set(net("2001:db8:7::/64")?, soon);
    keeper.wait("both", |state| state.elements == 3)?;
    ensure!(holds(&host, "blocked6", "2001:db8:7::5")?);
    ensure!(holds(&host, "blocked6_64", "2001:db8:7::")?);

    // longer
    keeper
        .nft
        .set(net("192.0.2.1/32")?, soon + Duration::from_mins(100));
    let longer = || left("blocked4", "192.0.2.1").is_ok_and(|left| left > Some(6000));
    wait_until(PATIENCE, longer).context("the longer time")?;
    // one that is over in a moment, one that is taken off
    keeper
        .nft
        .set(net("192.0.2.2/32")?, now()? + Duration::from_secs(2));
    keeper.nft.remove(net("192.0.2.1/32")?);
    let there = || holds(&host, "blocked4", "192.0.2.2").is_ok_and(|there| there);
    wait_until(PATIENCE, there).context("the short one")?;
    let gone = || elements(&host, "blocked4").is_ok_and(|left| left.is_some_and(|l| l.is_empty()));
    let took = wait_until(PATIENCE, gone).context("the ends of both")?;
    ensure!(took < Duration::from_secs(4), "it took {took:?}");
    // taking off what ended by itself is no error
    keeper.nft.remove(net("192.0.2.2/32")?);
    keeper.nft.remove(net("2001:db8:7::5/128")?);
    let gone = || holds(&host, "blocked6", "2001:db8:7::5").is_ok_and(|there| !there);
    wait_until(PATIENCE, gone).context("the end of the address")?;
    let state = keeper.state();
    ensure!(
        state.ok && state.made == 1,
        "made once, and never in trouble: {state:?}"
    );
    Ok(())
}

#[test]
fn a_flushed_table_is_back_and_nobody_elses_is_touched() -> Result<()> {
    if !nft_ready() {
        return Ok(());
    }
    let _turn = alone();
    let (host, scratch) = (Namespace::create("nft")?, Scratch::create("nft")?);
    host.nft(&scratch, FOREIGN)?;
    let others = foreign(&host)?;
    ensure!(others.contains("table ip edgefilter"), "{others}");
    let until = now()? + Duration::from_mins(10);
    let options = Options {
        look_closely: Duration::from_secs(1),
        ..Options::default()
    };
    let blocks = vec![(net("192.0.2.1/32")?, until)];
    let keeper = Keeper::start_with(&host, true, blocks, options)?;
    keeper.wait("the table", |state| state.ok)?;
    ensure!(foreign(&host)? == others, "making the table touched others");

    let mut made = keeper.state().made;
    for (what, commands, flushes) in [
        ("flush ruleset", &["flush ruleset"][..], true),
        ("delete table", &["delete table inet edgefilter"], false),
        (
            "flush table (its rules)",
            &["flush table inet edgefilter"],
            false,
        ),
        (
            "flush chain",
            &["flush chain inet edgefilter requests"],
            false,
        ),
        (
            "a rule before ours",
            &["insert rule inet edgefilter requests accept"],
            false,
        ),
        ("flush set", &["flush set inet edgefilter blocked4"], false),
        (
            "a foreign element",
            &["add element inet edgefilter blocked4 { 192.0.2.99 timeout 1h }"],
            false,
        ),
    ] {
        let before = foreign(&host)?;
        let begun = Instant::now();
        for command in commands {
            let words: Vec<&str> = std::iter::once("nft").chain([*command]).collect();
            host.run(&words)?;
        }
        let took = keeper.wait(what, |state| state.made > made && state.ok)?;
        eprintln!("{what}: back after {} ms", begun.elapsed().as_millis());
        ensure!(took < RESTORED_WITHIN, "{what}: it took {took:?}");
        ensure!(
            holds(&host, "blocked4", "192.0.2.1")?,
            "{what}: the block is lost"
        );
        ensure!(!holds(&host, "blocked4", "192.0.2.99")?, "{what}");
        let chains = host
            .run(&["nft", "list", "table", "inet", "edgefilter"])?
            .stdout;
        ensure!(chains.matches("drop").count() == 4, "{what}: {chains}");
        let after = foreign(&host)?;
        ensure!(
            after == before || flushes,
            "{what}: others were touched: {after}"
        );
        if flushes {
            ensure!(
                after.trim().is_empty(),
                "what somebody flushed is not ours to bring back"
            );
            host.nft(&scratch, FOREIGN)?;
        }
        made = keeper.state().made;
    }
    // nothing more happens by itself
    std::thread::sleep(Duration::from_millis(4500));
    ensure!(
        keeper.state().made == made,
        "it is made again and again: {:?}",
        keeper.state()
    );

    // another daemon, or this one restarted: taken over in one transaction, with what holds then
    drop(keeper);
    ensure!(
        holds(&host, "blocked4", "192.0.2.1")?,
        "it stays without a daemon"
    );
    let next = Keeper::start(&host, true, vec![(net("192.0.2.7/32")?, until)])?;
    next.wait("the table", |state| state.ok)?;
    ensure!(holds(&host, "blocked4", "192.0.2.7")? && !holds(&host, "blocked4", "192.0.2.1")?);

    // other settings
    next.nft.replace(Nftables { drop: false });
    next.wait("a table without rules", |state| {
        state.made == 2 && !state.drop
    })?;
    let table = host
        .run(&["nft", "list", "table", "inet", "edgefilter"])?
        .stdout;
    ensure!(
        !table.contains("chain") && table.contains("192.0.2.7"),
        "{table}"
    );

    let before = foreign(&host)?;
    ensure!(next.end()? == Removal::Gone);
    ensure!(
        elements(&host, "blocked4")?.is_none(),
        "`end` removes the table"
    );
    ensure!(
        host.inside(remove_blocking)?? == Removal::Gone,
        "twice is no error"
    );
    ensure!(
        elements(&host, "blocked4")?.is_none(),
        "removing makes none"
    );
    ensure!(
        foreign(&host)? == before && before == others,
        "removing touched others"
    );
    Ok(())
}

#[test]
fn no_moment_is_without_the_table_while_it_is_taken_over() -> Result<()> {
    if !nft_ready() {
        return Ok(());
    }
    let _turn = beside();
    let host = Namespace::create("nft")?;
    let blocks = vec![(net("192.0.2.1/32")?, now()? + Duration::from_mins(10))];
    let keeper = Keeper::start(&host, true, blocks)?;
    keeper.wait("the table", |state| state.ok)?;
    let mut looks = 0;
    let mut drop = true;
    while looks < 60 {
        drop = !drop;
        keeper.nft.replace(Nftables { drop });
        for _ in 0..6 {
            ensure!(
                holds(&host, "blocked4", "192.0.2.1")?,
                "not there at look {looks}"
            );
            looks += 1;
        }
    }
    let made = keeper.state().made;
    ensure!(made > 3, "it was replaced {made} times only");
    Ok(())
}

#[test]
fn without_nft_the_state_says_so_and_nothing_waits() -> Result<()> {
    if !nft_ready() {
        return Ok(());
    }
    let _turn = beside();
    let (host, scratch) = (Namespace::create("nft")?, Scratch::create("nft")?);
    let program = scratch.path().join("bin/nft");
    let options = Options {
        program: program.clone().into_os_string(),
        ..Options::default()
    };
    let keeper = Keeper::start_with(&host, true, Vec::new(), options)?;
    keeper.wait("an error", |state| state.error.is_some())?;
    let state = keeper.state();
    let error = state.error.context("no error")?;
    ensure!(
        !state.ok && error.contains("install the package nftables"),
        "{error}"
    );
    let begun = Instant::now();
    let until = now()? + Duration::from_mins(10);
    for n in 0..10_000_u32 {
        keeper
            .nft
            .set(IpNet::from(std::net::IpAddr::from(n.to_be_bytes())), until);
    }
    ensure!(
        begun.elapsed() < Duration::from_millis(500),
        "the caller waited: {:?}",
        begun.elapsed()
    );

    // a host without it has nothing to remove, as far as anybody can know
    ensure!(removed_by(&host, &program)?? == Removal::NoProgram);

    // one that fails, then a real one
    scratch.directory("bin")?;
    let install = |text: &str| -> Result<()> {
        let new = scratch.file("new", text)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&new, mode)?;
        std::fs::rename(new, &program).context("cannot install a program")
    };
    install(
        "#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2\nexit 1\n",
    )?;
    ensure!(
        removed_by(&host, &program)?.is_err(),
        "not removed, and not silent"
    );
    keeper.wait("its words", |state| {
        state.error.as_deref()
            == Some("nft: Error: Could not process rule: Operation not supported")
    })?;
    install("#!/bin/sh\nexec nft \"$@\"\n")?;
    let took = keeper.wait("the table", |state| state.ok)?;
    ensure!(took < RESTORED_WITHIN, "{took:?}");
    ensure!(elements(&host, "blocked4")?.map(|found| found.len()) == Some(10_000));
    let state = keeper.state();
    ensure!(
        state.error.is_none() && state.elements == 10_000,
        "{state:?}"
    );

    ensure!(keeper.end()? == Removal::Gone);
    ensure!(elements(&host, "blocked4")?.is_none());
    Ok(())
}
