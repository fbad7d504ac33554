//! Compares the program with the oracle on as many packets as asked for:
//! `cargo run --release -p tests --bin oracle -- --packets 10000000 --seed 1`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edgefilter_tests::test_run::campaign::{Campaign, Progress};

const USAGE: &str = "usage: oracle [--packets N] [--seed N] [--frames N] [--workers N]\n\
    Compares --packets (1000000) under random policies, --frames (500) for each, seeds from --seed (1) on,\n\
    in --workers (4) threads. The same numbers compare the same packets.";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut campaign = Campaign {
        seed: 1,
        packets: 1_000_000,
        frames: 500,
        fixtures: Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"),
        enough: 10,
        workers: 4,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            println!("{USAGE}");
            return Ok(true);
        }
        let value = arguments
            .next()
            .with_context(|| format!("{argument} needs a number\n{USAGE}"))?;
        let value =
            number(&value).with_context(|| format!("{argument} {value}: not a number\n{USAGE}"))?;
        match argument.as_str() {
            "--packets" => campaign.packets = value,
            "--seed" => campaign.seed = value,
            "--workers" => campaign.workers = usize::try_from(value)?,
            "--frames" => campaign.frames = usize::try_from(value)?,
            other => bail!("{other} is unknown\n{USAGE}"),
        }
    }
    let said = Mutex::new(Instant::now());
    let done = campaign.run(|progress: &Progress| {
        if let Ok(mut said) = said.lock()
            && said.elapsed() > Duration::from_secs(5)
        {
            eprintln!("{}", progress.line());
            *said = Instant::now();
        }
    })?;
    for text in &done.disagreements {
        println!("{text}");
    }
    println!("seed {:#x}: {}", campaign.seed, done.line());
    Ok(done.disagreements.is_empty() && done.judged > 0)
}

/// Decimal, or `0x` and hex digits.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
