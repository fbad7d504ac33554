//! Many random cases, one seed after the other, until enough packets were compared.
//! Owns the seeds' order: a base seed and a number of packets are the whole description of a run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::filter::Filter;
use super::replay::{keep, replay};
use crate::random;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Seed of the first case; the next has the next number.
    pub seed: u64,
    /// Frames to compare, at least.
    pub packets: u64,
    /// Frames of a case, at least.
    pub frames: usize,
    /// Where disagreements are kept.
    pub fixtures: PathBuf,
    /// Disagreements after which to stop.
    pub enough: usize,
    /// Threads, each with a filter of its own.
    pub workers: usize,
}

/// How it went so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Frames compared.
    pub judged: u64,
    /// Those of them that leave.
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
            "{} packets compared ({} of them leaving, {} left out) under {} policies in {:.1} s, {:.0} a second: \
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
    /// Runs it; `report` hears of the progress now and then.
    ///
    /// # Errors
    /// When the filter cannot be loaded or a policy is refused.
    pub fn run(&self, report: impl Fn(&Progress) + Sync) -> Result<Progress> {
        let start = Instant::now();
        let shared = Mutex::new(Progress::default());
        let seeds = AtomicU64::new(0);
        let worker = || -> Result<()> {
            let mut filter = Filter::load()?;
            while !self.finished(&lock(&shared)) {
                let seed = self
                    .seed
                    .wrapping_add(seeds.fetch_add(1, Ordering::Relaxed));
                self.one(seed, &mut filter, &shared)?;
                let mut progress = lock(&shared);
                progress.elapsed = start.elapsed();
                report(&progress);
            }
            Ok(())
        };
        // a push waits for a grace period of the kernel, so one thread leaves its CPU idle
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers.max(1))
                .map(|_| scope.spawn(worker))
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
        })?;
        shared
            .into_inner()
            .map_err(|_| anyhow!("a worker panicked"))
    }

    fn finished(&self, progress: &Progress) -> bool {
        progress.judged >= self.packets || progress.disagreements.len() >= self.enough
    }

    fn one(&self, seed: u64, filter: &mut Filter, shared: &Mutex<Progress>) -> Result<()> {
        let case = random::case(seed, self.frames);
        let replay = replay(filter, &case)
            .map_err(|error| error.context(format!("seed {seed:#x}, policy:\n{}", case.policy)))?;
        let disagreement = match replay.disagreement {
            Some(_) => Some(keep(filter, &case, &self.fixtures)?.1),
            None => None,
        };
        let mut progress = lock(shared);
        progress.judged += replay.judged;
        progress.sent += replay.sent;
        progress.refused += replay.refused;
        progress.policies += 1;
        progress.disagreements.extend(disagreement);
        Ok(())
    }
}

fn lock(shared: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
