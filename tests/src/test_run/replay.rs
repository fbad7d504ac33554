//! A case through oracle and program side by side, and what to do where they disagree: shrink it,
//! keep it, say it. Must never decide who is right.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::clock;
use super::filter::Filter;
use crate::oracle::case::{Case, Direction, Step};
use crate::oracle::{Outcome, parse};
use crate::random::SHORTEST;
use crate::random::shrink::{fixture_name, shrink};

/// Attempts at making a failing case smaller.
const SHRINK_BUDGET: usize = 3000;

/// The programs' clock goes on while frames run, so a little less is added; cases count in seconds.
const SLACK_MS: u64 = 100;

/// A packet that oracle (or table) and program judge differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Which frame of the case.
    pub step: usize,
    /// What the oracle, or the hand-written table, says.
    pub expected: String,
    /// What the program did.
    pub got: String,
}

/// How a replay went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Frames judged and compared.
    pub judged: u64,
    /// Those of them that leave.
    pub sent: u64,
    /// Frames left out: too short for the kernel to run a program on, or ones that no stack sends.
    pub refused: u64,
    /// The first disagreement.
    pub disagreement: Option<Disagreement>,
    /// The case needs stamps from before the machine started, so it was not replayed.
    pub too_old: bool,
}

fn outcome_text(outcome: &Outcome) -> String {
    text(
        outcome.reason,
        outcome.rule.as_deref(),
        outcome.pass,
        outcome.would_drop,
    )
}

fn text(reason: &str, rule: Option<&str>, pass: bool, would_drop: bool) -> String {
    let action = if pass { "passes" } else { "dropped" };
    let would = if would_drop { " (would_drop)" } else { "" };
    format!("{reason}{would} {action} rule {}", rule.unwrap_or("-"))
}

/// Whether a stack would make the frame: IP lengths that agree with the frame's end. Where a packet has an skb already
/// the programs do not ask for that, since one that is yet to be segmented may be longer than any length field can say;
/// the oracle does.
fn sendable(frame: &[u8]) -> bool {
    match parse::link(frame).content {
        Ok((0x0800, bytes)) => {
            parse::ipv4(bytes).is_ok()
                && usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) == bytes.len()
        }
        Ok((0x86dd, bytes)) => {
            parse::ipv6(bytes).is_ok()
                && usize::from(u16::from_be_bytes([bytes[4], bytes[5]])) + 40 == bytes.len()
        }
        _ => true,
    }
}

/// Replays a case from empty tables up to its first disagreement.
///
/// # Errors
/// When the policy is refused, or the kernel fails otherwise.
pub fn replay(filter: &mut Filter, case: &Case) -> Result<Replay> {
    let mut result = Replay::default();
    let last = case.steps.iter().map(|step| step.at_ms).max().unwrap_or(0);
    if last > 0 && !clock::reaches_back(last)? {
        result.too_old = true;
        return Ok(result);
    }
    filter.push(&case.policy, &case.world)?;
    let left_out = |step: &Step, filter: &Filter| {
        let skb = step.direction == Direction::Egress || filter.guards_container();
        step.frame.len() < SHORTEST || (skb && !sendable(&step.frame))
    };
    let mut positions = Vec::with_capacity(case.steps.len());
    let mut possible = case.clone();
    possible.steps.clear();
    for (index, step) in case.steps.iter().enumerate() {
        if left_out(step, filter) {
            result.refused += 1;
        } else {
            positions.push(index);
            possible.steps.push(step.clone());
        }
    }
    let outcomes = possible
        .outcomes()
        .map_err(|error| anyhow!("the oracle cannot read the policy: {error}"))?;
    filter.clear_flows()?;
    filter.clear_fragments()?;
    if case.policy.contains("rate") {
        filter.clear_rates()?;
    }
    let mut at = 0;
    for (index, (step, outcome)) in positions
        .into_iter()
        .zip(possible.steps.iter().zip(&outcomes))
    {
        if step.at_ms > at {
            filter.advance((step.at_ms - at).saturating_sub(SLACK_MS))?;
            at = step.at_ms;
        }
        let expected = outcome_text(outcome);
        let expected = match &step.expected {
            Some(reason) if !step.agrees(outcome) => {
                format!("{reason} by the table, {expected} by the oracle")
            }
            _ => expected,
        };
        let ran = match step.direction {
            Direction::Ingress => filter.arriving(&step.interface, &step.frame),
            Direction::Egress => filter.leaving(&step.frame),
        };
        let got = match ran {
            Ok(None) => {
                result.refused += 1;
                continue;
            }
            Ok(Some(verdict)) => text(
                verdict.reason.name(),
                verdict.rule.as_deref(),
                verdict.pass,
                verdict.would_drop,
            ),
            Err(error) => format!("{error:#}"),
        };
        result.judged += 1;
        result.sent += u64::from(step.direction == Direction::Egress);
        if got != expected {
            result.disagreement = Some(Disagreement {
                step: index,
                expected,
                got,
            });
            // a packet counted wrongly must not be blamed on the next one
            filter.forgive()?;
            return Ok(result);
        }
    }
    if let Err(error) = filter.settle() {
        let expected = "no counter moves after the last packet".to_owned();
        let step = case.steps.len().saturating_sub(1);
        result.disagreement = Some(Disagreement {
            step,
            expected,
            got: format!("{error:#}"),
        });
    }
    Ok(result)
}

/// Shrinks a case that disagrees, keeps it in `directory`, and describes it.
///
/// # Errors
/// When it cannot be kept.
pub fn keep(filter: &mut Filter, case: &Case, directory: &Path) -> Result<(PathBuf, String)> {
    let small = shrink(case, SHRINK_BUDGET, &mut |candidate| {
        replay(filter, candidate).is_ok_and(|replay| replay.disagreement.is_some())
    });
    let path = small.save(directory, &fixture_name(&small))?;
    let mut report = format!("seed {}, shrunk to {}\n", case.seed, path.display());
    match replay(filter, &small) {
        Ok(Replay {
            disagreement: Some(found),
            ..
        }) => report += &describe(&small, &found),
        other => writeln!(report, "the shrunk case does not fail again: {other:?}")?,
    }
    Ok((path, report))
}

/// A disagreement for people.
#[must_use]
pub fn describe(case: &Case, found: &Disagreement) -> String {
    let mut lines = vec![
        "policy:".to_owned(),
        case.policy.trim().to_owned(),
        "frames:".to_owned(),
    ];
    for (index, step) in case.steps.iter().enumerate().take(found.step + 1) {
        let way = match step.direction {
            Direction::Ingress => "in ",
            Direction::Egress => "out",
        };
        let (at, hex) = (step.at_ms, hex(&step.frame));
        lines.push(format!("  {index:3} {way} +{at} ms {hex}"));
    }
    lines.push(format!("frame {}:", found.step));
    lines.push(format!("  expected {}", found.expected));
    lines.push(format!("  got      {}", found.got));
    lines.join("\n") + "\n"
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from_digit(digit.into(), 16).unwrap_or('?'))
        .collect()
}
