//! A list of named steps: runs them in order, times them, prints one table.
//! It does not know what any step does.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::workspace;

/// How a step that found nothing wrong ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Passed,
    /// It could not run here; the reason is for the reader.
    Skipped(String),
}

/// One step. To add one, add it to a table of these.
#[derive(Clone, Copy)]
pub struct Step {
    /// What `--only` calls it.
    pub name: &'static str,
    /// One line for the reader.
    pub what: &'static str,
    pub run: fn() -> Result<Done>,
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Runs the steps named in `only`, or all of them, in the order of `steps`. A
/// failure does not stop the others. Prints a table, and as its last line the
/// totals. Returns whether nothing failed; in CI a skipped step has failed.
pub fn run_all(steps: &[Step], only: &[String]) -> Result<bool> {
    let chosen = choose(steps, only)?;
    let mut rows = Vec::new();
    for (index, step) in chosen.iter().enumerate() {
        println!(
            "--- {}/{} {}: {}",
            index + 1,
            chosen.len(),
            step.name,
            step.what
        );
        // The step's own programs write to the same place.
        std::io::stdout().flush()?;
        let start = Instant::now();
        let outcome = match (step.run)() {
            Ok(Done::Passed) => Outcome::Passed,
            Ok(Done::Skipped(why)) if workspace::is_ci() => {
                Outcome::Failed(format!("skipped, which CI does not accept: {why}"))
            }
            Ok(Done::Skipped(why)) => Outcome::Skipped(why),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        if let Outcome::Failed(why) | Outcome::Skipped(why) = &outcome {
            println!("{}: {why}", step.name);
        }
        rows.push((**step, outcome, start.elapsed()));
    }
    summarize(&rows);
    Ok(!rows
        .iter()
        .any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_))))
}

/// The steps and what they are for.
pub fn list(steps: &[Step]) {
    for step in steps {
        println!("{:<14}{}", step.name, step.what);
    }
}

fn choose<'a>(steps: &'a [Step], only: &[String]) -> Result<Vec<&'a Step>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| steps.iter().all(|step| step.name != **name))
    {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        bail!(
            "there is no step `{unknown}`; the steps are {}",
            names.join(", ")
        );
    }
    Ok(steps
        .iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect())
}

fn summarize(rows: &[(Step, Outcome, Duration)]) {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!();
    for (step, outcome, time) in rows {
        let (word, why) = match outcome {
            Outcome::Passed => {
                passed += 1;
                ("ok", "")
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                ("skipped", why.as_str())
            }
            Outcome::Failed(why) => {
                failed += 1;
                ("FAILED", why.as_str())
            }
        };
        let first_line = why.lines().next().unwrap_or_default();
        let line = format!(
            "{:<14}{word:<9}{:>7.1} s  {first_line}",
            step.name,
            time.as_secs_f64()
        );
        println!("{}", line.trim_end());
    }
    println!();
    // Alone on its line and in this form: programs that follow the run read it.
    if skipped == 0 {
        println!("{passed} passed, {failed} failed");
    } else {
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[
        Step {
            name: "one",
            what: "",
            run: || Ok(Done::Passed),
        },
        Step {
            name: "two",
            what: "",
            run: || bail!("broken"),
        },
    ];

    #[test]
    fn one_failure_fails_the_run() {
        assert!(!run_all(STEPS, &[]).unwrap());
        assert!(run_all(STEPS, &["one".to_owned()]).unwrap());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = run_all(STEPS, &["three".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no step `three`; the steps are one, two"
        );
    }
}
