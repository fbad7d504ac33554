//! Blocked sources: in force at once, over by themselves, as many as the table holds, and kept over a restart. What
//! a blocked source keeps is in the oracle's table.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::packets::{Ipv4, Ipv6, Tcp, link};
use edgefilter_tests::test_run::map::Map;
use edgefilter_tests::test_run::{Filter, can_run};
use filter_common::layout::Watch;
use filter_common::limits::{BLOCK_FILTER_WORDS, BLOCKS};
use ipnet::IpNet;

use crate::{OWN, OWN6, REMOTE, REMOTE6, WEB, filter};

const HOUR: Duration = Duration::from_hours(1);

/// Whether a source reaches the open port; a source that does not must have been blocked.
fn passes(filter: &mut Filter, source: IpAddr) -> Result<bool> {
    let syn = Tcp::syn(40_000, 443);
    let source = source.to_string();
    let frame = if source.contains(':') {
        link().ipv6(&Ipv6::new(&source, OWN6).with(&syn))
    } else {
        link().ipv4(&Ipv4::new(&source, OWN).with(&syn))
    };
    let verdict = filter.ingress(&frame)?;
    let reason = verdict.reason.name();
    ensure!(
        reason == "pass_rule" || reason == "drop_blocked",
        "{source}: {reason}"
    );
    Ok(verdict.pass)
}

/// The n-th of many sources.
fn source(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0900_0000 + number as u32).into()
}

/// Bits that are set in the filter in front of the table.
fn bits(filter: &Filter) -> Result<u32> {
    let map = Map::state(&filter.bpffs(), "WATCH")?;
    let mut words = Vec::new();
    map.read(0, &mut words)?;
    let bits = offset_of!(Watch, block_bits) / 8;
    let set = words[bits..bits + BLOCK_FILTER_WORDS].iter();
    Ok(set.map(|word| word.count_ones()).sum())
}

#[test]
fn a_block_is_in_force_at_once_until_it_is_taken_off() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    for source in [REMOTE, REMOTE6] {
        let source: IpAddr = source.parse()?;
        ensure!(passes(&mut filter, source)?, "{source} at first");
        filter.block(source.into(), HOUR)?;
        ensure!(!passes(&mut filter, source)?, "{source} blocked");
        ensure!(filter.unblock(source.into())?, "{source} was not there");
        ensure!(passes(&mut filter, source)?, "{source} unblocked");
        ensure!(!filter.unblock(source.into())?, "{source} still there");
    }
    ensure!(bits(&filter)? == 0, "bits are left");
    Ok(())
}

/// Nobody takes it off: there is no daemon here.
#[test]
fn a_block_ends_by_itself() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let (source, whole): (IpAddr, IpNet) = (REMOTE.parse()?, "2001:db8:9::/64".parse()?);
    let soon = Duration::from_millis(300);
    filter.block(source.into(), soon)?;
    filter.block(whole, soon)?;
    for blocked in [source, REMOTE6.parse()?] {
        ensure!(!passes(&mut filter, blocked)?, "{blocked} is not blocked");
    }
    sleep(soon + Duration::from_millis(20));
    for free in [source, REMOTE6.parse()?] {
        ensure!(passes(&mut filter, free)?, "{free} is still blocked");
    }
    // the next block of the same source is another time in the same place
    filter.block(source.into(), HOUR)?;
    ensure!(!passes(&mut filter, source)?, "blocked again");
    ensure!(filter.scans().blocks()?.len() == 2, "two sources");
    Ok(())
}

#[test]
fn an_address_and_its_64_are_two_blocks() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let (one, whole): (IpAddr, IpNet) = (REMOTE6.parse()?, "2001:db8:9::/64".parse()?);
    let first: IpAddr = "2001:db8:9::".parse()?;
    let other: IpAddr = "2001:db8:9::a".parse()?;
    filter.block(one.into(), HOUR)?;
    filter.block(whole, HOUR)?;
    ensure!(bits(&filter)? == 1, "they share a bit");
    ensure!(!passes(&mut filter, other)?, "all of the /64");
    ensure!(filter.unblock(whole)?, "the /64 was not there");
    ensure!(passes(&mut filter, other)?, "the address alone");
    ensure!(!passes(&mut filter, one)?, "the address is still blocked");
    filter.block(first.into(), HOUR)?;
    ensure!(passes(&mut filter, other)?, "the first address is no /64");
    let mut known: Vec<IpNet> = filter
        .scans()
        .blocks()?
        .iter()
        .map(|one| one.source)
        .collect();
    known.sort();
    ensure!(known == [first.into(), one.into()], "{known:?}");
    Ok(())
}

#[test]
fn what_cannot_be_looked_up_cannot_be_blocked() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    for text in [
        "203.0.113.0/24",
        "0.0.0.0/0",
        "2001:db8::/48",
        "fe80::/64",
        "::/64",
        "::1:0:0:1/128",
    ] {
        let Err(error) = filter.block(text.parse()?, HOUR) else {
            anyhow::bail!("{text} is blocked");
        };
        let said = format!("{error:#}");
        ensure!(said.contains(text.trim_end_matches("/128")), "{said}");
        ensure!(
            said.contains("only an address can, or an IPv6 /64"),
            "{said}"
        );
    }
    ensure!(filter.scans().blocks()?.is_empty());
    Ok(())
}

#[test]
fn the_table_fills_up_empties_and_outlives_a_restart() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    for number in 0..BLOCKS {
        filter
            .block(source(number).into(), HOUR)
            .with_context(|| format!("block {number}"))?;
    }
    let error = match filter.block(source(BLOCKS).into(), HOUR) {
        Ok(()) => anyhow::bail!("more blocks than there is room for"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        error.starts_with("65536 sources are blocked, and no more can be"),
        "{error}"
    );
    ensure!(passes(&mut filter, source(BLOCKS))?, "refused, but blocked");
    // one that is there can be changed all the same
    filter.block(source(7).into(), HOUR * 2)?;
    ensure!(filter.unblock(source(7).into())?);
    filter.block(source(BLOCKS).into(), HOUR)?;

    let set = bits(&filter)?;
    eprintln!("{set} bits for {BLOCKS} blocks");
    ensure!(set < BLOCKS as u32, "no bit stands for two blocks: {set}");

    // a daemon that starts anew
    filter.reopen_scans()?;
    ensure!(filter.scans().blocks()?.len() == BLOCKS);
    ensure!(
        bits(&filter)? == set,
        "{} bits after the restart",
        bits(&filter)?
    );

    // of two blocks with the same bit the other stays in force
    for number in (0..BLOCKS).filter(|number| *number != 7 && number % 2 == 1) {
        ensure!(filter.unblock(source(number).into())?, "{number}");
    }
    for number in (0..BLOCKS).step_by(16) {
        ensure!(
            !passes(&mut filter, source(number))?,
            "{number} is not blocked"
        );
        ensure!(
            passes(&mut filter, source(number + 1))?,
            "{} is blocked",
            number + 1
        );
    }
    for number in (0..BLOCKS).step_by(2) {
        ensure!(filter.unblock(source(number).into())?, "{number}");
    }
    ensure!(
        bits(&filter)? == 1,
        "{} bits for the last block",
        bits(&filter)?
    );
    ensure!(filter.unblock(source(BLOCKS).into())?);
    ensure!(bits(&filter)? == 0, "{} bits for none", bits(&filter)?);
    Ok(())
}
