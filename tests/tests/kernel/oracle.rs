//! The real programs against the independent oracle, on random packets under random policies, and
//! on every packet they ever disagreed about.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::oracle::case::Case;
use edgefilter_tests::test_run::campaign::Campaign;
use edgefilter_tests::test_run::{Filter, can_run, replay, replay::describe};

/// The first seed, the same in every run.
const SEED: u64 = 0x00ed_6ef1_17e2;

/// Packets compared in every run.
const PACKETS: u64 = 200_000;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn from_environment(name: &str, default: u64) -> Result<u64> {
    let Ok(text) = std::env::var(name) else {
        return Ok(default);
    };
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.with_context(|| format!("{name}={text} is no number"))
}

#[test]
fn program_and_oracle_agree() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let campaign = Campaign {
        seed: from_environment("EDGEFILTER_SEED", SEED)?,
        packets: from_environment("EDGEFILTER_PACKETS", PACKETS)?,
        frames: 500,
        fixtures: fixtures(),
        enough: 5,
        workers: 4,
    };
    let done = campaign.run(|_| {})?;
    eprintln!("seed {:#x}: {}", campaign.seed, done.line());
    ensure!(
        done.disagreements.is_empty(),
        "EDGEFILTER_SEED={:#x}: {}\n{}",
        campaign.seed,
        done.line(),
        done.disagreements.join("\n")
    );
    ensure!(
        done.judged >= campaign.packets,
        "only {} packets",
        done.judged
    );
    Ok(())
}

#[test]
fn past_disagreements_stay_settled() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = Filter::load()?;
    let cases = Case::load_all(&fixtures())?;
    ensure!(!cases.is_empty(), "no fixture in {}", fixtures().display());
    let mut wrong = Vec::new();
    for (path, case) in &cases {
        let replay = replay(&mut filter, case).with_context(|| path.display().to_string())?;
        if let Some(found) = &replay.disagreement {
            wrong.push(format!("{}\n{}", path.display(), describe(case, found)));
        }
    }
    eprintln!("{} fixtures replayed", cases.len());
    ensure!(
        wrong.is_empty(),
        "{} fixtures:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}
