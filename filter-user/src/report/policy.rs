//! Policies that are put in force, for people.

use std::fmt::Write as _;

use super::printable;
use super::table::{self, GREEN, YELLOW, paint};
use crate::control::policy::{Applied, GenerationFiles, Generations};
use crate::generations::{Generation, Origin};
use crate::plan::PlanReport;

/// Digits of a digest that are shown.
const DIGITS: usize = 12;

/// What a policy would change.
#[must_use]
pub fn plan(plan: &PlanReport, colour: bool) -> String {
    let mut text = super::plan::difference(&plan.difference, colour);
    text += &super::plan::quiet(&plan.quiet);
    text += &super::plan::cut_flows(&plan.cut_flows, "would cut", colour);
    for objection in &plan.objections {
        let refused = paint("would be refused:", YELLOW, colour);
        let _ = writeln!(text, "{refused} {objection}");
    }
    text
}

/// What putting a policy in force came to.
#[must_use]
pub fn applied(applied: &Applied, colour: bool) -> String {
    let record = &applied.generation;
    let mut text = super::plan::difference(&applied.difference, colour);
    text += &super::plan::quiet(&applied.quiet);
    text += &super::plan::cut_flows(&applied.cut_flows, "cuts", colour);
    for overruled in &applied.overruled {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{} {overruled}", paint("forced:", YELLOW, colour));
    }
    let state = paint("in force", GREEN, colour);
    let _ = writeln!(
        text,
        "generation {} {state}: {}, {}",
        record.number,
        printable(&record.file),
        figures(record)
    );
    text
}

/// A list of generations.
#[must_use]
pub fn generations(all: &Generations, colour: bool) -> String {
    let rows = all.generations.iter().map(|record| {
        let state = match &all.pending {
            _ if record.number != all.current => String::new(),
            Some(pending) => paint(
                &format!(
                    "in force, undone in {} s unless confirmed",
                    pending.seconds_left
                ),
                YELLOW,
                colour,
            ),
            None => paint("in force", GREEN, colour),
        };
        vec![
            record.number.to_string(),
            record.made_at.clone(),
            printable(&record.actor.name),
            origin(record.origin),
            record.digest.chars().take(DIGITS).collect(),
            figures(record),
            printable(record.message.as_deref().unwrap_or_default()),
            state,
        ]
    });
    let header = [
        "generation",
        "since",
        "by",
        "how",
        "digest",
        "holds",
        "message",
        "",
    ];
    table::render(&header, rows, header.len())
}

/// The files of a generation.
#[must_use]
pub fn files(one: &GenerationFiles) -> String {
    let mut text = String::new();
    for (name, content) in &one.bundle.files {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# {}", printable(name));
        let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
        text.extend(content.chars().filter(|c| plain(*c)));
        if !content.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// `generation 17: apply by alice, edge.toml (open 8443)`
pub(super) fn provenance(record: &Generation) -> String {
    let message = match record.message.as_deref() {
        Some(message) => format!(" ({})", printable(message)),
        None => String::new(),
    };
    format!(
        "generation {}: {} by {}, {}{message}",
        record.number,
        origin(record.origin),
        printable(&record.actor.name),
        printable(&record.file)
    )
}

fn origin(origin: Origin) -> String {
    match origin {
        Origin::File => "policy file".to_owned(),
        Origin::Apply => "apply".to_owned(),
        Origin::Rollback(to) => format!("rollback to {to}"),
        Origin::Undo(of) => format!("undo of {of}"),
    }
}

fn figures(record: &Generation) -> String {
    format!("{} rules, {} prefixes", record.rules, record.prefixes)
}
