//! The bypass list: forged frames, of which only those that policy allows get past the filter.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{
    Capture, Edge, Ends, Family, PacketSocket, frames, hardware_address,
};
use edgefilter_tests::programs::foreign::{ForeignXdp, Verdict};
use edgefilter_tests::programs::{Edgefilter, Nginx};

use crate::forged::{self, Forged};
use crate::support::{allow, beside, can_run};

#[test]
fn vlan_tags_hide_nothing() -> Result<()> {
    check(forged::vlan_tags)
}

#[test]
fn ipv4_options_hide_nothing() -> Result<()> {
    check(forged::ipv4_options)
}

#[test]
fn ipv6_extension_headers_hide_nothing() -> Result<()> {
    check(forged::extension_headers)
}

#[test]
fn fragments_hide_nothing() -> Result<()> {
    check(forged::fragments)
}

#[test]
fn unknown_protocols_and_ethertypes_are_dropped() -> Result<()> {
    check(forged::other_protocols)
}

#[test]
fn tcp_flags_open_no_port() -> Result<()> {
    check(forged::tcp_flags)
}

#[test]
fn truncated_and_inconsistent_frames_are_dropped() -> Result<()> {
    check(forged::truncated)
}

/// What all of the above rely on: a frame that XDP drops never gets to AF_PACKET.
#[test]
fn a_capture_sees_nothing_that_xdp_drops() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let ends = ends(&edge)?;
    let socket = PacketSocket::open(&edge.client, "eth0")?;
    for (verdict, expected) in [(Verdict::Pass, 20), (Verdict::Drop, 0)] {
        let _program = ForeignXdp::attach(&edge.host, "eth0", verdict)?;
        let capture = Capture::start(&edge.host, "eth0")?;
        for marker in 0..20 {
            socket.send(&ends.frame(marker, Family::V4, 254, b"anything"))?;
        }
        let seen = capture
            .finish()
            .iter()
            .filter(|frame| frames::marker(frame).is_some())
            .count();
        ensure!(
            seen == expected,
            "XDP {verdict:?}: {seen} of 20 frames captured"
        );
    }
    Ok(())
}

fn ends(edge: &Edge) -> Result<Ends> {
    Ok(Ends {
        destination_mac: hardware_address(&edge.host, "eth0")?,
        source_v4: CLIENT_V4.parse()?,
        destination_v4: HOST_V4.parse()?,
        source_v6: CLIENT_V6.parse()?,
        destination_v6: HOST_V6.parse()?,
    })
}

/// Sends every frame of the list from the client; behind the filter exactly the allowed ones may
/// arrive. Without a filter all have to: what never arrives proves nothing.
fn check(list: fn(&Ends) -> Vec<Forged>) -> Result<()> {
    if !can_run(&["nginx"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let _web = Nginx::start(&edge.host, &edge.scratch, &[443])?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &allow("tcp", &[443]))?;
    let ends = ends(&edge)?;
    let list = list(&ends);
    let capture = Capture::start(&edge.host, "eth0")?;
    let socket = PacketSocket::open(&edge.client, "eth0")?;
    let before = daemon.counters()?;
    for (index, forged) in list.iter().enumerate() {
        let mut frame = forged.frame.clone();
        frame[6..12].copy_from_slice(&frames::marked_source(index as u32));
        socket.send(&frame).with_context(|| forged.name.clone())?;
        // A veth with XDP queues 256 frames; a pause now and then keeps all of them.
        if index % 32 == 31 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    let mut arrived: BTreeMap<usize, usize> = BTreeMap::new();
    for frame in capture.finish() {
        if let Some(marker) = frames::marker(&frame) {
            *arrived.entry(marker as usize).or_default() += 1;
        }
    }
    let wrong: Vec<String> = list
        .iter()
        .enumerate()
        .filter_map(|(index, forged)| {
            let seen = arrived.get(&index).copied().unwrap_or(0);
            let expected = usize::from(forged.allowed || !daemon.filtering());
            (seen != expected)
                .then(|| format!("{}: {seen} arrived, {expected} expected", forged.name))
        })
        .collect();
    let refused = list.iter().filter(|forged| !forged.allowed).count();
    eprintln!(
        "{} frames, {refused} of them refused by policy, {} arrived",
        list.len(),
        arrived.len()
    );
    if !wrong.is_empty() || list.is_empty() {
        bail!(
            "{} of {} frames otherwise:\n{}",
            wrong.len(),
            list.len(),
            wrong.join("\n")
        );
    }
    if daemon.filtering() {
        let after = daemon.counters()?.by_reason();
        let drops = |counts: &BTreeMap<String, edgefilter_tests::programs::Count>| -> u64 {
            counts
                .iter()
                .filter(|(reason, _)| reason.starts_with("drop_"))
                .map(|(_, count)| count.packets)
                .sum()
        };
        let counted = drops(&after) - drops(&before.by_reason());
        if counted < refused as u64 {
            bail!("{refused} frames were refused, but only {counted} drops are counted: {after:?}");
        }
    }
    Ok(())
}
