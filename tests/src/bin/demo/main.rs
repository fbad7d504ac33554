//! `cargo xtask demo` runs this: the main job on real traffic, in throw-away namespaces, as one table.
//!
//! Owns the order of events: filter on, daemon killed, daemon restarted, and the same checks after
//! each; then a scan. Builds nothing (the caller did), and must never touch the machine's own network.

mod report;
mod scan;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edgefilter_tests::netns::{Edge, sweep};
use edgefilter_tests::programs::echo::{Conversations, Echo};
use edgefilter_tests::programs::{self, Counters, Edgefilter};

use report::{Fact, Report};
use traffic::{Services, topology_addresses as at};

/// What the demo runs; all are installed by `cargo xtask setup`.
const PROGRAMS: &[&str] = &[
    "ip", "nsenter", "nft", "ping", "nginx", "python3", "curl", "dnsmasq", "dig", "nmap",
];
/// A port no rule opens, on which connections exist before the filter is switched on.
const LIVE_PORT: u16 = 9000;
const LIVE_CONNECTIONS: usize = 10;

fn main() -> ExitCode {
    let mut json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            other => {
                eprintln!("demo: unknown argument {other:?}; it takes --json");
                return ExitCode::from(2);
            }
        }
    }
    match run(json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Runs the demo and prints its table. Returns whether everything came out as expected.
fn run(json: bool) -> Result<bool> {
    if let Some(missing) = programs::missing(PROGRAMS) {
        bail!("demo: {missing}, or run `cargo xtask setup`");
    }
    let begin = Instant::now();
    let mut report = show(begin)?;
    report.seconds = begin.elapsed().as_secs_f64();
    if json {
        println!("{}", serde_json::to_string_pretty(&report.to_json())?);
    } else {
        print!("{report}");
    }
    Ok(report.agrees())
}

fn show(begin: Instant) -> Result<Report> {
    let say = |line: &str| eprintln!("[{:5.1} s] {line}", begin.elapsed().as_secs_f64());
    let policy = shipped_policy()?;
    for name in sweep() {
        say(&format!("removed {name}, left by a run that was killed"));
    }

    say(
        "namespaces: client --- host (filter, services) --- inner (a container behind masquerading)",
    );
    let edge = Edge::standard()?;
    let _services = Services::start(&edge)?;
    let _live_service = Echo::tcp(&edge.host, LIVE_PORT)?;
    let live = Conversations::tcp(&edge.client, at::HOST_V4, LIVE_PORT, LIVE_CONNECTIONS)?;

    say("starting the daemon with configs/edge.toml");
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, &policy)?;
    let ready = daemon.start()?;
    let filtered = daemon.filtering();
    let mut report = Report::new(filtered);

    say(&format!(
        "filter on after {} ms; checks, first time",
        ready.as_millis()
    ));
    report.phase("filter on", traffic::checks(&edge)?);
    let before_kill = daemon.counters()?;

    say("SIGKILL to the daemon; the same checks again");
    daemon.sigkill()?;
    if filtered {
        let code = daemon.cli(&["status", "--json"])?.code();
        report.fact(Fact::equal(
            "daemon is gone: exit code of `edgefilter status`",
            "3",
            &code.to_string(),
        ));
    }
    report.phase("daemon killed", traffic::checks(&edge)?);

    say("daemon restarted; the same checks again");
    daemon.start()?;
    let after_restart = daemon.counters()?;
    report.phase("restarted", traffic::checks(&edge)?);

    if filtered {
        say("a neighbour of the client scans 200 ports with nmap");
        for fact in scan::show(&edge, &daemon)? {
            report.fact(fact);
        }
    }

    let rounds = live.rounds();
    let outcome = live.finish()?;
    report.fact(Fact::new(
        format!("{LIVE_CONNECTIONS} connections opened before the filter"),
        "none lost",
        match outcome.lost.first() {
            None => format!("none lost in {rounds} rounds"),
            Some(first) => format!("{} lost: {first}", outcome.lost.len()),
        },
        outcome.lost.is_empty() && rounds > 0,
    ));
    let counters = daemon.counters()?;
    if filtered {
        counter_facts(&mut report, &before_kill, &after_restart, &counters);
        daemon.detach()?;
        report.fact(open_again(&edge)?);
        // Ends by itself after a detach, or is told to now.
        let _ = daemon.terminate();
    }
    report.counters = counters;
    say("done");
    Ok(report)
}

/// What the counters have to say about the traffic that was made.
fn counter_facts(
    report: &mut Report,
    before_kill: &Counters,
    after_restart: &Counters,
    last: &Counters,
) {
    let back = after_restart.went_back(before_kill);
    report.fact(Fact::new(
        "counters over kill and restart",
        "go on",
        if back.is_empty() {
            "go on".to_owned()
        } else {
            back.join("; ")
        },
        back.is_empty(),
    ));
    // Refused while nobody was watching: the filter counts by itself.
    let (then, now) = (
        before_kill.packets("drop_port"),
        after_restart.packets("drop_port"),
    );
    report.fact(Fact::new(
        "drops counted while the daemon was dead",
        "more than 0",
        now.saturating_sub(then).to_string(),
        now > then,
    ));
    for reason in [
        "pass_rule",
        "pass_reply",
        "pass_control",
        "drop_port",
        "drop_source",
        "drop_martian",
    ] {
        let packets = last.packets(reason);
        report.fact(Fact::new(
            format!("counter {reason}"),
            "more than 0",
            packets.to_string(),
            packets > 0,
        ));
    }
    report.fact(Fact::equal(
        "counter drop_malformed",
        "0",
        &last.packets("drop_malformed").to_string(),
    ));
}

/// After `detach` a port that was refused is open: the filter was what refused it.
fn open_again(edge: &Edge) -> Result<Fact> {
    let (seen, _) = programs::curl(
        &edge.client,
        &programs::http::url(at::HOST_V4, traffic::CLOSED_PORT),
        Duration::from_secs(5),
    )?;
    Ok(Fact::equal(
        "after `edgefilter detach`: the refused port",
        "works",
        &seen.to_string(),
    ))
}

fn shipped_policy() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/edge.toml");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
