//! Rate limits: a burst, then the rate; each source by itself.

use std::time::Instant;

use anyhow::{Result, ensure};
use edgefilter_tests::packets::{Ipv4, Udp, link};
use edgefilter_tests::test_run::{Filter, can_run};

use crate::{CLOSED, OWN, filter};

fn dns(source: [u8; 4]) -> Vec<u8> {
    let source = std::net::Ipv4Addr::from(source).to_string();
    link().ipv4(&Ipv4::new(&source, OWN).with(&Udp::new(5000, 53)))
}

fn limited(rates: &str) -> String {
    format!(
        "{CLOSED}[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]\n{rates}\n"
    )
}

/// Sends `count` packets; returns how many passed.
fn send(filter: &mut Filter, source: [u8; 4], count: usize) -> Result<usize> {
    let mut passed = 0;
    for _ in 0..count {
        let verdict = filter.ingress(&dns(source))?;
        let reason = verdict.reason.name();
        ensure!(
            reason == "pass_rule" || reason == "drop_rate",
            "{verdict:?}"
        );
        ensure!(verdict.rule.as_deref() == Some("dns"), "{verdict:?}");
        passed += usize::from(verdict.pass);
    }
    Ok(passed)
}

#[test]
fn a_burst_passes_and_the_rest_waits_for_the_rate() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    // so slow that the test itself takes no time
    let mut filter = filter(&limited("rate = { packets = 1, burst = 5 }"))?;
    ensure!(
        send(&mut filter, [203, 0, 113, 1], 3)? == 3,
        "inside the burst"
    );
    ensure!(
        send(&mut filter, [203, 0, 113, 2], 10)? == 2,
        "all sources share the burst"
    );
    filter.advance(1000)?;
    ensure!(
        send(&mut filter, [203, 0, 113, 3], 10)? == 1,
        "one second is one packet"
    );
    filter.advance(10_000)?;
    ensure!(
        send(&mut filter, [203, 0, 113, 3], 10)? == 5,
        "ten quiet seconds give the burst again, no more"
    );
    filter.settle()
}

#[test]
fn each_source_has_its_own_limit() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(&limited("rate_per_source = { packets = 1, burst = 3 }"))?;
    // one source far over its limit takes nothing from the others
    ensure!(
        send(&mut filter, [198, 18, 0, 1], 1000)? == 3,
        "the flooding source"
    );
    for host in 0..200 {
        let passed = send(&mut filter, [203, 0, 113, host], 4)?;
        ensure!(passed == 3, "source {host}: {passed} of 4");
    }
    filter.settle()
}

#[test]
fn both_limits_hold_together() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let both = "rate = { packets = 1, burst = 10 }\nrate_per_source = { packets = 1, burst = 2 }";
    let mut filter = filter(&limited(both))?;
    let mut passed = Vec::new();
    for host in 1..=8 {
        passed.push(send(&mut filter, [203, 0, 113, host], 2)?);
    }
    ensure!(passed == [2, 2, 2, 2, 2, 0, 0, 0], "{passed:?}");
    Ok(())
}

#[test]
fn a_limit_is_by_rule() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let other = "rate = { packets = 1, burst = 1 }\n[[profiles.edge.allow]]\nid = \"ntp\"\nprotocol = \"udp\"\nports = [123]";
    let mut filter = filter(&limited(other))?;
    ensure!(
        send(&mut filter, [203, 0, 113, 1], 5)? == 1,
        "the limited rule"
    );
    let ntp = link().ipv4(&Ipv4::new("203.0.113.1", OWN).with(&Udp::new(5000, 123)));
    for _ in 0..100 {
        ensure!(filter.ingress(&ntp)?.pass, "a rule without a limit");
    }
    Ok(())
}

#[test]
fn raised_limits_hold_at_once() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    // the slow limits leave their mark more than a minute ahead
    for (name, slow, fast) in [
        (
            "all sources",
            "rate = { packets = 1, burst = 100 }",
            "rate = { packets = 10, burst = 10 }",
        ),
        (
            "each source",
            "rate_per_source = { packets = 1, burst = 100 }",
            "rate_per_source = { packets = 10, burst = 10 }",
        ),
    ] {
        let source = [203, 0, 113, 1];
        let mut filter = filter(&limited(slow))?;
        let burst = send(&mut filter, source, 100)?;
        ensure!(burst == 100, "{name}: a burst of {burst}");
        filter.push(&limited(fast), &edgefilter_tests::random::world())?;
        let start = Instant::now();
        let passed = send(&mut filter, source, 1)?;
        ensure!(passed == 1, "{name}: the raised limit stays shut");
        filter.advance(500)?;
        let passed = send(&mut filter, source, 50)?;
        // a slow machine takes its time, and that counts as well
        let most = 7 + start.elapsed().as_millis() as usize / 100;
        ensure!(
            (4..=most).contains(&passed),
            "{name}: {passed} packets in half a second at ten a second"
        );
    }
    Ok(())
}
