//! `edgefilter events`: sampled drops from the daemon, as lines.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::output::note;
use super::{Events, Globals, Outcome, Output};
use crate::control;
use crate::report::event::EventRecord;

/// Of those kept, how many to begin with when following.
const LAST_WITH_FOLLOW: usize = 10;

/// Shows those kept; with `--follow` goes on until the daemon or the reader ends.
pub fn events(globals: &Globals, arguments: &Events, out: &mut Output<'_>) -> Result<Outcome> {
    let last = arguments.last.unwrap_or(if arguments.follow {
        LAST_WITH_FOLLOW
    } else {
        control::RECENT_EVENTS
    });
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let shown = runtime.block_on(async {
        let mut events = control::events(&globals.run_dir, arguments.follow, last).await?;
        let mut document = Vec::new();
        let mut count = 0_u64;
        while let Some(line) = events.next().await? {
            count += 1;
            let value: Value =
                serde_json::from_str(&line).context("the daemon sent a line that is no JSON")?;
            match (out.json, arguments.follow) {
                (true, true) => out.line(&value)?,
                (true, false) => document.push(value),
                (false, _) => out.text(&(text(value)? + "\n"))?,
            }
        }
        if out.json && !arguments.follow {
            out.document(&json!({ "events": document }))?;
        } else if arguments.follow {
            note("edgefilter: the daemon has ended; the filter stays in force");
        } else if count == 0 {
            note("edgefilter: no drop was sampled since the daemon started");
        }
        anyhow::Ok(())
    });
    match shown {
        Ok(()) => Ok(Outcome::Done),
        Err(error)
            if error
                .downcast_ref()
                .is_some_and(control::ClientError::is_unreachable) =>
        {
            super::report_error(&error, globals);
            Ok(Outcome::Unreachable)
        }
        Err(error) => Err(error),
    }
}

fn text(value: Value) -> Result<String> {
    if let Some(lost) = value.get("lost").and_then(Value::as_u64) {
        return Ok(format!("... {lost} more were not read in time"));
    }
    let record: EventRecord =
        serde_json::from_value(value).context("the daemon sent an event of another version")?;
    Ok(record.render())
}
