//! `edgefilter scans`: scans as the daemon recorded them.

use anyhow::Result;

use super::output::note;
use super::{Globals, Outcome, Output, Scans, daemon, lines};
use crate::control;
use crate::report::scans;

/// Of those that ended, how many are shown without `--all`.
const CLOSED: usize = 20;

/// Shows one, or the list; with `--follow` what happens from now on.
pub fn scans(globals: &Globals, arguments: &Scans, out: &mut Output<'_>) -> Result<Outcome> {
    let server = &globals.daemon()?;
    daemon::ask(globals, async {
        if arguments.follow {
            let last = arguments.last.unwrap_or(lines::LAST_WITH_FOLLOW);
            let reports = control::reports(server, last).await?;
            return lines::follow(reports, scans::report, out).await;
        }
        if let Some(id) = &arguments.id {
            let scan = control::scan(server, id).await?;
            out.show(&scan, |colour| scans::scan(&scan, colour))?;
            return Ok(Outcome::Done);
        }
        let closed = if arguments.all { usize::MAX } else { CLOSED };
        let list = control::scans(server, closed).await?;
        if out.json {
            out.document(&list)?;
        } else if list.scans.is_empty() {
            note("edgefilter: no scan is known");
        } else {
            out.text(&scans::scans(&list.scans))?;
        }
        if list.omitted > 0 && !out.json {
            let cure = if arguments.all { "" } else { " (--all)" };
            note(&format!(
                "edgefilter: {} older scans are not shown{cure}",
                list.omitted
            ));
        }
        Ok(Outcome::Done)
    })
}
