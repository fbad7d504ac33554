//! Many random cases, one seed after the other, until enough packets were compared.
//! Owns the seeds' order: a base seed and a number of packets are the whole description of a run.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::filter::Filter;
use super::replay::{keep, replay};
use crate::random;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Seed of the first case; the next has the next number.
    pub seed: u64,
    /// Received frames to compare, at least.
    pub packets: u64,
    /// Frames of a case, at least.
    pub frames: usize,
    /// Where disagreements are kept.
    pub fixtures: PathBuf,
    /// Disagreements after which to stop.
    pub enough: usize,
}

/// How it went so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Received frames compared.
    pub judged: u64,
    /// Sent frames.
    pub sent: u64,
    /// Frames left out, see `Replay`.
    pub refused: u64,
    /// Policies.
    pub policies: u64,
    /// Disagreements, described.
    pub disagreements: Vec<String>,
    /// Time since the start.
    pub elapsed: Duration,
}

impl Progress {
    /// Compared packets a second, everything included.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.judged as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{} packets compared ({} sent, {} left out) under {} policies in {:.1} s, {:.0} a second: \
             {} disagreements",
            self.judged,
            self.sent,
            self.refused,
            self.policies,
            self.elapsed.as_secs_f64(),
            self.rate(),
            self.disagreements.len()
        )
    }
}

impl Campaign {
    /// Runs it; `report` hears of the progress after every case.
    ///
    /// # Errors
    /// When the filter cannot be loaded or a policy is refused.
    pub fn run(&self, mut report: impl FnMut(&Progress)) -> Result<Progress> {
        let start = Instant::now();
        let mut filter = Filter::load()?;
        let mut progress = Progress::default();
        let mut seed = self.seed;
        while progress.judged < self.packets && progress.disagreements.len() < self.enough {
            let case = random::case(seed, self.frames);
            let replay = replay(&mut filter, &case)
                .map_err(|error| error.context(format!("seed {seed:#x}, policy:\n{}", case.policy)))?;
            progress.judged += replay.judged;
            progress.sent += replay.sent;
            progress.refused += replay.refused;
            progress.policies += 1;
            if replay.disagreement.is_some() {
                let (_, text) = keep(&mut filter, &case, &self.fixtures)?;
                progress.disagreements.push(text);
            }
            progress.elapsed = start.elapsed();
            report(&progress);
            seed = seed.wrapping_add(1);
        }
        Ok(progress)
    }
}
