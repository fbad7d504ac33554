//! `edgefilter events`: sampled drops from the daemon, as lines.

use anyhow::Result;

use super::output::note;
use super::{Events, Globals, Outcome, Output, daemon, lines};
use crate::control;
use crate::report::event::EventRecord;

/// Shows those kept; with `--follow` goes on until the daemon or the reader ends.
pub fn events(globals: &Globals, arguments: &Events, out: &mut Output<'_>) -> Result<Outcome> {
    daemon::ask(globals, async {
        if arguments.follow {
            let last = arguments.last.unwrap_or(lines::LAST_WITH_FOLLOW);
            let events = control::events(globals.daemon()?, true, last).await?;
            lines::follow(events, EventRecord::render, out).await
        } else {
            kept(globals, arguments, out).await
        }
    })
}

async fn kept(globals: &Globals, arguments: &Events, out: &mut Output<'_>) -> Result<Outcome> {
    let last = arguments.last.unwrap_or(control::RECENT_EVENTS);
    let mut events = control::events(globals.daemon()?, false, last).await?;
    let mut kept = Vec::new();
    while let Some(line) = events.next().await? {
        kept.push(line);
    }
    if out.json {
        for line in &kept {
            lines::check(line)?;
        }
        out.text(&format!("{{\"events\": [\n{}\n]}}\n", kept.join(",\n")))?;
        return Ok(Outcome::Done);
    }
    for line in &kept {
        out.text(&lines::text(line, EventRecord::render)?)?;
    }
    if kept.is_empty() {
        note("edgefilter: no drop was sampled since the daemon started");
    }
    Ok(Outcome::Done)
}
