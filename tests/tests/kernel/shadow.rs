//! The shadow says of every packet what the program then does, and leaves no trace; it says so of a staged policy too.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::oracle::table;
use edgefilter_tests::packets::{Ipv4, Tcp, Udp, link};
use edgefilter_tests::random::world;
use edgefilter_tests::test_run::filter::assignments;
use edgefilter_tests::test_run::{Filter, can_run, replay, replay::describe};
use filter_common::reason::Reason;
use filter_user::dataplane::{Hook, Place, PolicyMark, TcProgram, XdpProgram};

use crate::{CLOSED, OWN, REMOTE, WEB, filter};

const LO: Place = Place {
    ifindex: 1,
    hook: Hook::Xdp(XdpProgram::In),
};
const OUT: Place = Place {
    ifindex: 1,
    hook: Hook::Tc(TcProgram::Out),
};

#[test]
fn the_shadow_says_before_what_the_table_shows_then() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = Filter::load()?;
    filter.ask_shadow();
    let (mut wrong, mut reasons) = (Vec::new(), BTreeSet::new());
    for case in table::cases() {
        let replay = replay(&mut filter, &case)?;
        if let Some(found) = &replay.disagreement {
            wrong.push(format!("{}\n{}", case.description, describe(&case, found)));
        }
    }
    let counted = filter.reasons()?;
    reasons.extend(
        counted
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, _)| *name),
    );
    ensure!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let all = Reason::ALL.iter().map(|reason| reason.name());
    let missing: Vec<_> = all
        // counted in the slot of interfaces without a profile; the rate is below
        .filter(|name| !["pass_unmanaged", "drop_rate"].contains(name))
        .filter(|name| !reasons.contains(name))
        .collect();
    ensure!(missing.is_empty(), "no case of the table shows {missing:?}");
    Ok(())
}

#[test]
fn a_rate_is_used_up_by_packets_and_not_by_questions() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    for rate in [
        "rate = { packets = 1, burst = 3 }",
        "rate_per_source = { packets = 1, burst = 3 }",
    ] {
        let policy = format!(
            "{CLOSED}[[profiles.edge.allow]]\nid = \"dns\"\nprotocol = \"udp\"\nports = [53]\n{rate}\n"
        );
        let mut filter = filter(&policy)?;
        let frame = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Udp::new(5000, 53)));
        for _ in 0..50 {
            let judged = filter.dataplane().shadow()?.judge_now(LO, &frame)?;
            ensure!(judged.reason == Reason::PassRule, "{rate}: {judged:?}");
        }
        filter.settle()?;
        filter.ask_shadow();
        for packet in 0..6 {
            let verdict = filter.ingress(&frame)?;
            ensure!(verdict.pass == (packet < 3), "{rate}: {verdict:?}");
        }
    }
    Ok(())
}

#[test]
fn a_question_leaves_no_flow_and_finds_those_there_are() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let asks = link().ipv4(&Ipv4::new(OWN, REMOTE).with(&Udp::new(40000, 53)));
    let answer = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Udp::new(53, 40000)));
    let flows = filter.flows()?;
    let shadow = filter.dataplane().shadow()?;
    ensure!(shadow.judge_now(OUT, &asks)?.reason == Reason::PassEgress);
    ensure!(shadow.judge_now(LO, &answer)?.reason == Reason::DropPort);
    ensure!(filter.flows()? == flows, "the question was noted");
    ensure!(filter.egress(&asks)?);
    let judged = filter.dataplane().shadow()?.judge_now(LO, &answer)?;
    ensure!(judged.reason == Reason::PassReply, "{judged:?}");
    let (key, _) = judged.flow.context("the flow is named")?;
    ensure!((key.local_port, key.remote_port) == (40000, 53), "{key:?}");
    filter.clear_flows()?;
    let judged = filter.dataplane().shadow()?.judge_now(LO, &answer)?;
    ensure!(judged.reason == Reason::DropPort, "forgotten: {judged:?}");
    Ok(())
}

#[test]
fn a_staged_policy_is_judged_by_before_it_is_in_force() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let (policy, compiled) = filter.compile(CLOSED, &world())?;
    let assignments = assignments(&policy);
    let frame = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Tcp::syn(50000, 443)));
    let dataplane = filter.dataplane();
    let staged = dataplane.stage(&compiled, &assignments, PolicyMark::default())?;
    let shadow = dataplane.shadow()?;
    let then = shadow.judge(staged.generation(), LO, &frame)?;
    ensure!(then.reason == Reason::DropPort && !then.passes, "{then:?}");
    let now = shadow.judge_now(LO, &frame)?;
    ensure!(now.reason == Reason::PassRule && now.passes, "{now:?}");
    filter.settle()?;
    ensure!(filter.ingress(&frame)?.pass, "the policy in force stays");
    Ok(())
}

#[test]
fn a_block_counts_for_the_shadow_at_once() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let frame = link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Tcp::syn(50000, 443)));
    let source = format!("{REMOTE}/32").parse()?;
    let reason = |filter: &mut Filter| -> Result<Reason> {
        Ok(filter.dataplane().shadow()?.judge_now(LO, &frame)?.reason)
    };
    ensure!(reason(&mut filter)? == Reason::PassRule);
    filter.block(source, Duration::from_mins(1))?;
    ensure!(reason(&mut filter)? == Reason::DropBlocked);
    filter.unblock(source)?;
    ensure!(reason(&mut filter)? == Reason::PassRule);
    filter.settle()
}
