//! The same packets on one processor, and on two at once: what packets share and write would be seen here.

use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::document::Table;
use super::filter::Filter;
use super::isolation::{isolated, pin, processors};
use super::measure::{Effort, Subject};
use super::progress;
use super::report::{Shown, grouped};
use super::spread::Spread;
use super::subjects::{self, Fronts, Programs};

/// What runs, by the names of the cost bench, and the name of the figure that a limit is held against.
const MEASURED: [(&str, Option<&str>); 7] = [
    ("empty_random", None),
    ("xdp_filter_random", None),
    ("edge_allowed_random", Some("cores_allowed_of_one")),
    ("edge_refused_random", Some("cores_refused_of_one")),
    ("edge_udp_refused_random", Some("cores_udp_refused_of_one")),
    ("edge_reply", Some("cores_reply_of_one")),
    ("trie_random", None),
];

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Cores {
    effort: Effort,
    rows: Vec<Row>,
}

/// One program.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    what: String,
    /// Million packets a second on one processor, the mean of both.
    one: Spread,
    /// On both together.
    both: Spread,
    /// The one of the other.
    scaling: Spread,
}

/// Measures everything.
pub fn measure(quick: bool) -> Result<Cores> {
    let effort = if quick {
        Effort {
            rounds: 5,
            repeat: 300_000,
        }
    } else {
        Effort {
            rounds: 15,
            repeat: 1_000_000,
        }
    };
    let processors = two_processors()?;
    isolated(move || {
        let directory = tempfile::tempdir()?;
        let (programs, mut filters) = Programs::load(directory.path())?;
        let fixed = subjects::fixed(&programs)?;
        let fronts = Fronts::new(&programs)?;
        let varied = fronts.subjects();
        let find = |id: &str| {
            let mut all = fixed.iter().chain(&varied);
            all.find(|subject| subject.id == id)
                .with_context(|| format!("no packet is called {id}"))
        };
        let subjects: Vec<&Subject<'_>> = MEASURED
            .iter()
            .map(|(id, _)| find(id))
            .collect::<Result<_>>()?;
        let mut rates = vec![[Vec::new(), Vec::new()]; subjects.len()];
        let bar = progress::bar("processors", effort.rounds * subjects.len());
        for round in 0..effort.rounds {
            filters.iter_mut().try_for_each(Filter::renew_events)?;
            for turn in 0..subjects.len() {
                // not always after the same neighbour
                let turn = (turn + round) % subjects.len();
                let run = |processors: &[usize]| rate(subjects[turn], effort.repeat, processors);
                let [first, second] = processors;
                // in the midst of the two alone, so that drifting weather hits both the same
                let alone = run(&[first])?;
                let both = run(&processors)?;
                let one = alone.midpoint(run(&[second])?);
                rates[turn][0].push(one);
                rates[turn][1].push(both);
                bar.inc(1);
            }
        }
        let rows = subjects
            .iter()
            .zip(&rates)
            .map(|(subject, [one, both])| Row {
                id: subject.id.clone(),
                what: subject.what.clone(),
                one: Spread::of(one),
                both: Spread::of(both),
                scaling: Spread::of_ratios(both, one),
            });
        Ok(Cores {
            effort,
            rows: rows.collect(),
        })
    })
}

/// Two processors that we may use.
fn two_processors() -> Result<[usize; 2]> {
    match processors()?[..] {
        [first, second, ..] => Ok([first, second]),
        _ => bail!("this needs two processors, and only one may be used"),
    }
}

/// Million packets a second, of all these processors together.
fn rate(subject: &Subject<'_>, repeat: u32, processors: &[usize]) -> Result<f64> {
    let begin = Barrier::new(processors.len());
    thread::scope(|scope| {
        let runs: Vec<_> = processors
            .iter()
            .map(|&processor| {
                let begin = &begin;
                scope.spawn(move || -> Result<f64> {
                    let pinned = pin(processor);
                    // also if that failed: the other one waits
                    begin.wait();
                    pinned?;
                    let run = subject.program.run(&subject.frame, repeat)?;
                    // a reported n stands for anything from n to n + 1
                    Ok(1000.0 / (f64::from(run.nanoseconds) + 0.5))
                })
            })
            .collect();
        let mut sum = 0.0;
        for run in runs {
            sum += run
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(sum)
    })
}

impl Cores {
    /// As a table, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        let Effort { rounds, repeat } = self.effort;
        let columns = [
            "program and packet",
            "one processor, Mpps",
            "both at once, Mpps",
            "of one (quartiles)",
        ];
        let cells = |row: &Row| {
            let Spread {
                median,
                lower,
                upper,
            } = row.scaling;
            vec![
                row.what.clone(),
                format!("{:.1}", row.one.median),
                format!("{:.1}", row.both.median),
                format!("{median:.2} ({lower:.2}-{upper:.2})"),
            ]
        };
        let measured = self.rows.iter().filter_map(|row| {
            let (_, figure) = MEASURED.iter().find(|(id, _)| *id == row.id)?;
            Some(((*figure)?, row.scaling.median))
        });
        Shown {
            tables: vec![Table {
                title: format!(
                    "One processor and two; {rounds} rounds of {} packets each",
                    grouped(repeat.into())
                ),
                columns: columns.map(str::to_owned).to_vec(),
                rows: self.rows.iter().map(cells).collect(),
            }],
            measured: measured.collect(),
            ..Shown::default()
        }
    }
}
