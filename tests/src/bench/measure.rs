//! Interleaved rounds: every program runs once in each round, so that all of them see the same weather.

use anyhow::{Result, bail};

use super::kernel::Program;
use super::progress;

/// Something to be measured.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Short and stable, for scripts.
    pub id: String,
    /// For people.
    pub what: String,
    /// What runs.
    pub program: &'a Program,
    /// On what.
    pub frame: Vec<u8>,
    /// The XDP action that has to come out; `None` if it depends on the source.
    pub action: Option<u32>,
    /// What is taken off: the position of the subject that does everything but the work in question.
    pub floor: Option<usize>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Effort {
    /// Rounds over all subjects.
    pub rounds: usize,
    /// Repetitions of each subject in a round.
    pub repeat: u32,
}

/// Nanoseconds a packet of one subject, by round.
#[derive(Clone, Debug)]
pub struct Samples(Vec<u32>);

impl Samples {
    /// The median, to a fraction of the whole nanoseconds that the kernel reports: that of grouped data.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The quantile, likewise.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = part * sorted.len() as f64;
        let Some(&value) = sorted.get((rank as usize).min(sorted.len().saturating_sub(1))) else {
            return 0.0;
        };
        let below = sorted.partition_point(|sample| *sample < value);
        let equal = sorted.partition_point(|sample| *sample <= value) - below;
        // a reported n stands for anything from n to n + 1
        value as f64 + (rank - below as f64) / equal as f64
    }
}

/// Runs everything, and checks that each program still decides what it should. `what` is said of the progress.
pub fn rounds(
    what: &str,
    subjects: &[Subject<'_>],
    effort: Effort,
    mut before: impl FnMut() -> Result<()>,
) -> Result<Vec<Samples>> {
    for subject in subjects {
        let run = subject.program.run(&subject.frame, 1)?;
        if subject.action.is_some_and(|action| action != run.action) {
            bail!(
                "{}: the program answers {}, not {:?}",
                subject.what,
                run.action,
                subject.action
            );
        }
        // caches, branch predictors and the clock frequency
        subject.program.run(&subject.frame, effort.repeat / 4 + 2)?;
    }
    let mut samples = vec![Samples(Vec::with_capacity(effort.rounds)); subjects.len()];
    let bar = progress::bar(what, effort.rounds * subjects.len());
    for round in 0..effort.rounds {
        before()?;
        for turn in 0..subjects.len() {
            // not always after the same neighbour
            let turn = (turn + round * 7) % subjects.len();
            let subject = &subjects[turn];
            samples[turn].0.push(
                subject
                    .program
                    .run(&subject.frame, effort.repeat)?
                    .nanoseconds,
            );
            bar.inc(1);
        }
    }
    Ok(samples)
}
