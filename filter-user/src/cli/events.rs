//! `edgefilter events`: sampled drops from the daemon, as lines.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::runtime::Builder;

use super::output::note;
use super::{Events, Globals, Outcome, Output};
use crate::control::{self, ClientError};
use crate::report::event::EventRecord;

/// Of those kept, how many to begin with when following.
const LAST_WITH_FOLLOW: usize = 10;

/// Shows those kept; with `--follow` goes on until the daemon or the reader ends.
pub fn events(globals: &Globals, arguments: &Events, out: &mut Output<'_>) -> Result<Outcome> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let shown = runtime.block_on(async {
        if arguments.follow {
            follow(globals, arguments, out).await
        } else {
            kept(globals, arguments, out).await
        }
    });
    match shown {
        Err(error)
            if error
                .downcast_ref()
                .is_some_and(ClientError::is_unreachable) =>
        {
            super::report_error(&error, globals);
            Ok(Outcome::Unreachable)
        }
        shown => shown,
    }
}

async fn kept(globals: &Globals, arguments: &Events, out: &mut Output<'_>) -> Result<Outcome> {
    let last = arguments.last.unwrap_or(control::RECENT_EVENTS);
    let mut events = control::events(&globals.run_dir, false, last).await?;
    let mut lines = Vec::new();
    while let Some(line) = events.next().await? {
        lines.push(line);
    }
    if out.json {
        for line in &lines {
            check(line)?;
        }
        out.text(&format!("{{\"events\": [\n{}\n]}}\n", lines.join(",\n")))?;
        return Ok(Outcome::Done);
    }
    for line in &lines {
        out.text(&text(line)?)?;
    }
    if lines.is_empty() {
        note("edgefilter: no drop was sampled since the daemon started");
    }
    Ok(Outcome::Done)
}

async fn follow(globals: &Globals, arguments: &Events, out: &mut Output<'_>) -> Result<Outcome> {
    let last = arguments.last.unwrap_or(LAST_WITH_FOLLOW);
    let mut events = control::events(&globals.run_dir, true, last).await?;
    while let Some(line) = events.next().await? {
        if out.json {
            check(&line)?;
            out.text(&(line + "\n"))?;
        } else {
            out.text(&text(&line)?)?;
        }
    }
    note("edgefilter: the daemon has ended; the filter stays in force");
    Ok(Outcome::Unreachable)
}

/// What is passed on unchanged has to be JSON at least.
fn check(line: &str) -> Result<()> {
    serde_json::from_str::<IgnoredAny>(line)
        .map(drop)
        .context("the daemon sent a line that is no JSON")
}

/// A line of the daemon's.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Lost { lost: u64 },
    Event(Box<EventRecord>),
}

fn text(line: &str) -> Result<String> {
    let line = serde_json::from_str(line)
        .context("the daemon sent an event that this version cannot read")?;
    Ok(match line {
        Line::Lost { lost } => format!("... {lost} more were not read in time\n"),
        Line::Event(record) => record.render() + "\n",
    })
}

#[cfg(test)]
mod tests {
    use filter_common::reason::Reason;

    use super::*;
    use crate::report::event::tests::{decode, raw, syn};

    #[test]
    fn lines_of_both_kinds() {
        assert_eq!(
            text(r#"{"lost":3}"#).unwrap(),
            "... 3 more were not read in time\n"
        );
        let record = decode(&raw(Reason::DropPort, 0, &syn())).unwrap();
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(text(&line).unwrap(), record.render() + "\n");
        assert!(text("{}").is_err());
        assert!(check("{").is_err());
    }
}
