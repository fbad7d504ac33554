//! Run-time entries: over in time though nobody looks after them, as many as the table holds, kept over a restart, and
//! out of the way of everybody else. Whom they let in and keep out is in the oracle's table.

use std::mem::offset_of;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use edgefilter_tests::packets::{Ipv4, Ipv6, Tcp, link};
use edgefilter_tests::test_run::entries::entry;
use edgefilter_tests::test_run::map::Map;
use edgefilter_tests::test_run::{Filter, can_run, clock};
use filter_common::layout::Watch;
use filter_common::limits::{ENTRY_FILTER_WORDS, ENTRY_KEYS};
use filter_user::entries::{Entry, Kind, Life, schedule};
use ipnet::IpNet;

use crate::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, filter};

const HOUR: Duration = Duration::from_hours(1);

fn reason(filter: &mut Filter, source: &str, port: u16) -> Result<&'static str> {
    let syn = Tcp::syn(40_000, port);
    let frame = if source.contains(':') {
        link().ipv6(&Ipv6::new(source, OWN6).with(&syn))
    } else {
        link().ipv4(&Ipv4::new(source, OWN).with(&syn))
    };
    Ok(filter.ingress(&frame)?.reason.name())
}

fn allow(source: &str, lasting: Duration) -> Result<Entry> {
    let source: IpAddr = source.parse()?;
    let life = Life::lasting(lasting, clock::moment()?);
    Ok(entry(Kind::Allow, source.into(), &[], life))
}

/// Words of the filter in front of the table: whether there are entries, and how many bits are set.
fn filtered(filter: &Filter) -> Result<(u64, u32)> {
    let mut words = Vec::new();
    Map::state(&filter.bpffs(), "WATCH")?.read(0, &mut words)?;
    let [entries, bits] =
        [offset_of!(Watch, entries), offset_of!(Watch, entry_bits)].map(|bytes| bytes / 8);
    let set = words[bits..bits + ENTRY_FILTER_WORDS].iter();
    Ok((words[entries], set.map(|word| word.count_ones()).sum()))
}

#[test]
fn an_entry_is_in_force_at_once_until_it_is_taken_off() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    for source in [REMOTE, REMOTE6] {
        ensure!(
            reason(&mut filter, source, 22)? == "drop_port",
            "{source} at first"
        );
        filter.list_entries(&[allow(source, HOUR)?])?;
        ensure!(
            reason(&mut filter, source, 22)? == "pass_rule",
            "{source} let in"
        );
        filter.list_entries(&[])?;
        ensure!(
            reason(&mut filter, source, 22)? == "drop_port",
            "{source} at last"
        );
        ensure!(filtered(&filter)? == (0, 0), "bits are left");
    }
    Ok(())
}

/// Nobody takes it off: there is no daemon here. What is behind it comes into force.
#[test]
fn an_entry_begins_and_ends_by_itself() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let (begin, middle, end) = (
        Duration::from_millis(300),
        Duration::from_millis(600),
        Duration::from_millis(900),
    );
    let wall = SystemTime::now();
    let (start, net) = (clock::now()?, "203.0.113.0/24".parse::<IpNet>()?);
    let entries = [
        entry(
            Kind::Allow,
            net,
            &["tcp/22"],
            Life::Between {
                from: Some(wall + begin),
                until: wall + end,
            },
        ),
        entry(
            Kind::Deny,
            REMOTE.parse::<IpAddr>()?.into(),
            &[],
            Life::lasting(middle, clock::moment()?),
        ),
    ];
    filter.list_entries(&entries)?;
    // what is seen between two looks at the clock counts only if both fall in the same time
    let mut seen = [0; 4];
    let age = || -> Result<Duration> { Ok(Duration::from_nanos(clock::now()? - start)) };
    let slack = Duration::from_millis(30);
    while age()? < end + Duration::from_millis(200) {
        let before = age()?;
        let found = (
            reason(&mut filter, "203.0.113.8", 22)?,
            reason(&mut filter, REMOTE, 22)?,
        );
        let after = age()?;
        let times = [
            (Duration::ZERO, begin, ("drop_port", "drop_denied")),
            (begin, middle, ("pass_rule", "drop_denied")),
            (middle, end, ("pass_rule", "pass_rule")),
            (end, HOUR, ("drop_port", "drop_port")),
        ];
        for (at, (from, until, expected)) in times.into_iter().enumerate() {
            if before > from + slack && after + slack < until {
                ensure!(found == expected, "{before:?} after the start: {found:?}");
                seen[at] += 1;
            }
        }
        sleep(Duration::from_millis(5));
    }
    ensure!(
        seen.iter().all(|times| *times > 0),
        "not all was seen: {seen:?}"
    );
    Ok(())
}

#[test]
fn the_table_fills_up_and_outlives_a_restart() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let host = |number: usize| format!("9.{}.{}.1", number / 256, number % 256);
    let entries = (0..ENTRY_KEYS)
        .map(|number| allow(&host(number), HOUR))
        .collect::<Result<Vec<_>>>()?;
    filter.list_entries(&entries)?;
    ensure!(filter.entries().known().len() == ENTRY_KEYS);
    let held = filtered(&filter)?;
    ensure!(held == (1, 16), "{held:?}");
    ensure!(reason(&mut filter, &host(ENTRY_KEYS - 1), 22)? == "pass_rule");

    let more = [entries.clone(), vec![allow(REMOTE, HOUR)?]].concat();
    ensure!(
        filter.list_entries(&more).is_err(),
        "more than there is room for"
    );
    ensure!(
        reason(&mut filter, &host(7), 22)? == "pass_rule",
        "others suffered"
    );

    // a daemon that starts anew finds what there was, and takes away what is wanted no more
    filter.reopen_entries()?;
    let now = clock::moment()?;
    ensure!(
        *filter.entries().known() == schedule(&entries, now),
        "another table"
    );
    filter.list_entries(&entries[..1])?;
    ensure!(reason(&mut filter, &host(0), 22)? == "pass_rule");
    ensure!(reason(&mut filter, &host(1), 22)? == "drop_port");
    ensure!(filtered(&filter)? == (1, 1));
    Ok(())
}

/// Neither another policy nor another set of tables takes an entry off.
#[test]
fn a_policy_that_is_pushed_leaves_entries_alone() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let world = edgefilter_tests::random::world();
    filter.list_entries(&[allow(REMOTE, HOUR)?])?;
    let (_, compiled) = filter.compile(crate::WEB, &world)?;
    let policy = filter_user::policy::load(&filter.directory().join("policy.toml"))
        .map_err(|errors| anyhow::anyhow!("{errors}"))?
        .policy;
    let assignments = edgefilter_tests::test_run::filter::assignments(&policy);
    let mark = filter_user::dataplane::PolicyMark::default();
    filter.dataplane().push(&compiled, &assignments, mark)?;
    ensure!(reason(&mut filter, REMOTE, 443)? == "pass_rule");
    ensure!(reason(&mut filter, REMOTE, 22)? == "pass_rule");
    ensure!(reason(&mut filter, "203.0.113.10", 22)? == "drop_port");
    Ok(())
}
