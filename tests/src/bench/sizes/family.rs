//! Lines over one size: how they are measured together, and what becomes of the figures.

use anyhow::Result;
use serde::Serialize;

use crate::assembly::Prologue;
use crate::document::{Chart, Line, Table};
use crate::filter::Filter;
use crate::kernel::Program;
use crate::measure::{self, Effort, Subject};
use crate::report::{self, grouped};

/// Lines over one size.
#[derive(Debug, Serialize)]
pub struct Family {
    /// Stable, and the chart's name.
    pub name: &'static str,
    title: String,
    /// What grows.
    size: &'static str,
    effort: Effort,
    lines: Vec<Figures>,
}

/// One line.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    points: Vec<Point>,
}

/// One size, in nanoseconds a packet.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    size: u64,
    /// In all.
    pub median: f64,
    lower: f64,
    upper: f64,
    /// The median less that of the program without the work in question.
    pub net: f64,
}

/// What is said of a family.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// Stable, and the chart's name.
    pub name: &'static str,
    /// What is shown.
    pub title: &'static str,
    /// What grows.
    pub size: &'static str,
}

/// A program of its own, or one behind another that sets the source.
pub enum Runs {
    /// As it is.
    Plain(Program),
    /// Behind a prologue.
    Behind(Prologue),
}

impl Runs {
    fn program(&self) -> &Program {
        match self {
            Self::Plain(program) => program,
            Self::Behind(prologue) => &prologue.program,
        }
    }
}

/// One thing to be measured.
pub struct Case {
    /// The line it is a point of, and for which size; `None` for what is only taken off.
    pub place: Option<(usize, u64)>,
    /// What runs.
    pub runs: Runs,
    /// On what.
    pub frame: Vec<u8>,
    /// The XDP action that has to come out.
    pub action: Option<u32>,
    /// The position of the case that is taken off.
    pub floor: usize,
}

impl Family {
    /// Measures all cases in the same rounds.
    pub fn measure(
        heading: Heading,
        lines: &[&'static str],
        cases: &[Case],
        effort: Effort,
        filters: &mut [Filter],
    ) -> Result<Self> {
        let mut family = Self::empty(heading, lines, effort);
        family.add(cases, filters)?;
        Ok(family)
    }

    /// Lines without points.
    pub fn empty(heading: Heading, lines: &[&'static str], effort: Effort) -> Self {
        let lines = lines.iter().map(|name| Figures {
            name,
            points: Vec::new(),
        });
        Self {
            name: heading.name,
            title: heading.title.to_owned(),
            size: heading.size,
            effort,
            lines: lines.collect(),
        }
    }

    /// Measures these cases in the same rounds, and adds them.
    pub fn add(&mut self, cases: &[Case], filters: &mut [Filter]) -> Result<()> {
        let subjects: Vec<_> = cases
            .iter()
            .map(|case| Subject {
                id: String::new(),
                what: format!("{}: {:?}", self.name, case.place),
                program: case.runs.program(),
                frame: case.frame.clone(),
                action: case.action,
                floor: Some(case.floor),
            })
            .collect();
        let what = format!("sizes: {}", self.name);
        let samples = measure::rounds(&what, &subjects, self.effort, || {
            filters.iter_mut().try_for_each(Filter::renew_events)
        })?;
        for (case, row) in cases.iter().zip(report::rows(&subjects, &samples)) {
            let Some((line, size)) = case.place else {
                continue;
            };
            if let Some(line) = self.lines.get_mut(line) {
                line.points.push(Point {
                    size,
                    median: row.median,
                    lower: row.lower,
                    upper: row.upper,
                    net: row.net,
                });
            }
        }
        Ok(())
    }

    /// The figures of one size.
    pub fn point(&self, line: usize, size: u64) -> Option<&Point> {
        let points = &self.lines.get(line)?.points;
        points.iter().find(|point| point.size == size)
    }

    /// The first and the last figures of a line.
    pub fn ends(&self, line: usize) -> Option<(&Point, &Point)> {
        let points = &self.lines.get(line)?.points;
        points.first().zip(points.last())
    }

    /// A row for each size.
    pub fn table(&self) -> Table {
        let Effort { rounds, repeat } = self.effort;
        let columns = [self.size].into_iter();
        let columns = columns.chain(self.lines.iter().map(|line| line.name));
        let sizes = self.lines.first().map_or(&[][..], |line| &line.points);
        let rows = sizes.iter().map(|first| {
            let cells = self.lines.iter().map(|line| {
                let point = line.points.iter().find(|point| point.size == first.size);
                point.map_or_else(String::new, Point::text)
            });
            [grouped(first.size)].into_iter().chain(cells).collect()
        });
        Table {
            title: format!(
                "{}, ns net (quartiles); {rounds} rounds of {} packets",
                self.title,
                grouped(repeat.into())
            ),
            columns: columns.map(str::to_owned).collect(),
            rows: rows.collect(),
        }
    }

    /// A line for each column of the table.
    pub fn chart(&self) -> Chart {
        let lines = self.lines.iter().map(|line| Line {
            name: line.name.to_owned(),
            points: line
                .points
                .iter()
                .map(|point| (point.size as f64, point.net))
                .collect(),
        });
        Chart {
            name: self.name.to_owned(),
            title: self.title.clone(),
            x: self.size.to_owned(),
            y: "ns a packet, net".to_owned(),
            lines: lines.collect(),
        }
    }
}

impl Point {
    fn text(&self) -> String {
        let floor = self.median - self.net;
        format!(
            "{:.1} ({:.1}-{:.1})",
            self.net,
            self.lower - floor,
            self.upper - floor
        )
    }
}
