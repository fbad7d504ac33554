//! Policy swaps under packets: every packet is judged by one policy or the other, never by a mixture.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use edgefilter_tests::packets::{Ipv4, Tcp, link};
use edgefilter_tests::random::world;
use edgefilter_tests::test_run::can_run;
use edgefilter_tests::test_run::filter::{Filter, assignments};
use filter_user::dataplane::test_run::{TestRun, test_run};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::{OWN, filter};

const SWAPS: u64 = 1000;

/// Runs of the program in one call: few, since a swap waits for the call to end.
const REPEAT: u32 = 64;

/// `first` lets 203.0.113.0/24 in; the other policy denies it. The lists before make every class
/// number, matrix place and rule slot differ, so that a mixture of two banks gives a third verdict.
const FIRST: &str = r#"
version = 1
[profiles.edge]
interfaces = ["lo"]
[[profiles.edge.allow]]
id = "first"
protocol = "tcp"
ports = [443]
from = ["203.0.113.0/24"]
"#;

const SECOND: &str = r#"
version = 1
[profiles.edge]
interfaces = ["lo"]
[[profiles.edge.deny]]
id = "second"
from = ["203.0.113.0/25"]
[[profiles.edge.deny]]
id = "telnet"
protocol = "tcp"
ports = [23]
from = ["10.0.0.0/8", "203.0.112.0/24"]
[[profiles.edge.allow]]
id = "other"
protocol = ["tcp", "udp"]
ports = ["100-200", 442, 444]
from = ["192.168.0.0/16", "203.0.113.128/25"]
to = "self"
[[profiles.edge.allow]]
id = "web-elsewhere"
protocol = "tcp"
ports = [443]
from = ["198.18.0.0/15"]
"#;

#[test]
fn every_packet_is_judged_by_one_policy_or_the_other() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(FIRST)?;
    let frame = link().ipv4(&Ipv4::new("203.0.113.9", OWN).with(&Tcp::syn(40_000, 443)));
    ensure!(
        filter.ingress(&frame)?.rule.as_deref() == Some("first"),
        "under the first"
    );
    filter.push(SECOND, &world())?;
    let verdict = filter.ingress(&frame)?;
    ensure!(
        verdict.rule.as_deref() == Some("second") && !verdict.pass,
        "under the second: {verdict:?}"
    );

    let policies = [
        compiled(&mut filter, FIRST)?,
        compiled(&mut filter, SECOND)?,
    ];
    let generation = filter.dataplane().generation()?;
    let before = filter.reasons()?;
    let program = filter.ingress_program()?.try_clone_to_owned()?;
    let stop = Arc::new(AtomicBool::new(false));
    let runs = Arc::new(AtomicU64::new(0));
    let stream = {
        let (stop, runs, frame) = (Arc::clone(&stop), Arc::clone(&runs), frame.clone());
        // a thread of this one, so in its namespace
        thread::spawn(move || {
            on_any_cpu()?;
            stream(&program, &frame, &stop, &runs)
        })
    };
    let mut during = 0;
    for swap in 0..SWAPS {
        let (compiled, assignments) = &policies[(swap % 2) as usize];
        let seen = runs.load(Ordering::Relaxed);
        filter.dataplane().push(
            compiled,
            assignments,
            filter_user::dataplane::PolicyMark::default(),
        )?;
        during += u64::from(runs.load(Ordering::Relaxed) > seen);
    }
    stop.store(true, Ordering::Relaxed);
    let passed = stream
        .join()
        .map_err(|_| anyhow!("the stream panicked"))??;
    let total = runs.load(Ordering::Relaxed);
    let swaps = filter.dataplane().generation()? - generation;
    ensure!(swaps == SWAPS, "{swaps} swaps are counted");

    let after = filter.reasons()?;
    let moved = |reason: &str| after[reason] - before[reason];
    let (allowed, denied) = (moved("pass_rule"), moved("drop_denied"));
    let all: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    ensure!(all == total, "{total} packets, {all} counted");
    ensure!(
        allowed + denied == total,
        "{total} packets, {allowed} by the first and {denied} by the second policy"
    );
    ensure!(
        allowed > 0 && denied > 0,
        "only one policy judged: {allowed} and {denied}"
    );
    // one packet under each before the stream
    ensure!(
        filter.rule_packets("first")? == allowed + 1,
        "hits of the first policy's rule"
    );
    ensure!(
        filter.rule_packets("second")? == denied + 1,
        "hits of the second policy's rule"
    );
    eprintln!(
        "{swaps} swaps under {total} packets: {allowed} judged by the first policy, {denied} by the second; \
         packets ran during {during} swaps; calls that ended with a pass: {passed}"
    );
    ensure!(during > SWAPS / 4, "packets ran during {during} swaps only");
    Ok(())
}

/// Undoes the pinning that a thread takes over: packets and swaps are to run beside each other.
fn on_any_cpu() -> Result<()> {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &all)?)
}

type Ready = (
    filter_user::compile::Compiled,
    Vec<filter_user::dataplane::Assignment>,
);

fn compiled(filter: &mut Filter, text: &str) -> Result<Ready> {
    let (policy, compiled) = filter.compile(text, &world())?;
    let assignments = assignments(&policy);
    Ok((compiled, assignments))
}

/// Runs packets until told to stop; returns how many calls ended with a pass.
fn stream(program: &OwnedFd, frame: &[u8], stop: &AtomicBool, runs: &AtomicU64) -> Result<u64> {
    let mut passed = 0;
    while !stop.load(Ordering::Relaxed) {
        let ran = test_run(
            program.as_fd(),
            TestRun {
                repeat: REPEAT,
                ..TestRun::once(frame)
            },
        )?;
        ensure!(ran.value == 1 || ran.value == 2, "XDP action {}", ran.value);
        passed += u64::from(ran.value == 2);
        runs.fetch_add(REPEAT.into(), Ordering::Relaxed);
    }
    Ok(passed)
}
