//! Sampled drops: the right ones, with what they say, and never more than the budget.

use std::mem::offset_of;

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, RingBuf};
use edgefilter_tests::packets::{Ipv4, Tcp, link};
use edgefilter_tests::test_run::{Filter, can_run};
use filter_common::event::Event;
use filter_common::layout::EventHeader;
use filter_common::limits::{EVENT_BYTES, EVENTS_PER_EPOCH};
use filter_common::reason::Reason;
use filter_user::dataplane::counters;

use crate::{OWN, WEB, filter};

const BUDGET: usize = EVENTS_PER_EPOCH as usize;

struct Sample {
    reason: Reason,
    monitored: bool,
    ifindex: u32,
    frame_length: u32,
    rule: u16,
    frame: Vec<u8>,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .context("a short event")
}

fn read(ring: &mut RingBuf<MapData>) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while let Some(item) = ring.next() {
        ensure!(
            item.len() >= size_of::<Event>(),
            "an event of {} bytes",
            item.len()
        );
        let captured =
            u32::from_ne_bytes(field(&item, offset_of!(EventHeader, captured))?) as usize;
        ensure!(captured <= EVENT_BYTES, "{captured} bytes captured");
        let [reason] = field(&item, offset_of!(EventHeader, reason))?;
        let [monitored] = field(&item, offset_of!(EventHeader, monitored))?;
        samples.push(Sample {
            reason: Reason::from_index(reason.into()).context("an unknown reason")?,
            monitored: monitored == 1,
            ifindex: u32::from_ne_bytes(field(&item, offset_of!(EventHeader, ifindex))?),
            frame_length: u32::from_ne_bytes(field(&item, offset_of!(EventHeader, frame_length))?),
            rule: u16::from_ne_bytes(field(&item, offset_of!(EventHeader, rule))?),
            frame: item[size_of::<EventHeader>()..][..captured].to_vec(),
        });
    }
    Ok(samples)
}

fn tcp(source: &str, port: u16, payload: usize) -> Vec<u8> {
    link().ipv4(&Ipv4::new(source, OWN).with(&Tcp::syn(40_000, port).payload(&vec![0x55; payload])))
}

fn with_ring(policy: &str) -> Result<(Filter, RingBuf<MapData>)> {
    let mut filter = filter(policy)?;
    let ring = filter.dataplane().events()?;
    Ok((filter, ring))
}

#[test]
fn a_flood_is_sampled_within_its_budget_and_hides_no_other_reason() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let deny = format!("{WEB}[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"198.18.0.0/15\"]\n");
    let (mut filter, mut ring) = with_ring(&deny)?;
    let (flood, denied, passes) = (
        tcp("203.0.113.9", 22, 0),
        tcp("198.18.0.1", 443, 200),
        tcp("203.0.113.9", 443, 0),
    );
    for _ in 0..1000 {
        ensure!(!filter.ingress(&flood)?.pass, "the flood passes");
    }
    for _ in 0..3 {
        ensure!(!filter.ingress(&denied)?.pass, "the denied source passes");
        ensure!(filter.ingress(&passes)?.pass, "the open port is closed");
    }
    let samples = read(&mut ring)?;
    let of = |reason: Reason| samples.iter().filter(move |sample| sample.reason == reason);
    ensure!(
        of(Reason::DropPort).count() == BUDGET,
        "{} of the flood",
        of(Reason::DropPort).count()
    );
    ensure!(
        of(Reason::DropDenied).count() == 3,
        "{} denied",
        of(Reason::DropDenied).count()
    );
    ensure!(samples.len() == BUDGET + 3, "{} in all", samples.len());
    for sample in of(Reason::DropPort) {
        ensure!(
            sample.frame == flood && sample.frame_length as usize == flood.len(),
            "the frame"
        );
        ensure!(
            sample.ifindex == 1 && sample.rule == 0 && !sample.monitored,
            "its header"
        );
    }
    for sample in of(Reason::DropDenied) {
        ensure!(
            sample.frame == denied[..EVENT_BYTES],
            "the first bytes of a longer frame"
        );
        ensure!(
            sample.frame_length as usize == denied.len(),
            "its length on the wire"
        );
        ensure!(sample.rule == filter.slots().slot("bad"), "its rule");
    }
    let suppressed = counters::read(filter.pins())?.events_suppressed;
    ensure!(
        suppressed == 1000 - BUDGET as u64,
        "{suppressed} suppressed"
    );

    filter.dataplane().renew_event_budget()?;
    for _ in 0..100 {
        filter.ingress(&flood)?;
    }
    ensure!(
        read(&mut ring)?.len() == BUDGET,
        "a new epoch has a new budget"
    );
    filter.settle()
}

#[test]
fn monitor_mode_reports_what_it_would_drop() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let (mut filter, mut ring) = with_ring(&WEB.replace("[\"lo\"]", "[\"lo\"]\nenforce = false"))?;
    let verdict = filter.ingress(&tcp("203.0.113.9", 22, 0))?;
    ensure!(
        verdict.pass && verdict.would_drop && verdict.reason == Reason::DropPort,
        "{verdict:?}"
    );
    let samples = read(&mut ring)?;
    ensure!(
        samples.len() == 1 && samples[0].monitored && samples[0].reason == Reason::DropPort,
        "the sample"
    );
    Ok(())
}

/// A reader that is gone must not cost more, nor stop the filter: the ring fills up and stays full.
#[test]
fn a_full_ring_loses_samples_and_nothing_else() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let (mut filter, mut ring) = with_ring(WEB)?;
    let flood = tcp("203.0.113.9", 22, 0);
    let room = filter_common::limits::EVENT_RING / size_of::<Event>();
    let epochs = room / BUDGET + 10;
    for _ in 0..epochs {
        filter.dataplane().renew_event_budget()?;
        for _ in 0..BUDGET {
            ensure!(!filter.ingress(&flood)?.pass, "the flood passes");
        }
    }
    let samples = read(&mut ring)?.len();
    let suppressed = counters::read(filter.pins())?.events_suppressed;
    ensure!(samples < epochs * BUDGET, "the ring never filled");
    ensure!(
        samples as u64 + suppressed == (epochs * BUDGET) as u64,
        "{samples} read, {suppressed} suppressed"
    );
    filter.settle()
}
