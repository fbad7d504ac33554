//! What the daemon sends as one JSON document a line: passed on as it is, or as text.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::output::note;
use super::{Outcome, Output};
use crate::control::Lines;

/// Of those kept, how many to begin with when following.
pub(super) const LAST_WITH_FOLLOW: usize = 10;

/// Shows line after line, until the daemon or the reader ends.
pub(super) async fn follow<T: DeserializeOwned>(
    lines: Lines,
    render: impl Fn(&T) -> String,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    follow_some(lines, |_| true, render, out).await
}

/// The same for those items only that are picked.
pub(super) async fn follow_some<T: DeserializeOwned>(
    mut lines: Lines,
    picks: impl Fn(&T) -> bool,
    render: impl Fn(&T) -> String,
    out: &mut Output<'_>,
) -> Result<Outcome> {
    while let Some(line) = lines.next().await? {
        if matches!(serde_json::from_str(&line), Ok(Line::Item(item)) if !picks(&item)) {
            continue;
        }
        if out.json {
            check(&line)?;
            out.text(&(line + "\n"))?;
        } else {
            out.text(&text(&line, &render)?)?;
        }
    }
    note("edgefilter: the daemon has ended; the filter stays in force");
    Ok(Outcome::Unreachable)
}

/// What is passed on unchanged has to be JSON at least.
pub(super) fn check(line: &str) -> Result<()> {
    serde_json::from_str::<IgnoredAny>(line)
        .map(drop)
        .context("the daemon sent a line that is no JSON")
}

/// A line of the daemon's.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line<T> {
    Lost { lost: u64 },
    Item(Box<T>),
}

/// A line as text, with its end.
pub(super) fn text<T: DeserializeOwned>(
    line: &str,
    render: impl Fn(&T) -> String,
) -> Result<String> {
    let line = serde_json::from_str(line)
        .context("the daemon sent a line that this version cannot read")?;
    Ok(match line {
        Line::Lost { lost } => format!("... {lost} more were not read in time\n"),
        Line::Item(item) => render(&item) + "\n",
    })
}

#[cfg(test)]
mod tests {
    use filter_common::reason::Reason;

    use super::*;
    use crate::report::event::EventRecord;
    use crate::report::event::tests::{decode, raw, syn};
    use crate::report::scans;
    use crate::report::scans::tests::block_record;
    use crate::scans::record::Report;

    #[test]
    fn lines_of_every_kind() {
        let lost = text(r#"{"lost":3}"#, EventRecord::render).unwrap();
        assert_eq!(lost, "... 3 more were not read in time\n");
        let record = decode(&raw(Reason::DropPort, 0, &syn())).unwrap();
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text(&line, EventRecord::render).unwrap(),
            record.render() + "\n"
        );
        let report = Report::Blocked(block_record("192.0.2.7/32"));
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(
            text(&line, scans::report).unwrap(),
            scans::report(&report) + "\n"
        );
        assert!(text("{}", EventRecord::render).is_err());
        assert!(check("{").is_err());
    }
}
