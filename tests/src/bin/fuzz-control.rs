//! Sends as many bad requests to a daemon's control socket as asked for, and looks what became of the daemon:
//! `cargo run --release -p tests --bin fuzz-control -- --requests 1000000 --seed 1`

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edgefilter_tests::control::fuzz::{self, Campaign};
use edgefilter_tests::control::{operations, socket};
use edgefilter_tests::netns::Edge;
use edgefilter_tests::programs::Edgefilter;

const USAGE: &str = "usage: fuzz-control [--requests N] [--seed N] [--workers N]\n\
    Starts a daemon in a network namespace and sends it --requests (1000000), made from --seed (1), from --workers (4)\n\
    threads. The same numbers make the same requests. Needs root and a built edgefilter.";
const POLICY: &str = "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n";
const SETTINGS: &str = "\
[roles.viewer]
users = [\"#61001\"]
[roles.operator]
users = [\"#61002\"]
[roles.admin]
users = [\"#61003\"]
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut requests, mut seed, mut workers) = (1_000_000, 1, 4);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            println!("{USAGE}");
            return Ok(());
        }
        let value = arguments
            .next()
            .with_context(|| format!("{argument} needs a number\n{USAGE}"))?;
        let value = value
            .parse()
            .with_context(|| format!("{argument} {value}: not a number\n{USAGE}"))?;
        match argument.as_str() {
            "--requests" => requests = value,
            "--seed" => seed = value,
            "--workers" => workers = value,
            other => bail!("{other} is unknown\n{USAGE}"),
        }
    }
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, POLICY)?;
    daemon.settings(&edge.scratch, SETTINGS)?;
    daemon.start()?;
    let campaign = Campaign {
        socket: socket(daemon.run_dir()?),
        operations: operations::all(&filter_user::control::openapi())?,
        seed,
        requests,
        workers: workers.max(1),
    };
    let (begin, said) = (Instant::now(), Mutex::new(Instant::now()));
    let report = fuzz::judge(&daemon, &campaign, |outcome| {
        if let Ok(mut said) = said.lock()
            && said.elapsed() > Duration::from_secs(5)
        {
            eprintln!("{}", outcome.line());
            *said = Instant::now();
        }
    })?;
    println!(
        "seed {seed:#x}, {:.0} s: {}",
        begin.elapsed().as_secs_f64(),
        report.line()
    );
    Ok(())
}
